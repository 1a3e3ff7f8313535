"""Panels that several analyses draw: grids of scalp maps, channels over time, tables of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.figures.scalp import SensorLayout, color_bar, stamp
from eegprompt.figures.style import INK, LEVEL_COLORS, SEQUENTIAL, TABLE, TWO_COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "WINDOWS",
    "ScalpMap",
    "bin_edges",
    "cells",
    "channel_images",
    "front_to_back",
    "onset_line",
    "panels",
    "samples_within",
    "scalp_maps",
    "windows_within",
]

WINDOWS = ((0.05, 0.13), (0.13, 0.24), (0.24, 0.33), (0.33, 0.45))
"""Time windows of maps by level, in seconds."""


@dataclass(frozen=True)
class ScalpMap:
    """One map of a grid.

    Parameters
    ----------
    values : array (n_chans,)
        What is drawn.
    title : str
        Above it.
    level : str
        Whose color the title has.
    failed : str
        Written across it.
    below : str
        A line beneath it.
    mask : bool array (n_chans,), optional
        Channels to mark.
    """

    values: np.ndarray
    title: str = ""
    level: str = ""
    failed: str = ""
    below: str = ""
    mask: np.ndarray | None = None


def scalp_maps(
    layout: SensorLayout,
    rows: Mapping[str, Sequence[ScalpMap]],
    limits: tuple[float, float],
    label: str,
    *,
    cmap: str = SEQUENTIAL,
    height: float = 1.6,
    name_rows: bool = True,
) -> Figure:
    """Maps in rows of equal scale, with one color bar.

    Parameters
    ----------
    layout : SensorLayout
        Where the electrodes are.
    rows : mapping of str to sequence of ScalpMap
        By row; its name is written beside it.
    limits : (float, float)
        Ends of the color scale.
    label : str
        Of the color bar.
    cmap : str
        Name of a color map.
    height : float
        Of a row, in inches.
    name_rows : bool
        Whether rows have their name beside them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, height * len(rows) + 0.1), layout="constrained")
    grid = figure.subplots(len(rows), max(map(len, rows.values())), squeeze=False)
    for line, (name, maps) in zip(grid, rows.items()):
        for axes, one in zip(line, maps):
            layout.draw(axes, one.values, limits, cmap=cmap, mask=one.mask)
            axes.set_title(
                one.title, fontsize=7.5, loc="center", color=LEVEL_COLORS.get(one.level, "black")
            )
            if one.failed:
                stamp(axes, one.failed)
            if one.below:
                axes.text(
                    0.5, 0.0, one.below, fontsize=6, transform=axes.transAxes, ha="center", va="top"
                )
        for axes in line[len(maps) :]:
            axes.axis("off")
        if name_rows:
            line[0].text(
                -0.12, 0.5, name, transform=line[0].transAxes, rotation=90, va="center",
                ha="center", fontweight="bold", fontsize=8, color=LEVEL_COLORS.get(name, "black"),
            )  # fmt: skip
    color_bar(figure, grid, limits, label, cmap)
    return figure


def panels(n: int, height: float, *, width: float = TWO_COLUMNS) -> tuple[Figure, Any]:
    """A figure of `n` panels side by side that share their y axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, n, sharey=True, squeeze=False)[0]


def onset_line(axes: Axes, first: float) -> None:
    """Mark the onset where the time axis begins before it, and let the axis end with the data."""
    if first < 0:
        axes.axvline(0, color="0.6", lw=0.7, ls="--", zorder=0)
    axes.margins(x=0)


def bin_edges(centers: np.ndarray) -> np.ndarray:
    """Edges of bins of equal width, in milliseconds, from their centers in seconds."""
    half = (centers[1] - centers[0]) / 2 if len(centers) > 1 else 0.001
    return 1e3 * np.append(centers - half, centers[-1] + half)


def channel_images(
    maps: Mapping[str, np.ndarray],
    edges: np.ndarray,
    channels: tuple[Sequence[str], np.ndarray],
    limits: tuple[float, float],
    label: str,
    cmap: str = SEQUENTIAL,
) -> Figure:
    """Images of channel by time, one panel per map, channels from front to back.

    Parameters
    ----------
    maps : mapping of str to array (n_chans, n_bins)
        By title; NaN is gray.
    edges : array (n_bins + 1,)
        Of the bins, in milliseconds.
    channels : (sequence of str, array (n_chans, 3))
        Names and positions.
    limits, label, cmap
        As in :func:`scalp_maps`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names, positions = channels
    order = front_to_back(positions)
    figure, axes_of = panels(len(maps), 2.6)
    rows = np.arange(len(order) + 1) - 0.5
    for axes, (title, values) in zip(axes_of, maps.items()):
        shown = axes.pcolormesh(
            edges, rows, np.ma.masked_invalid(values[order]), vmin=limits[0], vmax=limits[1],
            cmap=cmap, rasterized=True,
        )  # fmt: skip
        axes.set_facecolor("0.93")
        axes.set_ylim(len(order) - 0.5, -0.5)
        onset_line(axes, edges[0])
        axes.set_title(title)
        axes.set_xlabel("time from onset (ms)")
    ticks = np.unique(np.linspace(0, len(order) - 1, min(len(order), 9)).round().astype(int))
    axes_of[0].set_yticks(ticks, [names[order[i]] for i in ticks])
    axes_of[0].set_ylabel("channel, front to back")
    figure.colorbar(shown, ax=axes_of, aspect=18, pad=0.02).set_label(label)
    return figure


def front_to_back(positions: np.ndarray) -> np.ndarray:
    """Order of channels from the front of the head to its back; those without a position last."""
    return np.argsort(-np.nan_to_num(positions[:, 1], nan=-np.inf), kind="stable")


def windows_within(times: np.ndarray) -> list[tuple[float, float]]:
    """Those of :data:`WINDOWS` that a trial has samples of; the whole trial if it has none."""
    some = [w for w in WINDOWS if w[0] < times[-1] and w[1] > times[0]]
    return some or [(float(times[0]), float(times[-1]))]


def samples_within(times: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Samples of a window as a bool array; the nearest one where it has none."""
    inside = (times >= window[0]) & (times < window[1])
    distance = np.abs(times - np.mean(window))
    return inside if inside.any() else distance == distance.min()


def cells(
    axes: Axes,
    shades: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str] | None,
    *,
    top: float = 1.0,
    bold: np.ndarray | None = None,
) -> Any:
    """A table of numbers in shaded cells.

    Parameters
    ----------
    axes : matplotlib Axes
        Where.
    shades : array (n_rows, n_columns)
        From 0 to `top`; NaN is left white.
    texts : sequence of sequence of str
        What is written in the cells.
    rows, columns : sequence of str
        Names; without columns those of the axes below are meant.
    top : float
        Value of the darkest cell.
    bold : bool array (n_rows, n_columns), optional
        Cells in bold type.

    Returns
    -------
    matplotlib image
        For a color bar.
    """
    image = axes.imshow(np.ma.masked_invalid(shades), vmin=0, vmax=top, cmap=TABLE, aspect="auto")
    for i, j in np.ndindex(shades.shape):
        dark = np.isfinite(shades[i, j]) and shades[i, j] > 0.55 * top
        axes.text(
            j, i, texts[i][j], ha="center", va="center", fontsize=7, color="w" if dark else INK,
            fontweight="bold" if bold is not None and bold[i, j] else "normal",
        )  # fmt: skip
    if columns is not None:
        axes.set_xticks(
            range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor"
        )
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image
