"""Pictures as data URIs, small enough that the page stays light."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from eegprompt.errors import InputError
from eegprompt.image_files import to_rgb

__all__ = ["data_uri", "figure_uri"]


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
            picture = to_rgb(ImageOps.exif_transpose(handle))
    except (OSError, SyntaxError, ValueError, InputError):
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


def figure_uri(path: str | Path) -> tuple[str, int] | None:
    """A figure as a ``data:`` URI at full resolution, and the width at which it was meant.

    Parameters
    ----------
    path : str or Path
        A PNG file that notes its resolution.

    Returns
    -------
    uri : str
        WebP where that is to be had, lossless unless lossy is smaller; else PNG of few colors.
    width : int
        In CSS pixels, 96 an inch.
    """
    from PIL import Image, features

    try:
        with Image.open(path) as handle:
            picture = handle.convert("RGB")
            dpi = float(handle.info.get("dpi", (96, 96))[0]) or 96.0
    except OSError:
        return None
    versions: list[tuple[int, bytes, str]] = []
    for kind, options in (
        ("WEBP", {"lossless": True, "method": 1, "quality": 40}),
        ("WEBP", {"quality": 86, "method": 2}),
        ("PNG", {"optimize": True}),
    ):
        if kind == "WEBP" and not features.check("webp"):
            continue
        if kind == "PNG" and versions:
            break
        stream = io.BytesIO()
        (picture if kind == "WEBP" else picture.quantize(128, dither=0)).save(  # type: ignore[arg-type]
            stream, kind, **options
        )
        versions.append((stream.tell(), stream.getvalue(), kind.lower()))
    _, data, kind = min(versions)
    width = round(picture.width * 96 / dpi)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", width
