"""When the EEG carries which meaning: time-resolved decoding, by head and level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses._maps import PATTERN_TRIALS, levels_of
from eegprompt.analyses._temporal_decoding import (
    Onset,
    above_chance,
    onset,
    temporal_decoding,
    unit_means,
    window_means,
)
from eegprompt.analyses._trials import view
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image
from eegprompt.figures.panels import bin_edges, panels
from eegprompt.figures.style import DIVERGING, LEVEL_COLORS, head_style, style

__all__ = ["Timecourse"]

WIDTH = 0.024  # seconds of a window
SQUARE_STEP = 0.024  # seconds between the windows of temporal generalization
TRAINING_TRIALS = 4000
WINDOWS = 120  # at most
NEVER = Onset(*[float("nan")] * 6)


@dataclass(frozen=True)
class _Course:
    """Scores of one head or level, (n_units, n_windows), with their tests."""

    scores: np.ndarray
    above: np.ndarray  # windows in clusters above chance
    p: float
    onset: Onset

    @classmethod
    def of(cls, scores: np.ndarray, times: np.ndarray, seed: int) -> _Course:
        above, p = above_chance(scores, seed=seed)
        return cls(scores, above, p, onset(scores, times, seed=seed) if p < 0.05 else NEVER)

    @property
    def mean(self) -> np.ndarray:
        mean: np.ndarray = self.scores.mean(axis=0)
        return mean


class Timecourse(Analysis):
    """Time-resolved decoding, onset latency by level, temporal generalization."""

    name = "timecourse"
    title = "When the EEG carries which meaning"
    question = "When the EEG carries which meaning: time-resolved decoding, temporal generalization"
    not_concluded = (
        "This is linear decoding of short windows, not the encoder. A window's score says that "
        "something in it covaries with the captions, which can be another meaning that covaries with "
        "them. A window is {width:.0f} ms wide and filters smear in time, so onsets are no earlier or "
        "later bound of anything in the brain; and no score at a time point does not mean no "
        "information."
    )
    answers: ClassVar = {
        "onset": (
            "Decoding of {level} captions reaches half of its peak at {value:.0f} ms (95 % interval over "
            "{units} {lo:.0f} to {hi:.0f} ms) and its peak at {peak:.0f} ms.",
            "Decoding of {level} captions is not above chance in any time window (p = {p:.2f}).",
        ),
        "alike": (
            "",
            "All heads have one course here: the captions of every kind tell the same images apart, so "
            "that kinds and levels differ in words alone.",
        ),
        "never": ("", "Not above chance in any time window: {heads}."),
    }

    def compute(self, context: Context) -> Finding:
        """Decode windows, test courses, and draw both."""
        train = context.sample(context.ids("train"), TRAINING_TRIALS)
        test = context.sample(context.ids("test"), PATTERN_TRIALS)
        width = min(max(round(WIDTH * context.sfreq), 1), len(context.times))
        step = max(1, -(-len(context.times) // WINDOWS))
        centers, x_train = window_means(view(context, train), width=width, step=step)
        _, x_test = window_means(view(context, test), width=width, step=step)
        times = context.times[0] + centers / context.sfreq
        every = max(1, round(SQUARE_STEP * context.sfreq / step))
        scores, squares = temporal_decoding(
            x_train, context.true_embeddings(train), x_test, context.true_embeddings(test),
            every=every, train_groups=context.labels(train, "subject"),
            test_groups=context.labels(test, "subject"), progress=context.progress,
        )  # fmt: skip
        by_unit = {head: unit_means(s, context.units(test)) for head, s in scores.items()}
        levels = levels_of(context.heads)
        by_unit |= {
            f"level {level}": np.mean([by_unit[h] for h in heads], axis=0)
            for level, heads in levels.items()
        }
        found = {name: _Course.of(u, times, context.seed) for name, u in by_unit.items()}
        never = [h for h in context.heads if not np.isfinite(found[h].onset.time)]
        with style():
            images = [
                _courses(context, times, found, levels),
                _square(context, times[::every], squares, levels),
            ]
        return self.finding(
            self._answers(context, found, levels, never),
            not_concluded=self.not_concluded.format(width=1e3 * width / context.sfreq),
            table=[_row(name, course) for name, course in found.items()],
            figures=images,
            arrays={
                "window_times": times.astype(np.float32),
                "square_times": times[::every].astype(np.float32),
                **{f"accuracy/{n}": c.mean.astype(np.float32) for n, c in found.items()},
                **{f"generalization/{h}": s.astype(np.float32) for h, s in squares.items()},
            },
            verdict=f"{len(context.heads) - len(never)} of {len(context.heads)} heads above chance",
            good=2 * len(never) < len(context.heads),
            notes=[
                "Ridge regression from the channels' means to caption embeddings, within subject, "
                f"fitted on {len(train)} training trials, scored on {len(test)} test trials; two-way "
                "identification among the distinct test captions, chance .5. Above chance: cluster "
                "permutation over time (p < 0.05, 500 sign flips); onset: half of the peak's height, "
                f"500 bootstrap resamples; seed {context.seed}."
            ],
        )

    def _answers(
        self,
        context: Context,
        found: dict[str, _Course],
        levels: dict[str, list[str]],
        never: list[str],
    ) -> Iterator[Answer]:
        for level in levels:
            course = found[f"level {level}"]
            o = course.onset
            yield self.answer(
                "onset", np.isfinite(o.time), level=level, units=context.unit_name, p=course.p,
                value=1e3 * o.time, lo=1e3 * o.lo, hi=1e3 * o.hi, peak=1e3 * o.peak, chance=0.5,
            )  # fmt: skip
        courses = {tuple(np.round(found[h].mean, 6)) for h in context.heads}
        # With one caption to choose from every course is chance, and shows nothing of kinds.
        if len(context.heads) > 1 == len(courses) and any(v != 0.5 for v in next(iter(courses))):
            yield self.answer("alike", False)
        if never:
            yield self.answer("never", False, heads=", ".join(never))


def _row(name: str, course: _Course) -> dict[str, Any]:
    def ms(value: float) -> int | None:
        return round(1e3 * value) if np.isfinite(value) else None

    o = course.onset
    return {
        "head or level": name,
        "best two-way accuracy": round(float(course.mean.max()), 3),
        "p (cluster)": round(course.p, 3) if np.isfinite(course.p) else None,
        "onset (ms)": ms(o.time),
        "onset 95 %": f"{ms(o.lo)} to {ms(o.hi)}" if np.isfinite(o.lo) else "",
        "peak (ms)": ms(o.peak),
        "peak 95 %": f"{ms(o.peak_lo)} to {ms(o.peak_hi)}" if np.isfinite(o.peak_lo) else "",
    }


def _courses(
    context: Context, times: np.ndarray, found: dict[str, _Course], levels: dict[str, list[str]]
) -> Image:
    figure, axes_of = panels(len(levels), 2.5)
    x = 1e3 * times
    for axes, (level, heads) in zip(axes_of, levels.items()):
        for head in heads:
            line = {k: v for k, v in head_style(head).items() if k != "marker"}
            axes.plot(x, found[head].mean, label=head, **{**line, "linewidth": 1.0})
        course = found[f"level {level}"]
        axes.plot(x, course.mean, color="black", lw=2.0, label="level")
        if course.above.any():
            axes.plot(
                x[course.above], np.full(course.above.sum(), 0.44), "s", ms=2.2,
                color=LEVEL_COLORS.get(level, "black"),
            )  # fmt: skip
        if np.isfinite(course.onset.lo):
            axes.axvspan(1e3 * course.onset.lo, 1e3 * course.onset.hi, color="0.85", zorder=0, lw=0)
            axes.axvline(1e3 * course.onset.time, color="0.35", lw=0.8, zorder=0)
        axes.axhline(0.5, color="0.6", lw=0.8, ls="--", zorder=0)
        axes.set_title(level)
        axes.set_xlabel("middle of the window (ms)")
        axes.margins(x=0)
        axes.legend(loc="upper right")
    axes_of[0].set_ylim(bottom=0.42)
    axes_of[0].set_ylabel("two-way accuracy (chance .5)")
    return context.save_figure(
        figure, "timecourse-levels",
        "Decoding of each head's captions from one window at a time. Squares: the level is above "
        "chance (cluster permutation over time, p < 0.05). Gray: when the level's mean reaches half of "
        "its peak, with its 95 % interval.",
    )  # fmt: skip


def _square(
    context: Context,
    times: np.ndarray,
    squares: dict[str, np.ndarray],
    levels: dict[str, list[str]],
) -> Image:
    figure, axes_of = panels(len(levels), 2.6)
    means = {lv: np.mean([squares[h] for h in heads], axis=0) for lv, heads in levels.items()}
    top = max(0.02, max(float(np.abs(m - 0.5).max()) for m in means.values()))
    first, *_, last = bin_edges(times)
    for axes, (level, mean) in zip(axes_of, means.items()):
        shown = axes.imshow(
            mean, origin="lower", extent=(first, last, first, last), cmap=DIVERGING,
            vmin=0.5 - top, vmax=0.5 + top, interpolation="nearest",
        )  # fmt: skip
        axes.plot((first, last), (first, last), color="0.5", lw=0.6, ls="--")
        axes.set_title(level)
        axes.set_xlabel("testing time (ms)")
    axes_of[0].set_ylabel("training time (ms)")
    bar = figure.colorbar(shown, ax=axes_of, shrink=0.8, aspect=18, pad=0.02)
    bar.set_label("two-way accuracy (chance .5)")
    return context.save_figure(
        figure, "timecourse-generalization",
        "Temporal generalization by level (mean over its heads): decoders trained at one time and "
        "tested at another. What is on the diagonal alone is carried by one spatial pattern after the "
        "other.",
    )  # fmt: skip
