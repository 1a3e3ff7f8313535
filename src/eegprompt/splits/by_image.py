"""Leave images out: no image of the test set was seen in training."""

from __future__ import annotations

import numpy as np

from eegprompt.core.errors import SplitError
from eegprompt.splits.base import categories, checked_fraction, finish, of_subject
from eegprompt.splits.leaks import image_keys
from eegprompt.study import Study
from eegprompt.study.split import Split

__all__ = ["by_image"]


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

    An image that stands under two names counts as one image. This split removes repetition, not
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
    val = checked_fraction("val", val)
    test = checked_fraction("test", test)
    if folds < 1:
        raise SplitError(f"'folds' must be at least 1, got {folds}")
    eligible = of_subject(study, subject)
    key_of = image_keys(study)
    keys = study.trials["image_id"].map(key_of).to_numpy().astype(str)
    category_of = dict(zip(keys[eligible], categories(study)[eligible]))
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
    return finish(
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
