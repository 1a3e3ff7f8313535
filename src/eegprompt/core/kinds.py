"""The caption kinds: what each says, its level, and its place in a prompt.

The kinds are data, not code: an encoder is trained on any subset of them, down to one, and
everything downstream (heads, retrieval, prompts, scores, maps, report) loops over the kinds it was
given. Beside the ten there may be kinds of one's own, from a YAML file::

    - name: SurfaceFeel
      level: low
      instruction: Say how the surface of the main object would feel to the touch.
      order: 2.5

`order` is the place in a prompt (the ten have 0 to 9), `says` a short description for the report.
A study keeps such a file as ``kinds.yaml``, and a run in its settings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from eegprompt.core.errors import InputError, UnknownNameError

__all__ = [
    "KINDS",
    "LEVELS",
    "CaptionKind",
    "Level",
    "add_kinds",
    "own_kinds",
    "parse_kinds",
    "read_kinds",
]


class Level(str, Enum):
    """One of the three tiers of meaning."""

    LOW = "low"
    MID = "mid"
    HIGH = "high"


@dataclass(frozen=True)
class CaptionKind:
    """What one head's captions say of an image.

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
    prompt_order : float
        Place in a joined prompt, from 0 (first).
    """

    name: str
    level: Level
    says: str
    instruction: str
    prompt_order: float


# The order is the order in a prompt: text encoders weigh early words most, so what is in the
# image comes before how it is lit, and both before what it may mean.
_TEN = (
    (
        "ObjectSnap",
        "low",
        "the main object, by its name",
        "Name the main object of the image, and nothing else.",
    ),
    (
        "ColorTone",
        "low",
        "the dominant colors",
        "Say which colors dominate the image and on what they lie.",
    ),
    (
        "ClarityCue",
        "low",
        "sharpness, texture, lighting, contrast",
        "Say how sharp, textured, lit and contrasted the image is.",
    ),
    (
        "SceneSetting",
        "mid",
        "the place or background",
        "Say in which place or before which background the scene is set.",
    ),
    (
        "LayoutMap",
        "mid",
        "the composition: where things lie in the frame",
        "Say where in the frame the main things lie.",
    ),
    (
        "SpatialLink",
        "mid",
        "the relations between things",
        "Say how the things in the image stand to one another.",
    ),
    (
        "AngleView",
        "mid",
        "viewpoint and distance",
        "Say from which angle and distance the image is taken.",
    ),
    ("MoodFeel", "high", "the emotion the image gives", "Say which emotion the image gives."),
    ("ThemeTag", "high", "the abstract theme", "Name the abstract theme of the image."),
    ("StoryHint", "high", "what seems to be happening", "Say what seems to be happening."),
)

KINDS: dict[str, CaptionKind] = {
    name: CaptionKind(name, Level(level), says, instruction, order)
    for order, (name, level, says, instruction) in enumerate(_TEN)
}
"""The kinds by name, in prompt order: the ten, and those added with :func:`add_kinds`."""

LEVELS: dict[Level, tuple[str, ...]] = {
    level: tuple(name for name, kind in KINDS.items() if kind.level is level) for level in Level
}
"""Names of the kinds of each level, in prompt order."""

_BUILT_IN = frozenset(KINDS)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_TAKEN = {"all", "category", "ensemble", *(level.value for level in Level)}
_FIELDS = ("name", "level", "instruction", "order", "says")


def read_kinds(path: str | Path) -> tuple[CaptionKind, ...]:
    """Read caption kinds of one's own from a YAML file; see this module's page for its form.

    Raises
    ------
    InputError
        With the file and the entry, if it cannot be read or an entry is not in order.
    """
    from eegprompt.core.safe_yaml import read_yaml

    content = read_yaml(path)
    if not isinstance(content, list) or not content:
        raise InputError(
            f"{path} must hold a list of caption kinds, each with name, level, instruction and order"
        )
    found = tuple(_kind_of(entry, f"{path}, entry {i}") for i, entry in enumerate(content, 1))
    names = [kind.name for kind in found]
    if len(set(names)) < len(names):
        raise InputError(f"{path} defines a caption kind twice ({', '.join(names)})")
    return found


def _kind_of(entry: Any, where: str) -> CaptionKind:
    """A caption kind from an entry of a file."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} must hold name, level, instruction and order, got {entry!r:.60}")
    for field in entry:
        if field not in _FIELDS:
            raise UnknownNameError(f"field of a caption kind ({where})", str(field), _FIELDS)
    name, level, instruction = (
        str(entry.get(field) or "").strip() for field in ("name", "level", "instruction")
    )
    if not _NAME.fullmatch(name) or name in _BUILT_IN or name.lower() in _TAKEN:
        raise InputError(
            f"{where}: a caption kind's name is made of letters and digits and is none of the "
            f"built-in names, got '{name[:40]}'"
        )
    if level not in {known.value for known in Level}:
        raise UnknownNameError(f"level ({where})", level, [known.value for known in Level])
    if not instruction:
        raise InputError(f"{where}: the kind {name} needs an instruction for the captioner")
    order = entry.get("order", len(_BUILT_IN))
    if isinstance(order, bool) or not isinstance(order, int | float) or not math.isfinite(order):
        raise InputError(f"{where}: the order of {name} is a number, got {order!r:.40}")
    says = str(entry.get("says") or instruction.rstrip(".")).strip()
    return CaptionKind(name, Level(level), says, instruction, order)


def add_kinds(kinds: str | Path | Iterable[CaptionKind | Mapping[str, Any]]) -> tuple[str, ...]:
    """Add caption kinds of one's own to :data:`KINDS`; of one name the later definition holds.

    Parameters
    ----------
    kinds : path-like or iterable
        A YAML file, or kinds, or what :func:`own_kinds` gave.

    Returns
    -------
    tuple of str
        Their names.
    """
    if isinstance(kinds, str | Path):
        kinds = read_kinds(kinds)
    new = [k if isinstance(k, CaptionKind) else _kind_of(k, "a caption kind") for k in kinds]
    if new:
        every = {**KINDS, **{kind.name: kind for kind in new}}
        ordered = sorted(every.values(), key=lambda kind: kind.prompt_order)
        KINDS.clear()
        KINDS.update({kind.name: kind for kind in ordered})
        for level in Level:
            LEVELS[level] = tuple(kind.name for kind in ordered if kind.level is level)
    return tuple(kind.name for kind in new)


def own_kinds(names: Iterable[str]) -> list[dict[str, Any]]:
    """Definitions of those kinds that are not among the ten, as a kind file holds them.

    Examples
    --------
    >>> own_kinds(["ObjectSnap"])
    []
    """
    return [
        {
            "name": kind.name,
            "level": kind.level.value,
            "says": kind.says,
            "instruction": kind.instruction,
            "order": kind.prompt_order,
        }
        for kind in (KINDS[name] for name in names if name not in _BUILT_IN)
    ]


def parse_kinds(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Resolve kind names, level names or ``"all"`` to kind names in prompt order.

    Parameters
    ----------
    names : str, iterable of str or None
        Kind names (``"ObjectSnap"``), level names (``"low"``) and YAML files of one's own kinds
        (``"my-kinds.yaml"``), as a list or separated by commas; ``None`` and ``"all"`` mean all.

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
        elif part.endswith((".yaml", ".yml")):
            chosen.update(add_kinds(part))
        else:
            allowed = [*KINDS, *(level.value for level in Level), "all"]
            raise UnknownNameError("caption kind", part, allowed)
    return tuple(name for name in KINDS if name in chosen)
