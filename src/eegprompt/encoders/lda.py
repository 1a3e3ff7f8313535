"""Shrinkage LDA on window means: the linear baseline that an encoder has to match.

scikit-learn's linear discriminant analysis, one for each subject, as evoked responses differ
between heads; the window means are what makes it strong on EEG (Blankertz et al. 2011, NeuroImage
56:814).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError

__all__ = ["ShrinkageLDA", "bin_means"]

START, STOP, WIDTH = 0.05, 0.52, 0.04
"""Seconds after onset in which images are told apart best, and the length of a window."""

MOST_FEATURES = 2000
"""The cost of a fit grows with the third power: windows are widened to stay below."""


def bin_means(
    eeg: np.ndarray,
    sfreq: float,
    *,
    tmin: float = 0.0,
    start: float = START,
    stop: float = STOP,
    width: float = WIDTH,
) -> np.ndarray:
    """Average trials over consecutive windows.

    Parameters
    ----------
    eeg : array (n_trials, n_chans, n_times)
        Any unit.
    sfreq : float
        Sampling rate in Hz.
    tmin : float
        Time of the first sample, in seconds.
    start : float
        Begin of the first window, in seconds; the trial's, if that begins later.
    stop : float
        End of the last window, in seconds; the trial's, if that ends sooner.
    width : float
        Length of a window in seconds, rounded to whole samples, at least one; longer where there
        would be more than :data:`MOST_FEATURES` means.

    Returns
    -------
    float array (n_trials, n_chans, n_bins)
        A last window that is not full is left out.

    Raises
    ------
    InputError
        If the trials hold no window.

    Examples
    --------
    >>> eeg = np.arange(8.0).reshape(1, 1, 8)
    >>> bin_means(eeg, 100.0, tmin=-0.02, start=0, width=0.02).tolist()
    [[[2.5, 4.5, 6.5]]]
    """
    n_times = eeg.shape[2]
    first = max(round((start - tmin) * sfreq), 0)
    last = min(math.ceil((stop - tmin) * sfreq - 1e-6), n_times)
    step = max(round(width * sfreq), 1)
    step = max(step, math.ceil((last - first) * eeg.shape[1] / MOST_FEATURES))
    n_bins = (last - first) // step
    if n_bins < 1:
        raise InputError(
            f"trials of {n_times} samples hold no window of {step} samples from sample {first} on"
        )
    kept = eeg[:, :, first : first + n_bins * step]
    return kept.reshape(*eeg.shape[:2], n_bins, step).mean(axis=3)


class ShrinkageLDA:
    """Linear discriminant analysis with a shrunk covariance, one for each subject.

    scikit-learn's, solver ``lsqr``, shrinkage ``auto``: the covariance of each class is shrunk by
    the formula of Ledoit and Wolf (2004), and they are averaged. A subject who showed every class at
    least twice in training gets a model of their own; all others share one fitted on everybody.

    Attributes
    ----------
    classes_ : array (n_classes,)
        Labels, sorted.
    subjects_ : tuple of str
        Subjects with a model of their own.
    """

    classes_: np.ndarray
    subjects_: tuple[str, ...]

    def fit(
        self, features: np.ndarray, labels: np.ndarray, subjects: np.ndarray | None = None
    ) -> ShrinkageLDA:
        """Fit the models.

        Parameters
        ----------
        features : array (n_trials, ...)
            What :func:`bin_means` gives; flattened.
        labels : array (n_trials,)
            Classes.
        subjects : array (n_trials,), optional
            Who each trial is of; one model for all where not given.

        Raises
        ------
        InputError
            If there are fewer than two classes or no more trials than classes.
        """
        labels = np.asarray(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2 or len(labels) <= len(self.classes_):
            raise InputError(
                "LDA needs at least two classes and more trials than classes, got "
                f"{len(self.classes_)} classes in {len(labels)} trials"
            )
        flat = np.asarray(features, dtype=np.float64).reshape(len(labels), -1)
        size = float(np.sqrt((flat**2).mean()))
        self._scale = 1 / size if size > 0 else 1.0  # volts would be lost in rounding
        flat = flat * self._scale
        self._own: dict[str, Any] = {}
        who = np.zeros(len(labels), dtype=str) if subjects is None else np.asarray(subjects, str)
        names = np.unique(who)
        for name in names if len(names) > 1 else ():
            mine = who == name
            seen, often = np.unique(labels[mine], return_counts=True)
            if len(seen) == len(self.classes_) and often.min() >= 2:
                self._own[str(name)] = _model().fit(flat[mine], labels[mine])
        self.subjects_ = tuple(self._own)
        self._shared = _model()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes with one trial
            self._shared.fit(flat, labels)
        return self

    def decision(self, features: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
        """Log posterior of each class, in nats; shape (n_trials, n_classes)."""
        flat = np.asarray(features, dtype=np.float64).reshape(len(features), -1) * self._scale
        result = np.empty((len(flat), len(self.classes_)))
        who = np.zeros(len(flat), dtype=str) if subjects is None else np.asarray(subjects, str)
        for name in np.unique(who):
            mine = who == name
            result[mine] = _log_posterior(self._own.get(str(name), self._shared), flat[mine])
        return result

    def predict(self, features: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
        """Most probable class a trial; shape (n_trials,)."""
        return np.asarray(self.classes_[self.decision(features, subjects).argmax(axis=1)])


def _model() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def _log_posterior(model: Any, features: np.ndarray) -> np.ndarray:
    """Without the rounding to zero that probabilities suffer."""
    from scipy.special import log_softmax

    score = model.decision_function(features)
    if score.ndim == 1:  # two classes: the log odds of the second
        score = np.stack([np.zeros_like(score), score], axis=1)
    return np.asarray(log_softmax(score, axis=1))
