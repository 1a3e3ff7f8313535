"""A run's trials decoded: embeddings, candidate pools, calibration, retrieved captions, prompts.

The step that `eegprompt decode` takes; :mod:`eegprompt.decoder` is what it applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.core.errors import RunError, UnknownNameError
from eegprompt.core.files import (
    atomic_path,
    content_key,
    read_json,
    sha256_file,
    write_json,
)
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder, save_candidates
from eegprompt.encoders.saved import typical_std
from eegprompt.generators import load_generator
from eegprompt.retrieval.calibration import Calibration
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

    Writes ``embeddings.safetensors`` (both sides), the candidate pool and the calibration fitted on
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
    config = run.settings
    study = run.study
    fold = run.fold
    generator = load_generator(config.generation.generator, **config.generation.all_options)
    _retrieve_captions(run, config, study, fold, progress)
    _note_choices(run.encoder_dir, config)
    prompts_of_run(run, generator, BASE_SOURCES, progress=progress)
    return run


def _retrieve_captions(
    run: Run, config: ExperimentConfig, study: Study, fold: Fold, progress: Progress | None
) -> None:
    """Embed both sides, fit the calibration and retrieve, unless that was done."""
    decoder = Decoder.from_pretrained(run)
    if study.ch_names != decoder.ch_names or study.n_times != decoder.facts["encoder"]["n_times"]:
        raise RunError(
            f"the encoder of {run.path} was trained on other channels or another window than study "
            f"{study.path} has; train it again"
        )
    captions = usable_captions(study.captions(config.captions), decoder.heads)
    key = _decode_key(run, config, study, captions, fold)
    if _is_done(run, key):
        return

    embeddings = _embed_sides(decoder, study, fold, progress)
    _save_embeddings(run.embeddings_path, embeddings, fold)

    text_encoder = load_text_encoder(config.text_encoder)
    _check_text_encoder(decoder, text_encoder)

    def embed(texts: Sequence[str]) -> np.ndarray:
        return cached_embeddings(text_encoder, texts, study.path / "cache", progress=progress)

    pools = candidate_pools(study, fold, captions, decoder.heads, config.decoding.pool, embed)
    truth = reference_captions(study, captions, decoder.heads, fold.val)
    decoder.pools = pools
    decoder.calibrations = {
        head: Calibration.fit(
            head,
            embeddings["val"][head],
            embed([texts[0] for texts in truth[head]]),
            pools[head],
        )
        for head in decoder.heads
    }
    decoder.settings = {
        "pool": config.decoding.pool,
        "text_encoder": {"name": text_encoder.name, "revision": text_encoder.revision},
        "eeg_std": typical_std(study.eeg, fold.val),
    }
    save_candidates(run.encoder_dir, decoder)

    kept = max(config.decoding.top_k, config.decoding.per_head)
    table = decoder.retrieve(embeddings["test"], fold.test, pools, kept)
    run.write_table(run.decodings_path, table)
    run.record(
        "decode",
        key=key,
        pool=config.decoding.pool,
        pool_sizes={head: len(pool) for head, pool in pools.items()},
        text_encoder=decoder.settings["text_encoder"],
        seed=config.seed,
        study=study.key,
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


def _embed_sides(
    decoder: Decoder, study: Study, fold: Fold, progress: Progress | None
) -> dict[str, dict[str, np.ndarray]]:
    known = {name: i for i, name in enumerate(decoder.subjects)}
    subjects = np.array(
        [known.get(str(name), -1) for name in study.trials["subject"]], dtype=np.int64
    )
    result = {}
    for side in ("val", "test"):
        ids = getattr(fold, side)
        result[side] = decoder._embed(
            study.eeg, ids, study.positions, subjects[ids], progress, f"decoding {side} trials"
        )
    return result


def _check_text_encoder(decoder: Decoder, text_encoder: TextEncoder) -> None:
    """The heads point into the space of one text encoder, and into no other."""
    trained = decoder.facts.get("text_encoder") or {}
    if trained.get("revision", text_encoder.revision) != text_encoder.revision:
        raise RunError(
            f"the encoder was trained on {trained.get('name')} in revision {trained['revision']}, but "
            f"{text_encoder.name} is now in revision {text_encoder.revision}; bring the former back, "
            "or train again"
        )


def _save_embeddings(
    path: Path, embeddings: Mapping[str, Mapping[str, np.ndarray]], fold: Fold
) -> None:
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}
    for side, heads in embeddings.items():
        arrays[f"{side}/trial_id"] = getattr(fold, side).astype(np.int64)
        arrays.update({f"{side}/{head}": np.ascontiguousarray(e) for head, e in heads.items()})
    with atomic_path(path) as partial:
        save_file(arrays, partial)


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


def _decode_key(
    run: Run,
    config: ExperimentConfig,
    study: Study,
    captions: pd.DataFrame,
    fold: Fold,
) -> str:
    """Key of all that decides what is retrieved."""
    return content_key(
        sha256_file(run.encoder_dir / "model.safetensors"),
        sha256_file(run.encoder_dir / "config.json"),
        study.key,
        captions.to_json(),
        [getattr(fold, side).tolist() for side in ("train", "val", "test")],
        [config.decoding.pool, config.decoding.top_k, config.decoding.per_head],
        config.text_encoder,
        config.seed,
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
