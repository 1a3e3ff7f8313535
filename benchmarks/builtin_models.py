"""How good are the built-in models? ``python benchmarks/builtin_models.py``.

A judge that shares nothing with the built-in models (another architecture, other scenes, another
seed, trained on drawn scenes only) says what an image shows. It is trained here, from scratch
(a few minutes), or kept with ``--judge FILE``. Expected on two cores: see benchmarks/README.md.

The table gives the judge's accuracy for object, color and setting on

- *drawn*: held-out scenes as drawn, which is the judge's own accuracy;
- *autoencoder*: the same after a round trip through the built-in autoencoder;
- *generated*: images generated from the scenes' ten true captions;
- *shuffled*: the same images against other scenes' attributes, which is chance.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from eegprompt.builtin.drawing import draw
from eegprompt.builtin.paths import GENERATION_DEFAULTS, clip_folder, pipeline_folder
from eegprompt.builtin.scene_captions import captions, meanings, phrasings
from eegprompt.builtin.world import (
    ATTRIBUTES,
    KIND_ATTRIBUTES,
    Scene,
    is_held_out,
    sample_scene,
    split_scenes,
)

JUDGED = ("object", "color", "setting")
ALSO = ("place", "count", "viewpoint", "light", "clarity")
NAMES = JUDGED + ALSO


class Block(nn.Module):
    """A residual block that halves the image."""

    def __init__(self, a: int, b: int):
        super().__init__()
        self.one = nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False)
        self.two = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(a, b, 1, stride=2, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norms[0](self.one(x)))
        return F.relu(self.norms[1](self.two(y)) + self.skip(x))


class Judge(nn.Module):
    """A small residual network with average and maximum pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.blocks = nn.Sequential(Block(32, 64), Block(64, 96), Block(96, 128))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(128 * 18, len(ATTRIBUTES[name])) for name in NAMES}
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.blocks(self.stem(x))
        pooled = torch.cat([y.mean((2, 3)), y.amax((2, 3)), y.flatten(1)], 1)
        return {name: head(pooled) for name, head in self.heads.items()}


def tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in [-1, 1]."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def train_judge(n_scenes: int, epochs: int, seed: int = 990) -> Judge:
    """Train the judge on drawn scenes of combinations that are not held out."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    while len(scenes) < n_scenes:
        scene = sample_scene(rng)
        if not is_held_out(scene.object, scene.color, scene.setting):
            scenes.append(scene)
    images = np.stack([draw(scene) for scene in scenes])
    labels = {
        name: torch.tensor([ATTRIBUTES[name].index(getattr(s, name)) for s in scenes])
        for name in NAMES
    }
    judge = Judge().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * (n_scenes // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for epoch in range(epochs):
        order, right, start = rng.permutation(n_scenes), 0.0, time.monotonic()
        for i in range(n_scenes // 64):
            index = order[64 * i : 64 * i + 64]
            x = tensor(images[index])
            dy, dx = rng.integers(-2, 3, size=2)
            x = torch.roll(x, (int(dy), int(dx)), (2, 3))
            if rng.random() < 0.3:  # images that were generated are a little soft
                x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            x = x * float(rng.uniform(0.95, 1.05)) + float(rng.uniform(-0.04, 0.04))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = judge(x + 0.03 * torch.randn_like(x))
            loss = sum(F.cross_entropy(logits[n].float(), labels[n][index]) for n in NAMES)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
            schedule.step()
            right += float((logits["object"].argmax(1) == labels["object"][index]).float().mean())
        print(
            f"judge epoch {epoch + 1}/{epochs}: object {right / (n_scenes // 64):.3f}, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )
    return judge.eval()


@torch.no_grad()
def accuracy(judge: Judge, images: NDArray[np.uint8], scenes: list[Scene]) -> dict[str, float]:
    """Share of images that show what the scenes say."""
    logits = [judge(tensor(images[i : i + 128])) for i in range(0, len(images), 128)]
    return {
        name: float(
            np.mean(
                torch.cat([part[name] for part in logits]).argmax(1).numpy()
                == np.array([ATTRIBUTES[name].index(getattr(s, name)) for s in scenes])
            )
        )
        for name in NAMES
    }


def load_pipeline(folder: Path) -> Any:
    """Load a pipeline as any user would."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: Any, prompts: list[str], batch: int = 32, **settings: Any
) -> NDArray[np.uint8]:
    """Generate one image a prompt, each with the seed of its place in the list."""
    out = []
    for i in range(0, len(prompts), batch):
        part = prompts[i : i + batch]
        seeds = [torch.Generator().manual_seed(i + j) for j in range(len(part))]
        out.append(pipeline(part, generator=seeds, output_type="np", **settings).images)
    return np.rint(np.concatenate(out) * 255).astype(np.uint8)


@torch.no_grad()
def round_trip(vae: Any, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encode and decode images."""
    out = []
    for i in range(0, len(images), 64):
        y = vae.decode(vae.encode(tensor(images[i : i + 64])).latent_dist.mode()).sample
        out.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(out)


@torch.no_grad()
def text_neighbors(folder: Path) -> dict[str, float]:
    """Share of phrasings whose nearest other phrasing of their kind means the same."""
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    found = {}
    for kind in KIND_ATTRIBUTES:
        texts = [(p, m) for m in meanings(kind) for p in phrasings(m, kind)]
        ids = tokenizer([t for t, _ in texts], padding=True, return_tensors="pt")
        e = F.normalize(model.get_text_features(**ids).pooler_output, dim=1)
        nearest = (e @ e.T).fill_diagonal_(-9).argmax(1)
        found[kind] = float(np.mean([texts[i][1] == m for i, (_, m) in zip(nearest, texts)]))
    return found


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--n", type=int, default=480, help="held-out scenes")
    parser.add_argument("--judge", type=Path, help="keep the judge here, or take it from here")
    parser.add_argument("--judge-scenes", type=int, default=40_000)
    parser.add_argument("--judge-epochs", type=int, default=6)
    parser.add_argument("--weights", type=Path, help="folder of weights; the package's by default")
    parser.add_argument("--steps", type=int, default=GENERATION_DEFAULTS["num_inference_steps"])
    parser.add_argument("--guidance", type=float, default=GENERATION_DEFAULTS["guidance_scale"])
    parser.add_argument("--sheet", type=Path, help="save a sheet of images here")
    parser.add_argument("--json", action="store_true", help="print JSON as well")
    parser.add_argument("--train-judge-only", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    if options.judge and options.judge.exists():
        judge = Judge().to(memory_format=torch.channels_last)
        judge.load_state_dict(torch.load(options.judge, weights_only=True))
        judge.eval()
    else:
        judge = train_judge(options.judge_scenes, options.judge_epochs)
        if options.judge:
            torch.save(judge.state_dict(), options.judge)

    scenes = split_scenes(0, options.n, seed=2025)[1]
    drawn = np.stack([draw(scene) for scene in scenes])
    rows: dict[str, dict[str, float]] = {"drawn": accuracy(judge, drawn, scenes)}
    if options.train_judge_only:
        print(rows)
        return
    pipeline = load_pipeline(options.weights / "pipeline" if options.weights else pipeline_folder())
    rows["autoencoder"] = accuracy(judge, round_trip(pipeline.vae, drawn), scenes)
    prompts = [
        ", ".join(captions(scene, f"benchmark-{i}").values()) for i, scene in enumerate(scenes)
    ]
    settings = {
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "height": 64,
        "width": 64,
    }
    generate(pipeline, prompts[:4], **settings)  # warm up
    start = time.monotonic()
    made = generate(pipeline, prompts, **settings)
    rate = len(made) / (time.monotonic() - start)
    rows["generated"] = accuracy(judge, made, scenes)
    rows["shuffled"] = accuracy(judge, made, scenes[7:] + scenes[:7])

    print(f"\n{options.n} held-out scenes; {options.steps} steps, guidance {options.guidance}")
    print(f"{'':12s}" + "".join(f"{name:>10s}" for name in NAMES))
    for label, row in rows.items():
        print(f"{label:12s}" + "".join(f"{row[name]:10.3f}" for name in NAMES))
    print(f"\n{rate:.1f} images a second on {torch.get_num_threads()} threads")
    neighbors = text_neighbors(options.weights / "clip" if options.weights else clip_folder())
    print("\nnearest phrasing means the same, by kind")
    for kind, value in neighbors.items():
        print(f"  {kind:14s}{value:6.3f}")
    if options.json:
        print(json.dumps({"accuracy": rows, "rate": rate, "neighbors": neighbors}))
    if options.sheet:
        from PIL import Image

        lines = []
        for i in range(0, min(64, options.n) // 16 * 16, 16):
            lines += [
                np.concatenate(list(drawn[i : i + 16]), 1),
                np.concatenate(list(made[i : i + 16]), 1),
            ]
        Image.fromarray(np.concatenate(lines)).save(options.sheet)


if __name__ == "__main__":
    main()
