"""How many threads embed a few trials: one, so that other processes do not delay them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["FEW", "threads_for"]

FEW = 32
"""Trials that one thread embeds."""


@contextmanager
def threads_for(n_trials: int, device: torch.device) -> Iterator[None]:
    """One thread where there are few trials.

    Several threads wait for one another at each step of the encoder. Where another process takes
    one of the cores, each of these waits lasts as long as that process is let run, which is many
    times what the step takes; one thread waits for nobody, and few trials gain nothing from two.
    """
    before = torch.get_num_threads()
    if n_trials > FEW or before == 1 or device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
