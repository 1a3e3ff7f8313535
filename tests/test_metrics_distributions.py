"""Scores of sets of images against matrix roots, double loops and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import entropy

from eegprompt.core.errors import InputError
from eegprompt.metrics.distributions import frechet_distance, inception_score, kernel_distance
from eegprompt.metrics.generation import n_way_accuracy, same_class


# -- inception score ---------------------------------------------------------------------------
def test_inception_score_is_the_entropy_formula():
    logits = np.random.default_rng(0).standard_normal((50, 7)) * 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shuffled = p[np.random.RandomState(2020).permutation(50)]
    parts = [shuffled[i * 50 // 4 : (i + 1) * 50 // 4] for i in range(4)]
    expected = [
        np.exp(np.mean([entropy(row, part.mean(axis=0)) for row in part])) for part in parts
    ]
    mean, sd = inception_score(logits, splits=4)
    assert mean == pytest.approx(np.mean(expected), rel=1e-10)
    assert sd == pytest.approx(np.std(expected), rel=1e-8)


def test_inception_score_has_its_range_and_its_small_sample_bias():
    assert inception_score(np.zeros((20, 5)))[0] == pytest.approx(1)
    confident = 60.0 * np.eye(40)[np.arange(200) % 40]
    one, many = inception_score(confident, splits=1)[0], inception_score(confident)[0]
    assert one == pytest.approx(40)
    assert 15 < many < 17  # 15.9 is what 20 images a split leave of 40 classes


# -- Fréchet distance --------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "m", "d"), [(30, 40, 8), (6, 9, 20), (50, 5, 12)])
def test_frechet_distance_is_the_matrix_root(n, m, d):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 1.5 + 0.3
    a, b = np.cov(x.T), np.cov(y.T)
    mean = x.mean(axis=0) - y.mean(axis=0)
    # eigenvalues of the product: real and not negative, though the product is not symmetric
    root = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()
    expected = mean @ mean + np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4 if d > n else 1e-8)
    if min(n, m) > d:
        by_root = mean @ mean + np.trace(a + b - 2 * sqrtm(a @ b).real)
        assert frechet_distance(x, y) == pytest.approx(by_root, rel=1e-8)


def test_frechet_distance_of_a_set_with_itself_is_zero():
    x = np.random.default_rng(1).standard_normal((25, 60))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(60 * 4)


# -- kernel distance ---------------------------------------------------------------------------
def test_kernel_distance_is_the_double_loop():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((9, 5)), rng.standard_normal((7, 5)) + 0.5
    y = np.concatenate([y, y[:2] * 1.1])

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    n = 9
    xx = np.mean([k(x[i], x[j]) for i in range(n) for j in range(n) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(n) for j in range(n) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    mean, sd = kernel_distance(x, y, subsets=3)
    assert mean == pytest.approx(xx + yy - 2 * xy)
    assert sd == pytest.approx(0, abs=1e-12)  # every subset is the whole set


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(3)
    values = [
        kernel_distance(rng.standard_normal((40, 6)), rng.standard_normal((40, 6)), subsets=1)[0]
        for _ in range(200)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5


# -- generation accuracy -----------------------------------------------------------------------
@pytest.mark.parametrize(("n", "k"), [(2, 1), (5, 1), (5, 3), (12, 2)])
def test_n_way_is_what_sampling_gives(n, k):
    rng = np.random.default_rng(4)
    scores = np.round(rng.standard_normal((6, 12)), 1)  # with ties
    targets = rng.integers(12, size=6)
    drawn = np.zeros(6)
    for i, (row, target) in enumerate(zip(scores, targets)):
        others = np.delete(np.arange(12), target)
        for _ in range(1500):
            rivals = rng.choice(others, n - 1, replace=False)
            lots = rng.random(12)  # break ties by lot
            rank = sum((row[r], lots[r]) > (row[target], lots[target]) for r in rivals)
            drawn[i] += (rank < k) / 1500
    np.testing.assert_allclose(n_way_accuracy(scores, targets, n, k), drawn, atol=0.05)


def test_n_way_is_lenient_and_the_strict_score_is_not():
    scores = -np.arange(1000.0)[None]
    assert n_way_accuracy(scores, np.array([19]), 50)[0] == pytest.approx(0.38, abs=0.005)
    assert same_class(scores, np.array([19]))[0] == 0
    assert same_class(scores, np.array([0]))[0] == 1
    assert n_way_accuracy(scores, np.array([0]), 50)[0] == 1
    constant = np.zeros((1, 10))
    assert n_way_accuracy(constant, np.array([3]), 5)[0] == pytest.approx(1 / 5)
    assert same_class(constant, np.array([3]))[0] == pytest.approx(1 / 10)
    assert n_way_accuracy(constant * np.nan, np.array([3]), 5)[0] == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match="at least 10 images"):
        inception_score(np.zeros((9, 3)))
    with pytest.raises(InputError, match="image 1 are not finite"):
        frechet_distance(np.array([[0.0], [np.nan]]), np.zeros((2, 1)))
    with pytest.raises(InputError, match="equally long"):
        kernel_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(InputError, match="at least 2 images"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"n must lie in \[2, 3\]"):
        n_way_accuracy(np.zeros((1, 3)), np.array([0]), 4)
    with pytest.raises(InputError, match=r"k must lie in \[1, 2\]"):
        n_way_accuracy(np.zeros((1, 3)), np.array([0]), 3, 3)
    with pytest.raises(InputError, match=r"must lie in \[0, 2\]"):
        same_class(np.zeros((1, 3)), np.array([3]))
