"""Small charts as inline SVG: crisp at any size, colored by the page's style, named for readers.

Two ways of drawing: bars and dots along one axis use percentages, so they stretch with the page
while their text does not; curves use a fixed coordinate frame and are drawn once wide and once
narrow. Colors come from classes of the style sheet, so that light, dark and print differ there
only. Every text that comes from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from eegprompt.reports.wording import number

__all__ = ["Line", "Scale", "axis", "dot_strip", "forest", "line_chart", "nice_ticks"]

_EDGE = 2.5  # percent of the width kept free at either end, so that marks are not cut


def nice_ticks(lo: float, hi: float, count: int = 4) -> list[float]:
    """Round numbers that span ``[lo, hi]``.

    Examples
    --------
    >>> nice_ticks(0.0, 0.43)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return [0.0, 1.0]
    if hi <= lo:
        lo, hi = lo - 0.5, hi + 0.5
    raw = (hi - lo) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first = math.ceil(lo / step - 1e-9)
    last = math.floor(hi / step + 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


@dataclass(frozen=True)
class Scale:
    """Maps values to percent of a chart's width."""

    lo: float
    hi: float
    unit: str | None = None

    @classmethod
    def of(cls, values: Sequence[float], unit: str | None = None, *, zero: bool = False) -> Scale:
        """A scale that holds all values; it begins at 0 where that costs little room.

        Parameters
        ----------
        values : sequence of float
            Finite.
        unit : str, optional
            Proportions and AUC are never drawn beyond 0 and 1.
        zero : bool
            Begin at 0 even if it costs room.
        """
        lo, hi = (min(values), max(values)) if values else (0.0, 1.0)
        if zero or 0 <= lo <= 0.4 * hi:
            lo = min(lo, 0.0)
        size = max(abs(lo), abs(hi))
        span = hi - lo if hi - lo > 1e-5 * max(size, 0.1) else max(size, 0.1)
        low = lo if lo == 0 else lo - 0.06 * span
        high = max(hi + 0.04 * span, low + 0.1 * span)
        if unit in ("proportion", "AUC") and lo >= 0 and hi <= 1:
            low, high = max(low, 0.0), min(high, 1.0)
        return cls(low, high, unit)

    def percent(self, value: float) -> float:
        """Place of a value from the left, in percent; beyond the ends it stays at the end."""
        share = (value - self.lo) / ((self.hi - self.lo) or 1.0)
        return round(_EDGE + (100 - 2 * _EDGE) * min(max(share, 0.0), 1.0), 3)

    @property
    def ticks(self) -> list[float]:
        """Round numbers inside the scale."""
        return nice_ticks(self.lo, self.hi)

    def tick_text(self, value: float) -> str:
        """A tick's label, with as few digits as tell the ticks apart."""
        return _tick_text(value, self.ticks, self.unit)


def _tick_text(value: float, ticks: Sequence[float], unit: str | None = None) -> str:
    factor, suffix = (100, "\u00a0%") if unit == "proportion" else (1, "")
    scaled = [factor * t for t in ticks]
    digits = next((d for d in range(6) if all(abs(t - round(t, d)) < 1e-9 for t in scaled)), 6)
    return f"{factor * value:.{digits}f}{suffix}".replace("-", "−")


def _svg(body: str, title: str, css: str, *, height: int, view: str = "") -> Markup:
    size = f'viewBox="{view}"' if view else f'width="100%" height="{height}"'
    return Markup(
        f'<svg class="chart {css}" {size} role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _mark(shape: str, x: float, y: float, css: str, title: str = "") -> str:
    """A mark at x percent and y pixels; shapes differ so that color is never the only sign."""
    paths = {
        "circle": '<circle r="4.5"/>',
        "square": '<rect x="-4" y="-4" width="8" height="8"/>',
        "diamond": '<path d="M0-5.6 5.6 0 0 5.6-5.6 0z"/>',
        "up": '<path d="M0-5.2 4.9 3.6H-4.9z"/>',
        "down": '<path d="M0 5.2 4.9-3.6H-4.9z"/>',
    }
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<svg x="{x}%" y="{y}" overflow="visible"><g class="mark {css}">{inner}{paths[shape]}</g>'
        "</svg>"
    )


def forest(
    scale: Scale,
    value: float | None,
    lo: float | None = None,
    hi: float | None = None,
    *,
    chance: float | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
    floor_interval: tuple[float | None, float | None] = (None, None),
    ceiling_interval: tuple[float | None, float | None] = (None, None),
    title: str = "",
    css: str = "eeg",
    shape: str = "circle",
    hollow: bool = False,
    height: int = 26,
) -> Markup:
    """One value with its interval, and what it must be read beside, on one line.

    Parameters
    ----------
    scale : Scale
        The axis.
    value, lo, hi : float, optional
        The value and its interval.
    chance, floor, ceiling : float, optional
        Drawn as a dashed line, a triangle pointing down and one pointing up.
    floor_interval, ceiling_interval : tuple of float
        Drawn as thin lines behind the triangles.
    title : str
        What a screen reader says.
    css : str
        Class of the mark, which gives its color.
    shape : str
        ``circle``, ``square`` or ``diamond``.
    hollow : bool
        Draw the mark as an outline: the value is not clearly above chance.
    height : int
        In pixels.

    Returns
    -------
    markupsafe.Markup
        An ``<svg>`` as wide as its container.
    """
    y = height / 2
    body = [
        f'<line class="rail" x1="{_EDGE}%" x2="{100 - _EDGE}%" y1="{y}" y2="{y}"/>',
        *(
            f'<line class="grid" x1="{scale.percent(t)}%" x2="{scale.percent(t)}%" y1="0" y2="{height}"/>'
            for t in scale.ticks
        ),
    ]
    if chance is not None:
        x = scale.percent(chance)
        body.append(f'<line class="chance" x1="{x}%" x2="{x}%" y1="1" y2="{height - 1}"/>')
    for a, b in (floor_interval, ceiling_interval):
        if a is not None and b is not None:
            ends = f'x1="{scale.percent(a)}%" x2="{scale.percent(b)}%"'
            body.append(f'<line class="thin" {ends} y1="{y}" y2="{y}"/>')
    if floor is not None:
        body.append(_mark("down", scale.percent(floor), y, "floor"))
    if ceiling is not None:
        body.append(_mark("up", scale.percent(ceiling), y, "ceiling"))
    if lo is not None and hi is not None:
        a, b = scale.percent(lo), scale.percent(hi)
        body.append(f'<line class="ci {css}" x1="{a}%" x2="{b}%" y1="{y}" y2="{y}"/>')
        body.extend(
            f'<line class="ci cap {css}" x1="{x}%" x2="{x}%" y1="{y - 4}" y2="{y + 4}"/>'
            for x in (a, b)
        )
    if value is not None:
        body.append(_mark(shape, scale.percent(value), y, f"{css} hollow" if hollow else css))
    return _svg("".join(body), title, "forest", height=height)


def axis(scale: Scale, label: str = "") -> Markup:
    """The axis below a stack of :func:`forest` lines."""
    body = [f'<line class="base" x1="{_EDGE}%" x2="{100 - _EDGE}%" y1="1" y2="1"/>']
    ticks = scale.ticks
    for index, tick in enumerate(ticks):
        x = scale.percent(tick)
        anchor = "start" if x < 6 else "end" if x > 92 else "middle"
        body.append(f'<line class="base" x1="{x}%" x2="{x}%" y1="1" y2="5"/>')
        css = ' class="odd"' if index % 2 and len(ticks) > 4 else ""
        body.append(
            f'<text{css} x="{x}%" y="17" text-anchor="{anchor}">{escape(scale.tick_text(tick))}</text>'
        )
    height = 22
    if label:
        body.append(
            f'<text class="name" x="50%" y="33" text-anchor="middle">{escape(label)}</text>'
        )
        height = 38
    ends = f"from {number(scale.lo, scale.unit)} to {number(scale.hi, scale.unit)}"
    return _svg("".join(body), f"Axis {label} {ends}", "axis", height=height)


def dot_strip(
    scale: Scale, dots: Sequence[tuple[float, str, str, str]], *, chance: float, title: str
) -> Markup:
    """Several values on one line, each ``(value, css, shape, title)``, with a line at chance."""
    height = 30
    x = scale.percent(chance)
    body = [
        f'<line class="rail" x1="{_EDGE}%" x2="{100 - _EDGE}%" y1="15" y2="15"/>',
        f'<line class="chance" x1="{x}%" x2="{x}%" y1="1" y2="29"/>',
        *(_mark(shape, scale.percent(v), 15, css, name) for v, css, shape, name in dots),
    ]
    return _svg("".join(body), title, "forest", height=height)


@dataclass(frozen=True)
class Line:
    """One curve of a :func:`line_chart`.

    Parameters
    ----------
    name : str
        Written at its right end.
    x, y : sequence of float
        Points; those not finite interrupt the curve.
    css : str
        Class that gives its color.
    dash : str
        Dash pattern, so that curves of one color can be told apart.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    css: str = "eeg"
    dash: str = ""


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    title: str,
    width: int = 620,
    height: int = 260,
    unit: str | None = None,
    marked_x: float | None = None,
    marked_label: str = "",
    zero: bool = False,
    whole: bool = False,
    label_room: int = 96,
    css: str = "",
) -> Markup:
    """Curves over a numeric axis, each named at its end.

    Parameters
    ----------
    lines : sequence of Line
        At least one with a finite point, else an empty frame is drawn.
    x_label, y_label : str
        Quantity and unit of the axes.
    title : str
        What a screen reader says.
    width, height : int
        Coordinate frame in pixels; the chart shrinks with its container.
    unit : str, optional
        Unit of the ticks of the y axis.
    marked_x : float, optional
        Where a vertical line is drawn.
    marked_label : str
        What is written at its head.
    zero : bool
        Begin the y axis at 0.
    whole : bool
        Only whole numbers on the x axis.
    label_room : int
        Pixels kept at the right for the names.
    css : str
        Further classes of the chart.
    """
    left, right, top, bottom = 52, label_room, 22, 42
    xs = [float(x) for line in lines for x in line.x]
    ys = [float(y) for line in lines for y in line.y if y is not None and math.isfinite(y)]
    x0, x1 = (min(xs), max(xs)) if xs else (0.0, 1.0)
    if x0 == x1:
        x0, x1 = x0 - 0.5, x1 + 0.5
    scale = Scale.of(ys, unit, zero=zero)
    w, h = width - left - right, height - top - bottom

    def px(x: float) -> float:
        return round(left + w * (x - x0) / (x1 - x0), 1)

    def py(y: float) -> float:
        return round(top + h * (1 - (y - scale.lo) / ((scale.hi - scale.lo) or 1)), 1)

    body = []
    for tick in scale.ticks:
        y = py(tick)
        body.append(f'<line class="grid" x1="{left}" x2="{left + w}" y1="{y}" y2="{y}"/>')
        text = escape(scale.tick_text(tick))
        body.append(f'<text x="{left - 7}" y="{y + 4}" text-anchor="end">{text}</text>')
    counts = (6, 5, 4, 3, 2, 1) if width > 450 else (4, 3, 2, 1)
    several = [nice_ticks(x0, x1, count) for count in counts]
    fitting = [t for t in several if all(v == round(v) for v in t)]
    x_ticks = fitting[0] if whole and fitting else several[0]
    for tick in x_ticks:
        x = px(tick)
        body.append(f'<line class="base" x1="{x}" x2="{x}" y1="{top + h}" y2="{top + h + 4}"/>')
        text = escape(_tick_text(tick, x_ticks))
        body.append(f'<text x="{x}" y="{top + h + 17}" text-anchor="middle">{text}</text>')
    base = top + h
    body.append(f'<line class="base" x1="{left}" x2="{left + w}" y1="{base}" y2="{base}"/>')
    body.append(
        f'<text class="name" x="{left + w / 2}" y="{height - 5}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    body.append(f'<text class="name" x="2" y="11">{escape(y_label)}</text>')
    if marked_x is not None and x0 <= marked_x <= x1:
        x = px(marked_x)
        body.append(f'<line class="marked" x1="{x}" x2="{x}" y1="{top}" y2="{base}"/>')
        anchor = "end" if x > left + 0.5 * w else "start"
        shift = -5 if anchor == "end" else 5
        body.append(
            f'<text class="marked" x="{x + shift}" y="{top + 9}" text-anchor="{anchor}">'
            f"{escape(marked_label)}</text>"
        )
    ends = []
    for line in lines:
        pieces = _pieces(line)
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        for piece in pieces:
            points = " ".join(f"{px(x)},{py(y)}" for x, y in piece)
            if len(piece) == 1:
                x, y = piece[0]
                body.append(f'<circle class="line {line.css}" cx="{px(x)}" cy="{py(y)}" r="2.5"/>')
            else:
                body.append(f'<polyline class="line {line.css}"{dash} points="{points}"/>')
        if pieces and line.name:
            x, y = pieces[-1][-1]
            ends.append((py(y), line))
    for y, line in _apart(ends, 13.0, top + 4, base):
        body.append(
            f'<text class="end {line.css}" x="{left + w + 7}" y="{round(y + 4, 1)}">'
            f"{escape(line.name)}</text>"
        )
    return _svg("".join(body), title, f"lines {css}", height=height, view=f"0 0 {width} {height}")


def _pieces(line: Line) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y):
        if y is not None and math.isfinite(y):
            pieces[-1].append((float(x), float(y)))
        elif pieces[-1]:
            pieces.append([])
    return [p for p in pieces if p]


def _apart(
    ends: list[tuple[float, Line]], gap: float, top: float, bottom: float
) -> list[tuple[float, Line]]:
    """Move labels so that neighbors keep `gap` pixels, staying near where they were."""
    ends = sorted(ends, key=lambda e: e[0])
    ys = np.array([e[0] for e in ends], dtype=float)
    for _ in range(200):
        moved = False
        for i in range(len(ys) - 1):
            short = gap - (ys[i + 1] - ys[i])
            if short > 1e-6:
                ys[i] -= short / 2
                ys[i + 1] += short / 2
                moved = True
        if len(ys):
            ys += max(0.0, top - ys[0])
            ys -= max(0.0, ys[-1] - bottom) if ys[-1] - ys[0] <= bottom - top else 0.0
        if not moved:
            break
    return [(float(y), line) for y, (_, line) in zip(ys, ends)]


def butterfly(
    times: np.ndarray,
    eeg: np.ndarray,
    *,
    unit: str,
    width: int = 470,
    height: int = 200,
    css: str = "",
) -> Markup:
    """One trial's EEG: a thin curve a channel, the global field power thick.

    Parameters
    ----------
    times : array of shape (n_times,)
        Seconds from stimulus onset.
    eeg : array of shape (n_chans, n_times)
        In volts where `unit` is ``"V"``, else in `unit`.
    unit : str
        Unit of `eeg`.
    width, height : int
        Coordinate frame in pixels.
    css : str
        Further classes of the chart.
    """
    chosen = np.unique(np.linspace(0, len(eeg) - 1, min(len(eeg), 20)).astype(int))
    step = max(1, len(times) // 130)
    factor, shown = (1e6, "µV") if unit == "V" else (1.0, unit)
    data = np.asarray(eeg, dtype=float) * factor
    power = data.std(axis=0)
    ms = (np.asarray(times, dtype=float) * 1e3)[::step]
    lines = [Line("", ms, data[c, ::step], "channel") for c in chosen]
    if len(data) > 1:
        lines.append(Line("", ms, power[::step], "power"))
    some = f"{len(chosen)} of {len(data)} channels" if len(chosen) < len(data) else "all channels"
    return line_chart(
        lines,
        x_label="time from the image's onset (ms)",
        y_label=f"EEG ({shown}), {some}",
        title=f"EEG of one trial in {shown}: {some}, and the global field power as a thick line",
        width=width,
        height=height,
        marked_x=0.0 if ms[0] <= 0 <= ms[-1] else None,
        marked_label="image appears" if ms[0] < 0 else "",
        label_room=10,
        css=css,
    )
