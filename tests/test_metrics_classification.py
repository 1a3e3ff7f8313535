"""Class decisions against scikit-learn, grids and hand-worked tables."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from eegprompt.core.errors import InputError
from eegprompt.metrics.classification import (
    class_probabilities,
    class_prototypes,
    decision_credit,
    ensemble_probabilities,
    fit_temperature,
    fit_weights,
    majority_credit,
    roc_auc,
    weighted_auc,
)


def test_prototypes_are_unit_means():
    rows = np.array([[1.0, 0], [0, 1], [0, -1]])
    prototypes = class_prototypes(rows, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(prototypes, [[0.5**0.5, 0.5**0.5], [0, -1]])
    with pytest.raises(InputError, match="class 1 has 0"):
        class_prototypes(rows, np.array([0, 0, 2]), 3)


def test_probabilities_are_a_softmax():
    from scipy.special import softmax

    similarity = np.random.default_rng(0).uniform(-1, 1, (5, 4))
    expected = softmax(similarity / 0.05, axis=1)
    np.testing.assert_allclose(class_probabilities(similarity, 0.05), expected)
    similarity[2, 1] = np.nan
    assert np.isnan(class_probabilities(similarity, 0.05)[2]).all()
    with pytest.raises(InputError, match="above 0"):
        class_probabilities(similarity, 0)


def test_temperature_has_the_least_log_loss_on_a_grid():
    rng = np.random.default_rng(1)
    target = rng.integers(3, size=200)
    similarity = 0.2 * np.eye(3)[target] + 0.15 * rng.standard_normal((200, 3))
    fitted = fit_temperature(similarity, target)
    losses = {
        t: log_loss(target, class_probabilities(similarity, t)) for t in np.geomspace(0.01, 10, 200)
    }
    assert fitted == pytest.approx(min(losses, key=losses.get), rel=0.05)
    assert log_loss(target, class_probabilities(similarity, fitted)) <= min(losses.values()) + 1e-9
    similarity[0, 0] = np.nan
    assert np.isfinite(fit_temperature(similarity, target))


def test_weights_have_the_highest_likelihood_on_a_grid():
    rng = np.random.default_rng(2)
    target = rng.integers(3, size=300)
    good = class_probabilities(np.eye(3)[target] + rng.standard_normal((300, 3)), 0.5)
    poor = class_probabilities(0.3 * np.eye(3)[target] + rng.standard_normal((300, 3)), 0.5)
    both = np.stack([good, poor])
    weights = fit_weights(both, target)

    def likelihood(w):
        p = ensemble_probabilities(both, np.array([w, 1 - w]))
        return np.log(p[np.arange(300), target]).mean()

    best = max(np.linspace(0, 1, 201), key=likelihood)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(best, abs=0.01)


def test_ensembles_and_votes_by_hand():
    heads = np.array([[[0.9, 0.1, 0.0]], [[0.3, 0.4, 0.3]], [[0.3, 0.4, 0.3]]])
    np.testing.assert_allclose(ensemble_probabilities(heads), [[0.5, 0.3, 0.2]])
    assert decision_credit(ensemble_probabilities(heads)).tolist() == [[1, 0, 0]]
    assert majority_credit(heads).tolist() == [[0, 1, 0]]
    assert majority_credit(heads[:2]).tolist() == [[0.5, 0.5, 0]]
    heads[1] = np.nan
    assert majority_credit(heads).tolist() == [[0.5, 0.5, 0]]
    assert majority_credit(heads[1:2]).tolist() == [[0, 0, 0]]
    assert decision_credit(ensemble_probabilities(heads)).tolist() == [[0, 0, 0]]
    with pytest.raises(InputError, match="none negative"):
        ensemble_probabilities(heads, np.array([1.0, -1, 1]))


def test_accuracies_against_scikit_learn():
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((100, 4))
    target = rng.choice(4, size=100, p=[0.6, 0.2, 0.1, 0.1])
    own = decision_credit(scores)[np.arange(100), target]
    assert own.mean() == pytest.approx((scores.argmax(axis=1) == target).mean())
    expected = balanced_accuracy_score(target, scores.argmax(axis=1))
    assert np.mean([own[target == c].mean() for c in range(4)]) == pytest.approx(expected)
    assert (decision_credit(np.zeros((100, 4))) == 0.25).all()


def test_auc_against_scikit_learn():
    rng = np.random.default_rng(4)
    positive = rng.random(80) < 0.3
    scores = np.round(rng.standard_normal(80) + positive, 1)  # with ties
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    weights = rng.integers(0, 4, (5, 80)).astype(float)
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(weighted_auc(scores, positive)(weights), expected)


def test_auc_of_nan_and_of_one_class():
    assert roc_auc(np.array([0.0, np.nan]), np.array([False, True])) == 0
    assert roc_auc(np.array([np.nan, 1.0]), np.array([False, True])) == 0
    assert np.isnan(roc_auc(np.array([0.0, 1.0]), np.array([True, True])))
