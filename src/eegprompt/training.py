"""Train an EEG encoder on one fold of a study: the training side learns, the validation side selects.

Nothing here opens the test side. What the trainer sees is collected by :func:`_collect` from the
training and validation trial ids alone; fitted steps, subjects and categories come from the training
side. The checkpoint that is kept is the one with the lowest validation loss.
"""

from __future__ import annotations

import inspect
import logging
import math
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import atomic_path, content_key, read_json, write_json
from eegprompt.data.overlap import check_leaks
from eegprompt.errors import (
    CaptionError,
    InputError,
    RunError,
    StudyError,
    TrainingError,
    UnknownNameError,
)
from eegprompt.registry import resolve
from eegprompt.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from eegprompt.encoders.fitted import FittedSteps
    from eegprompt.experiment import ExperimentConfig
    from eegprompt.protocols import TextEncoder
    from eegprompt.study import Study
    from eegprompt.types import Fold

__all__ = ["train"]

Progress = Callable[[int, int, str], None]

IN_MEMORY = 2 << 30  # bytes of EEG that are kept in memory; more is read trial by trial
CHUNK = 256  # trials a validation step


def train(
    study: Study,
    out: str | Path,
    config: ExperimentConfig,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    text_encoder: TextEncoder | None = None,
) -> Run:
    """Train an encoder and write it into a run folder.

    Training that was interrupted goes on from its last finished pass, with the same result as if
    it had not been; training that was finished is not done again.

    Parameters
    ----------
    study : Study
        With the split and the captions that `config` names.
    out : path-like
        The run's folder.
    config : ExperimentConfig
        All settings; they are written to ``config.yaml``.
    resume : bool
        Go on where an interrupted training stopped; False begins anew.
    overwrite : bool
        Delete a run in `out` that was made with other settings or data; else it is an error.
    progress : callable, optional
        Called with passes done, passes in all, and a label. Without it a bar is shown on terminals.
    text_encoder : TextEncoder, optional
        Used instead of loading the one that `config` names.

    Returns
    -------
    Run
        With ``config.yaml``, ``encoder/``, ``training.parquet`` and ``provenance.json``.

    Raises
    ------
    SplitError
        If the fold's sides share what they should not and `config` does not waive.
    StudyError
        If a value is not finite or a channel is flat on the training side.
    CaptionError
        If an image of the training or validation side has no caption of some kind.
    RunError
        If `out` holds a run made with other settings or from other data.
    TrainingError
        If the loss stops being finite.
    """
    out = Path(out)
    split = study.split(config.split)
    fold = split.fold(config.fold)
    waived = check_leaks(study, split, config.fold, config.waive)
    for leak in waived:
        warnings.warn(f"waived: {leak}", stacklevel=2)
    captions = study.captions(config.captions)
    inputs = _inputs_key(study, fold, captions)
    if _is_finished(out, config, inputs, resume=resume, overwrite=overwrite):
        config.save(out / "config.yaml")  # settings of later steps may have changed
        return Run(out)
    _check_names(config)
    material = _collect(study, fold.train, fold.val, captions, config, progress, text_encoder)
    run = _open_folder(out, config, inputs, resume=resume)
    module, best_pass, stopped = _fit(material, config, run.checkpoints_dir, progress)
    _save(run, module, material, config, inputs, study)
    n_distinct = {head: len(set(c.codes.tolist())) for head, c in material.captions.items()}
    run.record(
        "train",
        key=config.key,
        inputs=inputs,
        study=study.name,
        seed=config.seed,
        text_encoder=material.text_encoder,
        selected_by="validation retrieval"
        if hasattr(module.encoder, "solve")
        else "lowest validation loss",
        selected_epoch=best_pass,
        stopped_early=stopped,
        n_train=len(fold.train),
        n_val=len(fold.val),
        distinct_captions=n_distinct,
        waived=waived,
        n_parameters=sum(p.numel() for p in module.encoder.parameters()),
    )
    return run


# -- the run's folder ------------------------------------------------------------------------------
def _inputs_key(study: Study, fold: Fold, captions: pd.DataFrame) -> str:
    """Content key of the data that training reads and of the fold."""
    return content_key(study.key, fold.train, fold.val, fold.test, captions.to_json())


def _is_finished(
    out: Path, config: ExperimentConfig, inputs: str, *, resume: bool, overwrite: bool
) -> bool:
    """Whether `out` holds this very training, finished; refuses what it may not replace."""
    if not (out / "config.yaml").exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out} exists and is no run; choose another folder for the run")
        return False
    difference = _difference(Run(out), config, inputs)
    if difference and not overwrite:
        raise RunError(
            f"{out} holds a run with another {difference}; choose another folder, or pass "
            "--overwrite to delete that run"
        )
    if difference or overwrite:
        shutil.rmtree(out)
        return False
    return resume and (out / "encoder" / "config.json").exists()


def _open_folder(out: Path, config: ExperimentConfig, inputs: str, *, resume: bool) -> Run:
    """Make the run's folder, or open that of an interrupted training."""
    if not resume:
        for name in ("checkpoints", "encoder"):
            shutil.rmtree(out / name, ignore_errors=True)
    config.save(out / "config.yaml")
    write_json(out / "checkpoints" / "inputs.json", {"inputs": inputs})
    return Run(out)


def _difference(run: Run, config: ExperimentConfig, inputs: str) -> str:
    """What of the settings or data decides training and differs from the run's; "" if nothing."""
    from eegprompt.experiment import load_config

    try:
        there = load_config(run.config)
    except InputError as problem:
        return f"configuration ({problem})"
    if there.key != config.key:
        old, new = _flat(there.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
        names = [n for n in new if old.get(n) != new[n] and n.split(".")[0] not in _LATER]
        names += [n for n in old if n not in new and n.split(".")[0] not in _LATER]
        return "configuration (" + "; ".join(
            f"{n}: {old.get(n)} there, {new.get(n)} asked for" for n in names[:5]
        ) + ")"  # fmt: skip
    for note in (run.checkpoints_dir / "inputs.json", run.encoder_dir / "config.json"):
        if note.exists() and read_json(note, error=RunError).get("inputs", inputs) != inputs:
            return "state of the study, its split or its captions"
    return ""


_LATER = ("decoding", "drawing", "evaluation")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


# -- what the trainer sees -------------------------------------------------------------------------
@dataclass
class _Captions:
    """One kind's captions: distinct texts, and which of them each image has."""

    texts: list[str]
    embeddings: np.ndarray  # (n_texts, n_dims), unit length
    codes: np.ndarray  # (n_texts,): equal where the meaning is
    of_image: list[np.ndarray]  # rows of `texts`, by image number

    def __post_init__(self) -> None:
        self.counts = np.array([len(rows) for rows in self.of_image])
        self.table = np.zeros((len(self.counts), max(self.counts)), dtype=np.int64)
        for image, rows in enumerate(self.of_image):
            self.table[image, : len(rows)] = rows

    def choose(self, images: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """One caption of each image: drawn by `rng`, or the first where that is None."""
        draw = np.zeros(len(images)) if rng is None else rng.random(len(images))
        return self.table[images, (draw * self.counts[images]).astype(np.int64)]


@dataclass
class _Side:
    """Trials of one side: which rows of the EEG, and who saw what."""

    rows: np.ndarray
    subject: np.ndarray  # number in `subjects`, -1 for one not in training
    image: np.ndarray  # number of the image

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class _Material:
    """All that training is given; nothing in it comes from a test trial."""

    eeg: np.ndarray  # in memory and after the steps, or memory-mapped and before them
    prepared: bool
    steps: FittedSteps
    positions: np.ndarray
    sides: dict[str, _Side]
    captions: dict[str, _Captions]
    subjects: list[str]
    categories: list[str]
    facts: dict[str, Any]
    text_encoder: dict[str, str]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Trials (n, n_chans, n_times) after the fitted steps, in the order of `rows`."""
        if self.prepared:
            return self.eeg[rows]
        block = np.empty((len(rows), *self.eeg.shape[1:]), dtype=np.float32)
        # Without "clip" NumPy fills a buffer of its own first and copies it.
        np.take(self.mapped, rows, axis=0, out=block, mode="clip")
        return self.steps.apply(block)

    @property
    def mapped(self) -> np.ndarray:
        """The EEG as a plain array, which makes views faster than a memmap does."""
        return self.eeg.view(np.ndarray)


def _conditions(study: Study, ids: np.ndarray) -> np.ndarray:
    """What each trial shows: its image, or its class where no image is shown twice."""
    shown = study.trials.iloc[ids]
    images = shown["image_id"].astype(str)
    return (images if images.duplicated().any() else shown["category"].astype(str)).to_numpy()


def _collect(
    study: Study,
    train_ids: np.ndarray,
    val_ids: np.ndarray,
    captions: pd.DataFrame,
    config: ExperimentConfig,
    progress: Progress | None,
    text_encoder: TextEncoder | None,
) -> _Material:
    """Gather training and validation trials, and the captions of their images."""
    from eegprompt.encoders.fitted import FittedSteps, refuse_twice
    from eegprompt.encoders.store import typical_std

    refuse_twice(config.training.fitted_steps, study.info.get("steps", []))
    steps = FittedSteps.fit(
        config.training.fitted_steps,
        study.eeg,
        train_ids,
        ch_names=study.ch_names,
        conditions=_conditions(study, train_ids),
        progress=progress,
    )
    both = np.concatenate([train_ids, val_ids])
    _check_finite(study, val_ids)
    trials = study.trials.iloc[both]
    subjects = sorted(study.trials["subject"].iloc[train_ids].astype(str).unique())
    categories = study.trials["category"].iloc[train_ids].astype(str).unique()
    number = {name: i for i, name in enumerate(subjects)} if len(subjects) > 1 else {}
    subject = np.array([number.get(s, -1) for s in trials["subject"].astype(str)], dtype=np.int64)
    images = sorted(trials["image_id"].unique())
    image = np.searchsorted(images, trials["image_id"])
    table, facts = _embed_captions(study, captions, images, config, text_encoder, progress)
    prepared = len(both) * study.n_chans * study.n_times * 4 <= IN_MEMORY
    if prepared:
        eeg = np.empty((len(both), study.n_chans, study.n_times), dtype=np.float32)
        for start in range(0, len(both), CHUNK):
            eeg[start : start + CHUNK] = steps.apply(study.eeg[both[start : start + CHUNK]])
        rows = np.arange(len(both))
    else:
        eeg, rows = study.eeg, both
    parts = {"train": slice(0, len(train_ids)), "val": slice(len(train_ids), None)}
    material = _Material(
        eeg=eeg,
        prepared=prepared,
        steps=steps,
        positions=study.positions,
        sides={name: _Side(rows[s], subject[s], image[s]) for name, s in parts.items()},
        captions=table,
        subjects=subjects,
        categories=sorted(categories),
        facts={
            "ch_names": study.ch_names,
            "positions": study.positions,
            "sfreq": study.sfreq,
            "tmin": study.tmin,
            "n_times": study.n_times,
            "unit": study.unit,
            "eeg_std": typical_std(study.eeg, train_ids),
        },
        text_encoder=facts,
    )
    _check_scale(material, config)
    return material


def _check_finite(study: Study, ids: np.ndarray) -> None:
    for start in range(0, len(ids), CHUNK):
        block = ids[start : start + CHUNK]
        finite = np.isfinite(study.eeg[block]).all(axis=2)
        if not finite.all():
            trial, channel = np.argwhere(~finite)[0]
            raise StudyError(
                f"trial {block[trial]}, channel '{study.ch_names[channel]}' holds a value that is not "
                "finite; import the study again without that trial or channel"
            )


def _check_scale(material: _Material, config: ExperimentConfig) -> None:
    """EEG in volts would leave the encoder blind without a word."""
    rows = material.sides["train"].rows[:CHUNK]
    scale = float(np.sqrt(np.mean(np.square(material.read(rows), dtype=np.float64))))
    if not 0.01 <= scale <= 100:
        steps = list(config.training.fitted_steps)
        raise InputError(
            f"after the fitted steps {steps} the EEG's root mean square is {scale:.3g}, and the "
            "encoder expects about 1 (0.01 to 100); add 'standardize' or 'whiten' to "
            "training.fitted_steps"
        )


def _embed_captions(
    study: Study,
    captions: pd.DataFrame,
    images: Sequence[str],
    config: ExperimentConfig,
    text_encoder: TextEncoder | None,
    progress: Progress | None,
) -> tuple[dict[str, _Captions], dict[str, str]]:
    """Embed the captions of some images, kind by kind."""
    from eegprompt.text import cached_embeddings, load_text_encoder

    number = {image: i for i, image in enumerate(images)}
    table = captions[captions["image_id"].isin(number) & captions["kind"].isin(config.kinds)]
    table = table[table["text"].notna() & (table["text"].astype(str).str.strip() != "")]
    have = set(zip(table["image_id"], table["kind"]))
    missing = [(i, k) for k in config.kinds for i in images if (i, k) not in have]
    if missing:
        raise CaptionError(
            f"caption set '{config.captions}' lacks {len(missing)} of the "
            f"{len(images) * len(config.kinds)} captions that training needs (first: image "
            f"'{missing[0][0]}', kind {missing[0][1]}); write them with 'eegprompt captions write', or "
            "train on fewer kinds"
        )
    encoder = text_encoder if text_encoder is not None else load_text_encoder(config.text_encoder)
    found: dict[str, _Captions] = {}
    for kind in config.kinds:
        rows = table[table["kind"] == kind]
        texts = sorted(rows["text"].astype(str).unique())
        place = {text: i for i, text in enumerate(texts)}
        meaning = {text: text for text in texts}
        if "meaning" in rows:
            known = rows[rows["meaning"].notna()]
            # A tag keeps a meaning from being taken for some other caption's text.
            meaning |= {t: f"\0{m}" for t, m in zip(known["text"], known["meaning"].astype(str))}
        _, codes = np.unique([meaning[text] for text in texts], return_inverse=True)
        of_image: list[list[int]] = [[] for _ in images]
        for image_id, text in zip(rows["image_id"], rows["text"].astype(str)):
            of_image[number[image_id]].append(place[text])
        embeddings = cached_embeddings(encoder, texts, study.path / "cache", progress=progress)
        found[kind] = _Captions(
            texts, np.array(embeddings, np.float32), codes, [np.array(r) for r in of_image]
        )
    if all(len(set(c.codes.tolist())) < 2 for c in found.values()):
        raise CaptionError(
            f"caption set '{config.captions}' says the same of every image, in every kind asked for; "
            "there is nothing to tell apart: use captions that differ between images"
        )
    return found, {"name": encoder.name, "revision": encoder.revision}


def _check_names(config: ExperimentConfig) -> None:
    """Refuse a name that does not exist before anything is computed or written."""
    resolve("objective", config.training.objective)
    make, argument = resolve("encoder", config.encoder.name)
    if argument and "model" not in inspect.signature(make).parameters:
        raise InputError(
            f"encoder '{config.encoder.name}' takes nothing after the colon; name it as "
            f"'{config.encoder.name.partition(':')[0]}'"
        )
    allowed = set(inspect.signature(make).parameters)
    sizes = {"heads", "embedding_dim", "n_chans", "n_times", "sfreq", "n_subjects"}
    for name in config.encoder.options:
        if name not in allowed - sizes:
            raise UnknownNameError("encoder option", name, sorted(allowed - sizes))


# -- training itself -------------------------------------------------------------------------------
def _build(material: _Material, config: ExperimentConfig) -> torch.nn.Module:
    make, argument = resolve("encoder", config.encoder.name)
    _, n_chans, n_times = material.eeg.shape
    any_captions = next(iter(material.captions.values()))
    return make(
        heads=config.kinds,
        embedding_dim=any_captions.embeddings.shape[1],
        n_chans=n_chans,
        n_times=n_times,
        sfreq=material.facts["sfreq"],
        n_subjects=len(material.subjects) if len(material.subjects) > 1 else 0,
        **({"model": argument} if argument else {}),
        **config.encoder.options,
    )


class _Shuffled:
    """Batches of a side in an order that depends on the seed and the pass alone.

    All batches are of nearly equal size, none much smaller than asked for: a contrastive loss
    over a handful of left-over trials would be mostly noise.
    """

    def __init__(self, n_trials: int, batch_size: int, seed: int):
        self.n_trials, self.seed = n_trials, seed
        self.n_batches = max(round(n_trials / batch_size), 1)
        # Asked when a pass begins, not told: Lightning tells a sampler the pass only after it has
        # drawn the first batch where training is resumed.
        self.epoch: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        order = np.random.default_rng([self.seed, self.epoch()]).permutation(self.n_trials)
        yield from np.array_split(order, self.n_batches)


class _Trials:
    """A side as a dataset whose items are whole batches, so that a batch is one read."""

    def __init__(self, material: _Material, side: str):
        self.material, self.side = material, material.sides[side]

    def __getitem__(self, which: np.ndarray) -> dict[str, torch.Tensor]:
        import torch

        return {
            "eeg": torch.from_numpy(self.material.read(self.side.rows[which])),
            "subject": torch.from_numpy(self.side.subject[which]),
            "image": torch.from_numpy(self.side.image[which]),
        }


def _module(material: _Material, config: ExperimentConfig) -> Any:
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
                f"val_top1_{kind}": _top1(
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


def _top1(embedded: np.ndarray, image: np.ndarray, captions: _Captions) -> float:
    """Share of trials whose nearest caption, among those of these trials' images, is right.

    Equally near captions share the credit; a NaN earns none.
    """
    shown, which = np.unique(image, return_inverse=True)
    pool = np.unique(np.concatenate([captions.of_image[i] for i in shown]))
    codes = captions.codes[pool]
    right = np.stack([np.isin(codes, captions.codes[captions.of_image[i]]) for i in shown])[which]
    similarity = embedded @ captions.embeddings[pool].T  # length of the query does not matter
    best = similarity == similarity.max(axis=1, keepdims=True)
    return float(((best & right).sum(axis=1) / np.maximum(best.sum(axis=1), 1)).mean())


def _fit(
    material: _Material, config: ExperimentConfig, folder: Path, progress: Progress | None
) -> tuple[Any, int, bool]:
    """Train; give the module with the selected weights, its pass, and whether it stopped early."""
    import lightning.pytorch as lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from torch.utils.data import DataLoader

    from eegprompt.encoders.store import pick_device

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
    batches = _Shuffled(len(train_side), settings.batch_size, config.seed)
    chunks = np.array_split(np.arange(len(val_side)), math.ceil(len(val_side) / CHUNK))
    loader: dict[str, Any] = {"batch_size": None, "num_workers": workers}
    train_data: Any = _Trials(material, "train")
    val_data: Any = _Trials(material, "val")
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
            _solve(material, module, progress)
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
    return module.cpu().eval(), len(stored["rows"]), bool(patience.stopped_epoch)


def _solve(material: _Material, module: Any, progress: Progress | None) -> None:
    """Fit an encoder that has a closed form, selected by caption retrieval on the validation side."""
    import torch

    sides = material.sides

    def blocks(side: _Side) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(side), CHUNK):
            rows = slice(start, start + CHUNK)
            yield (
                torch.from_numpy(material.read(side.rows[rows])),
                torch.from_numpy(side.subject[rows]),
            )

    def top1() -> dict[str, float]:
        embedded = [module.encoder(eeg, module.positions, who) for eeg, who in blocks(sides["val"])]
        return {
            f"val_top1_{kind}": _top1(
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


def _save(
    run: Run,
    module: Any,
    material: _Material,
    config: ExperimentConfig,
    inputs: str,
    study: Study,
) -> None:
    """Write the training curve and the encoder, the encoder's config.json last."""
    import pandas as pd

    from eegprompt.encoders.store import save_encoder

    run.write_table(run.training_log_path, pd.DataFrame(module.rows))
    save_encoder(
        run.encoder_dir,
        module.encoder,
        material.steps,
        name=config.encoder.name,
        study=study.name,
        kinds=list(config.kinds),
        scales=module.objective.scales,
        subjects=material.subjects,
        categories=material.categories,
        text_encoder={"spec": config.text_encoder, **material.text_encoder},
        training_key=config.key,
        inputs=inputs,
        **material.facts,
    )
