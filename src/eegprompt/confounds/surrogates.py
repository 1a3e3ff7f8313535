"""EEG that carries nothing, to see what the pipeline makes of it: matched noise, and exchanged trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError
from eegprompt.core.files import content_key

__all__ = ["TrialShapes", "count_scale", "derange", "matched_noise", "trial_shapes"]

_CHUNK = 32  # noise trials at a time; their weights fill memory
_PADDED = 3  # equal samples in all channels at an edge are padding from this number on


@dataclass(frozen=True)
class TrialShapes:
    """What trials tell without any EEG: where each begins and ends, and which channels are flat.

    Parameters
    ----------
    first, stop : array of int, shape (n_trials,)
        The samples of a trial that are not padding, as in a slice.
    flat : array of bool, shape (n_trials, n_chans)
        Channels that hold one value throughout.
    n_times : int
        Samples of a trial with its padding.
    """

    first: np.ndarray
    stop: np.ndarray
    flat: np.ndarray
    n_times: int

    @property
    def vary(self) -> bool:
        """Whether they could tell one trial from another."""
        columns = (self.first, self.stop, *self.flat.T)
        return any(len(np.unique(column)) > 1 for column in columns)

    def __getitem__(self, which: np.ndarray | slice) -> TrialShapes:
        """The shapes of some trials."""
        return TrialShapes(self.first[which], self.stop[which], self.flat[which], self.n_times)


def trial_shapes(eeg: np.ndarray) -> TrialShapes:
    """Find padding and flat channels of trials.

    Padding is where all channels that are not flat hold their first value on, or their last, for
    at least three samples: trials of different length that were brought to one are such.

    Parameters
    ----------
    eeg : array, shape (n_trials, n_chans, n_times)
        Any unit.

    Returns
    -------
    TrialShapes

    Examples
    --------
    >>> eeg = np.random.default_rng(0).standard_normal((2, 3, 50))
    >>> eeg[1, :, 40:] = 0
    >>> trial_shapes(eeg).stop.tolist()
    [50, 40]
    """
    eeg = numbers(eeg, "trials", ("trials", "channels", "samples"), single=True)
    n_times = eeg.shape[2]
    flat = (eeg == eeg[:, :, :1]).all(axis=2)
    edges = []
    for values in (eeg, eeg[:, :, ::-1]):
        differs = ((values != values[:, :, :1]) & ~flat[:, :, None]).any(axis=1)
        held = np.where(differs.any(axis=1), differs.argmax(axis=1), 0)
        edges.append(np.where(held >= _PADDED, held, 0).astype(np.int64))
    return TrialShapes(edges[0], n_times - edges[1], flat, n_times)


def count_scale(model: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What noise must be multiplied by to be of averages of so many trials.

    Parameters
    ----------
    model : array, shape (n_model,)
        How many trials are averaged in each of those that the noise is matched to.
    counts : array, shape (n,)
        How many are to be in each trial of noise.

    Returns
    -------
    array, shape (n,)

    Examples
    --------
    >>> count_scale(np.array([4, 4]), np.array([1, 4, 16])).tolist()
    [2.0, 1.0, 0.5]
    """
    model = numbers(model, "counts to match", ("trials",), infinite=False)
    counts = numbers(counts, "counts", ("trials",), infinite=False)
    if not ((model >= 1).all() and (counts >= 1).all()):
        raise InputError("a trial is the average of at least one; give counts from 1 on")
    return np.asarray(np.sqrt(np.mean(1 / model) * counts) ** -1)


def matched_noise(
    eeg: np.ndarray, keys: Sequence[int], seed: int, *, shapes: TrialShapes | None = None
) -> np.ndarray:
    """Gaussian noise with the mean spectrum of some trials, and nothing else of them.

    In every frequency each noise trial is a random mixture, with independent complex normal
    weights, of the trials' Fourier coefficients. So it has the trials' mean power in every
    frequency, their variance and their mean covariance between channels, while its phases are
    random: what was evoked at a moment after the stimulus, and which trial was which, is gone.

    Parameters
    ----------
    eeg : array, shape (n_trials, n_chans, n_times)
        What to match.
    keys : sequence of int, length n
        One noise trial each; a trial depends on its key and on `seed` alone.
    seed : int
        Another seed gives other noise.
    shapes : TrialShapes, optional
        Of n trials: each noise trial is 0 where the trial is padding, and in its flat channels.

    Returns
    -------
    array of float32, shape (n, n_chans, n_times)
        In the unit of `eeg`.

    References
    ----------
    After the surrogates of Theiler et al. (1992) and Prichard and Theiler (1994), with the mean
    cross-spectrum of all trials in the place of one trial's.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = matched_noise(3 * rng.standard_normal((50, 2, 100)), range(400), seed=0)
    >>> noise.shape, bool(abs(noise.std() - 3) < 0.05)
    ((400, 2, 100), True)
    """
    eeg = numbers(eeg, "trials to match noise to", ("trials", "channels", "samples"))
    if not np.isfinite(eeg).all():
        raise InputError("noise cannot be matched to trials with values that are not finite")
    n, _, n_times = eeg.shape
    spectrum = np.fft.rfft(eeg, axis=2).transpose(2, 0, 1)  # frequency × trial × channel
    n_freqs = len(spectrum)
    real = [0, n_freqs - 1] if n_times % 2 == 0 else [0]  # their coefficients are real
    noise = np.empty((len(keys), *eeg.shape[1:]), dtype=np.float32)
    for start in range(0, len(keys), _CHUNK):
        some = list(keys)[start : start + _CHUNK]
        weights = np.empty((n_freqs, len(some), n), dtype=np.complex128)
        for row, key in enumerate(some):
            rng = np.random.default_rng(int(content_key("noise", int(seed), int(key)), 16))
            draw = rng.standard_normal((2, n_freqs, n))
            weights[:, row] = (draw[0] + 1j * draw[1]) / np.sqrt(2)
            weights[real, row] = draw[0][real]
        mixed = np.matmul(weights, spectrum).transpose(1, 2, 0) / np.sqrt(n)
        noise[start : start + _CHUNK] = np.fft.irfft(mixed, n=n_times, axis=2)
    if shapes is not None:
        if len(shapes.first) != len(noise) or shapes.n_times != n_times:
            raise InputError(
                f"shapes of {len(shapes.first)} trials of {shapes.n_times} samples do not fit "
                f"{len(noise)} trials of {n_times}; give one for each key"
            )
        own = trial_shapes(eeg)
        kept = max(float((own.stop - own.first).mean()), 1.0) / n_times
        noise /= np.float32(np.sqrt(kept))  # padding took power out of the mean spectrum
        time = np.arange(n_times)
        padding = (time < shapes.first[:, None]) | (time >= shapes.stop[:, None])
        noise[(padding[:, None, :] | shapes.flat[:, :, None])] = 0
    return noise


def derange(
    groups: Sequence[object], seed: int, *, strata: Sequence[object] | None = None
) -> np.ndarray:
    """Give each trial the place of another, of another group wherever that is possible.

    Parameters
    ----------
    groups : sequence, length n
        What a trial must not meet again, e.g. the image it showed.
    seed : int
        Another seed gives another exchange.
    strata : sequence, length n, optional
        Trials are exchanged within a stratum, e.g. a subject; a stratum of one group is joined
        with the others.

    Returns
    -------
    array of int64, shape (n,)
        A permutation. No trial keeps its place and none meets its own group, unless one group
        holds more than half of the trials that are exchanged.

    Raises
    ------
    InputError
        If there are fewer than two trials.

    Examples
    --------
    >>> order = derange(["a", "a", "b", "b", "c"], seed=1)
    >>> sorted(order.tolist()), any("aabbc"[i] == "aabbc"[j] for i, j in enumerate(order))
    ([0, 1, 2, 3, 4], False)
    """
    n = len(groups)
    if n < 2:
        raise InputError(f"at least two trials are needed to exchange them, got {n}")
    names = [str(group) for group in groups]
    layer = [str(stratum) for stratum in strata] if strata is not None else [""] * n
    kinds = {one: {g for g, s in zip(names, layer) if s == one} for one in set(layer)}
    if any(len(of) < 2 for of in kinds.values()):
        layer = [""] * n
    result = np.arange(n, dtype=np.int64)
    rng = np.random.default_rng(int(content_key("derange", int(seed), n), 16))
    for one in sorted(set(layer)):
        mine = np.array([i for i in range(n) if layer[i] == one])
        # Sorted by group and turned by the largest group's size, a trial meets its own group only
        # if that group is more than half of all; groups and trials are shuffled first.
        rank = {g: r for r, g in enumerate(rng.permutation(sorted({names[i] for i in mine})))}
        ordered = sorted(rng.permutation(mine).tolist(), key=lambda i: rank[names[i]])
        counts = np.unique([names[i] for i in ordered], return_counts=True)[1]
        turn = int(min(counts.max(), len(ordered) - 1))
        result[ordered] = np.roll(ordered, -turn)
    return result
