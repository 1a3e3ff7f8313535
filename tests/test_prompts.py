"""A prompt never exceeds its budget, and says what it left out and why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegprompt.core.errors import InputError, TokenBudgetError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.prompts import HeadCaption, compose


def words(text: str) -> int:
    """Two marks, and a token for every word and comma."""
    return 2 + len(text.replace(",", " , ").split())


captions = st.lists(
    st.builds(
        HeadCaption,
        st.sampled_from(list(KINDS)),
        st.lists(st.sampled_from(["red", "cat", "house", "sad"]), max_size=6).map(" ".join),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=300, deadline=None)
@given(captions, st.integers(1, 40), st.sampled_from(["kinds", "confidence"]))
def test_a_prompt_fits_accounts_for_every_caption_and_drops_the_least_trusted(said, budget, order):
    usable = [c for c in said if c.text]
    if not usable:
        with pytest.raises(InputError, match="at least one caption"):
            compose(said, words, budget, order)
        return
    if min(words(c.text) for c in usable) > budget:
        with pytest.raises(TokenBudgetError, match="the shortest of"):
            compose(said, words, budget, order)
        return
    prompt = compose(said, words, budget, order)
    assert prompt.n_tokens == words(prompt.text) <= budget
    assert prompt.text == ", ".join(c.text for c in prompt.kept)
    assert sorted([*prompt.kept, *prompt.dropped], key=repr) == sorted(said, key=repr)
    assert len({c.text for c in prompt.kept}) == len(prompt.kept) >= 1
    assert len(prompt.reasons) == len(prompt.dropped)
    for caption, why in zip(prompt.dropped, prompt.reasons):
        if why == "budget":
            assert all(caption.confidence <= kept.confidence for kept in prompt.kept)
        elif why == "duplicate":
            assert any(caption.text == other.text for other in said if other is not caption)
        elif why == "empty":
            assert not caption.text
        else:
            assert why == "longer than the budget" and words(caption.text) > budget
    places = [KINDS[c.head].prompt_order for c in prompt.kept]
    if order == "kinds":
        assert places == sorted(places)
    else:
        trust = [c.confidence for c in prompt.kept]
        assert trust == sorted(trust, reverse=True)


def test_nothing_is_dropped_that_fits():
    said = [HeadCaption(kind, kind.lower(), 0.1) for kind in reversed(KINDS)]
    prompt = compose(said, words, 21)
    assert prompt.text == ", ".join(kind.lower() for kind in KINDS) and not prompt.dropped
    assert prompt.reason == "all 10 captions fit (21 of 21 tokens)"
    assert prompt.heads == tuple(KINDS)
    assert len(compose(said, words, 20).dropped) == 1


def test_of_equal_confidences_the_later_goes_first():
    said = [HeadCaption(kind, kind, 0.5) for kind in KINDS]
    assert compose(said, words, 5).text == "ObjectSnap, ColorTone"


def test_a_caption_too_long_by_itself_does_not_push_out_the_others():
    said = [
        HeadCaption("ObjectSnap", "cat", 0.2),
        HeadCaption("ColorTone", "red " * 30, 0.9),
        HeadCaption("MoodFeel", "sad", 0.3),
    ]
    prompt = compose(said, words, 10)
    assert prompt.text == "cat, sad" and prompt.reasons == ("longer than the budget",)
    assert "ColorTone: longer than the budget" in prompt.reason


def test_duplicates_are_told_apart_by_more_than_spelling():
    said = [
        HeadCaption("ObjectSnap", "A cat.", 0.2),
        HeadCaption("StoryHint", "a  CAT", 0.9),
        HeadCaption("MoodFeel", "a cat sleeps", 0.3),
    ]
    prompt = compose(said, words, 40)
    assert prompt.text == "A cat, a cat sleeps" and prompt.reasons == ("duplicate",)


def test_several_captions_of_one_head_stay_together_in_rank_order():
    said = [HeadCaption("MoodFeel", "sad", 0.9), HeadCaption("ObjectSnap", "cat", 0.8),
            HeadCaption("ObjectSnap", "dog", 0.7)]  # fmt: skip
    prompt = compose(said, words, 40)
    assert prompt.text == "cat, dog, sad" and prompt.heads == ("ObjectSnap", "MoodFeel")


def test_errors_say_what_came_and_what_to_do():
    cat = [HeadCaption("ObjectSnap", "a very long cat", 0.5)]
    with pytest.raises(TokenBudgetError, match=r"reads 3 tokens.*has 6; write shorter captions"):
        compose(cat, words, 3)
    with pytest.raises(TokenBudgetError, match="at least 1, got 0"):
        compose(cat, words, 0)
    with pytest.raises(InputError, match="got none"):
        compose([], words, 3)
    with pytest.raises(UnknownNameError, match="did you mean 'kinds'"):
        compose(cat, words, 30, order="kind")
