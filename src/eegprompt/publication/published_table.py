"""Scores of a run beside published ones, as rows of one table.

Nothing published is computed again or checked. A score of ours is printed only where it was made
with the networks of the field: one on built-in features would look comparable and is not.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegprompt.core.errors import InputError, RunError
from eegprompt.core.files import read_json

__all__ = ["Cell", "Comparison", "Row", "compare"]

ABOUT = ("model", "type", "source")
HEADINGS = {
    "inception_score": "IS ↑",
    "kid": "KID ↓",
    "fid": "FID ↓",
    "pixcorr": "PixCorr ↑",
    "ssim": "SSIM ↑",
    "two_way_alex2": "Alex2 ↑",
    "two_way_alex5": "Alex5 ↑",
    "two_way_inception": "Inception ↑",
    "two_way_clip": "CS ↑",
    "swav_distance": "SwAV ↓",
    "class_accuracy": "Accuracy ↑",
}
"""Headings of the paper's Table 1; another metric stands under its own name."""

_DASH = "–"
_NUMBER = re.compile(r"\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(?:±\s*([\d.]+))?\s*", re.IGNORECASE)
# What stands in place of the decoded prompt -> how its row is called.
_OTHERS = {
    "noise": "noise in place of the EEG",
    "shuffled": "another trial's EEG",
    "wrong-class": "captions of an image of another class",
    "predicted-class": "the decided class's name as the prompt",
    "true-class": "the true class's name as the prompt",
    "reference": "the images shown, in place of drawn ones",
    "reference-vae": "the images shown, through the generator's coding",
    "real": "training images, in place of drawn ones",
    "gray": "a plain gray image",
    "mean-image": "the mean training image",
}


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Parameters
    ----------
    value : float
    sd : float or None
        What stands behind a ±.
    lo, hi : float or None
        The 95 % interval.
    text : str
        As it was printed, where it was; else the number to three digits.
    """

    value: float
    sd: float | None = None
    lo: float | None = None
    hi: float | None = None
    text: str = ""

    def __str__(self) -> str:
        if self.text:
            return self.text
        said = f"{self.value:.3g}" if abs(self.value) < 1000 else f"{self.value:,.0f}"
        if self.sd is not None:
            said += f" ± {self.sd:.2g}"
        if self.lo is not None and self.hi is not None:
            said += f" [{self.lo:.3g}, {self.hi:.3g}]"
        return said


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Parameters
    ----------
    model, type, source : str
        As published; of ours, what the images were drawn from.
    measured : bool
        Whether it was measured in this run.
    cells : dict of str to Cell
        By metric; what is not there was not published or not computed.
    n, protocol, weights : str
        Of the rows that were measured.
    """

    model: str
    type: str
    source: str
    measured: bool
    cells: dict[str, Cell] = field(default_factory=dict)
    n: str = ""
    protocol: str = ""
    weights: str = ""


@dataclass(frozen=True)
class Comparison:
    """Published rows and the rows of a run.

    Parameters
    ----------
    metrics : list of str
        Columns, in the order of the published table.
    rows : list of Row
        Published ones first.
    notes : list of str
        What must be read with them.
    """

    metrics: list[str]
    rows: list[Row]
    notes: list[str]

    @property
    def headings(self) -> list[str]:
        """The metrics as the paper's table calls them."""
        return [HEADINGS.get(metric, metric) for metric in self.metrics]

    def markdown(self, title: str) -> str:
        """The table as a Markdown page."""
        lines = [
            f"# {title}",
            "",
            "| " + " | ".join(["model", "type", *self.headings]) + " |",
            "|---" * (2 + len(self.metrics)) + "|",
        ]
        for row in self.rows:
            cells = [str(row.cells.get(m, _DASH)) for m in self.metrics]
            name = f"**{row.model}**" if row.measured else f"{row.model} ({row.source})"
            lines.append("| " + " | ".join([name, row.type, *cells]) + " |")
        lines += ["", "What each row of this run rests on:", ""]
        lines += ["| row | n | protocol | network weights |", "|---|---|---|---|"]
        for row in self.rows:
            if row.measured:
                told = (row.model, row.n, row.protocol or _DASH, row.weights or _DASH)
                lines.append("| " + " | ".join(told) + " |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]) + "\n"

    def csv(self) -> str:
        """The table as CSV: numbers alone, ± and intervals in columns of their own."""
        spread = {
            part: [
                m
                for m in self.metrics
                if any(getattr(r.cells[m], part) is not None for r in self.rows if m in r.cells)
            ]
            for part in ("sd", "lo", "hi")
        }
        columns = [*ABOUT, "measured", "n", "protocol", "weights"]
        for metric in self.metrics:
            columns.append(metric)
            columns += [f"{metric}_{part}" for part in spread if metric in spread[part]]
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            line: dict[str, Any] = {
                "model": row.model,
                "type": row.type,
                "source": row.source,
                "measured": "here" if row.measured else "published",
                "n": row.n,
                "protocol": row.protocol,
                "weights": row.weights,
            }
            for metric, cell in row.cells.items():
                line[metric] = repr(cell.value)
                for part in spread:
                    if (value := getattr(cell, part)) is not None:
                        line[f"{metric}_{part}"] = repr(value)
            writer.writerow(line)
        return stream.getvalue()


def compare(run: str | Path, published: str | Path) -> Comparison:
    """Put a run's scores beside published ones.

    Parameters
    ----------
    run : path-like
        Folder with ``scores.json``.
    published : path-like
        CSV with the columns `model`, `type`, `source`, and one a metric, named as in
        ``scores.json``. A cell is a number, or a number ± another; an empty one was not published.

    Returns
    -------
    Comparison
        The rows of the run: from EEG, the same among references of the same class, chance by
        permutation, floor, ceiling, and whatever else was drawn or stands beside it.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or a cell is no number.
    RunError
        If the run has no scores.
    """
    metrics, rows = _published(Path(published))
    path = Path(run) / "scores.json"
    if not path.exists():
        raise RunError(f"{path} is missing; write it with 'eegprompt evaluate {run}'")
    stored = read_json(path, error=RunError, schema="scores")
    ours, left_out = _ours(stored.get("rows", []), metrics)
    stamp = stored.get("audit") or {}
    notes = [
        stamp.get("summary", ""),
        *(f"Allowed leakage: {w}." for w in stamp.get("allowed_leakage", [])),
    ]
    notes.append(
        "Published rows are as printed, not measured here; they come from other splits, networks "
        "and sample sizes unless their source says otherwise."
    )
    notes.append(
        "In brackets: 95 % interval, by a bootstrap over images. IS grows with n, FID and KID depend "
        "on it: compare them with the rows of real images at the same n."
    )
    if "two_way_clip" in metrics:
        notes.append(
            "CS is not defined in the paper; it is read as two-way identification on CLIP features. "
            "The cosine and the CLIPScore stand in scores.json under their own names."
        )
    if left_out:
        notes.append(
            f"Not in the table, for built-in features cannot be compared with published scores: "
            f"{', '.join(left_out)}."
        )
    notes += [f"Missing: {text}" for text in stored.get("missing", []) if "image scores" in text]
    return Comparison(metrics, rows + ours, [note for note in notes if note])


def _published(path: Path) -> tuple[list[str], list[Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(f"the published scores {path} cannot be read ({problem})") from None
    if not lines or any(name not in lines[0] for name in ABOUT):
        raise InputError(f"{path} must have the columns {', '.join(ABOUT)} and one a metric")
    metrics = [name for name in lines[0] if name and name not in ABOUT]
    rows = []
    for number, line in enumerate(lines, 2):
        cells = {}
        for metric in metrics:
            text = (line[metric] or "").strip()
            if not text:
                continue
            found = _NUMBER.fullmatch(text)
            if found is None:
                raise InputError(
                    f"{path}, line {number}: '{metric}' must be a number, a number ± another, or "
                    f"empty, got '{text}'"
                )
            sd = float(found[2]) if found[2] else None
            cells[metric] = Cell(float(found[1]), sd, text=text)
        model, kind, source = (line[name] or "" for name in ABOUT)
        rows.append(Row(model, kind, source, measured=False, cells=cells))
    return metrics, rows


def _ours(stored: Iterable[dict[str, Any]], metrics: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows of the run, and metrics that were left out for their features."""
    found = [
        row
        for row in stored
        if row.get("metric") in metrics
        and row.get("head") in (None, "ensemble")
        and not row.get("subject")
        and row.get("value") is not None
    ]
    foreign = [r for r in found if str(r.get("features") or "").partition(":")[0] == "builtin"]
    found = [row for row in found if row not in foreign]
    main = [
        r for r in found if r.get("source") in (None, "eeg") and r.get("scope") != "within-class"
    ]
    within = [r for r in found if r.get("source") == "eeg" and r.get("scope") == "within-class"]
    rows = [
        _row("this run, from EEG", main, "value"),
        _row("from EEG, among references of the same class", within, "value"),
        _row("chance, by permutation", main, "chance"),
        _row("floor: random captions", main, "floor"),
        _row("ceiling: the true captions", main, "ceiling"),
    ]
    for source, words in _OTHERS.items():
        mine = [r for r in found if r.get("source") == source and r.get("scope") != "within-class"]
        rows.append(_row(words, mine, "value"))
    left_out = [m for m in metrics if any(r["metric"] == m for r in foreign)]
    return [row for i, row in enumerate(rows) if row.cells or not i], left_out


def _row(name: str, scores: Sequence[dict[str, Any]], key: str) -> Row:
    cells: dict[str, Cell] = {}
    about: dict[str, dict[str, str]] = {"n": {}, "protocol": {}, "weights": {}}
    for score in scores:
        metric = score["metric"]
        if score.get(key) is None or metric in cells:
            continue
        ends = ("lo", "hi") if key == "value" else (f"{key}_lo", f"{key}_hi")
        lo, hi = (score.get(end) for end in ends)
        cells[metric] = Cell(score[key], score.get("sd") if key == "value" else None, lo, hi)
        about["n"][metric] = _how_many(score)
        for what in ("protocol", "weights"):
            if score.get(what):
                about[what][metric] = str(score[what])
    n, protocol, weights = (_shared(of) for of in about.values())
    return Row(name, "", "", True, cells, n, protocol, weights)


def _how_many(score: dict[str, Any]) -> str:
    n, trials = score["n"], score.get("n_trials")
    return f"{n:,}" if trials in (None, n) else f"{n:,} images in {trials:,} trials"


def _shared(of: dict[str, str]) -> str:
    """What most metrics have in common, and then the others with their names."""
    if not of:
        return ""
    groups: dict[str, list[str]] = {}
    places = {metric: i for i, metric in enumerate(HEADINGS)}
    for metric in sorted(of, key=lambda m: places.get(m, len(places))):
        said = of[metric]
        groups.setdefault(said, []).append(HEADINGS.get(metric, metric).rstrip(" ↑↓"))
    most = Counter(of.values()).most_common(1)[0][0]
    if len(groups) == 1:
        return most
    named = {said: f"{said} ({', '.join(names)})" for said, names in groups.items()}
    return "; ".join([named.pop(most), *named.values()])
