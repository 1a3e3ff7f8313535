"""Make the autoencoder of the built-in generator: 64×64 images to 8×8×12 latents and back.

The encoder is not trained: it is a principal component analysis of 8×8 pixel patches, which twelve
numbers a patch are enough for, and whose latents are as smooth as a small denoiser needs. It is
written into the convolutions of an ordinary ``AutoencoderKL`` (:mod:`eegprompt.builtin.training.patch_encoder`).
The decoder is trained, and knows what the patches' lost detail must have been.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from eegprompt.builtin.training.loop import Loop, sample_batches, training_pool

__all__ = ["LATENTS", "Projection", "build_vae", "load_projection", "to_tensor", "train_vae"]

POOL = 60_000
LATENTS = 12
PATCH = 8


def build_vae() -> Any:
    """Build the autoencoder, untrained."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Turn uint8 (n, h, w, 3) into float32 (n, 3, h, w) in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1)


@dataclass(frozen=True)
class Projection:
    """A linear map from patches of 3×8×8 values to latents.

    Parameters
    ----------
    weight : tensor of shape (LATENTS, 3, 8, 8)
        As a convolution's, of stride 8.
    bias : tensor of shape (LATENTS,)
        Added.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Project images (n, 3, 64, 64) in [-1, 1] to latents (n, LATENTS, 8, 8)."""
        patches = F.unfold(x, PATCH, stride=PATCH)  # n, 192, 64
        z = self.weight.flatten(1) @ patches + self.bias[:, None]
        return z.unflatten(2, (x.shape[2] // PATCH, -1))


def fit_projection(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> Projection:
    """Principal components of patches; those with objects in them weigh more.

    The components are scaled to between their own deviation and one (by its square root): the
    first ones say the colors, and shall stay the loudest.
    """
    patches = F.unfold(to_tensor(images), PATCH, stride=PATCH).transpose(1, 2).reshape(-1, 192)
    weight = 0.15 + F.avg_pool2d(torch.from_numpy(masks).float()[:, None], PATCH).reshape(-1, 1)
    mean = patches.mean(0)
    centered = (patches - mean).double()
    covariance = (centered * weight).T @ centered / weight.sum()
    basis = torch.linalg.eigh(covariance)[1].flip(1)[:, :LATENTS].T
    basis = basis * torch.where(basis.sum(1, keepdim=True) < 0, -1.0, 1.0)
    z = centered @ basis.T
    scale = 1 / z.std(0).sqrt()
    scale = scale / (z * scale).pow(2).mean().sqrt()
    basis = (scale[:, None] * basis).float()
    return Projection(basis.unflatten(1, (3, PATCH, PATCH)), -basis @ mean)


def load_projection(folder: Path) -> Projection:
    """Load the projection, or fit it the first time."""
    path = folder / "projection.pt"
    if not path.exists():
        _, images, masks = training_pool(folder, POOL, seed=1)
        fitted = fit_projection(np.array(images[:4000]), np.array(masks[:4000]))
        part = path.with_name(f"projection-{id(fitted)}.part")
        torch.save({"weight": fitted.weight, "bias": fitted.bias}, part)
        part.replace(path)
    return Projection(**torch.load(path, weights_only=True))


def _edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def train_vae(folder: Path, *, minutes: float | None, resume: bool, steps: int = 15_000) -> None:
    """Train the decoder."""
    torch.manual_seed(1)
    _, images, masks = training_pool(folder, POOL, seed=1)
    project = load_projection(folder)
    vae = build_vae().to(memory_format=torch.channels_last)
    model = torch.nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    loop = Loop(
        "decoder",
        model,
        folder,
        lr=2e-3,
        steps=steps,
        minutes=minutes,
        resume=resume,
        weight_decay=0.0,
        warmup=100,
    )
    torch.manual_seed(loop.step + 1)
    batches = sample_batches(len(images), 16, seed=loop.step + 1)
    while not loop.done:
        index = np.sort(next(batches))
        x = to_tensor(images[index])
        z = project(x)
        # The denoiser's latents will not be quite right; the decoder shall not mind.
        z = z + 0.25 * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)
        x = x.to(memory_format=torch.channels_last)
        # What is small but matters weighs more: the objects.
        weight = 1 + 2 * torch.from_numpy(masks[index]).float()[:, None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = vae.decode(z.to(memory_format=torch.channels_last)).sample
        y = y.float()
        pixel = (weight * ((y - x).abs() + (y - x).pow(2))).mean()
        edge = sum(
            ((a - b).abs() * w).mean()
            for a, b, w in zip(
                _edges(y), _edges(x), (weight[..., 1:, :], weight[..., 1:]), strict=True
            )
        )
        loop.update(pixel + 0.5 * edge, pixel=pixel, edge=edge)
    loop.finish()
