"""How well shrinkage LDA reads the object from single trials of the built-in study.

The evidence for the default of ``signal``: at it, accuracy lies at about four times chance.

    python benchmarks/simulation.py                           # some 8 minutes on 2 cores
    python benchmarks/simulation.py --signal 0,0.35 --seeds 0

Each study has the demonstration's size (2 subjects × (480 + 96) images × 2 repetitions). Per
subject, LDA (scikit-learn, ``solver="lsqr"``, ``shrinkage="auto"``) is fitted on the training
trials of the split ``official`` and scored on its test trials: new combinations of attributes.
Features are means over 39 ms bins from 50 to 520 ms, in all channels; nothing is tuned.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from eegprompt.builtin.eeg import DEFAULT_SIGNAL
from eegprompt.steps.simulate import simulate
from eegprompt.study import Study


def binned(study: Study, ids: np.ndarray) -> np.ndarray:
    """Bin means in microvolts, shape (n_trials, n_chans × n_bins)."""
    width = round(0.039 * study.sfreq)
    first = int(np.searchsorted(study.times, 0.05))
    n_bins = int(0.47 * study.sfreq) // width
    eeg = study.eeg[ids][:, :, first : first + n_bins * width] * 1e6
    return eeg.reshape(len(ids), study.n_chans, n_bins, width).mean(axis=3).reshape(len(ids), -1)


def lda_over_chance(study: Study) -> list[float]:
    """Accuracy over chance, one a subject."""
    fold = study.split("official").fold(0)
    subject = study.trials["subject"].to_numpy()
    category = study.trials["category"].to_numpy()
    found = []
    for name in study.subjects:
        train, test = (ids[subject[ids] == name] for ids in (fold.train, fold.test))
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        lda.fit(binned(study, train), category[train])
        right = lda.predict(binned(study, test)) == category[test]
        found.append(float(right.mean()) * len(study.categories))
    return found


def main() -> None:
    """Print one line a study and one a signal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signal", default=f"0,0.2,0.3,{DEFAULT_SIGNAL},0.5", help="levels")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    print("signal  seed  LDA / chance by subject   simulated in")
    means = {}
    for signal in (float(s) for s in options.signal.split(",")):
        scores = []
        for seed in (int(s) for s in options.seeds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                study = simulate(Path(folder) / "study", signal=signal, seed=seed)
                seconds = time.perf_counter() - start
                found = lda_over_chance(study)
            scores += found
            values = "  ".join(f"{v:5.2f}" for v in found)
            print(f"{signal:6.2f}  {seed:4d}  {values}            {seconds:5.1f} s", flush=True)
        means[signal] = (np.mean(scores), np.min(scores), np.max(scores))
    print("\nsignal  mean  least  most  (times chance, over subjects and seeds)")
    for signal, (mean, least, most) in means.items():
        mark = "  <- default" if signal == DEFAULT_SIGNAL else ""
        print(f"{signal:6.2f}  {mean:4.2f}  {least:5.2f}  {most:4.2f}{mark}")


if __name__ == "__main__":
    main()
