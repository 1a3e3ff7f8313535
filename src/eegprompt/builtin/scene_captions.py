"""Ten captions for every built-in scene, several phrasings a kind.

Which phrasing an image gets is a fixed function of the image and the kind, so that captions are
the same wherever and whenever they are written. A caption says only its own kind: it is made
from that kind's attributes and nothing else.
"""

from __future__ import annotations

import hashlib
from functools import cache

from eegprompt.builtin.world import (
    ATTRIBUTES,
    KIND_ATTRIBUTES,
    Scene,
    meaning,
    parse_meaning,
)
from eegprompt.core.errors import InputError, UnknownNameError

__all__ = ["caption", "captions", "meanings", "phrasings", "vocabulary"]

# Templates hold {attribute}, {attribute_2}, ... : the first, second ... wording of its value.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "ObjectSnap": ("a {object}", "a picture of a {object}", "this is a {object}",
                   "a drawn {object}", "one sees a {object}"),
    "ColorTone": ("{color} tones", "mostly {color}", "colored in {color}", "a {color} color",
                  "{color_2} tones", "painted {color_2}"),
    "ClarityCue": ("{clarity} in {light}", "{clarity_2} under {light_2}",
                   "{clarity} with {light_2}", "{clarity_2} in {light}"),
    "SceneSetting": ("{setting}", "set {setting_2}", "the place is {setting_3}",
                     "happens {setting_2}"),
    "LayoutMap": ("{place}", "placed {place_2}", "composed {place}", "it lies {place_2}"),
    "SpatialLink": ("{count}", "{count_2}", "{count_3}", "{count_4}"),
    "AngleView": ("{viewpoint}", "{viewpoint_2}", "{viewpoint_3}", "{viewpoint_4}"),
    "MoodFeel": ("a {mood} mood", "feels {mood}", "{mood_2} in feeling", "a {mood_2} feeling",
                 "the mood is {mood_2}"),
    "ThemeTag": ("{theme}", "about {theme}", "the theme is {theme_2}", "{theme_2}"),
    "StoryHint": ("{story}", "{story_2}", "{story_3}", "{story_4}"),
}  # fmt: skip

_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "object": {
        name: ({"cup": "cup", "airplane": "plane"}.get(name, name),)
        for name in ATTRIBUTES["object"]
    },
    "color": {
        "red": ("red", "scarlet"), "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "lemon"), "green": ("green", "emerald"), "blue": ("blue", "azure"),
        "purple": ("purple", "violet"), "pink": ("pink", "rosy"), "white": ("white", "ivory"),
    },
    "clarity": {
        "sharp": ("sharp", "crisp"), "soft": ("blurred", "out of focus"),
        "hazy": ("hazy", "misty"),
    },
    "light": {
        "day": ("bright daylight", "clear midday light"),
        "dusk": ("warm dusk light", "a glowing sunset"),
        "dim": ("dim shade", "faint light"),
    },
    "setting": {
        "beach": ("a sandy beach", "on the seashore", "a beach by the sea"),
        "forest": ("a forest", "among tall pines", "the deep woods"),
        "city": ("a city street", "before town buildings", "the city downtown"),
        "room": ("a room indoors", "inside with wooden floor", "an indoor room"),
        "snow": ("a snowy mountain", "on winter snow", "a snowfield in winter"),
        "night": ("a starry night", "under moon and stars", "the night outdoors"),
    },
    "place": {
        "left": ("left of the frame", "on the left side"),
        "center": ("center of the frame", "in the middle"),
        "right": ("right of the frame", "on the right side"),
        "top": ("top of the frame", "in the upper part"),
        "bottom": ("bottom of the frame", "in the lower part"),
    },
    "count": {
        "one": ("standing alone", "a single one", "just one by itself", "nothing beside it"),
        "two": ("two side by side", "a pair of them", "next to its twin", "one beside another"),
        "three": ("three in a triangle", "a trio of them", "one above two others",
                  "a group of three"),
    },
    "viewpoint": {
        "close": ("a close view", "seen from near", "a closeup shot", "taken at short distance"),
        "far": ("a far view", "seen from a distance", "a long shot", "taken from afar"),
        "tilted": ("a tilted view", "seen at an angle", "a slanted shot", "taken askew"),
        "above": ("a view from above", "seen looking down", "an overhead shot",
                  "taken from high up"),
    },
    "mood": {
        "joyful": ("joyful", "happy"), "calm": ("calm", "peaceful"),
        "tender": ("tender", "loving"), "gloomy": ("gloomy", "sad"),
        "tense": ("tense", "nervous"), "eerie": ("eerie", "uncanny"),
    },
    "theme": {
        "freedom": ("freedom", "being free"), "home": ("home", "belonging"),
        "growth": ("growth", "new life"), "time": ("time", "passing hours"),
        "play": ("play", "fun and games"), "solitude": ("solitude", "loneliness"),
    },
    "story": {
        "waiting": ("waiting for someone", "someone is late", "hoping for a visitor",
                    "a long wait"),
        "journey": ("a journey begins", "leaving for far lands", "traveling onward",
                    "setting out to explore"),
        "celebration": ("celebrating together", "a party goes on", "cheering a birthday",
                        "a festival starts"),
        "loss": ("something was lost", "saying farewell", "mourning what is gone",
                 "left behind forever"),
        "secret": ("hiding a secret", "a mystery unfolds", "whispering unseen",
                   "a hidden plan"),
        "rescue": ("a rescue arrives", "saved from danger", "helping a friend",
                   "just in time to save"),
        "race": ("racing to win", "a fast chase", "running against rivals",
                 "a contest of speed"),
        "rest": ("resting after work", "a quiet nap", "taking a break", "sleeping in peace"),
    },
}  # fmt: skip


@cache
def phrasings(meaning: str, kind: str) -> tuple[str, ...]:
    """Every way one kind says one meaning.

    Parameters
    ----------
    meaning : str
        For instance ``"color=red"``.
    kind : str
        A caption kind.

    Returns
    -------
    tuple of str
        At least four.

    Raises
    ------
    UnknownNameError
        If the kind or a value does not exist.
    InputError
        If the meaning is not one of this kind.

    Examples
    --------
    >>> phrasings("theme=home", "ThemeTag")
    ('home', 'about home', 'the theme is belonging', 'belonging')
    """
    if kind not in KIND_ATTRIBUTES:
        raise UnknownNameError("caption kind", kind, KIND_ATTRIBUTES)
    values = parse_meaning(meaning)
    if tuple(values) != KIND_ATTRIBUTES[kind]:
        wanted = ";".join(f"{name}=..." for name in KIND_ATTRIBUTES[kind])
        raise InputError(f"a meaning of {kind} is written '{wanted}', got '{meaning}'")
    words: dict[str, str] = {}
    for name, value in values.items():
        for i, wording in enumerate(_WORDS[name][value]):
            words[name if i == 0 else f"{name}_{i + 1}"] = wording
    texts = [template.format(**words) for template in _TEMPLATES[kind]]
    # "a apple" is no English
    texts = [_with_article(text) for text in texts]
    return tuple(dict.fromkeys(texts))


def _with_article(text: str) -> str:
    words = text.split(" ")
    for i in range(len(words) - 1):
        if words[i] == "a" and words[i + 1][0] in "aeiou" and words[i + 1] != "one":
            words[i] = "an"
        elif words[i] == "an" and words[i + 1][0] not in "aeiou":
            words[i] = "a"
    return " ".join(words)


def caption(scene: Scene | str, kind: str, key: str) -> str:
    """Caption of one kind.

    Parameters
    ----------
    scene : Scene or str
        The scene, or what the caption shall mean (``"color=red"``).
    kind : str
        A caption kind.
    key : str
        Identity of the image: the phrasing is a fixed function of it and of the kind.

    Returns
    -------
    str
        At most eight words.
    """
    choices = phrasings(scene if isinstance(scene, str) else meaning(scene, kind), kind)
    digest = hashlib.sha256(f"{key}\0{kind}".encode()).digest()
    return choices[int.from_bytes(digest[:8], "little") % len(choices)]


def captions(scene: Scene, key: str) -> dict[str, str]:
    """All ten captions of a scene, by kind, in prompt order.

    Parameters
    ----------
    scene : Scene
        The scene.
    key : str
        Identity of the image.
    """
    return {kind: caption(scene, kind, key) for kind in KIND_ATTRIBUTES}


def meanings(kind: str) -> tuple[str, ...]:
    """Everything that captions of one kind can mean.

    Parameters
    ----------
    kind : str
        A caption kind.

    Examples
    --------
    >>> len(meanings("ClarityCue"))
    9
    """
    if kind not in KIND_ATTRIBUTES:
        raise UnknownNameError("caption kind", kind, KIND_ATTRIBUTES)
    texts = [""]
    for name in KIND_ATTRIBUTES[kind]:
        texts = [
            f"{text};{name}={value}".lstrip(";") for text in texts for value in ATTRIBUTES[name]
        ]
    return tuple(texts)


def vocabulary() -> tuple[str, ...]:
    """Every word of the grammar, sorted."""
    words = {
        word
        for kind in KIND_ATTRIBUTES
        for text in meanings(kind)
        for phrase in phrasings(text, kind)
        for word in phrase.split(" ")
    }
    return tuple(sorted(words))
