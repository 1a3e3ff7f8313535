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
from eegprompt.readers._channels import (
    default_channels,
    note_left_out,
    pick_channels,
    renamed_channels,
    standard_channels,
)
from eegprompt.readers._edf_file import Records, read_edf_header, read_records
from eegprompt.readers._file_checks import check_whole
from eegprompt.readers._recording import FORMATS, Recording, codes_at
from eegprompt.readers._units import scales, stored_units, told_units

__all__ = ["fif_parts", "mne_errors", "read_with_mne", "recording_from_raw"]

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
    """Turn whatever a parser raises into one sentence, and its warnings into notes."""
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
    unit: str | None,
    montage: str | None,
) -> Recording:
    """Read a recording of any format but CSV; see ``open_recording`` for the options."""
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
        raw,
        path,
        notes,
        channels=channels,
        exclude=exclude,
        rename=rename,
        marker=marker,
        unit=unit,
        montage=montage,
    )


def fif_parts(path: Path) -> list[Path]:
    """The files that MNE reads from a FIF recording on; none where it cannot be read."""
    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_whole(path)
            raw = mne.io.read_raw_fif(path, preload=False, verbose="CRITICAL")
    except Exception:  # what is wrong with it is said when it is read
        return []
    return [Path(str(part)) for part in raw.filenames if part is not None]


def recording_from_raw(
    raw: Any,
    path: Path,
    notes: list[str],
    *,
    channels: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    marker: str | None = None,
    unit: str | None = None,
    montage: str | None = None,
    units: Mapping[str, str] | None = None,
) -> Recording:
    """A recording from what MNE opened."""
    what = FORMATS.get(path.suffix.lower(), "a recording")
    with mne_errors(path, notes, what):
        stored = stored_units(raw, path)
        renamed = renamed_channels(path, raw.ch_names, rename or {}, notes)
        raw.rename_channels(renamed)
        standard = standard_channels([n for n in raw.ch_names if n != marker], montage, notes)
        raw.rename_channels(standard)
        stored = {standard.get(n := renamed.get(old, old), n): u for old, u in stored.items()}
        types = dict(zip(raw.ch_names, raw.get_channel_types()))
        stim = [name for name, kind in types.items() if kind == "stim"]
        usable = [name for name in raw.ch_names if name not in stim and name != marker]
        eeg = default_channels(
            [n for n in usable if types[n] == "eeg" and stored[n].may_be_eeg], montage
        )
        chosen = pick_channels(path, usable, eeg, channels, exclude, standard)
        if channels is None:
            unread = [n for n in [*usable, *stim] if n not in (*eeg, *exclude, marker)]
            note_left_out(unread, notes)
        if marker is not None and marker not in raw.ch_names:
            raise UnknownNameError(f"marker channel in {path.name}", marker, stim or raw.ch_names)
        rate = float(raw.info["sfreq"])
        if unit is None and units:
            told = {standard.get(n := renamed.get(old, old), n): u for old, u in units.items()}
            stored |= told_units(stored, {n: told[n] for n in chosen if n in told}, path, notes)
        data = np.asarray(raw.get_data(picks=chosen), dtype=np.float64)
        data *= scales([stored[name] for name in chosen], chosen, unit, path, notes)[:, None]
        records = _records(path, data.shape[1], rate, notes)
        annotations = annotations_of(path, raw, None if records is None else records.annotations)
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
    whole = ((0, data.shape[1], 0.0),)
    segments = whole if records is None else _between_gaps(records, data.shape[1], rate)
    if len(segments) > 1:
        lost = segments[-1][2] + (segments[-1][1] - segments[-1][0]) / rate - data.shape[1] / rate
        notes.append(
            f"{path.name} is discontinuous: {len(segments) - 1} gaps ({lost:.2f} s in all); no trial "
            "spans one"
        )
    n_gaps = len(segments) - 1
    segments = _cut_at_interruptions(segments, rate, annotations)
    if len(segments) - 1 > n_gaps:
        notes.append(
            f"{path.name} was interrupted {len(segments) - 1 - n_gaps} times; no trial spans an "
            "interruption"
        )
    return Recording(
        path=path,
        ch_names=tuple(chosen),
        sfreq=rate,
        data=data,
        stretches=segments,
        marker=values,
        annotations=annotations,
        positions=positions,
        facts=facts,
        notes=tuple(notes),
        parts=tuple(Path(str(part)) for part in raw.filenames[1:] if part is not None),
    )


def _records(path: Path, n_samples: int, sfreq: float, notes: list[str]) -> Records | None:
    """Times and annotations of an EDF+ or BDF+ file's data records; None for all else."""
    if path.suffix.lower() not in (".edf", ".bdf"):
        return None
    header = read_edf_header(path)
    most = max(
        n for n, text in zip(header.counts, header.is_text) if not text or len(header.counts) == 1
    )
    slow = [
        label
        for label, n, text in zip(header.labels, header.counts, header.is_text)
        if n != most and not text
    ]
    if slow:
        notes.append(
            f"{path.name}: MNE interpolated the channels that are sampled at a lower rate: "
            f"{', '.join(slow[:8])}"
        )
    records = read_records(path, header)
    if records is not None and not len(records.starts):
        raise RecordingError(f"{path} holds no whole data record; copy it again, or leave it out")
    if records is not None and len(records.starts) * most != n_samples:
        raise RecordingError(
            f"{path} holds {len(records.starts)} data records of {most} samples, but MNE reads "
            f"{n_samples} samples; export it again"
        )
    return records


def _between_gaps(
    records: Records, n_samples: int, sfreq: float
) -> tuple[tuple[int, int, float], ...]:
    """Segments of a discontinuous file, with the time of each."""
    starts = records.starts
    per_record = n_samples // len(starts)
    steps = np.diff(starts) - per_record / sfreq
    first = [0, *(int(i) + 1 for i in np.flatnonzero(steps > max(0.5 / sfreq, 1e-3)))]
    stop = [*first[1:], len(starts)]
    return tuple((a * per_record, b * per_record, float(starts[a])) for a, b in zip(first, stop))


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


def _cut_at_interruptions(
    segments: Sequence[tuple[int, int, float]],
    sfreq: float,
    annotations: Sequence[tuple[float, float, str]],
) -> tuple[tuple[int, int, float], ...]:
    """Part segments where annotations say that the recording was interrupted."""
    parts: list[tuple[int, int, float]] = []
    for begin, end, start in segments:
        cuts: list[tuple[int, int]] = []
        for onset, duration, description in annotations:
            at = begin + round((onset - start) * sfreq)
            if description.upper().startswith(_NO_DATA):
                cuts.append((at, begin + round((onset + duration - start) * sfreq)))
            elif _INTERRUPTIONS.fullmatch(description.strip()) and at > 0:
                cuts.append((at, at))
        first = begin
        for cut, resume in sorted(c for c in cuts if c[0] < end):
            if cut > first:
                parts.append((first, cut, start + (first - begin) / sfreq))
            first = max(first, min(resume, end))
        if first < end:
            parts.append((first, end, start + (first - begin) / sfreq))
    return tuple(parts)
