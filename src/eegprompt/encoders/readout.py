"""Convex read-outs of features: from features to caption embeddings, chosen by cross-validation.

Where few different things were shown, a multinomial logistic regression tells them apart; where many
were, a ridge regression leads to their captions' embeddings. Both are convex: the result depends on
nothing but the data, and the penalty is the one that predicts left-out groups of training trials
best.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "FEW",
    "Chosen",
    "Reduced",
    "Targets",
    "best_scale",
    "best_scales",
    "choose",
    "log_loss",
    "weighed",
]

FEW = 32
"""Up to so many different things shown they are told apart as classes."""

INVERSE_PENALTIES = tuple(10.0 ** (k / 2) for k in range(-6, 7))
"""Of the logistic regression, for features whose mean squared norm is one."""

PENALTIES = tuple(10.0 ** (k / 2) for k in range(-5, 7))
"""Of the ridge regression, in units of the mean eigenvalue."""

FLAT = 1e-3
"""Of the largest spread of a feature; what varies less is rounding."""

MOST_ITERATIONS = 200
MOST_TRIALS = 1500
"""Of a logistic regression; with more, ridge regression onto the conditions says much the same."""


@dataclass(frozen=True)
class Targets:
    """What one head should say of each trial.

    Parameters
    ----------
    condition : int array (n_trials,)
        Which of the things shown a trial is of, as far as this head's captions tell them apart.
    bank : float array (n_conditions, n_dims)
        Mean caption embedding of each.
    closed : bool
        Whether validation trials show nothing but these.
    """

    condition: np.ndarray
    bank: np.ndarray
    closed: bool = True

    @property
    def few(self) -> bool:
        """Whether the things shown are told apart as classes."""
        return self.closed and len(self.bank) <= FEW

    @property
    def weights(self) -> np.ndarray:
        """Of each trial, for means that do not depend on how often a thing was shown."""
        counts = np.bincount(self.condition, minlength=len(self.bank))
        return np.asarray(1 / (len(self.bank) * np.maximum(counts, 1))[self.condition])

    def directions(self) -> np.ndarray:
        """Vectors (n_conditions, n_dims) that carry a score to its own caption and to no other.

        Adding ``scores @ directions`` to an embedding adds to its product with each caption that
        caption's score, up to a constant: the dual of the captions about their mean. Captions that
        hardly differ are not told apart at any price, hence the small ridge.
        """
        apart = self.bank - self.bank.mean(axis=0)
        gram = apart @ apart.T
        n = len(gram)
        ridge = 1e-3 * max(float(np.trace(gram)) / n, 1e-12)
        return np.asarray(np.linalg.solve(gram + ridge * np.eye(n), apart))


@dataclass(frozen=True)
class Chosen:
    """A read-out: ``features @ weight + bias`` is an embedding whose products are log odds.

    Parameters
    ----------
    weight : array (n_features, n_dims)
    bias : array (n_dims,)
    penalty : float
        The one chosen.
    loss : float
        Log loss of left-out training trials, in nats.
    """

    weight: np.ndarray
    bias: np.ndarray
    penalty: float
    loss: float


def log_loss(logits: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    """Mean negative log likelihood in nats."""
    from scipy.special import logsumexp

    own = logits[np.arange(len(target)), target]
    return float(np.average(logsumexp(logits, axis=1) - own, weights=weights))


def best_scale(logits: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Factor in [0, 1e4] of the logits with the least log loss, and that loss."""
    from scipy.optimize import minimize_scalar

    spread = float((logits - logits.mean(axis=1, keepdims=True)).std())
    if spread == 0:
        return 0.0, float(np.log(logits.shape[1]))
    unit = logits / spread
    best = minimize_scalar(
        lambda x: log_loss(np.exp(x) * unit, target, weights), bounds=(-7, 5), method="bounded"
    )
    return float(np.exp(best.x) / spread), float(best.fun)


class Reduced:
    """Features of some trials, standardized and in their principal coordinates.

    Parameters
    ----------
    features : float array (n_trials, n_features)
        Raw; constant ones are left out.
    """

    def __init__(self, features: np.ndarray):
        x = np.asarray(features, dtype=np.float64)
        self.mean, spread = x.mean(axis=0), x.std(axis=0)
        varies = spread > FLAT * max(float(spread.max()), 1e-30)
        self.scale = np.where(varies, spread, np.inf) * math.sqrt(max(int(varies.sum()), 1))
        z = (x - self.mean) / self.scale
        dual = z.shape[0] < z.shape[1]
        values, vectors = np.linalg.eigh(z @ z.T if dual else z.T @ z)
        kept = values > 1e-9 * max(values[-1], 1e-30)
        self.length = np.sqrt(values[kept])
        self.left = vectors[:, kept] if dual else z @ vectors[:, kept] / self.length
        self.across = z.T @ self.left / self.length if dual else vectors[:, kept]

    def back(self, inner: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias for raw features, from those for principal coordinates."""
        weight = self.across @ inner / self.scale[:, None]
        return weight, start - self.mean @ weight


def best_scales(
    own: np.ndarray, beside: np.ndarray, target: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Factors of two kinds of logits whose sum predicts best.

    The second kind are log odds already. Factors are most probable ones: the first as if known to
    a factor of e about what is best for it alone, the second about one; a few trials cannot move
    them, hundreds can.
    """
    from scipy.optimize import minimize

    alone, _ = best_scale(own, target, weights)
    if alone == 0:
        return 0.0, 1.0
    n = len(target)

    def loss(x: np.ndarray) -> float:
        a, b = np.exp(x)
        return n * log_loss(alone * a * own + b * beside, target, weights) + float(x @ x) / 2

    best = minimize(loss, np.array([math.log(0.5), math.log(0.5)]), method="Nelder-Mead")
    a, b = np.exp(best.x)
    return float(alone * a), float(b)


def weighed(
    own: np.ndarray, beside: np.ndarray, targets: Targets, texts: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Factors of two answers (n_trials, n_dims) whose sum predicts best, and a constant to add.

    The constant, which is zero where many things are told apart, is that of :func:`_anchor`.
    """
    bank = targets.bank - targets.bank.mean(axis=0)
    a, b = best_scales(own @ bank.T, beside @ bank.T, targets.condition, targets.weights)
    constant = np.zeros(own.shape[1])
    if targets.few:
        constant = _anchor(texts, b * beside + a * own)
    return a, b, constant


def _anchor(texts: np.ndarray, said: np.ndarray) -> np.ndarray:
    """A constant that no caption is nearer to than another, long beside what is said.

    Cosines are divided by an embedding's length. With it that length is about the same for all
    trials, so that how sure an answer is shows in the cosine and is not divided away. Zero where the
    captions leave no such direction.
    """
    mean = np.asarray(texts, dtype=np.float64).mean(axis=0)
    apart = texts - mean
    values, vectors = np.linalg.eigh(apart.T @ apart)
    spanned = vectors[:, values > 1e-6 * values[-1]]
    rest = mean - spanned @ (spanned.T @ mean)
    length = float(np.linalg.norm(rest))
    if length < 0.01:
        return np.zeros_like(mean)
    spread = math.sqrt(float((said**2).sum(axis=1).mean()))
    return np.asarray(3 * spread / length * rest)


def choose(
    targets: Targets, folds: Sequence[tuple[np.ndarray, Reduced, np.ndarray, np.ndarray]]
) -> Chosen:
    """Fit with the penalty that predicts left-out trials best.

    Parameters
    ----------
    targets : Targets
        Of all training trials.
    folds : sequence of (fitted, reduced, left_out, features)
        Numbers of the trials fitted and their features; numbers of those left out and their raw
        features. Features that are fitted themselves were fitted without the trials left out. The
        last entry holds all trials, and none left out.
    """
    few = targets.few
    path = _ridge
    grid: Sequence[float] = PENALTIES
    if few and len(targets.condition) <= MOST_TRIALS:
        path, grid = _logistic, INVERSE_PENALTIES
    weights = targets.weights
    rows = np.concatenate([left_out for _, _, left_out, _ in folds[:-1]])
    said: list[list[np.ndarray]] = [[] for _ in grid]
    for fitted, reduced, _, new in folds[:-1]:
        for one, (w, b) in zip(said, path(reduced, targets, fitted, grid)):
            one.append(new @ w + b)
    losses, scales = np.zeros(len(grid)), np.zeros(len(grid))
    for g, parts in enumerate(said):
        logits = np.concatenate(parts)
        logits = logits if few else logits @ targets.bank.T
        scales[g], losses[g] = best_scale(logits, targets.condition[rows], weights[rows])
    evidence = np.exp(-len(rows) * (losses - losses.min()))
    evidence /= evidence.sum()
    fitted, reduced, _, _ = folds[-1]
    weight, bias = np.zeros(1), np.zeros(1)
    used = [g for g in range(len(grid)) if evidence[g] > 0.01]
    for g, (w, b) in zip(used, path(reduced, targets, fitted, [grid[g] for g in used])):
        weight, bias = weight + evidence[g] * scales[g] * w, bias + evidence[g] * scales[g] * b
    if few:
        directions = targets.directions()
        weight, bias = weight @ directions, bias @ directions
    best = int(losses.argmin())
    return Chosen(weight, bias, grid[best], float(losses[best]))


def _logistic(
    x: Reduced, targets: Targets, trials: np.ndarray, grid: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias to a score for each condition, for each inverse penalty."""
    from sklearn.linear_model import LogisticRegression

    z, condition, n = x.left * x.length, targets.condition[trials], len(targets.bank)
    if len(np.unique(condition)) < 2:  # nothing to tell apart among these trials
        return [x.back(np.zeros((z.shape[1], n)), np.zeros(n)) for _ in grid]
    model = LogisticRegression(
        class_weight="balanced", warm_start=True, max_iter=MOST_ITERATIONS, tol=1e-3
    )
    found = []
    for inverse in grid:
        model.set_params(C=inverse)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stopped early
            model.fit(z, condition)
        inner, start = model.coef_.T, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn gives the log odds of the second
            inner, start = np.hstack([-inner, inner]) / 2, np.r_[-start, start] / 2
        weight, bias = np.zeros((len(inner), n)), np.full(n, start.min())
        weight[:, model.classes_], bias[model.classes_] = inner, start
        found.append(x.back(weight, bias))
    return found


def _ridge(
    x: Reduced, targets: Targets, trials: np.ndarray, grid: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias to scores or to an embedding about the captions' mean, for each penalty."""
    condition = targets.condition[trials]
    if targets.few:
        # The regression of 1 / frequency is the likelihood ratio, which forgets the frequency.
        counts = np.bincount(condition, minlength=len(targets.bank))
        y = np.eye(len(targets.bank))[condition] * len(condition) / np.maximum(counts, 1)
    else:
        y = targets.bank[condition]
    projected = x.left.T @ (y - y.mean(axis=0)) * x.length[:, None]
    values = x.length**2
    unit = float(values.sum()) / len(values)
    found = []
    for penalty in grid:
        inner = projected / (values + penalty * unit)[:, None]
        found.append(x.back(inner, np.zeros(inner.shape[1])))
    return found
