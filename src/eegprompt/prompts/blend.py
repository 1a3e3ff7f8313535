"""Between prompts: the retrieved captions' prompt embeddings, interpolated by similarity.

Joining text makes a sentence that no one wrote and may be cut. A generator that takes prompt
embeddings can be shown the weighted mean of several captions' embeddings instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.prompts.join import ORDERS, in_words, too_long
from eegprompt.prompts.prompt import HeadCaption, Prompt, clean, same, styled

if TYPE_CHECKING:
    import torch

__all__ = ["blend", "interpolate"]

_LEAST = 0.01  # captions of a smaller share are left out
_DIGITS = 3


def blend(
    captions: Sequence[HeadCaption],
    count_tokens: Callable[[str], int],
    max_tokens: int | None,
    order: str = "kinds",
    *,
    temperatures: Mapping[str, float] | None = None,
    style: str = "",
) -> Prompt:
    """Weigh the candidates of each head, to interpolate their prompt embeddings.

    Within a head, weights are the softmax of similarity / temperature. Heads have equal shares;
    by `order` ``confidence``, shares that are proportional to how far the confidence of their best
    caption lies above .5 (equal ones where none does).

    Parameters
    ----------
    captions : sequence of HeadCaption
        The best candidates of each head.
    count_tokens, max_tokens
        As for :func:`eegprompt.prompts.compose`; each caption has to fit by itself.
    order : str, default "kinds"
        As there; it orders what is written down and, as ``confidence``, weighs the heads.
    temperatures : mapping of str to float, optional
        By head, greater than 0; .05 where it is not known.
    style : str, default ""
        Put behind every caption.

    Returns
    -------
    Prompt
        With `weights`, rounded to three digits; the same weights are used in generation.

    Raises
    ------
    InputError
        If there is no caption at all.
    TokenBudgetError
        If not even one caption fits.

    Examples
    --------
    >>> near, far = (
    ...     HeadCaption("ObjectSnap", t, 0.9, s) for t, s in (("a cat", 0.5), ("a dog", 0.4))
    ... )
    >>> blend([near, far], len, 77, temperatures={"ObjectSnap": 0.1}).text
    '0.731 a cat + 0.269 a dog'
    """
    if order not in ORDERS:
        raise UnknownNameError("prompt order", order, sorted(ORDERS))
    by_head: dict[str, list[HeadCaption]] = {}
    gone: list[tuple[HeadCaption, str]] = []
    lengths: list[tuple[int, HeadCaption]] = []
    for caption in captions:
        if not clean(caption.text):
            gone.append((caption, "empty"))
            continue
        length = count_tokens(styled(clean(caption.text), style))
        lengths.append((length, caption))
        if max_tokens is not None and length > max_tokens:
            gone.append((caption, "longer than the budget"))
        else:
            by_head.setdefault(caption.head, []).append(caption)
    if not lengths:
        raise InputError("a prompt needs at least one caption that is not empty, got none")
    if not by_head:
        assert max_tokens is not None
        raise too_long(min(lengths, key=lambda pair: pair[0]), max_tokens, len(lengths), style)
    share = _shares(by_head, order)
    weighed: list[tuple[HeadCaption, float]] = []
    for head, own in by_head.items():
        temperature = (temperatures or {}).get(head, 0.05)
        logit = np.array([caption.similarity for caption in own]) / temperature
        weight = np.exp(logit - logit.max())
        weighed += zip(own, (share[head] * weight / weight.sum()).tolist())
    return weigh(weighed, dict_of_lengths(lengths), max_tokens, order, style=style, gone=gone)


def dict_of_lengths(lengths: Sequence[tuple[int, HeadCaption]]) -> dict[str, int]:
    """Tokens by text."""
    return {caption.text: length for length, caption in lengths}


def weigh(
    weighed: Sequence[tuple[HeadCaption, float]],
    lengths: Mapping[str, int],
    max_tokens: int | None,
    order: str,
    *,
    style: str = "",
    gone: Sequence[tuple[HeadCaption, str]] = (),
) -> Prompt:
    """A blend of captions whose weights are known: equal texts once, small shares left out.

    Parameters
    ----------
    weighed : sequence of (HeadCaption, float)
        Captions with their weights; any positive sum.
    lengths : mapping of str to int
        Tokens of each text.
    max_tokens : int or None
        The budget, for the record.
    order : str
        Order of what is written down.
    style : str, default ""
        Put behind every caption.
    gone : sequence of (HeadCaption, str)
        Captions left out before, with the reason.
    """
    gone = list(gone)
    merged: dict[str, tuple[HeadCaption, float]] = {}
    for caption, weight in sorted(weighed, key=lambda pair: ORDERS[order](pair[0])):
        key = same(caption.text)
        if key in merged:
            first, so_far = merged[key]
            merged[key] = (first, so_far + weight)
            gone.append((caption, "duplicate"))
        else:
            merged[key] = (caption, weight)
    total = sum(weight for _, weight in merged.values())
    largest = max(weight for _, weight in merged.values())
    least = min(_LEAST * total, largest)
    gone += [(c, f"weight below {_LEAST}") for c, weight in merged.values() if weight < least]
    pairs = [(c, weight) for c, weight in merged.values() if weight >= least]
    total = sum(weight for _, weight in pairs)
    # Rounded before use, so that what is written down is exactly what is drawn.
    weights = [round(weight / total, _DIGITS) for _, weight in pairs]
    kept = tuple(caption for caption, _ in pairs)
    text = " + ".join(f"{weight:.{_DIGITS}f} {clean(c.text)}" for c, weight in zip(kept, weights))
    n_tokens = max(lengths[caption.text] for caption in kept)
    return Prompt(
        text=styled(text, style),
        n_tokens=n_tokens,
        kept=kept,
        dropped=tuple(caption for caption, _ in gone),
        reasons=tuple(why for _, why in gone),
        reason="blend of embeddings: " + in_words(len(kept), gone, n_tokens, max_tokens),
        weights=tuple(weights),
        style=style,
    )


def _shares(by_head: Mapping[str, Sequence[HeadCaption]], order: str) -> dict[str, float]:
    """What part of the blend each head has."""
    if order == "confidence":
        above = {head: max(own[0].confidence - 0.5, 0.0) for head, own in by_head.items()}
        if any(above.values()):
            return above
    return dict.fromkeys(by_head, 1.0)


def interpolate(
    embeddings: Mapping[str, torch.Tensor], weights: Sequence[float]
) -> dict[str, torch.Tensor]:
    """Weighted mean of prompt embeddings, with the length of what it was made from.

    The mean of vectors is shorter than they are, and a shorter embedding is a weaker prompt. So
    each vector of the mean is scaled to the weighted mean of the lengths of those it came from; a
    single prompt comes back as it is. Masks (whole numbers and truth values) are united, and a
    prompt has no share in a vector that its own mask hides.

    Parameters
    ----------
    embeddings : mapping of str to tensor (n_prompts, …, n_dims)
        As from a generator's ``embed_prompts``.
    weights : sequence of float, length n_prompts
        Not negative, with a positive sum; scaled to sum 1.

    Returns
    -------
    dict of str to tensor (1, …, n_dims)
        Of the same types.

    Raises
    ------
    InputError
        If counts differ or the weights do not sum to something.
    """
    import torch

    share = torch.tensor(list(weights), dtype=torch.float32)
    if (share < 0).any() or not share.sum() > 0:
        raise InputError(
            f"weights must not be negative and sum to more than 0, got {list(weights)}"
        )
    share = share / share.sum()
    masks = [rows for rows in embeddings.values() if not rows.is_floating_point()]
    result = {}
    for name, rows in embeddings.items():
        if len(rows) != len(share):
            raise InputError(
                f"{len(rows)} embeddings '{name}' need as many weights, got {len(share)}"
            )
        if not rows.is_floating_point():
            result[name] = rows.amax(0, keepdim=True)
            continue
        if len(rows) == 1:
            result[name] = rows
            continue
        values = rows.float()
        each = share.to(rows.device).view(-1, *[1] * (rows.ndim - 1)).expand(*rows.shape[:-1], 1)
        for mask in masks:
            if mask.shape == rows.shape[:-1]:
                shown = each * mask.unsqueeze(-1).to(each)
                total = shown.sum(0, keepdim=True)
                # Where all are hidden it does not matter what stands there.
                each = torch.where(total > 0, shown / total.clamp_min(1e-12), each)
        mean = (each * values).sum(0, keepdim=True)
        length = (each * values.norm(dim=-1, keepdim=True)).sum(0, keepdim=True)
        mean = mean * (length / mean.norm(dim=-1, keepdim=True).clamp_min(1e-12))
        result[name] = mean.to(rows.dtype)
    return result
