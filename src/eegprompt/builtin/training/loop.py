"""What the training scripts of the built-in models share: scenes, a clock, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eegprompt.builtin.drawing import draw, object_mask
from eegprompt.builtin.world import Scene, is_held_out, sample_scene

__all__ = ["Loop", "sample_batches", "training_pool", "training_scenes"]


def training_scenes(n: int, seed: int) -> list[Scene]:
    """Scenes from the combinations that training may see."""
    rng = np.random.default_rng([seed, 64])
    scenes: list[Scene] = []
    while len(scenes) < n:
        scene = sample_scene(rng)
        if not is_held_out(scene.object, scene.color, scene.setting):
            scenes.append(scene)
    return scenes


def training_pool(
    folder: Path, n: int, seed: int
) -> tuple[list[Scene], NDArray[np.uint8], NDArray[np.bool_]]:
    """Training scenes, their images and their objects' masks, drawn once and kept."""
    scenes = training_scenes(n, seed)
    images = _kept(folder / f"pool-{n}-{seed}.npy", draw, scenes)
    masks = _kept(folder / f"masks-{n}-{seed}.npy", object_mask, scenes)
    return scenes, images, masks


def _kept(path: Path, make: Callable[[Scene], Any], scenes: list[Scene]) -> Any:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.save(file, np.stack([make(scene) for scene in scenes]))
        part.replace(path)
    return np.load(path, mmap_mode="r")


def sample_batches(n: int, batch: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Endless batches of indices, each index once a round."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(n)
        for i in range(0, n - batch + 1, batch):
            yield order[i : i + batch]


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a hidden layer's matrix: no bias, no embedding, no in- or output."""
    edge = ("embedding", "conv_in", "conv_out", "quant_conv", "projection", "heads")
    return parameter.ndim >= 2 and not any(word in name for word in edge)


class Muon:
    """Momentum whose update is made orthogonal, for weight matrices and convolutions.

    Needs about half of AdamW's steps here, which is what counts where steps are dear. After Jordan
    et al. 2024 (https://kellerjordan.github.io/posts/muon/), with the scale of Liu et al. 2025
    (arXiv 2502.16982), which lets it share AdamW's learning rate.
    """

    def __init__(self, parameters: list[nn.Parameter], weight_decay: float):
        self.parameters, self.weight_decay = parameters, weight_decay
        self.momentum = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update every parameter."""
        for p, m in zip(self.parameters, self.momentum, strict=True):
            if p.grad is None:
                continue
            m.lerp_(p.grad, 0.05)
            update = p.grad.lerp(m, 0.95).reshape(len(p), -1)
            tall = update.shape[0] > update.shape[1]
            x = (update.T if tall else update).bfloat16()
            x = x / (x.norm() + 1e-7)
            for _ in range(5):  # a quintic Newton-Schulz iteration towards the polar factor
                a = x @ x.T
                x = 3.4445 * x + (-4.775 * a + 2.0315 * (a @ a)) @ x
            update = (x.T if tall else x).float().reshape(p.shape)
            p.mul_(1 - lr * self.weight_decay)
            p.add_(update, alpha=-lr * 0.2 * max(len(p), p.numel() // len(p)) ** 0.5)


class Loop:
    """Steps, learning rate, weight averaging and checkpoints of one training.

    The length is given in steps or in minutes; the learning rate warms up and then falls along
    a cosine over that length. With minutes, the number of steps depends on the machine.

    Parameters
    ----------
    name : str
        Name of the checkpoint.
    model : nn.Module
        What is trained.
    folder : Path
        Where checkpoints lie.
    lr : float
        Peak learning rate.
    steps : int
        Length, unless minutes are given.
    minutes : float or None
        Length in wall time.
    resume : bool
        Go on from the checkpoint, if there is one.
    ema : float, default 0.999
        Decay of the averaged weights.
    weight_decay : float, default 0.01
        Of AdamW.
    warmup : int
        Steps over which the learning rate rises.
    muon : bool
        Whether matrices are trained by Muon instead of AdamW.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        folder: Path,
        *,
        lr: float,
        steps: int,
        minutes: float | None,
        resume: bool,
        ema: float = 0.999,
        weight_decay: float = 0.01,
        warmup: int = 300,
        muon: bool = True,
    ):
        self.name, self.model, self.lr, self.steps = name, model, lr, steps
        self.seconds = None if minutes is None else 60 * minutes
        self.path = folder / f"{name}.pt"
        folder.mkdir(parents=True, exist_ok=True)
        self.decay, self.warmup = ema, warmup
        self.parameters: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        matrices = [p for n, p in model.named_parameters() if p.requires_grad and _is_matrix(n, p)]
        self.muon = Muon(matrices if muon else [], weight_decay)
        chosen = {id(p) for p in self.muon.parameters}
        self.optimizer = torch.optim.AdamW(
            [p for p in self.parameters if id(p) not in chosen],
            lr=lr,
            weight_decay=weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.step, self.elapsed = 0, 0.0
        self._losses: dict[str, float] = {}
        if resume and self.path.exists():
            state = torch.load(self.path, weights_only=True)
            model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.muon.momentum = state["average"], state["momentum"]
            self.step, self.elapsed = state["step"], state["elapsed"]
        self._last = self._saved = time.monotonic()

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.seconds is not None:
            return min(1.0, self.elapsed / self.seconds)
        return min(1.0, self.step / self.steps)

    @property
    def done(self) -> bool:
        """Whether the length is reached."""
        return self.progress >= 1.0

    def update(self, loss: torch.Tensor, **shown: Any) -> None:
        """Take one step down a loss; print and save from time to time."""
        rate = self.lr * min(1.0, (self.step + 1) / self.warmup)
        rate *= 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * self.progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.muon.step(rate)
        decay = min(self.decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.step += 1
        now = time.monotonic()
        self.elapsed += now - self._last
        self._last = now
        for key, value in {"loss": loss, **shown}.items():
            value = float(value.detach() if isinstance(value, torch.Tensor) else value)
            self._losses[key] = 0.98 * self._losses.get(key, value) + 0.02 * value
        if self.step % 50 == 0:
            text = " ".join(f"{key} {value:.4f}" for key, value in self._losses.items())
            print(f"{self.name} step {self.step} {self.elapsed / 60:.1f} min {text}", flush=True)
        if now - self._saved > 60:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "momentum": self.muon.momentum,
                "step": self.step,
                "elapsed": self.elapsed,
            },
            part,
        )
        part.replace(self.path)
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Save, and put the averaged weights into the model."""
        self.save()
        self.use_average()

    def use_average(self) -> None:
        """Put the averaged weights into the model."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                parameter.copy_(average)
