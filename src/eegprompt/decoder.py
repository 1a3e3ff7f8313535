"""From EEG to captions and prompts: a trained encoder, its candidate pools, its calibration.

:class:`Decoder` works on any EEG of the right channels, with or without images and splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eegprompt.core.errors import InputError, RunError, UnknownNameError
from eegprompt.core.files import content_key
from eegprompt.core.html_facts import facts_html
from eegprompt.core.model_hub import choose_device
from eegprompt.core.progress import Progress
from eegprompt.core.threads import threads_for
from eegprompt.decoded import Decoded
from eegprompt.encoders.matching import match_eeg
from eegprompt.encoders.saved import load_encoder
from eegprompt.generators import load_generator
from eegprompt.generators.requests import ImageRequest, request_images
from eegprompt.prompts import Prompt, head_captions
from eegprompt.retrieval.candidates import Candidates, candidates_in_prompts
from eegprompt.run import Run

if TYPE_CHECKING:
    import mne
    import torch

    from eegprompt.encoders.preprocessing import FittedSteps
    from eegprompt.generators.base import Generator
    from eegprompt.retrieval.pool import CandidatePool
    from eegprompt.study import Study
    from eegprompt.text_encoders.base import TextEncoder

__all__ = [
    "Decoded",
    "Decoder",
    "image_seed",
]

_BATCH = 256


def image_seed(seed: int, trial: int, sample: int = 0) -> int:
    """Seed of one image: of the run's seed, the trial and the sample alone.

    It does not depend on the prompt source, so that prompt sources differ by their prompts only.

    Returns
    -------
    int
        In [0, 2**32).
    """
    # "picture" is a mere salt: with another word every image ever generated would change
    return int(content_key("picture", int(seed), int(trial), int(sample), length=8), 16)


class Decoder:
    """A trained encoder with all it takes to put EEG into words.

    Made by :meth:`from_pretrained`.

    Parameters
    ----------
    encoder : torch.nn.Module
        From EEG to one embedding a head.
    steps : FittedSteps
        Applied to the EEG first.
    facts : dict
        The encoder's ``config.json``: channels, positions, sampling rate, subjects, ….
    candidates : Candidates, optional
        The captions each head retrieves, and its calibration; none before ``eegprompt decode``.
    device : torch.device
        Where the encoder lies.

    Examples
    --------
    ``decoder = Decoder.from_pretrained("runs/demo")``, then ``decoded = decoder.decode(epochs)``,
    ``prompts = decoder.prompts(decoded)`` and ``images = decoder.generate(prompts)``. MNE's Epochs are
    matched to the training study by channel name, sampling rate, window and unit; of a bare array
    (n_trials, n_chans, n_times) it is taken that it has the training study's channels in their order
    and is in its unit.
    """

    def __init__(
        self,
        encoder: torch.nn.Module,
        steps: FittedSteps,
        facts: dict[str, Any],
        *,
        candidates: Candidates | None = None,
        device: torch.device | None = None,
    ):
        self.encoder = encoder
        self.steps = steps
        self.facts = facts
        self.candidates = candidates or Candidates()
        self.device = device if device is not None else choose_device("cpu")
        self._generators: dict[str, Generator] = {}

    def __repr__(self) -> str:
        return f"Decoder({len(self.heads)} heads, {len(self.ch_names)} channels, {self.device})"

    def _repr_html_(self) -> str:
        tmin, n_times = self.facts.get("tmin", 0.0), int(self.facts["encoder"]["n_times"])
        sizes = [f"{head} {len(pool)}" for head, pool in self.candidates.pools.items()]
        return facts_html(
            "Decoder",
            {
                "heads": ", ".join(self.heads),
                "channels": f"{len(self.ch_names)} ({', '.join(self.ch_names[:8])} …)",
                "window": f"{n_times} samples at {self.facts['sfreq']:g} Hz from {tmin:g} s",
                "unit": self.facts.get("unit", ""),
                "subjects": len(self.subjects),
                "candidate captions": ", ".join(sizes) or "none yet",
                "device": self.device,
            },
        )

    @classmethod
    def from_pretrained(cls, source: str | Path | Run, device: str = "auto") -> Decoder:
        """Load from a run, its folder, or its ``encoder`` folder alone.

        Raises
        ------
        RunError
            If the folder holds no trained encoder.
        """
        folder = _encoder_folder(source)
        place = choose_device(device)
        encoder, steps, facts = load_encoder(folder, str(place))
        return cls(encoder, steps, facts, candidates=Candidates.load(folder), device=place)

    # -- facts ---------------------------------------------------------------------------------
    @property
    def heads(self) -> list[str]:
        """The heads, in prompt order."""
        return list(self.facts["encoder"]["heads"])

    @property
    def ch_names(self) -> list[str]:
        """Channels the encoder was trained on."""
        return list(self.facts["ch_names"])

    @property
    def subjects(self) -> list[str]:
        """Subjects the encoder was trained on."""
        return [str(subject) for subject in self.facts.get("subjects", [])]

    @property
    def positions(self) -> np.ndarray:
        """Electrode positions (n_chans, 3) of the training study in meters; NaN where unknown."""
        stored = self.facts.get("positions")
        if stored is None:
            return np.full((len(self.ch_names), 3), np.nan, dtype=np.float32)
        return np.array(
            [[np.nan if v is None else v for v in (row or [None] * 3)] for row in stored],
            dtype=np.float32,
        )

    # -- from EEG to embeddings ----------------------------------------------------------------
    def embed(
        self,
        eeg: mne.BaseEpochs | np.ndarray,
        positions: np.ndarray | None = None,
        subject: str | Sequence[str] | None = None,
        *,
        ch_names: Sequence[str] | None = None,
        sfreq: float | None = None,
        missing: Literal["refuse", "interpolate"] = "refuse",
        bads: Literal["refuse", "interpolate"] = "refuse",
        progress: Progress | None = None,
    ) -> dict[str, np.ndarray]:
        """Embed trials, one vector a head.

        Parameters
        ----------
        eeg : mne.BaseEpochs or array (n_trials, n_chans, n_times)
            Filtered and referenced like the training study. Epochs are matched by channel name,
            cut to the training window, and refused where rate, window or unit do not fit. An array
            says none of that: its channels must be the training study's in their order, its window
            and its unit the same; only its shape and the size of its values are checked.
        positions : array (n_chans, 3), optional
            Electrode positions in meters; those of the training study if left out.
        subject : str or sequence of str, optional
            A subject of the training study, or one a trial; None for anyone else.
        ch_names, sfreq : optional
            Of an array: compared with the training study's.
        missing : {"refuse", "interpolate"}
            What to do about channels that Epochs lack: an error, or interpolate them.
        bads : {"refuse", "interpolate"}
            What to do about channels that Epochs mark as bad: an error, or interpolate them.
        progress : callable, optional
            Called with (done, total, label).

        Returns
        -------
        dict of str to float32 array (n_trials, n_dims)
            Rows of unit length.

        Raises
        ------
        InputError
            If the EEG does not fit, holds a value that is not finite or a flat channel, or is in
            another unit.
        """
        eeg = self._matched(eeg, ch_names=ch_names, sfreq=sfreq, missing=missing, bads=bads)
        if positions is None:
            positions = self.positions
        elif np.shape(positions) != (eeg.shape[1], 3):
            raise InputError(
                f"positions must be ({eeg.shape[1]}, 3), one row a channel in meters, got shape "
                f"{np.shape(positions)}"
            )
        indices = self._subject_indices(subject, len(eeg))
        ids = np.arange(len(eeg))
        return self.embed_checked(eeg, ids, positions, indices, progress, "decoding EEG")

    def _matched(self, eeg: Any, **how: Any) -> np.ndarray:
        """Trials as the encoder reads them; see :func:`eegprompt.encoders.matching.match_eeg`."""
        eeg_std = self.candidates.settings.get("eeg_std") or self.facts.get("eeg_std")
        return match_eeg(eeg, self.facts, self.positions, eeg_std=eeg_std, **how)

    def embed_checked(
        self,
        eeg: np.ndarray,
        ids: np.ndarray,
        positions: np.ndarray,
        subjects: np.ndarray,
        progress: Progress | None = None,
        label: str = "",
    ) -> dict[str, np.ndarray]:
        """Embed rows of EEG that needs no check, in batches.

        Parameters
        ----------
        eeg : array (n, n_chans, n_times)
            It may be memory-mapped.
        ids : int array (n_trials,)
            Rows of `eeg`.
        positions : array (n_chans, 3)
            Electrode positions in meters.
        subjects : int array (n_trials,)
            Index of each trial's subject; -1 for anyone else.
        progress : callable, optional
            Called with (done, total, `label`).
        label : str
            See `progress`.

        Returns
        -------
        dict of str to float32 array (n_trials, n_dims)
            Rows of unit length.

        Raises
        ------
        RunError
            If a head gives values that are not finite.
        """
        import torch

        parts: dict[str, list[np.ndarray]] = {head: [] for head in self.heads}
        place = torch.from_numpy(np.asarray(positions, dtype=np.float32)).to(self.device)
        for start in range(0, len(ids), _BATCH):
            rows = ids[start : start + _BATCH]
            batch = torch.from_numpy(np.ascontiguousarray(eeg[rows], dtype=np.float32))
            who = torch.from_numpy(subjects[start : start + _BATCH]).to(self.device)
            with threads_for(len(rows), self.device), torch.inference_mode():
                out = self.encoder(self.steps.apply(batch.to(self.device)), place, who)
                for head in self.heads:
                    unit = torch.nn.functional.normalize(out[head].double(), dim=-1)
                    parts[head].append(unit.float().cpu().numpy())
            if progress is not None:
                progress(start + len(rows), len(ids), label)
        empty = np.zeros((0, int(self.facts["encoder"]["embedding_dim"])), np.float32)
        result = {head: np.concatenate(p) if p else empty for head, p in parts.items()}
        for head, rows in result.items():
            if not np.isfinite(rows).all():
                raise RunError(
                    f"head {head} gives values that are not finite; train the run again, with a "
                    "lower learning rate if it happens again"
                )
        return result

    def check_text_encoder(self, text_encoder: TextEncoder) -> None:
        """Refuse a text encoder whose space is not the one that the heads point into.

        Raises
        ------
        RunError
            If it is of another revision.
        """
        trained = self.facts.get("text_encoder") or {}
        if trained.get("revision", text_encoder.revision) != text_encoder.revision:
            raise RunError(
                f"the encoder was trained on {trained.get('name')} in revision {trained['revision']}, "
                f"but {text_encoder.name} is now in revision {text_encoder.revision}; bring the former "
                "back, or train again"
            )

    def embed_study(
        self, study: Study, ids: np.ndarray, progress: Progress | None = None, label: str = ""
    ) -> dict[str, np.ndarray]:
        """Embed trials of a study with the training study's channels, each by its subject.

        Parameters
        ----------
        study : Study
            It may be larger than memory.
        ids : array of int, shape (n_trials,)
            Which trials.
        progress : callable, optional
            Called with (done, total, `label`).
        label : str
            See `progress`.

        Returns
        -------
        dict of str to float32 array (n_trials, n_dims)
            Rows of unit length.

        Raises
        ------
        RunError
            If the study has other channels or another window.
        """
        if study.ch_names != self.ch_names or study.n_times != self.facts["encoder"]["n_times"]:
            raise RunError(
                "the encoder was trained on other channels or another window than study "
                f"{study.path} has; train it again"
            )
        subjects = self.index_subjects(study.trials["subject"].iloc[ids])
        return self.embed_checked(study.eeg, ids, study.positions, subjects, progress, label)

    def index_subjects(self, names: Iterable[Any]) -> np.ndarray:
        """Index of each subject as the encoder counts them; -1, the shared path, for anyone else.

        Parameters
        ----------
        names : iterable
            One name per trial.

        Returns
        -------
        int64 array (n_trials,)
        """
        known = {name: i for i, name in enumerate(self.subjects)}
        return np.array([known.get(str(name), -1) for name in names], dtype=np.int64)

    def _subject_indices(self, subject: str | Sequence[str] | None, n: int) -> np.ndarray:
        """Index of each trial's subject; -1 takes the shared path."""
        if subject is None:
            return np.full(n, -1, dtype=np.int64)
        names = [subject] * n if isinstance(subject, str) else [str(name) for name in subject]
        if len(names) != n:
            raise InputError(f"{n} trials need one subject or {n}, got {len(names)}")
        if unknown := sorted(set(names) - set(self.subjects)):
            what = "subject (leave it out for someone who was not in training)"
            raise UnknownNameError(what, unknown[0], self.subjects)
        return self.index_subjects(names)

    # -- from embeddings to captions -----------------------------------------------------------
    def decode(
        self,
        eeg: mne.BaseEpochs | np.ndarray,
        subject: str | Sequence[str] | None = None,
        pool: Mapping[str, CandidatePool] | None = None,
        *,
        positions: np.ndarray | None = None,
        ch_names: Sequence[str] | None = None,
        sfreq: float | None = None,
        missing: Literal["refuse", "interpolate"] = "refuse",
        bads: Literal["refuse", "interpolate"] = "refuse",
        top_k: int = 5,
        progress: Progress | None = None,
    ) -> Decoded:
        """Retrieve captions for EEG that needs neither images nor a split.

        Parameters
        ----------
        eeg, subject
            As in :meth:`embed`.
        pool : dict of str to CandidatePool, optional
            Captions to retrieve, by head; left out: the run's own pool. Confidences are
            calibrated for the run's pool and only roughly right for another.
        positions, ch_names, sfreq, missing, bads
            As in :meth:`embed`.
        top_k : int, default 5
            Captions a head.
        progress : callable, optional
            Called with (done, total, label).

        Returns
        -------
        Decoded
            With trials counted from 0; of Epochs, those that were not dropped.

        Raises
        ------
        InputError
            As in :meth:`embed`.
        RunError
            If the run was not decoded yet, so that there is no pool.
        """
        embeddings = self.embed(
            eeg,
            positions,
            subject,
            ch_names=ch_names,
            sfreq=sfreq,
            missing=missing,
            bads=bads,
            progress=progress,
        )
        ids = np.arange(len(embeddings[self.heads[0]]))
        table = self.candidates.retrieve(embeddings, ids, top_k, pool)
        return Decoded(table, embeddings, ids, self)

    # -- from captions to prompts and images -------------------------------------------------
    def prompts(
        self,
        decoded: Decoded,
        generator: str | Generator | None = None,
        *,
        per_head: int | None = None,
        **choices: Any,
    ) -> list[Prompt]:
        """Make each trial's captions a prompt that the generator reads to the end.

        Parameters
        ----------
        decoded : Decoded
            From :meth:`decode`.
        generator : str or Generator, optional
            Whose tokenizer counts; left out: the run's generator.
        per_head : int, optional
            Captions of each head; left out: as in the run.
        **choices
            `selection`, `abstain`, `order`, `deduplicate`, `style` or `route`, as in the settings
            under ``decoding``; left out: as in the run.

        Raises
        ------
        TokenBudgetError
            If not even one caption fits.
        """
        loaded = self._generator(generator)
        composer = self.candidates.composer(**choices)
        count = lru_cache(maxsize=100_000)(loaded.count_tokens)
        own = self.candidates.settings.get("decoding", {})
        per_head = per_head or candidates_in_prompts({**own, "route": composer.route})
        return [
            composer.prompt(captions, count, loaded.max_tokens)
            for captions in head_captions(decoded.captions, decoded.trial_ids, per_head)
        ]

    def generate(
        self,
        prompts: Decoded | Sequence[Prompt | str],
        n: int | None = None,
        seed: int = 0,
        *,
        generator: str | Generator | None = None,
        negative_prompt: str = "",
    ) -> np.ndarray:
        """Generate images of prompts.

        Parameters
        ----------
        prompts : Decoded or sequence of Prompt or str
            From :meth:`decode` or :meth:`prompts`.
        n : int, optional
            Images of each prompt; left out: one, without an axis of its own.
        seed : int, default 0
            An image depends on this, the prompt, its place in the list and which of the `n` it is.
        generator : str or Generator, optional
            What generates; left out: the run's generator.
        negative_prompt : str, default ""
            What the images should not show.

        Returns
        -------
        array of uint8, shape (n_prompts, height, width, 3) or (n_prompts, n, height, width, 3)

        Raises
        ------
        InputError
            If `n` is below 1 or the generator cannot generate what is asked for.
        """
        if n is not None and n < 1:
            raise InputError(f"n must be at least 1, got {n}")
        if isinstance(prompts, Decoded):
            prompts = self.prompts(prompts, generator)
        requests = [
            ImageRequest(prompt, image_seed(seed, i, sample))
            if isinstance(prompt, str)
            else ImageRequest(prompt.text, image_seed(seed, i, sample), prompt.parts)
            for i, prompt in enumerate(prompts)
            for sample in range(n or 1)
        ]
        images = request_images(self._generator(generator), requests, negative_prompt)[0]
        return images if n is None else images.reshape(len(prompts), n, *images.shape[1:])

    def attribute(
        self,
        eeg: mne.BaseEpochs | np.ndarray,
        method: str = "integrated-gradients",
        target: Decoded | None = None,
        *,
        subject: str | Sequence[str] | None = None,
        as_evoked: bool = False,
        missing: Literal["refuse", "interpolate"] = "refuse",
        bads: Literal["refuse", "interpolate"] = "refuse",
    ) -> dict[str, Any]:
        """What of the EEG made each head retrieve its caption.

        Parameters
        ----------
        eeg : mne.BaseEpochs or array (n_trials, n_chans, n_times)
            As in :meth:`embed`.
        method : str, default "integrated-gradients"
            Or ``gradient-x-input``, ``saliency``, ``smoothgrad``. How far such maps can be trusted
            with this encoder is what ``eegprompt explain`` tests.
        target : Decoded, optional
            Whose nearest captions are asked about; left out: those of `eeg`.
        subject : str or sequence of str, optional
            As in :meth:`embed`.
        as_evoked : bool
            Give the mean over trials as :class:`mne.Evoked`, so that ``plot_topomap`` draws it.
        missing, bads : {"refuse", "interpolate"}
            As in :meth:`embed`.

        Returns
        -------
        dict of str to array (n_trials, n_chans, n_times) or mne.Evoked
            By head; positive where the EEG supports the caption, in nats. See
            :func:`eegprompt.attribution.retrieved.attribute_retrieved`.

        Raises
        ------
        InputError
            If the EEG does not fit, or `target` is of another number of trials.
        UnknownNameError
            If there is no such method.
        """
        from eegprompt.attribution import retrieved

        eeg = self._matched(eeg, missing=missing, bads=bads)
        target = self.decode(eeg, subject) if target is None else target
        if len(target) != len(eeg):
            raise InputError(f"{len(eeg)} trials need as many decoded ones, got {len(target)}")
        first = target.captions[target.captions["rank"] == 1]
        ids = first.pivot(index="trial_id", columns="head", values="caption_id")
        ids = ids.reindex(index=target.trial_ids)
        maps = retrieved.attribute_retrieved(
            self.encoder,
            self.steps,
            eeg,
            {head: ids[head].tolist() for head in self.heads},
            self.candidates.pools,
            method=method,
            positions=self.positions,
            subject=self._subject_indices(subject, len(eeg)),
            scales=self.facts.get("scales"),
        )
        if not as_evoked:
            return dict(maps)
        tmin = float(self.facts.get("tmin", 0.0))
        return retrieved.as_evoked(
            maps, self.ch_names, self.positions, float(self.facts["sfreq"]), tmin
        )

    def _generator(self, generator: str | Generator | None) -> Generator:
        if generator is not None and not isinstance(generator, str):
            return generator
        settings = self.candidates.settings
        own = settings.get("generator", "builtin")
        spec = own if generator is None else generator
        if spec not in self._generators:
            options = settings.get("generator_options", {}) if spec == own else {}
            self._generators[spec] = load_generator(spec, **options)
        return self._generators[spec]


def _encoder_folder(source: str | Path | Run) -> Path:
    folder = Path(source)
    if not (folder / "config.json").exists():
        folder = Run(source).encoder_dir
    if not (folder / "config.json").exists():
        raise RunError(
            f"{folder} holds no trained encoder; train one with 'eegprompt train STUDY --out RUN', "
            "or let it finish"
        )
    return folder
