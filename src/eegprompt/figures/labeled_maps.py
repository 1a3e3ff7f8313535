"""Points of a two-dimensional map, by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.figures.style import INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_map", "name_groups"]

_SHOWN = 24


def draw_map(
    axes: Axes,
    points: np.ndarray,
    labels: np.ndarray,
    styles: Mapping[str, tuple[Any, str]] | None = None,
) -> None:
    """Points by label: eight colors times three markers; rarer labels beyond these are gray.

    Parameters
    ----------
    axes : matplotlib Axes
        Where.
    points : array (n_points, 2)
        Coordinates.
    labels : array of str (n_points,)
        Whose colors the points have.
    styles : mapping of str to (color, marker), optional
        Of each label; points are smaller then.
    """
    labels = labels.astype(str)
    names, counts = np.unique(labels, return_counts=True)
    shown = list(styles or sorted(names[np.argsort(-counts, kind="stable")][:_SHOWN].tolist()))
    rest = ~np.isin(labels, shown)
    options: dict[str, Any] = {"lw": 0, "rasterized": True}
    if rest.any():
        axes.scatter(points[rest, 0], points[rest, 1], s=6, color="0.85", label="other", **options)
    for i, name in enumerate(shown):
        default = PALETTE[i % len(PALETTE)], "o^sDv"[i // len(PALETTE) % 5]
        mine = labels == name
        color, marker = (styles or {}).get(name, default)
        axes.scatter(
            points[mine, 0], points[mine, 1], s=5 if styles else 9, alpha=0.75 if styles else 0.85,
            color=color, marker=marker, label=name[:18], **options,
        )  # fmt: skip


def name_groups(axes: Axes, points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    """Write each label at the median of its points, moved apart where names would overlap.

    Parameters
    ----------
    axes : matplotlib Axes
        Where.
    points : array (n_points, 2)
        Coordinates.
    labels : array of str (n_points,)
        Whose points they are.
    names : sequence of str
        Labels to write.
    """
    from matplotlib.patheffects import withStroke

    places = np.array([np.median(points[labels == name], axis=0) for name in names])
    height, width = np.ptp(points[:, 1]) * 0.06, np.ptp(points[:, 0]) * 0.24
    places[:, 1] += (
        0.6 * height
    )  # above the points, which a tight cluster would hide under its name
    order = np.argsort(places[:, 1])
    for _ in range(50):
        for a in order:
            for b in order:
                gap = places[b] - places[a]
                if a != b and abs(gap[0]) < width and 0 <= gap[1] < height:
                    places[b, 1] += (height - gap[1]) / 2 + 1e-9
                    places[a, 1] -= (height - gap[1]) / 2 + 1e-9
    for place, name in zip(places, names):
        axes.annotate(
            name, place, ha="center", va="center", fontsize=7, fontweight="bold", color=INK,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )  # fmt: skip
