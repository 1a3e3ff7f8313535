"""One call of a generator for whatever images ask for: texts, blends of embeddings, a context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.prompts import interpolate

if TYPE_CHECKING:
    import torch

    from eegprompt.generators.base import Generator

__all__ = ["ImageRequest", "check_generator", "request_images"]


@dataclass(frozen=True)
class ImageRequest:
    """What decides one image.

    Parameters
    ----------
    prompt : str
        The prompt; for a blend, its captions with their weights, for the record.
    seed : int
        In [0, 2**32).
    parts : tuple of (str, float)
        Texts whose prompt embeddings are interpolated, with their weights; empty for a text.
    image_path : str
        The training image that stands for the prompt, for generators that want one; else empty.
    """

    prompt: str
    seed: int
    parts: tuple[tuple[str, float], ...] = ()
    image_path: str = ""


def check_generator(
    generator: Generator, requests: Sequence[ImageRequest], negative_prompt: str = ""
) -> None:
    """Refuse what a generator cannot draw, before the first image.

    Parameters
    ----------
    generator : Generator
        What is to draw.
    requests : sequence of ImageRequest
        What it is asked for.
    negative_prompt : str, default ""
        What images should not show.

    Raises
    ------
    InputError
        If it takes no prompt embeddings, no negative prompt, or wants an image that is not there.
    """
    blends = any(request.parts for request in requests)
    if blends and not generator.supports_embeddings:
        raise InputError(
            f"{generator.name} draws from text alone, and these prompts are blends of embeddings; use "
            "decoding.route=text, or a diffusers pipeline that takes prompt embeddings"
        )
    if negative_prompt and not generator.takes_negative_prompt:
        raise InputError(
            f"{generator.name} takes no negative prompt; leave generation.negative_prompt empty"
        )
    if generator.wants_images and not all(request.image_path for request in requests):
        raise InputError(
            f"{generator.name} shows training images, which only a run with its study knows; use "
            "'eegprompt generate', or another generator"
        )


def request_images(
    generator: Generator, requests: Sequence[ImageRequest], negative_prompt: str = ""
) -> tuple[np.ndarray, list[bool]]:
    """Draw images, each by its request alone.

    Parameters
    ----------
    generator, requests, negative_prompt
        As for :func:`check_generator`, which is called first.

    Returns
    -------
    images : array of uint8, shape (n_requests, height, width, 3)
    blanked : list of bool
        Which of them a safety checker blanked, as far as the generator says so.
    """
    check_generator(generator, requests, negative_prompt)
    more: dict[str, Any] = {"negative_prompt": negative_prompt} if negative_prompt else {}
    blends = [i for i, request in enumerate(requests) if request.parts]
    texts = [i for i, request in enumerate(requests) if not request.parts]
    if not blends:
        if generator.wants_images:
            more["image_paths"] = [request.image_path for request in requests]
        drawn = generator.generate([r.prompt for r in requests], [r.seed for r in requests], **more)
        return drawn, _blanked(generator, len(requests))
    images: dict[int, np.ndarray] = {}
    blanked: dict[int, bool] = {}
    if texts:
        drawn, blank = request_images(generator, [requests[i] for i in texts], negative_prompt)
        images.update(zip(texts, drawn))
        blanked.update(zip(texts, blank))
    embedded = {i: _embedded(generator, requests[i]) for i in blends}
    by_shape: dict[tuple[Any, ...], list[int]] = {}
    for i, rows in embedded.items():
        shape = tuple((name, tuple(row.shape)) for name, row in sorted(rows.items()))
        by_shape.setdefault(shape, []).append(i)
    for group in by_shape.values():
        drawn = generator.generate_from_embeddings(
            _stacked([embedded[i] for i in group]), [requests[i].seed for i in group], **more
        )
        images.update(zip(group, drawn))
        blanked.update(zip(group, _blanked(generator, len(group))))
    order = range(len(requests))
    return np.stack([images[i] for i in order]), [blanked[i] for i in order]


def _blanked(generator: Generator, count: int) -> list[bool]:
    """Which of the images drawn last a safety checker blanked."""
    flags = list(generator.blanked)
    return flags if len(flags) == count else [False] * count


def _embedded(generator: Generator, request: ImageRequest) -> dict[str, torch.Tensor]:
    """The blend of one request; its texts are embedded by themselves, whatever else is drawn."""
    texts = [text for text, _ in request.parts]
    return interpolate(generator.embed_prompts(texts), [weight for _, weight in request.parts])


def _stacked(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
