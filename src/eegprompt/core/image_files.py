"""Image files of every mode that Pillow reads, as 8-bit RGB: scaled or refused, never clipped.

Pillow itself clips where it converts: floating-point values in [0, 1] become black, 16-bit values
white. Here 16-bit values are scaled to 8 bits; of 32-bit and floating-point files, which do not say
their range, it is taken from the largest value; transparency is laid on white.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    from PIL import Image as PILImage

__all__ = ["to_rgb"]

_RANGES = (1.0, 255.0, 65535.0)


def to_rgb(image: PILImage.Image) -> PILImage.Image:
    """Bring an image of any mode to RGB with 8 bits for each channel.

    Parameters
    ----------
    image : PIL.Image.Image
        Values of modes ``I`` and ``F`` count as parts of the least of 1, 255 and 65535 that none
        of them exceeds, or of their own maximum where all are exceeded.

    Returns
    -------
    PIL.Image.Image
        Mode RGB. Transparent parts are white.

    Raises
    ------
    InputError
        If values are negative or not finite, so that no range holds them, or the mode is unknown.

    Examples
    --------
    >>> from PIL import Image
    >>> to_rgb(Image.new("F", (1, 1), 0.5)).getpixel((0, 0))
    (128, 128, 128)
    """
    from PIL import Image

    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise InputError(
                "it holds values that are not finite (mode F); write it again with 8 bits"
            )
        low, top = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if low < 0:
            raise InputError(
                f"its values run from {low:g} to {top:g} (mode {mode}); bring them to 0 to 255 and "
                "write it again with 8 bits"
            )
        scale = 65535.0 if mode.startswith("I;16") else next((r for r in _RANGES if top <= r), top)
        gray = (values / scale * 255.0).round().astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if mode in ("RGBa", "La"):  # colors that are multiplied by the opacity already
            image = image.convert({"RGBa": "RGBA", "La": "LA"}[mode])
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    if mode == "LAB":
        return _from_lab(image)
    try:
        return image.convert("RGB")
    except ValueError:
        raise InputError(f"its mode is '{mode}'; write it again as RGB with 8 bits") from None


def _from_lab(image: PILImage.Image) -> PILImage.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert converted is not None
    return converted
