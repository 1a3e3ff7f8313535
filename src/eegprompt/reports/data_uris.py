"""Images as data URIs, small enough that the page stays light."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from eegprompt.core.errors import InputError
from eegprompt.core.image_files import to_rgb

__all__ = ["data_uri", "figure_uri"]


def data_uri(path: str | Path, size: int = 256) -> str | None:
    """An image as a ``data:`` URI of at most `size` pixels a side.

    Small images are kept as they are (PNG), larger ones become lossy thumbnails. Text stored
    in the file (prompt, seed) is left out.

    Parameters
    ----------
    path : path-like
        The image's file.
    size : int
        Longest side, in pixels.

    Returns
    -------
    str or None
        None if the file is gone or cannot be read as an image.
    """
    from PIL import Image, ImageOps, features

    try:
        with Image.open(path) as handle:
            image = to_rgb(ImageOps.exif_transpose(handle))
    except (OSError, SyntaxError, ValueError, InputError):
        return None
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if max(image.size) <= 96:
        image.save(stream, "PNG", optimize=True)
        kind = "png"
    elif features.check("webp"):
        image.save(stream, "WEBP", quality=84, method=4)
        kind = "webp"
    else:
        image.save(stream, "JPEG", quality=86, optimize=True)
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
            image = handle.convert("RGB")
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
        (image if kind == "WEBP" else image.quantize(128, dither=0)).save(  # type: ignore[arg-type]
            stream, kind, **options
        )
        versions.append((stream.tell(), stream.getvalue(), kind.lower()))
    _, data, kind = min(versions)
    width = round(image.width * 96 / dpi)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", width
