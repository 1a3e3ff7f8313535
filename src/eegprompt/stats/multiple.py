"""Correction of p values for the number of tests made."""

from __future__ import annotations

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError

__all__ = ["holm"]


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values by Holm's step-down method.

    The chance of even one false alarm in the whole family stays below the level at which the
    corrected values are read, whatever the dependence among the tests.

    Parameters
    ----------
    p : array of shape (n_tests,)
        p values in [0, 1]; NaN stands for a test that was not made and is not counted.

    Returns
    -------
    array of shape (n_tests,)
        Corrected p values in [0, 1], NaN where `p` is.

    Raises
    ------
    InputError
        If a value lies outside [0, 1].

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = numbers(p, "p values", ("tests",), empty=True)
    made = np.flatnonzero(~np.isnan(p))
    if ((p[made] < 0) | (p[made] > 1)).any():
        raise InputError(f"a p value must lie in [0, 1], got {p[made].min()} to {p[made].max()}")
    corrected = np.full(p.shape, np.nan)
    order = made[np.argsort(p[made], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
