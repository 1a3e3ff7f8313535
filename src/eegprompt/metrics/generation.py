"""Does a classifier name the same thing in the generated image as in the reference?"""

from __future__ import annotations

import numpy as np

from eegprompt.core.arrays import numbers, whole_numbers
from eegprompt.core.errors import InputError
from eegprompt.metrics.base import metric

__all__ = ["n_way_accuracy", "same_class"]


def _checked(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = numbers(scores, "scores", ("images", "classes"))
    return scores, whole_numbers(
        targets, "target classes", length=len(scores), below=scores.shape[1]
    )


@metric(
    "{ways}_way_accuracy",
    family="generation_accuracy",
    label="What a classifier sees in the generated image, {ways}-way",
    says="How often a classifier names the same thing in the generated image as in the reference.",
    group="image",
    symbol="images right",
    unit="proportion",
    range="0 to 100 %",
)
def n_way_accuracy(scores: np.ndarray, targets: np.ndarray, n: int = 50, k: int = 1) -> np.ndarray:
    """n-way top-k accuracy of each image, exactly.

    Higher is better; in [0, 1]; chance is k / n. It is how often the target class is among the `k`
    highest of itself and ``n - 1`` other classes drawn at random: with R classes above the target,
    ``hypergeom.cdf(k - 1, C - 1, R, n - 1)``. It is lenient: rank 20 of 1,000 still gives .38 at
    50-way top-1. Ties share their ranks evenly; a NaN is wrong.

    Parameters
    ----------
    scores : array of shape (n_images, n_classes)
        A classifier's logits or probabilities of the generated images.
    targets : array of int, shape (n_images,)
        The classifier's decision on each reference (its argmax).
    n : int
        Classes compared, in [2, n_classes].
    k : int
        In [1, n).

    Returns
    -------
    array of float, shape (n_images,)

    Examples
    --------
    >>> n_way_accuracy(np.array([[0.1, 0.7, 0.2]]), np.array([2]), n=2).tolist()
    [0.5]
    """
    from scipy.stats import hypergeom

    scores, targets = _checked(scores, targets)
    n_classes = scores.shape[1]
    if not 2 <= n <= n_classes:
        raise InputError(f"n must lie in [2, {n_classes}] (the classes), got {n}")
    if not 1 <= k < n:
        raise InputError(f"k must lie in [1, {n - 1}], got {k}")
    own = scores[np.arange(len(targets)), targets][:, None]
    above = (scores > own).sum(axis=1)
    level = np.maximum((scores == own).sum(axis=1) - 1, 0)
    # where others tie with the target, each number of them is as likely to be put above it
    values = [
        np.mean(hypergeom.cdf(k - 1, n_classes - 1, np.arange(a, a + t + 1), n - 1))
        for a, t in zip(above, level)
    ]
    return np.where(np.isnan(scores).any(axis=1), 0.0, values)


@metric(
    "dataset_way_accuracy",
    family="generation_class",
    label="True category of the generated image",
    says="How often a classifier, choosing among the data set's categories, names the true one for the "
    "generated image.",
    group="image",
    symbol="images right",
    unit="proportion",
    range="0 to 100 %",
    chance="chance by permutation, about one in the number of categories",
)
def same_class(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Strict accuracy: whether the highest score of all classes is the target's; ties share.

    Higher is better; in [0, 1]; chance is 1 / n_classes for balanced targets. A NaN is wrong.

    Parameters
    ----------
    scores : array of shape (n_images, n_classes)
        Of the generated images.
    targets : array of int, shape (n_images,)
        True class, or the classifier's decision on each reference.

    Returns
    -------
    array of float, shape (n_images,)
    """
    scores, targets = _checked(scores, targets)
    top = scores == scores.max(axis=1, keepdims=True)
    own = top[np.arange(len(targets)), targets]
    return np.where(np.isnan(scores).any(axis=1), 0.0, own / np.maximum(top.sum(axis=1), 1))
