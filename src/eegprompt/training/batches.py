"""What the trainer is given: trials, captions and batches; nothing in it comes from a test trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import CaptionError, InputError, StudyError
from eegprompt.core.progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from eegprompt.encoders.preprocessing import FittedSteps
    from eegprompt.settings import ExperimentConfig
    from eegprompt.study import Study
    from eegprompt.text_encoders.base import TextEncoder

__all__ = [
    "CHUNK",
    "IN_MEMORY",
    "HeadCaptions",
    "ShuffledBatches",
    "TrainingData",
    "TrialSet",
    "TrialsDataset",
    "collect",
    "inner_folds",
]

IN_MEMORY = 2 << 30  # bytes of EEG that are kept in memory; more is read trial by trial


CHUNK = 256  # trials a validation step


# -- what the trainer sees -------------------------------------------------------------------------
@dataclass
class HeadCaptions:
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
class TrialSet:
    """Trials of one side: which rows of the EEG, and who saw what."""

    rows: np.ndarray
    subject: np.ndarray  # number in `subjects`, -1 for one not in training
    image: np.ndarray  # number of the image

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class TrainingData:
    """All that training is given; nothing in it comes from a test trial."""

    eeg: np.ndarray  # in memory and after the steps, or memory-mapped and before them
    prepared: bool
    steps: FittedSteps
    positions: np.ndarray
    sides: dict[str, TrialSet]
    captions: dict[str, HeadCaptions]
    folds: np.ndarray  # parts of the training set for cross-validation inside it
    subjects: list[str]
    categories: list[str]
    facts: dict[str, Any]
    text_encoder: dict[str, str]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Trials (n, n_chans, n_times) after the preprocessing, in the order of `rows`."""
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


def collect(
    study: Study,
    train_ids: np.ndarray,
    val_ids: np.ndarray,
    captions: pd.DataFrame,
    config: ExperimentConfig,
    progress: Progress | None,
    text_encoder: TextEncoder | None,
    steps: FittedSteps | None = None,
) -> TrainingData:
    """Gather training and validation trials, and the captions of their images.

    The preprocessing is fitted on the training trials, unless `steps` that were fitted elsewhere are
    given.
    """
    from eegprompt.encoders.preprocessing import FittedSteps, default_steps, refuse_twice
    from eegprompt.encoders.saved import typical_std

    if steps is None:
        done = study.info.get("steps", [])
        names = config.training.preprocessing
        if names == ("auto",):
            names = default_steps(len(train_ids), study.n_chans, done)
        refuse_twice(names, done)
        steps = FittedSteps.fit(
            names,
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
    material = TrainingData(
        eeg=eeg,
        prepared=prepared,
        steps=steps,
        positions=study.positions,
        sides={name: TrialSet(rows[s], subject[s], image[s]) for name, s in parts.items()},
        captions=table,
        folds=inner_folds(study, train_ids, val_ids),
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
    _check_scale(material)
    return material


def inner_folds(
    study: Study, train_ids: np.ndarray, val_ids: np.ndarray, most: int = 5
) -> np.ndarray:
    """Parts of the training set that differ from each other as the validation set does from it.

    By image where validation shows other images, by subject where it is of other subjects, else by
    recording, by block, or by order where there is one recording only.

    Returns
    -------
    int array (n_train,)
        Numbers below `most`.
    """
    train, val = study.trials.iloc[train_ids], study.trials.iloc[val_ids]
    candidates = [["subject", "session", "run"], ["subject", "session", "run", "block"]]
    if not set(train["subject"]) & set(val["subject"]):
        candidates.insert(0, ["subject"])
    if not set(train["image_id"]) & set(val["image_id"]):
        candidates.insert(0, ["image_id"])
    for columns in candidates:
        labels = train[columns].astype(str).agg("|".join, axis=1)
        names, which = np.unique(labels.to_numpy(), return_inverse=True)
        if len(names) >= 3:
            order = np.random.default_rng(0).permutation(len(names))
            return np.asarray(order[which] % min(most, len(names)))
    return np.arange(len(train)) * most // len(train)


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


def _check_scale(material: TrainingData) -> None:
    """EEG in volts would leave the encoder blind without a word."""
    rows = material.sides["train"].rows[:CHUNK]
    scale = float(np.sqrt(np.mean(np.square(material.read(rows), dtype=np.float64))))
    if not 0.01 <= scale <= 100:
        steps = list(material.steps.names)
        raise InputError(
            f"after the preprocessing {steps} the EEG's root mean square is {scale:.3g}, and the "
            "encoder expects about 1 (0.01 to 100); add 'standardize' or 'whiten' to "
            "training.preprocessing"
        )


def _embed_captions(
    study: Study,
    captions: pd.DataFrame,
    images: Sequence[str],
    config: ExperimentConfig,
    text_encoder: TextEncoder | None,
    progress: Progress | None,
) -> tuple[dict[str, HeadCaptions], dict[str, str]]:
    """Embed the captions of some images, kind by kind."""
    from eegprompt.text_encoders import cached_embeddings, load_text_encoder

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
    found: dict[str, HeadCaptions] = {}
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
        found[kind] = HeadCaptions(
            texts, np.array(embeddings, np.float32), codes, [np.array(r) for r in of_image]
        )
    if all(len(set(c.codes.tolist())) < 2 for c in found.values()):
        raise CaptionError(
            f"caption set '{config.captions}' says the same of every image, in every kind asked for; "
            "there is nothing to tell apart: use captions that differ between images"
        )
    return found, {"name": encoder.name, "revision": encoder.revision}


class ShuffledBatches:
    """Batches of a side in an order that depends on the seed and the pass alone.

    All batches are of nearly equal size, none much smaller than asked for: a contrastive loss
    over a handful of left-over trials would be mostly noise. With the `image` of each trial, trials
    of an image stand side by side, so that a batch holds most of them.
    """

    def __init__(self, n_trials: int, batch_size: int, seed: int, image: np.ndarray | None = None):
        self.n_trials, self.seed, self.image = n_trials, seed, image
        self.n_batches = max(round(n_trials / batch_size), 1)
        # Asked when a pass begins, not told: Lightning tells a sampler the pass only after it has
        # drawn the first batch where training is resumed.
        self.epoch: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.epoch()])
        order = rng.permutation(self.n_trials)
        if self.image is not None:  # images in random order, each with all its trials
            rank = rng.permutation(int(self.image.max()) + 1)
            order = order[np.argsort(rank[self.image[order]], kind="stable")]
        yield from np.array_split(order, self.n_batches)


class TrialsDataset:
    """A side as a dataset whose items are whole batches, so that a batch is one read.

    Parameters
    ----------
    material : TrainingData
    side : str
        ``train`` or ``val``.
    mixing : float
        Parameter of the beta distribution by which trials are mixed (:meth:`mixed`); 0: not.
    seed : int
        Of the mixing.
    """

    def __init__(self, material: TrainingData, side: str, mixing: float = 0.0, seed: int = 0):
        self.material, self.side = material, material.sides[side]
        self.mixing, self.seed = mixing, seed
        self.epoch: Callable[[], int] = lambda: 0  # as in ShuffledBatches
        order = np.argsort(self.side.image, kind="stable")
        cuts = np.flatnonzero(np.diff(self.side.image[order])) + 1
        self.same = {int(self.side.image[rows[0]]): rows for rows in np.split(order, cuts)}

    def mixed(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Trials, each mixed with one of another subject of the same image; and their subjects.

        The share is drawn from Beta(mixing, mixing) (SubjectMix); what two subjects share takes the
        shared path. A trial that has no such partner stays as it is.
        """
        rng = np.random.default_rng([self.seed, self.epoch(), int(which[0]), 1])
        subject = self.side.subject
        partner = which.copy()
        for i, trial in enumerate(which):
            others = self.same[int(self.side.image[trial])]
            others = others[subject[others] != subject[trial]]
            if len(others):
                partner[i] = rng.choice(others)
        share = rng.beta(self.mixing, self.mixing, len(which)).astype(np.float32)[:, None, None]
        rows = self.side.rows
        eeg = share * self.material.read(rows[which])
        eeg += (1 - share) * self.material.read(rows[partner])
        return eeg, np.where(partner == which, subject[which], -1)

    def __getitem__(self, which: np.ndarray) -> dict[str, torch.Tensor]:
        import torch

        if self.mixing:
            eeg, subject = self.mixed(which)
        else:
            eeg = self.material.read(self.side.rows[which])
            subject = self.side.subject[which]
        return {
            "eeg": torch.from_numpy(eeg),
            "subject": torch.from_numpy(subject),
            "image": torch.from_numpy(self.side.image[which]),
        }
