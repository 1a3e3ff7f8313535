"""Caption retrieval against drawing lots by hand, closed forms and plain loops."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest

from eegprompt.core.errors import InputError
from eegprompt.metrics.caption_retrieval import (
    answer_ranks,
    class_credit,
    cosine_similarity,
    right_answers,
    topk_hits,
)


def topk_accuracy(similarity, right, k=1):
    """Of each query's own answer: a column, or a row of marks."""
    if right.ndim == 1:
        right = right[:, None] == np.arange(similarity.shape[1])
    return np.mean(
        [topk_hits(answer_ranks(s[None], r[None]), k)[0, 0] for s, r in zip(similarity, right)]
    )


def by_all_orders(row, right, k):
    """Top-k probability over every way of breaking ties."""
    hits = []
    for order in permutations(range(len(row))):
        ranked = sorted(order, key=lambda j: -row[j])  # stable: ties keep the drawn order
        rank = 1 + min(i for i, j in enumerate(ranked) if right[j])
        hits.append(rank <= k)
    return np.mean(hits)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2, 4])
def test_ties_are_broken_by_every_lot_equally(seed, k):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 3, (3, 6)).astype(float)  # many ties
    right = rng.random((3, 6)) < 0.4
    right[np.arange(3), rng.integers(6, size=3)] = True
    expected = [by_all_orders(s, r, k) for s, r in zip(similarity, right)]
    assert topk_accuracy(similarity, right, k) == pytest.approx(np.mean(expected))
    ranks = answer_ranks(similarity, right)
    np.testing.assert_allclose(np.diag(topk_hits(ranks, k)), expected)


def test_every_answer_of_the_table_is_the_answer_asked_alone():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 9, (40, 12)).astype(float)
    similarity[3] = np.nan
    similarity[4, 2] = np.nan
    right = rng.random((15, 12)) < 0.25
    right[np.arange(15), rng.integers(12, size=15)] = True
    for k in (1, 3, 12):
        table = topk_hits(answer_ranks(similarity, right, chunk=7), k)
        for a in range(15):
            for q in range(40):
                alone = topk_accuracy(similarity[q : q + 1], right[a : a + 1], k)
                assert table[q, a] == pytest.approx(alone)


def test_chunks_of_any_size_give_the_same():
    rng = np.random.default_rng(1)
    similarity, right = rng.standard_normal((50, 20)), np.eye(20, dtype=bool)
    full, parts = (
        answer_ranks(similarity, right, chunk=1000),
        answer_ranks(similarity, right, chunk=3),
    )
    np.testing.assert_array_equal(full.better, parts.better)


def test_an_item_retrieves_itself_and_a_constant_encoder_scores_chance():
    rng = np.random.default_rng(2)
    candidates = rng.standard_normal((30, 8))
    own = np.arange(30)
    assert topk_accuracy(cosine_similarity(candidates, candidates), own) == 1
    constant = np.tile(candidates[:1], (30, 1))
    assert topk_accuracy(cosine_similarity(constant, candidates), own) == pytest.approx(1 / 30)
    assert topk_accuracy(np.zeros((30, 30)), own, 5) == pytest.approx(5 / 30)


def test_equal_candidates_tie_exactly():
    # matrix products differ in the last bit by where a row stands, at some sizes and not at others
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, d, m = rng.integers(5, 40), rng.integers(3, 400), rng.integers(1, 60)
        candidates = rng.standard_normal((n, d))
        order = rng.permutation(2 * n)
        twins = np.concatenate([candidates, candidates])[order]
        similarity = cosine_similarity(rng.standard_normal((m, d)), twins)
        place = np.argsort(order)
        np.testing.assert_array_equal(similarity[:, place[:n]], similarity[:, place[n:]])


def test_nan_is_wrong():
    similarity = np.array([[np.nan, np.nan], [np.nan, 0.1], [0.2, np.nan]])
    assert topk_accuracy(similarity, np.array([0, 0, 0])) == pytest.approx(1 / 3)
    assert topk_accuracy(similarity, np.array([0, 0, 0]), 2) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("n", "c", "k"), [(10, 1, 1), (10, 1, 5), (10, 3, 2), (5, 5, 1), (6, 4, 3)]
)
def test_chance_is_the_closed_form(n, c, k):
    rng = np.random.default_rng(0)
    right = np.arange(n)[None] < c
    tied = topk_hits(answer_ranks(np.zeros((1, n)), right), k)
    assert tied == pytest.approx(1 - comb(n - c, k) / comb(n, k))
    drawn = topk_hits(answer_ranks(rng.standard_normal((4000, n)), right), k).mean()
    assert drawn == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=0.03)


def test_right_are_own_captions_and_those_of_equal_meaning():
    right = right_answers(
        ["azure", "blue", "red", "ruby"],
        ["a", "b", "c"],
        ["a", "b", "c", "c", "d"],
        ["blue", "red", "azure", "red", "ruby"],
        ["BLUE", None, "BLUE", float("nan"), None],
    )
    assert right.tolist() == [
        [True, True, False, False],
        [False, False, True, False],
        [True, True, True, False],
    ]


def test_images_without_a_caption_and_doubled_candidates_are_refused():
    with pytest.raises(InputError, match=r"no right caption.*'b'"):
        right_answers(["x"], ["a", "b"], ["a"], ["x"])
    with pytest.raises(InputError, match="listed twice"):
        right_answers(["x", "x"], ["a"], ["a"], ["x"])


def test_class_credit_shares_ambiguous_captions_and_ties():
    share = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    similarity = np.array([[3.0, 1, 0], [0, 3, 1], [2, 0, 2], [np.nan] * 3])
    expected = [[1, 0], [0.5, 0.5], [0.5, 0.5], [0, 0]]
    np.testing.assert_allclose(class_credit(similarity, share), expected)


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"k must lie in \[1, 3\]"):
        topk_accuracy(np.zeros((2, 3)), np.array([0, 1]), 4)
    with pytest.raises(InputError, match="no right candidate"):
        answer_ranks(np.zeros((1, 3)), np.zeros((1, 3), dtype=bool))
    with pytest.raises(InputError, match="equal dimensions"):
        cosine_similarity(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(InputError, match="candidate 1 has an embedding that is not finite"):
        cosine_similarity(np.zeros((1, 2)), np.array([[0.0, 1], [np.nan, 1]]))
