"""Intervals by the bootstrap, clustered: what is drawn again are images, not trials.

Trials of one image share what the image evokes, so they are no independent evidence about other
images. An interval from trials drawn one by one would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eegprompt.core.arrays import codes, numbers
from eegprompt.core.errors import InputError

__all__ = ["BootstrapResult", "bootstrap", "cluster_weights", "interval", "ratio_statistic"]

WeightedStatistic = Callable[[np.ndarray], np.ndarray]

_BLOCK_CELLS = 4_000_000


@dataclass(frozen=True)
class BootstrapResult:
    """A statistic with its interval.

    Parameters
    ----------
    value : float
        The statistic on the sample itself.
    lo, hi : float
        Limits of the interval; NaN where there is only one unit.
    replicates : array of shape (n,)
        The statistic on each resample.
    """

    value: float
    lo: float
    hi: float
    replicates: np.ndarray


def cluster_weights(
    n_units: int, n: int, *, seed: int = 0, strata: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield blocks of how often each unit is drawn in each resample.

    Parameters
    ----------
    n_units : int
        Number of units (images with all their trials).
    n : int
        Number of resamples.
    seed : int
        The same seed and units give the same resamples.
    strata : array of shape (n_units,), optional
        Draw inside each stratum, so that each keeps its size.

    Yields
    ------
    array of float, shape (n_in_block, n_units)
        Whole numbers; each row sums to `n_units`.
    """
    rng = np.random.default_rng(seed)
    layer = np.zeros(n_units) if strata is None else codes(strata, "strata", length=n_units)
    groups = [np.flatnonzero(layer == one) for one in np.unique(layer)]
    block = max(1, min(n, _BLOCK_CELLS // max(1, n_units)))
    for start in range(0, n, block):
        size = min(block, n - start)
        weights = np.zeros((size, n_units))
        for units in groups:
            drawn = units[rng.integers(len(units), size=(size, len(units)))]
            flat = (np.arange(size)[:, None] * n_units + drawn).ravel()
            weights += np.bincount(flat, minlength=size * n_units).reshape(size, n_units)
        yield weights


def ratio_statistic(totals: np.ndarray, counts: np.ndarray) -> WeightedStatistic:
    """The mean score a trial as a function of how often each unit counts.

    Parameters
    ----------
    totals, counts : array of shape (n_units,)
        Sum of the scores of the unit's trials, and their number.
    """
    totals = numbers(totals, "totals", ("units",), empty=True)
    counts = numbers(counts, "counts", ("units",), empty=True)
    if totals.shape != counts.shape:
        raise InputError(
            f"each unit needs one total and one count, got shapes {totals.shape} and {counts.shape}"
        )

    def statistic(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ totals) / (weights @ counts)

    return statistic


def bootstrap(
    statistic: WeightedStatistic,
    n_units: int,
    n: int,
    *,
    seed: int = 0,
    level: float = 0.95,
    method: Literal["bca", "percentile"] = "bca",
    strata: np.ndarray | None = None,
) -> BootstrapResult:
    """Interval of a statistic of independent units.

    Parameters
    ----------
    statistic : callable
        Maps weights (n_sets, n_units) – how often each unit counts – to values (n_sets,).
    n_units : int
        Number of units.
    n : int
        Number of resamples.
    seed : int
        Seed of the resamples.
    level : float
        Coverage of the interval, in (0, 1).
    method : {"bca", "percentile"}
        ``"bca"`` corrects bias and skewness (Efron 1987) and falls back to the percentile interval
        where it is not defined.
    strata : array of shape (n_units,), optional
        Draw inside each stratum.

    Returns
    -------
    BootstrapResult
        With NaN limits where there is only one unit: nothing is known about others.

    Raises
    ------
    InputError
        If there are no units or resamples, or `level` lies outside (0, 1).
    """
    if n_units < 1 or n < 1:
        raise InputError(f"a bootstrap needs units and resamples, got {n_units} and {n}")
    value = float(statistic(np.ones((1, n_units)))[0])
    replicates = np.concatenate(
        [statistic(w) for w in cluster_weights(n_units, n, seed=seed, strata=strata)]
    )
    if n_units == 1:
        return BootstrapResult(value, np.nan, np.nan, replicates)
    jackknife = _jackknife(statistic, n_units) if method == "bca" else None
    lo, hi = interval(value, replicates, level=level, jackknife=jackknife)
    return BootstrapResult(value, lo, hi, replicates)


def _jackknife(statistic: WeightedStatistic, n_units: int) -> np.ndarray:
    block = max(1, _BLOCK_CELLS // n_units)
    parts = []
    for start in range(0, n_units, block):
        left_out = np.arange(start, min(start + block, n_units))
        weights = np.ones((len(left_out), n_units))
        weights[np.arange(len(left_out)), left_out] = 0
        parts.append(statistic(weights))
    return np.concatenate(parts)


def interval(
    value: float,
    replicates: np.ndarray,
    *,
    level: float = 0.95,
    jackknife: np.ndarray | None = None,
) -> tuple[float, float]:
    """Limits from the resampled values: percentile, or BCa where `jackknife` is given.

    Parameters
    ----------
    value : float
        The statistic on the sample itself.
    replicates : array of shape (n,)
        The statistic on the resamples; those that are not finite are left out.
    level : float
        Coverage, in (0, 1).
    jackknife : array of shape (n_units,), optional
        The statistic with each unit left out.

    Returns
    -------
    lo, hi : float
        NaN where no resample is defined.

    References
    ----------
    Efron (1987), Better bootstrap confidence intervals, JASA 82, equations 6.4 to 6.6.
    """
    from scipy.special import ndtr, ndtri

    if not 0 < level < 1:
        raise InputError(f"the level of an interval must lie between 0 and 1, got {level}")
    replicates = numbers(replicates, "replicates", ("resamples",), empty=True)
    defined = replicates[np.isfinite(replicates)]
    if not len(defined) or np.isnan(value):
        return np.nan, np.nan
    probabilities = np.array([(1 - level) / 2, (1 + level) / 2])
    if jackknife is not None:
        jackknife = numbers(jackknife, "jackknife values", ("units",), empty=True)
        left = jackknife[np.isfinite(jackknife)]
        deviation = left.mean() - left if len(left) else np.zeros(1)
        spread = (deviation**2).sum() ** 1.5
        # ties share evenly, as the statistic of few units takes few values
        below = (defined < value).mean() + 0.5 * (defined == value).mean()
        if spread > 1e-12 and 0 < below < 1:
            acceleration = (deviation**3).sum() / (6 * spread)
            z0 = ndtri(below)
            z = z0 + ndtri(probabilities)
            bounded = 1 - acceleration * z
            if (bounded > 0).all():
                probabilities = ndtr(z0 + z / bounded)
    lo, hi = np.quantile(defined, probabilities)
    return float(lo), float(hi)
