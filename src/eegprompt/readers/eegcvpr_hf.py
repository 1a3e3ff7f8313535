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

import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from eegprompt.core.errors import EegpromptError, RecordingError
from eegprompt.core.files import sampled_sha256
from eegprompt.core.image_files import to_rgb
from eegprompt.readers._eegcvpr import SFREQ, SidedOptions, TrialsWithImages
from eegprompt.readers._images import add_image, add_pixels
from eegprompt.readers._parquet import damaged, open_parquet, parquet_rows
from eegprompt.readers.base import Content, DatasetFacts, Import, Reader, one_source
from eegprompt.splits.official import SIDES

if TYPE_CHECKING:
    import pyarrow

__all__ = ["EegcvprHfOptions", "EegcvprHfReader"]

N_CHANS = 128
BATCH = 32  # rows decoded at a time
COLUMNS = ("image", "conditioning_image", "label_folder", "subject")
_SIDE_OF = {"train": "train", "validation": "val", "val": "val", "valid": "val", "test": "test"}
# Number of samples -> rate in Hz: 440 as recorded, 512 stretched over the same time.
RATES = {440: SFREQ, 512: SFREQ * 511 / 439}


class EegcvprHfOptions(SidedOptions):
    """Settings of the reader for EEGCVPR on the Hugging Face hub."""

    sfreq: float | None = Field(
        None, gt=0, description="sampling rate in Hz; default by the number of samples (440, 512)"
    )
    swap_colors: bool = Field(False, description="the images have blue and red swapped")


_Plan = list[tuple[str, Path]]


class EegcvprHfReader(Reader[EegcvprHfOptions, _Plan]):
    """Imports EEGCVPR from the Parquet files of a Hugging Face dataset that was downloaded.

    Examples
    --------
    ``EegcvprHfReader().read("EEG_Image_CVPR_ALL_subj/data", "study")``
    """

    name = "eegcvpr-hf"
    options = EegcvprHfOptions
    facts = DatasetFacts.of("eegcvpr-hf")

    def prepare(self, paths: list[Path], options: EegcvprHfOptions) -> _Plan:
        """Side and path of each file."""
        return _files(one_source(paths))

    def write(self, job: Import[EegcvprHfOptions, _Plan]) -> Content:
        """All files, some rows at a time."""
        job.sources |= {file.name: sampled_sha256(file) for _, file in job.plan}
        total = 0
        for _, file in job.plan:
            with open_parquet(file, COLUMNS) as opened:
                total += opened.metadata.num_rows
        trials = TrialsWithImages(job, None, lambda t: f"{t[0]} row {t[1]}")
        n_times = 0
        for side, file in job.plan:
            for first, rows in parquet_rows(file, COLUMNS, BATCH):
                n_times = _add(trials, side, file, first, rows, n_times)
                job.progress(job.found, total, "trials")
        steps: list[dict[str, Any]] = [
            {"name": "epoch", "tmin": job.options.tmin, "by": "the source"}
        ]
        if n_times == 512:
            steps.append({"name": "resample", "to": RATES[512], "by": "the source, linearly"})
        if n_times == 440:
            steps.append({"name": "scaled by the source", "by": "each trial's own maximum"})
            if not job.options.swap_colors:
                job.notes.append(
                    "the code that made this release leaves blue and red of the images swapped; "
                    "look at one, and if it is so import again with 'swap_colors=true'"
                )
        job.notes.append(
            "the files do not say when a trial was recorded, nor the name of its image"
        )
        rate = job.options.sfreq or RATES.get(n_times, SFREQ)
        return trials.content(sfreq=rate, steps=steps)


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


# -- rows ------------------------------------------------------------------------------------------
def _add(
    trials: TrialsWithImages,
    side: str,
    file: Path,
    first: int,
    rows: pyarrow.RecordBatch,
    n_times: int,
) -> int:
    """Write the trials of some rows; gives the number of samples of a trial."""
    if not len(rows):
        return n_times
    try:
        eeg = _signals(rows.column("conditioning_image"), file, first)
        others = rows.select([c for c in COLUMNS if c != "conditioning_image"]).to_pylist()
    except EegpromptError:
        raise
    except Exception as problem:
        raise damaged(file, problem) from None
    if n_times not in (0, eeg.shape[2]):
        raise RecordingError(
            f"{file} has trials of {eeg.shape[2]} samples, and files before of {n_times}; import them "
            "apart"
        )
    if trials.job.options.sfreq is None and eeg.shape[2] not in RATES:
        raise RecordingError(
            f"{file} has trials of {eeg.shape[2]} samples, and only 440 (1000 Hz) and 512 (1164 Hz) "
            "are known; say the rate with 'sfreq'"
        )
    for i, row in enumerate(others):
        where = f"{file} row {first + i}"
        subject, synset = row["subject"], row["label_folder"]
        if not isinstance(subject, int) or isinstance(subject, bool) or subject < 0:
            raise RecordingError(f"{where}: 'subject' should be a number, got {subject!r:.60}")
        if not isinstance(synset, str) or not re.fullmatch(r"n\d{8}", synset):
            raise RecordingError(
                f"{where}: 'label_folder' should be a synset like n02389026, got {synset!r:.60}"
            )
        if not trials.wants(subject):
            continue
        data = row["image"].get("bytes") if isinstance(row["image"], dict) else None
        if not isinstance(data, bytes) or not data:
            raise RecordingError(f"{where}: 'image' should hold the bytes of an image")
        digest = hashlib.sha256(data).hexdigest()
        stem = Path(str(row["image"].get("path") or "")).stem
        image = stem if re.fullmatch(r"n\d{8}_\w+", stem) else f"{synset}-{digest[:12]}"
        trials.add(
            where,
            (file.name, first + i),
            eeg[i],
            image,
            synset,
            digest,
            lambda d=data, n=image, w=where: _written(d, n, w, trials.job),  # type: ignore[misc]
            side,
            subject=str(subject),
            source_file=file.name,
            source_index=first + i,
        )
    return int(eeg.shape[2])


def _written(data: bytes, image: str, where: str, job: Import[Any, Any]) -> dict[str, Any]:
    """Write an image that comes as bytes; gives its facts."""
    from PIL import Image

    folder = job.writer.folder
    if job.options.swap_colors:
        try:
            with Image.open(io.BytesIO(data)) as one_image:
                pixels = np.asarray(to_rgb(one_image))[:, :, ::-1]
        except Exception:  # whatever the bytes are; the library names an object in memory
            raise RecordingError(
                f"{where}: 'image' holds {len(data)} bytes that are no image; download the file again"
            ) from None
        return add_pixels(np.ascontiguousarray(pixels), folder, image)
    file = folder / ".image"
    file.write_bytes(data)
    try:
        return add_image(file, folder, image)
    except RecordingError:
        raise RecordingError(
            f"{where}: the bytes of 'image' are no image; download the file again"
        ) from None
    finally:
        file.unlink()
