"""Prompts as embeddings, by the pipeline's own method: to generate what lies between captions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    import torch

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
    extra : dict
        What the pipeline's call is given beside the common settings.
    """

    def __init__(self, pipeline: Any, extra: dict[str, Any]):
        self._pipeline = pipeline
        self._kind = type(pipeline).__name__
        if self._kind not in _GIVES:
            raise InputError(
                f"prompts cannot be given as embeddings to a {self._kind}; those known are: "
                + ", ".join(sorted(_GIVES))
            )
        self._parameters = inspect.signature(pipeline.encode_prompt).parameters
        # Of several text encoders: some pipelines want each one's text said.
        self._further = [name for name in ("prompt_2", "prompt_3") if name in self._parameters]
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

    def encode(
        self, texts: Sequence[str], *, batch_size: int, negative: bool = False
    ) -> dict[str, torch.Tensor]:
        """Embed prompts.

        Parameters
        ----------
        texts : sequence of str, length n
            Within the pipeline's budget.
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

        arguments = dict(self._fixed)
        if negative:
            arguments.pop("complex_human_instruction", None)
        parts: dict[str, list[torch.Tensor]] = {}
        for start in range(0, len(texts), batch_size):
            rows = list(texts[start : start + batch_size])
            filled = rows + rows[:1] * (batch_size - len(rows))
            texts_of = dict.fromkeys(("prompt", *self._further), filled)
            given = self._pipeline.encode_prompt(**texts_of, **arguments)
            for name, value in zip(_GIVES[self._kind], given):
                if name:
                    parts.setdefault(name, []).append(value[: len(rows)])
        return {name: torch.cat(tensors) for name, tensors in parts.items()}

    def negative(
        self, text: str | None, like: dict[str, torch.Tensor], batch_size: int
    ) -> dict[str, torch.Tensor]:
        """Embeddings of a negative prompt, of the shape of those of a batch of prompts.

        Parameters
        ----------
        text : str or None
            Within the budget; None is what the pipeline takes where there is none.
        like : dict of str to tensor
            The prompts' embeddings.
        batch_size : int
            As for :meth:`encode`.
        """
        import torch

        if text is None and getattr(self._pipeline.config, "force_zeros_for_empty_prompt", False):
            return {f"negative_{name}": torch.zeros_like(value) for name, value in like.items()}
        rows = len(like["prompt_embeds"])
        one = self.encode([text or ""], batch_size=batch_size, negative=True)
        return {
            f"negative_{name}": value.expand(rows, *value.shape[1:]) for name, value in one.items()
        }
