"""An encoder like ATM (Li et al. 2024, arXiv:2403.07721), from the paper's description, as a peer.

::

    eeg ── each electrode's time course is a token ── + a token of the subject
        ── self-attention over electrodes ── NICE's convolutions ── projector of each head
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eegprompt.encoders.nice import Projector, TemporalSpatial

__all__ = ["AtmEncoder"]


class AtmEncoder(nn.Module):
    """Attention over electrodes before NICE's convolutions, with a projector for each head.

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
        Subjects with a token of their own; others share one.
    attention_heads : int
        As published; fewer where they do not divide the number of samples.
    hidden : int
        Of the feed-forward layer.
    attention_dropout, dropout : float
        In [0, 1): inside the attention layer and behind it.

    Examples
    --------
    >>> encoder = AtmEncoder(["ObjectSnap"], 64, n_chans=4, n_times=250, sfreq=250)
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
        attention_heads: int = 4,
        hidden: int = 256,
        attention_dropout: float = 0.25,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "n_subjects": n_subjects,
            "attention_heads": attention_heads,
            "hidden": hidden,
            "attention_dropout": attention_dropout,
            "dropout": dropout,
        }
        n_heads = next(n for n in range(attention_heads, 0, -1) if n_times % n == 0)
        self.enter = nn.Sequential(nn.Linear(n_times, n_times), nn.Dropout(attention_dropout))
        self.who = nn.Embedding(n_subjects + 1, n_times)  # the last is everybody else's
        self.attention = nn.TransformerEncoderLayer(
            n_times, n_heads, hidden, attention_dropout, activation="gelu", batch_first=True
        )
        self.norm = nn.LayerNorm(n_times)
        self.features = TemporalSpatial(n_chans, n_times, sfreq, dropout=dropout)
        self.project = nn.ModuleDict(
            {head: Projector(self.features.n_features, embedding_dim, dropout) for head in heads}
        )

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`."""
        others = self.who.num_embeddings - 1
        if subject is None:
            subject = torch.full((len(eeg),), others, device=eeg.device)
        subject = torch.where((subject < 0) | (subject > others), others, subject)
        tokens = torch.cat([self.enter(eeg), self.who(subject)[:, None]], dim=1)
        mixed = self.norm(self.attention(tokens))[:, :-1]
        features = self.features(mixed)
        return {head: project(features) for head, project in self.project.items()}
