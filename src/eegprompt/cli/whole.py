"""Commands that do the whole journey: run and demo; and all settings they take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eegprompt.cli import console
from eegprompt.cli.options import Json, Settings, pairs
from eegprompt.cli.score_table import print_scores
from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.files import read_json

__all__ = ["register"]

_PANEL = "The whole path"


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder, to be made or gone on with.")
    ] = None,
    settings: Settings = None,
    source: Annotated[
        Path | None,
        typer.Option(help="Where the recordings lie, if the recipe imports some."),
    ] = None,
    dry: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the recipe and print its steps; needs no data."),
    ] = False,
    json: Json = False,
) -> None:
    """Do all that a recipe says: study, training, decoding, drawing, scores, explanation, report,
    and then its ablations.

    KEY=VALUE words replace whatever stands in the recipe, study=FOLDER the study it would make.
    Finished steps are not done again, so an interrupted call goes on where it stopped.

    Example: [bold]eegprompt run recipes/n170.yaml --source recordings/n170 --out runs/n170[/bold]
    """
    from eegprompt.recipe import load_recipe

    if dry:
        from eegprompt.steps.dry_run import dry_run

        steps = dry_run(recipe, settings, source=source)
        if json:
            console.print_json({"recipe": str(recipe), "steps": steps})
            return
        for number, text in enumerate(steps, 1):
            console.out().print(f"{number}. {text}", markup=False)
        return
    if out is None:
        raise InputError(f"name the run's folder: eegprompt run {recipe} --out runs/NAME")
    _carry_out(load_recipe(recipe, settings, source=source), out, json)


def demo(
    out: Annotated[Path, typer.Option(help="The run's folder, to be made or gone on with.")],
    settings: Settings = None,
    signal: Annotated[
        float | None,
        typer.Option(help="Evoked over background RMS, a linear ratio; 0 plants no signal."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of study, training and generation.")] = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A smaller study, nothing explained, to see that all works."),
    ] = False,
    captions: Annotated[
        str | None,
        typer.Option(
            metavar="CAPTIONER",
            help="Who captions the images, e.g. rules (measured from the images, offline); "
            "default: the study's own captions, which know what was drawn.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the whole path on the built-in study: no data, no GPU, no network.

    Simulates a study in OUT/study, trains, decodes, draws, scores, explains, and writes
    OUT/report.html.
    Finished steps are not done again, so an interrupted call goes on where it stopped.

    Example: [bold]eegprompt demo --out runs/demo[/bold]
    """
    from eegprompt.recipe import demo_recipe

    recipe = demo_recipe(
        signal=signal, seed=seed, quick=quick, captions=captions, overrides=settings
    )
    _carry_out(recipe, out, json)


def settings(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD...", help="Only settings whose key holds one of these."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/settings.md.")
    ] = False,
    json: Json = False,
) -> None:
    """List every setting of an experiment, with its default and its meaning.

    What is listed can be given to train, decode, generate, evaluate, run and demo as KEY=VALUE.

    Example: [bold]eegprompt settings decoding drawing[/bold]
    """
    from dataclasses import asdict

    from eegprompt.reports.settings_page import list_settings, settings_page

    if markdown:
        console.out().print(settings_page(), markup=False, soft_wrap=True, end="", highlight=False)
        return
    found = [s for s in list_settings() if not words or any(w in s.key for w in words)]
    if not found:
        raise UnknownNameError("setting", " ".join(words or ()), [s.key for s in list_settings()])
    if json:
        console.print_json([asdict(s) for s in found])
        return
    rows = [(s.key, s.default or "–", s.allowed, s.meaning) for s in found]
    console.print_table(("key", "default", "allowed", "meaning"), rows)


def check_plugin(
    part: Annotated[
        str, typer.Argument(metavar="PART", help="module:Class, or a YAML file of caption kinds.")
    ],
    kind: Annotated[
        str | None, typer.Option("--as", help="What it is, e.g. encoder; else found out by itself.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of its constructor."),
    ] = None,
    json: Json = False,
) -> None:
    """Check that an encoder, captioner, generator or another part of your own fits in.

    It is tried on small made-up data, as its group will use it. The module must be one that Python
    can import: put its folder on PYTHONPATH, or install it.

    Example: [bold]eegprompt check-plugin my_parts:MyEncoder[/bold]
    """
    from eegprompt.steps.check_plugin import check_plugin

    found = check_plugin(part, kind=kind, **pairs(option))
    if json:
        console.print_json({"part": part, "in_order": found})
        return
    for said in found:
        console.out().print(f"{part}: {said}", markup=False)


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("settings", rich_help_panel=_PANEL)(settings)
    app.command("run", rich_help_panel=_PANEL)(run)
    app.command("demo", rich_help_panel=_PANEL)(demo)
    app.command("check-plugin", rich_help_panel=_PANEL)(check_plugin)


def _carry_out(recipe: Any, out: Path, json: bool) -> None:
    from eegprompt.steps.experiment import ablate_recipe, run_recipe
    from eegprompt.steps.report import report as write_report

    # Ablations may take many times as long as the run, so its report is written before them too.
    folder = run_recipe(recipe.model_copy(update={"ablations": None}), out, step=console.step)
    path = folder / "report.html"
    if recipe.ablations is None or not (folder / "ablation" / "ablation.json").exists():
        with console.step("report"):
            write_report(folder)
    ablation = None
    if recipe.ablations is not None:
        ablation = ablate_recipe(recipe, folder, step=console.step)
        with console.step("report"):
            write_report(folder)
    paper = folder / "paper" if recipe.published is not None else None
    if json:
        scores = read_json(folder / "scores.json", schema="scores")
        written = {"report": path, "paper": paper, "ablation": ablation}
        console.print_json(
            {"run": str(folder), **{k: str(v) for k, v in written.items() if v}, **scores}
        )
        return
    print_scores(folder, notes=False)
    if paper is not None:
        console.out().print(f"Beside published scores: {paper / 'table-1.md'}", markup=False)
        console.out().print(f"The paper's figures: {paper / 'README.md'}", markup=False)
    if ablation is not None:
        console.out().print(f"Ablations: {ablation / 'ablation.md'}", markup=False)
    console.out().print(f"Report: {path}", markup=False)
