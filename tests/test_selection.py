"""Which heads speak: the right ones, in the right trials, for a reason that is written down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegprompt.core.errors import InputError, TokenBudgetError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.prompts import Composer, HeadCaption, Selection, choose, compose
from eegprompt.retrieval.calibration import Calibration, fit_temperature
from eegprompt.retrieval.pool import CandidatePool
from eegprompt.retrieval.search import retrieve

HEADS = ("ObjectSnap", "ColorTone", "SceneSetting", "MoodFeel")


def words(text: str) -> int:
    return 2 + len(text.replace(",", " , ").split())


# -- rules ----------------------------------------------------------------------------------------
@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(KINDS)), st.floats(0, 1), min_size=1),
    st.sampled_from(["all", "top-k", "top-k:1", "top-k:3", "top-k-global:2", "level:low,high"]),
    st.none() | st.floats(0, 1),
)
def test_every_head_has_a_reason_and_none_speaks_below_its_threshold(sure, rule, threshold):
    selection = Selection.parse(rule)
    thresholds = {} if threshold is None else dict.fromkeys(sure, threshold)
    accuracy = {head: len(head) / 20 for head in sure}
    levels = {head: KINDS[head].level.value for head in sure}
    if selection.rule == "level" and not set(levels.values()) & {"low", "high"}:
        with pytest.raises(InputError, match="fits none of the run's heads"):
            choose(sure, selection, accuracy=accuracy, thresholds=thresholds)
        return
    choice = choose(sure, selection, accuracy=accuracy, thresholds=thresholds)
    assert set(choice.why) == set(sure) and all(choice.why.values())
    assert choice.heads and [h for h in sure if h in choice.heads] == list(choice.heads)
    if threshold is not None and len(choice.heads) > 1:
        assert all(sure[head] > threshold for head in choice.heads)
    if selection.rule == "top-k":
        assert len(choice.heads) <= selection.k
        asked = [h for h in sure if threshold is None or sure[h] > threshold]
        assert all(sure[h] >= max((sure[o] for o in asked if o not in choice.heads), default=0)
                   for h in choice.heads)  # fmt: skip
    if selection.rule == "level":
        assert {levels[head] for head in choice.heads} <= {"low", "high"}


def test_rules_that_do_not_exist_are_refused():
    for text, says in (
        ("topk:2", "did you mean 'top-k'"),
        ("top-k:0", "a number of heads from 1"),
        ("top-k:two", "a number of heads from 1"),
        ("level:lower", "did you mean 'low'"),
        ("heads:Objectsnap", "did you mean 'ObjectSnap'"),
        ("heads:", "needs names"),
        ("all:2", "takes no argument"),
    ):
        with pytest.raises((InputError, UnknownNameError), match=says):
            Selection.parse(text)
    with pytest.raises(InputError, match="no validation accuracy of ColorTone"):
        choose({"ColorTone": 0.5}, Selection("top-k-global"))


def test_where_all_would_abstain_the_most_confident_speaks_and_it_is_said():
    sure = {"ObjectSnap": 0.5, "MoodFeel": 0.6}
    choice = choose(sure, Selection(), thresholds=dict.fromkeys(sure, 1.0))
    assert choice.heads == ("MoodFeel",)
    assert choice.why["MoodFeel"].startswith("all heads would abstain")


# -- planted truth --------------------------------------------------------------------------------
def planted(knows: float, seed: int, n: int = 400, n_captions: int = 60, n_dims: int = 24):
    """A head that is right in a share of its trials, and says noise in the others."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_captions, n_dims))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pool = CandidatePool(
        "ObjectSnap",
        tuple(f"caption {i}" for i in range(n_captions)),
        vectors.astype(np.float32),
        tuple(map(str, range(n_captions))),
        (None,) * n_captions,
    )
    truth = rng.integers(n_captions, size=n)
    right = rng.random(n) < knows
    noise = rng.standard_normal((n, n_dims))
    query = np.where(right[:, None], 3 * vectors[truth], 0) + 0.4 * noise
    return pool, query, vectors[truth], truth, right


def calibrated(knows: float, seed: int):
    """Calibration from one half of the trials, and what the head says of the other."""
    pool, query, vectors, truth, right = planted(knows, seed)
    half = len(query) // 2
    fitted = Calibration.fit("ObjectSnap", query[:half], vectors[:half], pool)
    indices, _ = retrieve(query[half:], pool)
    confidence = fitted.confidence(query[half:], pool, indices)[:, 0]
    return fitted, confidence, indices[:, 0] == truth[half:], right[half:]


def test_top_k_picks_the_heads_that_are_right():
    """Four heads that know something in different trials: the two most confident are the right ones."""
    made = {head: calibrated(0.4, seed) for seed, head in enumerate(HEADS)}
    n = len(made["ObjectSnap"][1])
    hits = chosen = shuffled = 0
    rng = np.random.default_rng(0)
    for trial in range(n):
        sure = {head: float(m[1][trial]) for head, m in made.items()}
        picked = choose(sure, Selection.parse("top-k:2")).heads
        hits += sum(made[head][2][trial] for head in picked)
        shuffled += sum(made[head][2][rng.integers(n)] for head in picked)
        chosen += len(picked)
    overall = np.mean([m[2].mean() for m in made.values()])
    assert chosen == 2 * n and 0.35 < overall < 0.5
    assert hits / chosen > overall + 0.25  # as many as there are to be had
    assert abs(shuffled / chosen - overall) < 0.07  # and no more where trials are exchanged


def test_top_k_globally_picks_the_heads_that_are_right_on_validation():
    made = {head: calibrated(knows, 7) for head, knows in zip(HEADS, (0.0, 0.9, 0.2, 0.6))}
    accuracy = {head: m[0].mean for head, m in made.items()}
    choice = choose(dict.fromkeys(HEADS, 0.5), Selection.parse("top-k-global:2"), accuracy=accuracy)
    assert choice.heads == ("ColorTone", "MoodFeel")
    assert "place 1 of 4" in choice.why["ColorTone"]
    assert choice.why["ObjectSnap"] == "not among the 2 most accurate on validation"


def test_heads_are_silent_on_noise_and_speak_where_they_know():
    fitted, confidence, hit, right = calibrated(0.5, 3)
    speaks = confidence > fitted.threshold(0.7)
    assert speaks[right].mean() > 0.9 and speaks[~right].mean() < 0.15
    assert hit[speaks].mean() > 0.85
    guessing, confidence, _, _ = calibrated(0.0, 4)
    assert (confidence > guessing.threshold(0.7)).mean() < 0.05
    sure, confidence, _, _ = calibrated(1.0, 5)
    assert sure.threshold(0.7) == 0 and (confidence > 0).all()


def test_thresholds_rise_with_what_is_asked_and_survive_storage():
    fitted, *_ = calibrated(0.5, 6)
    asked = [fitted.threshold(worth) for worth in (0.5, 0.6, 0.8, 0.95)]
    assert asked == sorted(asked)
    assert Calibration.from_dict(fitted.to_dict()) == fitted
    assert Calibration("ObjectSnap").threshold(0.6) == 1.0  # without validation it says nothing
    with pytest.raises(InputError, match=r"\[0.5, 1\), got 0.3"):
        fitted.threshold(0.3)


def test_a_head_that_is_right_trusts_its_first_candidate_and_one_that_guesses_spreads():
    pool, _, vectors, _, _ = planted(1.0, 1)
    noise = np.random.default_rng(1).standard_normal(vectors.shape)
    sure, unsure, lost = (
        fit_temperature(vectors + scale * noise, vectors, pool, 5) for scale in (0.1, 0.3, 0.6)
    )
    assert sure < 0.04 < unsure < 0.15 < lost


# -- composition ----------------------------------------------------------------------------------
def said(*pairs: tuple[str, str, float]) -> list[HeadCaption]:
    return [HeadCaption(head, text, sure) for head, text, sure in pairs]


TRIAL = said(
    ("ObjectSnap", "a cat", 0.6), ("ColorTone", "red tones", 0.8), ("MoodFeel", "sad", 0.9)
)


def test_orders_are_what_they_are_named():
    texts = {o: compose(TRIAL, words, 40, o).text for o in ("kinds", "confidence", "object-first")}
    assert texts == {
        "kinds": "a cat, red tones, sad",
        "confidence": "sad, red tones, a cat",
        "object-first": "a cat, sad, red tones",
    }


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("a dog runs", "The dog is running.", True),
        ("two houses by the sea", "two house by a sea", True),
        ("the dog left of a cat", "the cat left of a dog", False),
        ("a red car", "a car", False),
        ("tones of green", "tones of grey", False),
        ("a glass", "a glas", False),
    ],
)
def test_near_duplicates_differ_in_articles_and_endings_alone(one, other, near):
    pair = said(("ObjectSnap", one, 0.9), ("StoryHint", other, 0.8))
    assert len(compose(pair, words, 40).kept) == 2
    prompt = compose(pair, words, 40, deduplicate="near")
    assert prompt.reasons == (("near duplicate",) if near else ())


def test_the_style_is_counted_and_never_dropped():
    prompt = compose(TRIAL, words, 40, style="oil painting.")
    assert prompt.text == "a cat, red tones, sad, oil painting" and prompt.n_tokens == 12
    short = compose(TRIAL, words, 9, style="oil painting")
    assert short.text == "red tones, sad, oil painting" and short.reasons == ("budget",)
    with pytest.raises(TokenBudgetError, match="with the style 'oil painting' has 6"):
        compose(TRIAL, words, 5, style="oil painting")


def test_without_a_budget_nothing_is_dropped():
    many = said(*(("MoodFeel", f"mood number {i}", 0.5) for i in range(200)))
    prompt = compose(many, words, None)
    assert not prompt.dropped and prompt.reason.endswith(f"({prompt.n_tokens} tokens)")


def test_the_composer_writes_down_who_was_passed_over_and_why():
    composer = Composer("top-k:2", thresholds={"MoodFeel": 0.95})
    prompt = composer.prompt(TRIAL, words, 40)
    assert prompt.text == "a cat, red tones"
    assert prompt.why == ("confidence 0.60, place 2 of 2", "confidence 0.80, place 1 of 2")
    assert prompt.reasons == ("abstains: not above its threshold 0.95",)
    assert prompt.reason == (
        "2 of 3 captions kept (7 of 40 tokens); left out MoodFeel: abstains: not above its threshold "
        "0.95"
    )
    with pytest.raises(UnknownNameError, match="did you mean 'embeddings'"):
        Composer(route="embedding")
