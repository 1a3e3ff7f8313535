"""Load a text-to-image pipeline and place it where it is to run."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import InputError, ModelLoadError
from eegprompt.core.model_hub import Source, load_errors, quiet

if TYPE_CHECKING:
    import torch

__all__ = ["OFFLOADS", "load_pipeline", "offload_pipeline", "place_pipeline"]

OFFLOADS = ("model", "sequential")


def load_pipeline(
    source: Source, index: dict[str, Any], dtype: str, *, safety_checker: bool = False
) -> Any:
    """The text-to-image pipeline of a model, without progress bar.

    Parameters
    ----------
    source : Source
        Folder or hub name, with its revision.
    index : dict
        Its ``model_index.json``.
    dtype : str
        ``float32``, ``float16`` or ``bfloat16``.
    safety_checker : bool, default False
        Keep the part that blanks images, where the pipeline has one.

    Raises
    ------
    ModelLoadError
        If it cannot be loaded, or draws no images from text alone.
    """
    model = source.name
    with load_errors(model, "generator"), quiet(diffusion=True):
        import torch
        from diffusers import AutoPipelineForText2Image, DiffusionPipeline

        options: dict[str, Any] = {"torch_dtype": getattr(torch, dtype)}
        if "safety_checker" in index and not safety_checker:
            options |= {"safety_checker": None, "feature_extractor": None}
            options["requires_safety_checker"] = False
        folder = source.folder
        assert folder is not None
        if not Path(source.name).expanduser().is_dir():
            folder = _download(source, dtype)
        if _takes_half(folder, dtype):
            options["variant"] = "fp16"
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(folder, **options)
        except ValueError as problem:
            if "AutoPipeline" not in str(problem):
                raise
            pipeline = DiffusionPipeline.from_pretrained(folder, **options)
    parameters = inspect.signature(type(pipeline).__call__).parameters
    image = parameters.get("image")
    if "prompt" not in parameters or (
        image is not None and image.default is inspect.Parameter.empty
    ):
        raise ModelLoadError(
            f"the generator '{model}' is a {type(pipeline).__name__}, which does not draw images "
            "from text alone; name a text-to-image pipeline"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def place_pipeline(
    pipeline: Any,
    device: torch.device,
    model: str,
    *,
    offload: str | None = None,
    channels_last: bool = True,
    vae_slicing: bool = False,
    vae_tiling: bool = False,
    compile: bool | str = False,
) -> None:
    """Bring a pipeline to its device and set how it computes.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        As loaded.
    device : torch.device
        Where it is to compute.
    model : str
        For messages.
    offload : str, optional
        ``model`` or ``sequential``: keep parts that do not compute in the processor's memory.
    channels_last : bool, default True
        Memory layout of the convolutions.
    vae_slicing, vae_tiling : bool, default False
        Decode image by image, or tile by tile.
    compile : bool or str, default False
        Compile denoiser and decoder, with the named mode of ``torch.compile`` if a string.

    Raises
    ------
    ModelLoadError
        If it does not fit.
    InputError
        If the pipeline cannot compute so.
    """
    import torch

    with load_errors(model, "generator"), quiet():
        if offload is None:
            pipeline.to(device)
        else:
            offload_pipeline(pipeline, device, offload)
        denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        vae: Any = getattr(pipeline, "vae", None)
        if (vae_slicing or vae_tiling) and not hasattr(vae, "enable_tiling"):
            raise InputError(
                f"the autoencoder of '{model}' decodes neither in slices nor in tiles; leave "
                "vae_slicing and vae_tiling out"
            )
        if channels_last and offload != "sequential":  # whose weights are elsewhere now
            for module in (getattr(pipeline, "unet", None), vae):
                if isinstance(module, torch.nn.Module):
                    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if vae_slicing:
            vae.enable_slicing()
        if vae_tiling:
            vae.enable_tiling()
        if compile:
            mode = {} if compile is True else {"mode": compile}
            for module in (denoiser, getattr(vae, "decoder", None)):
                if isinstance(module, torch.nn.Module):
                    module.compile(**mode)


def offload_pipeline(pipeline: Any, device: torch.device, kind: str) -> None:
    """Keep the parts of a pipeline that do not compute in the processor's memory.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Loaded.
    device : torch.device
        Not a CPU.
    kind : str
        ``model``: part by part; ``sequential``: layer by layer, least memory and slowest.

    Raises
    ------
    InputError
        If there is no other device than the CPU.
    """
    if device.type == "cpu":
        raise InputError("offload needs a GPU; leave it out on a CPU")
    if kind == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def _download(source: Source, dtype: str) -> Path:
    """Download what the pipeline needs, half-precision files where there are some."""
    from diffusers import DiffusionPipeline

    variants = ["fp16", None] if dtype == "float16" else [None]
    for variant in variants:
        try:
            return Path(
                DiffusionPipeline.download(source.name, revision=source.revision, variant=variant)
            )
        except (ValueError, OSError):
            if variant is None:
                raise
    raise AssertionError("unreachable")


def _takes_half(folder: Path, dtype: str) -> bool:
    """Whether to read the files named ``.fp16.``: as asked for, or as there are no others."""
    weights = [path.name for path in folder.rglob("*.safetensors")]
    half = [name for name in weights if ".fp16." in name]
    return bool(half) and (dtype == "float16" or len(half) == len(weights))
