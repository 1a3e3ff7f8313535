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
    "EEGEncoder",
    "FeatureNetwork",
    "Generator",
    "Reader",
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
    """Draws pictures from prompts; frozen."""

    name: str
    revision: str
    max_tokens: int

    def count_tokens(self, text: str) -> int:
        """Number of tokens, begin and end marks included."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Draw one uint8 picture (height, width, 3) a prompt, stacked.

        A picture depends on its own prompt and seed only, not on its neighbors in the batch.
        """
        ...


@runtime_checkable
class FeatureNetwork(Protocol):
    """Maps pictures to features for the image scores; frozen."""

    name: str
    revision: str

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Map uint8 (n, height, width, 3) to float32 features (n, n_dims), by layer name."""
        ...
