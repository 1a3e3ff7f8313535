"""Pixel scores of images against their references, and the two protocols of preparing both.

The two lineages of this field bring images to a common size in different ways, and the scores
differ with it, so a protocol is always named:

``mindeye``
    Both images to 256 × 256, then to 425 × 425, bilinear with antialiasing, on values in [0, 1]
    (MindEye, Scotti et al. 2023). The default.
``brain-diffuser``
    Both to 425 × 425 with Pillow's default filter (bicubic) on 8-bit values; an image that has
    that size is taken as it is (Brain-Diffuser, Ozcelik & VanRullen 2023).

Images that are not square are squashed, not cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError, UnknownNameError

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "gray",
    "pixcorr",
    "prepare",
    "ssim",
    "ssim_legacy",
    "ssim_pairs",
]

Protocol = Literal["mindeye", "brain-diffuser"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

_SIDE = 425
_SIGMA = 1.5
_RADIUS = 5  # int(3.5 * sigma + 0.5): a window of 11, as scikit-image takes it
_K1, _K2 = 0.01, 0.03


def prepare(images: Sequence[np.ndarray] | np.ndarray, protocol: str = "mindeye") -> np.ndarray:
    """Bring images to the size and values a protocol compares them at.

    Parameters
    ----------
    images : array of uint8, shape (n, height, width, 3), or a sequence of such images
        Sizes may differ in a sequence.
    protocol : str
        One of :data:`PROTOCOLS`.

    Returns
    -------
    array of float32, shape (n, 425, 425, 3)
        In [0, 1].

    Raises
    ------
    UnknownNameError
        If there is no such protocol.
    InputError
        If an image is not uint8 with three channels.
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    if not hasattr(images, "__getitem__") or not getattr(images, "ndim", 1):
        raise InputError(f"images must be a sequence of arrays, got {type(images).__name__}")
    for image in images:
        if not isinstance(image, np.ndarray):
            raise InputError(f"an image must be an array, got {type(image).__name__}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(
                "an image must be uint8 of shape (height, width, 3), got "
                f"{image.dtype} of shape {image.shape}"
            )
    out = np.empty((len(images), _SIDE, _SIDE, 3), dtype=np.float32)
    if protocol == "brain-diffuser":
        for i, image in enumerate(images):
            out[i] = _brain_diffuser(np.asarray(image))
    else:
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(np.shape(image), []).append(i)
        for rows in by_size.values():
            out[rows] = _mindeye(np.stack([images[i] for i in rows]))
    for i, image in enumerate(images):
        # resizing leaves rounding noise on a constant channel, which would correlate with something
        constant = np.ptp(image, axis=(0, 1)) == 0
        out[i][..., constant] = np.asarray(image)[0, 0, constant] / np.float32(255)
    return out


def _mindeye(images: np.ndarray) -> np.ndarray:
    import torch
    from torch.nn.functional import interpolate

    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    for side in (256, _SIDE):
        pixels = interpolate(
            pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
    return pixels.permute(0, 2, 3, 1).numpy()


def _brain_diffuser(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    one_image = Image.fromarray(image)
    if one_image.size != (_SIDE, _SIDE):
        one_image = one_image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(one_image, dtype=np.float32) / np.float32(255)


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = numbers(a, "references", ("images", "pixels", "…"), single=True)
    b = numbers(b, "images", ("images", "pixels", "…"), single=True)
    if a.shape != b.shape:
        raise InputError(
            f"each image needs one reference of the same size, got shapes {a.shape} and {b.shape}"
        )
    return a, b


def pixcorr(references: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Pearson correlation of the flattened pixels of each pair.

    Higher is better; in [-1, 1]; chance is not 0 (unrelated photographs reach about .045). A
    constant image has no correlation: it scores 0 and counts. A pixel that is not
    finite makes the pair NaN.

    Parameters
    ----------
    references, images : array of shape (n, ...)
        Prepared by :func:`prepare`.

    Returns
    -------
    array of float64, shape (n,)
    """
    references, images = _paired(references, images)
    values = np.empty(len(references))
    for i, (a, b) in enumerate(zip(references, images)):
        x = a.ravel().astype(np.float64)
        y = b.ravel().astype(np.float64)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            values[i] = np.nan
            continue
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        x -= x.mean()
        y -= y.mean()
        values[i] = 0.0 if constant else (x @ y) / np.sqrt((x @ x) * (y @ y))
    return values


def gray(images: np.ndarray) -> np.ndarray:
    """Luminance .2125 R + .7154 G + .0721 B, shape (n, height, width), in the images' dtype."""
    images = numbers(images, "images", ("images", "height", "width", "colors"), single=True)
    if images.shape[3] != 3:
        raise InputError(f"images must have 3 colors, got shape {images.shape}")
    return images @ np.array([0.2125, 0.7154, 0.0721], dtype=images.dtype)


def ssim(references: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair of gray images.

    Higher is better; in [-1, 1], 1 for equal images; chance is far above 0 (a plain gray image
    reaches about .40 against photographs). Gaussian weights of sigma 1.5 over 11 × 11 pixels,
    population covariance, range 1; the outer five rows and columns are left out of the mean.

    Parameters
    ----------
    references, images : array of shape (n, height, width)
        In [0, 1], from :func:`gray`; at least 11 × 11.

    Returns
    -------
    array of float64, shape (n,)

    References
    ----------
    Wang et al. (2004), Image quality assessment, IEEE TIP 13(4); as in scikit-image's
    ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1.0)``.
    """
    return _ssim(references, images, axes=(0, 1))


def ssim_legacy(references: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Structural similarity as scikit-image up to 0.19 gave it for ``multichannel=True``.

    On a gray image it took columns for channels: filtered along the rows' axis only, and left out
    rows only. It runs .02 to .15 higher than :func:`ssim`; published tables often hold this one.
    Parameters and range as for :func:`ssim`.
    """
    return _ssim(references, images, axes=(0,))


def _ssim(references: np.ndarray, images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    references, images = _paired(references, images)
    _check_gray(references)
    _check_gray(images)
    values = np.empty(len(references))
    for i, (x, y) in enumerate(zip(references, images)):
        x, y = x.astype(np.float64), y.astype(np.float64)
        values[i] = _mean_ssim(x, y, _moments(x, axes), _moments(y, axes), axes)
    return values


def _check_gray(images: np.ndarray) -> None:
    if not np.isfinite(images).all():
        raise InputError("SSIM needs pixels that are finite; draw or load the images again")
    if images.ndim != 3 or min(images.shape[1:]) < 2 * _RADIUS + 1:
        raise InputError(
            f"SSIM needs gray images (n, height, width) of at least {2 * _RADIUS + 1} pixels a "
            f"side, got shape {images.shape}"
        )


def _smooth(image: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = [_SIGMA if axis in axes else 0.0 for axis in range(2)]
    return gaussian_filter(image, sigma, truncate=3.5, mode="reflect")


def _moments(image: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    mean = _smooth(image, axes)
    return mean, _smooth(image * image, axes) - mean * mean


def _mean_ssim(
    x: np.ndarray,
    y: np.ndarray,
    of_x: tuple[np.ndarray, np.ndarray],
    of_y: tuple[np.ndarray, np.ndarray],
    axes: tuple[int, ...],
) -> float:
    (mx, vx), (my, vy) = of_x, of_y
    mxy = mx * my
    covariance = _smooth(x * y, axes) - mxy
    above = (2 * mxy + _K1**2) * (2 * covariance + _K2**2)
    below = (mx * mx + my * my + _K1**2) * (vx + vy + _K2**2)
    inner = tuple(slice(_RADIUS, -_RADIUS) if axis in axes else slice(None) for axis in range(2))
    return float((above / below)[inner].mean(dtype=np.float64))


def ssim_pairs(
    references: np.ndarray, images: np.ndarray, *, legacy: bool = False, threads: int = 2
) -> np.ndarray:
    """SSIM of every reference with every image, for permutations.

    The local means and variances are computed once an image; only the cross term once a pair.

    Parameters
    ----------
    references : array of shape (n_references, height, width)
        Gray, in [0, 1].
    images : array of shape (n_images, height, width)
        Gray, in [0, 1].
    legacy : bool
        As :func:`ssim_legacy`.
    threads : int
        Threads to share the images among.

    Returns
    -------
    array of float64, shape (n_references, n_images)
        Within 1e-4 of :func:`ssim`: single precision where the images are.
    """
    from concurrent.futures import ThreadPoolExecutor

    axes_of_shades = ("images", "height", "width")
    references = numbers(references, "references", axes_of_shades, single=True)
    images = numbers(images, "images", axes_of_shades, single=True)
    _check_gray(references)
    _check_gray(images)
    if references.shape[1:] != images.shape[1:]:
        raise InputError(
            f"images and references must have one size, got {images.shape[1:]} and "
            f"{references.shape[1:]}"
        )
    axes = (0,) if legacy else (0, 1)
    known = [_moments(x, axes) for x in references]

    def against_all(image: np.ndarray) -> list[float]:
        own = _moments(image, axes)
        return [_mean_ssim(x, image, m, own, axes) for x, m in zip(references, known)]

    with ThreadPoolExecutor(max(1, threads)) as pool:
        return np.array(list(pool.map(against_all, images))).T
