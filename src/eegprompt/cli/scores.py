"""Scores as a table that fits a terminal; no number without its chance and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eegprompt.artifacts import read_json
from eegprompt.cli import console

__all__ = ["print_scores", "score_lines"]

_COLUMNS = ("score", "value", "95 % interval", "chance", "p (Holm)", "floor", "ceiling", "n")


def print_scores(runs: Sequence[Any]) -> None:
    """Print the scores of each run, with the notes that belong to them."""
    for run in runs:
        stored = read_json(run.scores_path)
        title = str(run.path) if len(runs) > 1 else ""
        console.print_table(_COLUMNS, score_lines(stored["rows"]), title=title)
        for text in [*stored.get("notes", []), *stored.get("missing", [])]:
            console.out().print(f"  {_sentence(text)}", markup=False)


def score_lines(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One line a score row, in the columns of the table.

    Parameters
    ----------
    rows : sequence of dict
        Rows of ``scores.json``; a key that does not apply is None or absent.

    Returns
    -------
    list of tuple of str
        Name, value, interval, chance, p (corrected where it was), floor, ceiling, n.

    Examples
    --------
    >>> score_lines([{"metric": "top1", "value": 0.5, "lo": 0.4, "hi": 0.6, "chance": 0.1, "n": 9}])
    [('top1', '0.500', '0.400–0.600', '0.100', '', '', '', '9')]
    """
    return [
        (
            _name(row),
            _number(row.get("value")),
            _interval(row.get("lo"), row.get("hi")),
            _number(row.get("chance")),
            _p(row.get("p_holm"), row.get("p")),
            _number(row.get("floor")),
            _number(row.get("ceiling")),
            "" if row.get("n") is None else str(row["n"]),
        )
        for row in rows
    ]


def _name(row: dict[str, Any]) -> str:
    parts = [str(row.get("metric", ""))]
    if row.get("rung") not in (None, "eeg"):
        parts.append(str(row["rung"]))
    if row.get("head"):
        parts.append(str(row["head"]))
    if row.get("pool"):
        parts.append(f"pool {row['pool']}")
    if row.get("scope") not in (None, "all"):
        parts.append(str(row["scope"]))
    return " · ".join(parts)


def _number(value: Any) -> str:
    return "" if value is None else f"{float(value):.3f}"


def _interval(low: Any, high: Any) -> str:
    return "" if low is None or high is None else f"{float(low):.3f}–{float(high):.3f}"


def _p(corrected: Any, raw: Any) -> str:
    value = corrected if corrected is not None else raw
    if value is None:
        return ""
    mark = "" if corrected is not None else " (uncorrected)"
    return (f"{float(value):.4f}" if value >= 0.0001 else "< 0.0001") + mark


def _sentence(text: Any) -> str:
    return text if isinstance(text, str) else ", ".join(f"{k}: {v}" for k, v in dict(text).items())
