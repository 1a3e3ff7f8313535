"""One experiment's settings, checked before anything runs, and the objects they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.files import content_key, write_text
from eegprompt.core.kinds import KINDS, add_kinds, own_kinds, parse_kinds
from eegprompt.core.registry import check_name
from eegprompt.core.safe_yaml import parse_yaml, read_yaml_settings
from eegprompt.prompts.select import Selection
from eegprompt.splits.leaks import LEAKS

__all__ = [
    "DecodingConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "GenerationConfig",
    "TrainingConfig",
    "apply_overrides",
    "grouped",
    "load_config",
]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderConfig(_Settings):
    """The EEG encoder."""

    name: str = Field("fused", description="which encoder, by its registered name")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="for its constructor; sizes that depend on data are not among them",
    )


class TrainingConfig(_Settings):
    """How the encoder is trained. Selection is by the validation set alone."""

    objective: str = Field("clip", description="what the heads are trained by")
    epochs: int = Field(40, ge=1, description="passes over the training trials, at most")
    batch_size: int = Field(128, ge=2, description="trials in a step")
    learning_rate: float = Field(2e-3, gt=0, description="highest rate of the schedule")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the objective")
    selection: Literal["loss", "retrieval"] = Field(
        "loss",
        description="which epoch is kept: that of the lowest validation loss, or of the best retrieval "
        "on the validation set",
    )
    patience: int = Field(
        10,
        ge=1,
        description="epochs without a better one; by retrieval only those that are clearly worse",
    )
    mixing: float = Field(
        0.0,
        ge=0,
        description="each training trial is mixed with one of another subject who saw the same image "
        "or category, by a share drawn from Beta(mixing, mixing); 0: not",
    )
    grouped: bool = Field(
        False, description="batches hold all training trials of their images, as far as they fit"
    )
    preprocessing: tuple[str, ...] = Field(
        ("auto",),
        description="steps fitted on the training set and applied to all EEG; auto: whiten where "
        "there are 10 trials a channel, else standardize",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: str = Field("32-true", description="as Lightning names it, e.g. bf16-mixed")
    workers: int = Field(0, ge=0, description="processes that load trials; 0: none beside the main")


class DecodingConfig(_Settings):
    """How captions are retrieved and made prompts."""

    pool: Literal["train", "test", "all"] = Field(
        "train", description="whose images' captions can be retrieved; it sets chance"
    )
    top_k: int = Field(5, ge=1, description="candidates kept for each head in decodings.parquet")
    per_head: int = Field(1, ge=1, description="captions of each head in a prompt")
    selection: str = Field(
        "all",
        description="which heads speak: all; top-k:2 (most confident, each trial); top-k-global:2 "
        "(most accurate on validation); level:low,mid; heads:ObjectSnap,ThemeTag",
    )
    abstain: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="a head is silent where captions of that confidence were worth less than this on "
        "validation (0.5 is a random caption, 1 the true one), e.g. 0.6; null: no head is silent",
    )
    order: Literal["kinds", "confidence", "object-first"] = Field(
        "kinds",
        description="of captions in a prompt: by level (kinds), by confidence, or the object first; "
        "in a blend, confidence also weighs the heads",
    )
    deduplicate: Literal["exact", "near"] = Field(
        "exact",
        description="near also leaves out phrases that differ in articles and endings alone",
    )
    style: str = Field("", description="put at the end of every prompt; part of its budget")
    route: Literal["text", "embeddings"] = Field(
        "text",
        description="text joins the captions; embeddings blends the prompt embeddings of the top_k "
        "candidates of each head by their similarity",
    )

    @field_validator("selection")
    @classmethod
    def _known_selection(cls, value: str) -> str:
        Selection.parse(value)
        return value


class GenerationConfig(_Settings):
    """Which images are drawn and by what."""

    generator: str = Field("builtin", description="what draws the images")
    options: dict[str, Any] = Field(
        default_factory=dict, description="for the generator: steps, guidance, dtype, ..."
    )
    negative_prompt: str = Field("", description="what images should not show; empty: nothing")
    sources: tuple[str, ...] = Field(
        ("eeg", "floor", "ceiling"), description="prompt sources that are drawn"
    )
    samples: int = Field(1, ge=1, description="images of each trial")
    trials_per_image: int | None = Field(
        1, ge=1, description="test trials drawn for each image; null draws all"
    )
    batch_size: int = Field(
        16,
        ge=1,
        description="images asked for at a time, of a generator that has no size of its own",
    )


class EvaluationConfig(_Settings):
    """How scores are computed."""

    features: str = Field("builtin", description="what images are compared by")
    weights: str | None = Field(
        None, description="folder of the weights files of features 'pretrained'; else the cache"
    )
    protocol: Literal["mindeye", "brain-diffuser"] = Field(
        "mindeye", description="whose way of preparing images"
    )
    permutations: int = Field(2000, ge=19, description="for chance and p")
    resamples: int = Field(1000, ge=100, description="for intervals")


class ExperimentConfig(_Settings):
    """Everything that decides a run's result. Equal settings, data and versions: equal bytes."""

    study: str = Field(description="the study's folder")
    split: str = Field("official", description="the split's name")
    fold: int = Field(0, ge=0, description="the fold, counted from 0")
    captions: str = Field("builtin", description="the caption set's name")
    own_kinds: tuple[dict[str, Any], ...] = Field(
        (), description="definitions of the `kinds` that are one's own; filled in from kind files"
    )
    kinds: tuple[str, ...] = Field(
        tuple(KINDS),
        description="caption kinds, one head each; also as low, mid, high or a kind file (YAML)",
    )
    text_encoder: str = Field("builtin", description="what embeds the captions; frozen")
    seed: int = Field(0, description="of all that is random")
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    generation: GenerationConfig = GenerationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    allow_leakage: tuple[str, ...] = Field(
        (), description="what the split's sides may share: images, repetitions, samples, subjects"
    )

    @model_validator(mode="before")
    @classmethod
    def _known_kinds(cls, settings: Any) -> Any:
        given = settings.get("own_kinds") or ()
        if not isinstance(given, list | tuple):
            raise ValueError(f"own_kinds is a list of definitions, got {given!r:.60}")
        add_kinds(given)
        if "kinds" not in settings:
            return settings
        kinds = parse_kinds(settings["kinds"])
        return {**settings, "kinds": kinds, "own_kinds": own_kinds(kinds)}

    @field_validator("allow_leakage", mode="before")
    @classmethod
    def _known_waivers(cls, value: Any) -> tuple[str, ...]:
        words = value.split(",") if isinstance(value, str) else (value or ())
        found = tuple(dict.fromkeys(str(w).strip() for w in words if str(w).strip()))
        for word in found:
            if word not in LEAKS:
                raise ValueError(str(UnknownNameError("allowed_leak", word, LEAKS)))
        return found

    @property
    def key(self) -> str:
        """Content key of the settings that decide training."""
        return content_key(
            self.model_dump(
                include={
                    "study",
                    "split",
                    "fold",
                    "captions",
                    "kinds",
                    "text_encoder",
                    "seed",
                    "encoder",
                    "training",
                }
            )
        )

    def save(self, path: str | Path) -> Path:
        """Write as YAML, atomically."""
        return write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def apply_overrides(settings: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Set ``key.sub=value`` pairs in nested settings; values are read as YAML.

    Raises
    ------
    InputError
        If a pair has no ``=`` or runs through something that is no group.

    Examples
    --------
    >>> apply_overrides({"seed": 0}, ["seed=3", "training.epochs=5"])
    {'seed': 3, 'training': {'epochs': 5}}
    """
    result = {**settings}
    for pair in overrides:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InputError(
                f"an override is written key=value, e.g. training.epochs=5; got '{pair}'"
            )
        *groups, last = key.strip().split(".")
        place = result
        for group in groups:
            inner = place.get(group, {})
            if not isinstance(inner, dict):
                raise InputError(f"'{group}' in override '{pair}' is a single value, not a group")
            place[group] = {**inner}
            place = place[group]
        place[last] = parse_yaml(text, f"override '{pair[:80]}'") if text else ""  # or "null"
    return result


def grouped(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings given as keyword arguments, each put into its group.

    Parameters
    ----------
    settings : mapping
        Names of top-level settings (``kinds``, ``seed``, ``encoder``, …), with a group as a
        dictionary or its main entry as a name, or names of settings within a group, which go into
        the first group that has them: training, decoding, generation, evaluation.

    Returns
    -------
    dict
        Nested as in ``config.yaml``.

    Raises
    ------
    UnknownNameError
        If no group has a setting of that name.

    Examples
    --------
    >>> grouped({"kinds": "low", "epochs": 20, "encoder": "ridge"})
    {'kinds': 'low', 'training': {'epochs': 20}, 'encoder': {'name': 'ridge'}}
    """
    groups: dict[str, type[BaseModel]] = {
        "training": TrainingConfig,
        "decoding": DecodingConfig,
        "generation": GenerationConfig,
        "evaluation": EvaluationConfig,
    }
    main = {"encoder": "name", "generation": "generator", "evaluation": "features"}
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        if name in ExperimentConfig.model_fields:
            given = {main[name]: value} if name in main and isinstance(value, str) else value
            nested[name] = {**nested.get(name, {}), **given} if isinstance(given, dict) else given
            continue
        group = next((g for g, model in groups.items() if name in model.model_fields), None)
        if group is None:
            known = [*ExperimentConfig.model_fields]
            known += [field for model in groups.values() for field in model.model_fields]
            raise UnknownNameError("setting", name, sorted(set(known)))
        nested[group] = {**nested.get(group, {}), name: value}
    return nested


def load_config(
    source: str | Path | dict[str, Any], overrides: list[str] | None = None
) -> ExperimentConfig:
    """Read and check settings from a YAML file or a dictionary.

    Raises
    ------
    InputError
        If the file is missing, a setting is unknown or out of range (all such are listed), or it
        names an encoder, generator or the like that does not exist.
    """
    settings = source if isinstance(source, dict) else read_yaml_settings(source)
    settings = apply_overrides(settings, overrides or [])
    try:
        config = ExperimentConfig(**settings)
    except ValidationError as problem:
        raise InputError(_in_words(problem)) from None
    _check_names(config)
    return config


def _check_names(config: ExperimentConfig) -> None:
    """Refuse a name that is not in the registry before anything is made with the settings."""
    for group, spec in (
        ("encoder", config.encoder.name),
        ("objective", config.training.objective),
        ("text encoder", config.text_encoder),
        ("generator", config.generation.generator),
        ("features", config.evaluation.features),
    ):
        check_name(group, spec)


def _in_words(problem: ValidationError) -> str:
    sentences = []
    for error in problem.errors():
        where = ".".join(str(p) for p in error["loc"])
        if error["type"] == "extra_forbidden":
            model: Any = ExperimentConfig
            for part in error["loc"][:-1]:
                model = model.model_fields[str(part)].annotation
            *group, name = (str(part) for part in error["loc"])
            what = f"setting of {'.'.join(group)}" if group else "setting"
            sentences.append(str(UnknownNameError(what, name, sorted(model.model_fields))))
        else:
            problem_in_words = error["msg"].removeprefix("Value error, ")
            sentences.append(f"setting '{where}': {problem_in_words}, got {error.get('input')!r}")
    return "; ".join(sentences)
