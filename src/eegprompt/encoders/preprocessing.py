"""Steps that are fitted on the training set and travel with the encoder.

A fitted step is an affine map of the channels, so a chain of them is one too: a matrix and an
offset, applied to every sample alike. Only "mvnn" looks at what a training trial shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from eegprompt.core.errors import InputError, RunError, StudyError, UnknownNameError
from eegprompt.core.files import atomic_path, read_arrays, read_json, write_json
from eegprompt.core.progress import Progress

if TYPE_CHECKING:
    import torch

__all__ = [
    "STEPS",
    "FittedSteps",
    "default_steps",
    "noise_covariance",
    "refuse_twice",
    "shrunk_correlation",
]

CHUNK = 256  # trials read at a time
FLAT = 1e-6  # of the median channel's standard deviation; below it a channel carries nothing


def _standardize(cov: np.ndarray, n_trials: int) -> np.ndarray:
    """Divide each channel by its standard deviation."""
    return np.diag(1 / np.sqrt(np.diag(cov)))


def _whiten(cov: np.ndarray, n_trials: int) -> np.ndarray:
    """Whitening that keeps each channel in its place (ZCA-cor) and needs no conditions.

    The inverse square root of the shrunk correlation matrix (Kessy et al. 2018, The American
    Statistician 72:309), after Guggenmos et al. 2018 (NeuroImage 173:434). Shrinkage is the oracle
    approximating one (Chen et al. 2010, equation 23) with trials as the independent observations:
    the samples of one trial are not independent.
    """
    shrunk, scale = shrunk_correlation(cov, n_trials)
    values, vectors = np.linalg.eigh(shrunk)
    return (vectors / np.sqrt(np.maximum(values, 1e-6))) @ vectors.T * scale


def shrunk_correlation(cov: np.ndarray, n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlation matrix shrunk toward the identity, and one over each channel's deviation."""
    scale = 1 / np.sqrt(np.diag(cov))
    correlation = scale[:, None] * cov * scale
    p = len(cov)
    squares = (correlation**2).sum()
    shrinkage = ((1 - 2 / p) * squares + p**2) / ((n_trials + 1 - 2 / p) * max(squares - p, 1e-12))
    shrinkage = float(np.clip(shrinkage, 1e-6, 1.0))
    return (1 - shrinkage) * correlation + shrinkage * np.eye(p), scale


def noise_covariance(trials: np.ndarray) -> np.ndarray:
    """Noise covariance of one condition's trials: at each moment, shrunk, and averaged over moments.

    Trials are taken about their mean at each moment, standardized, shrunk as Ledoit and Wolf (2004)
    found best, and scaled back, as in the code that goes with Guggenmos et al. 2018 (NeuroImage
    173:434), where this is the method by epochs.

    Parameters
    ----------
    trials : array (n_trials, n_chans, n_times)
        At least two, of one condition.

    Returns
    -------
    array of float64, shape (n_chans, n_chans)
        In the square of the trials' unit.

    Raises
    ------
    StudyError
        If there is one trial only.
    """
    n, p, n_times = trials.shape
    if n < 2:
        raise StudyError("a noise covariance needs at least two trials of a condition, got 1")
    centered = trials - trials.mean(axis=0)
    scale = np.sqrt((centered**2).mean(axis=0))
    scale[scale == 0] = 1.0
    x = np.ascontiguousarray((centered / scale).transpose(2, 0, 1))  # (time, trial, channel)
    empirical = x.transpose(0, 2, 1) @ x / n
    power = (x**2).sum(axis=2)
    mu = power.mean(axis=1) / p
    spread = (empirical**2).sum(axis=(1, 2))
    beta = ((power**2).sum(axis=1) / n - spread) / (p * n)
    delta = (spread - p * mu**2) / p
    beta = np.minimum(beta, delta)
    with np.errstate(invalid="ignore", divide="ignore"):
        shrinkage = np.where(beta > 0, beta / delta, 0.0)
    shrunk = (1 - shrinkage)[:, None, None] * empirical
    shrunk[:, np.arange(p), np.arange(p)] += (shrinkage * mu)[:, None]
    return np.einsum("it,tij,jt->ij", scale, shrunk, scale) / n_times


def _normalize_noise(
    eeg: np.ndarray, ids: np.ndarray, conditions: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
    """Inverse square root of the noise covariance, averaged over conditions of two trials or more."""
    total, n = np.zeros_like(matrix), 0
    for condition in np.unique(conditions):
        rows = ids[conditions == condition]
        if len(rows) > 1:
            total += noise_covariance(matrix @ np.asarray(eeg[rows], dtype=np.float64))
            n += 1
    if not n:
        raise StudyError(
            "multivariate noise normalization needs two trials of a condition at least, but the "
            "training set shows each once; use 'whiten' instead of 'mvnn' in training.preprocessing"
        )
    values, vectors = np.linalg.eigh(total / n)
    return (vectors / np.sqrt(np.maximum(values, 1e-6 * values.max()))) @ vectors.T


# Name -> what it makes of the covariance and the number of trials; "mvnn" has a pass of its own.
STEPS: dict[str, Callable[[np.ndarray, int], np.ndarray] | None] = {
    "mvnn": None,
    "standardize": _standardize,
    "whiten": _whiten,
}
# A step -> names under which a study may record that it, or one like it, was done before.
_LIKE = {
    "mvnn": ("mvnn", "whiten"),
    "standardize": ("standardize", "standardized by the source"),
    "whiten": ("mvnn", "whiten"),
}


def refuse_twice(names: Sequence[str], done: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a fitted step that is listed twice, or that a study's source did already.

    Parameters
    ----------
    names : sequence of str
        The preprocessing that are asked for.
    done : iterable of mapping
        The study's steps, each with a `name`.

    Raises
    ------
    InputError
        With what was done, and what to write instead.

    Examples
    --------
    >>> refuse_twice(["standardize"], [{"name": "whiten", "on": "by the source"}])
    >>> refuse_twice(["whiten"], [{"name": "whiten", "on": "by the source"}])
    Traceback (most recent call last):
    ...
    eegprompt.core.errors.InputError: the step 'whiten' was applied already (whiten: on=by the source); \
applying it twice would change the data unseen: set training.preprocessing=[] instead
    """
    for place, name in enumerate(names):
        left = [n for i, n in enumerate(names) if i != place]
        if any(like in names[:place] for like in _LIKE.get(name, ())):
            raise InputError(
                f"training.preprocessing lists '{name}' after a step of its kind "
                f"({', '.join(names)}); leave one of them out"
            )
        for step in done:
            if step.get("name") in _LIKE.get(name, ()):
                how = ", ".join(f"{k}={v}" for k, v in step.items() if k != "name")
                raise InputError(
                    f"the step '{name}' was applied already ({step['name']}: {how}); applying it "
                    "twice would change the data unseen: set training.preprocessing="
                    f"[{','.join(left)}] instead"
                )


PLENTY = 10
"""Trials a channel from which on a whitening estimated from them is worth more than it costs."""


def default_steps(
    n_trials: int, n_chans: int, done: Iterable[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What ``training.preprocessing=[auto]`` stands for.

    Whitening where there are at least :data:`PLENTY` trials a channel, else standardization; neither
    where the study's source did it already.

    Parameters
    ----------
    n_trials, n_chans : int
        Of the training set.
    done : iterable of mapping
        The study's steps, each with a `name`.

    Examples
    --------
    >>> default_steps(1664, 128, []), default_steps(180, 61, [])
    (('whiten',), ('standardize',))
    >>> default_steps(1664, 128, [{"name": "mvnn"}])
    ('standardize',)
    >>> default_steps(180, 61, [{"name": "standardized by the source"}])
    ()
    """
    there = {step.get("name") for step in done}
    wanted = ("whiten", "standardize") if n_trials >= PLENTY * n_chans else ("standardize",)
    return next(((name,) for name in wanted if not there & set(_LIKE[name])), ())


class FittedSteps:
    """A chain of preprocessing.

    Parameters
    ----------
    names : sequence of str
        The steps, in order: keys of :data:`STEPS`.
    matrix : array (n_chans, n_chans)
        Maps the offset-free channels to the outputs.
    offset : array (n_chans,)
        Subtracted first, in the unit of the EEG.

    Examples
    --------
    >>> eeg = np.random.default_rng(0).normal(3, 2, (50, 4, 20)).astype("float32")
    >>> steps = FittedSteps.fit(["standardize"], eeg, np.arange(50))
    >>> steps.apply(eeg).std(axis=(0, 2)).round(1)
    array([1., 1., 1., 1.], dtype=float32)
    """

    def __init__(self, names: Sequence[str], matrix: np.ndarray, offset: np.ndarray):
        self.names = tuple(names)
        self.matrix = np.asarray(matrix, dtype=np.float32)
        self.offset = np.asarray(offset, dtype=np.float32)

    def __repr__(self) -> str:
        return f"FittedSteps({list(self.names)}, {len(self.offset)} channels)"

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        eeg: np.ndarray,
        trial_ids: np.ndarray,
        *,
        ch_names: Sequence[str] | None = None,
        conditions: Sequence[str] | np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> FittedSteps:
        """Fit on some trials, in one pass that never holds more than a few of them.

        The covariance is that of the trials about their mean time course: what the trials share
        is left out, as it would pass for noise.

        Parameters
        ----------
        names : sequence of str
            The steps, in order; may be empty.
        eeg : array (n_trials, n_chans, n_times)
            May be memory-mapped.
        trial_ids : int array (n,)
            The training set: rows of `eeg` to fit on. No other row is read.
        ch_names : sequence of str, optional
            For messages.
        conditions : sequence of str, optional
            What each trial of `trial_ids` shows, for the step "mvnn", which takes trials about their
            condition's mean; default all the same.
        progress : callable, optional
            Called with trials done, trials in all, and a label.

        Raises
        ------
        UnknownNameError
            If a step does not exist.
        StudyError
            If a value is not finite or a channel is flat over all the trials.
        """
        for name in names:
            if name not in STEPS:
                raise UnknownNameError("fitted step", name, STEPS)
        given = np.asarray(trial_ids)
        shown = np.zeros(len(given), int) if conditions is None else np.asarray(conditions)
        if len(shown) != len(given):
            raise InputError(
                f"one condition a trial is needed: {len(given)} trials, {len(shown)} conditions"
            )
        order = np.argsort(given, kind="stable")
        ids, shown = given[order], shown[order]
        n_chans, n_times = eeg.shape[1:]
        labels = list(ch_names) if ch_names is not None else [str(c) for c in range(n_chans)]
        total = np.zeros((n_chans, n_times))
        moment = np.zeros((n_chans, n_chans))
        # Second moments are taken about a first guess of the mean: EEG in volts with an offset of
        # millivolts would otherwise lose its digits.
        guess = np.asarray(eeg[ids[:CHUNK]], dtype=np.float64).mean(axis=(0, 2))
        for done, block_ids, block in _blocks(eeg, ids):
            _check_finite(block, block_ids, labels)
            centered = block - guess[None, :, None]
            total += centered.sum(axis=0)
            flat = centered.transpose(1, 0, 2).reshape(n_chans, -1)
            moment += flat @ flat.T
            if progress:
                progress(done, len(ids), "fitting on the training set")
        evoked = total / len(ids)
        around_evoked = moment / (len(ids) * n_times) - evoked @ evoked.T / n_times
        # With few trials their mean time course takes some of the noise with it.
        cov = around_evoked * (len(ids) / max(len(ids) - 1, 1))
        mean = guess + evoked.mean(axis=1)
        spread = np.sqrt(
            np.maximum(np.diag(moment) / (len(ids) * n_times) - evoked.mean(1) ** 2, 0)
        )
        _check_flat(spread, labels)
        matrix = np.eye(n_chans)
        for name in names:
            make = STEPS[name]
            step = (
                _normalize_noise(eeg, ids, shown, matrix)
                if make is None
                else make(matrix @ cov @ matrix.T, len(ids))
            )
            matrix = step @ matrix
        return cls(names, matrix, mean if names else np.zeros(n_chans))

    @overload
    def apply(self, eeg: np.ndarray) -> np.ndarray: ...
    @overload
    def apply(self, eeg: torch.Tensor) -> torch.Tensor: ...
    def apply(self, eeg: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """Transform trials (…, n_chans, n_times); what comes as a tensor goes back as one.

        Raises
        ------
        StudyError
            If the number of channels is not the one the steps were fitted on.
        """
        if eeg.shape[-2] != len(self.offset):
            raise StudyError(
                f"the preprocessing expect {len(self.offset)} channels, got {eeg.shape[-2]}; give the "
                "channels of the training study in their order"
            )
        if isinstance(eeg, np.ndarray):
            if not self.names:
                return np.asarray(eeg, dtype=np.float32)
            return self.matrix @ (np.asarray(eeg, np.float32) - self.offset[:, None])
        import torch

        if not self.names:
            return eeg
        matrix = torch.from_numpy(self.matrix).to(eeg)
        return matrix @ (eeg - torch.from_numpy(self.offset).to(eeg)[:, None])

    def save(self, folder: str | Path) -> None:
        """Write ``fitted.safetensors`` and ``fitted.json`` into a folder."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        with atomic_path(folder / "fitted.safetensors") as partial:
            save_file({"matrix": self.matrix, "offset": self.offset}, partial)
        write_json(folder / "fitted.json", {"steps": list(self.names)})

    @classmethod
    def load(cls, folder: str | Path) -> FittedSteps:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RunError
            If a file is missing or broken.
        """
        folder = Path(folder)
        names = read_json(folder / "fitted.json", error=RunError, schema="preprocessing")["steps"]
        arrays = read_arrays(folder / "fitted.safetensors", error=RunError)
        matrix, offset = arrays.get("matrix"), arrays.get("offset")
        if (
            matrix is None
            or offset is None
            or matrix.shape != (len(matrix), len(matrix))
            or offset.shape != matrix.shape[:1]
            or not (np.isfinite(matrix).all() and np.isfinite(offset).all())
        ):
            raise RunError(
                f"{folder / 'fitted.safetensors'} must hold a square 'matrix' and an 'offset' of finite "
                "numbers; train the run again"
            )
        return cls(names, matrix, offset)


def _blocks(eeg: np.ndarray, ids: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield trials done, ids and float64 trials, some at a time, in the order of the file."""
    for start in range(0, len(ids), CHUNK):
        block = ids[start : start + CHUNK]
        yield start + len(block), block, np.asarray(eeg[block], dtype=np.float64)


def _check_finite(block: np.ndarray, ids: np.ndarray, ch_names: Sequence[str]) -> None:
    finite = np.isfinite(block).all(axis=2)
    if not finite.all():
        trial, channel = np.argwhere(~finite)[0]
        raise StudyError(
            f"trial {ids[trial]}, channel '{ch_names[channel]}' holds a value that is not finite; "
            "import the study again without that trial or channel"
        )


def _check_flat(spread: np.ndarray, ch_names: Sequence[str]) -> None:
    limit = FLAT * float(np.median(spread))
    flat = [name for name, s in zip(ch_names, spread) if s <= limit]
    if flat:
        raise StudyError(
            f"channel '{flat[0]}' is flat over the whole training set"
            + (f" ({len(flat)} such channels: {', '.join(flat[:8])})" if len(flat) > 1 else "")
            + "; import the study again without it"
        )
