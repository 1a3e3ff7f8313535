"""Text encoders of the package sentence-transformers, by name: captions embedded by their meaning.

A CLIP places a text near the images it fits; a sentence encoder places it near the texts that say
the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, MissingDependencyError, ModelLoadError
from eegprompt.core.model_hub import choose_device, fetch, load_errors, locate, quiet
from eegprompt.text_encoders.base import BatchedTextEncoder

__all__ = ["SentenceEncoder"]

_WHAT = "text encoder"
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_NO_LIMIT = 100_000  # tokens; of models that state none


class SentenceEncoder(BatchedTextEncoder):
    """A model of sentence-transformers, by folder or by name on huggingface.co.

    Parameters
    ----------
    model : str
        A folder, or a name such as ``all-MiniLM-L6-v2`` (which stands for
        ``sentence-transformers/all-MiniLM-L6-v2``) or ``BAAI/bge-small-en-v1.5``.
    revision : str, optional
        Commit, tag or branch on the hub; the newest if left out. The commit is recorded.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Attributes
    ----------
    name : str
        As given.
    revision : str
        Commit on the hub, or a key of the folder's content.
    max_tokens : int
        Longest text in tokens, begin and end marks included.
    n_dims : int
        Length of an embedding.

    Raises
    ------
    ModelLoadError
        If the model is not there or may not be had.
    MissingDependencyError
        If sentence-transformers is not installed.
    """

    def __init__(self, model: str | None, revision: str | None = None, device: str = "auto"):
        if not model:
            raise InputError(
                "a sentence encoder needs a name or a folder, as in "
                "'sentence-transformers:all-MiniLM-L6-v2'"
            )
        try:
            import sentence_transformers
        except ImportError:
            raise MissingDependencyError("sentence-transformers", "sentences") from None
        self.name = f"sentence-transformers:{model}"
        if "/" not in model and not Path(model).expanduser().is_dir():
            model = f"sentence-transformers/{model}"
        source = locate(model, _WHAT, revision)
        found = fetch(source, _WHAT, _FILES)
        if source.folder is None and not any(Path(found.folder or "").rglob("*.safetensors")):
            found = fetch(found, _WHAT, ["pytorch_model*.bin*", "*/pytorch_model.bin"], again=True)
        assert found.folder is not None and found.revision is not None
        if not (found.folder / "modules.json").exists():
            raise ModelLoadError(
                f"the text encoder '{model}' is no model of sentence-transformers: it has no "
                "modules.json, so how it pools its tokens is unknown"
            )
        self.revision = found.revision
        self._device = choose_device(device)
        with load_errors(model, _WHAT), quiet():
            import torch

            self._network = sentence_transformers.SentenceTransformer(
                str(found.folder), device=str(self._device), local_files_only=True
            )
            # float32 whatever the file holds: half precision on a CPU is slow and coarse.
            self._network = self._network.to(dtype=torch.float32).eval()
        self.max_tokens = int(getattr(self._network, "max_seq_length", None) or _NO_LIMIT)
        self.n_dims = self._find_n_dims()

    def __repr__(self) -> str:
        return f"SentenceEncoder('{self.name}', {self.n_dims} dimensions, {self._device})"

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        tokenizer: Any = self._network.tokenizer
        if not callable(tokenizer):  # models without attention bring a bare tokenizer
            return [list(tokenizer.encode(text).ids) for text in texts]
        with quiet():  # it would warn about long texts; they are refused or counted on purpose
            return list(tokenizer(texts, truncation=False)["input_ids"])

    def _embed_batch(self, texts: list[str], tokens: list[list[int]]) -> np.ndarray:
        rows = self._network.encode(
            texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False
        )
        out = np.asarray(rows, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)
