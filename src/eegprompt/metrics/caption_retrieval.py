"""Caption retrieval: is a right caption among the nearest to the EEG?

Several captions can be right for one trial: those of the same image, and those that say the same
in other words. What counts is the rank of the best right one. Equal similarities share their ranks
evenly – as if ties were broken by drawing lots – so that an encoder which puts out a constant
scores chance; a similarity that is not a number is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError
from eegprompt.metrics.base import metric

__all__ = [
    "AnswerRanks",
    "answer_ranks",
    "class_credit",
    "cosine_similarity",
    "right_answers",
    "topk_hits",
]


def cosine_similarity(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Cosine of each query with each candidate.

    Candidates with equal embeddings get bitwise equal similarities, so that they tie.

    Parameters
    ----------
    queries : array of shape (n_queries, n_dims)
        Any length; a row of zeros has cosine 0 with everything, a NaN stays NaN.
    candidates : array of shape (n_candidates, n_dims)
        Likewise, but finite.

    Returns
    -------
    array of float64, shape (n_queries, n_candidates)
        In [-1, 1].

    Raises
    ------
    InputError
        If the dimensions differ or a candidate is not finite.
    """
    queries = numbers(queries, "queries", ("queries", "dimensions"), empty=True, infinite=False)
    candidates = numbers(candidates, "candidates", ("candidates", "dimensions"), empty=True)
    if queries.shape[1] != candidates.shape[1]:
        raise InputError(
            "queries and candidates must be (rows, dimensions) with equal dimensions, got shapes "
            f"{queries.shape} and {candidates.shape}"
        )
    if not np.isfinite(candidates).all():
        bad = int(np.flatnonzero(~np.isfinite(candidates).all(axis=1))[0])
        raise InputError(f"candidate {bad} has an embedding that is not finite; embed it again")
    unique, inverse = np.unique(candidates, axis=0, return_inverse=True)
    if len(unique) == len(candidates):
        return _unit_rows(queries) @ _unit_rows(candidates).T
    return (_unit_rows(queries) @ _unit_rows(unique).T)[:, inverse.ravel()]


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm == 0, 1, norm)


def right_answers(
    candidate_texts: Sequence[str],
    image_ids: Sequence[str],
    caption_images: Sequence[str],
    caption_texts: Sequence[str],
    caption_meanings: Sequence[object] | None = None,
) -> np.ndarray:
    """Which candidates are right for which image.

    Right are the image's own captions and every caption with the same meaning as one of them.

    Parameters
    ----------
    candidate_texts : sequence of str, length n_candidates
        One entry a unique text.
    image_ids : sequence of str, length n_images
        The images that can be asked for.
    caption_images, caption_texts : sequence of str, length n_captions
        All captions of one kind: whose, and what it says.
    caption_meanings : sequence, length n_captions, optional
        What each says, as a value that can be compared; None or NaN where that is not known.

    Returns
    -------
    array of bool, shape (n_images, n_candidates)

    Raises
    ------
    InputError
        If counts differ, a candidate is listed twice, or an image has no right candidate.
    """
    n_captions = len(caption_texts)
    meanings = list(caption_meanings) if caption_meanings is not None else [None] * n_captions
    if not len(caption_images) == n_captions == len(meanings):
        raise InputError(
            f"captions need an image, a text and a meaning each, got {len(caption_images)}, "
            f"{n_captions} and {len(meanings)}"
        )
    column = {text: i for i, text in enumerate(candidate_texts)}
    if len(column) != len(candidate_texts):
        raise InputError("a candidate text is listed twice; the pool has one entry a unique text")
    row = {image: i for i, image in enumerate(image_ids)}
    right = np.zeros((len(row), len(column)), dtype=bool)
    says: dict[object, set[int]] = {}
    asks: dict[object, set[int]] = {}
    for image, text, meaning in zip(caption_images, caption_texts, meanings):
        i, j = row.get(image), column.get(text)
        if i is not None and j is not None:
            right[i, j] = True
        if meaning is None or meaning != meaning:  # NaN: nothing is known
            continue
        if j is not None:
            says.setdefault(meaning, set()).add(j)
        if i is not None:
            asks.setdefault(meaning, set()).add(i)
    for meaning, images in asks.items():
        columns = says.get(meaning)
        if columns:
            right[np.ix_(sorted(images), sorted(columns))] = True
    alone = np.flatnonzero(~right.any(axis=1))
    if len(alone):
        raise InputError(
            f"{len(alone)} images have no right caption among the candidates (first: "
            f"'{list(image_ids)[alone[0]]}'); write captions for every image"
        )
    return right


@dataclass(frozen=True)
class AnswerRanks:
    """Where the best right candidate stands, for every query and every possible answer.

    Parameters
    ----------
    better : array of int, shape (n_queries, n_answers)
        Wrong candidates more similar than the best right one.
    tied_wrong : array of int, shape (n_queries, n_answers)
        Wrong candidates as similar as the best right one.
    tied_right : array of int, shape (n_queries, n_answers)
        Right candidates that similar; 0 where no right candidate has a similarity.
    n_candidates : int
        Size of the pool.
    """

    better: np.ndarray
    tied_wrong: np.ndarray
    tied_right: np.ndarray
    n_candidates: int


def answer_ranks(similarity: np.ndarray, right: np.ndarray, *, chunk: int = 256) -> AnswerRanks:
    """Rank the best right candidate for every query under every possible answer.

    The column of the true answer gives the score; the other columns are what permutations look
    up.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_candidates)
        Higher is more similar; NaN is wrong.
    right : array of bool, shape (n_answers, n_candidates)
        Right candidates of each answer, at least one.
    chunk : int
        Queries ranked at a time; changes memory, not results.

    Returns
    -------
    AnswerRanks

    Raises
    ------
    InputError
        If the numbers of candidates differ or an answer has no right candidate.
    """
    similarity = numbers(similarity, "similarities", ("queries", "candidates"), single=True)
    right = _marks(right, ("answers", "candidates"))
    if similarity.shape[1] != right.shape[1]:
        raise InputError(
            "similarity (queries, candidates) and right (answers, candidates) must agree on the "
            f"candidates, got shapes {similarity.shape} and {right.shape}"
        )
    if not right.any(axis=1).all():
        raise InputError("an answer has no right candidate; every answer needs at least one")
    n_queries, n_candidates = similarity.shape
    _, first, inverse = np.unique(
        np.packbits(right, axis=1), axis=0, return_index=True, return_inverse=True
    )
    groups, inverse = right[first], inverse.ravel()
    member_of, members = np.nonzero(groups)
    starts = np.searchsorted(member_of, np.arange(len(groups)))
    shape = (n_queries, len(groups))
    better, wrong, ties = (np.zeros(shape, dtype=np.int32) for _ in range(3))
    for start in range(0, n_queries, chunk):
        rows = slice(start, min(start + chunk, n_queries))
        block = similarity[rows].astype(np.float64)
        bad = np.isnan(block)
        block[bad] = -np.inf
        above, level = _places(block)
        above[bad] = n_candidates
        of_members = above[:, members]
        best = np.minimum.reduceat(of_members, starts, axis=1)
        better[rows] = best
        if level is None:  # nothing ties
            ties[rows] = best < n_candidates
            continue
        at_best = of_members == best[:, member_of]
        same = np.add.reduceat(at_best.astype(np.int32), starts, axis=1)
        tied = np.maximum.reduceat(np.where(at_best, level[:, members], 0), starts, axis=1)
        lost = best == n_candidates
        ties[rows] = np.where(lost, 0, same)
        wrong[rows] = np.where(lost, 0, tied - same)
    if len(groups) == len(right) and (inverse == np.arange(len(right))).all():
        return AnswerRanks(better, wrong, ties, n_candidates)
    return AnswerRanks(better[:, inverse], wrong[:, inverse], ties[:, inverse], n_candidates)


def _places(block: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """How many are higher than each entry of its row, and how many equal it (None: only itself)."""
    n = block.shape[1]
    order = np.argsort(block, axis=1)
    ordered = np.take_along_axis(block, order, axis=1)
    above = np.empty(block.shape, dtype=np.int32)
    new = ordered[:, 1:] != ordered[:, :-1]
    if new.all():
        places = np.broadcast_to(np.arange(n - 1, -1, -1, dtype=np.int32), block.shape)
        np.put_along_axis(above, order, places, axis=1)
        return above, None
    position = np.arange(n, dtype=np.int32)
    edge = np.ones((len(block), 1), dtype=bool)
    # the last place of each run of equal values, from the right, and the first, from the left
    last = np.where(np.hstack([new, edge]), position, n)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    first = np.maximum.accumulate(np.where(np.hstack([edge, new]), position, 0), axis=1)
    level = np.empty(block.shape, dtype=np.int32)
    np.put_along_axis(above, order, (n - 1 - last).astype(np.int32), axis=1)
    np.put_along_axis(level, order, (last - first + 1).astype(np.int32), axis=1)
    return above, level


def topk_hits(ranks: AnswerRanks, k: int) -> np.ndarray:
    """Probability that a right candidate is among the top `k` when ties are broken by lot.

    With `b` wrong candidates above, and `c` right among `w + c` tied, the top holds ``m = k - b``
    of the tied ones, and a right one with probability ``1 - C(w, m) / C(w + c, m)``.

    Parameters
    ----------
    ranks : AnswerRanks
        From :func:`answer_ranks`.
    k : int
        At least 1.

    Returns
    -------
    array of float, shape (n_queries, n_answers)
        In [0, 1]; 0 or 1 where nothing ties.
    """
    if not isinstance(k, int | np.integer) or not 1 <= k <= ranks.n_candidates:
        raise InputError(f"k must lie in [1, {ranks.n_candidates}] (the candidate pool), got {k}")
    places = k - ranks.better
    return np.where(
        (places > 0) & (ranks.tied_right > 0),
        _some_right(ranks.tied_wrong, ranks.tied_right, np.maximum(places, 1)),
        0.0,
    )


def _some_right(wrong: np.ndarray, right: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Probability of at least one right when `places` are drawn from wrong and right ones."""
    wrong, right, places = np.broadcast_arrays(wrong, right, places)
    hit = np.ones(wrong.shape)
    unsure = (right > 0) & (places <= wrong)
    hit[right == 0] = 0
    if unsure.any():
        w = wrong[unsure].astype(np.float64)
        c = right[unsure].astype(np.float64)
        m = places[unsure].astype(np.float64)
        # C(w, m) / C(w + c, m) as a product of at most max(m) factors below 1
        missed = np.ones(len(w))
        for step in range(int(m.max())):
            missed *= np.where(step < m, (w - step) / np.maximum(w + c - step, 1), 1.0)
        hit[unsure] = 1 - missed
    return hit


def _marks(right: np.ndarray, axes: tuple[str, str]) -> np.ndarray:
    """A table of yes and no, however it is stored."""
    table = numbers(right, "right candidates", axes)
    if not np.isin(table, (0, 1)).all():
        raise InputError("right candidates must be marked by True or False (1 or 0)")
    return table > 0


@metric(
    "caption_retrieval_class_top1",
    family="retrieval_class",
    label="Category of the nearest caption",
    says="How often the caption nearest to the EEG belongs to the right category; a caption that fits "
    "several categories counts in part.",
    group="category",
    symbol="trials right",
    unit="proportion",
    range="0 to 100 %",
    chance="chance by permutation, about one in the number of categories",
)
def class_credit(similarity: np.ndarray, share: np.ndarray) -> np.ndarray:
    """How far the nearest candidate speaks for each class.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_candidates)
        Higher is more similar; NaN never wins.
    share : array of shape (n_candidates, n_classes)
        Of the images a candidate is a right caption of, the part in each class; rows sum to 1.

    Returns
    -------
    array of float, shape (n_queries, n_classes)
        The share of the nearest candidate, averaged over ties; 0 for a query of NaN. The entry of
        the true class is the class-level top-1 score; its chance is 1 / n_classes where classes
        have equally many images.
    """
    similarity = numbers(similarity, "similarities", ("queries", "candidates"))
    share = numbers(share, "shares", ("candidates", "classes"), infinite=False)
    if similarity.shape[1] != len(share):
        raise InputError(
            "similarity (queries, candidates) and share (candidates, classes) must agree on the "
            f"candidates, got shapes {similarity.shape} and {share.shape}"
        )
    value = np.where(np.isnan(similarity), -np.inf, similarity)
    best = value.max(axis=1, keepdims=True)
    top = (value == best) & ~np.isneginf(best)
    return (top @ share) / np.maximum(top.sum(axis=1, keepdims=True), 1)


_AMONG = {"group": "caption", "symbol": "trials right", "unit": "proportion", "range": "0 to 100 %"}
_WHICH = "Which image, by all heads together"


@metric(
    "caption_retrieval_top1",
    family="retrieval_top1",
    label="Caption retrieval, top 1",
    says="How often the caption nearest to the EEG is a right one. Captions of the same image or of the "
    "same meaning all count as right.",
    chance="chance by permutation: a caption that is right for many images is easier to hit",
    of="captions",
    **_AMONG,
)
@metric(
    "image_retrieval_top1",
    label=f"{_WHICH}, top 1",
    says="How often the image seen is the first of the test images, when the captions of all heads are "
    "taken together.",
    chance="chance one in the images compared",
    of="images",
    **_AMONG,
)
def _top1(ranks: AnswerRanks) -> np.ndarray:
    return topk_hits(ranks, 1)


@metric(
    "caption_retrieval_top5",
    family="retrieval_top5",
    label="Caption retrieval, top 5",
    says="How often a right caption is among the five nearest to the EEG.",
    of="captions",
    **_AMONG,
)
@metric(
    "image_retrieval_top5",
    label=f"{_WHICH}, top 5",
    says="How often the image seen is among the first 5 of the test images, when the captions of all "
    "heads are taken together.",
    chance="chance five in the images compared",
    of="images",
    **_AMONG,
)
def _top5(ranks: AnswerRanks) -> np.ndarray:
    return topk_hits(ranks, min(5, ranks.n_candidates))
