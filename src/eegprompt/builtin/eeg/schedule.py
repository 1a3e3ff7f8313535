"""Which image is shown when: the trials of a simulated recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eegprompt.builtin.eeg.parameters import SimulationParameters

__all__ = ["PIECE", "Schedule", "make_schedule"]

PIECE = 32
"""At most so many trials are simulated as one continuous stretch."""


@dataclass(frozen=True)
class Schedule:
    """The trials of all subjects, in order of showing; all arrays have shape (n_trials,).

    Attributes
    ----------
    subject : array of int
        Index of the subject.
    image : array of int
        Index of the image.
    run, block, order : array of int
        Run and block, counted from 1 within the subject (block is -1 where classes are mixed), and
        place in the subject's session, from 0.
    onset : array of float
        Seconds from the start of the run.
    clock : array of float
        Seconds from the start of the session, breaks included.
    sample : array of int
        Onset in samples from the start of the run.
    piece : array of int
        Continuous stretch that the trial belongs to, counted over all trials.
    """

    subject: np.ndarray
    image: np.ndarray
    run: np.ndarray
    block: np.ndarray
    order: np.ndarray
    onset: np.ndarray
    clock: np.ndarray
    sample: np.ndarray
    piece: np.ndarray


def make_schedule(
    category: np.ndarray,
    *,
    n_subjects: int,
    repetitions: int,
    design: str,
    sfreq: float,
    seed: int,
    parameters: SimulationParameters,
) -> Schedule:
    """Lay out the trials.

    Parameters
    ----------
    category : array of int, shape (n_images,)
        Class of each image.
    n_subjects, repetitions : int
        How often each image is shown to each subject, and to how many.
    design : {'randomised', 'block'}
        In random order, cut into runs; or one uninterrupted block a class, in one run, the order of
        the classes drawn for each subject.
    sfreq : float
        Sampling rate; onsets fall on samples.
    seed : int
        The same seed, the same schedule.
    parameters : SimulationParameters
        Onset asynchrony, breaks and length of runs.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in Schedule.__dataclass_fields__}
    lo, hi = (int(np.ceil(s * sfreq)) for s in parameters.soa)
    n_pieces = 0
    for subject in range(n_subjects):
        rng = np.random.default_rng([seed, 11, subject])
        if design == "block":
            groups = []
            for c in rng.permutation(np.unique(category)):
                shown = np.tile(np.flatnonzero(category == c), repetitions)
                groups.append(rng.permutation(shown))
            run = np.ones(sum(map(len, groups)), int)
            block = np.repeat(np.arange(1, len(groups) + 1), [len(g) for g in groups])
            pause = parameters.block_break
        else:
            # Each repetition shows every image once, in a new order.
            shown = np.concatenate([rng.permutation(len(category)) for _ in range(repetitions)])
            n_runs = max(2, -(-len(shown) // parameters.run_trials))
            groups = [g for g in np.array_split(shown, n_runs) if len(g)]
            run = np.repeat(np.arange(1, len(groups) + 1), [len(g) for g in groups])
            block = np.full(len(shown), -1)
            pause = parameters.run_break
        n = len(run)
        starts = np.cumsum([0, *(len(g) for g in groups)])[:-1]
        step = rng.integers(lo, hi + 1, size=n)
        step[0] = hi
        gaps = np.zeros(n, int)
        gaps[starts[1:]] = round(pause * sfreq)
        clock = np.cumsum(step + gaps)
        first_of_run = np.flatnonzero(np.r_[True, np.diff(run) > 0])
        run_start = np.repeat(clock[first_of_run] - hi, np.diff(np.r_[first_of_run, n]))
        piece = np.zeros(n, int)
        for start, group in zip(starts, groups, strict=True):
            for first in range(0, len(group), PIECE):
                last = min(first + PIECE, len(group))
                piece[start + first : start + last] = n_pieces
                n_pieces += 1
        for name, value in {
            "subject": np.full(n, subject),
            "image": np.concatenate(groups),
            "run": run,
            "block": block,
            "order": np.arange(n),
            "onset": (clock - run_start) / sfreq,
            "clock": clock / sfreq,
            "sample": clock - run_start,
            "piece": piece,
        }.items():
            columns[name].append(value)
    return Schedule(**{name: np.concatenate(parts) for name, parts in columns.items()})
