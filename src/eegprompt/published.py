"""A run's scores beside published ones, in one table."""

from __future__ import annotations

import csv
from pathlib import Path

from eegprompt.artifacts import read_json, write_text
from eegprompt.errors import InputError

__all__ = ["write_comparison"]

_ABOUT = ("model", "type", "source")
_DASH = "–"


def write_comparison(run: str | Path, published: str | Path) -> Path:
    """Write ``comparison.md`` into a run: its scores, and published rows as they were printed.

    Nothing published is computed again or checked here. A score that the run does not have is a dash.

    Parameters
    ----------
    run : path-like
        Folder with ``scores.json``.
    published : path-like
        CSV with the columns `model`, `type`, `source`, and one a metric, named as in
        ``scores.json``; an empty cell was not published.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a column.
    """
    path, run = Path(published), Path(run)
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"the published scores {path} cannot be read ({problem})") from None
    if not rows or any(name not in rows[0] for name in _ABOUT):
        raise InputError(f"{path} must have the columns {', '.join(_ABOUT)} and one a metric")
    metrics = [name for name in rows[0] if name not in _ABOUT]
    stored = read_json(run / "scores.json")
    lines = [
        "| " + " | ".join(["", *metrics]) + " |",
        "|---|" + "---|" * len(metrics),
        "| **this run** (measured) | " + " | ".join(_ours(stored, m) for m in metrics) + " |",
    ]
    for row in rows:
        cells = [row.get(m) or _DASH for m in metrics]
        about = f"{row['model']} ({row['source']}; published, not measured here)"
        lines.append(f"| {about} | " + " | ".join(cells) + " |")
    stamp = stored.get("audit") or {}
    notes = [stamp.get("summary", ""), *(f"Waived: {w}" for w in stamp.get("waived", []))]
    notes.append(
        "This run: from EEG [95 % interval; chance]. Published numbers come from other splits, "
        "networks and sample sizes unless their source says otherwise."
    )
    text = "\n".join(["# Beside published scores", "", *lines, "", *(n for n in notes if n)])
    return write_text(run / "comparison.md", text + "\n")


def _ours(stored: dict, metric: str) -> str:
    """The run's score from EEG, over all candidates, of all heads; a dash where there is none."""
    for row in stored.get("rows", []):
        if (
            row.get("metric") == metric
            and row.get("rung") in (None, "eeg")
            and row.get("head") in (None, "ensemble")
            and row.get("scope") in (None, "all")
            and not row.get("subject")
            and row.get("value") is not None
        ):
            text = f"**{row['value']:.3g}**"
            if row.get("lo") is not None:
                text += f" [{row['lo']:.3g}, {row['hi']:.3g}]"
            return text + (f"; {row['chance']:.3g}" if row.get("chance") is not None else "")
    return _DASH
