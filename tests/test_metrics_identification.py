"""Two-way identification against double loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import correlation

from eegprompt.core.errors import InputError
from eegprompt.metrics.base import metric_of
from eegprompt.metrics.identification import (
    feature_correlation,
    two_way,
    two_way_table,
)


def by_loops(references, images, targets, classes=None):
    """For each image: the share of other references that correlate less with it."""
    values = []
    for image, target in zip(images, targets):
        r = [np.corrcoef(g, image)[0, 1] for g in references]
        others = [
            i
            for i in range(len(references))
            if i != target
            and not np.array_equal(references[i], references[target])
            and (classes is None or classes[i] == classes[target])
        ]
        won = [1.0 if r[i] < r[target] else 0.5 if r[i] == r[target] else 0.0 for i in others]
        values.append(np.mean(won) if won else np.nan)
    return np.array(values)


def test_two_way_is_the_double_loop():
    rng = np.random.default_rng(0)
    references = rng.standard_normal((12, 30))
    targets = rng.integers(12, size=20)
    images = references[targets] + 3 * rng.standard_normal((20, 30))
    expected = by_loops(references, images, targets)
    np.testing.assert_allclose(two_way(references, images, targets), expected)
    classes = list("aaaabbbbbccd")
    within = two_way(references, images, targets, classes=classes)
    np.testing.assert_allclose(within, by_loops(references, images, targets, classes))
    assert np.isnan(within[targets == 11]).all()  # alone in its class


def test_it_is_the_published_formula_where_every_image_is_shown_once():
    rng = np.random.default_rng(1)
    g = rng.standard_normal((15, 40))
    p = g + 2 * rng.standard_normal((15, 40))
    r = np.corrcoef(g, p)[:15, 15:]
    published = (r < np.diag(r)).sum(axis=0).mean() / 14
    assert two_way(g, p).mean() == pytest.approx(published)


def test_every_column_of_the_table_is_a_target():
    rng = np.random.default_rng(2)
    references, images = rng.standard_normal((6, 20)), rng.standard_normal((4, 20))
    table = two_way_table(references, images)
    for target in range(6):
        own = two_way(references, images, np.full(4, target))
        np.testing.assert_allclose(table[:, target], own)
    np.testing.assert_allclose(table.mean(axis=1), 0.5)  # chance is exactly one half


def test_images_shown_several_times_are_not_their_own_distractors():
    rng = np.random.default_rng(3)
    ten = rng.standard_normal((10, 50))
    references = np.repeat(ten, 5, axis=0)
    images = rng.standard_normal((50, 50))
    values = two_way(references, images)
    np.testing.assert_allclose(values, by_loops(references, images, np.arange(50)))
    chance = [two_way(references, rng.standard_normal((50, 50))).mean() for _ in range(30)]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.03)


def test_equal_images_and_constants_score_one_half():
    rng = np.random.default_rng(4)
    references = rng.standard_normal((9, 30))
    same = np.repeat(rng.standard_normal((1, 30)), 9, axis=0)
    assert two_way(references, same).mean() == pytest.approx(0.5)
    np.testing.assert_allclose(two_way(references, np.full((9, 30), 0.1)), 0.5)


def test_nan_images_are_wrong_and_nan_references_refused():
    rng = np.random.default_rng(5)
    references, images = rng.standard_normal((5, 8)), rng.standard_normal((5, 8))
    images[2, 3] = np.nan
    assert two_way(references, images)[2] == 0
    references[1, 0] = np.nan
    with pytest.raises(InputError, match="reference 1 are not finite"):
        two_way(references, images)


def test_chunks_and_memory_maps_give_the_same(tmp_path):
    rng = np.random.default_rng(6)
    references = rng.standard_normal((23, 3, 5)).astype(np.float32)
    images = rng.standard_normal((17, 3, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", references)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    full = feature_correlation(references, images, chunk=100)
    np.testing.assert_allclose(feature_correlation(mapped, images, chunk=4), full, atol=1e-12)
    expected = np.corrcoef(references.reshape(23, -1), images.reshape(17, -1))[:23, 23:]
    np.testing.assert_allclose(full, expected, atol=1e-6)


def test_distance_is_scipys():
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((6, 40)), rng.standard_normal((6, 40))
    expected = [correlation(x, y) for x, y in zip(a, b)]
    table = metric_of("{features}_distance").function(a, b)
    np.testing.assert_allclose(np.diag(table), expected, atol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="at least two references"):
        two_way(np.ones((1, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="say which reference"):
        two_way(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(InputError, match="equally long"):
        two_way(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        two_way(np.ones((2, 3)), np.ones((2, 3)), np.array([0, 2]))
    with pytest.raises(InputError, match="must be 3 values, one each"):
        two_way(np.eye(3), np.eye(3), classes=["a", "b"])
