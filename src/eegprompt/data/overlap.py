"""Which trials share samples of the recording: they never stand on two sides of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegprompt.errors import SplitError
from eegprompt.study import Study
from eegprompt.types import Fold

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_overlap", "has_onsets", "overlapping", "recording_index", "shared_images"]


def recording_index(trials: pd.DataFrame) -> np.ndarray:
    """Number of the recording (subject, session, run) each trial was cut from.

    Parameters
    ----------
    trials : pandas.DataFrame
        A study's trials.

    Returns
    -------
    array of int, shape (n_trials,)
        Counted from 0 in the order in which recordings occur.
    """
    columns = ["subject", "session", "run"]
    return trials.groupby(columns, sort=False).ngroup().to_numpy().astype(np.int64)


def has_onsets(study: Study) -> bool:
    """Whether the time of every trial is known, so that shared samples can be found."""
    return bool(np.isfinite(study.trials["onset"].to_numpy(dtype=np.float64)).all())


def overlapping(study: Study, trials: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `trials` share a sample with any of `others`.

    Trials of a study are equally long, so two of one recording share samples when their onsets are
    closer than a trial is long (less half a sample, for onsets are rounded).

    Parameters
    ----------
    study : Study
    trials, others : array of int
        Trial ids.

    Returns
    -------
    array of bool, shape (len(trials),)
        False for trials whose onset is not known.
    """
    trials, others = np.asarray(trials, dtype=np.int64), np.asarray(others, dtype=np.int64)
    onset = study.trials["onset"].to_numpy(dtype=np.float64)
    recording = recording_index(study.trials)
    length = (study.n_times - 0.5) / study.sfreq
    result = np.zeros(len(trials), bool)
    for index in np.intersect1d(recording[trials], recording[others]):
        here = np.flatnonzero(recording[trials] == index)
        theirs = onset[others[recording[others] == index]]
        theirs = np.sort(theirs[np.isfinite(theirs)])
        if not len(theirs):
            continue
        times = onset[trials[here]]
        right = np.searchsorted(theirs, times).clip(0, len(theirs) - 1)
        left = (right - 1).clip(0)
        nearest = np.minimum(np.abs(theirs[right] - times), np.abs(theirs[left] - times))
        result[here] = nearest < length  # NaN compares false
    return result


def check_overlap(study: Study, fold: Fold) -> None:
    """Assert that no trial shares samples with a trial of another side.

    Raises
    ------
    SplitError
        If some do.
    """
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        both = overlapping(study, getattr(fold, a), getattr(fold, b))
        if both.any():
            ids = getattr(fold, a)[both][:5].tolist()
            raise SplitError(
                f"{int(both.sum())} trials of the {a} side share samples with trials of the {b} side "
                f"(first: {ids}); keep neighbors in time together, or leave out those between"
            )


def shared_images(study: Study, fold: Fold) -> dict[tuple[str, str], list[str]]:
    """Images, by id or by equal picture, that are shown on two sides.

    Returns
    -------
    dict of (side, side) to list of str
        Image ids; empty where only the category of what was shown is known.
    """
    if study.image_identity != "known":
        return {}
    key = picture_keys(study)
    image = study.trials["image_id"].map(key).to_numpy()
    result = {}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        both = np.intersect1d(
            image[getattr(fold, a)].astype(str), image[getattr(fold, b)].astype(str)
        )
        if len(both):
            result[a, b] = both.tolist()
    return result


def picture_keys(study: Study) -> dict[str, str]:
    """Image id -> the first id with an equal picture: one picture under two names is one image."""
    first: dict[str, str] = {}
    result = {}
    for image_id, digest in zip(study.images["image_id"], study.images["sha256"]):
        key = str(digest) if isinstance(digest, str) and digest else f"id:{image_id}"
        result[str(image_id)] = first.setdefault(key, str(image_id))
    return result
