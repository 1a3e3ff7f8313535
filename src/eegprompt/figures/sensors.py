"""The sensor layout and the evoked response of a study as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.core.files import atomic_path
from eegprompt.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_study", "evoked", "flat_positions", "study_figure"]

# Middle of the sphere on which the electrodes of MNE's templates lie, in head coordinates (m): the
# origin of these coordinates is lower, between the ears.
_HEAD_CENTER = np.array([0.0, 0.018, 0.042])


FIGURE_SUFFIXES = (".svg", ".png", ".pdf")

_MARK = "eegprompt info"  # in the file, so that only such a figure is replaced


def evoked(study: Study, max_trials: int = 4000) -> tuple[np.ndarray, int]:
    """Mean over trials of each channel.

    Parameters
    ----------
    study : Study
    max_trials : int
        Larger studies are averaged over this many trials, evenly spread.

    Returns
    -------
    mean : array of float64, shape (n_chans, n_times)
        In the study's unit.
    n : int
        Number of trials averaged.
    """
    if max_trials < 1:
        raise InputError(f"'max_trials' must be at least 1, got {max_trials}")
    n = min(study.n_trials, max_trials)
    rows = np.unique(np.linspace(0, study.n_trials - 1, n).round().astype(int))
    total = np.zeros((study.n_chans, study.n_times))
    for start in range(0, len(rows), 256):
        total += study.eeg[rows[start : start + 256]].sum(axis=0, dtype=np.float64)
    return total / len(rows), len(rows)


def flat_positions(positions: np.ndarray) -> np.ndarray:
    """Electrodes on a flat head seen from above, nose up.

    Azimuthal equidistant around the middle of MNE's template head: the distance from the center is
    the angle from the vertex, 1 at a right angle, which is near the ring Fpz, T7, Oz, T8.

    Parameters
    ----------
    positions : array, shape (n_chans, 3)
        Meters, head coordinates; NaN where unknown.

    Returns
    -------
    array of float64, shape (n_chans, 2)
        NaN where unknown.
    """
    positions = np.asarray(positions, dtype=np.float64) - _HEAD_CENTER
    x, y, z = positions.T
    radius = np.sqrt((positions**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arccos(np.clip(z / radius, -1, 1)) / (np.pi / 2)
        flat = np.hypot(x, y)
        scale = np.where(flat > 0, angle / flat, 0.0)
    return np.column_stack([x * scale, y * scale])


def study_figure(study: Study, max_trials: int = 4000) -> Figure:
    """Draw the sensor layout and the evoked response of a study.

    Channels have one color in both plots, from front (dark) to back (bright), on a
    scale that color-blind people can read and that survives a gray print.

    Parameters
    ----------
    study : Study
    max_trials : int
        See :func:`evoked`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    mean, n_averaged = evoked(study, max_trials)
    places = flat_positions(study.positions)
    known = np.isfinite(places).all(axis=1)
    front = np.where(known, places[:, 1], 0.0)
    # The lightest part of the map is left out: it would not show on white.
    span = float(np.ptp(front[known])) if known.any() else 0.0
    shade = (front.max() - front) / span * 0.85 if span > 0 else np.full(len(front), 0.3)
    colors = colormaps["cividis"](np.clip(shade, 0, 0.85))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    _draw_layout(left, study, places, known, colors)
    scale, unit = (1e6, "µV") if study.unit == "V" else (1.0, study.unit)
    for channel in np.argsort(shade):
        right.plot(study.times * 1e3, mean[channel] * scale, color=colors[channel], lw=0.9)
    power = mean.std(axis=0) if study.n_chans > 1 else np.abs(mean[0])
    label = "global field power" if study.n_chans > 1 else "absolute value"
    right.plot(study.times * 1e3, power * scale, color="black", lw=1.8, label=label)
    right.axhline(0, color="0.7", lw=0.6, zorder=0)
    if study.tmin < 0:
        right.axvline(0, color="0.4", lw=0.8, ls="--", zorder=0)
    right.set_xlabel("time from stimulus onset (ms)")
    right.set_ylabel(f"mean over trials ({unit})")
    right.set_title(f"evoked response, {n_averaged} of {study.n_trials} trials", fontsize=10)
    right.legend(frameon=False, fontsize=8, loc="best")
    right.spines[["top", "right"]].set_visible(False)
    right.margins(x=0)
    return figure


def _draw_layout(
    axes: Axes, study: Study, places: np.ndarray, known: np.ndarray, colors: np.ndarray
) -> None:
    """Head from above with one dot per electrode; names where they do not crowd."""
    around = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(around), np.sin(around), color="0.3", lw=1.2)
    axes.plot([-0.1, 0, 0.1], [0.99, 1.14, 0.99], color="0.3", lw=1.2)  # nose
    for side in (-1, 1):
        ear = np.linspace(-np.pi / 2, np.pi / 2, 40)
        axes.plot(side * (1 + 0.07 * np.cos(ear)), 0.16 * np.sin(ear), color="0.3", lw=1.2)
    n_known = int(known.sum())
    axes.scatter(
        places[known, 0], places[known, 1], s=36 if n_known <= 40 else 14, c=colors[known], zorder=3,
        edgecolors="white", linewidths=0.5,
    )  # fmt: skip
    if n_known <= 40:
        for name, (x, y) in zip(np.array(study.ch_names)[known], places[known]):
            axes.annotate(
                str(name), (x, y), xytext=(0, 5), textcoords="offset points", ha="center",
                fontsize=7,
            )  # fmt: skip
    missing = study.n_chans - n_known
    note = f", {missing} without position" if missing else ""
    axes.set_title(f"{study.n_chans} channels{note}", fontsize=10)
    limit = max(1.25, float(np.abs(places[known]).max()) + 0.15 if n_known else 0)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_aspect("equal")
    axes.axis("off")


def draw_study(study: Study, path: str | Path, max_trials: int = 4000) -> Path:
    """Write :func:`study_figure` to a file, atomically.

    Parameters
    ----------
    study : Study
    path : path-like
        Ends in .svg, .png or .pdf.
    max_trials : int
        See :func:`evoked`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If the suffix is none of these.
    """
    import matplotlib

    path = Path(path)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise InputError(
            f"a figure is written as {', '.join(FIGURE_SUFFIXES)}; got '{path.suffix}' in {path}"
        )
    if path.exists() and not (path.is_file() and _MARK.encode() in path.read_bytes()):
        raise InputError(f"{path} exists and is no figure of this kind; choose another file for it")
    figure = study_figure(study, max_trials)
    # A fixed salt: the same study gives the same bytes.
    settings: dict[Any, Any] = {"svg.hashsalt": "eegprompt", "svg.fonttype": "none"}
    with atomic_path(path) as partial, matplotlib.rc_context(settings):
        metadata = {
            ".svg": {"Date": None, "Creator": _MARK},
            ".pdf": {"CreationDate": None, "Creator": _MARK},
        }.get(path.suffix.lower(), {"Software": _MARK})
        figure.savefig(partial, dpi=150, metadata=metadata)
    return path
