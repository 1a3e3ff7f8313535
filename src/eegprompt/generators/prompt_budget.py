"""How long a prompt a pipeline reads to the end, counted with the pipeline's own tokenizers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegprompt.core.errors import ModelLoadError
from eegprompt.core.files import read_json
from eegprompt.core.model_hub import load_errors, quiet, token_limit

__all__ = ["Budget", "load_budget"]


@dataclass(frozen=True)
class _Reader:
    """One tokenizer of a pipeline."""

    tokenizer: Any
    limit: int  # tokens, special tokens included
    lower: bool  # the pipeline puts prompts into lower case before it reads them

    def count(self, text: str) -> int:
        text = text.lower().strip() if self.lower else text
        return len(self.tokenizer(text, truncation=False)["input_ids"])


class Budget:
    """The tokenizers of a pipeline and their limits.

    Parameters
    ----------
    readers : list
        One a tokenizer.

    Attributes
    ----------
    limit : int
        The least of the tokenizers' limits, marks included.
    """

    def __init__(self, readers: list[_Reader]):
        self.readers = readers
        self.limit = min(reader.limit for reader in readers)

    def count(self, text: str) -> int:
        """Tokens of a text, marks included, on the scale of the tokenizer with the least limit.

        At most :attr:`limit` if, and only if, every tokenizer reads the text to the end: of one
        with a higher limit only what comes near that limit counts.
        """
        with _no_length_warning():
            return max(r.count(text) - (r.limit - self.limit) for r in self.readers)


def load_budget(
    folder: Path, index: dict[str, Any], model: str, asked: int | None = None
) -> Budget:
    """Load a pipeline's tokenizers.

    Parameters
    ----------
    folder : pathlib.Path
        With tokenizers and configurations.
    index : dict
        Its ``model_index.json``.
    model : str
        For messages.
    asked : int, optional
        What the pipeline's call will be given as ``max_sequence_length``; left out: its default.

    Raises
    ------
    ModelLoadError
        If there is no tokenizer, or one cannot be loaded.
    """
    readers = []
    with load_errors(model, "generator"), quiet():
        import transformers

        pipeline = _pipeline_class(index)
        lower = hasattr(pipeline, "_text_preprocessing")
        for name in sorted(index):
            entry = index[name]
            if not re.fullmatch(r"tokenizer(_\d+)?", name) or not (entry and entry[1]):
                continue
            loader = getattr(transformers, entry[1], transformers.AutoTokenizer)
            tokenizer = loader.from_pretrained(folder / name)
            clip = "CLIP" in entry[1]
            limit = _limit(folder, name, tokenizer, clip, pipeline, asked)
            readers.append(_Reader(tokenizer, limit, lower))
    if not readers:
        raise ModelLoadError(
            f"the generator '{model}' ({index.get('_class_name')}) has no tokenizer, so it draws no "
            "images from text; name a text-to-image pipeline"
        )
    return Budget(readers)


def _limit(
    folder: Path, name: str, tokenizer: Any, clip: bool, pipeline: Any, asked: int | None
) -> int:
    """The most tokens of a prompt that reach the image through one tokenizer."""
    config = folder / name.replace("tokenizer", "text_encoder") / "config.json"
    positions = (
        read_json(config, schema="mapping").get("max_position_embeddings")
        if config.exists()
        else None
    )
    if clip:
        limit = token_limit(tokenizer, positions or 77)
        return min(limit, positions or limit)
    # T5 and language models read as much as the pipeline's call asks them to.
    parameters = inspect.signature(pipeline.__call__).parameters if pipeline is not None else {}
    if asked is None and "max_sequence_length" in parameters:
        default = parameters["max_sequence_length"].default
        asked = default if isinstance(default, int) else None
    limit = asked if asked is not None else token_limit(tokenizer, positions or 77)
    if "complex_human_instruction" in parameters:
        # An instruction goes before the prompt, with marks of its own; two tokens less are read.
        return limit - 2 + tokenizer.num_special_tokens_to_add()
    return limit


def _pipeline_class(index: dict[str, Any]) -> Any:
    import diffusers

    return getattr(diffusers, str(index.get("_class_name")), None)


@contextmanager
def _no_length_warning() -> Iterator[None]:
    """Tokenizers warn about long texts; here they are counted on purpose."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
