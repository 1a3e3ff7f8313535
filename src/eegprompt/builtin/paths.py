"""Where the built-in models lie, and the settings they were made for."""

from __future__ import annotations

from pathlib import Path

from eegprompt.errors import ModelLoadError

__all__ = ["GENERATION_DEFAULTS", "clip_folder", "features_folder", "pipeline_folder"]

GENERATION_DEFAULTS: dict[str, int | float] = {
    "num_inference_steps": 12,
    "guidance_scale": 4.0,
    "height": 64,
    "width": 64,
}
"""How the built-in pipeline is called: keyword arguments of a diffusers pipeline."""

_WEIGHTS = Path(__file__).parent / "weights"


def _folder(name: str, needed: str) -> Path:
    folder = _WEIGHTS / name
    if not (folder / needed).exists():
        raise ModelLoadError(
            f"the built-in weights are missing at '{folder}'; reinstall eegprompt, or make them "
            "with: python -m eegprompt.builtin.train all --out DIR"
        )
    return folder


def clip_folder() -> Path:
    """Folder of the built-in CLIP, in transformers' format."""
    return _folder("clip", "model.safetensors")


def pipeline_folder() -> Path:
    """Folder of the built-in text-to-image pipeline, in diffusers' format."""
    return _folder("pipeline", "model_index.json")


def features_folder() -> Path:
    """Folder of the built-in feature network of the image metrics."""
    return _folder("features", "model.safetensors")
