"""Splits by metadata, each re-derivable from its seed and asserted disjoint.

Every function takes a study and returns a :class:`~eegprompt.study.split.Split` whose `how` records the
call, what is kept apart and how many trials were left out for it. Two things hold for all of them:
trials that share samples of the recording never stand on two sides, and the validation set, which
selects, is cut from the training set, never from the test set.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from eegprompt.core.errors import InputError, SplitError, UnknownNameError
from eegprompt.core.registry import check_options, names, resolve
from eegprompt.splits.leaks import (
    check_overlap,
    has_onsets,
    image_keys,
    overlapping,
    recording_index,
    shared_images,
)
from eegprompt.study import Study
from eegprompt.study.split import Fold, Split

__all__ = ["ALIASES", "check_split", "make_split", "split_function"]

ValidationFrom = Literal["blocks", "group"]


SharedImages = Literal["shared", "apart"]


ALIASES: dict[str, tuple[str, int | None]] = {
    "group-kfold": ("by-subject", 5),
    "k-fold": ("by-image", 5),
    "kfold": ("by-image", 5),
    "leave-one-run-out": ("by-run", None),
    "leave-one-subject-out": ("by-subject", None),
    "loso": ("by-subject", None),
}


# -- what every split goes through ---------------------------------------------------------------
def _apart(
    study: Study, train: np.ndarray, val: np.ndarray, test: np.ndarray
) -> tuple[Fold, dict[str, int]]:
    """Leave out validation trials that share samples with test trials, then training trials that
    share samples with either; the test set stays whole."""
    n_train, n_val = len(train), len(val)
    val = val[~overlapping(study, val, test)]
    train = train[~overlapping(study, train, np.concatenate([val, test]))]
    left_out = {"train": n_train - len(train), "val": n_val - len(val)}
    if len(train) < 0.25 * n_train or len(val) < 0.25 * n_val:
        raise SplitError(
            f"trials overlap in time so much that keeping sides apart would cost {left_out['train']} "
            f"of {n_train} training and {left_out['val']} of {n_val} validation trials; split by run, "
            "session or subject instead, or import the study with shorter trials"
        )
    return Fold(np.sort(train), np.sort(val), np.sort(test)), left_out


def finish(
    study: Study,
    kind: str,
    name: str | None,
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    labels: list[str],
    images_apart: bool,
    same_classes: bool,
    **arguments: Any,
) -> Split:
    """Check every fold and record how the split was made."""
    folds, left_out = [], []
    for (train, val, test), label in zip(parts, labels):
        for side, ids in (("train", train), ("val", val), ("test", test)):
            if not len(ids):
                raise SplitError(
                    f"the {side} set of the fold '{label}' would be empty: {study.n_trials} trials "
                    "are too few for this split; use another kind, or other fractions"
                )
        fold, lost = _apart(study, train, val, test)
        folds.append(fold)
        left_out.append(lost)
    apart = []
    if has_onsets(study):
        apart.append("samples")
    if images_apart and study.image_identity == "known":
        apart.append("images")
    how = {
        "kind": kind,
        **arguments,
        "kept_apart": apart,
        "folds": labels,
        "left_out_for_overlap": left_out,
        "n_trials": study.n_trials,
    }
    if not images_apart and study.image_identity == "known":
        how["images_on_two_sides"] = [
            {f"{a}, {b}": len(images) for (a, b), images in shared_images(study, fold).items()}
            for fold in folds
        ]
    if not has_onsets(study):
        how["note"] = "onsets are not known, so shared samples could not be looked for"
    split = Split(name or kind, tuple(folds), how)
    check_split(study, split)
    if same_classes:
        _check_classes(study, split)
    return split


def check_split(study: Study, split: Split) -> None:
    """Assert what a split claims of itself.

    Samples are never shared between sides; images are not, where the split says so in
    ``how["kept_apart"]`` and the study knows which image was shown.

    Raises
    ------
    SplitError
        With the fold, what is shared and the first few of it.
    """
    for index, fold in enumerate(split.folds):
        check_overlap(study, fold)
        if "images" in split.how.get("kept_apart", ()):
            for (a, b), images in shared_images(study, fold).items():
                raise SplitError(
                    f"{len(images)} images are shown on both the {a} and the {b} set of fold "
                    f"{index} of split '{split.name}' (first: {images[:3]})"
                )


def _check_classes(study: Study, split: Split) -> None:
    """Classes that are tested must be trained, or the fold measures nothing."""
    category = categories(study)
    for fold, label in zip(split.folds, split.how["folds"]):
        missing = sorted(set(category[fold.test]) - set(category[fold.train]))
        validated = [name for name in missing if name in set(category[fold.val])]
        if validated:
            raise SplitError(
                f"in the fold '{label}' all training trials of {len(validated)} "
                f"class{'es' * (len(validated) > 1)} ({', '.join(validated[:5])}) would be in the "
                "validation set: there are too few trials of a class; give 'val' a smaller fraction "
                "or 'seed' another number"
            )
        if missing:
            listing = ", ".join(missing[:5])
            what = f"{len(missing)} class{'es' * (len(missing) > 1)}"
            other = "by image" if study.image_identity == "known" else "'forward-in-block'"
            raise SplitError(
                f"the fold '{label}' would test {what} never trained in it ({listing}): in this "
                f"study a class belongs to one run, session or subject; split {other}, or leave "
                "classes out on purpose with 'leave-classes-out'"
            )


def categories(study: Study) -> np.ndarray:
    """Category of each trial, as the table of images says."""
    of_image = dict(zip(study.images["image_id"], study.images["category"].astype(str)))
    return study.trials["image_id"].map(of_image).to_numpy().astype(str)


def in_order(study: Study, ids: np.ndarray) -> np.ndarray:
    """Trials in the order in which they were recorded; by id where that is not known."""
    onset = study.trials["onset"].to_numpy(dtype=np.float64)[ids]
    order = study.trials["order"].to_numpy()[ids]
    recording = recording_index(study.trials)[ids]
    time = onset if np.isfinite(onset).all() else order.astype(np.float64)
    return ids[np.lexsort((ids, time, recording))]


def checked_fraction(name: str, value: float) -> float:
    """A fraction in (0, 1), or an error that names it."""
    if not 0 < value < 0.9:
        raise InputError(f"'{name}' is a fraction of the trials between 0 and 0.9, got {value}")
    return float(value)


def blocks(
    study: Study, ids: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Part training trials into training and validation: one contiguous stretch a recording.

    Neighbors in time often share samples, and always share slow drifts, so validation trials are
    not strewn among training trials. Where the stretch lies is random, among the quarter of places
    where it mirrors the recording's classes best and all that are as good as the last of these.
    Places that would leave a class without a training trial are taken only where there is no other.
    """
    category = categories(study)
    recording = recording_index(study.trials)
    of_trial = np.unique(category, return_inverse=True)[1].ravel()
    left = np.bincount(of_trial[ids], minlength=int(of_trial.max(initial=0)) + 1)
    chosen: list[np.ndarray] = []
    for index in np.unique(recording[ids]):
        here = in_order(study, ids[recording[ids] == index])
        length = round(fraction * len(here))
        if length < 1 or length >= len(here):
            continue
        _, codes = np.unique(category[here], return_inverse=True)
        one_hot = np.eye(codes.max() + 1)[codes]
        counts = np.concatenate([np.zeros((1, one_hot.shape[1])), one_hot.cumsum(axis=0)])
        shares = (counts[length:] - counts[:-length]) / length
        distance = np.abs(shares - one_hot.mean(axis=0)).sum(axis=1)
        taken = np.round(shares * length).astype(np.int64)
        keeps = (left[np.unique(of_trial[here])] > taken).all(axis=1)
        places = np.flatnonzero(keeps) if keeps.any() else np.arange(len(distance))
        best = places[np.argsort(distance[places], kind="stable")]
        worst = distance[best[max(1, len(best) // 4) - 1]]
        best = best[distance[best] <= worst + 1e-9]  # rounding does not part equals
        start = int(rng.choice(best))
        chosen.append(here[start : start + length])
        left -= np.bincount(of_trial[chosen[-1]], minlength=len(left))
    val = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    return np.setdiff1d(ids, val), val


def leave_group_out(
    study: Study,
    kind: str,
    groups: np.ndarray,
    what: str,
    *,
    name: str | None,
    seed: int,
    val: float,
    val_from: ValidationFrom,
    folds: int | None,
    within: np.ndarray | None,
    eligible: np.ndarray,
    images: SharedImages,
    test: float,
    **arguments: Any,
) -> Split:
    """Folds that each leave out a group of trials (or, with `folds`, a share of the groups)."""
    val, test = checked_fraction("val", val), checked_fraction("test", test)
    if images not in ("shared", "apart"):
        raise UnknownNameError("treatment of images", images, ["shared", "apart"])
    side_of_image = _sides_of_images(study, seed, val, test) if images == "apart" else None
    if val_from not in ("blocks", "group"):
        raise UnknownNameError("source of validation trials", val_from, ["blocks", "group"])
    rng = np.random.default_rng(seed)
    scopes = np.unique(within[eligible]) if within is not None else [None]
    parts, labels = [], []
    for scope in scopes:
        inside = eligible if within is None else eligible[within[eligible] == scope]
        present = list(dict.fromkeys(groups[inside].tolist()))
        if len(present) < 2:
            where = f" of subject {scope}" if scope is not None else ""
            raise SplitError(
                f"leaving out a {what} needs at least two{where}, the study has {len(present)} "
                f"({', '.join(map(str, present))}); use another kind of split"
            )
        if val_from == "group" and len(present) < 3:
            raise SplitError(
                f"validating on a {what} of its own needs at least three, the study has "
                f"{len(present)}; take the validation trials from 'blocks'"
            )
        if folds is not None and not 2 <= folds <= len(present):
            raise SplitError(
                f"'folds' must lie between 2 and the number of {what}s ({len(present)}), got {folds}"
            )
        tested = (
            [[g] for g in present]
            if folds is None
            else [list(p) for p in np.array_split(rng.permutation(np.array(present)), folds)]
        )
        for out in tested:
            tested_ids = inside[np.isin(groups[inside], out)]
            rest = np.setdiff1d(inside, tested_ids)
            if val_from == "group":
                others = [g for g in present if g not in out]
                if len(others) < 2:
                    raise SplitError(
                        f"{folds} folds of {len(present)} {what}s leave one {what} to train and none "
                        "to validate; give 'folds' a larger number, or take the validation trials "
                        "from 'blocks'"
                    )
                count = min(max(1, round(val * len(others))), len(others) - 1)
                held = [others[i] for i in rng.permutation(len(others))[:count]]
                validation = rest[np.isin(groups[rest], held)]
                train = np.setdiff1d(rest, validation)
            elif side_of_image is not None:
                train = validation = rest
            else:
                train, validation = blocks(study, rest, val, rng)
            if side_of_image is not None:
                train = train[side_of_image[train] == "train"]
                validation = validation[side_of_image[validation] == "val"]
                tested_ids = tested_ids[side_of_image[tested_ids] == "test"]
            parts.append((train, validation, tested_ids))
            labels.append(", ".join(map(str, out)))
    return finish(
        study,
        kind,
        name,
        parts,
        labels,
        images_apart=images == "apart",
        same_classes=True,
        seed=seed,
        val=val,
        val_from=val_from,
        validation=_validation_in_words(what, val, val_from, images),
        n_folds=folds,
        images=images,
        **({"test": test} if images == "apart" else {}),
        **arguments,
    )


def _validation_in_words(what: str, val: float, val_from: str, images: str) -> str:
    if val_from == "group":
        return f"{val:g} of the other {what}s (at least one), drawn by the seed"
    if images == "apart":
        return f"{val:g} of the images, drawn by the seed"
    return (
        f"one contiguous stretch of each training recording, {val:g} of its trials, at a seeded place "
        "where it mirrors the classes"
    )


def _sides_of_images(study: Study, seed: int, val: float, test: float) -> np.ndarray:
    """Side of each trial's image, images drawn within classes; one image is one image."""
    if study.image_identity != "known":
        raise SplitError(
            f"{study.path} knows only the category of what was shown, so images cannot be kept "
            "apart; leave 'images' at 'shared'"
        )
    if val + test >= 1:
        raise SplitError(f"validation ({val:g}) and test ({test:g}) leave no training images")
    keys = study.trials["image_id"].map(image_keys(study)).to_numpy().astype(str)
    category = categories(study)
    rng = np.random.default_rng(seed)
    result = np.full(study.n_trials, "train", dtype=object)
    for name in np.unique(category):
        members = rng.permutation(np.unique(keys[category == name]))
        n_test, n_val = (max(1, round(f * len(members))) for f in (test, val))
        result[np.isin(keys, members[:n_test])] = "test"
        result[np.isin(keys, members[n_test : n_test + n_val])] = "val"
    return result


def of_subject(study: Study, subject: str | None) -> np.ndarray:
    """Trials of one subject, or of all."""
    if subject is None:
        return np.arange(study.n_trials)
    if str(subject) not in study.subjects:
        raise UnknownNameError("subject", str(subject), study.subjects)
    return np.flatnonzero((study.trials["subject"].astype(str) == str(subject)).to_numpy())


def split_function(kind: str) -> tuple[Any, str]:
    """The function behind a kind of split or another name of it, and the kind.

    Parameters
    ----------
    kind : str
        A name in the registry of splits, or one of :data:`ALIASES`.

    Raises
    ------
    UnknownNameError
        If there is no such kind.

    Examples
    --------
    >>> split_function("loso")[1]
    'by-subject'
    """
    known, _ = ALIASES.get(kind, (kind, None))
    if known not in names("split") and ":" not in known:
        raise UnknownNameError(
            "split", kind, sorted([*names("split"), *ALIASES, "module:function"])
        )
    return resolve("split", known)[0], known


def make_split(
    study: Study, kind: str, name: str | None = None, *, overwrite: bool = False, **options: Any
) -> Split:
    """Make a split and write it into the study.

    Parameters
    ----------
    study : Study
    kind : str
        A name in the registry of splits, e.g. ``"by-run"``, or one of :data:`ALIASES`.
    name : str, optional
        File name without suffix; default the kind, as it was given.
    overwrite : bool
        Replace a split of that name that holds other trials; runs trained on it then refuse to go
        on.
    **options
        Of the kind's function.

    Returns
    -------
    Split

    Raises
    ------
    UnknownNameError
        If there is no such kind or option.
    SplitError
        If the study does not allow the split.
    """
    function, known = split_function(kind)
    if kind in ALIASES:
        name = name or kind
        folds = ALIASES[kind][1]
        if folds is not None:
            most = len(study.subjects) if known == "by-subject" else folds
            options.setdefault("folds", max(2, min(folds, most)))
    check_options(function, options, f"the split '{kind}'", beside=("name",))
    if ":" in known:  # of one's own
        split = function(study, name=name or known.rpartition(":")[2], **options)
        if not isinstance(split, Split):
            raise SplitError(f"the split '{kind}' gave {type(split).__name__}, not a Split")
        check_split(study, split)
    else:
        split = function(study, name=name, **options)
    study.write_split(split, overwrite=overwrite)
    return split


"""Other names of kinds: the kind, and the number of folds where none is given (at most one fold for
each group)."""
