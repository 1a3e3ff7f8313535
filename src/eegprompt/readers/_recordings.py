"""What readers of recordings have in common: one after the other is taken, then the tables are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field, field_validator

from eegprompt.core.errors import RecordingError
from eegprompt.readers._channels import (
    default_channels,
    note_left_out,
    pick_channels,
    place_channels,
    standard_channels,
)
from eegprompt.readers._duplicates import Repeats
from eegprompt.readers._event_names import Code, counted
from eegprompt.readers._images import category_images, image_ids_of
from eegprompt.readers._open_recording import fingerprint
from eegprompt.readers._recording import Recording
from eegprompt.readers.base import (
    Content,
    Duplicates,
    ImageOptions,
    Import,
    StudyOptions,
    image_rows,
    wanted_images,
)
from eegprompt.study import Accounting

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CuttingOptions", "RecordingOptions", "RecordingsImport"]

_APART = 2e-3  # meters by which electrodes may lie elsewhere in another recording, unsaid


class RecordingOptions(ImageOptions):
    """Settings of readers of recordings that come without a description of their own."""

    license: str = Field("", description="under which the recording may be used")
    citation: str = Field("", description="what to cite")
    design: Literal["block", "randomised", "unknown"] = Field(
        "unknown", description="order of presentation"
    )
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
    events: dict[str, str] | Path | None = Field(
        None, description="event -> category, or a table with event, category, image"
    )
    category_column: str | None = Field(None, description="column that names the category")
    image_column: str | None = Field(None, description="column that names the image")
    images: dict[str, Path] = Field({}, description="category -> its image, or folder of them")
    duplicates: Duplicates = "drop"

    @field_validator("montage", mode="before")
    @classmethod
    def _no_montage(cls, value: Any) -> Any:
        return None if value in ("none", "") else value


class CuttingOptions(StudyOptions):
    """Settings of readers that cut trials from continuous signals. What is not asked for is not done."""

    notch: tuple[float, ...] = Field((), description="line frequencies to remove [Hz]")
    bandpass: tuple[float | None, float | None] | None = Field(
        None, description="lower and upper edge [Hz]"
    )
    reference: Literal["average"] | None = Field(None, description="'average' or as recorded")
    resample: float | None = Field(None, gt=0, description="new sampling rate [Hz]")
    baseline: tuple[float | None, float | None] | None = Field(
        None, description="stretch whose mean is subtracted [s]"
    )
    reject: float | None = Field(
        None, gt=0, description="leave out trials beyond this many microvolts"
    )
    repeated: Literal["error", "first", "last"] = Field(
        "error", description="which of several wanted events at one sample to take"
    )


R = TypeVar("R", bound=RecordingOptions)


class RecordingsImport(ABC, Generic[R]):
    """Recordings under way into a study: added one by one, then the tables are made.

    Readers derive from it: they say in `take` how a recording becomes trials, and in `steps` what was
    done to its signal; the checks, images and record are these.

    Parameters
    ----------
    job : Import
    opts : RecordingOptions
    codes : dict of str to Code, or None
        Meaning of the markers.
    several : bool
        Whether more than one recording is imported.
    """

    unit = "V"

    def __init__(
        self, job: Import[Any, Any], opts: R, codes: dict[str, Code] | None, several: bool
    ):
        self.job, self.opts, self.codes, self.several = job, opts, codes, several
        self.writer, self.notes = job.writer, job.notes
        self.rows: list[dict[str, Any]] = []
        self.recordings: list[dict[str, Any]] = []
        self.spelled: dict[str, str] = {}  # a file's spelling of a channel -> the template's
        self.skipped: list[str] = []
        self.seen: dict[str, Path] = {}
        self.unread: Counter[str] = Counter()  # file in a common events table -> its rows
        self.repeats = Repeats(opts.duplicates, None, self.where)
        self.order: Counter[tuple[str, str]] = Counter()
        self.first: Recording | None = None
        self.sfreq = 0.0  # after resampling
        self.edges = (0, 0)  # first and last sample of a trial relative to its event

    # -- one recording ---------------------------------------------------------------------------
    def add_all(self, plan: Sequence[tuple[Path, dict[str, str]]]) -> Content:
        """All recordings with whose they are, and the tables."""
        for index, (file, who) in enumerate(plan):
            self.job.progress(index, len(plan), file.name)
            self.add(file, who)
        self.job.progress(len(plan), len(plan), "images")
        return self.content()

    def add(self, file: Path, who: dict[str, str]) -> None:
        """Read one recording and append its trials, unless it was read under another name."""
        digest = fingerprint(file)
        entry: dict[str, Any] = {"file": file.name, "sha256": digest, **who}
        if digest in self.seen:
            twin = next(e for e in self.recordings if e["sha256"] == digest)
            self.skip(
                {**entry, "n_events": twin["n_events"]},
                f"{file.name} repeats {self.seen[digest].name} byte for byte",
                {"recording repeated": twin["n_events"]},
            )
            return
        self.seen[digest] = file
        self.take(file, entry, who)

    @abstractmethod
    def take(self, file: Path, entry: dict[str, Any], who: dict[str, str]) -> None:
        """Append a recording's trials, and its `entry` to the record."""

    @abstractmethod
    def steps(self, n_trials: int) -> list[dict[str, Any]]:
        """What was done to the signal, for the record."""

    def where(self, trial: tuple[Path, int]) -> str:
        """A trial in words, by its file and place."""
        return f"{trial[0].name} at sample {trial[1]}"

    def skip(self, entry: dict[str, Any], why: str, dropped: Mapping[str, int]) -> None:
        """Leave a recording out; `dropped` says where its events went."""
        self.skipped.append(why)
        self.notes.append(f"{why}; it was left out")
        self.recordings.append({**entry, "dropped": dict(dropped), "n_trials": 0, "left_out": why})

    def without_flat_of_first(self, recording: Recording) -> Recording:
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

    # -- the whole -------------------------------------------------------------------------------
    def content(self) -> Content:
        """Trials, images and the record; refuses when nothing is left."""
        import pandas as pd

        if not self.rows:
            raise self._nothing_left()
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
        self._account()
        path = self.job.paths[0].resolve()
        return Content(
            trials=trials.drop(columns=["image"]),
            images=images,
            ch_names=self.first.ch_names,
            sfreq=self.sfreq,
            tmin=self.edges[0] / self.sfreq,
            unit=self.unit,
            design=design,
            image_identity="known" if known.any() else "category",
            steps=self.steps(len(trials)),
            name=path.name if path.is_dir() else path.stem,
            more={
                "ch_pos": self._positions(),
                "montage": self._montage_name(),
                "recordings": self.recordings,
            },
        )

    def _nothing_left(self) -> RecordingError:
        if self.skipped:
            found = any(entry.get("n_events") for entry in self.recordings)
            remedy = "lower 'min_events', or check" if found else "check"
            return RecordingError(
                f"no recording is left: {'; '.join(self.skipped[:5])}; {remedy} where the events are"
            )
        lost: Counter[str] = Counter()
        for entry in self.recordings:
            lost.update(entry["dropped"])
        reasons = ", ".join(f"{n} {why}" for why, n in lost.items() if n)
        return RecordingError(
            f"no trial is left ({reasons}); check 'reject', 'unit', 'tmin' and 'tmax'"
        )

    def _account(self) -> None:
        """What became of the events of all recordings; each recording's must add up."""
        unread = self.unread.total()
        whole = Accounting.total(
            [
                *(Accounting(e["n_events"], e["n_trials"], e["dropped"]) for e in self.recordings),
                Accounting(unread, 0, {"of a file that was not read": unread}),
            ]
        )
        self.job.found = whole.found
        self.job.left_out.update(whole.left_out)
        for entry in self.recordings:
            self.job.sources |= {entry["file"]: entry["sha256"], **entry.get("parts", {})}

    def _known(self, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Images by name."""
        import pandas as pd

        names = sorted(trials["image"].astype(str).unique())
        ids = image_ids_of(names)
        found = wanted_images(names, self.opts)
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
            by_folder = _folder_of(name, found.get(name), self.opts.stimuli)
            category = of_trials[0] if of_trials else by_folder
            if category is None:
                raise RecordingError(
                    f"the category of the image '{name}' is not known; name a column with "
                    "'category_column', or keep images in a folder for each category"
                )
            rows.append({"image_id": ids[name], "category": category, "name": name})
        images = pd.DataFrame(rows)
        category_of = dict(zip(images["name"], images["category"]))
        trials = trials.assign(
            category=trials["image"].map(category_of), image_id=trials["image"].map(ids)
        )
        return trials, image_rows(images, {ids[n]: p for n, p in found.items()}, self.job)

    def _by_category(self, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Categories in place of images."""
        import pandas as pd

        categories = sorted(trials["category"].astype(str).unique())
        chosen = category_images(categories, self.opts.stimuli, self.opts.images)
        images = pd.DataFrame({"image_id": categories, "category": categories})
        if chosen:
            images["name"] = [chosen[c][0].name if c in chosen else None for c in categories]
            images["n_images"] = [chosen[c][1] if c in chosen else 0 for c in categories]
            self.notes.append(
                "which image was shown is not recorded, only its category; one image stands "
                "for each: " + ", ".join(f"{c} = {p.name}" for c, (p, _) in chosen.items())
            )
        images = image_rows(images, {c: p for c, (p, _) in chosen.items()}, self.job)
        return trials.assign(image_id=trials["category"]), images

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

    def _montage_name(self) -> str:
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


def _folder_of(name: str, path: Path | None, stimuli: Path | None) -> str | None:
    """Category of an image by the folder it lies in."""
    if path is not None and stimuli is not None:
        parts = path.relative_to(stimuli).parts
    else:
        parts = Path(name.replace("\\", "/")).parts
    return parts[-2] if len(parts) > 1 else None
