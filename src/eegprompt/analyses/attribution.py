"""What each head's loss depends on, through the encoder: the paper's saliency and five others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses import _maps
from eegprompt.analyses._maps import (
    METHODS,
    Attributions,
    attributions_of,
    level_maps,
    levels_of,
    question,
)
from eegprompt.analyses._trials import in_steps, step_edges
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image
from eegprompt.attribution.occlusion import window_occlusion
from eegprompt.figures.panels import ScalpMap, channel_images, onset_line, scalp_maps
from eegprompt.figures.scalp import SensorLayout, color_bar, stamp
from eegprompt.figures.style import DIVERGING, LEVEL_COLORS, TWO_COLUMNS, style

__all__ = ["Attributed"]

SAME = 0.9  # correlation above which maps of two levels are called nearly the same
WINDOW = 0.047  # seconds that are hidden at a time
_DASHES = {"low": "-", "mid": (0, (5, 1.5)), "high": (0, (1.5, 1.2))}


class Attributed(Analysis):
    """Attributions by method, head and level, each with its verdict."""

    name = "attribution"
    title = "What the encoder is sensitive to"
    question = "What the encoder is sensitive to"
    not_concluded = (
        "Gradients show how the encoder filters, not where a signal lies: an electrode that carries "
        "none is given weight if it cancels noise of another (Haufe et al. 2014). The map the paper "
        "shows, |gradient|, localizes planted sources poorly; read the activation patterns for where "
        "and when. Signs depend on what is subtracted, here the mean trial."
    )
    answers: ClassVar = {
        "passing": ("{value:.0f} of {of} maps (one per method and head) pass the sanity checks.",)
        * 2,
        "levels": (
            "",
            "Maps of {methods} are nearly the same for all levels (r at least {value:.2f}): they show "
            "which electrodes the encoder uses at all, not which carry a level.",
        ),
        "when": ("Temporal occlusion hurts most at {levels}.", ""),
        "chance": ("", "Heads at chance, whose maps mean nothing: {heads}."),
    }

    def compute(self, context: Context) -> Finding:
        """Maps of six methods, temporal occlusion, and figures by method and level."""
        found = attributions_of(context)
        width = min(max(round(WINDOW * context.sfreq), 1), len(context.times))
        asked = question(context, found.module, found.ids[: _maps.HALF])
        centers, rises = window_occlusion(asked, width=width)
        times = context.times[0] + centers / context.sfreq
        layout = SensorLayout(context.ch_names, context.positions)
        images: list[Image] = []
        with style():
            if layout.placed:
                images.append(_topographies(context, found, layout))
                images.append(_signed(context, found, layout))
            images.append(_courses(context, found, times, rises))
            images.append(_over_time(context, found))
        verdicts = [v for by_head in found.verdicts.values() for v in by_head.values()]
        passed = sum(v.good for v in verdicts)
        both = {"": found.magnitude, "signed/": found.signed}
        return self.finding(
            self._answers(context, found, times, rises, passed),
            table=_table(context, found),
            figures=images,
            arrays={
                **{
                    f"{prefix}{method}/{head}": np.asarray(values, np.float32)
                    for prefix, maps in both.items()
                    for method, by_head in maps.items()
                    for head, values in by_head.items()
                },
                **{f"window_occlusion/{h}": np.asarray(v, np.float32) for h, v in rises.items()},
                "window_occlusion_times": np.asarray(times, np.float32),
            },
            verdict=f"{passed} of {len(verdicts)} maps can be reproduced",
            good=2 * passed > len(verdicts),
            notes=[
                f"{len(found.ids)} test trials in two halves that share no image; input in standard "
                "deviations of each recorded channel, through the preprocessing; loss of the right "
                "caption against those of the test images and 200 of the pool, at each head's trained "
                "temperature, in nats. Integrated gradients start at the mean trial and miss "
                f"completeness by at most {found.error:.1e}. "
                f"Windows of {1e3 * width / context.sfreq:.0f} ms.",
                *layout.notes,
            ],
        )

    def _answers(
        self,
        context: Context,
        found: Attributions,
        times: np.ndarray,
        rises: dict[str, np.ndarray],
        passed: int,
    ) -> Iterator[Answer]:
        total = sum(len(by_head) for by_head in found.verdicts.values())
        yield self.answer("passing", 2 * passed > total, value=passed, of=total)
        same = _same_for_levels(context, found)
        if same:
            named = ", ".join(METHODS[m].partition(",")[0] for m in same)
            yield self.answer("levels", False, methods=named, value=min(same.values()))
        late = {
            level: float(times[np.mean([rises[h] for h in heads], axis=0).argmax()])
            for level, heads in levels_of(context.heads).items()
        }
        said = ", ".join(f"{1e3 * t:.0f} ms ({level})" for level, t in late.items())
        yield self.answer("when", levels=said)
        chance = [h for h, v in found.verdicts["saliency"].items() if "head" in v.stamp]
        if chance:
            yield self.answer("chance", False, heads=", ".join(chance))


def _table(context: Context, found: Attributions) -> list[dict[str, Any]]:
    rows = []
    for method, maps in found.magnitude.items():
        for level, heads in levels_of(context.heads).items():
            first = np.argsort(-np.mean([_channels(maps[h]) for h in heads], axis=0))[:3]
            passed = sum(found.verdicts[method][h].good for h in heads)
            rows.append(
                {
                    "method": METHODS[method],
                    "level": level,
                    "strongest electrodes": ", ".join(context.ch_names[i] for i in first),
                    "reliability": _mean([found.reliability[method][h] for h in heads]),
                    "like shuffled": _mean([found.likeness[method][h] for h in heads]),
                    "maps that pass": f"{passed} of {len(heads)}",
                }
            )
    return rows


def _mean(values: list[float]) -> float | None:
    known = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(known)), 2) if known else None


def _channels(values: np.ndarray) -> np.ndarray:
    """Mean over time, as the paper has it."""
    return values if values.ndim == 1 else values.mean(axis=1)


def _share(values: np.ndarray) -> np.ndarray:
    top = float(values.max())
    return values / top if top > 0 else values


def _same_for_levels(context: Context, found: Attributions) -> dict[str, float]:
    """Methods whose maps do not tell levels apart, with the least correlation between levels."""
    levels = levels_of(context.heads)
    alike: dict[str, float] = {}
    if len(levels) < 2 or len(context.ch_names) < 3:
        return alike
    for method, maps in found.magnitude.items():
        drawn = [
            np.mean([_share(_channels(maps[h])) for h in hs], axis=0) for hs in levels.values()
        ]
        if min(float(np.ptp(values)) for values in drawn) > 0:
            least = float(np.corrcoef(drawn).min())
            if least > SAME:
                alike[method] = least
    return alike


# -- figures ---------------------------------------------------------------------------------------
def _topographies(context: Context, found: Attributions, layout: SensorLayout) -> Image:
    rows: dict[str, list[ScalpMap]] = {}
    for level, heads in levels_of(context.heads).items():
        for method, maps in found.magnitude.items():
            values = np.mean([_share(_channels(maps[h])) for h in heads], axis=0)
            failed = [found.verdicts[method][h].stamp for h in heads]
            failed = [one for one in failed if one]
            none, some = len(failed) == len(heads), 0 < len(failed) < len(heads)
            rows.setdefault(level, []).append(
                ScalpMap(
                    _share(values),
                    "" if len(rows) > 1 else _wrapped(METHODS[method]),
                    failed=failed[0] if none else "",
                    below=f"{len(heads) - len(failed)} of {len(heads)} pass" if some else "",
                )
            )
    figure = scalp_maps(layout, rows, (0.0, 1.0), "share of the map's largest value", height=1.15)
    return context.save_figure(
        figure, "attribution-topographies",
        "Attribution by method and level: each head's map averaged over time, divided by its "
        "largest value, averaged over the level's heads; every map has its own scale from 0 to its "
        "largest value. A map is stamped where all its heads fail a test; where "
        "some do, it says how many pass.",
    )  # fmt: skip


def _signed(context: Context, found: Attributions, layout: SensorLayout) -> Image:
    """Signed gradient × input in the step in which it is largest for each level."""
    from matplotlib.figure import Figure

    levels = levels_of(context.heads)
    figure = Figure(figsize=(TWO_COLUMNS, 2.1), layout="constrained")
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    edges = 1e3 * step_edges(context.times, found.module.step)
    for axes, (level, heads) in zip(panels, levels.items()):
        # A negative product lowers the loss: it supports the right caption.
        values = -np.mean([found.signed["gradient_times_input"][h] for h in heads], axis=0)
        values = in_steps(values, found.module.step) * 1e3
        top = int(np.sqrt((values**2).mean(axis=0)).argmax())
        limit = max(float(np.abs(values[:, top]).max()), 1e-9)
        layout.draw(axes, values[:, top], (-limit, limit), cmap=DIVERGING)
        axes.set_title(f"{level}, {edges[top]:.0f} to {edges[top + 1]:.0f} ms", loc="center")
        color_bar(figure, axes, (-limit, limit), "10⁻³ nats a sample", DIVERGING)
        verdicts = found.verdicts["gradient_times_input"]
        if not any(verdicts[h].good for h in heads):
            stamp(axes, verdicts[heads[0]].stamp)
    return context.save_figure(
        figure, "attribution-signed",
        "Signed gradient × input in the step of the encoder in which it is largest, mean over trials "
        "and the level's heads: red supports the right caption, blue does not.",
    )  # fmt: skip


def _courses(
    context: Context, found: Attributions, times: np.ndarray, rises: dict[str, np.ndarray]
) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    edges = 1e3 * step_edges(context.times, found.module.step)
    for level, heads in levels_of(context.heads).items():
        line: dict[str, Any] = {
            "color": LEVEL_COLORS.get(level, "black"), "ls": _DASHES.get(level, "-"), "label": level,
        }  # fmt: skip
        for axes, method in ((left, "saliency"), (middle, "integrated_gradients")):
            courses = [found.magnitude[method][h].mean(axis=0) for h in heads]
            course = np.mean([_share(in_steps(c, found.module.step)) for c in courses], axis=0)
            axes.stairs(course, edges, baseline=None, lw=1.3, **line)
        right.plot(1e3 * times, np.mean([rises[h] for h in heads], axis=0), **line)
    left.set_ylabel("share of the largest value")
    right.set_ylabel("rise of the loss (nats)")
    titles = ("|gradient|", "integrated gradients", "temporal occlusion")
    for axes, title in zip((left, middle, right), titles):
        axes.set_title(title)
        axes.set_xlabel("time from onset (ms)")
        onset_line(axes, context.times[0])
    left.legend()
    return context.save_figure(
        figure, "attribution-courses",
        "When the encoder is sensitive, by level: mean over channels of |gradient| and of integrated "
        f"gradients, in the encoder's own steps of {_step(context, found)}, and by how much the "
        f"loss rises when a segment of {1e3 * WINDOW:.0f} ms is replaced by the mean trial. The "
        "time of a step is no finer than the step.",
    )  # fmt: skip


def _over_time(context: Context, found: Attributions) -> Image:
    step = found.module.step
    shares = {h: _share(in_steps(v, step)) for h, v in found.magnitude["saliency"].items()}
    good = {
        level: any(found.verdicts["saliency"][h].good for h in heads)
        for level, heads in levels_of(context.heads).items()
    }
    maps = level_maps(shares, context.heads)
    figure = channel_images(
        {level if good[level] else f"{level}: not trusted": m for level, m in maps.items()},
        1e3 * step_edges(context.times, step), (context.ch_names, context.positions), (0.0, 1.0),
        "share of the largest |gradient|",
    )  # fmt: skip
    return context.save_figure(
        figure, "attribution-images",
        "The paper's saliency before it is averaged over time: |gradient| of each level's heads at "
        f"every channel, in the encoder's own steps of {_step(context, found)}, each head's divided "
        "by its largest value.",
    )  # fmt: skip


def _step(context: Context, found: Attributions) -> str:
    return f"{1e3 * found.module.step / context.sfreq:.0f} ms"


def _wrapped(title: str) -> str:
    for before, after in ((", ", ",\n"), (" of ", "\nof "), ("ed grad", "ed\ngrad"),
                          (" × ", "\n× "), ("on roll", "on\nroll")):  # fmt: skip
        title = title.replace(before, after)
    return title
