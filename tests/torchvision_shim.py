"""Let torchvision be imported beside a CPU build of torch whose wheel wants CUDA libraries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_KEPT: list[object] = []


def have_torchvision() -> bool:
    """Import torchvision, with its two operators declared where its library cannot be loaded."""
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return False
    library = Path(found.origin).parent / "_C.so"
    if not _KEPT and library.exists():
        try:
            torch.ops.load_library(str(library))
        except OSError:
            declared = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                declared.define(
                    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
            _KEPT.append(declared)
    import torchvision  # noqa: F401

    return True
