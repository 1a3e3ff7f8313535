"""A caption that a head retrieved, and a prompt with its history."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HeadCaption", "Prompt", "head_captions"]


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
        In [0, 1], comparable across heads; .5 is what a random caption gets.
    similarity : float, default 0
        Cosine of the head's embedding and the caption's; comparable within a head only.
    """

    head: str
    text: str
    confidence: float
    similarity: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {"head": self.head, "text": self.text, "confidence": float(self.confidence)}


def head_captions(
    table: pd.DataFrame, trial_ids: np.ndarray, per_head: int
) -> list[list[HeadCaption]]:
    """The best captions of every head, a list a trial, in the order of `trial_ids`."""
    rows = table[table["rank"] <= per_head].sort_values(["trial_id"], kind="stable")
    by_trial: dict[int, list[HeadCaption]] = {int(trial): [] for trial in trial_ids}
    for trial, head, text, confidence, similarity in zip(
        rows["trial_id"], rows["head"], rows["text"], rows["confidence"], rows["similarity"]
    ):
        if int(trial) in by_trial:
            by_trial[int(trial)].append(
                HeadCaption(head, text, float(confidence), float(similarity))
            )
    for trial, said in by_trial.items():
        if not said:
            raise RunError(f"trial {trial} was not decoded; run 'eegprompt decode RUN' again")
    return list(by_trial.values())


@dataclass(frozen=True)
class Prompt:
    """A prompt and how it came about.

    Parameters
    ----------
    text : str
        What the generator is given; for a blend, its captions with their weights.
    n_tokens : int
        Its length, counted by the generator's own tokenizer, begin and end marks included; for a
        blend, that of its longest caption.
    kept : tuple of HeadCaption
        The captions in it, in their order.
    dropped : tuple of HeadCaption
        The captions left out: by selection first, then in the order in which they went.
    reasons : tuple of str
        Why each was left out: by selection (``abstains``, ``not among the 2 most confident``, …),
        or ``empty``, ``duplicate``, ``near duplicate``, ``longer than the budget``, ``budget`` or
        ``weight below 0.01``.
    reason : str
        The choice in a sentence.
    why : tuple of str
        Why the head of each caption in `kept` speaks; empty where nothing was selected.
    weights : tuple of float
        Share of each caption in a blend of prompt embeddings, in (0, 1], sum 1; empty for a text.
    style : str
        What stands at the end of the text, or of every caption of a blend.
    """

    text: str
    n_tokens: int
    kept: tuple[HeadCaption, ...]
    dropped: tuple[HeadCaption, ...] = ()
    reasons: tuple[str, ...] = ()
    reason: str = ""
    why: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    style: str = ""

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads that speak in the prompt, each once."""
        return tuple(dict.fromkeys(caption.head for caption in self.kept))

    @property
    def parts(self) -> tuple[tuple[str, float], ...]:
        """Texts whose embeddings are blended, with their weights; empty for a text prompt."""
        return tuple(
            (styled(clean(caption.text), self.style), weight)
            for caption, weight in zip(self.kept, self.weights)
        )


def clean(text: str) -> str:
    """A caption as part of a list: no outer spaces, no closing period or comma."""
    return " ".join(text.split()).rstrip(".,;: ")


def same(text: str) -> str:
    """Equal for texts that differ in case, spaces, closing marks and Unicode form alone."""
    return unicodedata.normalize("NFKC", clean(text)).casefold()


def styled(text: str, style: str) -> str:
    """A text with the style suffix behind it."""
    return ", ".join(part for part in (text, clean(style)) if part)
