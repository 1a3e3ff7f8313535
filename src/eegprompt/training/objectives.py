"""What training minimizes: how far a trial's embedding lies from its image's caption, head by head.

Every objective is a torch module called as ``objective(eeg, captions, positives)`` and returns the
mean over heads and the loss of each head. :attr:`scales` turns cosines into logits afterwards, for
example into class probabilities; for the contrastive objectives it is learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eegprompt.core.errors import InputError

__all__ = [
    "ClipObjective",
    "MseObjective",
    "SiglipObjective",
    "SinglePositiveClipObjective",
    "soft_targets",
]

Losses = tuple[Tensor, dict[str, Tensor]]


def soft_targets(positives: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Spread each row's target evenly over its positives.

    Parameters
    ----------
    positives : bool tensor (..., n_queries, n_candidates)
        Which candidates are right answers; at least one in each row.
    label_smoothing : float
        Share of the target, in [0, 1), that is spread over all candidates instead.

    Returns
    -------
    float tensor (..., n_queries, n_candidates)
        Each row sums to one.

    Examples
    --------
    >>> soft_targets(torch.tensor([[True, True, False]]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    weights = positives.to(torch.get_default_dtype())
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (1 - label_smoothing) * weights + label_smoothing / positives.shape[-1]


class _Objective(nn.Module):
    """What the objectives share: heads, label smoothing, and the mean over heads."""

    def __init__(self, heads: Sequence[str], label_smoothing: float = 0.0):
        super().__init__()
        if not heads:
            raise InputError("an objective needs at least one head, got none")
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.heads = tuple(heads)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        eeg: Mapping[str, Tensor],
        captions: Mapping[str, Tensor],
        positives: Mapping[str, Tensor],
    ) -> Losses:
        """Compare trials with captions; row i of both belongs together.

        Parameters
        ----------
        eeg : mapping of head to float tensor (n_trials, n_dims)
            Embeddings of the trials; need not be normalized.
        captions : mapping of head to float tensor (n_trials, n_dims)
            Embeddings of each trial's caption; need not be normalized.
        positives : mapping of head to bool tensor (n_trials, n_trials)
            Whether caption j is a right answer for trial i; true on the diagonal.

        Returns
        -------
        loss : float tensor, ()
            Mean over heads, in nats (``mse``: squared distance on the unit sphere).
        per_head : dict of head to float tensor, ()
            The loss of each head.
        """
        query = F.normalize(torch.stack([eeg[head] for head in self.heads]), dim=2)
        target = F.normalize(torch.stack([captions[head] for head in self.heads]), dim=2)
        right = torch.stack([positives[head] for head in self.heads])
        losses = self.compare(query, target, right)
        return losses.mean(), dict(zip(self.heads, losses))

    def compare(self, query: Tensor, target: Tensor, positives: Tensor) -> Tensor:
        """Loss of each head, (n_heads,), from unit vectors (n_heads, n_trials, n_dims)."""
        raise TypeError("an objective defines compare")

    @property
    def scales(self) -> dict[str, float]:
        """Inverse temperature of each head: what turns its cosines into logits."""
        raise TypeError("an objective defines scales")


class ClipObjective(_Objective):
    """Symmetric multi-positive InfoNCE with a learnable temperature for each head.

    Cross-entropy of the softmax over the batch's captions for each trial, and over its trials for
    each caption, averaged. Where several captions are right (same image, same text or meaning),
    the target is spread evenly over them (as in supervised contrastive learning, Khosla et al.
    2020, equation 2); captions that merely share a class stay negatives.

    Parameters
    ----------
    heads : sequence of str
        Names of the heads.
    label_smoothing : float
        In [0, 1).
    temperature : float
        Initial temperature; .07 as in CLIP (Radford et al. 2021).

    Raises
    ------
    InputError
        If there is no head or a value is out of range.
    """

    MAX_SCALE = 100.0

    def __init__(
        self, heads: Sequence[str], label_smoothing: float = 0.0, temperature: float = 0.07
    ):
        super().__init__(heads, label_smoothing)
        if not temperature > 0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.log_scale = nn.Parameter(torch.full((len(self.heads),), -math.log(temperature)))

    def compare(self, query: Tensor, target: Tensor, positives: Tensor) -> Tensor:
        """Loss of each head, (n_heads,), from unit vectors (n_heads, n_trials, n_dims), in nats."""
        scale = self.log_scale.exp().clamp(max=self.MAX_SCALE)[:, None, None]
        logits = scale * query @ target.mT
        to_caption = soft_targets(positives, self.label_smoothing)
        to_trial = soft_targets(positives.mT, self.label_smoothing)
        forward = -(to_caption * logits.log_softmax(dim=2)).sum(dim=2).mean(dim=1)
        backward = -(to_trial * logits.mT.log_softmax(dim=2)).sum(dim=2).mean(dim=1)
        return (forward + backward) / 2

    @property
    def scales(self) -> dict[str, float]:
        """Inverse temperature of each head, in (0, 100]."""
        values = self.log_scale.detach().exp().clamp(max=self.MAX_SCALE).tolist()
        return dict(zip(self.heads, values))


class SinglePositiveClipObjective(ClipObjective):
    """As :class:`ClipObjective`, but only a trial's own caption is right for it.

    The other trials of the same image and equal captions then count as wrong. There for comparison.
    """

    def compare(self, query: Tensor, target: Tensor, positives: Tensor) -> Tensor:
        """Loss of each head, (n_heads,), from unit vectors (n_heads, n_trials, n_dims), in nats."""
        own = torch.eye(positives.shape[-1], dtype=torch.bool, device=positives.device)
        return super().compare(query, target, own.expand_as(positives))


class SiglipObjective(_Objective):
    """Pairwise sigmoid loss: each trial-caption pair is right or wrong on its own.

    After Zhai et al. 2023 (arXiv:2303.15343), whose diagonal of positives becomes the matrix of
    right answers; summed over captions and averaged over trials.

    Parameters
    ----------
    heads : sequence of str
        Names of the heads.
    label_smoothing : float
        In [0, 1); moves both targets toward one half.
    """

    def __init__(self, heads: Sequence[str], label_smoothing: float = 0.0):
        super().__init__(heads, label_smoothing)
        self.log_scale = nn.Parameter(torch.full((len(self.heads),), math.log(10.0)))
        self.bias = nn.Parameter(torch.full((len(self.heads),), -10.0))

    def compare(self, query: Tensor, target: Tensor, positives: Tensor) -> Tensor:
        """Loss of each head, (n_heads,), from unit vectors (n_heads, n_trials, n_dims), in nats."""
        scale, bias = self.log_scale.exp()[:, None, None], self.bias[:, None, None]
        logits = scale * query @ target.mT + bias
        labels = positives.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return loss.sum(dim=2).mean(dim=1)

    @property
    def scales(self) -> dict[str, float]:
        """Inverse temperature of each head."""
        return dict(zip(self.heads, self.log_scale.detach().exp().tolist()))


class MseObjective(_Objective):
    """Squared distance on the unit sphere between a trial's embedding and its own caption's.

    It contrasts nothing: the other captions of the batch play no part. There for comparison.

    Parameters
    ----------
    heads : sequence of str
        Names of the heads.
    label_smoothing : float
        Not used; accepted so that objectives can be exchanged.
    """

    SCALE = 1 / 0.07  # nothing is learned; CLIP's initial inverse temperature

    def compare(self, query: Tensor, target: Tensor, positives: Tensor) -> Tensor:
        """Loss of each head, (n_heads,), from unit vectors (n_heads, n_trials, n_dims), in [0, 4]."""
        return (query - target).square().sum(dim=2).mean(dim=1)

    @property
    def scales(self) -> dict[str, float]:
        """A fixed inverse temperature."""
        return dict.fromkeys(self.heads, self.SCALE)
