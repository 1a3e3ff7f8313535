"""How many threads linear algebra takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let linear algebra take one thread, in a block or as a decorator.

    Several threads wait for one another in each product. Where another process takes one of the
    cores, each of these waits lasts as long as that process is let run; one thread waits for nobody,
    and thousands of small products gain nothing from two.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
