"""One continuous recording in memory, whatever file it came from.

Whatever the format, the signal is in volts, in segments without gaps, with the time of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, RecordingError

__all__ = ["FORMATS", "UNITS", "Recording", "checked_signal", "codes_at", "without_flat"]

# Suffix -> name of the format.
FORMATS = {
    ".edf": "EDF",
    ".bdf": "BDF",
    ".vhdr": "BrainVision",
    ".set": "EEGLAB",
    ".fif": "FIF",
    ".csv": "CSV",
}
_WRITTEN_AS_FLOAT = re.compile(r"-?[1-9]\d*\.0")  # whole numbers of a column of floats
UNITS = {"uV": 1e-6, "µV": 1e-6, "mV": 1e-3, "V": 1.0, "a.u.": 1.0}


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
    flat : tuple of str
        Channels that were left out because they hold one value all the time.
    jumps : int
        How often the clock of the time stamps jumped back. Then a time since the first sample names
        no sample, and `start` counts on without the jumps.
    parts : tuple of pathlib.Path
        Further files that were read as the recording's continuation.
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
    flat: tuple[str, ...] = ()
    jumps: int = 0
    parts: tuple[Path, ...] = ()

    def sample_at(self, seconds: float) -> int | None:
        """Sample nearest to a time since the first sample; None where nothing was recorded."""
        if self.jumps:
            raise RecordingError(
                f"{self.path}: the clock of its time stamps jumps back {self.jumps} times, so that "
                f"{seconds:g} s names no sample; give events by 'sample', or in a marker column"
            )
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


def checked_signal(recording: Recording) -> Recording:
    """A recording without its flat channels, of which a note says so."""
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
    return without_flat(recording, np.ptp(recording.data, axis=1) == 0)


def without_flat(recording: Recording, flat: np.ndarray) -> Recording:
    """A recording without the channels that hold one value all the time, of which a note says so.

    Raises
    ------
    RecordingError
        If all are flat.
    """
    if not flat.any():
        return recording
    names = tuple(name for name, is_flat in zip(recording.ch_names, flat) if is_flat)
    if flat.all():
        raise RecordingError(
            f"{recording.path}: all channels ({', '.join(names[:8])}) are flat (one value all the "
            "time); the recording holds no signal: leave it out"
        )
    return replace(
        recording,
        ch_names=tuple(name for name in recording.ch_names if name not in names),
        data=recording.data[~flat],
        flat=names,
        notes=(
            *recording.notes,
            f"{recording.path.name}: flat channels (one value all the time) were left out: "
            f"{', '.join(names)}",
        ),
    )


def codes_at(values: np.ndarray) -> np.ndarray:
    """Markers as text at every sample: zero and nothing are "", a whole number has no point.

    Text stays as it stands, so that 01 and 1 are two markers; a column of floats is whole numbers.

    Examples
    --------
    >>> codes_at(np.array([0.0, 1.0, 2.5, np.nan])).tolist()
    ['', '1', '2.5', '']
    >>> codes_at(np.array(["0", "01", " S  1 ", "0.0", None], dtype=object)).tolist()
    ['', '01', 'S  1', '', '']
    >>> codes_at(np.array(["0.0", "1.0", "14.0"], dtype=object)).tolist()
    ['', '1', '14']
    """
    import pandas as pd

    place, distinct = pd.factorize(values)  # a marker has few values: each is converted once
    names = [_code(v) for v in distinct]
    if all(_WRITTEN_AS_FLOAT.fullmatch(name) for name in names if name):
        names = [name.removesuffix(".0") for name in names]
    return np.array([*names, ""], dtype=object)[place]  # what is missing has place -1, the last


def _code(value: Any) -> str:
    if isinstance(value, str):
        text = value.strip()
        return "" if re.fullmatch(r"[+-]?0(\.0*)?", text) else text
    number = float(value)
    if not np.isfinite(number) or number == 0:
        return ""
    return str(int(number)) if number.is_integer() else repr(number)
