"""What a trial holds besides an evoked response: its mean, power, slow part, and surrogates.

Each function takes trials (n_trials, n_chans, n_times) and gives features (n_trials, n_features).
A decoder that does well on them alone may not need what the image evoked. It proves nothing by
itself: evoked responses are slow too, and change power; so they are shown beside the full decoder,
and count against a study only where class and time go together.
"""

from __future__ import annotations

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError

__all__ = [
    "BANDS",
    "band_power",
    "dc",
    "mean_and_log_variance",
    "phase_randomised",
    "slow_part",
    "window_means",
]

BANDS = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
"""Frequency bands in Hz, lower edge included."""

_TINY = np.finfo(np.float64).tiny


def _trials(eeg: np.ndarray) -> np.ndarray:
    eeg = numbers(eeg, "trials", ("trials", "channels", "samples"), empty=True, single=True)
    if not eeg.shape[1] or not eeg.shape[2]:
        raise InputError(f"trials must have channels and samples, got shape {eeg.shape}")
    if np.isinf(eeg).any():
        raise InputError("a trial holds an infinite value; leave it out, or mark it as NaN")
    return eeg


def dc(eeg: np.ndarray) -> np.ndarray:
    """The mean of each channel over the trial: shape (n_trials, n_chans), the unit of the data."""
    return np.asarray(_trials(eeg).mean(axis=2, dtype=np.float64))


def mean_and_log_variance(eeg: np.ndarray) -> np.ndarray:
    """Mean and log variance of each channel: shape (n_trials, 2 n_chans)."""
    eeg = _trials(eeg)
    variance = eeg.var(axis=2, dtype=np.float64)
    return np.concatenate([dc(eeg), np.log(variance + _TINY)], axis=1)


def band_power(eeg: np.ndarray, sfreq: float) -> np.ndarray:
    """Log power of each channel in each of :data:`BANDS` that the window can resolve.

    Parameters
    ----------
    eeg : array, shape (n_trials, n_chans, n_times)
        Any unit; the mean of each trial is taken out and a Hann window put on.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    array, shape (n_trials, n_chans × n_bands)
        Natural logarithm; no column where no frequency of the window lies in any band.
    """
    eeg = _trials(eeg)
    n_times = eeg.shape[2]
    centered = eeg - eeg.mean(axis=2, keepdims=True)
    power = np.abs(np.fft.rfft(centered * np.hanning(n_times + 2)[1:-1], axis=2)) ** 2
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq)
    parts = [
        np.log(power[:, :, inside].mean(axis=2) + _TINY)
        for low, high in BANDS.values()
        if (inside := (frequency >= low) & (frequency < high)).any()
    ]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(eeg), 0))


def slow_part(eeg: np.ndarray, sfreq: float, below: float = 5.0) -> np.ndarray:
    """What of each channel lies below some frequency, as its Fourier coefficients.

    Parameters
    ----------
    eeg : array, shape (n_trials, n_chans, n_times)
        Any unit.
    sfreq : float
        Sampling rate in Hz.
    below : float
        In Hz; the mean (0 Hz) is part of it.

    Returns
    -------
    array, shape (n_trials, n_chans × n_coefficients)
        Real and imaginary parts, the unit of the data: a rotation of the low-passed trial, which
        is all that a linear decoder can see of it.
    """
    eeg = _trials(eeg)
    n_times = eeg.shape[2]
    keep = np.fft.rfftfreq(n_times, 1 / sfreq) < below
    spectrum = np.fft.rfft(eeg, axis=2)[:, :, keep] / n_times
    parts = np.concatenate([spectrum.real, spectrum.imag[:, :, 1:]], axis=2)
    return np.asarray(parts.reshape(len(eeg), np.prod(parts.shape[1:], dtype=int)))


def phase_randomised(eeg: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Surrogate trials: the same spectra, cross-spectra and mean, and no latency.

    One random phase a frequency and trial is added to all channels alike, so that power and the
    relations between channels stay while everything time-locked to the image goes (Prichard and
    Theiler 1994, Phys Rev Lett 73:951).

    Parameters
    ----------
    eeg : array, shape (n_trials, n_chans, n_times)
        Any unit.
    rng : numpy.random.Generator
        Draws the phases.

    Returns
    -------
    array, shape of `eeg`
    """
    eeg = _trials(eeg)
    n_times = eeg.shape[2]
    spectrum = np.fft.rfft(eeg, axis=2)
    turn = np.exp(2j * np.pi * rng.random((len(eeg), 1, spectrum.shape[2])))
    turn[..., 0] = 1
    if n_times % 2 == 0:
        turn[..., -1] = rng.choice([-1.0, 1.0], size=turn.shape[:2])
    return np.asarray(np.fft.irfft(spectrum * turn, n=n_times, axis=2))


def window_means(eeg: np.ndarray, n_windows: int) -> np.ndarray:
    """Means over consecutive windows of nearly equal length: (n_trials, n_chans × n_windows)."""
    eeg = _trials(eeg)
    n_windows = max(1, min(n_windows, eeg.shape[2]))
    edges = np.linspace(0, eeg.shape[2], n_windows + 1).round().astype(int)
    lengths = np.diff(edges)
    sums = np.add.reduceat(eeg, edges[:-1], axis=2, dtype=np.float64)
    return np.asarray((sums / lengths).reshape(len(eeg), eeg.shape[1] * n_windows))
