"""Small data types that several layers share, with their invariants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eegprompt.errors import SplitError

__all__ = ["Fold", "Split"]


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
        If a side is empty (`test` may be) or an id stands on two sides.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def __post_init__(self) -> None:
        for side in ("train", "val", "test"):
            ids = np.asarray(getattr(self, side), dtype=np.int64)
            if ids.ndim != 1 or len(np.unique(ids)) != len(ids):
                raise SplitError(f"the {side} side must list each trial id once, in one dimension")
            object.__setattr__(self, side, ids)
        for side in ("train", "val"):
            if not len(getattr(self, side)):
                raise SplitError(
                    f"the {side} side is empty; training needs trials to learn from and others to "
                    "select by: use more trials or other fractions"
                )
        for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
            both = np.intersect1d(getattr(self, a), getattr(self, b))
            if len(both):
                raise SplitError(
                    f"{len(both)} trials stand on both the {a} and the {b} side "
                    f"(first: {both[:5].tolist()}); each trial may stand on one side only"
                )


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
