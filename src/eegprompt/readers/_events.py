"""When was what shown: events of a recording, from markers, annotations or windows; all counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import RecordingError
from eegprompt.readers._annotations import ON_RECORDING
from eegprompt.readers._event_names import Code, counted, match_names
from eegprompt.readers._recording import Recording

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Event", "FoundEvents", "events_of", "place_at", "sorted_events", "window_events"]

OUTSIDE, IN_GAP, NOT_NAMED = "outside the data", "in a gap", "not named"
REPEATED = "repeated at one sample"

Event = tuple[int, str, str | None, str | None]  # sample, name, category, image


@dataclass(frozen=True)
class FoundEvents:
    """The events of one recording: those that are wanted, and how many were left out and why.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `sample` (int), `code`, `category`, `image` (text or None), in order of time.
    found : int
        Events that the source holds.
    left_out : mapping of str to int
        Reason -> number of events.
    """

    table: pd.DataFrame
    found: int
    left_out: Mapping[str, int]


def place_at(recording: Recording, seconds: float) -> int | str:
    """Sample of an event, or why it has none."""
    sample = recording.sample_at(seconds)
    if sample is not None:
        return sample
    first, stop, start = recording.stretches[-1]
    begin, end = recording.stretches[0][2], start + (stop - first) / recording.sfreq
    return IN_GAP if begin <= seconds < end else OUTSIDE


def events_of(
    recording: Recording,
    codes: Mapping[str, Code] | None,
    notes: list[str],
    *,
    repeated: str = "error",
    meant: dict[str, str] | None = None,
) -> FoundEvents:
    """Events from the marker channel that was read, or else from annotations.

    Without `codes` the error lists the markers found. `meant` is the marker that each name stood for
    in the recordings before, and is added to.
    """
    events, where = _in_source(recording)
    counts = Counter(name for _, name in events)
    ordered = dict(sorted(counts.items()))
    if codes is None:
        listed = {n: c for n, c in ordered.items() if not ON_RECORDING.fullmatch(n)}
        raise RecordingError(
            f"{recording.path}: say what each {where} means with 'events', e.g. "
            f"1=house,2=face; it holds {counted(listed, 20)}"
        )
    named = match_names(codes, counts, str(recording.path))
    events = [
        (at, name) for at, name in events if name in named or not ON_RECORDING.fullmatch(name)
    ]
    if events and not named:
        raise RecordingError(
            f"{recording.path} holds none of the events {', '.join(codes)}; its {where}s are "
            f"{counted({n: counts[n] for n in ordered if not ON_RECORDING.fullmatch(n)}, 20)}: correct "
            "'events'"
        )
    _check_meant(recording, named, meant)
    responses = {m: n for m, n in named.items() if m != n and m.startswith("Response/")}
    if responses:
        notes.append(
            f"{recording.path.name}: "
            + ", ".join(f"'{name}' is the marker '{marker}'" for marker, name in responses.items())
        )
    left_out: Counter[str] = Counter()
    rows: list[Event] = []
    for at, name in events:
        if name not in named:
            left_out[NOT_NAMED] += 1
        elif isinstance(at, str):
            left_out[at] += 1
        else:
            code = codes[named[name]]
            rows.append((at, name, code.category, code.image))
    table = sorted_events(recording.path, rows, repeated, left_out)
    ignored = {n: c for n, c in ordered.items() if n not in named and not ON_RECORDING.fullmatch(n)}
    if ignored:
        notes.append(
            f"{recording.path.name}: {where}s not named in 'events' were left out: "
            f"{counted(ignored)}"
        )
    note_left_out(recording.path, left_out, len(events), notes)
    return FoundEvents(table, len(events), left_out)


def _in_source(recording: Recording) -> tuple[list[tuple[int | str, str]], str]:
    """All events with their sample (or why they have none) and their name, and what they are."""
    if recording.marker is not None:
        onsets = _onsets(recording.marker)
        inside = np.zeros(len(recording.marker), bool)
        for first, stop, _ in recording.stretches:
            inside[first:stop] = True
        return [(at if inside[at] else IN_GAP, name) for at, name in onsets], "marker"
    if recording.annotations:
        return [
            (place_at(recording, onset), text) for onset, _, text in recording.annotations
        ], "annotation"
    stim = list(recording.facts.get("stim_channels", []))
    channels = f" (stimulus channels: {', '.join(stim)})" if stim else ""
    raise RecordingError(
        f"{recording.path} has no annotations; say where the events are: the column or channel "
        f"with 'marker'{channels}, a file with 'events_table', or cut 'windows' without events"
    )


def _onsets(marker: np.ndarray) -> list[tuple[int, str]]:
    """Samples where a marker begins: a value held over several samples is one event."""
    before = np.concatenate([[""], marker[:-1]])
    starts = np.flatnonzero((marker != "") & (marker != before))
    return [(int(i), str(marker[i])) for i in starts]


def _check_meant(
    recording: Recording, named: Mapping[str, str], meant: dict[str, str] | None
) -> None:
    """Refuse a name that stands for one marker here and for another in a recording before."""
    if meant is None:
        return
    for marker, name in named.items():
        before = meant.setdefault(name, marker)
        if before != marker:
            raise RecordingError(
                f"{recording.path}: the event '{name}' is the marker '{marker}' here, but was "
                f"'{before}' in a recording before; name the one you mean in full, or both"
            )


def sorted_events(
    path: Path, events: Sequence[Event], repeated: str, left_out: Counter[str]
) -> pd.DataFrame:
    """Wanted events as a table in order of time, one a sample."""
    import pandas as pd

    table = pd.DataFrame(events, columns=["sample", "code", "category", "image"], dtype=object)
    table["sample"] = table["sample"].astype(np.int64)
    table = table.sort_values("sample", kind="stable").reset_index(drop=True)
    twice = table["sample"].duplicated(keep="last" if repeated == "last" else "first")
    if twice.any() and repeated == "error":
        sample = int(table.loc[twice, "sample"].iloc[0])
        names = table.loc[table["sample"] == sample, "code"].tolist()
        raise RecordingError(
            f"{path} has two events at sample {sample} ({' and '.join(map(repr, names))}), and "
            f"{int(twice.sum())} such events in all; say which to take with 'repeated' (first or "
            "last), or leave one of the names out of 'events'"
        )
    if twice.any():
        left_out[REPEATED] += int(twice.sum())
        table = table[~twice].reset_index(drop=True)
    return table


def note_left_out(path: Path, left_out: Mapping[str, int], found: int, notes: list[str]) -> None:
    """A sentence on events that were left out for another reason than their name."""
    others = {why: n for why, n in left_out.items() if n and why != NOT_NAMED}
    if others:
        reasons = ", ".join(f"{n} {why}" for why, n in others.items())
        notes.append(f"{path.name}: of {found} events were left out: {reasons}")


def window_events(recording: Recording, length: float, step: float, category: str) -> FoundEvents:
    """Begin of each window of `length` seconds, every `step` seconds, within unbroken segments."""
    n_times, n_step = round(length * recording.sfreq), round(step * recording.sfreq)
    if n_times < 2 or n_step < 1:
        raise RecordingError(
            f"windows of {length:g} s every {step:g} s are shorter than the samples of "
            f"{recording.path.name} ({1 / recording.sfreq:g} s)"
        )
    rows: list[Event] = []
    for first, stop, _ in recording.stretches:
        rows += [(i, category, category, None) for i in range(first, stop - n_times + 1, n_step)]
    return FoundEvents(sorted_events(recording.path, rows, "error", Counter()), len(rows), {})
