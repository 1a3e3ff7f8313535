"""Commands that make and score runs: train, decode, generate, evaluate, explain, report."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from eegprompt.cli import console
from eegprompt.cli.options import Json, RunPath, Settings, StudyPath, pairs
from eegprompt.cli.score_table import print_scores
from eegprompt.core.errors import InputError
from eegprompt.core.registry import names

__all__ = ["register"]

_PANEL = "Runs"


def train(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="The run's folder, to be made or gone on with.")],
    settings: Settings = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; KEY=VALUE words go before it.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The split's name; default: 'official', or the only one.")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="The fold, counted from 0.")] = None,
    all_folds: Annotated[
        bool, typer.Option("--all-folds", help="One run a fold: OUT/fold-0, OUT/fold-1, …")
    ] = False,
    allow_leakage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT,...",
            help="Train though the training, validation and test sets share images, repetitions, "
            "samples or subjects; may be given more than once; printed wherever a score is.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete a run in OUT that was made otherwise.")
    ] = False,
    json: Json = False,
) -> None:
    """Train an EEG encoder on the training set of one fold, or of each.

    Reads a study with a split and captions; writes OUT: settings, checkpoints, the encoder chosen
    on the validation set. The test set is never opened. An interrupted training goes on.

    Example: [bold]eegprompt train studies/scenes --out runs/a training.epochs=20 seed=1[/bold]
    """
    from eegprompt.recipe import complete_settings, read_settings
    from eegprompt.settings import apply_overrides, load_config
    from eegprompt.steps.train import train as fit
    from eegprompt.study import Study

    if all_folds and fold is not None:
        raise InputError("--fold and --all-folds exclude one another; give one of them")
    if overwrite and study.resolve().is_relative_to(out.resolve()):
        raise InputError(
            f"--overwrite would delete the study {study} with the run {out} around it; choose another "
            "--out"
        )
    opened = Study(study)
    base: dict[str, Any] = read_settings(config) if config else {}
    base["study"] = str(study.resolve())
    leaks = ",".join(allow_leakage) if allow_leakage else None
    base |= {
        k: v
        for k, v in (("split", split), ("fold", fold), ("allow_leakage", leaks))
        if v is not None
    }
    base = apply_overrides(base, settings or [])
    resolved = load_config(complete_settings(opened, base))
    n_folds = len(opened.split(resolved.split).folds)
    folds = range(n_folds) if all_folds else [resolved.fold]
    runs = []
    for index in folds:
        place = out / f"fold-{index}" if all_folds else out
        title = f"train fold-{index} ({index + 1} of {n_folds})" if all_folds else "train"
        with console.step(title) as progress:
            one = resolved.model_copy(update={"fold": index})
            runs.append(fit(opened, place, one, overwrite=overwrite, progress=progress))
    _say([run.path for run in runs], json)


def adapt(
    run: RunPath,
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="The adapted run's folder, to be made.")],
    split: Annotated[
        str | None, typer.Option(help="The split's name; default: the only one.")
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="The fold, counted from 0.")] = 0,
    captions: Annotated[
        str | None, typer.Option(help="The caption set's name; default: that of the run.")
    ] = None,
    json: Json = False,
) -> None:
    """Adapt a run to a new person from a few labeled minutes.

    Reads a run trained on others and a study of the new person with a split and captions; writes OUT:
    a run whose encoder has a read-out of that person beside it, and in OUT/provenance.json how much it
    retrieves by number of training trials. The trained encoder is left as it is.

    Example: [bold]eegprompt adapt runs/group studies/newcomer --out runs/newcomer[/bold]
    """
    from eegprompt.steps.adapt import adapt as fit

    with console.step("adapt") as progress:
        made = fit(run, study, out, split=split, fold=fold, captions=captions, progress=progress)
    _say([made.path], json)


def decode(run: RunPath, settings: Settings = None, json: Json = False) -> None:
    """Retrieve captions for the test trials and join them into prompts.

    Reads a trained run; writes RUN/decodings.parquet and RUN/prompts.parquet, with prompts of the
    prompt sources eeg, floor and ceiling, as long as the generator can read. Settings under 'decoding' and
    'generation' may be changed here.

    Example: [bold]eegprompt decode runs/a decoding.pool=train decoding.per_head=2[/bold]
    """
    from eegprompt.steps.decode import decode as retrieve
    from eegprompt.steps.experiment import changed_settings

    opened = _open(run)
    for one in opened:
        with (
            changed_settings(one, settings, groups=("decoding", "generation")) as changed,
            console.step(_title("decode", one, opened)) as progress,
        ):
            retrieve(changed, progress=progress)
    _say([one.prompts_path for one in opened], json)


def generate(
    run: RunPath,
    settings: Settings = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--sources",
            "--source",
            metavar="SOURCE,...",
            help="Prompt sources, e.g. eeg,noise,shuffled, or all; default: eeg, floor, ceiling.",
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="NAME or NAME:ARGUMENT, e.g. diffusers:stabilityai/sdxl-turbo."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="KEY=VALUE",
            help="An option of the generator, e.g. steps=4, offload=model; see docs/generators.md.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the prompts of a decoded run, and the prompt sources that they are judged by.

    Reads RUN/prompts.parquet; writes RUN/images/GENERATOR/SOURCE/. Images that exist are not drawn
    again. Prompt sources: eeg, floor, noise, shuffled, wrong-class, predicted-class, true-class, ceiling,
    reference, reference-vae. Settings under 'generation' may be changed here.

    Example: [bold]eegprompt generate runs/a --sources eeg,noise,ceiling --generator builtin[/bold]
    """
    from eegprompt.sources import check_sources
    from eegprompt.steps.experiment import changed_settings
    from eegprompt.steps.generate import generate as generate_images

    opened = _open(run)
    asked = [name.strip() for words in sources or () for name in words.split(",") if name.strip()]
    if sources and not asked:
        raise InputError(
            "--sources names no prompt source; leave it out to draw those of the settings"
        )
    check_sources(asked)
    for one in opened:
        with (
            changed_settings(one, settings, groups=("generation",)) as changed,
            console.step(_title("generate", one, opened)) as progress,
        ):
            generate_images(
                changed,
                sources=asked or None,
                generator=generator,
                options=pairs(option),
                progress=progress,
            )
    _say([one.path / "images" for one in opened], json)


def evaluate(run: RunPath, settings: Settings = None, json: Json = False) -> None:
    """Score a run: caption retrieval, class accuracy, images; each beside chance.

    Reads what exists and names what is missing; draws nothing and trains nothing. Writes
    RUN/scores.json; over folds, their means. Settings under 'evaluation' may be changed here.

    Example: [bold]eegprompt evaluate runs/a --json[/bold]
    """
    from eegprompt.core.files import read_json
    from eegprompt.steps.evaluate import evaluate as score
    from eegprompt.steps.evaluate import evaluate_folds
    from eegprompt.steps.experiment import changed_settings

    with ExitStack() as stack:
        opened = [
            stack.enter_context(changed_settings(one, settings, groups=("evaluation",)))
            for one in _open(run)
        ]
        progress = stack.enter_context(console.step("evaluate"))
        if opened[0].path == run:
            score(opened[0], progress=progress)
        else:
            evaluate_folds(run, progress=progress)
    if json:
        console.print_json(read_json(run / "scores.json", schema="scores"))
    else:
        print_scores(run)


def explain(
    run: RunPath,
    what: Annotated[
        list[str] | None,
        typer.Option(
            help=f"An analysis ({', '.join(names('analysis'))}) or module:Class; may be given more "
            "than once; default: all."
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also what retrains or generates; takes much longer.")
    ] = False,
    trial: Annotated[
        list[int] | None,
        typer.Option(help="Instead: a page for the decoding of this test trial."),
    ] = None,
    json: Json = False,
) -> None:
    """Show which electrodes, time points and heads carry which meaning.

    Reads a decoded run and its study; writes RUN/explain/NAME.safetensors and NAME.json, and
    figures into RUN/figures/explain/. Finished analyses are not done again. 'eegprompt report'
    shows what was found. With --trial it writes RUN/explain/trial-ID.html instead.

    Example: [bold]eegprompt explain runs/a --what geometry --what confidence[/bold]
    """
    from eegprompt.steps.explain import explain as find_out
    from eegprompt.steps.explain import explain_folds

    opened = _open(run)
    if trial:
        _say(_trial_pages(opened, trial), json)
        return
    findings = []
    for one in opened:
        with console.step(_title("explain", one, opened)) as progress:
            found = find_out(one, what=what, deep=deep, progress=progress)
        findings += [(one.path, f) for f in found]
    together = explain_folds(opened)
    if together is not None:
        findings.append((opened[0].path.parent, together))
    if json:
        console.print_json(
            [
                {"run": str(path), "name": f.name, "verdict": f.verdict, "seen": f.seen}
                for path, f in findings
            ]
        )
        return
    for path, finding in findings:
        where = f"{path.name}: " if len(opened) > 1 else ""
        verdict = f" ({finding.verdict})" if finding.verdict else ""
        console.out().print(f"{where}{finding.title}{verdict}\n  {finding.seen}\n", markup=False)


def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: RUN/report.html.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run's report: one HTML file with everything in it.

    Reads scores, prompts, images and the training curve of a run; what is missing is left out
    and named.

    Example: [bold]eegprompt report runs/a[/bold]
    """
    from eegprompt.steps.report import report as write_report

    with console.step("report"):
        path = write_report(run, out)
    _say([path], json)


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for name, command in (
        ("train", train),
        ("adapt", adapt),
        ("decode", decode),
        ("generate", generate),
        ("evaluate", evaluate),
        ("explain", explain),
        ("report", report),
    ):
        app.command(name, rich_help_panel=_PANEL)(command)


def _trial_pages(runs: list[Any], trials: list[int]) -> list[Path]:
    """A page for each trial, from the run that tested it."""
    from eegprompt.steps.explain import trial_page

    pages = []
    for trial in trials:
        tested = [run for run in runs if trial in run.fold.test]
        pages.append(trial_page((tested or runs)[0], trial))
    return pages


def _open(path: Path) -> list[Any]:
    """The run at `path`, or those of its folds."""
    from eegprompt.run import Run, fold_runs

    return [Run(p) for p in fold_runs(path)] or [Run(path)]


def _title(verb: str, run: Any, runs: list[Any]) -> str:
    return f"{verb} {run.path.name}" if len(runs) > 1 else verb


def _say(paths: list[Path], json: bool) -> None:
    if json:
        console.print_json({"paths": [str(p) for p in paths]})
    else:
        for path in paths:
            console.out().print(str(path), markup=False)
