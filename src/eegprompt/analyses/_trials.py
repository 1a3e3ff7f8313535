"""Held-out trials as the attributions take them: a view of the study's EEG, scaled by channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.analyses.base import Context, once
from eegprompt.attribution.electrodes import FromElectrodes

__all__ = [
    "View",
    "channel_scale",
    "from_electrodes",
    "in_steps",
    "microvolts",
    "step_edges",
    "typical_trial",
    "view",
]


IN_MEMORY = 2**28  # bytes


class View:
    """Some trials of memory-mapped EEG, scaled; read when sliced.

    Parameters
    ----------
    eeg : array (n_all, n_chans, n_times)
        May be memory-mapped.
    ids : array of int (n_trials,)
        Rows of it.
    factor : float or array (n_chans, 1)
        What they are multiplied by.
    every : int
        So many samples are averaged into one; what is left at the end is dropped.
    """

    def __init__(
        self,
        eeg: np.ndarray,
        ids: np.ndarray,
        factor: float | np.ndarray = 1.0,
        every: int = 1,
    ):
        self.eeg, self.ids, self.factor, self.every = eeg, np.asarray(ids), factor, every

    @property
    def shape(self) -> tuple[int, int, int]:
        """Trials, channels, samples."""
        return (len(self.ids), self.eeg.shape[1], self.eeg.shape[2] // self.every)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, which: Any) -> np.ndarray:
        some = np.asarray(self.eeg[self.ids[which]], dtype=np.float32)
        if self.every > 1:
            n_times = self.shape[2]
            some = some[..., : n_times * self.every]
            some = some.reshape(*some.shape[:-1], n_times, self.every).mean(axis=-1)
        return some * np.float32(self.factor)


def in_steps(values: np.ndarray, step: int) -> np.ndarray:
    """Mean over each step of an encoder, along the last axis.

    A rest shorter than half a step is left out: an encoder that reads whole windows never saw it.

    Examples
    --------
    >>> in_steps(np.array([1.0, 3.0, 2.0, 2.0, 7.0]), 2).tolist()
    [2.0, 2.0, 7.0]
    """
    bounds = _bounds(values.shape[-1], step)
    sums = np.add.reduceat(values[..., : bounds[-1]], bounds[:-1], axis=-1)
    return np.asarray(sums / np.diff(bounds))


def _bounds(n: int, step: int) -> np.ndarray:
    """First samples of the steps in `n` samples, and the sample behind the last."""
    rest = n % step
    end = n - rest if n > step and 2 * rest < step else n
    return np.append(np.arange(0, end, step), end)


def step_edges(times: np.ndarray, step: int) -> np.ndarray:
    """Where the steps of :func:`in_steps` begin, and where the last ends, in seconds."""
    sample = float(times[1] - times[0]) if len(times) > 1 else 1.0
    return times[0] + (_bounds(len(times), step) - 0.5) * sample


@once
def channel_scale(context: Context) -> np.ndarray:
    """Standard deviation of each channel over up to 500 training trials, (n_chans, 1)."""
    some = context.sample(context.ids("train"), 500)
    spread = np.asarray(context.study.eeg[some], dtype=np.float64).std(axis=(0, 2))
    return np.where(spread > 0, spread, 1.0)[:, None].astype(np.float32)


@once
def typical_trial(context: Context) -> np.ndarray:
    """Mean of up to 500 training trials over :func:`channel_scale`, (n_chans, n_times).

    It is what all images evoke alike, where every attribution that needs a baseline starts from.
    """
    some = context.sample(context.ids("train"), 500)
    scaled = View(context.study.eeg, some, 1 / channel_scale(context))
    return np.asarray(scaled[:].mean(axis=0), dtype=np.float32)


def microvolts(context: Context) -> tuple[float, str]:
    """Factor from the study's unit to the one that is drawn, and that one's name."""
    return (1e6, "µV") if context.study.unit == "V" else (1.0, context.study.unit)


def view(context: Context, ids: np.ndarray, every: int = 1) -> Any:
    """Trials in the unit that is drawn, so many samples averaged into one.

    A few hundred megabytes are read once; what is larger is read whenever it is sliced.
    """
    some = View(context.study.eeg, ids, microvolts(context)[0], every)
    return some[:] if 4 * np.prod(some.shape) < IN_MEMORY else some


def from_electrodes(context: Context) -> FromElectrodes:
    """The run's encoder behind its preprocessing."""
    module = FromElectrodes(context.encoder, context.steps, channel_scale(context))
    return module.to(context.device)
