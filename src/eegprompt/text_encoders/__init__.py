"""Frozen text encoders: a caption becomes a vector of unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eegprompt.core.registry import resolve
from eegprompt.text_encoders.cache import cached_embeddings

if TYPE_CHECKING:
    from eegprompt.text_encoders.base import TextEncoder

__all__ = ["cached_embeddings", "load_text_encoder"]


def load_text_encoder(spec: str, device: str = "auto") -> TextEncoder:
    """Load the text encoder a user's string names.

    Parameters
    ----------
    spec : str
        ``builtin``, or ``clip:MODEL`` or ``sentence-transformers:MODEL`` with a folder or a name on
        huggingface.co.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    UnknownNameError
        If there is no such text encoder.
    ModelLoadError
        If the model cannot be loaded.
    """
    target, argument = resolve("text encoder", spec)
    encoder: TextEncoder = target(argument, device=device)
    return encoder
