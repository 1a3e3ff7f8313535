"""What a part of the journey must offer to be used in it. Shapes, units and ranges are binding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

    from eegprompt.study import Study

__all__ = [
    "Captioner",
    "DrawsFromEmbeddings",
    "EEGEncoder",
    "FeatureNetwork",
    "Generator",
    "NeedsContext",
    "Reader",
    "RoundTrips",
    "TextEncoder",
    "Warn",
]

Warn = Callable[[str], None]


@runtime_checkable
class Reader(Protocol):
    """Turns files of one kind into a study."""

    name: str

    def read(self, source: Path, out: Path, **options: Any) -> Study:
        """Import `source` into a new study folder `out`; a failure leaves no half study."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """Writes captions for images."""

    name: str

    def write(self, study: Study, image_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield rows with at least ``image_id``, ``kind`` and ``text``, an image at a time."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Embeds text; frozen."""

    name: str
    revision: str
    max_tokens: int

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 (n_texts, n_dims), each row of unit length."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens, begin and end marks included."""
        ...


@runtime_checkable
class EEGEncoder(Protocol):
    """A torch module from EEG to one embedding a head."""

    def __call__(
        self, eeg: torch.Tensor, positions: torch.Tensor, subject: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Embed trials.

        Parameters
        ----------
        eeg : float tensor (n_trials, n_chans, n_times)
            After the run's fitted steps; unitless.
        positions : float tensor (n_chans, 3)
            Electrode positions in meters, head coordinates; NaN where unknown.
        subject : int tensor (n_trials,), optional
            Index of a subject seen in training; -1 or None takes the shared path.

        Returns
        -------
        dict of str to float tensor (n_trials, n_dims)
            One embedding a head; not normalized.
        """
        ...


@runtime_checkable
class Generator(Protocol):
    """Draws pictures from prompts; frozen.

    `max_tokens` is None where any length is read to the end. A generator that can be told what a
    picture should not show takes ``negative_prompt=`` (one text for all pictures) in `generate`
    and, where it has it, in `generate_from_embeddings`. One with a safety checker lists in
    ``blanked``, a truth value a picture of the last call, which of them it blanked.
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
        """Draw one uint8 picture (height, width, 3) a prompt, stacked.

        A picture depends on its own prompt and seed only, not on its neighbors in the batch.
        """
        ...


@runtime_checkable
class DrawsFromEmbeddings(Protocol):
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
        """Draw one picture a row, as :meth:`Generator.generate` does."""
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
    """What a generator adds that can show what its own picture space lets through."""

    def round_trip(self, images: np.ndarray) -> np.ndarray:
        """Encode and decode uint8 pictures (n, height, width, 3); same shape and type."""
        ...


@runtime_checkable
class FeatureNetwork(Protocol):
    """Maps pictures to features for the image scores; frozen."""

    name: str
    revision: str

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Map uint8 (n, height, width, 3) to float32 features (n, n_dims), by layer name."""
        ...
