"""The whole journey in one call, and recipes: what to make, and with which settings to run it.

A recipe is a YAML file: the settings of an experiment (see :mod:`eegprompt.experiment`), and
optionally `folds: all`, `explain: true`, `published: FILE.csv`, a section `ablations` and a section
`make` that says how the study comes about::

    make:
      import:
        reader: continuous
        source: ${EEGPROMPT_N170}       # or --source on the command line
        files: [subject1/session1]
        options: {marker: Marker0, stimuli: "{source}/stimuli"}
      captions: {captioner: "file:{recipe}/captions.csv"}
      split: {kind: by-run}
    folds: all
    split: by-run
    training: {epochs: 20}
    ablations: {what: [loss, heads], seeds: 3}

``{source}`` stands for the folder of the recordings, ``{recipe}`` for the recipe's own folder.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eegprompt.artifacts import read_json, write_json
from eegprompt.errors import (
    CaptionError,
    InputError,
    RunError,
    StorageError,
    StudyError,
    UnknownNameError,
)
from eegprompt.experiment import (
    ExperimentConfig,
    TrainingConfig,
    apply_overrides,
    load_config,
)
from eegprompt.kinds import KINDS
from eegprompt.registry import check_options, resolve

if TYPE_CHECKING:
    from eegprompt.run import Run
    from eegprompt.study import Study

__all__ = [
    "AblationsRecipe",
    "ImportRecipe",
    "MakeRecipe",
    "Progress",
    "Recipe",
    "Step",
    "ablate_recipe",
    "change_settings",
    "complete_settings",
    "demo_recipe",
    "load_recipe",
    "make_study",
    "read_settings",
    "run_experiment",
    "run_recipe",
]

Progress = Callable[[int, int, str], None]
Step = Callable[[str], AbstractContextManager[Progress]]


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
    """A call of :func:`eegprompt.ablation.ablate` after the run, into its folder ``ablation/``."""

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
        Seed of study, training and drawing.
    quick : bool
        A smaller study and fewer pictures, without explanations, to see that all works.
    captions : str, optional
        Who captions the pictures, e.g. ``"rules"``; default: the study's own captions, which know
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
_STUDY = "study"  # where a recipe makes its study, in the run's folder
_QUICK_STUDY: dict[str, Any] = {"subjects": 1, "images": 200}
_QUICK_SETTINGS: dict[str, Any] = {"training": {"epochs": 5}}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read settings from a YAML file, unchecked.

    Raises
    ------
    InputError
        If it is missing or holds something else than settings.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text("utf-8")) or {}
    except FileNotFoundError:
        raise InputError(f"the file {path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} is not valid YAML: {str(problem).splitlines()[0]}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold settings, one a line as 'name: value'")
    return settings


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
        from eegprompt.ablation import plan

        plan(config, recipe.ablations.what, recipe.ablations.seeds)
    if isinstance(recipe.explain, tuple):
        from eegprompt.explanation import ANALYSES

        for name in recipe.explain:
            if name not in ANALYSES:
                raise UnknownNameError("analysis", name, ANALYSES)
    if recipe.published is not None and not recipe.published.exists():
        raise InputError(f"the published scores {recipe.published} do not exist")
    return recipe


def make_study(
    make: MakeRecipe,
    out: str | Path,
    *,
    kinds: Sequence[str] = (),
    progress: Progress | None = None,
) -> Study:
    """Make the study of a recipe: simulate or import, write captions, split. What exists is kept.

    Parameters
    ----------
    make : MakeRecipe
        How it comes about.
    out : path-like
        The study's folder.
    kinds : sequence of str
        Caption kinds that a caption file must hold.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    Study

    Raises
    ------
    InputError
        If `out` holds a study that was made otherwise, or there are no recordings.
    CaptionError
        If the caption file is missing, malformed or lacks a kind.
    """
    from eegprompt.study import Study

    out = Path(out)
    if not (out / "study.json").exists():
        _check_files(make, kinds)
    _note_how(make, out)
    if not (out / "study.json").exists():
        _make_trials(make, out, progress)
    study = Study(out)
    if make.captions is not None:
        from eegprompt.captioning import write_captions

        write_captions(
            study,
            make.captions.captioner,
            name=make.captions.name,
            progress=progress,
            **make.captions.options,
        )
    if make.split is not None:
        from eegprompt.data.splits import make_split

        name = make.split.name or make.split.kind
        if name not in study.split_names():
            make_split(study, make.split.kind, name, **make.split.options)
    return study


def run_experiment(
    config: ExperimentConfig,
    out: str | Path,
    progress: Progress | None = None,
    *,
    step: Step | None = None,
) -> Run:
    """Train, decode, draw and evaluate, in one call that can be stopped and called again.

    Parameters
    ----------
    config : ExperimentConfig
        All settings. A relative `study` lies below `out`, or else below the working folder.
    out : path-like
        The run's folder; made, or gone on with if it is there.
    progress : callable, optional
        Called with (done, total, label).
    step : callable, optional
        ``step(title)`` gives a context in which a step runs and the progress callback it uses;
        takes the place of `progress`.

    Returns
    -------
    Run
        With decodings, prompts, pictures and scores.
    """
    from eegprompt.evaluation import evaluate

    step = step or _silent(progress)
    run = _up_to_pictures(config, Path(out), step)
    if not _scores_hold(run.path, [run]):
        with step("evaluate") as report:
            evaluate(run, progress=report)
    return run


def run_recipe(
    recipe: Recipe, out: str | Path, *, step: Step | None = None, progress: Progress | None = None
) -> Path:
    """Carry out a recipe.

    Parameters
    ----------
    recipe : Recipe
        What to make and run.
    out : path-like
        The run's folder, or the parent of one run a fold; a study that is made lies in `out`/study.
    step, progress : callable, optional
        As in :func:`run_experiment`.

    Returns
    -------
    pathlib.Path
        `out`, with ``scores.json`` in it; over folds it holds their means.
    """
    from eegprompt.evaluation import evaluate_folds
    from eegprompt.study import Study

    out = Path(out)
    step = step or _silent(progress)
    settings = dict(recipe.settings)
    ours = ("config.yaml", f"{_STUDY}.json", "fold-0")
    filled = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if filled and not any((out / name).exists() for name in ours):
        raise InputError(f"{out} exists and is no run; choose another folder for the run")
    if recipe.make is not None:
        place = out / _STUDY
        kinds = load_config({"study": _STUDY, **settings}).kinds
        with step("study") as report:
            study = make_study(recipe.make, place, kinds=kinds, progress=report)
    else:
        place = Path(settings["study"])
        study = Study(place)
    settings = complete_settings(study, settings)

    def config_of(fold: int | None) -> ExperimentConfig:
        # Where the study lies in the run, the path is relative, so that both can be moved together.
        if recipe.make is None:
            where = str(place.resolve())
        else:
            where = _STUDY if recipe.folds == "one" else f"../{_STUDY}"
        chosen = {} if fold is None else {"fold": fold}
        return load_config({**settings, "study": where, **chosen})

    _audit_once(study, config_of(None).split, step)
    if recipe.folds == "one":
        run = run_experiment(config_of(None), out, step=step)
        if recipe.explain:
            _explain(run, recipe, step)
        _write_paper(recipe, out)
        ablate_recipe(recipe, out, step=step)
        return run.path
    count = len(study.split(config_of(None).split).folds)
    runs = [
        _up_to_pictures(config_of(i), out / f"fold-{i}", _numbered(step, i, count))
        for i in range(count)
    ]
    if not _scores_hold(out, runs):
        with step("evaluate") as report:
            evaluate_folds(out, progress=report)
    for i, run in enumerate(runs if recipe.explain else ()):
        _explain(run, recipe, _numbered(step, i, count))
    if recipe.explain:
        from eegprompt.explanation import explain_folds

        explain_folds(runs)
    _write_paper(recipe, out)
    ablate_recipe(recipe, out, step=step)
    return out


def ablate_recipe(
    recipe: Recipe, out: str | Path, *, step: Step | None = None, progress: Progress | None = None
) -> Path | None:
    """Carry out a recipe's ablations, in the folder of its run.

    Parameters
    ----------
    recipe : Recipe
        Whose run is finished.
    out : path-like
        The run's folder, or the parent of one run a fold, of which the first is compared with.
    step, progress : callable, optional
        As in :func:`run_experiment`.

    Returns
    -------
    pathlib.Path or None
        The folder with ``ablation.json`` and ``ablation.md``; None where the recipe has none.
    """
    from eegprompt.ablation import ablate
    from eegprompt.run import Run as Opened
    from eegprompt.run import fold_runs

    if recipe.ablations is None:
        return None
    out = Path(out)
    run = Opened(out if (out / "config.yaml").exists() else fold_runs(out)[0])
    study, given = run.study(), recipe.ablations
    with (step or _silent(progress))("ablate") as report:
        ablate(
            study,
            out / ABLATION,
            load_config({**run.config, "study": str(study.path.resolve())}),
            what=given.what,
            seeds=given.seeds,
            draw=given.draw,
            jobs=given.jobs,
            progress=report,
        )
    _write_paper(recipe, out)
    return out / ABLATION


def _write_paper(recipe: Recipe, out: Path) -> None:
    """The run's table and figures beside a publication's."""
    from eegprompt.reproduction import write_paper

    if recipe.published is not None:
        write_paper(out, recipe.published)


def _audit_once(study: Study, split: str, step: Step) -> None:
    """Look at design and split before anything is trained, unless that was done."""
    from eegprompt.auditing import audit, read_audit

    found = read_audit(study, split)
    if found is not None and not found["stale"]:
        return
    try:
        with step("audit") as report:
            audit(study, split, progress=report)
    except StorageError as problem:  # a study that may only be read can be trained on
        warnings.warn(f"the audit could not be kept: {problem}", stacklevel=3)


def _explain(run: Run, recipe: Recipe, step: Step) -> None:
    from eegprompt.explanation import explain

    what = recipe.explain if isinstance(recipe.explain, tuple) else None
    with step("explain") as report:
        explain(run, what=what, deep=recipe.explain == "deep", progress=report)


def complete_settings(study: Study, settings: dict[str, Any]) -> dict[str, Any]:
    """Settle what follows from the study where the settings say nothing.

    The split and the captions, where there is just one of them; and the fitted steps, of which none
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
    from eegprompt.encoders.fitted import refuse_twice

    completed = dict(settings)
    training = completed.get("training") or {}
    if "fitted_steps" not in training:
        try:
            refuse_twice(TrainingConfig().fitted_steps, study.info.get("steps", []))
        except InputError:
            completed["training"] = {**training, "fitted_steps": []}
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


def change_settings(run: Run, overrides: Sequence[str] | None, groups: Sequence[str]) -> Run:
    """Change those settings of a run that may change after training, and record them.

    Parameters
    ----------
    run : Run
        Its ``config.yaml`` is replaced if a setting differs.
    overrides : sequence of str or None
        ``key=value`` words.
    groups : sequence of str
        Groups that may change, e.g. ``("decoding",)``.

    Returns
    -------
    Run
        The run, opened again.

    Raises
    ------
    InputError
        If a word touches another setting.
    """
    from eegprompt.run import Run as Opened

    if not overrides:
        return run
    for word in overrides:
        group = word.partition("=")[0].partition(".")[0]
        if "=" in word and group not in groups:
            allowed = " and ".join(f"{g}.*" for g in groups)
            raise InputError(
                f"'{word}' cannot be changed here, only {allowed}; other settings belong to another "
                "step, and those of training need a new run"
            )
    before = load_config(run.config)
    after = load_config(run.config, list(overrides))
    if after != before:
        after.save(run.path / "config.yaml")
    return Opened(run.path)


def _up_to_pictures(config: ExperimentConfig, out: Path, step: Step) -> Run:
    """Train, decode and draw; each of these knows itself what of it is done."""
    from eegprompt.decoding import decode
    from eegprompt.drawing import draw
    from eegprompt.study import Study
    from eegprompt.training import train

    beside = (out / config.study).resolve()  # `out` need not be there yet to lie beside it
    study = Study(beside if beside.exists() else config.study)
    if out.exists() and {p.name for p in out.iterdir()} <= {_STUDY, f"{_STUDY}.json"}:
        config.save(out / "config.yaml")  # a run around its own study, not a stranger's folder
    with step("train") as report:
        run = train(study, out, config, resume=True, progress=report)
    with step("decode") as report:
        decode(run, progress=report)
    with step("generate") as report:
        draw(run, progress=report)
    return run


def _scores_hold(folder: Path, runs: Sequence[Run]) -> bool:
    """Whether the scores in `folder` were computed after all they rest on, and as asked now."""
    scores = folder / "scores.json"
    if not scores.exists():
        return False
    written = scores.stat().st_mtime_ns
    for run in runs:
        known = run.path / "provenance.json"
        stored = read_json(known, error=RunError) if known.exists() else {}
        if stored.get("evaluate", {}).get("settings") != run.config.get("evaluation"):
            return False
        rests_on = [run.embeddings_path, run.decodings_path, run.prompts_path]
        rests_on += (run.path / "images").rglob("*.png")
        if any(path.exists() and path.stat().st_mtime_ns > written for path in rests_on):
            return False
    return True


def _note_how(make: MakeRecipe, out: Path) -> None:
    """Refuse a study made otherwise; its file stands beside the study, for it precedes it."""
    path = out.with_name(f"{out.name}.json")
    how = make.model_dump(mode="json", by_alias=True)
    made = (out / "study.json").exists()
    if made and path.exists():
        before = read_json(path)
        if _anywhere(before) != _anywhere(how):
            changed = [key for key in how if before.get(key) != how[key]]
            raise InputError(
                f"{out} was made with other settings ({', '.join(changed)}); choose another --out, "
                f"or delete {out.parent} to start anew"
            )
        return
    if made:
        raise InputError(f"{out} is there, but not from a recipe; choose another --out")
    write_json(path, how)


def _anywhere(how: dict[str, Any]) -> dict[str, Any]:
    """How a study was made, wherever its recordings lay: they may be moved afterwards."""
    source = (how.get("import") or {}).get("source")

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        return value.replace(source, "{source}") if source and isinstance(value, str) else value

    return dict(walk(how))


def _make_trials(make: MakeRecipe, out: Path, progress: Progress | None) -> None:
    if make.simulate is not None:
        from eegprompt.builtin_study import simulate

        check_options(simulate, make.simulate, "'simulate'")
        simulate(out, progress=progress, **make.simulate)
        return
    assert make.import_ is not None
    source = Path(make.import_.source)
    target, argument = resolve("reader", make.import_.reader)
    reader = target(argument) if argument else target()
    files = [source / name for name in make.import_.files]
    reader.read(files, out, progress=progress, **make.import_.options)


def _check_files(make: MakeRecipe, kinds: Sequence[str]) -> None:
    """Look for the recordings, and read a caption file before what comes before it is done."""
    if make.import_ is not None and not Path(make.import_.source).exists():
        where = f"; {make.import_.obtain}" if make.import_.obtain else ""
        raise InputError(f"there are no recordings at {make.import_.source}{where}")
    if make.captions is None or make.captions.captioner.partition(":")[0] != "file":
        return
    from eegprompt.captioning import load_captioner

    captioner = load_captioner(make.captions.captioner, **make.captions.options)
    there = getattr(captioner, "kinds", KINDS)
    lacking = [kind for kind in kinds if kind not in there]
    if lacking:
        raise CaptionError(
            f"{make.captions.captioner.partition(':')[2]} has no captions of the kinds "
            f"{', '.join(lacking)}; add them, or leave these kinds out: kinds=[{', '.join(there)}]"
        )


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


def _silent(progress: Progress | None) -> Step:
    @contextmanager
    def step(title: str) -> Iterator[Progress]:
        yield progress or (lambda done, total, label: None)

    return step


def _numbered(step: Step, index: int, count: int) -> Step:
    return lambda title: step(f"{title} fold-{index} ({index + 1} of {count})")
