"""The unit of each channel: what headers say, what was asked for, and what values are plausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import RecordingError
from eegprompt.readers._edf_file import read_edf_header
from eegprompt.readers._recording import UNITS, Recording

__all__ = ["StoredUnit", "check_scales", "scales", "stored_units", "told_units"]

_VOLTS = {"v": 1.0, "mv": 1e-3, "uv": 1e-6, "µv": 1e-6, "μv": 1e-6, "\x83\xeav": 1e-6, "nv": 1e-9}
_UNSAID = {"", "n/a", "na", "none", "unknown", "-", "?"}
# A channel that varies this much more or less than half of the others is in another unit: from
# millivolts to microvolts it is a thousand.
_APART = 200.0


@dataclass(frozen=True)
class StoredUnit:
    """What a file says of a channel's unit, and what MNE multiplied its values by.

    Parameters
    ----------
    said : str
        The unit in the file; empty where there is none.
    applied : float
        What MNE multiplied the stored value by.
    """

    said: str
    applied: float

    @property
    def volts(self) -> float | None:
        """Volts in one of the unit; None where it is none of voltage or is not said."""
        return _VOLTS.get(self.said.casefold())

    @property
    def unsaid(self) -> bool:
        """Whether the file says no unit."""
        return self.said.casefold() in _UNSAID

    @property
    def may_be_eeg(self) -> bool:
        """Whether the unit does not rule EEG out."""
        return self.unsaid or self.volts is not None


def stored_units(raw: Any, path: Path) -> dict[str, StoredUnit]:
    """The unit of each channel of what MNE opened."""
    suffix = path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        header = read_edf_header(path)
        said = [unit for unit, text in zip(header.units, header.is_text) if not text]
        if len(said) == len(raw.ch_names):
            gains = raw._raw_extras[0]["units"]
            if len(gains) == len(said):
                return {n: StoredUnit(u, float(g)) for n, u, g in zip(raw.ch_names, said, gains)}
    if suffix == ".set":  # EEGLAB's unit is the microvolt, and its files say none
        return {name: StoredUnit("uV", 1e-6) for name in raw.ch_names}
    if suffix == ".fif":  # volts by its standard
        return {name: StoredUnit("V", 1.0) for name in raw.ch_names}
    stored = getattr(raw, "_orig_units", None) or {}
    units = {name: str(stored.get(name, "V")) for name in raw.ch_names}
    return {n: StoredUnit(u, _VOLTS.get(u.casefold(), 1.0)) for n, u in units.items()}


def told_units(
    stored: Mapping[str, StoredUnit], told: Mapping[str, str], path: Path, notes: list[str]
) -> dict[str, StoredUnit]:
    """The units of channels of which a table says one, compared with what the file says itself.

    Parameters
    ----------
    stored : mapping of str to StoredUnit
        What the file says, by channel.
    told : mapping of str to str
        What the table says.
    path : pathlib.Path
        The file, for messages.
    notes : list of str
        Receives a sentence where the table says what the file does not.

    Raises
    ------
    RecordingError
        If the two differ.
    """
    said = {name: StoredUnit(text.strip(), stored[name].applied) for name, text in told.items()}
    said = {name: unit for name, unit in said.items() if not unit.unsaid}
    differ = [
        f"{name} is in '{unit.said}' by the table and in '{stored[name].said}' by the file"
        for name, unit in said.items()
        # An EEGLAB set says no unit, and tables of it often name the volts that MNE gives.
        if not (path.suffix.lower() == ".set" and unit.volts == 1)
        and not stored[name].unsaid
        and (unit.volts is None or unit.volts != stored[name].volts)
    ]
    if differ:
        raise RecordingError(
            f"{path} and its table of channels disagree: {'; '.join(differ[:4])}; correct the table, or "
            "say with 'unit' in what the values are"
        )
    new = {name: unit for name, unit in said.items() if stored[name].unsaid}
    if new:
        some = ", ".join(f"{name} ({unit.said})" for name, unit in list(new.items())[:4])
        notes.append(f"{path.name} says no unit; its table of channels does: {some}")
    return new


def scales(
    stored: Sequence[StoredUnit],
    names: Sequence[str],
    unit: str | None,
    path: Path,
    notes: list[str],
) -> np.ndarray:
    """What to multiply the values by that MNE gave, so that they are volts."""
    if unit is not None:
        other = {n: s.said for n, s in zip(names, stored) if s.volts != UNITS[unit] or s.unsaid}
        if other:
            some = ", ".join(f"{n} ({said or 'none'})" for n, said in list(other.items())[:4])
            notes.append(
                f"the values are in {unit}, as asked for, where files say otherwise: {some}"
            )
        return np.array([UNITS[unit] / s.applied for s in stored])
    without = [n for n, s in zip(names, stored) if s.volts is None]
    if without and len(without) < len(names):
        units = sorted({s.said for s in stored if s.volts is not None})
        raise RecordingError(
            f"{path}: no unit of voltage is said for {', '.join(without[:8])}, but "
            f"{', '.join(units)} for others; leave such channels out with 'exclude', or pass 'unit' "
            f"(one of {', '.join(UNITS)}) for all channels"
        )
    if without:
        notes.append(f"{path.name} says no unit; its values were taken as volts")
    return np.array([(s.volts or 1.0) / s.applied for s in stored])


def check_scales(recording: Recording) -> None:
    """Refuse a channel that varies so much more or less than the others that its unit is another."""
    spread = _typical_spread(recording)
    # Channels without any variation for most of the time say nothing of their unit.
    known = spread > 0
    if known.sum() < 2:
        return
    typical = float(np.median(spread[known]))
    ratio = np.where(known, spread / typical, 1.0)
    apart = (ratio > _APART) | (ratio < 1 / _APART)
    if known.sum() == 2:
        apart = known & (spread.max() / spread[known].min() > _APART)
    if apart.any():
        some = ", ".join(
            f"{recording.ch_names[i]} ({spread[i] * 1e6:.3g} µV)" for i in np.flatnonzero(apart)[:4]
        )
        raise RecordingError(
            f"{recording.path}: {some} vary {_APART:g} times more or less than the other channels "
            f"({typical * 1e6:.3g} µV), as channels in another unit do; leave them out with "
            "'exclude', or mend their unit in the file"
        )


def _typical_spread(recording: Recording) -> np.ndarray:
    """Median standard deviation of a second: neither drifts nor single artifacts change it much."""
    length = max(2, round(recording.sfreq))
    blocks = [
        recording.data[:, at : at + length].std(axis=1)
        for first, stop, _ in recording.stretches
        for at in range(first, max(first + 1, stop - length + 1), length)
    ]
    return np.median(blocks, axis=0)
