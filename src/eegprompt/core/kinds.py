"""The ten caption kinds: what each says, its level, and its place in a prompt.

The kinds are data, not code: an encoder is trained on any subset of them, down to one, and
everything downstream (heads, retrieval, prompts, scores) loops over the kinds it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from eegprompt.core.errors import InputError, UnknownNameError

__all__ = ["KINDS", "LEVELS", "CaptionKind", "Level", "parse_kinds"]


class Level(str, Enum):
    """One of the three tiers of meaning."""

    LOW = "low"
    MID = "mid"
    HIGH = "high"


@dataclass(frozen=True)
class CaptionKind:
    """One of the ten descriptions of an image.

    Parameters
    ----------
    name : str
        The name used in tables, heads and commands, e.g. ``"ObjectSnap"``.
    level : Level
        The tier it belongs to.
    says : str
        What a caption of this kind says.
    instruction : str
        What a captioner is asked to write.
    prompt_order : int
        Place in a joined prompt, from 0 (first).
    """

    name: str
    level: Level
    says: str
    instruction: str
    prompt_order: int


# The order is the order in a prompt: text encoders weigh early words most, so what is in the
# image comes before how it is lit, and both before what it may mean.
KINDS: dict[str, CaptionKind] = {
    kind.name: kind
    for kind in (
        CaptionKind(
            "ObjectSnap",
            Level.LOW,
            "the main object, by its name",
            "Name the main object of the image, and nothing else.",
            0,
        ),
        CaptionKind(
            "ColorTone",
            Level.LOW,
            "the dominant colors",
            "Say which colors dominate the image and on what they lie.",
            1,
        ),
        CaptionKind(
            "ClarityCue",
            Level.LOW,
            "sharpness, texture, lighting, contrast",
            "Say how sharp, textured, lit and contrasted the image is.",
            2,
        ),
        CaptionKind(
            "SceneSetting",
            Level.MID,
            "the place or background",
            "Say in which place or before which background the scene is set.",
            3,
        ),
        CaptionKind(
            "LayoutMap",
            Level.MID,
            "the composition: where things lie in the frame",
            "Say where in the frame the main things lie.",
            4,
        ),
        CaptionKind(
            "SpatialLink",
            Level.MID,
            "the relations between things",
            "Say how the things in the image stand to one another.",
            5,
        ),
        CaptionKind(
            "AngleView",
            Level.MID,
            "viewpoint and distance",
            "Say from which angle and distance the image is taken.",
            6,
        ),
        CaptionKind(
            "MoodFeel",
            Level.HIGH,
            "the emotion the image gives",
            "Say which emotion the image gives.",
            7,
        ),
        CaptionKind(
            "ThemeTag",
            Level.HIGH,
            "the abstract theme",
            "Name the abstract theme of the image.",
            8,
        ),
        CaptionKind(
            "StoryHint",
            Level.HIGH,
            "what seems to be happening",
            "Say what seems to be happening.",
            9,
        ),
    )
}

LEVELS: dict[Level, tuple[str, ...]] = {
    level: tuple(name for name, kind in KINDS.items() if kind.level is level) for level in Level
}


def parse_kinds(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Resolve kind names, level names or ``"all"`` to kind names in prompt order.

    Parameters
    ----------
    names : str, iterable of str or None
        Kind names (``"ObjectSnap"``), level names (``"low"``), or both, as a list or separated by
        commas; ``None`` and ``"all"`` mean all ten.

    Returns
    -------
    tuple of str
        Without repetition, in prompt order.

    Raises
    ------
    UnknownNameError
        If a name is neither a kind nor a level.

    Examples
    --------
    >>> parse_kinds("high,ObjectSnap")
    ('ObjectSnap', 'MoodFeel', 'ThemeTag', 'StoryHint')
    """
    if names is None or names == "all":
        return tuple(KINDS)
    parts = names.split(",") if isinstance(names, str) else names
    parts = list(parts) if isinstance(parts, Iterable) else [parts]
    if not all(isinstance(part, str) for part in parts):
        raise InputError(f"caption kinds are names, got {str(names)[:60]!r}")
    chosen: set[str] = set()
    for part in (p.strip() for p in parts):
        if part in KINDS:
            chosen.add(part)
        elif part in {level.value for level in Level}:
            chosen.update(LEVELS[Level(part)])
        else:
            allowed = [*KINDS, *(level.value for level in Level), "all"]
            raise UnknownNameError("caption kind", part, allowed)
    return tuple(name for name in KINDS if name in chosen)
