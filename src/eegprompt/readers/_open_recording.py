"""Find the files that hold recordings, and read one of any format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.core.files import content_key, sha256_file
from eegprompt.readers._csv_recording import read_csv
from eegprompt.readers._file_checks import brainvision_data_file
from eegprompt.readers._raw_recording import fif_parts, read_with_mne
from eegprompt.readers._recording import FORMATS, UNITS, Recording, checked_signal
from eegprompt.readers._units import check_scales

__all__ = ["fingerprint", "open_recording", "recording_files", "without_continuations"]


def _natural(path: Path) -> list[Any]:
    """Sort key by which run2 comes before run10."""
    parts = re.split(r"(\d+)", path.as_posix().lower())
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]


def recording_files(
    source: str | Path | Iterable[str | Path], glob: str | None = None
) -> list[Path]:
    """Files that hold recordings: a file, those in a folder (searched recursively), or several.

    Parameters
    ----------
    source : path-like or iterable of path-like
        Files and folders.
    glob : str, optional
        In folders take only names that match, e.g. ``"*_run-*.edf"``.

    Returns
    -------
    list of pathlib.Path
        Without repetition, in natural order (run2 before run10).

    Raises
    ------
    RecordingError
        If a path does not exist, a file's format is unknown, or a folder holds no recording.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    known = ", ".join(FORMATS)
    found: list[Path] = []
    for item in map(Path, sources):
        if item.is_dir():
            inside = [
                p
                for p in item.rglob(glob or "*")
                if p.suffix.lower() in FORMATS
                and p.is_file()
                and not any(part.startswith(".") for part in p.relative_to(item).parts)
            ]
            if not inside:
                wanted = f" that matches '{glob}'" if glob else ""
                raise RecordingError(f"{item} holds no recording{wanted}; formats: {known}")
            found += inside
        elif not item.exists():
            raise RecordingError(f"{item} does not exist; name a recording or a folder of them")
        elif item.suffix.lower() not in FORMATS:
            raise RecordingError(f"{item} has an unknown format '{item.suffix}'; formats: {known}")
        else:
            found.append(item)
    if not found:
        raise RecordingError("no source was given; name a recording or a folder of them")
    unique = {p.resolve(): p for p in found}
    return sorted(unique.values(), key=_natural)


def without_continuations(files: Sequence[Path]) -> list[Path]:
    """The files that begin a recording, without those that are the continuation of another.

    MNE parts a large FIF file into several, which it reads as one from the first.

    Parameters
    ----------
    files : sequence of pathlib.Path
        Recordings.

    """
    several = [file for file in files if file.suffix.lower() == ".fif"]
    if len(several) < 2:
        return list(files)
    parts = {
        part.resolve()
        for file in several
        for part in fif_parts(file)
        if part.resolve() != file.resolve()
    }
    return [file for file in files if file.resolve() not in parts]


def fingerprint(path: Path) -> str:
    """SHA-256 of a recording's bytes; of the signal file where the header lies apart."""
    companion = {".vhdr": brainvision_data_file, ".set": lambda p: p.with_suffix(".fdt")}.get(
        path.suffix.lower()
    )
    if companion is not None:
        try:
            signal = companion(path)
        except OSError:
            signal = None
        if signal is not None and signal.is_file():
            # A .set beside its .fdt carries events of its own; a .vhdr names its files.
            header = sha256_file(path) if path.suffix.lower() == ".set" else ""
            return content_key(header, sha256_file(signal), length=64)
    return sha256_file(path)


# -- reading -------------------------------------------------------------------------------------
def open_recording(
    path: str | Path,
    *,
    channels: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    unit: str | None = None,
    sfreq: float | None = None,
    time_column: str | None = None,
    marker: str | None = None,
    ignore_columns: Sequence[str] = (),
    max_gap: float = 0.1,
    montage: str | None = None,
) -> Recording:
    """Read one recording.

    Parameters
    ----------
    path : path-like
        The file.
    channels : sequence of str, optional
        Channels to keep, after renaming, in this order; default all EEG channels.
    exclude : sequence of str
        Channels to leave out, after renaming.
    rename : mapping of str to str, optional
        Names in the file -> names to use.
    unit : {"uV", "mV", "V", "a.u."}, optional
        Unit of the values. A CSV file needs it; of the other formats, which say their own, it
        overrules what they say.
    sfreq : float, optional
        Sampling rate in Hz. A CSV file without time stamps needs it; other files must agree.
    time_column : str, optional
        Column of a CSV file with the time of each row in seconds; default one of `timestamps`,
        `timestamp`, `time`, `times`, `t`, where there is one.
    marker : str, optional
        Column or channel with the markers of stimuli.
    ignore_columns : sequence of str
        Columns of a CSV file that are no channels.
    max_gap : float
        A step between time stamps that is longer than a sample by more than this many seconds
        parts the recording, and so does one back by more than this; shorter ones are jitter.
    montage : str, optional
        The template whose spelling of channel names is used.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        If the file cannot be read as what its name says, holds values that are no number or only
        flat channels, or a channel is in another unit than the others.
    UnknownNameError
        If a channel or column that was named is not in the file.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(f"{path} does not exist; name a recording or a folder of them")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise RecordingError(
            f"{path} has an unknown format '{path.suffix}'; formats: {', '.join(FORMATS)}"
        )
    if path.stat().st_size == 0:
        raise RecordingError(f"{path} is empty; copy it again, or leave it out")
    names: dict[str, Any] = {
        "channels": channels,
        "exclude": exclude,
        "rename": rename or {},
        "marker": marker,
        "unit": unit,
        "montage": montage,
    }
    if unit is not None and unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    if suffix == ".csv":
        recording = read_csv(
            path,
            sfreq=sfreq,
            time_column=time_column,
            ignore_columns=ignore_columns,
            max_gap=max_gap,
            **names,
        )
    else:
        if time_column is not None or ignore_columns:
            raise RecordingError(
                f"{path} is no CSV file and has no columns; leave 'time_column' and 'ignore_columns' "
                "out"
            )
        recording = read_with_mne(path, **names)
        if sfreq is not None and abs(recording.sfreq - sfreq) > 0.01 * sfreq:
            raise RecordingError(
                f"{path} says that it is sampled at {recording.sfreq:g} Hz, but 'sfreq' says "
                f"{sfreq:g} Hz; leave 'sfreq' out"
            )
    recording = checked_signal(recording)
    if unit != "a.u.":
        check_scales(recording)
    return recording
