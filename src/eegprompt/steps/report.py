"""One HTML file that shows a run to a colleague."""

from __future__ import annotations

from pathlib import Path

from eegprompt.core.locks import writes
from eegprompt.reports import write_report
from eegprompt.run import Run

__all__ = ["report"]


@writes("run")
def report(run: Run | str | Path, out: str | Path | None = None) -> Path:
    """Write a run's report; what the run lacks is left out and named.

    Parameters
    ----------
    run : Run or path-like
        A run, or the parent folder of a run over folds.
    out : path-like, optional
        The file; default ``report.html`` in the run's folder. A file that is no page of
        eegprompt's is not replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    RunError
        If `run` is no run, one of its files is broken, or its study, split or captions changed.
    InputError
        If `out` is a file that eegprompt did not write.
    """
    return write_report(run.path if isinstance(run, Run) else run, out)
