"""`eegprompt decode`: embeddings, candidate pools, calibration, retrieved captions, prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.confounds.surrogates import count_scale, matched_noise, trial_shapes
from eegprompt.core.errors import RunError
from eegprompt.core.files import content_key, sha256_file
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder
from eegprompt.encoders.saved import typical_std
from eegprompt.generators import load_generator
from eegprompt.retrieval.candidates import Candidates, candidates_in_prompts, composer_of
from eegprompt.retrieval.pool import candidate_pools
from eegprompt.run import Run
from eegprompt.sources import (
    BASE_SOURCES,
    PROMPT_SOURCES,
    DecodedTrials,
    compose_prompts,
)
from eegprompt.text_encoders import cached_embeddings, load_text_encoder

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.generators.base import Generator
    from eegprompt.settings import ExperimentConfig
    from eegprompt.study import Study
    from eegprompt.text_encoders.base import TextEncoder


__all__ = ["decode", "decoded_trials", "fit_candidates", "prompt_table", "prompts_of_run"]

_MATCHED = 200  # trials that noise is matched to, at most


_BATCH = 256


@writes("run")
def decode(run: Run | str | Path, *, progress: Progress | None = None) -> Run:
    """Decode a run's validation and test trials and write what comes out.

    Writes ``embeddings.safetensors`` (validation and test trials), the candidate pools and the
    calibration fitted on the validation set into ``encoder/``, ``decodings.parquet`` (test trials)
    and ``prompts.parquet`` with the prompt sources `eeg`, `floor` and `ceiling`. What is there
    already, made from the same encoder, captions and settings, is left as it is: where only the
    choices on the way to a prompt have changed, only prompts are composed again.

    Parameters
    ----------
    run : Run or path-like
        With a trained encoder.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If the encoder is missing or does not fit the study.
    CaptionError
        If an image lacks a caption of one of the kinds.
    TokenBudgetError
        If the generator cannot read even one of the captions.
    """
    run = Run(run)
    settings, study, fold = run.settings, run.study, run.fold
    generator = load_generator(settings.generation.generator, **settings.generation.options)
    decoder = Decoder.from_pretrained(run)
    captions = usable_captions(run.captions, decoder.heads)
    key = _key(run, captions)
    written = [run.embeddings_path, run.decodings_path, *Candidates.paths(run.encoder_dir)]
    if run.provenance.get("decode", {}).get("key") != key or not all(p.exists() for p in written):
        candidates, validation = fit_candidates(run, decoder, captions, progress)
        test = decoder.embed_study(study, fold.test, progress, "decoding test trials")
        kept = max(settings.decoding.top_k, settings.decoding.per_head)
        run.write_embeddings({"val": validation, "test": test})
        candidates.save(run.encoder_dir)
        run.write_table(run.decodings_path, candidates.retrieve(test, fold.test, kept))
        run.record(
            "decode",
            key=key,
            pool=settings.decoding.pool,
            pool_sizes={head: len(pool) for head, pool in candidates.pools.items()},
            text_encoder=candidates.settings["text_encoder"],
            seed=settings.seed,
            study=study.key,
        )
    Candidates.note(run.encoder_dir, **_on_the_way_to_an_image(settings))
    prompts_of_run(run, generator, BASE_SOURCES, progress=progress)
    return run


def fit_candidates(
    run: Run,
    decoder: Decoder,
    captions: pd.DataFrame,
    progress: Progress | None = None,
    text_encoder: TextEncoder | None = None,
) -> tuple[Candidates, dict[str, np.ndarray]]:
    """Candidate pools of a trained run, calibrated on its validation trials.

    Parameters
    ----------
    run : Run
        With a trained encoder.
    decoder : Decoder
        Of the run.
    captions : pandas.DataFrame
        The run's captions, without those that say nothing.
    progress : callable, optional
        Called with (done, total, label).
    text_encoder : TextEncoder, optional
        Used instead of loading the one that the settings name.

    Returns
    -------
    candidates : Candidates
        Not saved yet.
    embeddings : dict of str to array (n_trials, n_dims)
        Of the validation trials, by head.
    """
    settings, study, fold = run.settings, run.study, run.fold
    text_encoder = text_encoder or load_text_encoder(settings.text_encoder)
    decoder.check_text_encoder(text_encoder)
    embed = partial(
        cached_embeddings, text_encoder, cache_dir=study.path / "cache", progress=progress
    )
    embeddings = decoder.embed_study(study, fold.val, progress, "decoding validation trials")
    truth = reference_captions(study, captions, decoder.heads, fold.val)
    candidates = Candidates.fit(
        candidate_pools(study, fold, captions, decoder.heads, settings.decoding.pool, embed),
        embeddings,
        {head: [texts[0] for texts in truth[head]] for head in decoder.heads},
        embed,
        {
            "pool": settings.decoding.pool,
            "text_encoder": {"name": text_encoder.name, "revision": text_encoder.revision},
            "eeg_std": typical_std(study.eeg, fold.val),
            **_on_the_way_to_an_image(settings),
        },
    )
    return candidates, embeddings


def _on_the_way_to_an_image(settings: ExperimentConfig) -> dict[str, Any]:
    """Kept beside the encoder: how captions become prompts, and what generates images of them."""
    return {
        "decoding": settings.decoding.model_dump(mode="json", exclude={"pool"}),
        "generator": settings.generation.generator,
        "generator_options": settings.generation.options,
    }


def prompts_of_run(
    run: Run, generator: Generator, sources: Sequence[str], *, progress: Progress | None = None
) -> pd.DataFrame:
    """The run's prompts, with those prompt sources and settings that are missing composed and stored.

    Parameters
    ----------
    run : Run
        Decoded.
    generator : Generator
        The run's own, whose budget all prompts keep.
    sources : sequence of str
        What is needed; `eeg`, `floor` and `ceiling` always are.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    pandas.DataFrame
        ``prompts.parquet``; it may hold more prompt sources.
    """
    import pandas as pd

    config = run.settings
    record = run.provenance
    key = content_key(
        record.get("decode", {}).get("key"),
        config.decoding.model_dump(),
        [generator.name, generator.revision, generator.max_tokens],
        config.seed,
    )
    stored = run.prompts if run.prompts_path.exists() else None
    there = list(stored["source"].unique()) if stored is not None else []
    # Prompts that no decoding is known of were put together elsewhere: they are taken as they are.
    before = record.get("prompts", {}).get("key") if {"prompts", "decode"} & set(record) else key
    current = stored is not None and before == key
    wanted = [r for r in PROMPT_SOURCES if r in {*sources, *BASE_SOURCES, *there}]
    missing = [r for r in wanted if not (current and r in there)]
    if not missing:
        assert stored is not None
        return stored
    table = prompt_table(run, generator, missing, progress=progress)
    if current:
        table = pd.concat([stored, table], ignore_index=True)
        place = table["source"].map({source: i for i, source in enumerate(PROMPT_SOURCES)})
        trials = {trial: i for i, trial in enumerate(dict.fromkeys(table["trial_id"]))}
        order = np.lexsort((place.to_numpy(), table["trial_id"].map(trials).to_numpy()))
        table = table.iloc[order].reset_index(drop=True)
    run.write_table(run.prompts_path, table)
    run.record(
        "prompts",
        key=key,
        sources=wanted,
        generator={"name": generator.name, "revision": generator.revision},
        max_tokens=generator.max_tokens,
    )
    return table


def prompt_table(
    run: Run,
    generator: Generator,
    sources: Sequence[str] = BASE_SOURCES,
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compose the prompts of a decoded run for a generator; see :func:`compose_prompts`."""
    return compose_prompts(decoded_trials(run, generator, progress), sources)


def decoded_trials(
    run: Run, generator: Generator, progress: Progress | None = None
) -> DecodedTrials:
    """What prompt sources may know of a run that was decoded."""
    settings, study, fold = run.settings, run.study, run.fold
    decoding = settings.decoding.model_dump()
    candidates = Candidates.load(run.encoder_dir)

    def embeddings() -> dict[str, np.ndarray]:
        if not run.embeddings_path.exists():
            raise RunError(f"{run.embeddings_path} is missing; run 'eegprompt decode {run.path}'")
        return run.embeddings

    def noise() -> dict[str, np.ndarray]:
        decoder = Decoder.from_pretrained(run)
        return embed_noise(decoder, study, fold.test, fold.test.tolist(), settings.seed, progress)

    def texts(some: Sequence[str]) -> np.ndarray:
        return cached_embeddings(
            load_text_encoder(settings.text_encoder), some, study.path / "cache"
        )

    return DecodedTrials(
        study=study,
        fold=fold,
        captions=run.captions,
        kinds=settings.kinds,
        decodings=run.decodings,
        candidates=candidates,
        embeddings=embeddings,
        embed_noise=noise,
        embed_texts=texts,
        composer=composer_of(decoding, candidates.calibrations),
        count_tokens=lru_cache(maxsize=100_000)(generator.count_tokens),
        max_tokens=generator.max_tokens,
        per_head=candidates_in_prompts(decoding),
        seed=settings.seed,
        progress=progress,
    )


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
    names = study.trials["subject"].astype(str).to_numpy()
    some = like[np.linspace(0, len(like) - 1, min(len(like), _MATCHED)).astype(int)]
    model = np.asarray(study.eeg[some], dtype=np.float32)
    keys = list(keys)
    own = np.asarray(like)[np.arange(len(keys)) % len(like)]
    who = decoder.index_subjects(names[own])
    averaged = np.maximum(study.trials["n_averaged"].to_numpy(), 1)
    scale = count_scale(averaged[some], averaged[own]).astype(np.float32)
    parts = []
    for start in range(0, len(keys), _BATCH):
        part = slice(start, start + _BATCH)
        shapes = trial_shapes(np.asarray(study.eeg[own[part]], dtype=np.float32))
        noise = matched_noise(model, keys[part], seed, shapes=shapes)
        noise *= scale[part, None, None]
        ids = np.arange(len(noise))
        parts.append(decoder.embed_checked(noise, ids, study.positions, who[part]))
        if progress is not None:
            progress(start + len(noise), len(keys), "decoding noise")
    return {head: np.concatenate([p[head] for p in parts]) for head in decoder.heads}


def _key(run: Run, captions: pd.DataFrame) -> str:
    """Key of all that decides what is retrieved."""
    settings, fold = run.settings, run.fold
    return content_key(
        sha256_file(run.encoder_dir / "model.safetensors"),
        sha256_file(run.encoder_dir / "config.json"),
        run.study.key,
        captions.to_json(),
        [fold.train.tolist(), fold.val.tolist(), fold.test.tolist()],
        [settings.decoding.pool, settings.decoding.top_k, settings.decoding.per_head],
        settings.text_encoder,
        settings.seed,
    )
