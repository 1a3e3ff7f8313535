"""Where and when levels of meaning differ: contributions of single images, and cluster tests.

A cluster test across images is a statement about this model on these subjects and images; with
few subjects it says nothing about people at large. And it says that the maps differ, not where the
difference begins or ends (Sassenhagen and Draschkow 2019, Psychophysiology 56:e13335).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from eegprompt.attribution.patterns import _codes, _components
from eegprompt.core.errors import InputError

__all__ = [
    "ClusterTest",
    "cluster_test",
    "cluster_tests",
    "contributions",
    "electrode_info",
    "time_bins",
]

Key = TypeVar("Key")


def time_bins(trials: Any, width: int, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Average trials in bins side by side.

    Parameters
    ----------
    trials : array (n_trials, n_chans, n_times)
        Read by slices.
    width : int
        Samples a bin; what is left at the end is dropped.
    batch_size : int
        Trials at a time.

    Returns
    -------
    centers : array (n_bins,)
        In samples.
    binned : float32 array (n_trials, n_chans, n_bins)
    """
    n, n_chans, n_times = np.shape(trials)
    n_bins = n_times // width
    if not n_bins:
        raise InputError(f"a bin of {width} samples is longer than a trial of {n_times}")
    binned = np.empty((n, n_chans, n_bins), dtype=np.float32)
    for start in range(0, n, batch_size):
        block = np.asarray(trials[start : start + batch_size], dtype=np.float32)
        block = block[:, :, : n_bins * width].reshape(len(block), n_chans, n_bins, width)
        binned[start : start + batch_size] = block.mean(axis=3)
    return np.arange(n_bins) * width + (width - 1) / 2, binned


def contributions(
    trials: np.ndarray,
    output: np.ndarray,
    units: Sequence[Any] | np.ndarray,
    groups: Sequence[Any] | np.ndarray | None = None,
    n_components: int = 12,
) -> np.ndarray:
    """How far each unit's EEG is what its output predicts, by channel and moment.

    The pattern of all *other* units is turned into a prediction by the trial's output, and
    multiplied with the trial's EEG; divided by the EEG's variance. The mean over units is the
    explained share of variance without the bias of fitting; a unit's value is evidence of its own,
    as a test across units needs.

    Parameters
    ----------
    trials : array (n_trials, n_chans, n_bins)
        In memory (:func:`time_bins`).
    output : array (n_trials, n_dims)
        What a head says of them.
    units : sequence (n_trials,)
        For example the image of each trial.
    groups : sequence (n_trials,), optional
        Subjects: patterns are taken within each.
    n_components : int
        Leading principal components of the output that are kept.

    Returns
    -------
    array (n_units, n_chans, n_bins)
        Unitless; 0 in the mean where the output says nothing of the EEG.
    """
    n, n_chans, n_bins = trials.shape
    unit, who = _codes(units, n), _codes(groups, n) if groups is not None else np.zeros(n, int)
    total = np.zeros((unit.max() + 1, n_chans * n_bins))
    for group in np.unique(who):
        rows = np.flatnonzero(who == group)
        said = _components(np.asarray(output, dtype=np.float64)[rows], n_components)
        if len(rows) < 3 or not said.shape[1]:
            continue
        x = trials[rows].reshape(len(rows), -1).astype(np.float64)
        x -= x.mean(axis=0)
        variance = (x**2).mean(axis=0)
        variance[variance == 0] = np.inf
        power = said.var(axis=0)
        whole = x.T @ said
        for u in np.unique(unit[rows]):
            own = unit[rows] == u
            rest = len(rows) - own.sum()
            if not rest:
                continue
            pattern = (whole - x[own].T @ said[own]) / rest / power
            total[u] += (x[own] * (said[own] @ pattern.T)).sum(axis=0) / variance
    return (total / np.bincount(unit)[:, None]).reshape(-1, n_chans, n_bins)


@dataclass(frozen=True)
class ClusterTest:
    """Where two courses differ, by cluster permutation.

    Parameters
    ----------
    t : array (n_chans, n_bins)
        t value at each place.
    mask : bool array (n_chans, n_bins)
        In clusters with p < .05.
    p : float
        Of the strongest cluster; 1 where there is none; NaN where there are too few units to test.
    n_units : int
        Images or subjects.
    """

    t: np.ndarray
    mask: np.ndarray
    p: float
    n_units: int


def cluster_tests(
    differences: Mapping[Key, np.ndarray], adjacency: Any | None = None, **options: Any
) -> dict[Key, ClusterTest]:
    """:func:`cluster_test` of several differences of the same units at once.

    Units' signs are flipped in all of them together, and a cluster's p is the share of flips whose
    largest cluster *in any of them* is as large: the chance of even one false cluster in all tests
    is at most .05, and few units lose less than by multiplying p.

    Parameters
    ----------
    differences : mapping of name to array (n_units, n_chans, n_bins)
        As in :func:`cluster_test`.
    adjacency, **options
        As in :func:`cluster_test`.

    Returns
    -------
    dict of name to ClusterTest
    """
    from scipy import sparse

    n_chans = next(iter(differences.values())).shape[1]
    one = sparse.eye_array(n_chans) if adjacency is None else adjacency
    whole, p = _tested(
        np.concatenate(list(differences.values()), axis=1),
        sparse.block_diag([one] * len(differences), format="coo"),
        **options,
    )
    found = {}
    for place, name in enumerate(differences):
        own = slice(place * n_chans, (place + 1) * n_chans)
        smallest = float(p[own].min()) if np.isfinite(whole.p) else whole.p
        found[name] = ClusterTest(whole.t[own], whole.mask[own], smallest, whole.n_units)
    return found


def cluster_test(
    difference: np.ndarray,
    adjacency: Any | None = None,
    *,
    n_permutations: int = 200,
    threshold_p: float = 0.001,
    seed: int = 0,
) -> ClusterTest:
    """Test whether differences of units are zero in the mean: spatio-temporal clusters, by MNE.

    Parameters
    ----------
    difference : array (n_units, n_chans, n_bins)
        For example the :func:`contributions` of one level less those of another.
    adjacency : sparse matrix (n_chans, n_chans), optional
        Which channels are neighbors; without it clusters extend over time only.
    n_permutations : int
        Sign flips of units.
    threshold_p : float
        Two-sided p that forms clusters.
    seed : int
        Of the flips.

    Returns
    -------
    ClusterTest
    """
    return _tested(
        difference, adjacency, n_permutations=n_permutations, threshold_p=threshold_p, seed=seed
    )[0]


def _tested(
    difference: np.ndarray,
    adjacency: Any | None,
    *,
    n_permutations: int = 200,
    threshold_p: float = 0.001,
    seed: int = 0,
) -> tuple[ClusterTest, np.ndarray]:
    """The test, and p of the cluster each place is in; 1 where it is in none."""
    difference = np.asarray(difference, dtype=np.float64)
    n, n_chans, n_bins = difference.shape
    p_of = np.ones((n_bins, n_chans))
    if n < 5:
        nothing = np.zeros((n_chans, n_bins))
        return ClusterTest(nothing, nothing.astype(bool), float("nan"), n), p_of.T
    from mne.stats import spatio_temporal_cluster_1samp_test
    from mne.utils import use_log_level
    from scipy import sparse
    from scipy.stats import t as student

    if adjacency is None:
        adjacency = sparse.coo_array(np.eye(n_chans))
    with use_log_level("error"):
        t, clusters, p, _ = spatio_temporal_cluster_1samp_test(
            difference.transpose(0, 2, 1), adjacency=adjacency, n_permutations=n_permutations,
            threshold=float(student.isf(threshold_p / 2, n - 1)), tail=0, seed=seed, out_type="mask",
            verbose="error",
        )  # fmt: skip
    for cluster, value in zip(clusters, p):
        p_of[cluster] = value
    mask = (p_of < 0.05).T
    return ClusterTest(np.nan_to_num(t).T, mask, float(p_of.min()), n), p_of.T


def electrode_info(ch_names: Sequence[str], positions: np.ndarray, sfreq: float = 1.0) -> Any:
    """MNE's Info of EEG electrodes at given places, for its topographies and neighbors.

    Parameters
    ----------
    ch_names : sequence of str
        Names.
    positions : array (n_chans, 3)
        Meters, head coordinates; all known.
    sfreq : float
        Sampling rate in Hz.

    Returns
    -------
    mne.Info
    """
    import mne

    info = mne.create_info(list(ch_names), sfreq, "eeg", verbose="error")
    places = {name: np.asarray(p, dtype=float) for name, p in zip(ch_names, positions)}
    montage = mne.channels.make_dig_montage(places, coord_frame="head")
    info.set_montage(montage, verbose="error")
    return info
