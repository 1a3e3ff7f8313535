"""One p-value for many tests that were permuted together."""

from __future__ import annotations

import numpy as np

from eegprompt.core.errors import InputError

__all__ = ["max_statistic_p"]


def max_statistic_p(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """p-values corrected for the number of tests by the largest statistic of each permutation.

    Each test is brought to the mean and standard deviation of its own permutations; the corrected p
    of a test is how often the largest of all tests reaches it (Westfall and Young 1993; Nichols and
    Holmes 2002). It needs fewer permutations than Holm's correction and uses that tests resemble
    one another.

    Parameters
    ----------
    values : array, shape (...)
        Observed statistics, larger is more; NaN where there is none.
    null : array, shape (n_permutations, ...)
        The same statistics under permutations that all tests shared.

    Returns
    -------
    array, shape (...)
        In (0, 1]; NaN where `values` is.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Examples
    --------
    >>> null = np.random.default_rng(0).normal(size=(999, 2))
    >>> max_statistic_p(np.array([9.0, 0.0]), null).round(3).tolist()[0]
    0.001
    """
    values, null = np.asarray(values, dtype=float), np.asarray(null, dtype=float)
    if null.shape[1:] != values.shape or not len(null):
        raise InputError(
            f"null must be (n_permutations, {', '.join(map(str, values.shape))}), got {null.shape}"
        )
    result = np.full(values.shape, np.nan)
    valid = np.isfinite(values) & np.isfinite(null).all(axis=0)
    if not valid.any():
        return result
    some = null[:, valid]
    center, spread = some.mean(axis=0), some.std(axis=0)
    spread[spread < 1e-12] = np.inf  # a test that never varies can neither win nor be surprising
    largest = ((some - center) / spread).max(axis=1)
    standard = (values[valid] - center) / spread
    at_least = (largest[:, None] >= standard - 1e-9).sum(axis=0)
    result[valid] = (1 + at_least) / (1 + len(null))
    return result
