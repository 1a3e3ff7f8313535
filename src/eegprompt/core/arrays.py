"""What a function on arrays was given: checked once, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError

__all__ = ["codes", "numbers", "whole_numbers"]


def numbers(
    values: Any,
    what: str,
    axes: Sequence[str],
    *,
    empty: bool = False,
    single: bool = False,
    infinite: bool = True,
) -> np.ndarray:
    """An array of real numbers with the axes it should have.

    Parameters
    ----------
    values : array-like
        What came.
    what : str
        Its name in the message, a plural.
    axes : sequence of str
        Names of the axes, in order; "…" at the end stands for any further ones.
    empty : bool
        Whether an axis may have length 0.
    single : bool
        Whether single precision stays as it is.
    infinite : bool
        Whether values may be infinite.

    Returns
    -------
    array of float64 (or float32)
        The array itself where it is one; NaN stays.

    Raises
    ------
    InputError
        If the values are not numbers, have other axes, are none, or infinite.

    Examples
    --------
    >>> numbers([[1, 2]], "similarities", ("trials", "classes"))
    array([[1., 2.]])
    """
    expected = f"{what} must be numbers by ({', '.join(axes)})"
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":  # no text, dates, objects or complex numbers
            raise TypeError
        if not (single and array.dtype == np.float32):
            array = array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise InputError(f"{expected}, got {_described(values)}") from None
    further = axes[-1] == "…"
    if array.ndim < len(axes) - further or (array.ndim > len(axes) and not further):
        raise InputError(f"{expected}, got shape {array.shape}")
    if not array.size and not empty:
        raise InputError(f"{expected} and not empty, got shape {array.shape}")
    if not infinite and np.isinf(array).any():
        raise InputError(f"{expected}, none of them infinite; {np.isinf(array).sum()} are")
    return array


def whole_numbers(
    values: Any, what: str, *, length: int | None = None, below: int | None = None
) -> np.ndarray:
    """One whole number for each of several things: classes, columns, rows.

    Parameters
    ----------
    values : array-like
        What came; whole numbers stored as float will do.
    what : str
        Its name in the message, a plural.
    length : int, optional
        How many there must be.
    below : int, optional
        They must lie in [0, below).

    Returns
    -------
    array of int64, shape (n,)

    Raises
    ------
    InputError
        If they are not whole numbers in one dimension, too few or many, or out of range.

    Examples
    --------
    >>> whole_numbers([0, 2], "classes", length=2, below=3)
    array([0, 2])
    """
    array = numbers(values, what, ("one each",), empty=True)
    if length is not None and len(array) != length:
        raise InputError(f"{what} must be {length}, one each, got {len(array)}")
    whole = np.isfinite(array) & (array == np.round(array))
    if not whole.all():
        raise InputError(f"{what} must be whole numbers, got {array[~whole][0]:g}")
    if below is not None and len(array) and (array.min() < 0 or array.max() >= below):
        raise InputError(
            f"{what} must lie in [0, {below - 1}], got {array.min():g} to {array.max():g}"
        )
    return array.astype(np.int64)


def codes(values: Any, what: str, *, length: int) -> np.ndarray:
    """Things named by any values that can be compared – groups, strata, subjects – as numbers.

    Parameters
    ----------
    values : array-like
        What came; equal values name the same.
    what : str
        Their name in the message, a plural.
    length : int
        How many there must be.

    Returns
    -------
    array of int64, shape (length,)
        From 0, in sorted order of the values.

    Raises
    ------
    InputError
        If there are not so many, in one dimension, or they cannot be compared.

    Examples
    --------
    >>> codes(["b", "a", "b"], "subjects", length=3)
    array([1, 0, 1])
    """
    try:
        array = np.asarray(values)
        found = np.unique(array, return_inverse=True)[1].astype(np.int64)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} must be values that can be compared, one each, got {_described(values)}"
        ) from None
    if array.shape != (length,):
        raise InputError(f"{what} must be {length} values, one each, got shape {array.shape}")
    return found


def _described(values: Any) -> str:
    """The kind of thing that came, in a few words."""
    if isinstance(values, np.ndarray):
        return f"{values.dtype} of shape {values.shape}"
    return f"{type(values).__name__} {str(values)[:40]!r}"
