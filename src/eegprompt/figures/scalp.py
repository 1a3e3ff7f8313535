"""Maps of the head: interpolated by MNE where electrodes are dense, dots where they are few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.attribution.clusters import electrode_info
from eegprompt.figures.sensors import flat_positions
from eegprompt.figures.style import GRAY, INK, SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["INTERPOLATED_FROM", "SensorLayout", "color_bar", "stamp"]

INTERPOLATED_FROM = 16
"""Electrodes from which a map is interpolated; fewer leave most of the head to guesswork."""


class SensorLayout:
    """The electrodes of a study, drawn as seen from above, nose up.

    Parameters
    ----------
    ch_names : list of str
        Channels.
    positions : array (n_chans, 3)
        Meters, head coordinates; NaN where unknown.
    """

    def __init__(self, ch_names: list[str], positions: np.ndarray):
        self.names = list(ch_names)
        self.known = np.isfinite(positions).all(axis=1)
        self.placed = bool(self.known.any())
        self.interpolated = int(self.known.sum()) >= INTERPOLATED_FROM
        self.flat = flat_positions(positions)
        self.info = (
            electrode_info(np.array(self.names)[self.known].tolist(), positions[self.known])
            if self.interpolated
            else None
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the maps must know about electrodes."""
        notes = []
        missing = np.array(self.names)[~self.known].tolist()
        if missing and self.placed:
            some = ", ".join(missing[:6]) + (", …" if len(missing) > 6 else "")
            notes.append(f"{len(missing)} channels without a position are not on the maps: {some}.")
        if not self.placed:
            notes.append("No channel has a position, so there are no maps of the head.")
        elif not self.interpolated:
            notes.append(
                f"With {int(self.known.sum())} electrodes nothing is interpolated between them: each "
                "is a dot."
            )
        return notes

    def draw(
        self,
        axes: Axes,
        values: np.ndarray,
        limits: tuple[float, float],
        *,
        cmap: str = SEQUENTIAL,
        mask: np.ndarray | None = None,
    ) -> None:
        """Draw one map.

        Parameters
        ----------
        axes : matplotlib Axes
            Where.
        values : array (n_chans,)
            Of all channels, placed or not.
        limits : (float, float)
            Ends of the color scale.
        cmap : str
            Name of a color map.
        mask : bool array (n_chans,), optional
            Channels to mark.
        """
        axes.set_aspect("equal")
        marked = None if mask is None else np.asarray(mask)[self.known]
        if self.interpolated:
            from mne.viz import plot_topomap

            plot_topomap(
                np.asarray(values, dtype=float)[self.known], self.info, axes=axes, show=False,
                cmap=cmap, vlim=limits, contours=0, sensors=False, res=48, sphere=_SPHERE,
                extrapolate="head",
                mask=marked if marked is not None and marked.any() else None,
                mask_params={"marker": "o", "markersize": 1.6, "markerfacecolor": "white",
                             "markeredgecolor": INK, "markeredgewidth": 0.4, "linewidth": 0},
            )  # fmt: skip
            for line in axes.lines:
                if line.get_linewidth() > 0:  # the head; marks of electrodes have no line
                    line.set_linewidth(0.7)
            return
        around = np.linspace(0, 2 * np.pi, 120)
        axes.plot(np.cos(around), np.sin(around), color=GRAY, lw=0.8)
        axes.plot([-0.12, 0, 0.12], [0.99, 1.15, 0.99], color=GRAY, lw=0.8)
        where = self.flat[self.known]
        axes.scatter(
            where[:, 0], where[:, 1], c=np.asarray(values, dtype=float)[self.known], s=70, cmap=cmap,
            vmin=limits[0], vmax=limits[1], edgecolors=INK,
            linewidths=[0.5] * len(where) if marked is None else np.where(marked, 1.6, 0.5).tolist(),
        )  # fmt: skip
        for name, (x, y) in zip(np.array(self.names)[self.known], where):
            axes.annotate(
                str(name), (x, y), (0, -10), textcoords="offset points", ha="center", fontsize=7
            )
        axes.set_xlim(-1.35, 1.35)
        axes.set_ylim(-1.35, 1.35)
        axes.axis("off")


# MNE draws a head of this size about this point, so that Fpz, T7, Oz and T8 lie on its rim.
_SPHERE = (0.0, 0.0, 0.0, 0.095)


def color_bar(
    figure: Figure, axes: Any, limits: tuple[float, float], label: str, cmap: str = SEQUENTIAL
) -> None:
    """Draw a color scale beside some axes."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(*limits), cmap)
    bar = figure.colorbar(scale, ax=axes, shrink=0.6, aspect=18, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)  # type: ignore[operator]


def stamp(axes: Axes, words: str) -> None:
    """Write a verdict across a map that failed."""
    axes.text(
        0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", rotation=20,
        fontsize=7, fontweight="bold", color="white", zorder=10, clip_on=False,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": INK, "edgecolor": "white", "alpha": 0.9},
    )  # fmt: skip
