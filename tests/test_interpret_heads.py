"""Geometry, probes and most confident heads on planted truth, both ways, and against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr

from eegprompt.analyses._embedding_maps import (
    cka,
    cka_matrix,
    knn_accuracy,
    knn_test,
    map_points,
    silhouette,
)
from eegprompt.analyses._linear_probe import LinearProbe, balanced_accuracy
from eegprompt.analyses._reliability import dependence_on, most_confident, reliability, shares_by
from eegprompt.core.errors import InputError
from eegprompt.stats.max_statistic import max_statistic_p


def noise(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def clusters(n: int = 120, d: int = 10, k: int = 4, apart: float = 6.0, seed: int = 0):
    labels = np.arange(n) % k
    return noise(n, d, seed) + apart * np.eye(k, d)[labels], labels


# -- CKA -----------------------------------------------------------------------------------------
def unbiased_hsic(a: np.ndarray, b: np.ndarray) -> float:
    """Song et al. 2012, equation 5, written out: an independent reference."""
    n = len(a)
    k, m = a @ a.T, b @ b.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


@pytest.mark.parametrize("shapes", [((30, 5), (30, 8)), ((12, 40), (12, 3))])
def test_cka_agrees_with_its_formulas_in_feature_and_in_kernel_space(shapes):
    a, b = noise(*shapes[0], seed=1) + 3, noise(*shapes[1], seed=2)
    b[:, :2] += a[:, :2]
    wanted = unbiased_hsic(a, b) / np.sqrt(unbiased_hsic(a, a) * unbiased_hsic(b, b))
    assert cka(a, b) == pytest.approx(wanted, abs=1e-10)
    x, y = a - a.mean(0), b - b.mean(0)
    norm = np.linalg.norm
    wanted = norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y))  # Kornblith et al. 2019, (4)
    assert cka(a, b, debiased=False) == pytest.approx(wanted, abs=1e-10)


def test_cka_of_a_rotated_scaled_shifted_copy_is_one_and_of_independent_spaces_zero():
    a = noise(60, 20)
    turn = np.linalg.qr(noise(20, 20, 5))[0]
    for debiased in (True, False):
        assert cka(a, 7 * a @ turn - 4, debiased=debiased) == pytest.approx(1, abs=1e-9)
    independent = [cka(noise(60, 20, s), noise(60, 20, 100 + s)) for s in range(40)]
    assert abs(np.mean(independent)) < 0.02
    # the plain form is what must not be read: far above 0 without any relation
    assert cka(noise(60, 20, 1), noise(60, 20, 2), debiased=False) > 0.2


def test_cka_of_a_constant_space_is_not_a_number_and_shapes_are_checked():
    table = cka_matrix([noise(10, 3), np.full((10, 3), 0.3), noise(10, 2)])
    assert np.isnan(table[1]).all() and np.isnan(table[:, 1]).all()
    assert np.allclose(table[[0, 2], [0, 2]], 1) and np.isclose(table[0, 2], table[2, 0])
    with pytest.raises(InputError, match="space 1 has 9"):
        cka(noise(10, 3), noise(9, 3))
    with pytest.raises(InputError, match="at least 4 points"):
        cka(noise(3, 3), noise(3, 3))
    with pytest.raises(InputError, match="row 2 of space 0 is not finite"):
        cka(np.where(np.arange(10)[:, None] == 2, np.nan, noise(10, 3)), noise(10, 3))


# -- k-NN accuracy and silhouette -----------------------------------------------------------------------
def test_planted_clusters_are_pure_and_noise_is_at_chance():
    points, labels = clusters()
    found = knn_test(points, labels, n_permutations=99)
    assert found.value > 0.99 and found.p == 0.01
    assert found.chance == pytest.approx(29 / 119)
    assert silhouette(points, labels) > 0.4
    ps = [knn_test(noise(80, 10, s), np.arange(80) % 4, n_permutations=99).p for s in range(20)]
    assert 0.3 < np.mean(ps) < 0.7 and sum(p <= 0.05 for p in ps) <= 4
    assert silhouette(noise(120, 10), labels) < 0.02


def test_knn_accuracy_agrees_with_scikit_learns_neighbors():
    from sklearn.neighbors import NearestNeighbors

    points, labels = clusters(apart=1.5)
    near = NearestNeighbors(n_neighbors=7).fit(points).kneighbors(None, return_distance=False)
    wanted = (labels[near] == labels[:, None]).mean()
    assert knn_accuracy(points, labels, 7).value == pytest.approx(wanted)


def test_trials_of_one_image_do_not_vouch_for_its_class():
    # every image is a point with five trials close by; classes are random: k-NN accuracy without `apart`
    # is perfect and says nothing
    image = np.repeat(np.arange(30), 5)
    points = noise(30, 8)[image] + 1e-3 * noise(150, 8, 1)
    labels = np.random.default_rng(3).permutation(np.arange(30) % 3)[image]
    assert knn_accuracy(points, labels, 4).value == 1.0
    found = knn_test(points, labels, 4, apart=image, units=image, n_permutations=99)
    assert found.value < 0.55 and found.p > 0.05
    with pytest.raises(InputError, match="several labels"):
        knn_test(points, np.arange(150) % 3, 4, units=image)


@given(order=st.permutations(range(12)), k=st.integers(1, 11))
@settings(max_examples=25, deadline=None)
def test_points_that_are_all_the_same_have_the_accuracy_of_chance_in_any_order(order, k):
    labels = (np.arange(12) < 4)[list(order)]
    found = knn_accuracy(np.full((12, 3), 0.5), labels, k)
    assert found.value == pytest.approx(found.chance)


def test_knn_accuracy_and_silhouette_where_nothing_can_be_said():
    assert np.isnan(silhouette(noise(6, 2), np.zeros(6)))
    assert np.isnan(silhouette(noise(6, 2), np.arange(6)))
    assert np.isnan(knn_test(noise(6, 2), np.zeros(6)).p)
    alone = knn_accuracy(noise(1, 2), np.zeros(1))
    assert np.isnan(alone.value) and np.isnan(alone.chance)
    with pytest.raises(InputError, match="as many labels"):
        knn_accuracy(noise(6, 2), np.zeros(5))


# -- maps ----------------------------------------------------------------------------------------
def p_matrix(points: np.ndarray, perplexity: float) -> np.ndarray:
    """Symmetric input affinities of t-SNE (van der Maaten and Hinton 2008), by bisection."""
    squared = ((points[:, None] - points) ** 2).sum(2)
    p = np.zeros_like(squared)
    for i, row in enumerate(squared):
        lo, hi = -40.0, 40.0
        others = np.arange(len(row)) != i
        for _ in range(80):
            middle = (lo + hi) / 2
            weight = np.exp(-np.exp(middle) * (row[others] - row[others].min()))
            weight /= weight.sum()
            lo, hi = (middle, hi) if entr(weight).sum() > np.log(perplexity) else (lo, middle)
        p[i, others] = weight
    return (p + p.T) / p.sum() / 2


def divergence(points: np.ndarray, laid: np.ndarray, perplexity: float) -> float:
    p = p_matrix(points, perplexity)
    q = 1 / (1 + ((laid[:, None] - laid) ** 2).sum(2))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def test_tsne_reaches_what_an_independent_formula_says_and_repeats_itself():
    points, labels = clusters(80, 6, apart=8)
    found = map_points(points, perplexity=10, seed=3)
    # the library sums forces approximately (Barnes and Hut): a few hundredths of a nat
    assert found.divergence == pytest.approx(divergence(points, found.points, 10), abs=0.05)
    assert found.divergence < 0.5 * divergence(points, points[:, :2], 10)
    assert knn_accuracy(found.points, labels).value > 0.95
    again = map_points(points, perplexity=10, seed=3)
    assert np.array_equal(found.points, again.points)
    assert map_points(points[:12], perplexity=30).perplexity == pytest.approx(11 / 3)


def test_pca_agrees_with_the_singular_values():
    points = noise(40, 6) * np.arange(1, 7)
    found = map_points(points, "pca")
    centered = points - points.mean(0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    assert np.allclose(np.abs(found.points), np.abs(u * s)[:, :2])
    assert np.allclose(found.explained, (s**2 / (s**2).sum())[:2])
    assert map_points(np.arange(6.0)[:, None], "pca").points.shape == (6, 2)


@pytest.mark.parametrize(
    ("points", "method", "message"),
    [
        (np.ones((20, 3)), "tsne", "all points are the same"),
        (noise(4, 3), "pca", "at least 5 points"),
        (noise(9, 3), "umap", "'tsne' or 'pca'"),
        (np.zeros(9), "pca", "shape"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(points, method, message):
    with pytest.raises(InputError, match=message):
        map_points(points, method)


# -- probe ---------------------------------------------------------------------------------------
def test_probe_finds_what_was_planted_and_is_at_chance_for_noise():
    points, labels = clusters(apart=2.5)
    found = LinearProbe(points, np.arange(120)).score(labels, 99)
    assert found.value > 0.85 and found.p == 0.01 and found.chance == pytest.approx(0.25, abs=0.03)
    scores = [
        LinearProbe(noise(90, 12, s), np.arange(90) // 2, seed=s).score(np.arange(90) // 2 % 3, 99)
        for s in range(20)
    ]
    assert abs(np.mean([s.value - s.chance for s in scores])) < 0.03
    assert sum(s.p <= 0.05 for s in scores) <= 4


def test_probe_agrees_with_scikit_learns_ridge():
    from sklearn.linear_model import Ridge

    points, labels = clusters(60, 5, 3, apart=2)
    for wide in (points, np.concatenate([points, noise(60, 80, 9)], axis=1)):
        probe = LinearProbe(wide, np.arange(60), n_folds=3, ridge=0.5)
        predicted = np.zeros(60, dtype=int)
        for fold in range(3):
            test, train = probe.fold == fold, probe.fold != fold
            mean, std = wide[train].mean(0), wide[train].std(0)
            onehot = np.eye(3)[labels]
            share = onehot[train].mean(0)
            ridge = Ridge(alpha=0.5 * train.sum(), fit_intercept=True)
            ridge.fit((wide[train] - mean) / std, onehot[train])
            out = ridge.predict((wide[test] - mean) / std)
            predicted[test] = ((out - share) / np.sqrt(share * (1 - share))).argmax(1)
        assert probe.score(labels, 0).value == pytest.approx(balanced_accuracy(predicted, labels))


def test_probe_holds_whole_images_out():
    # each image has its own direction and a random class: only a probe that has seen the image
    # can tell the class
    image = np.repeat(np.arange(40), 6)
    points = noise(40, 30)[image] + 0.05 * noise(240, 30, 1)
    labels = np.random.default_rng(0).permutation(np.arange(40) % 2)[image]
    assert LinearProbe(points, np.arange(240)).score(labels, 0).value > 0.75
    held_out = LinearProbe(points, image).score(labels, 99)
    assert held_out.value < 0.7 and held_out.p > 0.02
    with pytest.raises(InputError, match="a group carries several labels"):
        LinearProbe(points, image).score(np.arange(240) % 2)


def test_probe_of_rare_classes_constant_heads_and_too_few_groups():
    rare = np.arange(100) < 8
    points = noise(100, 6) + 4 * rare[:, None]
    assert LinearProbe(points, np.arange(100)).score(rare, 0).value > 0.85  # not just "never rare"
    constant = LinearProbe(np.ones((30, 4)), np.arange(30)).score(np.arange(30) % 2)
    assert constant.value == pytest.approx(constant.chance, abs=0.15) and constant.p > 0.05
    assert np.isnan(LinearProbe(points, np.arange(100)).score(np.zeros(100)).value)
    with pytest.raises(InputError, match="at least 2 groups"):
        LinearProbe(points, np.zeros(100))
    with pytest.raises(InputError, match="not finite"):
        LinearProbe(np.full((4, 2), np.nan), np.arange(4))


def test_correction_by_the_largest_keeps_its_level_and_finds_what_was_planted():
    rng = np.random.default_rng(0)
    scale = np.arange(1, 21)  # tests on different scales count the same
    false = 0
    for _ in range(100):
        draws = rng.normal(size=(200, 20)) * scale
        false += bool((max_statistic_p(draws[0], draws[1:]) < 0.05).any())
    assert 1 <= false <= 11  # 5 of 100 are due; without a correction it would be 64
    null = rng.normal(size=(199, 20)) * scale
    planted = np.where(np.arange(20) == 3, 6.0, 0.0) * scale
    p = max_statistic_p(planted, null)
    assert p[3] == 1 / 200 and (np.delete(p, 3) > 0.5).all()
    planted[4] = np.nan
    p = max_statistic_p(planted, null)
    assert np.isnan(p[4]) and p[3] == 1 / 200
    assert (max_statistic_p(np.zeros(2), np.zeros((9, 2))) == 1).all()
    with pytest.raises(InputError, match="n_permutations, 3"):
        max_statistic_p(np.zeros(3), np.zeros((9, 2)))


# -- most confident heads -------------------------------------------------------------------------------------
def test_most_confident_heads_share_ties_and_nan_is_never_one():
    nan = np.nan
    shares = most_confident(
        np.array([[0.1, 0.9, nan], [0.5, 0.5, 0.2], [nan, nan, nan], [nan, 0, -1]])
    )
    assert shares[:2].tolist() == [[0, 1, 0], [0.5, 0.5, 0]]
    assert np.isnan(shares[2]).all() and shares[3].tolist() == [0, 1, 0]
    names, by = shares_by(shares, np.array(["a", "a", "b", "a"]))
    assert names.tolist() == ["a", "b"]
    assert np.allclose(by[0], [0.5 / 3, 2.5 / 3, 0]) and np.isnan(by[1]).all()
    with pytest.raises(InputError, match="n_trials, n_heads"):
        most_confident(np.zeros(3))


def test_planted_most_confident_heads_depend_on_the_class_and_random_ones_do_not():
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(40), 4)
    label = image % 4
    confidence = rng.uniform(size=(160, 4))
    confidence[np.arange(160), label] += 0.5
    found = dependence_on(most_confident(confidence), label, units=image, n_permutations=99)
    assert found.p == 0.01 and found.value > 2 * found.chance
    ps = [
        dependence_on(
            most_confident(rng.uniform(size=(160, 4))), label, units=image, n_permutations=99
        ).p
        for _ in range(20)
    ]
    assert 0.3 < np.mean(ps) < 0.7
    one = np.zeros((160, 4))
    one[:, 2] = 1
    assert np.isnan(dependence_on(most_confident(one), label).p)


def test_cramers_v_agrees_with_scipy():
    from scipy.stats.contingency import association

    rng = np.random.default_rng(1)
    winner, label = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    table = np.zeros((4, 3), dtype=int)
    np.add.at(table, (label, winner), 1)
    found = dependence_on(np.eye(3)[winner], label, n_permutations=1)
    assert found.value == pytest.approx(association(table, method="cramer"))


def test_reliability_of_honest_and_of_boastful_heads():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.2, 0.9, 4000)
    right = rng.uniform(size=4000) < sure
    honest = reliability(sure, right)
    assert honest.error < 0.03 and abs(honest.by_chance - 0.8 * honest.spread.mean()) < 1e-3
    assert (np.diff(honest.confidence) > 0).all()
    assert honest.counts.sum() == 4000 and np.ptp(honest.counts) <= 1
    assert np.allclose(honest.spread, np.sqrt(honest.outcome * (1 - honest.outcome) / 499))
    assert reliability(np.minimum(sure + 0.3, 1), right).error == pytest.approx(0.285, abs=0.03)


def test_reliability_with_nan_with_ties_and_with_nothing():
    sure = np.array([0.5, 0.5, 0.5, 0.5, np.nan, 0.9])
    found = reliability(sure, np.array([1, 0, 1, 0, 1, np.nan]), n_bins=4)
    assert found.n_missing == 2 and found.counts.tolist() == [4] and found.error == 0
    nothing = reliability(np.array([np.nan]), np.array([1.0]))
    assert np.isnan(nothing.error) and nothing.n_missing == 1 and not len(nothing.counts)
    with pytest.raises(InputError, match="n_bins"):
        reliability(sure, sure, n_bins=0)
