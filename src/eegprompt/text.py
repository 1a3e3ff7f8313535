"""Frozen text encoders: a caption becomes a vector of unit length.

The vector of a text depends on the text and the model alone, not on its neighbors in a batch:
texts are embedded in batches of one fixed size and of a few fixed lengths, so that the same
kernels run on the same shapes however many texts are asked for. Longer texts than the model
reads are refused, not cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import atomic_path, content_key, read_json, write_json
from eegprompt.builtin_models import clip_folder
from eegprompt.errors import InputError, ModelLoadError
from eegprompt.pretrained import choose_device, fetch, load_errors, locate, quiet, token_limit
from eegprompt.registry import resolve

if TYPE_CHECKING:
    from eegprompt.protocols import TextEncoder

__all__ = ["ClipTextEncoder", "builtin_text_encoder", "cached_embeddings", "load_text_encoder"]

Progress = Callable[[int, int, str], None]

_ROWS = 32  # texts in every batch
_LENGTH_STEP = 8  # texts are padded to a multiple of this many tokens
_BLOCK = 4096  # texts whose embeddings are written together; an interruption loses at most these
_TOKENIZER_FILES = (
    "config.json",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


class ClipTextEncoder:
    """The text side of a CLIP, by folder or by name on huggingface.co.

    Parameters
    ----------
    model : str
        Folder in transformers' format, or a name such as ``openai/clip-vit-large-patch14``. Both a
        whole CLIP and a text model with projection will do.
    revision : str, optional
        Commit, tag or branch on the hub; the newest if left out. The commit is recorded.
    device : str, default "auto"
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Attributes
    ----------
    name : str
        As given.
    revision : str
        Commit on the hub, or a key of the folder's content.
    max_tokens : int
        Longest text in tokens, begin and end marks included.
    n_dims : int
        Length of an embedding.

    Raises
    ------
    ModelLoadError
        If the model is not there, may not be had, or is no CLIP.
    """

    def __init__(self, model: str | None, revision: str | None = None, device: str = "auto"):
        if not model:
            raise InputError(
                "a CLIP needs a name or a folder, as in 'clip:openai/clip-vit-large-patch14'"
            )
        what = "text encoder"
        self.name = f"clip:{model}"
        source = locate(model, what, revision)
        found = fetch(source, what, [*_TOKENIZER_FILES, "model*.safetensors*"])
        if source.folder is None and not any(Path(found.folder or "").glob("*.safetensors")):
            found = fetch(found, what, ["pytorch_model*.bin*"], again=True)
        source = found
        assert source.folder is not None and source.revision is not None
        self.revision = source.revision
        self._device = choose_device(device)
        with load_errors(model, what), quiet():
            import torch
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(source.folder)
            network, project = _load_clip(source.folder, model)
            # float32 whatever the file holds: half precision on a CPU is slow and coarse.
            self._network = network.to(device=self._device, dtype=torch.float32).eval()
            self._network.requires_grad_(False)
            self._project = project
        positions = int(_text_config(self._network).max_position_embeddings)
        self.max_tokens = min(token_limit(self._tokenizer, positions), positions)
        self.n_dims = int(self._embed_ids(self._tokenize(["a"]))[0].shape[-1])

    def __repr__(self) -> str:
        return f"ClipTextEncoder('{self.name}', {self.n_dims} dimensions, {self._device})"

    def count_tokens(self, text: str) -> int:
        """Number of tokens, begin and end marks included."""
        return len(self._tokenize([text])[0])

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        texts : sequence of str
            Each within :attr:`max_tokens`.
        progress : callable, optional
            Called with (done, total, label).

        Returns
        -------
        array of float32, shape (n_texts, n_dims)
            Rows of unit length; equal texts have equal rows.

        Raises
        ------
        InputError
            If a text is empty or too long.
        ModelLoadError
            If the model gives a value that is not finite.
        """
        texts = list(texts)
        _check_texts(texts)
        result = np.zeros((len(texts), self.n_dims), dtype=np.float32)
        if not texts:
            return result
        unique, inverse = np.unique(np.array(texts, dtype=object), return_inverse=True)
        ids = self._tokenize(list(unique))
        for text, tokens in zip(unique, ids):
            if len(tokens) > self.max_tokens:
                raise InputError(
                    f"the text '{text[:60]}...' has {len(tokens)} tokens, but {self.name} reads "
                    f"{self.max_tokens}; shorten it (nothing is cut silently)"
                )
        rows = np.zeros((len(unique), self.n_dims), dtype=np.float32)
        lengths = np.array([self._padded(len(tokens)) for tokens in ids])
        done = 0
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            for start in range(0, len(members), _ROWS):
                part = members[start : start + _ROWS]
                rows[part] = self._embed_ids([ids[i] for i in part])
                done += len(part)
                if progress is not None:
                    progress(done, len(unique), "embedding captions")
        if not np.isfinite(rows).all():
            raise ModelLoadError(
                f"{self.name} gives values that are not finite; its file is damaged"
            )
        return rows[inverse]

    def _padded(self, length: int) -> int:
        return min(-(-length // _LENGTH_STEP) * _LENGTH_STEP, self.max_tokens)

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        from transformers.utils import logging

        # The tokenizer would warn about long texts; they are refused or counted on purpose here.
        level = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            return list(self._tokenizer(texts, truncation=False, padding=False)["input_ids"])
        finally:
            logging.set_verbosity(level)

    def _embed_ids(self, ids: list[list[int]]) -> np.ndarray:
        """Embed at most `_ROWS` token lists of one padded length."""
        import torch

        length = max(self._padded(len(tokens)) for tokens in ids)
        pad = self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        tokens = np.full((_ROWS, length), pad, dtype=np.int64)
        mask = np.zeros((_ROWS, length), dtype=np.int64)
        for row in range(_ROWS):  # the rest of the batch repeats its first text
            sequence = ids[row] if row < len(ids) else ids[0]
            tokens[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        with torch.inference_mode():
            out = self._project(
                torch.from_numpy(tokens).to(self._device), torch.from_numpy(mask).to(self._device)
            )
            out = torch.nn.functional.normalize(out.double(), dim=-1)
        return out[: len(ids)].float().cpu().numpy()


def _text_config(network: Any) -> Any:
    return getattr(network.config, "text_config", network.config)


def _load_clip(folder: Path, model: str) -> tuple[Any, Callable[..., Any]]:
    """A CLIP network and its call from (tokens, mask) to text embeddings."""
    import transformers

    kind = read_json(folder / "config.json", error=InputError).get("model_type")
    if kind == "clip":
        network = transformers.CLIPModel.from_pretrained(folder)
        del network.vision_model  # no pictures here; half the memory

        def project(tokens: Any, mask: Any) -> Any:
            out = network.get_text_features(input_ids=tokens, attention_mask=mask)
            return getattr(out, "pooler_output", out)  # transformers 5 wraps the tensor

        return network, project
    if kind == "clip_text_model":
        text = transformers.CLIPTextModelWithProjection.from_pretrained(folder)
        return text, lambda tokens, mask: text(input_ids=tokens, attention_mask=mask).text_embeds
    raise ModelLoadError(
        f"the text encoder '{model}' is a model of type '{kind}', not a CLIP; name a CLIP, e.g. "
        "openai/clip-vit-large-patch14"
    )


def _check_texts(texts: Sequence[Any]) -> None:
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"only text that is not empty can be embedded, got {text!r}")


def builtin_text_encoder(argument: str | None = None, device: str = "auto") -> ClipTextEncoder:
    """The CLIP that comes with the package.

    Parameters
    ----------
    argument : None
        The built-in model takes none.
    device : str, default "auto"
        See :class:`ClipTextEncoder`.
    """
    if argument:
        raise InputError(f"the text encoder 'builtin' takes no argument, got '{argument}'")
    encoder = ClipTextEncoder(str(clip_folder()), device=device)
    encoder.name = "builtin"
    return encoder


def load_text_encoder(spec: str, device: str = "auto") -> TextEncoder:
    """Load the text encoder a user's string names.

    Parameters
    ----------
    spec : str
        ``builtin``, or ``clip:MODEL`` with a folder or a name on huggingface.co.
    device : str, default "auto"
        See :class:`ClipTextEncoder`.

    Raises
    ------
    UnknownNameError
        If there is no such text encoder.
    ModelLoadError
        If the model cannot be loaded.
    """
    target, argument = resolve("text encoder", spec)
    return target(argument, device=device)


def cached_embeddings(
    encoder: TextEncoder,
    texts: Sequence[str],
    cache_dir: str | Path | None,
    *,
    progress: Progress | None = None,
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
    _check_texts(texts)
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
    except (OSError, ValueError, EOFError):
        return {}
    if rows.ndim != 2 or len(rows) != len(texts):
        return {}
    return {text: rows[i] for i, text in enumerate(texts) if text in wanted}


def _write_block(folder: Path, texts: list[str], rows: np.ndarray) -> None:
    name = content_key(texts)
    # The texts first: a block is looked for by its array, so it counts when both are there.
    write_json(folder / f"{name}.json", texts)
    with atomic_path(folder / f"{name}.npy") as partial, open(partial, "wb") as stream:
        np.save(stream, np.ascontiguousarray(rows, dtype=np.float32))
