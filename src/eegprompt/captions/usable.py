"""Captions as a decoder takes them: by head, by image, reference captions of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import CaptionError

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study import Study

__all__ = ["reference_captions"]


def reference_captions(
    study: Study, captions: pd.DataFrame, heads: Sequence[str], trial_ids: np.ndarray
) -> dict[str, list[list[str]]]:
    """The captions of the image each trial showed, by head, in the order of the caption set.

    Raises
    ------
    CaptionError
        If an image lacks a caption of a kind.
    """
    shown = study.trials["image_id"].iloc[trial_ids].tolist()
    result: dict[str, list[list[str]]] = {}
    for head in heads:
        rows = captions[captions["kind"] == head]
        by_image: dict[str, list[str]] = {}
        for image_id, text in zip(rows["image_id"], rows["text"].astype(str)):
            by_image.setdefault(image_id, []).append(text)
        for image_id in shown:
            if image_id not in by_image:
                raise CaptionError(
                    f"image '{image_id}' has no caption of kind {head}; write it with 'eegprompt "
                    "captions write', or leave the kind out"
                )
        result[head] = [by_image[image_id] for image_id in shown]
    return result


def usable_captions(captions: pd.DataFrame, heads: Sequence[str]) -> pd.DataFrame:
    """Captions of some kinds, without rows that say nothing."""
    says = captions["text"].notna() & (captions["text"].astype(str).str.strip() != "")
    return captions[captions["kind"].isin(list(heads)) & says]
