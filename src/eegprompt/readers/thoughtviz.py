"""ThoughtViz: imagined digits, characters and objects, 14 channels (Tirupattur et al. 2018).

``data/eeg/digit/data.pkl``, ``char`` and ``image``: each a pickle of Python 2 with `x_train`
(trial, 14, 32, 1), `y_train` (trial, 10, one-hot), `x_test` and `y_test`. Only the class of a trial
is known, no image and no subject: categories stand in for images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import sha256_file
from eegprompt.core.safe_pickle import checked_array, load_pickled
from eegprompt.readers._images import category_images
from eegprompt.readers._trial_files import TrialFileOptions, append_trials, key_of
from eegprompt.readers.base import (
    Content,
    DatasetFacts,
    Import,
    Reader,
    image_rows,
    one_source,
)
from eegprompt.splits.official import write_train_test
from eegprompt.study import Study

__all__ = ["ThoughtVizOptions", "ThoughtVizReader"]

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


_Plan = tuple[Path, str, dict[str, tuple[np.ndarray, np.ndarray]]]


class ThoughtVizOptions(TrialFileOptions):
    """Settings of the reader for ThoughtViz."""

    kind: Literal["digit", "char", "image"] | None = Field(
        None, description="which of the three, where it is not the name of the file's folder"
    )
    val: float = Field(0.15, gt=0, lt=0.9, description="training trials that validate, a fraction")
    images: dict[str, Path] = Field({}, description="category -> its image, or folder of them")


class ThoughtVizReader(Reader[ThoughtVizOptions, _Plan]):
    """Imports one of ThoughtViz's three files: ``data.pkl``, its folder, or the whole repository.

    The study knows categories only, in arbitrary units. The official split keeps the file's test
    part; the last trials of each class in the order of the file validate, because neighbors may
    overlap in time.

    Examples
    --------
    ``ThoughtVizReader().read("data/eeg/image/data.pkl", "study", stimuli="training/images")``
    """

    name = "thoughtviz"
    options = ThoughtVizOptions
    facts = DatasetFacts.of("thoughtviz")

    def prepare(self, paths: list[Path], options: ThoughtVizOptions) -> _Plan:
        """The file, what it holds, and which of the three it is."""
        path, kind = _file(one_source(paths), options.kind)
        if options.subjects is not None:
            raise RecordingError(f"{path} does not say whose a trial is; leave 'subjects' out")
        content = load_pickled(path)
        return path, kind, {part: _part(content, part, path) for part in ("train", "test")}

    def write(self, job: Import[ThoughtVizOptions, _Plan]) -> Content:
        """Both parts, the training part first."""
        import pandas as pd

        path, kind, parts = job.plan
        job.sources[path.name] = sha256_file(path)
        classes = np.array(CLASSES[kind], object)
        y = np.concatenate([y for _, y in parts.values()])
        shown = classes[np.unique(y)].tolist()
        chosen = category_images(shown, job.options.stimuli, job.options.images)
        job.notes.append(
            "which image was imagined is not known, only its class: categories stand in for images"
        )
        for part, (x, _) in parts.items():
            append_trials(job, x[:, None], path, f"x_{part}", part)
        job.found = len(y)
        partition = np.repeat(list(parts), [len(y) for _, y in parts.values()])
        images = pd.DataFrame({"image_id": shown, "category": shown})
        return Content(
            trials=pd.DataFrame(
                {
                    "image_id": classes[y],
                    "category": classes[y],
                    "partition": partition,
                    "subject": "all",
                }
            ),
            images=image_rows(images, {c: image for c, (image, _) in chosen.items()}, job),
            ch_names=CHANNELS,
            sfreq=SFREQ,
            tmin=0.0,
            image_identity="category",
            steps=[{"name": "windows", "length": 32 / SFREQ, "on": "by the source"}],
            name=f"thoughtviz-{kind}",
        )

    def split(self, study: Study, content: Content, job: Import[ThoughtVizOptions, _Plan]) -> None:
        """The file's own parts."""
        side = content.trials["partition"].to_numpy().astype(str)
        category = content.trials["category"].to_numpy().astype(str)
        write_train_test(
            study,
            side,
            _last_of_each(category, side == "train", job.options.val),
            validation="the last training trials of each class in the file's order",
            images_apart=False,
            val=job.options.val,
        )


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
