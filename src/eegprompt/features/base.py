"""What a feature network must offer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["FeatureNetwork"]


@runtime_checkable
class FeatureNetwork(Protocol):
    """Maps images to features for the image scores; frozen."""

    name: str
    revision: str

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Map uint8 (n, height, width, 3) to float32 features (n, n_dims), by layer name."""
        ...
