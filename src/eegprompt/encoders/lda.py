"""Shrinkage LDA on binned trials: the linear baseline that an encoder has to match."""

from __future__ import annotations

import numpy as np

from eegprompt.errors import InputError

__all__ = ["ShrinkageLDA", "bin_means"]


def bin_means(
    eeg: np.ndarray, sfreq: float, *, tmin: float = 0.0, start: float = 0.0, width: float = 0.02
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
        Time of the first window's begin, in seconds; earlier samples are left out.
    width : float
        Length of a window in seconds, rounded to whole samples, at least one.

    Returns
    -------
    float array (n_trials, n_chans, n_bins)
        A last window that is not full is left out.

    Examples
    --------
    >>> bin_means(np.arange(8.0).reshape(1, 1, 8), 100.0, tmin=-0.02).tolist()
    [[[2.5, 4.5, 6.5]]]
    """
    first = max(round((start - tmin) * sfreq), 0)
    step = max(round(width * sfreq), 1)
    n_bins = (eeg.shape[2] - first) // step
    if n_bins < 1:
        raise InputError(
            f"trials of {eeg.shape[2]} samples hold no window of {step} samples after sample {first}"
        )
    kept = eeg[:, :, first : first + n_bins * step]
    return kept.reshape(*eeg.shape[:2], n_bins, step).mean(axis=3)


class ShrinkageLDA:
    """Linear discriminant analysis with the Ledoit–Wolf covariance within classes.

    Features are window means of all channels, brought to unit variance; their pooled covariance
    within classes is shrunk analytically (Ledoit and Wolf 2004; Blankertz et al. 2011). The
    system is solved in the space of the trials where these are fewer than the features.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    tmin : float
        Time of the first sample, in seconds.
    start : float
        Begin of the first window, in seconds.
    width : float
        Length of a window, in seconds.

    Attributes
    ----------
    classes_ : array (n_classes,)
        Labels, sorted.
    shrinkage_ : float
        Weight of the identity, in [0, 1].
    """

    def __init__(self, sfreq: float, tmin: float = 0.0, *, start: float = 0.0, width: float = 0.02):
        self.sfreq, self.tmin, self.start, self.width = sfreq, tmin, start, width

    def _features(self, eeg: np.ndarray) -> np.ndarray:
        binned = bin_means(
            np.asarray(eeg), self.sfreq, tmin=self.tmin, start=self.start, width=self.width
        )
        return binned.reshape(len(eeg), -1).astype(np.float64)

    def fit(self, eeg: np.ndarray, labels: np.ndarray) -> ShrinkageLDA:
        """Fit on trials (n_trials, n_chans, n_times) and their labels (n_trials,).

        Raises
        ------
        InputError
            If there are fewer than two classes or no more trials than classes.
        """
        labels = np.asarray(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2 or len(labels) <= n_classes:
            raise InputError(
                "LDA needs at least two classes and more trials than classes, got "
                f"{n_classes} classes in {len(labels)} trials"
            )
        features = self._features(eeg)
        self._mean = features.mean(axis=0)
        self._spread = features.std(axis=0)
        self._spread[self._spread == 0] = 1.0
        features = (features - self._mean) / self._spread
        means = np.stack([features[index == c].mean(axis=0) for c in range(n_classes)])
        residual = features - means[index]
        n, p = residual.shape
        gram = residual @ residual.T if n < p else residual.T @ residual
        trace = np.trace(gram) / n  # of the covariance S = residual' residual / n
        mu = trace / p
        squares = (gram**2).sum() / n**2  # sum of the squared entries of S
        distance = squares - 2 * mu * trace + p * mu**2
        fourth = ((residual**2).sum(axis=1) ** 2).sum() / n**2 - squares / n
        self.shrinkage_ = float(np.clip(fourth / distance, 0, 1)) if distance > 0 else 1.0
        ridge, weight = self.shrinkage_ * mu, 1 - self.shrinkage_
        if n < p and ridge > 0:  # Woodbury: invert among the trials
            inner = np.linalg.solve(ridge * np.eye(n) + weight / n * gram, residual @ means.T)
            solved = (means - weight / n * (inner.T @ residual)) / ridge
        else:
            cov = (residual.T @ residual if n < p else gram) * (weight / n)
            solved = np.linalg.lstsq(cov + ridge * np.eye(p), means.T, rcond=None)[0].T
        self._weights = solved
        counts = np.bincount(index, minlength=n_classes)
        self._bias = -0.5 * (solved * means).sum(axis=1) + np.log(counts / n)
        return self

    def decision(self, eeg: np.ndarray) -> np.ndarray:
        """Log posterior up to a constant a trial; shape (n_trials, n_classes)."""
        features = (self._features(eeg) - self._mean) / self._spread
        return features @ self._weights.T + self._bias

    def predict_proba(self, eeg: np.ndarray) -> np.ndarray:
        """Class probabilities; shape (n_trials, n_classes)."""
        logits = self.decision(eeg)
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits / logits.sum(axis=1, keepdims=True)

    def predict(self, eeg: np.ndarray) -> np.ndarray:
        """Most probable class a trial; shape (n_trials,)."""
        return self.classes_[self.decision(eeg).argmax(axis=1)]
