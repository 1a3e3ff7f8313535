"""Score rows as they are shown: one dot with all that must stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from eegprompt.core.kinds import KINDS
from eegprompt.metrics.base import Metric, metric_of
from eegprompt.reports.wording import interval, is_missing, number, p_value

__all__ = ["Score", "mean_over_folds"]


@dataclass(frozen=True)
class Score:
    """One row of ``scores.json``; what does not apply is None."""

    metric: str
    value: float | None = None
    source: str | None = None
    head: str | None = None
    pool: str | None = None
    scope: str | None = None
    unit: str | None = None
    n: int | None = None
    n_trials: int | None = None
    lo: float | None = None
    hi: float | None = None
    chance: float | None = None
    p: float | None = None
    p_holm: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    generator: str | None = None
    features: str | None = None
    higher_is_better: bool | None = None
    protocol: str | None = None
    note: str | None = None
    subject: str | None = None
    chance_within_class: float | None = None
    p_within_class: float | None = None
    floor_lo: float | None = None
    floor_hi: float | None = None
    ceiling_lo: float | None = None
    ceiling_hi: float | None = None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Score:
        """Read one row; keys that are not known are left alone, NaN counts as None."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            k: None if is_missing(v) else v for k, v in row.items() if k in known
        }
        if not values.get("metric"):
            values["metric"] = "unnamed"
        return cls(**values)

    @property
    def what(self) -> Metric:
        """What the score is called and says."""
        return metric_of(self.metric)

    @property
    def within_class(self) -> bool:
        """Whether comparisons stay within a category."""
        return (self.scope or "") == "within-class"

    @property
    def label(self) -> str:
        """Its name, with the scope where comparisons stay within a category."""
        return self.what.label + (", within class" if self.within_class else "")

    @property
    def per_head(self) -> bool:
        """Whether it belongs to one of the ten heads."""
        return self.head in KINDS

    @property
    def text(self) -> str:
        """Its value, in its unit."""
        return number(self.value, self.unit)

    @property
    def interval(self) -> str:
        """Its interval, in its unit."""
        return interval(self.lo, self.hi, self.unit)

    @property
    def best_p(self) -> float | None:
        """The corrected p where there is one, else the plain p."""
        return self.p_holm if self.p_holm is not None else self.p

    @property
    def p_text(self) -> str:
        """Both p values in words."""
        if self.p is None and self.p_holm is None:
            return "not tested"
        plain = p_value(self.p)
        return plain if self.p_holm is None else f"{plain} (Holm {p_value(self.p_holm)})"

    @property
    def sources_key(self) -> tuple[Any, ...]:
        """What the prompt sources of one score have in common."""
        return (
            self.metric,
            self.head,
            self.pool,
            self.scope,
            self.unit,
            self.generator,
            self.features,
            self.protocol,
            self.subject,
        )

    @property
    def member(self) -> str | None:
        """The head or the subject it belongs to, where it is one of several such rows."""
        if self.per_head:
            return self.head
        return f"subject {self.subject}" if self.subject is not None else None

    def fmt(self, value: float | None) -> str:
        """Another value in this score's unit."""
        return number(value, self.unit)

    def between(self, side: str) -> str:
        """Interval of ``floor`` or ``ceiling``, if there is one."""
        return interval(getattr(self, f"{side}_lo"), getattr(self, f"{side}_hi"), self.unit)

    @property
    def extent(self) -> list[float]:
        """All numbers that must fit on its axis."""
        every = [self.value, self.lo, self.hi, self.chance, self.floor, self.ceiling]
        every += [self.floor_lo, self.floor_hi, self.ceiling_lo, self.ceiling_hi]
        return [float(v) for v in every if v is not None]


def is_main(score: Score) -> bool:
    """Whether this is the decoder's own row rather than a prompt source it is compared with."""
    return score.source in (None, "", "eeg")


def mean_over_folds(folds: Sequence[Sequence[Score]]) -> list[Score]:
    """Mean of each score over folds, with the range over folds in place of an interval.

    A p value is left out: folds share training trials, so theirs cannot simply be combined.
    """
    by_key: dict[tuple[Any, ...], list[Score]] = {}
    for rows in folds:
        for score in rows:
            by_key.setdefault((*score.sources_key, score.source), []).append(score)
    means = []
    for group in by_key.values():
        values = [s.value for s in group if s.value is not None]
        means.append(
            replace(
                group[0],
                value=_mean(group, "value"),
                lo=min(values, default=None),
                hi=max(values, default=None),
                chance=_mean(group, "chance"),
                floor=_mean(group, "floor"),
                ceiling=_mean(group, "ceiling"),
                n=_sum(group, "n"),
                n_trials=_sum(group, "n_trials"),
                chance_within_class=_mean(group, "chance_within_class"),
                p=None,
                p_holm=None,
                p_within_class=None,
                floor_lo=None,
                floor_hi=None,
                ceiling_lo=None,
                ceiling_hi=None,
            )
        )
    return means


def _mean(group: Sequence[Score], name: str) -> float | None:
    values = [getattr(s, name) for s in group if getattr(s, name) is not None]
    return float(np.mean(values)) if values else None


def _sum(group: Sequence[Score], name: str) -> int | None:
    values = [getattr(s, name) for s in group if getattr(s, name) is not None]
    return int(sum(values)) if values else None
