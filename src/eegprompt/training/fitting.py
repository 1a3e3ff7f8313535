"""The training loop: the Lightning module, checkpoints, interruption and resumption."""

from __future__ import annotations

import inspect
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import TrainingError
from eegprompt.core.files import atomic_path, content_key
from eegprompt.core.progress import Progress
from eegprompt.core.registry import resolve
from eegprompt.training.batches import CHUNK, ShuffledBatches, TrialsDataset
from eegprompt.training.closed_form import fit_branches, fuse_branches, solve
from eegprompt.training.selection import top1_accuracy

if TYPE_CHECKING:
    import torch

    from eegprompt.settings import ExperimentConfig
    from eegprompt.training.batches import TrainingData

__all__ = ["fit"]


# -- training itself -------------------------------------------------------------------------------
def _build(material: TrainingData, config: ExperimentConfig) -> torch.nn.Module:
    make, argument = resolve("encoder", config.encoder.name)
    _, n_chans, n_times = material.eeg.shape
    takes = inspect.signature(make).parameters
    any_captions = next(iter(material.captions.values()))
    return make(
        heads=config.kinds,
        embedding_dim=any_captions.embeddings.shape[1],
        n_chans=n_chans,
        n_times=n_times,
        sfreq=material.facts["sfreq"],
        n_subjects=len(material.subjects) if len(material.subjects) > 1 else 0,
        **({"model": argument} if argument else {}),
        **({"tmin": material.facts["tmin"]} if "tmin" in takes else {}),
        **config.encoder.options,
    )


def _module(material: TrainingData, config: ExperimentConfig) -> Any:
    """The Lightning module; made in a function because Lightning takes seconds to import."""
    import lightning.pytorch as lightning
    import torch

    objective_class, _ = resolve("objective", config.training.objective)

    class Alignment(lightning.LightningModule):
        """An encoder and an objective, and how they are optimized and validated."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = _build(material, config)
            self.objective = objective_class(config.kinds, config.training.label_smoothing)
            self.register_buffer("positions", torch.from_numpy(material.positions), False)
            for kind, captions in material.captions.items():
                embeddings = torch.from_numpy(captions.embeddings)
                self.register_buffer(f"embeddings_{kind}", embeddings, False)
                self.register_buffer(f"codes_{kind}", torch.from_numpy(captions.codes), False)
            self.rows: list[dict[str, float]] = []
            self.train_losses: list[torch.Tensor] = []
            self.validated: list[dict[str, Any]] = []

        def targets(
            self, image: torch.Tensor, rng: np.random.Generator | None
        ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
            """Caption embeddings of trials' images, and which captions are right for which.

            Where an image has several captions of a kind, `rng` draws one; None takes the first.
            """
            embeddings, positives = {}, {}
            same_image = image[:, None] == image[None, :]
            for kind, captions in material.captions.items():
                index = torch.from_numpy(captions.choose(image.cpu().numpy(), rng)).to(image.device)
                embeddings[kind] = getattr(self, f"embeddings_{kind}")[index]
                codes = getattr(self, f"codes_{kind}")[index]
                positives[kind] = (codes[:, None] == codes[None, :]) | same_image
            return embeddings, positives

        def training_step(self, batch: dict[str, torch.Tensor], step: int) -> torch.Tensor:
            # Dropout depends on the seed, the pass and the step alone: training that was resumed
            # goes the same way as one that was not.
            torch.manual_seed(int(content_key(config.seed, self.current_epoch, step, length=8), 16))
            if step == 0:
                self.train_losses = []
            embedded = self.encoder(batch["eeg"], self.positions, batch["subject"])
            rng = np.random.default_rng([config.seed, self.current_epoch, step])
            loss, _ = self.objective(embedded, *self.targets(batch["image"], rng))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss.item()} in pass {self.current_epoch + 1}; use a lower "
                    f"training.learning_rate than {config.training.learning_rate:g}"
                )
            self.train_losses.append(loss.detach())
            return loss

        def validation_step(self, batch: dict[str, torch.Tensor], step: int) -> None:
            embedded = self.encoder(batch["eeg"], self.positions, batch["subject"])
            self.validated.append({"image": batch["image"], **embedded})

        def on_validation_epoch_end(self) -> None:
            image = torch.cat([v["image"] for v in self.validated])
            embedded = {k: torch.cat([v[k] for v in self.validated]) for k in config.kinds}
            self.validated = []
            losses, weights = [], []
            for part in np.array_split(np.arange(len(image)), math.ceil(len(image) / 512)):
                block = {k: e[part] for k, e in embedded.items()}
                loss, _ = self.objective(block, *self.targets(image[part], None))
                losses.append(loss.item())
                weights.append(len(part))
            self.log("val_loss", float(np.average(losses, weights=weights)))
            self.scores = {
                f"val_top1_{kind}": top1_accuracy(
                    embedded[kind].float().cpu().numpy(), image.cpu().numpy(), captions
                )
                for kind, captions in material.captions.items()
            }

        def on_train_epoch_end(self) -> None:
            self.rows.append(
                {
                    "epoch": self.current_epoch + 1,
                    "train_loss": torch.stack(self.train_losses).mean().item(),
                    "val_loss": float(self.trainer.callback_metrics["val_loss"]),
                    **self.scores,
                }
            )

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["rows"] = self.rows

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.rows = checkpoint["rows"]

        def configure_optimizers(self) -> Any:
            # Weight decay pulls maps toward zero; biases, gains and temperatures have no such zero.
            decayed = [p for p in self.parameters() if p.ndim >= 2]
            free = [p for p in self.parameters() if p.ndim < 2]
            optimizer = torch.optim.AdamW(
                [
                    {"params": decayed, "weight_decay": config.training.weight_decay},
                    {"params": free, "weight_decay": 0.0},
                ],
                lr=config.training.learning_rate,
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                config.training.learning_rate,
                total_steps=int(self.trainer.estimated_stepping_batches),
            )
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    return Alignment()


def fit(
    material: TrainingData, config: ExperimentConfig, folder: Path, progress: Progress | None
) -> tuple[Any, int, bool]:
    """Train; give the module with the selected weights, its pass, and whether it stopped early."""
    import lightning.pytorch as lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from torch.utils.data import DataLoader

    from eegprompt.encoders.saved import pick_device

    class WholeFiles(TorchCheckpointIO):
        """A checkpoint is there as a whole or not at all."""

        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            with atomic_path(path) as partial:
                torch.save(checkpoint, partial)

    class Report(lightning.Callback):
        """Tells `progress` after each pass; ends at once where it had already stopped early."""

        def on_train_start(self, trainer: Any, module: Any) -> None:
            trainer.should_stop = bool(patience.stopped_epoch)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if progress:
                loss = float(trainer.callback_metrics["val_loss"])
                label = f"training (validation loss {loss:.3f})"
                progress(trainer.current_epoch + 1, config.training.epochs, label)

    settings = config.training
    train_side, val_side = material.sides["train"], material.sides["val"]
    workers = 0 if material.prepared else settings.workers
    batches = ShuffledBatches(len(train_side), settings.batch_size, config.seed)
    chunks = np.array_split(np.arange(len(val_side)), math.ceil(len(val_side) / CHUNK))
    loader: dict[str, Any] = {"batch_size": None, "num_workers": workers}
    train_data: Any = TrialsDataset(material, "train")
    val_data: Any = TrialsDataset(material, "val")
    train_loader: Any = DataLoader(train_data, sampler=batches, **loader)
    val_loader: Any = DataLoader(val_data, sampler=chunks, **loader)
    best = ModelCheckpoint(
        folder,
        "best",
        monitor="val_loss",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    patience = EarlyStopping(
        "val_loss", patience=settings.patience, check_on_train_epoch_end=True, check_finite=False
    )
    device = pick_device(settings.device)
    with _quiet(), _seeded(config.seed):
        module = _module(material, config)
        if hasattr(module.encoder, "solve"):
            solve(material, module, progress)
            return module.cpu().eval(), 1, False
        trainer = lightning.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=1 if device.index is None else [device.index],
            precision=settings.precision,  # type: ignore[arg-type]
            max_epochs=settings.epochs,
            gradient_clip_val=1.0,
            deterministic="warn",
            callbacks=[Report(), patience, best],
            plugins=[WholeFiles()],
            enable_progress_bar=progress is None and sys.stderr.isatty(),
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )
        if hasattr(module.encoder, "prepare"):
            fit_branches(material, module.encoder, progress)
        batches.epoch = lambda: trainer.current_epoch
        last = folder / "last.ckpt"
        _run_interruptibly(trainer, module, train_loader, val_loader, last)
        path = folder / "best.ckpt"
        if not path.exists():
            raise TrainingError(
                "no pass had a finite validation loss; use a lower training.learning_rate than "
                f"{settings.learning_rate:g}"
            )
        stored = torch.load(path, map_location="cpu", weights_only=True)
        rows = module.rows
        module.load_state_dict(stored["state_dict"])
        module.rows = rows
        module.cpu().eval()
        if hasattr(module.encoder, "fuse"):
            fuse_branches(material, module.encoder)
    return module.cpu().eval(), len(stored["rows"]), bool(patience.stopped_epoch)


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
