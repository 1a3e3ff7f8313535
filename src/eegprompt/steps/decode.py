"""`eegprompt decode`: embeddings, candidate pools, calibration, retrieved captions, prompts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.core.files import content_key, sha256_file
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder
from eegprompt.encoders.saved import typical_std
from eegprompt.generators import load_generator
from eegprompt.retrieval.candidates import Candidates
from eegprompt.retrieval.pool import candidate_pools
from eegprompt.run import Run
from eegprompt.sources import BASE_SOURCES, prompts_of_run
from eegprompt.text_encoders import cached_embeddings, load_text_encoder

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["decode"]


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
    generator = load_generator(settings.generation.generator, **settings.generation.all_options)
    decoder = Decoder.from_pretrained(run)
    captions = usable_captions(run.captions, decoder.heads)
    key = _key(run, captions)
    written = [run.embeddings_path, run.decodings_path, *Candidates.paths(run.encoder_dir)]
    if run.provenance.get("decode", {}).get("key") != key or not all(p.exists() for p in written):
        embeddings = {
            name: decoder.embed_study(study, ids, progress, f"decoding {name} trials")
            for name, ids in (("val", fold.val), ("test", fold.test))
        }
        text_encoder = load_text_encoder(settings.text_encoder)
        decoder.check_text_encoder(text_encoder)
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
    # Beside the encoder stands how its captions become prompts, and what generates images of them.
    Candidates.note(
        run.encoder_dir,
        decoding=settings.decoding.model_dump(mode="json", exclude={"pool"}),
        generator=settings.generation.generator,
        generator_options=settings.generation.all_options,
    )
    prompts_of_run(run, generator, BASE_SOURCES, progress=progress)
    return run


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
