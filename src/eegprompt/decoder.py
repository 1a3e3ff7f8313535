"""From EEG to captions and prompts: a trained encoder, its candidate pools, its calibration.

:class:`Decoder` works on any EEG of the right channels, with or without images and splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eegprompt.confounds.surrogates import count_scale, matched_noise, trial_shapes
from eegprompt.core.errors import InputError, RunError, UnknownNameError
from eegprompt.core.files import (
    atomic_path,
    content_key,
    read_arrays,
    read_json,
    read_table,
    write_json,
    write_table,
)
from eegprompt.core.model_hub import choose_device
from eegprompt.core.progress import Progress
from eegprompt.encoders.saved import check_channels, load_encoder
from eegprompt.generators import load_generator
from eegprompt.generators.requests import ImageRequest, request_images
from eegprompt.prompts import Composer, HeadCaption, Prompt
from eegprompt.retrieval.calibration import Calibration
from eegprompt.retrieval.pool import CandidatePool
from eegprompt.retrieval.search import retrieve
from eegprompt.run import Run
from eegprompt.study.epochs_for_decoder import array_from_epochs
from eegprompt.study.exchange import is_mne_object

if TYPE_CHECKING:
    import mne
    import pandas as pd
    import torch

    from eegprompt.encoders.preprocessing import FittedSteps
    from eegprompt.generators.base import Generator
    from eegprompt.study import Study

__all__ = [
    "Decoded",
    "Decoder",
    "composer_of",
    "embed_noise",
    "image_seed",
    "load_candidates",
    "save_candidates",
]

_BATCH = 256


_FEW = 32  # trials that one thread embeds; see _threads_for


_SCALE = 50.0  # EEG further than this factor from the training study's is in another unit


_SCALE_OF_ONE = 300.0  # the same of one channel and the others, which a bad electrode may exceed


_MATCHED = 200  # trials that noise is matched to, at most


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


@dataclass(frozen=True)
class Decoded:
    """What the heads retrieved for some trials.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a trial, head and rank, with the columns of ``decodings.parquet``: `trial_id`,
        `head`, `rank` (from 1), `caption_id`, `text`, `similarity` (cosine), `confidence` (in
        [0, 1], comparable across heads), `pool`, and `meaning` where it is known.
    embeddings : dict of str to array (n_trials, n_dims)
        The heads' embeddings, rows of unit length.
    trial_ids : array of int, shape (n_trials,)
        Which trials.
    """

    table: pd.DataFrame
    embeddings: dict[str, np.ndarray]
    trial_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.trial_ids)

    @property
    def heads(self) -> list[str]:
        """The heads."""
        return list(self.embeddings)

    def captions(self, per_head: int = 1) -> list[list[HeadCaption]]:
        """The best captions of every head, a list a trial, in the order of :attr:`trial_ids`."""
        return head_captions(self.table, self.trial_ids, per_head)


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
    pools : dict of str to CandidatePool
        The captions each head retrieves; empty before ``eegprompt decode``.
    calibrations : dict of str to Calibration
        Likewise.
    settings : dict
        What ``calibration.json`` says beside the calibrations.
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
        pools: Mapping[str, CandidatePool] | None = None,
        calibrations: Mapping[str, Calibration] | None = None,
        settings: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
    ):
        self.encoder = encoder
        self.steps = steps
        self.facts = facts
        self.pools = dict(pools or {})
        self.calibrations = dict(calibrations or {})
        self.settings = dict(settings or {})
        self.device = device if device is not None else choose_device("cpu")
        self._generators: dict[str, Generator] = {}

    def __repr__(self) -> str:
        return f"Decoder({len(self.heads)} heads, {len(self.ch_names)} channels, {self.device})"

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
        decoder = cls(encoder, steps, facts, device=place)
        if (folder / "calibration.json").exists():
            decoder.pools, decoder.calibrations, decoder.settings = load_candidates(folder)
        return decoder

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
        eeg = self._array(eeg, ch_names, sfreq, missing, bads)
        if positions is None:
            positions = self.positions
        elif np.shape(positions) != (eeg.shape[1], 3):
            raise InputError(
                f"positions must be ({eeg.shape[1]}, 3), one row a channel in meters, got shape "
                f"{np.shape(positions)}"
            )
        indices = self._subject_indices(subject, len(eeg))
        return self._embed(eeg, np.arange(len(eeg)), positions, indices, progress, "decoding EEG")

    def _array(
        self,
        eeg: Any,
        ch_names: Sequence[str] | None,
        sfreq: float | None,
        missing: Literal["refuse", "interpolate"],
        bads: Literal["refuse", "interpolate"],
    ) -> np.ndarray:
        """Trials in the channels, window and unit of the training study, checked."""
        if is_mne_object(eeg) or (isinstance(eeg, list) and any(map(is_mne_object, eeg))):
            if ch_names is not None or sfreq is not None:
                raise InputError(
                    "Epochs say their channels and their rate themselves; leave 'ch_names' and "
                    "'sfreq' out"
                )
            eeg = array_from_epochs(eeg, self.facts, self.positions, missing=missing, bads=bads)
        elif missing != "refuse" or bads != "refuse":
            raise InputError(
                "an array does not say which channels are missing or bad; leave 'missing' and 'bads' "
                "out, or give MNE's Epochs"
            )
        eeg = np.asarray(eeg)
        self._check_shape(eeg, ch_names, sfreq)
        self._check_values(eeg)
        return eeg

    def _embed(
        self,
        eeg: np.ndarray,
        ids: np.ndarray,
        positions: np.ndarray,
        subjects: np.ndarray,
        progress: Progress | None,
        label: str,
    ) -> dict[str, np.ndarray]:
        """Embed rows `ids` of EEG that was checked, in batches; it may be memory-mapped."""
        import torch

        parts: dict[str, list[np.ndarray]] = {head: [] for head in self.heads}
        place = torch.from_numpy(np.asarray(positions, dtype=np.float32)).to(self.device)
        for start in range(0, len(ids), _BATCH):
            rows = ids[start : start + _BATCH]
            batch = torch.from_numpy(np.ascontiguousarray(eeg[rows], dtype=np.float32))
            who = torch.from_numpy(subjects[start : start + _BATCH]).to(self.device)
            with _threads_for(len(rows), self.device), torch.inference_mode():
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

    def _check_shape(
        self, eeg: np.ndarray, ch_names: Sequence[str] | None, sfreq: float | None
    ) -> None:
        n_chans, n_times = len(self.ch_names), int(self.facts["encoder"]["n_times"])
        if eeg.ndim != 3 or eeg.dtype.kind not in "fiu":
            raise InputError(
                f"EEG must be numbers of shape (n_trials, {n_chans}, {n_times}), got {eeg.dtype} of "
                f"shape {eeg.shape}; a single trial is eeg[None]"
            )
        if ch_names is not None:
            check_channels(self.facts, list(ch_names))
        if eeg.shape[1:] != (n_chans, n_times):
            raise InputError(
                f"the encoder was trained on {n_chans} channels and {n_times} samples a trial, got "
                f"{eeg.shape[1]} and {eeg.shape[2]}; give the same channels and the same window"
            )
        trained = float(self.facts["sfreq"])
        if sfreq is not None and not np.isclose(sfreq, trained, rtol=1e-3):
            raise InputError(
                f"the encoder was trained at {trained:g} Hz, got {sfreq:g} Hz; resample the EEG"
            )

    def _check_values(self, eeg: np.ndarray) -> None:
        finite = np.isfinite(eeg).all(axis=2)
        if not finite.all():
            trial, channel = np.argwhere(~finite)[0]
            raise InputError(
                f"trial {trial}, channel '{self.ch_names[channel]}' holds a value that is not "
                "finite; drop the trial or mend the recording"
            )
        if not eeg.size:
            return
        flat = eeg.min(axis=2) == eeg.max(axis=2)
        if flat.any():
            trial, channel = np.argwhere(flat)[0]
            raise InputError(
                f"trial {trial}, channel '{self.ch_names[channel]}' is flat, so the electrode was "
                "off; drop the trial or interpolate the channel"
            )
        trained = self.settings.get("eeg_std") or self.facts.get("eeg_std")
        if trained:
            unit = self.facts.get("unit", "its unit")
            of_channel = np.median(eeg.std(axis=2), axis=0)
            here = float(np.median(of_channel))
            if not 1 / _SCALE < here / trained < _SCALE:
                raise InputError(
                    f"the EEG's channels vary by {here:.3g}, those of the training study by "
                    f"{trained:.3g} {unit}; give the EEG in {unit}, filtered like the study"
                )
            apart = np.abs(np.log(of_channel / here))
            if apart.max() > np.log(_SCALE_OF_ONE):
                worst = int(apart.argmax())
                raise InputError(
                    f"channel '{self.ch_names[worst]}' varies by {of_channel[worst]:.3g}, the others by "
                    f"{here:.3g} {unit}; it is in another unit or no EEG: convert it, or interpolate it"
                )

    def _subject_indices(self, subject: str | Sequence[str] | None, n: int) -> np.ndarray:
        """Index of each trial's subject; -1 takes the shared path."""
        if subject is None:
            return np.full(n, -1, dtype=np.int64)
        names = [subject] * n if isinstance(subject, str) else [str(name) for name in subject]
        if len(names) != n:
            raise InputError(f"{n} trials need one subject or {n}, got {len(names)}")
        known = {name: i for i, name in enumerate(self.subjects)}
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    "subject (leave it out for someone who was not in training)", name, known
                )
        return np.array([known[name] for name in names], dtype=np.int64)

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
        pools = dict(pool) if pool is not None else self.pools
        self._need_pools(pools)
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
        return Decoded(self.retrieve(embeddings, ids, pools, top_k), embeddings, ids)

    def _need_pools(self, pools: Mapping[str, CandidatePool]) -> None:
        missing = [head for head in self.heads if head not in pools]
        if missing:
            raise RunError(
                f"there are no candidate captions for {', '.join(missing)}; run 'eegprompt decode "
                "RUN' once, or give a pool for every head"
            )

    def retrieve(
        self,
        embeddings: Mapping[str, np.ndarray],
        trial_ids: np.ndarray,
        pools: Mapping[str, CandidatePool],
        top_k: int,
    ) -> pd.DataFrame:
        """The nearest captions of embeddings, by trial, head and rank.

        Parameters
        ----------
        embeddings : mapping of str to array (n_trials, n_dims)
            By head, from :meth:`embed`.
        trial_ids : array of int, shape (n_trials,)
            Which trials.
        pools : mapping of str to CandidatePool
            By head.
        top_k : int
            Captions a head.

        Returns
        -------
        pandas.DataFrame
            See :class:`Decoded`.
        """
        import pandas as pd

        parts: list[dict[str, np.ndarray]] = []
        for place, head in enumerate(self.heads):
            pool = pools[head]
            calibration = self.calibrations.get(head, Calibration(head))
            indices, similarity = retrieve(embeddings[head], pool, top_k)
            confidence = calibration.confidence(embeddings[head], pool, indices)
            n, k = indices.shape
            flat = indices.ravel().tolist()
            parts.append(
                {
                    "trial_id": np.repeat(trial_ids, k),
                    "head": np.full(n * k, head, dtype=object),
                    "rank": np.tile(np.arange(1, k + 1), n),
                    "caption_id": _chosen(pool.caption_ids, flat),
                    "text": _chosen(pool.texts, flat),
                    "similarity": similarity.ravel().astype(np.float32),
                    "confidence": confidence.ravel().astype(np.float32),
                    "pool": np.full(n * k, pool.name, dtype=object),
                    "meaning": _chosen(pool.meanings, flat),
                    "place": np.full(n * k, place),
                }
            )
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.lexsort([columns["rank"], columns.pop("place"), columns["trial_id"]])
        if all(meaning is None for head in self.heads for meaning in pools[head].meanings):
            del columns["meaning"]
        # One table of all heads: for few trials, making one for each takes longer than all else.
        return pd.DataFrame({name: column[order] for name, column in columns.items()})

    # -- from captions to prompts and images -------------------------------------------------
    def composer(self, **choices: Any) -> Composer:
        """How captions become prompts: as in the run, but for `choices`.

        Parameters
        ----------
        **choices
            `selection`, `abstain`, `order`, `deduplicate`, `style` or `route`, as in the settings
            under ``decoding``.

        Raises
        ------
        InputError
            If a choice is not known.
        """
        known = ("selection", "abstain", "order", "deduplicate", "style", "route")
        for name in choices:
            if name not in known:
                raise UnknownNameError("choice", name, known)
        return composer_of({**self.settings.get("decoding", {}), **choices}, self.calibrations)

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
            See :meth:`composer`; left out: as in the run.

        Raises
        ------
        TokenBudgetError
            If not even one caption fits.
        """
        loaded = self._generator(generator)
        composer = self.composer(**choices)
        count = lru_cache(maxsize=100_000)(loaded.count_tokens)
        own = self.settings.get("decoding", {})
        per_head = per_head or candidates_in_prompts({**own, "route": composer.route})
        return [
            composer.prompt(captions, count, loaded.max_tokens)
            for captions in decoded.captions(per_head)
        ]

    def generate(
        self,
        prompts: Sequence[Prompt | str],
        generator: str | Generator | None = None,
        *,
        seed: int = 0,
        sample: int = 0,
        negative_prompt: str = "",
    ) -> np.ndarray:
        """Draw prompts.

        Parameters
        ----------
        prompts : sequence of Prompt or str
            From :meth:`prompts`.
        generator : str or Generator, optional
            What draws; left out: the run's generator.
        seed : int, default 0
            The image of a prompt depends on this, the prompt, its place in the list and `sample`.
        sample : int, default 0
            Another number gives another image of the same prompt.
        negative_prompt : str, default ""
            What the images should not show.

        Returns
        -------
        array of uint8, shape (n_prompts, height, width, 3)

        Raises
        ------
        InputError
            If the generator cannot draw what is asked for.
        """
        requests = [
            ImageRequest(prompt, image_seed(seed, i, sample))
            if isinstance(prompt, str)
            else ImageRequest(prompt.text, image_seed(seed, i, sample), prompt.parts)
            for i, prompt in enumerate(prompts)
        ]
        return request_images(self._generator(generator), requests, negative_prompt)[0]

    def _generator(self, generator: str | Generator | None) -> Generator:
        if generator is not None and not isinstance(generator, str):
            return generator
        own = self.settings.get("generator", "builtin")
        spec = own if generator is None else generator
        if spec not in self._generators:
            options = self.settings.get("generator_options", {}) if spec == own else {}
            self._generators[spec] = load_generator(spec, **options)
        return self._generators[spec]


@contextmanager
def _threads_for(n_trials: int, device: torch.device) -> Iterator[None]:
    """One thread where there are few trials.

    Several threads wait for one another at each step of the encoder. Where another process takes
    one of the cores, each of these waits lasts as long as that process is let run, which is many
    times what the step takes; one thread waits for nobody, and few trials gain nothing from two.
    """
    import torch

    before = torch.get_num_threads()
    if n_trials > _FEW or before == 1 or device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chosen(values: Sequence[str | None], flat: list[int]) -> np.ndarray:
    """Some of many texts."""
    result = np.empty(len(flat), dtype=object)
    result[:] = [values[i] for i in flat]
    return result


def composer_of(choices: Mapping[str, Any], calibrations: Mapping[str, Calibration]) -> Composer:
    """How captions become prompts, by settings and what validation says of the heads.

    Parameters
    ----------
    choices : mapping
        Settings under ``decoding``; what is left out is as by default.
    calibrations : mapping of str to Calibration
        By head.

    Returns
    -------
    Composer
    """
    names = ("selection", "order", "deduplicate", "style", "route")
    worth = choices.get("abstain")
    return Composer(
        **{name: choices[name] for name in names if name in choices},
        accuracy={head: c.mean for head, c in calibrations.items()},
        thresholds={}
        if worth is None
        else {head: c.threshold(worth) for head, c in calibrations.items()},
        temperatures={head: c.temperature for head, c in calibrations.items()},
    )


def candidates_in_prompts(choices: Mapping[str, Any]) -> int:
    """How many captions of each head enter a prompt, by settings under ``decoding``."""
    if choices.get("route", "text") == "embeddings":
        return int(choices.get("top_k", 5))
    return int(choices.get("per_head", 1))


def embed_noise(
    decoder: Decoder,
    study: Study,
    like: np.ndarray,
    keys: Sequence[int],
    seed: int,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """What the heads make of noise in the place of EEG.

    Parameters
    ----------
    decoder : Decoder
        With its encoder.
    study : Study
        The recordings.
    like : array of int
        Trials whose mean spectrum the noise has (up to 200 of them, evenly chosen). One after the
        other they also say of which subject a trial of noise is taken to be, how long it is (what
        is padding in the trial, or a flat channel, is 0 in the noise) and of how many trials it is
        the average: what could tell trials apart without any EEG.
    keys : sequence of int
        One trial of noise each; see :func:`eegprompt.confounds.surrogates.matched_noise`.
    seed : int
        Another seed gives other noise.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    dict of str to array (n_keys, n_dims)
        By head, rows of unit length.
    """
    known = {name: i for i, name in enumerate(decoder.subjects)}
    names = study.trials["subject"].astype(str).to_numpy()
    some = like[np.linspace(0, len(like) - 1, min(len(like), _MATCHED)).astype(int)]
    model = np.asarray(study.eeg[some], dtype=np.float32)
    keys = list(keys)
    own = np.asarray(like)[np.arange(len(keys)) % len(like)]
    who = np.array([known.get(name, -1) for name in names[own]], np.int64)
    averaged = np.maximum(study.trials["n_averaged"].to_numpy(), 1)
    scale = count_scale(averaged[some], averaged[own]).astype(np.float32)
    parts = []
    for start in range(0, len(keys), _BATCH):
        part = slice(start, start + _BATCH)
        shapes = trial_shapes(np.asarray(study.eeg[own[part]], dtype=np.float32))
        noise = matched_noise(model, keys[part], seed, shapes=shapes)
        noise *= scale[part, None, None]
        ids = np.arange(len(noise))
        parts.append(decoder._embed(noise, ids, study.positions, who[part], None, ""))
        if progress is not None:
            progress(start + len(noise), len(keys), "decoding noise")
    return {head: np.concatenate([p[head] for p in parts]) for head in decoder.heads}


def _encoder_folder(source: str | Path | Run) -> Path:
    if isinstance(source, Run):
        folder = source.encoder_dir
    else:
        folder = Path(source)
        if (folder / "config.yaml").exists() or not folder.exists():
            folder = Run(folder).encoder_dir
    if not (folder / "config.json").exists():
        raise RunError(
            f"{folder} holds no trained encoder; train one with 'eegprompt train STUDY --out RUN', "
            "or let it finish"
        )
    return folder


def head_captions(
    table: pd.DataFrame, trial_ids: np.ndarray, per_head: int
) -> list[list[HeadCaption]]:
    """The best captions of every head, a list a trial, in the order of `trial_ids`."""
    rows = table[table["rank"] <= per_head].sort_values(["trial_id"], kind="stable")
    by_trial: dict[int, list[HeadCaption]] = {int(trial): [] for trial in trial_ids}
    for trial, head, text, confidence, similarity in zip(
        rows["trial_id"], rows["head"], rows["text"], rows["confidence"], rows["similarity"]
    ):
        if int(trial) in by_trial:
            by_trial[int(trial)].append(
                HeadCaption(head, text, float(confidence), float(similarity))
            )
    for trial, said in by_trial.items():
        if not said:
            raise RunError(f"trial {trial} was not decoded; run 'eegprompt decode RUN' again")
    return list(by_trial.values())


def save_candidates(folder: Path, decoder: Decoder) -> None:
    """Write pools and calibration; ``calibration.json`` comes last and marks them complete."""
    import pandas as pd
    from safetensors.numpy import save_file

    rows = [
        {"kind": head, "pool": pool.name, "caption_id": i, "text": text, "meaning": meaning}
        for head, pool in decoder.pools.items()
        for i, text, meaning in zip(pool.caption_ids, pool.texts, pool.meanings)
    ]
    (folder / "calibration.json").unlink(missing_ok=True)
    write_table(folder / "candidates.parquet", pd.DataFrame(rows))
    with atomic_path(folder / "candidates.safetensors") as partial:
        save_file(
            {head: np.ascontiguousarray(p.embeddings) for head, p in decoder.pools.items()},
            partial,
        )
    heads = {head: c.to_dict() for head, c in decoder.calibrations.items()}
    write_json(folder / "calibration.json", {**decoder.settings, "heads": heads})


def load_candidates(
    folder: Path,
) -> tuple[dict[str, CandidatePool], dict[str, Calibration], dict[str, Any]]:
    """Pools, calibrations and the remaining settings from an ``encoder`` folder.

    Parameters
    ----------
    folder : pathlib.Path
        With ``calibration.json`` and the candidates.

    Raises
    ------
    RunError
        If a file is missing or cannot be read.
    """
    settings = read_json(folder / "calibration.json", error=RunError, schema="calibration")
    calibrations = {
        head: Calibration.from_dict(stored) for head, stored in settings.pop("heads").items()
    }
    table = read_table(folder / "candidates.parquet", error=RunError, columns="candidates")
    arrays = read_arrays(folder / "candidates.safetensors", error=RunError)
    pools = {}
    for head in calibrations:
        rows = table[table["kind"] == head]
        vectors = arrays.get(head)
        if vectors is None or vectors.ndim != 2 or len(vectors) != len(rows) or not len(rows):
            raise RunError(
                f"{folder} has no embedding for each of the {len(rows)} candidates of '{head}'; run "
                "'eegprompt decode RUN' again"
            )
        pools[head] = CandidatePool(
            kind=head,
            texts=tuple(rows["text"]),
            embeddings=vectors,
            caption_ids=tuple(rows["caption_id"]),
            meanings=tuple(m if isinstance(m, str) else None for m in rows["meaning"]),
            name=str(rows["pool"].iloc[0]),
        )
    return pools, calibrations, settings
