"""What epochs are selected by: retrieval on the validation set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eegprompt.training.batches import HeadCaptions

__all__ = ["clearly_worse", "top1_credit"]


def top1_credit(embedded: np.ndarray, image: np.ndarray, captions: HeadCaptions) -> np.ndarray:
    """Whether each trial's nearest caption, among those of these trials' images, is right.

    Equally near captions share the credit; a NaN earns none.

    Returns
    -------
    array of float (n_trials,)
        In [0, 1].
    """
    shown, which = np.unique(image, return_inverse=True)
    pool = np.unique(np.concatenate([captions.of_image[i] for i in shown]))
    codes = captions.codes[pool]
    right = np.stack([np.isin(codes, captions.codes[captions.of_image[i]]) for i in shown])[which]
    similarity = embedded @ captions.embeddings[pool].T  # length of the query does not matter
    best = similarity == similarity.max(axis=1, keepdims=True)
    return np.asarray((best & right).sum(axis=1) / np.maximum(best.sum(axis=1), 1))


def clearly_worse(credit: np.ndarray, best: np.ndarray) -> bool:
    """Whether some trials' mean credit is below another: by 1.64 standard errors of the difference.

    Examples
    --------
    >>> clearly_worse(np.array([1.0, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0]))
    False
    >>> clearly_worse(np.zeros(50), np.ones(50))
    True
    """
    lost = best - credit
    if len(lost) < 2:
        return False
    return float(lost.mean()) > 1.64 * float(lost.std(ddof=1)) / float(np.sqrt(len(lost)))
