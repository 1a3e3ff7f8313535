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

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from eegprompt.core.arrays import numbers
from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.metrics.base import Metric, register_metric

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
Images = Sequence[np.ndarray] | np.ndarray
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


def resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image at the height and width of another (bicubic; the aspect ratio is not kept)."""
    from PIL import Image

    if np.shape(image) == tuple(shape):
        return np.asarray(image)
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


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
    return _pixcorr(*_paired(references, images))


def _pixcorr(references: Images, images: Images) -> np.ndarray:
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


def _pixcorr_pairs(references: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Correlation of all references with all images, in single precision."""

    def standard(rows: np.ndarray) -> np.ndarray:
        flat = rows.reshape(len(rows), -1).astype(np.float32)
        constant = np.ptp(flat, axis=1) == 0
        flat = flat - flat.mean(axis=1, keepdims=True)
        flat[constant] = 0
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        return flat / np.where(norm == 0, 1, norm)

    return standard(references) @ standard(images).T


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
    return _ssim(*_paired(references, images))[:, 0]


def ssim_legacy(references: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Structural similarity as scikit-image up to 0.19 gave it for ``multichannel=True``.

    On a gray image it took columns for channels: filtered along the rows' axis only, and left out
    rows only. It runs .02 to .15 higher than :func:`ssim`; published tables often hold this one.
    Parameters and range as for :func:`ssim`.
    """
    return _ssim(*_paired(references, images))[:, 1]


def _ssim(references: Images, images: Images) -> np.ndarray:
    """SSIM of each pair in both forms; an image that occurs several times is filtered once."""
    pairs = list(zip(references, images))
    every = {id(shades): shades for pair in pairs for shades in pair}
    for shades in every.values():
        _check_gray(shades[None])
    filtered = _in_threads(lambda one: _filtered(one.astype(np.float64)), list(every.values()))
    known = dict(zip(every, filtered))
    values = _in_threads(lambda pair: _similarity(known[id(pair[0])], known[id(pair[1])]), pairs)
    return np.array(values).reshape(-1, 2)


def ssim_pairs(references: np.ndarray, images: np.ndarray) -> np.ndarray:
    """SSIM of every reference with every image, for permutations.

    The local means and variances are computed once an image; only the cross term once a pair.

    Parameters
    ----------
    references : array of shape (n_references, height, width)
        Gray, in [0, 1].
    images : array of shape (n_images, height, width)
        Gray, in [0, 1].

    Returns
    -------
    array of float64, shape (n_references, n_images, 2)
        :func:`ssim` and :func:`ssim_legacy`, within 1e-4: single precision where the images are.
    """
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
    known = _in_threads(_filtered, references)

    def against_all(image: np.ndarray) -> list[tuple[float, float]]:
        own = _filtered(image)
        return [_similarity(one, own) for one in known]

    return np.array(_in_threads(against_all, images)).swapaxes(0, 1)


def _in_threads(function: Callable[[Any], Any], items: Any, threads: int = 2) -> list[Any]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def _check_gray(images: np.ndarray) -> None:
    if not np.isfinite(images).all():
        raise InputError("SSIM needs pixels that are finite; draw or load the images again")
    if images.ndim != 3 or min(images.shape[1:]) < 2 * _RADIUS + 1:
        raise InputError(
            f"SSIM needs gray images (n, height, width) of at least {2 * _RADIUS + 1} pixels a "
            f"side, got shape {images.shape}"
        )


def _smooth(image: np.ndarray, axis: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(image, _SIGMA, axis, truncate=3.5, mode="reflect"))


def _filtered(image: np.ndarray) -> tuple[np.ndarray, ...]:
    """The image, and its local means and variances: filtered along both axes, and along one."""
    one = [_smooth(x, 0) for x in (image, image * image)]
    both = [_smooth(x, 1) for x in one]
    return image, both[0], both[1] - both[0] * both[0], one[0], one[1] - one[0] * one[0]


def _similarity(x: tuple[np.ndarray, ...], y: tuple[np.ndarray, ...]) -> tuple[float, float]:
    """Mean structural similarity filtered along both axes, and along one."""
    one = _smooth(x[0] * y[0], 0)
    values = []
    inside = slice(_RADIUS, -_RADIUS)
    for at, cross, inner in (
        (1, _smooth(one, 1), (inside, inside)),
        (3, one, (inside, slice(None))),
    ):
        mx, vx, my, vy = *x[at : at + 2], *y[at : at + 2]
        mxy = mx * my
        above = (2 * mxy + _K1**2) * (2 * (cross - mxy) + _K2**2)
        below = (mx * mx + my * my + _K1**2) * (vx + vy + _K2**2)
        values.append(float((above / below)[inner].mean(dtype=np.float64)))
    return values[0], values[1]


def _grays(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gray images of one size; equal objects stay equal objects."""
    known = {id(x): gray(x[None])[0] for x in {id(x): x for x in images}.values()}
    return [known[id(x)] for x in images]


_IMAGE: dict[str, Any] = {"group": "image", "of": "pixels", "range": "−1 to 1"}
_SSIM: dict[str, Any] = {
    **_IMAGE,
    "unit": "SSIM",
    "symbol": "SSIM",
    "chance": "chance by permutation, which is far above 0",
    "function": lambda references, images: _ssim(_grays(references), _grays(images)),
    "pairs": lambda references, images: ssim_pairs(gray(references), gray(images)),
}
for _entry in (
    Metric(
        "pixcorr",
        label="Pixel correlation",
        says="Pearson correlation of the pixels of image and reference. Unrelated natural photographs "
        "already correlate a little.",
        unit="r",
        symbol="Pearson r",
        chance="chance by permutation, which is not 0",
        function=_pixcorr,
        pairs=_pixcorr_pairs,
        **_IMAGE,
    ),
    Metric(
        "ssim",
        label="Structural similarity (SSIM)",
        says="Likeness of local brightness, contrast and structure. A plain gray image scores well above "
        "0, so read it beside the floor.",
        column=0,
        **_SSIM,
    ),
    Metric(
        "ssim_legacy",
        label="Structural similarity, legacy form",
        says="Structural similarity as older software computed it; runs higher than the standard form.",
        column=1,
        **_SSIM,
    ),
):
    register_metric(_entry)
