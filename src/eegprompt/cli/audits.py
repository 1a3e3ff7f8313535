"""The command that looks for confounds: audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eegprompt.cli import console
from eegprompt.cli.options import Json, StudyPath

__all__ = ["register"]

_PANEL = "Studies"


def audit(
    study: StudyPath,
    split: Annotated[
        str | None, typer.Option(help="The split's name; default: 'official', or the only one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the page; default: STUDY/audit-SPLIT.html.")
    ] = None,
    permutations: Annotated[int | None, typer.Option(help="Of each test; at least 199.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; equal seeds give equal audits.")] = None,
    json: Json = False,
) -> None:
    """Look for what a decoder could read besides the image: time, leaks, drift.

    Writes STUDY/audit.json, whose verdict is stamped on every later score of the split, and a page
    that explains each check. Nothing is trained that is kept.

    Example: [bold]eegprompt audit studies/n170 --split by-run[/bold]
    """
    from eegprompt.reports.audit_page import write_audit_page
    from eegprompt.steps.audit import audit as look
    from eegprompt.study import Study

    opened = Study(study)
    options: dict[str, Any] = {
        k: v for k, v in (("permutations", permutations), ("seed", seed)) if v is not None
    }
    with console.step("audit") as progress:
        found = look(opened, split, progress=progress, **options)
    path = write_audit_page(opened, found, out)
    if json:
        console.print_json({**found, "page": str(path)})
        return
    print_audit(found)
    console.out().print(f"Page: {path}", markup=False)


def print_audit(found: dict[str, Any]) -> None:
    """Print an audit: the verdict, its evidence, and the decoders side by side."""
    from eegprompt.reports.audit_page import leaks_once
    from eegprompt.reports.wording import p_value

    out = console.out()
    of = f"split {found['split']}" if found["split"] else "no split"
    out.print(f"Design ({of}): {found['verdict']}. {found['summary']}", markup=False)
    for text in found["evidence"]:
        out.print(f"- {text}", markup=False)
    rows = found["checks"]["decoders"]["rows"]
    if rows:
        console.print_table(
            ("decoder", "right", "chance", "p", "of the best gain"),
            [
                (
                    row["label"],
                    f"{row['accuracy']:.1%}",
                    f"{row['chance']:.1%}",
                    p_value(row["p"]),
                    "–" if row["share"] is None else f"{row['share']:.0%}",
                )
                for row in rows
            ],
        )
    for words in leaks_once(found):
        out.print(f"Leak: {words}", markup=False)
    if found["leaks"]:
        out.print(
            "Training refuses these folds, unless --allow-leakage names what they share.",
            markup=False,
        )
    for text in found["limits"]:
        out.print(f"Note: {text}", markup=False)


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("audit", rich_help_panel=_PANEL)(audit)
