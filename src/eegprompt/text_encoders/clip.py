"""The text side of a CLIP: a caption lies near the images it fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError, ModelLoadError
from eegprompt.core.files import read_json
from eegprompt.core.model_hub import choose_device, fetch, load_errors, locate, quiet, token_limit
from eegprompt.text_encoders.base import BatchedTextEncoder

__all__ = ["ClipTextEncoder"]

_TOKENIZER_FILES = (
    "config.json",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


class ClipTextEncoder(BatchedTextEncoder):
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

    length_step = 8

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
        self.n_dims = self._find_n_dims()

    def __repr__(self) -> str:
        return f"ClipTextEncoder('{self.name}', {self.n_dims} dimensions, {self._device})"

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        from transformers.utils import logging

        # The tokenizer would warn about long texts; they are refused or counted on purpose here.
        level = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            return list(self._tokenizer(texts, truncation=False, padding=False)["input_ids"])
        finally:
            logging.set_verbosity(level)

    def _embed_batch(self, texts: list[str], tokens: list[list[int]]) -> np.ndarray:
        import torch

        length = max(self._padded(len(its)) for its in tokens)
        pad = self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        ids = np.full((len(tokens), length), pad, dtype=np.int64)
        mask = np.zeros((len(tokens), length), dtype=np.int64)
        for row, its in enumerate(tokens):
            ids[row, : len(its)] = its
            mask[row, : len(its)] = 1
        with torch.inference_mode():
            out = self._project(
                torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
            )
            rows: np.ndarray = (
                torch.nn.functional.normalize(out.double(), dim=-1).float().cpu().numpy()
            )
        return rows


def _text_config(network: Any) -> Any:
    return getattr(network.config, "text_config", network.config)


def _load_clip(folder: Path, model: str) -> tuple[Any, Callable[..., Any]]:
    """A CLIP network and its call from (tokens, mask) to text embeddings."""
    import transformers

    kind = read_json(folder / "config.json", schema="mapping").get("model_type")
    if kind == "clip":
        network = transformers.CLIPModel.from_pretrained(folder)
        del network.vision_model  # no images here; half the memory

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
