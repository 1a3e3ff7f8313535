"""Run the analyses of a run, one after the other; what is finished is not done again."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from eegprompt.analyses.catalog import ANALYSES, chosen
from eegprompt.analyses.context import Material, Progress
from eegprompt.analyses.finding import (
    Finding,
    Omitted,
    load_findings,
    load_record,
    save_finding,
)
from eegprompt.core.errors import InputError, RunError, SplitError, StorageError, StudyError
from eegprompt.core.locks import writes
from eegprompt.core.threads import one_blas_thread
from eegprompt.run import Run
from eegprompt.settings import load_config
from eegprompt.steps.decode import decode
from eegprompt.steps.train import train
from eegprompt.study import Study

__all__ = ["explain", "retrained"]


@writes("run")
@one_blas_thread()
def explain(
    run: Run | str | Path,
    *,
    what: str | Iterable[str] | None = None,
    deep: bool = False,
    progress: Progress | None = None,
) -> list[Finding]:
    """Find out which electrodes, moments and heads carry which meaning.

    Writes ``explain/NAME.safetensors`` and ``explain/NAME.json`` for each analysis, and its figures
    into ``figures/explain/`` as SVG and PNG. What is there already, made from the same encoder,
    data and settings, is left as it is.

    Parameters
    ----------
    run : Run or path-like
        With decodings.
    what : str or iterable of str, optional
        Names of analyses (:data:`eegprompt.analyses.ANALYSES`); left out: all.
    deep : bool
        Also what retrains or redraws, which takes much longer.
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
    names = chosen(what, deep)
    material = Material(run, deep=deep, retrain=retrained)
    for place, name in enumerate(names):

        def inside(done: int, total: int, label: str, place: int = place) -> None:
            if progress is not None:
                # a hundredth of an analysis is fine enough for a bar
                share = round(100 * done / total) if total else 0
                progress(100 * place + min(share, 99), 100 * len(names), label)

        inside(0, 1, name)
        material.progress = inside
        _one(material, name)
    if progress is not None:
        progress(100 * len(names), 100 * len(names), "explained")
    return load_findings(material.run, names)


def _one(material: Material, name: str) -> None:
    """Run an analysis and write what it found, unless it is there."""
    analysis = ANALYSES[name]
    deep = material.deep and analysis.deepens
    stored = load_record(material.run.path, name).get("key")
    # A deep finding holds all that a plain one does, so it need not be replaced by one.
    if stored in {material.key(name, d) for d in {deep, deep or analysis.deepens}}:
        return
    started = time.monotonic()
    try:
        finding = analysis.load()(material)
    except Omitted as reason:
        finding = Finding.omitted(name, analysis.question, str(reason).rstrip("."))
    except (RunError, SplitError, StorageError, StudyError):
        raise  # of the run as a whole: no analysis could do better
    except (ValueError, ArithmeticError, LookupError) as problem:
        # Too few trials of a class, say. What the others find does not depend on it.
        why = str(problem).strip().rstrip(".") or "no reason given"
        if not isinstance(problem, InputError):
            why = f"{type(problem).__name__}: {why}"
        finding = Finding.omitted(
            name, analysis.question, f"it could not be computed on these trials ({why})"
        )
        warnings.warn(f"analysis '{name}' was left out: {why}", stacklevel=3)
    key = material.key(name, deep)
    save_finding(
        material.run.path,
        finding,
        record={"key": key, "deep": deep, "seconds": round(time.monotonic() - started, 2)},
        axes=material.axes,
    )
    material.run.record(
        f"explain {name}", key=key, decoded=material.decode_key, deep=deep, seed=material.seed
    )


# -- the same run trained again otherwise ----------------------------------------------------------
def retrained(material: Material, name: str, *, shuffle: bool) -> Material:
    """Train the run's configuration anew, in a folder of its own below ``explain/``.

    Parameters
    ----------
    material : Material
        The run.
    name : str
        Of the folder; a training that is finished there is not done again.
    shuffle : bool
        Give every image the captions of another (all kinds together), so that nothing can be
        learned; else only the seed differs.

    Returns
    -------
    Material
        Of the new run.
    """
    folder = material.run.path / "explain" / "retrained" / name
    study = _mirror(material.study, folder / "study")
    captions = material.config.captions
    if shuffle:
        table = material.study.captions(captions)
        images = np.unique(table["image_id"].astype(str))
        order = np.random.default_rng([material.seed, 31]).permutation(len(images))
        other = dict(zip(images, images[order]))
        captions = f"{captions}-shuffled"
        table = table.assign(image_id=table["image_id"].astype(str).map(other))
        if captions not in study.caption_names():
            study.write_captions(captions, table)
    settings = {
        **material.config.model_dump(mode="json"),
        "study": str(study.path.resolve()),
        "captions": captions,
        "seed": material.seed + (0 if shuffle else 1),
    }
    run = train(study, folder / "run", load_config(settings), progress=material.progress)
    decoded = decode(run, progress=material.progress)
    return Material(decoded, progress=material.progress, retrain=retrained)


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
