"""Sentence encoders by name: a tiny one, assembled on the spot, against the package itself."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from eegprompt.core.errors import InputError, MissingDependencyError, ModelLoadError
from eegprompt.steps.caption import review_captions
from eegprompt.study import Study
from eegprompt.text_encoders import cached_embeddings, load_text_encoder
from eegprompt.text_encoders.base import TextEncoder
from eegprompt.text_encoders.sentence_transformers import SentenceEncoder

pytest.importorskip("sentence_transformers")
TEXTS = ["a cat", "a red dog", "hello, there", "a", "zebra 0123456789 " * 2, "a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_sentence_encoder(tmp_path_factory.mktemp("models") / "tiny-sentences")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceEncoder:
    return load_text_encoder(f"sentence-transformers:{folder}", device="cpu")  # type: ignore[return-value]


def test_embeddings_are_those_of_the_package_with_unit_length(folder, encoder):
    from sentence_transformers import SentenceTransformer

    rows = encoder.embed(TEXTS)
    assert isinstance(encoder, TextEncoder) and rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), encoder.n_dims) and encoder.n_dims == 32
    reference = SentenceTransformer(str(folder), device="cpu")
    for text, row in zip(TEXTS, rows):
        np.testing.assert_allclose(
            row, reference.encode(text, normalize_embeddings=True), atol=1e-6
        )
    assert encoder.count_tokens("a cat") == len(reference.tokenizer("a cat")["input_ids"]) == 7


def test_an_embedding_does_not_depend_on_its_neighbors(encoder):
    together = encoder.embed(TEXTS)
    assert np.array_equal(together, np.concatenate([encoder.embed([t]) for t in TEXTS]))
    many = [f"{text} {i}" for i in range(40) for text in TEXTS[:2]]
    assert np.array_equal(encoder.embed(many)[7], encoder.embed([many[7]])[0])
    assert np.array_equal(together[0], together[5]) and encoder.embed([]).shape == (0, 32)


def test_other_weights_have_another_revision_and_cache(folder, encoder, tmp_path):
    rows = cached_embeddings(encoder, TEXTS, tmp_path / "cache")
    assert np.array_equal(rows, cached_embeddings(encoder, TEXTS, tmp_path / "cache"))
    other = tiny_models.save_sentence_encoder(tmp_path / "other", seed=1)
    assert SentenceEncoder(str(other), device="cpu").revision != encoder.revision


def test_what_cannot_embed_is_refused(folder, encoder, tmp_path, monkeypatch, small_study):
    with pytest.raises(InputError, match=r"has 70 tokens, but .* reads 64"):
        encoder.embed(["a" * 68])
    with pytest.raises(InputError, match="not empty"):
        encoder.embed([" "])
    with pytest.raises(InputError, match="needs a name"):
        SentenceEncoder(None)
    with pytest.raises(ModelLoadError, match="does not exist"):
        SentenceEncoder("./nowhere")
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "modules.json").unlink()
    with pytest.raises(ModelLoadError, match=r"no modules\.json"):
        SentenceEncoder(str(bare))
    found = review_captions(
        Study(small_study), "builtin", text_encoder=f"sentence-transformers:{folder}"
    )
    assert not any("tokens" in p for p in found.problems)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'eegprompt\[sentences\]'"):
        SentenceEncoder(str(folder))
