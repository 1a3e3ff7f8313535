"""What every text encoder does: the vector of a text depends on the text and the model alone.

A network's result for one row changes in the last bits with the shape of the batch around it. So
texts are embedded in batches of one fixed size, each of texts of one length, so that the same
kernels run on the same shapes however many texts are asked for. Longer texts than the model reads
are refused, not cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, ModelLoadError

__all__ = ["BatchedTextEncoder", "TextEncoder", "check_texts"]

ROWS = 32  # texts in every batch


def check_texts(texts: Sequence[Any]) -> None:
    """Refuse what is no text, or empty.

    Raises
    ------
    InputError
        With the first such text.
    """
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"only text that is not empty can be embedded, got {text!r}")


class TextEncoder(ABC):
    """Embeds text; frozen. Only `name` and :meth:`embed` must be given.

    The constructor takes what a user types behind the name (``NAME:ARGUMENT``), or None, and the
    keyword `device`.

    Attributes
    ----------
    name, revision : str
        What it is and in which version: embeddings are cached under both.
    max_tokens : int
        Longest text in tokens, special tokens included.
    """

    name: str
    revision: str = "unknown"
    max_tokens: int = 1 << 30

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 (n_texts, n_dims), each row of unit length."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens, special tokens included; by default of words."""
        return len(text.split())


class BatchedTextEncoder(TextEncoder):
    """A text encoder whose model takes a batch of texts of one length.

    Attributes
    ----------
    n_dims : int
        Length of an embedding.
    length_step : int
        Texts are padded to a multiple of this many tokens.
    """

    n_dims: int
    length_step = 1

    @abstractmethod
    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text, begin and end marks included, nothing cut."""

    @abstractmethod
    def _embed_batch(self, texts: list[str], tokens: list[list[int]]) -> np.ndarray:
        """Rows of unit length, float32, of :data:`ROWS` texts of one padded length."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens, begin and end marks included."""
        return len(self._tokenize([text])[0])

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
        check_texts(texts)
        if not texts:
            return np.zeros((0, self.n_dims), dtype=np.float32)
        unique, inverse = np.unique(np.array(texts, dtype=object), return_inverse=True)
        tokens = self._tokenize(list(unique))
        for text, its in zip(unique, tokens):
            if len(its) > self.max_tokens:
                raise InputError(
                    f"the text '{text[:60]}...' has {len(its)} tokens, but {self.name} reads "
                    f"{self.max_tokens}; shorten it (nothing is cut silently)"
                )
        rows = np.zeros((len(unique), self.n_dims), dtype=np.float32)
        lengths = np.array([self._padded(len(its)) for its in tokens])
        done = 0
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            for start in range(0, len(members), ROWS):
                part = members[start : start + ROWS]
                rows[part] = self._rows([unique[i] for i in part], [tokens[i] for i in part])
                done += len(part)
                if progress is not None:
                    progress(done, len(unique), "embedding captions")
        if not np.isfinite(rows).all():
            raise ModelLoadError(
                f"{self.name} gives values that are not finite; its file is damaged"
            )
        return rows[inverse]

    def _padded(self, length: int) -> int:
        return min(-(-length // self.length_step) * self.length_step, self.max_tokens)

    def _rows(self, texts: list[str], tokens: list[list[int]]) -> np.ndarray:
        """Rows of at most :data:`ROWS` texts; the rest of the batch repeats its first text."""
        rest = ROWS - len(texts)
        rows = self._embed_batch([*texts, *texts[:1] * rest], [*tokens, *tokens[:1] * rest])
        return rows[: len(texts)]

    def _find_n_dims(self) -> int:
        """Length of an embedding, from a first one."""
        return int(self._rows(["a"], self._tokenize(["a"])).shape[1])
