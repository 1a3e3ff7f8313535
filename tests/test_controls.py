"""Permutation, bootstrap and correction against enumeration, theory and hand calculation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from eegprompt.core.errors import InputError
from eegprompt.stats.bootstrap import bootstrap, cluster_weights, interval, ratio_statistic
from eegprompt.stats.multiple import holm
from eegprompt.stats.permutation import (
    permutation_p,
    permutation_test,
    permuted_labels,
    table_chance,
    table_statistic,
)


# -- permutation -------------------------------------------------------------------------------
def test_chance_is_the_mean_over_all_permutations():
    rng = np.random.default_rng(0)
    totals, counts, labels = (
        rng.random((5, 3)),
        np.array([2, 1, 1, 3, 1]),
        np.array([0, 1, 1, 2, 0]),
    )
    statistic = table_statistic(totals, counts)
    every = statistic(np.array(list(permutations(labels))))
    assert table_chance(totals, counts, labels) == pytest.approx(every.mean())
    strata = np.array([0, 0, 1, 1, 1])
    inside = [[*a, *b] for a in permutations(labels[:2]) for b in permutations(labels[2:])]
    expected = statistic(np.array(inside)).mean()
    assert table_chance(totals, counts, labels, strata) == pytest.approx(expected)


def test_labels_move_only_inside_strata_and_none_is_lost():
    labels = np.array([0, 0, 1, 2, 2, 3])
    strata = np.array(["a", "b", "a", "b", "a", "b"])
    for block in permuted_labels(labels, 50, strata=strata, seed=1):
        for s in "ab":
            np.testing.assert_array_equal(
                np.sort(block[:, strata == s], axis=1),
                np.tile(np.sort(labels[strata == s]), (len(block), 1)),
            )
    free = np.concatenate(list(permuted_labels(labels, 50, seed=1)))
    np.testing.assert_array_equal(np.sort(free, axis=1), np.tile(np.sort(labels), (50, 1)))
    assert len(np.unique(free, axis=0)) > 20


def test_p_counts_the_observed_order_and_rounding_is_no_difference():
    null = np.array([0.1, 0.2, 0.3, 0.3 + 1e-12])
    assert permutation_p(0.3, null) == pytest.approx(3 / 5)
    assert permutation_p(0.5, null) == pytest.approx(1 / 5)
    assert permutation_p(0.1, null, higher_is_better=False) == pytest.approx(2 / 5)
    assert permutation_p(np.nan, null) == 1


def test_planted_signal_gives_small_p_and_no_signal_a_uniform_one():
    ps = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.arange(20)
        totals = rng.random((20, 20))
        statistic = table_statistic(totals, np.ones(20))
        ps.append(permutation_test(statistic, labels, 99, seed=seed).p)
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    result = permutation_test(
        table_statistic(totals + np.eye(20), np.ones(20)), labels, 999, seed=0
    )
    assert result.p == pytest.approx(1 / 1000)
    assert result.value > 1 > result.chance


def test_trials_of_one_image_move_together():
    """Image-locked noise: an image evokes something, unrelated to what it is."""
    below_together, below_apart = 0, 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        by_image = rng.random((10, 10))  # what each condition's trials score under each label
        together = permutation_test(
            table_statistic(by_image * 20, np.full(10, 20)), np.arange(10), 99, seed=seed
        )
        apart = permutation_test(
            table_statistic(np.repeat(by_image, 20, axis=0), np.ones(200)),
            np.repeat(np.arange(10), 20), 99, seed=seed,
        )  # fmt: skip
        below_together += together.p <= 0.05
        below_apart += apart.p <= 0.05
    assert below_together <= 0.1 * 150
    assert below_apart >= 0.2 * 150  # the error that moving them together avoids


def test_no_permutation_changes_anything():
    result = permutation_test(table_statistic(np.ones((3, 1)), np.ones(3)), np.zeros(3, int), 19)
    assert np.isnan(result.p)
    assert result.chance == result.value == 1


def test_permutation_bad_input():
    with pytest.raises(InputError, match="one count a unit"):
        table_statistic(np.ones((3, 2)), np.ones(2))
    with pytest.raises(InputError, match="no trial to score"):
        table_statistic(np.ones((3, 2)), np.zeros(3))
    with pytest.raises(InputError, match="strata must be 3 values, one each"):
        list(permuted_labels(np.arange(3), 5, strata=np.zeros(2)))
    with pytest.raises(InputError, match="at least one permutation"):
        permutation_test(lambda labels: labels.sum(axis=1), np.arange(3), 0)


# -- bootstrap ---------------------------------------------------------------------------------
def test_weights_draw_every_unit_equally_and_inside_strata():
    strata = np.array([0, 0, 0, 1, 1])
    weights = np.concatenate(list(cluster_weights(5, 4000, strata=strata)))
    assert (weights[:, :3].sum(axis=1) == 3).all()
    assert (weights.sum(axis=1) == 5).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.06)
    np.testing.assert_allclose(weights[:, :3].var(axis=0), 2 / 3, atol=0.06)  # multinomial


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_interval_is_scipys(method):
    sample = np.random.default_rng(0).exponential(size=40)
    ours = bootstrap(ratio_statistic(sample, np.ones(40)), 40, 20_000, method=method, seed=1)
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, rng=2, method=method.replace("bca", "BCa")
    ).confidence_interval
    assert ours.value == pytest.approx(sample.mean())
    assert ours.lo == pytest.approx(theirs.low, abs=0.02)
    assert ours.hi == pytest.approx(theirs.high, abs=0.03)


def test_interval_covers_at_its_level():
    covered = 0
    for seed in range(200):
        sample = np.random.default_rng(seed).normal(size=30)
        result = bootstrap(ratio_statistic(sample, np.ones(30)), 30, 300, seed=seed)
        covered += result.lo <= 0 <= result.hi
    assert 0.88 <= covered / 200 <= 0.99


def test_clusters_widen_the_interval():
    by_image = np.random.default_rng(1).random(20)
    clustered = bootstrap(ratio_statistic(by_image * 50, np.full(20, 50)), 20, 500)
    trialwise = bootstrap(ratio_statistic(np.repeat(by_image, 50), np.ones(1000)), 1000, 500)
    assert clustered.value == pytest.approx(trialwise.value)
    assert clustered.hi - clustered.lo > 4 * (trialwise.hi - trialwise.lo)


def test_degenerate_samples():
    alone = bootstrap(ratio_statistic(np.ones(1), np.ones(1)), 1, 100)
    assert alone.value == 1
    assert np.isnan(alone.lo)
    assert np.isnan(alone.hi)
    equal = bootstrap(ratio_statistic(np.ones(5), np.ones(5)), 5, 100)
    assert (equal.lo, equal.hi) == (1, 1)
    assert np.isnan(interval(0.5, np.full(10, np.nan))[0])
    with pytest.raises(InputError, match="between 0 and 1"):
        interval(0.5, np.ones(3), level=95)
    with pytest.raises(InputError, match="units and resamples"):
        bootstrap(ratio_statistic(np.ones(1), np.ones(1)), 0, 100)


# -- correction --------------------------------------------------------------------------------
def test_holm_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04 -> running maximum .02 .03 .06 .06
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert holm([]).tolist() == []
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        holm([1.2])
    with pytest.raises(InputError, match=r"numbers by \(tests\)"):
        holm([[0.1]])


def test_holm_bounds_the_chance_of_a_false_alarm():
    rng = np.random.default_rng(0)
    alarms = [(holm(rng.random(10)) < 0.05).any() for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)
