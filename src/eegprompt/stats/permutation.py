"""Chance by permutation: what the same outputs would score if they belonged to other conditions.

What is permuted is the label of a *unit*: the image of a condition (with all its trials kept
together), or the category of a trial where nothing more is known. Trials of one image are not
exchangeable one by one – they share whatever the image evokes – so they move together. With
`strata` labels are exchanged only inside a stratum: within class (what class knowledge alone
reaches) or within run (slow changes between runs are no signal).

A statistic that is a mean over trials is given as a table: what each unit would score under each
label. A permutation is then an index lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from eegprompt.core.arrays import codes, numbers, whole_numbers
from eegprompt.core.errors import InputError

__all__ = [
    "PermutationResult",
    "permutation_p",
    "permutation_test",
    "permuted_labels",
    "table_chance",
    "table_statistic",
]

Statistic = Callable[[np.ndarray], np.ndarray]

_BLOCK_CELLS = 4_000_000  # permuted labels held at once


@dataclass(frozen=True)
class PermutationResult:
    """A statistic beside what it is without a relation between units and labels.

    Parameters
    ----------
    value : float
        The statistic under the true labels.
    chance : float
        Its expectation under permutation.
    p : float
        ``(1 + #{permuted at least as good}) / (1 + n)``, in (0, 1]; NaN where the labels allow no
        permutation that changes anything.
    null : array of shape (n_permutations,)
        The statistic under each permutation.
    """

    value: float
    chance: float
    p: float
    null: np.ndarray


def _strata_members(n_units: int, strata: np.ndarray | None) -> list[np.ndarray]:
    if strata is None:
        return [np.arange(n_units)]
    index = codes(strata, "strata", length=n_units)
    order = np.argsort(index, kind="stable")
    return np.split(order, np.cumsum(np.bincount(index))[:-1])


def permuted_labels(
    labels: np.ndarray, n: int, *, strata: np.ndarray | None = None, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield blocks of permuted labels.

    Parameters
    ----------
    labels : array of int, shape (n_units,)
        The true labels.
    n : int
        How many permutations in all.
    strata : array of shape (n_units,), optional
        Labels are exchanged only between units of equal stratum.
    seed : int
        The same seed, labels and strata give the same permutations.

    Yields
    ------
    array of shape (n_in_block, n_units)
    """
    labels = whole_numbers(labels, "labels")
    members = _strata_members(len(labels), strata)
    rng = np.random.default_rng(seed)
    block = max(1, min(n, _BLOCK_CELLS // max(1, len(labels))))
    for start in range(0, n, block):
        rows = np.tile(labels, (min(block, n - start), 1))
        for units in members:
            if len(units) == len(labels):
                rows = rng.permuted(rows, axis=1)
            elif len(units) > 1:
                rows[:, units] = rng.permuted(rows[:, units], axis=1)
        yield rows


def table_statistic(totals: np.ndarray, counts: np.ndarray) -> Statistic:
    """The mean score a trial, as a function of labels.

    Parameters
    ----------
    totals : array of shape (n_units, n_labels)
        Sum over the unit's trials of what they score if the unit's label is the column's.
    counts : array of shape (n_units,)
        Trials of each unit.

    Returns
    -------
    callable
        Maps labels (n_sets, n_units) to the mean score a trial (n_sets,).
    """
    totals = numbers(totals, "totals", ("units", "labels"))
    counts = numbers(counts, "counts", ("units",))
    if len(counts) != len(totals):
        raise InputError(
            f"a table of shape (units, labels) needs one count a unit, got shapes {totals.shape} "
            f"and {counts.shape}"
        )
    if not counts.sum() > 0:
        raise InputError("there is no trial to score: every unit has a count of 0")
    flat = totals.ravel()
    offsets = np.arange(totals.shape[0]) * totals.shape[1]
    n_trials = counts.sum()

    def statistic(labels: np.ndarray) -> np.ndarray:
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.shape[1] != len(offsets):
            raise InputError(
                f"labels must be by (sets, {len(offsets)} units), got shape {labels.shape}"
            )
        if labels.size and (labels.min() < 0 or labels.max() >= totals.shape[1]):
            raise InputError(
                f"labels must lie in [0, {totals.shape[1] - 1}], got {labels.min()} to "
                f"{labels.max()}"
            )
        return flat.take(labels + offsets).sum(axis=1) / n_trials

    return statistic


def table_chance(
    totals: np.ndarray,
    counts: np.ndarray,
    labels: np.ndarray,
    strata: np.ndarray | None = None,
) -> float:
    """Exact expectation of :func:`table_statistic` over all permutations.

    Each unit gets each label of its stratum equally often.
    """
    totals = numbers(totals, "totals", ("units", "labels"))
    counts = numbers(counts, "counts", ("units",))
    labels = whole_numbers(labels, "labels", length=len(totals), below=totals.shape[1])
    if len(counts) != len(totals) or not counts.sum() > 0:
        raise InputError(
            f"each of {len(totals)} units needs one count, not all 0, got {len(counts)} counts with "
            f"the sum {counts.sum():g}"
        )
    total = sum(
        totals[np.ix_(units, labels[units])].mean(axis=1).sum()
        for units in _strata_members(len(labels), strata)
    )
    return float(total / counts.sum())


def permutation_test(
    statistic: Statistic,
    labels: np.ndarray,
    n: int,
    *,
    strata: np.ndarray | None = None,
    seed: int = 0,
    higher_is_better: bool = True,
    chance: float | None = None,
) -> PermutationResult:
    """Compare a statistic with itself under permuted labels.

    Parameters
    ----------
    statistic : callable
        Maps labels (n_sets, n_units) to values (n_sets,).
    labels : array of int, shape (n_units,)
        The true labels.
    n : int
        Number of permutations.
    strata : array of shape (n_units,), optional
        Labels are exchanged only inside a stratum.
    seed : int
        Seed of the permutations.
    higher_is_better : bool
        Which side counts against chance.
    chance : float, optional
        The exact expectation where it is known; else the mean over the permutations.

    Returns
    -------
    PermutationResult

    Raises
    ------
    InputError
        If there are fewer than one permutation or no labels.

    References
    ----------
    Phipson & Smyth (2010), Permutation p-values should never be zero, SAGMB 9(1).
    """
    labels = whole_numbers(labels, "labels")
    if n < 1 or not len(labels):
        raise InputError(
            f"a permutation test needs at least one permutation and one unit, got {n} permutations "
            f"of {labels.size} units"
        )
    value = float(statistic(labels[None])[0])
    changes = any(
        len(np.unique(labels[units])) > 1 for units in _strata_members(len(labels), strata)
    )
    if not changes:
        return PermutationResult(value, value, np.nan, np.full(n, value))
    null = np.concatenate(
        [statistic(block) for block in permuted_labels(labels, n, strata=strata, seed=seed)]
    )
    return PermutationResult(
        value,
        float(np.mean(null)) if chance is None else chance,
        permutation_p(value, null, higher_is_better=higher_is_better),
        null,
    )


def permutation_p(value: float, null: np.ndarray, *, higher_is_better: bool = True) -> float:
    """p value of `value` among `null`: ``(1 + #{at least as good}) / (1 + n)``.

    Values that differ by rounding alone count as equal, so that a permutation which changes
    nothing is never taken for a worse one.
    """
    null = numbers(null, "permuted values", ("permutations",), empty=True)
    if np.isnan(value):
        return 1.0  # a score that is not a number beats nothing
    slack = 1e-9 * max(1.0, abs(value))
    worse = null < value - slack if higher_is_better else null > value + slack
    return float((1 + (~worse).sum()) / (1 + len(null)))
