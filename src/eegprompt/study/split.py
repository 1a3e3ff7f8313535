"""Small data types that several layers share, with their invariants."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from eegprompt.core.errors import EegpromptError, SplitError
from eegprompt.core.files import content_key

__all__ = ["Fold", "Split", "trial_ids"]


def trial_ids(values: Any, what: str, error: type[EegpromptError]) -> np.ndarray:
    """Trial ids as integers; nothing is rounded, and a mask is not taken for ids.

    Parameters
    ----------
    values : sequence of int
        Ids, in one dimension.
    what : str
        What they are, for the message.
    error : type
        Raised where they are no ids.

    Returns
    -------
    array of int64, shape (n,)

    Raises
    ------
    EegpromptError
        Of the type `error`.

    Examples
    --------
    >>> trial_ids([3, 1], "the training set", SplitError)
    array([3, 1])
    """
    ids = np.asarray(values)
    if ids.ndim != 1:
        raise error(f"{what} must list trial ids in one dimension, got shape {ids.shape}")
    if not ids.size:
        return np.zeros(0, dtype=np.int64)
    if ids.dtype.kind == "b":
        raise error(f"{what} is a mask; give the ids it selects, np.flatnonzero(mask)")
    whole = ids.dtype.kind in "iu" or (
        ids.dtype.kind == "O"
        and all(isinstance(i, Integral) and not isinstance(i, bool) for i in ids)
    )
    if not whole:
        other = next((i for i in ids.tolist() if not isinstance(i, Integral) or i is True), ids[0])
        raise error(
            f"{what} holds {other!r}, which is not a trial id; ids are whole numbers from 0"
        )
    if ids.min() < 0 or ids.max() > np.iinfo(np.int64).max:
        raise error(
            f"{what} holds {ids.min() if ids.min() < 0 else ids.max()}; trial ids count from 0"
        )
    return ids.astype(np.int64)


@dataclass(frozen=True)
class Fold:
    """Trial ids of the three sides of a split.

    Parameters
    ----------
    train, val, test : array of int, shape (n,)
        Trial ids; no id stands on two sides; `val` selects, `test` only measures.

    Raises
    ------
    SplitError
        If a side is empty (`test` may be), an id stands on two sides, or is no whole number.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        for side in ("train", "val", "test"):
            ids = trial_ids(getattr(self, side), f"the {side} set", SplitError)
            if len(np.unique(ids)) != len(ids):
                raise SplitError(f"the {side} set must list each trial id once")
            object.__setattr__(self, side, ids)
        for side in ("train", "val"):
            if not len(getattr(self, side)):
                raise SplitError(
                    f"the {side} set is empty; training needs trials to learn from and others to "
                    "select by: use more trials or other fractions"
                )
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            both = np.intersect1d(getattr(self, a), getattr(self, b))
            if len(both):
                raise SplitError(
                    f"{len(both)} trials stand on both the {a} and the {b} set "
                    f"(first: {both[:5].tolist()}); each trial may stand in one set only"
                )

    @property
    def key(self) -> str:
        """Content key of which trials train, validate and test."""
        return content_key(self.train, self.val, self.test)


@dataclass(frozen=True)
class Split:
    """A named list of folds and how it was made.

    Parameters
    ----------
    name : str
        File name without suffix, e.g. ``"by-image"``.
    folds : tuple of Fold
        At least one.
    how : dict
        The call that re-derives it: kind, arguments, seed, what is kept disjoint.
    """

    name: str
    folds: tuple[Fold, ...]
    how: dict[str, Any] = field(default_factory=dict)

    def fold(self, index: int) -> Fold:
        """The fold at `index`, counted from 0."""
        if not 0 <= index < len(self.folds):
            raise SplitError(
                f"split '{self.name}' has folds 0 to {len(self.folds) - 1}, got fold {index}"
            )
        return self.folds[index]
