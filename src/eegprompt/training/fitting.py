"""The training loop: checkpoints, early stopping, interruption and resumption."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import TrainingError
from eegprompt.core.progress import Progress
from eegprompt.encoders.base import Branched, Solved
from eegprompt.training.batches import CHUNK, ShuffledBatches, TrainingData, TrialsDataset
from eegprompt.training.closed_form import fit_branches, fuse_branches, solve

if TYPE_CHECKING:
    from eegprompt.settings import ExperimentConfig
    from eegprompt.training.alignment import Alignment

__all__ = ["SELECTED_BY", "Fitted", "fit"]

SELECTED_BY = {"loss": "lowest validation loss", "retrieval": "validation retrieval"}


@dataclass(frozen=True)
class Fitted:
    """What training leads to.

    Parameters
    ----------
    module : Alignment
        With the selected weights, on the CPU, in evaluation mode.
    epoch : int
        The epoch that was selected; 1 where there are none.
    stopped : bool
        Whether training stopped early.
    selected_by : str
        In words.
    """

    module: Alignment
    epoch: int
    stopped: bool
    selected_by: str


def fit(
    material: TrainingData, config: ExperimentConfig, folder: Path, progress: Progress | None
) -> Fitted:
    """Train, with checkpoints in `folder` from which an interrupted training goes on."""
    from eegprompt.training.alignment import Alignment

    with _quiet(), _seeded(config.seed):
        module = Alignment(material, config)
        encoder = module.encoder
        if isinstance(encoder, Solved):
            solve(material, module, encoder, progress)
            return Fitted(module.cpu().eval(), 1, False, SELECTED_BY["retrieval"])
        if isinstance(encoder, Branched):
            fit_branches(material, encoder, progress)
        epoch, stopped = _descend(module, material, config, folder, progress)
        if isinstance(encoder, Branched):
            fuse_branches(material, encoder)
    return Fitted(module.cpu().eval(), epoch, stopped, SELECTED_BY[config.training.selection])


def _descend(
    module: Alignment,
    material: TrainingData,
    config: ExperimentConfig,
    folder: Path,
    progress: Progress | None,
) -> tuple[int, bool]:
    """Gradient steps; the selected epoch, whose weights the module then has, and whether it stopped."""
    import lightning.pytorch as lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.utils.data import DataLoader

    from eegprompt.encoders.saved import pick_device
    from eegprompt.training.checkpoints import Patience, Report, WholeFiles

    settings = config.training
    train_side, val_side = material.sides["train"], material.sides["val"]
    batches = ShuffledBatches(
        len(train_side),
        settings.batch_size,
        config.seed,
        train_side.image if settings.grouped else None,
    )
    chunks = np.array_split(np.arange(len(val_side)), math.ceil(len(val_side) / CHUNK))
    workers = 0 if material.prepared else settings.workers
    train_data: Any = TrialsDataset(material, "train", settings.mixing, config.seed)
    val_data: Any = TrialsDataset(material, "val")
    train_loader: Any = DataLoader(train_data, None, sampler=batches, num_workers=workers)
    val_loader: Any = DataLoader(val_data, None, sampler=chunks, num_workers=workers)
    best = ModelCheckpoint(
        folder,
        "best",
        monitor="val_score",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    patience = Patience(settings.patience, settings.selection == "retrieval")
    device = pick_device(settings.device)
    trainer = lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=1 if device.index is None else [device.index],
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=1.0,
        deterministic="warn",
        callbacks=[Report(progress), patience, best],
        plugins=[WholeFiles()],
        enable_progress_bar=progress is None and sys.stderr.isatty(),
        enable_model_summary=False,
        logger=False,
        num_sanity_val_steps=0,
    )
    batches.epoch = train_data.epoch = lambda: trainer.current_epoch
    _run_interruptibly(trainer, module, train_loader, val_loader, folder / "last.ckpt")
    path = folder / "best.ckpt"
    if not path.exists():
        raise TrainingError(
            "no pass had a finite validation loss; use a lower training.learning_rate than "
            f"{settings.learning_rate:g}"
        )
    stored = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(stored["state_dict"])
    module.cpu().eval()
    epoch, n_epochs = len(stored["rows"]), len(module.rows)
    if epoch == 1 < n_epochs:
        warnings.warn(
            f"of {n_epochs} epochs the first was best on the validation set: the network learned nothing "
            "that holds there; look at the split, the captions and the audit, or try a lower "
            f"training.learning_rate than {settings.learning_rate:g}",
            stacklevel=2,
        )
    return epoch, patience.stopped


def _run_interruptibly(
    trainer: Any, module: Any, train_loader: Any, val_loader: Any, last: Path
) -> None:
    """Fit, and let Ctrl-C through as the interruption it is."""
    import signal
    import threading

    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        trainer.fit(module, train_loader, val_loader, ckpt_path=last if last.exists() else None)
    except SystemExit:  # what Lightning makes of KeyboardInterrupt
        raise KeyboardInterrupt(
            "training was interrupted; run the same command again to go on"
        ) from None
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from announcing itself; its errors still come through."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", message=r".*litlogger.*")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and leave the caller's random state as it was."""
    import torch

    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
