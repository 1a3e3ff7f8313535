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
from eegprompt.retrieval.pool import DECIMALS, unit_rows

if TYPE_CHECKING:
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["retrieve"]


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
