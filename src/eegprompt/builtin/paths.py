"""Where the built-in models lie, and the settings they were made for."""

from __future__ import annotations

from eegprompt.builtin.models import clip_folder, features_folder, pipeline_folder, read_defaults

__all__ = ["GENERATION_DEFAULTS", "clip_folder", "features_folder", "pipeline_folder"]

GENERATION_DEFAULTS: dict[str, int | float] = {
    {"steps": "num_inference_steps", "guidance": "guidance_scale"}.get(name, name): value
    for name, value in read_defaults().items()
}
"""How the built-in pipeline is called: keyword arguments of a diffusers pipeline."""
