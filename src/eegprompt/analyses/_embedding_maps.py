"""How embeddings lie to one another: images of them, and the numbers that belong beside these.

A t-SNE map invites more than it holds: distances between clusters and their sizes mean nothing, and
clusters appear in noise. So every image here has numbers that do not depend on it: k-NN accuracy and
silhouette of the labels in the full space, and the similarity of two spaces as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eegprompt.core.errors import InputError

__all__ = [
    "Map",
    "NeighborScore",
    "cka",
    "cka_matrix",
    "knn_accuracy",
    "knn_test",
    "map_points",
    "silhouette",
]

_DECIMALS = 6  # float32 embeddings: distances that differ less are the same


def _points(points: np.ndarray, what: str = "points") -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2:
        raise InputError(f"{what} must have shape (n_points, n_dims), got {points.shape}")
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InputError(f"row {bad} of {what} is not finite; leave such trials out")
    return points


def _squared_distances(points: np.ndarray) -> np.ndarray:
    norms = (points**2).sum(axis=1)
    squared = np.maximum(norms[:, None] + norms - 2 * points @ points.T, 0)
    return np.round(squared, _DECIMALS)


# -- similarity of two spaces --------------------------------------------------------------------
def cka(one: np.ndarray, two: np.ndarray, *, debiased: bool = True) -> float:
    """Linear centered kernel alignment: how alike two spaces arrange the same points.

    Unchanged by rotation and by a common scale of either space (Kornblith et al. 2019, Similarity of
    neural network representations revisited). With few points and many dimensions the plain form
    is far above 0 for unrelated spaces; the debiased form replaces its Hilbert–Schmidt terms by
    their U-statistics (Song et al. 2012, equation 5) and is 0 there on average.

    Parameters
    ----------
    one, two : array, shape (n_points, n_dims)
        Rows are the same points; numbers of dimensions may differ.
    debiased : bool
        Use the U-statistics; needs at least 4 points.

    Returns
    -------
    float
        At most 1; in [0, 1] in the plain form. NaN where all points of a space are the same.

    Raises
    ------
    InputError
        If the numbers of points differ or are too few.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    >>> round(cka(points, 2 * points @ turn), 6)
    1.0
    """
    return float(cka_matrix([one, two], debiased=debiased)[0, 1])


def cka_matrix(spaces: list[np.ndarray], *, debiased: bool = True) -> np.ndarray:
    """:func:`cka` of every pair of spaces.

    Parameters
    ----------
    spaces : list of array, shape (n_points, n_dims)
        Rows of all are the same points.
    debiased : bool
        As in :func:`cka`.

    Returns
    -------
    array, shape (n_spaces, n_spaces)
        Symmetric, ones on the diagonal; NaN for a space whose points are all the same.
    """
    checked = [_points(space, f"space {i}") for i, space in enumerate(spaces)]
    n = len(checked[0])
    for i, space in enumerate(checked):
        if len(space) != n:
            raise InputError(
                f"all spaces must hold the same points; space 0 has {n}, space {i} has {len(space)}"
            )
    least = 4 if debiased else 2
    if n < least:
        raise InputError(f"CKA needs at least {least} points, got {n}")
    grams = [_centered_gram(space, debiased) for space in checked]
    alike = np.array([[float((a * b).sum()) for b in grams] for a in grams])
    own = np.sqrt(np.maximum(np.diag(alike), 0))
    scale = np.array([float((space**2).sum()) for space in checked])
    own[own <= 1e-10 * np.maximum(scale, 1e-300)] = np.nan
    with np.errstate(invalid="ignore"):
        return alike / own[:, None] / own


def _centered_gram(points: np.ndarray, debiased: bool) -> np.ndarray:
    """Gram matrix whose products sum to the Hilbert–Schmidt terms, up to a common factor."""
    points = points - points.mean(axis=0)  # changes no result, keeps digits
    gram = points @ points.T
    if not debiased:
        return gram
    # U-centering (Székely and Rizzo 2014): the product of two such matrices, summed, is
    # n (n - 3) times the unbiased estimate.
    n = len(gram)
    np.fill_diagonal(gram, 0)
    rows = gram.sum(axis=1) / (n - 2)
    gram = gram - rows[:, None] - rows + gram.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(gram, 0)
    return gram


# -- labels in a space ---------------------------------------------------------------------------
@dataclass(frozen=True)
class NeighborScore:
    """How often neighbors share a label.

    Parameters
    ----------
    value : float
        Share of the nearest neighbors that carry the point's label, in [0, 1].
    chance : float
        The same share among all points that may be neighbors.
    p : float
        By permuting the labels of units; NaN where it was not tested or nothing can be permuted.
    null : array, shape (n_permutations,)
        The share under each permutation; tests of the same units and seed share permutations.
    """

    value: float
    chance: float
    p: float = float("nan")
    null: np.ndarray = field(default_factory=lambda: np.zeros(0))


def knn_accuracy(
    points: np.ndarray, labels: np.ndarray, k: int = 10, *, apart: np.ndarray | None = None
) -> NeighborScore:
    """Share of each point's k nearest neighbors that carry its label, averaged over points.

    Neighbors that are equally far share what place is left, so that points that are all the same
    have the accuracy of chance.

    Parameters
    ----------
    points : array, shape (n_points, n_dims)
        Euclidean distances; for rows of unit length they rank as cosines do.
    labels : array, shape (n_points,)
        Any kind.
    k : int
        Neighbors; fewer where there are not as many.
    apart : array, shape (n_points,), optional
        Points of equal value are no neighbors of one another: trials of one image would vouch for
        its class.

    Returns
    -------
    NeighborScore
        NaN where no point has a neighbor.

    Examples
    --------
    >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> knn_accuracy(points, np.array(["a", "a", "b", "b"]), k=1).value
    1.0
    """
    weights, allowed = _neighbors(points, k, apart)
    labels = _labels(labels, len(weights))
    value, chance = _shares(weights, allowed, labels[:, None] == labels)
    return NeighborScore(value, chance)


def knn_test(
    points: np.ndarray,
    labels: np.ndarray,
    k: int = 10,
    *,
    apart: np.ndarray | None = None,
    units: np.ndarray | None = None,
    n_permutations: int = 200,
    seed: int = 0,
) -> NeighborScore:
    """:func:`knn_accuracy` with a p-value.

    Parameters
    ----------
    points, labels, k, apart
        As in :func:`knn_accuracy`.
    units : array, shape (n_points,), optional
        Points of equal value carry one label and are permuted together, e.g. the trials of an image;
        left out: every point is a unit.
    n_permutations : int
        The least p is 1 / (1 + this).
    seed : int
        Of the permutations.

    Returns
    -------
    NeighborScore

    Raises
    ------
    InputError
        If a unit carries several labels.
    """
    weights, allowed = _neighbors(points, k, apart)
    labels = _labels(labels, len(weights))
    value, chance = _shares(weights, allowed, labels[:, None] == labels)
    names, unit = np.unique(np.arange(len(labels)) if units is None else units, return_inverse=True)
    of_unit = np.empty(len(names), dtype=labels.dtype)
    of_unit[unit] = labels
    if (of_unit[unit] != labels).any():
        raise InputError(
            "a unit of the permutation carries several labels; units must have one each"
        )
    if not np.isfinite(value) or len(set(of_unit.tolist())) < 2:
        return NeighborScore(value, chance)
    rng = np.random.default_rng(seed)
    point, neighbor = np.nonzero(weights)
    share = weights[point, neighbor] / allowed.any(axis=1).sum()
    null = np.zeros(n_permutations)
    for i in range(n_permutations):
        shuffled = rng.permutation(of_unit)[unit]
        null[i] = share @ (shuffled[point] == shuffled[neighbor])
    p = (1 + int((null >= value - 1e-12).sum())) / (1 + n_permutations)
    return NeighborScore(value, chance, p, null)


def _labels(labels: np.ndarray, n: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise InputError(f"{n} points need as many labels, got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1]


def _neighbors(
    points: np.ndarray, k: int, apart: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each point as a neighbor of each other, rows summing to 1, and who may be one."""
    points = _points(points)
    n = len(points)
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    allowed = ~np.eye(n, dtype=bool)
    if apart is not None:
        group = _labels(apart, n)
        allowed &= group[:, None] != group
    squared = np.where(allowed, _squared_distances(points), np.inf)
    within = np.minimum(k, allowed.sum(axis=1))
    weights = np.zeros((n, n))
    for i in np.flatnonzero(within):
        border = np.partition(squared[i], within[i] - 1)[within[i] - 1]
        inside, on = squared[i] < border, squared[i] == border
        weights[i, inside] = 1
        weights[i, on] = (within[i] - inside.sum()) / on.sum()
        weights[i] /= within[i]
    return weights, allowed


def _shares(weights: np.ndarray, allowed: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    some = allowed.any(axis=1)
    if not some.any():
        return float("nan"), float("nan")
    value = (weights * same).sum(axis=1)[some].mean()
    chance = ((allowed & same).sum(axis=1)[some] / allowed.sum(axis=1)[some]).mean()
    return float(value), float(chance)


def silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of labels (Rousseeuw 1987), by scikit-learn.

    Parameters
    ----------
    points : array, shape (n_points, n_dims)
        Euclidean distances.
    labels : array, shape (n_points,)
        Any kind.

    Returns
    -------
    float
        In [−1, 1]; about 0 or below where labels do not form clusters. NaN for fewer than two
        labels, and where every point has its own.
    """
    from sklearn.metrics import silhouette_score

    points = _points(points)
    labels = _labels(labels, len(points))
    if not 2 <= len(set(labels.tolist())) < len(points):
        return float("nan")
    squared = _squared_distances(points)
    return float(silhouette_score(np.sqrt(squared), labels, metric="precomputed"))


# -- images ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Map:
    """Points in the plane.

    Parameters
    ----------
    points : array, shape (n_points, 2)
        Coordinates, without unit.
    method : str
        ``pca`` or ``tsne``.
    perplexity : float
        Of t-SNE; NaN for PCA.
    explained : array, shape (2,)
        Share of the variance each axis of PCA holds; NaN for t-SNE.
    divergence : float
        Kullback–Leibler divergence that t-SNE reached, in nats; NaN for PCA.
    """

    points: np.ndarray
    method: str
    perplexity: float
    explained: np.ndarray
    divergence: float


def map_points(
    points: np.ndarray, method: str = "tsne", *, perplexity: float = 30.0, seed: int = 0
) -> Map:
    """Lay points out in the plane, by scikit-learn; the same seed gives the same image.

    Parameters
    ----------
    points : array, shape (n_points, n_dims)
        At least 5, not all the same.
    method : {"tsne", "pca"}
        t-SNE starts from PCA, so that its large-scale order is not random.
    perplexity : float
        At most a third of the points less one; larger ones are brought down to it, and the result
        says which was used.
    seed : int
        Of t-SNE.

    Returns
    -------
    Map

    Raises
    ------
    InputError
        If there are too few points, they are all the same, or the method does not exist.
    """
    points = _points(points)
    if method not in ("tsne", "pca"):
        raise InputError(f"a map is made by 'tsne' or 'pca', got '{method}'")
    if len(points) < 5:
        raise InputError(f"a map needs at least 5 points, got {len(points)}")
    centered = points - points.mean(axis=0)
    if np.abs(centered).max() < 10.0**-_DECIMALS:
        raise InputError("all points are the same, so there is nothing to lay out")
    from sklearn.decomposition import PCA

    n_axes = min(50, *centered.shape)
    pca = PCA(n_axes, svd_solver="full").fit(centered)
    reduced = pca.transform(centered)
    if reduced.shape[1] < 2:
        reduced = np.column_stack([reduced, np.zeros(len(reduced))])
    nan = float("nan")
    if method == "pca":
        explained = np.zeros(2)
        explained[: min(n_axes, 2)] = pca.explained_variance_ratio_[:2]
        return Map(reduced[:, :2], "pca", nan, explained, nan)
    from sklearn.manifold import TSNE

    perplexity = min(perplexity, (len(points) - 1) / 3)
    tsne = TSNE(
        2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed, n_jobs=1
    )
    # 50 principal axes hold nearly all that distances are made of, and cost much less.
    laid = tsne.fit_transform(reduced.astype(np.float32))
    return Map(
        laid.astype(np.float64), "tsne", perplexity, np.full(2, nan), float(tsne.kl_divergence_)
    )
