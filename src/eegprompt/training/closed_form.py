"""Encoders, or branches of one, that are solved in closed form instead of trained by gradient steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.progress import Progress
from eegprompt.training.batches import CHUNK
from eegprompt.training.selection import top1_credit

if TYPE_CHECKING:
    import torch

    from eegprompt.encoders.base import Branched, Solved
    from eegprompt.training.alignment import Alignment
    from eegprompt.training.batches import HeadCaptions, TrainingData, TrialSet

__all__ = ["blocks_of", "fit_branches", "fuse_branches", "solve"]


def solve(
    material: TrainingData, module: Alignment, encoder: Solved, progress: Progress | None
) -> None:
    """Fit an encoder that has a closed form, selected by caption retrieval on the validation set."""
    import torch

    sides = material.sides

    def top1() -> dict[str, float]:
        embedded = [
            module.encoder(eeg, module.positions, who)
            for eeg, who in blocks_of(material, sides["val"])
        ]
        return {
            f"val_top1_{kind}": float(
                top1_credit(
                    torch.cat([e[kind] for e in embedded]).numpy(), sides["val"].image, captions
                ).mean()
            )
            for kind, captions in material.captions.items()
        }

    with torch.inference_mode():
        targets, _ = module.targets(torch.from_numpy(sides["train"].image), None)
        tried = encoder.solve(
            blocks_of(material, sides["train"]),
            targets,
            lambda: float(np.mean(list(top1().values()))),
            progress,
        )
        chosen = max(tried, key=lambda row: row["score"])
        module.rows = [{"epoch": 1, "penalty": chosen["penalty"], **top1()}]


def fit_branches(material: TrainingData, encoder: Branched, progress: Progress | None) -> None:
    """Fit the convex branches of an encoder on the training set."""
    import torch

    from eegprompt.encoders.readout import Targets

    train, val = material.sides["train"], material.sides["val"]
    targets = {}
    for head, captions in material.captions.items():
        condition, bank = _conditions(captions, train.image)
        targets[head] = Targets(
            condition[train.image], bank, bool((condition[val.image] >= 0).all())
        )
    _, shown = np.unique(train.image, return_inverse=True)
    encoder.prepare(
        lambda: (eeg for eeg, _ in blocks_of(material, train)),
        torch.from_numpy(material.positions),
        shown,
        targets,
        material.folds,
        progress,
    )


def fuse_branches(material: TrainingData, encoder: Branched) -> None:
    """Weigh an encoder's network and branches on the validation set."""
    import torch

    from eegprompt.encoders.readout import Targets

    train, val = material.sides["train"], material.sides["val"]
    targets = {}
    for head, captions in material.captions.items():
        known, _ = _conditions(captions, train.image)
        condition, bank = _conditions(captions, np.concatenate([train.image, val.image]))
        targets[head] = Targets(condition[val.image], bank, bool((known[val.image] >= 0).all()))
    texts = {head: captions.embeddings for head, captions in material.captions.items()}
    encoder.fuse(blocks_of(material, val), torch.from_numpy(material.positions), targets, texts)


def blocks_of(
    material: TrainingData, side: TrialSet
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Trials and their subjects, in order, some at a time."""
    import torch

    for start in range(0, len(side), CHUNK):
        rows = slice(start, start + CHUNK)
        yield (
            torch.from_numpy(material.read(side.rows[rows])),
            torch.from_numpy(side.subject[rows]),
        )


def _conditions(captions: HeadCaptions, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images whose captions say the same have the same number.

    Returns
    -------
    numbers : int array, by image
        -1 for an image whose captions none of `images` has.
    bank : float array (n_numbers, n_dims)
        Mean caption embedding of each number.
    """
    keys = [tuple(sorted(set(captions.codes[rows].tolist()))) for rows in captions.of_image]
    number: dict[tuple[int, ...], int] = {}
    bank = []
    for image in np.unique(images):
        if keys[image] not in number:
            number[keys[image]] = len(number)
            bank.append(captions.embeddings[captions.of_image[image]].mean(axis=0))
    return np.array([number.get(key, -1) for key in keys]), np.stack(bank).astype(np.float64)
