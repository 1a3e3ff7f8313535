"""What the attributions share: any module as heads, each trial's contrastive loss, batches.

The module is called as ``encoder(eeg, positions, subject)``, or as ``encoder(eeg)`` where no positions
are given, and returns a mapping from head to embeddings, or one tensor of embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eegprompt.core.errors import InputError

OUTPUT = "output"
"""Name of the only head of a module that returns a tensor."""

SCALE = 1 / 0.07
"""Inverse temperature where none is given: CLIP's initial one."""

__all__ = ["Contrast", "Question", "evaluating"]


@dataclass(frozen=True)
class Contrast:
    """One head's candidates, and which of them is right for each trial."""

    candidates: Tensor  # (n_candidates, n_dims), unit length
    right: Tensor  # (n_trials,)
    scale: float

    def loss(self, embedding: Tensor, rows: Tensor) -> Tensor:
        """Cross-entropy of each trial's right candidate, (len(rows),), in nats.

        Every distinct caption is a candidate, so that a trial's loss does not depend on which
        trials happen to share its batch.
        """
        logits = self.scale * F.normalize(embedding, dim=-1) @ self.candidates.T
        return F.cross_entropy(logits, self.right[rows], reduction="none")


@dataclass(frozen=True)
class Question:
    """An encoder, trials and captions, checked and brought to one form."""

    encoder: nn.Module
    trials: Any  # (n, n_chans, n_times); read by slices, so that it may be memory-mapped
    contrasts: dict[str, Contrast]
    positions: Tensor | None
    subject: Tensor | None
    device: torch.device

    @classmethod
    def of(
        cls,
        encoder: nn.Module,
        trials: Any,
        captions: Any,
        *,
        positions: Any = None,
        subject: Any = None,
        candidates: Any = None,
        scales: Mapping[str, float] | None = None,
    ) -> Question:
        """Check what is given and put it on the encoder's device.

        Parameters
        ----------
        encoder : torch.nn.Module
            Any; see the module's docstring.
        trials : array or tensor (n_trials, n_chans, n_times)
            As the encoder takes them; sliced in batches, so it may be memory-mapped.
        captions : mapping of head to array (n_trials, n_dims), or one array
            Embeddings of each trial's caption.
        positions : array (n_chans, 3), optional
            Electrode positions in meters.
        subject : int array (n_trials,), optional
            Index of each trial's subject.
        candidates : mapping of head to array (n_candidates, n_dims), optional
            Captions to contrast with, beside those in `captions`; a single trial needs some.
        scales : mapping of head to float, optional
            Inverse temperatures; 1/0.07 where not given.

        Raises
        ------
        InputError
            If shapes do not match.
        """
        if len(np.shape(trials)) != 3:
            raise InputError(
                f"trials must have shape (n_trials, n_chans, n_times), got {tuple(np.shape(trials))}; "
                "a single trial is trials[None]"
            )
        parameter = next(iter(encoder.parameters()), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        n = len(trials)
        contrasts = {}
        others = _by_head(candidates) if candidates is not None else {}
        for head, rows in _by_head(captions).items():
            if np.ndim(rows) != 2 or len(rows) != n:
                raise InputError(
                    f"captions of {head} must have shape ({n}, n_dims), one row a trial, got "
                    f"{np.shape(rows)}"
                )
            own = np.asarray(rows, dtype=np.float32)
            everything = np.concatenate([own, np.asarray(others.get(head, own[:0]), np.float32)])
            _, first, code = np.unique(
                everything.round(5), axis=0, return_index=True, return_inverse=True
            )
            unit = F.normalize(torch.from_numpy(everything[first]), dim=1)
            contrasts[head] = Contrast(
                unit.to(device),
                torch.from_numpy(code.ravel()[:n].astype(np.int64)).to(device),
                float((scales or {}).get(head, SCALE)),
            )
        return cls(
            encoder,
            trials,
            contrasts,
            None if positions is None else torch.as_tensor(positions).float().to(device),
            None if subject is None else torch.as_tensor(subject).long().to(device),
            device,
        )

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def heads(self) -> list[str]:
        """The heads that are asked about."""
        return list(self.contrasts)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield row numbers and trials, a few at a time."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)), device=self.device)
            yield rows, _read(self.trials, slice(start, start + size)).to(self.device)

    def tensor(self, values: Any) -> Tensor:
        """Values as floats on the encoder's device."""
        return torch.as_tensor(values).float().to(self.device)

    def mean_trial(self) -> Tensor:
        """Mean over trials, (n_chans, n_times): what all trials share."""
        total = torch.zeros(tuple(np.shape(self.trials))[1:], dtype=torch.float64)
        for _, eeg in self.batches(128):
            total += eeg.cpu().double().sum(dim=0)
        return (total / max(len(self), 1)).float()

    def losses(self, eeg: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Each head's loss of each trial of a batch."""
        who = None if self.subject is None else self.subject[rows]
        out = (
            self.encoder(eeg) if self.positions is None else self.encoder(eeg, self.positions, who)
        )
        said = dict(out) if isinstance(out, Mapping) else {OUTPUT: out}
        missing = [head for head in self.contrasts if head not in said]
        if missing:
            raise InputError(
                f"the module has no head {missing[0]}, only {', '.join(said)}; give captions of those"
            )
        return {head: c.loss(said[head], rows) for head, c in self.contrasts.items()}


def _read(trials: Any, which: slice) -> Tensor:
    """Some trials as a float tensor, whatever holds them."""
    some = trials[which]
    if isinstance(some, Tensor):
        return some.detach().float()
    return torch.from_numpy(np.array(some, dtype=np.float32))


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """In evaluation mode inside, as before outside."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _by_head(captions: Any) -> dict[str, Any]:
    """A mapping from head to rows, whichever was given."""
    return dict(captions) if isinstance(captions, Mapping) else {OUTPUT: captions}
