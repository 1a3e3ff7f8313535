"""Divide a study's trials into a training, a validation and a test set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eegprompt.splits.base import make_split

if TYPE_CHECKING:
    from eegprompt.study import Study
    from eegprompt.study.split import Split

__all__ = ["split"]


def split(
    study: Study, kind: str, name: str | None = None, *, overwrite: bool = False, **options: Any
) -> Split:
    """Make a split of a study and write it into ``splits/NAME.json``.

    Parameters
    ----------
    study : Study
        What is divided.
    kind : str
        A name of the registry of splits, e.g. ``"by-image"``, or an alias such as ``"loso"``.
    name : str, optional
        The split's name; default: `kind`.
    overwrite : bool
        Replace a split of that name; runs trained on it then refuse to go on.
    **options
        Of the kind; ``eegprompt split KIND --options`` lists them.

    Returns
    -------
    Split

    Raises
    ------
    UnknownNameError
        If there is no such kind or option.
    SplitError
        If the study does not allow the split, or has another one of that name.
    """
    return make_split(study, kind, name, overwrite=overwrite, **options)
