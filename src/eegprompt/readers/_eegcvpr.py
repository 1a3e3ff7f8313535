"""What the releases of the EEGCVPR recordings have in common: classes, and trials with images."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.readers._duplicates import Repeats
from eegprompt.readers._trial_files import BLOCK_BYTES
from eegprompt.readers.base import Content, Duplicates, Import, StudyOptions
from eegprompt.signal.montage import EEGCVPR_CHANNELS
from eegprompt.splits.official import SIDES

__all__ = [
    "DESIGN_NOTE",
    "SFREQ",
    "SidedOptions",
    "TrialsWithImages",
    "category_of",
    "class_names",
    "whole_number",
]

SFREQ = 1000.0
DESIGN_NOTE = (
    "each class was shown as one uninterrupted block, so class and time are one (Li et al. 2021); "
    "the design is 'block', and no split removes that"
)


@lru_cache(maxsize=1)
def class_names() -> dict[str, str]:
    """ImageNet synset -> name in words of the 40 classes, in the order of their labels.

    Examples
    --------
    >>> names = class_names()
    >>> len(names), names["n02607072"]
    (40, 'anemone fish')
    """
    import json

    entries = json.loads(Path(__file__).with_name("eegcvpr_classes.json").read_text("utf-8"))
    return {e["synset"]: e["name"] for e in sorted(entries, key=lambda e: e["index"])}


def category_of(synset: str) -> str:
    """Name of a class in words; the synset itself where it is none of the 40."""
    return class_names().get(synset, synset)


def whole_number(value: Any, low: int, stop: int | None, key: str, file: Path) -> int:
    """A whole number of a file, however it is stored, within its limits."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    whole = isinstance(value, (int, np.integer)) or (
        isinstance(value, (float, np.floating)) and float(value).is_integer()
    )
    if isinstance(value, (bool, np.bool_)) or not whole:
        shown = value if isinstance(value, (int, float, str)) else type(value).__name__
        raise RecordingError(f"{file}: {key} should be a whole number, got {shown!r:.60}")
    if value < low or (stop is not None and value >= stop):
        upto = "" if stop is None else f" and below {stop}"
        raise RecordingError(
            f"{file}: {key} is {int(value)}, and should be at least {low}{upto}; the file is damaged "
            "or from another release"
        )
    return int(value)


class SidedOptions(StudyOptions):
    """Settings of the releases that come divided into training, validation and test."""

    subjects: tuple[int, ...] | None = Field(None, description="subjects to keep; default all")
    tmin: float = Field(0.02, description="time of the first sample relative to onset [s]")
    duplicates: Duplicates = "drop"
    official: bool = Field(True, description="keep the split into train, val and test")


class TrialsWithImages:
    """Trials that come one by one, each with its image: chosen, compared, checked and counted.

    Parameters
    ----------
    job : Import
        Takes the trials and the images.
    reload : callable or None
        Gives the signal of a place that was seen before.
    where : callable
        Says a place in words, for messages.
    """

    def __init__(
        self,
        job: Import[Any, Any],
        reload: Callable[[Any], np.ndarray] | None,
        where: Callable[[Any], str],
    ):
        self.job = job
        self.rows: list[dict[str, Any]] = []
        self.sides: list[str] = []
        self.images: dict[str, dict[str, Any]] = {}
        self.waiting: list[np.ndarray] = []
        self.repeats = Repeats(job.options.duplicates, reload, where)

    def wants(self, subject: int) -> bool:
        """Whether a trial found is of a subject asked for; counted if not."""
        self.job.found += 1
        wanted = self.job.options.subjects is None or subject in self.job.options.subjects
        self.job.left_out["of another subject"] += not wanted
        return wanted

    def add(
        self,
        where: str,
        place: Any,
        eeg: np.ndarray,
        image: str,
        synset: str,
        digest: str,
        written: Callable[[], dict[str, Any]],
        side: str,
        **row: Any,
    ) -> None:
        """Write a trial, and its image the first time it is seen."""
        known = self.images.get(image)
        if known is None:
            entry = {"image_id": image, "category": category_of(synset), "synset": synset}
            self.images[image] = {**entry, **written(), "digest": digest}
        elif (known["synset"], known["digest"]) != (synset, digest):
            what = "class" if known["synset"] != synset else "image"
            raise RecordingError(
                f"{where} shows another {what} under the name {image} than trials before; "
                "an image has one"
            )
        if self.repeats.is_one(place, image, eeg):
            return
        if not np.isfinite(eeg.sum(dtype=np.float64)):
            raise RecordingError(
                f"{where}: the EEG holds values that are not finite; get the file from its "
                "source again"
            )
        self.sides.append(side)
        self.rows.append({"image_id": image, "category": category_of(synset), **row})
        self.waiting.append(np.array(eeg, np.float32))
        if len(self.waiting) * self.waiting[0].nbytes >= BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        self.job.writer.append(np.stack(self.waiting))
        self.waiting = []

    def content(self, **more: Any) -> Content:
        """The tables; and the split, where all three sides are there and it is wanted."""
        import pandas as pd

        job = self.job
        if not self.rows:
            raise RecordingError(
                f"{job.paths[0]}: no trial is left of {job.found}; check 'subjects' "
                f"({job.options.subjects})"
            )
        if self.waiting:
            self._flush()
        job.left_out["repeated"] += self.repeats.n_dropped
        job.notes += [DESIGN_NOTE, *self.repeats.notes()]
        trials = pd.DataFrame(self.rows)
        images = pd.DataFrame(list(self.images.values())).drop(columns="digest")
        official = job.options.official and set(self.sides) == set(SIDES)
        return Content(
            trials=trials,
            images=images[images["image_id"].isin(set(trials["image_id"]))],
            ch_names=EEGCVPR_CHANNELS,
            tmin=job.options.tmin,
            design="block",
            sides=self.sides if official else (),
            **more,
        )
