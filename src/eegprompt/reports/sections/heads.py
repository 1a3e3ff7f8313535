"""Retrieval by head: which kinds of meaning were found, against chance."""

from __future__ import annotations

from eegprompt.core.kinds import KINDS, Level
from eegprompt.reports.charts import Scale
from eegprompt.reports.contents import Material
from eegprompt.reports.sections import Section
from eegprompt.reports.sections.scores import Block, blocks

__all__ = ["build"]

_ORDER = {"retrieval_top1": 0, "retrieval_top5": 1}
_CATEGORY = {"retrieval_class": 2, "auc": 3, "class_accuracy": 4}


def build(material: Material) -> Section | None:
    """Panels of all heads; None where no head was scored.

    Where only categories are known there is no retrieval of single captions: then the panels show
    how well each head tells the categories apart.
    """
    found = [b for b in blocks(material.scores) if b.many == "head"]
    panels = [b for b in found if b.rows[0].score.what.key in _ORDER]
    if not panels:
        panels = [b for b in found if b.rows[0].score.what.key in _CATEGORY][:2]
    if not panels:
        return None
    panels.sort(key=_place)
    for panel in panels:
        # the ceiling is not drawn here, so that the heads can be told apart
        every = [(r.score.value, r.score.lo, r.score.hi, r.score.chance) for r in panel.rows]
        numbers = [float(v) for four in every for v in four if v is not None]
        panel.scale = Scale.of(numbers, panel.scale.unit, zero=panel.scale.unit == "proportion")
        panel.rows.sort(key=lambda r: KINDS[str(r.score.head)].prompt_order)
    return Section(
        "heads",
        "Which kinds of meaning were found",
        {
            "panels": panels,
            "levels": [level.value for level in Level],
            "kinds": {name: kind.says for name, kind in KINDS.items()},
            "level_of": {name: kind.level.value for name, kind in KINDS.items()},
            "is_range": material.spread_is_range,
            "one_finding": material.one_finding,
            "tested": any(r.score.best_p is not None for p in panels for r in p.rows),
        },
        short="By head",
    )


def _place(panel: Block) -> tuple[bool, int]:
    score = panel.rows[0].score
    return (not score.within_class, ({**_ORDER, **_CATEGORY})[score.what.key])
