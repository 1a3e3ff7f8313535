"""Train the denoiser of the built-in generator, in the autoencoder's latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel

from eegprompt.builtin.training.loop import Loop, sample_batches, training_pool, training_scenes
from eegprompt.builtin.training.phrasing import random_kinds, random_prompt
from eegprompt.builtin.training.tokenizer import MAX_LENGTH
from eegprompt.builtin.training.train_autoencoder import LATENTS, POOL, load_projection, to_tensor
from eegprompt.builtin.training.train_clip import TextIds, load_clip

__all__ = ["build_scheduler", "build_unet", "latents", "train_diffusion", "write_unet"]

BATCH = 64
EMPTY = 0.1  # share of prompts left empty, for guidance


def build_unet() -> Any:
    """Build the denoiser, untrained: two levels, 8×8 and 4×4, attending to the text on both."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENTS,
        out_channels=LATENTS,
        block_out_channels=(112, 112),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=128,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def _noise_config() -> dict[str, Any]:
    return {
        "num_train_timesteps": 1000,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
    }


def build_scheduler() -> Any:
    """Build the sampler that the pipeline ships with."""
    return DPMSolverMultistepScheduler(
        **_noise_config(),
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        lambda_min_clipped=-5.1,
        steps_offset=1,
    )


def text_model(folder: Path) -> tuple[CLIPTextModel, TextIds]:
    """Load the CLIP's text side, frozen."""
    model, tokenizer = load_clip(folder)
    text = CLIPTextModel._from_config(model.config.text_config, attn_implementation="eager")
    text.load_state_dict(
        {k: v for k, v in model.state_dict().items() if k.startswith("text_model.")}
        if any(k.startswith("text_model.") for k in text.state_dict())
        else model.text_model.state_dict()
    )
    return text.eval().requires_grad_(False), TextIds(tokenizer)


def latents(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of the training pool, and the share of each that an object covers."""
    _, images, masks = training_pool(folder, POOL, seed=1)
    project = load_projection(folder)
    z, covered = [], []
    for i in range(0, POOL, 500):
        z.append(project(to_tensor(images[i : i + 500])).half())
        mask = torch.from_numpy(np.array(masks[i : i + 500])).float()[:, None]
        covered.append(torch.nn.functional.avg_pool2d(mask, 8).half())
    return torch.cat(z), torch.cat(covered)


def train_diffusion(
    folder: Path, *, minutes: float | None, resume: bool, steps: int = 10_000
) -> None:
    """Train, then write ``folder/unet``."""
    torch.manual_seed(3)
    z_all, covered = latents(folder)
    scenes = training_scenes(POOL, seed=1)
    text, to_ids = text_model(folder)
    model = build_unet()
    model.set_attn_processor(AttnProcessor())  # faster to go back through, on a CPU
    model = model.to(memory_format=torch.channels_last)
    loop = Loop(
        "unet",
        model,
        folder,
        lr=1.5e-3,
        steps=steps,
        minutes=minutes,
        resume=resume,
        weight_decay=0.01,
        ema=0.998,
        warmup=300,
    )
    rng = np.random.default_rng(loop.step + 3)
    torch.manual_seed(loop.step + 3)
    batches = sample_batches(len(scenes), BATCH, seed=loop.step + 3)
    schedule: Any = DDPMScheduler(**_noise_config())
    alphas = schedule.alphas_cumprod
    while not loop.done:
        index = next(batches)
        prompts = [
            ""
            if rng.random() < EMPTY
            else random_prompt(scenes[i], random_kinds(rng, all_ten=0.65), rng)
            for i in index
        ]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            context = text(input_ids=to_ids(prompts, MAX_LENGTH)).last_hidden_state
        z = z_all[torch.from_numpy(index)].float().to(memory_format=torch.channels_last)
        noise = torch.randn_like(z)
        # One timestep from each of BATCH strata, which varies less than independent draws; three
        # quarters favor the middle, where it is decided what the objects are.
        u = (torch.randperm(BATCH) + torch.rand(BATCH)) / BATCH
        middle = torch.rand(BATCH) < 0.75
        t = torch.where(middle, torch.acos(1 - 2 * u) / torch.pi, u)
        t = (t * 1000).long().clamp(0, 999)
        a = alphas[t][:, None, None, None]
        noisy, target = a.sqrt() * z + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * z
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(noisy, t, context).sample
        weight = 1 + 6 * covered[torch.from_numpy(index)].float()
        loss = (weight * (out.float() - target).pow(2)).mean((1, 2, 3))
        loop.update(loss.mean(), high_noise=loss[t > 500].mean())
    loop.finish()
    write_unet(model, folder)


def write_unet(model: Any, folder: Path) -> None:
    """Write ``folder/unet``."""
    model.to(memory_format=torch.contiguous_format).save_pretrained(folder / "unet")
