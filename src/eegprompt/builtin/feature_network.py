"""The feature network of the image metrics, and its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from eegprompt.builtin.training.loop import Loop, sample_batches, training_pool
from eegprompt.builtin.world import ATTRIBUTES

__all__ = ["FeatureNet", "train_features"]

POOL = 60_000
HEADS = ("object", "color", "setting", "place", "count", "viewpoint", "light", "clarity", "mood")


class FeatureNet(nn.Module):
    """Six strided convolutions, a pooled read-out, one linear head an attribute."""

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (3, 16, 12, 32, 48, 64, 96), (1, 2, 2, 1, 2, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 5 if i == 0 else 3, stride=s, padding=2 if i == 0 else 1)
            for i, (a, b, s) in enumerate(zip(widths[:-1], widths[1:], strides, strict=True))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, b) for b in widths[1:])
        self.heads = nn.ModuleDict({name: nn.Linear(96, len(ATTRIBUTES[name])) for name in HEADS})

    def trunk(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute early (n, 768) and late (n, 96) features of (n, 3, 64, 64) in [-1, 1]."""
        early = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = F.gelu(norm(convolution(x)))
            if i == 1:
                early = F.adaptive_avg_pool2d(x, 8).flatten(1)
        return early, x.mean((2, 3))

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute early and late features and the objects' logits."""
        early, late = self.trunk(x)
        return early, late, self.heads["object"](late)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute logits of every attribute."""
        late = self.trunk(x)[1]
        return {name: head(late) for name, head in self.heads.items()}


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, brighten, tint and roughen images a little, each in its own way."""
    n = len(x)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    dy, dx = (int(v) for v in torch.randint(-3, 4, (2,), generator=generator))
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")[:, :, 3 + dy : 67 + dy, 3 + dx : 67 + dx]
    x = x * (1 + 0.08 * uniform(n, 1, 1, 1)) + 0.06 * uniform(n, 3, 1, 1)
    noise = torch.randn(x.shape, generator=generator)
    x = x + 0.05 * torch.rand(n, 1, 1, 1, generator=generator) * noise
    blur = torch.rand(n, 1, 1, 1, generator=generator) < 0.3
    return torch.where(blur, F.avg_pool2d(x, 3, 1, 1), x)


def train_features(folder: Path, *, minutes: float | None, resume: bool, steps: int = 4000) -> None:
    """Train, then write ``folder/features``."""
    from safetensors.torch import save_file

    torch.manual_seed(4)
    scenes, images, _ = training_pool(folder, POOL, seed=1)
    labels = {
        name: torch.tensor([ATTRIBUTES[name].index(getattr(s, name)) for s in scenes])
        for name in HEADS
    }
    net = FeatureNet()
    loop = Loop("features", net, folder, lr=3e-3, steps=steps, minutes=minutes, resume=resume)
    generator = torch.Generator().manual_seed(loop.step + 4)
    batches = sample_batches(len(scenes), 64, seed=loop.step + 4)
    while not loop.done:
        index = np.sort(next(batches))
        x = torch.from_numpy(images[index]).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = augment(x, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(x)
        losses = {
            name: F.cross_entropy(logits[name].float(), labels[name][index]) for name in HEADS
        }
        loop.update(
            sum(losses.values(), torch.zeros(())) / len(HEADS),
            object=losses["object"],
            color=losses["color"],
        )
    loop.finish()
    out = folder / "features"
    out.mkdir(exist_ok=True)
    save_file(
        {k: v.half().contiguous() for k, v in net.state_dict().items()}, out / "model.safetensors"
    )
