"""What each part of the method is worth: the ablations that a recipe carried out after the run."""

from __future__ import annotations

from typing import Any

from eegprompt.ablations.table import BY_HEAD, MEASURES
from eegprompt.core.errors import RunError
from eegprompt.core.files import read_json
from eegprompt.reports.contents import Material
from eegprompt.reports.sections import Section

__all__ = ["build"]

MAIN = "retrieval_within_class"  # shown where no measure differs
_AXES = {
    "loss": "The loss",
    "positives": "What counts as a match",
    "captions": "Ten captions or one",
    "target": "Captions or images as targets",
    "levels": "The levels of meaning",
    "per-head": "Captions of each head in a prompt",
    "heads": "How many heads speak",
    "pool": "The candidate pool",
    "encoder": "The encoder",
}


def build(material: Material) -> Section | None:
    """One table an axis; None where nothing was compared."""
    path = material.path / "ablation" / "ablation.json"
    if not path.exists():
        return None
    stored = read_json(path, error=RunError, schema="ablation")
    seeds = stored["seeds"]
    return Section(
        "ablations",
        "What each part is worth",
        {
            "axes": [
                _axis(axis, [r for r in stored["rows"] if r["axis"] == axis])
                for axis in dict.fromkeys(row["axis"] for row in stored["rows"])
            ],
            "seeds": f"{len(seeds)} seeds" if len(seeds) > 1 else f"one seed ({seeds[0]})",
            "notes": [
                *stored.get("notes", []),
                *(f"Not measured: {f}" for f in stored.get("failed", [])),
            ],
            "fold": material.over_folds,
        },
        short="Ablations",
    )


def _axis(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Tables of one axis: means over heads, and each head where the variants differ in it."""
    whole = [row for row in rows if row["measure"] != BY_HEAD]
    # what variants cannot differ in, for they share a training, says nothing
    differs = {row["measure"] for row in whole if row["difference"]}
    measures = [m for m in MEASURES if m in differs] or [MAIN]
    of = {(row["variant"], row["measure"]): row for row in whole}
    variants = list(dict.fromkeys(row["variant"] for row in whole))
    by_head = [row for row in rows if row["measure"] == BY_HEAD]
    heads = list(dict.fromkeys(row["head"] for row in by_head))
    of_head = {(row["variant"], row["head"]): row for row in by_head}
    return {
        "title": _AXES.get(name, name),
        "measures": [MEASURES[m][0] for m in measures],
        "rows": [(v, [_cell(of.get((v, m))) for m in measures]) for v in variants],
        "heads": heads if any(row["difference"] for row in by_head) else [],
        "by_head": [(v, [_cell(of_head.get((v, h))) for h in heads]) for v in variants],
    }


def _cell(row: dict[str, Any] | None) -> list[str]:
    """A mean with its spread; below it chance, and the difference from the first variant."""
    if row is None:
        return ["–"]
    lines = [f"{row['mean']:.3f}" + (f" ± {row['sd']:.3f}" if row["sd"] is not None else "")]
    if row["chance"] is not None and row["difference"] is None:
        lines.append(f"chance {row['chance']:.3f}")
    if row["difference"] is not None:
        lines.append(f"{row['difference']:+.3f}")
        if row["lo"] is not None:
            lines.append(f"[{row['lo']:+.3f}, {row['hi']:+.3f}]")
        if row["p"] is not None:
            lines.append(f"p = {row['p']:.3f}")
    return [line.replace("-", "−") for line in lines]
