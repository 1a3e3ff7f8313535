"""Run the analyses of a run, one after the other; what is finished is not done again."""

from __future__ import annotations

import hashlib
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

import eegprompt
from eegprompt.analyses._across_folds import explain_folds as pool_folds
from eegprompt.analyses._findings import (
    Finding,
    Omitted,
    load_findings,
    load_record,
    save_finding,
)
from eegprompt.analyses._one_trial import explain_trial
from eegprompt.analyses.base import Analysis, Context, chosen
from eegprompt.core.errors import InputError, RunError, SplitError, StorageError, StudyError
from eegprompt.core.files import content_key
from eegprompt.core.locks import writes
from eegprompt.core.progress import Progress
from eegprompt.core.threads import one_blas_thread
from eegprompt.decoder import Decoder
from eegprompt.reports.trial_page import write_trial_page
from eegprompt.run import Run
from eegprompt.settings import load_config
from eegprompt.steps.decode import decode
from eegprompt.steps.train import train
from eegprompt.study import Study

__all__ = ["context_of", "explain", "explain_folds", "retrained", "trial_page"]


@writes("run")
@one_blas_thread()
def explain(
    run: Run | str | Path,
    *,
    what: str | Iterable[str] | None = None,
    deep: bool = False,
    progress: Progress | None = None,
) -> list[Finding]:
    """Find out which electrodes, time points and heads carry which meaning.

    Writes ``explain/NAME.safetensors`` and ``explain/NAME.json`` for each analysis, and its figures
    into ``figures/explain/`` as SVG and PNG. What is there already, made from the same encoder,
    data and settings, is left as it is.

    Parameters
    ----------
    run : Run or path-like
        With decodings.
    what : str or iterable of str, optional
        Names of analyses (:func:`eegprompt.analyses.names`) or ``module:Class``; left out: all.
    deep : bool
        Also what retrains or generates, which takes much longer.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    list of Finding
        Without their arrays, which lie in the safetensors files. An analysis that cannot be
        computed on these trials is left out: its finding says why, and the others go on.

    Raises
    ------
    UnknownNameError
        If an analysis does not exist.
    RunError
        If the run was not decoded.
    StudyError
        If its study is gone.
    """
    analyses = chosen(what, deep)
    run = Run(run)
    context = context_of(run, deep=deep)
    for place, analysis in enumerate(analyses):

        def inside(done: int, total: int, label: str, place: int = place) -> None:
            if progress is not None:
                # a hundredth of an analysis is fine enough for a bar
                share = round(100 * done / total) if total else 0
                progress(100 * place + min(share, 99), 100 * len(analyses), label)

        inside(0, 1, analysis.name)
        context.progress = inside
        _one(run, context, analysis)
    if progress is not None:
        progress(100 * len(analyses), 100 * len(analyses), "explained")
    return load_findings(run.path, [analysis.name for analysis in analyses])


def context_of(
    run: Run | str | Path, *, deep: bool = False, progress: Progress | None = None
) -> Context:
    """A decoded run as analyses see it.

    Parameters
    ----------
    run : Run or path-like
        With a trained encoder and decodings.
    deep : bool
        Whether analyses may retrain and generate.
    progress : callable, optional
        Called with (done, total, label) by analyses that take long.

    Returns
    -------
    Context

    Raises
    ------
    RunError
        If the run was not trained or not decoded.
    StudyError
        If its study is gone.
    """
    run = Run(run)
    study, fold = run.study, run.fold
    decoder = Decoder.from_pretrained(run)
    if not (run.embeddings_path.exists() and decoder.candidates.pools):
        raise RunError(
            f"{run.path} was not decoded yet, so there is nothing to explain; run "
            f"'eegprompt decode {run.path}' first"
        )
    embeddings = run.embeddings
    for part, ids in (("val", fold.val), ("test", fold.test)):
        if not np.array_equal(embeddings[f"{part}/trial_id"], np.asarray(ids)):
            raise RunError(
                f"{run.embeddings_path} is not of this fold's {part} trials; run 'eegprompt decode "
                f"{run.path}' again"
            )
    return Context(
        study=study, fold=fold, settings=run.settings, decoder=decoder, embeddings=embeddings,
        decodings=run.decodings, folder=run.path, deep=deep, progress=progress,
        retrain=partial(retrained, run),
    )  # fmt: skip


def explain_folds(runs: Sequence[Run]) -> Finding | None:
    """Pool what was found in the folds of a run, into ``explain/across-folds.json`` of its folder.

    Parameters
    ----------
    runs : sequence of Run
        All folds, in their order.

    Returns
    -------
    Finding or None
        None for a single run, and where a fold was not explained yet, or found something else to
        compare (other heads, other channels).
    """
    folders = [run.path for run in runs]
    try:
        study = runs[0].study
    except StudyError:  # gone since, and only needed for where the electrodes are
        return pool_folds(folders, None, None)
    return pool_folds(folders, np.asarray(study.positions), len(study.subjects))


def trial_page(run: Run | str | Path, trial_id: int, out: str | Path | None = None) -> Path:
    """Write a page for one decoding: one HTML file that needs nothing beside it.

    Parameters
    ----------
    run : Run or path-like
        A decoded run.
    trial_id : int
        A test trial.
    out : path-like, optional
        The file to write; ``explain/trial-ID.html`` in the run's folder by default.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the trial is not in the test set.
    RunError
        If the run was not decoded.
    StudyError
        If its study is gone.
    """
    run = Run(run)
    return write_trial_page(run, explain_trial(context_of(run), trial_id), out)


def _one(run: Run, context: Context, analysis: Analysis) -> None:
    """Run an analysis and write what it found, unless it is there."""
    name, deep = analysis.name, context.deep and analysis.deepens
    decoded = run.provenance.get("decode", {}).get("key")
    key_of: Callable[[bool], str] = lambda deep: content_key(  # noqa: E731
        name, deep, decoded, context.seed, _code(type(analysis))
    )
    # A deep finding holds all that a plain one does, so it need not be replaced by one.
    if load_record(run.path, name).get("key") in {
        key_of(d) for d in {deep, deep or analysis.deepens}
    }:
        return
    started = time.monotonic()
    try:
        finding = analysis(context)
    except Omitted as reason:
        finding = Finding.omitted(name, analysis.title, str(reason).rstrip("."))
    except (RunError, SplitError, StorageError, StudyError):
        raise  # of the run as a whole: no analysis could do better
    except (ValueError, ArithmeticError, LookupError) as problem:
        # Too few trials of a class, say. What the others find does not depend on it.
        why = str(problem).strip().rstrip(".") or "no reason given"
        if not isinstance(problem, InputError):
            why = f"{type(problem).__name__}: {why}"
        finding = Finding.omitted(
            name, analysis.title, f"it could not be computed on these trials ({why})"
        )
        warnings.warn(f"analysis '{name}' was left out: {why}", stacklevel=3)
    key = key_of(deep)
    seconds = round(time.monotonic() - started, 2)
    save_finding(
        run.path,
        finding,
        record={"key": key, "deep": deep, "seconds": seconds},
        axes=context.axes,
    )
    run.record(f"explain {name}", key=key, decoded=decoded, deep=deep, seed=context.seed)


@cache
def _code(analysis: type[Analysis]) -> str:
    """Digest of the analyses' source: a corrected analysis is done again."""
    root = Path(eegprompt.__file__).parent
    paths = [
        path
        for package in ("analyses", "attribution", "figures", "stats")
        for path in sorted((root / package).rglob("*.py"))
    ]
    digest = hashlib.sha256()
    for path in dict.fromkeys([*paths, Path(inspect.getfile(analysis))]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# -- the same run trained again otherwise ----------------------------------------------------------
def retrained(
    source: Run, name: str, *, shuffle: bool, progress: Progress | None = None
) -> Context:
    """Train the run's configuration anew, in a folder of its own below ``explain/``.

    Parameters
    ----------
    source : Run
        The run.
    name : str
        Of the folder; a training that is finished there is not done again.
    shuffle : bool
        Give every image the captions of another (all kinds together), so that nothing can be
        learned; else only the seed differs.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    Context
        Of the new run.
    """
    folder = source.path / "explain" / "retrained" / name
    study = _mirror(source.study, folder / "study")
    captions = source.settings.captions
    if shuffle:
        table = source.study.captions(captions)
        images = np.unique(table["image_id"].astype(str))
        order = np.random.default_rng([source.settings.seed, 31]).permutation(len(images))
        other = dict(zip(images, images[order]))
        captions = f"{captions}-shuffled"
        table = table.assign(image_id=table["image_id"].astype(str).map(other))
        if captions not in study.caption_names():
            study.write_captions(captions, table)
    settings = {
        **source.settings.model_dump(mode="json"),
        "study": str(study.path.resolve()),
        "captions": captions,
        "seed": source.settings.seed + (0 if shuffle else 1),
    }
    run = train(study, folder / "run", load_config(settings), progress=progress)
    decoded = decode(run, progress=progress)
    return context_of(decoded, progress=progress)


def _mirror(study: Study, folder: Path) -> Study:
    """A study whose large files are links to another's; captions and cache are its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in study.path.iterdir():
        if entry.name in ("captions", "cache") or (folder / entry.name).exists():
            continue
        (folder / entry.name).symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    own = folder / "captions"
    own.mkdir(exist_ok=True)
    for entry in (study.path / "captions").iterdir():
        if not (own / entry.name).exists():
            (own / entry.name).symlink_to(entry.resolve())
    return Study(folder)
