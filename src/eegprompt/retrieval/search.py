"""From an embedding to the nearest captions of a declared pool, and how far to trust them.

A *candidate pool* holds the captions of one kind that can be retrieved, one entry a unique text.
It is always named after the side whose images it comes from (``train``, ``test``, ``all``),
because the pool sets what chance is.

Cosine similarities of different heads cannot be compared: one head's captions lie in a narrow
cone, another's are spread. :class:`Calibration` brings them onto one scale by what happened on
the validation trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["closeness", "evidence", "retrieve", "unit_rows"]

# Similarities are compared to this many decimals. Embeddings are float32, so later digits are
# noise of the order of summation; without them, chunks of any size give the same ranking.
DECIMALS = 7


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length."""
    rows = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def check_query(query: np.ndarray, pool: CandidatePool) -> np.ndarray:
    """Refuse a query that does not fit the pool."""
    query = np.asarray(query)
    if query.ndim != 2 or query.shape[1] != pool.embeddings.shape[1]:
        raise InputError(
            f"queries must have shape (n, {pool.embeddings.shape[1]}) like the captions' embeddings, "
            f"got {query.shape}"
        )
    if not np.isfinite(query).all():
        bad = int(np.flatnonzero(~np.isfinite(query).all(axis=1))[0])
        raise InputError(f"query {bad} holds a value that is not finite; nothing can be retrieved")
    return unit_rows(query)


def top_candidates(similarity: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest values of each row, best first; ties by the lower column."""
    if k >= similarity.shape[1]:
        return np.argsort(-similarity, axis=1, kind="stable")
    part = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(similarity, part, axis=1)
    # Where a tie crosses the border, argpartition takes any of the tied ones.
    crossed = (similarity >= values.min(axis=1, keepdims=True)).sum(axis=1) > k
    order = np.argsort(-values, axis=1, kind="stable")
    result = np.take_along_axis(part, order, axis=1)
    if crossed.any():
        result[crossed] = np.argsort(-similarity[crossed], axis=1, kind="stable")[:, :k]
    return result


def chunks(n: int, m: int, chunk: int | None) -> list[slice]:
    """Slices over n queries that keep a block of similarities within about 64 MB."""
    size = max(1, (1 << 23) // max(m, 1)) if chunk is None else chunk
    if size < 1:
        raise InputError(f"chunk must be at least 1, got {chunk}")
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def retrieve(
    query: np.ndarray, pool: CandidatePool, k: int = 1, chunk: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k captions nearest to each query by cosine.

    Parameters
    ----------
    query : array, shape (n, n_dims)
        Need not be of unit length; a zero query has cosine 0 with everything.
    pool : CandidatePool
        Where to look.
    k : int, default 1
        At most the size of the pool is returned.
    chunk : int, optional
        Queries at a time; does not change the result.

    Returns
    -------
    indices : array of int64, shape (n, min(k, n_captions))
        Best first; of equal similarities (to 7 decimals) the lower index comes first.
    similarity : array of float64, same shape
        Cosine in [-1, 1].

    Raises
    ------
    InputError
        If shapes do not fit, `k` is below 1 or a query is not finite.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    query = check_query(query, pool)
    captions = unit_rows(pool.embeddings).T
    k = min(k, len(pool))
    indices = np.zeros((len(query), k), dtype=np.int64)
    values = np.zeros((len(query), k))
    for rows in chunks(len(query), len(pool), chunk):
        similarity = np.round(query[rows] @ captions, DECIMALS)
        indices[rows] = top_candidates(similarity, k)
        values[rows] = np.take_along_axis(similarity, indices[rows], axis=1)
    return indices, np.clip(values, -1, 1)


def evidence(
    query: np.ndarray, pool: CandidatePool, indices: np.ndarray, chunk: int | None = None
) -> np.ndarray:
    """How far retrieved captions stand out of their pool.

    Parameters
    ----------
    query : array, shape (n, n_dims)
        EEG embeddings.
    pool : CandidatePool
        Where the captions come from.
    indices : array of int, shape (n, k)
        Retrieved captions.
    chunk : int, optional
        Queries at a time.

    Returns
    -------
    array of float64, shape (n, k, 2)
        The z-score of each caption's similarity among the query's similarities with the whole
        pool, and its margin over the best other caption in the same unit (negative unless the
        caption is the nearest). Both are 0 where all similarities are equal.
    """
    query = check_query(query, pool)
    captions = unit_rows(pool.embeddings).T
    result = np.zeros((*indices.shape, 2))
    if len(pool) < 2:
        return result
    for rows in chunks(len(query), len(pool), chunk):
        similarity = np.round(query[rows] @ captions, DECIMALS)
        spread = similarity.std(axis=1, keepdims=True)
        # Below the rounding of the similarities there is no spread to speak of.
        scale = np.where(spread > 10.0**-DECIMALS, spread, np.inf)
        top = top_candidates(similarity, 2)
        best, second = np.take_along_axis(similarity, top, axis=1).T
        chosen = np.take_along_axis(similarity, indices[rows], axis=1)
        is_best = indices[rows] == top[:, :1]
        other = np.where(is_best, second[:, None], best[:, None])
        result[rows, :, 0] = (chosen - similarity.mean(axis=1, keepdims=True)) / scale
        result[rows, :, 1] = (chosen - other) / scale
    return result


def closeness(
    truth: np.ndarray, pool: CandidatePool, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How close retrieved captions are to the true ones, as ranks in text space.

    Parameters
    ----------
    truth : array, shape (n, n_dims)
        Embeddings of the true captions.
    pool : CandidatePool
        Where the captions were retrieved.
    indices : array of int, shape (n, k)
        The captions retrieved for each trial.

    Returns
    -------
    own : array, shape (n, k)
        Fraction of the other captions of the pool that are less similar to the trial's true
        caption than the retrieved one is; ties count half. In [0, 1]; 1 where the true caption
        itself was retrieved, .5 on average where any caption was taken at random.
    others : array, shape (n, k)
        The same with the true captions of all other trials, averaged: what a caption earns by
        being near to everything.
    """
    truth = check_query(truth, pool)
    n, m = len(truth), len(pool)
    if m < 2:
        return np.full(indices.shape, 0.5), np.full(indices.shape, 0.5)
    captions = unit_rows(pool.embeddings).T
    texts, which = np.unique(np.round(truth, DECIMALS), axis=0, return_inverse=True)
    which = which.reshape(-1)
    retrieved, column = np.unique(indices, return_inverse=True)
    column = column.reshape(indices.shape)
    table = np.zeros((len(texts), len(retrieved)))
    for rows in chunks(len(texts), m, None):
        similarity = np.round(texts[rows] @ captions, DECIMALS - 1)
        for offset, row in enumerate(similarity):
            ordered = np.sort(row)
            values = row[retrieved]
            below = np.searchsorted(ordered, values, side="left")
            equal = np.searchsorted(ordered, values, side="right") - below - 1  # not itself
            table[rows.start + offset] = (below + 0.5 * equal) / (m - 1)
    own = table[which[:, None], column]
    if n < 2:
        return own, np.full(own.shape, 0.5)
    counts = np.bincount(which, minlength=len(texts))
    others = ((counts @ table)[column] - own) / (n - 1)
    return own, others
