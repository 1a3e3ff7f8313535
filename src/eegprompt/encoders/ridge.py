"""Ridge regression from binned EEG to caption embeddings: the linear baseline of the whole path.

It is solved, not descended: for every penalty on a grid of decades the solution follows from one
eigendecomposition, and the penalty that retrieves best on the validation set is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eegprompt.core.errors import InputError

__all__ = ["PENALTIES", "RidgeEncoder"]

PENALTIES = tuple(10.0**k for k in range(-3, 6))
"""Penalties tried, in units of the mean eigenvalue of the features' covariance."""


class RidgeEncoder(nn.Module):
    """A linear map from window means of all channels to each head's embedding.

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
        Subjects with a map of their own; others take the one fitted on all.
    bin_width : float
        Length of a window in seconds; means over it keep what is slower and little else.
    per_subject : bool
        Whether subjects have maps of their own.

    Raises
    ------
    InputError
        If a trial holds no window of that length.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        n_subjects: int = 0,
        *,
        bin_width: float = 0.04,
        per_subject: bool = True,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "n_subjects": n_subjects,
            "bin_width": bin_width,
            "per_subject": per_subject,
        }
        self.heads = tuple(heads)
        self.embedding_dim = embedding_dim
        self.step = max(round(bin_width * sfreq), 1)
        self.n_bins = n_times // self.step
        if self.n_bins < 1:
            raise InputError(
                f"trials of {n_times} samples hold no window of {bin_width} s at {sfreq:g} Hz; use a "
                "smaller bin_width"
            )
        width, n_out = n_chans * self.n_bins, len(self.heads) * embedding_dim
        n_maps = 1 + (n_subjects if per_subject else 0)  # the last is the shared one
        self.register_buffer("mean", torch.zeros(n_maps, width))
        self.register_buffer("scale", torch.ones(n_maps, width))
        self.register_buffer("weight", torch.zeros(n_maps, width, n_out))
        self.register_buffer("bias", torch.zeros(n_maps, n_out))

    def features(self, eeg: Tensor) -> Tensor:
        """Window means (n_trials, n_chans * n_bins)."""
        kept = eeg[:, :, : self.n_bins * self.step]
        return kept.unflatten(2, (self.n_bins, self.step)).mean(dim=3).flatten(1)

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`."""
        features = self.features(eeg)
        shared = len(self.bias) - 1
        if subject is None or shared == 0:
            of_map = torch.full((len(eeg),), shared, device=eeg.device)
        else:
            known = (subject >= 0) & (subject < shared)
            of_map = torch.where(known, subject, torch.full_like(subject, shared))
        out = features.new_zeros(len(eeg), self.bias.shape[1])
        for m in of_map.unique().tolist():
            mine = of_map == m
            standard = (features[mine] - self.mean[m]) / self.scale[m]
            out[mine] = standard @ self.weight[m] + self.bias[m]
        parts = out.unflatten(1, (len(self.heads), self.embedding_dim))
        return {head: parts[:, i] for i, head in enumerate(self.heads)}

    @torch.no_grad()
    def solve(
        self,
        train: Iterable[tuple[Tensor, Tensor]],
        targets: dict[str, Tensor],
        validate: Callable[[], float],
        progress: Callable[[int, int, str], None] | None = None,
    ) -> list[dict[str, float]]:
        """Fit all maps, with the penalty that validates best.

        Parameters
        ----------
        train : iterable of (eeg, subject)
            Batches of the training set, in order.
        targets : dict of head to float tensor (n_trials, n_dims)
            What each head should give for the training trials, in the same order.
        validate : callable
            Score on the validation set of the maps as they are; higher is better.
        progress : callable, optional
            Called with (done, total, label).

        Returns
        -------
        list of dict
            ``penalty`` and ``score`` of each penalty tried.
        """
        parts, subjects = [], []
        for eeg, subject in train:
            parts.append(self.features(eeg).double())
            subjects.append(subject)
        x, subject = torch.cat(parts), torch.cat(subjects)
        y = torch.cat([targets[head].double() for head in self.heads], dim=1)
        n_maps = len(self.bias)
        rows = [torch.nonzero(subject == m).ravel() for m in range(n_maps - 1)]
        rows.append(torch.arange(len(x)))
        solvers = [self._prepare(m, x[r], y[r]) for m, r in enumerate(rows) if len(r) > 1]
        table = []
        best: tuple[float, dict[str, Tensor]] | None = None
        for i, penalty in enumerate(PENALTIES):
            for solver in solvers:
                solver(penalty)
            score = validate()
            table.append({"penalty": penalty, "score": score})
            if best is None or score > best[0]:
                best = score, {k: v.clone() for k, v in self.state_dict().items()}
            if progress:
                progress(i + 1, len(PENALTIES), f"ridge (validation top-1 {score:.3f})")
        assert best is not None
        self.load_state_dict(best[1])
        return table

    def _prepare(self, m: int, x: Tensor, y: Tensor) -> Callable[[float], None]:
        """Decompose once; the function it gives solves map `m` for a penalty."""
        mean, scale = x.mean(dim=0), x.std(dim=0).clamp_min(1e-12)
        x = (x - mean) / scale
        center = y.mean(dim=0)
        y = y - center
        n, p = x.shape
        dual = n <= p
        values, vectors = torch.linalg.eigh(x @ x.T if dual else x.T @ x)
        values = values.clamp_min(0)
        unit = float(values.sum() / min(n, p))
        projected = vectors.T @ (y if dual else x.T @ y)
        self.mean[m], self.scale[m], self.bias[m] = mean.float(), scale.float(), center.float()

        def solve(penalty: float) -> None:
            inner = vectors @ (projected / (values + penalty * unit)[:, None])
            self.weight[m] = (x.T @ inner if dual else inner).float()

        return solve
