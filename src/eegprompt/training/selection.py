"""What epochs are selected by: retrieval on the validation set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eegprompt.training.batches import HeadCaptions

__all__ = ["top1_accuracy"]


def top1_accuracy(embedded: np.ndarray, image: np.ndarray, captions: HeadCaptions) -> float:
    """Share of trials whose nearest caption, among those of these trials' images, is right.

    Equally near captions share the credit; a NaN earns none.
    """
    shown, which = np.unique(image, return_inverse=True)
    pool = np.unique(np.concatenate([captions.of_image[i] for i in shown]))
    codes = captions.codes[pool]
    right = np.stack([np.isin(codes, captions.codes[captions.of_image[i]]) for i in shown])[which]
    similarity = embedded @ captions.embeddings[pool].T  # length of the query does not matter
    best = similarity == similarity.max(axis=1, keepdims=True)
    return float(((best & right).sum(axis=1) / np.maximum(best.sum(axis=1), 1)).mean())
