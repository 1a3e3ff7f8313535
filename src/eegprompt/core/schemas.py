"""What each file of eegprompt's own must hold to be read back.

A study or a run may come from somebody else, from an older version, or from a disk that lost a
page. Every JSON file has a model here (tables: :mod:`eegprompt.core.columns`). It says what the
code reads, no more: further fields are allowed everywhere. What does not fit is one error that
names the file, the field, what stands there and what is expected.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from eegprompt.core.errors import InputError

__all__ = ["FILES", "check_content"]

# -- kinds of values -----------------------------------------------------------------------------
Id = Annotated[int, Field(ge=0, lt=2**53)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Rate = Annotated[float, Field(gt=0, le=1e7)]
Seconds = Annotated[float, Field(ge=-1e6, le=1e6)]
Number = Annotated[float, Field(ge=-1e300, le=1e300)]
Level = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
FilePart = Annotated[str, AfterValidator(lambda text: _below(text, "/"))]
BelowPath = Annotated[str, AfterValidator(lambda text: _below(text, ""))]
Position = Annotated[list[Number | None], Field(min_length=3, max_length=3)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Json = dict[str, Any]


def _below(text: str, forbidden: str) -> str:
    """A path that stays in its folder, or, with "/" forbidden, the name of one file in it."""
    parts = text.split("/")
    if {"", ".", ".."} & set(parts) or set(text) & {"\\", "\0", ":", *forbidden}:
        raise ValueError("a file below its folder")
    return text


class _File(BaseModel):
    """A model that reads JSON as it stands: no text is taken for a number, no 1 for true."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


# -- studies -------------------------------------------------------------------------------------
class StudyFile(_File):
    """``study.json``."""

    format_version: int
    name: Name
    ch_names: Annotated[list[Name], Field(min_length=1)]
    sfreq: Rate
    tmin: Seconds
    unit: str
    design: str
    image_identity: str
    ch_pos: dict[str, Position | None] | None = None
    steps: list[Json | str] = []
    notes: list[str] = []
    source: str | None = ""
    license: str | None = ""
    citation: str | None = ""
    montage: str | None = ""
    expected: str | None = ""
    simulation: Json | None = None
    provenance: Json | None = None


class FoldIds(_File):
    """Trial ids of one fold."""

    train: list[Id]
    val: list[Id]
    test: list[Id]


class HowSplit(_File):
    """The call that makes a split again."""

    kind: str | None = None
    kept_apart: list[str] | None = None
    seed: int | None = None


class SplitFile(_File):
    """``splits/NAME.json``."""

    how: HowSplit = HowSplit()
    folds: Annotated[list[FoldIds], Field(min_length=1)]


class Decoding(_File):
    """How well something was decoded."""

    accuracy: Number | None = None
    lo: Number | None = None
    hi: Number | None = None
    chance: Number | None = None
    p: Number | None = None
    n: Count | None = None
    units: Count | None = None
    classes: Count | None = None
    noticed: Number | None = None
    above_chance: bool = False


class DecoderRow(Decoding):
    """One decoder of an audit."""

    decoder: str
    label: str
    share: Number | None = None


class GuessRow(Decoding):
    """One source that the class was guessed from."""

    source: str
    groups: Count | None = None
    one_class: bool
    p_holm: Number | None = None


class Timeline(_File):
    """What was shown when."""

    subject: str
    classes: list[str]
    shown: list[Id]
    sides: list[Annotated[int, Field(ge=0, le=3)]]
    breaks: list[Id]


class DesignCheck(_File):
    """What an audit found in the order of trials."""

    declared: str
    order_known: bool
    sources: list[GuessRow]
    found: bool
    found_in: list[str]
    words: list[str]
    timeline: Timeline | Annotated[dict[str, Any], Field(max_length=0)]


class SignalCheck(_File):
    """What an audit decoded where nothing should be."""

    found: bool
    decoding: Decoding | None
    words: list[str]
    window: str | None = None


class Distance(_File):
    """Accuracy by distance in time."""

    near: Number
    far: Number | None
    accuracy: Number | None
    n: Count


class DecoderCheck(_File):
    """What the decoders of an audit found."""

    rows: list[DecoderRow]
    decodable: bool | None
    nuisance_share: Number | None
    nuisance: str | None
    shape: bool = False
    distance: list[Distance]
    words: list[str]
    undecided: str = ""


class AuditChecks(_File):
    """The four checks of an audit."""

    design: DesignCheck
    time: SignalCheck
    prestimulus: SignalCheck
    decoders: DecoderCheck


class Leak(_File):
    """What two sets of a split share."""

    fold: Id
    kind: str
    sides: list[str]
    count: Count
    words: str


class Audit(_File):
    """The audit of one split."""

    key: str
    verdict: str
    decodable: bool | None = None
    summary: str
    evidence: list[str]
    limits: list[str]
    split: FilePart | None = None
    leaks: list[Leak] = []
    folds: Count = 0
    checks: AuditChecks | None = None
    alpha: Level = 0.05
    permutations: Count = 0
    seed: int | None = None


class AuditFile(_File):
    """``audit.json``; one of another format is left alone."""

    format: int
    splits: dict[str, Audit] = {}


class OldAuditFile(_File):
    """``audit.json`` of whatever format."""

    format: int


class Failure(_File):
    """An image that could not be captioned."""

    key: str
    image_id: str
    error: str
    created: str = ""


class CaptionSetFile(_File):
    """``captions/NAME.json``."""

    origin: dict[str, str] = {}
    n_images: Count | None = None
    n_captions: Count | None = None
    notes: list[str] = []
    failed: list[Failure] = []


class JournalCaption(_File):
    """One caption in a journal."""

    image_id: str
    kind: str
    text: str
    meaning: str | None = None
    key: str | None = None


class TruthFile(_File):
    """``truth/truth.json``."""

    kinds: list[str]
    subjects: list[str]
    ch_names: list[str]
    baseline: Pair | None
    rebound: Annotated[list[Number], Field(min_length=3, max_length=3)]
    summary: Json


# -- runs ----------------------------------------------------------------------------------------
class RunConfigFile(_File):
    """``config.yaml`` of a run, as far as it is read without checking all settings."""

    study: Name
    split: Name
    fold: Id = 0
    captions: Name = "builtin"
    own_kinds: list[Json] = []
    kinds: list[str] = []
    text_encoder: str = ""
    seed: Seed = 0
    encoder: Json = {}
    training: Json = {}
    decoding: Json = {}
    generation: Json = {}
    evaluation: Json = {}
    allow_leakage: list[str] = []


class Step(_File):
    """Provenance of one step of a run."""

    key: str | None = None
    inputs: str | None = None
    keys: dict[str, str] | None = None
    decoded: str | None = None
    allowed_leakage: list[str] | None = None
    selected_epoch: Count | None = None
    n_parameters: Count | None = None
    settings: Json | None = None
    text_encoder: Json | str | None = None
    packages: dict[str, str] | None = None
    platform: str | None = None
    command: str | None = None
    created: str | None = None


class Stamp(_File):
    """The verdict that is stamped on scores."""

    verdict: str
    summary: str = ""
    allowed_leakage: list[str] = []


class ScoreRow(_File):
    """One score."""

    metric: str
    value: Number | None = None
    source: str | None = None
    head: str | None = None
    pool: str | None = None
    scope: str | None = None
    unit: str | None = None
    n: Count | None = None
    n_trials: Count | None = None
    lo: Number | None = None
    hi: Number | None = None
    chance: Number | None = None
    p: Number | None = None
    p_holm: Number | None = None
    floor: Number | None = None
    ceiling: Number | None = None
    generator: str | None = None
    features: str | None = None
    higher_is_better: bool | None = None
    protocol: str | None = None
    note: str | None = None
    subject: str | None = None
    chance_within_class: Number | None = None
    p_within_class: Number | None = None
    floor_lo: Number | None = None
    floor_hi: Number | None = None
    ceiling_lo: Number | None = None
    ceiling_hi: Number | None = None


class ScoresFile(_File):
    """``scores.json``."""

    rows: list[ScoreRow]
    notes: list[str | Json] | None = None
    missing: list[str | Json] | None = None
    audit: Stamp | None = None


class EncoderFile(_File):
    """``encoder/config.json``."""

    name: Name
    encoder: Json
    ch_names: Annotated[list[Name], Field(min_length=1)]
    sfreq: Rate
    tmin: Seconds
    subjects: list[str] = []
    positions: list[Position] | None = None
    unit: str = ""
    eeg_std: Annotated[float, Field(ge=0, le=1e300)] | None = None
    scales: dict[str, Number] | None = None
    text_encoder: Json | None = None
    inputs: str | None = None


class FittedFile(_File):
    """``encoder/fitted.json``."""

    steps: list[str]


class LogisticFunction(_File):
    """From evidence to confidence."""

    intercept: Number
    slopes: Pair
    center: Pair
    scale: Pair


class HeadCalibration(_File):
    """Calibration of one head; its entries are arguments of what is made of it."""

    model_config = ConfigDict(extra="forbid")

    head: str
    first: LogisticFunction
    rest: LogisticFunction
    n: Count
    mean: Number
    pool: str
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    thresholds: list[Number] = []


class CalibrationFile(_File):
    """``encoder/calibration.json``."""

    heads: Annotated[dict[str, HeadCalibration], Field(min_length=1)]
    pool: str = ""
    text_encoder: Json | None = None
    eeg_std: Annotated[float, Field(ge=0, le=1e300)] | None = None
    decoding: Json = {}
    generator: str = "builtin"
    generator_options: Json = {}


class Generated(_File):
    """What was asked of one generator."""

    name: str | None = None
    revision: str | None = None
    settings: Json = {}
    look: str | None = None
    trial_ids: list[Id] = []
    sources: dict[FilePart, bool] = {}


class GenerationFile(_File):
    """``generation.json``."""

    generators: dict[FilePart, Generated]


class FigureEntry(_File):
    """One figure of a finding."""

    path: BelowPath
    caption: str


class FindingRecord(_File):
    """What a finding was made from."""

    key: str | None = None


class FindingFile(_File):
    """``explain/NAME.json``."""

    name: str
    title: str
    seen: str
    not_concluded: str
    verdict: str | None
    good: bool | None
    notes: list[str]
    table: list[dict[str, str | bool | int | Number | None]]
    figures: list[FigureEntry]
    arrays: dict[str, list[Id]] = {}
    ch_names: list[str] = []
    times: list[Number] = []
    heads: list[str] = []
    record: FindingRecord = FindingRecord()


class InputsFile(_File):
    """``checkpoints/inputs.json``."""

    inputs: str | None = None


# -- ablations and publications --------------------------------------------------------------------
class MeasuredFile(_File):
    """``measured.json`` of one variant."""

    key: str | None = None
    measures: Json = {}
    failed: str | None = None


class BaseFile(_File):
    """``base.json`` of an ablation."""

    settings: Json
    study: str
    fold: str = ""
    captions: str = ""


class AblationRow(_File):
    """One measure of one variant."""

    axis: str
    variant: str
    measure: str
    head: str | None = None
    mean: Number
    sd: Number | None = None
    chance: Number | None = None
    difference: Number | None = None
    lo: Number | None = None
    hi: Number | None = None
    p: Number | None = None


class AblationFile(_File):
    """``ablation.json``."""

    rows: list[AblationRow]
    seeds: Annotated[list[int], Field(min_length=1)]
    notes: list[str] = []
    failed: list[str] = []


class PublishedFigure(_File):
    """One figure under the number of a publication."""

    file: FilePart | None
    finding: str | None


# -- the catalog ---------------------------------------------------------------------------------
FILES: dict[str, Any] = {
    "study": StudyFile,
    "split": SplitFile,
    "audit": AuditFile,
    "audit of any format": OldAuditFile,
    "caption set": CaptionSetFile,
    "caption journal": list[JournalCaption] | Failure,
    "truth": TruthFile,
    "mapping": dict[str, Any],
    "config": RunConfigFile,
    "provenance": dict[str, Step],
    "scores": ScoresFile,
    "encoder": EncoderFile,
    "preprocessing": FittedFile,
    "calibration": CalibrationFile,
    "generation": GenerationFile,
    "finding": FindingFile,
    "training inputs": InputsFile,
    "measured": MeasuredFile,
    "ablation base": BaseFile,
    "ablation": AblationFile,
    "published figures": list[PublishedFigure],
}
"""What a JSON file or a run's settings must hold, by the kind of file."""


def check_content(content: Any, schema: str, path: Path, error: type[InputError]) -> None:
    """Refuse what was read from a file if it is not what a file of its kind holds.

    Parameters
    ----------
    content : object
        Plain values from JSON or YAML.
    schema : str
        A name in :data:`FILES`.
    path : pathlib.Path
        For the message.
    error : type
        Raised if it does not fit.
    """
    try:
        _adapter(schema).validate_python(content)
    except ValidationError as problem:
        errors = problem.errors(include_url=False, include_context=False)
        said = "; ".join(_in_words(e) for e in errors[:3])
        more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
        raise error(
            f"{path} does not hold what a file of its kind does: {said}{more}; write it again with "
            "the step that makes it"
        ) from None


@cache
def _adapter(schema: str) -> TypeAdapter[Any]:
    # A container without a model of its own is made one field of one, to be read strictly too.
    kind = FILES[schema]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return TypeAdapter(kind)
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


def _in_words(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    got = repr(problem.get("input"))
    short = got if len(got) <= 60 else got[:57] + "…"
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"'{where}' should be {expected}, but is {short}"
