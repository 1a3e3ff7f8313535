"""Embeddings of texts, kept on disk: each text is embedded once for a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.files import atomic_path, content_key, write_json
from eegprompt.text_encoders.base import check_texts

if TYPE_CHECKING:
    from eegprompt.text_encoders.base import TextEncoder

__all__ = ["cached_embeddings"]

_BLOCK = 4096  # texts whose embeddings are written together; an interruption loses at most these


def cached_embeddings(
    encoder: TextEncoder,
    texts: Sequence[str],
    cache_dir: str | Path | None,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> np.ndarray:
    """Embed texts, each only once for a model and a cache folder.

    The cache is a folder of blocks, never changed once written: the texts as JSON and their
    embeddings as ``.npy``, read memory-mapped. Its name is a key of the encoder's name and
    revision, so other weights never meet old vectors. An interruption loses at most one block.

    Parameters
    ----------
    encoder : TextEncoder
        What embeds.
    texts : sequence of str
        May repeat.
    cache_dir : path-like or None
        E.g. the study's ``cache`` folder; None keeps nothing.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    array of float32, shape (n_texts, n_dims)
        Rows of unit length.
    """
    texts = list(texts)
    check_texts(texts)
    if cache_dir is None or not texts:
        return encoder.embed(texts)
    folder = Path(cache_dir) / f"text-{content_key(encoder.name, encoder.revision)}"
    wanted = dict.fromkeys(texts)
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npy")):
        found.update(_read_block(path, wanted))
    missing = [text for text in wanted if text not in found]
    for start in range(0, len(missing), _BLOCK):
        block = missing[start : start + _BLOCK]
        rows = encoder.embed(block)
        _write_block(folder, block, rows)
        found.update(zip(block, rows))
        if progress is not None:
            progress(start + len(block), len(missing), "embedding captions")
    return np.stack([found[text] for text in texts])


def _read_block(path: Path, wanted: dict[str, None]) -> dict[str, np.ndarray]:
    """Rows of one block that are wanted; a damaged block counts as absent."""
    try:
        texts = json.loads(path.with_suffix(".json").read_text("utf-8"))
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a header of NumPy's is parsed as Python, with whatever that raises
        return {}
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return {}
    if rows.ndim != 2 or rows.dtype.kind != "f" or len(rows) != len(texts):
        return {}
    return {text: rows[i] for i, text in enumerate(texts) if text in wanted}


def _write_block(folder: Path, texts: list[str], rows: np.ndarray) -> None:
    name = content_key(texts)
    # The texts first: a block is looked for by its array, so it counts when both are there.
    write_json(folder / f"{name}.json", texts)
    with atomic_path(folder / f"{name}.npy") as partial, open(partial, "wb") as stream:
        np.save(stream, np.ascontiguousarray(rows, dtype=np.float32))
