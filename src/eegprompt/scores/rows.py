"""Rows of scores, what they are made of, and how they are averaged over folds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eegprompt.metrics.base import metric_of
from eegprompt.stats.bootstrap import interval
from eegprompt.stats.multiple import holm
from eegprompt.stats.permutation import permutation_p

__all__ = [
    "KEYS",
    "Score",
    "Units",
    "correct",
    "floor_and_ceiling",
    "identity",
    "mean_of_folds",
    "number",
    "row_of",
]

KEYS = (
    "metric", "source", "head", "pool", "scope", "unit", "n", "n_trials", "value", "lo", "hi",
    "chance", "p", "p_holm", "floor", "ceiling", "generator", "features", "higher_is_better",
    "protocol", "note",
)  # fmt: skip


@dataclass
class Score:
    """A row with what is needed to average it over folds."""

    row: dict[str, Any]
    family: str | None = None
    null: np.ndarray | None = None
    replicates: np.ndarray | None = None
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Units:
    """What is permuted and drawn again: images with all their trials, or single trials.

    Parameters
    ----------
    names : tuple of str
        One a unit.
    index : array of int, shape (n_trials,)
        Unit of each scored trial.
    images : array of int, shape (n_units,)
        Image of each unit, as a row of the list of test images.
    classes : array of int, shape (n_units,)
        Class of each unit.
    strata : array of shape (n_units,), optional
        Labels are exchanged only inside a stratum.
    """

    names: tuple[str, ...]
    index: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    strata: np.ndarray | None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def counts(self) -> np.ndarray:
        """Trials of each unit."""
        return np.bincount(self.index, minlength=len(self.names)).astype(float)

    def totals(self, by_trial: np.ndarray) -> np.ndarray:
        """Sum over each unit's trials."""
        out = np.zeros((len(self.names), *by_trial.shape[1:]))
        np.add.at(out, self.index, by_trial)
        return out

    def subset(self, trials: np.ndarray) -> Units:
        """The units of some of the trials (a bool mask)."""
        kept, index = np.unique(self.index[trials], return_inverse=True)
        return Units(
            tuple(self.names[i] for i in kept),
            index,
            self.images[kept],
            self.classes[kept],
            None if self.strata is None else self.strata[kept],
        )


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same score."""
    keys = ("metric", "source", "head", "scope", "generator", "features", "protocol", "subject")
    return tuple(row.get(k) for k in keys)


def mean_of_folds(group: list[Score]) -> Score:
    """Average one score over folds, with chance, p and interval from averaged permutations and resamples."""
    row = dict(group[0].row)

    def mean(key: str) -> float | None:
        values = [s.row.get(key) for s in group]
        return None if any(v is None for v in values) else float(np.mean(values))  # type: ignore[arg-type]

    units = {name for s in group for name in s.units}
    row["folds"] = [s.row["value"] for s in group]
    for key in ("value", "chance", "floor", "ceiling", "chance_within_class"):
        if key in row:
            row[key] = mean(key)
    row["n_trials"] = sum(int(s.row["n_trials"]) for s in group)
    row["n"] = len(units) or sum(int(s.row["n"]) for s in group)
    for key in (
        "sd",
        "lo",
        "hi",
        "p",
        "p_within_class",
        "floor_lo",
        "floor_hi",
        "ceiling_lo",
        "ceiling_hi",
    ):
        if key in row:
            row[key] = None
    nulls = [s.null for s in group]
    null = None
    if all(n is not None for n in nulls) and row["value"] is not None:
        null = np.mean([n for n in nulls if n is not None], axis=0)
        row["p"] = permutation_p(row["value"], null, higher_is_better=bool(row["higher_is_better"]))
    resampled = [s.replicates for s in group]
    replicates = None
    if all(r is not None for r in resampled) and row["value"] is not None:
        replicates = np.mean([r for r in resampled if r is not None], axis=0)
        row["lo"], row["hi"] = map(number, interval(row["value"], replicates))
    return Score(row, group[0].family, null, replicates, tuple(sorted(units)))


def correct(scores: list[Score]) -> None:
    """Holm's correction inside each family, in place."""
    families: dict[str, list[Score]] = {}
    for score in scores:
        if score.family is not None and score.row["p"] is not None:
            families.setdefault(score.family, []).append(score)
    for members in families.values():
        for score, p in zip(members, holm(np.array([s.row["p"] for s in members]))):
            score.row["p_holm"] = float(p)


def number(value: float | np.floating[Any] | None) -> float | None:
    """A float that JSON can hold."""
    return None if value is None or not np.isfinite(value) else float(value)


def row_of(**given: Any) -> dict[str, Any]:
    """A row with every key, in the order of the format; unit and direction are the metric's own."""
    metric = metric_of(str(given.get("metric")))
    own = {"unit": metric.unit or None, "higher_is_better": metric.higher_is_better}
    return {**dict.fromkeys(KEYS), **own, **given}


def floor_and_ceiling(
    truth: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    queries: np.ndarray | None = None,
) -> tuple[float | None, float | None]:
    """What a random unit's captions and a unit's own captions score.

    Parameters
    ----------
    truth : array of shape (n_images, n_labels)
        What the captions of each image would score, were the label the column's.
    labels : array of int, shape (n_units,)
        Column of each unit.
    counts : array of shape (n_units,)
        Trials of each unit.
    classes : array of shape (n_units,), optional
        The random unit is of the same class.
    queries : array of int, shape (n_units,), optional
        Row of each unit's own captions; `labels` where not given.
    """
    queries = labels if queries is None else queries
    own = truth[queries, labels]
    groups = np.zeros(len(labels), dtype=int) if classes is None else classes
    random = np.empty(len(labels))
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        random[mine] = truth[np.ix_(np.unique(queries[mine]), labels[mine])].mean(axis=0)
    total = counts.sum()
    return number((random * counts).sum() / total), number((own * counts).sum() / total)
