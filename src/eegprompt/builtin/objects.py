"""The objects of the built-in scenes, each drawn in its own coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageDraw as PILImageDraw

    from eegprompt.builtin.world import RGB

__all__ = ["BLACK", "OBJECTS", "Pen", "mix"]


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """The color a share `t` of the way from one to the other."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


BLACK: RGB = (22, 20, 26)


_WHITE: RGB = (255, 255, 255)


class Pen:
    """Draws one object in its own coordinates: x right and y down, both in [-1, 1]."""

    def __init__(
        self,
        canvas: PILImageDraw.ImageDraw,
        center: tuple[float, float],
        scale: tuple[float, float],
        color: RGB,
    ):
        self.canvas = canvas
        self.center = center
        self.scale = scale
        self.color = color
        self.shade = mix(color, BLACK, 0.38)
        self.tint = mix(color, _WHITE, 0.45)
        self.line_color = mix(color, BLACK, 0.78)
        self.width = max(2, round(0.075 * scale[0]))

    def _points(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        (cx, cy), (sx, sy) = self.center, self.scale
        return [(cx + sx * x, cy + sy * y) for x, y in points]

    def poly(
        self, points: list[tuple[float, float]], fill: RGB | None = None, outline: bool = True
    ) -> None:
        """Fill a polygon, with a dark line around it."""
        at = self._points(points)
        self.canvas.polygon(at, fill=fill or self.color)
        if outline:
            self.canvas.line(
                [*at, at[0], at[1]], fill=self.line_color, width=self.width, joint="curve"
            )

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: RGB | None = None,
        outline: bool = True,
    ) -> None:
        """Fill an ellipse, with a dark line around it."""
        (x0, y0), (x1, y1) = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        if outline:
            self.canvas.ellipse(
                (x0, y0, x1, y1), fill=fill or self.color, outline=self.line_color, width=self.width
            )
        else:
            self.canvas.ellipse((x0, y0, x1, y1), fill=fill or self.color)

    def line(
        self, points: list[tuple[float, float]], fill: RGB | None = None, width: float = 0.075
    ) -> None:
        """Draw an open line of a width in object units."""
        self.canvas.line(
            self._points(points),
            fill=fill or self.line_color,
            width=max(2, round(width * self.scale[0])),
            joint="curve",
        )


def _arc(
    x: float, y: float, rx: float, ry: float, start: float, stop: float, n: int = 14
) -> list[tuple[float, float]]:
    """Points on an ellipse; angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (stop - start) * i / (n - 1)) for i in range(n)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


_WOOD: RGB = (112, 72, 42)


_LEAF: RGB = (52, 128, 58)


_GLASS: RGB = (190, 226, 244)


_CREAM: RGB = (252, 246, 226)


def _face(p: Pen) -> None:
    p.ellipse(0, -0.12, 0.8, 0.84, fill=(74, 46, 34))  # hair
    p.ellipse(-0.72, 0.1, 0.14, 0.2)
    p.ellipse(0.72, 0.1, 0.14, 0.2)
    p.ellipse(0, 0.14, 0.68, 0.8)
    p.poly(_arc(0, -0.2, 0.66, 0.6, 180, 360), fill=(74, 46, 34), outline=False)  # fringe
    for x in (-0.29, 0.29):
        p.ellipse(x, 0.06, 0.17, 0.14, fill=_WHITE, outline=False)
        p.ellipse(x, 0.07, 0.09, 0.11, fill=BLACK, outline=False)
    p.line([(0, 0.16), (-0.06, 0.38), (0.07, 0.38)])
    p.poly(_arc(0, 0.54, 0.3, 0.2, 0, 180), fill=(158, 26, 40))


def _house(p: Pen) -> None:
    p.poly([(0.4, -0.9), (0.62, -0.9), (0.62, -0.3), (0.4, -0.3)], fill=p.shade)
    p.poly([(-0.74, -0.12), (0.74, -0.12), (0.74, 0.92), (-0.74, 0.92)])
    p.poly([(-1.0, -0.08), (0, -0.92), (1.0, -0.08)], fill=p.shade)
    p.poly([(-0.18, 0.3), (0.18, 0.3), (0.18, 0.92), (-0.18, 0.92)], fill=_WOOD)
    for x in (-0.48, 0.48):
        p.poly(
            [(x - 0.17, 0.12), (x + 0.17, 0.12), (x + 0.17, 0.46), (x - 0.17, 0.46)],
            fill=(255, 236, 150),
        )


def _apple(p: Pen) -> None:
    p.line([(0, -0.45), (0.1, -0.95)], fill=_WOOD, width=0.14)
    p.poly([(0.1, -0.7), (0.34, -0.98), (0.72, -0.92), (0.46, -0.64)], fill=(96, 180, 60))
    left = _arc(-0.34, 0.0, 0.56, 0.6, 180, 300)
    right = _arc(0.34, 0.0, 0.56, 0.6, 240, 360)
    bottom = [
        (0.84, 0.35),
        (0.58, 0.8),
        (0.26, 0.95),
        (0, 0.86),
        (-0.26, 0.95),
        (-0.58, 0.8),
        (-0.84, 0.35),
    ]
    p.poly([*left, (0, -0.38), *right, *bottom])
    p.ellipse(-0.42, -0.1, 0.16, 0.24, fill=p.tint, outline=False)


def _car(p: Pen) -> None:
    p.poly([(-0.6, 0.05), (-0.4, -0.45), (0.3, -0.45), (0.62, 0.05)])
    p.poly([(-0.44, 0.02), (-0.3, -0.32), (-0.08, -0.32), (-0.08, 0.02)], fill=_GLASS)
    p.poly([(0.04, 0.02), (0.04, -0.32), (0.24, -0.32), (0.44, 0.02)], fill=_GLASS)
    p.poly([(-1.0, 0.1), (-0.92, 0.02), (0.66, 0.02), (0.98, 0.16), (1.0, 0.5), (-1.0, 0.5)])
    for x in (-0.54, 0.54):
        p.ellipse(x, 0.5, 0.27, 0.27, fill=BLACK, outline=False)
        p.ellipse(x, 0.5, 0.12, 0.12, fill=(196, 196, 200), outline=False)
    p.ellipse(0.9, 0.24, 0.08, 0.08, fill=(255, 244, 170), outline=False)


def _flower(p: Pen) -> None:
    p.line([(0, 0.1), (0.02, 1.0)], fill=_LEAF, width=0.14)
    p.poly([(0.02, 0.8), (0.22, 0.5), (0.62, 0.46), (0.4, 0.76)], fill=_LEAF)
    p.poly([(0.02, 0.94), (-0.22, 0.62), (-0.6, 0.6), (-0.4, 0.88)], fill=_LEAF)
    for i in range(6):
        a = math.radians(60 * i + 30)
        p.ellipse(0.42 * math.cos(a), -0.36 + 0.42 * math.sin(a), 0.29, 0.29)
    p.ellipse(0, -0.36, 0.26, 0.26, fill=(120, 72, 20))
    p.ellipse(0, -0.36, 0.13, 0.13, fill=(250, 206, 60), outline=False)


def _cat(p: Pen) -> None:
    p.line([(0.5, 0.8), (0.86, 0.6), (0.86, 0.16), (0.7, -0.04)], fill=p.line_color, width=0.28)
    p.line([(0.5, 0.8), (0.85, 0.6), (0.85, 0.18), (0.71, 0.0)], fill=p.color, width=0.15)
    p.ellipse(0, 0.52, 0.56, 0.46)
    p.poly([(-0.58, -0.2), (-0.62, -0.98), (-0.1, -0.62)])
    p.poly([(0.58, -0.2), (0.62, -0.98), (0.1, -0.62)])
    p.ellipse(0, -0.22, 0.62, 0.5)
    for x in (-0.26, 0.26):
        p.ellipse(x, -0.28, 0.11, 0.15, fill=(196, 236, 90), outline=False)
        p.ellipse(x, -0.28, 0.05, 0.13, fill=BLACK, outline=False)
    p.poly([(-0.09, -0.08), (0.09, -0.08), (0, 0.04)], fill=(240, 120, 140), outline=False)
    for y in (-0.02, 0.1):
        p.line([(-0.24, 0.04), (-0.82, y)], width=0.045)
        p.line([(0.24, 0.04), (0.82, y)], width=0.045)
    p.ellipse(-0.22, 0.9, 0.18, 0.11)
    p.ellipse(0.22, 0.9, 0.18, 0.11)


def _dog(p: Pen) -> None:
    p.line([(-0.7, 0.0), (-0.94, -0.44)], fill=p.line_color, width=0.24)
    p.line([(-0.7, 0.0), (-0.93, -0.42)], fill=p.color, width=0.12)
    for x in (-0.64, -0.36, 0.2, 0.46):
        p.poly(
            [(x - 0.11, 0.3), (x + 0.11, 0.3), (x + 0.11, 0.92), (x - 0.11, 0.92)],
            fill=p.shade if x in (-0.36, 0.2) else None,
        )
    p.poly([*_arc(-0.5, 0.16, 0.3, 0.3, 90, 270), *_arc(0.34, 0.16, 0.3, 0.32, -90, 90)])
    p.poly([(0.12, 0.0), (0.3, -0.6), (0.7, -0.62), (0.62, 0.1)], outline=False)
    p.ellipse(0.5, -0.48, 0.36, 0.34)
    p.poly([(0.62, -0.6), (1.0, -0.46), (1.0, -0.2), (0.6, -0.2)])
    p.ellipse(0.95, -0.42, 0.1, 0.09, fill=BLACK, outline=False)
    p.ellipse(0.62, -0.56, 0.07, 0.08, fill=BLACK, outline=False)
    p.poly([(0.18, -0.74), (0.42, -0.66), (0.38, -0.1), (0.14, -0.14)], fill=p.shade)


def _tree(p: Pen) -> None:
    p.poly([(-0.16, 0.2), (0.16, 0.2), (0.24, 1.0), (-0.24, 1.0)], fill=_WOOD)
    for x, y, r in ((-0.46, 0.02, 0.42), (0.46, 0.02, 0.42), (0, -0.5, 0.5)):
        p.ellipse(x, y, r, r * 0.92)
    p.ellipse(0, -0.1, 0.48, 0.44, outline=False)
    p.ellipse(-0.16, -0.6, 0.16, 0.13, fill=p.tint, outline=False)
    p.ellipse(0.4, -0.06, 0.15, 0.12, fill=p.shade, outline=False)
    p.ellipse(-0.34, 0.1, 0.14, 0.11, fill=p.shade, outline=False)


def _fish(p: Pen) -> None:
    p.poly([(0.42, 0), (1.0, -0.5), (0.88, 0), (1.0, 0.5)], fill=p.shade)
    p.poly([(-0.3, -0.36), (0.1, -0.74), (0.42, -0.3)], fill=p.shade)
    p.poly([(-0.1, 0.36), (0.1, 0.68), (0.34, 0.26)], fill=p.shade)
    p.ellipse(-0.24, 0, 0.74, 0.47)
    p.ellipse(-0.62, -0.12, 0.13, 0.13, fill=_WHITE, outline=False)
    p.ellipse(-0.64, -0.12, 0.07, 0.07, fill=BLACK, outline=False)
    p.line(_arc(-0.44, 0, 0.18, 0.36, -70, 70))
    for x in (0.0, 0.24):
        p.line(_arc(x - 0.06, 0, 0.13, 0.26, -70, 70), fill=p.tint, width=0.08)


def _bird(p: Pen) -> None:
    p.poly([(-0.4, 0.1), (-1.0, -0.02), (-0.94, 0.34), (-0.4, 0.44)], fill=p.shade)
    for x in (-0.08, 0.16):
        p.line([(x, 0.6), (x, 0.96), (x + 0.18, 0.96)], fill=(236, 140, 20), width=0.09)
    p.poly([(0.66, -0.52), (1.0, -0.36), (0.66, -0.24)], fill=(250, 160, 20))
    p.ellipse(0, 0.22, 0.58, 0.44)
    p.ellipse(0.4, -0.36, 0.34, 0.34)
    p.poly([(0.22, -0.2), (0.62, -0.12), (0.5, 0.2), (0.1, 0.1)], outline=False)
    p.ellipse(0.48, -0.42, 0.08, 0.09, fill=BLACK, outline=False)
    p.poly([(0.2, 0.0), (-0.1, -0.1), (-0.72, -0.62), (-0.62, 0.16), (-0.2, 0.42)], fill=p.shade)


def _boat(p: Pen) -> None:
    p.line([(0, -1.0), (0, 0.45)], fill=_WOOD, width=0.11)
    p.poly([(0.1, -0.94), (0.86, 0.3), (0.1, 0.3)], fill=p.tint)
    p.poly([(-0.1, -0.74), (-0.66, 0.3), (-0.1, 0.3)], fill=p.tint)
    p.poly([(-1.0, 0.42), (1.0, 0.42), (0.62, 0.94), (-0.62, 0.94)])
    p.line([(-0.86, 0.6), (0.86, 0.6)], fill=_WHITE, width=0.07)


def _cup(p: Pen) -> None:
    p.ellipse(0.62, 0.14, 0.36, 0.4)
    p.ellipse(0.6, 0.14, 0.18, 0.2, fill=(236, 232, 226))
    p.poly([(-0.72, -0.46), (0.6, -0.46), (0.46, 0.82), (-0.56, 0.82)])
    p.ellipse(-0.06, -0.46, 0.66, 0.2, fill=p.tint)
    p.ellipse(-0.06, -0.42, 0.5, 0.12, fill=(88, 52, 30), outline=False)
    for x in (-0.26, 0.14):
        p.line(
            [(x, -0.66), (x + 0.1, -0.78), (x, -0.88), (x + 0.08, -1.0)],
            fill=(236, 236, 240),
            width=0.07,
        )


def _chair(p: Pen) -> None:
    p.poly([(-0.62, -1.0), (0.34, -1.0), (0.34, -0.52), (-0.62, -0.52)])
    p.poly([(-0.62, -0.4), (0.34, -0.4), (0.34, -0.2), (-0.62, -0.2)])
    for x in (-0.54, 0.26):
        p.line([(x, -0.96), (x, 0.98)], fill=p.line_color, width=0.15)
    p.poly([(-0.68, 0.08), (0.4, 0.08), (0.76, 0.4), (-0.36, 0.4)])
    for x in (-0.3, 0.68):
        p.line([(x, 0.4), (x, 1.0)], fill=p.line_color, width=0.17)


def _clock(p: Pen) -> None:
    for x in (-0.5, 0.5):
        p.ellipse(x, -0.72, 0.28, 0.22, fill=p.shade)
        p.line([(x * 0.8, 0.6), (x * 1.2, 1.0)], fill=p.line_color, width=0.16)
    p.ellipse(0, 0.08, 0.84, 0.84)
    p.ellipse(0, 0.08, 0.56, 0.56, fill=_CREAM)
    for i in range(4):
        a = math.radians(90 * i)
        p.ellipse(
            0.44 * math.cos(a), 0.08 + 0.44 * math.sin(a), 0.06, 0.06, fill=BLACK, outline=False
        )
    p.line([(0.26, -0.14), (0, 0.08), (-0.02, -0.34)], fill=BLACK, width=0.11)


def _airplane(p: Pen) -> None:
    p.poly([(-0.94, -0.1), (-1.0, -0.72), (-0.72, -0.72), (-0.42, -0.1)], fill=p.shade)
    p.poly([(-0.1, -0.12), (-0.42, -0.72), (-0.16, -0.72), (0.42, -0.12)], fill=p.shade)
    p.poly([(-0.96, -0.16), (0.6, -0.22), *_arc(0.62, 0.03, 0.38, 0.24, -80, 90), (-0.6, 0.2)])
    p.poly([(-0.12, 0.08), (-0.6, 0.78), (-0.3, 0.78), (0.44, 0.1)], fill=p.shade)
    for x in (-0.4, -0.12, 0.16, 0.44):
        p.ellipse(x, -0.06, 0.075, 0.075, fill=_GLASS, outline=False)
    p.poly([(0.66, -0.16), (0.86, -0.1), (0.9, 0.0), (0.68, 0.0)], fill=_GLASS, outline=False)


def _shoe(p: Pen) -> None:
    p.poly(
        [
            (-0.92, -0.5),
            (-0.24, -0.5),
            (-0.06, -0.16),
            (0.4, 0.06),
            *_arc(0.6, 0.36, 0.36, 0.3, -80, 0),
            (0.96, 0.5),
            (-0.96, 0.5),
        ]
    )
    p.poly([(-0.98, 0.44), (0.98, 0.44), (0.92, 0.7), (-0.94, 0.7)], fill=_WHITE)
    p.ellipse(-0.58, -0.5, 0.34, 0.12, fill=p.shade)
    for i in range(3):
        x, y = -0.16 + 0.2 * i, -0.24 + 0.13 * i
        p.line([(x - 0.1, y + 0.16), (x + 0.1, y - 0.04)], fill=_WHITE, width=0.09)


OBJECTS: dict[str, Callable[[Pen], None]] = {
    "face": _face, "house": _house, "apple": _apple, "car": _car, "flower": _flower,
    "cat": _cat, "dog": _dog, "tree": _tree, "fish": _fish, "bird": _bird, "boat": _boat,
    "cup": _cup, "chair": _chair, "clock": _clock, "airplane": _airplane, "shoe": _shoe,
}  # fmt: skip
