"""What an analysis is, what it is given, and what it gives back.

An analysis is one file with a class below :class:`Analysis`: computation, table, figures and
sentences in one place. One's own is named as ``module:Class``, to ``explain`` and everywhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from eegprompt.analyses._findings import Answer, Finding, Image, Omitted
from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.core.errors import StudyError, UnknownNameError
from eegprompt.core.progress import Progress
from eegprompt.core.registry import GROUPS, installed, resolve
from eegprompt.figures.style import save_figure

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    from eegprompt.builtin.eeg import Truth
    from eegprompt.decoder import Decoder
    from eegprompt.settings import ExperimentConfig
    from eegprompt.study import Study
    from eegprompt.study.split import Fold

__all__ = [
    "Analysis",
    "Answer",
    "Batch",
    "Context",
    "Finding",
    "Image",
    "Omitted",
    "chosen",
    "load_analysis",
    "names",
    "once",
]

T = TypeVar("T")

BATCH = 256  # trials read at a time
RENAMED = {"winners": "confidence", "when": "timecourse", "trust": "sanity"}
"""Names that analyses had before."""


# -- the contract ----------------------------------------------------------------------------------
class Analysis(ABC):
    """One entry of ``explain``.

    Attributes
    ----------
    name : str
        What a user types, and what its files are called.
    title : str
        Heading in the report.
    question : str
        What it answers, for help.
    not_concluded : str
        What must not be concluded from it.
    answers : mapping of str to (str, str)
        By the name of each question the sentence where it was found and where it was not;
        ``str.format`` fills in `value`, `lo`, `hi`, `chance`, `p` and words.
    needs_positions, needs_truth, needs_images : bool
        Whether it is left out without electrode positions, of a recording, or where it is not known
        which image was shown.
    deepens : bool
        Whether it does more where ``deep`` is asked for; its result is then another one.
    only_deep : bool
        Whether it retrains or generates as a whole, and so is left out unless ``deep`` is asked for.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    not_concluded: ClassVar[str]
    answers: ClassVar[Mapping[str, tuple[str, str]]] = {}
    needs_positions: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    deepens: ClassVar[bool] = False
    only_deep: ClassVar[bool] = False

    @abstractmethod
    def compute(self, context: Context) -> Finding:
        """Find it out.

        Raises
        ------
        Omitted
            If this run cannot have it.
        """

    def __call__(self, context: Context) -> Finding:
        """:meth:`compute`, after the context was checked for what the analysis needs."""
        if self.needs_truth and context.truth is None:
            raise Omitted("the study is a recording, so nobody knows what should be found")
        if self.needs_images and context.study.image_identity != "known":
            raise Omitted("which image was shown is not known, so nothing can be compared with it")
        if self.needs_positions and not np.isfinite(context.positions).all(axis=1).any():
            raise Omitted("no electrode has a position")
        return self.compute(context)

    def answer(self, question: str, found: bool = True, **numbers: Any) -> Answer:
        """Answer a question in the sentence that :attr:`answers` has for it."""
        fields = {"value", "lo", "hi", "chance", "p"}
        kept = {
            k: None if v is None or not np.isfinite(v) else float(v)
            for k, v in numbers.items()
            if k in fields
        }
        text = self.answers[question][0 if found else 1].format(**numbers)
        return Answer(question, text.replace(" -", " −"), bool(found), **kept)

    def finding(self, answers: Iterable[Answer], **parts: Any) -> Finding:
        """The finding of these answers, with its table, figures and more."""
        answers = list(answers)
        return Finding(
            self.name, self.title, " ".join(a.text for a in answers if a.text),
            **{"not_concluded": self.not_concluded, **parts}, answers=answers,
        )  # fmt: skip


def names() -> list[str]:
    """The analyses that exist, in the order of the report; those of installed packages come last."""
    return list({**GROUPS["analysis"], **installed("analysis")})


def load_analysis(spec: str) -> Analysis:
    """An analysis by its name, or by ``module:Class``.

    Raises
    ------
    UnknownNameError
        If there is none.
    InputError
        If one's own cannot be imported, or is no :class:`Analysis`.
    """
    if spec in RENAMED:
        raise UnknownNameError("analysis", spec, names(), instead=RENAMED[spec])
    target, _ = resolve("analysis", spec)
    analysis: Analysis = target()
    return analysis


def chosen(what: str | Iterable[str] | None, deep: bool) -> list[Analysis]:
    """The analyses to run, in the order of the report; others' own come last.

    Parameters
    ----------
    what : str, iterable of str or None
        Names or ``module:Class``, separated by commas or as a list; None or ``"all"`` is every
        analysis that `deep` admits. One that is named is run in any case.
    deep : bool
        Whether analyses that retrain or generate are among all.

    Raises
    ------
    UnknownNameError
        If a name is not on the list.
    """
    if what is None or what == "all":
        every = [load_analysis(name) for name in names()]
        return [analysis for analysis in every if deep or not analysis.only_deep]
    words = [w for item in ([what] if isinstance(what, str) else what) for w in item.split(",")]
    asked = dict.fromkeys(word.strip() for word in words if word.strip())
    known = [name for name in names() if name in asked]
    return [load_analysis(name) for name in [*known, *(a for a in asked if a not in known)]]


# -- what it is given ------------------------------------------------------------------------------
def once(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """Keep what a function of a :class:`Context` gives with the context, and let it go with it.

    A cache that outlives the context would hold the networks of one run while those of the next are
    loaded.
    """

    @wraps(function)
    def kept(context: Any) -> T:
        results: dict[Any, T] = vars(context).setdefault("_kept", {})
        if function not in results:
            results[function] = function(context)
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


class Context:
    """A decoded run as analyses see it.

    Parameters
    ----------
    study : Study
        The recording with its captions.
    fold : Fold
        Which trials train, validate and test.
    settings : ExperimentConfig
        The run's settings.
    decoder : Decoder
        Encoder with pools and calibrations.
    embeddings : mapping of str to array
        ``val/HEAD`` and ``test/HEAD``, as :attr:`eegprompt.run.Run.embeddings` has them.
    decodings : pandas.DataFrame
        Retrieved captions of the test trials.
    folder : pathlib.Path
        Where findings, figures and caches go.
    deep : bool
        Whether analyses may retrain and generate.
    progress : callable, optional
        Called with (done, total, label) by analyses that take long.
    retrain : callable, optional
        ``retrain(name, shuffle=...)`` trains the run again, for deep analyses.

    Attributes
    ----------
    encoder : torch.nn.Module
        ``encoder(eeg, positions, subject)`` gives one embedding a head; in evaluation mode.
    steps : FittedSteps
        The preprocessing.
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
    """

    def __init__(
        self,
        *,
        study: Study,
        fold: Fold,
        settings: ExperimentConfig,
        decoder: Decoder,
        embeddings: Mapping[str, np.ndarray],
        decodings: pd.DataFrame,
        folder: Path,
        deep: bool = False,
        progress: Progress | None = None,
        retrain: Callable[..., Context] | None = None,
    ):
        self.study, self.fold, self.settings, self.decoder = study, fold, settings, decoder
        self.decodings, self.folder, self.deep, self.retrain = decodings, folder, deep, retrain
        self._stored = embeddings
        self.progress: Progress = progress or (lambda done, total, label: None)
        self.encoder: torch.nn.Module = decoder.encoder
        self.steps = decoder.steps
        self.device = decoder.device
        self.heads: tuple[str, ...] = tuple(decoder.heads)
        self.pools = decoder.candidates.pools
        self.calibrations = decoder.candidates.calibrations
        self.ch_names: list[str] = study.ch_names
        self.positions: np.ndarray = np.asarray(study.positions, dtype=np.float32)
        self.times: np.ndarray = study.times
        self.sfreq: float = study.sfreq
        self.seed: int = settings.seed
        self._vectors: dict[str, np.ndarray] = {}

    # -- trials ------------------------------------------------------------------------------------
    def ids(self, part: str) -> np.ndarray:
        """Trial ids of the ``train``, ``val`` or ``test`` set, in the order of its embeddings."""
        return np.asarray(
            {"train": self.fold.train, "val": self.fold.val}.get(part, self.fold.test)
        )

    def trials(self, ids: np.ndarray) -> pd.DataFrame:
        """Rows of the study's trial table: subject, image_id, category, run and more."""
        return self.study.trials.iloc[ids]

    def labels(self, ids: np.ndarray, column: str) -> np.ndarray:
        """One column of the trial table as text."""
        return self.trials(ids)[column].astype(str).to_numpy(dtype=object)

    def units(self, ids: np.ndarray) -> np.ndarray:
        """What is held out and permuted as one: the image, or the trial where none is known."""
        known = self.study.image_identity == "known"
        return (self.labels(ids, "image_id") if known else ids).astype(str)

    @property
    def unit_name(self) -> str:
        """What :meth:`units` are, in the plural."""
        return "images" if self.study.image_identity == "known" else "trials"

    def subject_index(self, ids: np.ndarray) -> np.ndarray:
        """Index of each trial's subject as the encoder counts them; -1 for one not in training."""
        return self.decoder.index_subjects(self.labels(ids, "subject"))

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

    def sample(self, ids: np.ndarray, n: int) -> np.ndarray:
        """At most `n` of some trials, at random by the run's seed, in their order."""
        if len(ids) <= n:
            return np.asarray(ids)
        rng = np.random.default_rng([self.seed, len(ids), n])
        return np.asarray(ids)[np.sort(rng.choice(len(ids), n, replace=False))]

    # -- outputs of the heads ----------------------------------------------------------------------
    def embeddings(self, part: str) -> dict[str, np.ndarray]:
        """Held-out embeddings: head → float32 (n_trials, n_dims), rows of unit length.

        Parameters
        ----------
        part : str
            ``val`` or ``test``; the training set is not held out and not stored.
        """
        return {head: self._stored[f"{part}/{head}"] for head in self.heads}

    def test_embeddings(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Those of some test trials, in their order."""
        every = self.ids("test")
        order = np.argsort(every, kind="stable")
        rows = order[np.searchsorted(every[order], ids)]
        return {head: values[rows] for head, values in self.embeddings("test").items()}

    @cached_property
    def scales(self) -> dict[str, float]:
        """Trained inverse temperature of each head, at which every attribution's loss is taken."""
        trained = self.decoder.facts.get("scales") or {}
        return {head: float(scale) for head, scale in trained.items()}

    # -- captions ----------------------------------------------------------------------------------
    @cached_property
    def captions(self) -> pd.DataFrame:
        """The captions of the run's heads: image_id, kind, text, and meaning where it is known."""
        table = usable_captions(self.study.captions(self.settings.captions), self.heads)
        return table.astype({"image_id": str, "text": str})

    @cached_property
    def meaning_of(self) -> dict[tuple[str, str], str]:
        """(Head, image) → what its first caption means; the text where that is not known."""
        table = self.captions.drop_duplicates(["kind", "image_id"])
        meaning = table["meaning"] if "meaning" in table else table["text"]
        known = meaning.where(meaning.notna(), table["text"]).astype(str)
        return dict(zip(zip(table["kind"], table["image_id"]), known))

    def true_captions(self, ids: np.ndarray) -> dict[str, list[str]]:
        """Head → the first caption of the image each trial showed, in the order of `ids`."""
        texts = reference_captions(self.study, self.captions, list(self.heads), ids)
        return {head: [several[0] for several in texts[head]] for head in self.heads}

    def true_embeddings(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Head → embeddings of :meth:`true_captions`, float32 (n_trials, n_dims), unit rows."""
        return {head: self.embed_texts(texts) for head, texts in self.true_captions(ids).items()}

    def true_meanings(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Head → what the shown image's caption means, one string per trial."""
        shown = self.labels(ids, "image_id")
        return {
            head: np.array([self.meaning_of.get((head, image), "") for image in shown])
            for head in self.heads
        }

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows of the run's text encoder, kept in the study's cache; each is embedded once."""
        from eegprompt.text_encoders import cached_embeddings

        new = sorted({text for text in texts if text not in self._vectors})
        if new:
            rows = cached_embeddings(self._text_encoder, new, self.study.path / "cache")
            self._vectors |= dict(zip(new, rows))
        empty = np.zeros((0, self.decoder.facts["encoder"]["embedding_dim"]), np.float32)
        return np.stack([self._vectors[text] for text in texts]) if len(texts) else empty

    @cached_property
    def _text_encoder(self) -> Any:
        from eegprompt.text_encoders import load_text_encoder

        return load_text_encoder(self.settings.text_encoder)

    @cached_property
    def truth(self) -> Truth | None:
        """The sources of a simulated study; None for a recording."""
        from eegprompt.builtin.eeg import load_truth

        if not (self.study.path / "truth" / "truth.npz").exists():
            return None
        try:
            return load_truth(self.study)
        except StudyError:
            return None

    # -- results -----------------------------------------------------------------------------------
    def save_figure(self, figure: Figure, name: str, caption: str) -> Image:
        """Write a figure to ``figures/explain/NAME.svg`` and ``.png``."""
        return Image(save_figure(figure, self.folder / "figures" / "explain" / name), caption)

    @property
    def axes(self) -> dict[str, Any]:
        """What the axes of arrays refer to; stored beside them."""
        return {
            "ch_names": self.ch_names,
            "times": [round(float(t), 6) for t in self.times],
            "heads": list(self.heads),
        }
