"""Which test trials are generated: as many of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eegprompt.core.files import content_key

__all__ = ["select_trials"]


def select_trials(
    image_ids: Sequence[Any], trial_ids: np.ndarray, trials_per_image: int | None, seed: int
) -> np.ndarray:
    """Choose test trials to draw, as many of each image.

    Parameters
    ----------
    image_ids : sequence, length n_trials
        The image each trial of the study showed.
    trial_ids : array of int
        The trials to choose from.
    trials_per_image : int or None
        At most this many of each image; None chooses all.
    seed : int
        The choice depends on this and the trial ids alone; a larger number adds trials to the
        choice and takes none away.

    Returns
    -------
    array of int64
        Sorted.
    """
    if trials_per_image is None:
        return np.sort(np.asarray(trial_ids, dtype=np.int64))
    by_image: dict[Any, list[int]] = {}
    for trial in np.asarray(trial_ids).tolist():
        by_image.setdefault(image_ids[trial], []).append(trial)
    chosen: list[int] = []
    for trials in by_image.values():
        ranked = sorted(trials, key=lambda trial: content_key("drawn", int(seed), trial))
        chosen += ranked[:trials_per_image]
    return np.array(sorted(chosen), dtype=np.int64)
