"""A continuous recording from EDF, BDF, BrainVision, EEGLAB or FIF, through MNE."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import (
    EegpromptError,
    MissingDependencyError,
    RecordingError,
    UnknownNameError,
)
from eegprompt.readers._annotations import annotations_of
from eegprompt.readers._file_checks import check_whole
from eegprompt.readers._recording import FORMATS, Recording, codes_at, pick_channels

__all__ = ["mne_errors", "read_with_mne", "recording_from_raw"]

# Annotations that say that the recording was interrupted, or that what they cover is not data.
_INTERRUPTIONS = re.compile(r"(boundary|BAD boundary|EDGE boundary|New Segment/?.*)", re.IGNORECASE)
_NO_DATA = "BAD_ACQ_SKIP"

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


def read_with_mne(
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
        annotations = annotations_of(path, raw)
        data = np.asarray(raw.get_data(picks=chosen), dtype=np.float64)
        values = None
        if marker is not None:
            numbers = raw.get_data(picks=[marker])[0] / _marker_unit(raw, marker)
            values = codes_at(np.round(numbers, 3))
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
