"""Which electrodes the encoder's own spatial attention looks at, for each head.

A rollout multiplies attention along the way from input to output (Abnar and Zuidema 2020). Here the
way is short: filters attend to electrodes, and a head listens to filters. How much it listens is
taken from the gradient of its loss times the filter's output, for attention alone says where a
filter looks and not whether anyone uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eegprompt.attribution.question import Question, evaluating
from eegprompt.core.errors import InputError

__all__ = ["attention_rollout"]


def attention_rollout(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    after: nn.Module | None = None,
    batch_size: int = 64,
) -> dict[str, np.ndarray]:
    """Attention to each electrode, weighted by how much each head uses each spatial filter.

    Parameters
    ----------
    encoder : torch.nn.Module
        With a method ``spatial_attention(positions, subject)`` that returns signed filters
        (n_filters, n_chans).
    trials, captions, positions, subject, candidates, scales
        As in :func:`eegprompt.attribution.gradients.saliency`.
    after : torch.nn.Module, optional
        The submodule whose first input are the filtered signals (…, n_filters, n_samples);
        ``encoder.stem`` if not given.
    batch_size : int
        Trials at a time.

    Returns
    -------
    dict of str to array (n_chans,)
        By head; sums to one. Zero where a head uses no filter.

    Raises
    ------
    InputError
        If the encoder has no spatial attention.
    """
    attend = getattr(encoder, "spatial_attention", None)
    after = after if after is not None else getattr(encoder, "stem", None)
    if attend is None or after is None:
        raise InputError(
            f"{type(encoder).__name__} has no spatial attention to roll out: it needs a method "
            "spatial_attention(positions, subject) and a submodule 'stem' behind it"
        )
    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    caught: list[Tensor] = []

    def catch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0])

    who = question.subject
    n_subjects = 0 if who is None else int(who.max()) + 1
    total: dict[str, Any] = dict.fromkeys(question.heads, 0.0)
    hook = after.register_forward_pre_hook(catch)
    try:
        with evaluating(encoder), torch.enable_grad():
            looks = {
                s: torch.as_tensor(attend(question.positions, s)).abs()
                for s in (None, *range(n_subjects))
            }
            for rows, eeg in question.batches(batch_size):
                caught.clear()
                losses = question.losses(eeg.requires_grad_(), rows)
                signals = caught[-1]
                subjects = [None] * len(rows) if who is None else who[rows].tolist()
                attention = torch.stack(
                    [looks[None if s is None or s < 0 else s] for s in subjects]
                )
                for place, (head, loss) in enumerate(losses.items()):
                    last = place == len(losses) - 1
                    (gradient,) = torch.autograd.grad(loss.sum(), signals, retain_graph=not last)
                    use = (gradient * signals.detach()).abs().sum(dim=2)  # (n, n_filters)
                    total[head] = total[head] + torch.einsum("nf,nfc->c", use, attention).detach()
    finally:
        hook.remove()
    return {head: _share(value.cpu().numpy()) for head, value in total.items()}


def _share(values: np.ndarray) -> np.ndarray:
    whole = values.sum()
    return values / whole if whole > 0 else np.zeros_like(values)
