"""Between prompts: weights that say what was retrieved, and means that stay as strong as it was."""

from __future__ import annotations

import numpy as np
import pytest

from eegprompt.core.errors import InputError, TokenBudgetError
from eegprompt.prompts import Composer, HeadCaption, blend, interpolate

torch = pytest.importorskip("torch")


def count(text: str) -> int:
    return len(text.split())


CANDIDATES = [
    HeadCaption("ObjectSnap", "a cat", 0.9, 0.5),
    HeadCaption("ObjectSnap", "a dog", 0.7, 0.4),
    HeadCaption("MoodFeel", "sad", 0.6, 0.3),
    HeadCaption("MoodFeel", "gay", 0.6, 0.3),
]
WARM = {"ObjectSnap": 0.1, "MoodFeel": 0.1}


def test_weights_are_the_softmax_within_a_head_and_equal_across_heads():
    prompt = blend(CANDIDATES, count, 77, temperatures=WARM)
    cat = 0.5 / (1 + np.exp(-1))
    np.testing.assert_allclose(prompt.weights, [cat, 0.5 - cat, 0.25, 0.25], atol=6e-4)
    assert prompt.text == "0.366 a cat + 0.134 a dog + 0.250 sad + 0.250 gay"
    assert dict(prompt.parts) == dict(zip(("a cat", "a dog", "sad", "gay"), prompt.weights))


def test_confidence_weighs_the_heads():
    prompt = blend(CANDIDATES, count, 77, "confidence", temperatures=WARM)
    share = {c.head: 0.0 for c in prompt.kept}
    for caption, weight in zip(prompt.kept, prompt.weights):
        share[caption.head] += weight
    assert share["ObjectSnap"] == pytest.approx(0.8, abs=2e-3)  # .4 above chance against .1


def test_equal_texts_are_one_and_small_shares_are_left_out():
    twice = [HeadCaption("MoodFeel", "a cat.", 0.6, 0.3), HeadCaption("MoodFeel", "bad", 0.5, -0.3)]
    prompt = blend([*CANDIDATES[:1], *twice], count, 77, temperatures=WARM)
    assert prompt.text == "1.000 a cat"
    assert prompt.reasons == ("duplicate", "weight below 0.01")
    assert sum(prompt.weights) == 1


def test_each_caption_has_to_fit_by_itself_with_the_style():
    prompt = blend(CANDIDATES, count, 3, temperatures=WARM, style="ink drawing")
    assert {c.text for c in prompt.kept} == {"sad", "gay"}
    assert prompt.parts[0][0] == "sad, ink drawing" and prompt.n_tokens == 3
    assert prompt.text.endswith(", ink drawing")
    with pytest.raises(TokenBudgetError, match="the shortest of 4"):
        blend(CANDIDATES, count, 2, style="ink drawing")


def test_a_head_that_knows_blends_into_its_first_caption():
    cold = Composer(route="embeddings", temperatures={"ObjectSnap": 0.001})
    assert cold.prompt(CANDIDATES[:2], count, 77).text == "1.000 a cat"


def test_one_prompt_comes_back_as_it_is_and_means_keep_their_length():
    rng = np.random.default_rng(0)
    rows = {
        "embeds": torch.tensor(rng.standard_normal((3, 5, 8)), dtype=torch.float32),
        "pooled": torch.tensor(rng.standard_normal((3, 8)), dtype=torch.float16),
        "mask": torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]),
    }
    alone = interpolate({name: row[1:2] for name, row in rows.items()}, [0.3])
    assert all(torch.equal(alone[name], row[1:2]) for name, row in rows.items())
    for hot in range(3):
        weights = np.eye(3)[hot]
        out = interpolate(rows, weights)
        np.testing.assert_allclose(out["pooled"], rows["pooled"][hot : hot + 1], rtol=2e-3)
        shown = rows["mask"][hot].bool()
        np.testing.assert_allclose(out["embeds"][0, shown], rows["embeds"][hot, shown], rtol=1e-5)
    out = interpolate(rows, [2, 1, 1])
    assert out["mask"].tolist() == [[1, 1, 1, 1, 0]] and out["pooled"].dtype == torch.float16
    length = rows["embeds"].norm(dim=-1)
    np.testing.assert_allclose(
        out["embeds"][0, :2].norm(dim=-1), (length * torch.tensor([[0.5], [0.25], [0.25]])).sum(0)[:2],
        rtol=1e-5,
    )  # fmt: skip
    # The fourth position is hidden from all but the last prompt, which has it to itself.
    np.testing.assert_allclose(out["embeds"][0, 3], rows["embeds"][2, 3], rtol=1e-5)


def test_weights_that_cannot_be_used_are_refused():
    rows = {"embeds": torch.ones(2, 3)}
    for weights in ([1.0], [1, -1], [0, 0]):
        with pytest.raises(InputError, match=r"weights|must not"):
            interpolate(rows, weights)
