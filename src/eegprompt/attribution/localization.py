"""How well a map finds what was planted, where that is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eegprompt.attribution.patterns import peak
from eegprompt.core.errors import InputError

__all__ = ["latency_error", "level_separation", "localization_auc", "planted_map", "window"]


def planted_map(evoked: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Covariance of noise-free sensors with caption embeddings: what an ideal map would show.

    Parameters
    ----------
    evoked : array (n_subjects, n_images, n_chans, n_times)
        What each image evokes in each subject, without noise.
    captions : array (n_images, n_dims)
        Embeddings of each image's caption.

    Returns
    -------
    array (n_chans, n_times)
        Size of the covariance over dimensions, RMS over subjects; in the unit of
        `evoked` at a caption one standard deviation from the mean, as
        :attr:`eegprompt.attribution.patterns.Pattern.amplitude`.
    """
    evoked = np.asarray(evoked)
    said = np.asarray(captions, dtype=np.float64)
    if evoked.ndim != 4 or evoked.shape[1] != len(said):
        raise InputError(
            "noise-free responses must have shape (n_subjects, n_images, n_chans, n_times) with one "
            f"image a caption, got {evoked.shape} for {len(said)} captions"
        )
    said = said - said.mean(axis=0)
    said /= np.sqrt((said**2).sum() / (len(said) - 1))
    squares = np.zeros(evoked.shape[2:])
    for subject in evoked:
        centered = subject - subject.mean(axis=0)
        product = said.T @ centered.reshape(len(said), -1)  # (n_dims, n_features)
        squares += (product**2).sum(axis=0).reshape(squares.shape) / (len(said) - 1) ** 2
    return np.sqrt(squares / len(evoked))


def window(times: np.ndarray, center: float, half: float = 0.024) -> np.ndarray:
    """Samples within `half` seconds of a moment; a bool array (n_times,)."""
    times = np.asarray(times)
    slack = 0.01 * (times[1] - times[0]) if len(times) > 1 else 0.0
    return np.abs(times - center) <= half + slack


def localization_auc(
    found: np.ndarray, planted: np.ndarray, samples: np.ndarray | None = None
) -> float:
    """How well a map's channels are ranked: area under the ROC curve against the planted ones.

    A channel counts as planted if it has at least half of the largest planted value. Chance is .5.

    Parameters
    ----------
    found, planted : array (n_chans, n_times) or (n_chans,)
        A map, and the true one.
    samples : bool array (n_times,), optional
        Over which both are averaged (RMS); all if not given.

    Returns
    -------
    float
        In [0, 1]; ties count half; NaN where every channel or none is planted.

    Examples
    --------
    >>> localization_auc(np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.9, 0.1]))
    1.0
    """
    from scipy.stats import rankdata

    score, truth = (_channels(m, samples) for m in (found, planted))
    right = truth >= 0.5 * truth.max()
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong or not truth.max() > 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def latency_error(found: np.ndarray, planted: np.ndarray, times: np.ndarray) -> float:
    """By how many milliseconds a map peaks after the planted one (before it: negative).

    Parameters
    ----------
    found, planted : array (n_chans, n_times)
        A map, and the true one.
    times : array (n_times,)
        Seconds.
    """
    return 1e3 * (peak(found, times) - peak(planted, times))


def level_separation(
    found: Mapping[str, np.ndarray], planted: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Which level's planted map each level's found map is most like, by correlation.

    Parameters
    ----------
    found, planted : mapping of str to array
        A map a level, of one shape.

    Returns
    -------
    dict of str to str
        By level; levels are separated where each is most like itself.
    """
    names = [name for name in found if name in planted]
    return {
        name: max(
            names, key=lambda other: np.corrcoef(found[name].ravel(), planted[other].ravel())[0, 1]
        )
        for name in names
    }


def _channels(values: np.ndarray, samples: np.ndarray | None) -> np.ndarray:
    values = np.maximum(np.asarray(values, dtype=np.float64), 0)
    if values.ndim == 1:
        return values
    chosen = values if samples is None else values[:, samples]
    return np.sqrt((chosen**2).mean(axis=1))
