"""Text encoders: embeddings of the model alone, a cache that is never wrong, errors that teach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from eegprompt.builtin.models import clip_folder
from eegprompt.core.errors import InputError, ModelLoadError, UnknownNameError
from eegprompt.core.model_hub import load_errors
from eegprompt.text_encoders import cached_embeddings
from eegprompt.text_encoders import load_text_encoder as load
from eegprompt.text_encoders.base import TextEncoder
from eegprompt.text_encoders.builtin import builtin_text_encoder
from eegprompt.text_encoders.clip import ClipTextEncoder

TEXTS = ["a cat", "a red dog", "hello, there", "a", "zebra - in 0123456789 " * 2, "a cat"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return tiny_models.save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def encoder(clip) -> ClipTextEncoder:
    return ClipTextEncoder(str(clip), device="cpu")


def test_importing_costs_no_torch():
    code = (
        "import sys, eegprompt.text_encoders, eegprompt.generators.diffusers, eegprompt.prompts, "
    )
    code += "eegprompt.retrieval.search; assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_embeddings_are_those_of_the_model_with_unit_length(clip, encoder):
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    model, tok = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    rows = encoder.embed(TEXTS)
    assert isinstance(encoder, TextEncoder)
    assert rows.dtype == np.float32 and rows.shape == (len(TEXTS), encoder.n_dims)
    for text, row in zip(TEXTS, rows):
        with torch.no_grad():
            out = model.get_text_features(**tok(text, return_tensors="pt"))
        expected = getattr(out, "pooler_output", out)[0].numpy()
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)


def test_an_embedding_does_not_depend_on_its_neighbors(encoder):
    together = encoder.embed(TEXTS)
    assert np.array_equal(together, encoder.embed(TEXTS[::-1])[::-1])
    assert np.array_equal(together, np.concatenate([encoder.embed([t]) for t in TEXTS]))
    many = [f"{text} {i}" for i in range(40) for text in TEXTS[:2]]
    assert np.array_equal(encoder.embed(many)[7], encoder.embed([many[7]])[0])
    assert encoder.embed([]).shape == (0, encoder.n_dims)


def test_half_precision_files_are_used_in_single_precision(tmp_path, encoder):
    half = ClipTextEncoder(str(tiny_models.save_clip(tmp_path / "half", half=True)), device="cpu")
    assert {p.dtype for p in half._network.parameters()} == {__import__("torch").float32}
    assert np.abs(half.embed(TEXTS) - encoder.embed(TEXTS)).max() < 0.02


def test_a_text_model_with_projection_will_do_as_well(tmp_path, clip, encoder):
    from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection

    whole = CLIPModel.from_pretrained(clip)
    config = CLIPTextConfig(**{**whole.config.text_config.to_dict(), "projection_dim": 16})
    text = CLIPTextModelWithProjection(config)
    text.load_state_dict(
        {k: v for k, v in whole.state_dict().items() if k.startswith("text_")}, strict=False
    )
    text.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(clip / name, tmp_path / name)
    found = ClipTextEncoder(str(tmp_path), device="cpu").embed(TEXTS)
    np.testing.assert_allclose(found, encoder.embed(TEXTS), atol=1e-6)


def test_tokens_are_counted_with_their_marks_and_long_texts_are_refused(encoder):
    assert encoder.count_tokens("a cat") == 4
    assert encoder.count_tokens("xyz") == 5
    assert encoder.max_tokens == 77
    fits = "a " * 75
    assert encoder.count_tokens(fits) == 77 and encoder.embed([fits]).shape[0] == 1
    with pytest.raises(InputError, match=r"has 78 tokens, but .* reads 77; shorten it"):
        encoder.embed(["a " * 76])
    for empty in ("", "  ", None):
        with pytest.raises(InputError, match="not empty"):
            encoder.embed(["a cat", empty])


def test_the_revision_follows_the_content(tmp_path, clip, encoder):
    copy = shutil.copytree(clip, tmp_path / "copy")
    assert ClipTextEncoder(str(copy), device="cpu").revision == encoder.revision
    other = tiny_models.save_clip(tmp_path / "other", seed=1)
    assert ClipTextEncoder(str(other), device="cpu").revision != encoder.revision


# -- the cache ------------------------------------------------------------------------------------
class Counting(TextEncoder):
    """An encoder that notes what it was asked to embed."""

    name, revision, max_tokens = "counting", "1", 77

    def __init__(self, fail_at: int | None = None):
        self.asked: list[str] = []
        self.fail_at = fail_at

    def embed(self, texts):
        self.asked += list(texts)
        if self.fail_at is not None and len(self.asked) >= self.fail_at:
            raise KeyboardInterrupt
        return np.array([[len(t), ord(t[0]), 1.0] for t in texts], dtype=np.float32)

    def count_tokens(self, text):
        return 2


def test_each_text_is_embedded_once(tmp_path):
    counting = Counting()
    first = cached_embeddings(counting, ["b", "a", "b"], tmp_path)
    assert sorted(counting.asked) == ["a", "b"]
    again = cached_embeddings(counting, ["c", "b", "a"], tmp_path)
    assert sorted(counting.asked) == ["a", "b", "c"]
    assert np.array_equal(again[[1, 2, 1]], first)
    assert np.array_equal(cached_embeddings(counting, ["a"], None), first[1:2])
    assert cached_embeddings(counting, [], tmp_path).shape[0] == 0


def test_another_revision_never_meets_old_vectors(tmp_path):
    cached_embeddings(Counting(), ["a"], tmp_path)
    newer = Counting()
    newer.revision = "2"
    cached_embeddings(newer, ["a"], tmp_path)
    assert newer.asked == ["a"]


def test_an_interruption_loses_at_most_one_block(tmp_path, monkeypatch):
    monkeypatch.setattr("eegprompt.text_encoders.cache._BLOCK", 2)
    texts = list("abcdef")
    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(Counting(fail_at=5), texts, tmp_path)
    counting = Counting()
    cached_embeddings(counting, texts, tmp_path)
    assert counting.asked == ["e", "f"]


def test_a_damaged_block_is_made_again(tmp_path):
    rows = cached_embeddings(Counting(), ["a", "b"], tmp_path)
    (block,) = tmp_path.rglob("*.npy")
    block.write_bytes(block.read_bytes()[:-5])
    counting = Counting()
    assert np.array_equal(cached_embeddings(counting, ["a", "b"], tmp_path), rows)
    assert counting.asked == ["a", "b"]


# -- errors ---------------------------------------------------------------------------------------
def test_models_that_are_not_there_are_named_with_a_remedy(tmp_path):
    with pytest.raises(ModelLoadError, match=r"folder .*nowhere does not exist; give a folder"):
        ClipTextEncoder(str(tmp_path / "nowhere"))
    with pytest.raises(ModelLoadError, match="cannot be reached; connect once"):
        ClipTextEncoder("openai/clip-vit-large-patch14")
    with pytest.raises(ModelLoadError, match="OWNER/NAME"):
        ClipTextEncoder("open ai")
    with pytest.raises(InputError, match="needs a name or a folder"):
        load("clip")
    with pytest.raises(UnknownNameError, match="did you mean 'clip:MODEL'"):
        load("klip:x")
    with pytest.raises(InputError, match="takes no argument"):
        load("builtin:x")
    with pytest.raises(ModelLoadError, match="leave the revision out"):
        ClipTextEncoder(str(tmp_path), revision="main")


def test_folders_that_hold_something_else_are_refused(tmp_path, clip):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    shutil.copy(clip / "tokenizer.json", tmp_path)
    with pytest.raises(ModelLoadError, match="type 'bert', not a CLIP"):
        ClipTextEncoder(str(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelLoadError, match="check that it is complete"):
        ClipTextEncoder(str(empty))
    half = shutil.copytree(clip, tmp_path / "half")
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="check that it is complete"):
        ClipTextEncoder(str(half))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("GatedRepoError", "is gated; agree to its terms"),
        ("RepositoryNotFoundError", "check the spelling"),
        ("RevisionNotFoundError", "no such revision"),
        ("LocalEntryNotFoundError", "cannot be reached"),
    ],
)
def test_what_the_hub_says_becomes_one_sentence(kind, says):
    from huggingface_hub import errors

    error = getattr(errors, kind)
    problem = error.__new__(error)  # its own constructor wants an answer of the hub's
    Exception.__init__(problem, "no")
    with pytest.raises(ModelLoadError, match=says), load_errors("owner/name", "text encoder"):
        raise problem


def test_nan_weights_are_found(tmp_path, clip):
    import torch

    broken = ClipTextEncoder(str(clip), device="cpu")
    with torch.no_grad():
        broken._network.text_projection.weight[0, 0] = float("nan")
    with pytest.raises(ModelLoadError, match="not finite"):
        broken.embed(["a cat"])


def test_the_builtin_text_encoder_tells_captions_apart():
    try:
        clip_folder()
    except ModelLoadError:
        pytest.skip("the built-in weights are not there")
    encoder = builtin_text_encoder(device="cpu")
    rows = encoder.embed(["a cat", "an image of a cat", "a house"])
    assert encoder.name == "builtin" and rows[0] @ rows[1] > rows[0] @ rows[2]


# -- the hub, played ------------------------------------------------------------------------------
def test_a_model_on_the_hub_is_pinned_to_its_commit_and_found_again_without_network(
    monkeypatch, clip
):
    import types

    import huggingface_hub

    asked = []

    def download(name, *, revision, allow_patterns, local_files_only):
        asked.append((name, revision, local_files_only))
        assert "model*.safetensors*" in allow_patterns or "pytorch_model*.bin*" in allow_patterns
        return str(clip)

    def info(self, name, *, revision, timeout):
        return types.SimpleNamespace(sha="c0ffee")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    encoder = load("clip:owner/name", device="cpu")
    assert encoder.revision == "c0ffee" and encoder.name == "clip:owner/name"
    assert asked == [("owner/name", "c0ffee", False)]

    def offline(self, name, *, revision, timeout):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    asked.clear()
    encoder = ClipTextEncoder("owner/name", "v1", device="cpu")
    assert asked == [("owner/name", "v1", True)] and encoder.revision == clip.name
