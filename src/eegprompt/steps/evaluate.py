"""Scores of a run, each beside its chance, its interval, its floor and its ceiling.

Nothing is drawn and nothing of the decoder is trained here: what exists is scored, and what does
not exist is named. The within-class figures stand first, because knowing the class cannot lift
them.

What a score's surroundings mean:

- *chance* and *p*: by permuting which image each condition shows (all its trials together), or,
  where only the category of a trial is known, the categories of trials within a run.
- *interval*: 95 %, bootstrap over images with all their trials (over trials where only the category
  is known).
- *floor*: caption scores of the captions of a random image of the pool; image scores of the
  images drawn from random captions.
- *ceiling*: caption scores of the true captions' own embeddings; image scores of the images
  drawn from the true captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.audit_stamp import Stamp
from eegprompt.core.errors import RunError, StudyError
from eegprompt.core.files import read_json, read_table, write_json
from eegprompt.core.fold_sentences import merge_sentences
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.core.threads import one_blas_thread
from eegprompt.generators.generated_files import image_facts, look_of
from eegprompt.reports.contents import stamp_of
from eegprompt.run import Run, fold_runs, slug
from eegprompt.scores.caption_scores import caption_scores
from eegprompt.scores.class_scores import class_scores, lda_scores
from eegprompt.scores.feature_scores import feature_scores
from eegprompt.scores.image_scores import IN_ONE_ROW, Files, GeneratedImages, pixel_scores
from eegprompt.scores.rows import Score, correct, identity, mean_of_folds
from eegprompt.scores.scoring import Scoring
from eegprompt.sources import PROMPT_SOURCES, SOURCES

__all__ = ["evaluate", "evaluate_folds", "scores_of"]


@writes("run")
@one_blas_thread()
def evaluate(run: Run | str | Path, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Score what a run holds and write ``scores.json``.

    Parameters
    ----------
    run : Run or path-like
        A run; its embeddings, decodings, prompts and images are scored as far as they exist.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    list of dict
        The rows of ``scores.json``: ``metric source head pool scope unit n n_trials value lo hi chance
        p p_holm floor ceiling generator features higher_is_better protocol note``, None where a key
        does not apply. All hold ``audit`` (the verdict on the study and split, "not audited" or
        "outdated") and ``allowed_leakage`` (what the split's sides share by the user's leave). Rows over all
        candidates also hold ``chance_within_class`` and ``p_within_class`` (images exchanged only
        within their class); image rows ``floor_lo floor_hi ceiling_lo ceiling_hi``; rows of one
        subject ``subject``.

    Raises
    ------
    RunError
        If what the run holds does not belong to its study and split, or cannot be read.
    """
    run = Run(run)
    scores, notes, missing = _scored(run, progress)
    return _write(run.path, scores, notes, missing, run, stamp_of(run))


def scores_of(run: Run, *, pixels: bool = True) -> tuple[list[Score], list[str]]:
    """Score a run as :func:`evaluate` does, keeping what comparisons of runs need.

    Parameters
    ----------
    run : Run
        A run.
    pixels : bool
        Also PixCorr and SSIM, which take half of the time where images are small.

    Returns
    -------
    scores : list of Score
        The rows with their bootstrap replicates; runs with equal seed and test images share the
        resamples.
    missing : list of str
        What could not be scored, and why.
    """
    scores, notes, missing = _scored(run, None, pixels)
    _write(run.path, scores, notes, missing, run, stamp_of(run))
    return scores, missing


@writes("parent")
@one_blas_thread()
def evaluate_folds(parent: str | Path, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Score every fold of a run over folds, and their means into the parent's ``scores.json``.

    A mean's chance and p come from averaging the folds' permuted statistics, permutation by
    permutation; its interval likewise from the folds' resamples. Folds that test the same images
    share permutations and resamples.

    Parameters
    ----------
    parent : path-like
        The folder that holds ``fold-0``, ``fold-1``, …
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    list of dict
        As :func:`evaluate`, with ``folds``: the value in each fold. A score that not every fold has
        is named among what is missing.

    Raises
    ------
    RunError
        If there are no fold runs, or they are not different folds of one split of one study.
    """
    parent = Path(parent)
    folders = fold_runs(parent)
    if not folders:
        raise RunError(
            f"{parent} holds no runs named fold-0, fold-1, …; make a run over folds, or evaluate a "
            "single run"
        )
    _check_folds(folders)
    by_key: dict[tuple[Any, ...], list[Score]] = {}
    notes: list[str] = [f"Each value is the mean over {len(folders)} folds."]
    said_by_fold: list[list[str]] = []
    lacking_by_fold: list[list[str]] = []
    stamps: list[Stamp] = []
    for i, folder in enumerate(folders):

        def of_fold(done: int, total: int, label: str, i: int = i) -> None:
            if progress is not None:
                progress(i * total + done, len(folders) * total, f"fold {i}: {label}")

        run = Run(folder)
        scores, said, lacking = _scored(run, of_fold)
        stamps.append(stamp_of(run))
        _write(run.path, scores, said, lacking, run, stamps[-1])
        said_by_fold.append(said)
        # What a command does for one fold it does for all, given their parent.
        lacking_by_fold.append([s.replace(str(folder), str(parent)) for s in lacking])
        for score in scores:
            by_key.setdefault(identity(score.row), []).append(score)
    notes = [notes[0], *merge_sentences(said_by_fold, [f.name for f in folders])]
    missing = merge_sentences(lacking_by_fold, [f.name for f in folders])
    means = []
    for group in by_key.values():
        if len(group) < len(folders):
            row = group[0].row
            name = " ".join(str(row[k]) for k in ("metric", "head", "scope") if row.get(k))
            missing.append(f"{name}: only {len(group)} of {len(folders)} folds have it")
            continue
        means.append(mean_of_folds(group))
    return _write(parent, means, notes, missing, None, Stamp.of_folds(stamps, folders))


def _check_folds(folders: Sequence[Path]) -> None:
    """Refuse a mean over runs that are not different folds of one split of one study."""
    first: tuple[Path, tuple[str, str, str]] | None = None
    seen: dict[int, Path] = {}
    for folder in folders:
        run = Run(folder)
        number = int(run.config["fold"])
        if number in seen:
            raise RunError(
                f"{folder} and {seen[number]} are both runs of fold {number}, so there is no mean over "
                "folds; move one of them elsewhere"
            )
        seen[number] = folder
        of = (run.study.key, str(run.config["split"]), str(run.config["captions"]))
        first = first or (folder, of)
        if of != first[1]:
            raise RunError(
                f"{folder} is of another study, split or caption set than {first[0]}, so there is no "
                "mean over them; move it elsewhere, or evaluate each alone"
            )


def _write(
    folder: Path,
    scores: list[Score],
    notes: list[str],
    missing: list[str],
    run: Run | None,
    stamp: Stamp,
) -> list[dict[str, Any]]:
    correct(scores)
    rows = [s.row for s in sorted(scores, key=lambda s: s.row["scope"] != "within-class")]
    for row in rows:
        row |= stamp.in_row
    write_json(
        folder / "scores.json",
        {"audit": stamp.stored, "rows": rows, "notes": notes, "missing": missing},
    )
    if run is not None:
        run.record("evaluate", settings=run.config.get("evaluation", {}), rows=len(rows))
    return rows


def _scored(
    run: Run, progress: Progress | None, pixels: bool = True
) -> tuple[list[Score], list[str], list[str]]:
    work = Scoring(run.study, run.fold, run.settings)
    _embeddings(run, work)
    steps: list[tuple[str, Callable[[], list[Score]]]] = [
        ("caption retrieval", lambda: caption_scores(work)),
        ("class accuracy", lambda: class_scores(work)),
        ("shrinkage LDA", lambda: lda_scores(work)),
        ("images", lambda: _of_images(run, work, pixels)),
    ]
    scores: list[Score] = []
    for i, (label, step) in enumerate(steps):
        if progress is not None:
            progress(i, len(steps), label)
        scores += step()
    if progress is not None:
        progress(len(steps), len(steps), "scores")
    return scores, work.notes, work.missing


def _embeddings(run: Run, work: Scoring) -> None:
    """Give the scores the run's embeddings, checked against its split, and the scales of its heads."""
    path = run.encoder_dir / "config.json"
    if path.exists():
        work.scales = read_json(path, error=RunError, schema="encoder").get("scales") or {}
    if not run.embeddings_path.exists():
        work.missing.append(
            "caption and class scores: embeddings.safetensors is missing; run 'eegprompt decode'"
        )
        return
    stored = run.embeddings
    for part in ("val", "test"):
        ids = stored[f"{part}/trial_id"]
        foreign = np.setdiff1d(ids, getattr(run.fold, part))
        if len(foreign):
            raise RunError(
                f"{run.embeddings_path} holds {len(foreign)} {part} trials that are not in the {part} set "
                f"of fold {run.settings.fold} of split '{run.settings.split}' (first: {foreign[0]}); "
                "run 'eegprompt decode' again"
            )
    absent = len(np.setdiff1d(run.fold.test, stored["test/trial_id"]))
    if absent:
        work.missing.append(f"embeddings of {absent} of {len(run.fold.test)} test trials")
    if len(stored["test/trial_id"]):
        work.embeddings = stored
    else:
        work.missing.append("caption and class scores: there are no test trials in the embeddings")


def _of_images(run: Run, work: Scoring, pixels: bool) -> list[Score]:
    """Scores of the images of each generator that drew some; what lacks is named with its remedy."""
    scores: list[Score] = []
    for generator, images in _generated(run, work.missing):
        try:
            found = GeneratedImages(work, generator, images)
            scores += [*feature_scores(found), *(pixel_scores(found) if pixels else ())]
        except StudyError as problem:  # reference images are gone; captions can still be scored
            work.missing.append(f"image scores: {problem}")
    return scores


def _generated(run: Run, missing: list[str]) -> Iterator[tuple[str, dict[str, Files]]]:
    """Each generator with its images of the run's test trials, by prompt source and trial."""
    named = run.settings.generation.generator
    entries = run.generators
    folders = sorted(p.name for p in (run.path / "images").glob("*") if p.is_dir())
    test = set(run.fold.test.tolist())
    for generator in (named, *(f for f in folders if f != slug(named))):
        entry = entries.get(slug(generator), {})
        again = f"eegprompt generate {run.path}"
        if slug(generator) != slug(named):
            again += f" --generator {entry.get('name', generator)}"
        prompts = _prompts(run, generator)
        found: dict[str, Files] = {}
        blanked: dict[str, set[int]] = {}
        look = entry.get("look")
        for source in SOURCES:  # eeg is the first, and says what the others must be drawn with
            found[source], blanked[source] = _images(
                run, generator, source, prompts, look, again, missing
            )
            if source == "eeg":
                look = look_of(f for files in found["eeg"].values() for f in files) or look
        if not found["eeg"]:
            if generator == named or any(found.values()):
                missing.append(
                    f"image scores: no images of prompt source 'eeg' by generator '{generator}'; "
                    f"run '{again}'"
                )
            continue
        wanted = {r: set(found["eeg"]) for r in SOURCES if r in IN_ONE_ROW or found[r]}
        wanted["eeg"] = set(entry.get("trial_ids", ())) & test
        absent = [source for source in SOURCES if source not in wanted]
        if absent:
            missing.append(
                f"image scores: prompt sources that generator '{generator}' has not drawn: "
                f"{', '.join(absent)}; run '{again} --sources {','.join(absent)}'"
            )
        for source, trials in wanted.items():
            lacking = len(trials - set(found[source]) - blanked[source])
            if lacking:
                missing.append(
                    f"image scores: {lacking} of {len(trials)} trials have no image of prompt source "
                    f"'{source}' by generator '{generator}'; run '{again} --sources {source}'"
                )
        yield generator, found


def _prompts(run: Run, generator: str) -> dict[tuple[int, str], str]:
    """Prompts that a generator's images should have been drawn from, by trial and prompt source."""
    own = run.path / "images" / slug(generator) / "prompts.parquet"
    if own.exists():
        table = read_table(own, error=RunError, columns="prompts")
    elif run.prompts_path.exists():
        table = run.prompts
    else:
        return {}
    return {
        (int(trial), str(source)): str(text)
        for trial, source, text in zip(table["trial_id"], table["source"], table["text"])
    }


def _images(
    run: Run,
    generator: str,
    source: str,
    prompts: dict[tuple[int, str], str],
    look: str | None,
    again: str,
    missing: list[str],
) -> tuple[Files, set[int]]:
    """Files of one prompt source, by test trial, and the trials that have a blanked image.

    Blanked images are left out, as are those of other prompts than the run's, and those drawn
    with other settings (steps, guidance, …) than `look`, the key of prompt source ``eeg``'s: prompt
    sources are compared, and differ in their prompts alone. Where all of prompt source ``eeg`` is of an
    earlier key, that counts.
    """
    test = set(run.fold.test.tolist())
    remedy = f"run '{again} --sources {source}'"
    found: Files = {}
    other_look: Files = {}
    outdated = 0
    blanked: list[int] = []
    for path in sorted(run.images_dir(generator, source).glob("*_*.png")):
        name, _, sample = path.stem.partition("_")
        if not (name.isdigit() and sample.isdigit() and int(name) in test):
            continue
        facts = image_facts(path)
        if facts is None:
            missing.append(
                f"image scores: {path} cannot be read as an image; {remedy}, which draws it anew"
            )
            continue
        if facts.get("blanked"):
            blanked.append(int(name))
            continue
        prompt = prompts.get((int(name), source))
        unknown = prompt is None and bool(prompts) and source in PROMPT_SOURCES
        if unknown or (prompt is not None and facts.get("prompt", prompt) != prompt):
            outdated += 1
            continue
        mine = look is None or facts.get("look", look) == look
        (found if mine else other_look).setdefault(int(name), []).append(path)
    if source == "eeg" and not found:
        found, other_look = other_look, {}
    for n, what in (
        (
            len(blanked),
            f"are left out, for the safety checker of generator '{generator}' blanked them",
        ),
        (
            sum(map(len, other_look.values())),
            f"by generator '{generator}' were drawn with other settings (steps, guidance, negative "
            f"prompt, …) than those of prompt source 'eeg' now; {remedy}",
        ),
        (
            outdated,
            f"by generator '{generator}' were drawn from other prompts than the run now has; {remedy}",
        ),
    ):
        if n:
            missing.append(f"image scores: {n} images of prompt source '{source}' {what}")
    return found, set(blanked)
