"""The tokenizer of the built-in CLIP: byte-level BPE in CLIP's format, one token a grammar word."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from eegprompt.builtin.training.phrasing import words

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["MAX_LENGTH", "build_tokenizer", "learn_merges"]

MAX_LENGTH = 77


def _byte_characters() -> list[str]:
    """One printable character a byte, as in GPT-2's and CLIP's vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def learn_merges(vocabulary: tuple[str, ...]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until every word is a single token.

    The most frequent pair is merged first, and of equals the first in the alphabet: the result
    depends on nothing but the words. They must be ASCII.
    """
    splits = {word: [*word[:-1], word[-1] + "</w>"] for word in vocabulary}
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for s in splits.values() for pair in itertools.pairwise(s))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, s in splits.items():
            merged: list[str] = []
            for part in s:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            splits[word] = merged


def build_tokenizer(**kwargs: Any) -> CLIPTokenizer:
    """Build the tokenizer from the grammar's words; unknown words fall into pieces."""
    from transformers import CLIPTokenizer

    characters = _byte_characters()
    merges = learn_merges(words())
    tokens = characters + [c + "</w>" for c in characters]
    tokens += [a + b for a, b in merges]
    tokens = [*list(dict.fromkeys(tokens)), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,  # type: ignore[arg-type]
        model_max_length=MAX_LENGTH,
        **kwargs,
    )
