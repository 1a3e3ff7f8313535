"""Read continuous recordings of any format into a study.

A file, a folder or several of them; events from a marker column, from annotations, from an events
table, or windows where there are none; on MNE for formats and filters. What was done, to what, and
how many trials each step cost is recorded in ``study.json``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from eegprompt.core.errors import InputError, RecordingError, UnknownNameError
from eegprompt.core.files import provenance, sha256_file
from eegprompt.core.progress import Progress
from eegprompt.readers._channels import (
    default_channels,
    note_left_out,
    pick_channels,
    place_channels,
    standard_channels,
)
from eegprompt.readers._duplicates import Repeats
from eegprompt.readers._event_names import Code, counted, read_codes
from eegprompt.readers._events import FoundEvents, events_of, window_events
from eegprompt.readers._events_table import (
    TableColumns,
    read_events_table,
    rows_of_no_file,
    table_for,
)
from eegprompt.readers._images import (
    add_image,
    category_folders,
    category_images,
    check_stimuli,
    find_images,
    image_ids_of,
)
from eegprompt.readers._open_recording import (
    fingerprint,
    open_recording,
    recording_files,
    without_continuations,
)
from eegprompt.readers._recording import UNITS, Recording
from eegprompt.readers.base import ReaderOptions
from eegprompt.signal.steps import (
    Ledger,
    average_reference,
    band_pass,
    baseline,
    notch,
    resample,
)
from eegprompt.study import Accounting, Study, StudyWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ContinuousOptions", "ContinuousReader", "RecordingsImport", "identify"]

_APART = 2e-3  # meters by which electrodes may lie elsewhere in another recording, unsaid
_PLAUSIBLE_VOLTS = (1e-8, 5e-2)  # standard deviation of a scalp channel, generously


class ContinuousOptions(ReaderOptions):
    """Settings of the reader for continuous recordings. What is not asked for is not done."""

    name: str | None = Field(None, description="the study's name; default the source's")
    license: str = Field("", description="under which the recording may be used")
    citation: str = Field("", description="what to cite")
    design: Literal["block", "randomised", "unknown"] = Field(
        "unknown", description="order of presentation"
    )
    overwrite: bool = Field(False, description="replace a study that is there already")
    glob: str | None = Field(None, description="in folders take only names like this, e.g. *.edf")

    pattern: str | None = Field(
        None, description="end of each path, e.g. 'sub{subject}/ses{session}/{run}.edf'"
    )
    subject: str | None = Field(None, description="the subject of all recordings")
    session: str | None = Field(None, description="the session of all recordings")

    channels: tuple[str, ...] | None = Field(None, description="channels to keep; default all EEG")
    exclude: tuple[str, ...] = Field((), description="channels to leave out")
    rename: dict[str, str] = Field({}, description="channel names in the file -> names to use")
    montage: str | None = Field(
        "standard_1005", description="template of electrode positions, 'file', or none"
    )
    unit: str | None = Field(
        None, description="unit of the values: uV, mV, V or a.u.; CSV needs it"
    )
    sfreq: float | None = Field(None, gt=0, description="sampling rate in Hz; CSV may need it")
    time_column: str | None = Field(None, description="column of CSV files with seconds")
    max_gap: float = Field(0.1, gt=0, description="a longer step between time stamps is a gap [s]")

    marker: str | None = Field(None, description="column or channel with the events")
    events: dict[str, str] | Path | None = Field(
        None, description="marker -> category, or a table with event, category, image"
    )
    events_table: str | None = Field(
        None,
        description="table with onset or sample, and category or image; {stem}: the file's name",
    )
    category_column: str | None = Field(None, description="column of the events table")
    image_column: str | None = Field(None, description="column of the events table")
    event_time: Literal["onset", "sample"] | None = Field(
        None, description="column of the events table that says when, where two disagree"
    )
    repeated: Literal["error", "first", "last"] = Field(
        "error", description="which of several wanted events at one sample to take"
    )
    windows: tuple[float, float] | None = Field(
        None, description="length and step in seconds, for recordings without events"
    )
    category_from: Literal["file", "folder"] | None = Field(
        None, description="where windows take their category from"
    )
    duplicates: Literal["drop", "keep", "refuse"] = Field(
        "drop", description="trials that repeat another sample for sample"
    )
    min_events: int = Field(
        30, ge=1, description="a recording with fewer events was broken off and is left out"
    )

    notch: tuple[float, ...] = Field((), description="line frequencies to remove [Hz]")
    bandpass: tuple[float | None, float | None] | None = Field(
        None, description="lower and upper edge [Hz]"
    )
    filter_method: Literal["iir", "fir"] = Field(
        "iir", description="Butterworth of order 4, or MNE's FIR; both without phase shift"
    )
    reference: Literal["average"] | None = Field(None, description="'average' or as recorded")
    resample: float | None = Field(None, gt=0, description="new sampling rate [Hz]")
    tmin: float = Field(-0.1, description="start of a trial relative to onset [s]")
    tmax: float = Field(0.8, description="end of a trial relative to onset, included [s]")
    baseline: tuple[float | None, float | None] | None = Field(
        None, description="stretch whose mean is subtracted [s]"
    )
    reject: float | None = Field(
        None, gt=0, description="leave out trials beyond this many microvolts"
    )
    reject_by: Literal["peak", "peak-to-peak"] = Field(
        "peak", description="|value| after the baseline, or maximum minus minimum"
    )

    stimuli: Path | None = Field(None, description="folder of the images that were shown")
    images: dict[str, Path] = Field({}, description="category -> its image, or folder of them")
    allow_missing_images: bool = Field(False, description="go on without images not found")

    @field_validator("montage", mode="before")
    @classmethod
    def _no_montage(cls, value: Any) -> Any:
        return None if value in ("none", "") else value

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


class ContinuousReader:
    """Imports continuous recordings: EDF, BDF, BrainVision, EEGLAB, FIF and CSV.

    Where an events table names the image of each trial, the identity of images is known. Where
    only the category is, categories stand in for images: each has one row in the table of images,
    with one of its images to look at.

    Examples
    --------
    ``ContinuousReader().read("recordings", "study", marker="Marker0", events={"1": "house",
    "2": "face"}, unit="uV", exclude=["Right AUX"], bandpass=(1, 30), baseline=(-0.1, 0),
    reject=75, stimuli="stimuli")``
    """

    name = "continuous"
    options = ContinuousOptions

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import recordings into a new study.

        Parameters
        ----------
        source : path-like or iterable of path-like
            Recordings, and folders that are searched for them.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (done, total, label) after each recording.
        **options
            See :class:`ContinuousOptions`.

        Returns
        -------
        Study
            ``study.info["notes"]`` says, a sentence each, what a person should know;
            ``study.info["recordings"]`` lists the files with what became of their events.

        Raises
        ------
        InputError
            If an option is unknown or not allowed.
        RecordingError
            If a recording cannot be used, or no trial is left.
        """
        opts = ContinuousOptions.parse(options)
        codes = read_codes(opts.events)
        files = without_continuations(_files(source, opts))
        who = identify(files, pattern=opts.pattern, subject=opts.subject, session=opts.session)
        _check_images_early(opts, codes)
        unread: Counter[str] = Counter()
        if opts.events_table is not None and "{stem}" not in opts.events_table:
            unread = rows_of_no_file(Path(opts.events_table), files)
        with StudyWriter.open(out, overwrite=opts.overwrite) as writer:
            job = RecordingsImport(opts, codes, writer, several=len(files) > 1)
            job.unread = unread
            for index, (file, identity) in enumerate(zip(files, who)):
                if progress is not None:
                    progress(index, len(files), file.name)
                job.add(file, identity)
            if progress is not None:
                progress(len(files), len(files), "images")
            info, trials, images = job.result(source)
            writer.finish(info=info, trials=trials, images=images)
        return Study(out)


# -- which file is whose -------------------------------------------------------------------------
def _files(source: str | Path | Iterable[str | Path], opts: ContinuousOptions) -> list[Path]:
    files = recording_files(source, opts.glob)
    tables = set()
    for file in files if opts.events_table else []:
        tables.add(table_for(file, str(opts.events_table)).resolve())
    # Events tables and images may lie among the recordings.
    files = [f for f in files if f.resolve() not in tables]
    if not files:
        raise RecordingError("only the events table was found, no recording; check the source")
    return files


_ENTITY = {
    "subject": re.compile(
        r"(?:^|/)(?:sub-([A-Za-z0-9]+)|(?:subject|subj|sub)[-_ ]?(\d+))(?=[/_.]|$)", re.I
    ),
    "session": re.compile(
        r"(?:^|[/_])(?:ses-([A-Za-z0-9]+)|(?:session|sess|ses)[-_ ]?(\d+))(?=[/_.]|$)", re.I
    ),
    "run": re.compile(r"(?:^|[/_])run[-_ ]?([A-Za-z0-9]+)(?=[/_.]|$)", re.I),
}


def identify(
    files: Sequence[Path],
    *,
    pattern: str | None = None,
    subject: str | None = None,
    session: str | None = None,
) -> list[dict[str, str]]:
    """Subject, session and run of each recording, from its path.

    Parameters
    ----------
    files : sequence of pathlib.Path
    pattern : str, optional
        The end of each path with the names ``{subject}``, ``{session}``, ``{run}``, ``{category}``
        and ``{_}`` (anything) in it. Without one, names like ``subject1``, ``sub-01``, ``ses-2``
        and ``run-3`` are found by themselves.
    subject, session : str, optional
        For all recordings.

    Returns
    -------
    list of dict
        With `subject`, `session`, `run` (numbered within session where the path has none), and
        `category` where the pattern names it.

    Raises
    ------
    RecordingError
        If the pattern does not fit a path, or recordings lie in several folders and none names
        its subject.

    Examples
    --------
    >>> who = identify([Path("S001R03.edf")], pattern="S{subject}R{run}.edf")
    >>> who[0]["subject"], who[0]["run"]
    ('001', '03')
    """
    result: list[dict[str, str]] = []
    regex = _as_regex(pattern) if pattern else None
    for file in files:
        path = file.resolve().as_posix()
        entry: dict[str, str] = {}
        if regex is not None:
            match = regex.search(path)
            if match is None:
                raise RecordingError(
                    f"the pattern '{pattern}' does not fit {file}; it must describe the end of each "
                    "path, e.g. 'subject{subject}/session{session}/{_}.csv'"
                )
            entry |= match.groupdict()
        for what, found_by in _ENTITY.items():
            if what not in entry and (found := found_by.findall(path)):
                # The last one: folders further up may belong to something else.
                last = found[-1]
                entry[what] = last if isinstance(last, str) else next(filter(None, last))
        if subject is not None:
            entry["subject"] = subject
        if session is not None:
            entry["session"] = session
        result.append(entry)
    nameless = [f for f, e in zip(files, result) if "subject" not in e]
    if nameless and (len({f.resolve().parent for f in files}) > 1 or len(nameless) < len(files)):
        raise RecordingError(
            f"it is not clear whose recording {nameless[0]} is; say 'subject' if all are of one "
            "person, or describe the paths with 'pattern', e.g. '{subject}/{_}.edf'"
        )
    taken: Counter[tuple[str, str]] = Counter()
    for entry in result:
        entry.setdefault("subject", "1")
        entry.setdefault("session", "1")
    explicit = {(e["subject"], e["session"], e["run"]) for e in result if "run" in e}
    if len(explicit) < sum("run" in e for e in result):
        for entry in result:  # one run in several files (or names that say little): number them
            entry.pop("run", None)
    for entry in result:
        key = (entry["subject"], entry["session"])
        taken[key] += 1
        entry.setdefault("run", str(taken[key]))
    return result


def _as_regex(pattern: str) -> re.Pattern[str]:
    allowed = ("subject", "session", "run", "category")
    text, seen = "", set()
    for part in re.split(r"(\{[^{}]*\})", pattern.replace("\\", "/")):
        if not (part.startswith("{") and part.endswith("}")):
            text += re.escape(part)
            continue
        name = part[1:-1]
        if name == "_":
            text += "[^/]*?"
        elif name not in allowed:
            raise UnknownNameError("name in 'pattern'", name, [*allowed, "_"])
        elif name in seen:
            text += f"(?P={name})"
        else:
            seen.add(name)
            text += f"(?P<{name}>[^/]+?)"
    return re.compile(f"(?:^|/){text}$")


def _check_images_early(opts: ContinuousOptions, codes: Mapping[str, Code] | None) -> None:
    """Find a wrong stimulus folder before the recordings are read, which may take minutes."""
    check_stimuli(opts.stimuli)
    if codes and opts.events_table is None and not any(c.image for c in codes.values()):
        categories = sorted({str(c.category) for c in codes.values()})
        if opts.stimuli is not None:
            category_folders(opts.stimuli, [c for c in categories if c not in opts.images])
        for name in opts.images:
            if name not in categories:
                raise UnknownNameError("category in 'images'", name, categories)


# -- the import ----------------------------------------------------------------------------------
class RecordingsImport:
    """One import under way: adds recordings one by one, then gives the tables.

    Readers of datasets that are continuous recordings derive from it: they say where a recording
    and its events come from, and the steps, the trials, the images and the record are these.

    Parameters
    ----------
    opts : ContinuousOptions
    codes : dict of str to Code, or None
        Meaning of the markers.
    writer : StudyWriter
        Receives the trials.
    several : bool
        Whether more than one recording is imported.
    """

    reader = "continuous"
    source = "continuous recordings"

    def __init__(
        self,
        opts: ContinuousOptions,
        codes: dict[str, Code] | None,
        writer: StudyWriter,
        several: bool,
    ):
        self.opts, self.codes, self.writer, self.several = opts, codes, writer, several
        self.rows: list[dict[str, Any]] = []
        self.recordings: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.spelled: dict[str, str] = {}  # a file's spelling of a channel -> the template's
        self.skipped: list[str] = []
        self.seen: dict[str, Path] = {}
        self.meant: dict[str, str] = {}  # name in 'events' -> the marker it stood for
        self.unread: Counter[str] = Counter()  # file in a common events table -> its rows
        self.repeats = Repeats(opts.duplicates, None, _where)
        self.order: Counter[tuple[str, str]] = Counter()
        self.first: Recording | None = None
        self.sfreq = 0.0  # after resampling
        self.edges = (0, 0)  # first and last sample of a trial relative to its event
        self.largest_shift = 0.0

    # -- one recording ---------------------------------------------------------------------------
    def add(self, file: Path, who: dict[str, str]) -> None:
        """Read one recording and append its trials.

        Parameters
        ----------
        file : pathlib.Path
        who : dict
            Its `subject`, `session` and `run`, and its `category` where that is known.
        """
        digest = fingerprint(file)
        entry: dict[str, Any] = {"file": file.name, "sha256": digest, **who}
        if digest in self.seen:
            twin = next(e for e in self.recordings if e["sha256"] == digest)
            self._skip(
                {**entry, "n_events": twin["n_events"]},
                f"{file.name} repeats {self.seen[digest].name} byte for byte",
                {"recording repeated": twin["n_events"]},
            )
            return
        self.seen[digest] = file
        self.take(file, entry, who)

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
            self._skip(
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

    def _skip(self, entry: dict[str, Any], why: str, dropped: Mapping[str, int]) -> None:
        """Leave a recording out; `dropped` says where its events went."""
        self.skipped.append(why)
        self.notes.append(f"{why}; it was left out")
        self.recordings.append({**entry, "dropped": dict(dropped), "n_trials": 0, "left_out": why})

    def _like_the_first(self, recording: Recording) -> Recording:
        """Refuse what does not go with the recordings before; bring channels into their order."""
        if self.first is None:
            # Only its description is kept: the signal may fill most of the memory.
            self.first = replace(recording, data=recording.data[:, :0].copy(), marker=None)
            self._plausible(recording)
            return recording
        recording = self._without_flat_of_first(recording)
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

    def _without_flat_of_first(self, recording: Recording) -> Recording:
        """Leave out channels that are flat in the first recording, which the study has not."""
        assert self.first is not None
        flat = [c for c in recording.ch_names if c in self.first.flat]
        if not flat:
            return recording
        self.notes.append(
            f"{recording.path.name}: {', '.join(flat)} left out, because flat in {self.first.path.name}"
        )
        kept = [i for i, c in enumerate(recording.ch_names) if c not in flat]
        names = tuple(recording.ch_names[i] for i in kept)
        return replace(recording, ch_names=names, data=recording.data[kept])

    def same_channels(self, recording: Recording) -> None:
        """Refuse a recording that has other channels than the first."""
        first = self.first
        assert first is not None
        missing = [c for c in first.ch_names if c not in recording.ch_names]
        extra = [c for c in recording.ch_names if c not in first.ch_names]
        flat = [c for c in missing if c in recording.flat]
        if flat:
            raise RecordingError(
                f"{recording.path}: {', '.join(flat)} flat (one value all the time), but not in "
                f"{first.path}; leave such channels out of all with 'exclude', or the recording"
            )
        if missing or extra:
            difference = "; ".join(
                f"{word} {', '.join(names)}"
                for word, names in (("without", missing), ("with", extra))
                if names
            )
            raise RecordingError(
                f"{recording.path} has other channels than {first.path} ({difference}); keep those "
                "that all have with 'channels' or 'exclude', or import the recordings apart"
            )

    def same_positions(self, recording: Recording) -> None:
        """Note where electrodes were measured elsewhere than in the first recording."""
        assert self.first is not None
        own = self.first.positions
        apart = [
            float(np.linalg.norm(np.subtract(where, own[name])))
            for name, where in recording.positions.items()
            if name in own
        ]
        if apart and max(apart) > _APART:
            self.notes.append(
                f"{recording.path.name}: electrodes lie up to {max(apart) * 1e3:.0f} mm from where they "
                f"lie in {self.first.path.name}, whose positions the study has"
            )

    def standard(self, names: Sequence[str]) -> dict[str, str]:
        """The template's spelling of a file's channels, by which they may be asked for as well."""
        found = standard_channels(names, self.opts.montage, self.notes)
        self.spelled |= found
        return found

    def picked(self, file: Path, types: Mapping[str, str]) -> list[str]:
        """EEG channels to keep of those in a file, by the options."""
        eeg = [name for name, kind in types.items() if kind == "eeg"]
        default = default_channels(eeg, self.opts.montage)
        if self.opts.channels is None:
            left = [n for n in types if n not in default and n not in self.opts.exclude]
            note_left_out(left, self.notes)
        asked = (self.opts.channels, self.opts.exclude)
        return pick_channels(file, list(types), default, *asked, self.spelled)

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

    # -- the whole -------------------------------------------------------------------------------
    def result(
        self, source: str | Path | Iterable[str | Path]
    ) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
        """Facts, trials and images of the study; refuses when nothing is left."""
        import pandas as pd

        opts = self.opts
        if not self.rows:
            if self.skipped:
                found = any(entry.get("n_events") for entry in self.recordings)
                remedy = "lower 'min_events', or check" if found else "check"
                raise RecordingError(
                    f"no recording is left: {'; '.join(self.skipped[:5])}; {remedy} where the events "
                    "are"
                )
            lost: Counter[str] = Counter()
            for entry in self.recordings:
                lost.update(entry["dropped"])
            reasons = ", ".join(f"{n} {why}" for why, n in lost.items() if n)
            raise RecordingError(
                f"no trial is left ({reasons}); check 'reject', 'unit', 'tmin' and 'tmax'"
            )
        assert self.first is not None
        trials = pd.DataFrame(self.rows)
        known = trials["image"].notna()
        if known.any() and not known.all():
            raise RecordingError(
                f"{int((~known).sum())} of {len(trials)} trials name no image while others do; name "
                "the image of each, or of none"
            )
        trials, images = self._known(trials) if known.any() else self._by_category(trials)
        design = self._design(trials)
        self._note_jitter()
        if self.unread:
            self.notes.append(
                f"the events table names files that were not read: {counted(self.unread)} rows"
            )
        self.notes += self.repeats.notes()
        info = {
            "name": opts.name or _default_name(source),
            "source": self.source,
            "license": opts.license,
            "citation": opts.citation,
            "ch_names": list(self.first.ch_names),
            "ch_pos": self._positions(),
            "sfreq": self.sfreq,
            "tmin": self.edges[0] / self.sfreq,
            "unit": "a.u." if opts.unit == "a.u." else "V",
            "montage": self.montage_name(),
            "design": design,
            "image_identity": "known" if known.any() else "category",
            "steps": self.steps(len(trials)),
            "accounting": self.accounting().to_json(),
            "recordings": self.recordings,
            "notes": list(dict.fromkeys(self.notes)),
            "provenance": provenance(
                reader=self.reader,
                options=opts.model_dump(mode="json"),
                sources={e["file"]: e["sha256"] for e in self.recordings}
                | {name: sha for e in self.recordings for name, sha in e.get("parts", {}).items()},
            ),
        }
        return info, trials.drop(columns=["image"]), images

    def _known(self, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Images by name."""
        import pandas as pd

        opts = self.opts
        names = sorted(trials["image"].astype(str).unique())
        ids = image_ids_of(names)
        found: dict[str, Path] = {}
        if opts.stimuli is not None:
            found = find_images(names, opts.stimuli)
            missing = [n for n in names if n not in found]
            if missing and not opts.allow_missing_images:
                raise RecordingError(
                    f"{len(missing)} of {len(names)} images are not below {opts.stimuli} (first: "
                    f"{', '.join(missing[:3])}); add them, or pass 'allow_missing_images'"
                )
            if missing:
                self.notes.append(f"{len(missing)} images have no image: {missing[:10]}")
        else:
            self.notes.append(
                "no image has its image: the reader's option 'stimuli' says in which folder they lie"
            )
        categories = trials.groupby("image")["category"].agg(
            lambda c: sorted({str(v) for v in c if v is not None})
        )
        rows = []
        for name in names:
            of_trials = categories[name]
            if len(of_trials) > 1:
                raise RecordingError(
                    f"the image '{name}' is shown under the categories {' and '.join(of_trials)}; "
                    "an image has one"
                )
            path = found.get(name)
            category = of_trials[0] if of_trials else _folder_of(name, path, opts.stimuli)
            if category is None:
                raise RecordingError(
                    f"the category of the image '{name}' is not known; name a column with "
                    "'category_column', or keep images in a folder for each category"
                )
            facts = add_image(path, self.writer.folder, ids[name]) if path else {}
            rows.append({"image_id": ids[name], "category": category, "name": name, **facts})
        images = pd.DataFrame(rows)
        images["path"] = images["path"].fillna("") if "path" in images else ""
        trials = trials.copy()
        trials["category"] = trials["image"].map(dict(zip(images["name"], images["category"])))
        trials["image_id"] = trials["image"].map(ids)
        return trials, _filled(images)

    def _by_category(self, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Categories in place of images."""
        import pandas as pd

        opts = self.opts
        categories = sorted(trials["category"].astype(str).unique())
        chosen = category_images(categories, opts.stimuli, opts.images)
        rows = []
        for category in categories:
            row: dict[str, Any] = {"image_id": category, "category": category}
            if category in chosen:
                path, n_images = chosen[category]
                row |= add_image(path, self.writer.folder, category)
                row |= {"name": path.name, "n_images": n_images}
            rows.append(row)
        without = [c for c in categories if c not in chosen]
        if without:
            self.notes.append(f"no image was given for the categories {', '.join(without)}")
        if chosen:
            self.notes.append(
                "which image was shown is not recorded, only its category; one image stands "
                "for each: " + ", ".join(f"{c} = {p.name}" for c, (p, _) in chosen.items())
            )
        trials = trials.copy()
        trials["image_id"] = trials["category"]
        return trials, _filled(pd.DataFrame(rows))

    def _note_jitter(self) -> None:
        """One sentence on time stamps that are not evenly spaced, for all recordings."""
        uneven = [
            facts
            for entry in self.recordings
            if (facts := entry.get("facts", {})).get("backward_steps")
            or facts.get("jitter_ms", 0) > 250 / entry.get("sfreq", np.inf)
        ]
        if uneven:
            worst = max(facts["jitter_ms"] for facts in uneven)
            back = sum(facts["backward_steps"] for facts in uneven)
            self.notes.append(
                f"the time stamps of {len(uneven)} recordings jitter by up to {worst:g} ms (standard "
                f"deviation; {back} steps go back), as those of packets do; their samples were taken "
                "as evenly spaced"
            )

    def _design(self, trials: pd.DataFrame) -> str:
        runs = trials.groupby(["subject", "session", "run"])["category"].nunique()
        if self.opts.design == "unknown" and trials["category"].nunique() > 1 and (runs == 1).all():
            self.notes.append(
                "each recording holds one category only, so category and recording are one; the "
                "design was set to 'block'"
            )
            return "block"
        return self.opts.design

    def montage_name(self) -> str:
        """Where the positions come from: a template's name, 'file', or nothing."""
        first, opts = self.first, self.opts
        assert first is not None
        measured = all(c in first.positions for c in first.ch_names)
        if opts.montage is not None and "montage" not in opts.model_fields_set and measured:
            return "file"
        return opts.montage or ""

    def _positions(self) -> dict[str, list[float]]:
        opts, first = self.opts, self.first
        assert first is not None
        if opts.montage is None:
            return {}
        return place_channels(
            first.ch_names,
            first.positions,
            opts.montage,
            asked="montage" in opts.model_fields_set,
            typed=first.path.suffix.lower() != ".csv"
            or set(first.ch_names) <= set(opts.channels or ()),
            path=first.path,
            notes=self.notes,
        )

    def accounting(self) -> Accounting:
        """What became of the events of all recordings; each recording's must add up."""
        unread = self.unread.total()
        return Accounting.total(
            [
                *(Accounting(e["n_events"], e["n_trials"], e["dropped"]) for e in self.recordings),
                Accounting(unread, 0, {"of a file that was not read": unread}),
            ]
        )

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


def _where(trial: tuple[Path, int]) -> str:
    return f"{trial[0].name} at sample {trial[1]}"


def _beyond(trial: np.ndarray, limit: float, by: str) -> bool:
    values = np.ptp(trial, axis=1) if by == "peak-to-peak" else np.abs(trial)
    return bool(values.max() > limit)


def _seconds(recording: Recording) -> float:
    first, stop, start = recording.stretches[-1]
    return start + (stop - first) / recording.sfreq


def _default_name(source: str | Path | Iterable[str | Path]) -> str:
    items = [source] if isinstance(source, (str, Path)) else list(source)
    path = Path(items[0]).resolve()
    return path.name if path.is_dir() else path.stem


def _folder_of(name: str, path: Path | None, stimuli: Path | None) -> str | None:
    """Category of an image by the folder it lies in."""
    if path is not None and stimuli is not None:
        parts = path.relative_to(stimuli).parts
    else:
        parts = Path(name.replace("\\", "/")).parts
    return parts[-2] if len(parts) > 1 else None


def _filled(images: pd.DataFrame) -> pd.DataFrame:
    for column in ("path", "sha256"):
        images[column] = images[column].fillna("") if column in images else ""
    for column in ("width", "height"):
        images[column] = images[column].fillna(0).astype(int) if column in images else 0
    return images
