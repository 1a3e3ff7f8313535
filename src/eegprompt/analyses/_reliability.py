"""Which head is the most confident on a trial, whether that depends on what was shown, and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegprompt.core.errors import InputError

__all__ = [
    "Dependence",
    "Reliability",
    "dependence_on",
    "most_confident",
    "reliability",
    "shares_by",
]


def most_confident(confidence: np.ndarray) -> np.ndarray:
    """The most confident head of each trial; heads that tie share it.

    Parameters
    ----------
    confidence : array, shape (n_trials, n_heads)
        Any scale that heads share. NaN is never the most confident.

    Returns
    -------
    array, shape (n_trials, n_heads)
        Rows sum to 1; NaN where every head is NaN.

    Examples
    --------
    >>> most_confident(np.array([[0.2, 0.9], [0.5, 0.5]])).tolist()
    [[0.0, 1.0], [0.5, 0.5]]
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    if confidence.ndim != 2 or not confidence.shape[1]:
        raise InputError(f"confidences must be (n_trials, n_heads), got {confidence.shape}")
    filled = np.where(np.isnan(confidence), -np.inf, confidence)
    best = filled == filled.max(axis=1, keepdims=True)
    shares = best / best.sum(axis=1, keepdims=True)
    shares[np.isnan(confidence).all(axis=1)] = np.nan
    return shares


def shares_by(shares: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean share of trials on which each head is the most confident, by label.

    Parameters
    ----------
    shares : array, shape (n_trials, n_heads)
        From :func:`most_confident`.
    labels : array, shape (n_trials,)
        E.g. classes or subjects.

    Returns
    -------
    names : array
        Distinct labels, sorted.
    means : array, shape (n_labels, n_heads)
        NaN for a label none of whose trials has a most confident head.
    """
    names, code = np.unique(np.asarray(labels), return_inverse=True)
    valid = ~np.isnan(shares).any(axis=1)
    onehot = np.eye(len(names))[code[valid]]
    counts = onehot.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return names, onehot.T @ shares[valid] / counts[:, None]


@dataclass(frozen=True)
class Dependence:
    """Whether the most confident head depends on a label.

    Parameters
    ----------
    value : float
        Cramér's V between label and head, in [0, 1].
    chance : float
        Its mean under permutation; never 0, for finite samples differ by chance.
    p : float
        By permutation; NaN where there is nothing to permute.
    """

    value: float
    chance: float
    p: float


def dependence_on(
    shares: np.ndarray,
    labels: np.ndarray,
    *,
    units: np.ndarray | None = None,
    n_permutations: int = 500,
    seed: int = 0,
) -> Dependence:
    """Whether the most confident head depends on a label, by permuting it.

    Parameters
    ----------
    shares : array, shape (n_trials, n_heads)
        From :func:`most_confident`; trials without one are left out.
    labels : array, shape (n_trials,)
        E.g. classes or subjects.
    units : array, shape (n_trials,), optional
        Trials of one unit carry one label and are permuted together, e.g. those of an image.
    n_permutations : int
        The least p is 1 / (1 + this).
    seed : int
        Of the permutations.

    Returns
    -------
    Dependence
        NaN where fewer than two labels or heads that ever win are left.
    """
    valid = ~np.isnan(shares).any(axis=1)
    shares = shares[valid][:, shares[valid].sum(axis=0) > 0] if valid.any() else shares[valid]
    names, code = np.unique(np.asarray(labels)[valid], return_inverse=True)
    nan = float("nan")
    if len(names) < 2 or shares.shape[1] < 2:
        return Dependence(nan, nan, nan)
    unit = (
        np.arange(len(code))
        if units is None
        else np.unique(np.asarray(units)[valid], return_inverse=True)[1]
    )
    of_unit = np.empty(unit.max() + 1, dtype=np.int64)
    of_unit[unit] = code
    if (of_unit[unit] != code).any():
        raise InputError(
            "a unit of the permutation carries several labels; units must have one each"
        )
    expected = shares.mean(axis=0)

    def cramer(codes: np.ndarray) -> float:
        onehot = np.eye(len(names))[codes]
        counts = onehot.sum(axis=0)
        table = onehot.T @ shares
        wanted = counts[:, None] * expected
        chi2 = ((table - wanted) ** 2 / wanted).sum()
        return float(np.sqrt(chi2 / len(codes) / (min(table.shape) - 1)))

    value = cramer(code)
    rng = np.random.default_rng(seed)
    null = np.array([cramer(rng.permutation(of_unit)[unit]) for _ in range(n_permutations)])
    p = (1 + int((null >= value - 1e-12).sum())) / (1 + n_permutations)
    return Dependence(value, float(null.mean()), p)


@dataclass(frozen=True)
class Reliability:
    """Outcome of trials by confidence.

    Parameters
    ----------
    confidence : array, shape (n_bins,)
        Mean confidence of each bin, ascending.
    outcome : array, shape (n_bins,)
        Mean outcome of each bin.
    spread : array, shape (n_bins,)
        Standard error of that mean.
    counts : array of int, shape (n_bins,)
        Trials of each bin.
    error : float
        Expected calibration error: mean over trials of ``|outcome − confidence|`` of their bin.
    by_chance : float
        What sampling alone would make of it: its mean for a head that is honest in every bin, from
        the standard errors, as if normal.
    n_missing : int
        Trials left out because a value was NaN.
    """

    confidence: np.ndarray
    outcome: np.ndarray
    spread: np.ndarray
    counts: np.ndarray
    error: float
    by_chance: float
    n_missing: int


def reliability(confidence: np.ndarray, outcome: np.ndarray, n_bins: int = 8) -> Reliability:
    """Reliability curve in bins of equal numbers of trials, and the expected calibration error.

    After Naeini et al. 2015 and Nguyen and O'Connor 2015 (adaptive bins): with bins of equal width
    nearly all trials of a head would fall into one or two of them.

    Parameters
    ----------
    confidence : array, shape (n_trials,)
        In [0, 1].
    outcome : array, shape (n_trials,)
        What the confidence should predict, in [0, 1]: right or wrong, or a degree.
    n_bins : int
        At most; trials of equal confidence are never parted, so there may be fewer.

    Returns
    -------
    Reliability
        Empty, with an error of NaN, where no trial is left.

    Examples
    --------
    >>> sure = np.repeat([0.2, 0.8], 50)
    >>> right = np.concatenate([np.arange(50) < 10, np.arange(50) < 40])
    >>> round(reliability(sure, right, n_bins=2).error, 12)
    0.0
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    outcome = np.asarray(outcome, dtype=np.float64)
    if confidence.shape != outcome.shape or confidence.ndim != 1:
        raise InputError(
            f"confidence and outcome must be (n_trials,) both, got {confidence.shape} and "
            f"{outcome.shape}"
        )
    if n_bins < 1:
        raise InputError(f"n_bins must be at least 1, got {n_bins}")
    valid = np.isfinite(confidence) & np.isfinite(outcome)
    missing = int((~valid).sum())
    confidence, outcome = confidence[valid], outcome[valid]
    if not len(confidence):
        empty = np.zeros(0)
        nan = float("nan")
        return Reliability(empty, empty, empty, empty.astype(int), nan, nan, missing)
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # of each distinct value among the trials
    bin_of = np.minimum((middle / len(confidence) * n_bins).astype(int), n_bins - 1)[place]
    _, bins = np.unique(bin_of, return_inverse=True)
    n = np.bincount(bins)
    sure = np.bincount(bins, confidence) / n
    came = np.bincount(bins, outcome) / n
    variance = np.maximum(np.bincount(bins, outcome**2) / n - came**2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(variance / (n - 1))
    error = float((n * np.abs(came - sure)).sum() / n.sum())
    by_chance = float(np.sqrt(2 / np.pi) * (n * spread).sum() / n.sum())
    return Reliability(sure, came, spread, n, error, by_chance, missing)
