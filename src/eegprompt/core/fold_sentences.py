"""Notes and warnings of folds, said once: what differs in numbers alone becomes one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["merge_sentences"]

# A number that stands by itself; digits in a name ('img-12', alex2) are part of the name.
_NUMBER = re.compile(r"(?<![\w\-./'\"])\d[\d,]*(?:\.\d+)?(?![\w\-/'\"]|\.\d)")
_EXAMPLES = re.compile(r"\(first: [^)]*\)")


def merge_sentences(
    by_fold: Sequence[Iterable[str]], names: Sequence[str] | None = None
) -> list[str]:
    """Sentences of several folds, each once.

    Sentences that differ only in numbers, or in the examples that they give after "first:", become
    one: with the range of each number, and the examples of the first fold.

    Parameters
    ----------
    by_fold : sequence of iterables of str
        The sentences of each fold.
    names : sequence of str, optional
        What the folds are called; a sentence that not every fold has says which do.

    Returns
    -------
    list of str
        In the order in which they first came.

    Examples
    --------
    >>> merge_sentences([["8 images are on two sides"], ["6 images are on two sides"]])
    ['6 to 8 images are on two sides']
    >>> merge_sentences([["no p"], [], ["no p"]], ["fold 0", "fold 1", "fold 2"])
    ['no p (fold 0, fold 2)']
    """
    found: dict[str, dict[int, str]] = {}
    for index, sentences in enumerate(by_fold):
        for sentence in dict.fromkeys(str(s) for s in sentences):
            template = _NUMBER.sub("#", _EXAMPLES.sub("(first: …)", sentence))
            found.setdefault(template, {}).setdefault(index, sentence)
    merged = []
    for by_index in found.values():
        text = _ranged(list(by_index.values()))
        if names is not None and len(by_index) < len(by_fold):
            where = f" ({', '.join(names[i] for i in by_index)})"
            text = text[:-1] + where + "." if text.endswith(".") else text + where
        merged.append(text)
    return merged


def _ranged(sentences: list[str]) -> str:
    """One sentence for several of one form, each number with its range."""
    first = sentences[0]
    if len(set(sentences)) == 1:
        return first
    bare = [_EXAMPLES.sub("(first: …)", s) for s in sentences]
    columns = [list(c) for c in zip(*(_NUMBER.findall(s) for s in bare))]
    ranges = []
    for column in columns:
        order = sorted(column, key=lambda text: float(text.replace(",", "")))
        ranges.append(order[0] if order[0] == order[-1] else f"{order[0]} to {order[-1]}")
    parts = _NUMBER.split(bare[0])
    text = "".join(p + r for p, r in zip(parts, [*ranges, ""]))
    for example in _EXAMPLES.findall(first):
        text = text.replace("(first: …)", example, 1)
    return text
