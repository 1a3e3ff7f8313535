"""One linear decoder for every check of an audit, and the test of what it decodes.

Every check asks the same question of other features – the mean alone, the slow part, what came
before the stimulus – so all use one classifier: linear discriminant analysis with the Ledoit–Wolf
covariance (scikit-learn), fitted for each subject where a subject is on both sides.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eegprompt.core.arrays import codes, numbers, whole_numbers
from eegprompt.core.errors import InputError
from eegprompt.stats.bootstrap import bootstrap, ratio_statistic
from eegprompt.stats.permutation import permutation_p, permuted_labels

__all__ = ["Decoding", "decode_sides", "linear_predictions", "score_predictions"]


@dataclass(frozen=True)
class Decoding:
    """What a decoder reaches on trials it was not fitted on.

    Parameters
    ----------
    accuracy, lo, hi : float
        Proportion of trials decoded rightly, with a 95 % bootstrap interval over units.
    chance : float
        The same predictions under permuted labels, on average.
    p : float
        Permutation p, one-sided; NaN where the labels allow no permutation.
    n_trials, n_units, n_classes : int
        Decoded trials, the units that were permuted, and the classes among them.
    noticed : float
        The least accuracy that would have had p < .01; NaN where no accuracy could, for there are
        too few trials.
    """

    accuracy: float
    lo: float
    hi: float
    chance: float
    p: float
    n_trials: int
    n_units: int
    n_classes: int
    noticed: float = np.nan

    @property
    def excess(self) -> float:
        """Accuracy above chance."""
        return self.accuracy - self.chance


def linear_predictions(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit on some trials, predict others.

    Parameters
    ----------
    train : array of float, shape (n_train, n_features)
        Any unit.
    labels : array of int, shape (n_train,)
        Classes; those with one trial are left out.
    test : array of float, shape (n_test, n_features)
        Any unit.

    Returns
    -------
    array of int, shape (n_test,)
        Predicted classes; -1 throughout where fewer than two classes can be fitted.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    train, test = _features(train, "training features"), _features(test, "test features")
    if train.shape[1] != test.shape[1]:
        raise InputError(
            f"training and test trials need equally many features, got {train.shape[1]} and "
            f"{test.shape[1]}"
        )
    labels = whole_numbers(labels, "labels", length=len(train))
    names, count = np.unique(labels, return_counts=True)
    enough = np.isin(labels, names[count >= 2])
    if len(np.unique(labels[enough])) < 2 or not len(test):
        return np.full(len(test), -1, dtype=np.int64)
    kept = np.asarray(train[enough], dtype=np.float64)
    center, spread = kept.mean(axis=0), kept.std(axis=0)
    varies = spread > 1e-9 * max(float(spread.max()), 1e-300)
    if not varies.any():
        return np.full(len(test), -1, dtype=np.int64)
    kept = (kept[:, varies] - center[varies]) / spread[varies]
    others = (np.asarray(test, dtype=np.float64)[:, varies] - center[varies]) / spread[varies]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ill-conditioned covariances, which shrinkage mends
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        return np.asarray(model.fit(kept, labels[enough]).predict(others), dtype=np.int64)


def _features(values: np.ndarray, what: str) -> np.ndarray:
    """Finite features of trials; single precision stays until a decoder is fitted."""
    features = numbers(values, what, ("trials", "values"), empty=True, single=True)
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise InputError(f"{what} of row {bad} are not finite; leave the trial out")
    return features


def decode_sides(
    features: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    subject: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the test trials of each fold.

    Parameters
    ----------
    features : array of float, shape (n_trials, n_features)
        Any unit.
    labels : array of int, shape (n_trials,)
        Class of each trial.
    folds : sequence of (array of int, array of int)
        Rows to fit on and rows to predict.
    subject : array of int, shape (n_trials,)
        Subject of each trial.

    Returns
    -------
    rows, predicted : array of int, shape (n_predicted,)
        Rows of the predicted trials (of classes that could be fitted), and their predicted classes.
    """
    features = _features(features, "features")
    labels = whole_numbers(labels, "labels", length=len(features))
    subject = codes(subject, "subjects", length=len(features))
    rows: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for train, test in folds:
        train = whole_numbers(train, "rows to fit on", below=len(features))
        test = whole_numbers(test, "rows to predict", below=len(features))
        alone = np.intersect1d(subject[train], subject[test])
        parts = [(train[subject[train] == s], test[subject[test] == s]) for s in alone]
        rest = test[~np.isin(subject[test], alone)]
        if len(rest):
            parts.append((train, rest))
        for fitted, decoded in parts:
            names, count = np.unique(labels[fitted], return_counts=True)
            decoded = decoded[np.isin(labels[decoded], names[count >= 2])]
            if len(names) < 2 or not len(decoded):
                continue
            predicted = linear_predictions(features[fitted], labels[fitted], features[decoded])
            if (predicted >= 0).all():
                rows.append(decoded)
                found.append(predicted)
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(rows), np.concatenate(found)


def score_predictions(
    predicted: np.ndarray,
    labels: np.ndarray,
    *,
    units: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    n: int = 999,
    seed: int = 0,
) -> Decoding:
    """Compare predictions with the labels, and with labels dealt out at random.

    Parameters
    ----------
    predicted, labels : array of int, shape (n_trials,)
        Classes.
    units : array of int, shape (n_trials,), optional
        Trials of one unit (an image) keep one label in permutations, and are drawn together in the
        bootstrap. Single trials by default.
    strata : array of shape (n_trials,), optional
        Labels are exchanged only inside a stratum.
    n : int
        Permutations.
    seed : int
        Seed of permutations and resamples.

    Returns
    -------
    Decoding

    Raises
    ------
    InputError
        If there are no predictions.

    Examples
    --------
    >>> found = score_predictions(np.tile([0, 1], 50), np.tile([0, 1], 50))
    >>> found.accuracy, found.p
    (1.0, 0.001)
    """
    labels = whole_numbers(labels, "labels")
    n_trials = len(labels)
    predicted = whole_numbers(predicted, "predictions", length=n_trials)
    if not n_trials:
        raise InputError("there are no predictions to score; give at least one")
    of_unit = np.arange(n_trials) if units is None else codes(units, "units", length=n_trials)
    first = np.unique(of_unit, return_index=True)[1]
    inner = None if strata is None else codes(strata, "strata", length=n_trials)[first]
    right = (predicted == labels).astype(float)
    value = float(right.mean())
    count = np.bincount(of_unit).astype(float)
    spread = bootstrap(
        ratio_statistic(np.bincount(of_unit, right), count), len(count), 500, seed=seed,
        method="percentile",
    )  # fmt: skip
    n_classes = len(np.unique(labels))
    chance, p, noticed = value, np.nan, np.nan
    if n_classes > 1:
        parts, unchanged = [], 0
        for block in permuted_labels(labels[first], n, strata=inner, seed=seed):
            dealt = block[:, of_unit]
            parts.append((dealt == predicted).mean(axis=1))
            unchanged += int((dealt == labels).all(axis=1).sum())
        null = np.concatenate(parts)
        chance = float(null.mean())
        beaten = float(np.sort(null)[-max(int(0.01 * (n + 1)) - 1, 1)])
        # Even right answers throughout are no surprise where chance gives the labels themselves.
        if beaten < 1 - 1e-12 and (1 + unchanged) / (1 + n) < 0.01:
            noticed = beaten + 1 / len(labels)
        if np.ptp(null) > 0 or abs(value - chance) > 1e-12:
            p = permutation_p(value, null)
    return Decoding(
        value, float(spread.lo), float(spread.hi), chance, p, len(labels), len(count), n_classes,
        noticed,
    )  # fmt: skip
