"""Images whose captions are the same: what a model writes that does not see its images.

Two images are nearly the same here if at least nine tenths of their kinds hold the same captions,
word for word (case, punctuation and spaces aside). The search is exact, and its time grows with the
number of images, not with that of pairs: with each kind left out in turn, sets that differ in this
one kind alone become equal, and equal sets are found by hashing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Alike", "AlikeWatch", "alike_images", "plain_text"]

_FEWEST_KINDS = 3  # with one or two kinds, images that look alike do get the same captions
_MANY_KINDS = 5  # from which on a handful of images with the same set is no chance
_HANDFUL = 5
_DIFFERING = 0.1  # share of the kinds that may differ between nearly equal sets
_APART = re.compile(r"[^\w]+")


@dataclass(frozen=True)
class Alike:
    """How many images have the captions of another image.

    Parameters
    ----------
    images : int
        Images that were compared: those with three kinds or more, one of each image file and one
        of each meaning (of captions that were given for a category).
    same : int
        Those that have all their captions in common with another one.
    nearly : int
        Further ones that have at least nine tenths of the kinds in common.
    largest : tuple of str
        The images of the largest group that shares all captions.
    kinds : int
        Kinds compared.
    """

    images: int = 0
    same: int = 0
    nearly: int = 0
    largest: tuple[str, ...] = ()
    kinds: int = 0

    @property
    def alarming(self) -> bool:
        """Whether half of the images are affected, or many kinds agree in a handful of images."""
        many = self.kinds >= _MANY_KINDS and len(self.largest) >= _HANDFUL
        return bool(self.images) and (2 * (self.same + self.nearly) >= self.images or many)

    def sentence(self) -> str:
        """What was found, in words; empty if nothing was."""
        if not self.same + self.nearly:
            return ""
        parts = []
        if self.same:
            shown = ", ".join(self.largest[:3]) + (", …" if len(self.largest) > 3 else "")
            parts.append(
                f"{self.same} of {self.images} images have all {self.kinds} captions in common with "
                f"another image (most often {len(self.largest)} images: {shown})"
            )
        if self.nearly:
            parts.append(
                f"{self.nearly} {'more' if self.same else f'of {self.images} images'} have nearly all "
                "of them in common with another image"
            )
        why = "; a model that writes so does not see its images" if self.alarming else ""
        return " and ".join(parts) + why


def plain_text(text: str) -> str:
    """A caption without case, punctuation and extra spaces.

    Examples
    --------
    >>> plain_text("A red  apple, on a table.")
    'a red apple on a table'
    """
    return _APART.sub(" ", text.casefold()).strip()


def alike_images(table: pd.DataFrame, files: Mapping[str, str] | None = None) -> Alike:
    """Look for images that have all, or nearly all, of their captions in common.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `image_id`, `kind`, `text`, and `meaning` where it is known: captions of one meaning
        are given once for many images, which are then compared as one.
    files : mapping of str to str, optional
        Checksum of each image's file: images of equal bytes are compared as one.
    """
    ids, kinds, codes, meanings = _coded(table)
    if len(kinds) < _FEWEST_KINDS:
        return Alike(kinds=len(kinds))
    seen: set[Any] = set()
    kept = []
    for row, image_id in enumerate(ids):
        key: Any = meanings[row] or (files or {}).get(image_id) or ("image", image_id)
        if key not in seen and (codes[row] > 0).sum() >= _FEWEST_KINDS:
            seen.add(key)
            kept.append(row)
    codes = codes[kept]
    groups: dict[bytes, list[int]] = {}
    for row, code in enumerate(codes):
        groups.setdefault(code.tobytes(), []).append(row)
    first = np.array([rows[0] for rows in groups.values()], dtype=np.int64)
    near = _near(codes[first]) if len(first) > 1 else np.zeros(len(first), dtype=bool)
    single = np.array([len(rows) == 1 for rows in groups.values()], dtype=bool)
    largest = max(groups.values(), key=len, default=[])
    return Alike(
        images=len(kept),
        same=len(kept) - int(single.sum()),
        nearly=int((near & single).sum()),
        largest=tuple(ids[kept[row]] for row in largest) if len(largest) > 1 else (),
        kinds=len(kinds),
    )


def _coded(
    table: pd.DataFrame,
) -> tuple[list[str], list[str], np.ndarray, list[tuple[str, ...] | None]]:
    """Images, kinds, a number for each image's captions of each kind, and meanings where known."""
    texts: dict[str, dict[str, list[str]]] = {}
    meaning_of: dict[str, list[str] | None] = {}
    known = table["meaning"].tolist() if "meaning" in table else [None] * len(table)
    kinds = list(dict.fromkeys(table["kind"].astype(str)))
    for image_id, kind, text, meaning in zip(
        table["image_id"].tolist(), table["kind"].tolist(), table["text"].tolist(), known
    ):
        image_id = str(image_id)
        texts.setdefault(image_id, {}).setdefault(str(kind), []).append(plain_text(str(text)))
        so_far = meaning_of.setdefault(image_id, [])
        if so_far is not None:
            if isinstance(meaning, str) and meaning:
                so_far.append(f"{kind}: {meaning}")
            else:
                meaning_of[image_id] = None
    codes = np.zeros((len(texts), len(kinds)), dtype=np.int32)  # 0: no caption of this kind
    for column, kind in enumerate(kinds):
        number: dict[tuple[str, ...], int] = {}
        for row, own in enumerate(texts.values()):
            if kind in own:
                said = tuple(sorted(own[kind]))
                codes[row, column] = number.setdefault(said, len(number) + 1)
    meanings = [None if m is None else tuple(sorted(m)) for m in meaning_of.values()]
    return list(texts), kinds, codes, meanings


def _near(codes: np.ndarray) -> np.ndarray:
    """Which rows agree with another row in all columns but a tenth of them."""
    n, n_kinds = codes.shape
    found = np.zeros(n, dtype=bool)
    left_out = int(_DIFFERING * n_kinds)
    for kept in combinations(range(n_kinds), n_kinds - left_out) if left_out else ():
        first: dict[bytes, int] = {}
        for row, code in enumerate(np.ascontiguousarray(codes[:, kept])):
            twin = first.setdefault(code.tobytes(), row)
            if twin != row:
                found[[twin, row]] = True
    return found


class AlikeWatch:
    """Tells, while captions are written, that image after image gets the same ones.

    Parameters
    ----------
    labels : mapping of str to str
        What each image is called: a model is told so, and may say it of every such image.
    files : mapping of str to str
        Checksum of each image's file.
    after : int
        How many images it takes.
    """

    def __init__(self, labels: Mapping[str, str], files: Mapping[str, str], after: int = 20):
        self._labels, self._files, self._after = labels, files, after
        self._sets: Counter[tuple[str, ...]] = Counter()
        self._known: set[str] = set()
        self._said: set[str] = set()
        self._told = False

    def add(self, image_id: str, captions: Sequence[Mapping[str, Any]]) -> str:
        """Take one image's captions; gives a sentence when it is time for one, else ''."""
        file = self._files.get(image_id) or image_id
        if self._told or len(captions) < _FEWEST_KINDS or file in self._known:
            return ""
        self._known.add(file)
        self._said.add(self._labels.get(image_id, ""))
        self._sets[
            tuple(sorted(f"{c['kind']}: {plain_text(str(c['text']))}" for c in captions))
        ] += 1
        images = sum(self._sets.values())
        # As many sets as labels, and each label often: nothing but the label was read.
        if images < self._after or images < 2 * len(self._said):
            return ""
        if len(self._sets) > len(self._said):
            self._told = True  # some images differ: only the whole set can tell
            return ""
        self._told = True
        return (
            f"the first {images} images got {len(self._sets)} different sets of captions for "
            f"{len(self._said)} labels: the model does not seem to see its images; stop here and check "
            "that the server and its model take images"
        )
