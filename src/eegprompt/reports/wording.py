"""What scores are called and what they say, and how numbers are written."""

from __future__ import annotations

import math
from typing import Any

__all__ = [
    "GLOSSARY",
    "fixed",
    "interval",
    "number",
    "p_value",
    "plural",
    "spelled",
]

NBSP = "\u00a0"
DASH = "–"


def is_missing(value: Any) -> bool:
    """Whether a value is None or not a finite number."""
    return value is None or (isinstance(value, (int, float)) and not math.isfinite(value))


def number(value: float | None, unit: str | None = None) -> str:
    """A value as it is read: proportions in percent, counts without decimals.

    Examples
    --------
    >>> number(0.3125, "proportion"), number(0.6812, "AUC"), number(None)
    ('31.2\\xa0%', '0.681', '–')
    """
    if value is None or is_missing(value):
        return DASH
    value = float(value)
    if unit == "proportion":
        digits = 1 if abs(value) < 0.9995 or value > 1 else 0
        return f"{100 * value:.{digits}f}{NBSP}%".replace("-", "−")
    if unit in ("rank", "count"):
        return f"{value:,.1f}".removesuffix(".0").replace("-", "−")
    size = abs(value)
    digits = 3 if size < 10 else 2 if size < 100 else 1
    return f"{value:.{digits}f}".replace("-", "−")


def fixed(value: float | None, digits: int = 2) -> str:
    """A value with so many decimals and a proper minus sign.

    Examples
    --------
    >>> fixed(-0.216), fixed(None)
    ('−0.22', '–')
    """
    return DASH if value is None or is_missing(value) else f"{value:.{digits}f}".replace("-", "−")


def interval(lo: float | None, hi: float | None, unit: str | None = None) -> str:
    """An interval in brackets, the unit only once; empty where there is none.

    Examples
    --------
    >>> interval(0.25, 0.375, "proportion")
    '[25.0, 37.5]'
    """
    if is_missing(lo) or is_missing(hi):
        return ""
    a, b = (number(x, unit).removesuffix(f"{NBSP}%") for x in (lo, hi))
    return f"[{a}, {b}]"


def p_value(p: float | None) -> str:
    """A p value as it is read.

    Examples
    --------
    >>> p_value(0.0004), p_value(0.0123), p_value(1.0), p_value(None)
    ('< 0.001', '0.012', '1', '–')
    """
    if p is None or is_missing(p):
        return DASH
    if p < 0.001:
        return f"<{NBSP}0.001".replace(NBSP, " ")
    if p >= 0.9995:
        return "1"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Examples
    --------
    >>> plural(1, "fold"), plural(1200, "trial"), plural(2, "category", "categories")
    ('1 fold', '1,200 trials', '2 categories')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


_SMALL = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def spelled(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun, small counts as words.

    Examples
    --------
    >>> spelled(2, "head"), spelled(12, "head")
    ('two heads', '12 heads')
    """
    noun = one if count == 1 else many or one + "s"
    return f"{_SMALL[count] if 0 <= count < len(_SMALL) else format(count, ',')} {noun}"


SOURCES = {
    "gray": "a plain gray image",
    "mean-image": "the mean of the training images",
    "noise": "decoded from noise",
    "shuffled": "decoded from another trial's EEG",
    "predicted-class": "drawn from the decoded category's name",
    "true-class": "drawn from the true category's name",
    "real": "training images in place of drawn ones",
    "reference": "the image that was shown, itself",
    "reference-vae": "the image that was shown, through the generator's own coding and back",
    "wrong-class": "drawn from the captions of an image of another category",
}
"""What prompt sources beyond floor and ceiling are."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "Trial",
        "One stretch of EEG around the moment an image was shown. Everything here was decoded from "
        "trials that took no part in training.",
    ),
    (
        "Caption kind, head, level",
        "Ten kinds of caption describe an image, from its main object (low level) over its place "
        "and layout (mid level) to its mood and story (high level). A head is the part of the "
        "decoder that serves one kind.",
    ),
    (
        "Candidate pool",
        "The captions among which a head searches. Prompts for images are made from captions of "
        "training images; retrieval is scored among captions of test images. A larger pool is "
        "harder, so the pool is always named.",
    ),
    (
        "Chance",
        "What comes out when the EEG tells nothing: the same score after the link between trials and "
        "images was shuffled many times. p is the share of shuffles that do at least as well; "
        "Holm p corrects it for the number of scores tested together. Where it says “in class”, "
        "images were shuffled only within their category: what knowing the category alone gives.",
    ),
    (
        "Floor",
        "Images drawn by the same generator from random captions of the pool; for caption scores, "
        "the captions of a random image. A score at the floor means that the EEG added nothing.",
    ),
    (
        "Ceiling",
        "Images drawn from the reference's own captions: the best this generator can do with "
        "words; for caption scores, those captions themselves. Often not 100 %, for words leave "
        "things out.",
    ),
    (
        "Within class",
        "Compared only with other images of the same category. Knowing the category alone cannot "
        "lift such a score, so it shows what was decoded beyond the category.",
    ),
    (
        "Interval",
        "In brackets: 95 % interval from drawing the images again and again with replacement. n "
        "counts images, not trials, where several trials show the same image.",
    ),
    (
        "Similarity and confidence",
        "Similarity is the cosine between the EEG's embedding and a caption's; it is not comparable "
        "between heads. Confidence is made from it on validation trials so that it is, from 0 to 1.",
    ),
    (
        "Reference and reconstruction",
        "The image that was shown, and the one drawn from the EEG through words.",
    ),
)
