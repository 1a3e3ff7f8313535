"""A run's trials decoded: embeddings, candidate pools, calibration, retrieved captions, prompts.

The step that `eegprompt decode` takes; :mod:`eegprompt.decoder` is what it applies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.core.errors import RunError, UnknownNameError
from eegprompt.core.files import content_key, read_json, sha256_file, write_json
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder
from eegprompt.encoders.saved import typical_std
from eegprompt.generators import load_generator
from eegprompt.retrieval.candidates import Candidates
from eegprompt.retrieval.pool import POOLS, CandidatePool, build_pool
from eegprompt.run import Run
from eegprompt.settings import ExperimentConfig
from eegprompt.sources import BASE_SOURCES, prompts_of_run
from eegprompt.text_encoders import cached_embeddings, load_text_encoder

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study import Study
    from eegprompt.study.split import Fold
    from eegprompt.text_encoders.base import TextEncoder

__all__ = ["candidate_pools", "decode"]


def decode(run: Run | str | Path, *, progress: Progress | None = None) -> Run:
    """Decode a run's validation and test trials and write what comes out.

    Writes ``embeddings.safetensors`` (validation and test trials), the candidate pool and the calibration fitted on
    the validation set into ``encoder/``, ``decodings.parquet`` (test trials) and
    ``prompts.parquet`` with the prompt sources `eeg`, `floor` and `ceiling`. What is there already, made
    from the same encoder, captions and settings, is left as it is: where only the choices on the
    way to a prompt have changed, only prompts are made anew.

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
    generator = load_generator(settings.generation.generator, **settings.generation.all_options)
    decoder = Decoder.from_pretrained(run)
    _check_study(decoder, run)
    captions = usable_captions(run.captions, decoder.heads)
    key = _decode_key(run, captions)
    if not _is_done(run, key):
        embeddings = {
            name: decoder.embed_study(study, ids, progress, f"decoding {name} trials")
            for name, ids in (("val", fold.val), ("test", fold.test))
        }
        text_encoder = load_text_encoder(settings.text_encoder)
        _check_text_encoder(decoder, text_encoder)
        embed = partial(
            cached_embeddings, text_encoder, cache_dir=study.path / "cache", progress=progress
        )
        truth = reference_captions(study, captions, decoder.heads, fold.val)
        candidates = Candidates.fit(
            candidate_pools(study, fold, captions, decoder.heads, settings.decoding.pool, embed),
            embeddings["val"],
            {head: [texts[0] for texts in truth[head]] for head in decoder.heads},
            embed,
            {
                "pool": settings.decoding.pool,
                "text_encoder": {"name": text_encoder.name, "revision": text_encoder.revision},
                "eeg_std": typical_std(study.eeg, fold.val),
            },
        )
        kept = max(settings.decoding.top_k, settings.decoding.per_head)
        run.write_embeddings(embeddings)
        candidates.save(run.encoder_dir)
        run.write_table(
            run.decodings_path, candidates.retrieve(embeddings["test"], fold.test, kept)
        )
        run.record(
            "decode",
            key=key,
            pool=settings.decoding.pool,
            pool_sizes={head: len(pool) for head, pool in candidates.pools.items()},
            text_encoder=candidates.settings["text_encoder"],
            seed=settings.seed,
            study=study.key,
        )
    _note_choices(run.encoder_dir, settings)
    prompts_of_run(run, generator, BASE_SOURCES, progress=progress)
    return run


def _check_study(decoder: Decoder, run: Run) -> None:
    """Refuse a study with other channels or another window than the encoder was trained on."""
    study, n_times = run.study, decoder.facts["encoder"]["n_times"]
    if study.ch_names != decoder.ch_names or study.n_times != n_times:
        raise RunError(
            f"the encoder of {run.path} was trained on other channels or another window than study "
            f"{study.path} has; train it again"
        )


def candidate_pools(
    study: Study,
    fold: Fold,
    captions: pd.DataFrame,
    heads: Sequence[str],
    name: str,
    embed: Callable[[Sequence[str]], np.ndarray],
) -> dict[str, CandidatePool]:
    """The named pool of every head.

    Parameters
    ----------
    study, fold
        What was recorded, and which trials stand on which side.
    captions : pandas.DataFrame
        The study's captions.
    heads : sequence of str
        Caption kinds.
    name : str
        ``train`` or ``test``: captions of the images shown on that side; ``all``: of every image
        shown in the fold.
    embed : callable
        From texts to unit rows.
    """
    if name not in POOLS:
        raise UnknownNameError("candidate pool", name, POOLS)
    sides = {"train": [fold.train], "test": [fold.test], "all": [fold.train, fold.val, fold.test]}
    ids = np.concatenate(sides[name])
    image_ids = study.trials["image_id"].iloc[ids].unique().tolist()
    return {head: build_pool(captions, head, image_ids, embed, name=name) for head in heads}


def _check_text_encoder(decoder: Decoder, text_encoder: TextEncoder) -> None:
    """The heads point into the space of one text encoder, and into no other."""
    trained = decoder.facts.get("text_encoder") or {}
    if trained.get("revision", text_encoder.revision) != text_encoder.revision:
        raise RunError(
            f"the encoder was trained on {trained.get('name')} in revision {trained['revision']}, but "
            f"{text_encoder.name} is now in revision {text_encoder.revision}; bring the former back, "
            "or train again"
        )


def _note_choices(folder: Path, config: ExperimentConfig) -> None:
    """Keep beside the encoder how its captions are made prompts, and what draws them."""
    stored = read_json(folder / "calibration.json", error=RunError, schema="calibration")
    noted = {
        "decoding": config.decoding.model_dump(mode="json", exclude={"pool"}),
        "generator": config.generation.generator,
        "generator_options": config.generation.all_options,
    }
    if any(stored.get(name) != value for name, value in noted.items()):
        write_json(folder / "calibration.json", {**noted, **stored, **noted})


def _decode_key(run: Run, captions: pd.DataFrame) -> str:
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


def _is_done(run: Run, key: str) -> bool:
    files = (
        run.embeddings_path,
        run.decodings_path,
        run.encoder_dir / "calibration.json",
        run.encoder_dir / "candidates.parquet",
        run.encoder_dir / "candidates.safetensors",
    )
    there = all(path.exists() for path in files)
    return there and run.provenance.get("decode", {}).get("key") == key
