"""What the maps survive: shuffled weights, shuffled labels, halves, deletion and insertion."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image
from eegprompt.analyses.maps import (
    HALF,
    METHODS,
    Attributions,
    attributions_of,
    patterns_of,
    question,
)
from eegprompt.analyses.trials import channel_scale
from eegprompt.attribution import sanity as trust
from eegprompt.attribution.occlusion import Curves, deletion_insertion
from eegprompt.attribution.sanity import ALIKE, ALPHA, RELIABLE
from eegprompt.figures.style import TWO_COLUMNS, style

__all__ = ["analyze"]


def analyze(material: Material) -> Finding:
    """Every test of every method, and with ``deep`` also retrainings."""
    known, found = patterns_of(material), attributions_of(material)
    curves = _curves(material, found)
    null = [h for h in material.heads if known.p[h] >= ALPHA]
    rows: list[dict[str, Any]] = []
    methods = {"patterns": "activation patterns", **{m: METHODS[m] for m in found.magnitude}}
    for method, title in methods.items():
        parts = known if method == "patterns" else None
        verdicts = known.verdicts if parts else found.verdicts[method]
        reliability = known.reliability if parts else found.reliability[method]
        likeness = known.likeness if parts else found.likeness[method]
        rows.append(
            {
                "method": title,
                "reliability (halves)": _mean(reliability.values()),
                "like shuffled weights": _mean(likeness.values()),
                "deletion gain": _mean([c.gain for c in curves[method].values()]),
                "heads that pass": f"{sum(v.good for v in verdicts.values())} of {len(verdicts)}",
            }
        )
    sentences, verdict_deep = [], None
    arrays = {
        f"{way}/{method}/{head}": np.asarray(getattr(c, way), dtype=np.float32)
        for method, by_head in curves.items()
        for head, c in by_head.items()
        for way in ("deletion", "insertion", "deletion_random", "insertion_random")
    }
    if material.deep:
        words, more, verdict_deep = _retraining(material)
        sentences += words
        rows = [{**row, **more.get(row["method"], {})} for row in rows]
    passed = sum(v.good for v in known.verdicts.values())
    best = max(rows, key=lambda r: r["deletion gain"] or -np.inf)
    said = [
        f"{passed} of {len(material.heads)} activation patterns pass all tests.",
        f"Heads at chance on held-out trials: {', '.join(null)}." if null
        else "No head is a head at chance: each is better than chance on held-out trials.",
        f"Taking channels away in the order of {best['method']} hurts most, "
        f"{best['deletion gain']:.2f} of the whole rise beyond random orders."
        if best["deletion gain"] is not None else "",
        *sentences,
    ]  # fmt: skip
    with style():
        images = [_figure(material, curves, methods)]
    return Finding(
        name="trust",
        title="What the maps survive",
        seen=" ".join(s for s in said if s),
        not_concluded=(
            "A map that passes is a property of this trained encoder that two halves of the trials "
            "agree on; that it shows a source is not tested here. Patterns are not meant to be what "
            "the encoder uses, so a low deletion gain does not speak against them, as it does against "
            "an attribution. Nothing was retrained for this: whether the maps survive shuffled labels "
            "and another seed is tried by a deep explanation only."
            if not material.deep
            else "A map that passes is a property of this encoder that halves, seeds and shuffled "
            "labels support; that it shows a source is not tested here. Two trainings are few."
        ),
        table=rows,
        figures=images,
        arrays=arrays,
        verdict=verdict_deep or f"{passed} of {len(material.heads)} patterns pass",
        good=2 * passed > len(material.heads),
        notes=[
            f"A map passes if its head's p < {ALPHA} (two-way identification on held-out trials, "
            "permutation of images, Holm over heads), if its halves agree – a pattern's more than "
            f"those of permuted outputs (p < {ALPHA}, Holm over heads), an attribution's with a "
            f"reliability of at least {RELIABLE} –, and if its correlation with the map of shuffled "
            f"weights is below {ALIKE}. Halves of noise that a network reads agree too: against maps "
            "without meaning stands the first test. Deletion gain: area "
            "between the loss curves of the map's order and of three random orders, over the rise "
            f"when all channels are replaced by the mean trial; {min(HALF, len(found.ids))} trials."
        ],
    )


def _mean(values: Any) -> float | None:
    finite = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(finite)), 2) if finite else None


def _curves(material: Material, found: Attributions) -> dict[str, dict[str, Curves]]:
    known = patterns_of(material)
    asked = question(material, found.module, found.ids[:HALF], channel_scale(material))
    maps = {"patterns": {h: p.z for h, p in known.found.items()}, **found.magnitude}
    channels = {
        method: {
            h: m if m.ndim == 1 else np.sqrt((np.maximum(m, 0) ** 2).mean(axis=1))
            for h, m in by_head.items()
        }
        for method, by_head in maps.items()
    }
    return deletion_insertion(
        asked, channels, n_random=3, seed=material.seed, progress=material.progress,
        fractions=(0.0, 0.1, 0.2, 0.4, 0.7, 1.0),
    )  # fmt: skip


def _retraining(material: Material) -> tuple[list[str], dict[str, dict[str, Any]], str]:
    """Train on shuffled labels, and with another seed, and compare the patterns."""
    known = patterns_of(material)
    retrain = material.retrain
    assert retrain is not None, "deep analyses are given what trains again"
    labels = patterns_of(retrain(material, "shuffled-labels", shuffle=True))
    seed = patterns_of(retrain(material, "other-seed", shuffle=False))
    like_labels = {h: trust.similarity(known.found[h].z, labels.found[h].z) for h in material.heads}
    like_seed = {h: trust.similarity(known.found[h].z, seed.found[h].z) for h in material.heads}
    survived = [h for h in material.heads if labels.verdicts[h].good]
    words = [
        f"Trained on captions shuffled among images, {len(survived)} of {len(material.heads)} "
        f"heads pass ({', '.join(survived) or 'as it should be'}); their patterns correlate with the "
        f"real ones by {_mean(like_labels.values())}.",
        f"Trained with another seed, patterns correlate with these by {_mean(like_seed.values())}.",
    ]
    more = {
        "activation patterns": {
            "like shuffled labels": _mean(like_labels.values()),
            "like another seed": _mean(like_seed.values()),
        }
    }
    fine = not survived
    return (
        words,
        more,
        (
            "shuffled labels destroy the maps"
            if fine
            else "maps survive shuffled labels: do not trust"
        ),
    )


def _figure(
    material: Material, curves: dict[str, dict[str, Curves]], methods: dict[str, str]
) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = ("#1c1e23", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    dashes: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (4, 1, 1, 1)), (0, (6, 2)), (0, (1, 2)))
    for axes, way in ((left, "deletion"), (right, "insertion")):
        for place, (method, by_head) in enumerate(curves.items()):
            x = 100 * next(iter(by_head.values())).fractions
            mean = np.mean([getattr(c, way) for c in by_head.values()], axis=0)
            axes.plot(x, mean, label=methods[method], color=colors[place % 7], ls=dashes[place % 7])
        some = next(iter(curves.values())).values()
        random = np.mean([getattr(c, f"{way}_random").mean(axis=0) for c in some], axis=0)
        axes.plot(x, random, color="0.6", lw=2.2, label="random order", zorder=0)
    left.set_title("taken away")
    right.set_title("given back")
    left.set_xlabel("channels replaced by the mean trial (%)")
    right.set_xlabel("channels shown (%)")
    left.set_ylabel("loss, mean over heads (nats)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return material.save_figure(
        figure, "trust-deletion",
        "Loss while channels are taken away, and given back, in the order of each method's map (mean "
        "over time); mean over heads. The further from the gray line, the better the map knows what "
        "the encoder uses.",
    )  # fmt: skip
