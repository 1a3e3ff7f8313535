"""What readers of recordings that were cut into trials already have in common.

Facts of a dataset, options, blocks of trials checked and streamed, images, and the record of what
a source did to its signal before it gave it away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import sampled_sha256
from eegprompt.readers.base import ImageOptions, Import
from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of

if TYPE_CHECKING:
    pass

__all__ = [
    "BLOCK_BYTES",
    "TrialFileOptions",
    "append_trials",
    "checked_channels",
    "clock_of",
    "key_of",
    "repeated_files",
    "subject_folders",
]


# Trials are read, checked, hashed and written in blocks that stay in the processor's cache: twice as
# fast as blocks of 32 MB.
BLOCK_BYTES = 1_000_000


class TrialFileOptions(ImageOptions):
    """Settings of readers of files with one subject each."""

    subjects: tuple[str, ...] | None = Field(
        None, description="subjects to read, e.g. 01 or 01,02; default all that are there"
    )


# -- files ---------------------------------------------------------------------------------------
_SUBJECT = re.compile(r"sub(?:ject)?[-_ ]?0*(\d+)", re.IGNORECASE)


def _subject_of(folder: Path) -> str | None:
    found = _SUBJECT.fullmatch(folder.name)
    return f"{int(found.group(1)):02d}" if found else None


def subject_folders(
    root: Path, holds: Sequence[str], subjects: Sequence[str] | None
) -> dict[str, Path]:
    """Folders that hold the files of one subject each, by the subject's number."""

    def fits(folder: Path) -> bool:
        return any((folder / name).is_file() for name in holds)

    if not root.is_dir():
        raise RecordingError(f"{root} is no folder; name the folder that holds sub-01, sub-02, …")
    if fits(root):
        found = {_subject_of(root.resolve()) or "01": root}
    else:
        inside = sorted(p for p in root.iterdir() if p.is_dir() and _subject_of(p))
        found = {str(_subject_of(p)): p for p in inside if fits(p)}
    if not found:
        raise RecordingError(
            f"{root} holds none of {', '.join(holds)}, nor folders named like sub-01 that do; name "
            "the folder of a subject, or the one with all of them"
        )
    if subjects is None:
        return found
    asked = {f"{int(s):02d}" if s.isdigit() else s: s for s in subjects}
    missing = [given for number, given in asked.items() if number not in found]
    if missing:
        raise RecordingError(
            f"{root} holds no subject {', '.join(missing)}; it holds {', '.join(found)}: correct "
            "'subjects'"
        )
    return {number: found[number] for number in found if number in asked}


def repeated_files(files: Sequence[Path]) -> dict[str, str]:
    """Keys of files, by path; two that are byte for byte the same are refused."""
    import filecmp

    first: dict[str, Path] = {}
    keys = {}
    for file in files:
        key = keys[str(file)] = sampled_sha256(file)
        twin = first.setdefault(key, file)
        if twin is not file and filecmp.cmp(twin, file, shallow=False):
            raise RecordingError(
                f"{file} repeats {twin} byte for byte; one recording under two names would stand on "
                "both sides of a split: get the right file, or leave one out with 'subjects'"
            )
    return keys


# -- what a file must hold -----------------------------------------------------------------------
def key_of(content: Any, key: str, path: Path) -> Any:
    """An entry of a dictionary that was loaded, or an error that lists what is there."""
    if not isinstance(content, Mapping):
        raise RecordingError(
            f"{path} holds a {type(content).__name__}, but a dictionary with the key '{key}' is "
            "needed; check that the file is of this dataset"
        )
    plain = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in content.items()}
    if key not in plain:
        there = ", ".join(repr(k) for k in list(plain)[:12]) or "none"
        raise RecordingError(
            f"{path} lacks the key '{key}' (keys: {there}); check that the file is of this dataset"
        )
    return plain[key]


def checked_channels(value: Any, n_chans: int, path: Path, key: str = "ch_names") -> list[str]:
    """Channel names that fit the data and MNE's montage."""
    names = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        raise RecordingError(
            f"{path}: '{key}' should be a list of channel names; get the file again"
        )
    names = [str(n) for n in names]
    if len(names) != n_chans:
        raise RecordingError(
            f"{path}: '{key}' names {len(names)} channels, but the data have {n_chans}; get the file "
            "again"
        )
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise RecordingError(f"{path}: '{key}' names the channel '{twice}' twice; mend the file")
    known = positions_of(names, STANDARD_MONTAGE)
    unknown = [n for n in names if known[n] is None]
    if unknown:
        raise RecordingError(
            f"{path}: '{key}' names {', '.join(unknown[:8])}, which the montage {STANDARD_MONTAGE} "
            "does not have; check that the file is of this dataset"
        )
    return names


def clock_of(times: Any, n_times: int, path: Path, key: str = "times") -> tuple[float, float]:
    """Sampling rate (Hz) and time of the first sample (s) of trials, from their time axis.

    Where the axis is longer than the trials its last part counts: sources cut the baseline off the
    data and forget it in the axis.
    """
    axis = np.asarray(times, dtype=np.float64) if _is_numbers(times) else None
    if axis is None or axis.ndim != 1 or len(axis) < n_times or n_times < 2:
        raise RecordingError(
            f"{path}: '{key}' should hold at least {n_times} times in seconds, one a sample; get the "
            "file again"
        )
    axis = axis[-n_times:]
    step = float(axis[-1] - axis[0]) / (n_times - 1)
    spread = np.abs(np.diff(axis) - step).max() if np.isfinite(axis).all() else np.inf
    if not (0 < step < 1 and spread < 0.05 * step):
        raise RecordingError(
            f"{path}: '{key}' is not a rising, evenly spaced axis in seconds; get the file again"
        )
    rate = 1 / step
    return (float(round(rate)) if abs(rate - round(rate)) < 1e-3 * rate else rate), float(axis[0])


def _is_numbers(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind in "fiu"
    except ValueError:
        return False


# -- trials --------------------------------------------------------------------------------------
def append_trials(
    job: Import[Any, Any],
    eeg: np.ndarray,
    path: Path,
    key: str,
    label: str,
    *,
    average: bool = False,
) -> None:
    """Write the trials of a mapped array (image, repetition, channel, sample), some at a time."""
    n_images, n_reps, n_chans, n_times = eeg.shape

    def checked(first: int) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            block = np.ascontiguousarray(eeg[first : first + step], dtype=np.float32)
            # The sum of squares of finite numbers is finite, unless they are beyond all reason; the
            # library's dot product is the quickest pass there is.
            total = np.dot(block.reshape(-1), block.reshape(-1))
        if not np.isfinite(total):
            at = np.argwhere(~np.isfinite(block))
            if len(at):
                image, rep, channel, sample = at[0].tolist()
                raise RecordingError(
                    f"{path}: '{key}' holds a value that is not finite at [{first + image}, {rep}, "
                    f"{channel}, {sample}] (image, repetition, channel, sample); get the file again"
                )
        return block.mean(axis=1) if average else block.reshape(-1, n_chans, n_times)

    step = max(1, BLOCK_BYTES // (4 * n_reps * n_chans * n_times))
    # The next block is read while this one is written.
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(checked, 0)
        for first in range(0, n_images, step):
            block = coming.result()
            if first + step < n_images:
                coming = pool.submit(checked, first + step)
            job.writer.append(block)
            job.progress(min(first + step, n_images), n_images, label)
