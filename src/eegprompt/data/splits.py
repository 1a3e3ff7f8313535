"""Splits by metadata, each re-derivable from its seed and asserted disjoint.

Every function takes a study and returns a :class:`~eegprompt.types.Split` whose `how` records the
call, what is kept apart and how many trials were left out for it. Two things hold for all of them:
trials that share samples of the recording never stand on two sides, and the validation side, which
selects, is cut from the training side, never from the test side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from eegprompt.data.overlap import (
    check_overlap,
    has_onsets,
    overlapping,
    picture_keys,
    recording_index,
    shared_images,
)
from eegprompt.errors import InputError, SplitError, UnknownNameError
from eegprompt.registry import check_options, names, resolve
from eegprompt.study import Study
from eegprompt.types import Fold, Split

__all__ = [
    "ALIASES",
    "by_image",
    "by_run",
    "by_subject",
    "check_split",
    "cross_session",
    "forward_in_block",
    "leave_classes_out",
    "leave_one_session_out",
    "make_split",
    "official",
    "split_function",
]

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
"""Other names of kinds: the kind, and the number of folds where none is given (at most one fold for
each group)."""


# -- what every split goes through ---------------------------------------------------------------
def _apart(
    study: Study, train: np.ndarray, val: np.ndarray, test: np.ndarray
) -> tuple[Fold, dict[str, int]]:
    """Leave out validation trials that share samples with test trials, then training trials that
    share samples with either; the test side stays whole."""
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


def _finish(
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
                    f"the {side} side of the fold '{label}' would be empty: {study.n_trials} trials "
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
                    f"{len(images)} images are shown on both the {a} and the {b} side of fold "
                    f"{index} of split '{split.name}' (first: {images[:3]})"
                )


def _check_classes(study: Study, split: Split) -> None:
    """Classes that are tested must be trained, or the fold measures nothing."""
    category = _categories(study)
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


def _categories(study: Study) -> np.ndarray:
    """Category of each trial, as the table of images says."""
    of_image = dict(zip(study.images["image_id"], study.images["category"].astype(str)))
    return study.trials["image_id"].map(of_image).to_numpy().astype(str)


def _in_order(study: Study, ids: np.ndarray) -> np.ndarray:
    """Trials in the order in which they were recorded; by id where that is not known."""
    onset = study.trials["onset"].to_numpy(dtype=np.float64)[ids]
    order = study.trials["order"].to_numpy()[ids]
    recording = recording_index(study.trials)[ids]
    time = onset if np.isfinite(onset).all() else order.astype(np.float64)
    return ids[np.lexsort((ids, time, recording))]


def _checked_fraction(name: str, value: float) -> float:
    if not 0 < value < 0.9:
        raise InputError(f"'{name}' is a fraction of the trials between 0 and 0.9, got {value}")
    return float(value)


def _blocks(
    study: Study, ids: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Part training trials into training and validation: one contiguous stretch a recording.

    Neighbors in time often share samples, and always share slow drifts, so validation trials are
    not strewn among training trials. Where the stretch lies is random, among the quarter of places
    where it mirrors the recording's classes best and all that are as good as the last of these.
    Places that would leave a class without a training trial are taken only where there is no other.
    """
    category = _categories(study)
    recording = recording_index(study.trials)
    of_trial = np.unique(category, return_inverse=True)[1].ravel()
    left = np.bincount(of_trial[ids], minlength=int(of_trial.max(initial=0)) + 1)
    chosen: list[np.ndarray] = []
    for index in np.unique(recording[ids]):
        here = _in_order(study, ids[recording[ids] == index])
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


def _leave_group_out(
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
    val, test = _checked_fraction("val", val), _checked_fraction("test", test)
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
                train, validation = _blocks(study, rest, val, rng)
            if side_of_image is not None:
                train = train[side_of_image[train] == "train"]
                validation = validation[side_of_image[validation] == "val"]
                tested_ids = tested_ids[side_of_image[tested_ids] == "test"]
            parts.append((train, validation, tested_ids))
            labels.append(", ".join(map(str, out)))
    return _finish(
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
    """Side of each trial's image, images drawn within classes; one picture is one image."""
    if study.image_identity != "known":
        raise SplitError(
            f"{study.path} knows only the category of what was shown, so images cannot be kept "
            "apart; leave 'images' at 'shared'"
        )
    if val + test >= 1:
        raise SplitError(f"validation ({val:g}) and test ({test:g}) leave no training images")
    keys = study.trials["image_id"].map(picture_keys(study)).to_numpy().astype(str)
    category = _categories(study)
    rng = np.random.default_rng(seed)
    result = np.full(study.n_trials, "train", dtype=object)
    for name in np.unique(category):
        members = rng.permutation(np.unique(keys[category == name]))
        n_test, n_val = (max(1, round(f * len(members))) for f in (test, val))
        result[np.isin(keys, members[:n_test])] = "test"
        result[np.isin(keys, members[n_test : n_test + n_val])] = "val"
    return result


# -- the kinds -----------------------------------------------------------------------------------
def by_run(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.2,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    subject: str | None = None,
    within_subject: bool = True,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one run (continuous file) out in each fold.

    Parameters
    ----------
    study : Study
    seed : int
        Decides where the validation stretches lie.
    val : float
        Fraction of each training run's trials that select, in (0, 0.9); with ``"group"``, fraction
        of the runs that are not tested.
    val_from : {"blocks", "group"}
        ``"blocks"``: one contiguous stretch of each training run; trials beside it that share
        samples with it are left out. ``"group"``: whole other runs, at least one.
    folds : int, optional
        Leave out a share of the runs, in that many folds, instead of one at a time.
    subject : str, optional
        Use this subject's trials only.
    within_subject : bool
        Train on runs of the tested subject only; else on all other runs of all subjects.
    images : {"shared", "apart"}
        ``"apart"``: besides, no image is on two sides. Shares of the images, drawn within classes,
        are for validation (`val`) and for testing (`test`), and trials that show others are left
        out of those sides. Else how many images stand on two sides is recorded.
    test : float
        Fraction of the images that test, in (0, 0.9), where `images` is ``"apart"``.
    name : str, optional
        Default ``"by-run"``.

    Returns
    -------
    Split

    Raises
    ------
    SplitError
        If a subject has one run only, or a run holds a class that no other holds.
    """
    eligible = _of_subject(study, subject)
    runs = study.trials["run"].astype(str)
    if study.trials["session"].nunique() > 1:
        runs = study.trials["session"].astype(str) + "/" + runs
    if len(study.subjects) > 1:
        runs = study.trials["subject"].astype(str) + "/" + runs
    subjects = study.trials["subject"].astype(str).to_numpy()
    return _leave_group_out(
        study,
        "by-run",
        runs.to_numpy().astype(str),
        "run",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=subjects if within_subject else None,
        eligible=eligible,
        subject=subject,
        within_subject=within_subject,
        images=images,
        test=test,
    )


def by_subject(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.15,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one subject out in each fold; subjects may have seen the same images.

    Parameters
    ----------
    study, seed, val, val_from, folds, images, test, name
        As in :func:`by_run`, with subjects in place of runs; ``val_from="group"`` selects on
        other subjects.

    Raises
    ------
    SplitError
        If the study has one subject only.
    """
    subjects = study.trials["subject"].astype(str).to_numpy()
    return _leave_group_out(
        study,
        "by-subject",
        subjects,
        "subject",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=None,
        eligible=np.arange(study.n_trials),
        images=images,
        test=test,
    )


def cross_session(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.15,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    subject: str | None = None,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one session (recording day) out in each fold, within subjects.

    A fold trains on the other sessions of the tested subject alone. To train on all subjects use
    :func:`leave_one_session_out`.

    Parameters
    ----------
    study, seed, val, val_from, folds, subject, images, test, name
        As in :func:`by_run`, with sessions in place of runs.

    Raises
    ------
    SplitError
        If a subject has one session only.
    """
    subjects = study.trials["subject"].astype(str)
    sessions = study.trials["session"].astype(str)
    groups = (subjects + "/" + sessions if len(study.subjects) > 1 else sessions).to_numpy()
    return _leave_group_out(
        study,
        "cross-session",
        groups.astype(str),
        "session",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=subjects.to_numpy(),
        eligible=_of_subject(study, subject),
        subject=subject,
        within_subject=True,
        images=images,
        test=test,
    )


def leave_one_session_out(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.15,
    val_from: ValidationFrom = "blocks",
    folds: int | None = None,
    images: SharedImages = "shared",
    test: float = 0.2,
    name: str | None = None,
) -> Split:
    """Leave one session out in each fold, pooled over subjects.

    A session counts by its name: a fold tests session 2 of all subjects, and trains on all other
    sessions of all subjects. :func:`cross_session` does the same within each subject.

    Parameters
    ----------
    study, seed, val, val_from, folds, images, test, name
        As in :func:`by_run`, with sessions in place of runs.

    Raises
    ------
    SplitError
        If the study has one session only.
    """
    return _leave_group_out(
        study,
        "leave-one-session-out",
        study.trials["session"].astype(str).to_numpy().astype(str),
        "session",
        name=name,
        seed=seed,
        val=val,
        val_from=val_from,
        folds=folds,
        within=None,
        eligible=np.arange(study.n_trials),
        within_subject=False,
        images=images,
        test=test,
    )


def by_image(
    study: Study,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.1,
    folds: int = 1,
    subject: str | None = None,
    name: str | None = None,
) -> Split:
    """Keep all trials of an image on one side, images drawn at random within classes.

    A picture that stands under two names counts as one image. This split removes repetition, not
    order in time: in a block design it leaves the classes' times on all sides.

    Parameters
    ----------
    study : Study
        One that knows which image was shown.
    seed : int
        Decides the draw.
    val, test : float
        Fractions of the images, in (0, 0.9). With `folds` the test sides part the images instead.
    folds : int
        1, or the number of folds whose test sides part the images.
    subject : str, optional
        Use this subject's trials only.
    name : str, optional
        Default ``"by-image"``.

    Raises
    ------
    SplitError
        If the study knows categories only, or has too few images.
    """
    if study.image_identity != "known":
        raise SplitError(
            f"{study.path} knows only the category of what was shown, so images cannot be kept "
            "apart; split by run or by subject"
        )
    val = _checked_fraction("val", val)
    test = _checked_fraction("test", test)
    if folds < 1:
        raise SplitError(f"'folds' must be at least 1, got {folds}")
    eligible = _of_subject(study, subject)
    key_of = picture_keys(study)
    keys = study.trials["image_id"].map(key_of).to_numpy().astype(str)
    category_of = dict(zip(keys[eligible], _categories(study)[eligible]))
    images = np.array(sorted(category_of))
    needed = max(3, folds)
    if len(images) < needed:
        raise SplitError(f"{len(images)} images are too few to split; at least {needed} are needed")
    share = 1 / folds if folds > 1 else test
    if share + val >= 1:
        raise SplitError(f"validation ({val:g}) and test ({share:g}) leave no training images")
    rng = np.random.default_rng(seed)
    # Images in random order, classes interleaved: any stretch of the order holds classes evenly.
    rank = np.zeros(len(images))
    classes = np.array([category_of[i] for i in images])
    for name_of_class in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == name_of_class))
        rank[members] = (np.arange(len(members)) + rng.random()) / len(members)
    line = images[np.argsort(rank, kind="stable")]
    n, n_val = len(line), max(1, round(val * len(line)))
    parts, labels = [], []
    for fold in range(folds):
        # The last images of the first fold, the ones before them of the second, ...: a circle.
        stop = n - round(fold * n / folds) if folds > 1 else n
        start = n - round((fold + 1) * n / folds) if folds > 1 else n - max(1, round(test * n))
        tested = line[start:stop]
        validated = np.roll(line, n - start)[n - n_val :]
        of_trial = keys[eligible]
        in_test, in_val = np.isin(of_trial, tested), np.isin(of_trial, validated)
        parts.append((eligible[~in_test & ~in_val], eligible[in_val & ~in_test], eligible[in_test]))
        labels.append(f"{len(tested)} images")
    return _finish(
        study,
        "by-image",
        name,
        parts,
        labels,
        images_apart=True,
        same_classes=False,
        seed=seed,
        val=val,
        test=test if folds == 1 else 1 / folds,
        n_folds=folds,
        subject=subject,
    )


def leave_classes_out(
    study: Study,
    *,
    classes: Sequence[str] | int | float = 0.2,
    seed: int = 0,
    val: float = 0.1,
    subject: str | None = None,
    name: str | None = None,
) -> Split:
    """Test on classes that are never trained (zero-shot).

    Parameters
    ----------
    study : Study
    classes : list of str, str, int or float
        The classes to leave out (a text names them with commas between), their number, or their
        fraction; a number is drawn by the seed.
    seed : int
        Decides the draw of classes and the validation side.
    val : float
        Fraction of the trained classes' images that select (of their trials, in contiguous
        stretches, where only categories are known).
    subject, name
        As in :func:`by_run`; default ``"leave-classes-out"``.

    Raises
    ------
    SplitError
        If fewer than two classes would be left to train.
    """
    val = _checked_fraction("val", val)
    rng = np.random.default_rng(seed)
    everything = study.categories
    if isinstance(classes, (int, float)):
        count = classes if isinstance(classes, int) else max(1, round(classes * len(everything)))
        if not 1 <= count <= len(everything) - 2:
            raise SplitError(
                f"{count} of {len(everything)} classes cannot be left out: at least one must be, and "
                "two must be left to train"
            )
        out = sorted(rng.permutation(everything)[:count].tolist())
    else:
        named = classes.split(",") if isinstance(classes, str) else classes
        out = sorted({str(c).strip() for c in named})
        for c in out:
            if c not in everything:
                raise UnknownNameError("class", c, everything)
        if not 1 <= len(out) <= len(everything) - 2:
            raise SplitError(
                f"{len(out)} of {len(everything)} classes cannot be left out: two must be left"
            )
    eligible = _of_subject(study, subject)
    category = _categories(study)
    tested = np.isin(category[eligible], out)
    rest = eligible[~tested]
    if study.image_identity == "known":
        keys = study.trials["image_id"].map(picture_keys(study)).to_numpy().astype(str)
        chosen: list[str] = []
        for c in np.unique(category[rest]):
            images = np.unique(keys[rest[category[rest] == c]])
            if len(images) > 1:
                chosen += rng.permutation(images)[: max(1, round(val * len(images)))].tolist()
        in_val = np.isin(keys[rest], chosen)
        train, validation = rest[~in_val], rest[in_val]
    else:
        train, validation = _blocks(study, rest, val, rng)
    return _finish(
        study,
        "leave-classes-out",
        name,
        [(train, validation, eligible[tested])],
        [", ".join(out)],
        images_apart=True,
        same_classes=False,
        seed=seed,
        val=val,
        classes=out,
        subject=subject,
    )


def forward_in_block(
    study: Study,
    *,
    val: float = 0.15,
    test: float = 0.2,
    embargo: float = 0.0,
    subject: str | None = None,
    name: str | None = None,
) -> Split:
    """Train on the beginning of each recording or block, validate on what follows, test on its end.

    Parameters
    ----------
    study : Study
        One that knows the order or the onsets of its trials.
    val, test : float
        Fractions of each block's trials, in (0, 0.9).
    embargo : float
        Seconds between sides in which trials are left out, beyond those that share samples.
    subject, name
        As in :func:`by_run`; default ``"forward-in-block"``.

    Raises
    ------
    SplitError
        If the order is not known, or blocks are too short.
    """
    val, test = _checked_fraction("val", val), _checked_fraction("test", test)
    if val + test >= 1:
        raise SplitError(f"validation ({val:g}) and test ({test:g}) leave nothing to train")
    if embargo < 0:
        raise InputError(f"'embargo' is a number of seconds of at least 0, got {embargo}")
    if embargo and not has_onsets(study):
        raise SplitError("the study does not know when trials began, so no embargo can be kept")
    if not has_onsets(study) and (study.trials["order"].to_numpy() < 0).any():
        raise SplitError(
            "the study knows neither the onset nor the order of its trials, so there is no forward "
            "in time; split by image"
        )
    eligible = _of_subject(study, subject)
    onset = study.trials["onset"].to_numpy(dtype=np.float64)
    block = study.trials["block"].to_numpy()
    stretch = recording_index(study.trials)
    sides: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    n_embargoed = 0
    for index in np.unique(stretch[eligible]):
        for number in np.unique(block[eligible[stretch[eligible] == index]]):
            here = eligible[(stretch[eligible] == index) & (block[eligible] == number)]
            here = _in_order(study, here)
            n_test, n_val = round(test * len(here)), round(val * len(here))
            tested = here[len(here) - n_test :]
            validated = here[len(here) - n_test - n_val : len(here) - n_test]
            trained = here[: len(here) - n_test - n_val]
            if embargo:
                before = len(trained) + len(validated)
                if len(tested):
                    validated = validated[onset[validated] < onset[tested[0]] - embargo]
                later = validated if len(validated) else tested
                if len(later):
                    trained = trained[onset[trained] < onset[later[0]] - embargo]
                n_embargoed += before - len(trained) - len(validated)
            for side, ids in zip(sides, (trained, validated, tested)):
                sides[side].append(ids)
    train, validation, tested = (np.concatenate(ids) for ids in sides.values())
    return _finish(
        study,
        "forward-in-block",
        name,
        [(train, validation, tested)],
        ["end of each block"],
        images_apart=False,
        same_classes=False,
        val=val,
        test=test,
        embargo=embargo,
        left_out_for_embargo=n_embargoed,
        subject=subject,
    )


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
    eligible = _of_subject(study, subject)
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


def _of_subject(study: Study, subject: str | None) -> np.ndarray:
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
    if known not in names("split"):
        raise UnknownNameError("split", kind, sorted([*names("split"), *ALIASES]))
    return resolve("split", known)[0], known


def make_split(study: Study, kind: str, name: str | None = None, **options: Any) -> Split:
    """Make a split and write it into the study.

    Parameters
    ----------
    study : Study
    kind : str
        A name in the registry of splits, e.g. ``"by-run"``, or one of :data:`ALIASES`.
    name : str, optional
        File name without suffix; default the kind, as it was given.
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
    split: Split = function(study, name=name, **options)
    study.write_split(split)
    return split
