"""How many threads numerical work takes: few, so that other processes do not delay it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["FEW", "one_blas_thread", "threads_for"]

FEW = 32
"""Trials that one thread embeds."""


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


@contextmanager
def threads_for(n_trials: int, device: torch.device) -> Iterator[None]:
    """One thread where there are few trials.

    Several threads wait for one another at each step of the encoder. Where another process takes
    one of the cores, each of these waits lasts as long as that process is let run, which is many
    times what the step takes; one thread waits for nobody, and few trials gain nothing from two.
    """
    import torch

    before = torch.get_num_threads()
    if n_trials > FEW or before == 1 or device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
