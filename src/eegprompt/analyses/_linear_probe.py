"""What a linear read-out finds in embeddings, beside what it finds under permuted labels.

A probe says what *can* be read from a space, not what the decoder uses. It is a ridge regression
on the classes, cross-validated over groups (all trials of an image stand on one side), and scored
by balanced accuracy. For fixed folds its held-out predictions are a fixed linear map of the labels;
permuting these is then one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegprompt.core.errors import InputError

__all__ = ["LinearProbe", "ProbeScore", "balanced_accuracy"]

_BLOCK = 64  # labelings that are predicted at once


@dataclass(frozen=True)
class ProbeScore:
    """What one probe found.

    Parameters
    ----------
    value : float
        Balanced accuracy on held-out groups, in [0, 1].
    chance : float
        Its mean under permuted labels.
    p : float
        Share of permutations that reach `value`, the observed one counted.
    null : array, shape (n_permutations,)
        Balanced accuracies under permutation. Probes of the same groups and seed share their
        permutations, whatever their points and labels.
    """

    value: float
    chance: float
    p: float
    null: np.ndarray


def balanced_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the share of their points that were told rightly.

    Parameters
    ----------
    predicted, labels : array of int, shape (n_points,)
        Class numbers.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
    0.5
    """
    hits = np.bincount(labels, weights=predicted == labels)
    counts = np.bincount(labels)
    return float((hits[counts > 0] / counts[counts > 0]).mean())


class LinearProbe:
    """Cross-validated ridge regressions from one set of points to any labels.

    Parameters
    ----------
    points : array, shape (n_points, n_dims)
        E.g. the held-out embeddings of one head.
    groups : array, shape (n_points,)
        Points of one group stand on one side of every fold and carry one label: images, or trials
        where nothing else is known.
    n_folds : int
        At most the number of groups.
    ridge : float
        Penalty as a share of the mean variance of a dimension.
    seed : int
        Of the folds and the permutations.

    Raises
    ------
    InputError
        If there are fewer than two groups or a value is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 40)
    >>> points = rng.normal(size=(80, 5)) + 3 * labels[:, None]
    >>> LinearProbe(points, np.arange(80)).score(labels).value > 0.95
    True
    """

    def __init__(
        self,
        points: np.ndarray,
        groups: np.ndarray,
        *,
        n_folds: int = 5,
        ridge: float = 1.0,
        seed: int = 0,
    ):
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or len(groups) != len(points):
            raise InputError(
                f"points must be (n_points, n_dims) with a group each, got {points.shape} and "
                f"{len(groups)} groups"
            )
        if not np.isfinite(points).all():
            raise InputError("a point is not finite; leave such trials out")
        names, self.group = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            raise InputError(f"a probe needs at least 2 groups to hold one out, got {len(names)}")
        self.seed = seed
        self.n_groups = len(names)
        rng = np.random.default_rng([seed, 0])
        fold_of_group = rng.permutation(np.arange(len(names)) % min(n_folds, len(names)))
        self.fold = fold_of_group[self.group]
        self._maps = [
            (test, train, _hat(points[train], points[test], ridge))
            for f in np.unique(self.fold)
            for test, train in [(np.flatnonzero(self.fold == f), np.flatnonzero(self.fold != f))]
        ]

    def score(self, labels: np.ndarray, n_permutations: int = 100) -> ProbeScore:
        """Read one set of labels.

        Parameters
        ----------
        labels : array, shape (n_points,)
            Of any kind; equal within a group.
        n_permutations : int
            Labels are permuted between groups.

        Returns
        -------
        ProbeScore
            NaN where there are fewer than two labels.

        Raises
        ------
        InputError
            If a group carries several labels.
        """
        labels = np.asarray(labels)
        if labels.shape != self.group.shape:
            raise InputError(f"{len(self.group)} points need as many labels, got {labels.shape}")
        classes, code = np.unique(labels, return_inverse=True)
        nan = float("nan")
        if len(classes) < 2:
            return ProbeScore(nan, nan, nan, np.zeros(0))
        of_group = np.empty(self.n_groups, dtype=np.int64)
        of_group[self.group] = code
        if (of_group[self.group] != code).any():
            raise InputError("a group carries several labels; all its points must have one")
        value = float(self._values(code[None], len(classes))[0])
        rng = np.random.default_rng([self.seed, 1])
        null = np.concatenate(
            [
                self._values(
                    np.stack([rng.permutation(of_group)[self.group] for _ in range(some)]),
                    len(classes),
                )
                for some in [_BLOCK] * (n_permutations // _BLOCK) + [n_permutations % _BLOCK]
                if some
            ]
            or [np.zeros(0)]
        )
        if not n_permutations:
            return ProbeScore(value, nan, nan, null)
        p = (1 + int((null >= value - 1e-9).sum())) / (1 + n_permutations)
        return ProbeScore(value, float(null.mean()), p, null)

    def _values(self, codes: np.ndarray, n_classes: int) -> np.ndarray:
        """Balanced accuracy for each of several labelings (n_labelings, n_points)."""
        n = len(codes)
        target = np.eye(n_classes, dtype=np.float32)[codes].transpose(1, 0, 2)
        predicted = np.zeros(codes.shape, dtype=np.int64)
        for test, train, hat in self._maps:
            share = target[train].mean(axis=0)
            # In units of a class's own spread, so that large classes do not swallow small ones.
            spread = np.sqrt(np.maximum(share * (1 - share), 1e-12))
            learned = (target[train] - share).reshape(len(train), -1)
            raised = (hat @ learned).reshape(len(test), n, n_classes) / spread
            raised[:, share == 0] = -np.inf  # a class that training never saw cannot be told
            predicted[:, test] = raised.argmax(axis=2).T
        hit = predicted == codes
        per_class = [
            np.where(
                mine.any(axis=1), (hit & mine).sum(axis=1) / np.maximum(mine.sum(axis=1), 1), 0
            )
            for mine in (codes == c for c in range(n_classes))
        ]
        return np.mean(per_class, axis=0)


def _hat(train: np.ndarray, test: np.ndarray, ridge: float) -> np.ndarray:
    """Map (n_test, n_train) from centered training targets to ridge predictions."""
    mean = train.mean(axis=0)
    spread = train.std(axis=0)
    spread = np.where(spread > 1e-9, spread, np.inf)  # what does not vary says nothing
    a, b = (train - mean) / spread, (test - mean) / spread
    penalty = ridge * len(a)
    if len(a) < a.shape[1]:
        hat = b @ a.T @ np.linalg.inv(a @ a.T + penalty * np.eye(len(a)))
    else:
        hat = b @ np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T)
    return np.asarray(hat, dtype=np.float32)
