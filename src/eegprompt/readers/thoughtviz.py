"""ThoughtViz: imagined digits, characters and objects, 14 channels (Tirupattur et al. 2018).

``data/eeg/digit/data.pkl``, ``char`` and ``image``: each a pickle of Python 2 with `x_train`
(trial, 14, 32, 1), `y_train` (trial, 10, one-hot), `x_test` and `y_test`. Only the class of a trial
is known, no image and no subject: categories stand in for images.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import provenance, sha256_file
from eegprompt.core.numpy_pickle import checked_array, load_pickled
from eegprompt.readers._images import category_images
from eegprompt.readers._trial_files import (
    DatasetFacts,
    Progress,
    TrialFileOptions,
    image_rows,
    key_of,
    one_source,
    trial_blocks,
)
from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of
from eegprompt.splits.official import write_train_test
from eegprompt.study import Study, StudyWriter

__all__ = ["FACTS", "ThoughtVizOptions", "ThoughtVizReader"]

FACTS = DatasetFacts(
    title="ThoughtViz",
    citation=(
        "Tirupattur, Rawat, Spampinato, Shah (2018). ThoughtViz: Visualizing Human Thoughts Using "
        "Generative Adversarial Network. ACM Multimedia, 950-958. EEG: Kumar, Saini, Roy, Sahu, Dogra "
        "(2018). Envisioned speech recognition using EEG sensors. Personal and Ubiquitous Computing "
        "22, 185-199."
    ),
    license="not stated by the authors",
    url="https://github.com/ptirupat/ThoughtViz",
    expected="x (N, 14, 32, 1), y (N, 10) in each of digit, char and image; 23 people together",
    unverified=(
        "the channels' order (that of the Emotiv EPOC+ is taken) and the sampling rate (128 Hz)",
        "when a trial begins and which person and recording it is of: the files do not say",
        "that trials do not share samples: they are windows cut from longer recordings and may "
        "overlap, across the parts too, which would raise every score",
    ),
)
CHANNELS = (
    "AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4",
)  # fmt: skip
SFREQ = 128.0
CLASSES: dict[str, tuple[str, ...]] = {
    "digit": tuple("0123456789"),
    "char": tuple("ACFHJMPSTY"),
    "image": (
        "Apple", "Car", "Dog", "Gold", "Mobile", "Rose", "Scooter", "Tiger", "Wallet", "Watch",
    ),
}  # fmt: skip


class ThoughtVizOptions(TrialFileOptions):
    """Settings of the reader for ThoughtViz."""

    kind: Literal["digit", "char", "image"] | None = Field(
        None, description="which of the three, where it is not the name of the file's folder"
    )
    val: float = Field(0.15, gt=0, lt=0.9, description="training trials that validate, a fraction")
    images: dict[str, Path] = Field({}, description="category -> its image, or folder of them")


class ThoughtVizReader:
    """Imports one of ThoughtViz's three files.

    The official split keeps the file's test part; the last trials of each class in the order of the
    file validate, because neighbors may overlap in time.

    Examples
    --------
    ``ThoughtVizReader().read("data/eeg/image/data.pkl", "study", stimuli="training/images")``
    """

    name = "thoughtviz"
    options = ThoughtVizOptions

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import ThoughtViz into a new study.

        Parameters
        ----------
        source : path-like
            ``data.pkl``, the folder that holds it, or the whole repository.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (trials done, trials in all, label).
        **options
            See :class:`ThoughtVizOptions`.

        Returns
        -------
        Study
            That knows categories only, in arbitrary units.

        Raises
        ------
        InputError
            If an option is unknown or not allowed.
        RecordingError
            If the file is not what it should be.
        """
        import pandas as pd

        opts = ThoughtVizOptions.parse(options)
        path, kind = _file(one_source(source, self.name), opts.kind)
        if opts.subjects is not None:
            raise RecordingError(f"{path} does not say whose a trial is; leave 'subjects' out")
        content = load_pickled(path, encoding="latin1")
        parts = {part: _part(content, part, path) for part in ("train", "test")}
        classes = CLASSES[kind]
        shown = [c for i, c in enumerate(classes) if any((y == i).any() for _, y in parts.values())]
        chosen = category_images(shown, opts.stimuli, opts.images)
        notes = [
            "which image was imagined is not known, only its class: categories stand in for images"
        ]
        with StudyWriter.open(out, overwrite=opts.overwrite) as writer:
            tables = []
            for part, (x, y) in parts.items():
                for block in trial_blocks(
                    x[:, None], path, f"x_{part}", progress=progress, label=part
                ):
                    writer.append(block)
                category = np.array(classes, object)[y]
                tables.append(
                    pd.DataFrame({"image_id": category, "category": category, "partition": part})
                )
            trials = pd.concat(tables, ignore_index=True)
            trials["subject"] = "all"
            images = image_rows(
                pd.DataFrame({"image_id": shown, "category": shown}),
                {c: image for c, (image, _) in chosen.items()},
                writer,
                notes=notes,
            )
            info = {
                "name": opts.name or f"thoughtviz-{kind}",
                **FACTS.info(),
                "ch_names": list(CHANNELS),
                "ch_pos": {n: p for n, p in positions_of(CHANNELS).items() if p is not None},
                "sfreq": SFREQ,
                "tmin": 0.0,
                "unit": "a.u.",
                "montage": STANDARD_MONTAGE,
                "design": "unknown",
                "image_identity": "category",
                "steps": [
                    {"name": "windows", "length": 32 / SFREQ, "on": "by the source"},
                ],
                "notes": [*notes, *FACTS.notes()],
                "accounting": writer.accounting(sum(len(y) for _, y in parts.values())),
                "provenance": provenance(
                    reader=self.name,
                    options=opts.model_dump(mode="json"),
                    sources={path.name: sha256_file(path)},
                ),
            }
            writer.finish(info=info, trials=trials, images=images)
            side = trials["partition"].to_numpy().astype(str)
            write_train_test(
                Study(writer.folder),
                side,
                _last_of_each(trials["category"].to_numpy().astype(str), side == "train", opts.val),
                validation="the last training trials of each class in the file's order",
                images_apart=False,
                val=opts.val,
            )
        return Study(out)


def _file(source: Path, kind: str | None) -> tuple[Path, str]:
    if source.is_dir():
        # The folder of one kind, that of all of them, or the whole repository.
        places = ("data.pkl", "*/data.pkl", "data/eeg/*/data.pkl")
        found = next((hits for p in places if (hits := sorted(source.glob(p)))), [])
        if not found:
            raise RecordingError(
                f"{source} holds no data.pkl; name that file, its folder, or the folder of "
                f"{', '.join(CLASSES)}"
            )
        if kind is not None and len(found) > 1:
            found = [p for p in found if p.parent.name == kind]
        if len(found) != 1:
            there = ", ".join(sorted(p.parent.name for p in source.rglob("data.pkl")))
            raise RecordingError(
                f"{source} holds a data.pkl of each of {there}, and a study is made of one; choose "
                f"it with 'kind=image'"
            )
        source = found[0]
    named = kind or source.resolve().parent.name
    if named not in CLASSES:
        raise RecordingError(
            f"the folder of {source} does not say which of {', '.join(CLASSES)} it is; say it with "
            "'kind=image'"
        )
    return source, named


def _part(content: Any, part: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Trials (n, 14, 32) and class of each."""
    x = checked_array(key_of(content, f"x_{part}", path), path, f"x_{part}", ndim=4)
    if x.shape[1:] != (len(CHANNELS), 32, 1) or not len(x):
        raise RecordingError(
            f"{path}: 'x_{part}' has shape {x.shape}, but (trials, 14, 32, 1) is needed; check that "
            "the file is of this dataset"
        )
    y = checked_array(key_of(content, f"y_{part}", path), path, f"y_{part}", ndim=2, kinds="fiub")
    if y.shape != (len(x), 10):
        raise RecordingError(
            f"{path}: 'y_{part}' has shape {y.shape}, but ({len(x)}, 10) is needed, one row a trial; "
            "get the file again"
        )
    y = np.asarray(y, dtype=np.float64)
    wrong = np.flatnonzero((y.sum(axis=1) != 1) | (y.max(axis=1) != 1))
    if len(wrong):
        raise RecordingError(
            f"{path}: row {wrong[0]} of 'y_{part}' is not one-hot (one 1, else 0); get the file again"
        )
    return x[..., 0], y.argmax(axis=1)


def _last_of_each(category: np.ndarray, in_train: np.ndarray, fraction: float) -> np.ndarray:
    chosen = np.zeros(len(category), bool)
    for name in np.unique(category[in_train]):
        rows = np.flatnonzero(in_train & (category == name))
        if len(rows) > 1:
            chosen[rows[len(rows) - max(1, round(fraction * len(rows))) :]] = True
    return chosen
