"""Where the built-in models lie in the package, and how the built-in generator is meant to draw.

The models are trained and used through :mod:`eegprompt.builtin`; this page only knows their
place, so that a text encoder or a generator can be named ``builtin`` without importing it.
"""

from __future__ import annotations

from pathlib import Path

from eegprompt.core.errors import ModelLoadError

__all__ = ["clip_folder", "features_folder", "pipeline_folder", "read_defaults"]

_WEIGHTS = Path(__file__).parent / "weights"


def clip_folder() -> Path:
    """Folder of the built-in CLIP and its tokenizer (transformers format)."""
    return _folder("clip", "model.safetensors")


def pipeline_folder() -> Path:
    """Folder of the built-in text-to-image pipeline (diffusers format)."""
    return _folder("pipeline", "model_index.json")


def features_folder() -> Path:
    """Folder of the built-in feature network for the image scores."""
    return _folder("features", "model.safetensors")


def read_defaults() -> dict[str, int | float]:
    """How the built-in generator draws unless told otherwise: steps, guidance, height, width."""
    return {"steps": 12, "guidance": 4.0, "height": 64, "width": 64}


def _folder(name: str, needed: str) -> Path:
    folder = _WEIGHTS / name
    if not (folder / needed).exists():
        raise ModelLoadError(
            f"the built-in weights are missing at '{folder}'; reinstall eegprompt, or make them "
            "with: python -m eegprompt.builtin.training.__main__ all --out DIR"
        )
    return folder
