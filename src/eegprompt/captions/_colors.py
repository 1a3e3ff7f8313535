"""Colors of an image by name: the cast of the light taken out, shading passed over.

Colors are named in CIELAB (CIE 15:2004, D65) by hue, chroma and lightness, with the eleven basic
color terms of Berlin & Kay (1969, Basic Color Terms); the borders between hues lie between the
focal colors of Sturges & Whitfield (1995, Color Res Appl 20:364).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NAMES", "balance", "body_color", "color_name", "name_indices", "to_lab"]

NAMES = (
    "black", "gray", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink",
)  # fmt: skip
_INDEX = {name: i for i, name in enumerate(NAMES)}

_CAST = 0.72  # weakest channel of a light that is still taken for a cast, of its strongest
_DARKEST = 150.0  # an image whose brightest value is lower is dark by itself, not dimly lit
_COLORED = 14.0  # chroma from which on a pixel has a hue
_MOSTLY = 0.4  # a thing of which less is colored has no color


def to_lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB values in [0, 255].

    Parameters
    ----------
    rgb : array of shape (..., 3)

    Returns
    -------
    array of shape (..., 3)
        Lightness in [0, 100], and the axes green to red and blue to yellow.
    """
    c = rgb / 255.0
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = c @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


def name_indices(lab: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into :data:`NAMES` for each color.

    Parameters
    ----------
    lab : array of shape (..., 3)
        CIELAB.
    """
    light, a, b = lab[..., 0], lab[..., 1], lab[..., 2]
    chroma = np.hypot(a, b)
    hue = np.degrees(np.arctan2(b, a)) % 360
    # Hue borders in CIELAB degrees, from red on.
    hues = np.select(
        [
            (hue < 48) | (hue >= 352),
            hue < 80,
            hue < 110,
            hue < 190,
            hue < 302,
            hue < 328,
        ],
        [_INDEX[n] for n in ("red", "orange", "yellow", "green", "blue", "purple")],
        _INDEX["pink"],
    )
    reddish = np.isin(hues, [_INDEX["red"], _INDEX["pink"]])
    hues = np.where(reddish & (light >= 60), _INDEX["pink"], hues)
    hues = np.where((hues == _INDEX["pink"]) & (light < 38), _INDEX["purple"], hues)
    hues = np.where((hues == _INDEX["purple"]) & (hue >= 302) & (light >= 68), _INDEX["pink"], hues)
    dull = (hues == _INDEX["orange"]) & ((light < 46) | (chroma < 28))
    hues = np.where(dull | ((hues == _INDEX["yellow"]) & (light < 52)), _INDEX["brown"], hues)
    gray = np.select([light < 22, light < 70], [_INDEX["black"], _INDEX["gray"]], _INDEX["white"])
    achromatic = (chroma < 12) | (light < 12) | ((light > 90) & (chroma < 16))
    return np.where(achromatic, gray, hues)


def color_name(rgb: Sequence[float]) -> str:
    """Basic color term of an sRGB color.

    Parameters
    ----------
    rgb : sequence of 3 numbers
        In [0, 255].

    Examples
    --------
    >>> [color_name(c) for c in ((255, 0, 0), (20, 20, 20), (120, 70, 40), (250, 250, 245))]
    ['red', 'black', 'brown', 'white']
    """
    return NAMES[int(name_indices(to_lab(np.asarray(rgb, dtype=np.float64))))]


def balance(rgb: NDArray[np.float64], veil: float = 0.0) -> NDArray[np.float64]:
    """Take veil and cast of the light out of an image, and bring its brightest value to 255.

    The brightest values of each channel are taken for white (Land & McCann 1971, J Opt Soc Am
    61:1), within the casts that daylight and lamps have: an image that holds nothing white must
    not lose its own color.

    Parameters
    ----------
    rgb : array of shape (height, width, 3)
        In [0, 255].
    veil : float, default 0
        Brightness that haze has added everywhere.

    Returns
    -------
    array of shape (height, width, 3)
        In [0, 255].
    """
    clear = np.clip(rgb - veil, 0, 255)
    high = np.percentile(clear.reshape(-1, 3), 99.5, axis=0)
    clear = clear / np.clip(high / max(float(high.max()), 1.0), _CAST, 1.0)
    top = float(np.percentile(clear.max(axis=-1), 99.5))
    return np.clip(clear * (255.0 / max(top, _DARKEST)), 0, 255)


def body_color(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """The color of a thing's body among its pixels: shading, lines and highlights left out.

    Shading darkens a color and keeps its hue (dichromatic reflection; Shafer 1985, Color Res Appl
    10:210), so the most frequent hue is taken, weighted by chroma, and in it the lighter part, for
    that is the color as it is lit.

    Parameters
    ----------
    lab : array of shape (n_pixels, 3)
        CIELAB; at least one pixel.

    Returns
    -------
    array of shape (3,)
        CIELAB.
    """
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360
    colored = chroma > _COLORED
    if colored.mean() < _MOSTLY:
        chosen = lab[~colored]
    else:
        counts = np.bincount((hue // 10).astype(int), weights=chroma * colored, minlength=36)
        counts = counts + 0.5 * (np.roll(counts, 1) + np.roll(counts, -1))
        peak = 10.0 * int(np.argmax(counts)) + 5.0
        near = np.abs((hue - peak + 180) % 360 - 180) < 25
        chosen = lab[colored & near]
    low, high = np.percentile(chosen[:, 0], [70, 98])
    lit = chosen[(chosen[:, 0] >= low) & (chosen[:, 0] <= high)]
    return np.median(lit if len(lit) else chosen, axis=0)
