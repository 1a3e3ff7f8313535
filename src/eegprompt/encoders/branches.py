"""What a convex fit reads: window means of every channel, and covariances with evoked templates.

A branch is a fixed map from trials to features. It is fitted from sums over the training trials
(:class:`Evoked`), so that cross-validation inside the training set costs one pass over the EEG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BinnedBranch", "CovarianceBranch", "Evoked", "symmetric_log"]

MOST_FEATURES = 4000
"""Window means a branch may have; windows are widened to stay below."""


@dataclass
class Evoked:
    """Sums over trials, by condition, from which templates and spatial filters follow.

    Parameters
    ----------
    counts : float tensor (n_conditions,)
        Trials of each condition.
    sums : float tensor (n_conditions, n_chans, n_times)
        Their sum.
    moment : float tensor (n_chans, n_chans)
        Second moment of the channels, summed over trials, averaged over samples.
    """

    counts: Tensor
    sums: Tensor
    moment: Tensor

    def __sub__(self, other: Evoked) -> Evoked:
        return Evoked(
            self.counts - other.counts, self.sums - other.sums, self.moment - other.moment
        )

    @classmethod
    def of(cls, eeg: Tensor, condition: Tensor, n_conditions: int) -> Evoked:
        """Sums over trials (n, n_chans, n_times) of conditions (n,)."""
        eeg = eeg.double()
        sums = eeg.new_zeros(n_conditions, *eeg.shape[1:]).index_add_(0, condition, eeg)
        flat = eeg.transpose(0, 1).flatten(1)
        counts = torch.bincount(condition, minlength=n_conditions).double()
        return cls(counts, sums, flat @ flat.T / eeg.shape[2])

    def add(self, other: Evoked) -> None:
        """Add in place."""
        self.counts += other.counts
        self.sums += other.sums
        self.moment += other.moment

    @classmethod
    def sum(cls, parts: list[Evoked]) -> Evoked:
        """Sums over the trials of all parts."""
        total = Evoked(
            *(torch.zeros_like(t) for t in (parts[0].counts, parts[0].sums, parts[0].moment))
        )
        for part in parts:
            total.add(part)
        return total

    def whitening(self, power: float) -> Tensor:
        """A power of the inverse square root of the channels' shrunk correlation, in their scale.

        Zero leaves the channels as they are, one decorrelates them. The covariance is that about
        the mean time course, shrunk as :mod:`eegprompt.encoders.preprocessing` does.
        """
        from eegprompt.encoders.preprocessing import shrunk_correlation

        n = float(self.counts.sum())
        mean = self.sums.sum(dim=0) / n
        covariance = (self.moment / n - mean @ mean.T / mean.shape[1]) * n / max(n - 1, 1)
        correlation, scale = shrunk_correlation(covariance.numpy(), int(n))
        values, vectors = torch.linalg.eigh(torch.from_numpy(correlation))
        root = (vectors * values.clamp_min(1e-6) ** (-power / 2)) @ vectors.T
        return root * torch.from_numpy(scale) ** power

    def mixed(self, mixing: Tensor) -> Evoked:
        """The same sums after the channels were mixed."""
        return Evoked(self.counts, mixing @ self.sums, mixing @ self.moment @ mixing.T)

    def patterns(self, most: int) -> list[Tensor]:
        """The mean response and at most `most` principal differences between conditions.

        Every condition weighs the same, however many trials it has, but for those with fewer than
        others where there are many conditions: the weight is the square root of the count then.
        """
        seen = self.counts > 0
        counts, means = self.counts[seen], self.sums[seen]
        means = means / counts[:, None, None]
        n = len(counts)
        mean = means.mean(dim=0)
        weight = torch.ones_like(counts) if n <= 2 * most else counts.sqrt()
        apart = (means - mean) * (weight / weight.mean())[:, None, None]
        flat = apart.flatten(1)
        values, vectors = torch.linalg.eigh(flat @ flat.T)
        kept = [i for i in range(n - 1, max(n - 1 - min(n - 1, most), 0), -1) if values[i] > 0]
        return [mean, *(torch.tensordot(vectors[:, i], apart, 1) for i in kept)]


class _SymmetricLog(torch.autograd.Function):
    """Logarithm of symmetric positive matrices, with a gradient that equal eigenvalues do not break.

    The derivative is that of Daleckii and Krein: divided differences of the logarithm, which tend
    to 1 / value where two eigenvalues meet; automatic differentiation of an eigendecomposition
    divides by their difference.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrices)
        values = values.clamp_min(torch.finfo(values.dtype).tiny)
        logs = values.log()
        ctx.save_for_backward(values, logs, vectors)
        return (vectors * logs[..., None, :]) @ vectors.mT

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        values, logs, vectors = ctx.saved_tensors
        apart = values[..., :, None] - values[..., None, :]
        mean = (values[..., :, None] + values[..., None, :]) / 2
        close = apart.abs() <= 1e-4 * mean
        rise = logs[..., :, None] - logs[..., None, :]
        divided = torch.where(close, 1 / mean, rise / torch.where(close, 1.0, apart))
        inner = vectors.mT @ ((upstream[0] + upstream[0].mT) / 2) @ vectors
        return vectors @ (divided * inner) @ vectors.mT


def symmetric_log(matrices: Tensor) -> Tensor:
    """Matrix logarithm of symmetric positive definite matrices (..., n, n), differentiable.

    Examples
    --------
    >>> symmetric_log(torch.diag(torch.tensor([1.0, math.e]))).diag().round(decimals=4)
    tensor([0., 1.])
    """
    result: Tensor = _SymmetricLog.apply(matrices)  # type: ignore[no-untyped-call]
    return result


class BinnedBranch(nn.Module):
    """Window means of all channels.

    Parameters
    ----------
    n_chans, n_times : int
        Of a trial, from `first` on.
    sfreq : float
        Sampling rate in Hz.
    width : float
        Length of a window in seconds.
    unit_amplitude : bool
        Whether each trial is divided by its root mean square over channels and samples first.
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int,
        sfreq: float,
        width: float = 0.04,
        unit_amplitude: bool = False,
    ):
        super().__init__()
        self.unit_amplitude = unit_amplitude
        step = max(round(width * sfreq), math.ceil(n_times * n_chans / MOST_FEATURES), 1)
        self.step = min(step, n_times)
        self.n_bins = n_times // self.step
        self.n_features = n_chans * self.n_bins

    def fit(self, evoked: Evoked) -> None:
        """Nothing is fitted."""

    def forward(self, eeg: Tensor) -> Tensor:
        """Map trials (n, n_chans, n_times) to features (n, n_features)."""
        kept = eeg[:, :, : self.n_bins * self.step]
        means = kept.unflatten(2, (self.n_bins, self.step)).mean(dim=3).flatten(1)
        if self.unit_amplitude:  # a mean of what is divided is a mean that is divided
            means = means / (eeg.square().mean(dim=(1, 2)) + 1e-12).sqrt()[:, None]
        return means


class CovarianceBranch(nn.Module):
    """Covariances of a trial's filtered signals with each other and with evoked templates.

    The filters are those in which the evoked responses stand out of everything else (xDAWN: Rivet
    et al. 2009); the templates are the responses themselves. The covariance matrix is shrunk and
    mapped to the tangent space at the mean of the training trials (Barachant et al. 2012 and 2014),
    in which a change of a trial's amplitude or of the cap's mixing is a shift.

    Parameters
    ----------
    n_chans, n_times : int
        Of a trial.
    filters : int
        Spatial filters, at most the number of channels.
    templates : int
        Templates of each response.
    responses : int
        Differences between conditions that get templates, beside the mean response.
    shrinkage : float
        Of each trial's covariance toward the identity.
    """

    space: Tensor
    evoked: Tensor
    scale: Tensor
    whitener: Tensor
    upper: Tensor
    weigh: Tensor

    def __init__(
        self,
        n_chans: int,
        n_times: int,
        filters: int = 8,
        templates: int = 3,
        responses: int = 4,
        shrinkage: float = 0.1,
    ):
        super().__init__()
        self.filters = min(filters, n_chans)
        self.templates = min(templates, self.filters)
        self.responses, self.shrinkage = responses, shrinkage
        rows = (1 + responses) * self.templates
        n = rows + self.filters
        self.register_buffer("space", torch.zeros(self.filters, n_chans))
        self.register_buffer("evoked", torch.zeros(rows, n_times))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("whitener", torch.eye(n))
        upper = torch.triu_indices(n, n)
        self.register_buffer("upper", upper, persistent=False)
        weigh = torch.where(upper[0] == upper[1], 1.0, math.sqrt(2))
        self.register_buffer("weigh", weigh, persistent=False)
        self.n_features = upper.shape[1]

    def fit(self, evoked: Evoked) -> None:
        """Spatial filters and templates from sums over trials; then :meth:`center` is due."""
        n_trials = float(evoked.counts.sum())
        moment = evoked.moment / n_trials
        n = len(moment)
        moment = 0.9 * moment + 0.1 * moment.trace() / n * torch.eye(n, dtype=moment.dtype)
        values, vectors = torch.linalg.eigh(moment)
        whiten = (vectors / values.sqrt()) @ vectors.T
        patterns = evoked.patterns(self.responses)
        left = torch.linalg.svd(whiten @ torch.cat(patterns, dim=1), full_matrices=False).U
        space = (whiten @ left[:, : self.filters]).T
        self.space.copy_(space)
        rows = torch.zeros(self.evoked.shape, dtype=moment.dtype)
        for i, pattern in enumerate(patterns):
            time = torch.linalg.svd(space @ pattern, full_matrices=False).Vh[: self.templates]
            start = i * self.templates
            rows[start : start + len(time)] = time * math.sqrt(rows.shape[1])
        self.evoked.copy_(rows)
        self.scale.fill_(1.0)
        self.whitener.copy_(torch.eye(len(self.scale)))

    def center(self, total: Tensor) -> None:
        """Set the reference from the training trials' mean :meth:`covariances`."""
        power = total.diag().clamp_min(1e-12).sqrt()
        self.scale.copy_(power)
        n = len(power)
        mean = (1 - self.shrinkage) * total / power[:, None] / power + self.shrinkage * torch.eye(
            n, dtype=total.dtype
        )
        values, vectors = torch.linalg.eigh(mean)
        self.whitener.copy_((vectors / values.sqrt()) @ vectors.T)

    def covariances(self, eeg: Tensor) -> Tensor:
        """Second moments (n, n_rows, n_rows) of templates and filtered signals, about their means."""
        signals = self.space @ eeg
        rows = torch.cat([self.evoked.expand(len(eeg), -1, -1), signals], dim=1)
        rows = rows - rows.mean(dim=2, keepdim=True)
        return rows @ rows.mT / rows.shape[2]

    def forward(self, eeg: Tensor) -> Tensor:
        """Map trials (n, n_chans, n_times) to features (n, n_features)."""
        matrices = self.covariances(eeg) / self.scale[:, None] / self.scale
        identity = torch.eye(len(self.scale), dtype=eeg.dtype, device=eeg.device)
        shrunk = (1 - self.shrinkage) * matrices + self.shrinkage * identity
        logs = symmetric_log(self.whitener @ shrunk @ self.whitener)
        return logs[:, self.upper[0], self.upper[1]] * self.weigh
