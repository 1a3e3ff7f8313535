"""Image features for the metrics of the built-in study.

A small classifier of the scenes' attributes, trained apart from the built-in CLIP: the CLIP sets
the encoder's targets and conditions the generator, so that scoring with it would be circular.
Scores with these features say so, and are never compared with published numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.builtin.paths import features_folder
from eegprompt.core.errors import InputError
from eegprompt.features.base import FeatureNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FEATURE_NAMES", "BuiltinFeatures", "load_network"]

FEATURE_NAMES = ("early", "late", "logits")
"""What the callable of :func:`load_network` returns."""


@lru_cache(maxsize=1)
def load_network() -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    """Load the feature network.

    Returns
    -------
    callable
        Takes uint8 images of shape (n, height, width, 3), of any size (they are resized to
        64×64), and returns a dictionary of float32 arrays: ``"early"`` (n, 768), the second
        convolution averaged over an 8×8 grid; ``"late"`` (n, 96), the pooled last one;
        ``"logits"`` (n, 16), of the objects in the order of ``ATTRIBUTES["object"]``.

    Raises
    ------
    ModelLoadError
        If the weights are missing.
    """
    import torch
    from safetensors.torch import load_file

    from eegprompt.builtin.feature_network import FeatureNet

    net = FeatureNet()
    state = load_file(features_folder() / "model.safetensors")
    net.load_state_dict({name: value.float() for name, value in state.items()})
    net.eval().requires_grad_(False)

    def features(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise InputError(
                "images must be uint8 of shape (n, height, width, 3), "
                f"got {images.dtype} of shape {images.shape}"
            )
        out: dict[str, list[NDArray[np.float32]]] = {name: [] for name in FEATURE_NAMES}
        with torch.inference_mode():
            for i in range(0, len(images), 256):
                x = torch.from_numpy(np.array(images[i : i + 256])).permute(0, 3, 1, 2).float()
                x = x / 127.5 - 1
                if x.shape[2:] != (64, 64):
                    x = torch.nn.functional.interpolate(
                        x, size=(64, 64), mode="bilinear", antialias=True
                    )
                early, late, logits = net.features(x)
                for name, value in zip(FEATURE_NAMES, (early, late, logits), strict=True):
                    out[name].append(value.numpy())
        widths = {"early": 768, "late": 96, "logits": 16}
        return {
            name: np.concatenate(parts) if parts else np.zeros((0, widths[name]), np.float32)
            for name, parts in out.items()
        }

    return features


class BuiltinFeatures(FeatureNetwork):
    """The feature network as the image scores use it."""

    name = "builtin"
    uses = (
        ("early", "two_way_{features}"),
        ("late", "two_way_{features}"),
        ("logits", "{ways}_way_accuracy"),
        ("logits", "inception_score"),
        ("late", "fid"),
    )

    def __init__(
        self, argument: str | None = None, *, weights: str | None = None, protocol: str = "mindeye"
    ):
        super().__init__(argument, weights=weights, protocol=protocol)
        self._features = load_network()

    @property
    def class_names(self) -> list[str]:
        """Names of the classes of ``logits``."""
        from eegprompt.builtin.world import ATTRIBUTES

        return list(ATTRIBUTES["object"])

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Map images as the callable of :func:`load_network` does."""
        return self._features(images)
