"""Time-resolved decoding of captions in a window that slides over the trial.

A ridge regression from the channels' means in one window to the embeddings of the captions, fitted on
training trials and scored on others; the encoder plays no part in it. A decoder of one window that
is tested on another shows whether the same spatial pattern is there again (temporal generalization,
King and Dehaene 2014, Trends Cogn Sci 18:203).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eegprompt.attribution.patterns import _codes
from eegprompt.core.errors import InputError
from eegprompt.core.progress import Progress

__all__ = [
    "Onset",
    "above_chance",
    "onset",
    "temporal_decoding",
    "unit_means",
    "window_means",
]

RIDGES = np.logspace(-4, 2, 13)  # as fractions of the features' mean variance


def window_means(
    trials: Any, *, width: int, step: int, batch_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each channel in windows that slide over the trial.

    Parameters
    ----------
    trials : array (n_trials, n_chans, n_times)
        Read by slices.
    width, step : int
        Samples of a window, and from one to the next.
    batch_size : int
        Trials at a time.

    Returns
    -------
    centers : array (n_windows,)
        Middle of each window, in samples.
    means : float32 array (n_windows, n_trials, n_chans)

    Raises
    ------
    InputError
        If a window is longer than a trial.
    """
    n, n_chans, n_times = np.shape(trials)
    if not 1 <= width <= n_times:
        raise InputError(f"a window must have 1 to {n_times} samples, as a trial has, got {width}")
    starts = np.arange(0, n_times - width + 1, step)
    means = np.empty((len(starts), n, n_chans), dtype=np.float32)
    for first in range(0, n, batch_size):
        block = np.asarray(trials[first : first + batch_size], dtype=np.float64)
        sums = np.concatenate([np.zeros((*block.shape[:2], 1)), block.cumsum(axis=2)], axis=2)
        values = (sums[:, :, starts + width] - sums[:, :, starts]) / width
        means[:, first : first + len(block)] = values.transpose(2, 0, 1)
    return starts + (width - 1) / 2, means


def temporal_decoding(
    train: np.ndarray,
    train_captions: Mapping[str, np.ndarray],
    test: np.ndarray,
    test_captions: Mapping[str, np.ndarray],
    *,
    every: int = 1,
    train_groups: Sequence[Any] | np.ndarray | None = None,
    test_groups: Sequence[Any] | np.ndarray | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two-way identification of each head's captions from one window, and from one for another.

    Parameters
    ----------
    train : array (n_windows, n_trials, n_chans)
        From :func:`window_means`.
    train_captions : mapping of head to array (n_trials, n_dims)
        Embeddings of the true captions.
    test, test_captions
        Likewise, of trials that were not trained on.
    every : int
        Temporal generalization is of every so many windows.
    train_groups, test_groups : sequence (n_trials,), optional
        Subjects: each is decoded by a regression of its own; one not in training by that of all.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    scores : dict of str to array (n_windows, n_test_trials)
        By head: share of the other distinct test captions that are less like the prediction than
        the right one; chance .5; all .5 where there is only one caption.
    generalization : dict of str to array (n_chosen, n_chosen)
        By head: mean score, trained in the row's window, tested in the column's.
    """
    task = _Task.of(
        train_captions, test_captions, train_groups, test_groups, len(train[0]), len(test[0])
    )
    n_windows, n_test = len(test), len(test[0])
    chosen = np.arange(0, n_windows, every)
    scores = {head: np.empty((n_windows, n_test)) for head in task.heads}
    squares = {head: np.zeros((len(chosen), len(chosen))) for head in task.heads}
    for place in range(n_windows):
        row, rest = divmod(place, every)
        for rows, regression in task.fit(train[place]):
            if rest:
                for head, score in task.scores(test[place, rows], regression, rows).items():
                    scores[head][place, rows] = score
                continue
            for column, other in enumerate(chosen):
                for head, score in task.scores(test[other, rows], regression, rows).items():
                    squares[head][row, column] += score.sum() / n_test
                    if other == place:
                        scores[head][place, rows] = score
        if progress is not None:
            progress(place + 1, n_windows, "time-resolved decoding")
    return scores, squares


@dataclass(frozen=True)
class Onset:
    """When a course rises, with what resampling the images makes of it.

    Parameters
    ----------
    time, lo, hi : float
        First time point of the rise to the peak at which the course has half of its height above
        chance, in seconds, and its 95 % interval; NaN where it never rises.
    peak, peak_lo, peak_hi : float
        When it is largest, likewise.
    """

    time: float
    lo: float
    hi: float
    peak: float
    peak_lo: float
    peak_hi: float


def onset(
    scores: np.ndarray,
    times: np.ndarray,
    *,
    chance: float = 0.5,
    fraction: float = 0.5,
    after: float = 0.0,
    n_resamples: int = 500,
    seed: int = 0,
) -> Onset:
    """Latency at which a course reaches a fraction of its peak, with a bootstrap interval.

    Fractional peak latency (Kiesel et al. 2008, Psychophysiology 45:250): unlike the first
    significant time point it does not come earlier with more trials.

    Parameters
    ----------
    scores : array (n_units, n_windows)
        A course for each unit (image); they are drawn again with replacement.
    times : array (n_windows,)
        Seconds.
    chance : float
        What the course is without information.
    fraction : float
        Of the height of the peak above chance.
    after : float
        Where to look for the peak, in seconds.
    n_resamples, seed : int
        Of the bootstrap; percentile interval.

    Returns
    -------
    Onset
    """
    scores, times = np.asarray(scores, dtype=np.float64), np.asarray(times)
    rng = np.random.default_rng(seed)
    n = len(scores)
    value, at = _rise(scores.mean(axis=0) - chance, times, fraction, after)
    if n < 2 or not np.isfinite(value):
        return Onset(value, np.nan, np.nan, at, np.nan, np.nan)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    drawn = np.array([_rise(c - chance, times, fraction, after) for c in weights @ scores])
    (lo, peak_lo), (hi, peak_hi) = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return Onset(value, float(lo), float(hi), at, float(peak_lo), float(peak_hi))


def above_chance(
    scores: np.ndarray, *, chance: float = 0.5, n_permutations: int = 500, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Windows in which units score above chance: cluster permutation over time (MNE).

    Parameters
    ----------
    scores : array (n_units, n_windows)
        A course for each unit.
    chance : float
        Subtracted.
    n_permutations, seed : int
        Sign flips, and their seed.

    Returns
    -------
    windows : bool array (n_windows,)
        In clusters with p < .05.
    p : float
        Of the strongest cluster; 1 where there is none. NaN for fewer than five units.
    """
    scores = np.asarray(scores, dtype=np.float64)
    nothing = np.zeros(scores.shape[1], dtype=bool)
    if len(scores) < 5:
        return nothing, float("nan")
    if not (scores.std(axis=0) > 0).any():
        return nothing, 1.0
    from mne.stats import permutation_cluster_1samp_test
    from mne.utils import use_log_level
    from scipy.stats import t as student

    with use_log_level("error"):
        _, clusters, p, _ = permutation_cluster_1samp_test(
            scores - chance, threshold=float(student.isf(0.01, len(scores) - 1)), tail=1,
            n_permutations=n_permutations, seed=seed, out_type="mask", verbose="error",
        )  # fmt: skip
    windows = nothing.copy()
    for cluster, value in zip(clusters, p):
        if value < 0.05:
            windows[cluster] = True
    return windows, float(min(p, default=1.0))


# -- regression ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Regression:
    mean: np.ndarray  # (n_chans,)
    weights: np.ndarray  # (n_chans, all heads' dimensions)


@dataclass(frozen=True)
class _Task:
    """What is predicted, and who is predicted by whose regression."""

    heads: dict[str, slice]
    targets: np.ndarray  # (n_train, all heads' dimensions)
    candidates: dict[str, np.ndarray]
    right: dict[str, np.ndarray]
    members: list[tuple[np.ndarray, np.ndarray]]  # training rows, test rows

    @classmethod
    def of(
        cls,
        train: Mapping[str, np.ndarray],
        test: Mapping[str, np.ndarray],
        train_groups: Any,
        test_groups: Any,
        n_train: int,
        n_test: int,
    ) -> _Task:
        heads: dict[str, slice] = {}
        targets, candidates, right = [], {}, {}
        place = 0
        for head in train:
            y = np.asarray(train[head], dtype=np.float64)
            center = y.mean(axis=0)
            _, values, axes = np.linalg.svd(y - center, full_matrices=False)
            kept = max(int((values > 1e-3 * max(values[0], 1e-12)).sum()), 1)
            axes = axes[: min(kept, 16)].T
            own = (np.asarray(test[head], dtype=np.float64) - center) @ axes
            distinct, code = np.unique(own.round(5), axis=0, return_inverse=True)
            length = np.linalg.norm(distinct, axis=1, keepdims=True)
            candidates[head] = distinct / np.where(length > 0, length, 1)
            right[head] = code.ravel()
            targets.append((y - center) @ axes)
            heads[head] = slice(place, place + axes.shape[1])
            place += axes.shape[1]
        ours = np.zeros(n_train) if train_groups is None else np.asarray(train_groups).astype(str)
        theirs = np.zeros(n_test) if test_groups is None else np.asarray(test_groups).astype(str)
        members = []
        for group in np.unique(theirs):
            known = np.flatnonzero(ours == group)
            rows = known if len(known) > 1 else np.arange(n_train)
            members.append((rows, np.flatnonzero(theirs == group)))
        return cls(heads, np.concatenate(targets, axis=1), candidates, right, members)

    def fit(self, x: np.ndarray) -> list[tuple[np.ndarray, _Regression]]:
        """A regression for each group of test rows."""
        return [(test, _ridge(x[train], self.targets[train])) for train, test in self.members]

    def scores(
        self, x: np.ndarray, regression: _Regression, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Two-way identification of some test trials, by head."""
        predicted = (x - regression.mean) @ regression.weights
        found = {}
        for head, columns in self.heads.items():
            likeness = predicted[:, columns] @ self.candidates[head].T
            own = np.take_along_axis(likeness, self.right[head][rows][:, None], axis=1)
            rivals = likeness.shape[1] - 1
            if rivals < 1:
                found[head] = np.full(len(rows), 0.5)
                continue
            less = (likeness < own).sum(axis=1) + 0.5 * ((likeness == own).sum(axis=1) - 1)
            found[head] = less / rivals
        return found


def _ridge(x: np.ndarray, y: np.ndarray) -> _Regression:
    """Ridge regression with the penalty of least generalized cross-validation error."""
    x = np.asarray(x, dtype=np.float64)
    mean = x.mean(axis=0)
    x = x - mean
    y = y - y.mean(axis=0)
    n = len(x)
    values, axes = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0)
    if not values.sum() > 0:
        return _Regression(mean, np.zeros((x.shape[1], y.shape[1])))
    along = axes.T @ (x.T @ y)  # (n_chans, n_targets)
    penalties = RIDGES * values.mean()
    shrunk = 1 / (values + penalties[:, None])  # (n_penalties, n_chans)
    energy = (along**2).sum(axis=1)
    residual = (y**2).sum() - 2 * shrunk @ energy + (shrunk**2 * values) @ energy
    freedom = (shrunk * values).sum(axis=1)
    best = int(np.argmin(residual / np.maximum(1 - (freedom + 1) / n, 1e-6) ** 2))
    return _Regression(mean, axes @ (shrunk[best][:, None] * along))


def _rise(
    course: np.ndarray, times: np.ndarray, fraction: float, after: float
) -> tuple[float, float]:
    """Time of the rise to a fraction of the peak, interpolated, and time of the peak."""
    inside = np.flatnonzero(times > after)
    if not len(inside) or not course[inside].max() > 0:
        return float("nan"), float("nan")
    top = int(inside[course[inside].argmax()])
    level = fraction * course[top]
    below = np.flatnonzero(course[:top] < level)
    if not len(below):
        return float(times[0]), float(times[top])
    before = int(below[-1])
    share = (level - course[before]) / (course[before + 1] - course[before])
    return float(times[before] + share * (times[before + 1] - times[before])), float(times[top])


def unit_means(scores: np.ndarray, units: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Mean of each unit's trials: (n_windows, n_trials) to (n_units, n_windows).

    Parameters
    ----------
    scores : array (n_windows, n_trials)
        For example from :func:`temporal_decoding`.
    units : sequence (n_trials,)
        For example the image of each trial.
    """
    code = _codes(units, scores.shape[1])
    total = np.zeros((code.max() + 1, len(scores)))
    np.add.at(total, code, scores.T)
    return total / np.bincount(code)[:, None]
