"""Write captions into a study: any captioner, resumable at every image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.captions.checks import check_table
from eegprompt.captions.store import CaptionStore, Origin
from eegprompt.errors import CaptionError, InputError
from eegprompt.registry import resolve
from eegprompt.study import Study

if TYPE_CHECKING:
    from eegprompt.protocols import Captioner

__all__ = ["check_captions", "load_captioner", "write_captions"]


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
        If there is no captioner of that name.
    """
    target, argument = resolve("captioner", spec)
    try:
        captioner: Captioner = target(argument, **options)
    except TypeError as problem:
        raise InputError(
            f"the captioner '{spec}' does not take these options ({problem})"
        ) from None
    return captioner


def write_captions(
    study: Study,
    captioner: Captioner | str,
    name: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Caption every image of a study.

    Images that are captioned already are not asked for again, so a call that was stopped goes on
    where it stopped.

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
    if isinstance(captioner, str):
        captioner = load_captioner(captioner, **options)
    elif options:
        raise InputError(f"options {sorted(options)} belong to a captioner given by its name")
    image_ids = [str(i) for i in study.images["image_id"]]
    check = getattr(captioner, "check", None)
    notes = list(check(study)) if check is not None else []
    store = CaptionStore(study, name or captioner.name, Origin.of(captioner), overwrite=overwrite)
    keys, done = store.keys(image_ids), store.done()
    todo = [i for i in image_ids if keys[i] not in done]
    n_done = len(image_ids) - len(todo)
    if progress is not None:
        progress(n_done, len(image_ids), "captions")
    if todo:
        for image_id, rows in groupby(captioner.write(study, todo), key=lambda r: r["image_id"]):
            store.append(str(image_id), list(rows))
            n_done += 1
            if progress is not None:
                progress(n_done, len(image_ids), "captions")
    if todo or not store.table_path.exists() or store.journal_path.exists():
        if not store.rows():
            raise CaptionError(f"the captioner '{captioner.name}' wrote no captions")
        store.compact(image_ids, notes)
    return store.table_path


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
