"""What a feature network must offer, and how the one of a run is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.core.registry import resolve

if TYPE_CHECKING:
    from eegprompt.settings import EvaluationConfig

__all__ = ["FeatureNetwork", "load_features"]


class FeatureNetwork(ABC):
    """Maps images to features for the image scores; frozen.

    A network of one's own derives from this class and is registered as ``"module:Class"`` in the group
    ``features``; it is made by ``Class(argument, weights=…, protocol=…)``, what came after the colon of
    its name and what the settings say.

    Attributes
    ----------
    name : str
        Which network.
    any_size : bool
        Whether it takes images of any size; else all are resized to that of the generated ones.
    uses : tuple of (str, str)
        Layers, each with the metric that is computed on it (see :mod:`eegprompt.metrics`).
    missing : mapping of str to str
        Why the scores of a part of it cannot be computed, by part.
    """

    name: str = ""
    any_size: bool = False
    uses: tuple[tuple[str, str], ...] = (
        ("early", "two_way_{features}"),
        ("late", "two_way_{features}"),
    )
    missing: Mapping[str, str] = {}

    def __init__(
        self, argument: str | None = None, *, weights: str | None = None, protocol: str = "mindeye"
    ):
        del argument, weights, protocol

    @property
    def revision(self) -> str:
        """Which weights it has; empty where that is not known."""
        return ""

    @property
    def class_names(self) -> Sequence[str] | None:
        """Names of the columns of the layer that serves ``{ways}_way_accuracy``."""
        return None

    @abstractmethod
    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Map uint8 (n, height, width, 3) to float32 features (n, n_dims), by layer name."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed captions in the space of the layer that serves ``clip_score``: (n, n_dims).

        Raises
        ------
        InputError
            If the network embeds no texts; only one that names ``clip_score`` in `uses` has to.
        """
        raise InputError(
            f"the feature network '{self.name}' embeds no texts, so that it cannot serve 'clip_score'; "
            "give it 'embed_texts', or leave 'clip_score' out of its 'uses'"
        )

    def weights_of(self, layer: str) -> str | None:
        """Weights that a layer's features come from, where the network can say."""
        del layer
        return None


def load_features(settings: EvaluationConfig) -> FeatureNetwork:
    """The feature network that the settings under ``evaluation`` name."""
    loader, argument = resolve("features", settings.features)
    network: FeatureNetwork = loader(argument, weights=settings.weights, protocol=settings.protocol)
    return network
