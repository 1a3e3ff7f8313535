"""EEGCVPR as Parquet files on the Hugging Face hub, with images (Lopez et al. 2025).

Source: https://huggingface.co/datasets/luigi-s/EEG_Image_CVPR_ALL_subj, made for GWIT
(https://github.com/LuigiSigillo/GWIT). Expected are Parquet files whose name or folder begins with
``train``, ``validation`` or ``test``, with the columns `image` (bytes of an image),
`conditioning_image` (EEG, 128 × 512 or 128 × 440, float32), `caption`, `label_folder` (a synset) and
`subject`.

What the width means, after the code that made the files: 512 samples are samples 20 to 460 of
EEGCVPR's ``eeg_5_95_std.pth``, stretched by linear interpolation (1164 Hz in effect); 440 are those of
EEGCVPR40, each trial scaled by ``(x - m / 2) / (m / 2)`` with its own maximum ``m``, which mixes the
channels' offsets with the signal.

What could not be verified: that the files on the hub were made by the code as published; in it the
images of the 440-sample release keep EEGCVPR40's order of colors, so blue and red may be swapped
(look at one; 'swap_colors' mends it), and every subject's trials are put in twice, on sides that can
differ (repeats are found and left out). The files do not name the image: equal bytes are one image.
Each class was one block.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from eegprompt.core.errors import EegpromptError, RecordingError
from eegprompt.core.files import provenance, sampled_sha256
from eegprompt.core.image_files import to_rgb
from eegprompt.readers._duplicates import Repeats
from eegprompt.readers._eegcvpr_facts import (
    CITATION,
    DESIGN_NOTE,
    LICENSE,
    SFREQ,
    category_of,
    shared_info,
)
from eegprompt.readers._images import add_image, add_pixels
from eegprompt.readers._trial_files import DatasetFacts, Progress, one_source
from eegprompt.readers.base import ReaderOptions
from eegprompt.splits.official import SIDES, write_sides
from eegprompt.study import Study, StudyWriter

if TYPE_CHECKING:
    import pyarrow

__all__ = ["EegcvprHfOptions", "EegcvprHfReader"]

N_CHANS = 128
BATCH = 32  # rows decoded at a time
COLUMNS = ("image", "conditioning_image", "label_folder", "subject")
_SIDE_OF = {"train": "train", "validation": "val", "val": "val", "valid": "val", "test": "test"}
# Number of samples -> rate in Hz: 440 as recorded, 512 stretched over the same time.
RATES = {440: SFREQ, 512: SFREQ * 511 / 439}
FACTS = DatasetFacts(
    title="EEGCVPR on the Hugging Face hub",
    citation=(
        "Lopez, Sigillo, Colonnese, Panella, Comminiello (2025). Guess What I Think: Streamlined "
        f"EEG-to-Image Generation with Latent Diffusion Models. ICASSP. {CITATION}"
    ),
    license=LICENSE,
    url="https://huggingface.co/datasets/luigi-s/EEG_Image_CVPR_ALL_subj",
    expected="128 channels, 440 or 512 samples, 40 classes",
    unverified=(
        "that the files were made by the code as published",
        "the order of the images' colors",
        "that the first sample lies 20 ms after onset",
    ),
)


class EegcvprHfOptions(ReaderOptions):
    """Settings of the reader for EEGCVPR on the Hugging Face hub."""

    name: str = Field("eegcvpr-hf", description="the study's name")
    overwrite: bool = Field(False, description="replace a study that is there already")
    subjects: tuple[int, ...] | None = Field(None, description="subjects to keep; default all")
    sfreq: float | None = Field(
        None, gt=0, description="sampling rate in Hz; default by the number of samples (440, 512)"
    )
    tmin: float = Field(0.02, description="time of the first sample relative to onset [s]")
    swap_colors: bool = Field(False, description="the images have blue and red swapped")
    duplicates: Literal["drop", "keep", "refuse"] = Field(
        "drop", description="what to do with a trial that repeats another byte for byte"
    )
    official: bool = Field(True, description="keep the split into train, validation and test")


class EegcvprHfReader:
    """Imports EEGCVPR from the Parquet files of a Hugging Face dataset that was downloaded.

    Examples
    --------
    ``EegcvprHfReader().read("EEG_Image_CVPR_ALL_subj/data", "study")``
    """

    name = "eegcvpr-hf"
    options = EegcvprHfOptions

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import Parquet files into a new study.

        Parameters
        ----------
        source : path-like
            The folder they lie in, or below.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (rows done, rows in all, label).
        **options
            See :class:`EegcvprHfOptions`.

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
        opts = EegcvprHfOptions.parse(options)
        folder = one_source(source, self.name)
        files = _files(folder)
        total = sum(_n_rows(file) for _, file in files)
        with StudyWriter.open(out, overwrite=opts.overwrite) as writer:
            job = _Import(opts, writer)
            for side, file in files:
                for first, rows in _batches(file):
                    job.add(side, file, first, rows)
                    if progress is not None:
                        progress(job.n_rows, total, "trials")
            job.finish(folder, [file for _, file in files])
        return Study(out)


# -- Parquet ---------------------------------------------------------------------------------------
def _files(folder: Path) -> list[tuple[str, Path]]:
    """Side and path of each file; the name or the folder says the side."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    found = []
    for path in paths:
        for text in (path.name, path.parent.name):
            word = re.match(r"[A-Za-z]+", text)
            if word and word.group().lower() in _SIDE_OF:
                found.append((_SIDE_OF[word.group().lower()], path))
                break
        else:
            raise RecordingError(
                f"the name of {path} does not say whether it is of train, validation or test; name "
                "it as the hub does, e.g. train-00000-of-00010.parquet"
            )
    if not found:
        raise RecordingError(
            f"{folder} holds no .parquet file; name the folder that the dataset was downloaded to"
        )
    return sorted(found, key=lambda f: (SIDES.index(f[0]), f[1]))


def _opened(path: Path) -> Any:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = set(file.schema_arrow.names)
    except Exception as problem:  # pyarrow's errors have no common base
        raise _damaged(path, problem) from None
    missing = [c for c in COLUMNS if c not in names]
    if missing:
        raise RecordingError(
            f"{path} lacks the columns {', '.join(missing)} (it has {', '.join(sorted(names))[:200]}); "
            "is it of EEGCVPR?"
        )
    return file


def _damaged(path: Path, problem: Exception) -> RecordingError:
    text = " ".join(str(problem).split())[:160]
    return RecordingError(
        f"{path} cannot be read as Parquet ({type(problem).__name__}: {text}); it may be truncated: "
        "download it again"
    )


def _n_rows(path: Path) -> int:
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def _batches(path: Path) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
    """First row and rows, some at a time, so that a file of gigabytes takes little memory."""
    with _opened(path) as file:
        batches = file.iter_batches(BATCH, columns=list(COLUMNS))
        first = 0
        while True:
            try:
                rows = next(batches)
            except StopIteration:
                return
            except Exception as problem:
                raise _damaged(path, problem) from None
            yield first, rows
            first += len(rows)


def _signals(column: pyarrow.Array, path: Path, first: int) -> np.ndarray:
    """Lists of lists as (n, n_chans, n_times)."""
    import pyarrow
    from pyarrow import compute

    if isinstance(column, pyarrow.ExtensionArray):  # where the datasets library is loaded
        column = column.storage
    kind = column.type
    nested = hasattr(kind, "value_type") and hasattr(kind.value_type, "value_type")
    if not nested or not pyarrow.types.is_floating(kind.value_type.value_type):
        raise RecordingError(
            f"{path}: 'conditioning_image' should hold lists of lists of float32, one a channel, and "
            f"holds {kind}"
        )
    inner = column.flatten()
    chans = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    times = compute.list_value_length(inner).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(chans != N_CHANS)  # a missing row has length NaN
    if len(bad):
        raise RecordingError(
            f"{path}: 'conditioning_image' of row {first + bad[0]} has {chans[bad[0]]:g} channels, and "
            f"should have {N_CHANS}"
        )
    if len(set(times.tolist())) != 1:
        raise RecordingError(
            f"{path}: 'conditioning_image' of rows {first} to {first + len(column) - 1} has channels "
            "of different length"
        )
    values = inner.flatten()
    if values.null_count:
        raise RecordingError(
            f"{path}: 'conditioning_image' of rows {first} to {first + len(column) - 1} lacks values"
        )
    array = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return array.reshape(len(column), N_CHANS, int(times[0]))


# -- the import ------------------------------------------------------------------------------------
class _Import:
    """One import under way: adds rows some at a time, then writes the tables."""

    def __init__(self, opts: EegcvprHfOptions, writer: StudyWriter):
        self.opts, self.writer = opts, writer
        self.rows: list[dict[str, Any]] = []
        self.images: dict[str, dict[str, Any]] = {}
        self.n_times = 0
        self.n_rows = self.n_of_others = 0
        self.repeats = Repeats(opts.duplicates, None, lambda t: f"{t[0]} row {t[1]}")

    def add(self, side: str, file: Path, first: int, rows: pyarrow.RecordBatch) -> None:
        if not len(rows):
            return
        self.n_rows += len(rows)
        try:
            eeg = _signals(rows.column("conditioning_image"), file, first)
            others = rows.select([c for c in COLUMNS if c != "conditioning_image"]).to_pylist()
        except EegpromptError:
            raise
        except Exception as problem:
            raise _damaged(file, problem) from None
        if self.n_times not in (0, eeg.shape[2]):
            raise RecordingError(
                f"{file} has trials of {eeg.shape[2]} samples, and files before of {self.n_times}; "
                "import them apart"
            )
        self.n_times = eeg.shape[2]
        if self.opts.sfreq is None and self.n_times not in RATES:
            raise RecordingError(
                f"{file} has trials of {self.n_times} samples, and only 440 (1000 Hz) and 512 (1164 "
                "Hz) are known; say the rate with 'sfreq'"
            )
        kept = []
        for i, row in enumerate(others):
            where = f"{file} row {first + i}"
            subject, synset = row["subject"], row["label_folder"]
            if not isinstance(subject, int) or isinstance(subject, bool) or subject < 0:
                raise RecordingError(f"{where}: 'subject' should be a number, got {subject!r:.60}")
            if not isinstance(synset, str) or not re.fullmatch(r"n\d{8}", synset):
                raise RecordingError(
                    f"{where}: 'label_folder' should be a synset like n02389026, got {synset!r:.60}"
                )
            if self.opts.subjects is not None and subject not in self.opts.subjects:
                self.n_of_others += 1
                continue
            image = self._image(row["image"], synset, where)
            if self.repeats.is_one((file.name, first + i), image, eeg[i]):
                continue
            if not np.isfinite(eeg[i].sum(dtype=np.float64)):
                raise RecordingError(
                    f"{where}: 'conditioning_image' holds values that are not finite; download the "
                    "file again"
                )
            kept.append(i)
            self.rows.append(
                {
                    "subject": str(subject),
                    "image_id": image,
                    "category": category_of(synset),
                    "side": side,
                    "source_file": file.name,
                    "source_index": first + i,
                }
            )
        if kept:
            self.writer.append(eeg[kept])

    def _image(self, value: Any, synset: str, where: str) -> str:
        """Id of a row's image, which is written the first time it is seen."""
        import hashlib

        data = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(data, bytes) or not data:
            raise RecordingError(
                f"{where}: 'image' should hold the bytes of an image; it holds none"
            )
        stem = Path(str(value.get("path") or "")).stem
        digest = hashlib.sha256(data).hexdigest()
        named = re.fullmatch(r"n\d{8}_\w+", stem)
        image = stem if named else f"{synset}-{digest[:12]}"
        known = self.images.get(image)
        if known is None:
            self.images[image] = {
                "image_id": image,
                "category": category_of(synset),
                "synset": synset,
                **self._written(data, image, where),
                "digest": digest,
            }
        elif known["synset"] != synset or known["digest"] != digest:
            what = "class" if known["synset"] != synset else "image"
            raise RecordingError(
                f"{where} shows the image {image} with another {what} than rows before; an image "
                "has one"
            )
        return image

    def _written(self, data: bytes, image: str, where: str) -> dict[str, Any]:
        from PIL import Image

        if self.opts.swap_colors:
            try:
                with Image.open(io.BytesIO(data)) as one_image:
                    pixels = np.asarray(to_rgb(one_image))[:, :, ::-1]
            except Exception:  # whatever the bytes are; the library names an object in memory
                raise RecordingError(
                    f"{where}: 'image' holds {len(data)} bytes that are no image; download the "
                    "file again"
                ) from None
            return add_pixels(np.ascontiguousarray(pixels), self.writer.folder, image)
        file = self.writer.folder / ".image"
        file.write_bytes(data)
        try:
            return add_image(file, self.writer.folder, image)
        except RecordingError:
            raise RecordingError(
                f"{where}: the bytes of 'image' are no image; download the file again"
            ) from None
        finally:
            file.unlink()

    def finish(self, folder: Path, files: list[Path]) -> None:
        """Write the tables and the split."""
        import pandas as pd

        opts = self.opts
        if not self.rows:
            raise RecordingError(
                f"{folder}: no trial is left of {self.n_rows}; check 'subjects' ({opts.subjects})"
            )
        notes = [DESIGN_NOTE, *self.repeats.notes()]
        steps: list[dict[str, Any]] = [{"name": "epoch", "tmin": opts.tmin, "by": "the source"}]
        if self.n_times == 512:
            steps.append({"name": "resample", "to": RATES[512], "by": "the source, linearly"})
        if self.n_times == 440:
            steps.append({"name": "scaled by the source", "by": "each trial's own maximum"})
            if not opts.swap_colors:
                notes.append(
                    "the code that made this release leaves blue and red of the images swapped; "
                    "look at one, and if it is so import again with 'swap_colors=true'"
                )
        notes.append("the files do not say when a trial was recorded, nor the name of its image")
        trials = pd.DataFrame(self.rows)
        images = pd.DataFrame(list(self.images.values())).drop(columns="digest")
        images = images[images["image_id"].isin(set(trials["image_id"]))]
        info = {
            **shared_info(),
            "name": opts.name,
            **FACTS.info(),
            "sfreq": opts.sfreq or RATES[self.n_times],
            "tmin": opts.tmin,
            "unit": "a.u.",
            "steps": steps,
            "notes": [*notes, *FACTS.notes()],
            "accounting": self.writer.accounting(
                self.n_rows,
                {"of another subject": self.n_of_others, "repeated": self.repeats.n_dropped},
            ),
            "provenance": provenance(
                reader="eegcvpr-hf",
                options=opts.model_dump(mode="json"),
                sources={file.name: sampled_sha256(file) for file in files},
            ),
        }
        side = trials.pop("side")
        self.writer.finish(info=info, trials=trials, images=images)
        if opts.official and set(side) == set(SIDES):
            write_sides(Study(self.writer.folder), side.tolist(), str(folder))
