"""An encoder behind its preprocessing, so that maps are of the electrodes as they were recorded."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from eegprompt.attribution.rollout import SpatialFilters

__all__ = ["FromElectrodes", "Windowed"]


@runtime_checkable
class Windowed(SpatialFilters, Protocol):
    """An encoder that averages windows of samples before its stem."""

    samples: int


class FromElectrodes(nn.Module):
    """The encoder with its preprocessing as its first layer.

    Whitened channels are mixtures; a map of *electrodes* needs the gradient on this side of the
    whitening. Its input are the recorded channels, each over its standard deviation, so that values
    of different channels can be compared.
    """

    def __init__(self, encoder: nn.Module, steps: Any, scale: np.ndarray):
        super().__init__()
        self.inner = encoder
        self.steps = steps
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float32)))

    scale: torch.Tensor

    def forward(
        self, eeg: torch.Tensor, positions: torch.Tensor, subject: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Embed trials (n, n_chans, n_times) in standard deviations of their channels."""
        return dict(self.inner(self.steps.apply(eeg * self.scale), positions, subject))

    @property
    def filters(self) -> SpatialFilters | None:
        """The encoder, where it has spatial filters."""
        return self.inner if isinstance(self.inner, SpatialFilters) else None

    @property
    def step(self) -> int:
        """Samples from one patch of the encoder to the next; 1 where it has no such steps.

        Within a step a gradient is a comb: windows are averaged before anything else, and a
        convolution whose kernel is no multiple of its stride reads some windows more often than
        others (Odena et al. 2016). So no finer resolution than a step has a meaning.
        """
        if not (isinstance(self.inner, Windowed) and isinstance(self.inner.stem, nn.Conv1d)):
            return 1
        return max(1, self.inner.samples * self.inner.stem.stride[0])
