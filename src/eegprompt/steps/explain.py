"""Run the analyses of a run, one after the other; what is finished is not done again."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path

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
from eegprompt.run import Run

__all__ = ["explain"]


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
    material = Material(run, deep=deep)
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
