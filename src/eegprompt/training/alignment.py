"""An encoder and an objective as a Lightning module: losses, validation, optimizer."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import lightning.pytorch as lightning
import numpy as np
import torch

from eegprompt.core.errors import TrainingError
from eegprompt.core.files import content_key
from eegprompt.core.registry import resolve
from eegprompt.training.selection import top1_credit

if TYPE_CHECKING:
    from eegprompt.settings import ExperimentConfig
    from eegprompt.training.batches import TrainingData

__all__ = ["Alignment"]


def _build(material: TrainingData, config: ExperimentConfig) -> torch.nn.Module:
    """The encoder that the settings name, in the size of the data."""
    make, argument = resolve("encoder", config.encoder.name)
    _, n_chans, n_times = material.eeg.shape
    takes = inspect.signature(make).parameters
    any_captions = next(iter(material.captions.values()))
    encoder: torch.nn.Module = make(
        heads=config.kinds,
        embedding_dim=any_captions.embeddings.shape[1],
        n_chans=n_chans,
        n_times=n_times,
        sfreq=material.facts["sfreq"],
        n_subjects=len(material.subjects) if len(material.subjects) > 1 else 0,
        **({"model": argument} if argument else {}),
        **{name: material.facts[name] for name in ("tmin", "ch_names") if name in takes},
        **config.encoder.options,
    )
    return encoder


class Alignment(lightning.LightningModule):
    """An encoder and an objective, and how they are optimized and validated."""

    def __init__(self, material: TrainingData, config: ExperimentConfig) -> None:
        super().__init__()
        self.config, self.captions = config, material.captions
        self.encoder = _build(material, config)
        objective_class, _ = resolve("objective", config.training.objective)
        self.objective = objective_class(config.kinds, config.training.label_smoothing)
        self.register_buffer("positions", torch.from_numpy(material.positions), False)
        for kind, captions in material.captions.items():
            self.register_buffer(f"embeddings_{kind}", torch.from_numpy(captions.embeddings), False)
            self.register_buffer(f"codes_{kind}", torch.from_numpy(captions.codes), False)
        self.rows: list[dict[str, float]] = []
        self.train_losses: list[torch.Tensor] = []
        self.validated: list[dict[str, Any]] = []
        self.scores: dict[str, float] = {}
        self.credit: np.ndarray = np.zeros(0)  # of each validation trial, mean over heads

    def targets(
        self, image: torch.Tensor, rng: np.random.Generator | None
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Caption embeddings of trials' images, and which captions are right for which.

        Where an image has several captions of a kind, `rng` draws one; None takes the first.
        """
        embeddings, positives = {}, {}
        same_image = image[:, None] == image[None, :]
        for kind, captions in self.captions.items():
            index = torch.from_numpy(captions.choose(image.cpu().numpy(), rng)).to(image.device)
            embeddings[kind] = self.get_buffer(f"embeddings_{kind}")[index]
            codes = self.get_buffer(f"codes_{kind}")[index]
            positives[kind] = (codes[:, None] == codes[None, :]) | same_image
        return embeddings, positives

    def training_step(self, batch: dict[str, torch.Tensor], step: int) -> torch.Tensor:
        """Loss of a batch."""
        # Dropout depends on the seed, the pass and the step alone: training that was resumed
        # goes the same way as one that was not.
        seed = self.config.seed
        torch.manual_seed(int(content_key(seed, self.current_epoch, step, length=8), 16))
        if step == 0:
            self.train_losses = []
        embedded = self.encoder(batch["eeg"], self.positions, batch["subject"])
        rng = np.random.default_rng([seed, self.current_epoch, step])
        loss: torch.Tensor
        loss, _ = self.objective(embedded, *self.targets(batch["image"], rng))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in pass {self.current_epoch + 1}; use a lower "
                f"training.learning_rate than {self.config.training.learning_rate:g}"
            )
        self.train_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], step: int) -> None:
        """Embed a batch; scores follow when all are embedded."""
        embedded = self.encoder(batch["eeg"], self.positions, batch["subject"])
        self.validated.append({"image": batch["image"], **embedded})

    def on_validation_epoch_end(self) -> None:
        """Loss and retrieval on the validation set."""
        image = torch.cat([v["image"] for v in self.validated])
        embedded = {k: torch.cat([v[k] for v in self.validated]) for k in self.captions}
        self.validated = []
        losses, weights = [], []
        for part in np.array_split(np.arange(len(image)), math.ceil(len(image) / 512)):
            block = {k: e[part] for k, e in embedded.items()}
            loss, _ = self.objective(block, *self.targets(image[part], None))
            losses.append(loss.item())
            weights.append(len(part))
        val_loss = float(np.average(losses, weights=weights))
        credit = {
            kind: top1_credit(embedded[kind].float().cpu().numpy(), image.cpu().numpy(), captions)
            for kind, captions in self.captions.items()
        }
        self.credit = np.mean(list(credit.values()), axis=0)
        self.scores = {f"val_top1_{kind}": float(c.mean()) for kind, c in credit.items()}
        by_loss = self.config.training.selection == "loss"
        # Of epochs that retrieve alike the later is better: its steps were smaller.
        self.log("val_loss", val_loss)
        self.log(
            "val_score", -val_loss if by_loss else self.credit.mean() + 1e-6 * self.current_epoch
        )

    def on_train_epoch_end(self) -> None:
        """Note a row of the training curve."""
        self.rows.append(
            {
                "epoch": self.current_epoch + 1,
                "train_loss": torch.stack(self.train_losses).mean().item(),
                "val_loss": float(self.trainer.callback_metrics["val_loss"]),
                **self.scores,
            }
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the training curve."""
        checkpoint["rows"] = self.rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the training curve."""
        self.rows = checkpoint["rows"]

    def configure_optimizers(self) -> Any:
        """AdamW with one cycle of the learning rate."""
        # Weight decay pulls maps toward zero; biases, gains and temperatures have no such zero.
        decayed = [p for p in self.parameters() if p.ndim >= 2]
        free = [p for p in self.parameters() if p.ndim < 2]
        settings = self.config.training
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            settings.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
