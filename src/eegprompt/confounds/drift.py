"""Can the EEG tell *when* a trial was recorded, among trials of one and the same class?

Trials of one class in one recording are cut in time, at random places, into stretches. The stretches
are pseudo-classes: nothing but time tells them apart. A decoder that can tell them is reading time.
Every real recording drifts, so this alone accuses nobody; it becomes a confound where the
design ties class to time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegprompt.confounds.linear_decoder import linear_predictions
from eegprompt.core.arrays import codes, numbers, whole_numbers
from eegprompt.core.errors import InputError

__all__ = ["DistanceBin", "accuracy_by_distance", "decode_pseudo_classes", "pseudo_classes"]

LEAST = 12
"""A class needs so many trials in a recording to be cut."""

STRETCHES = 3


def pseudo_classes(
    time: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    *,
    stretches: int = STRETCHES,
    least: int = LEAST,
) -> np.ndarray:
    """Cut each group of trials in time into stretches.

    Parameters
    ----------
    time : array, shape (n_trials,)
        Order or onset, increasing within a group; any unit.
    groups : array of int, shape (n_trials,)
        Trials to be cut together: one class in one recording.
    rng : numpy.random.Generator
        Draws where the cuts lie: up to a fifth of a stretch beside equal parts.
    stretches : int
        How many a group.
    least : int
        Smaller groups are not cut.

    Returns
    -------
    array of int, shape (n_trials,)
        Stretch of each trial, from 0; -1 for trials of small groups.

    Examples
    --------
    >>> cut = pseudo_classes(np.arange(30), np.zeros(30, int), np.random.default_rng(0))
    >>> sorted(set(cut.tolist())), bool((np.diff(cut) >= 0).all())
    ([0, 1, 2], True)
    """
    time = numbers(time, "times", ("trials",), empty=True)
    groups = codes(groups, "groups", length=len(time))
    if stretches < 2:
        raise InputError(f"'stretches' must be at least 2, got {stretches}")
    result = np.full(len(time), -1, dtype=np.int64)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < max(least, 2 * stretches):
            continue
        rows = rows[np.argsort(time[rows], kind="stable")]
        part = len(rows) / stretches
        cuts = (np.arange(1, stretches) + rng.uniform(-0.2, 0.2, stretches - 1)) * part
        result[rows] = np.searchsorted(cuts, np.arange(len(rows)), side="right")
    return result


def decode_pseudo_classes(
    features: np.ndarray,
    pseudo: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    *,
    folds: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the stretch of each trial from trials of its own group, by cross-validation.

    Parameters
    ----------
    features : array of float, shape (n_trials, n_features)
        Any unit.
    pseudo, groups : array of int, shape (n_trials,)
        From :func:`pseudo_classes`, and what it cut.
    rng : numpy.random.Generator
        Deals the trials of each stretch out to folds.
    folds : int
        Of the cross-validation.

    Returns
    -------
    rows, predicted : array of int, shape (n_decoded,)
        Trials and the stretch that was decoded for each.
    """
    features = numbers(features, "features", ("trials", "values"), empty=True, single=True)
    pseudo = numbers(pseudo, "stretches", ("trials",), empty=True)
    groups = codes(groups, "groups", length=len(features))
    if len(pseudo) != len(features) or not np.isin(pseudo, np.arange(-1, len(pseudo))).all():
        raise InputError(
            f"each of {len(features)} trials needs one stretch from 0, or -1 for none, got {len(pseudo)}"
        )
    pseudo = pseudo.astype(np.int64)
    rows: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for group in np.unique(groups[pseudo >= 0]):
        here = np.flatnonzero((groups == group) & (pseudo >= 0))
        fold = np.empty(len(here), dtype=np.int64)
        for stretch in np.unique(pseudo[here]):
            mine = np.flatnonzero(pseudo[here] == stretch)
            fold[rng.permutation(mine)] = np.arange(len(mine)) % folds
        for index in range(folds):
            fitted, decoded = here[fold != index], here[fold == index]
            if not len(decoded):
                continue
            predicted = linear_predictions(features[fitted], pseudo[fitted], features[decoded])
            if (predicted >= 0).all():
                rows.append(decoded)
                found.append(predicted)
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(rows), np.concatenate(found)


@dataclass(frozen=True)
class DistanceBin:
    """Accuracy of test trials that lie about equally far in time from a training trial.

    Parameters
    ----------
    near, far : float
        Least and greatest distance to the nearest training trial, in the unit of the times.
    accuracy : float
        Proportion decoded rightly.
    n : int
        Trials.
    """

    near: float
    far: float
    accuracy: float
    n: int


def accuracy_by_distance(
    right: np.ndarray, distance: np.ndarray, *, bins: int = 5, least: int = 10
) -> list[DistanceBin]:
    """Accuracy against the temporal distance to the nearest training trial.

    Parameters
    ----------
    right : array of bool, shape (n_trials,)
        Whether each test trial was decoded rightly.
    distance : array of float, shape (n_trials,)
        To the nearest training trial of the same recording; not finite where there is none.
    bins : int
        At most so many, of equal counts.
    least : int
        Trials a bin needs.

    Returns
    -------
    list of DistanceBin
        From near to far; empty where no test trial shares a recording with training.
    """
    distance = numbers(distance, "distances", ("trials",), empty=True)
    right = whole_numbers(right, "marks (right or not)", length=len(distance), below=2) > 0
    finite = np.isfinite(distance)
    right, distance = right[finite], distance[finite]
    n_bins = min(bins, len(distance) // max(least, 1))
    if n_bins < 1:
        return []
    edges = np.unique(np.quantile(distance, np.linspace(0, 1, n_bins + 1)))
    if len(edges) == 1:
        return [DistanceBin(edges[0], edges[0], float(right.mean()), len(right))]
    index = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    return [
        DistanceBin(
            float(distance[index == i].min()), float(distance[index == i].max()),
            float(right[index == i].mean()), int((index == i).sum()),
        )
        for i in range(len(edges) - 1)
        if (index == i).any()
    ]  # fmt: skip
