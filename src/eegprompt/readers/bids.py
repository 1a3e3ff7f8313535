"""Read a BIDS dataset of EEG into a study, through mne-bids.

BIDS says where recordings lie, what their channels are and which are bad (``channels.tsv``), and when
what was shown (``events.tsv``: `onset`, and commonly `trial_type` and `stim_file`). Which column names
the image and which the category is asked for where these are not there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from eegprompt.core.errors import MissingDependencyError, RecordingError, UnknownNameError
from eegprompt.core.files import read_json
from eegprompt.readers._event_names import read_codes, read_text_table
from eegprompt.readers._events import FoundEvents
from eegprompt.readers._file_checks import check_whole
from eegprompt.readers._open_recording import without_continuations
from eegprompt.readers._raw_recording import mne_errors, recording_from_raw
from eegprompt.readers._recording import FORMATS, Recording, checked_signal
from eegprompt.readers._units import check_scales
from eegprompt.readers.base import Content, DatasetFacts, Import, Reader, one_source
from eegprompt.readers.continuous import ContinuousImport, ContinuousOptions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BidsOptions", "BidsReader"]

_NOT_HERE = (
    *("glob", "pattern", "subject", "session", "marker", "windows", "category_from"),
    *("events_table", "sfreq", "time_column"),
)


class BidsOptions(ContinuousOptions):
    """Settings of the reader for BIDS: those of ``continuous``, less what BIDS says itself."""

    subjects: tuple[str, ...] | None = Field(None, description="subjects to read; default all")
    sessions: tuple[str, ...] | None = Field(None, description="sessions to read; default all")
    tasks: tuple[str, ...] | None = Field(None, description="tasks to read; default all")
    events_table: str | None = Field("events.tsv", description="BIDS's own; cannot be changed")
    channel_names: Literal["table"] | None = Field(
        None, description="'table': where channels.tsv and the file disagree, the table is right"
    )
    stimuli: Path | None = Field(
        None, description="folder of the images; default the dataset's own 'stimuli'"
    )

    not_offered: ClassVar[frozenset[str]] = frozenset(_NOT_HERE)

    @model_validator(mode="before")
    @classmethod
    def _from_bids(cls, values: Any) -> Any:
        for name in _NOT_HERE:
            if isinstance(values, dict) and values.get(name) is not None:
                raise ValueError(
                    f"'{name}' is said by the BIDS dataset itself; leave it out ('subjects', "
                    "'sessions' and 'tasks' choose what is read)"
                )
        return values


@dataclass
class _Plan:
    """The dataset: its folder, what it says of itself, and the paths of its recordings."""

    root: Path
    about: dict[str, Any]
    paths: list[Any]


class BidsReader(Reader[BidsOptions, _Plan]):
    """Imports the EEG of a BIDS dataset: the folder that holds ``dataset_description.json``.

    Examples
    --------
    ``BidsReader().read("ds003825", "study", subjects="01,02", image_column="object",
    bandpass=(0.1, 40), stimuli="images")``
    """

    name = "bids"
    options = BidsOptions

    def prepare(self, paths: list[Path], options: BidsOptions) -> _Plan:
        """What the dataset says of itself, and its recordings."""
        root = one_source(paths)
        return _Plan(root, _description(root), _recordings(root, options))

    def write(self, job: Import[BidsOptions, _Plan]) -> Content:
        """Cut every recording into trials."""
        opts, (root, about, paths) = job.options, vars(job.plan).values()
        if opts.stimuli is None and (root / "stimuli").is_dir():
            job.options = opts = opts.model_copy(update={"stimuli": root / "stimuli"})
        name = str(about.get("Name") or root.resolve().name)
        cited = about.get("HowToAcknowledge") or about.get("DatasetDOI") or ""
        job.facts = DatasetFacts(
            f"BIDS dataset {name}",
            opts.citation or str(cited),
            opts.license or str(about.get("License", "")),
        )
        recordings = _BidsImport(job, opts, read_codes(opts.events), len(paths) > 1)
        recordings.paths = {Path(path.fpath): path for path in paths}
        content = recordings.add_all(
            [
                (
                    Path(path.fpath),
                    {
                        "subject": path.subject,
                        "session": path.session or "1",
                        "run": _run_of(path, paths),
                    },
                )
                for path in paths
            ]
        )
        content.name = name
        return content


def _description(root: Path) -> dict[str, Any]:
    path = root / "dataset_description.json"
    if not path.is_file():
        raise RecordingError(
            f"{root} holds no dataset_description.json, so it is no BIDS dataset; name its root "
            "folder, or read single recordings with 'continuous'"
        )
    about = read_json(path, error=RecordingError)
    if not isinstance(about, dict):
        raise RecordingError(f"{path} should hold an object with the dataset's Name; mend it")
    return about


def _recordings(root: Path, opts: BidsOptions) -> list[Any]:
    """Paths of the EEG recordings, sorted."""
    try:
        from mne_bids import find_matching_paths, get_entity_vals
    except ImportError:
        raise MissingDependencyError("mne_bids", "bids") from None

    notes: list[str] = []
    wanted = {"subjects": opts.subjects, "sessions": opts.sessions, "tasks": opts.tasks}
    chosen: dict[str, list[str] | None] = {}
    with mne_errors(root, notes, "a BIDS dataset"):
        for entities, asked in wanted.items():
            there = get_entity_vals(root, entities[:-1])
            chosen[entities] = None if asked is None else [_named(n, there) for n in asked]
            for name, match in zip(asked or (), chosen[entities] or ()):
                if match not in there:
                    raise UnknownNameError(f"{entities[:-1]} in {root}", name, there)
        found = find_matching_paths(
            root,
            **chosen,
            datatypes="eeg",
            suffixes="eeg",
            extensions=list(FORMATS),
        )
    # What lies below derivatives, sourcedata or code is processed or copied, and no trial of its own.
    raw = [p for p in found if Path(p.fpath).relative_to(root).parts[0].startswith("sub-")]
    found = raw or found
    if not found:
        raise RecordingError(
            f"{root} holds no EEG recording (sub-*/eeg/*_eeg of {', '.join(FORMATS)}) of what was "
            "asked for; check 'subjects', 'sessions' and 'tasks'"
        )
    begins = set(without_continuations([Path(p.fpath) for p in found]))
    return sorted((p for p in found if Path(p.fpath) in begins), key=lambda p: str(p.fpath))


def _named(name: str, there: list[str]) -> str:
    """The entity's own spelling: a command line may read 01 as the number 1."""
    if name not in there and name.isdigit():
        alike = [t for t in there if t.isdigit() and int(t) == int(name)]
        if len(alike) > 1:
            raise RecordingError(
                f"'{name}' may be {' or '.join(alike)}; spell it as the dataset does"
            )
        return alike[0] if alike else name
    return name


def _run_of(path: Any, paths: list[Any]) -> str:
    """Run of a recording; with several tasks, its task too: they are recordings of their own."""
    tasks = {p.task for p in paths}
    run = str(path.run) if path.run is not None else "1"
    return f"{path.task}-{run}" if len(tasks) > 1 else run


class _BidsImport(ContinuousImport):
    """Recordings and events as BIDS describes them."""

    opts: BidsOptions
    paths: dict[Path, Any]

    def open(self, file: Path) -> Recording:
        """Read one recording with its channels as ``channels.tsv`` describes them."""
        opts = self.opts
        if not file.is_file():
            raise RecordingError(f"{file} is named by the dataset, but is not there; copy it again")
        check_whole(file)
        notes: list[str] = []
        raw, units = self._raw(file, notes)
        recording = recording_from_raw(
            raw,
            file,
            notes,
            channels=opts.channels,
            exclude=opts.exclude,
            rename=opts.rename,
            unit=opts.unit,
            montage=opts.montage,
            units=units,
        )
        recording = checked_signal(recording)
        if opts.unit != "a.u.":
            check_scales(recording)
        return recording

    def _raw(self, file: Path, notes: list[str]) -> tuple[Any, dict[str, str]]:
        """What mne-bids opens, and the units by ``channels.tsv``, whose channels were compared."""
        import mne
        from mne_bids import read_raw_bids

        table = self.paths[file].find_matching_sidecar(
            suffix="channels", extension=".tsv", on_error="ignore"
        )
        how, units = "raise", {}
        if table is not None:
            with mne_errors(file, [], FORMATS[file.suffix.lower()]):
                names = mne.io.read_raw(file, preload=False, verbose="ERROR").ch_names
            rows = read_text_table(Path(table), "table of channels")
            how = _how_to_name(rows, Path(table), names, self.opts.channel_names, notes)
            if "units" in rows:
                units = dict(zip((name.strip() for name in rows["name"]), rows["units"]))
        with mne_errors(file, notes, "BIDS"):
            raw = read_raw_bids(self.paths[file], on_ch_mismatch=how, verbose="ERROR")
            if how == "reorder":  # the file's header describes its channels in the file's order
                raw.reorder_channels(names)
        return raw, {name: said for name, said in units.items() if name in raw.ch_names}

    def events_in(self, recording: Recording, file: Path, who: dict[str, str]) -> FoundEvents:
        """Events from the recording's ``events.tsv``."""
        table = self.paths[file].find_matching_sidecar(
            suffix="events", extension=".tsv", on_error="ignore"
        )
        if table is None:
            raise RecordingError(
                f"{file} has no events.tsv beside it, so that nothing says what was shown; add it, or "
                "leave the recording out with 'subjects', 'sessions' or 'tasks'"
            )
        return self.listed_events(recording, Path(table))


def _how_to_name(
    rows: pd.DataFrame, table: Path, names: list[str], asked: str | None, notes: list[str]
) -> str:
    """How mne-bids is to bring a file's channels and those of ``channels.tsv`` together.

    Raises
    ------
    RecordingError
        If they have other names, or the table names one twice.
    """
    if "name" not in rows:
        raise RecordingError(
            f"{table} has no column 'name' (it has {', '.join(rows.columns)}); mend it"
        )
    listed = [name.strip() for name in rows["name"]]
    twice = [name for name, count in Counter(listed).items() if count > 1]
    if twice:
        raise RecordingError(f"{table} names the channel '{twice[0]}' twice; rename one of them")
    only_table = [name for name in listed if name not in names]
    only_file = [name for name in names if name not in listed]
    if not only_table and not only_file:
        return "raise" if listed == names else "reorder"
    differ = (
        f"{table} names {', '.join(only_table[:8]) or 'no others'} that are not in the file, and the "
        f"file has {', '.join(only_file[:8]) or 'no others'} that are not in the table"
    )
    if len(listed) != len(names):
        notes.append(f"{differ}; channels were matched by name")
        return "raise"
    if asked == "table":
        notes.append(f"{differ}; the table's names were taken, in the order of the file")
        return "rename"
    raise RecordingError(
        f"{differ}; mend the table, or pass 'channel_names=table' to take its names in the order of "
        "the file"
    )
