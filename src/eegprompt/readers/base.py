"""What every reader has in common: options that are checked, and one way from files to a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)  # fmt: skip

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from eegprompt.core.errors import InputError, RecordingError, UnknownNameError
from eegprompt.core.files import provenance
from eegprompt.core.progress import Progress
from eegprompt.readers._images import NO_IMAGE, add_image, check_stimuli, find_images
from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of
from eegprompt.splits.official import write_sides
from eegprompt.study import Study, StudyWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Content",
    "DatasetFacts",
    "Duplicates",
    "ImageOptions",
    "Import",
    "Reader",
    "ReaderOptions",
    "StudyOptions",
    "image_rows",
    "one_source",
    "wanted_images",
]


class ReaderOptions(BaseModel):
    """Base of every reader's settings: unknown names are refused, values cannot change.

    What may be several can be given as one, or as a text with commas, as a command line has it;
    what gives names to names, as a text like ``T3=T7,T5=P7``.

    Examples
    --------
    >>> class Options(ReaderOptions):
    ...     subjects: tuple[str, ...] | None = None
    ...     rename: dict[str, str] = {}
    >>> Options.parse({"subjects": 7, "rename": {3: "T7"}})
    Options(subjects=('7',), rename={'3': 'T7'})
    >>> Options.parse({"subjects": "01, 02"}).subjects
    ('01', '02')
    >>> Options.parse({"rename": "T3=T7, T5=P7"}).rename
    {'T3': 'T7', 'T5': 'P7'}
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,  # a subject called 1 comes from a command line as a number
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_several(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        result = dict(values)
        for name, value in values.items():
            field = cls.model_fields.get(name)
            kinds = _alternatives(field.annotation) if field is not None else []
            if any(get_origin(k) is tuple and Ellipsis in get_args(k) for k in kinds):
                if isinstance(value, str):
                    result[name] = tuple(part for p in value.split(",") if (part := p.strip()))
                elif isinstance(value, (int, float, Path)):
                    result[name] = (value,)
            elif isinstance(value, Mapping):
                result[name] = {str(key): entry for key, entry in value.items()}
            elif isinstance(value, str) and any(get_origin(k) is dict for k in kinds):
                result[name] = _pairs_in(value, Path in kinds)
        return result

    not_offered: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def offered(cls) -> dict[str, FieldInfo]:
        """The settings that a person can give; a reader may refuse some that it inherits."""
        return {name: f for name, f in cls.model_fields.items() if name not in cls.not_offered}

    @classmethod
    def parse(cls, options: dict[str, Any]) -> Self:
        """Check settings; all that is wrong is said at once.

        Raises
        ------
        InputError
            If a setting is unknown (with a suggestion) or its value is not allowed.
        """
        try:
            return cls(**options)
        except ValidationError as problem:
            sentences = []
            for error in problem.errors():
                where = ".".join(str(p) for p in error["loc"])
                if error["type"] == "extra_forbidden":
                    sentences.append(str(UnknownNameError("option", where, cls.offered())))
                elif error["type"] == "value_error":
                    sentences.append(str(error["ctx"]["error"]))
                else:
                    sentences.append(
                        f"option '{where}': {error['msg']}, got {error.get('input')!r}"
                    )
            raise InputError("; ".join(dict.fromkeys(sentences))) from None


def _pairs_in(text: str, or_path: bool) -> Any:
    """A mapping from a text of pairs; the text itself where it is none, or may be a path and is."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        return text
    if or_path and Path(text).exists():
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}


def _alternatives(annotation: Any) -> list[Any]:
    """What an annotation allows: the parts of ``A | B``, or itself."""
    if get_origin(annotation) in (Union, UnionType):
        return list(get_args(annotation))
    return [annotation]


class StudyOptions(ReaderOptions):
    """Settings that every reader has."""

    name: str | None = Field(None, description="the study's name; default the source's")
    overwrite: bool = Field(False, description="replace a study that is there already")


class ImageOptions(StudyOptions):
    """Settings of readers whose source does not bring its images."""

    stimuli: Path | None = Field(None, description="folder of the images that were shown")
    allow_missing_images: bool = Field(False, description="go on without images not found")


Duplicates = Annotated[
    Literal["drop", "keep", "refuse"],
    Field(description="what to do with a trial that repeats another byte for byte"),
]


# -- a reader ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset, and what is not.

    Parameters
    ----------
    title : str
        Its name in words.
    citation, license, url : str
        What to cite, under which terms it may be used, where it is to be had.
    expected : str
        Counts and shapes of the release, in words.
    unverified : tuple of str
        What the reader takes on trust, a sentence each; they become notes of the study.
    """

    title: str
    citation: str = ""
    license: str = ""
    url: str = ""
    expected: str = ""
    unverified: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: str) -> Self:
        """Those of a dataset in ``readers/datasets.yaml``."""
        from eegprompt.core.safe_yaml import parse_yaml

        path = Path(__file__).with_name("datasets.yaml")
        entry = parse_yaml(path.read_text("utf-8"), str(path))[dataset]
        return cls(**{**entry, "unverified": tuple(entry.get("unverified", ()))})

    def info(self) -> dict[str, Any]:
        """Entries of ``study.json``."""
        return {
            "source": f"{self.title} ({self.url})" if self.url else self.title,
            "license": self.license,
            "citation": self.citation,
            **({"expected": self.expected} if self.expected else {}),
        }

    def notes(self) -> list[str]:
        """Sentences for the study's notes."""
        return [f"not verified: {what}" for what in self.unverified]


O = TypeVar("O", bound=StudyOptions)  # noqa: E741
P = TypeVar("P")


@dataclass
class Import(Generic[O, P]):
    """One import under way: what was asked for, where trials go, and what is known so far.

    Parameters
    ----------
    options : StudyOptions
        Of the reader.
    paths : list of pathlib.Path
        What was given as source.
    plan : object
        What the reader's `prepare` gave.
    writer : StudyWriter
        Takes trials by `append`; its `folder` takes images.
    progress : callable
        Called with (done, total, label).
    facts : DatasetFacts
        The reader's; may be replaced.
    notes : list of str
        Sentences that a person should read.
    sources : dict of str to str
        File -> checksum, for the provenance.
    found : int
        Events in the source: each became a trial or was left out.
    left_out : Counter
        Reason -> events.
    """

    options: O
    paths: list[Path]
    plan: P
    writer: StudyWriter
    progress: Progress
    facts: DatasetFacts
    notes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    found: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass
class Content:
    """What a reader gives beside the trials that it wrote.

    Parameters
    ----------
    trials : pandas.DataFrame
        One row per trial, as written: `subject`, `image_id`, `category`, and what else is known of
        `session run block order onset n_averaged`. Further columns are kept.
    images : pandas.DataFrame
        One row per image: `image_id`, `category`, and what :func:`image_rows` adds.
    ch_names : sequence of str
    sfreq, tmin : float
        Hz, and time of the first sample relative to onset in seconds.
    unit : {"V", "a.u."}
    design : {"block", "randomised", "unknown"}
    image_identity : {"known", "category"}
    steps : list of dict
        What was done to the signal, by the source and here.
    name : str
        The study's name where none is asked for; default the reader's.
    sides : sequence of {"train", "val", "test"}, optional
        Of each trial in the source's own split.
    more : dict
        Further entries of ``study.json``, or others in place of the usual ones.
    """

    trials: pd.DataFrame
    images: pd.DataFrame
    ch_names: Sequence[str]
    sfreq: float
    tmin: float
    unit: str = "a.u."
    design: str = "unknown"
    image_identity: str = "known"
    steps: list[dict[str, Any]] = field(default_factory=list)
    name: str = ""
    sides: Sequence[str] = ()
    more: dict[str, Any] = field(default_factory=dict)


class Reader(ABC, Generic[O, P]):
    """Turns files of one kind into a study.

    What all readers do stands here: options are checked, the source is looked at before anything is
    written, a study appears whole or not at all, every event is accounted for, and the record says
    where it came from. A reader has a `name`, `options`, `facts`, and `write`; where its source needs
    more than one path, `prepare`; and `split` where its source brings an unusual one.

    Examples
    --------
    ``MyReader().read("recordings", "study", subjects="01")``
    """

    name: ClassVar[str]
    options: ClassVar[type[StudyOptions]] = StudyOptions
    facts: ClassVar[DatasetFacts | None] = None

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import `source` into a new study.

        Parameters
        ----------
        source : path-like or iterable of path-like
            Files or folders; the class says which.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (done, total, label).
        **options
            Of the reader; its `options` lists them.

        Returns
        -------
        Study
            ``study.info["notes"]`` says, a sentence each, what a person should know.

        Raises
        ------
        InputError
            If an option is unknown or not allowed.
        RecordingError
            If a file is not what it should be, or no trial is left.
        SplitError
            If the source's own split leaks.
        """
        asked = cast(O, self.options.parse(options))
        paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(p) for p in source]
        if isinstance(asked, ImageOptions):
            check_stimuli(asked.stimuli)
        plan = self.prepare(paths, asked)
        with StudyWriter.open(out, overwrite=asked.overwrite) as writer:
            facts = self.facts or DatasetFacts(title=self.name)
            quiet: Progress = lambda done, total, label: None  # noqa: E731
            job = Import(asked, paths, plan, writer, progress or quiet, facts)
            content = self.write(job)
            writer.finish(
                info=self._info(job, content), trials=content.trials, images=content.images
            )
            self.split(Study(writer.folder), content, job)
        return Study(out)

    def prepare(self, paths: list[Path], options: O) -> P:
        """Look at the source before anything is written; by default, take the one path as it is.

        Parameters
        ----------
        paths : list of pathlib.Path
            What was given as source.
        options : StudyOptions
            Checked.

        Returns
        -------
        object
            Whatever `write` and `split` need, as ``job.plan``.
        """
        return cast(P, one_source(paths))

    @abstractmethod
    def write(self, job: Import[O, P]) -> Content:
        """Write the trials, one block after the other, and give the tables.

        Parameters
        ----------
        job : Import
            ``job.writer.append(eeg)`` takes trials (n, n_chans, n_times); ``job.found`` and
            ``job.left_out`` must account for every event.
        """

    def split(self, study: Study, content: Content, job: Import[O, P]) -> None:
        """Write the source's own split into the finished study, where it has one.

        Parameters
        ----------
        study : Study
        content : Content
            What `write` gave.
        job : Import
        """
        if len(content.sides):
            write_sides(study, content.sides, ", ".join(map(str, job.paths)))

    def _info(self, job: Import[O, P], content: Content) -> dict[str, Any]:
        places = positions_of(content.ch_names)
        return {
            **job.facts.info(),
            "name": job.options.name or content.name or self.name,
            "ch_names": list(content.ch_names),
            "ch_pos": {name: where for name, where in places.items() if where is not None},
            "sfreq": content.sfreq,
            "tmin": content.tmin,
            "unit": content.unit,
            "montage": STANDARD_MONTAGE,
            "design": content.design,
            "image_identity": content.image_identity,
            "steps": content.steps,
            "accounting": job.writer.accounting(job.found, job.left_out),
            "notes": [*dict.fromkeys(job.notes), *job.facts.notes()],
            "provenance": provenance(
                reader=self.name,
                options=job.options.model_dump(mode="json"),
                sources=job.sources,
            ),
            **content.more,
        }


def one_source(paths: Sequence[Path]) -> Path:
    """The one file or folder that was given to a reader.

    Raises
    ------
    RecordingError
        If there are several, or it does not exist.
    """
    if len(paths) != 1:
        raise RecordingError(
            f"this reader reads one file or folder, got {len(paths)}; name the folder that holds "
            "them, or import them one by one"
        )
    if not paths[0].exists():
        raise RecordingError(f"{paths[0]} does not exist; check the source")
    return paths[0]


# -- images ------------------------------------------------------------------------------------
def wanted_images(
    names: Sequence[str], options: ImageOptions, likely: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Images by their names below 'stimuli'; those that are not there are refused unless allowed.

    Parameters
    ----------
    names : sequence of str
    options : ImageOptions
    likely : mapping of str to str, optional
        Name -> the folder it should lie in: where a tree has a million files, it is not walked if all
        lie there.

    Raises
    ------
    RecordingError
        If images are missing and may not be.
    """
    stimuli = options.stimuli
    if stimuli is None:
        return {}
    found: dict[str, Path] = {}
    for name, folder in (likely or {}).items():
        places = (stimuli / folder / f"{name}{s}" for s in (".JPEG", ".jpg", ".png", ".jpeg"))
        if there := next((place for place in places if place.is_file()), None):
            found[name] = there
    rest = [name for name in names if name not in found]
    found |= find_images(rest, stimuli) if rest else {}
    missing = [name for name in names if name not in found]
    if missing and not options.allow_missing_images:
        raise RecordingError(
            f"{len(missing)} of {len(names)} images are not below {stimuli} (first: "
            f"{', '.join(missing[:20])}); add them, or pass 'allow_missing_images' to go on without"
        )
    return found


def image_rows(
    images: pd.DataFrame, found: Mapping[str, Path], job: Import[Any, Any]
) -> pd.DataFrame:
    """Copy images into a study and give its table of images.

    Parameters
    ----------
    images : pandas.DataFrame
        At least `image_id` and `category`.
    found : mapping of str to pathlib.Path
        Image id -> file; those without are told in the study's notes.
    job : Import

    Returns
    -------
    pandas.DataFrame
        With `path`, `sha256`, `width` and `height`.
    """
    names = images["image_id"].tolist()
    facts: list[dict[str, Any]] = []
    for n, name in enumerate(names):
        there = name in found
        facts.append(add_image(found[name], job.writer.folder, name) if there else dict(NO_IMAGE))
        if n % 100 == 99 or n + 1 == len(names):
            job.progress(n + 1, len(names), "images")
    missing = [n for n in names if n not in found]
    if len(missing) == len(names):
        job.notes.append(
            "no image has its image: the reader's option 'stimuli' says in which folder they lie"
        )
    elif missing:
        listed = ", ".join(missing[:20]) + (", …" if len(missing) > 20 else "")
        job.notes.append(f"{len(missing)} of {len(names)} images have no image: {listed}")
    return images.assign(**{column: [f[column] for f in facts] for column in NO_IMAGE})
