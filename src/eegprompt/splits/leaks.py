"""Which trials share samples of the recording: they never stand on two sides of a split."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import SplitError
from eegprompt.study import Study
from eegprompt.study.split import Fold, Split

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LEAKS",
    "Leak",
    "check_leaks",
    "check_overlap",
    "has_onsets",
    "leaks",
    "overlapping",
    "recording_index",
    "repeated_trials",
    "shared_images",
]

SIDES = (("train", "val"), ("train", "test"), ("val", "test"))

LEAKS = {
    "images": "the same image is shown on two sides",
    "repetitions": "one presentation stands on two sides, as two trials",
    "samples": "trials of two sides share samples of the recording",
    "subjects": "a subject who should be left out stands on two sides",
}
"""What two sides of a split may not have in common, by the word that allows it."""

_SUBJECTS_APART = ("by-subject", "leave-one-subject-out", "leave-subject-out")
_CHUNK = 1024  # trials whose fingerprints are taken at once


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
    for a, b in SIDES:
        both = overlapping(study, getattr(fold, a), getattr(fold, b))
        if both.any():
            ids = getattr(fold, a)[both][:5].tolist()
            raise SplitError(
                f"{int(both.sum())} trials of the {a} set share samples with trials of the {b} set "
                f"(first: {ids}); keep neighbors in time together, or leave out those between"
            )


def shared_images(study: Study, fold: Fold) -> dict[tuple[str, str], list[str]]:
    """Images, by id or by equal image, that are shown on two sides.

    Returns
    -------
    dict of (side, side) to list of str
        Image ids; empty where only the category of what was shown is known.
    """
    if study.image_identity != "known":
        return {}
    key = image_keys(study)
    image = study.trials["image_id"].map(key).to_numpy()
    result = {}
    for a, b in SIDES:
        both = np.intersect1d(
            image[getattr(fold, a)].astype(str), image[getattr(fold, b)].astype(str)
        )
        if len(both):
            result[a, b] = both.tolist()
    return result


def image_keys(study: Study) -> dict[str, str]:
    """Image id -> the first id with an equal image: one image under two names is one image."""
    first: dict[str, str] = {}
    result = {}
    for image_id, digest in zip(study.images["image_id"], study.images["sha256"]):
        key = str(digest) if isinstance(digest, str) and digest else f"id:{image_id}"
        result[str(image_id)] = first.setdefault(key, str(image_id))
    return result


@dataclass(frozen=True)
class Leak:
    """What two sides of a fold have in common and should not.

    Parameters
    ----------
    kind : str
        A word of :data:`LEAKS`.
    sides : tuple of str
        Two of train, val and test.
    count : int
        How many images, trials or subjects.
    first : tuple of str
        The first few of them.
    """

    kind: str
    sides: tuple[str, str]
    count: int
    first: tuple[str, ...]

    def __str__(self) -> str:
        noun = {
            "images": "image",
            "repetitions": "presentation",
            "samples": "trial",
            "subjects": "subject",
        }[self.kind]
        many = self.count != 1
        share = {
            "images": "are shown on" if many else "is shown on",
            "repetitions": "stand on" if many else "stands on",
            "samples": "share samples between" if many else "shares samples between",
            "subjects": "stand on" if many else "stands on",
        }[self.kind]
        a, b = self.sides
        listing = ", ".join(self.first)
        return f"{self.count} {noun}{'s' * many} {share} both {a} and {b} (first: {listing})"


def leaks(study: Study, fold: Fold, how: dict[str, Any] | None = None) -> list[Leak]:
    """Everything that two sides of a fold share and should not.

    That validation and test are one set needs no look here: a :class:`~eegprompt.study.split.Fold` with a
    trial on two sides cannot be made.

    Parameters
    ----------
    study : Study
    fold : Fold
        One of its folds.
    how : dict, optional
        How the split was made; a split by subject promises to keep subjects apart.

    Returns
    -------
    list of Leak
        By kind and sides; empty where nothing leaks.
    """
    found: list[Leak] = []

    def add(kind: str, sides: tuple[str, str], shared: Any) -> None:
        values = [str(v) for v in shared]
        if values:
            found.append(Leak(kind, sides, len(values), tuple(values[:3])))

    for sides, images in shared_images(study, fold).items():
        add("images", sides, images)
    presentation = repeated_trials(study)
    subject = study.trials["subject"].astype(str).to_numpy()
    apart = str((how or {}).get("kind")) in _SUBJECTS_APART
    for a, b in SIDES:
        here, there = getattr(fold, a), getattr(fold, b)
        both = np.intersect1d(presentation[here], presentation[there])
        add("repetitions", (a, b), [f"trial {t}" for t in here[np.isin(presentation[here], both)]])
        again = np.isin(presentation[here], both)  # its own copy shares samples, of course
        sharing = here[overlapping(study, here, there) & ~again]
        add("samples", (a, b), [f"trial {t}" for t in sharing])
        if apart and b == "test":
            add("subjects", (a, b), np.intersect1d(subject[here], subject[there]))
    return found


def check_leaks(
    study: Study, split: Split, index: int, allow_leakage: Collection[str] = ()
) -> list[str]:
    """Refuse a fold whose sides share what they should not, but for what is allowed.

    Parameters
    ----------
    study : Study
    split : Split
        One of its splits.
    index : int
        The fold, counted from 0.
    allow_leakage : collection of str
        Words of :data:`LEAKS` that are let pass.

    Returns
    -------
    list of str
        What was let pass, in words; empty where nothing leaks.

    Raises
    ------
    SplitError
        If something leaks that is not allowed.
    """
    found = leaks(study, split.fold(index), split.how)
    refused = [leak for leak in found if leak.kind not in allow_leakage]
    if refused:
        kinds = ",".join(dict.fromkeys(leak.kind for leak in refused))
        raise SplitError(
            f"fold {index} of split '{split.name}' leaks: {'; '.join(map(str, refused))}; split "
            "otherwise ('eegprompt split'), or train with --allow-leakage "
            f"{kinds} if this is what you want: the allowed leakage is printed wherever a score is"
        )
    return [str(leak) for leak in found]


def repeated_trials(study: Study) -> np.ndarray:
    """Number of the presentation each trial was cut from; equal where a trial stands there twice.

    Two trials are one presentation where subject, session, run and place in the order agree, or the
    EEG is the same to the last bit.

    Parameters
    ----------
    study : Study

    Returns
    -------
    array of int, shape (n_trials,)
        The first trial of the presentation.
    """
    first: dict[Any, int] = {}
    result = np.arange(study.n_trials)
    recording = recording_index(study.trials)
    order = study.trials["order"].to_numpy()
    for placed in np.flatnonzero(order >= 0).tolist():
        result[placed] = first.setdefault((recording[placed], order[placed]), placed)
    # One channel tells trials apart; those alike in it are compared in full.
    channel = study.n_chans // 2
    alike: dict[bytes, int] = {}
    for start in range(0, study.n_trials, _CHUNK):
        block = np.ascontiguousarray(study.eeg[start : start + _CHUNK, channel])
        varies = block.size > 0 and np.ptp(block, axis=1) > 0
        for row in np.flatnonzero(varies):
            trial = start + int(row)
            other = alike.setdefault(block[row].tobytes(), trial)
            if other != trial and np.array_equal(study.eeg[other], study.eeg[trial]):
                result[trial] = result[other]
    return result
