"""The built-in scenes: what is drawn, what is said, what is held out."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from eegprompt.builtin.drawing import draw
from eegprompt.builtin.scene_captions import (
    caption,
    captions,
    meanings,
    phrasings,
    vocabulary,
)
from eegprompt.builtin.world import (
    ATTRIBUTES,
    KIND_ATTRIBUTES,
    Scene,
    is_held_out,
    kind_vector,
    meaning,
    parse_meaning,
    sample_scene,
    semantic_coordinates,
    split_scenes,
    tendency,
)
from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.kinds import KINDS

VISIBLE = [name for name in ATTRIBUTES if name not in ("theme", "story")]


def scenes(n: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng) for _ in range(n)]


def test_the_world_is_as_large_as_promised():
    assert len(ATTRIBUTES["object"]) >= 16
    assert {"face", "house", "apple", "car", "flower", "cat", "dog", "tree"} <= set(
        ATTRIBUTES["object"]
    )
    assert len(ATTRIBUTES["color"]) == 8
    assert len(ATTRIBUTES["setting"]) == 6
    assert set(KIND_ATTRIBUTES) == set(KINDS)
    assert list(KIND_ATTRIBUTES) == list(KINDS)  # the prompt order


def test_every_value_is_drawn_at_random():
    drawn = scenes(600)
    for name, values in ATTRIBUTES.items():
        assert {getattr(s, name) for s in drawn} == set(values)


def test_drawing_is_deterministic_and_of_the_asked_size():
    for scene in scenes(10):
        image = draw(scene)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, draw(scene))
        assert draw(scene, size=128).shape == (128, 128, 3)


@pytest.mark.parametrize("name", VISIBLE)
def test_visible_attributes_show(name):
    scene = scenes(1, seed=3)[0]
    images = {draw(replace(scene, **{name: value})).tobytes() for value in ATTRIBUTES[name]}
    assert len(images) == len(ATTRIBUTES[name])


@pytest.mark.parametrize("name", ["theme", "story"])
def test_theme_and_story_are_invisible(name):
    scene = scenes(1, seed=3)[0]
    images = {draw(replace(scene, **{name: value})).tobytes() for value in ATTRIBUTES[name]}
    assert len(images) == 1


def test_the_variant_is_a_small_nuisance():
    for scene in scenes(20, seed=1):
        a, b = draw(replace(scene, variant=1)), draw(replace(scene, variant=2))
        assert not np.array_equal(a, b)
        assert np.abs(a.astype(float) - b).mean() < 30


@pytest.mark.parametrize(
    ("name", "parents"),
    [("mood", ("light", "setting")), ("theme", ("object",)), ("story", ("count", "setting"))],
)
def test_at_least_half_of_mood_theme_and_story_is_their_own(name, parents):
    drawn = scenes(8000)
    one_hot = np.eye(len(ATTRIBUTES[name]))[
        [ATTRIBUTES[name].index(getattr(s, name)) for s in drawn]
    ]
    cells = [tuple(getattr(s, parent) for parent in parents) for s in drawn]
    names = sorted(set(cells))
    cell = np.array([names.index(c) for c in cells])
    mean = np.stack([one_hot[cell == i].mean(0) for i in range(len(names))])[cell]
    total = ((one_hot - one_hot.mean(0)) ** 2).sum()
    explained = ((mean - one_hot.mean(0)) ** 2).sum() / total
    assert 0.2 < explained < 0.5
    follows = np.mean([getattr(s, name) == tendency(name, s.as_dict()) for s in drawn])
    assert follows > 0.5


def test_other_attributes_are_independent():
    drawn = scenes(6000)
    visible = [name for name in VISIBLE if name != "mood"]
    for i, a in enumerate(visible):
        for b in visible[i + 1 :]:
            table = np.zeros((len(ATTRIBUTES[a]), len(ATTRIBUTES[b])))
            for s in drawn:
                table[ATTRIBUTES[a].index(getattr(s, a)), ATTRIBUTES[b].index(getattr(s, b))] += 1
            expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
            cramer = ((table - expected) ** 2 / expected).sum() / len(drawn)
            assert cramer / (min(table.shape) - 1) < 0.02


def test_held_out_combinations_leave_every_pair_in_training():
    grid = np.array(
        [
            [[is_held_out(o, c, s) for s in ATTRIBUTES["setting"]] for c in ATTRIBUTES["color"]]
            for o in ATTRIBUTES["object"]
        ]
    )
    assert grid.mean() == pytest.approx(0.2, abs=0.02)
    for axis in range(3):
        assert not grid.all(axis=axis).any()  # every pair occurs in training
        assert grid.any(axis=axis).mean() > 0.5
        others = tuple(a for a in range(3) if a != axis)
        assert np.ptp(grid.mean(axis=others)) < 0.03  # and no value is favored


def test_split_shares_no_combination_and_is_balanced():
    train, test = split_scenes(480, 160, seed=5)
    assert (len(train), len(test)) == (480, 160)
    assert len(set(train)) == 480

    def combos(side):
        return {(s.object, s.color, s.setting) for s in side}

    assert not combos(train) & combos(test)
    assert not any(is_held_out(*c) for c in combos(train))
    assert all(is_held_out(*c) for c in combos(test))
    for side, n in ((train, 30), (test, 10)):
        assert set(Counter(s.object for s in side).values()) == {n}
        for name in ("color", "setting"):
            counts = Counter(getattr(s, name) for s in side)
            assert min(counts.values()) > 0.5 * len(side) / len(ATTRIBUTES[name])
    assert split_scenes(480, 160, seed=5) == (train, test)
    assert split_scenes(480, 160, seed=6)[0] != train


def test_fixing_one_attribute_leaves_the_visible_others_alone():
    free = sample_scene(np.random.default_rng(4))
    fixed = sample_scene(np.random.default_rng(4), object="cat")
    assert fixed.object == "cat"
    assert all(getattr(free, n) == getattr(fixed, n) for n in VISIBLE if n != "object")


def test_meaning_round_trip():
    scene = scenes(1)[0]
    for kind, names in KIND_ATTRIBUTES.items():
        text = meaning(scene, kind)
        assert parse_meaning(text) == {name: getattr(scene, name) for name in names}
        assert text in meanings(kind)


def test_phrasings_are_several_short_and_say_one_meaning():
    said: dict[str, tuple[str, str]] = {}
    for kind in KINDS:
        for text in meanings(kind):
            choices = phrasings(text, kind)
            assert len(choices) >= 4
            for phrase in choices:
                assert 1 <= len(phrase.split()) <= 8
                assert "," not in phrase
                assert phrase == phrase.lower()
                assert said.setdefault(phrase, (kind, text)) == (kind, text)


def test_captions_are_a_fixed_function_of_image_and_kind():
    scene = scenes(1)[0]
    ten = captions(scene, "image-1")
    assert list(ten) == list(KINDS)
    assert ten == captions(scene, "image-1")
    # what it does not say has no influence
    other = replace(scene, object="cat" if scene.object != "cat" else "dog", variant=9)
    changed = captions(other, "image-1")
    assert {kind for kind in KINDS if ten[kind] != changed[kind]} == {"ObjectSnap"}
    for kind in KINDS:
        assert caption(meaning(scene, kind), kind, "image-1") == ten[kind]
        used = {caption(scene, kind, f"image-{i}") for i in range(200)}
        assert used == set(phrasings(meaning(scene, kind), kind))


def test_articles_are_right():
    for kind in KINDS:
        for text in meanings(kind):
            for phrase in phrasings(text, kind):
                parts = phrase.split()
                for article, word in itertools.pairwise(parts):
                    if article == "an":
                        assert word[0] in "aeiou", phrase
                    if article == "a":
                        assert word[0] not in "aeiou", phrase


def test_vocabulary_is_small():
    assert len(vocabulary()) < 400


def test_coordinates_separate_values_and_vary_smoothly():
    for name, values in ATTRIBUTES.items():
        table = np.stack([semantic_coordinates(name, value) for value in values])
        distance = np.linalg.norm(table[:, None] - table[None], axis=2)
        assert distance[~np.eye(len(values), dtype=bool)].min() > 0.1, name
        assert (table.std(0) > 0).all()

    def apart(name, a, b):
        return np.linalg.norm(semantic_coordinates(name, a) - semantic_coordinates(name, b))

    assert apart("object", "cat", "dog") < apart("object", "cat", "house")
    assert apart("color", "red", "orange") < apart("color", "red", "blue")
    assert apart("mood", "joyful", "tender") < apart("mood", "joyful", "gloomy")


def test_kind_vectors_are_standardized_over_values():
    scene = scenes(1)[0]
    for kind, names in KIND_ATTRIBUTES.items():
        table = [
            kind_vector(replace(scene, **{names[0]: value}), kind) for value in ATTRIBUTES[names[0]]
        ]
        n = len(semantic_coordinates(names[0], ATTRIBUTES[names[0]][0]))
        table = np.stack(table)[:, :n]
        np.testing.assert_allclose(table.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(table.std(0), 1, atol=1e-9)


def test_errors_name_what_is_allowed():
    with pytest.raises(UnknownNameError, match="did you mean 'cat'"):
        sample_scene(np.random.default_rng(0), object="cta")
    with pytest.raises(UnknownNameError, match="scene attribute"):
        sample_scene(np.random.default_rng(0), shape="round")
    with pytest.raises(InputError, match="size must lie"):
        draw(scenes(1)[0], size=7)
    with pytest.raises(InputError, match="attribute=value"):
        parse_meaning("red")
    with pytest.raises(InputError, match=r"color=\.\.\."):
        phrasings("object=cat", "ColorTone")
    with pytest.raises(UnknownNameError, match="caption kind"):
        meaning(scenes(1)[0], "Object")
