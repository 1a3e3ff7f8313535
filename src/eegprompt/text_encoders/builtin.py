"""The built-in text encoder: a small CLIP trained on the built-in scenes."""

from __future__ import annotations

from eegprompt.builtin.models import clip_folder
from eegprompt.core.errors import InputError
from eegprompt.text_encoders.clip import ClipTextEncoder

__all__ = ["builtin_text_encoder"]


def builtin_text_encoder(argument: str | None = None, device: str = "auto") -> ClipTextEncoder:
    """The CLIP that comes with the package.

    Parameters
    ----------
    argument : None
        The built-in model takes none.
    device : str, default "auto"
        See :class:`ClipTextEncoder`.
    """
    if argument:
        raise InputError(f"the text encoder 'builtin' takes no argument, got '{argument}'")
    encoder = ClipTextEncoder(str(clip_folder()), device=device)
    encoder.name = "builtin"
    return encoder
