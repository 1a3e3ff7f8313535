"""Read continuous recordings of any format into a study.

A file, a folder or several of them; events from a marker column, from annotations, from an events
table, or windows where there are none; on MNE for formats and filters. What was done, to what, and
how many trials each step cost is recorded in ``study.json``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from eegprompt.core.errors import InputError, RecordingError, UnknownNameError
from eegprompt.core.files import sha256_file
from eegprompt.readers._event_names import Code, read_codes
from eegprompt.readers._events import FoundEvents, events_of, window_events
from eegprompt.readers._events_table import (
    TableColumns,
    read_events_table,
    rows_of_no_file,
    table_for,
)
from eegprompt.readers._identity import identify
from eegprompt.readers._images import category_folders
from eegprompt.readers._open_recording import (
    open_recording,
    recording_files,
    without_continuations,
)
from eegprompt.readers._recording import UNITS, Recording
from eegprompt.readers._recordings import CuttingOptions, RecordingOptions, RecordingsImport
from eegprompt.readers.base import Content, DatasetFacts, Import, Reader
from eegprompt.signal.steps import (
    Ledger,
    average_reference,
    band_pass,
    baseline,
    notch,
    resample,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ContinuousImport", "ContinuousOptions", "ContinuousReader"]

_PLAUSIBLE_VOLTS = (1e-8, 5e-2)  # standard deviation of a scalp channel, generously


class ContinuousOptions(RecordingOptions, CuttingOptions):
    """Settings of the reader for continuous recordings. What is not asked for is not done."""

    glob: str | None = Field(None, description="in folders take only names like this, e.g. *.edf")
    unit: str | None = Field(
        None, description="unit of the values: uV, mV, V or a.u.; CSV needs it"
    )
    sfreq: float | None = Field(None, gt=0, description="sampling rate in Hz; CSV may need it")
    time_column: str | None = Field(None, description="column of CSV files with seconds")
    max_gap: float = Field(0.1, gt=0, description="a longer step between time stamps is a gap [s]")
    marker: str | None = Field(None, description="column or channel with the events")
    events_table: str | None = Field(
        None,
        description="table with onset or sample, and category or image; {stem}: the file's name",
    )
    event_time: Literal["onset", "sample"] | None = Field(
        None, description="column of the events table that says when, where two disagree"
    )
    windows: tuple[float, float] | None = Field(
        None, description="length and step in seconds, for recordings without events"
    )
    category_from: Literal["file", "folder"] | None = Field(
        None, description="where windows take their category from"
    )
    min_events: int = Field(
        30, ge=1, description="a recording with fewer events was broken off and is left out"
    )
    filter_method: Literal["iir", "fir"] = Field(
        "iir", description="Butterworth of order 4, or MNE's FIR; both without phase shift"
    )
    tmin: float = Field(-0.1, description="start of a trial relative to onset [s]")
    tmax: float = Field(0.8, description="end of a trial relative to onset, included [s]")
    reject_by: Literal["peak", "peak-to-peak"] = Field(
        "peak", description="|value| after the baseline, or maximum minus minimum"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.unit is not None and self.unit not in UNITS:
            raise ValueError(str(UnknownNameError("unit", self.unit, UNITS)))
        sources = [k for k in ("marker", "events_table", "windows") if getattr(self, k) is not None]
        if len(sources) > 1:
            raise ValueError(
                f"events come from one place, got {' and '.join(sources)}; leave the others out"
            )
        if self.windows is not None:
            length, step = self.windows
            if not (length > 0 and step > 0):
                raise ValueError(
                    f"windows need a positive length and step in seconds, got {length:g},{step:g}"
                )
            if self.baseline is not None:
                raise ValueError("windows have no time before a stimulus; leave 'baseline' out")
            if self.category_from is None and "{category}" not in (self.pattern or ""):
                raise ValueError(
                    "windows need a category: say 'category_from' file or folder, or put {category} "
                    "in 'pattern'"
                )
        elif self.tmin >= self.tmax:
            raise ValueError(f"tmin must be below tmax, got {self.tmin:g} and {self.tmax:g}")
        if self.baseline is not None:
            a, b = self.baseline
            start, stop = self.tmin if a is None else a, self.tmax if b is None else b
            if not self.tmin <= start <= stop <= self.tmax:
                raise ValueError(
                    f"the baseline {start:g} to {stop:g} s must lie in the trial, {self.tmin:g} to "
                    f"{self.tmax:g} s"
                )
        if self.unit == "a.u." and self.reject is not None:
            raise ValueError("'reject' is in microvolts, but the unit is a.u.; leave it out")
        for column in ("category_column", "image_column", "event_time"):
            if getattr(self, column) is not None and self.events_table is None:
                raise ValueError(f"'{column}' is a column of an events table; give 'events_table'")
        return self


_Plan = tuple[list[tuple[Path, dict[str, str]]], dict[str, Code] | None, Counter[str]]


class ContinuousReader(Reader[ContinuousOptions, _Plan]):
    """Imports continuous recordings: EDF, BDF, BrainVision, EEGLAB, FIF and CSV, or folders of them.

    Where an events table names the image of each trial, the identity of images is known. Where
    only the category is, categories stand in for images: each has one row in the table of images,
    with one of its images to look at. ``study.info["recordings"]`` lists the files with what became
    of their events.

    Examples
    --------
    ``ContinuousReader().read("recordings", "study", marker="Marker0", events={"1": "house",
    "2": "face"}, unit="uV", exclude=["Right AUX"], bandpass=(1, 30), baseline=(-0.1, 0),
    reject=75, stimuli="stimuli")``
    """

    name = "continuous"
    options = ContinuousOptions

    def prepare(self, paths: list[Path], options: ContinuousOptions) -> _Plan:
        """Find the recordings, whose they are, and what their markers mean."""
        codes = read_codes(options.events)
        files = without_continuations(_files(paths, options))
        who = identify(
            files, pattern=options.pattern, subject=options.subject, session=options.session
        )
        _check_images_early(options, codes)
        unread: Counter[str] = Counter()
        if options.events_table is not None and "{stem}" not in options.events_table:
            unread = rows_of_no_file(Path(options.events_table), files)
        return list(zip(files, who)), codes, unread

    def write(self, job: Import[ContinuousOptions, _Plan]) -> Content:
        """Cut every recording into trials."""
        plan, codes, unread = job.plan
        job.facts = DatasetFacts("continuous recordings", job.options.citation, job.options.license)
        recordings = ContinuousImport(job, job.options, codes, len(plan) > 1)
        recordings.unread = unread
        return recordings.add_all(plan)


def _files(source: Sequence[Path], opts: ContinuousOptions) -> list[Path]:
    files = recording_files(source, opts.glob)
    tables = set()
    for file in files if opts.events_table else []:
        tables.add(table_for(file, str(opts.events_table)).resolve())
    # Events tables and images may lie among the recordings.
    files = [f for f in files if f.resolve() not in tables]
    if not files:
        raise RecordingError("only the events table was found, no recording; check the source")
    return files


def _check_images_early(opts: ContinuousOptions, codes: Mapping[str, Code] | None) -> None:
    """Find a wrong stimulus folder before the recordings are read, which may take minutes."""
    if codes and opts.events_table is None and not any(c.image for c in codes.values()):
        categories = sorted({str(c.category) for c in codes.values()})
        if opts.stimuli is not None:
            category_folders(opts.stimuli, [c for c in categories if c not in opts.images])
        for name in opts.images:
            if name not in categories:
                raise UnknownNameError("category in 'images'", name, categories)


# -- the import ----------------------------------------------------------------------------------
class ContinuousImport(RecordingsImport[ContinuousOptions]):
    """Cuts recordings into trials.

    Readers of datasets that are continuous recordings derive from it: they say where a recording
    and its events come from.
    """

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.unit = "a.u." if self.opts.unit == "a.u." else "V"
        self.meant: dict[str, str] = {}  # name in 'events' -> the marker it stood for
        self.largest_shift = 0.0

    def take(self, file: Path, entry: dict[str, Any], who: dict[str, str]) -> None:
        """Append a recording's trials, and its `entry` to the record."""
        opts = self.opts
        recording = self._like_the_first(self.open(file))
        found = self.events_in(recording, file, who)
        events = found.table
        entry |= {"sfreq": recording.sfreq, "seconds": round(_seconds(recording), 3)}
        entry |= {"facts": dict(recording.facts), "n_events": found.found}
        self.notes += recording.notes
        if len(events) < opts.min_events:
            some = f"only {len(events)} events, fewer than {opts.min_events}"
            self.skip(
                entry,
                f"{file.name} has {some if len(events) else 'no events'}",
                {**found.left_out, "too few in the recording": len(events)},
            )
            return
        if recording.parts:
            entry["parts"] = {part.name: sha256_file(part) for part in recording.parts}
            self.notes.append(
                f"{', '.join(entry['parts'])}: the continuation of {file.name}, and read with it"
            )
        trials, kept, dropped = self._trials(recording, events)
        self.writer.append(trials)
        key = (who["subject"], who["session"])
        for order, row in zip(np.flatnonzero(kept), events.loc[kept].to_dict("records")):
            self.rows.append(
                {
                    "subject": who["subject"],
                    "session": who["session"],
                    "run": who["run"],
                    "order": self.order[key] + int(order),
                    "onset": recording.time_of(int(row["sample"])),
                    "category": row["category"],
                    "image": row["image"],
                }
            )
        self.order[key] += len(events)
        dropped = {**found.left_out, **dropped}
        self.recordings.append({**entry, "dropped": dropped, "n_trials": int(kept.sum())})
        if not kept.any():
            self.notes.append(f"{file.name}: none of its {len(events)} events left a trial")

    def open(self, file: Path) -> Recording:
        """Read one recording."""
        opts = self.opts
        return open_recording(
            file,
            channels=opts.channels,
            exclude=opts.exclude,
            rename=opts.rename,
            unit=opts.unit,
            sfreq=opts.sfreq,
            time_column=opts.time_column,
            marker=opts.marker,
            max_gap=opts.max_gap,
            montage=opts.montage,
        )

    def _like_the_first(self, recording: Recording) -> Recording:
        """Refuse what does not go with the recordings before; bring channels into their order."""
        if self.first is None:
            # Only its description is kept: the signal may fill most of the memory.
            self.first = replace(recording, data=recording.data[:, :0].copy(), marker=None)
            self._plausible(recording)
            return recording
        recording = self.without_flat_of_first(recording)
        self.same_channels(recording)
        self.same_positions(recording)
        first = self.first
        if recording.sfreq != first.sfreq and self.opts.resample is None:
            raise RecordingError(
                f"{recording.path} is sampled at {recording.sfreq:g} Hz but {first.path} at "
                f"{first.sfreq:g} Hz; bring them to one rate with 'resample', or import them apart"
            )
        if recording.ch_names != first.ch_names:
            order = [recording.ch_names.index(c) for c in first.ch_names]
            self.notes.append(
                f"{recording.path.name}: channels were brought into the first's order"
            )
            recording = replace(recording, ch_names=first.ch_names, data=recording.data[order])
        self._plausible(recording)
        return recording

    def _plausible(self, recording: Recording) -> None:
        if self.opts.unit == "a.u.":
            return
        typical = float(np.median(recording.data.std(axis=1)))
        low, high = _PLAUSIBLE_VOLTS
        if not low <= typical <= high:
            remedy = (
                "correct 'unit'" if self.opts.unit else "say the unit of its values with 'unit'"
            )
            raise RecordingError(
                f"{recording.path}: its channels vary by {typical * 1e6:.3g} µV (median standard "
                f"deviation), which no scalp EEG does ({low * 1e6:g} to {high * 1e6:g} µV); {remedy}"
            )

    def events_in(self, recording: Recording, file: Path, who: dict[str, str]) -> FoundEvents:
        """Events of a recording, and how many were left out for which reason."""
        opts, notes = self.opts, self.notes
        if opts.windows is not None:
            category = who.get("category") or (
                file.parent.name if opts.category_from == "folder" else file.stem
            )
            return window_events(recording, *opts.windows, category)
        if opts.events_table is not None:
            many = self.several and "{stem}" not in opts.events_table
            return self.listed_events(recording, table_for(file, opts.events_table), many)
        return events_of(recording, self.codes, notes, repeated=opts.repeated, meant=self.meant)

    def listed_events(self, recording: Recording, table: Path, many: bool = False) -> FoundEvents:
        """Events of a recording from a table."""
        opts = self.opts
        return read_events_table(
            recording,
            table,
            columns=TableColumns(opts.category_column, opts.image_column, opts.event_time),
            codes=self.codes,
            notes=self.notes,
            repeated=opts.repeated,
            many=many,
        )

    def _trials(
        self, recording: Recording, events: pd.DataFrame
    ) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Cut trials: the array, which events gave one, and how many were dropped and why."""
        opts = self.opts
        rate = opts.resample or recording.sfreq
        if not self.sfreq:
            self.sfreq = rate
            self.edges = (
                (0, round(opts.windows[0] * rate) - 1)
                if opts.windows is not None
                else (round(opts.tmin * rate), round(opts.tmax * rate))
            )
            if self.edges[1] <= self.edges[0]:
                raise InputError(
                    f"a trial from {opts.tmin:g} to {opts.tmax:g} s has fewer than two samples at "
                    f"{rate:g} Hz; make it longer"
                )
        before, after = self.edges
        bad = [
            (onset, onset + duration)
            for onset, duration, text in recording.annotations
            if text.upper().startswith("BAD")
        ]
        samples = events["sample"].to_numpy()
        kept = np.zeros(len(events), bool)
        dropped = dict.fromkeys(("cut off", "marked bad", "amplitude", "repeated"), 0)
        pieces: list[np.ndarray] = []
        for first, stop, start in recording.stretches:
            here = np.flatnonzero((samples >= first) & (samples < stop))
            if not len(here):
                continue
            signal = self._filtered(recording, first, stop)
            if signal is None:
                dropped["cut off"] += len(here)
                continue
            for row in here:
                exact = (samples[row] - first) * rate / recording.sfreq
                at = round(exact)
                a, b = at + before, at + after + 1
                if a < 0 or b > signal.shape[1]:
                    dropped["cut off"] += 1
                    continue
                begin = start + (samples[row] - first) / recording.sfreq + before / rate
                end = begin + (b - a) / rate
                if any(begin < until and end > since for since, until in bad):
                    dropped["marked bad"] += 1
                    continue
                trial = signal[:, a:b]
                if opts.baseline is not None:
                    trial = baseline(trial, rate, before / rate, *opts.baseline)
                if opts.reject is not None and _beyond(trial, opts.reject * 1e-6, opts.reject_by):
                    dropped["amplitude"] += 1
                    continue
                if self._repeats(recording, events, int(row)):
                    dropped["repeated"] += 1
                    continue
                self.largest_shift = max(self.largest_shift, abs(exact - at) / rate)
                kept[row] = True
                pieces.append(trial.astype(np.float32))
        shape = (0, len(recording.ch_names), after - before + 1)
        return np.stack(pieces) if pieces else np.zeros(shape, np.float32), kept, dropped

    def _repeats(self, recording: Recording, events: pd.DataFrame, row: int) -> bool:
        """Whether a trial stands in the source a second time, by the samples as recorded."""
        event = events.iloc[row]
        first, last = (round(edge / self.sfreq * recording.sfreq) for edge in self.edges)
        begin = max(0, int(event["sample"]) + first)
        raw = recording.data[:, begin : int(event["sample"]) + last + 1]
        if not np.ptp(raw, axis=1).any():
            return False  # the amplifier was off: nothing that could repeat
        shown = event["image"] if event["image"] is not None else event["category"]
        return self.repeats.is_one((recording.path, int(event["sample"])), str(shown), raw)

    def _filtered(self, recording: Recording, first: int, stop: int) -> np.ndarray | None:
        """The steps on one stretch of the signal; None where it is too short for them."""
        opts = self.opts
        signal, rate = recording.data[:, first:stop], recording.sfreq
        try:
            if opts.notch:
                signal = notch(signal, rate, opts.notch)
            if opts.bandpass is not None:
                signal = band_pass(signal, rate, *opts.bandpass, method=opts.filter_method)
        except InputError:
            if (stop - first) < recording.data.shape[1]:
                return None  # a short stretch between two gaps
            raise
        if opts.reference == "average":
            signal = average_reference(signal)
        if opts.resample is not None and opts.resample != rate:
            signal = resample(signal, rate, opts.resample)
        return signal

    def steps(self, n_trials: int) -> list[dict[str, Any]]:
        """What was done to the signal, for the record."""
        opts = self.opts
        lost: Counter[str] = Counter()
        for entry in self.recordings:
            if "left_out" not in entry:
                lost.update(entry["dropped"])
        n_events = n_trials + sum(lost[why] for why in ("cut off", "marked bad", "amplitude"))
        ledger = Ledger()
        on = "continuous recording"
        if opts.notch:
            ledger.add("notch", frequencies=list(opts.notch), q=30, on=on)
        if opts.bandpass is not None:
            low, high = opts.bandpass
            kind = "Butterworth, order 4" if opts.filter_method == "iir" else "MNE FIR (firwin)"
            ledger.add("band-pass", low=low, high=high, filter=f"{kind}, zero phase", on=on)
        if opts.reference == "average":
            ledger.add("average reference", on=on)
        if opts.resample is not None and any(
            e.get("sfreq") not in (None, opts.resample) for e in self.recordings
        ):
            ledger.add(
                "resample", to=opts.resample, largest_onset_shift_s=self.largest_shift, on=on
            )
        counts = {
            "n_events": n_events,
            "dropped_cut_off": lost["cut off"],
            "dropped_marked_bad": lost["marked bad"],
        }
        first, last = (edge / self.sfreq for edge in self.edges)
        if opts.windows is not None:
            length, step = opts.windows
            ledger.add("windows", length=length, step=step, **counts)
        else:
            ledger.add("epoch", tmin=first, tmax=last, **counts)
        if opts.baseline is not None:
            ledger.add("baseline", start=opts.baseline[0], stop=opts.baseline[1], on="trials")
        if opts.reject is not None:
            ledger.add(
                "reject",
                limit_uV=opts.reject,
                by=opts.reject_by,
                dropped=lost["amplitude"],
                kept=n_trials,
            )
        return ledger.steps


def _beyond(trial: np.ndarray, limit: float, by: str) -> bool:
    values = np.ptp(trial, axis=1) if by == "peak-to-peak" else np.abs(trial)
    return bool(values.max() > limit)


def _seconds(recording: Recording) -> float:
    first, stop, start = recording.stretches[-1]
    return start + (stop - first) / recording.sfreq
