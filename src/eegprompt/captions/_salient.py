"""Where the main thing of an image lies, without a model: what its borders do not explain.

After the geodesic saliency of Wei et al. (2012, ECCV 7574:29): borders are mostly background, and
a pixel is salient by the edges that any path from the border to it must cross. Two more cues: how
far its color is from the left and right border at its own height (backgrounds lie in layers), and
for each border pixel whether the opposite border knows its color: if not, a thing is cut off there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions._colors import body_color

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["salient_mask"]

_SHARE = 0.7  # of Otsu's threshold (1979, IEEE SMC 9:62); the mass of a thing is less than its rim
_STEP = 0.3  # cost of a pixel without an edge, at 64 pixels a side
_KNOWN = 8.0  # CIELAB distance within which the opposite border knows a color
_ALIKE = 25.0  # CIELAB distance within which parts are taken for things of one kind
_SMALL = 0.2  # parts smaller than this share of the main one are left out


def salient_mask(lab: NDArray[np.float64]) -> tuple[NDArray[np.bool_], int]:
    """Mask of the main thing, or of several of one color.

    Parameters
    ----------
    lab : array of shape (height, width, 3)
        CIELAB.

    Returns
    -------
    mask : array of shape (height, width), bool
        Empty if nothing stands out.
    parts : int
        Separate masses in it, at least 1.
    """
    from scipy import ndimage

    height, width = lab.shape[:2]
    if min(height, width) < 8:
        return np.zeros((height, width), dtype=bool), 1
    strange = _strange_borders(lab)
    edges = _geodesic(lab, strange, ndimage)
    layers = np.minimum(_from_sides(lab, strange), 80.0)
    saliency = np.sqrt(edges * layers)
    mask = _tidy(saliency > max(_SHARE * _otsu(saliency), 1e-6), ndimage)
    return _of_one_kind(lab, mask, saliency, ndimage)


def _strange_borders(lab: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """How little the rest of the border knows the colors of each: left, right, top, bottom."""
    height, width = lab.shape[:2]
    depth, reach = max(2, round(0.04 * min(height, width))), max(1, round(0.25 * height))
    left, right = np.median(lab[:, :depth], axis=1), np.median(lab[:, -depth:], axis=1)
    across = np.linalg.norm(left[:, None] - right[None], axis=-1)
    rows = np.arange(height)
    across[np.abs(rows[:, None] - rows[None]) > reach] = np.inf  # layers may be tilted, so far
    found = [across.min(axis=1), across.min(axis=0)]
    for side in (np.median(lab[:depth], axis=0), np.median(lab[-depth:], axis=0)):
        among = np.linalg.norm(side[:, None] - side[None], axis=-1)
        found.append(np.percentile(among, 30, axis=1))
    return tuple(np.clip(f - _KNOWN, 0.0, 60.0) for f in found)


def _geodesic(
    lab: NDArray[np.float64], strange: tuple[NDArray[np.float64], ...], ndimage: Any
) -> NDArray[np.float64]:
    """Cost of the cheapest path from outside the image to each pixel."""
    from skimage.graph import MCP_Geometric

    height, width = lab.shape[:2]
    scale = min(height, width) / 64
    smooth = ndimage.gaussian_filter(lab, (0.7 * scale, 0.7 * scale, 0))
    squares = [ndimage.sobel(smooth[..., c], axis) ** 2 for c in range(3) for axis in (0, 1)]
    step = _STEP / scale
    cost = np.zeros((height + 2, width + 2))
    cost[1:-1, 1:-1] = np.sqrt(sum(squares)) / 8 + step
    left, right, top, bottom = strange
    cost[1:-1, 0], cost[1:-1, -1] = left + step, right + step
    cost[0, 1:-1], cost[-1, 1:-1] = top + step, bottom + step
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        cost[i, j] = max(cost[i, 1 if j == 0 else -2], cost[1 if i == 0 else -2, j])
    rim = np.ones(cost.shape, dtype=bool)
    rim[1:-1, 1:-1] = False
    costs, _ = MCP_Geometric(cost).find_costs(np.argwhere(rim).tolist())
    return np.asarray(costs[1:-1, 1:-1])


def _from_sides(
    lab: NDArray[np.float64], strange: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float64]:
    """Distance in color from the left and right border at about the same height."""
    height, width = lab.shape[:2]
    depth, reach = max(2, round(0.06 * width)), max(1, round(0.1 * height))
    rows = np.arange(height)
    nearest = np.full((height, width), np.inf)
    sides = ((lab[:, :depth], strange[0]), (lab[:, -depth:][:, ::-1], strange[1]))
    for side, unknown in sides:
        for shift in range(-reach, reach + 1, max(1, reach // 2)):
            at = np.clip(rows + shift, 0, height - 1)
            for column in range(0, depth, max(1, depth // 3)):
                gap = np.square(lab - side[at, column][:, None]).sum(-1)
                # A border pixel that shows a thing says little of the background.
                np.minimum(nearest, gap + np.square(unknown[at])[:, None], out=nearest)
    return np.sqrt(nearest)


def _tidy(mask: NDArray[np.bool_], ndimage: Any) -> NDArray[np.bool_]:
    """Without specks, and without holes."""
    size = max(1, round(min(mask.shape) / 64))
    mask = ndimage.binary_opening(mask, iterations=size)
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=size))
    return np.asarray(mask, dtype=bool)


def _of_one_kind(
    lab: NDArray[np.float64], mask: NDArray[np.bool_], saliency: NDArray[np.float64], ndimage: Any
) -> tuple[NDArray[np.bool_], int]:
    """The most salient part, those like it, and what of their color was missed."""
    labels, n = ndimage.label(mask)
    if n == 0:
        return mask, 1
    height, width = mask.shape
    ids = np.arange(1, n + 1)
    y, x = np.mgrid[:height, :width]
    # Things are photographed near the center (Tatler 2007, J Vis 7(14):4).
    central = np.exp(-((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2) / (2 * 0.3**2))
    main = int(ids[np.argmax(ndimage.sum(saliency * central, labels, ids))])
    sizes = ndimage.sum(mask, labels, ids)
    color = body_color(lab[labels == main])
    alike = [
        i for i in ids
        if i == main or (
            sizes[i - 1] >= _SMALL * sizes[main - 1]
            and np.linalg.norm(body_color(lab[labels == i]) - color) < _ALIKE
        )
    ]  # fmt: skip
    kept = np.isin(labels, alike)
    same = np.linalg.norm(lab[..., 1:] - color[1:], axis=-1) < 16
    same &= np.abs(lab[..., 0] - color[0]) < 50
    same = ndimage.binary_opening(same)
    rim = np.concatenate([same[:2].ravel(), same[-2:].ravel(), same[:, :2].ravel(),
                          same[:, -2:].ravel()])  # fmt: skip
    # Where the background has the thing's color too, color finds nothing more of it.
    if rim.mean() <= 0.2 and (same & ~kept).sum() <= 2 * kept.sum():
        kept = kept | same
    labels, n = ndimage.label(kept)
    sizes = ndimage.sum(kept, labels, range(1, n + 1))
    large = [i + 1 for i in range(n) if sizes[i] >= _SMALL * sizes.max()]
    return np.asarray(ndimage.binary_fill_holes(np.isin(labels, large))), len(large)


def _otsu(values: NDArray[np.float64]) -> float:
    """Threshold that parts values into two groups of least variance within."""
    counts, borders = np.histogram(values, bins=64)
    centers = (borders[:-1] + borders[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.nan_to_num(between)
    return float(centers[int(np.argmax(between))])
