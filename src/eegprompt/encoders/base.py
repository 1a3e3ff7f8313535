"""What an EEG encoder must offer, and what it may offer beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch

    from eegprompt.core.progress import Progress
    from eegprompt.encoders.readout import Targets

__all__ = ["Branched", "EEGEncoder", "Solved"]


@runtime_checkable
class EEGEncoder(Protocol):
    """A torch module from EEG to one embedding a head."""

    def __call__(
        self, eeg: torch.Tensor, positions: torch.Tensor, subject: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Embed trials.

        Parameters
        ----------
        eeg : float tensor (n_trials, n_chans, n_times)
            After the run's preprocessing; unitless.
        positions : float tensor (n_chans, 3)
            Electrode positions in meters, head coordinates; NaN where unknown.
        subject : int tensor (n_trials,), optional
            Index of a subject seen in training; -1 or None takes the shared path.

        Returns
        -------
        dict of str to float tensor (n_trials, n_dims)
            One embedding a head; not normalized.
        """
        ...


@runtime_checkable
class Solved(Protocol):
    """An encoder that is solved in closed form in place of gradient steps."""

    def solve(
        self,
        train: Iterable[tuple[torch.Tensor, torch.Tensor]],
        targets: dict[str, torch.Tensor],
        validate: Callable[[], float],
        progress: Progress | None = None,
    ) -> list[dict[str, float]]:
        """Fit to (EEG, subject) batches; give ``penalty`` and validation ``score`` of each try."""
        ...


@runtime_checkable
class Branched(Protocol):
    """An encoder with parts that are fitted before gradient steps and weighed after them."""

    def prepare(
        self,
        blocks: Callable[[], Iterable[torch.Tensor]],
        positions: torch.Tensor,
        condition: np.ndarray,
        targets: Mapping[str, Targets],
        fold: np.ndarray,
        progress: Progress | None = None,
    ) -> None:
        """Fit the parts on the training set."""
        ...

    def fuse(
        self,
        eeg: Iterable[tuple[torch.Tensor, torch.Tensor]],
        positions: torch.Tensor,
        targets: Mapping[str, Targets],
        texts: Mapping[str, np.ndarray],
    ) -> None:
        """Weigh the parts on the validation set."""
        ...

    def alone(
        self, eeg: torch.Tensor, positions: torch.Tensor
    ) -> dict[str, dict[str, torch.Tensor]]:
        """Embeddings of each part by itself: part to head to tensor."""
        ...

    @property
    def scales(self) -> dict[str, float]:
        """What turns each head's cosines into log odds."""
        ...
