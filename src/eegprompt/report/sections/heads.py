"""Retrieval by head: which kinds of meaning were found, against chance."""

from __future__ import annotations

from eegprompt.kinds import KINDS, Level
from eegprompt.report.material import Material
from eegprompt.report.sections import Section
from eegprompt.report.sections.scores import Block, blocks

__all__ = ["build"]

_ORDER = {"retrieval_top1": 0, "retrieval_top5": 1}


def build(material: Material) -> Section | None:
    """Panels of all heads; None where no head was scored."""
    panels = [
        b
        for b in blocks(material.scores)
        if b.many and b.rows[0].score.what.key in _ORDER and len(b.rows)
    ]
    if not panels:
        return None
    panels.sort(key=_place)
    for panel in panels:
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
        },
        short="By head",
    )


def _place(panel: Block) -> tuple[bool, int]:
    score = panel.rows[0].score
    return (not score.within_class, _ORDER[score.what.key])
