"""Recipes: a YAML file that says what to make and with which settings to run it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eegprompt.core.errors import InputError, StudyError, UnknownNameError
from eegprompt.core.safe_yaml import read_yaml_settings
from eegprompt.settings import ExperimentConfig, TrainingConfig, apply_overrides, load_config

if TYPE_CHECKING:
    pass
    from eegprompt.study import Study

__all__ = [
    "AblationsRecipe",
    "ImportRecipe",
    "MakeRecipe",
    "Recipe",
    "complete_settings",
    "demo_recipe",
    "load_recipe",
    "read_settings",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ImportRecipe(_Section):
    """A call of a reader. Paths in `files` lie below `source`."""

    reader: str
    source: str
    files: tuple[str, ...] = (".",)
    options: dict[str, Any] = Field(default_factory=dict)
    obtain: str = Field("", description="where anyone can get the recordings; shown when missing")


class CaptionsRecipe(_Section):
    """A call of a captioner."""

    captioner: str
    name: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class SplitRecipe(_Section):
    """A call of a splitter."""

    kind: str
    name: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class MakeRecipe(_Section):
    """How a study comes about: simulated or imported, then captioned, then split."""

    simulate: dict[str, Any] | None = None
    import_: ImportRecipe | None = Field(None, alias="import")
    captions: CaptionsRecipe | None = None
    split: SplitRecipe | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> MakeRecipe:
        if (self.simulate is None) == (self.import_ is None):
            raise ValueError("give either 'simulate' or 'import'")
        return self


class AblationsRecipe(_Section):
    """A call of :func:`eegprompt.steps.ablate.ablate` after the run, into its folder ``ablation/``."""

    what: tuple[str, ...]
    seeds: int = Field(3, ge=1)
    draw: bool = True
    jobs: int = Field(1, ge=1)


class Recipe(_Section):
    """What to make, what to run, and over which folds.

    Parameters
    ----------
    settings : dict
        Settings of an experiment; `study` is absent where `make` makes it.
    make : MakeRecipe, optional
        How the study comes about.
    folds : {"one", "all"}
        Run the fold named in the settings, or each fold of the split.
    published : path-like, optional
        CSV of published scores: the run's table beside them, and its figures under the paper's
        numbers, are written into its folder ``paper/``.
    ablations : AblationsRecipe, optional
        What to compare after the run, of fold 0 where there are several.
    explain : bool, "deep" or names of analyses
        Whether to explain what was decoded, and whether with what retrains or redraws.
    """

    settings: dict[str, Any] = Field(default_factory=dict)
    make: MakeRecipe | None = None
    folds: Literal["one", "all"] = "one"
    published: Path | None = None
    ablations: AblationsRecipe | None = None
    explain: bool | Literal["deep"] | tuple[str, ...] = False


def demo_recipe(
    *,
    signal: float | None = None,
    seed: int = 0,
    quick: bool = False,
    captions: str | None = None,
    overrides: Sequence[str] | None = None,
) -> Recipe:
    """The recipe of ``eegprompt demo``: the built-in study, sized for a laptop without GPU.

    Parameters
    ----------
    signal : float, optional
        Evoked over background RMS, a linear ratio; 0 plants no signal; default: the simulation's.
    seed : int
        Seed of study, training and generation.
    quick : bool
        A smaller study and fewer images, without explanations, to see that all works.
    captions : str, optional
        Who captions the images, e.g. ``"rules"``; default: the study's own captions, which know
        what was drawn.
    overrides : sequence of str, optional
        ``key=value`` words for the settings.

    Returns
    -------
    Recipe
    """
    simulate: dict[str, Any] = {"seed": seed}
    settings: dict[str, Any] = {"seed": seed}
    if signal is not None:
        simulate["signal"] = signal
    if quick:
        simulate |= _QUICK_STUDY
        settings |= _QUICK_SETTINGS
    written = None
    if captions is not None and captions != ExperimentConfig.model_fields["captions"].default:
        written = CaptionsRecipe(captioner=captions, name=captions.partition(":")[0])
        settings["captions"] = written.name
    return Recipe(
        settings=apply_overrides(settings, list(overrides or ())),
        make=MakeRecipe(simulate=simulate, captions=written),
        explain=not quick,
    )


ABLATION = "ablation"  # where a run keeps its ablations


STUDY = "study"  # where a recipe makes its study, in the run's folder


_QUICK_STUDY: dict[str, Any] = {"subjects": 1, "images": 200}


_QUICK_SETTINGS: dict[str, Any] = {"training": {"epochs": 5}}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read settings from a YAML file, unchecked.

    Raises
    ------
    InputError
        If it is missing or holds something else than settings.
    """
    return read_yaml_settings(path)


def load_recipe(
    path: str | Path,
    overrides: Sequence[str] | None = None,
    *,
    source: str | Path | None = None,
) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path-like
        The YAML file.
    overrides : sequence of str, optional
        ``key=value`` words for whatever stands in it, e.g. ``make.import.options.subjects=[2]`` or
        ``ablations.seeds=1``. With ``study=FOLDER`` that study is taken, and none is made.
    source : path-like, optional
        Where the recordings lie, in place of what the recipe says.

    Returns
    -------
    Recipe

    Raises
    ------
    InputError
        If the file is missing, a setting is unknown, or a variable it names is not set.
    """
    path = Path(path)
    beside = ("folds", "published", "explain", "ablations")
    known = [*ExperimentConfig.model_fields, "make", *beside]
    settings = apply_overrides(read_settings(path), list(overrides or ()))
    for name in settings:
        if name not in known:
            raise UnknownNameError(f"setting in {path}", str(name), sorted(known))
    make = settings.pop("make", None)
    if any(word.partition("=")[0].strip() == "study" for word in overrides or ()):
        make = None
    rest = {n: settings.pop(n) for n in beside if n in settings}
    if isinstance(rest.get("published"), str):
        rest["published"] = rest["published"].replace("{recipe}", str(path.resolve().parent))
    if make is not None:
        if not isinstance(make, dict):
            raise InputError(f"'make' in {path} must be a section of settings")
        make = _filled_in(make, path.resolve().parent, source)
    elif source is not None:
        raise InputError(f"{path} imports no recordings, so it takes no source; leave --source out")
    try:
        recipe = Recipe(settings=settings, make=make, **rest)
    except ValidationError as problem:
        words = "; ".join(
            f"'{'.'.join(str(p) for p in e['loc'])}': {e['msg']}" for e in problem.errors()
        )
        raise InputError(f"{path} is no valid recipe: {words}") from None
    if recipe.make is None and "study" not in settings:
        raise InputError(
            f"{path} names no study; give one as 'study: FOLDER', or a section 'make' that makes one"
        )
    # Settings are checked now rather than after the study is made, or the run was carried out.
    config = load_config({"study": "study", **settings})
    if recipe.ablations is not None:
        from eegprompt.ablations.axes import plan

        plan(config, recipe.ablations.what, recipe.ablations.seeds)
    if isinstance(recipe.explain, tuple):
        from eegprompt.analyses.base import chosen

        chosen(recipe.explain, deep=True)
    if recipe.published is not None and not recipe.published.exists():
        raise InputError(f"the published scores {recipe.published} do not exist")
    return recipe


def _filled_in(make: dict[str, Any], folder: Path, source: str | Path | None) -> dict[str, Any]:
    """Put in what ``${VARIABLE}``, ``{source}`` and ``{recipe}`` stand for."""
    section = make.get("import")
    names = {"recipe": str(folder)}
    if isinstance(section, dict):
        given = str(source) if source is not None else section.get("source")
        if not given:
            raise InputError("the recipe imports recordings; say where they lie with --source")
        names["source"] = str(Path(_variables(str(given), section)).expanduser().resolve())
        make = {**make, "import": {**section, "source": names["source"]}}
    elif source is not None:
        raise InputError("the recipe imports no recordings, so it takes no source")

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v) for v in value]
        if isinstance(value, str):
            return re.sub(r"\{(source|recipe)\}", lambda m: names.get(m[1], m[0]), value)
        return value

    return dict(walk(make))


def _variables(text: str, section: dict[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not os.environ.get(name):
            where = f" ({section['obtain']})" if section.get("obtain") else ""
            raise InputError(
                f"the variable {name} is not set; set it to the folder of the recordings{where}, or "
                "name the folder with --source"
            )
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, text)


def complete_settings(study: Study, settings: dict[str, Any]) -> dict[str, Any]:
    """Settle what follows from the study where the settings say nothing.

    The split and the captions, where there is just one of them; and the preprocessing, of which none
    is left where the source whitened the EEG already.

    Parameters
    ----------
    study : Study
        What will be trained on.
    settings : dict
        Settings of an experiment.

    Returns
    -------
    dict
        `settings`, with what follows from the study.
    """
    from eegprompt.encoders.preprocessing import refuse_twice

    completed = dict(settings)
    training = completed.get("training") or {}
    if "preprocessing" not in training:
        try:
            refuse_twice(TrainingConfig().preprocessing, study.info.get("steps", []))
        except InputError:
            completed["training"] = {**training, "preprocessing": []}
    for key, default, existing in (
        ("split", ExperimentConfig.model_fields["split"].default, study.split_names()),
        ("captions", ExperimentConfig.model_fields["captions"].default, study.caption_names()),
    ):
        if key in completed or default in existing:
            continue
        if not existing:
            verb = "split" if key == "split" else "captions write"
            raise StudyError(f"{study.path} has no {key} yet; make one with 'eegprompt {verb}'")
        if len(existing) > 1:
            raise InputError(
                f"{study.path} has several {'splits' if key == 'split' else 'caption sets'}; name "
                f"one as {key}=NAME: {', '.join(existing)}"
            )
        completed[key] = existing[0]
    return completed
