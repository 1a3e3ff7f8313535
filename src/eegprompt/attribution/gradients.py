"""What the loss of each head is sensitive to: gradients with respect to the EEG.

Gradients of a decoder are filters, not sources: an electrode without any signal is given weight if
it cancels another's noise (Haufe et al. 2014, NeuroImage 87:96). Beside them belong
:mod:`eegprompt.attribution.patterns`.

Every method is a weighted sum of gradients at some points, times the distance from a baseline where
the method says so. One forward pass serves all heads; captum, whose results these are, takes one for
each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eegprompt.attribution.question import Question, evaluating
from eegprompt.core.progress import Progress

__all__ = [
    "Attribution",
    "gradient_times_input",
    "integrated_gradients",
    "plain_gradients",
    "saliency",
    "smoothgrad",
]

Points = Callable[[Tensor], Iterator[tuple[float, Tensor]]]


@dataclass(frozen=True)
class Attribution:
    """How a head's loss depends on each channel at each time point.

    Parameters
    ----------
    signed : array (n_chans, n_times)
        Mean over trials; negative where the EEG lowers the loss, that is, supports the caption.
    magnitude : array (n_chans, n_times)
        Mean over trials of the absolute value.
    error : float
        Integrated gradients: by how much attributions miss the change of the loss that they should
        sum to, as a fraction of it; else 0.
    """

    signed: np.ndarray
    magnitude: np.ndarray
    error: float = 0.0


class _Mean:
    """Running sums of signed and absolute values."""

    def __init__(self) -> None:
        self.n = 0
        self.signed: Any = 0.0
        self.magnitude: Any = 0.0
        self.missed = self.change = 0.0

    def add(self, values: Tensor) -> None:
        """Add values (n, n_chans, n_times)."""
        self.n += len(values)
        self.signed = self.signed + values.sum(dim=0, dtype=torch.float64)
        self.magnitude = self.magnitude + values.abs().sum(dim=0, dtype=torch.float64)

    def attribution(self) -> Attribution:
        """The means."""
        signed, magnitude = (
            (total / self.n).float().cpu().numpy() for total in (self.signed, self.magnitude)
        )
        return Attribution(signed, magnitude, self.missed / self.change if self.change else 0.0)


def _gradient_sums(
    question: Question, points: Points, batch_size: int, progress: Progress | None, label: str
) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """For each batch its rows, its trials, and by head the weighted sum of gradients at `points`."""
    with evaluating(question.encoder), torch.enable_grad():
        for rows, eeg in question.batches(batch_size):
            total = {head: torch.zeros_like(eeg) for head in question.heads}
            for weight, point in points(eeg):
                point = point.detach().requires_grad_()
                losses = question.losses(point, rows)
                last = next(reversed(losses))
                for head, loss in losses.items():
                    (gradient,) = torch.autograd.grad(loss.sum(), point, retain_graph=head != last)
                    total[head] += weight * gradient
            yield rows, eeg, total
            if progress is not None:
                progress(int(rows[-1]) + 1, len(question), label)


def _at_the_trial(eeg: Tensor) -> Iterator[tuple[float, Tensor]]:
    yield 1.0, eeg


def plain_gradients(
    question: Question,
    *,
    baseline: Any = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[dict[str, Attribution], dict[str, Attribution]]:
    """:func:`saliency` and :func:`gradient_times_input` in one pass.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    baseline : array (n_chans, n_times), optional
        Subtracted from the EEG before the product; zero if not given.
    batch_size : int
        Trials at a time.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    tuple of two dict of str to Attribution
    """
    zero = question.tensor(0.0 if baseline is None else baseline)
    gradient = {head: _Mean() for head in question.heads}
    product = {head: _Mean() for head in question.heads}
    for _, eeg, found in _gradient_sums(question, _at_the_trial, batch_size, progress, "gradients"):
        for head, values in found.items():
            gradient[head].add(values)
            product[head].add(values * (eeg - zero))
    return (
        {head: total.attribution() for head, total in gradient.items()},
        {head: total.attribution() for head, total in product.items()},
    )


def saliency(question: Question, *, batch_size: int = 64) -> dict[str, Attribution]:
    """Gradient of each head's contrastive loss with respect to the EEG.

    Its `magnitude`, averaged over time, is the saliency of arXiv 2507.07157, section 3.4.

    Parameters
    ----------
    question, batch_size
        As in :func:`plain_gradients`.

    Returns
    -------
    dict of str to Attribution
        By head; nats per unit of the input. All zero where every trial has the same caption.
    """
    return plain_gradients(question, batch_size=batch_size)[0]


def gradient_times_input(
    question: Question, *, baseline: Any = None, batch_size: int = 64
) -> dict[str, Attribution]:
    """Gradient of each head's contrastive loss times the EEG's difference from a baseline, signed.

    Parameters
    ----------
    question, baseline, batch_size
        As in :func:`plain_gradients`.

    Returns
    -------
    dict of str to Attribution
        By head, in nats.
    """
    return plain_gradients(question, baseline=baseline, batch_size=batch_size)[1]


def integrated_gradients(
    question: Question,
    *,
    baseline: Any = None,
    n_steps: int = 32,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> dict[str, Attribution]:
    """Integrated gradients of each head's contrastive loss (Sundararajan et al. 2017).

    The path is integrated by Gauss and Legendre's rule, as captum does.

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    baseline : array (n_chans, n_times), optional
        Where the path starts; the mean trial if not given, for what all trials share cannot tell
        captions apart.
    n_steps : int
        Points on the path.
    batch_size, progress
        As in :func:`plain_gradients`.

    Returns
    -------
    dict of str to Attribution
        By head, in nats; a trial's attributions sum to its loss less the baseline's. `error` is the
        mean absolute deviation from that over the mean absolute change.
    """
    start = question.tensor(question.mean_trial() if baseline is None else baseline)
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)

    def path(eeg: Tensor) -> Iterator[tuple[float, Tensor]]:
        for node, weight in zip(nodes, weights):
            yield float(weight / 2), start + float((1 + node) / 2) * (eeg - start)

    sums = {head: _Mean() for head in question.heads}
    batches = _gradient_sums(question, path, batch_size, progress, "integrated gradients")
    for rows, eeg, found in batches:
        with torch.no_grad():
            there = question.losses(eeg, rows)
            here = question.losses(start.expand_as(eeg), rows)
        for head, gradient in found.items():
            values = gradient * (eeg - start)
            sums[head].add(values)
            whole = values.sum(dim=(1, 2))
            sums[head].missed += float((whole - (there[head] - here[head])).abs().sum())
            sums[head].change += float(whole.abs().sum())
    return {head: total.attribution() for head, total in sums.items()}


def smoothgrad(
    question: Question,
    *,
    n_samples: int = 8,
    noise: float = 0.3,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Attribution]:
    """Gradient of each head's contrastive loss, averaged over noisy copies (Smilkov et al. 2017).

    Parameters
    ----------
    question : Question
        Encoder, trials and captions.
    n_samples : int
        Noisy copies of each trial.
    noise : float
        Standard deviation of the noise over that of the EEG of the batch.
    seed : int
        Of the noise.
    batch_size, progress
        As in :func:`plain_gradients`.

    Returns
    -------
    dict of str to Attribution
        By head; nats per unit of the input.
    """
    generator = torch.Generator().manual_seed(seed)

    def copies(eeg: Tensor) -> Iterator[tuple[float, Tensor]]:
        spread = noise * float(eeg.std(correction=0))
        for _ in range(n_samples):
            yield 1 / n_samples, eeg + spread * torch.randn(eeg.shape, generator=generator).to(eeg)

    sums = {head: _Mean() for head in question.heads}
    for _, _, found in _gradient_sums(question, copies, batch_size, progress, "SmoothGrad"):
        for head, values in found.items():
            sums[head].add(values)
    return {head: total.attribution() for head, total in sums.items()}
