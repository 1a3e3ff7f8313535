"""The score table: every number with its interval, chance, floor, ceiling, n and p."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from eegprompt.core.kinds import KINDS
from eegprompt.reports.charts import Scale
from eegprompt.reports.contents import Material
from eegprompt.reports.score_rows import Score, is_main
from eegprompt.reports.sections import Section
from eegprompt.reports.wording import SOURCES, plural
from eegprompt.scores.image_scores import FEW_IMAGES

__all__ = ["ALPHA", "Block", "Row", "blocks", "build"]

ALPHA = 0.01
"""A score counts as above chance below this p, corrected where a corrected one exists."""

_GROUPS = (
    ("within", "Within class", "Compared only with images of the same category: what knowing the "
     "category cannot lift."),
    ("category", "Categories", "Which category was seen."),
    ("image", "Images", "How close what was drawn comes to what was shown."),
    ("caption", "Captions", "Which caption describes what was seen, among all of the pool."),
    ("other", "Other scores", ""),
)  # fmt: skip

_ALONE = {
    "class_accuracy": "Category, by each head alone",
    "auc": "Telling the categories apart (AUC), each head alone",
}
_SHAPES = {"low": "circle", "mid": "square", "high": "diamond", "other": "circle"}


@dataclass
class Row:
    """One score with the prompt sources it is compared with."""

    score: Score
    label: str
    meta: str = ""
    css: str = "eeg"
    shape: str = "circle"
    sources: list[Score] = field(default_factory=list)

    def source(self, name: str) -> Score | None:
        """The row of another prompt source of the group, if there is one."""
        return next((s for s in self.sources if s.source == name), None)

    @property
    def floor(self) -> float | None:
        """Value of the floor, from the row itself or from its own row."""
        return self._side("floor")

    @property
    def ceiling(self) -> float | None:
        """Value of the ceiling, from the row itself or from its own row."""
        return self._side("ceiling")

    def _side(self, name: str) -> float | None:
        own = getattr(self.score, name)
        other = self.source(name)
        return own if own is not None else other.value if other else None

    @property
    def further(self) -> list[Score]:
        """Prompt sources beyond floor and ceiling."""
        return [s for s in self.sources if s.source not in ("floor", "ceiling")]

    @property
    def hollow(self) -> bool:
        """Whether a test did not find it above chance."""
        return self.score.best_p is not None and self.score.best_p >= ALPHA

    @property
    def few(self) -> str:
        """A caution where an image score rests on few images or references; empty elsewhere."""
        n, references = self.score.n, re.search(r"only (\d+) references", self.score.note or "")
        if self.score.what.group != "image" or n is None:
            return ""
        if references is None and n >= FEW_IMAGES:
            return ""
        against = f" and {references[1]} references" if references else ""
        return f"Few: {n:,} images{against}. Only a large difference could show."

    @property
    def count(self) -> str:
        """n in words: conditions, and trials where they differ."""
        return f"{self.n} ({self.n_trials})" if self.n_trials else self.n

    @property
    def n(self) -> str:
        """Number of conditions."""
        n = self.score.n if self.score.n is not None else self.score.n_trials
        return f"{n:,}" if n is not None else "–"

    @property
    def n_trials(self) -> str:
        """Number of trials in words, where it differs from the number of conditions."""
        n, trials = self.score.n, self.score.n_trials
        return plural(trials, "trial") if trials is not None and n not in (None, trials) else ""

    @property
    def spoken(self) -> str:
        """The row for a screen reader."""
        s = self.score
        parts = [f"{self.label}: {s.text} {s.interval}".strip()]
        for name, value in (("chance", s.chance), ("floor", self.floor), ("ceiling", self.ceiling)):
            if value is not None:
                parts.append(f"{name} {s.fmt(value)}")
        return ", ".join(parts)


@dataclass
class Block:
    """Rows drawn on one axis; `many` says of what they are many, ``head`` or ``subject``."""

    title: str
    says: str
    meta: str
    rows: list[Row]
    scale: Scale
    symbol: str
    group: str
    many: str
    lower_is_better: bool = False

    @property
    def count(self) -> str:
        """n of all rows: one number, or from the smallest to the largest."""
        known = sorted({r.score.n for r in self.rows if r.score.n is not None})
        if len(known) < 2:
            return self.rows[0].count
        return f"{known[0]:,} to {known[-1]:,}"

    @property
    def above(self) -> str:
        """How many rows are above chance, in words; empty where none was tested."""
        tested = [r for r in self.rows if r.score.best_p is not None]
        if not tested:
            return ""
        corrected = all(r.score.p_holm is not None for r in tested)
        hits = sum(1 for r in tested if not r.hollow)
        kind = "Holm-corrected p" if corrected else "p, not corrected,"
        return f"{hits} of {len(tested)} above chance ({kind} < 0.01)"


def build(material: Material) -> Section | None:
    """The table; None if there are no scores."""
    if not material.scores:
        return None
    found = blocks(material.scores)
    groups = [
        {"key": key, "title": title, "says": says, "blocks": [b for b in found if b.group == key]}
        for key, title, says in _GROUPS
    ]
    return Section(
        "scores",
        "Scores",
        {
            "groups": [g for g in groups if g["blocks"]],
            "notes": material.score_notes,
            "missing": material.score_missing,
            "folds": _folds(material),
            "over_folds": material.over_folds,
            "is_range": material.spread_is_range,
            "no_within": not any(s.within_class for s in material.scores),
            "known": material.study is None or material.study.image_identity == "known",
            "in_class": any(s.chance_within_class is not None for s in material.scores),
            "source_names": SOURCES,
            "meanings": list(
                {r.score.what.label: r.score.what for b in found for r in b.rows}.items()
            ),
            "one_finding": material.one_finding,
        },
    )


def blocks(scores: list[Score]) -> list[Block]:
    """Arrange scores in blocks that share an axis, heads in prompt order."""
    several_generators = len({s.generator for s in scores if s.generator}) > 1
    groups: dict[tuple[Any, ...], list[Score]] = {}
    for score in scores:
        groups.setdefault(score.sources_key, []).append(score)
    rows: dict[tuple[Any, ...], list[Row]] = {}
    for group in groups.values():
        main = next((s for s in group if is_main(s)), group[0])
        rows.setdefault(_block_key(main), []).append(
            Row(
                main,
                _row_label(main),
                _meta(main, name_generator=several_generators),
                *_look(main),
                sources=[s for s in group if s is not main],
            )
        )
    return [_block(group) for group in rows.values()]


def _block_key(score: Score) -> tuple[Any, ...]:
    """Scores with this in common are drawn on one axis: of one metric, or of one quantity."""
    several = _several(score)
    if several:
        return (several, score.metric, score.scope, score.unit, score.pool, score.generator)
    # FID and KID are both distances, of quite different size.
    alone = score.metric if score.scope == "set" else None
    return (several, score.within_class, score.what.group, score.what.symbol, score.unit, alone)


def _several(score: Score) -> str:
    return "head" if score.per_head else "subject" if score.subject is not None else ""


def _look(score: Score) -> tuple[str, str]:
    level = KINDS[score.head].level.value if score.head in KINDS else None
    return (f"level-{level}", _SHAPES[level]) if level else ("eeg", "circle")


def _row_label(score: Score) -> str:
    if score.member is not None:
        return score.member
    alone = (None, "", "all", "ensemble")
    return score.label if score.head in alone else f"{score.label} ({score.head})"


def _block(rows: list[Row]) -> Block:
    rows.sort(key=lambda r: KINDS[r.score.head].prompt_order if r.score.head in KINDS else -1)
    first = rows[0].score
    values = [v for r in rows for s in (r.score, *r.sources) for v in s.extent]
    title, says = first.label, first.what.says
    if _several(first) == "head" and first.what.key in _ALONE:
        title, says = _ALONE[first.what.key], "By each head's own probabilities. " + says
    elif _several(first) == "subject":
        title += ", by subject"
    return Block(
        title=title,
        says=says,
        meta=rows[0].meta,
        rows=rows,
        scale=Scale.of(values, first.unit, zero=first.what.key.startswith("retrieval_top")),
        symbol=first.what.symbol,
        group="within" if first.within_class else first.what.group,
        many=_several(first),
        lower_is_better=first.higher_is_better is False,
    )


def _meta(score: Score, *, name_generator: bool) -> str:
    parts = []
    if score.pool:
        parts.append(f"pool {score.pool}")
    if score.features:
        parts.append(f"{score.features} features")
    if score.protocol:
        parts.append(f"protocol: {score.protocol}")
    if score.generator and name_generator:
        parts.append(f"drawn by {score.generator}")
    if score.higher_is_better is False:
        parts.append("lower is better")
    return " · ".join(parts)


def _folds(material: Material) -> dict[str, Any] | None:
    """Each fold's values, for a run over folds."""
    if not material.over_folds:
        return None
    table: dict[tuple[Any, ...], dict[str, Score]] = {}
    for run in material.runs:
        for score in run.scores:
            if is_main(score) and score.member is None:
                table.setdefault(score.sources_key, {})[run.label] = score
    rows = []
    for cells in table.values():
        first = next(iter(cells.values()))
        rows.append((_row_label(first), [cells.get(r.label) for r in material.runs]))
    return {"names": [r.label for r in material.runs], "rows": rows}
