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

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eegprompt.audit_stamp import Stamp
from eegprompt.core.errors import RunError
from eegprompt.core.files import write_json
from eegprompt.core.fold_sentences import merge_sentences
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.core.threads import one_blas_thread
from eegprompt.run import Run, fold_runs
from eegprompt.scores.caption_scores import caption_scores
from eegprompt.scores.class_scores import class_scores, lda_scores
from eegprompt.scores.image_scores import image_scores
from eegprompt.scores.rows import Score, correct, identity, mean_of_folds
from eegprompt.scores.scoring import Material

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
    return _write(run.path, scores, notes, missing, run, Stamp.of(run))


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
    _write(run.path, scores, notes, missing, run, Stamp.of(run))
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
        stamps.append(Stamp.of(run))
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
    work = Material(run)
    steps: list[tuple[str, Callable[[Material], Iterable[Score]]]] = [
        ("caption retrieval", caption_scores),
        ("class accuracy", class_scores),
        ("shrinkage LDA", lda_scores),
        ("images", partial(image_scores, pixels=pixels)),
    ]
    scores: list[Score] = []
    for i, (label, step) in enumerate(steps):
        if progress is not None:
            progress(i, len(steps), label)
        scores += step(work)
    if progress is not None:
        progress(len(steps), len(steps), "scores")
    return scores, work.notes, work.missing
