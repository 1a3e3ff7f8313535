"""Where and when the EEG goes along with what each head says: activation patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image
from eegprompt.analyses.maps import (
    PERMUTATIONS,
    Patterns,
    level_maps,
    levels_of,
    patterns_of,
    samples_averaged,
)
from eegprompt.analyses.trials import units_of
from eegprompt.attribution.localization import window
from eegprompt.attribution.partners import SharedPeak, caption_relation, shared_peaks
from eegprompt.attribution.patterns import peak
from eegprompt.figures.scalp import Cap, color_bar, stamp
from eegprompt.figures.style import LEVEL_COLORS, TWO_COLUMNS, head_style, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["analyze", "front_to_back", "partners_of", "short_verdict"]

WINDOWS = ((0.05, 0.13), (0.13, 0.24), (0.24, 0.33), (0.33, 0.45))  # seconds


def analyze(material: Material) -> Finding:
    """Activation patterns by head, level and moment, each with its verdict."""
    known = patterns_of(material)
    shared = partners_of(material, known)
    cap = Cap(material.ch_names, material.positions)
    z = {head: pattern.z for head, pattern in known.found.items()}
    _, unit = units_of(material)
    good = [head for head in material.heads if known.verdicts[head].good]
    by_level = level_maps(z, good)
    images: list[Image] = []
    with style():
        if cap.placed:
            images.append(_by_head(material, known, cap, z))
            if by_level:
                images.append(_by_level(material, cap, by_level))
        images.append(_courses(material, known, z))
        images.append(_images(material, by_level or level_maps(z, material.heads), bool(good)))
    rows = [_row(material, known, head, shared, unit) for head in material.heads]
    named = _partner_words(shared)
    failed = [h for h in material.heads if not known.verdicts[h].good]
    return Finding(
        name="patterns",
        title="Where and when the EEG goes along with what each head says",
        seen=_seen(rows, good, failed, known) + named,
        not_concluded=(
            "A pattern shows where the EEG varies with what a head says, which is not where in the "
            "brain it comes from, and not that the brain represents captions. It is of this model on "
            "these subjects. A head can read a meaning from another that goes along with it in the "
            "images; its pattern is then the other's."
        ),
        table=rows,
        figures=images,
        arrays={
            **{f"z/{h}": p.z.astype(np.float32) for h, p in known.found.items()},
            **{f"amplitude/{h}": p.amplitude.astype(np.float32) for h, p in known.found.items()},
            **{f"class_means/{h}": m.astype(np.float32) for h, m in known.class_means.items()},
            **{f"untrained/{h}": p.z.astype(np.float32) for h, p in known.untrained.items()},
            **{f"level/{level}": m.astype(np.float32) for level, m in by_level.items()},
        },
        verdict=f"{len(good)} of {len(material.heads)} maps pass",
        good=2 * len(good) > len(material.heads),
        notes=[
            f"{_sampled(known.ids, material)}; regression within each subject on the 12 leading "
            f"components of a head's embeddings; z against {PERMUTATIONS} permutations of outputs "
            f"among images (seed {material.seed}); amplitudes in {unit} for one standard deviation "
            "of the output."
            + (
                f" {samples_averaged(material)} samples of the recording are averaged into one."
                if samples_averaged(material) > 1
                else ""
            ),
            *cap.notes,
        ],
    )


def _sampled(ids: np.ndarray, material: Material) -> str:
    every = len(material.ids("test"))
    return f"{len(ids)} of {every} test trials" if len(ids) < every else f"{every} test trials"


def partners_of(material: Material, known: Patterns) -> list[SharedPeak]:
    """Heads whose peak may be that of a head with related captions (of the training images)."""
    ids = material.sample(material.ids("train"), 2000)
    captions = material.true_embeddings(ids)
    shown = material.trials(ids)["image_id"].astype(str).to_numpy()
    heads = known.speaking
    relations = {
        (one, other): caption_relation(captions[one], captions[other], shown, seed=material.seed)
        for place, one in enumerate(heads)
        for other in heads[place + 1 :]
    }
    amplitudes = {head: known.found[head].amplitude for head in heads}
    return shared_peaks(amplitudes, material.times, relations)


def _partner_words(shared: list[SharedPeak]) -> str:
    if not shared:
        return ""
    by_head: dict[str, list[str]] = {}
    for one in shared:
        by_head.setdefault(one.head, []).append(one.partner)
    return " " + " ".join(
        f"The peak of {head} cannot be told from that of {' and '.join(names)}, whose captions go "
        "along with its own."
        for head, names in by_head.items()
    )


def _seen(rows: list[dict[str, Any]], good: list[str], failed: list[str], known: Patterns) -> str:
    said = []
    levels = levels_of(good)
    if levels:
        when = {
            level: [float(r["peak (ms)"]) for r in rows if r["head"] in names]
            for level, names in levels.items()
        }
        where = ", ".join(f"{lv} {np.median(v):.0f} ms" for lv, v in when.items())
        said.append(f"Median time of the peak by level: {where}.")
        strongest = max(good, key=lambda h: known.found[h].z.max())
        said.append(
            f"The strongest pattern is that of {strongest} (z = {known.found[strongest].z.max():.0f})."
        )
    null = [h for h in failed if "null" in known.verdicts[h].why]
    constant = [h for h in failed if "constant" in known.verdicts[h].why]
    other = [h for h in failed if h not in null + constant]
    if null:
        said.append(
            f"No better than chance on held-out trials (heads at chance): {', '.join(null)}."
        )
    if constant:
        said.append(f"Nothing to tell apart: {', '.join(constant)}.")
    if other:
        said.append("Maps not to be read: " + "; ".join(
            f"{h} ({known.verdicts[h].why})" for h in other) + ".")  # fmt: skip
    return " ".join(said)


def _row(
    material: Material, known: Patterns, head: str, shared: list[SharedPeak], unit: str
) -> dict[str, Any]:
    pattern, information = known.found[head], known.information[head]
    top = peak(pattern.z, material.times)
    around = window(material.times, top) if np.isfinite(top) else material.times > 0
    strength = np.sqrt((np.maximum(pattern.z[:, around], 0) ** 2).mean(axis=1))
    first = np.argsort(-strength)[:3]
    return {
        "head": head,
        "two-way accuracy": round(information.accuracy, 3),
        "p (Holm)": _rounded(known.p[head], 3),
        "peak (ms)": _rounded(1e3 * top, 0),
        "strongest electrodes": ", ".join(material.ch_names[i] for i in first),
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


def short_verdict(why: str) -> str:
    """The words of a verdict before its colon, as they are written across a map."""
    return why.partition(":")[0]


def front_to_back(material: Material) -> np.ndarray:
    """Order of channels from the front of the head to its back; those without a place come last."""
    return np.argsort(-np.nan_to_num(material.positions[:, 1], nan=-np.inf), kind="stable")


def _by_head(material: Material, known: Patterns, cap: Cap, z: dict[str, np.ndarray]) -> Image:
    from matplotlib.figure import Figure

    levels = levels_of(material.heads)
    columns = max(len(names) for names in levels.values())
    figure = Figure(figsize=(TWO_COLUMNS, 1.75 * len(levels)), layout="constrained")
    grid = figure.subplots(len(levels), columns, squeeze=False)
    maps = {}
    for head in material.heads:
        top = peak(z[head], material.times)
        around = window(material.times, top) if np.isfinite(top) else material.times > 0
        maps[head] = (top, np.maximum(z[head][:, around], 0).mean(axis=1))
    limit = max(1.0, *(float(values.max()) for _, values in maps.values()))
    for row, (level, names) in zip(grid, levels.items()):
        for axes, head in zip(row, names):
            top, values = maps[head]
            cap.draw(axes, values, (0.0, limit))
            when = f"{1e3 * top:.0f} ± 24 ms" if np.isfinite(top) else "no peak"
            axes.set_title(f"{head}\n{when}", fontsize=7.5, loc="center",
                           color=LEVEL_COLORS.get(level, "black"))  # fmt: skip
            verdict = known.verdicts[head]
            if not verdict.good:
                stamp(axes, short_verdict(verdict.why))
        for axes in row[len(names) :]:
            axes.axis("off")
    color_bar(figure, grid, (0.0, limit), "z against permuted outputs")
    return material.save_figure(
        figure, "patterns-by-head",
        "Activation pattern of each head around its own peak: z of the regression of the EEG on the "
        "head's held-out output, one color scale. Maps that failed a test carry its name.",
    )  # fmt: skip


def _by_level(material: Material, cap: Cap, by_level: dict[str, np.ndarray]) -> Image:
    from matplotlib.figure import Figure

    windows = [w for w in WINDOWS if w[0] < material.times[-1] and w[1] > material.times[0]]
    windows = windows or [(float(material.times[0]), float(material.times[-1]))]
    figure = Figure(figsize=(TWO_COLUMNS, 1.6 * len(by_level)), layout="constrained")
    grid = figure.subplots(len(by_level), len(windows), squeeze=False)
    maps = {
        (level, w): m[:, _inside(material.times, w)].mean(axis=1)
        for level, m in by_level.items()
        for w in windows
    }
    limit = max(1.0, *(float(v.max()) for v in maps.values()))
    for place, (row, level) in enumerate(zip(grid, by_level)):
        for axes, w in zip(row, windows):
            cap.draw(axes, maps[level, w], (0.0, limit))
            if place == 0:
                axes.set_title(f"{1e3 * w[0]:.0f}–{1e3 * w[1]:.0f} ms", fontsize=8, loc="center")
        row[0].text(-0.1, 0.5, level, transform=row[0].transAxes, rotation=90, va="center",
                    ha="center", fontweight="bold", fontsize=8.5,
                    color=LEVEL_COLORS.get(level, "black"))  # fmt: skip
    color_bar(figure, grid, (0.0, limit), "z against permuted outputs")
    return material.save_figure(
        figure, "patterns-by-level",
        "Activation patterns by level and time window: quadratic mean of z over the level's heads "
        "that passed all tests; one color scale.",
    )  # fmt: skip


def _inside(times: np.ndarray, w: tuple[float, float]) -> np.ndarray:
    inside = (times >= w[0]) & (times < w[1])
    return (
        inside if inside.any() else np.abs(times - np.mean(w)) == np.abs(times - np.mean(w)).min()
    )


def _courses(material: Material, known: Patterns, z: dict[str, np.ndarray]) -> Image:
    from matplotlib.figure import Figure

    levels = levels_of(material.heads)
    figure = Figure(figsize=(TWO_COLUMNS, 2.3), layout="constrained")
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    for axes, (level, names) in zip(panels, levels.items()):
        for head in names:
            look = {k: v for k, v in head_style(head).items() if k != "marker"}
            course = np.sqrt((np.maximum(z[head], 0) ** 2).mean(axis=0))
            good = known.verdicts[head].good
            label = head if good else f"{head} ({short_verdict(known.verdicts[head].why)})"
            axes.plot(1e3 * material.times, course, label=label, **look, alpha=1 if good else 0.45)
        _onset_line(axes, material.times)
        axes.set_title(level)
        axes.set_xlabel("time from onset (ms)")
        axes.legend(loc="upper right")
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
    panels[0].set_ylabel("z, quadratic mean\nover channels")
    return material.save_figure(
        figure, "patterns-courses",
        "When each head's activation pattern is strong: quadratic mean of z over channels.",
    )  # fmt: skip


def _onset_line(axes: Axes, times: np.ndarray) -> None:
    if times[0] < 0 < times[-1]:
        axes.axvline(0, color="0.6", lw=0.7, ls="--", zorder=0)


def _images(material: Material, by_level: dict[str, np.ndarray], passed: bool) -> Image:
    from matplotlib.figure import Figure

    order = front_to_back(material)
    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    panels = figure.subplots(1, len(by_level), sharey=True, squeeze=False)[0]
    limit = max(1.0, *(float(m.max()) for m in by_level.values()))
    step = (material.times[1] - material.times[0]) / 2 if len(material.times) > 1 else 0.5
    extent = (
        1e3 * (material.times[0] - step),
        1e3 * (material.times[-1] + step),
        len(order) - 0.5,
        -0.5,
    )
    for axes, (level, values) in zip(panels, by_level.items()):
        shown = axes.imshow(values[order], aspect="auto", vmin=0, vmax=limit, extent=extent,
                            interpolation="nearest")  # fmt: skip
        _onset_line(axes, material.times)
        axes.set_title(level if passed else f"{level}: not trusted")
        axes.set_xlabel("time from onset (ms)")
    ticks = np.unique(np.linspace(0, len(order) - 1, min(len(order), 9)).round().astype(int))
    panels[0].set_yticks(ticks, [material.ch_names[order[i]] for i in ticks])
    panels[0].set_ylabel("channel, front to back")
    figure.colorbar(shown, ax=panels, aspect=18, pad=0.02).set_label("z against permuted outputs")
    return material.save_figure(
        figure, "patterns-images",
        "Activation patterns of each level at every channel and moment (quadratic mean of z over its "
        "heads).",
    )  # fmt: skip
