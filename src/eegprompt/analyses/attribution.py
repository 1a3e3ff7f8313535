"""What each head's loss depends on, through the encoder: the paper's saliency and five others."""

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
    level_maps,
    levels_of,
    question,
)
from eegprompt.analyses.patterns import front_to_back, short_verdict
from eegprompt.analyses.trials import channel_scale, in_steps, step_edges
from eegprompt.attribution.occlusion import window_occlusion
from eegprompt.figures.scalp import Cap, color_bar, stamp
from eegprompt.figures.style import DIVERGING, LEVEL_COLORS, TWO_COLUMNS, style

__all__ = ["analyze"]

SAME = 0.9  # correlation above which maps of two levels are called nearly the same
WINDOW = 0.047  # seconds that are hidden at a time


def analyze(material: Material) -> Finding:
    """Attributions by method, head and level, each with its verdict."""
    found = attributions_of(material)
    scale = channel_scale(material)
    asked = question(material, found.module, found.ids[:HALF], scale)
    width = max(round(WINDOW * material.sfreq), 1)
    width = min(width, len(material.times))
    centers, rises = window_occlusion(asked, width=width)
    moments = material.times[0] + centers / material.sfreq
    cap = Cap(material.ch_names, material.positions)
    images: list[Image] = []
    with style():
        if cap.placed:
            images.append(_topographies(material, found, cap))
            images.append(_signed(material, found, cap))
        images.append(_courses(material, found, moments, rises))
        images.append(_images(material, found))
    rows = _table(material, found)
    passed = sum(v.good for by_head in found.verdicts.values() for v in by_head.values())
    total = sum(len(by_head) for by_head in found.verdicts.values())
    null = [h for h, v in found.verdicts["saliency"].items() if "head" in short_verdict(v.why)]
    said = "What the loss of each head depends on, in six ways; " + (
        f"{passed} of {total} maps (a method and a head each) pass the tests of trust. "
    )
    same = _same_for_levels(material, found)
    if same:
        named = ", ".join(METHODS[m].partition(",")[0] for m in same)
        said += (
            f"Maps of {named} are nearly the same for all levels (r at least "
            f"{min(same.values()):.2f}): they show which electrodes the encoder uses at all, "
            "not which carry a level. "
        )
    best = max(levels_of(material.heads))
    if rises and best:
        late = {
            level: float(moments[int(np.mean([rises[h] for h in names], axis=0).argmax())])
            for level, names in levels_of(material.heads).items()
        }
        said += (
            "Hiding a stretch of time hurts most at "
            + ", ".join(f"{1e3 * t:.0f} ms ({level})" for level, t in late.items())
            + ". "
        )
    if null:
        said += f"Heads that say nothing, whose maps mean nothing: {', '.join(null)}."
    return Finding(
        name="attribution",
        title="What the encoder is sensitive to",
        seen=said.strip(),
        not_concluded=(
            "Gradients show how the encoder filters, not where a signal lies: an electrode that "
            "carries none is given weight if it cancels noise of another (Haufe et al. 2014). The "
            "map the paper shows, |gradient|, localizes planted sources poorly; read the activation "
            "patterns for where and when. Signs depend on what is subtracted, here the mean trial."
        ),
        table=rows,
        figures=images,
        arrays={
            **{
                f"{m}/{h}": _single(v)
                for m, maps in found.magnitude.items()
                for h, v in maps.items()
            },
            **{
                f"signed/{m}/{h}": _single(v)
                for m, maps in found.signed.items()
                for h, v in maps.items()
            },
            **{f"window_occlusion/{h}": _single(v) for h, v in rises.items()},
            "window_occlusion_times": _single(moments),
        },
        verdict=f"{passed} of {total} maps can be reproduced",
        good=2 * passed > total,
        notes=[
            f"{len(found.ids)} test trials in two halves that share no image; input in standard "
            "deviations of each recorded channel, through the preprocessing; loss of the right "
            "caption against those of the test images and 200 of the pool, at each head's trained "
            "temperature, in nats. Integrated "
            f"gradients start at the mean trial and miss completeness by at most {found.error:.1e}. "
            f"Windows of {1e3 * width / material.sfreq:.0f} ms.",
            *cap.notes,
        ],
    )


def _table(material: Material, found: Attributions) -> list[dict[str, Any]]:
    rows = []
    for method, maps in found.magnitude.items():
        for level, names in levels_of(material.heads).items():
            mean = np.mean([_channels(maps[h]) for h in names], axis=0)
            first = np.argsort(-mean)[:3]
            verdicts = [found.verdicts[method][h] for h in names]
            rows.append(
                {
                    "method": METHODS[method],
                    "level": level,
                    "strongest electrodes": ", ".join(material.ch_names[i] for i in first),
                    "reliability": _mean([found.reliability[method][h] for h in names]),
                    "like shuffled": _mean([found.likeness[method][h] for h in names]),
                    "maps that pass": f"{sum(v.good for v in verdicts)} of {len(verdicts)}",
                }
            )
    return rows


def _mean(values: list[float]) -> float | None:
    known = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(known)), 2) if known else None


def _channels(values: np.ndarray) -> np.ndarray:
    """Mean over time, as the paper has it."""
    return values if values.ndim == 1 else values.mean(axis=1)


def _same_for_levels(material: Material, found: Attributions) -> dict[str, float]:
    """Methods whose maps do not tell levels apart, with the least correlation between levels."""
    levels = levels_of(material.heads)
    alike: dict[str, float] = {}
    if len(levels) < 2 or len(material.ch_names) < 3:
        return alike
    for method, maps in found.magnitude.items():
        drawn = [
            np.mean([_share(_channels(maps[h])) for h in hs], axis=0) for hs in levels.values()
        ]
        if min(float(np.ptp(values)) for values in drawn) <= 0:
            continue
        least = float(np.corrcoef(drawn).min())
        if least > SAME:
            alike[method] = least
    return alike


def _topographies(material: Material, found: Attributions, cap: Cap) -> Image:
    from matplotlib.figure import Figure

    levels = levels_of(material.heads)
    figure = Figure(figsize=(TWO_COLUMNS, 1.05 * len(levels) + 0.35), layout="constrained")
    grid = figure.subplots(len(levels), len(found.magnitude), squeeze=False)
    for column, (method, maps) in enumerate(found.magnitude.items()):
        for row, (level, names) in enumerate(levels.items()):
            axes = grid[row, column]
            values = np.mean([_share(_channels(maps[h])) for h in names], axis=0)
            cap.draw(axes, values, (0.0, max(float(values.max()), 1e-12)))
            failed = [v for v in (found.verdicts[method][h] for h in names) if not v.good]
            if len(failed) == len(names):
                stamp(axes, short_verdict(failed[0].why))
            elif failed:
                axes.text(
                    0.5, 0.0, f"{len(names) - len(failed)} of {len(names)} pass", fontsize=6,
                    transform=axes.transAxes, ha="center", va="top",
                )  # fmt: skip
            if row == 0:
                axes.set_title(_wrapped(METHODS[method]), fontsize=7.5, loc="center")
            if column == 0:
                axes.text(
                    -0.14, 0.5, level, transform=axes.transAxes, rotation=90, va="center",
                    ha="center", fontweight="bold", color=LEVEL_COLORS.get(level, "black"),
                )  # fmt: skip
    color_bar(figure, grid, (0.0, 1.0), "share of the map's largest value")
    return material.save_figure(
        figure, "attribution-topographies",
        "Attribution by method and level: each head's map averaged over time, divided by its "
        "largest value, averaged over the level's heads; every map has its own scale from 0 to its "
        "largest value. A map is stamped where all its heads fail a test; where "
        "some do, it says how many pass.",
    )  # fmt: skip


def _signed(material: Material, found: Attributions, cap: Cap) -> Image:
    """Signed gradient × input around the moment when each level's is largest."""
    from matplotlib.figure import Figure

    levels = levels_of(material.heads)
    figure = Figure(figsize=(TWO_COLUMNS, 2.1), layout="constrained")
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    edges = 1e3 * step_edges(material.times, found.module.step)
    for axes, (level, names) in zip(panels, levels.items()):
        # A negative product lowers the loss: it speaks for the right caption.
        values = -np.mean([found.signed["gradient_times_input"][h] for h in names], axis=0)
        values = in_steps(values, found.module.step) * 1e3
        top = int(np.sqrt((values**2).mean(axis=0)).argmax())
        chosen = values[:, top]
        limit = max(float(np.abs(chosen).max()), 1e-9)
        cap.draw(axes, chosen, (-limit, limit), cmap=DIVERGING)
        axes.set_title(f"{level}, {edges[top]:.0f} to {edges[top + 1]:.0f} ms", loc="center")
        color_bar(figure, axes, (-limit, limit), "10⁻³ nats a sample", DIVERGING)
        if not any(found.verdicts["gradient_times_input"][h].good for h in names):
            stamp(axes, short_verdict(found.verdicts["gradient_times_input"][names[0]].why))
    return material.save_figure(
        figure, "attribution-signed",
        "Signed gradient × input in the step of the encoder in which it is largest, mean over trials "
        "and the level's heads: red speaks for the right caption, blue against it.",
    )  # fmt: skip


def _courses(
    material: Material, found: Attributions, moments: np.ndarray, rises: dict[str, np.ndarray]
) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    edges = 1e3 * step_edges(material.times, found.module.step)
    dashes = {"low": "-", "mid": (0, (5, 1.5)), "high": (0, (1.5, 1.2))}
    for level, names in levels_of(material.heads).items():
        look: dict[str, Any] = {
            "color": LEVEL_COLORS.get(level, "black"), "ls": dashes.get(level, "-"), "label": level,
        }  # fmt: skip
        for axes, method in ((left, "saliency"), (middle, "integrated_gradients")):
            courses = [found.magnitude[method][h].mean(axis=0) for h in names]
            course = np.mean([_share(in_steps(c, found.module.step)) for c in courses], axis=0)
            axes.stairs(course, edges, baseline=None, lw=1.3, **look)
        right.plot(1e3 * moments, np.mean([rises[h] for h in names], axis=0), **look)
    left.set_title("|gradient|")
    middle.set_title("integrated gradients")
    right.set_title("hidden stretch of time")
    left.set_ylabel("share of the largest value")
    right.set_ylabel("rise of the loss (nats)")
    for axes in (left, middle, right):
        axes.set_xlabel("time from onset (ms)")
        axes.margins(x=0)
        if material.times[0] < 0:
            axes.axvline(0, color="0.6", lw=0.7, ls="--", zorder=0)
    left.legend()
    return material.save_figure(
        figure, "attribution-courses",
        "When the encoder is sensitive, by level: mean over channels of |gradient| and of integrated "
        f"gradients, in the encoder's own steps of {_step(material, found)}, and by how much the "
        f"loss rises when a stretch of {1e3 * WINDOW:.0f} ms is replaced by the mean trial. The "
        "moment of a step is no finer than the step.",
    )  # fmt: skip


def _images(material: Material, found: Attributions) -> Image:
    from matplotlib.figure import Figure

    order = front_to_back(material)
    step = found.module.step
    shares = {h: _share(in_steps(v, step)) for h, v in found.magnitude["saliency"].items()}
    by_level = level_maps(shares, material.heads)
    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    panels = figure.subplots(1, len(by_level), sharey=True, squeeze=False)[0]
    edges = 1e3 * step_edges(material.times, step)
    for axes, (level, values) in zip(panels, by_level.items()):
        shown = axes.pcolormesh(
            edges, np.arange(len(order) + 1) - 0.5, values[order], vmin=0, vmax=1, rasterized=True
        )
        axes.set_ylim(len(order) - 0.5, -0.5)
        good = any(found.verdicts["saliency"][h].good for h in levels_of(material.heads)[level])
        axes.set_title(level if good else f"{level}: not trusted")
        axes.set_xlabel("time from onset (ms)")
    ticks = np.unique(np.linspace(0, len(order) - 1, min(len(order), 9)).round().astype(int))
    panels[0].set_yticks(ticks, [material.ch_names[order[i]] for i in ticks])
    panels[0].set_ylabel("channel, front to back")
    figure.colorbar(shown, ax=panels, aspect=18, pad=0.02).set_label(
        "share of the largest |gradient|"
    )
    return material.save_figure(
        figure, "attribution-images",
        "The paper's saliency before it is averaged over time: |gradient| of each level's heads at "
        f"every channel, in the encoder's own steps of {_step(material, found)}, each head's divided "
        "by its largest value.",
    )  # fmt: skip


def _step(material: Material, found: Attributions) -> str:
    return f"{1e3 * found.module.step / material.sfreq:.0f} ms"


def _single(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _share(values: np.ndarray) -> np.ndarray:
    top = float(values.max())
    return values / top if top > 0 else values


def _wrapped(title: str) -> str:
    return (
        title.replace(", ", ",\n")
        .replace(" of ", "\nof ")
        .replace("ed grad", "ed\ngrad")
        .replace(" × ", "\n× ")
        .replace("on roll", "on\nroll")
    )
