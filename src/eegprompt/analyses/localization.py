"""On a simulated study: do the maps find what was planted?"""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image, Omitted
from eegprompt.analyses.maps import (
    METHODS,
    Patterns,
    attributions_of,
    level_maps,
    levels_of,
    patterns_of,
)
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

__all__ = ["analyze", "localize", "planted_maps"]

OURS = {
    "patterns": "activation patterns",
    "class_means": "class means (no model)",
    "untrained": "untrained (weights shuffled)",
}
FAR = 0.03  # seconds from its own sources at which a peak is called another's


def analyze(material: Material) -> Finding:
    """Localization of every method against the truth, by kind."""
    if material.truth is None:
        raise Omitted("the study is a recording, so nobody knows what should be found")
    known = patterns_of(material)
    total, own = planted_maps(material)
    everything = localize(material, total)
    # A head at chance has no map to speak of; where none speaks, all are shown as they are.
    heads = [h for h in total if h in known.speaking] or list(total)
    rows = [row for row in everything if row["head"] in heads]
    elsewhere = _elsewhere(material, known, {h: own[h] for h in heads})
    separation = level_separation(
        level_maps({h: known.found[h].z for h in material.heads}, heads),
        level_maps(total, heads),
    )
    by_method = _by_method(rows)
    table = [
        {
            "method": {**METHODS, **OURS}[method],
            "mean AUC at its peak": _round(np.nanmean([r["auc"] for r in chosen])),
            "least": _round(np.nanmin([r["auc"] for r in chosen])),
            "mean AUC, all time": _round(np.nanmean([r["auc_all_time"] for r in chosen])),
            "median |latency error| (ms)": _round(
                np.nanmedian([abs(r["latency_error"]) for r in chosen]), 1
            )
            if any(np.isfinite(r["latency_error"]) for r in chosen)
            else None,
        }
        for method, chosen in by_method.items()
    ]
    with style():
        images = [_figure(material, by_method), _latencies(material, known, total)]
    ours = [r["auc"] for r in by_method["patterns"]]
    theirs = [r["auc"] for r in by_method.get("saliency", [])]
    apart = all(level == found for level, found in separation.items())
    seen = (
        f"Activation patterns rank the planted electrodes with a mean AUC of {np.nanmean(ours):.2f} "
        f"(least {np.nanmin(ours):.2f}), the paper's |gradient| with {np.nanmean(theirs):.2f}, class "
        f"means with {np.nanmean([r['auc'] for r in by_method['class_means']]):.2f}, an untrained "
        f"encoder with {np.nanmean([r['auc'] for r in by_method['untrained']]):.2f} (chance .5). "
        + ("Each level's map is most like its own planted map. " if apart else
           "Levels are not all apart: " + ", ".join(
               f"{a} looks like {b}" for a, b in separation.items() if a != b) + ". ")
        + " ".join(elsewhere)
    )  # fmt: skip
    ok = np.nanmean(ours) >= 0.9 and np.nanmin(ours) >= 0.8
    return Finding(
        name="localization",
        title="Do the maps find what was planted?",
        seen=seen.strip(),
        not_concluded=(
            "That the simulation puts moods in frontal sources at 300–400 ms is an assumption of the "
            "paper that was built in: finding it again validates the method, not the neuroscience. "
            "How well the method does here is no measure of how well it does on a recording, whose "
            "sources are not few patches."
        ),
        table=table,
        figures=images,
        arrays={
            **{f"planted/{h}": m.astype(np.float32) for h, m in total.items()},
            **{
                f"auc/{method}": np.asarray([row["auc"] for row in chosen], dtype=np.float32)
                for method, chosen in _by_method(everything).items()
            },
        },
        verdict="the patterns localize" if ok else "the patterns do not localize well",
        good=bool(ok),
        notes=[
            "Truth: covariance of the noise-free sensors of all kinds with a kind's caption "
            "embeddings, over all images. An electrode counts as planted from half of the largest "
            "value on, within ± 24 ms of the map's own peak; maps without time are compared at the "
            "planted peak. "
            + (
                f"Means are over the {len(heads)} heads that speak."
                if known.speaking
                else "No head speaks."
            )
        ],
    )


def planted_maps(material: Material) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What an ideal map of each head would show: from all sources, and from the kind's own alone."""
    truth = material.truth
    assert truth is not None
    shown = material.study.images["image_id"].astype(str).tolist()
    first = material.captions.drop_duplicates(["kind", "image_id"])
    subjects = range(len(truth.subjects))
    captions = {}
    for head in material.heads:
        if head in truth.kinds:
            texts = first[first["kind"] == head].set_index("image_id")["text"]
            captions[head] = material.embed_texts(texts.loc[shown].tolist())
    squares: dict[str, Any] = dict.fromkeys(captions, 0.0)
    own: dict[str, Any] = {}
    for (
        subject
    ) in subjects:  # one at a time: noise-free responses are as large as the images are many
        each = {kind: truth.evoked(kind, subject) for kind in truth.kinds}
        everything = np.sum(list(each.values()), axis=0)
        for head, said in captions.items():
            squares[head] = squares[head] + planted_map(everything[None], said) ** 2
            own[head] = own.get(head, 0.0) + planted_map(each[head][None], said) ** 2
    n = len(truth.subjects)
    return (
        {head: np.sqrt(s / n) for head, s in squares.items()},
        {head: np.sqrt(s / n) for head, s in own.items()},
    )


def localize(material: Material, planted: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row a method and head: AUC around the map's own peak, AUC over time, latency error."""
    known, attributions = patterns_of(material), attributions_of(material)
    maps: dict[str, dict[str, np.ndarray]] = {
        "patterns": {h: p.z for h, p in known.found.items()},
        "class_means": known.class_means,
        **attributions.magnitude,
        "untrained": {h: p.z for h, p in known.untrained.items()},
    }
    rows = []
    for method, by_head in maps.items():
        for head, truth in planted.items():
            found = by_head[head]
            timed = found.ndim == 2
            top = peak(found, material.times) if timed else peak(truth, material.times)
            around = window(material.times, top)
            goal = np.sqrt((truth[:, around] ** 2).mean(axis=1)) if not timed else truth
            rows.append(
                {
                    "method": method,
                    "head": head,
                    "auc": localization_auc(found, goal, around if timed else None)
                    if np.isfinite(top)
                    else np.nan,
                    "auc_all_time": localization_auc(found, truth if timed else goal),
                    "peak": top if timed else np.nan,
                    "latency_error": latency_error(found, truth, material.times)
                    if timed
                    else np.nan,
                }
            )
    return rows


def _elsewhere(material: Material, known: Patterns, own: dict[str, np.ndarray]) -> list[str]:
    """Heads whose pattern peaks far from when their own sources do, and whose sources do then."""
    said = []
    peaks = {head: peak(m, material.times) for head, m in own.items()}
    for head in own:
        found = peak(known.found[head].z, material.times)
        if not abs(found - peaks[head]) > FAR:
            continue
        around = window(material.times, found)
        shape = known.found[head].z[:, around].clip(0).mean(axis=1)
        others = {
            h: float(np.corrcoef(shape, own[h][:, around].mean(axis=1))[0, 1])
            for h in own
            if h != head and abs(found - peaks[h]) <= FAR
        }
        on = f", where the sources of {max(others, key=lambda h: others[h])} are" if others else ""
        said.append(
            f"{head} peaks at {1e3 * found:.0f} ms, not at {1e3 * peaks[head]:.0f} ms where its own "
            f"sources do{on}."
        )
    return said


def _by_method(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row)
    return found


def _round(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _figure(material: Material, by_method: dict[str, list[dict[str, Any]]]) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 0.28 * len(by_method) + 0.9), layout="constrained")
    axes = figure.subplots()
    names = {**METHODS, **OURS}
    for row, chosen in enumerate(by_method.values()):
        for level, heads in levels_of([r["head"] for r in chosen]).items():
            values = [r["auc"] for r in chosen if r["head"] in heads]
            axes.scatter(values, np.full(len(values), row), color=LEVEL_COLORS.get(level, "black"),
                         marker=LEVEL_MARKERS.get(level, "o"), s=18, alpha=0.8,
                         label=level if row == 0 else None, linewidths=0)  # fmt: skip
        axes.plot([np.nanmean([r["auc"] for r in chosen])] * 2, [row - 0.35, row + 0.35],
                  color="black", lw=1.6)  # fmt: skip
    axes.axvline(0.5, color="0.6", lw=0.8, ls="--", zorder=0)
    axes.set_yticks(range(len(by_method)), [names[m] for m in by_method])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("AUC against planted electrodes, ± 24 ms around the map's own peak (chance .5)")
    axes.legend(loc="lower left", title="level")
    return material.save_figure(
        figure, "localization",
        "How well each method ranks the planted electrodes: a mark a head, bars are means.",
    )  # fmt: skip


def _latencies(material: Material, known: Patterns, planted: dict[str, np.ndarray]) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS / 2, 3.0), layout="constrained")
    axes = figure.subplots()
    ends = [np.inf, -np.inf]
    for head, truth in planted.items():
        x, y = 1e3 * peak(truth, material.times), 1e3 * peak(known.found[head].z, material.times)
        level = KINDS[head].level.value
        axes.scatter(x, y, color=LEVEL_COLORS[level], marker=LEVEL_MARKERS[level], s=22)
        ends = [min(ends[0], x, y), max(ends[1], x, y)]
        if abs(y - x) > 1e3 * FAR:
            axes.annotate(head, (x, y), (4, 4), textcoords="offset points", fontsize=7)
    axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    axes.set_xlabel("planted peak (ms)")
    axes.set_ylabel("peak of the pattern (ms)")
    return material.save_figure(
        figure, "localization-latency",
        "When patterns peak against when the planted maps do; on the line they agree. Heads more "
        "than 30 ms off are named.",
    )  # fmt: skip
