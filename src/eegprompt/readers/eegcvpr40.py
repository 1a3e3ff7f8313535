"""EEGCVPR40: the EEGCVPR recordings as one file a trial, with its image (Singh et al. 2024).

Source: https://github.com/prajwalsingh/EEGStyleGAN-ADA. Expected is a folder
``eeg_imagenet40_cvpr_2017_raw`` with ``train``, ``val`` and ``test``, in each one ``.npy`` a trial: an
array of five objects, ``[image (height, width, 3; blue, green, red), EEG (128, 440), label,
image name "n02951358_31190", subject]``. The five objects make each file a pickle; it is read
without running it.

What could not be verified: how many trials each side holds; whether the signal begins 20 ms after
onset, as that of the field does; its filter, reference, unit and scale (its values are not those of
EEGCVPR's own files, its source calls it raw); which number each class has. Each class was one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import content_key, provenance
from eegprompt.core.numpy_pickle import checked_array, load_pickled
from eegprompt.readers._duplicates import Repeats
from eegprompt.readers._eegcvpr_facts import (
    CITATION,
    DESIGN_NOTE,
    LICENSE,
    category_of,
    shared_info,
)
from eegprompt.readers._images import add_pixels
from eegprompt.readers._trial_files import BLOCK_BYTES, DatasetFacts, Progress, one_source
from eegprompt.readers.base import ReaderOptions
from eegprompt.splits.official import SIDES, write_sides
from eegprompt.study import Study, StudyWriter

__all__ = ["Eegcvpr40Options", "Eegcvpr40Reader"]

N_CHANS, N_TIMES = 128, 440
BATCH = BLOCK_BYTES // (4 * N_CHANS * N_TIMES)  # trials written at a time
FACTS = DatasetFacts(
    title="EEGCVPR40",
    citation=(
        "Singh, Dalal, Vashishtha, Miyapuram, Raman (2024). Learning Robust Deep Visual "
        f"Representations from EEG Brain Recordings. WACV, 7553-7562. {CITATION}"
    ),
    license=LICENSE,
    url="https://github.com/prajwalsingh/EEGStyleGAN-ADA",
    expected="128 channels, 440 samples, 40 classes, 6 people",
    unverified=(
        "how many trials each side holds",
        "that the first sample lies 20 ms after onset",
        "filter, reference, unit and scale of the signal",
    ),
)


class Eegcvpr40Options(ReaderOptions):
    """Settings of the reader for EEGCVPR40."""

    name: str = Field("eegcvpr40", description="the study's name")
    overwrite: bool = Field(False, description="replace a study that is there already")
    subjects: tuple[int, ...] | None = Field(None, description="subjects to keep; default all")
    tmin: float = Field(0.02, description="time of the first sample relative to onset [s]")
    duplicates: Literal["drop", "keep", "refuse"] = Field(
        "drop", description="what to do with a trial that repeats another byte for byte"
    )
    official: bool = Field(True, description="keep the split into train, val and test")


class Eegcvpr40Reader:
    """Imports EEGCVPR40: signals, images and split from one file a trial.

    Examples
    --------
    ``Eegcvpr40Reader().read("eeg_imagenet40_cvpr_2017_raw", "study")``
    """

    name = "eegcvpr40"
    options = Eegcvpr40Options

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import EEGCVPR40 into a new study.

        Parameters
        ----------
        source : path-like
            The folder that holds ``train``, ``val`` and ``test``.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (files done, files in all, label).
        **options
            See :class:`Eegcvpr40Options`.

        Returns
        -------
        Study

        Raises
        ------
        InputError
            If an option is unknown or not allowed.
        RecordingError
            If a file is not what it should be.
        SplitError
            If an image is on two sides.
        """
        opts = Eegcvpr40Options.parse(options)
        folder = one_source(source, self.name)
        files = _files(folder)
        notes = [DESIGN_NOTE]
        with StudyWriter.open(out, overwrite=opts.overwrite) as writer:
            job = _Import(opts, folder, writer)
            for n, (side, file) in enumerate(files):
                job.add(side, file)
                if progress is not None and n % BATCH == 0:
                    progress(n, len(files), "trials")
            job.finish(notes, len(files))
        return Study(out)


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Side and file of each trial, in the order of their numbers."""
    if not folder.is_dir():
        raise RecordingError(f"{folder} is a file; name the folder that holds train, val and test")
    there = [side for side in SIDES if (folder / side).is_dir()]
    files = [(side, file) for side in there for file in _sorted(folder / side)]
    if not files:
        one_side = folder.resolve().name in SIDES
        remedy = "the folder above it" if one_side else "the folder eeg_imagenet40_cvpr_2017_raw"
        raise RecordingError(
            f"{folder} should hold the folders {', '.join(SIDES)} with a .npy file for each trial, "
            f"and holds {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}; name "
            f"{remedy}"
        )
    return files


def _sorted(folder: Path) -> Iterator[Path]:
    def key(path: Path) -> tuple[int, str]:
        digits = "".join(c for c in path.stem if c.isdigit())
        return (int(digits) if digits else -1, path.name)

    yield from sorted((p for p in folder.iterdir() if p.suffix == ".npy"), key=key)


@dataclass
class _Trial:
    pixels: np.ndarray
    eeg: np.ndarray
    label: int
    image: str
    subject: int


def _read(file: Path) -> _Trial:
    """One file, checked."""
    content = load_pickled(file)
    if not isinstance(content, (np.ndarray, list, tuple)) or len(content) != 5:
        raise RecordingError(
            f"{file} should hold five objects (image, EEG, label, image, subject), and holds "
            f"{type(content).__name__}{f' of {len(content)}' if hasattr(content, '__len__') else ''}; "
            "is it of EEGCVPR40?"
        )
    pixels, eeg, label, image, subject = content
    eeg = checked_array(eeg, file, "[1], the EEG,", ndim=2)
    # 440 samples and 128 channels cannot be taken for one another, so either order is clear.
    if eeg.shape == (N_TIMES, N_CHANS):
        eeg = eeg.T
    if eeg.shape != (N_CHANS, N_TIMES):
        raise RecordingError(
            f"{file}: [1], the EEG, should have {N_CHANS} channels and {N_TIMES} samples, got shape "
            f"{eeg.shape}"
        )
    pixels = checked_array(pixels, file, "[0], the image,", ndim=3)
    if pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise RecordingError(
            f"{file}: [0], the image, should be of bytes with three colors, got {pixels.dtype} of "
            f"shape {pixels.shape}"
        )
    if not isinstance(image, str) or not image:
        raise RecordingError(f"{file}: [3] should be the name of the image, got {image!r:.60}")
    return _Trial(
        pixels,
        eeg,
        _number(label, 0, "[2], the label,", file),
        image.rsplit("/", 1)[-1].rsplit(".", 1)[0],
        _number(subject, 0, "[4], the subject,", file),
    )


def _number(value: Any, low: int, key: str, file: Path) -> int:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    whole = isinstance(value, (int, np.integer)) or (
        isinstance(value, (float, np.floating)) and float(value).is_integer()
    )
    if isinstance(value, bool) or not whole:
        raise RecordingError(f"{file}: {key} should be a whole number, got {value!r:.60}")
    if value < low:
        raise RecordingError(f"{file}: {key} is {int(value)}, and should be at least {low}")
    return int(value)


class _Import:
    """One import under way: adds files one by one, then writes the tables."""

    def __init__(self, opts: Eegcvpr40Options, folder: Path, writer: StudyWriter):
        self.opts, self.folder, self.writer = opts, folder, writer
        self.rows: list[dict[str, Any]] = []
        self.images: dict[str, dict[str, Any]] = {}
        self.synset_of: dict[int, tuple[str, Path]] = {}
        self.block = np.empty((BATCH, N_CHANS, N_TIMES), np.float32)
        self.filled = 0
        self.n_of_others = 0
        self.n_sizes: dict[str, int] = {}
        self.repeats = Repeats(
            opts.duplicates, lambda f: _read(f).eeg, lambda f: str(f.relative_to(folder))
        )

    def add(self, side: str, file: Path) -> None:
        trial = _read(file)
        if self.opts.subjects is not None and trial.subject not in self.opts.subjects:
            self.n_of_others += 1
            return
        synset = trial.image.split("_")[0]
        known, first = self.synset_of.setdefault(trial.label, (synset, file))
        if known != synset:
            raise RecordingError(
                f"{file} labels the class {synset} with {trial.label}, which is {known} in {first}; "
                "one of both is damaged: get it from its source again"
            )
        if self.repeats.is_one(file, trial.image, trial.eeg):
            return
        if not np.isfinite(trial.eeg.sum(dtype=np.float64)):
            raise RecordingError(
                f"{file}: [1], the EEG, holds values that are not finite; get it from its source again"
            )
        self.block[self.filled] = trial.eeg
        self.filled += 1
        if self.filled == BATCH:
            self._flush()
        digest = content_key(trial.pixels)
        if trial.image not in self.images:
            pixels = trial.pixels[:, :, ::-1]  # blue, green, red
            facts = add_pixels(pixels, self.writer.folder, trial.image)
            self.images[trial.image] = {
                "image_id": trial.image,
                "category": category_of(synset),
                "synset": synset,
                **facts,
                "pixels": digest,
            }
        elif self.images[trial.image]["pixels"] != digest:
            raise RecordingError(
                f"{file} shows another image under the name {trial.image} than files before; an "
                "image has one"
            )
        self.rows.append(
            {
                "subject": str(trial.subject),
                "image_id": trial.image,
                "category": category_of(synset),
                "label": trial.label,
                "side": side,
                "source_file": str(file.relative_to(self.folder)),
            }
        )

    def _flush(self) -> None:
        self.writer.append(self.block[: self.filled])
        self.filled = 0

    def finish(self, notes: list[str], n_files: int) -> None:
        """Write the tables and the split."""
        import pandas as pd

        if not self.rows:
            raise RecordingError(
                f"{self.folder}: no trial is left of {n_files}; check 'subjects' ({self.opts.subjects})"
            )
        if self.filled:
            self._flush()
        notes += self.repeats.notes()
        notes.append("the files do not say when a trial was recorded")
        trials = pd.DataFrame(self.rows)
        images = pd.DataFrame(list(self.images.values())).drop(columns="pixels")
        info = {
            **shared_info(),
            "name": self.opts.name,
            **FACTS.info(),
            "tmin": self.opts.tmin,
            "unit": "a.u.",
            "steps": [{"name": "epoch", "tmin": self.opts.tmin, "by": "the source"}],
            "notes": [*notes, *FACTS.notes()],
            "accounting": self.writer.accounting(
                n_files,
                {"of another subject": self.n_of_others, "repeated": self.repeats.n_dropped},
            ),
            "provenance": provenance(
                reader="eegcvpr40",
                options=self.opts.model_dump(mode="json"),
                sources={str(self.folder): f"{n_files} files"},
            ),
        }
        side = trials.pop("side")
        self.writer.finish(info=info, trials=trials, images=images)
        if self.opts.official and set(side) == set(SIDES):
            write_sides(Study(self.writer.folder), side.tolist(), str(self.folder))
