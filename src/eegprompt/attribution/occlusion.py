"""What each head loses when it is not shown some channels, or some stretch of time.

What is taken away is replaced by the mean trial: nothing that tells trials apart remains there,
and the response that all images evoke does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eegprompt.attribution.question import Question, evaluating, mean_trial
from eegprompt.core.errors import InputError
from eegprompt.core.progress import Progress

__all__ = ["channel_groups", "channel_occlusion", "window_occlusion"]


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


def channel_occlusion(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any = None,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    groups: np.ndarray | None = None,
    baseline: Any = None,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """By how much each head's loss rises when a group of channels is replaced.

    Parameters
    ----------
    encoder, trials, captions, positions, subject, candidates, scales
        As in :func:`eegprompt.attribution.gradients.saliency`.
    groups : bool array (n_groups, n_chans), optional
        What is replaced together (:func:`channel_groups`); every channel alone if not given.
        Neighbors see much the same, so that a channel alone is hardly missed.
    baseline : array (n_chans, n_times), optional
        What stands in for it; the mean trial if not given.
    batch_size : int
        Trials at a time.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    dict of str to array (n_groups,)
        Mean rise of the loss in nats; positive where the channels were of use.
    """
    n_chans = np.shape(trials)[1]
    groups = np.eye(n_chans, dtype=bool) if groups is None else np.asarray(groups, dtype=bool)
    masks = torch.from_numpy(groups)[:, :, None]
    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    return _rise(question, masks, baseline, batch_size, progress, "occluding channels")


def window_occlusion(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any = None,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    width: int,
    step: int | None = None,
    baseline: Any = None,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """By how much each head's loss rises when a stretch of time is replaced, in all channels.

    Parameters
    ----------
    encoder, trials, captions, positions, subject, candidates, scales
        As in :func:`eegprompt.attribution.gradients.saliency`.
    width : int
        Samples that are replaced.
    step : int, optional
        Samples from one stretch to the next; half of `width` if not given.
    baseline, batch_size, progress
        As in :func:`channel_occlusion`.

    Returns
    -------
    centers : array (n_windows,)
        Middle of each stretch, in samples.
    rises : dict of str to array (n_windows,)
        Mean rise of the loss in nats.

    Raises
    ------
    InputError
        If `width` does not fit the trials.
    """
    n_times = np.shape(trials)[2]
    if not 1 <= width <= n_times:
        raise InputError(f"width must lie between 1 and the {n_times} samples, got {width}")
    starts = np.arange(0, n_times - width + 1, step or max(width // 2, 1))
    masks = torch.zeros(len(starts), 1, n_times, dtype=torch.bool)
    for row, start in enumerate(starts):
        masks[row, 0, start : start + width] = True
    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    rises = _rise(question, masks, baseline, batch_size, progress, "occluding windows")
    return starts + (width - 1) / 2, rises


@torch.no_grad()
def _rise(
    question: Question,
    masks: Tensor,
    baseline: Any,
    batch_size: int,
    progress: Progress | None,
    label: str,
) -> dict[str, np.ndarray]:
    """Mean rise of each head's loss under each mask (broadcast to a trial's shape)."""
    stand_in = mean_trial(question.trials, batch_size) if baseline is None else baseline
    stand_in = torch.as_tensor(stand_in).float().to(question.device)
    masks = masks.to(question.device)
    total = {head: np.zeros(len(masks)) for head in question.heads}
    with evaluating(question.encoder):
        for rows, eeg in question.batches(batch_size):
            before = question.losses(eeg, rows)
            for number, mask in enumerate(masks):
                after = question.losses(torch.where(mask, stand_in, eeg), rows)
                for head, loss in after.items():
                    total[head][number] += float((loss - before[head]).sum())
            if progress is not None:
                progress(int(rows[-1]) + 1, len(question), label)
    return {head: values / len(question) for head, values in total.items()}
