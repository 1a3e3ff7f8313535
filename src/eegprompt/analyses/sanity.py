"""What the maps survive: shuffled weights, shuffled labels, halves, deletion and insertion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses import _maps
from eegprompt.analyses._maps import METHODS, Attributions, attributions_of, patterns_of, question
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image
from eegprompt.attribution.occlusion import Curves, deletion_insertion
from eegprompt.attribution.sanity import ALIKE, ALPHA, RELIABLE, similarity
from eegprompt.figures.style import INK, PALETTE, TWO_COLUMNS, style

__all__ = ["Sanity"]

WAYS = ("deletion", "insertion", "deletion_random", "insertion_random")
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (4, 1, 1, 1)), (0, (6, 2)), (0, (1, 2)))


class Sanity(Analysis):
    """Every sanity check of every method, and with ``deep`` also retrainings."""

    name = "sanity"
    title = "What the maps survive"
    question = "What the maps survive: halves, shuffled weights, deletion; deep: shuffled labels"
    not_concluded = (
        "A map that passes is a property of this trained encoder that two halves of the trials agree "
        "on; that it shows a source is not tested here. Patterns are not meant to be what the encoder "
        "uses, so a low deletion gain is no evidence against them, as it is against an attribution. "
        "Nothing was retrained for this: whether the maps survive shuffled labels and another seed is "
        "tried by a deep explanation only."
    )
    answers: ClassVar = {
        "passing": ("{value:.0f} of {of} activation patterns pass all tests.",) * 2,
        "chance": (
            "Each head is better than chance on held-out trials.",
            "Heads at chance on held-out trials: {heads}.",
        ),
        "deletion": (
            "Deleting channels in the order of {method} hurts most, {value:.2f} of the whole rise "
            "beyond random orders.",
            "",
        ),
        "shuffled labels": (
            "Trained on captions shuffled among images, no head passes; patterns correlate with the "
            "real ones by {value:.2f}.",
            "Trained on captions shuffled among images, {heads} pass; patterns correlate with the real "
            "ones by {value:.2f}.",
        ),
        "other seed": (
            "Trained with another seed, patterns correlate with these by {value:.2f}.",
            "",
        ),
    }
    deepens = True

    def compute(self, context: Context) -> Finding:
        """One row per method, deletion and insertion curves, and what retraining changes."""
        known, found = patterns_of(context), attributions_of(context)
        curves = _curves(context, found)
        titles = {"patterns": "activation patterns", **{m: METHODS[m] for m in found.magnitude}}
        of_method = {
            "patterns": (known.verdicts, known.reliability, known.likeness),
            **{m: (found.verdicts[m], found.reliability[m], found.likeness[m]) for m in curves
               if m != "patterns"},
        }  # fmt: skip
        rows: list[dict[str, Any]] = []
        for method, (verdicts, reliability, likeness) in of_method.items():
            passed = sum(v.good for v in verdicts.values())
            rows.append(
                {
                    "method": titles[method],
                    "reliability (halves)": _mean(reliability.values()),
                    "like shuffled weights": _mean(likeness.values()),
                    "deletion gain": _mean(c.gain for c in curves[method].values()),
                    "heads that pass": f"{passed} of {len(verdicts)}",
                }
            )
        passed = sum(v.good for v in known.verdicts.values())
        chance = [h for h in context.heads if known.p[h] >= ALPHA]
        best = max(rows, key=lambda r: r["deletion gain"] or -np.inf)
        answers = [
            self.answer("passing", 2 * passed > len(context.heads), value=passed,
                        of=len(context.heads)),
            self.answer("chance", not chance, heads=", ".join(chance)),
        ]  # fmt: skip
        if best["deletion gain"] is not None:
            answers.append(
                self.answer("deletion", method=best["method"], value=best["deletion gain"])
            )
        deep: dict[str, Any] = {}
        if context.deep:
            more, columns, verdict = self._retrained(context)
            answers += more
            rows = [{**row, **(columns if row is rows[0] else {})} for row in rows]
            deep = {
                "verdict": verdict,
                "not_concluded": "A map that passes is a property of this encoder that halves, seeds "
                "and shuffled labels support; that it shows a source is not tested here. Two trainings "
                "are few.",
            }
        with style():
            images = [_figure(context, curves, titles)]
        arrays = {
            f"{way}/{method}/{head}": np.asarray(vars(c)[way], dtype=np.float32)
            for method, by_head in curves.items()
            for head, c in by_head.items()
            for way in WAYS
        }
        parts = {
            "verdict": f"{passed} of {len(context.heads)} patterns pass",
            "good": 2 * passed > len(context.heads),
            "notes": [_note(min(_maps.HALF, len(found.ids)))],
            **deep,
        }
        return self.finding(answers, table=rows, figures=images, arrays=arrays, **parts)

    def _retrained(self, context: Context) -> tuple[list[Answer], dict[str, Any], str]:
        """Train on shuffled labels, and with another seed, and compare the patterns."""
        known, retrain = patterns_of(context), context.retrain
        assert retrain is not None, "deep analyses are given what trains again"
        labels = patterns_of(retrain("shuffled-labels", shuffle=True))
        seed = patterns_of(retrain("other-seed", shuffle=False))
        like_labels, like_seed = (
            _mean(similarity(known.found[h].z, other.found[h].z) for h in context.heads)
            for other in (labels, seed)
        )
        survived = [h for h in context.heads if labels.verdicts[h].good]
        nan = float("nan")
        answers = [
            self.answer(
                "shuffled labels", not survived, heads=", ".join(survived),
                value=nan if like_labels is None else like_labels,
            ),
            self.answer("other seed", value=nan if like_seed is None else like_seed),
        ]  # fmt: skip
        columns = {"like shuffled labels": like_labels, "like another seed": like_seed}
        verdict = (
            "maps survive shuffled labels: do not trust"
            if survived
            else "shuffled labels destroy the maps"
        )
        return answers, columns, verdict


def _mean(values: Iterable[float]) -> float | None:
    finite = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(finite)), 2) if finite else None


def _note(n_trials: int) -> str:
    return (
        f"A map passes if its head's p < {ALPHA} (two-way identification on held-out trials, "
        "permutation of images, Holm over heads), if its halves agree – a pattern's more than those of "
        f"permuted outputs (p < {ALPHA}, Holm over heads), an attribution's with a reliability of at "
        f"least {RELIABLE} –, and if its correlation with the map of shuffled weights is below {ALIKE}. "
        "Halves of noise that a network reads agree too: against maps without meaning stands the first "
        "test. Deletion gain: area between the loss curves of the map's order and of three random "
        f"orders, over the rise when all channels are replaced by the mean trial; {n_trials} trials."
    )


def _curves(context: Context, found: Attributions) -> dict[str, dict[str, Curves]]:
    known = patterns_of(context)
    asked = question(context, found.module, found.ids[: _maps.HALF])
    maps = {"patterns": {h: p.z for h, p in known.found.items()}, **found.magnitude}
    channels = {
        method: {
            h: m if m.ndim == 1 else np.sqrt((np.maximum(m, 0) ** 2).mean(axis=1))
            for h, m in by_head.items()
        }
        for method, by_head in maps.items()
    }
    return deletion_insertion(
        asked, channels, fractions=(0.0, 0.1, 0.2, 0.4, 0.7, 1.0), n_random=3, seed=context.seed,
        progress=context.progress,
    )  # fmt: skip


def _figure(
    context: Context, curves: dict[str, dict[str, Curves]], titles: dict[str, str]
) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = (INK, *PALETTE)
    for axes, way in ((left, "deletion"), (right, "insertion")):
        for place, (method, by_head) in enumerate(curves.items()):
            x = 100 * next(iter(by_head.values())).fractions
            mean = np.mean([vars(c)[way] for c in by_head.values()], axis=0)
            axes.plot(x, mean, label=titles[method], color=colors[place % 7], ls=_DASHES[place % 7])
        some = next(iter(curves.values())).values()
        random = np.mean([vars(c)[f"{way}_random"].mean(axis=0) for c in some], axis=0)
        axes.plot(x, random, color="0.6", lw=2.2, label="random order", zorder=0)
        axes.set_title(way)
    left.set_xlabel("channels replaced by the mean trial (%)")
    right.set_xlabel("channels shown (%)")
    left.set_ylabel("loss, mean over heads (nats)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return context.save_figure(
        figure, "sanity-deletion",
        "Loss under deletion and insertion of channels in the order of each method's map (mean over "
        "time); mean over heads. The further from the gray line, the better the map shows what the "
        "encoder uses.",
    )  # fmt: skip
