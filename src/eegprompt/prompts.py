"""From retrieved captions to one prompt within a token budget.

Text-to-image models cut what they cannot read, and say so only in a log. Here whole captions are
left out instead, the least trusted first, and what was left out is recorded with the reason.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eegprompt.errors import InputError, TokenBudgetError, UnknownNameError
from eegprompt.kinds import KINDS

__all__ = ["ORDERS", "HeadCaption", "Prompt", "compose"]


@dataclass(frozen=True)
class HeadCaption:
    """One caption that a head retrieved.

    Parameters
    ----------
    head : str
        The head, named after its caption kind.
    text : str
        The caption.
    confidence : float
        In [0, 1], comparable across heads.
    """

    head: str
    text: str
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {"head": self.head, "text": self.text, "confidence": float(self.confidence)}


@dataclass(frozen=True)
class Prompt:
    """A prompt and how it came about.

    Parameters
    ----------
    text : str
        What the generator is given.
    n_tokens : int
        Its length, counted by the generator's own tokenizer, begin and end marks included.
    kept : tuple of HeadCaption
        The captions in it, in their order.
    dropped : tuple of HeadCaption
        The captions left out, in the order in which they went.
    reasons : tuple of str
        Why each was left out: ``empty``, ``duplicate``, ``longer than the budget`` or ``budget``.
    reason : str
        The choice in a sentence.
    """

    text: str
    n_tokens: int
    kept: tuple[HeadCaption, ...]
    dropped: tuple[HeadCaption, ...] = ()
    reasons: tuple[str, ...] = ()
    reason: str = ""

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads that speak in the prompt, each once."""
        return tuple(dict.fromkeys(caption.head for caption in self.kept))


def _by_kind(caption: HeadCaption) -> int:
    kind = KINDS.get(caption.head)
    return kind.prompt_order if kind is not None else len(KINDS)


# Name of an order -> sort key of a caption; sorting is stable.
ORDERS: dict[str, Callable[[HeadCaption], Any]] = {
    "kinds": _by_kind,
    "confidence": lambda caption: -caption.confidence,
}


def _clean(text: str) -> str:
    """A caption as part of a list: no outer spaces, no closing period or comma."""
    return " ".join(text.split()).rstrip(".,;: ")


def _same(text: str) -> str:
    return unicodedata.normalize("NFKC", _clean(text)).casefold()


def compose(
    captions: Sequence[HeadCaption],
    count_tokens: Callable[[str], int],
    max_tokens: int,
    order: str = "kinds",
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
    max_tokens : int
        The most it reads, begin and end marks included.
    order : str, default "kinds"
        ``kinds``: in level order, what is seen before what it means. ``confidence``: the most
        trusted first.

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
    """
    if order not in ORDERS:
        raise UnknownNameError("prompt order", order, sorted(ORDERS))
    if max_tokens < 1:
        raise TokenBudgetError(f"the token budget must be at least 1, got {max_tokens}")
    gone: list[tuple[HeadCaption, str]] = []
    seen: set[str] = set()
    kept: list[HeadCaption] = []
    lengths: list[tuple[int, HeadCaption]] = []
    for caption in sorted(captions, key=ORDERS[order]):
        if not _clean(caption.text):
            gone.append((caption, "empty"))
        elif _same(caption.text) in seen:
            gone.append((caption, "duplicate"))
        else:
            seen.add(_same(caption.text))
            kept.append(caption)
    if not kept:
        raise InputError("a prompt needs at least one caption that is not empty, got none")

    def joined(parts: Sequence[HeadCaption]) -> str:
        return ", ".join(_clean(part.text) for part in parts)

    n_tokens = count_tokens(joined(kept))
    if n_tokens > max_tokens:
        lengths = [(count_tokens(_clean(caption.text)), caption) for caption in kept]
        fitting = [caption for length, caption in lengths if length <= max_tokens]
        if not fitting:
            length, shortest = min(lengths, key=lambda pair: pair[0])
            raise TokenBudgetError(
                f"the generator reads {max_tokens} tokens, but the shortest of {len(kept)} captions "
                f"('{shortest.text[:60]}') has {length}; write shorter captions or use a generator "
                "that reads more"
            )
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
        reason=_in_words(len(captions), gone, n_tokens, max_tokens),
    )


def _in_words(n: int, gone: list[tuple[HeadCaption, str]], n_tokens: int, max_tokens: int) -> str:
    fits = f"{n_tokens} of {max_tokens} tokens"
    if not gone:
        return f"all {n} captions fit ({fits})"
    because: dict[str, list[str]] = {}
    for caption, why in gone:
        because.setdefault(why, []).append(caption.head)
    parts = [f"{', '.join(heads)}: {why}" for why, heads in because.items()]
    return f"{n - len(gone)} of {n} captions kept ({fits}); left out {'; '.join(parts)}"
