"""The default encoder: a network and convex branches beside it, whose answers are added as log odds.

::

    eeg ──┬── network (by default the transformer) ── embedding, scaled on validation ──┐
          ├── window means ── logistic or ridge regression ─────────────────────────────┤ sum
          ├── window means of unit amplitude ── the same ───────────────────────────────┤
          └── covariances with evoked templates ── the same ────────────────────────────┘

On a few hundred trials a convex fit with a penalty chosen by cross-validation is hard to beat, and on
thousands a network reads more; which it is need not be known beforehand. Each branch's answer is
brought to log odds by trials it was not fitted on, those of the network by the validation set, so
that one that knows nothing adds nothing. The branches differ in what they read, which is what makes
a sum better than its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eegprompt.core.errors import InputError
from eegprompt.core.registry import resolve
from eegprompt.encoders.branches import BinnedBranch, CovarianceBranch, Evoked
from eegprompt.encoders.preprocessing import PLENTY
from eegprompt.encoders.readout import Chosen, Reduced, Targets, choose, weighed

__all__ = ["FusedEncoder"]

SHARES = {"means": 0.5, "shapes": 0.5, "covariances": 1.0}
"""Of each branch in the sum: the two that read the same windows count as one."""

POWERS = (0.0, 0.5, 1.0)
"""How far the channels are whitened; the one that predicts left-out training trials best is kept."""
Blocks = Callable[[], Iterable[Tensor]]


class FusedEncoder(nn.Module):
    """A network and convex branches, each head's answers added.

    Parameters
    ----------
    heads : sequence of str
        Caption kinds, one head each.
    embedding_dim : int
        Dimensions of the text encoder's embeddings.
    n_chans, n_times : int
        Of a trial.
    sfreq : float
        Sampling rate in Hz.
    n_subjects : int
        Subjects that the network may adapt to.
    tmin : float
        Time of the first sample in seconds; the branches read from 0 on.
    network : str
        The network, by its registered name.
    **options
        For the network's constructor.

    Attributes
    ----------
    config : dict
        The arguments above: ``FusedEncoder(**config)`` makes an encoder of the same shape.
    table : dict of str to dict
        After :meth:`prepare`: penalty and log loss of each branch and head, by power of whitening.
    """

    positions: Tensor
    anchor: Tensor
    network_scale: Tensor
    branch_scale: Tensor
    mixing: Tensor
    prepared: Tensor
    fused: Tensor

    def __init__(
        self,
        *,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        n_subjects: int = 0,
        tmin: float = 0.0,
        network: str = "transformer",
        **options: Any,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "n_subjects": n_subjects,
            "tmin": tmin,
            "network": network,
            **options,
        }
        self.heads = tuple(heads)
        make, argument = resolve("encoder", network)
        self.network = make(
            heads=heads,
            embedding_dim=embedding_dim,
            n_chans=n_chans,
            n_times=n_times,
            sfreq=sfreq,
            n_subjects=n_subjects,
            **({"model": argument} if argument else {}),
            **options,
        )
        first = max(round(-tmin * sfreq), 0)
        self.first = first if first < n_times else 0
        after = n_times - self.first
        self.branches = nn.ModuleDict(
            {
                "means": BinnedBranch(n_chans, after, sfreq),
                "shapes": BinnedBranch(n_chans, after, sfreq, unit_amplitude=True),
                "covariances": CovarianceBranch(n_chans, after),
            }
        )
        n_out = len(self.heads) * embedding_dim
        for name, branch in self.branches.items():
            n_features = int(branch.n_features)  # type: ignore[arg-type]
            self.register_buffer(f"weight_{name}", torch.zeros(n_features, n_out))
        self.register_buffer("bias", torch.zeros(n_out))
        self.register_buffer("anchor", torch.zeros(n_out))
        self.register_buffer("network_scale", torch.zeros(len(self.heads)))
        self.register_buffer("branch_scale", torch.ones(len(self.heads)))
        self.register_buffer("positions", torch.full((n_chans, 3), torch.nan))
        self.register_buffer("mixing", torch.eye(n_chans))
        self.register_buffer("prepared", torch.tensor(False))
        self.register_buffer("fused", torch.tensor(False))
        self.table: dict[str, Any] = {}

    bias: Tensor

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`.

        In training, and before :meth:`fuse`, the network speaks alone.
        """
        eeg, positions = self._enter(eeg, positions)
        own: dict[str, Tensor] = self.network(eeg, positions, subject)
        if self.training or not bool(self.fused):
            return own
        anchor = self.anchor.unflatten(0, (len(self.heads), -1))
        return {
            head: part * self.branch_scale[i]
            + anchor[i]
            + self.network_scale[i] * F.normalize(own[head], dim=1)
            for i, (head, part) in enumerate(zip(self.heads, self._branches(eeg)))
        }

    def _enter(self, eeg: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """EEG of the electrodes that the encoder was fitted on, after :attr:`mixing`."""
        known = self.positions
        if not bool(self.prepared):
            return eeg, positions
        return self.mixing @ self._on_known_cap(eeg, positions), known

    def _branches(self, eeg: Tensor) -> list[Tensor]:
        """Sum of the branches' answers of each head (n_trials, n_dims).

        Head by head, so that the gradient of one does not pass the weights of all.
        """
        eeg = eeg[:, :, self.first :]
        read = {name: branch(eeg) for name, branch in self.branches.items()}
        total = list(self.bias.unflatten(0, (len(self.heads), -1)))
        for name, features in read.items():
            weight = self.get_buffer(f"weight_{name}").unflatten(1, (len(self.heads), -1))
            total = [part + features @ weight[:, i] for i, part in enumerate(total)]
        return total

    def alone(self, eeg: Tensor, positions: Tensor) -> dict[str, dict[str, Tensor]]:
        """What the network and each branch say by themselves, for comparison: part to head to embedding."""
        eeg, positions = self._enter(eeg, positions)
        found: dict[str, dict[str, Tensor]] = {"network": self.network(eeg, positions)}
        for name, branch in self.branches.items():
            said = branch(eeg[:, :, self.first :]) @ self.get_buffer(f"weight_{name}") + self.anchor
            parts = said.unflatten(1, (len(self.heads), -1))
            found[name] = {head: parts[:, i] for i, head in enumerate(self.heads)}
        return found

    def _on_known_cap(self, eeg: Tensor, positions: Tensor) -> Tensor:
        """EEG at the electrodes that the branches were fitted on."""
        known = self.positions
        same = positions.shape == known.shape and bool(
            ((positions - known).abs() < 1e-4)[~known.isnan()].all()
        )
        if same:
            return eeg
        if positions.isnan().any() or known.isnan().any():
            if positions.shape == known.shape:
                return eeg  # nothing is known but the order
            raise InputError(
                f"the encoder was fitted on {len(known)} channels and got {len(positions)}, some "
                "without a position; give a montage"
            )

        def near(a: Tensor, b: Tensor) -> Tensor:
            return (-(torch.cdist(a, b) ** 2) / (2 * 0.04**2)).exp()

        there = near(positions, positions) + 0.01 * torch.eye(len(positions)).to(positions)
        return torch.linalg.solve(there, near(positions, known)).T.to(eeg) @ eeg

    @property
    def stem(self) -> nn.Module:
        """What comes behind the network's spatial filters."""
        stem: nn.Module = self.network.stem
        return stem

    @property
    def samples(self) -> int:
        """Samples of the network's windows."""
        return int(self.network.samples)

    def spatial_attention(self, positions: Tensor, subject: int | None = None) -> Tensor:
        """Spatial filters of the network for a montage, signed (n_filters, n_chans)."""
        filters: Tensor = self.network.spatial_attention(positions, subject)
        return filters

    # -- fitting -----------------------------------------------------------------------------------
    @torch.no_grad()
    def prepare(
        self,
        blocks: Blocks,
        positions: Tensor,
        condition: np.ndarray,
        targets: Mapping[str, Targets],
        fold: np.ndarray,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        """Fit the branches on the training set.

        Parameters
        ----------
        blocks : callable
            Gives the training trials anew, (n, n_chans, n_times) at a time, in order.
        positions : float tensor (n_chans, 3)
            Of their electrodes.
        condition : int array (n_trials,)
            What each trial shows; templates are of these.
        targets : mapping of head to Targets
            What each head should say.
        fold : int array (n_trials,)
            Groups of trials that are left out in turn to choose the penalties.
        progress : callable, optional
            Called with (done, total, label).
        """
        self.positions.copy_(positions)
        self.prepared.fill_(True)
        numbers, fold = np.unique(fold, return_inverse=True)
        sums = self._evoked(blocks, condition, fold, len(numbers))
        total = Evoked.sum(sums)
        tried = []
        plenty = len(condition) >= PLENTY * len(total.moment)
        for power in POWERS[-1:] if plenty else POWERS:
            mixing = total.whitening(power)
            mixed = partial(_mixed, blocks, mixing.float(), self.first)
            after = [one.mixed(mixing) for one in sums]
            found = self._fit_branches(mixed, after, targets, fold)
            loss = sum(
                SHARES[name] * chosen.loss
                for name, by_head in found.items()
                for chosen in by_head.values()
            )
            tried.append((loss, power, mixing, self._state()))
            if progress:
                done = len(POWERS) if plenty else len(tried)
                progress(done, len(POWERS), "fitting the convex branches")
            self.table[f"whitening {power:g}"] = {
                name: {head: (c.penalty, c.loss) for head, c in by_head.items()}
                for name, by_head in found.items()
            }
        _, _, mixing, state = min(tried, key=lambda one: one[0])
        self.load_state_dict(state, strict=False)
        self.mixing.copy_(mixing)

    def _state(self) -> dict[str, Tensor]:
        """Copies of what the branches were fitted to."""
        return {
            name: tensor.clone()
            for name, tensor in self.state_dict().items()
            if name.startswith(("weight_", "bias", "branches."))
        }

    def _fit_branches(
        self,
        blocks: Blocks,
        sums: list[Evoked],
        targets: Mapping[str, Targets],
        fold: np.ndarray,
    ) -> dict[str, dict[str, Chosen]]:
        total = Evoked.sum(sums)
        self.bias.zero_()
        table: dict[str, dict[str, Chosen]] = {}
        for name, branch in self.branches.items():
            parts: list[tuple[np.ndarray, Reduced, np.ndarray, np.ndarray]] = []
            features: np.ndarray | None = None
            for f in (*range(len(sums)), -1):
                fitted = np.flatnonzero(fold != f)
                if features is None or isinstance(branch, CovarianceBranch):
                    evoked = total - sums[f] if f >= 0 else total
                    features = _features(branch, blocks, evoked, fold != f)
                left_out = np.flatnonzero(fold == f)
                parts.append((fitted, Reduced(features[fitted]), left_out, features[left_out]))
            weight = self.get_buffer(f"weight_{name}").unflatten(1, (len(self.heads), -1))
            bias = self.bias.unflatten(0, (len(self.heads), -1))
            table[name] = {}
            for i, head in enumerate(self.heads):
                chosen = choose(targets[head], parts)
                weight[:, i] = torch.from_numpy(SHARES[name] * chosen.weight)
                bias[i] += torch.from_numpy(SHARES[name] * chosen.bias)
                table[name][head] = chosen
        return table

    def _evoked(
        self, blocks: Blocks, condition: np.ndarray, fold: np.ndarray, n_folds: int
    ) -> list[Evoked]:
        """Sums over the trials of each fold."""
        sums: list[Evoked | None] = [None] * n_folds
        start, n_conditions = 0, int(condition.max()) + 1
        for eeg in blocks():
            of = slice(start, start + len(eeg))
            for f in np.unique(fold[of]):
                mine = torch.from_numpy(fold[of] == f)
                shown = torch.from_numpy(condition[of])[mine]
                here = Evoked.of(eeg[mine][:, :, self.first :], shown, n_conditions)
                before = sums[f]
                if before is None:
                    sums[f] = here
                else:
                    before.add(here)
            start += len(eeg)
        return [one for one in sums if one is not None]

    @torch.no_grad()
    def fuse(
        self,
        eeg: Iterable[tuple[Tensor, Tensor]],
        positions: Tensor,
        targets: Mapping[str, Targets],
        texts: Mapping[str, np.ndarray],
    ) -> None:
        """Scale the network's answers on the validation set, and add the branches to them.

        Parameters
        ----------
        eeg : iterable of (trials, subject)
            The validation set, in order.
        positions : float tensor (n_chans, 3)
            Of its electrodes.
        targets : mapping of head to Targets
            What each head should say of these trials; the bank holds all things shown on both sides.
        texts : mapping of head to array (n_texts, n_dims)
            Embeddings of all their captions.
        """
        own: dict[str, list[Tensor]] = {head: [] for head in self.heads}
        branches = []
        for trials, who in eeg:
            inside, there = self._enter(trials, positions)
            for head, said in self.network(inside, there, who).items():
                own[head].append(F.normalize(said, dim=1))
            branches.append(torch.stack(self._branches(inside), dim=1))
        beside = torch.cat(branches).double().numpy()
        anchor = self.anchor.unflatten(0, (len(self.heads), -1))
        for i, head in enumerate(self.heads):
            said = torch.cat(own[head]).double().numpy()
            a, b, constant = weighed(said, beside[:, i], targets[head], texts[head])
            self.network_scale[i], self.branch_scale[i] = a, b
            anchor[i] = torch.from_numpy(constant)
        self.fused.fill_(True)

    @property
    def scales(self) -> dict[str, float]:
        """Length of each head's embeddings, about: what turns its cosines into log odds."""
        anchor = self.anchor.unflatten(0, (len(self.heads), -1)).norm(dim=1)
        return {
            head: float(anchor[i]) or float(self.network_scale[i])
            for i, head in enumerate(self.heads)
        }


def _mixed(blocks: Blocks, mixing: Tensor, first: int) -> Iterable[Tensor]:
    """Trials from a sample on, after their channels were mixed."""
    return (mixing @ eeg[:, :, first:] for eeg in blocks())


def _features(branch: Any, blocks: Blocks, evoked: Evoked, fitted: np.ndarray) -> np.ndarray:
    """Features of all trials by a branch fitted on some of them."""
    branch.fit(evoked)
    if isinstance(branch, CovarianceBranch):
        total, start = torch.zeros(len(branch.scale), len(branch.scale)), 0
        for eeg in blocks():
            mine = torch.from_numpy(fitted[start : start + len(eeg)])
            total += branch.covariances(eeg[mine]).sum(dim=0)
            start += len(eeg)
        branch.center(total.double() / int(fitted.sum()))
    return np.asarray(torch.cat([branch(eeg) for eeg in blocks()]).double().numpy())
