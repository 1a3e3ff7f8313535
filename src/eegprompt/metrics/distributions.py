"""Scores of whole sets of images: inception score, FID and KID, from features or logits.

They ask whether the generated images *as a set* are varied, clear-cut and like the references. They do
not ask whether an image is the right one: a generator that ignores the EEG can do well. All
depend on how many images there are, so n belongs beside them, and so do the same scores of the
references themselves. Conventions are torch-fidelity's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError
from eegprompt.metrics.base import metric

__all__ = ["frechet_distance", "inception_score", "kernel_distance"]

_SEED = 2020  # of torch-fidelity's shuffles and subsets


def _checked(features: np.ndarray, what: str, least: int) -> np.ndarray:
    features = numbers(features, what, ("images", "values"), empty=True)
    if len(features) < least or not features.shape[1]:
        raise InputError(
            f"{what} must be those of at least {least} images, got shape {features.shape}"
        )
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise InputError(f"{what} of image {bad} are not finite; compute them again")
    return features


def _pair(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two = _checked(one, "features", 2), _checked(two, "features", 2)
    if one.shape[1] != two.shape[1]:
        raise InputError(
            f"features of both sets must be equally long, got {one.shape[1]} and {two.shape[1]}"
        )
    return one, two


@metric(
    "inception_score",
    label="Inception score",
    says="How varied and how clear-cut the generated images are; it does not ask whether they are the "
    "right ones.",
    group="image",
    range="from 1 to the number of classes",
    chance="no chance level, for any clear-cut and varied set scores high: read it beside the "
    "references' own",
)
def inception_score(
    logits: np.ndarray, *, splits: int = 10, seed: int | None = _SEED
) -> tuple[float, float]:
    """Inception score: mean over splits of exp(mean KL(class given image ‖ class)).

    Higher is better; in [1, n_classes]; there is no chance level: any confident generator of all
    classes reaches the top. It grows with the number of images in a split.

    Parameters
    ----------
    logits : array of shape (n_images, n_classes)
        Unnormalized log probabilities.
    splits : int
        In how many parts the images are scored.
    seed : int, optional
        Of the shuffle before splitting; None leaves the order.

    Returns
    -------
    mean, sd : float
        Over splits, the latter with ddof 0.

    Raises
    ------
    InputError
        If there are fewer images than splits or a value is not finite.

    References
    ----------
    Salimans et al. (2016), Improved techniques for training GANs, NeurIPS.

    Examples
    --------
    >>> inception_score(100.0 * np.eye(4), splits=1)
    (4.0, 0.0)
    """
    from scipy.special import log_softmax, logsumexp

    if splits < 1:
        raise InputError(f"splits must be at least 1, got {splits}")
    logits = _checked(logits, "logits", splits)
    if seed is not None:
        logits = logits[np.random.RandomState(seed).permutation(len(logits))]
    log_p = log_softmax(logits, axis=1)
    n = len(log_p)
    scores = []
    for i in range(splits):
        part = log_p[i * n // splits : (i + 1) * n // splits]
        log_q = logsumexp(part, axis=0, keepdims=True) - np.log(len(part))
        kl = (np.exp(part) * (part - log_q)).sum(axis=1)
        scores.append(np.exp(kl.mean()))
    return float(np.mean(scores)), float(np.std(scores))


_OF_SETS: dict[str, Any] = {
    "family": "distribution",
    "says": "How far the generated images as a set lie from the references as a set; lower is better, "
    "and it is not 0 between equal sets where images are few.",
    "group": "image",
    "symbol": "distance",
    "unit": "distance",
    "chance": "no chance level: read it beside the floor and real images",
    "higher_is_better": False,
}


@metric("fid", label="Distance of the sets of images (FID)", range="from 0", **_OF_SETS)
def frechet_distance(one: np.ndarray, two: np.ndarray) -> float:
    """Fréchet distance of two sets' features, each taken as a Gaussian (FID).

    Lower is better; at least 0. It is far above 0 between samples of equal distributions when they
    are few (about 69 at 200 images and 2,048 features, 17 at 2,000).

    Parameters
    ----------
    one, two : array of shape (n_images, n_features)
        At least two images each; covariances with ddof 1, all in double precision.

    Returns
    -------
    float

    Notes
    -----
    The trace of the root of the product of covariances is the nuclear norm of the centered features'
    cross product, so that few images need no matrix root.

    References
    ----------
    Heusel et al. (2017), GANs trained by a two time-scale update rule, NeurIPS.

    Examples
    --------
    >>> round(frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])), 6)
    9.0
    """
    one, two = _pair(one, two)
    mean = one.mean(axis=0) - two.mean(axis=0)
    x = (one - one.mean(axis=0)) / np.sqrt(len(one) - 1)
    y = (two - two.mean(axis=0)) / np.sqrt(len(two) - 1)
    x, y = _factor(x), _factor(y)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(mean @ mean + (x**2).sum() + (y**2).sum() - 2 * root)


def _factor(rows: np.ndarray) -> np.ndarray:
    """As few rows as there are features, with the same covariance."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


@metric(
    "kid",
    label="Distance of the sets of images (KID)",
    range="about 0 for equal sets and sometimes below",
    **_OF_SETS,
)
def kernel_distance(
    one: np.ndarray,
    two: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = _SEED,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x·y / n_features + 1)³ (KID).

    Lower is better; 0 is expected between samples of equal distributions, and an estimate may be
    below 0. On the raw scale (some papers print it times 100 or 1,000).

    Parameters
    ----------
    one, two : array of shape (n_images, n_features)
        At least two images each.
    subsets : int
        Number of random subsets of both.
    subset_size : int
        Images in each; where a set has fewer, all of them.
    seed : int
        Of the subsets.

    Returns
    -------
    mean, sd : float
        Over subsets, the latter with ddof 0.

    References
    ----------
    Bińkowski et al. (2018), Demystifying MMD GANs, ICLR; the unbiased estimate.
    """
    one, two = _pair(one, two)
    if subsets < 1 or subset_size < 2:
        raise InputError(
            f"KID needs at least one subset of at least two images, got {subsets} of {subset_size}"
        )
    size = min(subset_size, len(one), len(two))
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x = one[rng.choice(len(one), size, replace=False)]
        y = two[rng.choice(len(two), size, replace=False)]
        values.append(_unbiased_mmd(x, y))
    return float(np.mean(values)), float(np.std(values))


def _unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    n, d = x.shape
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (n * (n - 1))
    return float(within - 2 * xy.mean())
