"""The built-in world: small drawn scenes with known attributes.

A scene is thirteen attributes and a nuisance number; :func:`draw` turns it into a 64×64 image.
Everything the demonstration claims can be checked against the attributes, because here, unlike
in a recording, they are known: what is on the image, in which color, where, how often, from
which viewpoint, in which light, and which mood, theme and story go with it.

Mood, theme and story are *drawn with a tendency* from the other attributes (a dim night scene is
more often eerie), as in real images, but most of their variance is their own: a decoder that
only knew the object could not know them. Mood is visible as a faint color grading; theme and
story are invisible and live in the captions (and in the simulated brain) only.

About one fifth of all (object, color, setting) combinations is held out by a fixed rule,
:func:`is_held_out`. The built-in models are never trained on these, and the test images of the
built-in study are drawn from these alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.builtin.drawing import COLORS
from eegprompt.core.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = [
    "ATTRIBUTES",
    "KIND_ATTRIBUTES",
    "Scene",
    "is_held_out",
    "kind_vector",
    "meaning",
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


N_VARIANTS = 4096


TENDENCY = 0.6


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
    >>> from eegprompt.builtin.drawing import draw
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
    >>> from eegprompt.builtin.drawing import draw
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


RGB = tuple[int, int, int]


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


"""Every attribute and its values."""


"""Which attributes a caption of each kind says, and so what it means."""


"""How many values the nuisance number `variant` takes."""


"""Share of scenes whose mood (theme, story) follows its tendency; the others draw it freely."""


_COORDINATES["color"] = {name: _lab(rgb) for name, rgb in COLORS.items()}
