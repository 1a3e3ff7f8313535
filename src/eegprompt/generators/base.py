"""What a generator must offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["GeneratesFromEmbeddings", "Generator", "NeedsContext", "RoundTrips"]


@runtime_checkable
class Generator(Protocol):
    """Draws images from prompts; frozen.

    `max_tokens` is None where any length is read to the end. A generator that can be told what a
    image should not show takes ``negative_prompt=`` (one text for all images) in `generate`
    and, where it has it, in `generate_from_embeddings`. One with a safety checker lists in
    ``blanked``, a truth value an image of the last call, which of them it blanked.
    """

    name: str
    revision: str

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt in tokens that is read to the end, marks included."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens, begin and end marks included; the most of all its tokenizers'."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Draw one uint8 image (height, width, 3) a prompt, stacked.

        An image depends on its own prompt and seed only, not on its neighbors in the batch.
        """
        ...


@runtime_checkable
class GeneratesFromEmbeddings(Protocol):
    """What a generator adds that can draw from prompt embeddings, and so between prompts.

    `supports_embeddings` says whether this one can: a class may serve pipelines that can and others.
    """

    supports_embeddings: bool

    def embed_prompts(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Embeddings by name, one row a prompt; all rows of one call have the same shape."""
        ...

    def generate_from_embeddings(
        self, embeddings: dict[str, torch.Tensor], seeds: Sequence[int]
    ) -> np.ndarray:
        """Draw one image a row, as :meth:`Generator.generate` does."""
        ...


@runtime_checkable
class NeedsContext(Protocol):
    """What a generator adds that needs to know more than the prompt.

    Its ``generate`` takes ``contexts=``, one dictionary a prompt with what `wants` names:
    ``image_path``, the training image that stands for the prompt's most trusted caption.
    """

    wants: frozenset[str]


@runtime_checkable
class RoundTrips(Protocol):
    """What a generator adds that can show what its own image space lets through."""

    def round_trip(self, images: np.ndarray) -> np.ndarray:
        """Encode and decode uint8 images (n, height, width, 3); same shape and type."""
        ...
