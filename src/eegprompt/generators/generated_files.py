"""Generated images as PNG files that say what they were made from."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass

__all__ = ["image_facts"]


def png(image: np.ndarray, facts: dict[str, str]) -> bytes:
    """An image as PNG bytes that carry what it was made from."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, value in facts.items():
        info.add_text(name, value)
    stream = io.BytesIO()
    # Level 1 is several times as fast as the default; images of photographs hardly grow.
    Image.fromarray(image).save(stream, "PNG", pnginfo=info, compress_level=1)
    return stream.getvalue()


def image_facts(path: str | Path) -> dict[str, str] | None:
    """The text chunks of an image that was drawn; None if it is missing or cannot be read whole.

    Returns
    -------
    dict or None
        ``prompt``, ``model``, ``revision``, ``seed``, ``trial_id``, ``sample``, ``source``, ….
    """
    from PIL import Image, PngImagePlugin

    try:
        with Image.open(path) as image:
            image.load()
            assert isinstance(image, PngImagePlugin.PngImageFile)
            return {str(name): str(text) for name, text in image.text.items()}
    except (OSError, SyntaxError, ValueError, AssertionError, EOFError):
        return None


def look_of(paths: Iterable[Path]) -> str | None:
    """The key of the settings that most of some images were drawn with; None if none says."""
    looks = Counter(facts.get("look") for path in paths if (facts := image_facts(path)))
    looks.pop(None, None)
    return looks.most_common(1)[0][0] if looks else None


def pixels(path: Path) -> np.ndarray:
    """Pixels of an image file, RGB."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
