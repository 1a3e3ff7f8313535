"""What an EEG encoder must offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

__all__ = ["EEGEncoder"]


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
