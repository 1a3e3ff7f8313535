"""Splits that come with a dataset: lists of places, a folder a side, or a training and a test part.

A place in a list means nothing without the list. Filtering first (by subject, by length) and then
counting moves every later trial to another side unseen; so places are resolved first, on the list
they were written for, and what was filtered out is left out afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import SplitError
from eegprompt.core.files import sha256_file
from eegprompt.core.safe_pickle import load_pickled
from eegprompt.splits.base import check_split, of_subject
from eegprompt.splits.leaks import has_onsets, image_keys, shared_images
from eegprompt.study import Study
from eegprompt.study.split import Fold, Split

__all__ = [
    "NumberedSplit",
    "drawn_groups",
    "official",
    "write_numbered",
    "write_sides",
    "write_train_test",
]

SIDES = ("train", "val", "test")


@dataclass(frozen=True)
class NumberedSplit:
    """A split file, resolved to places in the whole list of a dataset.

    Parameters
    ----------
    file : pathlib.Path
    name : str
        What the split will be called in the study.
    numbered : str
        Which list the file's places count, in words.
    folds : list of dict
        For each fold and side, places in the whole list.
    """

    file: Path
    name: str
    numbered: str
    folds: list[dict[str, np.ndarray]]

    @classmethod
    def of(
        cls,
        file: Path,
        name: str,
        listed: np.ndarray,
        numbered: str,
        images: Sequence[str] | None,
    ) -> NumberedSplit:
        """Read ``{"splits": [{"train": [...], "val": [...], "test": [...]}, ...]}``.

        Parameters
        ----------
        file : pathlib.Path
            Written by ``torch.save``.
        name : str
            What the split will be called.
        listed : array of int
            The list that the file's places count, as places in the whole list.
        numbered : str
            That list in words.
        images : sequence of str, optional
            Image of each trial of the whole list, to check that none stands on two sides.

        Raises
        ------
        SplitError
            With the file and the key, if a place lies past the end, stands on two sides or twice
            on one, or an image on two.
        """
        content = load_pickled(file)
        entries = content.get("splits") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise SplitError(
                f"{file} should hold a dictionary whose 'splits' is a list; it is no split file of "
                "this dataset"
            )
        folds = [_resolved(entry, f"splits[{i}]", file, listed) for i, entry in enumerate(entries)]
        for i, fold in enumerate(folds):
            for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
                both = np.intersect1d(fold[a], fold[b])
                if len(both):
                    raise SplitError(
                        f"{file}: splits[{i}] puts {len(both)} trials on both the {a} and the {b} "
                        f"side (first: place {both[0]} of the whole list); get it from its source again"
                    )
                if images is None:
                    continue
                shown = {images[p] for p in fold[a]} & {images[p] for p in fold[b]}
                if shown:
                    raise SplitError(
                        f"{file}: splits[{i}] shows {len(shown)} images on both the {a} and the {b} "
                        f"side (first: {min(shown)}), resolved on {numbered}; it was written for "
                        "another list, or for another release of the recordings"
                    )
        return cls(file, name, numbered, folds)


def _resolved(entry: Any, key: str, file: Path, listed: np.ndarray) -> dict[str, np.ndarray]:
    if not isinstance(entry, dict) or any(side not in entry for side in SIDES):
        raise SplitError(f"{file}: {key} should hold the keys {', '.join(SIDES)}")
    sides = {}
    for side in SIDES:
        given = entry[side]
        if isinstance(given, np.ndarray):
            given = given.tolist()
        if not isinstance(given, (list, tuple)) or not all(type(n) is int for n in given):
            raise SplitError(f"{file}: {key}['{side}'] should be a list of whole numbers")
        places = np.array(given, np.int64)
        outside = (places < 0) | (places >= len(listed))
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            raise SplitError(
                f"{file}: {key}['{side}'][{at}] is {places[at]}, and the list it numbers has the "
                f"places 0 to {len(listed) - 1}; the split is for another release of the recordings, "
                "or for another subject"
            )
        if len(np.unique(places)) < len(places):
            raise SplitError(
                f"{file}: {key}['{side}'] lists a trial twice; get it from its source again"
            )
        sides[side] = listed[places]
    return sides


def write_numbered(study: Study, split: NumberedSplit, kept: np.ndarray) -> Split:
    """Write a dataset's own split into a study of part of its trials.

    Parameters
    ----------
    study : Study
    split : NumberedSplit
    kept : array of int, shape (n_trials,)
        Place in the dataset's whole list of each trial of the study.

    Raises
    ------
    SplitError
        If no trial is left on a side.
    """
    everything = [kept, *(places for sides in split.folds for places in sides.values())]
    trial_of = np.full(1 + max(int(places.max(initial=0)) for places in everything), -1)
    trial_of[kept] = np.arange(len(kept))
    folds, left_out = [], []
    for i, sides in enumerate(split.folds):
        found = {side: trial_of[places] for side, places in sides.items()}
        left_out.append({side: int((ids < 0).sum()) for side, ids in found.items()})
        found = {side: np.sort(ids[ids >= 0]) for side, ids in found.items()}
        for side, ids in found.items():
            if not len(ids):
                raise SplitError(
                    f"{split.file}: none of the trials of splits[{i}]['{side}'] is among those that "
                    "were kept; keep more subjects or lengths, or leave the file out"
                )
        folds.append(Fold(**found))
    how: dict[str, Any] = {
        "kind": "official",
        "file": split.file.name,
        "sha256": sha256_file(split.file),
        "numbers": split.numbered,
        "kept_apart": ["images"],
        "left_out_for_filters": left_out,
        "n_trials": study.n_trials,
    }
    return _written(study, split.name, folds, how)


def write_sides(study: Study, side: Sequence[str], source: str) -> Split:
    """Write the split of a dataset that lies in a folder or file a side.

    Parameters
    ----------
    study : Study
    side : sequence of {"train", "val", "test"}
        Of each trial.
    source : str
        What the sides were read from, for messages and the record.

    Raises
    ------
    SplitError
        If an image stands on two sides, or a side is empty.
    """
    sides = np.asarray(side)
    found = {name: np.flatnonzero(sides == name) for name in SIDES}
    image = study.trials["image_id"].to_numpy().astype(str)
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        shown = np.intersect1d(image[found[a]], image[found[b]])
        if len(shown):
            raise SplitError(
                f"{source}: {len(shown)} images are shown on both the {a} and the {b} set (first: "
                f"{shown[0]}); pass 'official=false' to import without this split, and make one with "
                "'eegprompt split'"
            )
    for name, ids in found.items():
        if not len(ids):
            raise SplitError(
                f"{source}: the {name} set has no trial; pass 'official=false' to import without "
                "this split"
            )
    how: dict[str, Any] = {
        "kind": "official",
        "file": source,
        "kept_apart": ["images"],
        "n_trials": study.n_trials,
    }
    return _written(study, "official", [Fold(**found)], how)


def drawn_groups(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which trials belong to the groups (concepts, images, runs) that a seed draws to validate.

    Parameters
    ----------
    groups : array of str, shape (n_trials,)
        Group of each training trial; empty for trials of other sides, which are never drawn.
    fraction : float
        Of the groups; at least one is drawn, and one left.
    seed : int

    Returns
    -------
    array of bool, shape (n_trials,)
    """
    names = np.unique(groups[groups != ""])
    n = min(max(1, round(fraction * len(names))), max(len(names) - 1, 0))
    return np.isin(groups, np.random.default_rng(seed).permutation(names)[:n]) & (groups != "")


def write_train_test(
    study: Study,
    partition: np.ndarray,
    validates: np.ndarray,
    *,
    validation: str,
    images_apart: bool,
    **how: Any,
) -> Split:
    """Write a dataset's own two sides as a split with a validation set taken from training.

    Parameters
    ----------
    study : Study
    partition : array of str, shape (n_trials,)
        ``"train"``, ``"test"``, or something else for trials on no side.
    validates : array of bool, shape (n_trials,)
        Training trials that select; where images are kept apart, training trials of their images
        are left out.
    validation : str
        How they were chosen, for the record.
    images_apart : bool
        Claim, and assert, that no image stands on two sides.
    **how
        More for the record.

    Returns
    -------
    Split

    Raises
    ------
    SplitError
        If a side is empty, or sides share an image or a sample.
    """
    in_train = (partition == "train") & ~validates
    in_val = (partition == "train") & validates
    left_out = 0
    if images_apart:
        image = study.trials["image_id"].map(image_keys(study)).to_numpy().astype(str)
        shared = in_train & np.isin(image, np.unique(image[in_val]))
        left_out = int(shared.sum())
        in_train &= ~shared
    test = np.flatnonzero(partition == "test")
    if not (in_train.any() and in_val.any() and len(test)):
        raise SplitError(
            f"the dataset's own split would have {int(in_train.sum())} training, {int(in_val.sum())} "
            f"validation and {len(test)} test trials; import both of its parts, and more of them"
        )
    record: dict[str, Any] = {
        "kind": "official",
        **how,
        "validation": validation,
        "kept_apart": (["samples"] if has_onsets(study) else [])
        + (["images"] if images_apart else []),
        "left_out_for_images": left_out,
        "folds": ["the dataset's test part"],
        "n_trials": study.n_trials,
    }
    if not has_onsets(study):
        record["note"] = "onsets are not known, so shared samples could not be looked for"
    split = Split(
        "official", (Fold(np.flatnonzero(in_train), np.flatnonzero(in_val), test),), record
    )
    check_split(study, split)
    study.write_split(split)
    return split


def _written(study: Study, name: str, folds: list[Fold], how: dict[str, Any]) -> Split:
    """Check a dataset's own split and write it into the study."""
    twice = [images for fold in folds for images in shared_images(study, fold).values()]
    if twice:
        # Names were kept apart; the images behind two of them are one file.
        how["kept_apart"] = []
        how["note"] = f"equal images under several names stand on two sides: {twice[0][:5]}"
    made = Split(name, tuple(folds), how)
    check_split(study, made)
    study.write_split(made)
    return made


def official(
    study: Study, *, subject: str | None = None, source: str = "official", name: str | None = None
) -> Split:
    """Take the dataset's own split, of all trials or of one subject's.

    A dataset's own split is written when the dataset is imported, resolved on the list it was made
    for; here trials are only left out of it, never counted anew.

    Parameters
    ----------
    study : Study
        One whose import brought a split.
    subject : str, optional
        Keep this subject's trials only.
    source : str, default "official"
        Name of the split in the study, where it has several.
    name : str, optional
        Default ``"official"``, or ``"official-subject-NAME"``.

    Raises
    ------
    SplitError
        If the dataset brought none, or a side would be empty.
    """
    if source not in study.split_names():
        raise SplitError(
            f"{study.path} has no split '{source}'; a dataset's own split comes with 'eegprompt "
            f"import' (splits there: {', '.join(study.split_names()) or 'none'})"
        )
    given = study.split(source)
    if given.how.get("kind") != "official":
        raise SplitError(
            f"the split '{source}' of {study.path} was not brought by the dataset; name the one that "
            "was with 'source'"
        )
    eligible = of_subject(study, subject)
    folds = []
    for index, fold in enumerate(given.folds):
        sides = {s: np.intersect1d(getattr(fold, s), eligible) for s in ("train", "val", "test")}
        empty = [side for side, ids in sides.items() if not len(ids)]
        if empty:
            raise SplitError(
                f"subject {subject} has no trial on the {empty[0]} side of fold {index} of '{source}'; "
                "use another subject, or another kind of split"
            )
        folds.append(Fold(**sides))
    how = dict(given.how)
    if subject is not None:
        how |= {"subject": subject, "source": source}
    default = source if subject is None else f"{source}-subject-{subject}"
    split = Split(name or default, tuple(folds), how)
    check_split(study, split)
    return split
