"""The prompt sources: what is drawn beside the decoded prompt, so that an image can be judged.

============================ ===================================================================
prompt source                         what the image is drawn from
============================ ===================================================================
``eeg``                      the captions retrieved from the trial's EEG
``floor``                    captions drawn at random from the same pool, of the same heads
``noise``                    what the whole pipeline makes of noise with the EEG's mean spectrum
``shuffled``                 what it makes of another trial's EEG, of another image
``wrong-class``              the captions of an image of another category, of the same heads
``predicted-class``          the name of the category that the ensemble of heads decides for
``true-class``               the name of the true category
``ceiling``                  the captions of the image that was shown, of the same heads
``reference``                nothing: it is the image that was shown
``reference-vae``            nothing: it is that image through the generator's coding and back
============================ ===================================================================

All prompts have the same budget, style and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.confounds.surrogates import derange
from eegprompt.core.errors import InputError, RunError, UnknownNameError
from eegprompt.core.files import content_key
from eegprompt.core.progress import Progress
from eegprompt.decoder import Decoder, embed_noise
from eegprompt.prompts import HeadCaption, Prompt, head_captions
from eegprompt.retrieval.candidates import Candidates, candidates_in_prompts, composer_of
from eegprompt.retrieval.pool import CandidatePool

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.generators.base import Generator
    from eegprompt.run import Run

__all__ = [
    "BASE_SOURCES",
    "IMAGE_SOURCES",
    "PROMPT_SOURCES",
    "SOURCES",
    "class_names_decided",
    "prompt_table",
    "prompts_of_run",
]


BASE_SOURCES = ("eeg", "floor", "ceiling")
PROMPT_SOURCES = (
    "eeg", "floor", "noise", "shuffled", "wrong-class", "predicted-class", "true-class", "ceiling",
)  # fmt: skip
IMAGE_SOURCES = ("reference", "reference-vae")
SOURCES = (*PROMPT_SOURCES, *IMAGE_SOURCES)

_COLUMNS = ("trial_id", "source", "text", "n_tokens", "heads", "kept", "dropped", "reason")


def check_sources(sources: Sequence[str]) -> list[str]:
    """Prompt sources that exist, each once, in the order of the prompt sources; ``all`` stands for all of them.

    Raises
    ------
    UnknownNameError
        If one does not exist.
    """
    asked = set(sources)
    if "all" in asked:
        asked = (asked - {"all"}) | set(SOURCES)
    for source in sources:
        if source != "all" and source not in SOURCES:
            raise UnknownNameError("prompt source", source, SOURCES)
    return [source for source in SOURCES if source in asked]


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
    """Compose the prompts of a decoded run for a generator.

    Parameters
    ----------
    run : Run
        With ``decodings.parquet``.
    generator : Generator
        Whose tokenizer counts.
    sources : sequence of str, default ("eeg", "floor", "ceiling")
        Of :data:`PROMPT_SOURCES`.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    pandas.DataFrame
        The columns of ``prompts.parquet``, by trial and prompt source; lists as JSON.

    Raises
    ------
    TokenBudgetError
        If not even one caption fits into a prompt.
    InputError
        If the study cannot have a prompt source, e.g. a wrong class where there is one class only.
    """
    import pandas as pd

    maker = _Sources(run, generator, progress)
    by_source = {source: maker.prompts(source) for source in PROMPT_SOURCES if source in sources}
    rows = [
        _row(trial, source, prompts[i])
        for i, trial in enumerate(maker.trials)
        for source, prompts in by_source.items()
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


class _Sources:
    """Makes the prompts of a run, prompt source by prompt source."""

    def __init__(self, run: Run, generator: Generator, progress: Progress | None):
        self.run, self.progress = run, progress
        self.config = run.settings
        self.seed = self.config.seed
        self.study = run.study
        self.fold = run.fold
        self.trials: list[int] = self.fold.test.tolist()
        self.candidates = Candidates.load(run.encoder_dir)
        self.pools = self.candidates.pools
        self.heads = list(self.pools)
        self.per_head = candidates_in_prompts(self.config.decoding.model_dump())
        self.composer = composer_of(self.config.decoding.model_dump(), self.candidates.calibrations)
        self.count = lru_cache(maxsize=100_000)(generator.count_tokens)
        self.max_tokens = generator.max_tokens
        self.images = self.study.trials["image_id"].astype(str).to_numpy()
        self.categories = self.study.trials["category"].astype(str).to_numpy()

    def prompts(self, source: str) -> list[Prompt]:
        """Prompts of one prompt source, in the order of the test trials."""
        if source == "eeg":
            return self.eeg
        make = {
            "floor": self._floor,
            "noise": self._noise,
            "shuffled": self._shuffled,
            "wrong-class": self._wrong_class,
            "predicted-class": self._predicted_class,
            "true-class": self._true_class,
            "ceiling": self._ceiling,
        }[source]
        return make()

    @cached_property
    def eeg(self) -> list[Prompt]:
        """The decoded prompts."""
        said = head_captions(self.run.decodings, self.fold.test, self.per_head)
        prompts = []
        for i, captions in enumerate(said):
            prompts.append(self.composer.prompt(captions, self.count, self.max_tokens))
            if self.progress is not None and (i + 1) % 100 == 0:
                self.progress(i + 1, len(said), "composing prompts")
        return prompts

    # -- other captions through the same heads -------------------------------------------------
    def _floor(self) -> list[Prompt]:
        def drawn(trial: int) -> Callable[[str], list[str]]:
            return lambda head: random_captions(self.pools[head], self.seed, trial, self.per_head)

        return [
            self._reworded(prompt, drawn(trial), turn=True)
            for trial, prompt in zip(self.trials, self.eeg)
        ]

    def _ceiling(self) -> list[Prompt]:
        return [
            self._reworded(prompt, self._captions_of(self.images[trial]))
            for trial, prompt in zip(self.trials, self.eeg)
        ]

    def _wrong_class(self) -> list[Prompt]:
        shown = {self.images[t]: self.categories[t] for t in self.trials}
        every = np.concatenate([self.fold.train, self.fold.val, self.fold.test])
        known = {self.images[t]: self.categories[t] for t in every}
        prompts = []
        for trial, prompt in zip(self.trials, self.eeg):
            own = self.categories[trial]
            others = sorted(i for i, c in shown.items() if c != own)
            others = others or sorted(i for i, c in known.items() if c != own)
            if not others:
                raise InputError(
                    "the prompt source 'wrong-class' needs an image of another category, but all of "
                    f"{self.study.path} are of '{own}'; leave the prompt source out"
                )
            image = others[int(_rng("wrong-class", self.seed, trial).integers(len(others)))]
            new = self._reworded(prompt, self._captions_of(image))
            prompts.append(replace(new, reason=f"captions of image {image}; {new.reason}"))
        return prompts

    @cached_property
    def _texts(self) -> dict[str, dict[str, list[str]]]:
        """Captions by head and image, of the images in the fold."""
        captions = usable_captions(self.study.captions(self.config.captions), self.heads)
        every = np.concatenate([self.fold.test, self.fold.val, self.fold.train])
        _, first = np.unique(self.images[every], return_index=True)
        ids = every[np.sort(first)]
        truth = reference_captions(self.study, captions, self.heads, ids)
        return {head: dict(zip(self.images[ids], truth[head])) for head in self.heads}

    def _captions_of(self, image: str) -> Callable[[str], list[str]]:
        return lambda head: self._texts[head][image]

    def _reworded(
        self, prompt: Prompt, texts: Callable[[str], list[str]], *, turn: bool = False
    ) -> Prompt:
        """The same heads with other texts: a head's first caption becomes its first text, and so on.

        A head with fewer texts than captions keeps its place with those it has (`turn`: takes them
        again), and in a blend its whole weight.
        """
        places: dict[str, list[int]] = {}
        for i, caption in enumerate(prompt.kept):
            places.setdefault(caption.head, []).append(i)
        said: dict[int, HeadCaption] = {}
        weights: dict[int, float] = {}
        for head, mine in places.items():
            own = texts(head)
            used = mine if turn else mine[: len(own)]
            for seat, i in enumerate(used):
                said[i] = replace(prompt.kept[i], text=own[seat % len(own)])
            if prompt.weights:
                whole = sum(prompt.weights[i] for i in mine)
                for i in used:
                    weights[i] = prompt.weights[i] if turn else whole / len(used)
        order = sorted(said)
        return self.composer.reworded(
            [said[i] for i in order],
            [weights[i] for i in order if i in weights],
            self.count,
            self.max_tokens,
        )

    # -- other EEG through the whole pipeline --------------------------------------------------
    def _shuffled(self) -> list[Prompt]:
        if len(self.trials) < 2:
            raise InputError(
                "the prompt source 'shuffled' needs two test trials; leave the prompt source out"
            )
        known = self.study.image_identity == "known"
        groups = self.images[self.fold.test] if known else np.array(self.trials).astype(str)
        subjects = self.study.trials["subject"].astype(str).to_numpy()[self.fold.test]
        prompts = []
        for place in derange(groups.tolist(), self.seed, strata=subjects.tolist()).tolist():
            prompt, donor = self.eeg[place], self.trials[place]
            prompts.append(replace(prompt, reason=f"EEG of trial {donor}; {prompt.reason}"))
        return prompts

    def _noise(self) -> list[Prompt]:
        decoder = Decoder.from_pretrained(self.run)
        embeddings = embed_noise(
            decoder, self.study, self.fold.test, self.trials, self.seed, self.progress
        )
        table = self.candidates.retrieve(embeddings, self.fold.test, self.per_head)
        return [
            self.composer.prompt(captions, self.count, self.max_tokens)
            for captions in head_captions(table, self.fold.test, self.per_head)
        ]

    # -- a name only ---------------------------------------------------------------------------
    def _true_class(self) -> list[Prompt]:
        return [self._named(self.categories[trial], 1.0, "its name") for trial in self.trials]

    def _predicted_class(self) -> list[Prompt]:
        decided = class_names_decided(self.run)
        return [
            self._named(*decided[trial], "decided by the ensemble of heads")
            for trial in self.trials
        ]

    def _named(self, category: str, probability: float, how: str) -> Prompt:
        name = " ".join(category.replace("_", " ").split())
        weights = [1.0] if self.composer.route == "embeddings" else []
        said = [HeadCaption("category", name, probability)]
        prompt = self.composer.reworded(said, weights, self.count, self.max_tokens)
        return replace(prompt, reason=f"category '{category}', {how}; {prompt.reason}")


def class_names_decided(run: Run) -> dict[int, tuple[str, float]]:
    """The category that the ensemble of heads decides for, and its probability, by test trial.

    Each head gives class probabilities (softmax of its cosine with the mean training caption of
    each class, temperature fitted on validation); the ensemble takes their mean.

    Parameters
    ----------
    run : Run
        Decoded.

    Returns
    -------
    dict of int to (str, float)

    Raises
    ------
    InputError
        If the training trials have fewer than two classes.
    """
    from eegprompt.metrics.caption_retrieval import cosine_similarity
    from eegprompt.metrics.classification import (
        class_probabilities,
        class_prototypes,
        ensemble_probabilities,
        fit_temperature,
    )
    from eegprompt.text_encoders import cached_embeddings, load_text_encoder

    config = run.settings
    study = run.study
    fold = run.fold
    images = study.trials["image_id"].astype(str).to_numpy()
    categories = study.trials["category"].astype(str).to_numpy()
    names = sorted(set(categories[fold.train]))
    if len(names) < 2:
        raise InputError(
            "the prompt source 'predicted-class' needs two categories in training, but there is only "
            f"'{names[0]}'; leave the prompt source out"
        )
    if not run.embeddings_path.exists():
        raise RunError(f"{run.embeddings_path} is missing; run 'eegprompt decode {run.path}'")
    stored = run.embeddings
    index = {name: i for i, name in enumerate(names)}
    of_image = dict(zip(images[fold.train], categories[fold.train]))
    encoder = load_text_encoder(config.text_encoder)
    captions = study.captions(config.captions)
    captions = captions.assign(image_id=captions["image_id"].astype(str))
    if not np.isin(stored["val/trial_id"], fold.val).all():
        raise RunError(
            f"{run.embeddings_path} is of other validation trials than fold {config.fold} of split "
            f"'{config.split}'; run 'eegprompt decode {run.path}' again"
        )
    validation = categories[stored["val/trial_id"]]
    usable = np.isin(validation, names)
    target = np.array([index[c] for c in validation[usable]], dtype=int)
    parts = []
    for head in config.kinds:
        rows = usable_captions(captions, [head])
        rows = rows[rows["image_id"].isin(of_image)]
        classes = np.array([index[of_image[i]] for i in rows["image_id"]], dtype=int)
        if len(set(classes.tolist())) < len(names):
            continue  # a class without a caption of this kind cannot be decided for by this head
        texts = rows["text"].astype(str).tolist()
        vectors = cached_embeddings(encoder, texts, study.path / "cache")
        prototypes = class_prototypes(vectors, classes, len(names))
        on_val = cosine_similarity(stored[f"val/{head}"][usable], prototypes)
        temperature = fit_temperature(on_val, target)
        on_test = cosine_similarity(stored[f"test/{head}"], prototypes)
        parts.append(class_probabilities(on_test, temperature))
    if not parts:
        raise InputError(
            "the prompt source 'predicted-class' needs captions of each category in training; leave it out"
        )
    probability = ensemble_probabilities(np.stack(parts))
    best = probability.argmax(axis=1)
    return {
        int(trial): (names[place], float(row[place]))
        for trial, row, place in zip(stored["test/trial_id"], probability, best)
    }


def _rng(*parts: Any) -> np.random.Generator:
    return np.random.default_rng(int(content_key(*parts), 16))


def random_captions(pool: CandidatePool, seed: int, trial: int, n: int) -> list[str]:
    """Captions drawn without replacement, by seed, trial and kind alone."""
    rng = _rng("floor", int(seed), int(trial), pool.kind)
    chosen = rng.choice(len(pool), size=min(n, len(pool)), replace=False)
    return [pool.texts[i] for i in chosen]


# Prompt sources whose captions come from EEG or noise through the heads: their confidences mean something.
_DECODED = ("eeg", "noise", "shuffled")


def _row(trial: int, source: str, prompt: Prompt) -> dict[str, Any]:
    def plain(caption: HeadCaption, **more: Any) -> dict[str, Any]:
        # On other prompt sources the confidence only says which caption would have gone first.
        confidence: Mapping[str, Any] = {} if source in _DECODED else {"confidence": None}
        return {**caption.to_dict(), **confidence, **more}

    kept = [plain(caption) for caption in prompt.kept]
    for entry, why in zip(kept, prompt.why):
        entry["reason"] = why
    for entry, weight in zip(kept, prompt.weights):
        entry["weight"] = weight
    return {
        "trial_id": trial,
        "source": source,
        "text": prompt.text,
        "n_tokens": prompt.n_tokens,
        "heads": json.dumps(list(prompt.heads)),
        "kept": json.dumps(kept, ensure_ascii=False),
        "dropped": json.dumps(
            [plain(c, reason=why) for c, why in zip(prompt.dropped, prompt.reasons)],
            ensure_ascii=False,
        ),
        "reason": prompt.reason,
    }
