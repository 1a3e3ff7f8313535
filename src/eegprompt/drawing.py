"""Draw a run's prompts, rung by rung of the ladder; only what is missing is drawn.

Every picture carries its prompt, model, revision, seed, trial and rung in its PNG text chunks. By
them a picture is known to be the one that is wanted: one drawn from an older prompt, or cut off by
a crash, is drawn again, and an interruption loses nothing that was finished.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import content_key, provenance, read_json, write_bytes, write_json
from eegprompt.decoder import RUNGS, image_seed, prompt_table
from eegprompt.errors import InputError, RunError, UnknownNameError
from eegprompt.experiment import ExperimentConfig, load_config
from eegprompt.generators import load_generator
from eegprompt.run import Run, slug

if TYPE_CHECKING:
    import pandas as pd

    from eegprompt.protocols import Generator
    from eegprompt.types import Fold

__all__ = ["draw", "picture_facts", "prompts_for", "select_trials"]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Task:
    """One picture that is wanted."""

    path: Path
    rung: str
    trial: int
    sample: int
    prompt: str
    seed: int


def select_trials(
    image_ids: Sequence[Any], trial_ids: np.ndarray, trials_per_image: int | None, seed: int
) -> np.ndarray:
    """Choose test trials to draw, as many of each image.

    Parameters
    ----------
    image_ids : sequence, length n_trials
        The image each trial of the study showed.
    trial_ids : array of int
        The trials to choose from.
    trials_per_image : int or None
        At most this many of each image; None chooses all.
    seed : int
        The choice depends on this and the trial ids alone; a larger number adds trials to the
        choice and takes none away.

    Returns
    -------
    array of int64
        Sorted.
    """
    if trials_per_image is None:
        return np.sort(np.asarray(trial_ids, dtype=np.int64))
    by_image: dict[Any, list[int]] = {}
    for trial in np.asarray(trial_ids).tolist():
        by_image.setdefault(image_ids[trial], []).append(trial)
    chosen: list[int] = []
    for trials in by_image.values():
        ranked = sorted(trials, key=lambda trial: content_key("drawn", int(seed), trial))
        chosen += ranked[:trials_per_image]
    return np.array(sorted(chosen), dtype=np.int64)


def draw(
    run: Run | str | Path,
    *,
    rungs: Sequence[str] | None = None,
    generator: str | Generator | None = None,
    samples: int | None = None,
    trials_per_image: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Draw the pictures of a decoded run that are missing.

    The seed of a picture depends on the run's seed, the trial and the sample, and is the same on
    all rungs. Pictures of equal prompt and seed are drawn once.

    Parameters
    ----------
    run : Run or path-like
        With ``prompts.parquet``.
    rungs : sequence of str, optional
        Of :data:`eegprompt.decoder.RUNGS`; left out: the run's.
    generator : str or Generator, optional
        What draws; left out: the run's. Where another one reads fewer tokens than the prompts
        have, they are composed again for it and kept beside its pictures.
    samples : int, optional
        Pictures a trial; left out: as in the run.
    trials_per_image : int, optional
        Test trials drawn of each image; left out: as in the run.
    progress : callable, optional
        Called with (done, total, label); what was there already counts as done.

    Returns
    -------
    Run
        What was asked for stands in ``drawing.json``, by generator.

    Raises
    ------
    RunError
        If the run was not decoded.
    UnknownNameError
        If a rung or the generator does not exist.
    StorageError
        If the disk is full; what was drawn is kept.
    """
    run = run if isinstance(run, Run) else Run(run)
    config = load_config(run.config)
    wanted_rungs = list(dict.fromkeys(rungs if rungs is not None else config.drawing.rungs))
    for rung in wanted_rungs:
        if rung not in RUNGS:
            raise UnknownNameError("rung", rung, RUNGS)
    n_samples = config.drawing.samples if samples is None else samples
    per_image = config.drawing.trials_per_image if trials_per_image is None else trials_per_image
    if n_samples < 1 or (per_image is not None and per_image < 1):
        raise InputError(
            f"samples and trials_per_image must be at least 1, got {n_samples} and {per_image}"
        )
    study = run.study()
    fold: Fold = run.fold(study)
    loaded, folder = _load(generator, config)
    prompts = prompts_for(run, loaded, folder)
    trials = select_trials(study.trials["image_id"].tolist(), fold.test, per_image, config.seed)
    tasks = _tasks(run, folder, prompts, wanted_rungs, trials, n_samples, config.seed)

    settings = getattr(loaded, "settings", {"model": loaded.name, "revision": loaded.revision})
    record = {
        "name": loaded.name,
        "revision": loaded.revision,
        "settings": settings,
        "seed": config.seed,
        "samples": n_samples,
        "trials_per_image": per_image,
        "trial_ids": trials.tolist(),
    }
    _note(run, folder, wanted_rungs, record, complete=False)
    _remove_outdated(run, folder, prompts, wanted_rungs)
    look = content_key({k: v for k, v in settings.items() if k not in _NOT_LOOK})
    _draw_missing(tasks, loaded, look, config.drawing.batch_size, progress)
    _note(run, folder, wanted_rungs, record, complete=True)
    run.record("generate", generator=settings, rungs=wanted_rungs, seed=config.seed)
    return run


# Settings that do not decide what a picture shows: another machine may go on with a run.
_NOT_LOOK = ("device", "batch_size")


def _load(generator: str | Generator | None, config: ExperimentConfig) -> tuple[Generator, str]:
    """The generator, and the name its pictures stand under."""
    if generator is None or generator == config.drawing.generator:
        spec = config.drawing.generator
        return load_generator(spec, **config.drawing.options), spec
    if isinstance(generator, str):
        return load_generator(generator), generator
    return generator, generator.name


def prompts_for(run: Run, generator: Generator, folder: str | None = None) -> pd.DataFrame:
    """The run's prompts, if the generator reads them all to the end; else composed anew for it.

    Parameters
    ----------
    run : Run
        Decoded.
    generator : Generator
        What is to draw.
    folder : str, optional
        Name its pictures stand under; left out: its own.

    Returns
    -------
    pandas.DataFrame
        As ``prompts.parquet``. Prompts composed anew are kept as ``prompts.parquet`` in the
        generator's folder of pictures.
    """
    prompts = run.prompts()
    if all(generator.count_tokens(text) <= generator.max_tokens for text in set(prompts["text"])):
        return prompts
    prompts = prompt_table(run, generator)
    place = run.path / "images" / slug(folder or generator.name)
    run.write_table(place / "prompts.parquet", prompts)
    return prompts


def _remove_outdated(run: Run, folder: str, prompts: pd.DataFrame, rungs: Sequence[str]) -> None:
    """Remove pictures of prompts that the run no longer has: scores would take them for its own."""
    current = {
        (str(trial), rung): text
        for trial, rung, text in zip(prompts["trial_id"], prompts["rung"], prompts["text"])
    }
    for rung in rungs:
        for path in run.images_dir(folder, rung).glob("*.png"):
            facts = picture_facts(path)
            if facts is None or facts.get("software") != "eegprompt":
                continue  # half-written ones are drawn again; others are not ours to remove
            if current.get((facts.get("trial_id", ""), rung)) != facts.get("prompt"):
                path.unlink(missing_ok=True)


def _tasks(
    run: Run,
    folder: str,
    prompts: pd.DataFrame,
    rungs: Sequence[str],
    trials: np.ndarray,
    samples: int,
    seed: int,
) -> list[_Task]:
    """All pictures that are wanted, trial by trial, so that a part of them is a fair part."""
    texts = {
        (int(trial), rung): text
        for trial, rung, text in zip(prompts["trial_id"], prompts["rung"], prompts["text"])
    }
    tasks = []
    for trial in trials.tolist():
        for rung in rungs:
            if (trial, rung) not in texts:
                raise RunError(
                    f"trial {trial} has no prompt on rung '{rung}'; run 'eegprompt decode RUN' again"
                )
            tasks += [
                _Task(
                    run.image_path(folder, rung, trial, sample),
                    rung,
                    trial,
                    sample,
                    texts[trial, rung],
                    image_seed(seed, trial, sample),
                )
                for sample in range(samples)
            ]
    return tasks


def _draw_missing(
    tasks: list[_Task],
    generator: Generator,
    look: str,
    batch_size: int,
    progress: Progress | None,
) -> None:
    label = f"drawing with {generator.name}"

    def facts(task: _Task) -> dict[str, str]:
        return {
            "prompt": task.prompt,
            "model": generator.name,
            "revision": generator.revision,
            "look": look,
            "seed": str(task.seed),
            "trial_id": str(task.trial),
            "sample": str(task.sample),
            "rung": task.rung,
            "software": "eegprompt",
        }

    missing: dict[tuple[str, int], list[_Task]] = {}
    there: dict[tuple[str, int], Path] = {}
    for task in tasks:
        if picture_facts(task.path) == facts(task):
            there[task.prompt, task.seed] = task.path
        else:
            missing.setdefault((task.prompt, task.seed), []).append(task)
    done = len(tasks) - sum(map(len, missing.values()))
    if progress is not None:
        progress(done, len(tasks), label)

    def write(group: list[_Task], picture: np.ndarray) -> None:
        nonlocal done
        for task in group:
            write_bytes(task.path, _png(picture, facts(task)))
            done += 1

    groups = []
    for identity, group in missing.items():
        if identity in there:
            write(group, _pixels(there[identity]))
        else:
            groups.append(group)
    for start in range(0, len(groups), batch_size):
        part = groups[start : start + batch_size]
        pictures = generator.generate(
            [group[0].prompt for group in part], [group[0].seed for group in part]
        )
        for group, picture in zip(part, pictures):
            write(group, picture)
        if progress is not None:
            progress(done, len(tasks), label)


def _png(picture: np.ndarray, facts: dict[str, str]) -> bytes:
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, value in facts.items():
        info.add_text(name, value)
    stream = io.BytesIO()
    # Level 1 is several times as fast as the default; pictures of photographs hardly grow.
    Image.fromarray(picture).save(stream, "PNG", pnginfo=info, compress_level=1)
    return stream.getvalue()


def picture_facts(path: str | Path) -> dict[str, str] | None:
    """The text chunks of a picture that was drawn; None if it is missing or cannot be read whole.

    Returns
    -------
    dict or None
        ``prompt``, ``model``, ``revision``, ``seed``, ``trial_id``, ``sample``, ``rung``, ….
    """
    from PIL import Image, PngImagePlugin

    try:
        with Image.open(path) as picture:
            picture.load()
            assert isinstance(picture, PngImagePlugin.PngImageFile)
            return {str(name): str(text) for name, text in picture.text.items()}
    except (OSError, SyntaxError, ValueError, AssertionError, EOFError):
        return None


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def _note(
    run: Run, name: str, rungs: Sequence[str], record: dict[str, Any], *, complete: bool
) -> None:
    """Write what is asked for into ``drawing.json``, by generator and rung."""
    path = run.path / "drawing.json"
    stored: dict[str, Any] = (
        read_json(path, error=RunError) if path.exists() else {"generators": {}}
    )
    entry = stored["generators"].get(slug(name), {})
    same = all(entry.get(k) == json.loads(json.dumps(v)) for k, v in record.items())
    kept = entry.get("rungs", {}) if same else {}
    entry = {**record, "rungs": {**kept, **dict.fromkeys(rungs, complete)}}
    if complete:
        entry["provenance"] = provenance(settings=record["settings"])
    stored["generators"][slug(name)] = entry
    write_json(path, stored)


def drawn(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was asked of each generator: its folder's name and its entry in ``drawing.json``."""
    path = run.path / "drawing.json"
    if path.exists():
        yield from read_json(path, error=RunError)["generators"].items()
