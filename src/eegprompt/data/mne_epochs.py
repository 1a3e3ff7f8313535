"""Read MNE's Epochs (``-epo.fif``) into a study: trials that somebody cut with MNE.

Which image or category a trial shows stands in the epochs' metadata, or in a table of what each
event means; which of them is asked for by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from eegprompt.data.continuous import ContinuousOptions, RecordingsImport, identify
from eegprompt.data.events import Code, read_codes
from eegprompt.data.options import ReaderOptions
from eegprompt.data.preprocessing import Ledger
from eegprompt.data.recordings import Recording, fif_is_whole, mne_errors
from eegprompt.data.stimuli import check_stimuli
from eegprompt.errors import RecordingError, UnknownNameError
from eegprompt.study import Study, StudyWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MneEpochsReader", "MneOptions"]

Progress = Any
BLOCK = 64  # trials held in memory at a time


class MneOptions(ReaderOptions):
    """Settings of the reader for MNE's Epochs."""

    name: str | None = Field(None, description="the study's name; default the file's")
    license: str = Field("", description="under which the recording may be used")
    citation: str = Field("", description="what to cite")
    design: Literal["block", "randomised", "unknown"] = Field(
        "unknown", description="order of presentation"
    )
    overwrite: bool = Field(False, description="replace a study that is there already")
    pattern: str | None = Field(
        None, description="end of each path without '-epo', e.g. 'sub{subject}.fif'"
    )
    subject: str | None = Field(None, description="the subject of all files")
    session: str | None = Field(None, description="the session of all files")
    channels: tuple[str, ...] | None = Field(None, description="channels to keep; default all EEG")
    exclude: tuple[str, ...] = Field((), description="channels to leave out")
    rename: dict[str, str] = Field({}, description="channel names in the file -> names to use")
    montage: str | None = Field(
        "standard_1005", description="template of electrode positions, 'file', or none"
    )
    image_column: str | None = Field(None, description="column of the metadata with the image")
    category_column: str | None = Field(None, description="column of the metadata")
    events: dict[str, str] | Path | None = Field(
        None, description="event name -> category, or a table with event, category, image"
    )
    stimuli: Path | None = Field(None, description="folder of the pictures that were shown")
    images: dict[str, Path] = Field({}, description="category -> its picture, or folder of them")
    allow_missing_images: bool = Field(False, description="go on without pictures not found")

    @field_validator("montage", mode="before")
    @classmethod
    def _no_montage(cls, value: Any) -> Any:
        return None if value in ("none", "") else value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.events is not None and (self.image_column or self.category_column):
            raise ValueError(
                "what a trial shows comes from the metadata ('image_column', 'category_column') or "
                "from 'events', not from both; leave one out"
            )
        return self


class MneEpochsReader:
    """Imports Epochs that MNE saved.

    Examples
    --------
    ``MneEpochsReader().read("sub-01-epo.fif", "study", image_column="stim_file",
    stimuli="pictures")``
    """

    name = "mne"
    options = MneOptions

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import Epochs into a new study.

        Parameters
        ----------
        source : path-like or iterable of path-like
            Files that end in ``.fif``, and folders that are searched for them.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (files done, files in all, label).
        **options
            See :class:`MneOptions`.

        Returns
        -------
        Study
            In volts.

        Raises
        ------
        InputError
            If an option is unknown or not allowed.
        RecordingError
            If a file cannot be used, or does not say what was shown.
        """
        opts = MneOptions.parse(options)
        files = _files(source)
        # MNE's endings would hide the end of a subject's or session's name.
        plain = [f.with_name(re.sub(r"[-_](epo|epochs)$", "", f.stem) + f.suffix) for f in files]
        who = identify(plain, pattern=opts.pattern, subject=opts.subject, session=opts.session)
        check_stimuli(opts.stimuli)
        shared = opts.model_dump(exclude={"image_column", "category_column", "events"})
        with StudyWriter.open(out, overwrite=opts.overwrite) as writer:
            job = _EpochsImport(
                ContinuousOptions(**shared), read_codes(opts.events), writer, len(files) > 1
            )
            job.asked = opts
            for index, (file, identity) in enumerate(zip(files, who)):
                if progress is not None:
                    progress(index, len(files), file.name)
                job.add(file, identity)
            if progress is not None:
                progress(len(files), len(files), "pictures")
            info, trials, images = job.result(source)
            writer.finish(info=info, trials=trials, images=images)
        return Study(out)


def _files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    items = [source] if isinstance(source, (str, Path)) else list(source)
    files: list[Path] = []
    for item in map(Path, items):
        if item.is_dir():
            inside = sorted(p for p in item.rglob("*.fif") if not p.name.startswith("."))
            # Files of more than 2 GB go on in -1.fif, -2.fif, which MNE finds itself.
            files += [p for p in inside if not _goes_on(p)]
            if not inside:
                raise RecordingError(f"{item} holds no .fif file; name Epochs that MNE saved")
        elif not item.exists():
            raise RecordingError(
                f"{item} does not exist; name a file of Epochs or a folder of them"
            )
        elif item.suffix.lower() != ".fif":
            raise RecordingError(
                f"{item} is no .fif file; this reader reads Epochs that MNE saved, and 'continuous' "
                "reads recordings"
            )
        else:
            files.append(item)
    if not files:
        raise RecordingError("no source was given; name a file of Epochs or a folder of them")
    return list({p.resolve(): p for p in files}.values())


def _goes_on(path: Path) -> bool:
    stem, _, number = path.stem.rpartition("-")
    return number.isdigit() and path.with_name(f"{stem}.fif").exists()


class _EpochsImport(RecordingsImport):
    """Epochs in place of recordings: they are cut already, and nothing is done to them."""

    reader = "mne"
    source = "MNE Epochs"
    asked: MneOptions

    def take(self, file: Path, entry: dict[str, Any], who: dict[str, str]) -> None:
        """Append a file's trials."""
        import mne

        fif_is_whole(file)
        with mne_errors(file, self.notes, "FIF Epochs"):
            epochs = mne.read_epochs(file, preload=False, proj=False, verbose="ERROR")
            renamed = {a: b for a, b in self.opts.rename.items() if a in epochs.ch_names}
            epochs.rename_channels(renamed)
            types = dict(zip(epochs.ch_names, epochs.get_channel_types()))
            rate, times = float(epochs.info["sfreq"]), epochs.times
            projections = [p for p in epochs.info["projs"] if p["active"]]
        recording = Recording(
            path=file,
            ch_names=tuple(self.picked(file, types)),
            sfreq=rate,
            data=np.zeros((1, 0)),
            stretches=((0, 0, 0.0),),
            positions=_positions(epochs),
            facts={"highpass": epochs.info["highpass"], "lowpass": epochs.info["lowpass"]},
        )
        edges = (round(times[0] * rate), round(times[-1] * rate))
        if self.first is None:
            self.first, self.sfreq, self.edges = recording, rate, edges
        self.same_channels(recording)
        if (rate, edges) != (self.sfreq, self.edges):
            raise RecordingError(
                f"{file} has {len(times)} samples from {times[0]:g} s at {rate:g} Hz, but "
                f"{self.first.path} others; cut all alike, or import them apart"
            )
        if epochs.info["bads"]:
            self.notes.append(
                f"{file.name} marks {', '.join(epochs.info['bads'])} as bad; kept: leave such "
                "channels out with 'exclude'"
            )
        if projections:
            self.notes.append(f"{file.name}: {len(projections)} projections were applied to it")
        shown = _shown(epochs, self.asked, self.codes, file, self.notes)
        kept = np.flatnonzero([c is not None or i is not None for c, i in shown])
        entry |= {"sfreq": rate, "n_events": len(shown), "facts": dict(recording.facts)}
        if not len(kept):
            self._skip(entry, f"{file.name} has no trial that is named in 'events'")
            return
        for start in range(0, len(kept), BLOCK):
            rows = kept[start : start + BLOCK]
            with mne_errors(file, self.notes, "FIF Epochs"):
                block = epochs[rows].get_data(picks=list(self.first.ch_names), verbose="ERROR")
            if not np.isfinite(block).all():
                trial, channel, _ = np.argwhere(~np.isfinite(block))[0].tolist()
                raise RecordingError(
                    f"{file}: trial {rows[trial]} (counted from 0), channel "
                    f"'{self.first.ch_names[channel]}' holds a value that is no number; drop the "
                    "trial, or leave the channel out with 'exclude'"
                )
            self.writer.append(block)
        key = (who["subject"], who["session"])
        # The sample of an event counts in the recording it was cut from; others may differ.
        onset = (epochs.events[:, 0] - epochs.events[0, 0]) / rate
        for row in kept:
            self.rows.append(
                {
                    **{k: who[k] for k in ("subject", "session", "run")},
                    "order": self.order[key] + int(row),
                    "onset": float(onset[row]) if (np.diff(onset) >= 0).all() else np.nan,
                    "category": shown[row][0],
                    "image": shown[row][1],
                }
            )
        self.order[key] += len(shown)
        dropped = {"not named": len(shown) - len(kept)}
        self.recordings.append({**entry, "dropped": dropped, "n_trials": len(kept)})

    def steps(self, n_trials: int) -> list[dict[str, Any]]:
        """What the file says of itself: the trials were cut by its author."""
        first = self.recordings[0]
        facts = first["facts"]
        ledger = Ledger()
        if facts["highpass"] > 0 or facts["lowpass"] < 0.49 * self.sfreq:
            ledger.add(
                "band-pass", low=facts["highpass"], high=facts["lowpass"], on="by the source"
            )
        start, stop = (edge / self.sfreq for edge in self.edges)
        ledger.add("epoch", tmin=start, tmax=stop, on="by the source", kept=n_trials)
        return ledger.steps


def _positions(epochs: Any) -> dict[str, list[float]]:
    montage = epochs.get_montage()
    if montage is None:
        return {}
    found = montage.get_positions()
    if found["coord_frame"] != "head":
        return {}
    return {n: [float(x) for x in p] for n, p in found["ch_pos"].items() if np.isfinite(p).all()}


def _shown(
    epochs: Any,
    opts: MneOptions,
    codes: Mapping[str, Code] | None,
    file: Path,
    notes: list[str],
) -> list[tuple[str | None, str | None]]:
    """Category and image of each trial."""
    metadata: pd.DataFrame | None = epochs.metadata
    names = {number: name for name, number in epochs.event_id.items()}
    events = [str(names.get(number, number)) for number in epochs.events[:, 2].tolist()]
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
        [None] * len(metadata) if name is None else [_text(v) for v in metadata[name]]
        for name in (opts.category_column, opts.image_column)
    ]
    empty = [i for i, pair in enumerate(zip(*columns)) if pair == (None, None)]
    if empty:
        notes.append(f"{file.name}: {len(empty)} trials name nothing shown and were left out")
    return list(zip(*columns))


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with one missing becomes floats
    return str(value).strip() or None
