"""Put the trained parts together as the folders that the package ships."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from eegprompt.builtin.training.patch_encoder import write_projection
from eegprompt.builtin.training.train_autoencoder import build_vae, load_projection
from eegprompt.builtin.training.train_clip import load_clip
from eegprompt.builtin.training.train_denoiser import build_scheduler, build_unet, text_model
from eegprompt.core.files import Ours

__all__ = ["export"]


def _averaged(path: Path, model: torch.nn.Module) -> int:
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    with torch.no_grad():
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter, average in zip(parameters, state["average"], strict=True):
            parameter.copy_(average)
    return int(state["step"])


def export(folder: Path, out: Path | None = None) -> Path:
    """Write ``clip``, ``pipeline`` and ``features`` in float16 from a folder of checkpoints.

    Parameters
    ----------
    folder : Path
        Where the trainings were run.
    out : Path, optional
        Where to write; ``folder/weights`` unless given.

    Returns
    -------
    Path
        The folder that was written, to be copied to ``src/eegprompt/builtin/weights``.
    """
    from diffusers import StableDiffusionPipeline

    out = out or folder / "weights"
    ours = Ours("weights", ("clip/config.json",), ("clip", "pipeline", "features"))
    if out.exists() and any(out.iterdir()):
        ours.check(out)
        shutil.rmtree(out)

    clip, tokenizer = load_clip(folder)
    text, _ = text_model(folder)
    clip.half().save_pretrained(out / "clip")
    shutil.copy(folder / "clip" / "preprocessor_config.json", out / "clip")

    vae = build_vae()
    decoder = torch.nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    _averaged(folder / "decoder.pt", decoder)
    write_projection(vae, load_projection(folder))
    unet = build_unet()
    print("steps of the denoiser:", _averaged(folder / "unet.pt", unet))
    pipeline: Any = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out / "pipeline")
    for target in (out / "clip", out / "pipeline" / "tokenizer"):
        tokenizer.save_pretrained(target)
        tokenizer.backend_tokenizer.model.save(str(target))  # vocab.json and merges.txt
    if (folder / "features" / "model.safetensors").exists():
        (out / "features").mkdir()
        shutil.copy(folder / "features" / "model.safetensors", out / "features")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")
    return out
