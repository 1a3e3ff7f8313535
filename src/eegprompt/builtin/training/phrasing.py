"""What the built-in models read in training: random phrasings, subsets and orders."""

from __future__ import annotations

from functools import cache

import numpy as np

from eegprompt.builtin.scene_captions import meanings, phrasings, vocabulary
from eegprompt.builtin.world import KIND_ATTRIBUTES, Scene, meaning

__all__ = ["all_meanings", "random_caption", "random_kinds", "random_prompt", "words"]

# Wordings that no built-in caption uses, so that captions written by others are understood too.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "face": ("human face", "portrait", "person"), "house": ("building", "cottage"),
    "apple": ("fruit",), "car": ("automobile", "vehicle"), "flower": ("blossom", "rose"),
    "cat": ("kitten",), "dog": ("puppy",), "tree": ("oak",), "fish": ("goldfish",),
    "bird": ("sparrow",), "boat": ("sailboat", "ship"), "cup": ("mug",), "chair": ("seat",),
    "clock": ("alarm clock", "watch"), "airplane": ("airplane", "jet"), "shoe": ("sneaker",),
}  # fmt: skip
_OTHER_TEMPLATES = (
    "a photo of a {}",
    "{}",
    "an image of a {}",
    "a photograph showing the {}",
    "the {}",
    "a {}",
)


@cache
def _choices(text: str, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    others: tuple[str, ...] = ()
    if kind == "ObjectSnap":
        name = text.split("=")[1]
        names = (name, *_OTHER_NAMES[name])
        others = tuple(template.format(n) for template in _OTHER_TEMPLATES for n in names)
    return phrasings(text, kind), others


def words() -> tuple[str, ...]:
    """Every word the models know, sorted."""
    known = set(vocabulary())
    for text in meanings("ObjectSnap"):
        for phrase in _choices(text, "ObjectSnap")[1]:
            known.update(phrase.split(" "))
    known.update(("an", "and", "with", "no", "background", "gray", "black", "brown", "dark"))
    return tuple(sorted(known))


def all_meanings() -> list[tuple[str, str]]:
    """Every (kind, meaning)."""
    return [(kind, text) for kind in KIND_ATTRIBUTES for text in meanings(kind)]


def random_caption(text: str, kind: str, rng: np.random.Generator, other: float = 0.2) -> str:
    """Draw one phrasing of a meaning; now and then a wording that built-in captions never use."""
    usual, others = _choices(text, kind)
    if others and rng.random() < other:
        return others[int(rng.integers(len(others)))]
    return usual[int(rng.integers(len(usual)))]


def random_kinds(rng: np.random.Generator, all_ten: float = 0.4) -> list[str]:
    """Draw a subset of the kinds: often all, else any number; half the time in prompt order."""
    kinds = list(KIND_ATTRIBUTES)
    n = len(kinds) if rng.random() < all_ten else int(rng.integers(1, len(kinds) + 1))
    chosen = rng.permutation(len(kinds))[:n]
    if rng.random() < 0.5:
        chosen = np.sort(chosen)
    return [kinds[i] for i in chosen]


def random_prompt(scene: Scene, kinds: list[str], rng: np.random.Generator) -> str:
    """Join one random phrasing for each kind, as prompts are joined."""
    return ", ".join(random_caption(meaning(scene, kind), kind, rng) for kind in kinds)
