"""Class accuracy for unseen subjects: the encoder against its baselines, one subject left out.

Command: ``python benchmarks/subjects.py --out DIR``; half an hour of one core. The study knows
categories only: sixteen of them, each a scene of its own whose ten meanings drive the simulated
EEG, so captions and signal depend on the category alone. Five subjects differ in source places,
orientations, latencies and gains as in every built-in study. Each subject is left out once, and
another one validates.

For every method eight configurations are trained on the first fold of the first seed, and the one
that does best for its *validation* subject is kept; with it, all folds of the studies of three
seeds are trained and the left-out subjects classified. Intervals are over these subjects, the unit
that such a score generalizes to. What is finished in DIR is kept, so that the script can be
stopped; braindecode's models need ``eegprompt[baselines]`` and are left out without it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eegprompt.core.files import read_json, write_json
from encoders import SEEDS, carry_out, configurations, trained

SUBJECTS, TRIALS_A_CLASS = 5, 10
N_CHANS = 32
"""The first of the 128 electrodes, a usual small cap; for cost alone."""
SIGNAL = 0.15
"""By the rule that fixed the built-in study's: LDA within subjects at some four times chance (3.4)."""
BATCH = 48
"""Trials a step, so that a pass has as many steps as one over the built-in study."""
SPLIT = "by-subject"
QUICK = {"permutations": 199, "resamples": 100}  # neither is used here


def make_study(out: Path, seed: int) -> None:
    """The study of a seed, with its split."""
    from eegprompt import Study
    from eegprompt.builtin.eeg import simulate_eeg
    from eegprompt.builtin.scene_captions import captions
    from eegprompt.builtin.world import kind_vector, meaning, split_scenes
    from eegprompt.core.kinds import KINDS
    from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of
    from eegprompt.splits.by_subject import by_subject
    from eegprompt.study import StudyWriter

    scenes = {scene.object: scene for scene in split_scenes(16, 0, seed)[0]}
    names = np.array(sorted(scenes))
    simulation = simulate_eeg(
        {kind: np.stack([kind_vector(scenes[name], kind) for name in names]) for kind in KINDS},
        np.arange(len(names)),
        subjects=SUBJECTS,
        repetitions=TRIALS_A_CLASS,
        seed=seed,
        signal=SIGNAL,
    )
    schedule, truth = simulation.schedule, simulation.truth
    channels = truth.ch_names[:N_CHANS]
    with StudyWriter.open(out) as writer:
        for eeg in simulation.blocks():
            writer.append(eeg[:, :N_CHANS])
        shown = names[schedule.image]
        writer.finish(
            info={
                "name": "builtin-categories",
                "source": "simulated by eegprompt from one scene a category",
                "license": "Apache-2.0",
                "design": "randomised",
                "image_identity": "category",
                "ch_names": list(channels),
                "ch_pos": positions_of(channels),
                "montage": STANDARD_MONTAGE,
                "sfreq": simulation.sfreq,
                "tmin": float(truth.times[0]),
                "unit": "V",
                "simulation": truth.summary,
            },
            trials=pd.DataFrame(
                {
                    "subject": np.array(truth.subjects)[schedule.subject],
                    "run": schedule.run.astype(str),
                    "block": schedule.block,
                    "order": schedule.order,
                    "onset": schedule.onset,
                    "image_id": shown,
                    "category": shown,
                }
            ),
            images=pd.DataFrame({"image_id": names, "category": names}),
        )
        study = Study(writer.folder)
        rows = [
            {"image_id": name, "kind": kind, "text": text, "meaning": meaning(scenes[name], kind)}
            for name in names
            for kind, text in captions(scenes[name], name).items()
        ]
        study.write_captions("builtin", pd.DataFrame(rows))
        study.write_split(by_subject(study, seed=seed, val_from="group"))


def lda_configurations() -> Iterator[dict[str, float]]:
    """The eight configurations of shrinkage LDA: windows and where they end, in seconds."""
    for width, stop in itertools.product((0.02, 0.03, 0.04, 0.06), (0.52, 0.70)):
        yield {"width": width, "stop": stop}


def lda_accuracy(study: Any, fold: Any, side: str, windows: dict[str, float]) -> float:
    """Share of a side's trials that shrinkage LDA, fitted on the training set, classifies."""
    from eegprompt.encoders.lda import ShrinkageLDA, bin_means

    category = study.trials["category"].astype(str).to_numpy()

    def means(ids: np.ndarray) -> np.ndarray:
        return bin_means(np.asarray(study.eeg[ids]), study.sfreq, tmin=study.tmin, **windows)

    ids = getattr(fold, side)
    lda = ShrinkageLDA().fit(means(fold.train), category[fold.train])
    return float((lda.predict(means(ids)) == category[ids]).mean())


def accuracy(run: Any) -> float:
    """Share of the left-out subject's trials that the ensemble of heads classifies."""
    from eegprompt import decode
    from eegprompt.steps.evaluate import scores_of

    decode(run, progress=lambda *_: None)
    rows = [s.row for s in scores_of(run)[0]]
    # Every category is shown equally often, so this is the mean over classes, too.
    (row,) = (r for r in rows if r["metric"] == "class_accuracy" and r["head"] == "ensemble")
    return float(row["value"])


def compare(method: str, out: Path) -> None:
    """Choose on the first fold's validation subject, then classify every left-out subject."""
    from eegprompt import Study

    chosen = out / f"{method}.json"
    if chosen.exists():
        return
    start = time.process_time()
    partial = out / f"{method}-partial.json"
    kept: dict[str, float] = read_json(partial) if partial.exists() else {}

    def once(name: str, seed: int, fold: int, settings: dict[str, Any], validate: bool) -> float:
        """A score that is kept."""
        if name not in kept:
            if method == "LDA":
                study = Study(out / f"study-{seed}")
                sides = study.split(SPLIT).fold(fold)
                kept[name] = lda_accuracy(study, sides, "val" if validate else "test", settings)
            else:
                asked = {
                    **settings,
                    "split": SPLIT,
                    "fold": fold,
                    "training": {**settings.get("training", {}), "batch_size": BATCH},
                    "evaluation": QUICK,
                }
                run, score = trained(seed, asked, out / method / name, out)
                kept[name] = score if validate else accuracy(run)
            write_json(partial, kept)
            seconds = time.process_time() - start
            print(f"{method} {name}: {kept[name]:.3f} ({seconds:.0f} s)", flush=True)
        return kept[name]

    grid: list[dict[str, Any]] = list(
        lda_configurations() if method == "LDA" else configurations(method)
    )
    scores = [once(f"configuration-{i}", SEEDS[0], 0, c, True) for i, c in enumerate(grid)]
    settings = grid[int(np.argmax(scores))]
    results = [
        [once(f"seed-{seed}-fold-{fold}", seed, fold, settings, False) for fold in range(SUBJECTS)]
        for seed in SEEDS
    ]
    write_json(chosen, {"validation": scores, "settings": settings, "results": results})


def interval(values: np.ndarray) -> np.ndarray:
    """95 % interval of a mean over subjects, by a bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    return np.quantile(drawn, (0.025, 0.975))


def table(methods: list[str], out: Path) -> None:
    """Print what is finished, and each method's difference from the first."""
    from scipy.stats import wilcoxon

    found = {
        method: np.array(read_json(out / f"{method}.json")["results"])
        for method in methods
        if (out / f"{method}.json").exists()
    }
    if not found:
        return
    first = next(iter(found))
    print(f"\ncategory (16) of left-out subjects, chance {1 / 16:.4f}; {first} minus each")
    for method, results in found.items():
        low, high = interval(results.ravel())
        each = " ".join(f"{v:.3f}" for v in results.mean(axis=1))
        line = f"  {method:16s} {results.mean():.3f} ({each}) [{low:.3f}, {high:.3f}]"
        if method != first:
            difference = (found[first] - results).ravel()
            low, high = interval(difference)
            p = wilcoxon(difference).pvalue if difference.any() else 1.0
            line += f"  {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}] p = {p:.4f}"
        print(line)


def main() -> None:
    """Run what is missing and print the table."""
    out, methods = carry_out(
        __doc__,
        "fused,transformer,ridge,LDA,EEGNet,ShallowFBCSPNet,Deep4Net,EEGConformer,ATCNet",
        make_study,
        compare,
    )
    table(methods, out)


if __name__ == "__main__":
    main()
