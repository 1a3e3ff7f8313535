"""What a generator offers: images from prompts and seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Generator"]


class Generator(ABC):
    """Generates images from prompts; frozen. Only `name` and :meth:`generate` must be given.

    The constructor takes what a user types behind the name (``NAME:ARGUMENT``), or None, and
    options by keyword.

    Attributes
    ----------
    name, revision : str
        What it is and in which version.
    max_tokens : int or None
        Longest prompt in tokens that is read to the end, special tokens included; None where any
        length is.
    batch_size : int or None
        Images that it generates in one go; None: any number.
    takes_negative_prompt : bool
        Whether it can be told what images should not show.
    wants_images : bool
        Whether it is shown, beside each prompt, the training image that stands for the prompt's
        most trusted caption.
    blanked : sequence of bool
        Of the images generated last, which a safety checker blanked; empty where there is none.
    notes : sequence of str
        What was done differently than asked for, a sentence each.
    """

    name: str
    revision: str = "unknown"
    max_tokens: int | None = None
    batch_size: int | None = None
    takes_negative_prompt: bool = False
    wants_images: bool = False
    blanked: Sequence[bool] = ()
    notes: Sequence[str] = ()

    @property
    def supports_embeddings(self) -> bool:
        """Whether prompts can be given as embeddings, and so between captions."""
        return False

    @property
    def has_autoencoder(self) -> bool:
        """Whether :meth:`round_trip` can be had."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """What decides an image beside prompt and seed, for the record."""
        return {"model": self.name, "revision": self.revision}

    def count_tokens(self, text: str) -> int:
        """Number of tokens, special tokens included; by default of words."""
        return len(text.split())

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative_prompt: str | None = None,
        image_paths: Sequence[str] = (),
    ) -> np.ndarray:
        """Generate one uint8 image (height, width, 3) for each prompt, stacked.

        An image depends on its own prompt and seed only, not on its neighbors in the batch. A class
        that does not set `takes_negative_prompt` or `wants_images` is never given the keyword.
        """

    def embed_prompts(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Embeddings by name, one row for each prompt; all rows of one call have the same shape."""
        raise InputError(f"{self.name} takes no prompt embeddings; compose prompts as text")

    def generate_from_embeddings(
        self,
        embeds: dict[str, torch.Tensor],
        seeds: Sequence[int],
        *,
        negative_prompt: str | None = None,
    ) -> np.ndarray:
        """Generate one image for each row, as :meth:`generate` does."""
        raise InputError(f"{self.name} takes no prompt embeddings; compose prompts as text")

    def round_trip(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Encode and decode uint8 images (height, width, 3): what its own image space lets through."""
        raise InputError(f"{self.name} has no autoencoder, so there is no round trip")
