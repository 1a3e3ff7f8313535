"""Two-way identification: does an image resemble its own reference more than another one?

For an image j with reference t and every other reference i: is the correlation of features
r[i, j] below r[t, j]? The distractors are references, each distinct one once: an image that was
shown to several people, or is in the set twice, is never its own distractor. Ties count half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eegprompt.core.arrays import codes, numbers, whole_numbers
from eegprompt.core.errors import InputError
from eegprompt.metrics.base import metric

__all__ = [
    "caption_score",
    "feature_correlation",
    "feature_cosine",
    "squared_distances",
    "two_way",
    "two_way_table",
]


_AXES = ("images", "values", "…")


def _rows(values: Any, what: str) -> Any:
    """Features that can be cut by rows: an array, a memory map, a file; lists become arrays."""
    if isinstance(values, list | tuple):
        values = numbers(values, what, _AXES, empty=True)
    try:
        n, first = len(values), np.asarray(values[:1])
    except (TypeError, IndexError, KeyError):
        n, first = 0, np.zeros(())
    if first.dtype.kind not in "biuf" or first.ndim < 2 or not np.prod(first.shape[1:]):
        raise InputError(
            f"{what} must be numbers by (images, values), got {type(values).__name__} with {n} rows "
            f"of {first.dtype}, each of shape {first.shape[1:]}"
        )
    return values


def _both(references: Any, images: Any) -> tuple[Any, Any]:
    """Both sides, with equally long rows."""
    one, two = _rows(references, "reference features"), _rows(images, "image features")
    widths = [int(np.prod(np.shape(side[:1])[1:])) for side in (one, two)]
    if widths[0] != widths[1]:
        raise InputError(
            f"features of references and images must be equally long, got {widths[0]} and "
            f"{widths[1]}"
        )
    return one, two


def _standard(rows: Any) -> np.ndarray:
    """Center each row and scale it to unit length; a constant row becomes 0."""
    rows = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    constant = rows.min(axis=1) == rows.max(axis=1)
    with np.errstate(invalid="ignore"):  # what is not finite becomes NaN throughout
        rows -= rows.mean(axis=1, keepdims=True)
        rows[constant & np.isfinite(rows).all(axis=1)] = 0  # not the rounding error of its mean
        norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        rows /= np.where(norm == 0, 1, norm)
    return rows


def _chunks(rows: Any, chunk: int | None, megabytes: int) -> list[slice]:
    """Slices of `chunk` rows, or of as many as take about `megabytes` in double precision."""
    n = len(rows)
    if chunk is None:
        width = int(np.prod(np.shape(rows[:1]))) if n else 1
        chunk = max(1, (megabytes << 20) // (8 * max(width, 1)))
    return [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def feature_correlation(references: Any, images: Any, *, chunk: int | None = None) -> np.ndarray:
    """Pearson correlation of every reference's features with every image's.

    Only some rows of either side are held at a time, so that feature files larger than memory can
    be given memory-mapped.

    Parameters
    ----------
    references : array-like of shape (n_references, ...)
        Anything that can be cut by rows and has a length: an array, a memory map, an HDF5 set.
        Rows are flattened.
    images : array-like of shape (n_images, ...)
        Likewise.
    chunk : int, optional
        Rows of each side held at a time; where not given, as many as take some 100 MB. Changes
        memory, not results.

    Returns
    -------
    array of float64, shape (n_references, n_images)
        In [-1, 1]; 0 where a row is constant; NaN where an image's features hold a NaN.

    Raises
    ------
    InputError
        If the features differ in length or a reference's features are not finite.
    """
    references, images = _both(references, images)
    result = np.empty((len(references), len(images)))
    for rows in _chunks(references, chunk, 192):
        one = _standard(references[rows])
        if not np.isfinite(one).all():
            bad = rows.start + int(np.flatnonzero(~np.isfinite(one).all(axis=1))[0])
            raise InputError(
                f"the features of reference {bad} are not finite; compute them again, or leave the "
                "image out"
            )
        for columns in _chunks(images, chunk, 64):
            result[rows, columns] = one @ _standard(images[columns]).T
    return result


def _content_groups(references: Any, chunk: int | None) -> np.ndarray:
    """Number of each row's distinct content."""
    import hashlib

    seen: dict[bytes, int] = {}
    groups = np.empty(len(references), dtype=np.int64)
    for rows in _chunks(references, chunk, 64):
        for i, row in enumerate(np.asarray(references[rows]), start=rows.start):
            key = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
            groups[i] = seen.setdefault(key, len(seen))
    return groups


@metric(
    "two_way_{features}",
    family="two_way",
    label="Two-way identification, {features}",
    says="How often a generated image resembles its own reference more than another reference, by "
    "{features}; half of the time is guessing.",
    group="image",
    symbol="comparisons won",
    unit="proportion",
    range="0 to 100 %",
    chance="chance 50 %",
    of="features",
    within=True,
)
def two_way_table(
    references: Any,
    images: Any,
    *,
    classes: Sequence[Any] | np.ndarray | None = None,
    chunk: int | None = None,
) -> np.ndarray:
    """What each image would score if each reference were its own.

    Parameters
    ----------
    references : array-like of shape (n_references, ...)
        Features of the distinct references.
    images : array-like of shape (n_images, ...)
        Features of the images.
    classes : sequence of length n_references, optional
        Distractors are only references of the same class.
    chunk : int, optional
        Rows held at a time, as in :func:`feature_correlation`.

    Returns
    -------
    array of float64, shape (n_images, n_references)
        In [0, 1]: the share of distractors less correlated with the image than that reference,
        ties half. References with equal features are one distractor. NaN where a reference has no
        distractor. An image with NaN features scores 0.
    """
    correlation = feature_correlation(references, images, chunk=chunk)
    contents = _content_groups(references, chunk)
    n_references = len(contents)
    of_class = np.zeros(n_references, dtype=int)
    if classes is not None:
        of_class = codes(classes, "classes of the references", length=n_references)
    members = [np.flatnonzero(of_class == c) for c in np.unique(of_class)]
    table = np.full((correlation.shape[1], n_references), np.nan)
    for rows in members:
        _, first, inverse = np.unique(contents[rows], return_index=True, return_inverse=True)
        n_distinct = len(first)
        if n_distinct < 2:
            continue
        from scipy.stats import rankdata

        distinct = correlation[rows[first]]
        bad = np.isnan(distinct).any(axis=0)
        share = (rankdata(np.where(bad, 0.0, distinct), axis=0) - 1) / (n_distinct - 1)
        share[:, bad] = 0.0
        table[:, rows] = share[inverse.ravel()].T
    return table


def two_way(
    references: Any,
    images: Any,
    targets: np.ndarray | None = None,
    *,
    classes: Sequence[Any] | np.ndarray | None = None,
    chunk: int | None = None,
) -> np.ndarray:
    """Two-way identification of each image.

    Higher is better; in [0, 1]; chance is 0.5. See :func:`two_way_table` for ties, equal
    references, NaN and the meaning of `classes`.

    Parameters
    ----------
    references : array-like of shape (n_references, ...)
        Features of the references.
    images : array-like of shape (n_images, ...)
        Features of the images.
    targets : array of int, shape (n_images,), optional
        Row of each image's own reference; the image's own row where not given.
    classes : sequence of length n_references, optional
        Distractors are only references of the same class.
    chunk : int, optional
        Rows held at a time, as in :func:`feature_correlation`.

    Returns
    -------
    array of float64, shape (n_images,)
        NaN where an image has no distractor.

    Examples
    --------
    >>> two_way(np.eye(3), np.eye(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    references, images = _both(references, images)
    n_references, n_images = len(references), len(images)
    if targets is None:
        if n_references != n_images:
            raise InputError(
                f"{n_images} images and {n_references} references: say which reference belongs "
                "to which image (targets), or give equally many"
            )
        targets = np.arange(n_images)
    if n_references < 2:
        raise InputError(
            f"two-way identification needs at least two references, got {n_references}"
        )
    what = "references of the images (targets)"
    targets = whole_numbers(targets, what, length=n_images, below=n_references)
    table = two_way_table(references, images, classes=classes, chunk=chunk)
    return table[np.arange(n_images), targets]


def feature_cosine(references: Any, images: Any, *, chunk: int | None = None) -> np.ndarray:
    """Cosine of every reference's features with every image's, not centered.

    Higher is better; in [-1, 1]; unrelated images are far above 0 in most embeddings, so that a
    permutation chance belongs beside it.

    Parameters
    ----------
    references, images : array-like of shape (n, n_features)
        Anything that can be cut by rows and has a length.
    chunk : int, optional
        Rows of each side held at a time.

    Returns
    -------
    array of float64, shape (n_references, n_images)
        0 where a row is all 0.
    """
    return _pairwise(references, images, chunk, lambda a, b: _unit(a) @ _unit(b).T)


def squared_distances(references: Any, images: Any, *, chunk: int | None = None) -> np.ndarray:
    """Squared Euclidean distance of every reference's features from every image's.

    Lower is better; at least 0. With the features of layer ``lpips`` it is LPIPS.

    Parameters
    ----------
    references, images : array-like of shape (n, n_features)
        Anything that can be cut by rows and has a length.
    chunk : int, optional
        Rows of each side held at a time.

    Returns
    -------
    array of float64, shape (n_references, n_images)
    """

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        norms = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
        return np.maximum(norms - 2 * a @ b.T, 0)

    return _pairwise(references, images, chunk, between)


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm == 0, 1, norm)


def _pairwise(
    references: Any,
    images: Any,
    chunk: int | None,
    between: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    references, images = _both(references, images)
    result = np.empty((len(references), len(images)))
    for rows in _chunks(references, chunk, 192):
        one = np.array(references[rows], dtype=np.float64).reshape(rows.stop - rows.start, -1)
        if not np.isfinite(one).all():
            raise InputError(
                f"the features of a reference among rows {rows.start} to {rows.stop - 1} are not "
                "finite; compute them again, or leave the image out"
            )
        for columns in _chunks(images, chunk, 64):
            two = np.array(images[columns], dtype=np.float64)
            two = two.reshape(len(two), -1)
            two[~np.isfinite(two).all(axis=1)] = np.nan
            result[rows, columns] = between(one, two)
    return result


_DISTANCE: dict[str, Any] = {
    "family": "image_distance",
    "says": "Distance of the features of image and reference; lower is better.",
    "group": "image",
    "symbol": "distance",
    "higher_is_better": False,
    "of": "features",
}


@metric(
    "{features}_distance",
    label="Feature distance, {features}",
    unit="1 - r",
    range="from 0 (1 − r: to 2)",
    **_DISTANCE,
)
def _correlation_distance(references: Any, images: Any) -> np.ndarray:
    return 1 - feature_correlation(references, images).T


@metric("lpips", label="Feature distance, LPIPS", unit="distance", range="from 0", **_DISTANCE)
def _squared_distance(references: Any, images: Any) -> np.ndarray:
    return squared_distances(references, images).T


@metric(
    "{features}_image_cosine",
    family="image_cosine",
    label="Image–reference likeness, {features}",
    says="Cosine of the features of image and reference.",
    group="image",
    symbol="cosine",
    unit="cosine",
    range="−1 to 1",
    chance="chance by permutation, which is far above 0",
    of="features",
)
def _cosine(references: Any, images: Any) -> np.ndarray:
    return feature_cosine(references, images).T


@metric(
    "clip_score",
    label="Image–caption likeness",
    says="A hundred times the cosine of the generated image and the true captions (CLIPScore).",
    group="image",
    range="0 to 100",
    chance="chance by permutation, which is far above 0",
)
def caption_score(texts: Any, images: Any) -> np.ndarray:
    """CLIPScore of every image with every text: 100 max(cosine, 0).

    Higher is better; in [0, 100]; unrelated captions are far above 0.

    Parameters
    ----------
    texts, images : array-like of shape (n, n_features)
        Embeddings in one space.

    Returns
    -------
    array of float64, shape (n_images, n_texts)
    """
    return 100 * np.maximum(feature_cosine(texts, images).T, 0)
