"""What the loss of each head is sensitive to: gradients with respect to the EEG.

Gradients of a decoder are filters, not sources: an electrode without any signal is given weight if
it cancels another's noise (Haufe et al. 2014, NeuroImage 87:96). Beside them belong
:mod:`eegprompt.attribution.patterns`.

All functions take any torch module. It is called as ``encoder(eeg, positions, subject)``, or as
``encoder(eeg)`` where no positions are given, and returns a mapping from head to embeddings, or one
tensor of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eegprompt.attribution.question import Question, evaluating, mean_trial
from eegprompt.core.progress import Progress

__all__ = [
    "Attribution",
    "gradient_times_input",
    "integrated_gradients",
    "saliency",
    "smoothgrad",
]


@dataclass(frozen=True)
class Attribution:
    """How a head's loss depends on each channel at each moment.

    Parameters
    ----------
    signed : array (n_chans, n_times)
        Mean over trials; negative where the EEG lowers the loss, that is, speaks for the caption.
    magnitude : array (n_chans, n_times)
        Mean over trials of the absolute value.
    error : float or None
        Integrated gradients: by how much attributions miss the change of the loss that they should
        sum to, as a fraction of it.
    """

    signed: np.ndarray
    magnitude: np.ndarray
    error: float | None = None

    @property
    def channels(self) -> np.ndarray:
        """Magnitude of each channel, mean over time, (n_chans,)."""
        return self.magnitude.mean(axis=1)


class _Mean:
    """Running sums of signed and absolute values."""

    def __init__(self) -> None:
        self.n = 0
        self.signed: Any = 0.0
        self.magnitude: Any = 0.0

    def add(self, values: Tensor) -> None:
        """Add values (n, n_chans, n_times)."""
        self.n += len(values)
        self.signed = self.signed + values.sum(dim=0, dtype=torch.float64)
        self.magnitude = self.magnitude + values.abs().sum(dim=0, dtype=torch.float64)

    def attribution(self, error: float | None = None) -> Attribution:
        """The means."""
        signed, magnitude = (
            (total / self.n).float().cpu().numpy() for total in (self.signed, self.magnitude)
        )
        return Attribution(signed, magnitude, error)


def saliency(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any = None,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, Attribution]:
    """Gradient of each head's contrastive loss with respect to the EEG.

    Its `magnitude`, averaged over time, is the saliency of arXiv 2507.07157, section 3.4.

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
    batch_size : int
        Trials at a time.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    dict of str to Attribution
        By head; nats per unit of the input. All zero where every trial has the same caption.

    Raises
    ------
    InputError
        If shapes do not match.
    """
    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    return _gradients(question, lambda gradient, eeg: gradient, batch_size, progress)


def gradient_times_input(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any = None,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    baseline: Any = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, Attribution]:
    """Gradient of each head's contrastive loss times the EEG's difference from a baseline, signed.

    Parameters
    ----------
    encoder, trials, captions, positions, subject, candidates, scales
        As in :func:`saliency`.
    baseline : array (n_chans, n_times), optional
        Subtracted from the EEG before the product; zero if not given.
    batch_size, progress
        As in :func:`saliency`.

    Returns
    -------
    dict of str to Attribution
        By head, in nats.
    """
    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    zero = torch.zeros(()) if baseline is None else torch.as_tensor(baseline).float()
    zero = zero.to(question.device)
    return _gradients(question, lambda gradient, eeg: gradient * (eeg - zero), batch_size, progress)


def _gradients(
    question: Question,
    combine: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    progress: Progress | None,
) -> dict[str, Attribution]:
    sums = {head: _Mean() for head in question.heads}
    with evaluating(question.encoder), torch.enable_grad():
        for rows, eeg in question.batches(batch_size):
            eeg.requires_grad_()
            losses = question.losses(eeg, rows)
            for place, (head, loss) in enumerate(losses.items()):
                last = place == len(losses) - 1
                (gradient,) = torch.autograd.grad(loss.sum(), eeg, retain_graph=not last)
                sums[head].add(combine(gradient, eeg.detach()))
            if progress is not None:
                progress(int(rows[-1]) + 1, len(question), "gradients")
    return {head: total.attribution() for head, total in sums.items()}


def integrated_gradients(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any = None,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    baseline: Any = None,
    n_steps: int = 32,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> dict[str, Attribution]:
    """Integrated gradients of each head's contrastive loss (Sundararajan et al. 2017), by captum.

    Parameters
    ----------
    encoder, trials, captions, positions, subject, candidates, scales
        As in :func:`saliency`.
    baseline : array (n_chans, n_times), optional
        Where the path starts; the mean trial if not given, for what all trials share cannot tell
        captions apart.
    n_steps : int
        Points on the path.
    batch_size : int
        Trials at a time; `n_steps` times as many pass the encoder at once.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    dict of str to Attribution
        By head, in nats; a trial's attributions sum to its loss less the baseline's. `error` is the
        mean absolute deviation from that over the mean absolute change.
    """
    from captum.attr import IntegratedGradients

    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    start = mean_trial(trials, 64) if baseline is None else torch.as_tensor(baseline).float()
    start = start.to(question.device)
    found = {}
    with evaluating(question.encoder), torch.enable_grad():
        for place, head in enumerate(question.heads):
            total, missed, change = _Mean(), 0.0, 0.0
            method = IntegratedGradients(_forward(question, head))
            for rows, eeg in question.batches(batch_size):
                origin = start.expand_as(eeg)
                values, delta = method.attribute(
                    eeg, origin, additional_forward_args=(rows,), n_steps=n_steps,
                    return_convergence_delta=True,
                )  # fmt: skip
                total.add(values.detach())
                missed += float(delta.abs().sum())
                change += float(values.detach().sum(dim=(1, 2)).abs().sum())
            found[head] = total.attribution(missed / change if change > 0 else 0.0)
            if progress is not None:
                progress(place + 1, len(question.heads), "integrated gradients")
    return found


def smoothgrad(
    encoder: nn.Module,
    trials: Any,
    captions: Any,
    *,
    positions: Any = None,
    subject: Any = None,
    candidates: Any = None,
    scales: Mapping[str, float] | None = None,
    n_samples: int = 8,
    noise: float = 0.3,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Attribution]:
    """Gradient of each head's contrastive loss, averaged over noisy copies (Smilkov et al. 2017).

    Parameters
    ----------
    encoder, trials, captions, positions, subject, candidates, scales
        As in :func:`saliency`.
    n_samples : int
        Noisy copies of each trial.
    noise : float
        Standard deviation of the noise over that of the EEG of the batch.
    seed : int
        Of the noise.
    batch_size, progress
        As in :func:`saliency`.

    Returns
    -------
    dict of str to Attribution
        By head; nats per unit of the input.
    """
    question = Question.of(
        encoder, trials, captions,
        positions=positions, subject=subject, candidates=candidates, scales=scales,
    )  # fmt: skip
    sums = {head: _Mean() for head in question.heads}
    generator = torch.Generator().manual_seed(seed)
    with evaluating(question.encoder), torch.enable_grad():
        for rows, eeg in question.batches(batch_size):
            spread = noise * float(eeg.std(correction=0))
            smooth = {head: torch.zeros_like(eeg) for head in question.heads}
            for _ in range(n_samples):
                drawn = torch.randn(eeg.shape, generator=generator).to(eeg)
                noisy = (eeg + spread * drawn).requires_grad_()
                losses = question.losses(noisy, rows)
                for place, (head, loss) in enumerate(losses.items()):
                    last = place == len(losses) - 1
                    (gradient,) = torch.autograd.grad(loss.sum(), noisy, retain_graph=not last)
                    smooth[head] += gradient / n_samples
            for head, values in smooth.items():
                sums[head].add(values)
            if progress is not None:
                progress(int(rows[-1]) + 1, len(question), "SmoothGrad")
    return {head: total.attribution() for head, total in sums.items()}


def _forward(question: Question, head: str) -> Callable[[Tensor, Tensor], Tensor]:
    """One head's losses as a function of the EEG, as captum wants it."""
    return lambda eeg, rows: question.losses(eeg, rows)[head]
