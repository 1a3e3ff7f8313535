"""Write captions into a study: any captioner, resumable at every image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.captions.alike import AlikeWatch, alike_images
from eegprompt.captions.base import Captioner, caption_rows
from eegprompt.captions.review import Review, review_table
from eegprompt.captions.store import CaptionStore, Origin, facts_of
from eegprompt.captions.validity import check_table
from eegprompt.core.errors import CaptionError, InputError
from eegprompt.core.files import atomic_path
from eegprompt.core.registry import check_options, resolve
from eegprompt.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "caption",
    "check_captions",
    "estimate_captions",
    "export_captions",
    "failed_captions",
    "load_captioner",
    "review_captions",
]


def load_captioner(spec: str, **options: Any) -> Captioner:
    """Make a captioner from what a user types.

    Parameters
    ----------
    spec : str
        ``NAME`` or ``NAME:ARGUMENT``, e.g. ``"file:captions.csv"``.
    **options
        Further arguments of the captioner.

    Raises
    ------
    UnknownNameError
        If there is no captioner of that name, or it has no such option.
    """
    target, argument = resolve("captioner", spec)
    check_options(target, options, f"the captioner '{spec.partition(':')[0]}'")
    captioner: Captioner = target(argument, **options)
    return captioner


def caption(
    study: Study,
    captioner: Captioner | str,
    name: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    overwrite: bool = False,
    max_images: int | None = None,
    retry_failed: bool = False,
    **options: Any,
) -> Path:
    """Caption every image of a study.

    Images that are captioned already are not asked for again, so a call that was stopped goes on
    where it stopped. An image that fails does not stop the others: it is recorded, with the reason,
    and asked for again only with `retry_failed`; :func:`failed_captions` lists these.

    Where image after image gets the same captions, a warning says so at once: the model may not see
    the images. The notes of the set say how many images share all, or nearly all, of their captions.

    Parameters
    ----------
    study : Study
    captioner : Captioner or str
        An object, or what :func:`load_captioner` takes.
    name : str, optional
        Name of the caption set; default the captioner's name.
    progress : callable, optional
        Called with (done, total, label) after each image.
    overwrite : bool
        Replace a set of this name that another captioner, model or instruction wrote.
    max_images : int, optional
        Ask for at most so many images in this call.
    retry_failed : bool
        Ask for just those images that failed before.
    **options
        Of the captioner, where it is given by name.

    Returns
    -------
    pathlib.Path
        ``STUDY/captions/NAME.parquet``; ``study.captions(NAME)`` reads it.

    Raises
    ------
    CaptionError
        If captions are missing or malformed, or the name belongs to another captioner's set.
    """
    if max_images is not None and max_images < 1:
        raise InputError(f"max_images must be at least 1, got {max_images}")
    if isinstance(captioner, str):
        captioner = load_captioner(captioner, **options)
    elif options:
        raise InputError(f"options {sorted(options)} belong to a captioner given by its name")
    image_ids = [str(i) for i in study.images["image_id"]]
    notes = captioner.check(study)
    study.keep_kinds(captioner.kinds)
    store = CaptionStore(study, name or captioner.name, Origin.of(captioner), overwrite=overwrite)
    todo, n_done = _todo(store, image_ids, retry_failed=retry_failed)
    if max_images is not None:
        todo = todo[:max_images]
    if progress is not None:
        progress(n_done, len(image_ids), "captions")
    files = _files(study)
    watch = None
    if captioner.sees_images:
        labels = dict(zip(image_ids, study.images["category"].astype(str)))
        watch = AlikeWatch(labels, files)
    for image_id, captions, error in captioner.answers(study, todo) if todo else ():
        if error is None:
            rows = caption_rows(captions)
            store.append(image_id, rows)
            n_done += 1
            if watch is not None and (alarm := watch.add(image_id, rows)):
                warnings.warn(alarm, stacklevel=2)
        else:
            store.fail(image_id, error)
        if progress is not None:
            progress(n_done, len(image_ids), "captions")
    if todo or not store.table_path.exists() or store.journal_path.exists():
        if not store.done():
            failed = list(store.failed().values())
            if failed:
                raise CaptionError(
                    f"the captioner '{captioner.name}' wrote no captions: all {len(failed)} images "
                    f"it was asked for failed (first: {failed[0]['image_id']}: {failed[0]['error']})"
                )
            said = "; ".join(captioner.notes)
            raise CaptionError(
                f"the captioner '{captioner.name}' wrote no captions{f' ({said})' if said else ''}"
            )

        def notes_on(table: pd.DataFrame) -> list[str]:
            alike = alike_images(table, files)
            seen = [alike.sentence()] if alike.alarming else []
            return [*seen, *notes, *captioner.notes]

        store.compact(image_ids, notes_on)
    return store.table_path


def _files(study: Study) -> dict[str, str]:
    """Checksum of each image's file, where the study has it."""
    images = study.images
    return {
        str(i): s for i, s in zip(images["image_id"], images["sha256"]) if isinstance(s, str) and s
    }


def _todo(
    store: CaptionStore, image_ids: Sequence[str], *, retry_failed: bool
) -> tuple[list[str], int]:
    """Images to ask for, and how many are done."""
    keys, done, failed = store.keys(image_ids), store.done(), store.failed()
    open_ = [i for i in image_ids if keys[i] not in done]
    todo = [i for i in open_ if (keys[i] in failed) == retry_failed]
    return todo, len(image_ids) - len(open_)


def estimate_captions(
    study: Study,
    captioner: Captioner | str,
    name: str | None = None,
    *,
    max_images: int | None = None,
    retry_failed: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """What :func:`caption` with these arguments would take; asks and writes nothing.

    Returns
    -------
    dict
        ``images`` (to be captioned), ``done``, ``requests``, ``tokens_in``, ``tokens_out``,
        ``cost`` and ``example``; captioners that ask no server make 0 requests.
    """
    if isinstance(captioner, str):
        captioner = load_captioner(captioner, **options)
    image_ids = [str(i) for i in study.images["image_id"]]
    store = CaptionStore(study, name or captioner.name, Origin.of(captioner), dry=True)
    todo, n_done = _todo(store, image_ids, retry_failed=retry_failed)
    todo = todo[:max_images]
    return {"images": len(todo), "done": n_done, **captioner.estimate(study, todo)}


def failed_captions(study: Study, name: str) -> list[dict[str, str]]:
    """Images of a caption set that could not be captioned: `image_id`, `error`, `created`, `key`.

    Parameters
    ----------
    study : Study
    name : str
        Name of the set.
    """
    return [dict(f) for f in facts_of(study.path, name).get("failed", [])]


def check_captions(study: Study, name: str) -> list[str]:
    """What is amiss in a caption set of a study, a sentence each; empty if nothing is.

    Parameters
    ----------
    study : Study
    name : str
        Name of the set.

    Raises
    ------
    UnknownNameError
        If there is no such set.
    """
    return check_table(study.captions(name), [str(i) for i in study.images["image_id"]])


def review_captions(
    study: Study, name: str, *, language: str | None = "en", text_encoder: str | None = None
) -> Review:
    """Look at a caption set: problems, remarks, counts, diversity and near-duplicates.

    Parameters
    ----------
    study : Study
    name : str
        Name of the set.
    language : str or None
        What the captions should be in; None takes any.
    text_encoder : str, optional
        Check its token limit too, e.g. ``"builtin"`` or ``"clip:openai/clip-vit-large-patch14"``.
    """
    limits: dict[str, Any] = {}
    if text_encoder is not None:
        from eegprompt.text_encoders import load_text_encoder

        encoder = load_text_encoder(text_encoder, device="cpu")
        limits = {"count_tokens": encoder.count_tokens, "max_tokens": encoder.max_tokens}
    ids = [str(i) for i in study.images["image_id"]]
    return review_table(study.captions(name), ids, language=language, files=_files(study), **limits)


def export_captions(study: Study, name: str, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a caption set into one file, with who wrote each caption.

    The captioner `file` reads it back, here or in another study with the same images.

    Parameters
    ----------
    study : Study
    name : str
        Name of the set.
    path : path-like
        Ends in ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``; one row, or line, a caption.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If the ending is another, or the file is there.
    UnknownNameError
        If there is no such set.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl", ".parquet"):
        raise InputError(
            f"captions are exported as .csv, .tsv, .jsonl or .parquet, got '{path.name}'"
        )
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another file, or pass --overwrite")
    table = study.captions(name)
    with atomic_path(path) as partial:
        if suffix == ".parquet":
            table.to_parquet(partial, index=False)
        elif suffix == ".jsonl":
            table.to_json(partial, orient="records", lines=True, force_ascii=False)
        else:
            separator = "\t" if suffix == ".tsv" else ","
            table.to_csv(partial, index=False, sep=separator, lineterminator="\n")
    return path
