"""Pictures as data URIs, small enough that the page stays light."""

from __future__ import annotations

import base64
import io
from pathlib import Path

__all__ = ["data_uri"]


def data_uri(path: str | Path, size: int = 256) -> str | None:
    """A picture as a ``data:`` URI of at most `size` pixels a side.

    Small pictures are kept as they are (PNG), larger ones become lossy thumbnails. Text stored
    in the file (prompt, seed) is left out.

    Parameters
    ----------
    path : path-like
        The picture's file.
    size : int
        Longest side, in pixels.

    Returns
    -------
    str or None
        None if the file is gone or cannot be read as a picture.
    """
    from PIL import Image, ImageOps, features

    try:
        with Image.open(path) as handle:
            picture = ImageOps.exif_transpose(handle).convert("RGB")
    except OSError:
        return None
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if max(picture.size) <= 96:
        picture.save(stream, "PNG", optimize=True)
        kind = "png"
    elif features.check("webp"):
        picture.save(stream, "WEBP", quality=84, method=4)
        kind = "webp"
    else:
        picture.save(stream, "JPEG", quality=86, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
