"""From captions to one text within a token budget.

Text-to-image models cut what they cannot read, and say so only in a log. Here whole captions are
left out instead, the least trusted first, and what was left out is recorded with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from eegprompt.core.errors import InputError, TokenBudgetError, UnknownNameError
from eegprompt.core.kinds import KINDS
from eegprompt.prompts.prompt import HeadCaption, Prompt, clean, same, styled

__all__ = ["DEDUPLICATE", "ORDERS", "compose"]


def _by_kind(caption: HeadCaption) -> float:
    kind = KINDS.get(caption.head)
    return kind.prompt_order if kind is not None else len(KINDS)


# Name of an order -> sort key of a caption; sorting is stable.
ORDERS: dict[str, Callable[[HeadCaption], Any]] = {
    "kinds": _by_kind,
    "confidence": lambda caption: -caption.confidence,
    "object-first": lambda caption: (caption.head != "ObjectSnap", -caption.confidence),
}
DEDUPLICATE = ("exact", "near")


def compose(
    captions: Sequence[HeadCaption],
    count_tokens: Callable[[str], int],
    max_tokens: int | None,
    order: str = "kinds",
    *,
    deduplicate: str = "exact",
    style: str = "",
) -> Prompt:
    """Join captions into one prompt that the generator reads to the end.

    Captions are joined by ``", "``. Of equal texts the first is kept. While the prompt is too
    long, the caption of lowest confidence goes, whole; of equal confidences the later one. A
    caption that is too long by itself goes first, so that it cannot push out the others.

    Parameters
    ----------
    captions : sequence of HeadCaption
        What the heads retrieved.
    count_tokens : callable
        From a text to its number of tokens, by the generator's own tokenizer.
    max_tokens : int or None
        The most it reads, begin and end marks included; None where it reads any length.
    order : str, default "kinds"
        ``kinds``: in level order, what is seen before what it means. ``confidence``: the most
        trusted first. ``object-first``: the main object, then the most trusted.
    deduplicate : str, default "exact"
        ``exact``: texts that differ in case, spaces and closing marks alone count as equal.
        ``near``: also those that differ in articles and endings of words (``a dog runs`` and
        ``the dog running``).
    style : str, default ""
        Put at the end of the prompt; part of the budget and never left out.

    Returns
    -------
    Prompt
        Never longer than `max_tokens`, never empty.

    Raises
    ------
    InputError
        If there is no caption at all.
    TokenBudgetError
        If not even one caption fits.

    Examples
    --------
    >>> words = lambda text: len(text.replace(",", "").split())
    >>> cat = HeadCaption("ObjectSnap", "a cat", 0.9)
    >>> mood = HeadCaption("MoodFeel", "a calm mood", 0.6)
    >>> compose([mood, cat], words, 5).text
    'a cat, a calm mood'
    >>> compose([mood, cat], words, 4).text
    'a cat'
    >>> compose([mood, cat], words, 4, style="oil painting").text
    'a cat, oil painting'
    """
    if order not in ORDERS:
        raise UnknownNameError("prompt order", order, sorted(ORDERS))
    if deduplicate not in DEDUPLICATE:
        raise UnknownNameError("way to deduplicate", deduplicate, DEDUPLICATE)
    if max_tokens is not None and max_tokens < 1:
        raise TokenBudgetError(f"the token budget must be at least 1, got {max_tokens}")
    gone: list[tuple[HeadCaption, str]] = []
    seen: set[Any] = set()
    kept: list[HeadCaption] = []
    for caption in sorted(captions, key=ORDERS[order]):
        key, near = same(caption.text), _said(caption.text)
        if not clean(caption.text):
            gone.append((caption, "empty"))
        elif key in seen:
            gone.append((caption, "duplicate"))
        elif deduplicate == "near" and near in seen:
            gone.append((caption, "near duplicate"))
        else:
            seen |= {key, near}
            kept.append(caption)
    if not kept:
        raise InputError("a prompt needs at least one caption that is not empty, got none")

    def joined(parts: Sequence[HeadCaption]) -> str:
        return styled(", ".join(clean(part.text) for part in parts), style)

    n_tokens = count_tokens(joined(kept))
    if max_tokens is not None and n_tokens > max_tokens:
        lengths = [(count_tokens(joined([caption])), caption) for caption in kept]
        fitting = [caption for length, caption in lengths if length <= max_tokens]
        if not fitting:
            raise too_long(min(lengths, key=lambda pair: pair[0]), max_tokens, len(kept), style)
        gone += [(c, "longer than the budget") for length, c in lengths if length > max_tokens]
        kept = fitting
        while (n_tokens := count_tokens(joined(kept))) > max_tokens:
            worst = min(range(len(kept)), key=lambda i: (kept[i].confidence, -i))
            gone.append((kept.pop(worst), "budget"))
    return Prompt(
        text=joined(kept),
        n_tokens=n_tokens,
        kept=tuple(kept),
        dropped=tuple(caption for caption, _ in gone),
        reasons=tuple(why for _, why in gone),
        reason=in_words(len(kept), gone, n_tokens, max_tokens),
        style=style,
    )


def too_long(
    shortest: tuple[int, HeadCaption], max_tokens: int, count: int, style: str
) -> TokenBudgetError:
    """The error where not one caption fits."""
    length, caption = shortest
    behind = f" with the style '{clean(style)}'" if clean(style) else ""
    return TokenBudgetError(
        f"the generator reads {max_tokens} tokens, but the shortest of {count} captions "
        f"('{caption.text[:60]}'){behind} has {length}; write shorter captions or use a generator "
        "that reads more"
    )


def in_words(
    n_kept: int, gone: Sequence[tuple[HeadCaption, str]], n_tokens: int, max_tokens: int | None
) -> str:
    """What was kept and left out, in a sentence."""
    n = n_kept + len(gone)
    fits = f"{n_tokens} tokens" if max_tokens is None else f"{n_tokens} of {max_tokens} tokens"
    if not gone:
        return f"all {n} captions fit ({fits})" if n > 1 else f"one caption ({fits})"
    because: dict[str, list[str]] = {}
    for caption, why in gone:
        heads = because.setdefault(why, [])
        if caption.head not in heads:
            heads.append(caption.head)
    parts = [f"{', '.join(heads)}: {why}" for why, heads in because.items()]
    return f"{n_kept} of {n} captions kept ({fits}); left out {'; '.join(parts)}"


_UNSAID = {"a", "an", "the", "is", "are", "there"}


def _said(text: str) -> tuple[str, ...]:
    """The words of a text without articles and endings, in their order."""
    words = re.findall(r"[^\W_]+", same(text))
    return tuple(_stem(word) for word in words if word not in _UNSAID) or tuple(words)


def _stem(word: str) -> str:
    """A word without its ending: good enough to see that two phrases are the same."""
    for ending in ("ing", "ed", "es", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and not word.endswith("ss"):
            word = stem
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word
