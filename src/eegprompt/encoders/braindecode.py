"""Encoders of braindecode as baselines: ``braindecode:EEGNet`` and others.

The network's classifier becomes a layer of features, and every caption kind has a linear
projection of its own on them, so that the baselines differ from each other and from eegprompt's
encoder in the network alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from eegprompt.core.errors import InputError, MissingDependencyError, UnknownNameError

__all__ = ["MODELS", "BraindecodeEncoder"]

MODELS = ("ATCNet", "Deep4Net", "EEGConformer", "EEGNet", "ShallowFBCSPNet")
"""Models that were tried here; all are under the BSD license."""


class BraindecodeEncoder(nn.Module):
    """One of braindecode's networks with a projection for each head.

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
        Not used: these networks are the same for all subjects.
    model : str
        One of :data:`MODELS`.
    width : int
        Features between network and projections.
    options : dict, optional
        For the network's constructor, e.g. ``{"drop_prob": 0.25}``.

    Raises
    ------
    MissingDependencyError
        If braindecode cannot be imported.
    UnknownNameError
        If there is no such model.
    InputError
        If the network cannot be made for trials of that size.
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
        model: str = "EEGNet",
        width: int = 128,
        options: dict[str, Any] | None = None,
    ):
        super().__init__()
        if model not in MODELS:
            raise UnknownNameError("braindecode model", model, MODELS)
        try:
            from braindecode import models
        except (ImportError, OSError) as problem:
            raise MissingDependencyError("braindecode", "baselines") from problem
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "model": model,
            "width": width,
            "options": dict(options or {}),
        }
        self.heads = tuple(heads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that short trials shrink its kernels, and the like
            try:
                self.network = getattr(models, model)(
                    n_chans=n_chans,
                    n_outputs=width,
                    n_times=n_times,
                    sfreq=sfreq,
                    **(options or {}),
                )
            except (ValueError, RuntimeError, TypeError) as problem:
                raise InputError(
                    f"braindecode's {model} cannot be made for trials of {n_chans} channels and "
                    f"{n_times} samples: {str(problem).splitlines()[0]}"
                ) from problem
        self.projection = nn.Linear(width, len(self.heads) * embedding_dim)

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`."""
        out = self.projection(self.network(eeg)).unflatten(1, (len(self.heads), -1))
        return {head: out[:, i] for i, head in enumerate(self.heads)}
