"""What a caption set must be: every kind for every image, one plain phrase of at most 20 words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eegprompt.captions.text_quality import MAX_WORDS
from eegprompt.core.kinds import KINDS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MAX_WORDS", "check_table"]

_SENTENCE_END = re.compile(r"[.!?]\s+\S")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>")


def check_table(table: pd.DataFrame, image_ids: Sequence[str]) -> list[str]:
    """Problems of a caption set, a sentence each, worst first.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `image_id`, `kind`, `text`.
    image_ids : sequence of str
        Images that should be captioned.

    Returns
    -------
    list of str
        Empty if the set is in order.
    """
    problems = []
    unknown = sorted(set(table["kind"]) - set(KINDS))
    if unknown:
        problems.append(f"unknown kinds: {', '.join(map(str, unknown))}")
    of_image: dict[str, dict[str, set[str]]] = {}  # image -> caption without case -> its kinds
    have: dict[str, set[str]] = {}  # kind -> images
    for image_id, kind, caption in zip(
        table["image_id"].tolist(), table["kind"].tolist(), table["text"].tolist()
    ):
        plain = " ".join(str(caption).lower().split())
        of_image.setdefault(image_id, {}).setdefault(plain, set()).add(str(kind))
        have.setdefault(kind, set()).add(image_id)
    captioned = of_image.keys()
    missing = [i for i in image_ids if i not in captioned]
    if missing:
        problems.append(
            f"{len(missing)} of {len(image_ids)} images have no captions (first: "
            f"{', '.join(missing[:5])})"
        )
    problems += [
        f"{len(lacking)} images have no caption of the kind {kind} (first: "
        f"{', '.join(sorted(lacking)[:5])})"
        for kind in KINDS
        if kind in have and (lacking := captioned - have[kind])
    ]
    columns = (table["kind"], table["image_id"], table["text"].fillna("").astype(str))
    rows = [(k, i, t.strip()) for k, i, t in zip(*(c.tolist() for c in columns))]
    for what, bad in (
        ("are empty", [r for r in rows if not r[2]]),
        (f"are longer than {MAX_WORDS} words", [r for r in rows if len(r[2].split()) > MAX_WORDS]),
        ("are more than one sentence", [r for r in rows if _SENTENCE_END.search(r[2])]),
        ("hold markup", [r for r in rows if _MARKUP.search(r[2])]),
    ):
        if bad:
            kind, image_id, shown = bad[0]
            problems.append(
                f"{len(bad)} captions {what} (first: {kind} of '{image_id}': {shown[:80]!r})"
            )
    copies = 0
    example = ""
    for image_id, kinds_of in of_image.items():
        shared = [(caption, kinds) for caption, kinds in kinds_of.items() if len(kinds) > 1]
        copies += len(shared)
        if shared and not example:
            said, kinds = shared[0]
            example = f"'{image_id!s}': {' and '.join(sorted(kinds))} both say {said[:60]!r}"
    if copies:
        problems.append(f"{copies} texts serve two kinds of one image (first: {example})")
    return problems
