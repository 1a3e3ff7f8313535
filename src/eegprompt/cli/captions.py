"""Commands for captions: write, check, show, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eegprompt.cli import console
from eegprompt.cli.options import Json, Overwrite, StudyPath, pairs
from eegprompt.core.errors import CaptionError

__all__ = ["register"]

_Name = Annotated[str | None, typer.Option(help="The caption set's name.")]


def write(
    study: StudyPath,
    captioner: Annotated[
        str,
        typer.Option(
            help="Who writes: file:captions.csv, rules, chat:MODEL (any OpenAI-compatible server), "
            "local:MODEL (a vision-language model on this machine)."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The caption set's name; default: the captioner's.")
    ] = None,
    instruction: Annotated[
        Path | None, typer.Option(help="Instruction file to use in place of the package's.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="The server, e.g. http://localhost:11434/v1.")
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Ask for at most so many images.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Budget, in the currency of price_in, price_out.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask for just those images that failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print requests, tokens and price; ask nothing.")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the captioner."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write captions for every image of a study.

    Writes STUDY/captions/NAME.parquet. Finished images are kept in a journal, so a broken-off
    call goes on where it stopped. Images that fail are named in the end and asked for again with
    --retry-failed. A server's key is read from OPENAI_API_KEY.

    Example: [bold]eegprompt captions write studies/n170 --captioner
    file:recipes/n170-captions.csv[/bold]
    """
    from eegprompt.captions.store import facts_of
    from eegprompt.steps.caption import caption as write_captions
    from eegprompt.steps.caption import estimate_captions, failed_captions
    from eegprompt.study import Study

    opened = Study(study)
    options = pairs(option)
    for key, value in (
        ("instruction", instruction), ("base_url", base_url), ("max_cost", max_cost)
    ):  # fmt: skip
        if value is not None:
            options[key] = value
    if dry_run:
        facts = estimate_captions(
            opened, captioner, name, max_images=max_images, retry_failed=retry_failed, **options
        )
        if json:
            console.print_json(facts)
            return
        example = facts.pop("example")
        shown = {key.replace("_", " "): str(value) for key, value in facts.items()}
        if facts["cost"] is None:
            shown["cost"] = "unknown: give -o price_in=… -o price_out=… (each for a million tokens)"
        console.print_facts(shown)
        if example is not None:
            console.out().print("the first request:", markup=False)
            console.print_json(example)
        return
    with console.step("captions") as progress:
        asked = [-1]  # the first report comes before the first image

        def counted(done: int, total: int, label: str) -> None:
            asked[0] += 1
            progress(done, total, label)

        path = write_captions(
            opened, captioner, name, counted, overwrite=overwrite, max_images=max_images,
            retry_failed=retry_failed, **options,
        )  # fmt: skip
    table = opened.captions(Path(path).stem)
    failed = failed_captions(opened, Path(path).stem)
    missing = set(opened.images["image_id"]) - set(table["image_id"])
    told = asked[0] > 0 or missing  # else nothing was to be done, and the notes are of another call
    notes = facts_of(opened.path, Path(path).stem).get("notes", []) if told else []
    facts = {
        "path": str(path), "captions": len(table), "images": table["image_id"].nunique(),
        "missing": len(missing),
        "failed": [{"image_id": f["image_id"], "error": f["error"]} for f in failed],
        "notes": notes,
    }  # fmt: skip
    if json:
        console.print_json(facts)
        return
    console.out().print(
        f"{path}: {facts['captions']} captions of {facts['images']} images", markup=False
    )
    for text in notes:
        console.note(f"Note: {text}")
    for failure in failed[:20]:
        console.note(f"failed: {failure['image_id']}: {failure['error']}")
    if failed:
        more = f" ({len(failed) - 20} not shown)" if len(failed) > 20 else ""
        what = "image" if len(failed) == 1 else "images"
        console.note(f"{len(failed)} {what} failed{more}; --retry-failed asks for just these")
    left = facts["missing"] - len(failed)
    if left > 0 and captioner.partition(":")[0] != "file":
        console.note(
            f"{left} of {len(opened.images)} images have no captions yet; the same command goes on"
        )


def check(
    study: StudyPath,
    name: _Name = None,
    language: Annotated[str, typer.Option(help="What the captions should be in, or 'any'.")] = "en",
    text_encoder: Annotated[
        str | None, typer.Option(help="Check this text encoder's token limit too, e.g. builtin.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page of examples (HTML) to look at.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a caption set: kinds, length, language, refusals, repetitions; and show its diversity.

    Reads STUDY/captions/NAME.parquet and changes nothing. Ends with code 2 if something is amiss;
    remarks are odd, but may be meant.

    Example: [bold]eegprompt captions check studies/n170[/bold]
    """
    from eegprompt.captions.review import example_page
    from eegprompt.core.files import write_text
    from eegprompt.steps.caption import review_captions
    from eegprompt.study import Study

    opened = Study(study)
    chosen = _only(opened, name)
    review = review_captions(
        opened, chosen, language=None if language == "any" else language, text_encoder=text_encoder
    )
    if page is not None:
        write_text(page, example_page(opened, opened.captions(chosen), chosen, review=review))
        console.note(f"examples: {page}")
    if json:
        console.print_json(
            {
                "name": chosen,
                "problems": review.problems,
                "remarks": review.remarks,
                "kinds": review.kinds,
                "nearest": review.nearest,
            }
        )
    else:
        columns = ("kind", "captions", "distinct", "words", "vocabulary", "repeated")
        console.print_table(
            columns,
            [(kind, *[str(facts[c]) for c in columns[1:]]) for kind, facts in review.kinds.items()],
        )
        for pair in review.nearest:
            if pair["similarity"] >= 0.8:
                console.note(
                    f"most alike in {pair['kind']} ({pair['similarity']:.2f}): {pair['one']!r} and "
                    f"{pair['other']!r}"
                )
        for remark in review.remarks:
            console.note(f"remark: {remark}")
        for problem in review.problems:
            console.out().print(problem, markup=False)
    if review.problems:
        n = len(review.problems)
        raise CaptionError(f"{n} problem{'s' * (n > 1)} in caption set '{chosen}'")
    if not json:
        console.out().print(f"caption set '{chosen}' is in order", markup=False)


def show(
    study: StudyPath,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Ids of images; default: some.")
    ] = None,
    name: _Name = None,
    image: Annotated[
        list[str] | None, typer.Option(help="The same as IMAGE; may be given more than once.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Caption kinds or levels, separated by commas.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Without IMAGE, show at most this many images.")
    ] = 3,
    json: Json = False,
) -> None:
    """Show the captions of some images.

    Example: [bold]eegprompt captions show studies/scenes img-0001 --kind ObjectSnap,MoodFeel[/bold]
    """
    from eegprompt.core.errors import UnknownNameError
    from eegprompt.core.kinds import parse_kinds
    from eegprompt.study import Study

    opened = Study(study)
    table = opened.captions(_only(opened, name))
    known = list(table["image_id"].drop_duplicates())
    asked = [*(images or ()), *(image or ())]
    for image_id in asked:
        if image_id not in known:
            raise UnknownNameError("image", image_id, known)
    chosen = asked or known[:limit]
    kinds = parse_kinds(kind)
    rows = table[table["image_id"].isin(chosen) & table["kind"].isin(kinds)]
    if json:
        console.print_json(rows.to_dict("records"))
        return
    console.print_table(
        ("image", "kind", "text"),
        [tuple(map(str, r)) for r in rows[["image_id", "kind", "text"]].itertuples(index=False)],
    )


def export(
    study: StudyPath,
    to: Annotated[
        Path, typer.Option(metavar="FILE", help="Ends in .csv, .tsv, .jsonl or .parquet.")
    ],
    name: _Name = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a caption set into one file, one row a caption, with who wrote it and when.

    `captions write --captioner file:FILE` reads it back.

    Example: [bold]eegprompt captions export studies/scenes --name rules --to captions.csv[/bold]
    """
    from eegprompt.steps.caption import export_captions
    from eegprompt.study import Study

    opened = Study(study)
    path = export_captions(opened, _only(opened, name), to, overwrite=overwrite)
    console.out().print(str(path), markup=False)


def register(app: typer.Typer) -> None:
    """Add ``captions`` with its commands to `app`."""
    group = typer.Typer(
        no_args_is_help=True, help="Write, check, show and export captions of images."
    )
    group.command("write")(write)
    group.command("check")(check)
    group.command("show")(show)
    group.command("export")(export)
    app.add_typer(group, name="captions", rich_help_panel="Studies")


def _only(study: Any, name: str | None) -> str:
    """The caption set that was named, or the one there is."""
    names = study.caption_names()
    if name is None and len(names) > 1:
        raise CaptionError(f"the study has several caption sets; name one with --name: {names}")
    if name is None and names:
        return str(names[0])
    return name or "captions"
