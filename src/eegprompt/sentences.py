"""Text encoders of the package sentence-transformers, by name: captions embedded by their meaning.

A CLIP places a text near the pictures it fits; a sentence encoder places it near the texts that say
the same. As in :mod:`eegprompt.text`, a text's vector does not depend on its neighbors: texts of
one length in tokens are embedded together, in batches that are filled up to one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.errors import InputError, MissingDependencyError, ModelLoadError
from eegprompt.pretrained import choose_device, fetch, load_errors, locate, quiet

__all__ = ["SentenceEncoder"]

_WHAT = "text encoder"
_ROWS = 32  # texts in every batch
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_NO_LIMIT = 100_000  # tokens; of models that state none


class SentenceEncoder:
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
        self.n_dims = int(self._batch(["a"]).shape[1])

    def __repr__(self) -> str:
        return f"SentenceEncoder('{self.name}', {self.n_dims} dimensions, {self._device})"

    def count_tokens(self, text: str) -> int:
        """Number of tokens, begin and end marks included."""
        return self._lengths([text])[0]

    def embed(
        self, texts: Sequence[str], *, progress: Callable[[int, int, str], None] | None = None
    ) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        texts : sequence of str
            Each within :attr:`max_tokens`.
        progress : callable, optional
            Called with (done, total, label).

        Returns
        -------
        array of float32, shape (n_texts, n_dims)
            Rows of unit length; equal texts have equal rows.

        Raises
        ------
        InputError
            If a text is empty or too long.
        ModelLoadError
            If the model gives a value that is not finite.
        """
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"only text that is not empty can be embedded, got {text!r}")
        result = np.zeros((len(texts), self.n_dims), dtype=np.float32)
        if not texts:
            return result
        unique, inverse = np.unique(np.array(texts, dtype=object), return_inverse=True)
        lengths = np.array(self._lengths(list(unique)))
        if lengths.max() > self.max_tokens:
            long = int(lengths.argmax())
            raise InputError(
                f"the text '{unique[long][:60]}...' has {lengths[long]} tokens, but {self.name} "
                f"reads {self.max_tokens}; shorten it (nothing is cut silently)"
            )
        rows = np.zeros((len(unique), self.n_dims), dtype=np.float32)
        done = 0
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            for start in range(0, len(members), _ROWS):
                part = members[start : start + _ROWS]
                rows[part] = self._batch([unique[i] for i in part])
                done += len(part)
                if progress is not None:
                    progress(done, len(unique), "embedding captions")
        if not np.isfinite(rows).all():
            raise ModelLoadError(
                f"{self.name} gives values that are not finite; its file is damaged"
            )
        return rows[inverse]

    def _lengths(self, texts: list[str]) -> list[int]:
        tokenizer: Any = self._network.tokenizer
        if not callable(tokenizer):  # models without attention bring a bare tokenizer
            return [len(tokenizer.encode(text).ids) for text in texts]
        with quiet():  # it would warn about long texts; they are refused or counted on purpose
            return [len(ids) for ids in tokenizer(texts, truncation=False)["input_ids"]]

    def _batch(self, texts: list[str]) -> np.ndarray:
        filled = [*texts, *[texts[0]] * (_ROWS - len(texts))]
        rows = self._network.encode(
            filled, batch_size=_ROWS, convert_to_numpy=True, show_progress_bar=False
        )
        out = np.asarray(rows[: len(texts)], dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)
