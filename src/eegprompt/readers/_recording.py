"""One continuous recording, read from whatever file holds it.

Formats: EDF, BDF, BrainVision, EEGLAB and FIF through MNE, and CSV. Whatever the format, the
signal comes out in volts, in stretches without gaps, with the time of each stretch.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import (
    EegpromptError,
    InputError,
    MissingDependencyError,
    RecordingError,
    UnknownNameError,
)
from eegprompt.core.files import content_key, sha256_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMATS",
    "UNITS",
    "Recording",
    "check_signal",
    "check_whole",
    "fif_is_whole",
    "fingerprint",
    "mne_errors",
    "open_recording",
    "pick_channels",
    "recording_files",
    "recording_from_raw",
]

# Suffix -> name of the format.
FORMATS = {
    ".edf": "EDF",
    ".bdf": "BDF",
    ".vhdr": "BrainVision",
    ".set": "EEGLAB",
    ".fif": "FIF",
    ".csv": "CSV",
}
UNITS = {"uV": 1e-6, "µV": 1e-6, "mV": 1e-3, "V": 1.0, "a.u.": 1.0}
TIME_COLUMNS = ("timestamps", "timestamp", "time", "times", "t")
# Annotations that say that the recording was interrupted, or that what they cover is not data.
_INTERRUPTIONS = re.compile(r"(boundary|BAD boundary|EDGE boundary|New Segment/?.*)", re.IGNORECASE)
_NO_DATA = "BAD_ACQ_SKIP"


@dataclass(frozen=True)
class Recording:
    """A continuous recording in memory.

    Parameters
    ----------
    path : pathlib.Path
        The file it came from.
    ch_names : tuple of str
        EEG channels, in the order of `data`.
    sfreq : float
        Sampling rate in Hz.
    data : array of float64, shape (n_chans, n_samples)
        In volts, or as they came where the unit is ``"a.u."``.
    stretches : tuple of (first, stop, start)
        Samples `first` to `stop` (exclusive) follow one another without a gap; `start` is the time
        of `first` in seconds since the recording's first sample.
    marker : array of str, shape (n_samples,), or None
        Marker at each sample; empty where there is none.
    annotations : tuple of (onset, duration, description)
        In seconds since the first sample.
    positions : dict of str to list of float
        Digitized electrode positions in meters, head coordinates; empty if the file has none.
    facts : dict
        What was measured while reading, for the record.
    notes : tuple of str
        What a person should know, one sentence each.
    """

    path: Path
    ch_names: tuple[str, ...]
    sfreq: float
    data: np.ndarray
    stretches: tuple[tuple[int, int, float], ...]
    marker: np.ndarray | None = None
    annotations: tuple[tuple[float, float, str], ...] = ()
    positions: Mapping[str, list[float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sample_at(self, seconds: float) -> int | None:
        """Sample nearest to a time since the first sample; None where nothing was recorded."""
        for first, stop, start in self.stretches:
            index = first + round((seconds - start) * self.sfreq)
            if first <= index < stop:
                return index
        return None

    def time_of(self, sample: int) -> float:
        """Seconds since the first sample at which `sample` was taken."""
        for first, stop, start in self.stretches:
            if first <= sample < stop:
                return start + (sample - first) / self.sfreq
        raise InputError(f"sample {sample} lies in no stretch of {self.path}")


# -- finding files -------------------------------------------------------------------------------
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


def fingerprint(path: Path) -> str:
    """SHA-256 of a recording's bytes; of the signal file where the header lies apart."""
    companion = {".vhdr": _brainvision_data_file, ".set": lambda p: p.with_suffix(".fdt")}.get(
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
        Unit of the values in a CSV file, where it is needed; the other formats say their own.
    sfreq : float, optional
        Sampling rate of a CSV file without time stamps, in Hz.
    time_column : str, optional
        Column of a CSV file with the time of each row in seconds; default one of `timestamps`,
        `timestamp`, `time`, `times`, `t`, where there is one.
    marker : str, optional
        Column or channel with the markers of stimuli.
    ignore_columns : sequence of str
        Columns of a CSV file that are no channels.
    max_gap : float
        A step between time stamps that is longer than a sample by more than this many seconds
        parts the recording; shorter ones are jitter.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        If the file cannot be read as what its name says, or holds NaN or a flat channel.
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
    }
    if suffix == ".csv":
        recording = _read_csv(
            path,
            unit=unit,
            sfreq=sfreq,
            time_column=time_column,
            ignore_columns=ignore_columns,
            max_gap=max_gap,
            **names,
        )
    else:
        recording = _read_with_mne(path, **names)
    check_signal(recording)
    return recording


def pick_channels(
    path: Path,
    available: Sequence[str],
    default: Sequence[str],
    channels: Sequence[str] | None,
    exclude: Sequence[str],
) -> list[str]:
    """Names of the channels to read, after renaming.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    available : sequence of str
        All channels that can be named.
    default : sequence of str
        Those to read when none are named.
    channels : sequence of str, optional
        Those named.
    exclude : sequence of str
        Those to leave out.

    Raises
    ------
    UnknownNameError
        If a channel that was named is not in the file.
    RecordingError
        If none is left, or one would be read twice.
    """
    for what, wanted in (("channel", channels or ()), ("channel to exclude", exclude)):
        for name in wanted:
            if name not in available:
                raise UnknownNameError(f"{what} in {path.name}", name, available)
    chosen = list(channels) if channels is not None else list(default)
    chosen = [name for name in chosen if name not in set(exclude)]
    if len(set(chosen)) != len(chosen):
        twice = [name for name, count in Counter(chosen).items() if count > 1]
        raise RecordingError(f"{path} has or is asked for channel '{twice[0]}' twice; rename one")
    if not chosen:
        raise RecordingError(
            f"{path} has no channel left to read; it holds {', '.join(available) or 'none'}: name "
            "some with 'channels'"
        )
    return chosen


def check_signal(recording: Recording) -> None:
    """Refuse NaN and flat channels, with the place and the remedy.

    Raises
    ------
    RecordingError
        If there are some.
    """
    for first, stop, start in recording.stretches:
        finite = np.isfinite(recording.data[:, first:stop])
        if not finite.all():
            channel, sample = (int(i) for i in np.argwhere(~finite)[0])
            seconds = start + sample / recording.sfreq
            raise RecordingError(
                f"{recording.path}: channel '{recording.ch_names[channel]}' holds a value that is "
                f"no number at {seconds:.3f} s (sample {first + sample}, counted from 0); mend the "
                "file, or leave the channel out with 'exclude'"
            )
    flat = np.ptp(recording.data, axis=1) == 0
    if flat.any():
        names = [name for name, is_flat in zip(recording.ch_names, flat) if is_flat]
        raise RecordingError(
            f"{recording.path}: channel{'s' * (len(names) > 1)} {', '.join(names)} "
            f"{'are' if len(names) > 1 else 'is'} flat (one value all the time); leave "
            f"{'them' if len(names) > 1 else 'it'} out with 'exclude'"
        )


def code_of(value: Any) -> str:
    """A marker's value as text: 1.0 is '1'; zero, nothing and NaN are ''.

    Examples
    --------
    >>> code_of(1.0), code_of("  S  1 "), code_of(float("nan")), code_of(0)
    ('1', 'S 1', '', '')
    """
    if value is None:
        return ""
    if isinstance(value, (int, float, np.integer, np.floating)):
        number = float(value)
        if not np.isfinite(number) or number == 0:
            return ""
        return str(int(number)) if number.is_integer() else repr(number)
    text = re.sub(r"\s+", " ", str(value)).strip()
    try:
        return code_of(float(text))
    except ValueError:
        return text


def _codes(values: np.ndarray) -> np.ndarray:
    """:func:`code_of` at every sample; a marker has few values, so each is converted once."""
    import pandas as pd

    place, distinct = pd.factorize(values)
    texts = np.array([*(code_of(v) for v in distinct), ""], dtype=object)
    return texts[place]  # what is missing has place -1, the last text


# -- CSV -----------------------------------------------------------------------------------------
def _read_csv(
    path: Path,
    *,
    channels: Sequence[str] | None,
    exclude: Sequence[str],
    rename: Mapping[str, str],
    marker: str | None,
    unit: str | None,
    sfreq: float | None,
    time_column: str | None,
    ignore_columns: Sequence[str],
    max_gap: float,
) -> Recording:
    if unit is None:
        raise RecordingError(
            f"{path}: a CSV file does not say the unit of its values; give one with 'unit' "
            "(uV, mV, V, or a.u. for standardized values)"
        )
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    table = _read_csv_table(path)
    columns = [str(c) for c in table.columns]
    if time_column is not None and time_column not in columns:
        raise UnknownNameError(f"time column in {path.name}", time_column, columns)
    if time_column is None:
        lowered = {c.lower(): c for c in columns}
        time_column = next((lowered[c] for c in TIME_COLUMNS if c in lowered), None)
    if marker is not None and marker not in columns:
        raise UnknownNameError(f"marker column in {path.name}", marker, columns)
    no_channels = {time_column, marker, *ignore_columns}
    available = [rename.get(c, c) for c in columns if c not in no_channels]
    original = {rename.get(c, c): c for c in columns if c not in no_channels}
    if len(original) != len(available):
        raise RecordingError(f"{path}: renaming gives two columns one name; choose other names")
    # What may be text is named first, so that a text column is never taken for a channel unseen.
    chosen = pick_channels(path, available, available, channels, exclude)
    signals = [_numbers(path, table[original[name]]) for name in chosen]
    data = np.stack(signals) * UNITS[unit]
    notes: list[str] = []
    if time_column is not None:
        times = _numbers(path, table[time_column])
        rate, stretches, facts = _clock(path, times, sfreq, max_gap, notes)
    elif sfreq is not None:
        rate, facts = float(sfreq), {"sfreq_from": "option"}
        if not (np.isfinite(rate) and rate > 0):
            raise RecordingError(f"'sfreq' must be a positive number of Hz, got {sfreq}")
        stretches = ((0, data.shape[1], 0.0),)
    else:
        raise RecordingError(
            f"{path} has no time stamps (columns: {', '.join(columns)}); name their column with "
            "'time_column', or give the sampling rate with 'sfreq'"
        )
    values = None
    if marker is not None:
        values = _codes(table[marker].to_numpy())
    return Recording(
        path=path,
        ch_names=tuple(chosen),
        sfreq=rate,
        data=data,
        stretches=stretches,
        marker=values,
        facts={**facts, "unit": unit},
        notes=tuple(notes),
    )


def _read_csv_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = stream.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise RecordingError(
            f"{path} is not UTF-8 text, so it is no CSV file; export it again as CSV (UTF-8)"
        ) from None
    separator = max(",;\t", key=header.count)
    names = [n.strip().strip('"') for n in header.split(separator)]
    if len(names) < 2 or "\0" in header:
        raise RecordingError(
            f"{path} is no CSV file with named columns (first line: {header[:60]!r}); it needs a "
            "header line and at least two columns"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise RecordingError(f"{path} has two columns named '{repeated[0]}'; rename one of them")
    if all(_is_number(name) for name in names):
        raise RecordingError(
            f"{path} has no header line (it begins with numbers); put the column names in line 1"
        )
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            header=0,
            names=names,
            index_col=False,
            low_memory=False,
            skip_blank_lines=False,
        )
    except Exception as problem:  # pandas raises many kinds; each means the file is no table
        reason = " ".join(str(problem).split())[:150] or type(problem).__name__
        raise RecordingError(
            f"{path} cannot be read as CSV ({reason}); look at the line it names, or copy the file "
            "again"
        ) from None
    if len(table) < 2:
        raise RecordingError(f"{path} holds {len(table)} rows of data; a recording needs more")
    last = _last_line(path)
    if '"' not in last and last.count(separator) < len(names) - 1:
        raise RecordingError(
            f"{path} breaks off in its last line (line {len(table) + 1} has "
            f"{last.count(separator) + 1} of {len(names)} columns); copy the file again, or delete "
            "that line if the recording was stopped there"
        )
    return table


def _last_line(path: Path) -> str:
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 65536))
        tail = stream.read().decode("utf-8", errors="replace")
    return tail.rstrip("\r\n").rsplit("\n", 1)[-1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path: Path, column: pd.Series) -> np.ndarray:
    """A column as float64; text in it is an error with its line."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    is_text = ~np.isfinite(values) & column.notna().to_numpy()
    if is_text.any():
        row = int(np.flatnonzero(is_text)[0])
        raise RecordingError(
            f"{path}, line {row + 2}: column '{column.name}' holds {str(column.iloc[row])[:30]!r}, "
            "which is no number; mend the line, or leave the column out with 'exclude'"
        )
    return values


def _clock(
    path: Path, times: np.ndarray, sfreq: float | None, max_gap: float, notes: list[str]
) -> tuple[float, tuple[tuple[int, int, float], ...], dict[str, Any]]:
    """Sampling rate, stretches without gaps, and what the time stamps show."""
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise RecordingError(f"{path}, line {row + 2} has no time stamp; mend or delete that line")
    steps = np.diff(times)
    typical = float(np.median(steps))
    if typical <= 0:
        raise RecordingError(
            f"{path}: the time stamps do not rise (median step {typical:g} s); name the right "
            "column with 'time_column', or give 'sfreq' and leave the column out"
        )
    gaps = np.flatnonzero(steps - typical > max_gap)
    bounds = [0, *(int(g) + 1 for g in gaps), len(times)]
    # The rate is measured over the longest stretch: time stamps of single samples jitter, because
    # they are often those of the packets in which samples arrive.
    longest = int(np.argmax(np.diff(bounds)))
    a, b = bounds[longest], bounds[longest + 1]
    span = float(times[b - 1] - times[a])
    measured = (b - a - 1) / span if span > 0 and b - a > 1 else np.nan
    if not (np.isfinite(measured) and 1 <= measured <= 100_000):
        raise RecordingError(
            f"{path}: the time stamps give a sampling rate of {measured:.4g} Hz, which no EEG has; "
            "time stamps must be in seconds: name their column with 'time_column', or give 'sfreq'"
        )
    if sfreq is not None and abs(measured - sfreq) > 0.01 * sfreq:
        raise RecordingError(
            f"{path}: the time stamps give {measured:.4g} Hz but 'sfreq' says {sfreq:g} Hz; leave "
            "'sfreq' out, or correct it"
        )
    if sfreq is not None:
        rate = float(sfreq)
    else:
        whole = float(round(measured))
        rate = whole if abs(measured - whole) <= 0.005 * measured else measured
    within = np.concatenate(
        [
            times[i:j] - np.polyval(np.polyfit(np.arange(j - i), times[i:j], 1), np.arange(j - i))
            if j - i > 2
            else np.zeros(j - i)
            for i, j in pairwise(bounds)
        ]
    )
    facts: dict[str, Any] = {
        "sfreq_from": "time stamps",
        "sfreq_measured": round(measured, 6),
        "jitter_ms": round(float(within.std() * 1e3), 3),
        "backward_steps": int((steps <= 0).sum()),
        "gaps": len(gaps),
    }
    if len(gaps):
        lost = float((steps[gaps] - 1 / rate).sum())
        notes.append(
            f"{path.name}: {len(gaps)} gaps ({lost:.2f} s in all) part the recording; no trial "
            "spans one"
        )
    stretches = tuple((i, j, float(times[i] - times[0])) for i, j in pairwise(bounds))
    return rate, stretches, facts


# -- everything else, through MNE ----------------------------------------------------------------
# What MNE says of a file that is whole, but of another kind -> what it is, and who reads it.
_OTHER_KIND = {
    "It must be 1 for raw": "holds trials that EEGLAB cut, not a continuous recording; import it with "
    "the reader 'mne'",
    "does not seem to contain epochs": "holds a continuous recording, not trials; import it with the "
    "reader 'continuous'",
    "No raw data in": "holds no continuous recording; if it holds Epochs, import it with the reader "
    "'mne' (averages and the like hold no trials)",
    "Could not find epochs data": "holds no Epochs; if it holds a continuous recording, import it with "
    "the reader 'continuous' (averages and the like hold no trials)",
    "Could not find event data": "holds no Epochs; if it holds a continuous recording, import it with "
    "the reader 'continuous' (averages and the like hold no trials)",
    "Could not find processed data": "holds no Epochs; if it holds a continuous recording, import it "
    "with the reader 'continuous'",
}


@contextmanager
def mne_errors(path: Path, notes: list[str], what: str) -> Iterator[None]:
    """Turn whatever a parser raises into one sentence, and its warnings into notes.

    Parameters
    ----------
    path : pathlib.Path
        The file that is read.
    notes : list of str
        Receives the warnings.
    what : str
        The format, in words.
    """
    import mne

    with warnings.catch_warnings(record=True) as caught, mne.use_log_level("ERROR"):
        warnings.simplefilter("always")
        try:
            yield
        except (EegpromptError, KeyboardInterrupt):
            raise
        except ImportError as problem:
            if "pymatreader" in str(problem) or "h5py" in str(problem):
                raise MissingDependencyError("pymatreader", "matlab") from None
            raise RecordingError(f"{path} needs a package that is missing: {problem}") from None
        except Exception as problem:  # a damaged file can break a parser in any way
            if "HDF reader for matlab" in str(problem):  # what SciPy says of MATLAB's version 7.3
                raise MissingDependencyError("pymatreader", "matlab") from None
            reason = " ".join(str(problem).split())[:200] or type(problem).__name__
            other = next((say for sign, say in _OTHER_KIND.items() if sign in reason), None)
            if other is not None:
                raise RecordingError(f"{path} {other}") from None
            raise RecordingError(
                f"{path} cannot be read as {what} ({reason}); it may be "
                "damaged or cut off: copy it again, or leave it out"
            ) from None
    for warning in caught:
        if issubclass(warning.category, RuntimeWarning):
            text = " ".join(str(warning.message).split())
            note = f"{path.name}: MNE says: {text}"
            if note not in notes:
                notes.append(note)


def _read_with_mne(
    path: Path,
    *,
    channels: Sequence[str] | None,
    exclude: Sequence[str],
    rename: Mapping[str, str],
    marker: str | None,
) -> Recording:
    import mne

    readers: dict[str, Callable[..., Any]] = {
        ".edf": mne.io.read_raw_edf,
        ".bdf": mne.io.read_raw_bdf,
        ".vhdr": mne.io.read_raw_brainvision,
        ".set": mne.io.read_raw_eeglab,
        ".fif": mne.io.read_raw_fif,
    }
    suffix = path.suffix.lower()
    notes: list[str] = []
    check_whole(path)
    with mne_errors(path, notes, FORMATS[suffix]):
        options: dict[str, Any] = {"preload": False}
        if suffix == ".fif":
            options["allow_maxshield"] = False
        raw = readers[suffix](path, **options)
    return recording_from_raw(
        raw, path, notes, channels=channels, exclude=exclude, rename=rename, marker=marker
    )


def check_whole(path: Path) -> None:
    """Compare what a file promises with what it holds, where MNE would read it cut off.

    Raises
    ------
    RecordingError
        If some is missing.
    """
    suffix = path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        _check_edf_size(path, 3 if suffix == ".bdf" else 2)
    if suffix == ".vhdr":
        _check_brainvision_size(path)
    if suffix == ".fif":
        fif_is_whole(path)


def recording_from_raw(
    raw: Any,
    path: Path,
    notes: list[str],
    *,
    channels: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    marker: str | None = None,
) -> Recording:
    """A recording from what MNE opened.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    path : pathlib.Path
        Its file, for messages.
    notes : list of str
        What was said while it was opened; more is added.
    channels, exclude, rename, marker
        As in :func:`open_recording`.

    Returns
    -------
    Recording
    """
    what = FORMATS.get(path.suffix.lower(), "a recording")
    rename = rename or {}
    with mne_errors(path, notes, what):
        if rename:
            raw.rename_channels({old: new for old, new in rename.items() if old in raw.ch_names})
        types = dict(zip(raw.ch_names, raw.get_channel_types()))
        stim = [name for name, kind in types.items() if kind == "stim"]
        usable = [name for name in raw.ch_names if name not in stim and name != marker]
        eeg = [name for name in usable if types[name] == "eeg"]
        chosen = pick_channels(path, usable, eeg, channels, exclude)
        if marker is not None and marker not in raw.ch_names:
            raise UnknownNameError(f"marker channel in {path.name}", marker, stim or raw.ch_names)
        rate = float(raw.info["sfreq"])
        annotations = tuple(
            (float(a["onset"]) - _first_time(raw), float(a["duration"]), str(a["description"]))
            for a in raw.annotations
        )
        data = np.asarray(raw.get_data(picks=chosen), dtype=np.float64)
        values = None
        if marker is not None:
            numbers = raw.get_data(picks=[marker])[0] / _marker_unit(raw, marker)
            values = _codes(np.round(numbers, 3))
        positions = _digitized(raw, chosen)
        bads = [name for name in raw.info["bads"] if name in chosen]
        facts: dict[str, Any] = {
            "sfreq_from": "file",
            "highpass": float(raw.info["highpass"]),
            "lowpass": float(raw.info["lowpass"]),
            "stim_channels": stim,
        }
    if bads:
        notes.append(
            f"{path.name} marks {', '.join(bads)} as bad; kept: leave such channels out with "
            "'exclude'"
        )
    stretches = _stretches(data.shape[1], rate, annotations)
    if len(stretches) > 1:
        notes.append(
            f"{path.name} was interrupted {len(stretches) - 1} times; no trial spans an interruption"
        )
    return Recording(
        path=path,
        ch_names=tuple(chosen),
        sfreq=rate,
        data=data,
        stretches=stretches,
        marker=values,
        annotations=annotations,
        positions=positions,
        facts=facts,
        notes=tuple(notes),
    )


def _marker_unit(raw: Any, marker: str) -> float:
    """What MNE multiplied a marker channel by: one that is stored as microvolts came out in volts."""
    if raw.get_channel_types(picks=[marker])[0] == "stim":
        return 1.0
    stored = str((getattr(raw, "_orig_units", None) or {}).get(marker, ""))
    return {"µV": 1e-6, "uV": 1e-6, "μV": 1e-6, "mV": 1e-3, "nV": 1e-9}.get(stored, 1.0)


def _first_time(raw: Any) -> float:
    """What annotation onsets count from, less the first sample: FIF files may begin late."""
    return float(raw.first_time)


def _digitized(raw: Any, chosen: Sequence[str]) -> dict[str, list[float]]:
    montage = raw.get_montage()
    if montage is None:
        return {}
    stored = montage.get_positions()
    if stored["coord_frame"] != "head":
        return {}
    return {
        name: [float(x) for x in where]
        for name, where in (stored["ch_pos"] or {}).items()
        if name in chosen and np.isfinite(where).all()
    }


def _stretches(
    n_samples: int, sfreq: float, annotations: Sequence[tuple[float, float, str]]
) -> tuple[tuple[int, int, float], ...]:
    """Part a recording where its annotations say that it was interrupted."""
    cuts: list[tuple[int, int]] = []
    for onset, duration, description in annotations:
        at = round(onset * sfreq)
        if description.upper().startswith(_NO_DATA):
            cuts.append((at, round((onset + duration) * sfreq)))
        elif _INTERRUPTIONS.fullmatch(description.strip()) and at > 0:
            cuts.append((at, at))
    stretches, first = [], 0
    for start, stop in sorted(cuts):
        if start > first:
            stretches.append((first, min(start, n_samples), first / sfreq))
        first = max(first, min(stop, n_samples))
    if first < n_samples:
        stretches.append((first, n_samples, first / sfreq))
    return tuple(s for s in stretches if s[1] > s[0])


def _check_edf_size(path: Path, sample_bytes: int) -> None:
    """Compare what the header promises with what the file holds."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as stream:
            head = stream.read(256)
            n_signals = int(head[252:256])
            n_records = int(head[236:244])
            header_bytes = int(head[184:192])
            signals = stream.read(n_signals * 256)
        at = n_signals * 216
        counts = [int(signals[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals)]
        if n_signals < 1 or header_bytes != 256 * (n_signals + 1) or min(counts) < 1:
            raise ValueError("impossible counts")
    except ValueError:
        raise RecordingError(
            f"{path} has no valid EDF/BDF header; it may be damaged or of another format: copy it "
            "again, or leave it out"
        ) from None
    if n_records < 0:  # the standard's sign of a recording that was never closed; MNE counts
        return
    promised = header_bytes + n_records * sum(counts) * sample_bytes
    if size < promised:
        raise RecordingError(
            f"{path} is cut off: its header promises {promised} bytes, the file holds {size}; copy "
            "it again, or leave it out"
        )


def fif_is_whole(path: Path) -> None:
    """Walk the chain of tags to the one that closes the file: MNE reads a cut-off file silently.

    Raises
    ------
    RecordingError
        If the chain breaks off.
    """
    size = path.stat().st_size
    place = 0
    with open(path, "rb") as stream:
        while True:
            stream.seek(place)
            head = stream.read(16)
            if len(head) < 16:
                break
            _, _, length, following = (
                int.from_bytes(head[i : i + 4], "big", signed=True) for i in (0, 4, 8, 12)
            )
            end = place + 16 + length
            if length < 0 or end > size:
                break
            if following == -1:
                return
            if following < 0 or 0 < following <= place:
                break  # a chain that runs in a circle
            place = following or end
    raise RecordingError(
        f"{path} is cut off or damaged: its chain of tags breaks off at byte {place} of {size}; copy "
        "it again, or leave it out"
    )


def _brainvision_fields(path: Path) -> dict[str, str]:
    text = path.read_bytes().decode("utf-8", errors="replace")
    pairs = re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", text, flags=re.MULTILINE)
    return {key.lower(): value for key, value in pairs}


def _brainvision_data_file(path: Path) -> Path | None:
    named = _brainvision_fields(path).get("datafile")
    return path.parent / named.replace("$b", path.stem) if named else None


def _check_brainvision_size(path: Path) -> None:
    fields = _brainvision_fields(path)
    signal = _brainvision_data_file(path)
    if signal is None:
        raise RecordingError(f"{path} names no DataFile; it is no BrainVision header")
    try:
        present = signal.is_file()
    except (OSError, ValueError):  # a damaged name, with a NUL or endless
        present = False
    if not present:
        raise RecordingError(
            f"{path} names its signal file {signal.name!r}, which is not beside it; copy the .vhdr, "
            ".vmrk and .eeg files together"
        )
    width = {"INT_16": 2, "IEEE_FLOAT_32": 4, "INT_32": 4, "UINT_16": 2}.get(
        fields.get("binaryformat", "").upper()
    )
    try:
        n_chans = int(fields.get("numberofchannels", "0"))
        points = int(fields.get("datapoints", "0"))
    except ValueError:
        return  # MNE says what is wrong with the header
    if width is None or n_chans < 1:
        return
    size = signal.stat().st_size
    if size % (width * n_chans) or (points and size < points * width * n_chans):
        raise RecordingError(
            f"{signal} is cut off: {size} bytes are no whole number of samples of {n_chans} channels"
            f"{f', or fewer than the {points} promised' if points else ''}; copy it again, or leave "
            "it out"
        )
