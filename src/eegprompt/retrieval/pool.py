"""Candidate pools: the captions that can be retrieved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import CaptionError, InputError, UnknownNameError
from eegprompt.core.files import content_key

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study import Study
    from eegprompt.study.split import Fold

__all__ = ["POOLS", "CandidatePool", "build_pool", "candidate_pools", "caption_id"]

POOLS = ("train", "test", "all")


def caption_id(kind: str, text: str) -> str:
    """Key of a caption: the same text of the same kind has the same key in every study.

    Examples
    --------
    >>> caption_id("ObjectSnap", "a cat") == caption_id("ObjectSnap", "a cat")
    True
    >>> len(caption_id("ObjectSnap", "a cat"))
    12
    """
    return content_key(kind, text)[:12]


@dataclass(frozen=True)
class CandidatePool:
    """The captions of one kind that can be retrieved.

    Parameters
    ----------
    kind : str
        The caption kind.
    texts : tuple of str
        Unique.
    embeddings : array of float32, shape (n_captions, n_dims)
        Rows of unit length.
    caption_ids : tuple of str
        See :func:`caption_id`.
    meanings : tuple of str or None
        What each caption says, where the caption set knows it.
    name : str
        Whose captions these are: ``train``, ``test`` or ``all``.
    """

    kind: str
    texts: tuple[str, ...]
    embeddings: np.ndarray
    caption_ids: tuple[str, ...]
    meanings: tuple[str | None, ...]
    name: str = "train"

    def __post_init__(self) -> None:
        n = len(self.texts)
        if not n:
            raise CaptionError(
                f"the '{self.name}' pool has no caption of kind {self.kind}; write captions for its "
                "images or leave the kind out"
            )
        if len(set(self.texts)) != n:
            raise CaptionError(f"the '{self.name}' pool of {self.kind} lists a text twice")
        if self.embeddings.ndim != 2 or len(self.embeddings) != n:
            raise InputError(
                f"the pool of {self.kind} has {n} texts but embeddings of shape "
                f"{self.embeddings.shape}"
            )
        if len(self.caption_ids) != n or len(self.meanings) != n:
            raise InputError(f"the pool of {self.kind} needs one id and one meaning a text")
        if not np.isfinite(self.embeddings).all():
            raise InputError(f"the pool of {self.kind} holds an embedding that is not finite")

    def __len__(self) -> int:
        return len(self.texts)

    def same_answer(self, text: str, meaning: str | None = None) -> np.ndarray:
        """Which entries say the same as a caption: bool (n_captions,)."""
        return np.array(
            [
                t == text or (meaning is not None and m == meaning)
                for t, m in zip(self.texts, self.meanings)
            ]
        )


def build_pool(
    captions: pd.DataFrame,
    kind: str,
    image_ids: Sequence[str],
    embed: Callable[[Sequence[str]], np.ndarray],
    *,
    name: str = "train",
) -> CandidatePool:
    """Gather the captions of one kind of some images into a pool, one entry a unique text.

    Parameters
    ----------
    captions : pandas.DataFrame
        Columns `image_id`, `kind`, `text` and perhaps `meaning`.
    kind : str
        The caption kind.
    image_ids : sequence of str
        Whose captions.
    embed : callable
        From texts to unit rows.
    name : str, default "train"
        Name of the pool.

    Returns
    -------
    CandidatePool
        Sorted by text, so that it does not depend on the order of the table.

    Raises
    ------
    CaptionError
        If none of the images has a caption of this kind, or one text carries two meanings.
    """
    rows = captions[(captions["kind"] == kind) & captions["image_id"].isin(list(image_ids))]
    meanings: dict[str, str | None] = dict.fromkeys(sorted(rows["text"].astype(str)))
    if "meaning" in rows:
        for text, meaning in zip(rows["text"].astype(str), rows["meaning"]):
            if not isinstance(meaning, str):
                continue  # missing
            if meanings[text] not in (None, meaning):
                raise CaptionError(
                    f"the caption '{text}' of kind {kind} carries two meanings ('{meanings[text]}' "
                    f"and '{meaning}'); one text may mean one thing only"
                )
            meanings[text] = meaning
    texts = tuple(meanings)
    embeddings = (
        np.asarray(embed(texts), dtype=np.float32) if texts else np.zeros((0, 0), np.float32)
    )
    return CandidatePool(
        kind=kind,
        texts=texts,
        embeddings=embeddings,
        caption_ids=tuple(caption_id(kind, text) for text in texts),
        meanings=tuple(meanings.values()),
        name=name,
    )


def candidate_pools(
    study: Study,
    fold: Fold,
    captions: pd.DataFrame,
    heads: Sequence[str],
    name: str,
    embed: Callable[[Sequence[str]], np.ndarray],
) -> dict[str, CandidatePool]:
    """The named pool of every head.

    Parameters
    ----------
    study, fold
        What was recorded, and which trials train, validate and test.
    captions : pandas.DataFrame
        The study's captions.
    heads : sequence of str
        Caption kinds.
    name : str
        ``train`` or ``test``: captions of the images shown in that set; ``all``: of every image
        shown in the fold.
    embed : callable
        From texts to unit rows.
    """
    if name not in POOLS:
        raise UnknownNameError("candidate pool", name, POOLS)
    sets = {"train": [fold.train], "test": [fold.test], "all": [fold.train, fold.val, fold.test]}
    ids = np.concatenate(sets[name])
    image_ids = study.trials["image_id"].iloc[ids].unique().tolist()
    return {head: build_pool(captions, head, image_ids, embed, name=name) for head in heads}
