"""Which head is the most confident, by class and by subject, and how well confidences are calibrated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from eegprompt.analyses._reliability import (
    Dependence,
    Reliability,
    dependence_on,
    most_confident,
    reliability,
    shares_by,
)
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image, Omitted
from eegprompt.figures import style as look
from eegprompt.figures.panels import cells, panels
from eegprompt.metrics.classification import roc_auc
from eegprompt.retrieval.search import closeness

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Confidence"]

ALPHA = 0.05
BINS = 8
MOST_GROUPS = 40  # rows of a heat map that can still be read
PERMUTATIONS = 999


@dataclass(frozen=True)
class _Outputs:
    """Retrieved captions of the test trials: arrays (n_trials, n_heads)."""

    ids: np.ndarray
    heads: list[str]
    confidence: np.ndarray
    similarity: np.ndarray
    closeness: np.ndarray  # what a confidence estimates; .5 for a random caption
    right: np.ndarray  # 1 where the caption means what the image's own means
    labels: dict[str, np.ndarray]  # class and subject


class Confidence(Analysis):
    """Most confident heads, what they depend on, and the calibration of confidences.

    Arrays are ``trial_id``, and ``confidence``, ``similarity``, ``closeness``, ``right`` and
    ``most_confident`` of shape (n_trials, n_heads).
    """

    name = "confidence"
    title = "Which head is the most confident"
    question = "Which head is the most confident, and how well confidences are calibrated"
    not_concluded = (
        "The most confident head is not the most important one for the brain or for the image: a "
        "confidence says how well this encoder reads one kind of caption from this EEG, and a kind "
        "with few different captions is easier to be sure of. Raw similarities only mirror how narrow "
        "each kind’s captions lie in text space and must not be compared across heads; they are drawn "
        "to show that."
    )
    answers: ClassVar = {
        "most confident": (
            "By calibrated confidence {head} is the most confident head on {value:.0f} % of trials "
            "(equal shares: {chance:.0f} %; by raw similarity it would be {raw}).",
        )
        * 2,
        "lead": (
            "Its mean confidence is {value:.3f} above the next head’s, more than the error of "
            "calibration ({error:.3f}).",
            "Its mean confidence differs from the next head’s by {value:.3f}, less than the error of "
            "calibration ({error:.3f}): that it is this head and not another may be chance.",
        ),
        "class": (
            "Which head it is depends on the class (Cramér’s V {value:.2f}, {chance:.2f} under "
            "permutation, p = {p:.3f}).",
            "That it depends on the class was not found (Cramér’s V {value:.2f}, {chance:.2f} under "
            "permutation, p = {p:.3f}).",
        ),
        "subject": (
            "Which head it is depends on the subject (Cramér’s V {value:.2f}, {chance:.2f} under "
            "permutation, p = {p:.3f}).",
            "That it depends on the subject was not found (Cramér’s V {value:.2f}, {chance:.2f} under "
            "permutation, p = {p:.3f}).",
        ),
        "calibration": (
            "The median calibration error of the heads is {value:.2f}, at most {hi:.2f} ({head}).",
            "",
        ),
    }

    def compute(self, context: Context) -> Finding:
        """Shares of the heads, their dependence on class and subject, reliability curves."""
        found = _gather(context)
        best, raw = most_confident(found.confidence), most_confident(found.similarity)
        if np.isnan(best).any(axis=1).all():
            raise Omitted("no test trial has a confidence that is a number")
        context.progress(1, 3, "confidence: what it depends on")
        options: dict[str, Any] = {"n_permutations": PERMUTATIONS, "seed": context.seed}
        dependence = {
            "class": dependence_on(
                best, found.labels["class"], units=context.units(found.ids), **options
            ),
            "subject": dependence_on(best, found.labels["subject"], **options),
        }
        curves = [
            reliability(found.confidence[:, i], found.closeness[:, i], BINS)
            for i in range(len(found.heads))
        ]
        context.progress(2, 3, "confidence: figures")
        with look.style():
            figures = [
                _draw_shares(context, found, best, raw),
                *_draw_by_group(context, found, best),
                _draw_reliability(context, found, curves),
            ]
        n_missing = int(np.isnan(found.confidence).sum())
        missing = f"{n_missing} confidences are not numbers; they are left out."
        return self.finding(
            self._answers(found, best, raw, curves, dependence),
            table=_table(found, best, raw, curves),
            figures=figures,
            arrays={
                "trial_id": found.ids,
                "confidence": found.confidence,
                "similarity": found.similarity,
                "closeness": found.closeness,
                "right": found.right,
                "most_confident": best,
            },
            notes=[
                f"{len(found.ids)} test trials; a trial on which heads tie counts in parts.",
                "A confidence estimates how close in meaning the retrieved caption is to the true one: "
                "the share of the pool’s captions that are less similar to it in text space, less what "
                "the caption earns on other trials; 0.5 is a random caption. It was calibrated on "
                "validation trials; the curve is of test trials.",
                "Calibration error: mean distance of the curve from the diagonal, bins of equal numbers "
                "of trials; “by sampling”: what it would be for a calibrated head with as few trials. "
                "“Sure when right”: chance that a trial on which the head is right has the higher "
                "confidence of the two (AUC); 0.5 is none.",
                *([missing] if n_missing else []),
            ],
        )

    def _answers(
        self,
        found: _Outputs,
        best: np.ndarray,
        raw: np.ndarray,
        curves: list[Reliability],
        dependence: dict[str, Dependence],
    ) -> Iterator[Answer]:
        share, n = np.nanmean(best, axis=0), len(found.heads)
        first = int(share.argmax())
        yield self.answer(
            "most confident", n > 1, head=found.heads[first], value=100 * share[first],
            chance=100 / n, raw=found.heads[int(np.nanmean(raw, axis=0).argmax())],
        )  # fmt: skip
        errors = np.array([c.error for c in curves])
        sure = np.array([_mean(column) for column in found.confidence.T])
        rest = np.delete(sure, first)
        if np.isfinite(errors).any() and np.isfinite(rest).any() and np.isfinite(sure[first]):
            lead, error = float(sure[first] - np.nanmax(rest)), np.nanmedian(errors)
            yield self.answer(
                "lead", lead >= error, value=lead if lead >= error else abs(lead), error=error
            )
        for label, one in dependence.items():
            if np.isfinite(one.p):
                yield self.answer(label, one.p < ALPHA, value=one.value, chance=one.chance, p=one.p)
        if np.isfinite(errors).any():
            worst = int(np.nanargmax(errors))
            yield self.answer(
                "calibration", value=np.nanmedian(errors), hi=errors[worst], head=found.heads[worst]
            )


def _gather(context: Context) -> _Outputs:
    ids = context.ids("test")
    if not len(ids):
        raise Omitted("the run has no test trials")
    heads = list(context.heads)
    table = context.decodings
    first = table[(table["rank"] == 1) & table["trial_id"].isin(ids)]
    vectors, meanings = context.true_embeddings(ids), context.true_meanings(ids)
    texts = context.true_captions(ids)
    confidence, similarity, close, right = np.full((4, len(ids), len(heads)), np.nan)
    for j, head in enumerate(heads):
        rows = first[first["head"] == head].drop_duplicates("trial_id").set_index("trial_id")
        rows = rows.reindex(ids)
        confidence[:, j] = rows["confidence"].to_numpy(dtype=float)
        similarity[:, j] = rows["similarity"].to_numpy(dtype=float)
        pool = context.pools[head]
        place = {caption: i for i, caption in enumerate(pool.caption_ids)}
        indices = np.array([place.get(c, -1) for c in rows["caption_id"]])
        known = indices >= 0
        if known.any() and len(pool) > 1:
            own, others = closeness(vectors[head][known], pool, indices[known, None])
            close[known, j] = (own - others + 0.5)[:, 0]
        right[:, j] = _right(rows, texts[head], meanings[head])
    labels = {"class": context.labels(ids, "category"), "subject": context.labels(ids, "subject")}
    return _Outputs(ids, heads, confidence, similarity, close, right, labels)


def _right(rows: pd.DataFrame, texts: list[str], meanings: np.ndarray) -> np.ndarray:
    """1 where the retrieved caption means what the image's own means; NaN where there is none."""
    retrieved = rows["text"].to_numpy(dtype=object)
    means = rows["meaning"].to_numpy(dtype=object) if "meaning" in rows else retrieved
    same = [
        float(text == own or (isinstance(m, str) and m == meaning))
        if isinstance(text, str)
        else np.nan
        for text, own, m, meaning in zip(retrieved, texts, means, meanings)
    ]
    return np.array(same, dtype=float)


def _table(
    found: _Outputs, best: np.ndarray, raw: np.ndarray, curves: list[Reliability]
) -> list[dict[str, Any]]:
    rows = []
    for j, (head, curve) in enumerate(zip(found.heads, curves)):
        right = found.right[:, j] == 1
        scored = np.isfinite(found.right[:, j]) & np.isfinite(found.confidence[:, j])
        both = 0 < right[scored].sum() < scored.sum()
        auc = roc_auc(found.confidence[scored, j], right[scored]) if both else float("nan")
        rows.append(
            {
                "head": head,
                "most confident (%)": _round(100 * np.nanmean(best[:, j]), 1),
                "by raw similarity (%)": _round(100 * np.nanmean(raw[:, j]), 1),
                "confidence": _round(_mean(found.confidence[:, j]), 3),
                "closeness": _round(_mean(found.closeness[:, j]), 3),
                "calibration error": _round(curve.error, 3),
                "by sampling": _round(curve.by_chance, 3),
                "right (%)": _round(100 * _mean(found.right[:, j]), 1),
                "sure when right": _round(auc, 3),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _round(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


# -- figures ---------------------------------------------------------------------------------------
def _draw_shares(context: Context, found: _Outputs, best: np.ndarray, raw: np.ndarray) -> Image:
    n = len(found.heads)
    figure, axes_of = panels(2, 0.6 + 0.22 * n)
    colors = [look.head_style(head)["color"] for head in found.heads]
    for axes, shares, title, alpha in (
        (axes_of[0], best, "calibrated confidence", 1),
        (axes_of[1], raw, "raw similarity (not comparable)", 0.45),
    ):
        mean = 100 * np.nanmean(shares, axis=0)
        axes.barh(range(n), mean, color=colors, height=0.66, alpha=alpha)
        axes.axvline(100 / n, color=look.INK, ls=(0, (3, 2)), lw=1)
        for y, value in enumerate(mean):
            axes.text(value + 0.8, y, f"{value:.0f}", va="center", fontsize=7)
        axes.set_title(title)
        axes.set_xlabel("trials on which it is the most confident head (%)")
        axes.set_xlim(0, max(mean.max() * 1.12, 100 / n * 1.2))
        axes.set_yticks(range(n), found.heads)
    axes_of[0].invert_yaxis()
    return context.save_figure(
        figure, "confidence-shares",
        f"How often each head is the most confident, over {len(found.ids)} test trials. Left by "
        "calibrated confidence; right by raw cosine similarity, whose scale differs between heads. "
        "Dashed: every head equally often.",
    )  # fmt: skip


def _draw_by_group(context: Context, found: _Outputs, best: np.ndarray) -> list[Image]:
    from matplotlib.figure import Figure

    groups = {}
    for name, labels in found.labels.items():
        values, means = shares_by(best, labels)
        if len(values) > 1:
            groups[name] = ([str(v)[:18] for v in values][:MOST_GROUPS], 100 * means[:MOST_GROUPS])
    if not groups:
        return []
    heights = [0.18 * len(names) for names, _ in groups.values()]
    figure = Figure(figsize=(5.2, 1.4 + sum(heights) + 0.25 * len(groups)), layout="constrained")
    axes_of = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True, height_ratios=heights))
    top = max(float(np.nanmax(means)) for _, means in groups.values())
    for axes, (name, (names, means)) in zip(axes_of, groups.items()):
        texts = [["" if np.isnan(v) else f"{v:.0f}" for v in row] for row in means]
        image = cells(
            axes, means, texts, names, found.heads if axes is axes_of[-1] else None, top=top
        )
        axes.set_ylabel(name)
    if sum(len(names) for names, _ in groups.values()) >= 12:  # else its label has no room
        label = "trials on which it is the most confident head (%)"
        figure.colorbar(image, ax=axes_of, label=label, shrink=0.6)
    image_ = context.save_figure(
        figure, "confidence-groups",
        f"Most confident head by {' and by '.join(groups)}, in percent of the trials of a row, by "
        "calibrated confidence.",
    )  # fmt: skip
    return [image_]


def _draw_reliability(context: Context, found: _Outputs, curves: list[Reliability]) -> Image:
    from matplotlib.figure import Figure

    n = len(found.heads)
    columns = min(n, 5)
    rows = -(-n // columns)
    figure = Figure(figsize=(look.TWO_COLUMNS, 0.35 + 1.5 * rows), layout="constrained")
    axes_of = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    ends = [
        v
        for c in curves
        for v in (*c.confidence, *(c.outcome - c.spread), *(c.outcome + c.spread))
        if np.isfinite(v)
    ]
    lo, hi = (min(*ends, 0.45), max(*ends, 0.55)) if ends else (0.0, 1.0)
    lo, hi = max(lo - 0.03, 0), min(hi + 0.03, 1.05)
    for axes, head, curve in zip(axes_of, found.heads, curves):
        style = look.head_style(head)
        axes.plot([lo, hi], [lo, hi], color="0.6", lw=0.8)
        axes.axhline(0.5, color=look.INK, ls=(0, (3, 2)), lw=0.7)
        axes.errorbar(
            curve.confidence, curve.outcome, 2 * curve.spread, color=style["color"],
            marker=style["marker"], ms=3.5, lw=1, elinewidth=0.8,
        )  # fmt: skip
        axes.set_title(head, fontsize=8)
        error = f"error {curve.error:.2f}" if np.isfinite(curve.error) else "no trials"
        axes.text(0.97, 0.05, error, transform=axes.transAxes, ha="right", fontsize=7)
        axes.set_xlim(lo, hi)
        axes.set_ylim(lo, hi)
    for axes in axes_of[n:]:
        axes.set_visible(False)
    figure.supxlabel("confidence (0.5: a random caption)", fontsize=8)
    figure.supylabel("closeness in meaning", fontsize=8)
    return context.save_figure(
        figure, "confidence-reliability",
        "Calibration: how close in meaning retrieved captions were, against the confidence of the "
        "head; bins of equal numbers of test trials, bars two standard errors. On the gray diagonal a "
        "head is calibrated; dashed: a random caption.",
    )  # fmt: skip
