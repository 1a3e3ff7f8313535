"""Draw the scenes of the built-in world as small images."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.builtin.objects import BLACK, OBJECTS, Pen, mix
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


def _gradient(top: RGB, bottom: RGB, height: int, width: int) -> NDArray[np.uint8]:
    t = np.linspace(0, 1, height)[:, None]
    rows = np.asarray(top) * (1 - t) + np.asarray(bottom) * t
    return np.broadcast_to(rows[:, None], (height, width, 3)).round().astype(np.uint8)


class _Ground:
    """Draws a setting in final pixels; `box` and `shape` count y from the horizon, down."""

    def __init__(self, canvas: PILImageDraw.ImageDraw, horizon: int, u: float):
        self.canvas, self.horizon, self.u = canvas, horizon, u

    def rectangle(self, corners: tuple[float, float, float, float], fill: RGB) -> None:
        """Fill a rectangle; y from the top."""
        x0, y0, x1, y1 = (c * self.u for c in corners)
        self.canvas.rectangle((x0, y0, x1, y1), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        """Fill a rectangle."""
        u, h = self.u, self.horizon
        self.canvas.rectangle((x0 * u, h + y0 * u, x1 * u, h + y1 * u), fill=fill)

    def dot(self, x: float, y: float, rx: float, ry: float, fill: RGB) -> None:
        """Fill an ellipse; y from the top."""
        u = self.u
        self.canvas.ellipse(((x - rx) * u, (y - ry) * u, (x + rx) * u, (y + ry) * u), fill=fill)

    def shape(self, points: list[tuple[float, float]], fill: RGB) -> None:
        """Fill a polygon."""
        self.canvas.polygon([(x * self.u, self.horizon + y * self.u) for x, y in points], fill=fill)


def _beach(g: _Ground) -> None:
    g.box(0, -9, 64, 1, (40, 132, 190))
    g.box(0, -9, 64, -7.5, (70, 160, 212))
    g.box(0, 0, 64, 2, (250, 250, 246))
    g.dot(54, 7, 5, 5, (255, 240, 150))
    for x in (8, 22, 40, 57):
        g.dot(x, 58 + (x % 3), 1.2, 0.8, (206, 168, 100))


def _forest(g: _Ground) -> None:
    for i, x in enumerate((2, 13, 25, 38, 50, 61)):
        h = 30 + 5 * (i % 3)
        g.box(x - 1.2, -h, x + 1.2, 3, (62, 46, 32))
        for k in range(3):
            y = -h + 2 + 7 * k
            g.shape(
                [(x - 5 - k, y + 8), (x, y - 3), (x + 5 + k, y + 8)],
                (30 + 8 * (i % 2), 78 + 8 * (i % 2), 40),
            )
    for x in range(2, 64, 6):
        g.shape([(x, 10 + x % 9), (x + 1, 6 + x % 9), (x + 2, 10 + x % 9)], (84, 120, 58))


def _city(g: _Ground) -> None:
    for i, (x, w, h) in enumerate(
        ((0, 10, 22), (11, 8, 30), (20, 11, 17), (32, 9, 27), (42, 10, 20), (53, 11, 31))
    ):
        g.box(x, -h, x + w, 0, ((92, 100, 118), (118, 112, 116), (78, 88, 106))[i % 3])
        for wy in range(-h + 2, -2, 5):
            for wx in range(x + 2, x + w - 1, 4):
                g.box(wx, wy, wx + 1.6, wy + 2.4, (246, 222, 140))
    g.box(0, 0, 64, 2.5, (150, 150, 152))
    for x in range(2, 64, 14):
        g.box(x, 13, x + 7, 14.5, (232, 226, 200))


def _room(g: _Ground) -> None:
    for x in range(4, 64, 10):
        g.box(x, -40, x + 1.2, 0, (214, 182, 148))
    g.box(0, -2.5, 64, 0, (246, 236, 220))
    g.rectangle((44, 3, 59, 15), fill=(246, 240, 230))
    g.rectangle((45.5, 4.5, 51, 13.5), fill=(160, 212, 240))
    g.rectangle((52, 4.5, 57.5, 13.5), fill=(160, 212, 240))
    for y in (7, 15, 24):
        g.box(0, y, 64, y + 0.8, (112, 70, 42))
    g.dot(32, 60, 27, 6, (160, 60, 66))
    g.dot(32, 60, 22, 4, (196, 104, 96))


def _snow(g: _Ground) -> None:
    g.shape([(-4, 0), (14, -17), (32, 0)], (150, 172, 200))
    g.shape([(8, -11), (14, -17), (20, -11), (14, -9)], (250, 252, 255))
    g.shape([(24, 0), (46, -22), (70, 0)], (132, 156, 188))
    g.shape([(38, -14), (46, -22), (54, -14), (46, -11)], (250, 252, 255))
    g.canvas.ellipse(
        (-20 * g.u, g.horizon - 3 * g.u, 44 * g.u, g.horizon + 16 * g.u), fill=(248, 250, 254)
    )
    for i in range(22):
        g.dot((i * 23.7) % 64, (i * 37.3 + 5) % 62, 0.9, 0.9, (255, 255, 255))


def _night(g: _Ground) -> None:
    for i in range(26):
        up = (i * 29.3 + 3) % (g.horizon / g.u)
        g.dot((i * 41.9 + 2) % 64, up, 0.55 + 0.3 * (i % 2), 0.55 + 0.3 * (i % 2), (240, 240, 210))
    g.dot(11, 9, 6, 6, (246, 240, 200))
    g.dot(14, 7.6, 5, 5, (14, 16, 50))
    g.shape([(-2, 0), (10, -5), (26, 0)], (20, 26, 40))
    g.shape([(20, 0), (44, -8), (66, 0)], (22, 28, 44))


# Setting -> sky (top, bottom), ground (top, bottom), and what paints things into it.
_SETTINGS: dict[str, tuple[tuple[RGB, RGB], tuple[RGB, RGB], Callable[[_Ground], None]]] = {
    "beach": (((110, 196, 240), (206, 236, 246)), ((242, 220, 160), (226, 194, 122)), _beach),
    "forest": (((116, 158, 112), (74, 120, 74)), ((58, 88, 44), (40, 64, 32)), _forest),
    "city": (((158, 172, 190), (206, 208, 208)), ((108, 108, 114), (78, 78, 84)), _city),
    "room": (((232, 208, 178), (222, 192, 158)), ((158, 106, 66), (128, 82, 50)), _room),
    "snow": (((178, 204, 228), (226, 236, 246)), ((244, 248, 252), (214, 226, 240)), _snow),
    "night": (((10, 12, 42), (34, 38, 92)), ((26, 34, 46), (16, 20, 30)), _night),
}


@lru_cache(maxsize=256)
def _background(setting: str, above: bool, jitter: int) -> PILImage.Image:
    """Paint a setting, supersampled; `above` lifts the horizon, as when looking down."""
    from PIL import Image, ImageDraw

    n = _SIZE * _ZOOM
    u = n / 64  # one final pixel
    horizon = int(u * ((16 if above else 36) + jitter - 1))
    sky, ground, paint = _SETTINGS[setting]
    image = Image.fromarray(
        np.concatenate([_gradient(*sky, horizon, n), _gradient(*ground, n - horizon, n)])
    )
    paint(_Ground(ImageDraw.Draw(image), horizon, u))
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
        canvas.ellipse(at, fill=mix(under, BLACK, 0.3))  # type: ignore[arg-type]
    for ox, oy in offsets:
        pen = Pen(
            canvas, ((cx + ox) * z, (cy + oy * flat) * z), (radius * z, radius * flat * z), color
        )
        OBJECTS[scene.object](pen)

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
