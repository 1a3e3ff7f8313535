"""Show the training image that stands for a prompt: what retrieval alone gives, without generation.

A generated image is worth its diffusion model only where it beats this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.core.image_files import to_rgb
from eegprompt.generators.base import Generator

__all__ = ["NearestGenerator"]


class NearestGenerator(Generator):
    """Shows an image of the training set instead of drawing one.

    Which image that is, whoever asks must say: it is given beside the prompt, in ``image_paths``.
    Prompt and seed decide nothing, so all samples of a trial are the same image.

    Parameters
    ----------
    argument : None
        It takes none.
    height, width : int, default 256
        Size in pixels that every image is brought to, as references are when they are compared
        with images.

    Attributes
    ----------
    name, revision : str
        What it is and in which version.
    """

    name = "nearest"
    revision = "1"
    wants_images = True

    def __init__(self, argument: str | None = None, *, height: int = 256, width: int = 256):
        if argument:
            raise InputError(f"the generator 'nearest' takes no argument, got '{argument}'")
        for field, value in (("height", height), ("width", width)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{field} must be a whole number of at least 1, got {value!r}")
        self._size = (width, height)

    def __repr__(self) -> str:
        return "NearestGenerator()"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides an image beside the image, for the record."""
        return {
            "model": self.name,
            "revision": self.revision,
            "width": self._size[0],
            "height": self._size[1],
        }

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        negative_prompt: str | None = None,
        image_paths: Sequence[str] = (),
    ) -> np.ndarray:
        """Show one image a prompt.

        Parameters
        ----------
        prompts : sequence of str, length n
            For the record.
        seeds : sequence of int, length n
            For the record.
        negative_prompt : str, optional
            Not asked for.
        image_paths : sequence of str, length n
            The image that stands for each prompt.

        Returns
        -------
        array of uint8, shape (n, height, width, 3)

        Raises
        ------
        InputError
            If the lengths differ, or an image is not given, not there or not an image.
        """
        if not len(prompts) == len(seeds) == len(image_paths):
            raise InputError(
                f"{len(prompts)} prompts need as many seeds and training images, got {len(seeds)} "
                f"and {len(image_paths)}; 'eegprompt generate' gives them"
            )
        images = np.zeros((len(prompts), self._size[1], self._size[0], 3), dtype=np.uint8)
        for i, path in enumerate(image_paths):
            images[i] = self._load(path)
        return images

    def _load(self, path: str) -> np.ndarray:
        from PIL import Image, ImageOps

        if not path:
            raise InputError(
                "the prompt has no training image that stands for it; draw this prompt source with another "
                "generator"
            )
        try:
            with Image.open(Path(path)) as image:
                shown = to_rgb(ImageOps.exif_transpose(image))
        except (OSError, SyntaxError, ValueError, InputError) as problem:
            raise InputError(
                f"the training image {path} cannot be read ({type(problem).__name__}); put it back "
                "where the study says it is"
            ) from problem
        if shown.size != self._size:
            shown = shown.resize(self._size, Image.Resampling.BICUBIC)
        return np.asarray(shown)
