"""NICE's encoder (Song et al. 2024, arXiv:2308.13234), from the paper's description, as a peer.

::

    eeg ── convolution over time, 0.1 s ── mean over 0.2 s every 0.02 s ── batch norm, ELU
        ── convolution over electrodes ── batch norm, ELU, dropout ── projector of each head
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from eegprompt.core.errors import InputError

__all__ = ["NiceEncoder", "Projector", "TemporalSpatial"]


class TemporalSpatial(nn.Module):
    """Convolution over time, wide pooling, convolution over electrodes (TSConv).

    Pooling and convolution over time are linear and commute. Pooling first leaves the function as
    it is and convolves at every `step` only, not at every sample.

    Parameters
    ----------
    n_chans, n_times : int
        Of a trial.
    sfreq : float
        Sampling rate in Hz; lengths were published for 250 Hz and last as long in seconds here.
    n_filters : int
        Of either convolution.
    kernel, pool, step : float
        In seconds.
    dropout : float
        In [0, 1).
    pooled_first : bool
        Whether to pool before the convolution.

    Raises
    ------
    InputError
        If a trial is too short.
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int,
        sfreq: float,
        *,
        n_filters: int = 40,
        kernel: float = 0.1,
        pool: float = 0.204,
        step: float = 0.02,
        dropout: float = 0.5,
        pooled_first: bool = True,
    ):
        super().__init__()
        self.pool, self.step = (max(round(s * sfreq), 1) for s in (pool, step))
        self.pooled_first = pooled_first
        length = max(round(kernel * sfreq), 1)
        n_windows = (n_times - length + 1 - self.pool) // self.step + 1
        if n_windows < 1:
            raise InputError(
                f"trials of {n_times} samples at {sfreq:g} Hz are shorter than NICE's kernel and pool "
                f"({length} + {self.pool} samples)"
            )
        self.temporal = nn.Conv2d(1, n_filters, (1, length))
        self.after_time = nn.Sequential(nn.BatchNorm2d(n_filters), nn.ELU())
        self.spatial = nn.Conv2d(n_filters, n_filters, (n_chans, 1))
        self.after_space = nn.Sequential(nn.BatchNorm2d(n_filters), nn.ELU(), nn.Dropout(dropout))
        self.embed = nn.Conv2d(n_filters, n_filters, 1)
        self.n_features = n_filters * n_windows

    def forward(self, eeg: Tensor) -> Tensor:
        """Map trials (n, n_chans, n_times) to features (n, n_features)."""
        x = eeg[:, None]
        if self.pooled_first:
            pooled = F.avg_pool2d(x, (1, self.pool), 1)
            kernel, bias = self.temporal.weight, self.temporal.bias
            x = F.conv2d(pooled, kernel, bias, stride=(1, self.step))
        else:
            x = F.avg_pool2d(self.temporal(x), (1, self.pool), (1, self.step))
        x = self.after_space(self.spatial(self.after_time(x)))
        return self.embed(x).transpose(1, 3).flatten(1)


class Projector(nn.Module):
    """From features to one head's embedding: linear, residual, normalized."""

    def __init__(self, n_features: int, embedding_dim: int, dropout: float = 0.5):
        super().__init__()
        self.enter = nn.Linear(n_features, embedding_dim)
        self.residual = nn.Sequential(
            nn.GELU(), nn.Linear(embedding_dim, embedding_dim), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, n_features) to (n, embedding_dim)."""
        x: Tensor = self.enter(features)
        out: Tensor = self.norm(x + self.residual(x))
        return out


class NiceEncoder(nn.Module):
    """NICE's encoder with a projector for each head.

    Parameters
    ----------
    heads : sequence of str
        Names of the heads.
    embedding_dim : int
        Dimensions of the caption embeddings.
    n_chans, n_times : int
        Of a trial.
    sfreq : float
        Sampling rate in Hz.
    n_subjects : int
        Not used: one network for all subjects.
    dropout : float
        In [0, 1).
    pooled_first : bool
        Whether to pool before the convolution over time, which is faster and the same.

    Examples
    --------
    >>> import torch
    >>> encoder = NiceEncoder(["ObjectSnap"], 64, n_chans=4, n_times=250, sfreq=250)
    >>> encoder(torch.zeros(2, 4, 250), torch.zeros(4, 3))["ObjectSnap"].shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        n_subjects: int = 0,
        *,
        dropout: float = 0.5,
        pooled_first: bool = True,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "dropout": dropout,
            "pooled_first": pooled_first,
        }
        self.features = TemporalSpatial(
            n_chans, n_times, sfreq, dropout=dropout, pooled_first=pooled_first
        )
        self.project = nn.ModuleDict(
            {head: Projector(self.features.n_features, embedding_dim, dropout) for head in heads}
        )

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`."""
        features = self.features(eeg)
        return {head: project(features) for head, project in self.project.items()}
