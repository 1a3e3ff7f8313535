"""Retrieval and its calibration: properties, brute-force references, degenerate heads."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegprompt.core.errors import CaptionError, InputError
from eegprompt.retrieval.calibration import Calibration, Logistic
from eegprompt.retrieval.pool import CandidatePool, build_pool, caption_id
from eegprompt.retrieval.search import closeness, evidence, retrieve


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pool_of(embeddings: np.ndarray, kind: str = "ObjectSnap") -> CandidatePool:
    texts = tuple(f"text {i:04d}" for i in range(len(embeddings)))
    return CandidatePool(
        kind=kind,
        texts=texts,
        embeddings=embeddings.astype(np.float32),
        caption_ids=tuple(caption_id(kind, t) for t in texts),
        meanings=(None,) * len(texts),
    )


def random_pool(m: int = 60, d: int = 12, seed: int = 0) -> CandidatePool:
    return pool_of(unit(np.random.default_rng(seed).standard_normal((m, d))))


def head(pool: CandidatePool, n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries of a head of some quality, and the true captions' embeddings."""
    rng = np.random.default_rng(seed)
    truth = pool.embeddings[rng.integers(len(pool), size=n)].astype(np.float64)
    return unit(truth + noise * rng.standard_normal(truth.shape)), truth


# -- the pool -------------------------------------------------------------------------------------
def table(rows: list[tuple[str, str, str, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "kind", "text", "meaning"])


ROWS = [
    ("i1", "ObjectSnap", "a cat", "cat"),
    ("i2", "ObjectSnap", "one sees a cat", "cat"),
    ("i3", "ObjectSnap", "a cat", "cat"),
    ("i3", "MoodFeel", "sad", None),
    ("i4", "ObjectSnap", "a dog", "dog"),
]


def embed(texts):
    return unit(np.array([[len(t), 1.0 + t.count("a")] for t in texts]))


def test_a_pool_has_one_entry_a_text_of_its_own_images_whatever_the_order_of_the_table():
    pool = build_pool(table(ROWS), "ObjectSnap", ["i1", "i2", "i3"], embed, name="train")
    assert pool.texts == ("a cat", "one sees a cat")
    assert pool.meanings == ("cat", "cat")
    assert pool.name == "train" and len(pool) == 2
    other = build_pool(table(ROWS[::-1]), "ObjectSnap", ["i3", "i2", "i1"], embed)
    assert other.texts == pool.texts and np.array_equal(other.embeddings, pool.embeddings)
    assert pool.same_answer("one sees a cat", "cat").tolist() == [True, True]
    assert pool.same_answer("a cat").tolist() == [True, False]


def test_an_empty_pool_and_a_text_with_two_meanings_are_refused():
    with pytest.raises(CaptionError, match="no caption of kind ColorTone"):
        build_pool(table(ROWS), "ColorTone", ["i1"], embed)
    wrong = [*ROWS, ("i5", "ObjectSnap", "a cat", "lion")]
    with pytest.raises(CaptionError, match="two meanings"):
        build_pool(table(wrong), "ObjectSnap", ["i1", "i5"], embed)


def test_a_caption_id_is_of_kind_and_text():
    assert caption_id("MoodFeel", "sad") == caption_id("MoodFeel", "sad")
    assert caption_id("MoodFeel", "sad") != caption_id("ThemeTag", "sad")


# -- retrieval ------------------------------------------------------------------------------------
def test_a_caption_retrieves_itself_with_cosine_one():
    pool = random_pool()
    indices, similarity = retrieve(pool.embeddings * 7.5, pool, 1)
    assert indices[:, 0].tolist() == list(range(len(pool)))
    np.testing.assert_allclose(similarity, 1, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 40),
    k=st.integers(1, 50),
    chunk=st.integers(1, 15),
    levels=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_chunks_of_any_size_equal_the_full_matrix_sorted_by_similarity_then_index(
    n, m, k, chunk, levels, seed
):
    rng = np.random.default_rng(seed)
    # Few distinct coordinates, so that ties abound, also across the border at k.
    pool = pool_of(unit(rng.integers(1, levels + 1, (m, 3)).astype(float)))
    query = rng.integers(-2, 3, (n, 3)).astype(float)
    norms = np.linalg.norm(query, axis=1, keepdims=True)
    exact = unit(pool.embeddings.astype(np.float64))
    full = np.round(query / np.where(norms > 0, norms, 1) @ exact.T, 7)
    expected = [sorted(range(m), key=lambda j, i=i: (-full[i, j], j))[:k] for i in range(n)]
    indices, similarity = retrieve(query, pool, k, chunk)
    assert indices.tolist() == expected
    np.testing.assert_allclose(similarity, np.take_along_axis(full, indices, axis=1), atol=1e-12)


def test_a_zero_query_ties_with_everything_and_takes_the_first():
    indices, similarity = retrieve(np.zeros((1, 12)), random_pool(), 3)
    assert indices.tolist() == [[0, 1, 2]] and not similarity.any()


def test_queries_that_cannot_be_used_are_refused():
    pool = random_pool(d=4)
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        retrieve(np.zeros((2, 5)), pool)
    with pytest.raises(InputError, match="query 1 holds a value that is not finite"):
        retrieve(np.array([[0, 0, 0, 1], [0, np.nan, 0, 0]]), pool)
    with pytest.raises(InputError, match="k must be at least 1"):
        retrieve(np.zeros((1, 4)), pool, 0)


# -- evidence and closeness -----------------------------------------------------------------------
def test_evidence_is_the_z_score_and_the_margin():
    pool = random_pool(30)
    query, _ = head(pool, 5, 0.3, 1)
    indices, _ = retrieve(query, pool, 3)
    found = evidence(query, pool, indices, chunk=2)
    for i in range(5):
        s = unit(pool.embeddings.astype(float)) @ query[i]
        order = np.argsort(-s)
        for r in range(3):
            margin = s[order[r]] - s[order[1 if r == 0 else 0]]
            expected = [(s[order[r]] - s.mean()) / s.std(), margin / s.std()]
            np.testing.assert_allclose(found[i, r], expected, atol=1e-4)


def test_closeness_counts_the_captions_that_are_farther_from_the_truth():
    pool = random_pool(15)
    _, truth = head(pool, 6, 0.0, 2)
    indices = np.random.default_rng(0).integers(15, size=(6, 2))
    own, others = closeness(truth, pool, indices)
    captions = unit(pool.embeddings.astype(float))

    def percentile(i, j):
        s = captions @ unit(truth[i])
        rest = [s[c] for c in range(15) if c != j]
        return np.mean([(s[j] > x + 1e-7) + 0.5 * (abs(s[j] - x) <= 1e-7) for x in rest])

    for i in range(6):
        for r in range(2):
            assert own[i, r] == pytest.approx(percentile(i, indices[i, r]))
            rest = [percentile(o, indices[i, r]) for o in range(6) if o != i]
            assert others[i, r] == pytest.approx(np.mean(rest))


def test_closeness_is_one_for_the_truth_and_half_on_average_for_any_caption():
    pool = random_pool(20)
    truth = pool.embeddings
    own, _ = closeness(truth, pool, np.arange(20)[:, None])
    assert (own == 1).all()
    everything = np.tile(np.arange(20), (20, 1))
    own, _ = closeness(truth, pool, everything)
    np.testing.assert_allclose(own.mean(axis=1), 0.5)


# -- calibration ----------------------------------------------------------------------------------
def test_confidence_predicts_closeness_on_new_trials_and_ranks_the_heads():
    means = []
    for noise in (0.15, 0.5, 5.0):
        pool = random_pool(seed=3)
        fitted = Calibration.fit("ObjectSnap", *head(pool, 300, noise, 4), pool)
        query, truth = head(pool, 600, noise, 5)
        indices, _ = retrieve(query, pool, 1)
        confidence = fitted.confidence(query, pool, indices)[:, 0]
        own, others = closeness(truth, pool, indices)
        assert confidence.mean() == pytest.approx((own - others + 0.5).mean(), abs=0.04)
        assert ((confidence >= 0) & (confidence <= 1)).all()
        means.append(confidence.mean())
    assert means[0] > means[1] > means[2]


def test_within_a_head_the_more_confident_trials_are_closer():
    pool = random_pool(seed=6)

    def mixed(seed):
        good, truth_good = head(pool, 200, 0.15, seed)
        bad, truth_bad = head(pool, 200, 3.0, seed + 1)
        return np.concatenate([good, bad]), np.concatenate([truth_good, truth_bad])

    fitted = Calibration.fit("ObjectSnap", *mixed(0), pool)
    query, _ = mixed(10)
    indices, _ = retrieve(query, pool, 1)
    confidence = fitted.confidence(query, pool, indices)[:, 0]
    assert confidence[:200].mean() > confidence[200:].mean() + 0.15


def test_a_head_at_chance_gets_one_half_for_all():
    pool = random_pool(seed=7)
    rng = np.random.default_rng(8)
    _, truth = head(pool, 400, 0.0, 9)
    fitted = Calibration.fit("ObjectSnap", rng.standard_normal((400, 12)), truth, pool)
    query = rng.standard_normal((200, 12))
    indices, _ = retrieve(query, pool, 1)
    np.testing.assert_allclose(fitted.confidence(query, pool, indices), 0.5, atol=0.12)


def test_a_head_that_always_retrieves_a_central_caption_knows_nothing():
    rng = np.random.default_rng(0)
    center = np.eye(12)[0]
    pool = pool_of(
        unit(np.concatenate([[center], center + 0.8 * unit(rng.standard_normal((59, 12)))]))
    )
    _, truth = head(pool, 300, 0.0, 1)
    query = center + 0.01 * rng.standard_normal((300, 12))
    indices, _ = retrieve(query, pool, 1)
    assert (indices == 0).all()
    own, _ = closeness(truth, pool, indices)
    assert own.mean() > 0.65  # close to everything, and yet
    fitted = Calibration.fit("ObjectSnap", query, truth, pool)
    np.testing.assert_allclose(fitted.confidence(query, pool, indices), 0.5, atol=0.1)


def test_degenerate_heads_and_pools_get_one_half():
    pool = random_pool()
    indices = np.zeros((3, 2), dtype=int)
    constant = Calibration.fit("ObjectSnap", np.zeros((5, 12)), pool.embeddings[:5], pool)
    assert (constant.confidence(np.zeros((3, 12)), pool, indices) == 0.5).all()
    nothing = Calibration.fit("ObjectSnap", np.zeros((0, 12)), np.zeros((0, 12)), pool)
    assert (nothing.confidence(pool.embeddings[:3], pool, indices) == 0.5).all()
    single = random_pool(1)
    lonely = Calibration.fit("ObjectSnap", single.embeddings, single.embeddings, single)
    assert lonely.confidence(single.embeddings, single, np.zeros((1, 1), int)).tolist() == [[0.5]]
    # A head that is good elsewhere says nothing where its similarities are all equal.
    good = Calibration.fit("ObjectSnap", *head(pool, 200, 0.1, 0), pool)
    assert (good.confidence(np.zeros((3, 12)), pool, indices) == 0.5).all()


def test_few_validation_trials_keep_the_confidence_near_one_half():
    pool = random_pool()
    query, _ = head(pool, 50, 0.05, 1)
    indices, _ = retrieve(query, pool, 1)
    means = [
        Calibration.fit("ObjectSnap", *head(pool, n, 0.05, 2), pool)
        .confidence(query, pool, indices)
        .mean()
        for n in (1, 3, 30, 300)
    ]
    assert 0.5 <= means[0] < means[1] < means[2] < means[3]
    assert means[0] < 0.65 and means[3] > 0.9


def test_more_evidence_never_means_less_confidence_nor_does_a_lower_rank_mean_more():
    pool = random_pool()
    rng = np.random.default_rng(3)
    for seed, noise in enumerate((0.1, 0.5, 2.0, 8.0)):
        query, truth = head(pool, 60, noise, seed)
        fitted = Calibration.fit("ObjectSnap", query, truth, pool)
        low = rng.normal(size=(100, 2))
        more = low + rng.exponential(size=(100, 2))
        for function in (fitted.first, fitted.rest):
            assert (function(more) >= function(low)).all()
        indices, _ = retrieve(query, pool, 8)
        assert (np.diff(fitted.confidence(query, pool, indices), axis=1) <= 1e-12).all()


def test_an_anti_correlated_fit_is_flat_rather_than_falling():
    features = np.column_stack([np.linspace(0, 3, 50), np.linspace(0, 1, 50)])
    function = Logistic.fit(features, np.linspace(1, 0, 50))
    assert function.slopes == (0.0, 0.0)


def test_heads_in_a_narrow_cone_and_in_a_wide_one_are_comparable():
    wide = random_pool(seed=11)
    axis = np.zeros(12)
    axis[0] = 6.0
    narrow = pool_of(unit(wide.embeddings + axis))
    confidences, similarities = [], []
    for pool, shift in ((wide, 0.0), (narrow, axis)):
        rng = np.random.default_rng(12)
        rows = rng.integers(len(wide), size=500)
        query = unit(wide.embeddings[rows] + 0.3 * rng.standard_normal((500, 12)) + shift)
        fitted = Calibration.fit("ObjectSnap", query[:250], pool.embeddings[rows[:250]], pool)
        indices, similarity = retrieve(query[250:], pool, 1)
        confidences.append(fitted.confidence(query[250:], pool, indices).mean())
        similarities.append(similarity.mean())
    assert similarities[1] - similarities[0] > 0.15
    assert confidences[1] == pytest.approx(confidences[0], abs=0.08)


def test_a_calibration_survives_json():
    pool = random_pool()
    fitted = Calibration.fit("ObjectSnap", *head(pool, 40, 0.4, 0), pool)
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_queries_and_truths_must_match():
    pool = random_pool()
    with pytest.raises(InputError, match="as many true captions"):
        Calibration.fit("ObjectSnap", np.zeros((3, 12)), np.zeros((2, 12)), pool)
