"""The command that compares variants of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegprompt.cli import console
from eegprompt.cli.options import Json, Settings, StudyPath

__all__ = ["register"]


def ablate(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")],
    settings: Settings = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of the base's settings; KEY=VALUE words go before it."),
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            help="Axes, separated by commas: loss, positives, captions, target, levels, per-head, heads, "
            "pool, encoder."
        ),
    ] = "loss,captions,heads,levels,encoder,pool",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    draw: Annotated[
        bool, typer.Option("--draw/--no-draw", help="Also draw images and score them.")
    ] = True,
    json: Json = False,
) -> None:
    """Change one thing at a time, and show what it is worth.

    Every variant is trained, decoded, drawn and scored with the same seeds; differences from the
    first variant of its axis stand beside it. Finished variants are kept, so an interrupted call
    goes on. Writes OUT/ablation.json and OUT/ablation.md.

    Example: [bold]eegprompt ablate studies/scenes --what loss,captions --out runs/ablation[/bold]
    """
    from eegprompt.ablations.table import BY_HEAD, MEASURES, design_of
    from eegprompt.core.files import read_json
    from eegprompt.recipe import complete_settings, read_settings
    from eegprompt.settings import apply_overrides, load_config
    from eegprompt.steps.ablate import ablate as compare
    from eegprompt.study import Study

    opened = Study(study)
    given = read_settings(config) if config else {}
    base = apply_overrides({**given, "study": str(study.resolve())}, settings or [])
    resolved = load_config(complete_settings(opened, base))
    axes = [name.strip() for name in what.split(",") if name.strip()]
    with console.step("ablate") as progress:
        rows = compare(
            opened, out, resolved, what=axes, seeds=seeds, draw=draw, jobs=jobs, progress=progress
        )
    failed = read_json(out / "ablation.json", schema="ablation")["failed"]
    if json:
        console.print_json({"rows": rows, "failed": failed, "table": str(out / "ablation.md")})
        return
    console.out().print(design_of(opened, resolved), markup=False)
    columns = ["axis", "variant", "measure", "mean ± sd", "chance", "difference [95 %]", "p"]
    table = []
    for row in rows:
        if row["measure"] == BY_HEAD:  # in the table that is written
            continue
        sd = "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        difference = "" if row["difference"] is None else f"{row['difference']:+.3f}"
        if row["lo"] is not None:
            difference += f" [{row['lo']:+.3f}, {row['hi']:+.3f}]"
        table.append(
            [
                row["axis"],
                row["variant"],
                MEASURES[row["measure"]][0],
                f"{row['mean']:.3f}{sd}",
                "–" if row["chance"] is None else f"{row['chance']:.3f}",
                difference,
                "" if row["p"] is None else f"{row['p']:.3f}",
            ]
        )
    console.print_table(columns, table)
    for problem in failed:
        console.note(f"not measured: {problem}")
    console.out().print(f"Table: {out / 'ablation.md'}", markup=False)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("ablate", rich_help_panel="The whole path")(ablate)
