"""Heads whose peak may be another head's: meanings that go together in the images.

Where images of beaches are images of holidays, a head for stories can read the place. Its map
then shows where and when the *place* is, and nothing in the EEG tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eegprompt.attribution.localization import window
from eegprompt.attribution.patterns import peak

__all__ = ["SharedPeak", "caption_relation", "shared_peaks"]


def caption_relation(
    one: np.ndarray,
    other: np.ndarray,
    units: Sequence[Any] | np.ndarray,
    *,
    n_permutations: int = 199,
    seed: int = 0,
) -> tuple[float, float]:
    """How far the captions of two kinds go together over images.

    Parameters
    ----------
    one, other : array (n_trials, n_dims)
        Embeddings of each trial's captions.
    units : sequence (n_trials,)
        The image of each trial; every image counts once.
    n_permutations, seed : int
        Images are permuted.

    Returns
    -------
    relation : float
        RV coefficient (Robert and Escoufier 1976), less its mean under permutation: 0 for unrelated
        kinds, at most 1.
    p : float
        In (0, 1].
    """
    _, first = np.unique(np.asarray(units).astype(str), return_index=True)
    a, b = (np.asarray(x, dtype=np.float64)[first] for x in (one, other))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt(((a.T @ a) ** 2).sum() * ((b.T @ b) ** 2).sum())
    if not scale > 0:
        return 0.0, 1.0
    rng = np.random.default_rng(seed)
    value = ((a.T @ b) ** 2).sum() / scale
    null = np.array(
        [((a[rng.permutation(len(a))].T @ b) ** 2).sum() / scale for _ in range(n_permutations)]
    )
    return float(value - null.mean()), float((1 + (null >= value).sum()) / (1 + n_permutations))


@dataclass(frozen=True)
class SharedPeak:
    """A head whose peak cannot be told from that of another.

    Parameters
    ----------
    head, partner : str
        The head, and the head whose peak it may be.
    relation : float
        Of their captions (:func:`caption_relation`).
    likeness : float
        Correlation over channels of their maps around the head's peak.
    """

    head: str
    partner: str
    relation: float
    likeness: float


def shared_peaks(
    maps: Mapping[str, np.ndarray],
    times: np.ndarray,
    relations: Mapping[tuple[str, str], tuple[float, float]],
    *,
    within: float = 0.024,
    likeness: float = 0.4,
    alpha: float = 0.01,
) -> list[SharedPeak]:
    """Name heads whose peak may be that of a head with related captions.

    A pair is named where the captions are related (p < `alpha` and a relation above .02), both maps
    peak within `within` seconds, their channels are alike there, and the partner's map is the
    stronger one: what the weaker head shows can be read from the partner's meaning.

    Parameters
    ----------
    maps : mapping of head to array (n_chans, n_times)
        Amplitudes of activation patterns.
    times : array (n_times,)
        Seconds.
    relations : mapping of (head, head) to (relation, p)
        From :func:`caption_relation`, in either order.
    within, likeness, alpha : float
        See above.

    Returns
    -------
    list of SharedPeak
    """
    peaks = {head: peak(values, times) for head, values in maps.items()}
    found = []
    for head, values in maps.items():
        around = window(times, peaks[head], within)
        own = values[:, around].mean(axis=1)
        for partner, theirs in maps.items():
            related = relations.get((head, partner), relations.get((partner, head)))
            if partner == head or related is None:
                continue
            if related[1] >= alpha or related[0] <= 0.02:
                continue
            if not abs(peaks[head] - peaks[partner]) <= within + 1e-6:
                continue
            other = theirs[:, around].mean(axis=1)
            if own.std() == 0 or other.std() == 0 or (other**2).sum() < (own**2).sum():
                continue
            alike = float(np.corrcoef(own, other)[0, 1])
            if alike >= likeness:
                found.append(SharedPeak(head, partner, related[0], alike))
    return found
