"""Images in place of captions, as an encoder's target: what a trial is aligned with elsewhere.

Most work on decoding images from EEG aligns a trial with the embedding of the image itself. To hold
that against captions with everything else equal, an image's "caption" is here a text that names it,
``image ID``, and this text encoder embeds the image of that name: training, retrieval and scores
stay as they are. Such captions are of no use as prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.builtin.models import clip_folder
from eegprompt.core.errors import CaptionError, InputError
from eegprompt.core.files import content_key, read_json
from eegprompt.core.model_hub import choose_device, fetch, load_errors, locate, quiet
from eegprompt.text_encoders.base import TextEncoder

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["CAPTION_SET", "ImageTargets", "image_captions"]

CAPTION_SET = "images"
"""Name of the caption set that :func:`image_captions` writes."""

_PREFIX = "image "
_MEAN, _SD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def image_captions(study: Study) -> str:
    """Write the caption set that names each image, under the kind ``ObjectSnap``.

    Returns
    -------
    str
        Its name, :data:`CAPTION_SET`.
    """
    import pandas as pd

    if CAPTION_SET not in study.caption_names():
        ids = study.images["image_id"].astype(str)
        study.write_captions(
            CAPTION_SET,
            pd.DataFrame({"image_id": ids, "kind": "ObjectSnap", "text": _PREFIX + ids}),
        )
    return CAPTION_SET


class ImageTargets(TextEncoder):
    """The image side of a CLIP, asked by an image's name.

    Parameters
    ----------
    argument : str
        ``MODEL@STUDY``: a CLIP by folder or name on huggingface.co, or ``builtin``, and the folder
        of the study whose images are named.
    device : str
        As for :func:`eegprompt.core.model_hub.choose_device`.

    Raises
    ------
    InputError
        If the argument is not of that form.
    ModelLoadError
        If the model cannot be had or has no image side.
    """

    def __init__(self, argument: str | None, device: str = "auto"):
        import torch

        from eegprompt.study import Study

        model, at, folder = (argument or "").partition("@")
        if not (model and at and folder):
            raise InputError(
                f"the text encoder 'images' is written images:MODEL@STUDY, got '{argument}'"
            )
        self.study = Study(folder)
        self.name = f"images:{model}"
        what = "image encoder"
        source = locate(str(clip_folder()) if model == "builtin" else model, what)
        source = fetch(source, what, ("*.json", "*.safetensors"))
        assert source.folder is not None
        self.revision = f"{source.revision}-{content_key(self.study.images.to_json(), length=8)}"
        self._device = choose_device(device)
        with load_errors(model, what), quiet():
            from transformers import CLIPModel

            network = CLIPModel.from_pretrained(str(source.folder), dtype=torch.float32)
        self._network = network.eval().requires_grad_(False).to(self._device)
        vision: Any = network.config.vision_config
        self._side = int(vision.image_size)
        settings = Path(source.folder) / "preprocessor_config.json"
        stated = read_json(settings, schema="mapping") if settings.exists() else {}
        self._mean = np.array(stated.get("image_mean", _MEAN), np.float32)
        self._sd = np.array(stated.get("image_std", _SD), np.float32)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embed the images that texts name.

        Parameters
        ----------
        texts : sequence of str
            Each ``image ID``.

        Returns
        -------
        array of float32, shape (n_texts, n_dims)
            Rows of unit length.

        Raises
        ------
        CaptionError
            If a text names no image of the study.
        """
        import torch

        known = set(self.study.images["image_id"].astype(str))
        ids = [text.removeprefix(_PREFIX) for text in texts]
        for text, image in zip(texts, ids):
            if not text.startswith(_PREFIX) or image not in known:
                raise CaptionError(
                    f"'{text}' names no image of study {self.study.path}; the text encoder "
                    f"'{self.name}' goes with the caption set '{CAPTION_SET}'"
                )
        rows = []
        for start in range(0, len(ids), 64):
            pixels = self.study.load_images(ids[start : start + 64], size=self._side)
            x = (pixels.astype(np.float32) / 255 - self._mean) / self._sd
            batch = torch.from_numpy(x).permute(0, 3, 1, 2).to(self._device)
            with torch.inference_mode():
                out = self._network.get_image_features(pixel_values=batch)
            rows.append(getattr(out, "pooler_output", out).float().cpu().numpy())
        every = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
        return every / np.linalg.norm(every, axis=1, keepdims=True)
