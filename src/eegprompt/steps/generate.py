"""Draw a run's prompts, prompt source by prompt source; only what is missing is drawn.

Every image carries its prompt, model, revision, seed, trial and prompt source in its PNG text chunks. By
them an image is known to be the one that is wanted: one drawn from an older prompt, or cut off by
a crash, is drawn again, and an interruption loses nothing that was finished.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.captions.usable import usable_captions
from eegprompt.core.errors import InputError, MissingDependencyError, ModelLoadError, RunError
from eegprompt.core.files import content_key, provenance, write_bytes, write_json
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.decoder import image_seed
from eegprompt.generators import load_generator
from eegprompt.generators.base import Generator
from eegprompt.generators.generated_files import image_facts, look_of, pixels, png
from eegprompt.generators.requests import ImageRequest, check_generator, request_images
from eegprompt.prompts.prompt import clean, styled
from eegprompt.run import Run, slug
from eegprompt.scores.choice import select_trials
from eegprompt.settings import ExperimentConfig
from eegprompt.sources import (
    IMAGE_SOURCES,
    PROMPT_SOURCES,
    SOURCES,
    check_sources,
)
from eegprompt.steps.decode import prompt_table, prompts_of_run
from eegprompt.text_encoders import cached_embeddings, load_text_encoder

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.study.split import Fold

__all__ = ["generate", "prompts_for"]


@dataclass(frozen=True)
class _Task:
    """One image that is wanted."""

    path: Path
    source: str
    trial: int
    sample: int
    request: ImageRequest


@writes("run")
def generate(
    run: Run | str | Path,
    *,
    sources: Sequence[str] | None = None,
    generator: str | Generator | None = None,
    samples: int | None = None,
    trials_per_image: int | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Draw the images of a decoded run that are missing.

    The seed of an image depends on the run's seed, the trial and the sample, and is the same on
    all prompt sources. Images of equal prompt and seed are drawn once.

    Parameters
    ----------
    run : Run or path-like
        With ``prompts.parquet``.
    sources : sequence of str, optional
        Of :data:`eegprompt.sources.SOURCES`, or ``all``; left out: the run's. Prompts of a prompt source that
        the run has none of are composed first.
    generator : str or Generator, optional
        What draws; left out: the run's. Where another one reads fewer tokens than the prompts
        have, they are composed again for it and kept beside its images.
    samples : int, optional
        Images a trial; left out: as in the run.
    trials_per_image : int, optional
        Test trials drawn of each image; left out: as in the run.
    options : dict, optional
        For the generator, where it is given by its name or is the run's; these go before the run's.
    progress : callable, optional
        Called with (done, total, label); what was there already counts as done.

    Returns
    -------
    Run
        What was asked for stands in ``generation.json``, by generator.

    Raises
    ------
    RunError
        If the run was not decoded.
    UnknownNameError
        If a prompt source or the generator does not exist.
    InputError
        If the generator cannot draw from what the prompts are made of, or the study cannot have a
        prompt source.
    StorageError
        If the disk is full; what was drawn is kept.
    """
    run = Run(run)
    config = run.settings
    wanted_sources = check_sources(sources if sources is not None else config.generation.sources)
    n_samples = config.generation.samples if samples is None else samples
    per_image = config.generation.trials_per_image if trials_per_image is None else trials_per_image
    if n_samples < 1 or (per_image is not None and per_image < 1):
        raise InputError(
            f"samples and trials_per_image must be at least 1, got {n_samples} and {per_image}"
        )
    study = run.study
    fold: Fold = run.fold
    loaded, folder = _load(generator, config, options or {})
    skipped = []
    if "reference-vae" in wanted_sources and not loaded.has_autoencoder:
        why = f"it shows an image through a pipeline's own coding, and {loaded.name} has none"
        if sources is None or "all" not in sources:
            raise InputError(
                f"the prompt source 'reference-vae' cannot be had: {why}; leave the prompt source out"
            )
        wanted_sources.remove("reference-vae")
        skipped.append(f"the prompt source 'reference-vae' is left out: {why}")
    spoken = [source for source in wanted_sources if source in PROMPT_SOURCES]
    prompts = prompts_for(run, loaded, folder, spoken, progress=progress)
    trials = select_trials(study.trials["image_id"].tolist(), fold.test, per_image, config.seed)
    context = _Context(run, config) if loaded.wants_images else None
    tasks = _tasks(run, folder, prompts, spoken, trials, n_samples, config, context)
    negative = config.generation.negative_prompt
    check_generator(loaded, [task.request for task in tasks], negative)

    settings = loaded.settings
    if negative:
        settings = {**settings, "negative_prompt": negative}
    look = content_key({k: v for k, v in settings.items() if k not in _NOT_LOOK})
    record = {
        "name": loaded.name,
        "revision": loaded.revision,
        "settings": settings,
        "look": look,
        "seed": config.seed,
        "samples": n_samples,
        "trials_per_image": per_image,
        "trial_ids": trials.tolist(),
    }
    _note(run, folder, wanted_sources, record, complete=False)
    _remove_outdated(run, folder, prompts, spoken)
    _draw_missing(tasks, loaded, look, negative, config.generation.batch_size, progress)
    for source in wanted_sources:
        if source in IMAGE_SOURCES:
            _show_references(run, loaded, folder, source, trials, look, progress)
    _note(run, folder, wanted_sources, record, complete=True)
    notes = [*skipped, *loaded.notes]  # e.g. that it needed more memory than there is
    others = [r for r in SOURCES if r not in wanted_sources and _differs(run, folder, r, look)]
    if others:
        notes.append(
            f"the images of {', '.join(others)} were drawn with other settings than those drawn now "
            f"and are not compared with them; 'eegprompt generate {run.path} --sources {','.join(others)}"
            f"{'' if folder == config.generation.generator else f' --generator {folder}'}' draws them anew"
        )
    for said in notes:
        warnings.warn(said, stacklevel=2)
    run.record(
        "generate", generator=settings, sources=wanted_sources, seed=config.seed, notes=notes
    )
    return run


# Settings that do not decide what an image shows: another machine may go on with a run.
_NOT_LOOK = ("device", "batch_size", "running")


def _load(
    generator: str | Generator | None, config: ExperimentConfig, options: Mapping[str, Any]
) -> tuple[Generator, str]:
    """The generator, and the name its images stand under."""
    if generator is None or generator == config.generation.generator:
        spec = config.generation.generator
        return load_generator(spec, **{**config.generation.options, **options}), spec
    if isinstance(generator, str):
        return load_generator(generator, **options), generator
    if not isinstance(generator, Generator):
        raise InputError(
            f"a generator derives from eegprompt.generators.base.Generator, got {type(generator).__name__}"
        )
    if options:
        raise InputError(
            f"{generator.name} is made already, so options ({', '.join(options)}) come too late; "
            "give them when it is loaded"
        )
    return generator, generator.name


def prompts_for(
    run: Run,
    generator: Generator,
    folder: str | None = None,
    sources: Sequence[str] = (),
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The run's prompts, if the generator reads them all to the end; else composed anew for it.

    Parameters
    ----------
    run : Run
        Decoded.
    generator : Generator
        What is to draw.
    folder : str, optional
        Name its images stand under; left out: its own.
    sources : sequence of str
        Prompt sources that are needed; what the run has no prompts of is composed.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    pandas.DataFrame
        As ``prompts.parquet``. Prompts composed anew are kept as ``prompts.parquet`` in the
        generator's folder of images.
    """
    config = run.settings
    _ = run.prompts  # said in the usual words if there are none
    named = folder == config.generation.generator
    own = generator if named else _own_generator(config, generator)
    prompts = prompts_of_run(run, own, sources, progress=progress)
    place = run.path / "images" / slug(folder or generator.name)
    limit = generator.max_tokens
    if named or limit is None or _longest(prompts, generator, config) <= limit:
        (place / "prompts.parquet").unlink(missing_ok=True)
        return prompts
    composed = [source for source in PROMPT_SOURCES if source in set(prompts["source"])]
    prompts = prompt_table(run, generator, composed, progress=progress)
    run.write_table(place / "prompts.parquet", prompts)
    return prompts


def _own_generator(config: ExperimentConfig, other: Generator) -> Generator:
    """The run's own generator, whose budget its prompts keep; `other` where it cannot be had."""
    try:
        return load_generator(config.generation.generator, **config.generation.options)
    except (ModelLoadError, MissingDependencyError):
        return other


def _longest(prompts: pd.DataFrame, generator: Generator, config: ExperimentConfig) -> int:
    """Tokens of the longest text that the generator would read."""
    texts: set[str] = set()
    for text, kept in {*zip(prompts["text"], prompts["kept"])}:
        parts = _parts(kept, config.decoding.style)
        texts |= {part for part, _ in parts} if parts else {text}
    return max(map(generator.count_tokens, texts))


def _parts(kept: str, style: str) -> tuple[tuple[str, float], ...]:
    """Texts and weights of a blend, from its row in ``prompts.parquet``; empty for a text."""
    entries = json.loads(kept)
    if not all("weight" in entry for entry in entries):
        return ()
    return tuple((styled(clean(entry["text"]), style), float(entry["weight"])) for entry in entries)


def _remove_outdated(run: Run, folder: str, prompts: pd.DataFrame, sources: Sequence[str]) -> None:
    """Remove images of prompts that the run no longer has: scores would take them for its own."""
    current = {
        (str(trial), source): text
        for trial, source, text in zip(prompts["trial_id"], prompts["source"], prompts["text"])
    }
    for source in sources:
        for path in run.images_dir(folder, source).glob("*.png"):
            facts = image_facts(path)
            if facts is None or facts.get("software") != "eegprompt":
                continue  # half-written ones are drawn again; others are not ours to remove
            if current.get((facts.get("trial_id", ""), source)) != facts.get("prompt"):
                path.unlink(missing_ok=True)


def _tasks(
    run: Run,
    folder: str,
    prompts: pd.DataFrame,
    sources: Sequence[str],
    trials: np.ndarray,
    samples: int,
    config: ExperimentConfig,
    context: _Context | None,
) -> list[_Task]:
    """All images that are wanted, trial by trial, so that a part of them is a fair part."""
    rows = {
        (int(trial), source): (text, kept)
        for trial, source, text, kept in zip(
            prompts["trial_id"], prompts["source"], prompts["text"], prompts["kept"]
        )
    }
    tasks = []
    for trial in trials.tolist():
        for source in sources:
            if (trial, source) not in rows:
                raise RunError(
                    f"trial {trial} has no prompt on prompt source '{source}'; run 'eegprompt decode RUN' again"
                )
            text, kept = rows[trial, source]
            # What shows an image instead of drawing needs no embeddings.
            parts = _parts(kept, config.decoding.style) if context is None else ()
            image = context.image_path(kept) if context is not None else ""
            tasks += [
                _Task(
                    run.image_path(folder, source, trial, sample),
                    source,
                    trial,
                    sample,
                    ImageRequest(text, image_seed(config.seed, trial, sample), parts, image),
                )
                for sample in range(samples)
            ]
    return tasks


class _Context:
    """What a generator may want to know beside the prompt: the training image that stands for it."""

    def __init__(self, run: Run, config: ExperimentConfig):
        self.study = run.study
        self.config = config
        train = self.study.trials.iloc[run.fold.train]
        self.category = dict(zip(train["image_id"].astype(str), train["category"].astype(str)))
        self.images = sorted(self.category)

    def image_path(self, kept: str) -> str:
        """The training image that stands for a prompt.

        It is the one whose caption of the same kind is nearest to the prompt's most trusted caption
        (the first one where none is trusted); of several, the one whose other captions are nearest
        to the prompt's others; of several still, one chosen by the prompt's words. For a category's
        name it is one of the category's images, chosen by the name.
        """
        said = json.loads(kept)
        if said[0]["head"] == "category":
            names = {i: " ".join(c.replace("_", " ").split()) for i, c in self.category.items()}
            best = [i for i in self.images if names[i] == said[0]["text"]] or self.images
        else:
            # A stable sort: where all confidences are unknown the first caption leads.
            ranked = sorted(
                said, key=lambda c: -(c.get("weight") or 0) * 10 - (c["confidence"] or 0)
            )
            first = self._nearness(ranked[0]["head"], ranked[0]["text"])
            best = [i for i, value in first.items() if value >= max(first.values()) - 1e-6]
            if len(best) > 1 and len(ranked) > 1:
                others = [self._nearness(c["head"], c["text"]) for c in ranked[1:]]
                total = {i: sum(near.get(i, 0.0) for near in others) for i in best}
                best = [i for i in best if total[i] >= max(total.values()) - 1e-6]
        chosen = min(best, key=lambda i: content_key("stands for", kept, i))
        return str(self.study.image_path(chosen))

    @cached_property
    def _vectors(self) -> dict[str, tuple[list[str], np.ndarray]]:
        """By kind: image of each training caption, and the captions' embeddings."""
        table = usable_captions(self.study.captions(self.config.captions), self.config.kinds)
        table = table.assign(image_id=table["image_id"].astype(str))
        table = table[table["image_id"].isin(self.category)]
        return {
            str(kind): (rows["image_id"].tolist(), self._embed(rows["text"].astype(str).tolist()))
            for kind, rows in table.groupby("kind")
        }

    @cached_property
    def _text_encoder(self) -> Any:
        return load_text_encoder(self.config.text_encoder)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        return cached_embeddings(self._text_encoder, list(texts), self.study.path / "cache")

    def _nearness(self, head: str, text: str) -> dict[str, float]:
        """Cosine of each training image's nearest caption of a kind with a caption."""
        key = (head, text)
        if key not in self._known:
            images, vectors = self._vectors[head]
            near: dict[str, float] = {}
            for image, value in zip(images, (vectors @ self._embed([text])[0]).tolist()):
                near[image] = max(value, near.get(image, -1.0))
            self._known[key] = near
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[str, str], dict[str, float]]:
        return {}


def _draw_missing(
    tasks: list[_Task],
    generator: Generator,
    look: str,
    negative_prompt: str,
    batch_size: int,
    progress: Progress | None,
) -> None:
    label = f"drawing with {generator.name}"
    settings = generator.settings
    how = {k: str(settings[k]) for k in ("steps", "guidance") if settings.get(k) is not None}

    def facts(task: _Task) -> dict[str, str]:
        image = task.request.image_path
        return {
            "prompt": task.request.prompt,
            **({"negative_prompt": negative_prompt} if negative_prompt else {}),
            **({"image": Path(image).name} if image else {}),
            "model": generator.name,
            "revision": generator.revision,
            **how,
            "look": look,
            "seed": str(task.request.seed),
            "trial_id": str(task.trial),
            "sample": str(task.sample),
            "source": task.source,
            "software": "eegprompt",
        }

    missing: dict[ImageRequest, list[_Task]] = {}
    there: dict[ImageRequest, Path] = {}
    for task in tasks:
        stored = image_facts(task.path)
        if stored is not None and {**stored, "blanked": ""} == {**facts(task), "blanked": ""}:
            there[task.request] = task.path
        else:
            missing.setdefault(task.request, []).append(task)
    done = len(tasks) - sum(map(len, missing.values()))
    blanked = 0
    if progress is not None:
        progress(done, len(tasks), label)

    def write(group: list[_Task], one_image: np.ndarray, blank: bool) -> None:
        nonlocal done, blanked
        blanked += len(group) if blank else 0
        mark = {"blanked": "by the safety checker"} if blank else {}
        for task in group:
            write_bytes(task.path, png(one_image, {**facts(task), **mark}))
            done += 1

    groups = []
    for identity, group in missing.items():
        if identity in there:
            known = image_facts(there[identity]) or {}
            write(group, pixels(there[identity]), bool(known.get("blanked")))
        else:
            groups.append(group)
    while groups:
        # What a generator draws in one go is finished together: asking for more would lose finished
        # images to an interruption. It draws fewer where memory does not suffice.
        count = generator.batch_size or batch_size
        part, groups = groups[:count], groups[count:]
        asked = [group[0].request for group in part]
        for group, one_image, blank in zip(
            part, *request_images(generator, asked, negative_prompt)
        ):
            write(group, one_image, blank)
        if progress is not None:
            progress(done, len(tasks), label)
    if blanked:
        warnings.warn(
            f"{label}: {blanked} of {len(tasks)} images were withheld by a filter and are blank; "
            "they are kept, marked, and never scored",
            stacklevel=2,
        )


def _show_references(
    run: Run,
    generator: Generator,
    folder: str,
    source: str,
    trials: np.ndarray,
    look: str,
    progress: Progress | None,
) -> None:
    """Put the images that were shown beside what was drawn, squashed to its size, one a trial."""
    study = run.study
    images = study.trials["image_id"].astype(str).to_numpy()
    checksum = study.images.set_index("image_id").get("sha256")
    size = _image_size(run, generator, folder)
    label = "showing references"

    def facts(trial: int) -> dict[str, str]:
        image = images[trial]
        known = checksum.get(image) if checksum is not None else None
        return {
            "prompt": "",
            "image": str(known if isinstance(known, str) else image),
            "size": f"{size[0]}x{size[1]}" if size else "own",
            "model": generator.name if source == "reference-vae" else "none",
            "revision": generator.revision if source == "reference-vae" else "none",
            **({"look": look} if source == "reference-vae" else {}),
            "trial_id": str(trial),
            "sample": "0",
            "source": source,
            "software": "eegprompt",
        }

    by_image: dict[str, list[int]] = {}
    for trial in trials.tolist():
        if image_facts(run.image_path(folder, source, trial)) != facts(trial):
            by_image.setdefault(images[trial], []).append(trial)
    done = len(trials) - sum(map(len, by_image.values()))
    for image, mine in by_image.items():
        one_image = study.load_images([image])[0]
        if size is None:
            size = (one_image.shape[1], one_image.shape[0])
        one_image = _squashed(one_image, size)
        if source == "reference-vae":
            one_image = generator.round_trip(one_image[None])[0]
        for trial in mine:
            write_bytes(run.image_path(folder, source, trial), png(one_image, facts(trial)))
        done += len(mine)
        if progress is not None:
            progress(done, len(trials), label)


def _image_size(run: Run, generator: Generator, folder: str) -> tuple[int, int] | None:
    """Width and height of a generator's images: of one it drew, else as its settings say."""
    from PIL import Image

    for source in PROMPT_SOURCES:
        for path in sorted(run.images_dir(folder, source).glob("*.png")):
            try:
                with Image.open(path) as image:
                    return image.size
            except OSError:
                continue
    settings = generator.settings
    if settings.get("width") and settings.get("height"):
        return int(settings["width"]), int(settings["height"])
    return None


def _squashed(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _differs(run: Run, folder: str, source: str, look: str) -> bool:
    """Whether a prompt source was drawn with other settings, by the first of its images."""
    first = next(iter(sorted(run.images_dir(folder, source).glob("*_*.png"))), None)
    return first is not None and look_of([first]) not in (None, look)


def _note(
    run: Run, name: str, sources: Sequence[str], record: dict[str, Any], *, complete: bool
) -> None:
    """Write what is asked for into ``generation.json``, by generator and prompt source."""
    generators = run.generators
    entry = generators.get(slug(name), {})
    same = all(entry.get(k) == json.loads(json.dumps(v)) for k, v in record.items())
    kept = entry.get("sources", {}) if same else {}
    entry = {**record, "sources": {**kept, **dict.fromkeys(sources, complete)}}
    if complete:
        entry["provenance"] = provenance(settings=record["settings"])
    write_json(run.path / "generation.json", {"generators": {**generators, slug(name): entry}})
