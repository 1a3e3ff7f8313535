"""A plain torch module as an encoder: its features, and one linear head for each caption kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from eegprompt.core.errors import InputError

__all__ = ["OwnEncoder", "adapted"]

_SIZES = ("n_chans", "n_times", "sfreq")


def adapted(target: type[nn.Module]) -> Callable[..., nn.Module]:
    """What makes an encoder from a class of one's own.

    A class whose constructor takes `heads` is an encoder itself. Any other is taken to map
    (n_trials, n_chans, n_times) to features, and heads are put on top of it.
    """
    takes = inspect.signature(target).parameters
    if "heads" in takes:
        return target
    make = partial(OwnEncoder, target)
    sizes = [p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = [p.replace(kind=p.KEYWORD_ONLY) for name, p in takes.items() if name not in _SIZES]
    make.__signature__ = inspect.Signature([*sizes, *own])  # type: ignore[attr-defined]
    return make


class OwnEncoder(nn.Module):
    """A module from EEG to features, with a linear head for each caption kind.

    Parameters
    ----------
    target : type
        The module's class. Of `n_chans`, `n_times` and `sfreq` its constructor is given those that
        it takes, beside the options.
    heads : sequence of str
        Caption kinds.
    embedding_dim : int
        Length of a caption's embedding.
    n_chans, n_times : int
        Shape of a trial.
    sfreq : float
        Sampling rate in Hz.
    n_subjects : int, default 0
        Not used: all subjects take the same path.
    **options
        Of the module's constructor.

    Raises
    ------
    InputError
        If the module cannot be made, or does not give one finite row of features for each trial.
    """

    def __init__(
        self,
        target: type[nn.Module],
        *,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        n_subjects: int = 0,
        **options: Any,
    ):
        super().__init__()
        sizes: dict[str, Any] = {"n_chans": n_chans, "n_times": n_times, "sfreq": sfreq}
        self.config = {
            "heads": list(heads), "embedding_dim": embedding_dim, **sizes,
            "n_subjects": n_subjects, **options,
        }  # fmt: skip
        name = f"{target.__module__}:{target.__qualname__}"
        takes = inspect.signature(target).parameters
        given = {key: value for key, value in sizes.items() if key in takes}
        try:
            self.module = target(**given, **options)
            was_training = self.module.training
            with torch.no_grad():
                features = self.module.eval()(torch.zeros(2, n_chans, n_times))
            self.module.train(was_training)
        except Exception as problem:  # anything may go wrong inside of it
            said = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
            raise InputError(
                f"the encoder '{name}' does not map EEG of shape (2, {n_chans}, {n_times}) to "
                f"features ({said})"
            ) from None
        if not isinstance(features, torch.Tensor) or features.ndim < 2 or len(features) != 2:
            got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features)
            raise InputError(
                f"the encoder '{name}' must give features (n_trials, n_features), got {got} for 2 "
                "trials"
            )
        if not bool(torch.isfinite(features).all()):
            raise InputError(f"the encoder '{name}' gives features that are not finite for zeros")
        n_features = features.flatten(1).shape[1]
        self.heads = nn.ModuleDict({h: nn.Linear(n_features, embedding_dim) for h in heads})

    def forward(
        self, eeg: torch.Tensor, positions: torch.Tensor, subject: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Embed trials.

        Parameters
        ----------
        eeg : float tensor (n_trials, n_chans, n_times)
            After the run's preprocessing.
        positions, subject
            Not used.
        """
        features = self.module(eeg).flatten(1)
        return {name: head(features) for name, head in self.heads.items()}
