"""The prompt sources: what an image is generated from beside the decoded prompt, to judge it by.

:data:`ENTRIES` lists them. Each is a function from a run's decoded test trials to one prompt for
each trial; all prompts have the same budget, style and seeds. A source of one's own is such an
entry, added with :func:`add_source` or named ``module:object``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions.usable import reference_captions, usable_captions
from eegprompt.confounds.surrogates import derange
from eegprompt.core.errors import InputError, RunError
from eegprompt.core.files import content_key
from eegprompt.core.progress import Progress
from eegprompt.core.registry import own_object
from eegprompt.prompts import Composer, HeadCaption, Prompt, head_captions
from eegprompt.retrieval.candidates import Candidates
from eegprompt.retrieval.pool import CandidatePool

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study import Study
    from eegprompt.study.split import Fold

__all__ = [
    "BASE_SOURCES",
    "ENTRIES",
    "IMAGE_SOURCES",
    "PROMPT_SOURCES",
    "SOURCES",
    "DecodedTrials",
    "Source",
    "add_source",
    "check_sources",
    "class_names_decided",
    "compose_prompts",
    "random_captions",
]

COLUMNS = ("trial_id", "source", "text", "n_tokens", "heads", "kept", "dropped", "reason")


@dataclass(frozen=True)
class DecodedTrials:
    """A run's decoded test trials, and how their captions become prompts.

    Parameters
    ----------
    study, fold
        What was recorded, and which trials train, validate and test.
    captions : pandas.DataFrame
        The caption set that was trained on.
    kinds : tuple of str
        The heads.
    decodings : pandas.DataFrame
        What was retrieved for the test trials.
    candidates : Candidates
        What was retrieved from.
    embeddings : callable
        Gives the head embeddings of validation and test trials, as a run stores them.
    embed_noise : callable
        Gives what the heads make of noise in place of each test trial's EEG.
    embed_texts : callable
        From texts to unit rows, by the run's text encoder.
    composer, count_tokens, max_tokens
        How captions become prompts, and the generator's budget.
    per_head : int
        Captions of each head in a prompt.
    seed : int
        The run's.
    progress : callable, optional
        Called with (done, total, label).
    """

    study: Study
    fold: Fold
    captions: pd.DataFrame
    kinds: tuple[str, ...]
    decodings: pd.DataFrame
    candidates: Candidates
    embeddings: Callable[[], Mapping[str, np.ndarray]]
    embed_noise: Callable[[], Mapping[str, np.ndarray]]
    embed_texts: Callable[[Sequence[str]], np.ndarray]
    composer: Composer
    count_tokens: Callable[[str], int]
    max_tokens: int | None
    per_head: int
    seed: int
    progress: Progress | None = None

    @cached_property
    def trials(self) -> list[int]:
        """Ids of the test trials, in the order of prompts."""
        ids: list[int] = self.fold.test.tolist()
        return ids

    def column(self, name: str) -> np.ndarray:
        """A column of the study's trials as text, e.g. ``image_id`` or ``category``."""
        return self.study.trials[name].astype(str).to_numpy()

    @cached_property
    def images(self) -> np.ndarray:
        """Image of each trial of the study."""
        return self.column("image_id")

    @cached_property
    def categories(self) -> np.ndarray:
        """Category of each trial of the study."""
        return self.column("category")

    @cached_property
    def eeg(self) -> list[Prompt]:
        """The decoded prompts."""
        said = head_captions(self.decodings, self.fold.test, self.per_head)
        prompts = []
        for i, captions in enumerate(said):
            prompts.append(self.prompt(captions))
            if self.progress is not None and (i + 1) % 100 == 0:
                self.progress(i + 1, len(said), "composing prompts")
        return prompts

    def prompt(self, captions: Sequence[HeadCaption]) -> Prompt:
        """A prompt of one trial's captions, as the run's settings compose it."""
        return self.composer.prompt(captions, self.count_tokens, self.max_tokens)

    @cached_property
    def _texts(self) -> dict[str, dict[str, list[str]]]:
        """Captions by head and image, of the images in the fold."""
        heads = list(self.candidates.pools)
        captions = usable_captions(self.captions, heads)
        every = np.concatenate([self.fold.test, self.fold.val, self.fold.train])
        _, first = np.unique(self.images[every], return_index=True)
        ids = every[np.sort(first)]
        truth = reference_captions(self.study, captions, heads, ids)
        return {head: dict(zip(self.images[ids], truth[head])) for head in heads}

    def captions_of(self, image: str) -> Callable[[str], list[str]]:
        """The true captions of an image, by head."""
        return lambda head: self._texts[head][image]

    def reworded(
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
            self.count_tokens,
            self.max_tokens,
        )

    def named(self, category: str, probability: float, how: str) -> Prompt:
        """A prompt of a category's name alone."""
        name = " ".join(category.replace("_", " ").split())
        weights = [1.0] if self.composer.route == "embeddings" else []
        said = [HeadCaption("category", name, probability)]
        prompt = self.composer.reworded(said, weights, self.count_tokens, self.max_tokens)
        return replace(prompt, reason=f"category '{category}', {how}; {prompt.reason}")


# -- one function for each source ----------------------------------------------------------------
def _floor(known: DecodedTrials) -> list[Prompt]:
    pools = known.candidates.pools

    def drawn(trial: int) -> Callable[[str], list[str]]:
        return lambda head: random_captions(pools[head], known.seed, trial, known.per_head)

    return [
        known.reworded(prompt, drawn(trial), turn=True)
        for trial, prompt in zip(known.trials, known.eeg)
    ]


def _ceiling(known: DecodedTrials) -> list[Prompt]:
    return [
        known.reworded(prompt, known.captions_of(known.images[trial]))
        for trial, prompt in zip(known.trials, known.eeg)
    ]


def _wrong_class(known: DecodedTrials) -> list[Prompt]:
    fold = known.fold
    shown = {known.images[t]: known.categories[t] for t in known.trials}
    every = np.concatenate([fold.train, fold.val, fold.test])
    in_fold = {known.images[t]: known.categories[t] for t in every}
    prompts = []
    for trial, prompt in zip(known.trials, known.eeg):
        own = known.categories[trial]
        others = sorted(i for i, c in shown.items() if c != own)
        others = others or sorted(i for i, c in in_fold.items() if c != own)
        if not others:
            raise InputError(
                "the prompt source 'wrong-class' needs an image of another category, but all of "
                f"{known.study.path} are of '{own}'; leave the prompt source out"
            )
        image = others[int(_rng("wrong-class", known.seed, trial).integers(len(others)))]
        new = known.reworded(prompt, known.captions_of(image))
        prompts.append(replace(new, reason=f"captions of image {image}; {new.reason}"))
    return prompts


def _shuffled(known: DecodedTrials) -> list[Prompt]:
    if len(known.trials) < 2:
        raise InputError(
            "the prompt source 'shuffled' needs two test trials; leave the prompt source out"
        )
    identified = known.study.image_identity == "known"
    groups = known.images[known.fold.test] if identified else np.array(known.trials).astype(str)
    subjects = known.column("subject")[known.fold.test]
    prompts = []
    for place in derange(groups.tolist(), known.seed, strata=subjects.tolist()).tolist():
        prompt, donor = known.eeg[place], known.trials[place]
        prompts.append(replace(prompt, reason=f"EEG of trial {donor}; {prompt.reason}"))
    return prompts


def _noise(known: DecodedTrials) -> list[Prompt]:
    test = known.fold.test
    table = known.candidates.retrieve(known.embed_noise(), test, known.per_head)
    return [known.prompt(captions) for captions in head_captions(table, test, known.per_head)]


def _true_class(known: DecodedTrials) -> list[Prompt]:
    return [known.named(known.categories[trial], 1.0, "its name") for trial in known.trials]


def _predicted_class(known: DecodedTrials) -> list[Prompt]:
    decided = class_names_decided(known)
    return [
        known.named(*decided[trial], "decided by the ensemble of heads") for trial in known.trials
    ]


@dataclass(frozen=True)
class Source:
    """One prompt source.

    Parameters
    ----------
    name : str
        What a user types.
    says : str
        What its images are generated from.
    prompts : callable, optional
        From :class:`DecodedTrials` to one prompt for each test trial; None where images are shown.
    decoded : bool, default False
        Whether its captions come through the heads: then their confidences mean something.
    """

    name: str
    says: str
    prompts: Callable[[DecodedTrials], Sequence[Prompt]] | None = None
    decoded: bool = False


ENTRIES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("eeg", "the captions retrieved from the trial's EEG", lambda known: known.eeg, True),
        Source("floor", "random captions of the same pool and heads", _floor),
        Source("noise", "what the pipeline makes of noise of the EEG's spectrum", _noise, True),
        Source("shuffled", "another trial's EEG, of another image", _shuffled, True),
        Source("wrong-class", "the captions of an image of another category", _wrong_class),
        Source("predicted-class", "the category that the ensemble decides for", _predicted_class),
        Source("true-class", "the name of the true category", _true_class),
        Source("ceiling", "the captions of the image that was shown", _ceiling),
        Source("reference", "nothing: it is the image that was shown"),
        Source("reference-vae", "nothing: that image through the generator's coding and back"),
    )
}
BASE_SOURCES = ("eeg", "floor", "ceiling")
SOURCES = list(ENTRIES)
"""Names of all sources, in the order in which they are shown."""
PROMPT_SOURCES = [name for name, source in ENTRIES.items() if source.prompts is not None]
"""Names of those that have prompts."""
IMAGE_SOURCES = tuple(name for name, source in ENTRIES.items() if source.prompts is None)
"""Names of those that show an image."""


def add_source(source: Source) -> None:
    """Add a prompt source of one's own.

    Parameters
    ----------
    source : Source
        With prompts.

    Raises
    ------
    InputError
        If it has no prompts, or another source has its name.
    """
    if not isinstance(source, Source) or source.prompts is None:
        raise InputError(f"a prompt source is a Source with prompts, got {source!r:.80}")
    if ENTRIES.get(source.name, source) != source:
        raise InputError(f"there is a prompt source '{source.name}' already; choose another name")
    if source.name not in ENTRIES:
        SOURCES.insert(len(PROMPT_SOURCES), source.name)
        PROMPT_SOURCES.append(source.name)
        ENTRIES[source.name] = source


def check_sources(sources: Sequence[str]) -> list[str]:
    """Names of prompt sources, each once, in their order.

    Parameters
    ----------
    sources : sequence of str
        Names; ``all`` for all of them; ``module:object`` for a :class:`Source` of one's own.

    Raises
    ------
    UnknownNameError
        If one does not exist.
    """
    asked: set[str] = set()
    for name in sources:
        if name == "all":
            asked.update(SOURCES)
        elif name in SOURCES:
            asked.add(name)
        else:
            own = own_object("prompt source", name, SOURCES)
            add_source(own)
            asked.add(own.name)
    return [name for name in SOURCES if name in asked]


def compose_prompts(known: DecodedTrials, sources: Sequence[str] = BASE_SOURCES) -> pd.DataFrame:
    """Prompts of some sources for decoded trials.

    Parameters
    ----------
    known : DecodedTrials
        What was decoded.
    sources : sequence of str, default ("eeg", "floor", "ceiling")
        Of :data:`PROMPT_SOURCES`.

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

    made: dict[str, Sequence[Prompt]] = {}
    for name in PROMPT_SOURCES:
        make = ENTRIES[name].prompts
        if name in sources and make is not None:
            made[name] = make(known)
            if len(made[name]) != len(known.trials):
                raise InputError(
                    f"the prompt source '{name}' gave {len(made[name])} prompts for "
                    f"{len(known.trials)} trials; it must give one for each"
                )
    rows = [
        _row(trial, source, prompts[i])
        for i, trial in enumerate(known.trials)
        for source, prompts in made.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def class_names_decided(known: DecodedTrials) -> dict[int, tuple[str, float]]:
    """The category that the ensemble of heads decides for, and its probability, by test trial.

    Each head gives class probabilities (softmax of its cosine with the mean training caption of
    each class, temperature fitted on validation); the ensemble takes their mean.

    Parameters
    ----------
    known : DecodedTrials
        What was decoded.

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

    fold, images, categories = known.fold, known.images, known.categories
    names = sorted(set(categories[fold.train]))
    if len(names) < 2:
        raise InputError(
            "the prompt source 'predicted-class' needs two categories in training, but there is only "
            f"'{names[0]}'; leave the prompt source out"
        )
    stored = known.embeddings()
    index = {name: i for i, name in enumerate(names)}
    of_image = dict(zip(images[fold.train], categories[fold.train]))
    captions = known.captions.assign(image_id=known.captions["image_id"].astype(str))
    if not np.isin(stored["val/trial_id"], fold.val).all():
        raise RunError(
            "the run's embeddings are of other validation trials than its fold; run 'eegprompt "
            "decode RUN' again"
        )
    validation = categories[stored["val/trial_id"]]
    usable = np.isin(validation, names)
    target = np.array([index[c] for c in validation[usable]], dtype=int)
    parts = []
    for head in known.kinds:
        rows = usable_captions(captions, [head])
        rows = rows[rows["image_id"].isin(of_image)]
        classes = np.array([index[of_image[i]] for i in rows["image_id"]], dtype=int)
        if len(set(classes.tolist())) < len(names):
            continue  # a class without a caption of this kind cannot be decided for by this head
        texts = rows["text"].astype(str).tolist()
        prototypes = class_prototypes(known.embed_texts(texts), classes, len(names))
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


def _row(trial: int, source: str, prompt: Prompt) -> dict[str, Any]:
    def plain(caption: HeadCaption, **more: Any) -> dict[str, Any]:
        # On other prompt sources the confidence only says which caption would have gone first.
        confidence: Mapping[str, Any] = {} if ENTRIES[source].decoded else {"confidence": None}
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
