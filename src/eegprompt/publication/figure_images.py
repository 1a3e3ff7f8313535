"""What was seen and what was drawn from the EEG, one image a class: the paper's Figure 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.core.image_files import to_rgb
from eegprompt.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["chosen_trials", "figure_of"]

MOST = 40  # classes shown; of more, as many drawn by lot
_A_ROW = 10
_MARGIN, _NAME, _BETWEEN, _GAP = 0.17, 0.17, 0.06, 0.02  # inches


def chosen_trials(run: Run) -> list[tuple[str, int]]:
    """One drawn test trial of each class, by lot from the run's seed: nobody picked the best.

    Parameters
    ----------
    run : Run
        With images of prompt source ``eeg``.

    Returns
    -------
    list of tuple
        Class and trial, by class; empty where nothing was drawn.
    """
    study = run.study
    folder = run.images_dir(str(run.config["generation"]["generator"]), "eeg")
    drawn = sorted(int(p.stem.split("_")[0]) for p in folder.glob("*_0.png"))
    category = study.trials["category"].astype(str).to_numpy()
    of_class: dict[str, list[int]] = {}
    for trial in drawn:
        of_class.setdefault(category[trial], []).append(trial)
    rng = np.random.default_rng(int(run.config["seed"]))
    names = sorted(of_class)
    if len(names) > MOST:
        names = sorted(rng.permutation(names)[:MOST].tolist())
    return [(name, of_class[name][int(rng.integers(len(of_class[name])))]) for name in names]


def figure_of(run: Run, chosen: list[tuple[str, int]]) -> tuple[Figure, str]:
    """Draw pairs of images: above what was seen, below what was drawn.

    Parameters
    ----------
    run : Run
        The run.
    chosen : list of tuple
        From :func:`chosen_trials`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    caption : str
    """
    from matplotlib.figure import Figure

    from eegprompt.figures.style import GRAY, INK, TWO_COLUMNS, style

    study = run.study
    generator = str(run.config["generation"]["generator"])
    known = study.image_identity == "known"
    columns = min(_A_ROW, len(chosen))
    bands = -(-len(chosen) // columns)
    tile = (TWO_COLUMNS - _MARGIN) / _A_ROW  # inches
    band_height = 2 * tile + _NAME + _BETWEEN
    width, height = columns * tile + _MARGIN, bands * band_height
    with style():
        figure = Figure(figsize=(width, height))
        for place, (name, trial) in enumerate(chosen):
            band, column = divmod(place, columns)
            left, top = _MARGIN + column * tile, height - band * band_height - _NAME
            image_id = str(study.trials["image_id"].iloc[trial])
            pair = (
                (study.image_path(image_id), "seen" if known else "its class"),
                (run.image_path(generator, "eeg", trial), "from EEG"),
            )
            for row, (path, words) in enumerate(pair):
                bottom = top - (row + 1) * tile
                axes = figure.add_axes(
                    (left / width, bottom / height, (tile - _GAP) / width, (tile - _GAP) / height)
                )
                axes.set_axis_off()
                _show(axes, path)
                if column == 0:
                    axes.text(
                        -0.05, 0.5, words, transform=axes.transAxes, rotation=90, ha="right",
                        va="center", fontsize=7, color=GRAY,
                    )  # fmt: skip
                if row == 0:
                    axes.set_title(
                        _short(name),
                        loc="center",
                        fontsize=7,
                        fontweight="normal",
                        color=INK,
                        pad=2,
                    )
    n_classes = len(set(study.trials["category"].astype(str).iloc[run.fold.test]))
    which = f"{len(chosen)} classes"
    if n_classes > MOST:
        which = f"{len(chosen)} of {n_classes} classes, drawn by lot"
    caption = (
        f"Above what was {'seen' if known else 'of the class seen'}, below what {generator} drew from "
        f"the captions decoded from EEG, for {which}. "
        f"One test trial a class, drawn by lot (seed {run.config['seed']}), not chosen by its look."
    )
    return figure, caption


def _show(axes: Any, path: Path) -> None:
    """An image, its middle square; nothing where the file is gone."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as handle:
            image = to_rgb(ImageOps.exif_transpose(handle))
    except (OSError, SyntaxError, ValueError, InputError):
        return
    square = ImageOps.fit(image, (160, 160), Image.Resampling.LANCZOS)
    axes.imshow(np.asarray(square), interpolation="nearest", aspect="equal")


def _short(name: str) -> str:
    return name if len(name) <= 15 else name[:14].rstrip() + "…"
