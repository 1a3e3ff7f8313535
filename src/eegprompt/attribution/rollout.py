"""Which electrodes the encoder's own spatial attention looks at, for each head.

A rollout multiplies attention along the way from input to output (Abnar and Zuidema 2020). Here the
way is short: filters attend to electrodes, and a head listens to filters. How much it listens is
taken from the gradient of its loss times the filter's output, for attention alone says where a
filter looks and not whether anyone uses it.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from eegprompt.attribution.question import Question, evaluating

__all__ = ["SpatialFilters", "attention_rollout"]


@runtime_checkable
class SpatialFilters(Protocol):
    """An encoder whose first layer are spatial filters, as a rollout needs it."""

    stem: nn.Module
    """The submodule whose first input are the filtered signals (…, n_filters, n_samples)."""

    def spatial_attention(self, positions: Tensor, subject: int | None = None) -> Tensor:
        """Filters for a montage, signed (n_filters, n_chans)."""
        ...


def attention_rollout(
    question: Question,
    *,
    filters: SpatialFilters,
    batch_size: int = 64,
) -> dict[str, np.ndarray]:
    """Attention to each electrode, weighted by how much each head uses each spatial filter.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    filters : SpatialFilters
        The encoder, or its innermost part.
    batch_size : int
        Trials at a time.

    Returns
    -------
    dict of str to array (n_chans,)
        By head; sums to one. Zero where a head uses no filter.
    """
    caught: list[Tensor] = []

    def catch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0])

    who, positions = question.subject, question.tensor(question.positions)
    n_subjects = 0 if who is None else int(who.max()) + 1
    total: dict[str, Any] = dict.fromkeys(question.heads, 0.0)
    hook = filters.stem.register_forward_pre_hook(catch)
    try:
        with evaluating(question.encoder), torch.enable_grad():
            looks = {
                s: torch.as_tensor(filters.spatial_attention(positions, s)).abs()
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
