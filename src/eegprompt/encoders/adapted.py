"""An encoder trained on others, adapted to a new person: its answers, and a read-out of that person.

::

    eeg ──┬── the encoder, as it was trained ── embedding, scaled ──┐
          └── window means ── logistic or ridge regression ─────────┴ sum

The read-out is convex and fitted on the person's labeled trials; how much each of the two is worth
is fitted on others of that person's trials. With few trials the encoder speaks alone, nearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eegprompt.core.progress import Progress
from eegprompt.core.registry import resolve
from eegprompt.encoders.branches import BinnedBranch
from eegprompt.encoders.readout import Reduced, Targets, choose, weighed

__all__ = ["AdaptedEncoder"]


class AdaptedEncoder(nn.Module):
    """An encoder and a person's own read-out, each head's answers added.

    Parameters
    ----------
    heads : sequence of str
        Caption kinds, one head each.
    embedding_dim : int
        Dimensions of the text encoder's embeddings.
    n_chans, n_times : int
        Of a trial.
    sfreq : float
        Sampling rate in Hz.
    tmin : float
        Time of the first sample in seconds; the read-out reads from 0 on.
    name : str
        The encoder's registered name.
    base : dict
        The encoder's configuration.
    """

    weight: Tensor
    bias: Tensor
    anchor: Tensor
    base_scale: Tensor
    own_scale: Tensor

    def __init__(
        self,
        *,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        tmin: float,
        name: str,
        base: dict[str, Any],
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "tmin": tmin,
            "name": name,
            "base": base,
        }
        self.heads = tuple(heads)
        make, _ = resolve("encoder", name)
        self.base = make(**base)
        first = max(round(-tmin * sfreq), 0)
        self.first = first if first < n_times else 0
        self.branch = BinnedBranch(n_chans, n_times - self.first, sfreq)
        n_heads = len(self.heads)
        self.register_buffer("weight", torch.zeros(self.branch.n_features, n_heads * embedding_dim))
        for name_ in ("bias", "anchor"):
            self.register_buffer(name_, torch.zeros(n_heads, embedding_dim))
        self.register_buffer("base_scale", torch.ones(n_heads))
        self.register_buffer("own_scale", torch.zeros(n_heads))

    def alone(self, eeg: Tensor, positions: Tensor) -> dict[str, dict[str, Tensor]]:
        """What the encoder and the person's read-out say by themselves: part to head to embedding."""
        said = self.branch(eeg[:, :, self.first :]) @ self.weight
        own = said.unflatten(1, (len(self.heads), -1)) + self.bias
        return {
            "base": dict(self.base(eeg, positions)),
            "own": {head: own[:, i] for i, head in enumerate(self.heads)},
        }

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`."""
        parts = self.alone(eeg, positions)
        return {
            head: self.base_scale[i] * F.normalize(parts["base"][head], dim=1)
            + self.own_scale[i] * parts["own"][head]
            + self.anchor[i]
            for i, head in enumerate(self.heads)
        }

    @torch.no_grad()
    def prepare(
        self,
        blocks: Callable[[], Iterable[Tensor]],
        positions: Tensor,
        condition: np.ndarray,
        targets: Mapping[str, Targets],
        fold: np.ndarray,
        progress: Progress | None = None,
    ) -> None:
        """Fit the read-out; see :class:`eegprompt.encoders.base.Branched`."""
        features = torch.cat([self.branch(eeg[:, :, self.first :]) for eeg in blocks()])
        x = features.double().numpy()
        every = np.arange(len(x))
        sides = [(every[fold != f], every[fold == f]) for f in np.unique(fold)]
        sides.append((every, every[:0]))
        parts = [(kept, Reduced(x[kept]), out, x[out]) for kept, out in sides]
        weight = self.weight.unflatten(1, (len(self.heads), -1))
        for i, head in enumerate(self.heads):
            chosen = choose(targets[head], parts)
            weight[:, i] = torch.from_numpy(chosen.weight)
            self.bias[i] = torch.from_numpy(chosen.bias)
            if progress:
                progress(i + 1, len(self.heads), "fitting the read-out")

    @torch.no_grad()
    def fuse(
        self,
        eeg: Iterable[tuple[Tensor, Tensor]],
        positions: Tensor,
        targets: Mapping[str, Targets],
        texts: Mapping[str, np.ndarray],
    ) -> None:
        """Weigh the encoder and the read-out; see :class:`eegprompt.encoders.base.Branched`."""
        parts = [self.alone(trials, positions) for trials, _ in eeg]
        for i, head in enumerate(self.heads):
            base = torch.cat([F.normalize(p["base"][head], dim=1) for p in parts])
            own = torch.cat([p["own"][head] for p in parts])
            a, b, constant = weighed(
                base.double().numpy(), own.double().numpy(), targets[head], texts[head]
            )
            self.base_scale[i], self.own_scale[i] = a, b
            self.anchor[i] = torch.from_numpy(constant)

    @property
    def scales(self) -> dict[str, float]:
        """What turns each head's cosines into log odds, about."""
        return {
            head: float(self.anchor[i].norm()) or float(self.base_scale[i]) or 1.0
            for i, head in enumerate(self.heads)
        }
