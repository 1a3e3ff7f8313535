"""When the EEG carries each kind of meaning: decoding in sliding windows, by head and level."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegprompt.analyses._temporal_decoding import (
    Onset,
    above_chance,
    onset,
    sliding_decoding,
    temporal_generalization,
    unit_means,
    window_means,
)
from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image
from eegprompt.analyses.maps import PATTERN_TRIALS, levels_of
from eegprompt.analyses.trials import view
from eegprompt.figures.style import LEVEL_COLORS, TWO_COLUMNS, head_style, style

__all__ = ["analyze"]

WIDTH = 0.024  # seconds of a window
SQUARE_STEP = 0.024  # seconds between the windows of temporal generalization
TRAINING_TRIALS = 4000
WINDOWS = 120  # at most


def analyze(material: Material) -> Finding:
    """Time-resolved decoding, onset latency by level, temporal generalization."""
    train = material.sample(material.ids("train"), TRAINING_TRIALS)
    test = material.sample(material.ids("test"), PATTERN_TRIALS)
    width = max(round(WIDTH * material.sfreq), 1)
    width = min(width, len(material.times))
    step = max(1, -(-len(material.times) // WINDOWS))
    centers, x_train = window_means(view(material, train), width=width, step=step)
    _, x_test = window_means(view(material, test), width=width, step=step)
    moments = material.times[0] + centers / material.sfreq
    said, true = material.true_embeddings(train), material.true_embeddings(test)
    table = material.study.trials["subject"].astype(str)
    who = {
        "train_groups": table.iloc[train].to_numpy(), "test_groups": table.iloc[test].to_numpy()
    }  # fmt: skip
    scores = sliding_decoding(x_train, said, x_test, true, **who, progress=material.progress)
    thin = max(1, round(SQUARE_STEP * material.sfreq / step))
    chosen = slice(None, None, thin)
    squares = temporal_generalization(
        x_train[chosen], said, x_test[chosen], true, **who, progress=material.progress
    )
    known = material.study.image_identity == "known"
    units = material.trials(test)["image_id"].astype(str).to_numpy() if known else test.astype(str)
    by_unit = {head: unit_means(s, units) for head, s in scores.items()}
    levels = levels_of(material.heads)
    by_unit |= {
        f"level {level}": np.mean([by_unit[h] for h in names], axis=0)
        for level, names in levels.items()
    }
    tests = {name: above_chance(u, seed=material.seed) for name, u in by_unit.items()}
    found = {
        name: onset(u, moments, seed=material.seed)
        if tests[name][1] < 0.05
        else Onset(*[float("nan")] * 6)
        for name, u in by_unit.items()
    }
    rows = [_row(name, by_unit[name], tests[name], found[name]) for name in by_unit]
    with style():
        images = [
            _courses(material, moments, by_unit, tests, found, levels),
            _square(material, moments[chosen], squares, levels),
        ]
    latencies = [
        f"{level} {1e3 * o.time:.0f} ms [{1e3 * o.lo:.0f}, {1e3 * o.hi:.0f}]"
        for level in levels
        if np.isfinite((o := found[f"level {level}"]).time)
    ]
    never = [h for h in material.heads if not np.isfinite(found[h].time)]
    parts = []
    if latencies:
        parts.append(
            f"Decoding reaches half of its peak at: {', '.join(latencies)} (95 % interval over "
            f"{'images' if known else 'trials'})."
        )
        tops = ", ".join(
            f"{level} {1e3 * found[f'level {level}'].peak:.0f} ms"
            for level in levels
            if np.isfinite(found[f"level {level}"].time)
        )
        parts.append(f"The peaks: {tops}.")
    courses = {tuple(np.round(by_unit[h].mean(axis=0), 6)) for h in material.heads}
    # With one caption to choose from every course is chance, and says nothing of kinds.
    if len(material.heads) > 1 == len(courses) and any(v != 0.5 for v in next(iter(courses))):
        parts.append(
            "All heads have one course here: the captions of every kind tell the same images apart, "
            "so that kinds and levels differ in words alone."
        )
    if never:
        parts.append(f"Never above chance at any moment: {', '.join(never)}.")
    return Finding(
        name="when",
        title="When the EEG carries which meaning",
        seen=" ".join(parts),
        not_concluded=(
            "This is linear decoding of short windows, not the encoder. A window's score says that "
            "something in it goes along with the captions, which can be another meaning that goes "
            f"along with them. A window is {1e3 * width / material.sfreq:.0f} ms wide and filters "
            "smear in time, so onsets are no earlier or later bound of anything in the brain; and no "
            "score at a moment does not mean no information."
        ),
        table=rows,
        figures=images,
        arrays={
            "window_times": moments.astype(np.float32),
            "square_times": moments[chosen].astype(np.float32),
            **{f"accuracy/{n}": u.mean(axis=0).astype(np.float32) for n, u in by_unit.items()},
            **{f"generalization/{h}": s.astype(np.float32) for h, s in squares.items()},
        },
        verdict=f"{len(material.heads) - len(never)} of {len(material.heads)} heads above chance",
        good=2 * len(never) < len(material.heads),
        notes=[
            f"Ridge regression from the channels' means to caption embeddings, within subject, "
            f"learned on {len(train)} training trials, tried on {len(test)} test trials; two-way "
            "identification among the distinct test captions, chance .5. Above chance: cluster "
            "permutation over time (p < 0.05, 500 sign flips); onset: half of the peak's height, "
            f"500 bootstrap resamples; seed {material.seed}."
        ],
    )


def _row(name: str, scores: np.ndarray, test: tuple[np.ndarray, float], o: Onset) -> dict[str, Any]:
    def ms(value: float) -> int | None:
        return round(1e3 * value) if np.isfinite(value) else None

    return {
        "head or level": name,
        "best two-way accuracy": round(float(scores.mean(axis=0).max()), 3),
        "p (cluster)": round(test[1], 3) if np.isfinite(test[1]) else None,
        "onset (ms)": ms(o.time),
        "onset 95 %": f"{ms(o.lo)} to {ms(o.hi)}" if np.isfinite(o.lo) else "",
        "peak (ms)": ms(o.peak),
        "peak 95 %": f"{ms(o.peak_lo)} to {ms(o.peak_hi)}" if np.isfinite(o.peak_lo) else "",
    }


def _courses(
    material: Material,
    moments: np.ndarray,
    by_unit: dict[str, np.ndarray],
    tests: dict[str, tuple[np.ndarray, float]],
    found: dict[str, Onset],
    levels: dict[str, list[str]],
) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.5), layout="constrained")
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    x = 1e3 * moments
    for axes, (level, names) in zip(panels, levels.items()):
        for head in names:
            look = {k: v for k, v in head_style(head).items() if k != "marker"}
            axes.plot(x, by_unit[head].mean(axis=0), label=head, **{**look, "linewidth": 1.0})
        name = f"level {level}"
        color = LEVEL_COLORS.get(level, "black")
        mean = by_unit[name].mean(axis=0)
        axes.plot(x, mean, color="black", lw=2.0, label="level")
        windows = tests[name][0]
        if windows.any():
            axes.plot(x[windows], np.full(windows.sum(), 0.44), "s", ms=2.2, color=color)
        o = found[name]
        if np.isfinite(o.lo):
            axes.axvspan(1e3 * o.lo, 1e3 * o.hi, color="0.85", zorder=0, lw=0)
            axes.axvline(1e3 * o.time, color="0.35", lw=0.8, zorder=0)
        axes.axhline(0.5, color="0.6", lw=0.8, ls="--", zorder=0)
        axes.set_title(level)
        axes.set_xlabel("middle of the window (ms)")
        axes.margins(x=0)
        axes.legend(loc="upper right")
    panels[0].set_ylim(bottom=0.42)
    panels[0].set_ylabel("two-way accuracy (chance .5)")
    return material.save_figure(
        figure, "when-courses",
        "Decoding of each head's captions from one window at a time. Squares: the level is above "
        "chance (cluster permutation over time, p < 0.05). Gray: when the level's mean reaches half of "
        "its peak, with its 95 % interval.",
    )  # fmt: skip


def _square(
    material: Material,
    moments: np.ndarray,
    squares: dict[str, np.ndarray],
    levels: dict[str, list[str]],
) -> Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    means = {lv: np.mean([squares[h] for h in names], axis=0) for lv, names in levels.items()}
    top = max(0.02, max(float(np.abs(m - 0.5).max()) for m in means.values()))
    half = 1e3 * (moments[1] - moments[0]) / 2 if len(moments) > 1 else 1.0
    x = 1e3 * moments
    extent = (x[0] - half, x[-1] + half, x[0] - half, x[-1] + half)
    for axes, (level, mean) in zip(panels, means.items()):
        shown = axes.imshow(
            mean, origin="lower", extent=extent, cmap="RdBu_r", vmin=0.5 - top, vmax=0.5 + top,
            interpolation="nearest",
        )  # fmt: skip
        axes.plot(extent[:2], extent[:2], color="0.5", lw=0.6, ls="--")
        axes.set_title(level)
        axes.set_xlabel("tried at (ms)")
    panels[0].set_ylabel("learned at (ms)")
    bar = figure.colorbar(shown, ax=panels, shrink=0.8, aspect=18, pad=0.02)
    bar.set_label("two-way accuracy (chance .5)")
    return material.save_figure(
        figure, "when-generalization",
        "Temporal generalization by level (mean over its heads): decoders learned at one moment and "
        "tried at another. What is on the diagonal alone is carried by one spatial pattern after the "
        "other.",
    )  # fmt: skip
