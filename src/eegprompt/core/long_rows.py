"""Tables whose rows have more fields than the header: refused, never cut."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["long_rows_refused"]


@contextmanager
def long_rows_refused() -> Iterator[None]:
    """Make pandas raise where it would drop the last field of every row.

    Row names without a name of their own, as R writes them, move every column by one.

    Raises
    ------
    ValueError
        If rows are longer than the header.
    """
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            yield
        except pd.errors.ParserWarning:
            raise ValueError(
                "its rows have more fields than its header: name the column of row names, or put "
                "texts that hold separators in double quotes"
            ) from None
