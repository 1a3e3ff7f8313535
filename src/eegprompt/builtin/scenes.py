"""The built-in world: small drawn scenes with known attributes.

A scene is thirteen attributes and a nuisance number; :func:`draw` turns it into a 64×64 picture.
Everything the demonstration claims can be checked against the attributes, because here, unlike
in a recording, they are known: what is on the picture, in which color, where, how often, from
which viewpoint, in which light, and which mood, theme and story go with it.

Mood, theme and story are *drawn with a tendency* from the other attributes (a dim night scene is
more often eerie), as in real pictures, but most of their variance is their own: a decoder that
only knew the object could not know them. Mood is visible as a faint color grading; theme and
story are invisible and live in the captions (and in the simulated brain) only.

About one fifth of all (object, color, setting) combinations is held out by a fixed rule,
:func:`is_held_out`. The built-in models are never trained on these, and the test images of the
built-in study are drawn from these alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PILImage
    from PIL import ImageDraw as PILImageDraw

__all__ = [
    "ATTRIBUTES",
    "KIND_ATTRIBUTES",
    "Scene",
    "draw",
    "is_held_out",
    "kind_vector",
    "meaning",
    "object_mask",
    "parse_meaning",
    "sample_scene",
    "semantic_coordinates",
    "split_scenes",
    "tendency",
]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "object": (
        "face", "house", "apple", "car", "flower", "cat", "dog", "tree",
        "fish", "bird", "boat", "cup", "chair", "clock", "airplane", "shoe",
    ),
    "color": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "setting": ("beach", "forest", "city", "room", "snow", "night"),
    "place": ("left", "center", "right", "top", "bottom"),
    "count": ("one", "two", "three"),
    "viewpoint": ("close", "far", "tilted", "above"),
    "light": ("day", "dusk", "dim"),
    "clarity": ("sharp", "soft", "hazy"),
    "mood": ("joyful", "calm", "tender", "gloomy", "tense", "eerie"),
    "theme": ("freedom", "home", "growth", "time", "play", "solitude"),
    "story": (
        "waiting", "journey", "celebration", "loss", "secret", "rescue", "race", "rest",
    ),
}  # fmt: skip
"""Every attribute and its values."""

KIND_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "ObjectSnap": ("object",),
    "ColorTone": ("color",),
    "ClarityCue": ("clarity", "light"),
    "SceneSetting": ("setting",),
    "LayoutMap": ("place",),
    "SpatialLink": ("count",),
    "AngleView": ("viewpoint",),
    "MoodFeel": ("mood",),
    "ThemeTag": ("theme",),
    "StoryHint": ("story",),
}
"""Which attributes a caption of each kind says, and so what it means."""

N_VARIANTS = 4096
"""How many values the nuisance number `variant` takes."""

TENDENCY = 0.6
"""Share of scenes whose mood (theme, story) follows its tendency; the others draw it freely."""


@dataclass(frozen=True)
class Scene:
    """One drawn scene: what is to be seen, and what it is about.

    Parameters
    ----------
    object, color, setting, place, count, viewpoint, light, clarity, mood, theme, story : str
        One of :data:`ATTRIBUTES` each.
    variant : int, default 0
        A nuisance: tiny changes of size, position and hue that mean nothing.

    Raises
    ------
    UnknownNameError
        If a value is not among those of its attribute.

    Examples
    --------
    >>> scene = Scene(
    ...     "cat", "red", "snow", "left", "one", "close", "day", "sharp", "joyful", "play", "race"
    ... )
    >>> draw(scene).shape
    (64, 64, 3)
    """

    object: str
    color: str
    setting: str
    place: str
    count: str
    viewpoint: str
    light: str
    clarity: str
    mood: str
    theme: str
    story: str
    variant: int = 0

    def __post_init__(self) -> None:
        for attribute, values in ATTRIBUTES.items():
            value = getattr(self, attribute)
            if value not in values:
                raise UnknownNameError(f"scene {attribute}", str(value), values)

    def as_dict(self) -> dict[str, str | int]:
        """Attributes by name, and the variant."""
        values: dict[str, str | int] = {name: getattr(self, name) for name in ATTRIBUTES}
        values["variant"] = self.variant
        return values


# ----------------------------------------------------------------------------------- meaning


def meaning(scene: Scene, kind: str) -> str:
    """What a caption of one kind says about a scene, as ``attribute=value`` pairs.

    Two captions of one kind with equal meaning are the same answer in retrieval.

    Parameters
    ----------
    scene : Scene
        The scene.
    kind : str
        A caption kind.

    Examples
    --------
    >>> scene = Scene(
    ...     "cat", "red", "snow", "left", "one", "close", "dusk", "soft", "joyful", "play", "race"
    ... )
    >>> meaning(scene, "ClarityCue")
    'clarity=soft;light=dusk'
    """
    return ";".join(f"{name}={getattr(scene, name)}" for name in _attributes_of(kind))


def parse_meaning(text: str) -> dict[str, str]:
    """Read a meaning back: the inverse of :func:`meaning`.

    Parameters
    ----------
    text : str
        For instance ``"clarity=soft;light=dusk"``.

    Raises
    ------
    InputError
        If the text is not made of known ``attribute=value`` pairs.

    Examples
    --------
    >>> parse_meaning("clarity=soft;light=dusk")
    {'clarity': 'soft', 'light': 'dusk'}
    """
    pairs = [part.split("=", 1) for part in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"a meaning is written 'attribute=value;...', got '{text}'")
    for name, value in pairs:
        if name not in ATTRIBUTES:
            raise UnknownNameError("scene attribute", name, ATTRIBUTES)
        if value not in ATTRIBUTES[name]:
            raise UnknownNameError(f"scene {name}", value, ATTRIBUTES[name])
    return dict(pairs)  # type: ignore[arg-type]


def _attributes_of(kind: str) -> tuple[str, ...]:
    if kind not in KIND_ATTRIBUTES:
        raise UnknownNameError("caption kind", kind, KIND_ATTRIBUTES)
    return KIND_ATTRIBUTES[kind]


# Coordinates of meaning. The *dimensions* are those the literature finds in visual cortex and in
# judgments of similarity; the values are our own ratings (colors excepted), in [-1, 1] or in the
# unit said. Sources:
#   object    animacy and naturalness (Kriegeskorte et al. 2008, Neuron 60:1126), real-world size
#             (Konkle & Oliva 2012, Neuron 74:1114), curvature (Yue, Robert & Ungerleider 2020,
#             NeuroImage 222:117295), face selectivity (Kanwisher et al. 1997, J Neurosci 17:4302),
#             aspect ratio (Bao et al. 2020, Nature 583:103), self-motion and graspability (Hebart
#             et al. 2020, Nat Hum Behav 4:1173).
#   color     CIELAB under D65 of the color that is drawn (CIE 15:2004), divided by 100.
#   setting   global scene properties: naturalness, openness, temperature, luminance (Greene &
#             Oliva 2009, Cogn Psychol 58:137).
#   place     x and y in the frame (retinotopy).          count      log number (Nieder 2016).
#   viewpoint nearness, camera height, roll.              light      log luminance, warmth.
#   clarity   power at high spatial frequencies, contrast.
#   mood      valence and arousal (Russell 1980, J Pers Soc Psychol 39:1161), dominance (Bradley &
#             Lang 1994, J Behav Ther Exp Psychiatry 25:49).
#   theme, story  valence, arousal, sociality, time, space: a few of the experiential attributes
#             of Binder et al. 2016, Cogn Neuropsychol 33:130.
_COORDINATES: dict[str, dict[str, tuple[float, ...]]] = {
    "object": {  # animate, natural, size, curved, face, elongated, moves, graspable
        "face": (1.0, 0.9, -0.2, 0.8, 1.0, 0.1, 0.4, -0.6),
        "house": (-1.0, -0.9, 1.0, -0.9, -0.8, -0.3, -1.0, -1.0),
        "apple": (-0.6, 0.9, -0.9, 1.0, -0.6, -0.6, -0.9, 1.0),
        "car": (-0.6, -1.0, 0.6, -0.1, -0.5, 0.6, 0.9, -0.8),
        "flower": (-0.1, 1.0, -0.8, 0.7, -0.4, 0.0, -0.6, 0.6),
        "cat": (1.0, 0.8, -0.4, 0.4, 0.5, -0.1, 0.8, 0.0),
        "dog": (1.0, 0.7, -0.1, 0.3, 0.3, 0.5, 1.0, -0.3),
        "tree": (-0.1, 1.0, 0.9, 0.3, -0.8, 0.2, -0.9, -0.9),
        "fish": (0.8, 1.0, -0.5, 0.6, -0.1, 0.7, 0.8, 0.3),
        "bird": (0.9, 1.0, -0.6, 0.4, 0.0, 0.3, 1.0, 0.0),
        "boat": (-0.7, -0.8, 0.8, -0.2, -0.8, 0.3, 0.6, -0.9),
        "cup": (-1.0, -0.9, -0.9, 0.2, -0.7, -0.4, -0.9, 1.0),
        "chair": (-1.0, -0.7, 0.1, -0.9, -0.8, 0.0, -0.9, -0.3),
        "clock": (-0.8, -1.0, -0.5, 0.8, 0.2, -0.6, -0.2, 0.5),
        "airplane": (-0.5, -1.0, 1.0, -0.1, -0.8, 1.0, 1.0, -1.0),
        "shoe": (-0.8, -0.7, -0.7, 0.0, -0.8, 0.6, -0.1, 0.9),
    },
    "color": {},  # filled below from the colors that are drawn
    "setting": {  # natural, open, warm, light
        "beach": (0.8, 1.0, 0.9, 1.0),
        "forest": (1.0, -0.6, 0.1, -0.4),
        "city": (-1.0, 0.1, 0.2, 0.1),
        "room": (-0.9, -1.0, 0.6, 0.2),
        "snow": (0.9, 0.8, -1.0, 0.9),
        "night": (0.5, 0.7, -0.5, -1.0),
    },
    "place": {  # x, y (up)
        "left": (-1.0, 0.0), "center": (0.0, 0.0), "right": (1.0, 0.0),
        "top": (0.0, 1.0), "bottom": (0.0, -1.0),
    },
    "count": {  # log number, pairedness
        "one": (0.0, -0.5), "two": (math.log(2.0), 1.0), "three": (math.log(3.0), -0.5),
    },
    "viewpoint": {  # near, high, rolled
        "close": (1.0, 0.0, 0.0), "far": (-1.0, 0.0, 0.0),
        "tilted": (0.1, 0.0, 1.0), "above": (-0.1, 1.0, 0.0),
    },
    "light": {"day": (1.0, 0.0), "dusk": (0.2, 1.0), "dim": (-1.0, -0.4)},
    "clarity": {"sharp": (0.8, 0.7), "soft": (-1.0, 0.4), "hazy": (0.2, -1.0)},
    "mood": {  # valence, arousal, dominance
        "joyful": (0.9, 0.7, 0.6), "calm": (0.7, -0.8, 0.3), "tender": (0.8, -0.2, -0.5),
        "gloomy": (-0.7, -0.7, -0.4), "tense": (-0.5, 0.9, 0.1), "eerie": (-0.9, 0.4, -0.8),
    },
    "theme": {  # valence, arousal, social, time, space
        "freedom": (0.8, 0.7, -0.3, 0.0, 1.0), "home": (0.7, -0.6, 0.8, 0.1, -0.8),
        "growth": (0.5, 0.1, -0.1, 0.9, 0.2), "time": (-0.2, -0.3, -0.5, 1.0, -0.6),
        "play": (0.9, 0.9, 0.9, -0.5, 0.3), "solitude": (-0.5, -0.9, -1.0, 0.2, 0.4),
    },
    "story": {  # valence, arousal, social, time, space
        "waiting": (-0.2, -0.4, 0.2, 1.0, -0.6), "journey": (0.4, 0.3, -0.3, 0.4, 1.0),
        "celebration": (1.0, 0.9, 1.0, -0.3, -0.1), "loss": (-1.0, -0.3, -0.4, 0.3, -0.3),
        "secret": (-0.3, 0.4, 0.5, -0.2, -0.9), "rescue": (0.2, 0.9, 0.8, -0.7, 0.4),
        "race": (0.3, 1.0, 0.1, -0.9, 0.8), "rest": (0.6, -1.0, -0.6, 0.0, -0.5),
    },
}  # fmt: skip


def semantic_coordinates(attribute: str, value: str) -> NDArray[np.float64]:
    """Place of a value in the low-dimensional meaning space of its attribute.

    Near values mean similar things: a cat lies nearer to a dog than to a house, orange nearer
    to red than to blue. The dimensions, with their sources, are in the comments of this module.

    Parameters
    ----------
    attribute : str
        One of :data:`ATTRIBUTES`.
    value : str
        One of its values.

    Returns
    -------
    array of shape (n_dimensions,)
        Unitless; the number of dimensions depends on the attribute.
    """
    if attribute not in ATTRIBUTES:
        raise UnknownNameError("scene attribute", attribute, ATTRIBUTES)
    if value not in ATTRIBUTES[attribute]:
        raise UnknownNameError(f"scene {attribute}", value, ATTRIBUTES[attribute])
    return np.asarray(_COORDINATES[attribute][value], dtype=np.float64)


@cache
def _standardized(attribute: str) -> dict[str, NDArray[np.float64]]:
    values = ATTRIBUTES[attribute]
    table = np.stack([semantic_coordinates(attribute, value) for value in values])
    table = (table - table.mean(0)) / table.std(0)
    return dict(zip(values, table, strict=True))


def kind_vector(scene: Scene, kind: str) -> NDArray[np.float64]:
    """Meaning of one caption kind for a scene, as a vector.

    The coordinates of the kind's attributes, each z-scored over the attribute's values, one
    after the other.

    Parameters
    ----------
    scene : Scene
        The scene.
    kind : str
        A caption kind.

    Returns
    -------
    array of shape (n_dimensions,)
        Unitless; the number of dimensions depends on the kind.
    """
    parts = [_standardized(name)[getattr(scene, name)] for name in _attributes_of(kind)]
    return np.concatenate(parts)


# ---------------------------------------------------------------------------------- sampling

_MOOD_OF_LIGHT = {
    "day": ("joyful", "calm", "tense"),
    "dusk": ("tender", "calm", "gloomy"),
    "dim": ("eerie", "gloomy", "tense"),
}
_SETTING_GROUP = {"beach": 0, "room": 0, "city": 1, "forest": 1, "snow": 2, "night": 2}
_THEME_OF_OBJECT = {
    "face": "solitude", "house": "home", "apple": "growth", "car": "freedom", "flower": "growth",
    "cat": "play", "dog": "play", "tree": "growth", "fish": "freedom", "bird": "freedom",
    "boat": "solitude", "cup": "home", "chair": "home", "clock": "time", "airplane": "time",
    "shoe": "play",
}  # fmt: skip
_STORIES_OF_COUNT = {
    "one": ("waiting", "journey", "loss", "rest", "secret", "journey"),
    "two": ("secret", "rescue", "waiting", "rest", "loss", "race"),
    "three": ("celebration", "race", "celebration", "rescue", "journey", "waiting"),
}


def tendency(attribute: str, scene: dict[str, str]) -> str:
    """Value that mood, theme or story leans to, given the other attributes.

    Mood leans on light and setting, theme on the object, story on count and setting.

    Parameters
    ----------
    attribute : {'mood', 'theme', 'story'}
        Which one.
    scene : dict of str
        At least the attributes that it leans on.
    """
    if attribute == "mood":
        return _MOOD_OF_LIGHT[scene["light"]][_SETTING_GROUP[scene["setting"]]]
    if attribute == "theme":
        return _THEME_OF_OBJECT[scene["object"]]
    if attribute == "story":
        return _STORIES_OF_COUNT[scene["count"]][ATTRIBUTES["setting"].index(scene["setting"])]
    raise UnknownNameError("attribute with a tendency", attribute, ("mood", "theme", "story"))


def sample_scene(rng: np.random.Generator, **fixed: Any) -> Scene:
    """Draw a scene at random.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    **fixed
        Attributes (or ``variant``) that are given rather than drawn.

    Returns
    -------
    Scene
        Uniform in the visible attributes; mood, theme and story follow their
        :func:`tendency` in a share :data:`TENDENCY` of the scenes and are uniform in the others.

    Examples
    --------
    >>> sample_scene(np.random.default_rng(0), object="cat", color="red").object
    'cat'
    """
    unknown = [name for name in fixed if name not in ATTRIBUTES and name != "variant"]
    if unknown:
        raise UnknownNameError("scene attribute", unknown[0], [*ATTRIBUTES, "variant"])
    values: dict[str, Any] = {}
    for name, allowed in ATTRIBUTES.items():
        # Every draw is made, fixed or not, so that fixing one attribute leaves the others alone.
        drawn = allowed[int(rng.integers(len(allowed)))]
        if name in ("mood", "theme", "story") and rng.random() < TENDENCY:
            drawn = tendency(name, values)
        values[name] = fixed.get(name, drawn)
    variant = int(rng.integers(N_VARIANTS))
    return Scene(**values, variant=int(fixed.get("variant", variant)))


def is_held_out(object: str, color: str, setting: str) -> bool:
    """Whether a combination is kept from training: for ever, for every seed.

    One fifth of the grid, laid so that every pair (object and color, object and setting, color
    and setting) still occurs in training: what is new in a test image is the combination.

    Parameters
    ----------
    object, color, setting : str
        The combination.
    """
    o = ATTRIBUTES["object"].index(object)
    c = ATTRIBUTES["color"].index(color)
    s = ATTRIBUTES["setting"].index(setting)
    return (o + 2 * c + 4 * s + o // 5 + c // 5) % 5 == 0


def split_scenes(n_train: int, n_test: int, seed: int) -> tuple[list[Scene], list[Scene]]:
    """Draw training and test scenes that share no (object, color, setting) combination.

    Parameters
    ----------
    n_train, n_test : int
        How many of each.
    seed : int
        The same seed gives the same scenes.

    Returns
    -------
    train, test : list of Scene
        Objects are balanced to within one scene; colors and settings nearly so. Training scenes
        never come from held-out combinations, test scenes always.

    Raises
    ------
    InputError
        If a number is negative.
    """
    if n_train < 0 or n_test < 0:
        raise InputError(f"the numbers of scenes must be >= 0, got {n_train} and {n_test}")
    sequences = np.random.SeedSequence([seed, 20250710]).spawn(2)
    sides = []
    for held_out, n, sequence in zip((False, True), (n_train, n_test), sequences, strict=True):
        rng = np.random.default_rng(sequence)
        combinations = {
            name: [
                (color, setting)
                for color in ATTRIBUTES["color"]
                for setting in ATTRIBUTES["setting"]
                if is_held_out(name, color, setting) == held_out
            ]
            for name in ATTRIBUTES["object"]
        }
        decks: dict[str, list[tuple[str, str]]] = {name: [] for name in ATTRIBUTES["object"]}
        order: list[str] = []
        scenes: list[Scene] = []
        seen: set[Scene] = set()
        while len(scenes) < n:
            if not order:
                order = [str(name) for name in rng.permutation(ATTRIBUTES["object"])]
            name = order.pop()
            if not decks[name]:  # every combination once before any twice
                deck = combinations[name]
                decks[name] = [deck[int(i)] for i in rng.permutation(len(deck))]
            color, setting = decks[name].pop()
            scene = sample_scene(rng, object=name, color=color, setting=setting)
            while scene in seen:
                scene = replace(scene, variant=int(rng.integers(N_VARIANTS)))
            seen.add(scene)
            scenes.append(scene)
        sides.append(scenes)
    return sides[0], sides[1]


# ----------------------------------------------------------------------------------- drawing

_SIZE = 64  # the pixel grid that sizes below refer to
_ZOOM = 4  # supersampling

RGB = tuple[int, int, int]

_COLORS: dict[str, RGB] = {
    "red": (214, 32, 38),
    "orange": (250, 128, 18),
    "yellow": (250, 220, 40),
    "green": (48, 170, 62),
    "blue": (36, 92, 216),
    "purple": (124, 48, 168),
    "pink": (250, 120, 186),
    "white": (246, 246, 246),
}


def _lab(rgb: RGB) -> tuple[float, float, float]:
    """CIELAB (D65) of an sRGB color, divided by 100."""
    c = np.asarray(rgb) / 255.0
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ c
        / np.array([0.95047, 1.0, 1.08883])
    )
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = (116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2]))
    return (float(lab[0]) / 100, float(lab[1]) / 100, float(lab[2]) / 100)


_COORDINATES["color"] = {name: _lab(rgb) for name, rgb in _COLORS.items()}


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
        Height and width, in pixels. The picture is always composed on 256×256 and reduced.

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
        True where the picture differs from its empty background.
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

    # Sizes in pixels of a 64×64 picture; the half width of one object is `radius`.
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

    base = np.asarray(_COLORS[scene.color], dtype=float) + 9 * jitter[3:6]
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
