"""What a map must survive before it is believed.

- A head must say something about images it was not trained on (:func:`caption_information`).
- A map must not look the same when the encoder's weights are shuffled, or when it was trained on
  shuffled labels (Adebayo et al. 2018, arXiv:1810.03292): :func:`shuffled_weights`,
  :func:`similarity`.
- Deleting what a map marks must hurt more than deleting as much at random
  (:func:`eegprompt.attribution.occlusion.deletion_insertion`).
- Two halves of the trials must give the same map (:func:`halves`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from eegprompt.core.errors import InputError

__all__ = [
    "ALIKE",
    "ALPHA",
    "RELIABLE",
    "Information",
    "Verdict",
    "caption_information",
    "halves",
    "judge",
    "reliability",
    "shuffled_weights",
    "similarity",
]


ALPHA = 0.05
"""A head speaks if its p, corrected for the number of heads, is below this."""

RELIABLE = 0.5
"""An attribution may be read from this reliability on: at least half of what varies over the map is
then common to both halves. By convention less is poor (Koo and Li 2016, J Chiropr Med 15:155)."""

ALIKE = 0.5
"""A map is of the encoder's structure, not of what it learned, if it correlates with that of
shuffled weights at least so far."""


@dataclass(frozen=True)
class Verdict:
    """Whether a map may be read.

    Parameters
    ----------
    good : bool
        Whether it passed every test that was made.
    why : str
        The first test it failed, in a few words; "passed" otherwise.
    """

    good: bool
    why: str

    @property
    def stamp(self) -> str:
        """What is written across a map that failed; empty for one that passed."""
        return "" if self.good else self.why.partition(":")[0]


def judge(
    p: float, likeness: float, *, reliability: float, reliability_p: float | None = None
) -> Verdict:
    """Pass a verdict on a head's map.

    Parameters
    ----------
    p : float
        Of the head's :func:`caption_information`, corrected for the number of heads; NaN where its
        captions are all the same.
    likeness : float
        :func:`similarity` to the map of shuffled weights, or of an encoder trained on shuffled
        labels; NaN where one is constant.
    reliability : float
        Of the maps of two halves (:func:`reliability`); NaN where one is constant or there is one.
    reliability_p : float, optional
        Of :func:`eegprompt.attribution.patterns.half_agreement`, corrected for the number of heads:
        then it decides, and not the size of `reliability`.

    Examples
    --------
    >>> judge(0.4, 0.1, reliability=0.9).why
    'head at chance: no better than chance on held-out trials'
    >>> judge(0.01, 0.1, reliability=0.9)
    Verdict(good=True, why='passed')
    >>> judge(0.01, 0.1, reliability=0.9, reliability_p=0.2).good
    False
    """
    if np.isnan(p):
        return Verdict(False, "constant head: all its captions are the same")
    if p >= ALPHA:
        return Verdict(False, "head at chance: no better than chance on held-out trials")
    if np.isnan(reliability):
        return Verdict(False, "reliability unknown: too few images to halve")
    if reliability < RELIABLE if reliability_p is None else reliability_p >= ALPHA:
        return Verdict(False, "not reliable: two halves of the trials disagree")
    if likeness >= ALIKE:
        return Verdict(False, "not learned: shuffled weights give much the same map")
    return Verdict(True, "passed")


@dataclass(frozen=True)
class Information:
    """Whether a head says anything about captions of trials it was not trained on.

    Parameters
    ----------
    accuracy : float
        Share of images with another caption that are less like what the head says than the right
        one: two-way identification, chance .5.
    p : float
        By permutation of captions among images; in (0, 1]. NaN where all captions are the same.
    n_units : int
        Images.
    """

    accuracy: float
    p: float
    n_units: int


def caption_information(
    output: np.ndarray,
    captions: np.ndarray,
    units: Sequence[Any] | np.ndarray,
    *,
    n_permutations: int = 999,
    seed: int = 0,
) -> Information:
    """Test whether a head's output on held-out trials goes with the captions of their images.

    Parameters
    ----------
    output : array (n_trials, n_dims)
        What the head says.
    captions : array (n_trials, n_dims)
        Embeddings of the true captions.
    units : sequence (n_trials,)
        The image of each trial; captions move between images, with all their trials.
    n_permutations, seed
        How many, and their seed.

    Returns
    -------
    Information

    Raises
    ------
    InputError
        If shapes do not match.
    """
    from scipy.stats import rankdata

    said = _unit_rows(np.asarray(output, dtype=np.float64))
    true = _unit_rows(np.asarray(captions, dtype=np.float64))
    _, first, code = np.unique(
        np.asarray(units).astype(str), return_index=True, return_inverse=True
    )
    if said.shape != true.shape or code.shape != (len(said),):
        raise InputError(
            f"output, captions and units must agree, got {said.shape}, {true.shape} and {code.shape}"
        )
    n = len(first)
    mean = np.zeros((n, said.shape[1]))
    np.add.at(mean, code, said)
    mean /= np.bincount(code)[:, None]
    _, kept, caption = np.unique(
        true[first].round(5), axis=0, return_index=True, return_inverse=True
    )
    caption = caption.ravel()
    count = np.bincount(caption)[caption]  # units with the same caption as each
    if len(kept) < 2:
        return Information(0.5, float("nan"), n)
    likeness = (mean @ true[first][kept].T)[:, caption]  # (unit, caption of unit)
    # beats[i, j]: share of units with another caption than j's that unit i is less like than j's,
    # ties counted half. Average ranks count half of the ties, among them those with j's own caption.
    beats = (rankdata(likeness, axis=1) - (count + 1) / 2) / (n - count)
    accuracy = float(beats.diagonal().mean())
    rng = np.random.default_rng(seed)
    null = np.array([beats[np.arange(n), rng.permutation(n)].mean() for _ in range(n_permutations)])
    return Information(accuracy, float((1 + (null >= accuracy - 1e-12).sum()) / (1 + len(null))), n)


def shuffled_weights(encoder: nn.Module, seed: int = 0) -> nn.Module:
    """A copy whose weights are those of the encoder in another order, tensor by tensor.

    The order destroys what was learned and keeps the scale of every layer, which a fresh
    initialization would not: a read-out that starts at zero says nothing at all.

    Parameters
    ----------
    encoder : torch.nn.Module
        Left as it is.
    seed : int
        Of the order.
    """
    other = copy.deepcopy(encoder)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator)
            flat = parameter.detach().cpu().reshape(-1)[order]
            parameter.copy_(flat.reshape(parameter.shape).to(parameter))
    return other


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the energies of two maps of one shape; NaN where one is constant.

    Squares, and zero where a map is negative: most of a map is noise about zero, and what that
    does says nothing about where the map points.

    Examples
    --------
    >>> similarity(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    1.0
    """
    a, b = (np.maximum(np.asarray(m, dtype=np.float64).ravel(), 0) ** 2 for m in (one, other))
    if not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return float("nan")
    return float(round(np.corrcoef(a, b)[0, 1], 12))


def reliability(one: np.ndarray, other: np.ndarray) -> float:
    """How reliable a map of all trials is, judged by the :func:`similarity` of two halves.

    Spearman and Brown's 2r / (1 + r); at least -1, NaN where a half is constant.

    Examples
    --------
    >>> reliability(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    1.0
    """
    r = similarity(one, other)
    return float(max(2 * r / (1 + r), -1.0)) if r > -0.9 else r


def halves(units: Sequence[Any] | np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split trials into two halves that share no image.

    Parameters
    ----------
    units : sequence (n_trials,)
        The image of each trial.
    seed : int
        Of the split.

    Returns
    -------
    one, other : array of int
        Rows; empty where there is only one image.
    """
    names, code = np.unique(np.asarray(units).astype(str), return_inverse=True)
    chosen = np.random.default_rng(seed).permutation(len(names)) < len(names) // 2
    inside = chosen[code]
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
