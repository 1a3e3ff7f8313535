"""How the figures of the analyses look: one style, one palette, SVG and PNG beside each other.

Sizes are those of print: 3.5 inches is one column of a journal, 7.2 inches are two, and no text is
smaller than 7 points at that size. Colors are Okabe and Ito's, which color-blind readers can tell
apart; levels differ by marker as well as by color, and maps use `cividis` or, where a sign matters,
`RdBu_r`, whose ends differ in lightness from its middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.files import atomic_path
from eegprompt.core.kinds import KINDS, LEVELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "AGAINST",
    "DIVERGING",
    "FOR",
    "FRAME",
    "INK",
    "LEVEL_COLORS",
    "LEVEL_MARKERS",
    "ONE_COLUMN",
    "PALETTE",
    "SEQUENTIAL",
    "TABLE",
    "TWO_COLUMNS",
    "head_style",
    "save_figure",
    "style",
]

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2  # inches
INK, GRAY = "#1c1e23", "#7a7f89"
LEVEL_COLORS = {"low": "#0072b2", "mid": "#009e73", "high": "#d55e00"}
LEVEL_MARKERS = {"low": "o", "mid": "s", "high": "D"}
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c1e23", "#f0e442")
SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"
FOR, AGAINST = "#b2182b", "#2166ac"  # the ends of the diverging map
# Tables with numbers in their cells are light, so that ink and numbers can be read; frames stand out
# of them by hue and by lightness.
TABLE, FRAME = "Blues", "#d55e00"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "image.cmap": SEQUENTIAL,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # a fixed salt and paths for text: the same finding gives the same bytes, on any machine's fonts
    "svg.hashsalt": "eegprompt",
    "svg.fonttype": "path",
}


# By its mark a figure is known as one of ours; without a date, equal figures are equal bytes.
_METADATA = {".png": {"Software": "eegprompt"}, ".svg": {"Date": None, "Creator": "eegprompt"}}


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this block, and save too: ``with style(): ...``."""
    import matplotlib

    settings: Any = _SETTINGS  # the stubs list every name there is
    with matplotlib.rc_context(settings):
        yield


def head_style(head: str) -> dict[str, Any]:
    """Color, marker and dash of a head, as keywords of ``Axes.plot``: its level's, its own dash.

    Examples
    --------
    >>> head_style("ObjectSnap")["color"] == LEVEL_COLORS["low"]
    True
    """
    if head not in KINDS:
        return {"color": GRAY, "marker": ".", "linestyle": "-"}
    level = KINDS[head].level
    place = LEVELS[level].index(head)
    return {
        "color": LEVEL_COLORS[level.value],
        "marker": LEVEL_MARKERS[level.value],
        "linestyle": _DASHES[place % len(_DASHES)],
    }


def save_figure(figure: Figure, stem: Path, *, dpi: int = 200) -> Path:
    """Write ``STEM.png`` and then ``STEM.svg``, atomically.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn inside :func:`style`.
    stem : pathlib.Path
        Path without suffix.
    dpi : int
        Of the PNG and of what is rasterized inside the SVG.

    Returns
    -------
    pathlib.Path
        The SVG file.
    """
    with style():
        for suffix, metadata in _METADATA.items():
            path = stem.with_name(stem.name + suffix)
            with atomic_path(path) as partial:
                figure.savefig(partial, dpi=dpi, metadata=metadata)  # type: ignore[arg-type]
    return path
