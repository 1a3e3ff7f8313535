"""Images in place of captions, as an encoder's target: what a trial is aligned with elsewhere.

Most work on decoding images from EEG aligns a trial with the embedding of the image itself. To hold
that against captions with everything else equal, an image's "caption" is here a text that names it,
``image ID``, and this text encoder embeds the image of that name: training, retrieval and scores
stay as they are. Such captions are of no use as prompts.
"""

from __future__ import annotations

import re
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
_LAYERS = re.compile(r"[0-9.]+(\+[0-9.]+)*")
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
    """The image side of a CLIP, or a layer of any vision transformer, asked by an image's name.

    Images are resized and cropped as the model's ``preprocessor_config.json`` says: the shorter edge
    to a size, then the middle cut out; without one they are squeezed to the model's square.

    Parameters
    ----------
    argument : str
        ``MODEL@STUDY`` or ``MODEL@LAYER@STUDY``: a model by folder or name on huggingface.co, or
        ``builtin``, and the folder of the study whose images are named. Without a layer it is a
        CLIP's projection; with one it is the mean over the tokens of a layer of any vision
        transformer (CLIP, DINOv2, …), counted from 1 or given as a share of the depth, e.g.
        ``0.67``. Several, as in ``0.5+0.67``, stand side by side, each of unit length.
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
        layers, second, rest = folder.partition("@")
        folder = rest if second else folder
        if not (model and at and folder) or (second and not _LAYERS.fullmatch(layers)):
            raise InputError(
                "the text encoder 'images' is written images:MODEL@STUDY or "
                f"images:MODEL@LAYER@STUDY, LAYER as in 12, 0.67 or 0.5+0.67; got '{argument}'"
            )
        self.study = Study(folder)
        self.name = f"images:{model}" + (f"@{layers}" if second else "")
        what = "image encoder"
        source = locate(str(clip_folder()) if model == "builtin" else model, what)
        source = fetch(source, what, ("*.json", "*.safetensors"))
        assert source.folder is not None
        self.revision = f"{source.revision}-{content_key(self.study.images.to_json(), length=8)}"
        self._device = choose_device(device)
        with load_errors(model, what), quiet():
            from transformers import AutoModel, CLIPModel

            make: Any = AutoModel if second else CLIPModel
            network = make.from_pretrained(str(source.folder), dtype=torch.float32)
        vision: Any = network.config
        if isinstance(network, CLIPModel):
            vision = network.config.vision_config
            network = network.vision_model if second else network
        self._network = network.eval().requires_grad_(False).to(self._device)
        self._layers = _numbers(layers, int(vision.num_hidden_layers)) if second else []
        self._side = int(vision.image_size)
        settings = Path(source.folder) / "preprocessor_config.json"
        stated = read_json(settings, schema="mapping") if settings.exists() else {}
        size, crop = stated.get("size") or {}, stated.get("crop_size") or {}
        if isinstance(size, dict) and "shortest_edge" in size:
            self._edge: int | None = int(size["shortest_edge"])
            self._side = int(crop.get("height", self._side) if isinstance(crop, dict) else crop)
        else:
            self._edge = None
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
            pixels = self._pixels(ids[start : start + 64])
            x = (pixels.astype(np.float32) / 255 - self._mean) / self._sd
            batch = torch.from_numpy(x).permute(0, 3, 1, 2).to(self._device)
            with torch.inference_mode():
                rows.append(self._features(batch).float().cpu().numpy())
        every = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
        return every / np.linalg.norm(every, axis=1, keepdims=True)

    def _pixels(self, ids: Sequence[str]) -> np.ndarray:
        """Images (n, side, side, 3) as the model's processor would have them."""
        if self._edge is None:
            return self.study.load_images(ids, size=self._side)
        return np.stack(
            [_cropped(self.study.load_images([i])[0], self._edge, self._side) for i in ids]
        )

    def _features(self, batch: Any) -> Any:
        """Projection, or the layers' mean tokens side by side."""
        import torch

        if not self._layers:
            out = self._network.get_image_features(pixel_values=batch)
            return out if isinstance(out, torch.Tensor) else out.pooler_output
        hidden = self._network(pixel_values=batch, output_hidden_states=True).hidden_states
        parts = [hidden[layer].mean(dim=1) for layer in self._layers]
        return torch.cat([torch.nn.functional.normalize(part, dim=1) for part in parts], dim=1)


def _numbers(layers: str, depth: int) -> list[int]:
    """Numbers of layers, from 1 to the depth."""
    found = []
    for word in layers.split("+"):
        layer = round(float(word) * depth) if "." in word else int(word)
        if not 1 <= layer <= depth:
            raise InputError(f"the image model has layers 1 to {depth}, got '{word}'")
        found.append(layer)
    return found


def _cropped(pixels: np.ndarray, edge: int, side: int) -> np.ndarray:
    """The shorter edge brought to `edge`, then the middle `side` × `side`.

    Examples
    --------
    >>> _cropped(np.zeros((100, 300, 3), np.uint8), 50, 40).shape
    (40, 40, 3)
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = edge / min(height, width)
    size = (max(round(width * scale), side), max(round(height * scale), side))
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    return resized[top : top + side, left : left + side]
