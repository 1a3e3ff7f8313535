"""Draw the scenes of the built-in world as small images."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PILImage
    from PIL import ImageDraw as PILImageDraw

    from eegprompt.builtin.world import RGB, Scene

__all__ = ["draw", "object_mask"]

_SIZE = 64  # the pixel grid that sizes below refer to


_ZOOM = 4  # supersampling


COLORS: dict[str, RGB] = {
    "red": (214, 32, 38),
    "orange": (250, 128, 18),
    "yellow": (250, 220, 40),
    "green": (48, 170, 62),
    "blue": (36, 92, 216),
    "purple": (124, 48, 168),
    "pink": (250, 120, 186),
    "white": (246, 246, 246),
}


def _mix(a: RGB, b: RGB, t: float) -> RGB:
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


_BLACK: RGB = (22, 20, 26)


_WHITE: RGB = (255, 255, 255)


class _Pen:
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
        self.shade = _mix(color, _BLACK, 0.38)
        self.tint = _mix(color, _WHITE, 0.45)
        self.line_color = _mix(color, _BLACK, 0.78)
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


def _face(p: _Pen) -> None:
    p.ellipse(0, -0.12, 0.8, 0.84, fill=(74, 46, 34))  # hair
    p.ellipse(-0.72, 0.1, 0.14, 0.2)
    p.ellipse(0.72, 0.1, 0.14, 0.2)
    p.ellipse(0, 0.14, 0.68, 0.8)
    p.poly(_arc(0, -0.2, 0.66, 0.6, 180, 360), fill=(74, 46, 34), outline=False)  # fringe
    for x in (-0.29, 0.29):
        p.ellipse(x, 0.06, 0.17, 0.14, fill=_WHITE, outline=False)
        p.ellipse(x, 0.07, 0.09, 0.11, fill=_BLACK, outline=False)
    p.line([(0, 0.16), (-0.06, 0.38), (0.07, 0.38)])
    p.poly(_arc(0, 0.54, 0.3, 0.2, 0, 180), fill=(158, 26, 40))


def _house(p: _Pen) -> None:
    p.poly([(0.4, -0.9), (0.62, -0.9), (0.62, -0.3), (0.4, -0.3)], fill=p.shade)
    p.poly([(-0.74, -0.12), (0.74, -0.12), (0.74, 0.92), (-0.74, 0.92)])
    p.poly([(-1.0, -0.08), (0, -0.92), (1.0, -0.08)], fill=p.shade)
    p.poly([(-0.18, 0.3), (0.18, 0.3), (0.18, 0.92), (-0.18, 0.92)], fill=_WOOD)
    for x in (-0.48, 0.48):
        p.poly(
            [(x - 0.17, 0.12), (x + 0.17, 0.12), (x + 0.17, 0.46), (x - 0.17, 0.46)],
            fill=(255, 236, 150),
        )


def _apple(p: _Pen) -> None:
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


def _car(p: _Pen) -> None:
    p.poly([(-0.6, 0.05), (-0.4, -0.45), (0.3, -0.45), (0.62, 0.05)])
    p.poly([(-0.44, 0.02), (-0.3, -0.32), (-0.08, -0.32), (-0.08, 0.02)], fill=_GLASS)
    p.poly([(0.04, 0.02), (0.04, -0.32), (0.24, -0.32), (0.44, 0.02)], fill=_GLASS)
    p.poly([(-1.0, 0.1), (-0.92, 0.02), (0.66, 0.02), (0.98, 0.16), (1.0, 0.5), (-1.0, 0.5)])
    for x in (-0.54, 0.54):
        p.ellipse(x, 0.5, 0.27, 0.27, fill=_BLACK, outline=False)
        p.ellipse(x, 0.5, 0.12, 0.12, fill=(196, 196, 200), outline=False)
    p.ellipse(0.9, 0.24, 0.08, 0.08, fill=(255, 244, 170), outline=False)


def _flower(p: _Pen) -> None:
    p.line([(0, 0.1), (0.02, 1.0)], fill=_LEAF, width=0.14)
    p.poly([(0.02, 0.8), (0.22, 0.5), (0.62, 0.46), (0.4, 0.76)], fill=_LEAF)
    p.poly([(0.02, 0.94), (-0.22, 0.62), (-0.6, 0.6), (-0.4, 0.88)], fill=_LEAF)
    for i in range(6):
        a = math.radians(60 * i + 30)
        p.ellipse(0.42 * math.cos(a), -0.36 + 0.42 * math.sin(a), 0.29, 0.29)
    p.ellipse(0, -0.36, 0.26, 0.26, fill=(120, 72, 20))
    p.ellipse(0, -0.36, 0.13, 0.13, fill=(250, 206, 60), outline=False)


def _cat(p: _Pen) -> None:
    p.line([(0.5, 0.8), (0.86, 0.6), (0.86, 0.16), (0.7, -0.04)], fill=p.line_color, width=0.28)
    p.line([(0.5, 0.8), (0.85, 0.6), (0.85, 0.18), (0.71, 0.0)], fill=p.color, width=0.15)
    p.ellipse(0, 0.52, 0.56, 0.46)
    p.poly([(-0.58, -0.2), (-0.62, -0.98), (-0.1, -0.62)])
    p.poly([(0.58, -0.2), (0.62, -0.98), (0.1, -0.62)])
    p.ellipse(0, -0.22, 0.62, 0.5)
    for x in (-0.26, 0.26):
        p.ellipse(x, -0.28, 0.11, 0.15, fill=(196, 236, 90), outline=False)
        p.ellipse(x, -0.28, 0.05, 0.13, fill=_BLACK, outline=False)
    p.poly([(-0.09, -0.08), (0.09, -0.08), (0, 0.04)], fill=(240, 120, 140), outline=False)
    for y in (-0.02, 0.1):
        p.line([(-0.24, 0.04), (-0.82, y)], width=0.045)
        p.line([(0.24, 0.04), (0.82, y)], width=0.045)
    p.ellipse(-0.22, 0.9, 0.18, 0.11)
    p.ellipse(0.22, 0.9, 0.18, 0.11)


def _dog(p: _Pen) -> None:
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
    p.ellipse(0.95, -0.42, 0.1, 0.09, fill=_BLACK, outline=False)
    p.ellipse(0.62, -0.56, 0.07, 0.08, fill=_BLACK, outline=False)
    p.poly([(0.18, -0.74), (0.42, -0.66), (0.38, -0.1), (0.14, -0.14)], fill=p.shade)


def _tree(p: _Pen) -> None:
    p.poly([(-0.16, 0.2), (0.16, 0.2), (0.24, 1.0), (-0.24, 1.0)], fill=_WOOD)
    for x, y, r in ((-0.46, 0.02, 0.42), (0.46, 0.02, 0.42), (0, -0.5, 0.5)):
        p.ellipse(x, y, r, r * 0.92)
    p.ellipse(0, -0.1, 0.48, 0.44, outline=False)
    p.ellipse(-0.16, -0.6, 0.16, 0.13, fill=p.tint, outline=False)
    p.ellipse(0.4, -0.06, 0.15, 0.12, fill=p.shade, outline=False)
    p.ellipse(-0.34, 0.1, 0.14, 0.11, fill=p.shade, outline=False)


def _fish(p: _Pen) -> None:
    p.poly([(0.42, 0), (1.0, -0.5), (0.88, 0), (1.0, 0.5)], fill=p.shade)
    p.poly([(-0.3, -0.36), (0.1, -0.74), (0.42, -0.3)], fill=p.shade)
    p.poly([(-0.1, 0.36), (0.1, 0.68), (0.34, 0.26)], fill=p.shade)
    p.ellipse(-0.24, 0, 0.74, 0.47)
    p.ellipse(-0.62, -0.12, 0.13, 0.13, fill=_WHITE, outline=False)
    p.ellipse(-0.64, -0.12, 0.07, 0.07, fill=_BLACK, outline=False)
    p.line(_arc(-0.44, 0, 0.18, 0.36, -70, 70))
    for x in (0.0, 0.24):
        p.line(_arc(x - 0.06, 0, 0.13, 0.26, -70, 70), fill=p.tint, width=0.08)


def _bird(p: _Pen) -> None:
    p.poly([(-0.4, 0.1), (-1.0, -0.02), (-0.94, 0.34), (-0.4, 0.44)], fill=p.shade)
    for x in (-0.08, 0.16):
        p.line([(x, 0.6), (x, 0.96), (x + 0.18, 0.96)], fill=(236, 140, 20), width=0.09)
    p.poly([(0.66, -0.52), (1.0, -0.36), (0.66, -0.24)], fill=(250, 160, 20))
    p.ellipse(0, 0.22, 0.58, 0.44)
    p.ellipse(0.4, -0.36, 0.34, 0.34)
    p.poly([(0.22, -0.2), (0.62, -0.12), (0.5, 0.2), (0.1, 0.1)], outline=False)
    p.ellipse(0.48, -0.42, 0.08, 0.09, fill=_BLACK, outline=False)
    p.poly([(0.2, 0.0), (-0.1, -0.1), (-0.72, -0.62), (-0.62, 0.16), (-0.2, 0.42)], fill=p.shade)


def _boat(p: _Pen) -> None:
    p.line([(0, -1.0), (0, 0.45)], fill=_WOOD, width=0.11)
    p.poly([(0.1, -0.94), (0.86, 0.3), (0.1, 0.3)], fill=p.tint)
    p.poly([(-0.1, -0.74), (-0.66, 0.3), (-0.1, 0.3)], fill=p.tint)
    p.poly([(-1.0, 0.42), (1.0, 0.42), (0.62, 0.94), (-0.62, 0.94)])
    p.line([(-0.86, 0.6), (0.86, 0.6)], fill=_WHITE, width=0.07)


def _cup(p: _Pen) -> None:
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


def _chair(p: _Pen) -> None:
    p.poly([(-0.62, -1.0), (0.34, -1.0), (0.34, -0.52), (-0.62, -0.52)])
    p.poly([(-0.62, -0.4), (0.34, -0.4), (0.34, -0.2), (-0.62, -0.2)])
    for x in (-0.54, 0.26):
        p.line([(x, -0.96), (x, 0.98)], fill=p.line_color, width=0.15)
    p.poly([(-0.68, 0.08), (0.4, 0.08), (0.76, 0.4), (-0.36, 0.4)])
    for x in (-0.3, 0.68):
        p.line([(x, 0.4), (x, 1.0)], fill=p.line_color, width=0.17)


def _clock(p: _Pen) -> None:
    for x in (-0.5, 0.5):
        p.ellipse(x, -0.72, 0.28, 0.22, fill=p.shade)
        p.line([(x * 0.8, 0.6), (x * 1.2, 1.0)], fill=p.line_color, width=0.16)
    p.ellipse(0, 0.08, 0.84, 0.84)
    p.ellipse(0, 0.08, 0.56, 0.56, fill=_CREAM)
    for i in range(4):
        a = math.radians(90 * i)
        p.ellipse(
            0.44 * math.cos(a), 0.08 + 0.44 * math.sin(a), 0.06, 0.06, fill=_BLACK, outline=False
        )
    p.line([(0.26, -0.14), (0, 0.08), (-0.02, -0.34)], fill=_BLACK, width=0.11)


def _airplane(p: _Pen) -> None:
    p.poly([(-0.94, -0.1), (-1.0, -0.72), (-0.72, -0.72), (-0.42, -0.1)], fill=p.shade)
    p.poly([(-0.1, -0.12), (-0.42, -0.72), (-0.16, -0.72), (0.42, -0.12)], fill=p.shade)
    p.poly([(-0.96, -0.16), (0.6, -0.22), *_arc(0.62, 0.03, 0.38, 0.24, -80, 90), (-0.6, 0.2)])
    p.poly([(-0.12, 0.08), (-0.6, 0.78), (-0.3, 0.78), (0.44, 0.1)], fill=p.shade)
    for x in (-0.4, -0.12, 0.16, 0.44):
        p.ellipse(x, -0.06, 0.075, 0.075, fill=_GLASS, outline=False)
    p.poly([(0.66, -0.16), (0.86, -0.1), (0.9, 0.0), (0.68, 0.0)], fill=_GLASS, outline=False)


def _shoe(p: _Pen) -> None:
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


_OBJECTS: dict[str, Callable[[_Pen], None]] = {
    "face": _face, "house": _house, "apple": _apple, "car": _car, "flower": _flower,
    "cat": _cat, "dog": _dog, "tree": _tree, "fish": _fish, "bird": _bird, "boat": _boat,
    "cup": _cup, "chair": _chair, "clock": _clock, "airplane": _airplane, "shoe": _shoe,
}  # fmt: skip


def _gradient(top: RGB, bottom: RGB, height: int, width: int) -> NDArray[np.uint8]:
    t = np.linspace(0, 1, height)[:, None]
    rows = np.asarray(top) * (1 - t) + np.asarray(bottom) * t
    return np.broadcast_to(rows[:, None], (height, width, 3)).round().astype(np.uint8)


@lru_cache(maxsize=256)
def _background(setting: str, above: bool, jitter: int) -> PILImage.Image:
    """Paint a setting, supersampled; `above` lifts the horizon, as when looking down."""
    from PIL import Image, ImageDraw

    n = _SIZE * _ZOOM
    u = n / 64  # one final pixel
    horizon = int(u * ((16 if above else 36) + jitter - 1))
    sky, ground = {
        "beach": (((110, 196, 240), (206, 236, 246)), ((242, 220, 160), (226, 194, 122))),
        "forest": (((116, 158, 112), (74, 120, 74)), ((58, 88, 44), (40, 64, 32))),
        "city": (((158, 172, 190), (206, 208, 208)), ((108, 108, 114), (78, 78, 84))),
        "room": (((232, 208, 178), (222, 192, 158)), ((158, 106, 66), (128, 82, 50))),
        "snow": (((178, 204, 228), (226, 236, 246)), ((244, 248, 252), (214, 226, 240))),
        "night": (((10, 12, 42), (34, 38, 92)), ((26, 34, 46), (16, 20, 30))),
    }[setting]
    pixels = np.concatenate(
        [_gradient(*sky, horizon, n), _gradient(*ground, n - horizon, n)]  # type: ignore[arg-type]
    )
    image = Image.fromarray(pixels)
    d = ImageDraw.Draw(image)

    def box(x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        d.rectangle((x0 * u, horizon + y0 * u, x1 * u, horizon + y1 * u), fill=fill)

    def dot(x: float, y: float, rx: float, ry: float, fill: RGB) -> None:
        d.ellipse(((x - rx) * u, (y - ry) * u, (x + rx) * u, (y + ry) * u), fill=fill)

    def shape(points: list[tuple[float, float]], fill: RGB) -> None:
        d.polygon([(x * u, horizon + y * u) for x, y in points], fill=fill)

    if setting == "beach":
        box(0, -9, 64, 1, (40, 132, 190))
        box(0, -9, 64, -7.5, (70, 160, 212))
        box(0, 0, 64, 2, (250, 250, 246))
        dot(54, 7, 5, 5, (255, 240, 150))
        for x in (8, 22, 40, 57):
            dot(x, 58 + (x % 3), 1.2, 0.8, (206, 168, 100))
    elif setting == "forest":
        for i, x in enumerate((2, 13, 25, 38, 50, 61)):
            h = 30 + 5 * (i % 3)
            box(x - 1.2, -h, x + 1.2, 3, (62, 46, 32))
            for k in range(3):
                y = -h + 2 + 7 * k
                shape(
                    [(x - 5 - k, y + 8), (x, y - 3), (x + 5 + k, y + 8)],
                    (30 + 8 * (i % 2), 78 + 8 * (i % 2), 40),
                )
        for x in range(2, 64, 6):
            shape([(x, 10 + x % 9), (x + 1, 6 + x % 9), (x + 2, 10 + x % 9)], (84, 120, 58))
    elif setting == "city":
        for i, (x, w, h) in enumerate(
            ((0, 10, 22), (11, 8, 30), (20, 11, 17), (32, 9, 27), (42, 10, 20), (53, 11, 31))
        ):
            box(x, -h, x + w, 0, ((92, 100, 118), (118, 112, 116), (78, 88, 106))[i % 3])
            for wy in range(-h + 2, -2, 5):
                for wx in range(x + 2, x + w - 1, 4):
                    box(wx, wy, wx + 1.6, wy + 2.4, (246, 222, 140))
        box(0, 0, 64, 2.5, (150, 150, 152))
        for x in range(2, 64, 14):
            box(x, 13, x + 7, 14.5, (232, 226, 200))
    elif setting == "room":
        for x in range(4, 64, 10):
            box(x, -40, x + 1.2, 0, (214, 182, 148))
        box(0, -2.5, 64, 0, (246, 236, 220))
        d.rectangle((44 * u, 3 * u, 59 * u, 15 * u), fill=(246, 240, 230))
        d.rectangle((45.5 * u, 4.5 * u, 51 * u, 13.5 * u), fill=(160, 212, 240))
        d.rectangle((52 * u, 4.5 * u, 57.5 * u, 13.5 * u), fill=(160, 212, 240))
        for y in (7, 15, 24):
            box(0, y, 64, y + 0.8, (112, 70, 42))
        dot(32, 60, 27, 6, (160, 60, 66))
        dot(32, 60, 22, 4, (196, 104, 96))
    elif setting == "snow":
        shape([(-4, 0), (14, -17), (32, 0)], (150, 172, 200))
        shape([(8, -11), (14, -17), (20, -11), (14, -9)], (250, 252, 255))
        shape([(24, 0), (46, -22), (70, 0)], (132, 156, 188))
        shape([(38, -14), (46, -22), (54, -14), (46, -11)], (250, 252, 255))
        d.ellipse((-20 * u, horizon - 3 * u, 44 * u, horizon + 16 * u), fill=(248, 250, 254))
        for i in range(22):
            dot((i * 23.7) % 64, (i * 37.3 + 5) % 62, 0.9, 0.9, (255, 255, 255))
    else:
        for i in range(26):
            up = (i * 29.3 + 3) % (horizon / u)
            dot(
                (i * 41.9 + 2) % 64, up, 0.55 + 0.3 * (i % 2), 0.55 + 0.3 * (i % 2), (240, 240, 210)
            )
        dot(11, 9, 6, 6, (246, 240, 200))
        dot(14, 7.6, 5, 5, (14, 16, 50))
        shape([(-2, 0), (10, -5), (26, 0)], (20, 26, 40))
        shape([(20, 0), (44, -8), (66, 0)], (22, 28, 44))
    return image


_LIGHT_GAIN = {"day": (1.0, 1.0, 1.0), "dusk": (0.98, 0.84, 0.72), "dim": (0.64, 0.65, 0.70)}


_LIGHT_LIFT = {"day": (0, 0, 0), "dusk": (16, 4, 2), "dim": (2, 3, 8)}


# Mood is a faint grading: saturation, then gain per channel.
_MOOD_GRADE = {
    "joyful": (1.12, (1.05, 1.03, 0.97)),
    "calm": (0.94, (0.97, 1.0, 1.05)),
    "tender": (0.96, (1.05, 0.97, 1.01)),
    "gloomy": (0.8, (0.92, 0.93, 0.97)),
    "tense": (1.08, (1.05, 0.95, 0.94)),
    "eerie": (0.88, (0.93, 1.03, 0.96)),
}


_HAZE = (np.float32(0.66), np.float32(66.0))  # contrast that is left, and gray that is added


def draw(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
        What to draw. Theme and story do not show.
    size : int, default 64
        Height and width, in pixels. The image is always composed on 256×256 and reduced.

    Returns
    -------
    array of shape (size, size, 3), uint8
        RGB, antialiased; the same scene gives the same bytes.

    Raises
    ------
    InputError
        If the size lies outside [16, 256].
    """
    if not 16 <= size <= _SIZE * _ZOOM:
        raise InputError(f"size must lie in [16, {_SIZE * _ZOOM}], got {size}")
    return _draw(scene, size, with_object=True)


def object_mask(scene: Scene) -> NDArray[np.bool_]:
    """Where the objects of a scene, and their shadows, lie.

    Parameters
    ----------
    scene : Scene
        What is drawn.

    Returns
    -------
    array of shape (64, 64), bool
        True where the image differs from its empty background.
    """
    full = _draw(scene, _SIZE, with_object=True).astype(np.int16)
    empty = _draw(scene, _SIZE, with_object=False)
    return (np.abs(full - empty) > 8).any(axis=2)


def _draw(scene: Scene, size: int, *, with_object: bool) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFilter

    jitter = np.random.default_rng(scene.variant).uniform(-1, 1, size=8)
    above, tilted = scene.viewpoint == "above", scene.viewpoint == "tilted"
    image = _background(scene.setting, above, round(jitter[7] + 1)).copy()
    canvas = ImageDraw.Draw(image)

    # Sizes in pixels of a 64×64 image; the half width of one object is `radius`.
    radius = {"close": 22.0, "far": 15.0, "tilted": 17.0, "above": 18.5}[scene.viewpoint]
    radius *= {"one": 1.0, "two": 0.74, "three": 0.62}[scene.count] * (1 + 0.05 * jitter[0])
    flat = 0.84 if above else 1.0
    step = 1.0 * radius
    offsets = {
        "one": [(0.0, 0.0)],
        "two": [(-step, 0.0), (step, 0.0)],
        "three": [(0.0, -step * 0.95), (-step, step * 0.9), (step, step * 0.9)],
    }[scene.count]
    half_width = radius + (0 if scene.count == "one" else step)
    half_height = (radius + (step if scene.count == "three" else 0)) * flat
    room_x, room_y = max(6.0, 30.5 - half_width), max(6.0, 30.5 - half_height)
    if tilted:
        room_x, room_y = room_x * 0.82, room_y * 0.82
    dx, dy = {"left": (-1, 0), "center": (0, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}[
        scene.place
    ]
    cx = 32 + dx * min(room_x, 13.5) + 1.2 * jitter[1]
    cy = 33 + dy * min(room_y, 13.5) + 1.2 * jitter[2]

    base = np.asarray(COLORS[scene.color], dtype=float) + 9 * jitter[3:6]
    color: RGB = tuple(int(c) for c in np.clip(base, 0, 255))  # type: ignore[assignment]
    z = _ZOOM
    if not with_object:
        offsets = []
    for ox, oy in offsets:  # shadows on the ground first, so that no object is covered
        x, y = (cx + ox) * z, (cy + oy * flat + 0.95 * radius * flat) * z
        at = (
            x - 0.8 * radius * z,
            y - 0.13 * radius * z,
            x + 0.8 * radius * z,
            y + 0.15 * radius * z,
        )
        under = image.getpixel((min(max(int(x), 0), 255), min(max(int(y), 0), 255)))
        canvas.ellipse(at, fill=_mix(under, _BLACK, 0.3))  # type: ignore[arg-type]
    for ox, oy in offsets:
        pen = _Pen(
            canvas, ((cx + ox) * z, (cy + oy * flat) * z), (radius * z, radius * flat * z), color
        )
        _OBJECTS[scene.object](pen)

    if tilted:
        angle, zoom = math.radians(15.0), 0.8
        c, s, h = zoom * math.cos(angle), zoom * math.sin(angle), _SIZE * _ZOOM / 2
        image = image.transform(
            image.size,
            Image.Transform.AFFINE,
            (c, s, h - c * h - s * h, -s, c, h + s * h - c * h),
            resample=Image.Resampling.BILINEAR,
        )
    if size == _SIZE:
        image = image.reduce(_ZOOM)
    elif size != _SIZE * _ZOOM:
        image = image.resize((size, size), Image.Resampling.BOX)
    if scene.clarity == "soft":
        image = image.filter(ImageFilter.GaussianBlur(0.95 * size / _SIZE))

    pixels = np.asarray(image, dtype=np.float32)
    saturation, grade = _MOOD_GRADE[scene.mood]
    gray = pixels @ np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
    pixels = gray[..., None] * np.float32(1 - saturation) + pixels * np.float32(saturation)
    gain = np.array(_LIGHT_GAIN[scene.light], dtype=np.float32) * np.array(grade, np.float32)
    pixels = pixels * gain + np.array(_LIGHT_LIFT[scene.light], dtype=np.float32)
    if scene.clarity == "hazy":
        pixels = pixels * _HAZE[0] + _HAZE[1]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
