"""The whole journey in one call, and recipes: what to make, and with which settings to run it.

A recipe is a YAML file: the settings of an experiment (see :mod:`eegprompt.settings`), and
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

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import CaptionError, InputError, StorageError
from eegprompt.core.files import read_json, write_bytes, write_json
from eegprompt.core.locks import only_writer, writes
from eegprompt.core.progress import Progress
from eegprompt.core.registry import check_options, resolve
from eegprompt.recipe import ABLATION, STUDY, complete_settings
from eegprompt.settings import ExperimentConfig, load_config

if TYPE_CHECKING:
    from eegprompt.recipe import MakeRecipe, Recipe
    from eegprompt.run import Run
    from eegprompt.study import Study

__all__ = [
    "Step",
    "ablate_recipe",
    "change_settings",
    "experiment",
    "make_study",
    "run_recipe",
]

Step = Callable[[str], AbstractContextManager[Progress]]


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
        from eegprompt.steps.caption import caption as write_captions

        write_captions(
            study,
            make.captions.captioner,
            name=make.captions.name,
            progress=progress,
            **make.captions.options,
        )
    if make.split is not None:
        from eegprompt.splits.base import make_split

        name = make.split.name or make.split.kind
        if name not in study.split_names():
            make_split(study, make.split.kind, name, **make.split.options)
    return study


@writes("out")
def experiment(
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
        With decodings, prompts, images and scores.
    """
    from eegprompt.steps.evaluate import evaluate

    step = step or _silent(progress)
    run = _up_to_images(config, Path(out), step)
    if not _scores_hold(run.path, [run]):
        with step("evaluate") as report:
            evaluate(run, progress=report)
    return run


@writes("out")
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
        As in :func:`experiment`.

    Returns
    -------
    pathlib.Path
        `out`, with ``scores.json`` in it; over folds it holds their means.
    """
    from eegprompt.steps.evaluate import evaluate_folds
    from eegprompt.study import Study

    out = Path(out)
    step = step or _silent(progress)
    settings = dict(recipe.settings)
    ours = ("config.yaml", f"{STUDY}.json", "fold-0")
    filled = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if filled and ((out / "eeg.npy").exists() or not any((out / n).exists() for n in ours)):
        raise InputError(f"{out} exists and is no run; choose another folder for the run")
    if recipe.make is not None:
        place = out / STUDY
        kinds = load_config({"study": STUDY, **settings}).kinds
        with step("study") as report:
            study = make_study(recipe.make, place, kinds=kinds, progress=report)
    else:
        place = Path(settings["study"])
        study = Study(place)
    settings = complete_settings(study, settings)

    def config_of(fold: int | None) -> ExperimentConfig:
        # Where the study lies in the run, the path is relative, so that both can be moved together.
        where = (
            str(place.resolve())
            if recipe.make is None
            else STUDY
            if recipe.folds == "one"
            else f"../{STUDY}"
        )
        chosen = {} if fold is None else {"fold": fold}
        return load_config({**settings, "study": where, **chosen})

    _audit_once(study, config_of(None).split, step)
    if recipe.folds == "one":
        run = experiment(config_of(None), out, step=step)
        if recipe.explain:
            _explain(run, recipe, step)
        _write_paper(recipe, out)
        ablate_recipe(recipe, out, step=step)
        return run.path
    count = len(study.split(config_of(None).split).folds)
    runs = [
        _up_to_images(config_of(i), out / f"fold-{i}", _numbered(step, i, count))
        for i in range(count)
    ]
    if not _scores_hold(out, runs):
        with step("evaluate") as report:
            evaluate_folds(out, progress=report)
    for i, run in enumerate(runs if recipe.explain else ()):
        _explain(run, recipe, _numbered(step, i, count))
    if recipe.explain:
        from eegprompt.steps.explain import explain_folds

        explain_folds(runs)
    _write_paper(recipe, out)
    ablate_recipe(recipe, out, step=step)
    return out


@writes("out")
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
        As in :func:`experiment`.

    Returns
    -------
    pathlib.Path or None
        The folder with ``ablation.json`` and ``ablation.md``; None where the recipe has none.
    """
    from eegprompt.run import Run as Opened
    from eegprompt.run import fold_runs
    from eegprompt.steps.ablate import ablate

    if recipe.ablations is None:
        return None
    out = Path(out)
    run = Opened(out if (out / "config.yaml").exists() else fold_runs(out)[0])
    study, given = run.study, recipe.ablations
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
    from eegprompt.publication import write_paper

    if recipe.published is not None:
        write_paper(out, recipe.published)


def _audit_once(study: Study, split: str, step: Step) -> None:
    """Look at design and split before anything is trained, unless that was done."""
    from eegprompt.confounds.record import read_audit
    from eegprompt.steps.audit import audit

    found = read_audit(study, split)
    if found is not None and not found["stale"]:
        return
    try:
        with step("audit") as report:
            audit(study, split, progress=report)
    except StorageError as problem:  # a study that may only be read can be trained on
        warnings.warn(f"the audit could not be kept: {problem}", stacklevel=3)


def _explain(run: Run, recipe: Recipe, step: Step) -> None:
    from eegprompt.steps.explain import explain

    what = recipe.explain if isinstance(recipe.explain, tuple) else None
    with step("explain") as report:
        explain(run, what=what, deep=recipe.explain == "deep", progress=report)


@contextmanager
def changed_settings(
    run: Run, overrides: Sequence[str] | None, groups: Sequence[str]
) -> Iterator[Run]:
    """Change settings of a run for a step, which keeps them only if it succeeds.

    Parameters
    ----------
    run, overrides, groups
        As for :func:`change_settings`.

    Yields
    ------
    Run
        The run with the changed settings; if the block raises, ``config.yaml`` is as it was.

    Raises
    ------
    InputError
        If a word touches another setting.
    """
    path = run.path / "config.yaml"
    with only_writer(run.path):
        before = path.read_bytes()
        changed = change_settings(run, overrides, groups)
        try:
            yield changed
        except BaseException:
            if path.read_bytes() != before:
                write_bytes(path, before)
            raise


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
    before = run.settings
    after = load_config(run.config, list(overrides))
    if after != before:
        after.save(run.path / "config.yaml")
    return Opened(run.path)


def _up_to_images(config: ExperimentConfig, out: Path, step: Step) -> Run:
    """Train, decode and draw; each of these knows itself what of it is done."""
    from eegprompt.steps.decode import decode
    from eegprompt.steps.generate import generate
    from eegprompt.steps.train import train
    from eegprompt.study import Study

    beside = (out / config.study).resolve()  # `out` need not be there yet to lie beside it
    study = Study(beside if beside.exists() else config.study)
    if out.exists() and {p.name for p in out.iterdir()} <= {STUDY, f"{STUDY}.json"}:
        config.save(out / "config.yaml")  # a run around its own study, not a stranger's folder
    with step("train") as report:
        run = train(study, out, config, resume=True, progress=report)
    with step("decode") as report:
        decode(run, progress=report)
    with step("generate") as report:
        generate(run, progress=report)
    return run


def _scores_hold(folder: Path, runs: Sequence[Run]) -> bool:
    """Whether the scores in `folder` were computed after all they rest on, and as asked now."""
    scores = folder / "scores.json"
    if not scores.exists():
        return False
    written = scores.stat().st_mtime_ns
    for run in runs:
        if run.provenance.get("evaluate", {}).get("settings") != run.config.get("evaluation"):
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
        before = read_json(path, schema="mapping")
        if _anywhere(before) != _anywhere(how):
            changed = [key for key in how if before.get(key) != how[key]]
            raise InputError(
                f"{out} was made with other settings ({', '.join(changed)}); choose another --out, "
                f"or delete {out.parent} to start anew"
            )
        return
    if made:
        raise InputError(f"{out} is there, but not from a recipe; choose another --out")
    if path.exists():
        before = read_json(path, schema="mapping")
        if not before or not set(before) <= set(how):
            raise InputError(
                f"{path} was not written by a recipe, so it is kept; choose another --out"
            )
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
        from eegprompt.steps.simulate import simulate

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
    from eegprompt.steps.caption import load_captioner

    captioner = load_captioner(make.captions.captioner, **make.captions.options)
    there = captioner.kinds
    lacking = [kind for kind in kinds if kind not in there]
    if lacking:
        raise CaptionError(
            f"{make.captions.captioner.partition(':')[2]} has no captions of the kinds "
            f"{', '.join(lacking)}; add them, or leave these kinds out: kinds=[{', '.join(there)}]"
        )


def _silent(progress: Progress | None) -> Step:
    @contextmanager
    def step(title: str) -> Iterator[Progress]:
        yield progress or (lambda done, total, label: None)

    return step


def _numbered(step: Step, index: int, count: int) -> Step:
    return lambda title: step(f"{title} fold-{index} ({index + 1} of {count})")
