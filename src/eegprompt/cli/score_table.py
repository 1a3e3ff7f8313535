"""Scores as a table on the terminal; no number without what must stand beside it."""

from __future__ import annotations

from pathlib import Path

from eegprompt.cli import console
from eegprompt.core.files import read_json

__all__ = ["print_scores"]


def print_scores(folder: Path, *, notes: bool = True) -> None:
    """Print the scores of a run, or of a run over folds, and name those that are missing.

    Parameters
    ----------
    folder : path-like
        Holds ``scores.json``.
    notes : bool
        Also print how the scores are computed; the report says it too.
    """
    from eegprompt.reports import summary_table

    rows = summary_table(folder)  # which stamps an audit made since on the scores
    stored = read_json(folder / "scores.json", schema="scores")
    stamp = stored.get("audit") or {}
    if stamp.get("summary"):
        console.out().print(stamp["summary"], markup=False)
    for text in stamp.get("allowed_leakage", []):
        console.out().print(f"Allowed leakage: {text}", markup=False)
    if rows:
        columns = list(rows[0])
        console.print_table(columns, [[row[c] for c in columns] for row in rows])
        console.out().print(
            "p is corrected by Holm's procedure where several heads or scores are asked the same."
        )
    for text in stored.get("notes", []) if notes else []:
        console.out().print(f"Note: {text}", markup=False)
    for text in stored.get("missing", []):
        console.out().print(f"Missing: {text}", markup=False)
