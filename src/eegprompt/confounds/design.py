"""Can the class be read from *when* a trial was recorded, without looking at the EEG at all?

If it can, whatever else changes with time – electrodes that dry, attention, alertness – can be taken
for the class. What is measured is a guess anyone could make from the protocol alone: that a trial
shows the class of another trial of the same block, run or session, or of its neighbors in time.
How often that guess is right is compared with the same labels dealt out at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eegprompt.core.arrays import codes, numbers, whole_numbers
from eegprompt.core.errors import InputError
from eegprompt.stats.permutation import permutation_p, permuted_labels

__all__ = ["GuessTest", "group_guess", "neighbor_guess", "time_neighbors"]


_MANY = 1 << 20  # classes at most: cells of groups × classes are counted


@dataclass(frozen=True)
class GuessTest:
    """How often the class is guessed from a trial's place in the protocol.

    Parameters
    ----------
    accuracy : float
        Proportion of right guesses, in [0, 1]; NaN where no trial has another to guess from.
    chance : float
        The same, mean over permuted labels.
    p : float
        Permutation p, one-sided; NaN where nothing can be tested.
    n_groups : int
        Groups that hold at least two trials.
    one_class : bool
        Every such group holds a single class, though there are several classes.
    """

    accuracy: float
    chance: float
    p: float
    n_groups: int
    one_class: bool


def group_guess(
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    units: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    n: int = 999,
    seed: int = 0,
) -> GuessTest:
    """Guess each trial's class from another trial of its group.

    Parameters
    ----------
    labels : array of int, shape (n_trials,)
        Classes, from 0.
    groups : array of int, shape (n_trials,)
        Block, run, session, ... of each trial.
    units : array of int, shape (n_trials,), optional
        What labels are permuted over: trials of one unit (an image) keep one label. Trials by default.
    strata : array of shape (n_trials,), optional
        Labels are exchanged only inside a stratum (a subject).
    n : int
        Permutations.
    seed : int
        Seed of the permutations.

    Returns
    -------
    GuessTest

    Examples
    --------
    >>> test = group_guess(np.repeat([0, 1], 20), np.repeat([0, 1], 20))
    >>> test.accuracy, test.one_class
    (1.0, True)
    """
    labels, groups = _checked(labels, groups)
    size = np.bincount(groups)
    usable = size[groups] >= 2
    n_groups = int((size >= 2).sum())
    if not usable.any():
        return GuessTest(np.nan, np.nan, np.nan, n_groups, False)
    n_classes = int(labels.max()) + 1
    others = (size - 1).astype(float)

    def statistic(row: np.ndarray) -> float:
        cells, counts = np.unique(groups * n_classes + row, return_counts=True)
        of_group = cells // n_classes
        kept = size[of_group] >= 2
        same = counts[kept] * (counts[kept] - 1) / others[of_group[kept]]
        return float(same.sum() / usable.sum())

    value, chance, p = _permuted(statistic, labels, units, strata, n, seed)
    several = len(np.unique(labels[usable])) > 1
    return GuessTest(value, chance, p, n_groups, bool(several and value > 1 - 1e-12))


def time_neighbors(recording: np.ndarray, position: np.ndarray, k: int = 4) -> np.ndarray:
    """The `k` trials nearest in order of each trial, half before and half after, in its recording.

    Parameters
    ----------
    recording : array of int, shape (n_trials,)
        Continuous file of each trial.
    position : array, shape (n_trials,)
        Order or onset; any unit.
    k : int
        An even number of neighbors.

    Returns
    -------
    array of int, shape (n_trials, k)
        Trials; -1 where the recording ends.
    """
    position = numbers(position, "positions", ("trials",), empty=True)
    recording = codes(recording, "recordings", length=len(position))
    if k < 2 or k % 2:
        raise InputError(f"'k' is an even number of at least 2, got {k}")
    order = np.lexsort((position, recording))
    n = len(order)
    result = np.full((n, k), -1, dtype=np.int64)
    steps = [s for s in range(-k // 2, k // 2 + 1) if s]
    for column, step in enumerate(steps):
        place = np.arange(n) + step
        inside = (place >= 0) & (place < n)
        here, there = order[inside], order[place[inside]]
        same = recording[here] == recording[there]
        result[here[same], column] = there[same]
    return result


def neighbor_guess(
    labels: np.ndarray,
    neighbors: np.ndarray,
    *,
    units: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    n: int = 999,
    seed: int = 0,
) -> GuessTest:
    """Guess each trial's class from a trial beside it in time.

    Parameters
    ----------
    labels : array of int, shape (n_trials,)
        Classes, from 0.
    neighbors : array of int, shape (n_trials, k)
        As :func:`time_neighbors` gives them.
    units, strata, n, seed
        As in :func:`group_guess`.

    Returns
    -------
    GuessTest
        `n_groups` counts the trials that have a neighbor.
    """
    labels = whole_numbers(labels, "labels", below=_MANY)
    neighbors = numbers(neighbors, "neighbors", ("trials", "neighbors"))
    if len(neighbors) != len(labels) or not np.isin(neighbors, np.arange(-1, len(labels))).all():
        raise InputError(
            f"neighbors of each of {len(labels)} trials must be trials in [0, {len(labels) - 1}], or "
            f"-1 for none, got an array of shape {neighbors.shape}"
        )
    neighbors = neighbors.astype(np.int64)
    there = neighbors >= 0
    count = there.sum(axis=1)
    usable = count > 0
    if not usable.any():
        return GuessTest(np.nan, np.nan, np.nan, 0, False)

    def statistic(row: np.ndarray) -> float:
        same = (row[neighbors] == row[:, None]) & there
        return float((same.sum(axis=1)[usable] / count[usable]).mean())

    value, chance, p = _permuted(statistic, labels, units, strata, n, seed)
    return GuessTest(value, chance, p, int(usable.sum()), False)


def _checked(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = whole_numbers(labels, "labels", below=_MANY)
    if not len(labels):
        raise InputError("there are no trials to guess the class of; give at least one label")
    return labels, codes(groups, "groups", length=len(labels))


def _permuted(
    statistic: Callable[[np.ndarray], float],
    labels: np.ndarray,
    units: np.ndarray | None,
    strata: np.ndarray | None,
    n: int,
    seed: int,
) -> tuple[float, float, float]:
    """Value, mean under permutation and p; a NaN p where no permutation changes anything."""
    value = statistic(labels)
    n_trials = len(labels)
    of_unit = np.arange(n_trials) if units is None else codes(units, "units", length=n_trials)
    first = np.unique(of_unit, return_index=True)[1]
    inner = None if strata is None else codes(strata, "strata", length=n_trials)[first]
    if len(np.unique(labels)) < 2:
        return value, value, np.nan
    null = np.array(
        [
            statistic(row[of_unit])
            for block in permuted_labels(labels[first], n, strata=inner, seed=seed)
            for row in block
        ]
    )
    return value, float(null.mean()), permutation_p(value, null)
