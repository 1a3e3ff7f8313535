"""Where and when the EEG covaries with the output of a head: activation patterns.

A decoder's weights say how to read a signal out from under noise; where the signal lies is said by
the covariance of the EEG with the decoder's output (Haufe et al. 2014, NeuroImage 87:96, equation
6: A = Σx W Σŝ⁻¹). For a nonlinear decoder the same regression is computed from what it says of
trials it was not trained on.

Any output of the EEG covaries with the EEG, that of an untrained network too: with what has most
variance, such as alpha and blinks. So a pattern is given as z against the outputs of other trials,
and whether a head says anything about the images is another question
(:func:`eegprompt.attribution.sanity.caption_information`). :func:`partner_outputs` answers both at once
where images are repeated: what a head said of *another* trial of the image shares no noise with
this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.core.progress import Progress

__all__ = [
    "Agreement",
    "Pattern",
    "activation_pattern",
    "class_means",
    "half_agreement",
    "partner_outputs",
    "peak",
    "without",
]


@dataclass(frozen=True)
class Pattern:
    """How strongly each channel covaries with an output at each moment.

    Parameters
    ----------
    amplitude : array (n_chans, n_times)
        Size of the EEG's regression on the output, in the EEG's unit at an output one standard
        deviation from its mean (all dimensions together), with what chance alone gives taken out;
        RMS over groups. Never negative: sources of a meaning with several dimensions
        have no one sign.
    z : array (n_chans, n_times)
        The size against outputs of other trials: standard deviations above their mean. NaN where
        no permutation was asked for.
    threshold : float
        What the largest z of the whole map exceeds by chance in 5 % of permutations.
    p : float
        Share of permutations with a z as large anywhere as the largest here; in (0, 1].
    n_trials : int
        How many trials went in.
    """

    amplitude: np.ndarray
    z: np.ndarray
    threshold: float
    p: float
    n_trials: int


@dataclass(frozen=True)
class Agreement:
    """How far the patterns of two halves of the trials agree.

    Parameters
    ----------
    reliability : float
        Spearman and Brown's 2r / (1 + r) of the correlation r of the halves' energies, each over
        what chance gives; at least -1.
    p : float
        Share of pairs of permuted patterns that agree as well, the true pair counted; in (0, 1].
    """

    reliability: float
    p: float


def activation_pattern(
    trials: Any,
    output: np.ndarray,
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    units: Sequence[Any] | np.ndarray | None = None,
    n_permutations: int = 50,
    n_components: int = 12,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Pattern:
    """Regress the EEG on a head's output for the same trials.

    Parameters
    ----------
    trials : array (n_trials, n_chans, n_times)
        EEG as recorded, not whitened, held out from the decoder's training. Read by slices, a pass
        a group, so it may be memory-mapped.
    output : array (n_trials, n_dims)
        What the head says of them, for example its embeddings.
    groups : sequence (n_trials,), optional
        Subjects: means are subtracted and covariances taken within each.
    units : sequence (n_trials,), optional
        What is exchangeable, for example the image of each trial; outputs are permuted in whole
        units. Each trial if not given.
    n_permutations : int
        Outputs of other trials to compare with; 0 for the amplitude only.
    n_components : int
        Leading principal components of the output that are kept.
    seed : int
        Of the permutations.
    batch_size : int
        Trials at a time.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    Pattern
        Of zeros where the output is constant.

    Raises
    ------
    InputError
        If shapes do not match or fewer than two trials were given.
    """
    found = _energies(
        trials, output, groups, units, n_permutations, n_components, seed, batch_size, progress
    )
    shape, n = np.shape(trials)[1:], len(trials)
    if not found.n_groups:
        return Pattern(np.zeros(shape), np.zeros(shape), 0.0, 1.0, n)
    excess = np.maximum(found.own - found.by_chance, 0)
    amplitude = np.sqrt(excess / found.n_groups).reshape(shape)
    if not n_permutations:
        return Pattern(amplitude, np.full(shape, np.nan), np.nan, np.nan, n)
    size, null = np.sqrt(found.own), np.sqrt(found.null)
    mean, spread = null.mean(axis=0), null.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    z = (size - mean) / spread
    largest = ((null - mean) / spread).max(axis=1)
    return Pattern(
        amplitude,
        z.reshape(shape),
        float(np.quantile(largest, 0.95)),
        float((1 + (largest >= z.max()).sum()) / (1 + n_permutations)),
        n,
    )


def half_agreement(
    trials: Any,
    output: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray],
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    units: Sequence[Any] | np.ndarray | None = None,
    n_permutations: int = 20,
    n_components: int = 12,
    seed: int = 0,
    batch_size: int = 256,
) -> Agreement:
    """Whether two halves of the trials give the same pattern, and more so than patterns of nothing.

    Two smooth maps of nothing can agree, and how much depends on how smooth they are. So the
    agreement of the halves is compared with that of patterns of the same EEG from outputs that
    were permuted among images in either half, as smooth as the EEG makes them. Any permutation
    of one half is put beside any of the other: if outputs say nothing of the EEG, the pair of the
    true ones is as likely as any other of the (n + 1)² pairs to agree best, so that p is exact.

    Parameters
    ----------
    trials, output
        As in :func:`activation_pattern`.
    halves : pair of array of int
        Rows of either half (:func:`eegprompt.attribution.sanity.halves`).
    groups, units
        As in :func:`activation_pattern`.
    n_permutations : int
        In either half; p is at least 1 / (n_permutations + 1)².
    n_components, seed, batch_size
        As in :func:`activation_pattern`.

    Returns
    -------
    Agreement
        Of NaN where a half has fewer than two trials or a constant output.
    """
    who = _codes(["all"] * len(output) if groups is None else groups, len(output))
    unit = _codes(units, len(output))
    ratios = []
    for place, rows in enumerate(halves):
        if len(rows) < 2:
            return Agreement(float("nan"), float("nan"))
        found = _energies(
            _Rows(trials, rows), np.asarray(output, dtype=np.float64)[rows], who[rows], unit[rows],
            n_permutations, n_components, seed + place, batch_size, None,
        )  # fmt: skip
        # What chance gives on average is the same for all permutations, so that none is favored.
        scale = np.where(found.by_chance > 0, found.by_chance, np.inf)
        ratio = np.concatenate([found.own[None], found.null]) / scale
        ratio -= ratio.mean(axis=1, keepdims=True)
        length = np.linalg.norm(ratio, axis=1)
        if not (length > 1e-9).all():
            return Agreement(float("nan"), float("nan"))
        ratios.append(ratio / length[:, None])
    agree = ratios[0] @ ratios[1].T
    r = float(agree[0, 0])
    return Agreement(
        float(max(2 * r / (1 + r), -1.0)) if r > -0.9 else r,
        float((agree >= r - 1e-12).mean()),
    )


def class_means(
    trials: Any,
    captions: np.ndarray,
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    batch_size: int = 256,
) -> np.ndarray:
    """The same map from true captions instead of a head's output: no model is involved.

    What stands beside a pattern, so that nobody credits a model with what averaging shows.

    Parameters
    ----------
    trials : array (n_trials, n_chans, n_times)
        As in :func:`activation_pattern`.
    captions : array (n_trials, n_dims)
        Embeddings of the true captions, or one-hot classes.
    groups, batch_size
        As in :func:`activation_pattern`.

    Returns
    -------
    array (n_chans, n_times)
        As :attr:`Pattern.amplitude`.
    """
    return activation_pattern(
        trials, captions, groups=groups, n_permutations=0, batch_size=batch_size
    ).amplitude


def partner_outputs(
    output: np.ndarray, conditions: Sequence[Any] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a head said of the other trials of the same condition.

    Parameters
    ----------
    output : array (n_trials, n_dims)
        What it said of each trial.
    conditions : sequence (n_trials,)
        For example the image of each trial.

    Returns
    -------
    rows : array of int (n,)
        Trials whose condition was shown more than once.
    partners : array (n, n_dims)
        Mean over the other trials of each one's condition.
    """
    output = np.asarray(output, dtype=np.float64)
    code = _codes(conditions, len(output))
    count = np.bincount(code)
    total = np.zeros((len(count), output.shape[1]))
    np.add.at(total, code, output)
    rows = np.flatnonzero(count[code] > 1)
    others = total[code[rows]] - output[rows]
    return rows, others / (count[code[rows]] - 1)[:, None]


def peak(pattern: np.ndarray, times: np.ndarray, after: float = 0.0) -> float:
    """When a map is largest: the RMS over channels at its height, in seconds.

    Parameters
    ----------
    pattern : array (n_chans, n_times)
        A map; what is negative (a z below chance) counts as zero.
    times : array (n_times,)
        Seconds.
    after : float
        Earlier moments are not considered.

    Returns
    -------
    float
        NaN for a map of zeros.
    """
    course = np.sqrt((np.maximum(pattern, 0) ** 2).mean(axis=0))
    course = np.where(np.asarray(times) > after, course, 0.0)
    return float(times[course.argmax()]) if course.max() > 0 else float("nan")


def without(output: np.ndarray, other: np.ndarray, ridge: float = 1e-2) -> np.ndarray:
    """What is left of an output when another is regressed out of it.

    Parameters
    ----------
    output : array (n_trials, n_dims)
        Of a head.
    other : array (n_trials, n_other_dims)
        For example the caption embeddings of another kind.
    ridge : float
        Penalty, as a fraction of the mean variance of `other`'s dimensions.

    Returns
    -------
    array (n_trials, n_dims)
        Means subtracted.
    """
    y = np.asarray(output, dtype=np.float64)
    y = y - y.mean(axis=0)
    x = np.asarray(other, dtype=np.float64)
    x = x - x.mean(axis=0)
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-12
    return y - x @ np.linalg.solve(gram, x.T @ y)


@dataclass(frozen=True)
class _Energies:
    """Squared size of the regression of each feature (channel and moment) on an output."""

    own: np.ndarray  # (n_features,)
    by_chance: np.ndarray  # (n_features,): mean over all permutations of trials
    null: np.ndarray  # (n_permutations, n_features)
    n_groups: int


def _energies(
    trials: Any,
    output: np.ndarray,
    groups: Any,
    units: Any,
    n_permutations: int,
    n_components: int,
    seed: int,
    batch_size: int,
    progress: Progress | None,
) -> _Energies:
    output = np.asarray(output, dtype=np.float64)
    n, n_chans, n_times = np.shape(trials)
    if output.ndim != 2 or len(output) != n:
        raise InputError(
            f"output must have shape ({n}, n_dims), one row a trial, got {output.shape}"
        )
    if n < 2:
        raise InputError(f"a pattern is a regression over trials; it needs at least two, got {n}")
    who = _codes(["all"] * n if groups is None else groups, n)
    unit = _codes(units, n)
    n_features = n_chans * n_times
    rng = np.random.default_rng(seed)
    squares = np.zeros(n_features)
    by_chance = np.zeros(n_features)
    null = np.zeros((n_permutations, n_features), dtype=np.float32)
    n_groups = 0
    for group in np.unique(who):
        rows = np.flatnonzero(who == group)
        said = _components(output[rows], n_components)
        if len(rows) < 2 or not said.shape[1]:
            continue
        n_groups += 1
        orders = [_permuted(unit[rows], rng) for _ in range(n_permutations)]
        several = np.concatenate([said, *(said[order] for order in orders)], axis=1)
        product, power = _products(trials, rows, several.astype(np.float32), batch_size)
        product /= len(rows) - 1
        product **= 2
        energy = product.reshape(n_features, -1, said.shape[1]).sum(axis=2)
        squares += energy[:, 0]
        null += energy[:, 1:].T
        # Over all permutations of trials, E(xᵀPu)² = |x|²|u|²/(n-1), with means subtracted.
        by_chance += power * (said**2).sum() / (len(rows) - 1) ** 3
        if progress is not None:
            progress(n_groups, len(np.unique(who)), "activation patterns")
    return _Energies(squares, by_chance, null, n_groups)


class _Rows:
    """Some of the trials, read when sliced."""

    def __init__(self, trials: Any, rows: np.ndarray):
        self.trials, self.rows = trials, np.asarray(rows)
        self.shape = (len(self.rows), *np.shape(trials)[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        return np.asarray(self.trials[self.rows[which]])


def _codes(labels: Sequence[Any] | np.ndarray | None, n: int) -> np.ndarray:
    if labels is None:
        return np.arange(n)
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise InputError(f"there must be one label a trial: {n} trials, got shape {labels.shape}")
    return np.unique(labels.astype(str), return_inverse=True)[1]


def _components(output: np.ndarray, n_components: int) -> np.ndarray:
    """Leading principal components, scaled so that all together have unit variance."""
    centered = output - output.mean(axis=0)
    total = (centered**2).sum() / max(len(output) - 1, 1)
    if not total > 1e-18:
        return centered[:, :0]
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    kept = left * values
    kept = kept[:, : min(n_components, int((values > 1e-6 * values[0]).sum()))]
    return kept / np.sqrt(total)


def _permuted(unit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows such that each unit gets the rows of another, in turn where their numbers differ."""
    members = [np.flatnonzero(unit == u) for u in np.unique(unit)]
    order = np.empty(len(unit), dtype=np.int64)
    for own, place in zip(members, rng.permutation(len(members))):
        order[own] = np.resize(members[place], len(own))
    return order


def _products(
    trials: Any, rows: np.ndarray, outputs: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Σ (x - mean) u for each feature and output column, and Σ (x - mean)², over some trials."""
    n_features = int(np.prod(np.shape(trials)[1:]))
    guess = np.asarray(trials[rows[:batch_size]], dtype=np.float32).mean(axis=0).ravel()
    product = np.zeros((n_features, outputs.shape[1]), dtype=np.float32)
    total, power = np.zeros(n_features), np.zeros(n_features)
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        x = np.asarray(trials[some], dtype=np.float32).reshape(len(some), -1) - guess
        # Permuted outputs need not have mean zero where units differ in size.
        product += x.T @ outputs[start : start + batch_size]
        total += x.sum(axis=0, dtype=np.float64)
        power += np.einsum("nf,nf->f", x, x, dtype=np.float64)
    mean = total / len(rows)
    product -= np.outer(mean, outputs.sum(axis=0)).astype(np.float32)
    return product, power - len(rows) * mean**2
