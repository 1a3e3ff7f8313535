"""What hangs on the trainer: whole checkpoints, patience, and a report after each epoch."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from eegprompt.core.files import atomic_path
from eegprompt.core.progress import Progress
from eegprompt.training.selection import clearly_worse

__all__ = ["Patience", "Report", "WholeFiles"]


class WholeFiles(TorchCheckpointIO):
    """A checkpoint is there as a whole or not at all."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Write beside and rename."""
        with atomic_path(path) as partial:
            torch.save(checkpoint, partial)


class Patience(lightning.Callback):
    """Stops after some epochs that were no better than the best; by retrieval, clearly worse.

    Parameters
    ----------
    epochs : int
        So many in a row.
    by_credit : bool
        An epoch counts only if it is clearly worse than the best over validation trials (95 %, one
        side): few trials cannot tell epochs apart.
    """

    def __init__(self, epochs: int, by_credit: bool):
        self.epochs, self.by_credit = epochs, by_credit
        self.best, self.waited, self.stopped = -np.inf, 0, False
        self.credit: np.ndarray = np.zeros(0)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Add no epoch to a training that had stopped."""
        trainer.should_stop = self.stopped

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Count, and stop where it is enough."""
        value = float(trainer.callback_metrics["val_score"])
        if value > self.best:
            self.best, self.waited, self.credit = value, 0, module.credit
        elif not self.by_credit or clearly_worse(module.credit, self.credit):
            self.waited += 1
        self.stopped = self.waited >= self.epochs
        trainer.should_stop = trainer.should_stop or self.stopped

    def state_dict(self) -> dict[str, Any]:
        """What an interrupted training goes on with."""
        return {
            "best": self.best,
            "waited": self.waited,
            "stopped": self.stopped,
            "credit": torch.from_numpy(np.asarray(self.credit)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where it was."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self.stopped, self.credit = state_dict["stopped"], state_dict["credit"].numpy()


class Report(lightning.Callback):
    """Tells `progress` after each epoch."""

    def __init__(self, progress: Progress | None):
        self.progress = progress

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Say how far it is."""
        if self.progress:
            loss = float(trainer.callback_metrics["val_loss"])
            label = f"training (validation loss {loss:.3f})"
            self.progress(trainer.current_epoch + 1, trainer.max_epochs, label)
