"""Prompts as embeddings: to read long prompts to the end, and to draw what lies between captions.

A text that is longer than an encoder reads is split at its words into windows; each is encoded by
the pipeline's own method, and the results stand one after the other, as the networks' attention
takes any number of them. A pooled embedding, of which there is one, is the first window's.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    import torch

    from eegprompt.generators.prompt_budget import Budget

__all__ = ["PromptEncoder", "takes_embeddings"]

# What each pipeline's `encode_prompt` gives, in its order; an empty name is passed over.
_GIVES: dict[str, tuple[str, ...]] = {
    "StableDiffusionPipeline": ("prompt_embeds",),
    "LatentConsistencyModelPipeline": ("prompt_embeds",),
    "StableDiffusionXLPipeline": ("prompt_embeds", "", "pooled_prompt_embeds"),
    "StableDiffusion3Pipeline": ("prompt_embeds", "", "pooled_prompt_embeds"),
    "FluxPipeline": ("prompt_embeds", "pooled_prompt_embeds"),
    "SanaPipeline": ("prompt_embeds", "prompt_attention_mask"),
    "PixArtAlphaPipeline": ("prompt_embeds", "prompt_attention_mask"),
    "PixArtSigmaPipeline": ("prompt_embeds", "prompt_attention_mask"),
}
_MASK = "prompt_attention_mask"


def takes_embeddings(kind: str) -> bool:
    """Whether prompts can be given as embeddings to a pipeline of this class.

    Examples
    --------
    >>> takes_embeddings("FluxPipeline"), takes_embeddings("KandinskyPipeline")
    (True, False)
    """
    return kind in _GIVES


class PromptEncoder:
    """Turns prompts into what a pipeline's call takes instead of them.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Loaded and placed.
    budget : Budget
        Its tokenizers.
    extra : dict
        What the pipeline's call is given beside the common settings.
    """

    def __init__(self, pipeline: Any, budget: Budget, extra: dict[str, Any]):
        self._pipeline = pipeline
        self._budget = budget
        self._kind = type(pipeline).__name__
        if self._kind not in _GIVES:
            raise InputError(
                f"prompts cannot be given as embeddings to a {self._kind}; those known are: "
                + ", ".join(sorted(_GIVES))
            )
        self._parameters = inspect.signature(pipeline.encode_prompt).parameters
        self._fixed = self._fixed_arguments(extra)

    def _fixed_arguments(self, extra: dict[str, Any]) -> dict[str, Any]:
        known = {"clean_caption": False, "do_classifier_free_guidance": False, **extra}
        call = inspect.signature(type(self._pipeline).__call__).parameters
        if "complex_human_instruction" in call:
            known.setdefault("complex_human_instruction", call["complex_human_instruction"].default)
        fixed = {name: value for name, value in known.items() if name in self._parameters}
        return {**fixed, "device": self._pipeline._execution_device, "num_images_per_prompt": 1}

    @property
    def names(self) -> tuple[str, ...]:
        """Arguments of the pipeline's call that a prompt's embeddings stand for."""
        return tuple(name for name in _GIVES[self._kind] if name)

    def place(self, embeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Bring embeddings to the pipeline's device and number format; of mixed masks the union."""
        import torch

        device, dtype = self._pipeline._execution_device, self._pipeline.dtype
        return {
            name: (value > 0).to(device, torch.int64) if name == _MASK else value.to(device, dtype)
            for name, value in embeds.items()
        }

    def windows(self, text: str) -> tuple[list[str], list[str]]:
        """A prompt's windows for the encoders with the shorter and with the longer limit."""
        if self._kind == "StableDiffusion3Pipeline":
            return self._budget.clip_windows(text), self._budget.long_windows(text)
        if self._kind == "FluxPipeline":  # of CLIP only the pooled embedding is used
            return self._budget.clip_windows(text)[:1], self._budget.long_windows(text)
        # Every window must be read to the end by all tokenizers.
        windows = (
            self._budget.clip_windows(text)
            if any(reader.clip for reader in self._budget.readers)
            else self._budget.long_windows(text)
        )
        return windows, windows

    def size(self, text: str) -> tuple[int, int]:
        """Number of windows of a prompt, for both kinds of encoders."""
        short, long = self.windows(text)
        return len(short), len(long)

    def encode(
        self,
        texts: Sequence[str],
        *,
        size: tuple[int, int] | None = None,
        batch_size: int,
        negative: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Embed prompts, each to its end.

        Parameters
        ----------
        texts : sequence of str, length n
            Prompts.
        size : pair of int, optional
            Windows to fill up to, with those of an empty text; left out: the most of any text.
        batch_size : int
            Texts encoded at a time; the last call is filled up, so that a text's embedding does
            not depend on the others.
        negative : bool, default False
            What to keep away from: encoded without the instruction that some models put before
            a prompt.

        Returns
        -------
        dict of str to float tensor (n, ...)
            By the names of the arguments of the pipeline's call; on the pipeline's device.
        """
        import torch

        both = [self.windows(text) for text in texts]
        if size is None:
            size = max(len(s) for s, _ in both), max(len(w) for _, w in both)
        parts: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(texts), batch_size):
            rows = both[start : start + batch_size]
            filled = rows + rows[:1] * (batch_size - len(rows))
            batch = self._encode_batch(filled, size, negative)
            for name, tensor in batch.items():
                parts.setdefault(name, []).append(tensor[: len(rows)])
        return {name: torch.cat(tensors) for name, tensors in parts.items()}

    def _encode_batch(
        self, rows: list[tuple[list[str], list[str]]], size: tuple[int, int], negative: bool
    ) -> dict[str, torch.Tensor]:
        import torch

        rounds = []
        for i in range(max(size)):
            short = [s[i] if i < len(s) else "" for s, _ in rows]
            long = [w[i] if i < len(w) else "" for _, w in rows]
            out = self._encode_window(short, long, negative)
            if _MASK in out and i:
                # What only fills up must not be read at all.
                out[_MASK] = out[_MASK].clone()
                for row, (s, _) in enumerate(rows):
                    if i >= len(s):
                        out[_MASK][row] = 0
            rounds.append(out)
        first = dict(rounds[0])
        sequences = [out["prompt_embeds"] for out in rounds]
        if self._kind == "StableDiffusion3Pipeline":
            n = self._pipeline.tokenizer_max_length  # first CLIP's rows, then T5's
            sequences = [x[:, :n] for x in sequences[: size[0]]] + [
                x[:, n:] for x in sequences[: size[1]]
            ]
        first["prompt_embeds"] = torch.cat(sequences, dim=1)
        if _MASK in first:
            first[_MASK] = torch.cat([out[_MASK] for out in rounds], dim=1)
        return first

    def _encode_window(
        self, short: list[str], long: list[str], negative: bool
    ) -> dict[str, torch.Tensor]:
        arguments = dict(self._fixed)
        if negative:
            arguments.pop("complex_human_instruction", None)
        if self._kind == "FluxPipeline":
            arguments["prompt_2"] = long
        elif self._kind == "StableDiffusion3Pipeline":
            arguments |= {"prompt_2": short, "prompt_3": long}
        given = self._pipeline.encode_prompt(prompt=short, **arguments)
        return {name: value for name, value in zip(_GIVES[self._kind], given) if name}

    def negative(
        self, text: str | None, like: dict[str, torch.Tensor], batch_size: int
    ) -> dict[str, torch.Tensor]:
        """Embeddings of a negative prompt, of the shape of those of a batch of prompts.

        Parameters
        ----------
        text : str or None
            None is what the pipeline takes where there is none.
        like : dict of str to tensor
            The prompts' embeddings.
        batch_size : int
            As for :meth:`encode`.

        Raises
        ------
        InputError
            If the negative prompt has more windows than the prompts.
        """
        import torch

        if text is None and getattr(self._pipeline.config, "force_zeros_for_empty_prompt", False):
            return {f"negative_{name}": torch.zeros_like(value) for name, value in like.items()}
        wanted = like["prompt_embeds"].shape[1]
        size = self._size_of(wanted, batch_size)
        own = self.size(text or "")
        if own[0] > size[0] or own[1] > size[1]:
            raise InputError(
                "the negative prompt is longer than the prompts' embeddings; shorten it"
            )
        rows = len(like["prompt_embeds"])
        one = self.encode([text or ""], size=size, batch_size=batch_size, negative=True)
        return {
            f"negative_{name}": value.expand(rows, *value.shape[1:]) for name, value in one.items()
        }

    def _size_of(self, length: int, batch_size: int) -> tuple[int, int]:
        """Windows of embeddings of so many rows."""
        unit = self.encode([""], batch_size=batch_size)["prompt_embeds"].shape[1]
        if self._kind != "StableDiffusion3Pipeline":
            n = length // unit
            return (1, n) if self._kind == "FluxPipeline" else (n, n)
        short = self._pipeline.tokenizer_max_length
        long = unit - short
        for n in range(1, length // long + 1):
            rest = length - n * long
            if rest >= short and rest % short == 0:
                return rest // short, n
        return 1, 1
