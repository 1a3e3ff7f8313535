"""Where and when the EEG covaries with the output of each head: activation patterns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses import _maps
from eegprompt.analyses._maps import level_maps, levels_of, patterns_of, samples_averaged
from eegprompt.analyses._trials import microvolts
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image
from eegprompt.attribution.localization import window
from eegprompt.attribution.partners import SharedPeak, caption_relation, shared_peaks
from eegprompt.attribution.patterns import peak
from eegprompt.figures.panels import (
    ScalpMap,
    bin_edges,
    channel_images,
    onset_line,
    panels,
    samples_within,
    scalp_maps,
    windows_within,
)
from eegprompt.figures.scalp import SensorLayout
from eegprompt.figures.style import head_style, style

__all__ = ["Patterns", "around_peak", "partners_of"]


class Patterns(Analysis):
    """Activation patterns by head, level and time, each with its verdict."""

    name = "patterns"
    title = "Where and when the EEG covaries with the output of each head"
    question = "Where and when the EEG covaries with the output of each head"
    not_concluded = (
        "A pattern shows where the EEG varies with the output of a head, which is not where in the "
        "brain it comes from, and not that the brain represents captions. It is of this model on these "
        "subjects. A head can read a meaning from another that covaries with it in the images; its "
        "pattern is then the other's."
    )
    answers: ClassVar = {
        "when": ("Median time of the peak by level: {levels}.", ""),
        "strongest": ("The strongest pattern is that of {head} (z = {value:.0f}).", ""),
        "chance": ("", "Heads at chance on held-out trials: {heads}."),
        "constant": ("", "Heads with one caption for all trials: {heads}."),
        "failed": ("", "Maps not to be read: {heads}."),
        "partners": (
            "",
            "The peak of {head} cannot be told from that of {partners}, whose captions covary with its "
            "own.",
        ),
    }

    def compute(self, context: Context) -> Finding:
        """Patterns, their peaks, and figures by head, level and time."""
        known = patterns_of(context)
        shared = partners_of(context, known)
        layout = SensorLayout(context.ch_names, context.positions)
        z = {head: pattern.z for head, pattern in known.found.items()}
        unit = microvolts(context)[1]
        good = [head for head in context.heads if known.verdicts[head].good]
        by_level = level_maps(z, good)
        images: list[Image] = []
        with style():
            if layout.placed:
                images.append(_by_head(context, known, layout, z))
                if by_level:
                    images.append(_by_level(context, layout, by_level))
            images.append(_courses(context, known, z))
            images.append(_over_time(context, by_level or level_maps(z, context.heads), bool(good)))
        rows = [_row(context, known, head, shared, unit) for head in context.heads]
        every, n_test = samples_averaged(context), len(context.ids("test"))
        sampled = f"{len(known.ids)} of {n_test}" if len(known.ids) < n_test else str(n_test)
        averaged = f" {every} samples of the recording are averaged into one." if every > 1 else ""
        return self.finding(
            self._answers(rows, good, known, shared),
            table=rows,
            figures=images,
            arrays={
                **{f"z/{h}": p.z.astype(np.float32) for h, p in known.found.items()},
                **{
                    f"amplitude/{h}": p.amplitude.astype(np.float32) for h, p in known.found.items()
                },
                **{f"class_means/{h}": m.astype(np.float32) for h, m in known.class_means.items()},
                **{f"untrained/{h}": p.z.astype(np.float32) for h, p in known.untrained.items()},
                **{f"level/{level}": m.astype(np.float32) for level, m in by_level.items()},
            },
            verdict=f"{len(good)} of {len(context.heads)} maps pass",
            good=2 * len(good) > len(context.heads),
            notes=[
                f"{sampled} test trials; regression within each subject on the 12 leading components "
                f"of a head's embeddings; z against {_maps.PERMUTATIONS} permutations of outputs among "
                f"images (seed {context.seed}); amplitudes in {unit} for one standard deviation of the "
                f"output.{averaged}",
                *layout.notes,
            ],
        )

    def _answers(
        self,
        rows: list[dict[str, Any]],
        good: list[str],
        known: _maps.Patterns,
        shared: list[SharedPeak],
    ) -> Iterator[Answer]:
        if good:
            at = {r["head"]: float(r["peak (ms)"]) for r in rows if r["head"] in good}
            when = {lv: np.median([at[h] for h in hs]) for lv, hs in levels_of(good).items()}
            yield self.answer(
                "when", levels=", ".join(f"{lv} {v:.0f} ms" for lv, v in when.items())
            )
            head = max(good, key=lambda h: known.found[h].z.max())
            yield self.answer(
                "strongest", head=head, value=known.found[head].z.max(), p=known.found[head].p
            )
        failed = {h: v.why for h, v in known.verdicts.items() if not v.good}
        for start, question in (
            ("head at chance", "chance"),
            ("constant", "constant"),
            ("", "failed"),
        ):
            some = {h: failed.pop(h) for h in list(failed) if failed[h].startswith(start)}
            if some:
                heads = [f"{h} ({why})" if question == "failed" else h for h, why in some.items()]
                yield self.answer(question, False, heads=", ".join(heads))
        for head in dict.fromkeys(one.head for one in shared):
            partners = [one.partner for one in shared if one.head == head]
            yield self.answer("partners", False, head=head, partners=" and ".join(partners))


def partners_of(context: Context, known: _maps.Patterns) -> list[SharedPeak]:
    """Heads whose peak may be that of a head with related captions (of the training images)."""
    ids = context.sample(context.ids("train"), 2000)
    captions = context.true_embeddings(ids)
    shown = context.labels(ids, "image_id")
    heads = known.above_chance
    relations = {
        (one, other): caption_relation(captions[one], captions[other], shown, seed=context.seed)
        for place, one in enumerate(heads)
        for other in heads[place + 1 :]
    }
    amplitudes = {head: known.found[head].amplitude for head in heads}
    return shared_peaks(amplitudes, context.times, relations)


def around_peak(values: np.ndarray, times: np.ndarray) -> tuple[float, np.ndarray, str]:
    """When a map peaks, which samples lie within 24 ms of that, and how it is written."""
    top = peak(values, times)
    if not np.isfinite(top):
        return top, times > 0, "no peak"
    return top, window(times, top), f"{1e3 * top:.0f} ± 24 ms"


def _row(
    context: Context, known: _maps.Patterns, head: str, shared: list[SharedPeak], unit: str
) -> dict[str, Any]:
    pattern, information = known.found[head], known.information[head]
    top, around, _ = around_peak(pattern.z, context.times)
    strength = np.sqrt((np.maximum(pattern.z[:, around], 0) ** 2).mean(axis=1))
    first = np.argsort(-strength)[:3]
    return {
        "head": head,
        "two-way accuracy": round(information.accuracy, 3),
        "p (Holm)": _rounded(known.p[head], 3),
        "peak (ms)": _rounded(1e3 * top, 0),
        "strongest electrodes": ", ".join(context.ch_names[i] for i in first),
        "largest z": round(float(pattern.z.max()), 1),
        f"amplitude ({unit})": round(float(pattern.amplitude.max()), 2),
        "reliability": _rounded(known.reliability[head], 2),
        "its p (Holm)": _rounded(known.reliability_p[head], 3),
        "like shuffled": _rounded(known.likeness[head], 2),
        "peak shared with": ", ".join(s.partner for s in shared if s.head == head),
        "verdict": known.verdicts[head].why,
    }


def _rounded(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


# -- figures ---------------------------------------------------------------------------------------
def _by_head(
    context: Context, known: _maps.Patterns, layout: SensorLayout, z: dict[str, np.ndarray]
) -> Image:
    rows: dict[str, list[ScalpMap]] = {}
    for level, heads in levels_of(context.heads).items():
        for head in heads:
            _, around, when = around_peak(z[head], context.times)
            values = np.maximum(z[head][:, around], 0).mean(axis=1)
            rows.setdefault(level, []).append(
                ScalpMap(values, f"{head}\n{when}", level, known.verdicts[head].stamp)
            )
    limit = max(1.0, *(float(one.values.max()) for maps in rows.values() for one in maps))
    figure = scalp_maps(
        layout, rows, (0.0, limit), "z against permuted outputs", height=1.75, name_rows=False
    )
    return context.save_figure(
        figure, "patterns-by-head",
        "Activation pattern of each head around its own peak: z of the regression of the EEG on the "
        "head's held-out output, one color scale. Maps that failed a test carry its name.",
    )  # fmt: skip


def _by_level(context: Context, layout: SensorLayout, by_level: dict[str, np.ndarray]) -> Image:
    rows = {
        level: [
            ScalpMap(
                values[:, samples_within(context.times, w)].mean(axis=1),
                "" if place else f"{1e3 * w[0]:.0f}–{1e3 * w[1]:.0f} ms",
            )
            for w in windows_within(context.times)
        ]
        for place, (level, values) in enumerate(by_level.items())
    }
    limit = max(1.0, *(float(one.values.max()) for maps in rows.values() for one in maps))
    return context.save_figure(
        scalp_maps(layout, rows, (0.0, limit), "z against permuted outputs"), "patterns-by-level",
        "Activation patterns by level and time window: RMS of z over the level's heads that passed all "
        "tests; one color scale.",
    )  # fmt: skip


def _courses(context: Context, known: _maps.Patterns, z: dict[str, np.ndarray]) -> Image:
    levels = levels_of(context.heads)
    figure, axes_of = panels(len(levels), 2.3)
    for axes, (level, heads) in zip(axes_of, levels.items()):
        for head in heads:
            line = {k: v for k, v in head_style(head).items() if k != "marker"}
            course = np.sqrt((np.maximum(z[head], 0) ** 2).mean(axis=0))
            failed = known.verdicts[head].stamp
            label = f"{head} ({failed})" if failed else head
            axes.plot(1e3 * context.times, course, label=label, **line, alpha=0.45 if failed else 1)
        onset_line(axes, context.times[0])
        axes.set_title(level)
        axes.set_xlabel("time from onset (ms)")
        axes.legend(loc="upper right")
        axes.set_ylim(bottom=0)
    axes_of[0].set_ylabel("RMS of z over channels")
    return context.save_figure(
        figure, "patterns-courses",
        "When each head's activation pattern is strong: RMS of z over channels.",
    )  # fmt: skip


def _over_time(context: Context, by_level: dict[str, np.ndarray], passed: bool) -> Image:
    limit = max(1.0, *(float(m.max()) for m in by_level.values()))
    figure = channel_images(
        {lv if passed else f"{lv}: not trusted": m for lv, m in by_level.items()},
        bin_edges(context.times), (context.ch_names, context.positions), (0.0, limit),
        "z against permuted outputs",
    )  # fmt: skip
    return context.save_figure(
        figure, "patterns-images",
        "Activation patterns of each level at every channel and time point (RMS of z over its heads).",
    )  # fmt: skip
