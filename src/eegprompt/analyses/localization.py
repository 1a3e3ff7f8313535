"""On a simulated study: do the maps find what was planted?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses._maps import (
    METHODS,
    Patterns,
    attributions_of,
    level_maps,
    levels_of,
    patterns_of,
)
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image
from eegprompt.attribution.localization import (
    latency_error,
    level_separation,
    localization_auc,
    planted_map,
    window,
)
from eegprompt.attribution.patterns import peak
from eegprompt.core.kinds import KINDS
from eegprompt.figures.style import LEVEL_COLORS, LEVEL_MARKERS, TWO_COLUMNS, style

__all__ = ["Localization", "localize", "planted_maps"]

TITLES = {
    **METHODS,
    "patterns": "activation patterns",
    "class_means": "class means (no model)",
    "untrained": "untrained (weights shuffled)",
}
FAR = 0.03  # seconds from its own sources at which a peak is called another's

Rows = list[dict[str, Any]]


class Localization(Analysis):
    """Localization of every method against the planted sources, by kind."""

    name = "localization"
    title = "Do the maps find what was planted?"
    question = "Do the maps find what was planted (simulated studies)?"
    not_concluded = (
        "That the simulation puts moods in frontal sources at 300–400 ms is an assumption of the paper "
        "that was built in: finding it again validates the method, not the neuroscience. How well the "
        "method does here is no measure of how well it does on a recording, whose sources are not few "
        "patches."
    )
    answers: ClassVar = {
        "patterns": (
            "Activation patterns rank the planted electrodes with a mean AUC of {value:.2f} (least "
            "{least:.2f}, chance .5); {others}.",
        )
        * 2,
        "levels": (
            "Each level's map is most like its own planted map.",
            "Levels are not all apart: {pairs}.",
        ),
        "elsewhere": (
            "",
            "{head} peaks at {value:.0f} ms, not at {chance:.0f} ms where its own sources do{where}.",
        ),
    }
    needs_truth = True

    def compute(self, context: Context) -> Finding:
        """AUC and latency error of every method and head."""
        known = patterns_of(context)
        total, own = planted_maps(context)
        everything = localize(context, total)
        # A head at chance has no map to speak of; where all are, all are shown as they are.
        heads = [h for h in total if h in known.above_chance] or list(total)
        by_method = _by_method([row for row in everything if row["head"] in heads])
        auc = [r["auc"] for r in by_method["patterns"]]
        good = bool(np.nanmean(auc) >= 0.9 and np.nanmin(auc) >= 0.8)
        with style():
            images = [_figure(context, by_method), _latencies(context, known, total)]
        which = (
            f"Means are over the {len(heads)} heads above chance."
            if known.above_chance
            else "No head is above chance."
        )
        return self.finding(
            self._answers(context, known, by_method, total, {h: own[h] for h in heads}, good),
            table=[_summary(method, rows) for method, rows in by_method.items()],
            figures=images,
            arrays={
                **{f"planted/{h}": m.astype(np.float32) for h, m in total.items()},
                **{
                    f"auc/{method}": np.asarray([row["auc"] for row in rows], dtype=np.float32)
                    for method, rows in _by_method(everything).items()
                },
            },
            verdict="the patterns localize" if good else "the patterns do not localize well",
            good=good,
            notes=[
                "Planted: covariance of the noise-free sensors of all kinds with a kind's caption "
                "embeddings, over all images. An electrode counts as planted from half of the largest "
                "value on, within ± 24 ms of the map's own peak; maps without time are compared at the "
                f"planted peak. {which}"
            ],
        )

    def _answers(
        self,
        context: Context,
        known: Patterns,
        by_method: dict[str, Rows],
        total: dict[str, np.ndarray],
        own: dict[str, np.ndarray],
        good: bool,
    ) -> Iterator[Answer]:
        mean = {m: float(np.nanmean([r["auc"] for r in rows])) for m, rows in by_method.items()}
        others = ", ".join(
            f"{TITLES[m]} {mean[m]:.2f}"
            for m in ("saliency", "class_means", "untrained")
            if m in mean
        )
        least = np.nanmin([r["auc"] for r in by_method["patterns"]])
        yield self.answer(
            "patterns", good, value=mean["patterns"], least=least, chance=0.5, others=others
        )
        found = {h: known.found[h].z for h in context.heads}
        apart = level_separation(level_maps(found, list(own)), level_maps(total, list(own)))
        mixed = ", ".join(f"{a} looks like {b}" for a, b in apart.items() if a != b)
        yield self.answer("levels", not mixed, pairs=mixed)
        peaks = {head: peak(m, context.times) for head, m in own.items()}
        for head in own:
            at = peak(found[head], context.times)
            if not abs(at - peaks[head]) > FAR:
                continue
            around = window(context.times, at)
            shape = found[head][:, around].clip(0).mean(axis=1)
            likeness = {
                float(np.corrcoef(shape, own[h][:, around].mean(axis=1))[0, 1]): h
                for h in own
                if h != head and abs(at - peaks[h]) <= FAR
            }
            where = f", where the sources of {likeness[max(likeness)]} are" if likeness else ""
            yield self.answer(
                "elsewhere", False, head=head, value=1e3 * at, chance=1e3 * peaks[head], where=where
            )


def _summary(method: str, rows: Rows) -> dict[str, Any]:
    late = np.abs([r["latency_error"] for r in rows])
    return {
        "method": TITLES[method],
        "mean AUC at its peak": _round(np.nanmean([r["auc"] for r in rows])),
        "least": _round(np.nanmin([r["auc"] for r in rows])),
        "mean AUC, all time": _round(np.nanmean([r["auc_all_time"] for r in rows])),
        "median |latency error| (ms)": _round(np.nanmedian(late), 1)
        if np.isfinite(late).any()
        else None,
    }


def planted_maps(context: Context) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What an ideal map of each head would show: from all sources, and from the kind's own alone."""
    truth = context.truth
    assert truth is not None
    shown = context.study.images["image_id"].astype(str).tolist()
    first = context.captions.drop_duplicates(["kind", "image_id"])
    captions = {}
    for head in context.heads:
        if head in truth.kinds:
            texts = first[first["kind"] == head].set_index("image_id")["text"]
            captions[head] = context.embed_texts(texts.loc[shown].tolist())
    squares: dict[str, Any] = dict.fromkeys(captions, 0.0)
    own: dict[str, Any] = {}
    # One at a time: noise-free responses are as large as the images are many.
    for subject in range(len(truth.subjects)):
        each = {kind: truth.evoked(kind, subject) for kind in truth.kinds}
        everything = np.sum(list(each.values()), axis=0)
        for head, vectors in captions.items():
            squares[head] = squares[head] + planted_map(everything[None], vectors) ** 2
            own[head] = own.get(head, 0.0) + planted_map(each[head][None], vectors) ** 2
    n = len(truth.subjects)
    return (
        {head: np.sqrt(s / n) for head, s in squares.items()},
        {head: np.sqrt(s / n) for head, s in own.items()},
    )


def localize(context: Context, planted: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row per method and head: AUC around the map's own peak, AUC over time, latency error."""
    known, attributions = patterns_of(context), attributions_of(context)
    maps: dict[str, dict[str, np.ndarray]] = {
        "patterns": {h: p.z for h, p in known.found.items()},
        "class_means": known.class_means,
        **attributions.magnitude,
        "untrained": {h: p.z for h, p in known.untrained.items()},
    }
    rows = []
    for method, by_head in maps.items():
        for head, goal_map in planted.items():
            found = by_head[head]
            timed = found.ndim == 2
            top = peak(found if timed else goal_map, context.times)
            around = window(context.times, top)
            goal = goal_map if timed else np.sqrt((goal_map[:, around] ** 2).mean(axis=1))
            rows.append(
                {
                    "method": method,
                    "head": head,
                    "auc": localization_auc(found, goal, around if timed else None)
                    if np.isfinite(top)
                    else np.nan,
                    "auc_all_time": localization_auc(found, goal),
                    "peak": top if timed else np.nan,
                    "latency_error": latency_error(found, goal_map, context.times)
                    if timed
                    else np.nan,
                }
            )
    return rows


def _by_method(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row)
    return found


def _round(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _figure(context: Context, by_method: dict[str, list[dict[str, Any]]]) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 0.28 * len(by_method) + 0.9), layout="constrained")
    axes = figure.subplots()
    for row, chosen in enumerate(by_method.values()):
        for level, heads in levels_of([r["head"] for r in chosen]).items():
            values = [r["auc"] for r in chosen if r["head"] in heads]
            axes.scatter(values, np.full(len(values), row), color=LEVEL_COLORS.get(level, "black"),
                         marker=LEVEL_MARKERS.get(level, "o"), s=18, alpha=0.8,
                         label=level if row == 0 else None, linewidths=0)  # fmt: skip
        axes.plot([np.nanmean([r["auc"] for r in chosen])] * 2, [row - 0.35, row + 0.35],
                  color="black", lw=1.6)  # fmt: skip
    axes.axvline(0.5, color="0.6", lw=0.8, ls="--", zorder=0)
    axes.set_yticks(range(len(by_method)), [TITLES[m] for m in by_method])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("AUC against planted electrodes, ± 24 ms around the map's own peak (chance .5)")
    axes.legend(loc="lower left", title="level")
    return context.save_figure(
        figure, "localization",
        "How well each method ranks the planted electrodes: one mark per head, bars are means.",
    )  # fmt: skip


def _latencies(context: Context, known: Patterns, planted: dict[str, np.ndarray]) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS / 2, 3.0), layout="constrained")
    axes = figure.subplots()
    ends = [np.inf, -np.inf]
    for head, goal_map in planted.items():
        x, y = 1e3 * peak(goal_map, context.times), 1e3 * peak(known.found[head].z, context.times)
        level = KINDS[head].level.value
        axes.scatter(x, y, color=LEVEL_COLORS[level], marker=LEVEL_MARKERS[level], s=22)
        ends = [min(ends[0], x, y), max(ends[1], x, y)]
        if abs(y - x) > 1e3 * FAR:
            axes.annotate(head, (x, y), (4, 4), textcoords="offset points", fontsize=7)
    axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    axes.set_xlabel("planted peak (ms)")
    axes.set_ylabel("peak of the pattern (ms)")
    return context.save_figure(
        figure, "localization-latency",
        "When patterns peak against when the planted maps do; on the line they agree. Heads more "
        "than 30 ms off are named.",
    )  # fmt: skip
