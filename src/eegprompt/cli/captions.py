"""Commands for captions: write, check, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eegprompt.cli import console
from eegprompt.cli.options import Json, Overwrite, StudyPath, pairs
from eegprompt.errors import CaptionError

__all__ = ["register"]

_Name = Annotated[str | None, typer.Option(help="The caption set's name.")]


def write(
    study: StudyPath,
    captioner: Annotated[
        str,
        typer.Option(help="Who writes: NAME or NAME:ARGUMENT, e.g. file:captions.csv."),
    ],
    name: Annotated[
        str | None, typer.Option(help="The caption set's name; default: the captioner's.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the captioner."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write captions for every image of a study.

    Writes STUDY/captions/NAME.parquet. Finished images are kept in a journal, so a broken-off
    call goes on where it stopped.

    Example: [bold]eegprompt captions write studies/n170 --captioner
    file:recipes/n170-captions.csv[/bold]
    """
    from eegprompt.captioning import write_captions
    from eegprompt.study import Study

    opened = Study(study)
    with console.step("captions") as progress:
        path = write_captions(
            opened, captioner, name, progress, overwrite=overwrite, **pairs(option)
        )
    table = opened.captions(Path(path).stem)
    facts = {"path": str(path), "captions": len(table), "images": table["image_id"].nunique()}
    if json:
        console.print_json(facts)
    else:
        console.out().print(
            f"{path}: {facts['captions']} captions of {facts['images']} images", markup=False
        )


def check(study: StudyPath, name: _Name = None, json: Json = False) -> None:
    """Check a caption set: every image, every kind, at most 20 words.

    Reads STUDY/captions/NAME.parquet and writes nothing. Ends with code 2 if something is amiss.

    Example: [bold]eegprompt captions check studies/n170[/bold]
    """
    from eegprompt.captioning import check_captions
    from eegprompt.study import Study

    opened = Study(study)
    problems = [str(p) for p in check_captions(opened, _only(opened, name))]
    if json:
        console.print_json({"name": _only(opened, name), "problems": problems})
    else:
        for problem in problems:
            console.out().print(problem, markup=False)
    if problems:
        raise CaptionError(f"{len(problems)} problems in caption set '{_only(opened, name)}'")
    if not json:
        console.out().print(f"caption set '{_only(opened, name)}' is in order", markup=False)


def show(
    study: StudyPath,
    name: _Name = None,
    image: Annotated[
        list[str] | None, typer.Option(help="An image's id; may be given more than once.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Caption kinds or levels, separated by commas.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many images.")] = 3,
    json: Json = False,
) -> None:
    """Show the captions of some images.

    Example: [bold]eegprompt captions show studies/scenes --kind ObjectSnap,MoodFeel[/bold]
    """
    from eegprompt.errors import UnknownNameError
    from eegprompt.kinds import parse_kinds
    from eegprompt.study import Study

    opened = Study(study)
    table = opened.captions(_only(opened, name))
    known = list(table["image_id"].drop_duplicates())
    for image_id in image or ():
        if image_id not in known:
            raise UnknownNameError("image", image_id, known[:8])
    chosen = image or known[:limit]
    kinds = parse_kinds(kind)
    rows = table[table["image_id"].isin(chosen) & table["kind"].isin(kinds)]
    if json:
        console.print_json(rows.to_dict("records"))
        return
    console.print_table(
        ("image", "kind", "text"),
        [tuple(map(str, r)) for r in rows[["image_id", "kind", "text"]].itertuples(index=False)],
    )


def register(app: typer.Typer) -> None:
    """Add ``captions`` with its commands to `app`."""
    group = typer.Typer(no_args_is_help=True, help="Write, check and show captions of images.")
    group.command("write")(write)
    group.command("check")(check)
    group.command("show")(show)
    app.add_typer(group, name="captions", rich_help_panel="Studies")


def _only(study: Any, name: str | None) -> str:
    """The caption set that was named, or the one there is."""
    names = study.caption_names()
    if name is None and len(names) > 1:
        raise CaptionError(f"the study has several caption sets; name one with --name: {names}")
    if name is None and names:
        return str(names[0])
    return name or "captions"
