"""Turn recordings into a study, with the reader of a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError
from eegprompt.core.progress import Progress
from eegprompt.core.registry import resolve

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["import_", "load_reader"]


def load_reader(kind: str) -> Any:
    """The reader a user's string names.

    Parameters
    ----------
    kind : str
        A name of the registry of readers, e.g. ``"continuous"``.

    Raises
    ------
    UnknownNameError
        If there is no such reader.
    """
    target, argument = resolve("reader", kind)
    return target(argument) if argument else target()


def import_(
    kind: str,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Study:
    """Read recordings and write a study; a failure leaves none behind.

    Parameters
    ----------
    kind : str
        The reader, e.g. ``"continuous"``, ``"mne"``, ``"bids"``.
    sources : path-like or sequence of path-like
        Files or folders.
    out : path-like
        The study's folder.
    progress : callable, optional
        Called with (done, total, label).
    **options
        Of the reader; ``eegprompt import KIND --options`` lists them.

    Returns
    -------
    Study

    Raises
    ------
    UnknownNameError
        If there is no such reader or option.
    InputError
        If nothing is to be read, or a file cannot be taken for what it is said to be.

    Examples
    --------
    ``eegprompt.import_("mne", "sub-01-epo.fif", "studies/mine", image_column="stimulus")``
    """
    paths = [Path(p) for p in ([sources] if isinstance(sources, str | Path) else sources)]
    if not paths:
        raise InputError(f"import {kind} needs at least one file or folder to read")
    study: Study = load_reader(kind).read(paths, Path(out), progress=progress, **options)
    return study
