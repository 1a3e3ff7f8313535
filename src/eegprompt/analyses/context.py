"""All that an analysis may look at: a run, its study, its encoder, its held-out trials."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import eegprompt
from eegprompt.analyses.finding import Image
from eegprompt.captions.usable import reference_captions
from eegprompt.core.errors import RunError, StudyError
from eegprompt.core.files import content_key
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder
from eegprompt.figures.style import save_figure
from eegprompt.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    from eegprompt.builtin.eeg import Truth
    from eegprompt.encoders.preprocessing import FittedSteps
    from eegprompt.retrieval.calibration import Calibration
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["Batch", "Material", "Progress", "once_for_a_run"]

T = TypeVar("T")

BATCH = 256  # trials read at a time


def once_for_a_run(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """Keep what a function of a :class:`Material` gives with the material, and let it go with it.

    A cache that outlives the material would hold the networks of the run before while those of the
    next are loaded.
    """

    @wraps(function)
    def kept(material: Any) -> T:
        results: dict[Any, T] = vars(material).setdefault("_kept", {})
        if function not in results:
            results[function] = function(material)
        return results[function]

    return kept


@dataclass(frozen=True)
class Batch:
    """Some trials as the encoder is given them.

    Parameters
    ----------
    ids : array of int, shape (n,)
        Trial ids.
    eeg : float tensor (n, n_chans, n_times)
        After the run's preprocessing; unitless.
    subject : int tensor (n,)
        Index of a subject seen in training, else -1.
    """

    ids: np.ndarray
    eeg: torch.Tensor
    subject: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)


class Material:
    """A decoded run, opened for analyses. What is expensive is read when first asked for.

    Parameters
    ----------
    run : Run or path-like
        With a trained encoder and decodings.
    deep : bool
        Whether analyses may retrain and redraw.
    progress : callable, optional
        Called with (done, total, label) by analyses that take long.
    retrain : callable, optional
        ``retrain(material, name, shuffle=...)`` trains the run again, for deep analyses.

    Attributes
    ----------
    run, config, study, fold
        The run, its settings, its study, its fold.
    decoder : Decoder
        Encoder with pools and calibrations.
    encoder : torch.nn.Module
        ``encoder(eeg, positions, subject)`` gives one embedding a head; in evaluation mode.
    steps : FittedSteps
        What the EEG goes through first.
    device : torch.device
        Where the encoder lies.
    heads : tuple of str
        The heads, in prompt order.
    ch_names : list of str
        Channels.
    positions : float32 array (n_chans, 3)
        Meters, head coordinates; NaN where unknown.
    times : array (n_times,)
        Seconds from onset.
    sfreq : float
        Sampling rate in Hz.
    seed : int
        The run's seed.

    Raises
    ------
    RunError
        If the run was not trained or not decoded.
    StudyError
        If its study is gone.
    """

    def __init__(
        self,
        run: Run | str | Path,
        *,
        deep: bool = False,
        progress: Progress | None = None,
        retrain: Callable[..., Material] | None = None,
    ):
        self.run = Run(run)
        self.deep = deep
        self.retrain = retrain
        self.progress: Progress = progress or (lambda done, total, label: None)
        self.config = self.run.settings
        self.study = self.run.study
        self.fold = self.run.fold
        self.decoder = Decoder.from_pretrained(self.run)
        if not (self.run.embeddings_path.exists() and self.decoder.candidates.pools):
            raise RunError(
                f"{self.run.path} was not decoded yet, so there is nothing to explain; run "
                f"'eegprompt decode {self.run.path}' first"
            )
        self.encoder: torch.nn.Module = self.decoder.encoder
        self.steps: FittedSteps = self.decoder.steps
        self.device: torch.device = self.decoder.device
        self.heads: tuple[str, ...] = tuple(self.decoder.heads)
        self.ch_names: list[str] = self.study.ch_names
        self.positions: np.ndarray = np.asarray(self.study.positions, dtype=np.float32)
        self.times: np.ndarray = self.study.times
        self.sfreq: float = self.study.sfreq
        self.seed: int = self.config.seed

    # -- trials --------------------------------------------------------------------------------
    @property
    def subjects(self) -> list[str]:
        """Subjects seen in training, by index."""
        return self.decoder.subjects

    def ids(self, side: str) -> np.ndarray:
        """Trial ids of a side (``train``, ``val`` or ``test``), in the order of its embeddings."""
        return np.asarray(getattr(self.fold, side))

    def trials(self, ids: np.ndarray) -> pd.DataFrame:
        """Rows of the study's trial table: subject, image_id, category, run and more."""
        return self.study.trials.iloc[ids]

    def subject_index(self, ids: np.ndarray) -> np.ndarray:
        """Index of each trial's subject as the encoder counts them; -1 for one not in training."""
        known = {name: i for i, name in enumerate(self.subjects)}
        names = self.study.trials["subject"].iloc[ids].astype(str)
        return np.array([known.get(name, -1) for name in names], dtype=np.int64)

    def batches(self, ids: np.ndarray, size: int = BATCH) -> Iterator[Batch]:
        """Read trials from the memory-mapped EEG, some at a time, after the preprocessing.

        Parameters
        ----------
        ids : array of int
            Trial ids, in any order.
        size : int
            Trials a batch.

        Yields
        ------
        Batch
            In the order of `ids`, on the encoder's device.
        """
        import torch

        ids = np.asarray(ids)
        subject = self.subject_index(ids)
        for start in range(0, len(ids), size):
            some = ids[start : start + size]
            eeg = np.ascontiguousarray(self.study.eeg[some], dtype=np.float32)
            yield Batch(
                some,
                self.steps.apply(torch.from_numpy(eeg).to(self.device)),
                torch.from_numpy(subject[start : start + size]).to(self.device),
            )

    @cached_property
    def positions_tensor(self) -> torch.Tensor:
        """Positions as the encoder takes them."""
        import torch

        return torch.from_numpy(self.positions).to(self.device)

    def sample(self, ids: np.ndarray, n: int) -> np.ndarray:
        """At most `n` of some trials, drawn at random by the run's seed, in their order."""
        if len(ids) <= n:
            return np.asarray(ids)
        rng = np.random.default_rng([self.seed, len(ids), n])
        return np.asarray(ids)[np.sort(rng.choice(len(ids), n, replace=False))]

    # -- what the heads said -------------------------------------------------------------------
    @cached_property
    def _stored(self) -> dict[str, np.ndarray]:
        path = self.run.embeddings_path
        again = f"run 'eegprompt decode {self.run.path}' again"
        stored = self.run.embeddings
        for side in ("val", "test"):
            if not np.array_equal(stored[f"{side}/trial_id"], self.ids(side)):
                raise RunError(f"{path} is not of this fold's {side} trials; {again}")
        return stored

    def embeddings(self, side: str) -> dict[str, np.ndarray]:
        """Held-out embeddings: head → float32 (n_trials, n_dims), rows of unit length.

        Parameters
        ----------
        side : str
            ``val`` or ``test``; the training set is not held out and not stored.
        """
        return {head: self._stored[f"{side}/{head}"] for head in self.heads}

    @cached_property
    def decodings(self) -> pd.DataFrame:
        """Retrieved captions of the test trials (``decodings.parquet``)."""
        return self.run.decodings

    @property
    def pools(self) -> dict[str, CandidatePool]:
        """What each head retrieves from."""
        return self.decoder.candidates.pools

    @property
    def calibrations(self) -> dict[str, Calibration]:
        """How each head's confidence is computed."""
        return self.decoder.candidates.calibrations

    @cached_property
    def scales(self) -> dict[str, float]:
        """Trained inverse temperature of each head, at which every attribution's loss is taken."""
        trained = self.decoder.facts.get("scales") or {}
        return {head: float(scale) for head, scale in trained.items()}

    # -- captions ------------------------------------------------------------------------------
    @cached_property
    def captions(self) -> pd.DataFrame:
        """The captions of the run's heads: image_id, kind, text, and meaning where it is known."""
        table = self.study.captions(self.config.captions)
        says = table["text"].notna() & (table["text"].astype(str).str.strip() != "")
        return table[says & table["kind"].isin(self.heads)].astype({"image_id": str, "text": str})

    def true_captions(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Head → the first caption of the image each trial showed, in the order of `ids`."""
        texts = reference_captions(self.study, self.captions, list(self.heads), ids)
        return {head: [several[0] for several in texts[head]] for head in self.heads}

    def true_embeddings(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Head → embeddings of :meth:`true_captions`, float32 (n_trials, n_dims), unit rows."""
        result = {}
        for head, texts in self.true_captions(ids).items():
            distinct, index = np.unique(texts, return_inverse=True)
            result[head] = self.embed_texts(distinct.tolist())[index]
        return result

    def true_meanings(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Head → what the shown image's caption means, one string a trial; the text if unknown."""
        table = self.captions.drop_duplicates(["kind", "image_id"])
        meaning = table["meaning"] if "meaning" in table else table["text"]
        said = meaning.where(meaning.notna(), table["text"]).astype(str)
        by_image = dict(zip(zip(table["kind"], table["image_id"]), said))
        shown = self.study.trials["image_id"].iloc[ids].astype(str)
        return {
            head: np.array([by_image.get((head, image), "") for image in shown])
            for head in self.heads
        }

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows of the run's text encoder, kept in the study's cache."""
        from eegprompt.text_encoders import cached_embeddings

        return cached_embeddings(self._text_encoder, list(texts), self.study.path / "cache")

    @cached_property
    def _text_encoder(self) -> Any:
        from eegprompt.text_encoders import load_text_encoder

        return load_text_encoder(self.config.text_encoder)

    # -- what was planted ----------------------------------------------------------------------
    @cached_property
    def truth(self) -> Truth | None:
        """What a simulated study holds; None for a recording."""
        from eegprompt.builtin.eeg import load_truth

        if not (self.study.path / "truth" / "truth.npz").exists():
            return None
        try:
            return load_truth(self.study)
        except StudyError:
            return None

    # -- results -------------------------------------------------------------------------------
    def save_figure(self, figure: Figure, name: str, caption: str) -> Image:
        """Write a figure to ``figures/explain/NAME.svg`` and ``.png``."""
        return Image(save_figure(figure, self.run.figures_dir / "explain" / name), caption)

    @property
    def axes(self) -> dict[str, Any]:
        """What the axes of arrays refer to; stored beside them."""
        return {
            "ch_names": self.ch_names,
            "times": [round(float(t), 6) for t in self.times],
            "heads": list(self.heads),
        }

    def key(self, name: str, deep: bool) -> str:
        """Content key of all that decides a finding: data, encoder, decodings, settings, code."""
        return content_key(name, deep, self.decode_key, self.seed, _code())

    @cached_property
    def decode_key(self) -> str | None:
        """Key of the decoding: of encoder, study, split, captions and pool."""
        key = self.run.provenance.get("decode", {}).get("key")
        return None if key is None else str(key)


def _code() -> str:
    """Digest of the analyses' source: a corrected analysis is done again."""
    root = Path(eegprompt.__file__).parent
    digest = hashlib.sha256()
    for package in ("analyses", "attribution", "figures", "stats"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
