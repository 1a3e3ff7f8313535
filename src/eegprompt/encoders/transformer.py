"""The EEG encoder: attention over electrodes, then over time, then one read-out a caption kind.

::

    eeg (trials, channels, samples)
      │  window means of about 40 ms                       Windows
      │  signed attention over electrode positions         SpatialAttention
      │  convolution over time, patches                    stem
      │  + gate × self-attention over patches              nn.TransformerEncoder
      │  read-out of each head                             FlatReadout / QueryReadout
      │  projection of each head                           projections
    one embedding (trials, dimensions) a head

Space is filtered first: averaging over time commutes with it, and a few filtered signals are
cheaper to carry through time than 128 channels. Self-attention is added to the patches, not put in
their place, through a gate for each of their dimensions that starts at zero (LayerScale: Touvron et
al. 2021): its normalization forgets how strong a patch was, and on a few thousand single trials it
learns noise sooner than anything the patches do not already say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eegprompt.core.errors import InputError, UnknownNameError

__all__ = ["READOUTS", "STEMS", "EEGTransformer", "SpatialAttention"]

READOUTS = ("flatten", "queries")
STEMS = ("conv", "linear")
MAX_UNPLACED = 256


class SpatialAttention(nn.Module):
    """Spatial filters as functions of electrode position, so that any montage can be filtered.

    Each filter is the weighted difference of two attentions over the electrodes – what it adds and
    what it subtracts, since a filter that can only average sees no dipole, and one whose weights
    always sum to zero does not see what all electrodes share. Keys are Fourier features of
    position with random frequencies (Rahimi and Recht 2007): attention logits are then smooth
    functions on the scalp with a length scale of `length_scale`. An electrode without a position
    has a learned key by its place in the channel list.

    Parameters
    ----------
    n_filters : int
        Number of filters.
    n_subjects : int
        Subjects with an adaptation of their own: filters mixed by a matrix that starts at the
        identity. Others take the shared path.
    n_features : int
        Number of random frequencies.
    length_scale : float
        In meters.
    sharpness : float
        Standard deviation of the attention logits before training.
    """

    frequencies: Tensor

    def __init__(
        self,
        n_filters: int,
        n_subjects: int = 0,
        *,
        n_features: int = 64,
        length_scale: float = 0.03,
        sharpness: float = 4.0,
    ):
        super().__init__()
        fixed = torch.Generator().manual_seed(0)
        frequencies = torch.randn(n_features, 3, generator=fixed) / length_scale
        self.register_buffer("frequencies", frequencies)
        self.queries = nn.Parameter(sharpness * torch.randn(2, n_filters, 2 * n_features))
        self.unplaced = nn.Parameter(
            torch.randn(MAX_UNPLACED, 2 * n_features) / math.sqrt(2 * n_features)
        )
        self.balance = nn.Parameter(torch.rand(n_filters))
        self.gain = nn.Parameter(torch.ones(n_filters))
        self.adaptation = nn.Parameter(torch.zeros(n_subjects, n_filters, n_filters))

    def keys(self, positions: Tensor) -> Tensor:
        """Unit-length features (n_chans, 2 * n_features) of positions (n_chans, 3) in meters."""
        missing = positions.isnan().any(dim=1, keepdim=True)
        phase = positions.nan_to_num() @ self.frequencies.T
        placed = torch.cat([phase.cos(), phase.sin()], dim=1) / math.sqrt(len(self.frequencies))
        if not bool(missing.any()):
            return placed
        if len(positions) > MAX_UNPLACED:
            raise InputError(
                f"{len(positions)} channels, some without a position: at most {MAX_UNPLACED} can be "
                "told apart by their place in the list; give a montage"
            )
        return torch.where(missing, self.unplaced[: len(positions)], placed)

    def forward(self, positions: Tensor) -> Tensor:
        """Shared filters (n_filters, n_chans) for positions (n_chans, 3) in meters.

        The squares of a filter's weights sum to its squared gain over any montage.
        """
        plus, minus = (self.queries @ self.keys(positions).T).softmax(dim=-1)
        return self.gain[:, None] * F.normalize(plus - self.balance[:, None] * minus, dim=1)

    def mix(self, subject: Tensor) -> Tensor:
        """How each trial's subject mixes the filters: (n_trials, n_filters, n_filters)."""
        identity = torch.eye(len(self.gain), device=subject.device)
        known = ((subject >= 0) & (subject < len(self.adaptation))).to(identity)
        own = self.adaptation[subject.clamp(0, max(len(self.adaptation) - 1, 0))]
        return identity + known[:, None, None] * own


class FlatReadout(nn.Module):
    """Every head reads all patches side by side.

    It starts at zero, so that training begins as a linear regression on the patches and departs
    from it as far as the data carry: on a few hundred trials a random start is noise to unlearn.
    """

    def __init__(self, n_patches: int, width: int, hidden: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.dropout = nn.Dropout(dropout)
        self.read = nn.Linear(n_patches * width, n_heads * hidden)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (n, n_patches, width) to (n, n_heads, hidden)."""
        return self.read(self.dropout(patches.flatten(1))).unflatten(1, (self.n_heads, -1))


class QueryReadout(nn.Module):
    """Every head has a learned query that attends to the patches."""

    def __init__(self, width: int, attention_heads: int, hidden: int, n_heads: int, dropout: float):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(n_heads, width))
        self.attention = nn.MultiheadAttention(width, attention_heads, dropout, batch_first=True)
        self.expand = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU())

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (n, n_patches, width) to (n, n_heads, hidden)."""
        queries = self.queries.expand(len(patches), -1, -1)
        read, _ = self.attention(queries, patches, patches, need_weights=False)
        return self.expand(read)


class EEGTransformer(nn.Module):
    """From EEG to one caption embedding a head.

    Parameters
    ----------
    heads : sequence of str
        Caption kinds, one head each.
    embedding_dim : int
        Dimensions of the text encoder's embeddings.
    n_chans, n_times : int
        Channels and samples of the training study. Other montages can be passed to `forward`,
        other lengths cannot.
    sfreq : float
        Sampling rate in Hz.
    n_subjects : int
        Subjects with an adaptation of their own.
    n_filters : int
        Spatial filters.
    window : float
        Length in seconds over which samples are averaged first, rounded to whole samples.
    stem : {"conv", "linear"}
        How windows become patches: a convolution over overlapping stretches, or a linear map of
        stretches side by side.
    patch : int
        Windows a patch.
    width, depth, attention_heads : int
        Size of a patch's vector, number of transformer layers, attention heads in each.
    readout : {"flatten", "queries"}
        All patches side by side; or one learned query a head.
    hidden : int
        Dimensions between a head's read-out and its projection.
    dropout, attention_dropout : float
        In [0, 1): at the read-out and inside the transformer.

    Attributes
    ----------
    config : dict
        The arguments above: ``EEGTransformer(**config)`` makes an encoder of the same shape.

    Raises
    ------
    InputError
        If a size does not fit the data; the message says which sizes do.

    Examples
    --------
    >>> encoder = EEGTransformer(
    ...     heads=["ObjectSnap"], embedding_dim=64, n_chans=4, n_times=225, sfreq=250
    ... )
    >>> encoder(torch.zeros(2, 4, 225), 0.1 * torch.randn(4, 3))["ObjectSnap"].shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        *,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        n_subjects: int = 0,
        n_filters: int = 96,
        window: float = 0.04,
        stem: str = "conv",
        patch: int = 2,
        width: int = 96,
        depth: int = 1,
        attention_heads: int = 2,
        readout: str = "flatten",
        hidden: int = 64,
        dropout: float = 0.8,
        attention_dropout: float = 0.3,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            name: value
            for name, value in locals().items()
            if name not in ("self", "__class__", "heads")
        }
        self.config["heads"] = list(heads)
        for what, value, allowed in (("stem", stem, STEMS), ("read-out", readout, READOUTS)):
            if value not in allowed:
                raise UnknownNameError(what, value, allowed)
        if not heads:
            raise InputError("an encoder needs at least one head, got none")
        if width % (2 * attention_heads):
            raise InputError(
                f"width must be a multiple of 2 * attention_heads = {2 * attention_heads}, got {width}"
            )
        self.samples = max(round(window * sfreq), 1)  # a window's
        n_windows = n_times // self.samples
        n_patches = n_windows // patch
        if n_patches < 1:
            raise InputError(
                f"{n_times} samples hold {n_windows} windows of {self.samples} samples, fewer than one "
                f"patch of {patch}; use longer trials, a shorter window or a smaller patch"
            )
        self.n_windows, self.n_times = n_windows, n_times
        self.space = SpatialAttention(n_filters, n_subjects)
        kernel = 2 * patch + 1 if stem == "conv" else patch
        padding = (kernel - patch + 1) // 2
        self.stem = nn.Conv1d(n_filters, width, kernel, stride=patch, padding=padding)
        n_patches = (n_windows + 2 * padding - kernel) // patch + 1
        self.register_buffer("clock", _sinusoids(n_patches, width), persistent=False)
        self.time = nn.Parameter(torch.zeros(n_patches, width))
        self.gate = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(
            width,
            attention_heads,
            2 * width,
            attention_dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.transformer = nn.TransformerEncoder(
            layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.heads = tuple(heads)
        self.readout = (
            FlatReadout(n_patches, width, hidden, len(heads), dropout)
            if readout == "flatten"
            else QueryReadout(width, attention_heads, hidden, len(heads), dropout)
        )
        bound = 1 / math.sqrt(hidden)
        self.projections = nn.Parameter(
            torch.empty(len(heads), hidden, embedding_dim).uniform_(-bound, bound)
        )
        # Not zero: an embedding needs a direction before the read-out has learned one.
        self.bias = nn.Parameter(0.1 * F.normalize(torch.randn(len(heads), embedding_dim), dim=1))

    clock: Tensor

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials.

        Parameters
        ----------
        eeg : float tensor (n_trials, n_chans, n_times)
            After the run's preprocessing; unitless.
        positions : float tensor (n_chans, 3)
            Electrode positions in meters; NaN where unknown.
        subject : int tensor (n_trials,), optional
            Index of a subject seen in training; -1 or None takes the shared path.

        Returns
        -------
        dict of str to float tensor (n_trials, embedding_dim)
            One embedding a head; not normalized.

        Raises
        ------
        InputError
            If the number of samples is not that of the training study, or positions and channels
            do not match.
        """
        if eeg.ndim != 3 or eeg.shape[2] != self.n_times:
            raise InputError(
                f"the encoder was made for trials of {self.n_times} samples, got EEG of shape "
                f"{tuple(eeg.shape)}; cut or resample to (trials, channels, {self.n_times})"
            )
        if positions.shape != (eeg.shape[1], 3):
            raise InputError(
                f"positions must be ({eeg.shape[1]}, 3) for {eeg.shape[1]} channels, got "
                f"{tuple(positions.shape)}"
            )
        windows = (
            eeg[:, :, : self.n_windows * self.samples].unflatten(2, (-1, self.samples)).mean(3)
        )
        windows = self.space(positions.to(eeg)) @ windows
        if subject is not None and len(self.space.adaptation):
            windows = self.space.mix(subject) @ windows
        patches = F.gelu(self.stem(windows)).transpose(1, 2) + self.time
        patches = patches + self.gate * self.transformer(patches + self.clock)
        read = self.readout(patches)
        embeddings = torch.einsum("nhk,hkd->hnd", read, self.projections) + self.bias[:, None]
        return dict(zip(self.heads, embeddings))

    @torch.no_grad()
    def spatial_attention(self, positions: Tensor, subject: int | None = None) -> Tensor:
        """Spatial filters for a montage, signed.

        Parameters
        ----------
        positions : float tensor (n_chans, 3)
            In meters; NaN where unknown.
        subject : int, optional
            Index of a subject seen in training; None or -1 for the shared filters.

        Returns
        -------
        float tensor (n_filters, n_chans)
        """
        filters = self.space(positions.to(self.space.gain))
        if subject is None or not len(self.space.adaptation):
            return filters
        mixing = self.space.mix(torch.tensor([subject], device=filters.device))
        return mixing[0] @ filters


def _sinusoids(n_patches: int, width: int) -> Tensor:
    """Sine and cosine of time at geometric frequencies (Vaswani et al. 2017): (n_patches, width)."""
    time = torch.arange(n_patches)[:, None]
    rate = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    return torch.stack([(time * rate).sin(), (time * rate).cos()], dim=2).flatten(1)
