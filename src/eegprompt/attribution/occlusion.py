"""What each head loses when some channels, or a segment of time, are hidden from it.

What is hidden is replaced by the mean trial: nothing that tells trials apart remains there, and the
response that all images evoke does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from eegprompt.attribution.question import Question, evaluating
from eegprompt.core.errors import InputError
from eegprompt.core.progress import Progress

__all__ = [
    "Curves",
    "channel_groups",
    "channel_occlusion",
    "deletion_insertion",
    "losses_when_hidden",
    "window_occlusion",
]

FORWARD = 256  # trials that pass the encoder at once, over all that is hidden


@torch.no_grad()
def losses_when_hidden(
    question: Question,
    hidden: np.ndarray,
    *,
    baseline: Any = None,
    progress: Progress | None = None,
    label: str = "occlusion",
) -> dict[str, np.ndarray]:
    """Mean loss of each head with parts of the EEG replaced.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    hidden : bool array (n_masks, n_chans, n_times)
        What is replaced; an axis of length 1 is repeated.
    baseline : array (n_chans, n_times), optional
        What stands in for it; the mean trial if not given.
    progress : callable, optional
        Called with (done, total, label).
    label : str
        What is done.

    Returns
    -------
    dict of str to array (n_masks,)
        By head, in nats.
    """
    stand_in = question.tensor(question.mean_trial() if baseline is None else baseline)
    masks = torch.from_numpy(np.asarray(hidden, dtype=bool)).to(question.device)
    total = {head: np.zeros(len(masks)) for head in question.heads}
    with evaluating(question.encoder):
        for rows, eeg in question.batches(FORWARD // 2):
            several = max(1, FORWARD // len(rows))
            for start in range(0, len(masks), several):
                some = masks[start : start + several]
                shown = torch.where(some[:, None], stand_in, eeg).flatten(0, 1)
                for head, loss in question.losses(shown, rows.repeat(len(some))).items():
                    each = loss.unflatten(0, (len(some), len(rows))).double().sum(dim=1)
                    total[head][start : start + len(some)] += each.cpu().numpy()
            if progress is not None:
                progress(int(rows[-1]) + 1, len(question), label)
    return {head: values / len(question) for head, values in total.items()}


def channel_groups(positions: np.ndarray | None, n_chans: int, n_neighbors: int) -> np.ndarray:
    """Each channel with its nearest neighbors.

    Parameters
    ----------
    positions : array (n_chans, 3) or None
        Meters; a channel without a position (NaN), and every one if None, stands alone.
    n_chans : int
        Number of channels.
    n_neighbors : int
        Channels of a group, itself counted.

    Returns
    -------
    bool array (n_groups, n_chans)
        Row i is the group of channel i.
    """
    groups = np.eye(n_chans, dtype=bool)
    if positions is None or n_neighbors < 2:
        return groups
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    distance = np.linalg.norm(positions[known][:, None] - positions[known][None], axis=2)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :n_neighbors]
    for row, others in zip(known, nearest):
        groups[row, known[others]] = True
    return groups


def _rise(question: Question, masks: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    """Mean rise of each head's loss under each mask; with nothing hidden the loss is measured too."""
    nothing = np.zeros((1, *masks.shape[1:]), dtype=bool)
    losses = losses_when_hidden(question, np.concatenate([nothing, masks]), **options)
    return {head: values[1:] - values[0] for head, values in losses.items()}


def channel_occlusion(
    question: Question, *, groups: np.ndarray | None = None, **options: Any
) -> dict[str, np.ndarray]:
    """By how much each head's loss rises when a group of channels is replaced.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    groups : bool array (n_groups, n_chans), optional
        What is replaced together (:func:`channel_groups`); every channel alone if not given.
        Neighbors see much the same, so that a channel alone is hardly missed.
    **options
        `baseline` and `progress` of :func:`losses_when_hidden`.

    Returns
    -------
    dict of str to array (n_groups,)
        Mean rise of the loss in nats; positive where the channels were of use.
    """
    n_chans = np.shape(question.trials)[1]
    groups = np.eye(n_chans, dtype=bool) if groups is None else np.asarray(groups, dtype=bool)
    return _rise(question, groups[:, :, None], label="occluding channels", **options)


def window_occlusion(
    question: Question, *, width: int, step: int | None = None, **options: Any
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """By how much each head's loss rises when a segment of time is replaced, in all channels.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    width : int
        Samples that are replaced.
    step : int, optional
        Samples from one segment to the next; half of `width` if not given.
    **options
        As in :func:`channel_occlusion`.

    Returns
    -------
    centers : array (n_windows,)
        Middle of each segment, in samples.
    rises : dict of str to array (n_windows,)
        Mean rise of the loss in nats.

    Raises
    ------
    InputError
        If `width` does not fit the trials.
    """
    n_times = np.shape(question.trials)[2]
    if not 1 <= width <= n_times:
        raise InputError(f"width must lie between 1 and the {n_times} samples, got {width}")
    starts = np.arange(0, n_times - width + 1, step or max(width // 2, 1))
    at = np.arange(n_times)
    masks = (at >= starts[:, None]) & (at < starts[:, None] + width)
    rises = _rise(question, masks[:, None], label="occluding windows", **options)
    return starts + (width - 1) / 2, rises


@dataclass(frozen=True)
class Curves:
    """Loss of a head while channels are deleted, or inserted, in the order of a map.

    Parameters
    ----------
    fractions : array (n_steps,)
        Share of channels deleted or inserted, from 0 to 1.
    deletion, insertion : array (n_steps,)
        Mean loss in nats: highest-ranked channels replaced first; highest-ranked shown first.
    deletion_random, insertion_random : array (n_orders, n_steps)
        The same in random orders.
    """

    fractions: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    deletion_random: np.ndarray
    insertion_random: np.ndarray

    @property
    def gain(self) -> float:
        """Area between the curves of the map and of random orders, over the whole rise.

        Mean of deletion and insertion; above 0 where the map is better than chance.
        """
        rise = self.deletion[-1] - self.deletion[0]
        if not abs(rise) > 1e-9:
            return 0.0
        deleted = np.trapezoid(self.deletion - self.deletion_random.mean(axis=0), self.fractions)
        shown = np.trapezoid(self.insertion_random.mean(axis=0) - self.insertion, self.fractions)
        return float((deleted + shown) / 2 / rise)


def deletion_insertion(
    question: Question,
    maps: Mapping[str, Mapping[str, np.ndarray]],
    *,
    fractions: Sequence[float] = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
    n_random: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Curves]]:
    """Delete channels, and insert them, in the order of each head's map.

    A deleted channel shows the mean trial. What several orders hide alike is computed once: random
    orders are the same for all maps, and every order begins and ends with the same channels.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    maps : mapping of name to mapping of head to array (n_chans,)
        Maps of several methods, larger where more should be lost.
    fractions : sequence of float
        From 0 to 1.
    n_random : int
        Random orders to compare with.
    seed : int
        Of these.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    dict of str to dict of str to Curves
        By name and head.
    """
    n_chans = np.shape(question.trials)[1]
    rng = np.random.default_rng(seed)
    counts = [round(fraction * n_chans) for fraction in fractions]
    place_of: dict[bytes, int] = {}
    masks: list[np.ndarray] = []

    def places(order: np.ndarray) -> np.ndarray:
        """Rows of `masks` that hide the first channels of an order, and all others: (2, n_steps)."""
        rank = np.argsort(order)
        both = [[rank < count for count in counts], [rank >= count for count in counts]]
        for mask in both[0] + both[1]:
            if mask.tobytes() not in place_of:
                place_of[mask.tobytes()] = len(masks)
                masks.append(mask)
        return np.array([[place_of[mask.tobytes()] for mask in way] for way in both])

    random = np.stack([places(rng.permutation(n_chans)) for _ in range(n_random)], axis=1)
    own = {
        (name, head): places(np.argsort(-values, kind="stable"))
        for name, by_head in maps.items()
        for head, values in by_head.items()
    }
    losses = losses_when_hidden(
        question, np.stack(masks)[:, :, None], progress=progress, label="deletion and insertion"
    )
    share = np.asarray(fractions, dtype=float)
    found: dict[str, dict[str, Curves]] = {name: {} for name in maps}
    for (name, head), rows in own.items():
        found[name][head] = Curves(share, *losses[head][rows], *losses[head][random])
    return found
