"""Encoders that are solved in closed form instead of trained by gradient steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.progress import Progress
from eegprompt.training.batches import CHUNK
from eegprompt.training.selection import top1_accuracy

if TYPE_CHECKING:
    import torch

    from eegprompt.training.batches import TrainingData, TrialSet

__all__ = ["solve"]


def solve(material: TrainingData, module: Any, progress: Progress | None) -> None:
    """Fit an encoder that has a closed form, selected by caption retrieval on the validation set."""
    import torch

    sides = material.sides

    def blocks(side: TrialSet) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(side), CHUNK):
            rows = slice(start, start + CHUNK)
            yield (
                torch.from_numpy(material.read(side.rows[rows])),
                torch.from_numpy(side.subject[rows]),
            )

    def top1() -> dict[str, float]:
        embedded = [module.encoder(eeg, module.positions, who) for eeg, who in blocks(sides["val"])]
        return {
            f"val_top1_{kind}": top1_accuracy(
                torch.cat([e[kind] for e in embedded]).numpy(), sides["val"].image, captions
            )
            for kind, captions in material.captions.items()
        }

    with torch.inference_mode():
        targets, _ = module.targets(torch.from_numpy(sides["train"].image), None)
        tried = module.encoder.solve(
            blocks(sides["train"]),
            targets,
            lambda: float(np.mean(list(top1().values()))),
            progress,
        )
        chosen = max(tried, key=lambda row: row["score"])
        module.rows = [{"epoch": 1, "penalty": chosen["penalty"], **top1()}]
