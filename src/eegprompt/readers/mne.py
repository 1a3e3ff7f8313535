"""Read trials that somebody cut already into a study: MNE's Epochs and EEGLAB's epoched sets.

Which image or category a trial shows stands in the epochs' metadata, or in a table of what each
event means; which of them is asked for by name. Who was recorded stands in the metadata or in the
file's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.readers._channels import renamed_channels
from eegprompt.readers._event_names import Code, read_codes
from eegprompt.readers._file_checks import fif_is_whole
from eegprompt.readers._identity import ENTITY, identify
from eegprompt.readers._matlab import check_matlab, events_of_set
from eegprompt.readers._raw_recording import mne_errors
from eegprompt.readers._recording import Recording, without_flat
from eegprompt.readers._recordings import RecordingOptions, RecordingsImport
from eegprompt.readers.base import Content, DatasetFacts, Import, Reader
from eegprompt.signal.steps import Ledger
from eegprompt.study.exchange import (
    drop_counts,
    event_names,
    positions_in,
    steps_in,
    text_in_cell,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MneEpochsReader", "MneOptions"]

BLOCK = 64  # trials held in memory at a time
FORMATS = {".fif": "FIF Epochs", ".set": "an epoched EEGLAB set"}
_WHO = ("subject", "session", "run")
_BY_NAME = "none"  # as a column: go by the file's name


class MneOptions(RecordingOptions):
    """Settings of the reader for MNE's Epochs; columns are those of the metadata."""

    subject_column: str | None = Field(
        None, description="column of the metadata; default 'subject' where there, none: file's name"
    )
    session_column: str | None = Field(
        None, description="column of the metadata; default 'session' where there, none: file's name"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.events is not None and (self.image_column or self.category_column):
            raise ValueError(
                "what a trial shows comes from the metadata ('image_column', 'category_column') or "
                "from 'events', not from both; leave one out"
            )
        for what in ("subject", "session"):
            column = getattr(self, f"{what}_column")
            if getattr(self, what) is not None and column not in (None, _BY_NAME):
                raise ValueError(f"'{what}' and '{what}_column' say the same; leave one out")
        return self


_Plan = tuple[list[tuple[Path, dict[str, str]]], RecordingError | None]


class MneEpochsReader(Reader[MneOptions, _Plan]):
    """Imports Epochs that MNE saved, and epoched sets of EEGLAB: files, or folders of them.

    Examples
    --------
    ``MneEpochsReader().read("sub-01-epo.fif", "study", image_column="stim_file",
    stimuli="images")``
    """

    name = "mne"
    options = MneOptions

    def prepare(self, paths: list[Path], options: MneOptions) -> _Plan:
        """The files and whose they are."""
        files = _files(paths)
        who, whose = _identified(files, options)
        return list(zip(files, who)), whose

    def write(self, job: Import[MneOptions, _Plan]) -> Content:
        """Take every file's trials."""
        opts, (plan, whose) = job.options, job.plan
        job.facts = DatasetFacts("MNE Epochs", opts.citation, opts.license)
        epochs = _EpochsImport(job, opts, read_codes(opts.events), len(plan) > 1)
        epochs.whose = whose
        content = epochs.add_all(plan)
        content.tmin = epochs.begin  # the window begins where the Epochs say
        return content


def _files(source: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for item in source:
        if item.is_dir():
            inside = sorted(
                p
                for p in item.rglob("*")
                if p.suffix.lower() in FORMATS and not p.name.startswith(".") and p.is_file()
            )
            files += inside
            if not inside:
                raise RecordingError(f"{item} holds no .fif or .set file; name Epochs' files")
        elif not item.exists():
            raise RecordingError(f"{item} does not exist; name a file or folder of Epochs")
        elif item.suffix.lower() not in FORMATS:
            raise RecordingError(
                f"{item} is no .fif or .set file; this reader reads trials that MNE or EEGLAB saved, "
                "and 'continuous' reads recordings"
            )
        else:
            files.append(item)
    if not files:
        raise RecordingError("no source was given; name a file of Epochs or a folder of them")
    unique = {p.resolve(): p for p in files}
    # Large Epochs go on in -1.fif, -2.fif, which MNE reads with the first: that one comes first.
    return sorted(unique.values(), key=lambda p: _part(p, {q.name for q in unique.values()}))


def _part(path: Path, names: set[str]) -> int:
    """0 for a file of its own, else which part of another it may be by its name."""
    stem, _, number = path.stem.rpartition("-")
    return int(number) if number.isdigit() and f"{stem}{path.suffix}" in names else 0


def _without_ending(file: Path) -> Path:
    """A path without '-epo' and the number of a part."""
    return file.with_name(re.sub(r"[-_](epo|epochs)(-\d+)?$", "", file.stem) + file.suffix)


def _identified(
    files: list[Path], opts: MneOptions
) -> tuple[list[dict[str, str]], RecordingError | None]:
    """Who each file is of, by its name; and why that is not known, where it is not."""
    # MNE's endings would hide the end of a subject's or session's name.
    plain = [_without_ending(file) for file in files]
    try:
        return identify(
            plain, pattern=opts.pattern, subject=opts.subject, session=opts.session
        ), None
    except RecordingError as problem:
        if opts.pattern is not None or opts.subject is not None:
            raise
        return identify(plain, subject="", session=opts.session), problem


class _EpochsImport(RecordingsImport[MneOptions]):
    """Epochs in place of recordings: they are cut already, and nothing is done to them."""

    whose: RecordingError | None = None
    begin = 0.0  # time of the first sample
    done: Sequence[dict[str, Any]] = ()  # steps of the source

    def where(self, trial: tuple[Path, int]) -> str:
        """A trial by its place in its file."""
        return f"trial {trial[1]} of {trial[0].name}"

    def take(self, file: Path, entry: dict[str, Any], who: dict[str, str]) -> None:
        """Append a file's trials."""
        epochs = self._opened(file)
        rate, times = float(epochs.info["sfreq"]), epochs.times
        picked = self.picked(file, dict(zip(epochs.ch_names, epochs.get_channel_types())))
        with mne_errors(file, self.notes, FORMATS[file.suffix.lower()]):
            positions, lost, steps = positions_in(epochs, picked), drop_counts(epochs), []
            if self.first is None and len(epochs.events):
                steps = steps_in(epochs)
        recording = Recording(
            path=file,
            ch_names=tuple(picked),
            sfreq=rate,
            data=np.zeros((len(picked), 0)),
            stretches=((0, 0, 0.0),),
            positions=positions,
            facts={"highpass": epochs.info["highpass"], "lowpass": epochs.info["lowpass"]},
        )
        entry |= {"sfreq": rate, "facts": dict(recording.facts)}
        entry |= {"n_events": len(epochs.events) + sum(lost.values())}
        if not len(epochs.events):
            self.skip(entry, f"{file.name} holds no trial", lost)
            return
        recording = without_flat(recording, self._flat(epochs, file, picked))
        self.notes += recording.notes
        picked = list(recording.ch_names)
        edges = (round(times[0] * rate), round(times[-1] * rate))
        if self.first is None:
            self.first, self.sfreq, self.edges = recording, rate, edges
            self.begin, self.done = float(times[0]), steps
        recording = self.without_flat_of_first(recording)
        self.same_channels(recording)
        self.same_positions(recording)
        if (rate, len(times)) != (self.sfreq, self.edges[1] - self.edges[0] + 1) or (
            abs(times[0] - self.begin) * rate >= 0.5
        ):
            raise RecordingError(
                f"{file} has {len(times)} samples from {times[0]:g} s at {rate:g} Hz, but "
                f"{self.first.path} others; cut all alike, or import them apart"
            )
        self._note(file, epochs, picked)
        if lost:
            self.notes.append(
                f"{file.name}: MNE had dropped {sum(lost.values())} of {entry['n_events']} events: "
                + ", ".join(f"{why} {count}" for why, count in lost.items())
            )
        shown = _shown(epochs, self.opts, self.codes, file, self.notes)
        people = self._people(epochs, file, who)
        kept = np.array([c is not None or i is not None for c, i in shown])
        if kept.any():
            self._append(epochs, file, shown, kept)
        repeated = len(shown) - int(kept.sum()) - sum(c is None and i is None for c, i in shown)
        dropped = {**lost, "not named": len(shown) - repeated - int(kept.sum())}
        dropped |= {"repeated": repeated} if repeated else {}
        entry |= {"dropped": dropped, "n_trials": int(kept.sum())}
        if not kept.any():
            why = (
                f"all {repeated} trials of {file.name} stand in files before it; parts of one "
                "recording are read with the first"
                if repeated
                else f"{file.name} has no trial that is named in 'events'"
            )
            self.skip(entry, why, dropped)
            return
        onset = self._onsets(epochs, file)
        for row, (person, what) in enumerate(zip(people, shown)):
            key = (person["subject"], person["session"])
            order = self.order[key]
            self.order[key] += 1
            if kept[row]:
                self.rows.append(
                    {
                        **person,
                        "order": order,
                        "onset": onset[row],
                        "category": what[0],
                        "image": what[1],
                    }
                )
        self.recordings.append(entry)

    def _opened(self, file: Path) -> Any:
        """The file's Epochs, with channels renamed; those of EEGLAB are in memory."""
        import mne

        what = FORMATS[file.suffix.lower()]
        with mne_errors(file, self.notes, what):
            if file.suffix.lower() == ".set":
                check_matlab(file)
                epochs = mne.read_epochs_eeglab(file, verbose="ERROR")
            else:
                fif_is_whole(file)
                epochs = mne.read_epochs(file, preload=False, proj=False, verbose="ERROR")
            renamed = renamed_channels(file, epochs.ch_names, self.opts.rename, self.notes)
            epochs.rename_channels(renamed)
            epochs.rename_channels(self.standard(epochs.ch_names))
        if file.suffix.lower() == ".set":
            _name_by_onset(epochs, file)
        return epochs

    def _flat(self, epochs: Any, file: Path, names: list[str]) -> np.ndarray:
        """Which channels hold one value in each trial; all trials are read only where one may."""
        flat = np.ones(len(names), bool)
        for start in range(0, len(epochs.events), BLOCK):
            block = self._block(epochs, file, slice(start, start + BLOCK), names)
            flat &= (np.ptp(block, axis=2) == 0).all(axis=0)
            if not flat.any():
                break
        return flat

    def _block(self, epochs: Any, file: Path, rows: Any, names: list[str]) -> np.ndarray:
        with mne_errors(file, self.notes, FORMATS[file.suffix.lower()]):
            return np.asarray(epochs[rows].get_data(picks=names, verbose="ERROR"))

    def _note(self, file: Path, epochs: Any, picked: list[str]) -> None:
        """What a person should know of a file's signal."""
        bads = [name for name in epochs.info["bads"] if name in picked]
        if bads:
            self.notes.append(
                f"{file.name} marks {', '.join(bads)} as bad; kept: leave such channels out with "
                "'exclude'"
            )
        active = sum(bool(p["active"]) for p in epochs.info["projs"])
        if active:
            self.notes.append(f"{file.name}: {active} projections were applied to it")
        if len(epochs.info["projs"]) > active:
            self.notes.append(
                f"{file.name}: {len(epochs.info['projs']) - active} projections that it carries were "
                "not applied, and are not applied here"
            )

    def _append(
        self,
        epochs: Any,
        file: Path,
        shown: list[tuple[str | None, str | None]],
        kept: np.ndarray,
    ) -> None:
        """Write the trials kept; trials that were read before are no longer kept after this."""
        assert self.first is not None
        names = list(self.first.ch_names)
        rows = np.flatnonzero(kept)
        for start in range(0, len(rows), BLOCK):
            here = rows[start : start + BLOCK]
            block = self._block(epochs, file, here, names)
            finite = np.isfinite(block).all(axis=2)
            if not finite.all():
                trial, channel = np.argwhere(~finite)[0].tolist()
                raise RecordingError(
                    f"{file}: trial {here[trial]} (counted from 0), channel '{names[channel]}' holds "
                    "a value that is no number; drop the trial, or leave the channel out with "
                    "'exclude'"
                )
            stored = np.ascontiguousarray(block, dtype=np.float32)
            new = np.array(
                [
                    not self.repeats.is_one((file, int(row)), _said(shown[row]), trial)
                    for trial, row in zip(stored, here)
                ]
            )
            kept[here] = new
            if new.any():
                self.writer.append(stored[new])

    def _people(self, epochs: Any, file: Path, who: dict[str, str]) -> list[dict[str, str]]:
        """Subject, session and run of each trial: by the metadata where it says them."""
        metadata = epochs.metadata
        result = [{k: who[k] for k in _WHO} for _ in range(len(epochs.events))]
        for what in _WHO:
            asked = getattr(self.opts, f"{what}_column", None)
            if asked == _BY_NAME or getattr(self.opts, what, None) is not None:
                continue
            there = [] if metadata is None else list(map(str, metadata.columns))
            if asked is not None and asked not in there:
                raise UnknownNameError(f"metadata column of {file.name}", asked, there)
            column = asked or what
            if column not in there or (what == "run" and self._named_by_path(file, what)):
                continue
            said = [text_in_cell(value) for value in metadata[column]]
            if None in said:
                raise RecordingError(
                    f"{file}: column '{column}' of the metadata is empty for trial "
                    f"{said.index(None)} (counted from 0; {said.count(None)} such trials); fill it, "
                    "or drop the column to go by the file's name"
                )
            named = who[what] if self._named_by_path(file, what) else None
            other = {s for s in said if s is not None} - {named}
            if asked is None and named is not None and other and not _alike(named, other):
                raise RecordingError(
                    f"{file} is of {what} {named} by its name, but of {what} "
                    f"{', '.join(sorted(other)[:4])} by its metadata; pass '{what}_column={column}' "
                    f"to go by the metadata, or '{what}_column=none' by the name"
                )
            for entry, text in zip(result, said):
                entry[what] = str(text)
        if self.whose is not None and any(not entry["subject"] for entry in result):
            raise self.whose
        return result

    def _named_by_path(self, file: Path, what: str) -> bool:
        """Whether a file's path says whose it is, so that it is no mere default."""
        if self.opts.pattern is not None:
            return f"{{{what}}}" in self.opts.pattern
        return bool(ENTITY[what].search(_without_ending(file).resolve().as_posix()))

    def _onsets(self, epochs: Any, file: Path) -> np.ndarray:
        """Seconds from a file's first event; NaN where its events do not say."""
        # Events count samples of the recording, also after the trials were decimated or resampled.
        stored = np.ravel(getattr(epochs, "_raw_sfreq", None) or [0.0])
        rate = float(stored[0]) if np.isfinite(stored[0]) and stored[0] > 0 else self.sfreq
        onset = (epochs.events[:, 0] - epochs.events[0, 0]) / rate
        steps = np.diff(onset)
        unknown = np.full(len(onset), np.nan)
        if file.suffix.lower() == ".set":
            return unknown  # they count samples of the trials laid end to end
        if not (steps >= 0).all():
            self.notes.append(f"{file.name}: its events are not in order, so onsets are not known")
            return unknown
        if len(steps) and (steps * rate <= 1).all():
            self.notes.append(
                f"{file.name}: its events lie one sample apart, which are no onsets; onsets are not "
                "known"
            )
            return unknown
        length = len(epochs.times) / float(epochs.info["sfreq"])
        near = int((steps < length - 0.5 / rate).sum())
        if near:
            self.notes.append(
                f"{file.name}: {near} of {len(onset)} trials begin before the one before has ended "
                f"({length:g} s), so that they share samples"
            )
        return onset

    def steps(self, n_trials: int) -> list[dict[str, Any]]:
        """What the file says of itself: the trials were cut by its author."""
        ledger = Ledger()
        for step in self.done:
            ledger.add(**step)
            if step["name"] == "epoch":
                ledger.steps[-1]["kept"] = n_trials
        return ledger.steps


def _said(shown: tuple[str | None, str | None]) -> str:
    return " ".join(s for s in shown if s is not None)


def _alike(name: str, others: set[str]) -> bool:
    """Whether a name is another's, but for what a path adds: sub-01 and 01."""
    return all(o.casefold() in (f"sub-{name}".casefold(), name.casefold()) for o in others)


def _name_by_onset(epochs: Any, file: Path) -> None:
    """Name each trial of an EEGLAB set after the event at its time 0.

    MNE names it after all events that lie in it, such as the response, in the order of the file.
    """
    if not any("/" in name for name in epochs.event_id):
        return
    with mne_errors(file, [], FORMATS[".set"]):
        types, latencies = events_of_set(file)
    if len(types) != len(epochs.events):
        return
    half = 500 / float(epochs.info["sfreq"])  # of a sample, in the milliseconds of EEGLAB
    names = []
    for number, (kinds, times) in enumerate(zip(types, latencies)):
        at_zero = [kind for kind, time in zip(kinds, times) if abs(time) < half]
        if not at_zero:
            raise RecordingError(
                f"{file}: trial {number} (counted from 0) holds the events {', '.join(kinds)}, and none "
                "of them at its time 0, so that it is not clear which it is of; epoch it again"
            )
        names.append("/".join(dict.fromkeys(at_zero)))
    codes = {name: code for code, name in enumerate(dict.fromkeys(names), start=1)}
    epochs.events[:, 2] = [codes[name] for name in names]
    epochs.event_id = codes


def _shown(
    epochs: Any,
    opts: MneOptions,
    codes: Mapping[str, Code] | None,
    file: Path,
    notes: list[str],
) -> list[tuple[str | None, str | None]]:
    """Category and image of each trial."""
    metadata: pd.DataFrame | None = epochs.metadata
    events = event_names(epochs)
    if codes is not None:
        counts = {e: events.count(e) for e in dict.fromkeys(events)}
        if not set(counts) & set(codes):
            listing = ", ".join(f"'{e}' ({n}×)" for e, n in list(counts.items())[:20])
            raise RecordingError(
                f"{file} holds none of the events {', '.join(codes)}; its events are {listing}: "
                "correct 'events'"
            )
        ignored = [f"'{e}' ({n}×)" for e, n in counts.items() if e not in codes]
        if ignored:
            notes.append(
                f"{file.name}: events not named in 'events' were left out: {', '.join(ignored[:8])}"
            )
        return [(c.category, c.image) if (c := codes.get(e)) else (None, None) for e in events]
    asked = (opts.image_column, opts.category_column)
    if metadata is None or asked == (None, None):
        there = (
            f"its metadata has the columns {', '.join(map(str, metadata.columns))}"
            if metadata is not None
            else "it has no metadata"
        )
        listing = ", ".join(f"'{e}'" for e in list(dict.fromkeys(events))[:12])
        raise RecordingError(
            f"{file} does not say by itself what a trial shows: {there}, and its events are "
            f"{listing}; say which column holds the image with 'image_column' (or the category with "
            "'category_column'), or what the events mean with 'events'"
        )
    for column in asked:
        if column is not None and column not in metadata.columns:
            raise UnknownNameError(
                f"metadata column of {file.name}", column, map(str, metadata.columns)
            )
    columns = [
        [None] * len(metadata) if name is None else [text_in_cell(v) for v in metadata[name]]
        for name in (opts.category_column, opts.image_column)
    ]
    empty = [i for i, pair in enumerate(zip(*columns)) if pair == (None, None)]
    if empty:
        notes.append(f"{file.name}: {len(empty)} trials name nothing shown and were left out")
    return list(zip(*columns))
