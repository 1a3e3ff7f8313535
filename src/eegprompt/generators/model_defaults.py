"""How a text-to-image model is meant to be called, as far as its name and its files say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError
from eegprompt.core.files import read_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "DTYPES",
    "check_settings",
    "checked_seeds",
    "default_dtype",
    "default_extra",
    "default_side",
    "distilled_by_files",
    "distilled_defaults",
]

DTYPES = ("float32", "float16", "bfloat16")

# Models distilled to few steps need other settings than their pipelines' defaults: with guidance
# or many steps they give burnt images. Matched against the model's name; the first that fits
# counts. The figures are those of the models' own pages.
_DISTILLED: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"sd3\.?5?.*turbo|stable-diffusion-3.*turbo", {"steps": 4, "guidance": 0.0}),
    (r"sdxl-turbo|sd-turbo", {"steps": 1, "guidance": 0.0, "height": 512, "width": 512}),
    (r"schnell", {"steps": 4, "guidance": 0.0}),
    (r"sana.*sprint", {"steps": 2}),
    (r"lightning|hyper-?sd", {"steps": 4, "guidance": 0.0}),
    (r"\blcm\b|lcm-", {"steps": 4, "guidance": 1.0}),
    (r"turbo", {"steps": 4, "guidance": 0.0}),
)


def distilled_defaults(model: str) -> dict[str, Any]:
    """Settings for a model distilled to few steps, by its name; empty for all others.

    Examples
    --------
    >>> distilled_defaults("stabilityai/sdxl-turbo")
    {'steps': 1, 'guidance': 0.0, 'height': 512, 'width': 512}
    >>> distilled_defaults("stable-diffusion-v1-5/stable-diffusion-v1-5")
    {}
    """
    name = model.rstrip("/").rpartition("/")[2].lower()
    for pattern, settings in _DISTILLED:
        if re.search(pattern, name):
            return dict(settings)
    return {}


def distilled_by_files(folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The same by what a pipeline's files say, for a distilled model under a name of the user's.

    Parameters
    ----------
    folder : pathlib.Path
        With at least the configurations.
    index : dict
        Its ``model_index.json``.

    Returns
    -------
    dict
        Empty where the files do not tell.
    """
    kind = str(index.get("_class_name"))
    scheduler = _config(folder / "scheduler" / "scheduler_config.json")
    if kind == "FluxPipeline":
        # The other members of the family read their guidance as an input; this one has none.
        if _config(folder / "transformer" / "config.json").get("guidance_embeds") is False:
            return {"steps": 4, "guidance": 0.0}
        return {}
    sampler = str(scheduler.get("_class_name"))
    if sampler == "LCMScheduler" and not kind.startswith("LatentConsistency"):
        return {"steps": 4, "guidance": 1.0}
    # Trailing steps belong to models distilled to few; those with a zero terminal
    # signal-to-noise ratio use them too, but predict velocities.
    trailing = scheduler.get("timestep_spacing") == "trailing"
    if (
        kind in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
        and sampler in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
        and trailing
        and scheduler.get("prediction_type", "epsilon") == "epsilon"
    ):
        full = _config(folder / "unet" / "config.json").get("sample_size") == 128
        return {"steps": 4 if full else 1, "guidance": 0.0}
    return {}


def default_extra(folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the pipeline's own call that a model needs beside the common settings."""
    flux = _config(folder / "transformer" / "config.json")
    if index.get("_class_name") == "FluxPipeline" and flux.get("guidance_embeds") is False:
        return {"max_sequence_length": 256}  # schnell was distilled with that many; dev reads 512
    return {}


def default_dtype(index: dict[str, Any], device: torch.device) -> str:
    """The number format a pipeline is drawn in where the user names none.

    On a CPU float32. Elsewhere float16 for UNets; bfloat16, where the device has it, for
    diffusion transformers, whose text encoders overflow in float16.
    """
    if device.type == "cpu":
        return "float32"
    if "transformer" in index and device.type == "cuda":
        import torch

        if torch.cuda.is_bf16_supported():
            return "bfloat16"
    return "float16"


def check_settings(given: dict[str, Any]) -> None:
    """Refuse settings of an image that no pipeline takes."""
    for field in ("steps", "height", "width", "batch_size"):
        value = given[field]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{field} must be a whole number of at least 1, got {value!r}")
    guidance = given["guidance"]
    if guidance is not None and not isinstance(guidance, int | float):
        raise InputError(f"guidance must be a number, got {guidance!r}")


def checked_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as whole numbers, if all are in range."""
    seeds = [int(seed) for seed in seeds]
    if any(not 0 <= seed < 2**63 for seed in seeds):
        raise InputError(f"a seed must lie in [0, 2**63), got {min(seeds)} to {max(seeds)}")
    return seeds


def default_side(pipeline: Any) -> int:
    """Height and width that a pipeline draws where none are given."""
    if getattr(pipeline, "default_sample_size", None):
        sample = pipeline.default_sample_size
    else:
        denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        sample = getattr(getattr(denoiser, "config", None), "sample_size", None) or 64
    sample = sample if isinstance(sample, int) else sample[0]
    return int(sample * getattr(pipeline, "vae_scale_factor", 8))


def _config(path: Path) -> dict[str, Any]:
    return dict(read_json(path, schema="mapping")) if path.exists() else {}
