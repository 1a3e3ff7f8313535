"""Real EEG with default settings: the encoder beside peers and linear models, all on the same folds.

    python benchmarks/real_eeg.py DATA [--seeds 0,1,2] [--only NAME] [--peers] [--parts] [key=value ...]

DATA is a folder of ``.npz`` files: ``X`` (int16, trials × channels × samples), ``scale_uV``, ``y``
(class), ``subject``, ``run``, ``ch`` (channel names) and ``times`` (seconds from onset). Of studies
(folders with ``study.json``, one caption kind, a split) in DATA the first split is used. Folds: five
by subject where there are ten subjects or more, a fifth of the others validating; else one run left
out at a time, the next one validating. The linear models are fitted on training and validation trials
together, the encoders on the training trials alone, as validation selects. ``--peers`` (or
``--encoders NAME,...``) trains others beside the default, every one with the same settings of training;
braindecode's need ``eegprompt[baselines]``. ``key=value`` pairs are settings. ``--parts`` also prints
what the network and each branch of the fused encoder say alone; ``--shuffle`` deals the classes out
anew within each subject and run, after which everything has to be at chance. ``--out FILE`` keeps
every fold's balanced accuracy and AUC as JSON lines, and what stands there is not done again.

Training runs in this process, without files or command line; scores are those of `evaluate`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {"captions": "written", "kinds": ["ObjectSnap"]}
PEERS = (
    "fused",
    "transformer",
    "ridge",
    "nice",
    "atm",
    "braindecode:ATCNet",
    "braindecode:EEGNet",
    "braindecode:Deep4Net",
    "braindecode:ShallowFBCSPNet",
    "braindecode:EEGConformer",
)


def folds_of(subject: np.ndarray, run: np.ndarray) -> Iterator[tuple[np.ndarray, Any, Any]]:
    """Labels, and which of them test and validate, fold by fold."""
    rng = np.random.default_rng(0)
    if len(set(subject)) >= 10:
        names = rng.permutation(sorted(set(subject)))
        for test in np.array_split(names, 5):
            rest = np.setdiff1d(names, test)
            yield subject, test, rng.choice(rest, max(1, round(len(rest) / 5)), replace=False)
    else:
        runs = sorted(set(run), key=int)
        for i, name in enumerate(runs):
            yield run, [name], [runs[(i + 1) % len(runs)]]


def study_of(file: Path, out: Path, shuffle: bool) -> Any:
    """A study made of one ``.npz`` file, with its split and captions."""
    import mne
    import pandas as pd

    from eegprompt import Study
    from eegprompt.study.split import Fold, Split

    data = np.load(file)
    y, subject, run = data["y"], data["subject"], data["run"]
    if shuffle:
        rng, y = np.random.default_rng(0), y.copy()
        for part in np.unique(np.char.add(subject.astype(str), run.astype(str))):
            mine = np.flatnonzero(np.char.add(subject.astype(str), run.astype(str)) == part)
            y[mine] = y[rng.permutation(mine)]
    sfreq = round(float(1 / np.diff(data["times"]).mean()), 3)
    info = mne.create_info([str(name) for name in data["ch"]], sfreq, "eeg")
    info.set_montage("standard_1005", match_case=False, on_missing="ignore")
    codes = {name: i + 1 for i, name in enumerate(sorted(set(y)))}
    n = len(y)
    events = np.c_[
        np.arange(n) * 2 * data["X"].shape[2], np.zeros(n, int), [codes[name] for name in y]
    ]
    epochs = mne.EpochsArray(
        data["X"] * float(data["scale_uV"]) * 1e-6,
        info,
        events,
        tmin=float(data["times"][0]),
        event_id=codes,
        metadata=pd.DataFrame(
            {"category": y, "subject": subject, "run": run, "order": np.arange(n)}
        ),
        verbose="error",
    )
    study = Study.from_epochs(epochs, out, name=file.stem, design="randomised")
    folds = []
    for labels, test, val in folds_of(subject, run):
        held = [np.flatnonzero(np.isin(labels, side)) for side in (val, test)]
        folds.append(Fold(np.setdiff1d(np.arange(n), np.concatenate(held)), *held))
    study.write_split(Split("folds", tuple(folds), {"kind": "by-hand"}))
    rows = [
        {"image_id": image, "kind": "ObjectSnap", "text": text.replace("-", " ").replace("_", " ")}
        for image, text in zip(study.images["image_id"], study.images["category"])
    ]
    study.write_captions("written", pd.DataFrame(rows))
    return study


def embedded(encoder: Any, eeg: Any, positions: Any, head: str) -> dict[str, np.ndarray]:
    """Unit embeddings of one head: of the encoder, and of each part of it where it has parts."""
    import torch
    from torch.nn import functional as F

    from eegprompt.encoders.base import Branched

    with torch.inference_mode():
        found = {"encoder": encoder(eeg, positions)[head]}
        if isinstance(encoder, Branched):
            found |= {part: said[head] for part, said in encoder.alone(eeg, positions).items()}
        return {part: F.normalize(said, dim=1).numpy() for part, said in found.items()}


def decided(study: Any, fold: Any, config: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Train on one fold; true classes of the test trials, and class probabilities of each part."""
    import torch

    from eegprompt.metrics.classification import (
        class_probabilities,
        class_prototypes,
        fit_temperature,
    )
    from eegprompt.text_encoders import cached_embeddings, load_text_encoder
    from eegprompt.training.batches import collect
    from eegprompt.training.fitting import fit

    captions = study.captions(config.captions)
    material = collect(study, fold.train, fold.val, captions, config, lambda *_: None, None)
    with tempfile.TemporaryDirectory() as folder:
        module = fit(material, config, Path(folder), lambda *_: None).module
    category = study.trials["category"].astype(str).to_numpy()
    names = sorted(set(category[fold.train]))
    y = np.searchsorted(names, category)
    head = config.kinds[0]
    class_of = dict(zip(study.trials["image_id"].iloc[fold.train], y[fold.train]))
    rows = captions[(captions["kind"] == head) & captions["image_id"].isin(class_of)]
    prototypes = class_prototypes(
        cached_embeddings(
            load_text_encoder(config.text_encoder), rows["text"].tolist(), study.path / "cache"
        ),
        np.array([class_of[image] for image in rows["image_id"]]),
        len(names),
    )
    positions = torch.from_numpy(study.positions)
    on_val, on_test = (
        embedded(
            module.encoder,
            torch.from_numpy(material.steps.apply(np.asarray(study.eeg[ids]))),
            positions,
            head,
        )
        for ids in (fold.val, fold.test)
    )
    found = {}
    for part, queries in on_test.items():
        temperature = fit_temperature(on_val[part] @ prototypes.T, y[fold.val])
        found[part] = class_probabilities(queries @ prototypes.T, temperature)
    return y[fold.test], found


def linear(study: Any, split: Any) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Shrinkage LDA and logistic regression on window means from onset on."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y = np.unique(study.trials["category"].astype(str), return_inverse=True)[1]
    eeg = np.asarray(study.eeg)[:, :, study.times >= 0]
    width = max(1, round(0.04 * study.sfreq))
    n_bins = eeg.shape[2] // width
    kept = eeg[:, :, : n_bins * width].reshape(*eeg.shape[:2], n_bins, width)
    means = kept.mean(axis=3).reshape(len(eeg), -1)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"LDA": [], "logistic": []}
    for fold in split.folds:
        fitted = np.concatenate([fold.train, fold.val])
        for name, model in (
            ("LDA", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
            ("logistic", LogisticRegression(C=0.01, max_iter=3000, class_weight="balanced")),
        ):
            pipeline = make_pipeline(StandardScaler(), model).fit(means[fitted], y[fitted])
            found[name].append((y[fold.test], pipeline.predict_proba(means[fold.test])))
    return found


def score(y: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy and, of two classes, the area under the ROC curve."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    accuracy = balanced_accuracy_score(y, probabilities.argmax(axis=1))
    two = probabilities.shape[1] == 2 == len(set(y))
    auc = roc_auc_score(y, probabilities[:, 1] - probabilities[:, 0]) if two else np.nan
    return float(accuracy), float(auc)


class Kept:
    """Scores by set, encoder, seed, fold and part; kept in a file where one is given."""

    def __init__(self, path: Path | None):
        self.path = path
        self.rows: dict[str, dict[str, list[float]]] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                self.rows.update(json.loads(line))

    def get(self, key: str, make: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
        """What is kept, or what is made now."""
        if key not in self.rows:
            self.rows[key] = make()
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({key: self.rows[key]}) + "\n")
        return self.rows[key]


def of_set(study: Any, arguments: argparse.Namespace, words: list[str], kept: Kept) -> None:
    """Train and print everything for one set."""
    from eegprompt import load_config

    split = study.split(sorted(study.split_names())[0])
    rows = {
        name: [np.mean([score(*one) for one in decisions], axis=0)]
        for name, decisions in linear(study, split).items()
    }
    for name in arguments.encoders.split(","):
        for seed in (int(text) for text in arguments.seeds.split(",")):
            parts: dict[str, list[list[float]]] = {}
            for i, fold in enumerate(split.folds):
                config = load_config(
                    {"study": str(study.path), "split": split.name, "fold": i, "seed": seed,
                     "encoder": {"name": name}, **SETTINGS},
                    words,
                )  # fmt: skip

                def made(fold: Any = fold, config: Any = config) -> dict[str, list[float]]:
                    y, found = decided(study, fold, config)
                    return {part: list(score(y, p)) for part, p in found.items()}

                for part, values in kept.get(f"{study.name} {name} {seed} {i}", made).items():
                    parts.setdefault(part, []).append(values)
            for part, each in parts.items():
                if part == "encoder" or arguments.parts:
                    label = name if part == "encoder" else f"  {part}"
                    rows.setdefault(label, []).append(np.mean(each, axis=0))
    print(
        f"\n{study.name}: {study.n_trials} trials, chance {1 / study.trials['category'].nunique():.3f}"
    )
    for label, each in rows.items():
        accuracy, auc = np.mean(each, axis=0)
        print(
            f"  {label:28s} balanced accuracy {accuracy:.3f} ({' '.join(f'{a:.3f}' for a, _ in each)})"
            + ("" if np.isnan(auc) else f"   AUC {auc:.3f}"),
            flush=True,
        )


def main() -> None:
    """Print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="")
    parser.add_argument("--encoders", default="fused")
    parser.add_argument("--peers", dest="encoders", action="store_const", const=",".join(PEERS))
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments, words = parser.parse_known_args()
    entries = [
        entry
        for entry in sorted(arguments.data.glob("*"))
        if entry.suffix == ".npz" or (entry / "study.json").exists()
    ]
    if not entries:
        sys.exit(
            f"{arguments.data} holds no .npz file and no study: the recordings are not part of the "
            "project; give a folder as the head of this script describes"
        )
    warnings.filterwarnings("ignore")
    kept = Kept(arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        for entry in entries:
            if arguments.only in entry.stem:
                of_set(opened(entry, Path(scratch), arguments.shuffle), arguments, words, kept)


def opened(entry: Path, scratch: Path, shuffle: bool) -> Any:
    """The study that an entry of the data folder holds."""
    from eegprompt import Study

    if entry.suffix == ".npz":
        return study_of(entry, scratch / entry.stem, shuffle)
    if not shuffle:
        return Study(entry)
    shutil.copytree(entry, scratch / entry.name)
    study = Study(scratch / entry.name)
    trials = study.trials.copy()
    shown = ["image_id", "category"]
    for _, part in trials.groupby(["subject", "run"]):
        drawn = np.random.default_rng(0).permutation(part.index)
        trials.loc[part.index, shown] = study.trials.loc[drawn, shown].to_numpy()
    trials.to_parquet(study.path / "trials.parquet", index=False)
    return Study(study.path)


if __name__ == "__main__":
    main()
