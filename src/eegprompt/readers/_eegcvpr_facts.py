"""What the releases of the EEGCVPR recordings have in common: classes, channels, what to cite."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from eegprompt.signal.montage import EEGCVPR_CHANNELS, STANDARD_MONTAGE, positions_of

__all__ = [
    "CITATION",
    "LICENSE",
    "SFREQ",
    "category_of",
    "class_names",
    "shared_info",
]

SFREQ = 1000.0
CITATION = (
    "Spampinato, Palazzo, Kavasidis, Giordano, Souly, Shah (2017). Deep Learning Human Mind for "
    "Automated Visual Classification. CVPR, 6809-6817."
)
LICENSE = "not stated by the authors; the images are ImageNet's and may not be passed on by anyone"
DESIGN_NOTE = (
    "each class was shown as one uninterrupted block, so class and time are one (Li et al. 2021); "
    "the design is 'block', and no split removes that"
)


@lru_cache(maxsize=1)
def class_names() -> dict[str, str]:
    """ImageNet synset -> name in words of the 40 classes, in the order of their labels.

    Examples
    --------
    >>> names = class_names()
    >>> len(names), names["n02607072"]
    (40, 'anemone fish')
    """
    import json

    entries = json.loads(Path(__file__).with_name("eegcvpr_classes.json").read_text("utf-8"))
    return {e["synset"]: e["name"] for e in sorted(entries, key=lambda e: e["index"])}


def category_of(synset: str) -> str:
    """Name of a class in words; the synset itself where it is none of the 40."""
    return class_names().get(synset, synset)


def shared_info() -> dict[str, Any]:
    """Entries of ``study.json`` that hold for every release."""
    positions = positions_of(EEGCVPR_CHANNELS)
    return {
        "ch_names": list(EEGCVPR_CHANNELS),
        "ch_pos": {name: where for name, where in positions.items() if where is not None},
        "sfreq": SFREQ,
        "montage": STANDARD_MONTAGE,
        "design": "block",
        "image_identity": "known",
    }
