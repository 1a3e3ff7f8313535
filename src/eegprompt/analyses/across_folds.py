"""What the folds of a run found, taken together: means with their spread, and verdicts by fold.

Every fold tests trials that no other tests, with an encoder of its own. What all of them find is of
the recording; what changes from fold to fold is of one training.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.analyses.finding import (
    Finding,
    Image,
    load_finding,
    load_record,
    save_finding,
)
from eegprompt.analyses.maps import levels_of
from eegprompt.attribution.localization import window
from eegprompt.attribution.patterns import peak
from eegprompt.attribution.sanity import similarity
from eegprompt.core.errors import RunError, StudyError
from eegprompt.core.files import content_key, read_arrays, read_json
from eegprompt.core.kinds import KINDS
from eegprompt.figures.scalp import Cap, color_bar
from eegprompt.figures.style import (
    GRAY,
    INK,
    LEVEL_COLORS,
    TWO_COLUMNS,
    head_style,
    save_figure,
    style,
)
from eegprompt.run import Run

__all__ = ["NAME", "explain_folds", "load_folds"]

NAME = "across-folds"
POOLED = ("patterns", "when", "winners")


@dataclass(frozen=True)
class _Folds:
    """The stored findings of all folds, read side by side."""

    runs: list[Run]
    names: list[str]  # of the folds
    heads: list[str]
    stored: dict[str, list[dict[str, Any]]]  # analysis → its JSON file, fold by fold
    arrays: dict[str, list[dict[str, np.ndarray]]]

    def rows(self, analysis: str, head: str) -> list[dict[str, Any]]:
        """The row of a head's table, fold by fold; empty where there is none."""
        return [
            next((r for r in one["table"] if head in (r.get("head"), r.get("head or level"))), {})
            for one in self.stored[analysis]
        ]

    def column(self, analysis: str, head: str, name: str) -> np.ndarray:
        """One number of a head, fold by fold; NaN where there is none."""
        found = [row.get(name) for row in self.rows(analysis, head)]
        return np.array([np.nan if v is None else float(v) for v in found])

    def maps(self, head: str) -> np.ndarray:
        """z of the head's activation pattern, (n_folds, n_chans, n_times)."""
        return np.stack([one[f"z/{head}"] for one in self.arrays["patterns"]]).astype(float)

    def verdicts(self, head: str) -> list[str]:
        """What the tests of trust said of the head's pattern, fold by fold."""
        return [str(row.get("verdict", "")) for row in self.rows("patterns", head)]


def explain_folds(runs: Sequence[Run]) -> Finding | None:
    """Pool what was found in the folds of a run.

    Writes ``explain/across-folds.json`` and ``.safetensors``, and figures into ``figures/explain/``,
    in the parent folder; what is there of the same findings is left as it is.

    Parameters
    ----------
    runs : sequence of Run
        All folds, in their order.

    Returns
    -------
    Finding or None
        None for a single run, and where a fold was not explained yet, or found something else to
        compare (other heads, other channels).
    """
    if len(runs) < 2:
        return None
    parent, key = runs[0].path.parent, _key(runs)
    if key is None:
        return None
    if load_record(parent, NAME).get("key") == key:
        return load_finding(parent, NAME)
    folds = _read(runs)
    if folds is None:
        return None
    started = time.monotonic()
    finding = _pool(folds, parent)
    save_finding(
        parent,
        finding,
        record={"key": key, "seconds": round(time.monotonic() - started, 2)},
        axes={n: folds.stored["patterns"][0][n] for n in ("ch_names", "times", "heads")},
    )
    return load_finding(parent, NAME)


def load_folds(runs: Sequence[Run]) -> Finding | None:
    """What :func:`explain_folds` wrote; None if it is not there or folds were explained anew since."""
    if len(runs) < 2:
        return None
    parent, key = runs[0].path.parent, _key(runs)
    if key is None or load_record(parent, NAME).get("key") != key:
        return None
    return load_finding(parent, NAME)


def _key(runs: Sequence[Run]) -> str | None:
    keys = [load_record(run.path, name).get("key") for run in runs for name in POOLED]
    return None if None in keys else content_key(NAME, *keys)


def _read(runs: Sequence[Run]) -> _Folds | None:
    stored: dict[str, list[dict[str, Any]]] = {}
    arrays: dict[str, list[dict[str, np.ndarray]]] = {}
    for name in POOLED:
        paths = [run.path / "explain" / f"{name}.json" for run in runs]
        stored[name] = [read_json(path, error=RunError, schema="finding") for path in paths]
        arrays[name] = [
            read_arrays(path.with_suffix(".safetensors"), error=RunError) for path in paths
        ]
    shared = [(one["ch_names"], one["times"], one["heads"]) for one in stored["patterns"]]
    whole = all(one["arrays"] for found in stored.values() for one in found)
    if not whole or any(one != shared[0] for one in shared):
        return None
    return _Folds(
        list(runs), [run.path.name.replace("-", " ") for run in runs], shared[0][2], stored, arrays
    )


def _pool(folds: _Folds, parent: Path) -> Finding:
    n = len(folds.runs)
    agreement = {head: _alike(folds.maps(head)) for head in folds.heads}
    passed = {h: sum(v == "passed" for v in folds.verdicts(h)) for h in folds.heads}
    rows = [_row(folds, head, agreement[head], passed[head]) for head in folds.heads]
    maps, mean_course = _mean_maps(folds), _courses(folds)
    with style():
        images = [_draw_verdicts(folds, parent)]
        map_image = _draw_maps(folds, maps, passed, parent)
        images += [map_image] if map_image is not None else []
        images += [_draw_when(folds, mean_course, parent), _draw_winners(folds, parent)]
    every = [h for h in folds.heads if passed[h] == n]
    never = [h for h in folds.heads if not passed[h]]
    known = [a for a in agreement.values() if np.isfinite(a)]
    said = [
        f"Each of the {n} folds tests trials that no other tests, with an encoder of its own. "
        f"{len(every)} of {len(folds.heads)} heads have a pattern that passes all tests in every fold"
        + (f", {len(never)} in none ({', '.join(never)})" if never else "")
        + f"; {sum(passed.values())} of {n * len(folds.heads)} maps pass in all."
    ]
    if known:
        said.append(
            f"Between two folds the map of a head correlates by {np.median(known):.2f} (median over "
            "heads)."
        )
    said.append(_surest(folds))
    return Finding(
        name=NAME,
        title="All folds together",
        seen=" ".join(s for s in said if s),
        not_concluded=(
            "Folds share most of their training trials, so they resemble each other more than as "
            "many studies would, and their spread is no confidence interval (Bengio and Grandvalet "
            f"2004). {_of_subjects(folds.runs)} A mean over folds shows what recurs; "
            "it makes no map trustworthy that fails in most of them."
        ),
        table=rows,
        figures=images,
        arrays={
            **{f"z_mean/{h}": m.astype(np.float32) for h, m in maps.items()},
            "window_times": folds.arrays["when"][0]["window_times"],
            **{f"accuracy_mean/{h}": c.mean(axis=0) for h, c in mean_course.items()},
            **{f"accuracy_sd/{h}": c.std(axis=0, ddof=1) for h, c in mean_course.items()},
        },
        verdict=f"{sum(passed.values())} of {n * len(folds.heads)} maps pass",
        good=2 * sum(passed.values()) > n * len(folds.heads),
        notes=[
            f"Pooled are the activation patterns, the time-resolved decoding and the winning heads of "
            f"{n} folds; ± and bands are standard deviations over folds. Attributions, differences "
            "between levels, deletion curves and the geometry of embeddings are of one encoder's own "
            "and are not averaged."
        ],
    )


def _of_subjects(runs: Sequence[Run]) -> str:
    """How far the folds' subjects speak for others, by their number."""
    try:
        count = len(runs[0].study.subjects)
    except StudyError:
        return "Of other subjects it says little."
    if count == 1:
        return "With one subject it says nothing of others."
    return f"It is of {count} subjects, and few subjects say little of others."


def _alike(maps: np.ndarray) -> float:
    """Mean similarity of two folds' maps."""
    found = [similarity(a, b) for a, b in combinations(maps, 2)]
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _row(folds: _Folds, head: str, alike: float, passed: int) -> dict[str, Any]:
    n = len(folds.runs)
    peaks = folds.column("patterns", head, "peak (ms)")
    peaks = peaks[np.isfinite(peaks)]
    failed = Counter(v.partition(":")[0] for v in folds.verdicts(head) if v != "passed")
    return {
        "head": head,
        "two-way accuracy": _spread(folds.column("patterns", head, "two-way accuracy"), 3),
        "maps that pass": f"{passed} of {n}",
        "else": ", ".join(f"{why} {k}×" for why, k in failed.most_common()),
        "peak (ms), median [range]": f"{np.median(peaks):.0f} [{peaks.min():.0f}, {peaks.max():.0f}]"
        if len(peaks)
        else "",
        "alike between folds": round(alike, 2) if np.isfinite(alike) else None,
        "wins (%)": _spread(folds.column("winners", head, "wins (%)"), 0),
        "confidence": _spread(folds.column("winners", head, "confidence"), 3),
        "calibration error": _spread(folds.column("winners", head, "calibration error"), 3),
    }


def _spread(values: np.ndarray, digits: int) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return ""
    sd = known.std(ddof=1) if len(known) > 1 else 0.0
    return f"{known.mean():.{digits}f} ± {sd:.{digits}f}"


def _surest(folds: _Folds) -> str:
    """Which head is the surest in how many folds: one that changes is no property of the data."""
    shares = np.array([folds.column("winners", h, "wins (%)") for h in folds.heads])
    counts = Counter(folds.heads[i] for i in np.nan_to_num(shares).argmax(axis=0)).most_common()
    if len(folds.heads) < 2:
        return ""
    if len(counts) == 1:
        return f"In all {len(folds.runs)} folds the same head is the surest most often: {counts[0][0]}."
    said = ", ".join(f"{head} in {n}" for head, n in counts)
    return (
        f"The head that is the surest most often changes from fold to fold ({said}), so which one it "
        "is says something about a training, not about the recording."
    )


def _mean_maps(folds: _Folds) -> dict[str, np.ndarray]:
    return {head: folds.maps(head).mean(axis=0) for head in folds.heads}


def _courses(folds: _Folds) -> dict[str, np.ndarray]:
    """Level or head → two-way accuracy of each fold, (n_folds, n_windows)."""
    names = [n for n in folds.arrays["when"][0] if n.startswith("accuracy/")]
    return {
        name.removeprefix("accuracy/"): np.stack([a[name] for a in folds.arrays["when"]])
        for name in names
    }


# -- figures -------------------------------------------------------------------------------------
def _save(figure: Any, parent: Path, name: str, caption: str) -> Image:
    return Image(save_figure(figure, parent / "figures" / "explain" / f"{NAME}-{name}"), caption)


_MARKS = {
    "passed": ("o", "#0072b2", "passed"),
    "head at chance": ("x", "#d55e00", "head at chance"),
    "constant head": ("x", "#d55e00", "constant head"),
    "not reliable": ("s", "#cc79a7", "halves disagree"),
    "reliability unknown": ("s", "#cc79a7", "reliability unknown"),
    "not learned": ("^", "#e69f00", "like shuffled weights"),
}


def _draw_verdicts(folds: _Folds, parent: Path) -> Image:
    from matplotlib.figure import Figure

    n = len(folds.heads)
    figure = Figure(figsize=(TWO_COLUMNS, 0.8 + 0.2 * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.3))
    seen: dict[str, Any] = {}
    for y, head in enumerate(folds.heads):
        for x, verdict in enumerate(folds.verdicts(head)):
            shape, color, words = _MARKS.get(verdict.partition(":")[0], ("x", GRAY, verdict))
            filled = {"facecolors": color} if shape in "ox" else {"facecolors": "none"}
            seen[words] = left.scatter(x, y, marker=shape, s=22, **filled, edgecolors=color
                                       if shape != "x" else None)  # fmt: skip
        values = folds.column("patterns", head, "two-way accuracy")
        color = head_style(head)["color"]
        right.plot(values, np.full(len(values), y), "|", color=color, ms=7, mew=1)
        right.plot(np.nanmean(values), y, "o", color=color, ms=4.5)
    left.set_xticks(range(len(folds.names)), [name.rpartition(" ")[2] for name in folds.names])
    left.set_xlim(-0.5, len(folds.names) - 0.5)
    left.set_xlabel("fold")
    left.set_yticks(range(n), folds.heads)
    left.set_ylim(n - 0.5, -0.5)
    left.set_title("verdict on the pattern")
    right.axvline(0.5, color=INK, ls=(0, (3, 2)), lw=0.9)
    right.set_xlabel("two-way accuracy on held-out trials (chance .5)")
    right.set_title("what the head says")
    figure.legend(list(seen.values()), list(seen), loc="outside lower left", ncols=4)
    return _save(
        figure, parent, "verdicts",
        "Left: what the tests of trust said of each head's activation pattern, fold by fold. Right: "
        "two-way identification by the head; a line a fold, dots are means, dashed: chance.",
    )  # fmt: skip


def _draw_maps(
    folds: _Folds, maps: dict[str, np.ndarray], passed: dict[str, int], parent: Path
) -> Image | None:
    from matplotlib.figure import Figure

    try:
        study = folds.runs[0].study
    except StudyError:  # gone since, and only needed for where the electrodes are
        return None
    cap = Cap(study.ch_names, np.asarray(study.positions))
    if not cap.placed:
        return None
    times = np.array(folds.stored["patterns"][0]["times"])
    columns = min(5, len(folds.heads))
    rows = -(-len(folds.heads) // columns)
    figure = Figure(figsize=(TWO_COLUMNS, 1.85 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    tops = {head: peak(m, times) for head, m in maps.items()}
    around = {
        head: np.maximum(
            m[:, window(times, tops[head]) if np.isfinite(tops[head]) else times > 0], 0
        ).mean(axis=1)
        for head, m in maps.items()
    }
    limit = max(1.0, *(float(v.max()) for v in around.values()))
    for axes, head in zip(grid.flat, folds.heads):
        cap.draw(axes, around[head], (0.0, limit))
        at = f"{1e3 * tops[head]:.0f} ± 24 ms" if np.isfinite(tops[head]) else "no peak"
        level = KINDS[head].level.value if head in KINDS else ""
        axes.set_title(
            f"{head}\n{at}\npasses in {passed[head]} of {len(folds.runs)}", fontsize=7,
            loc="center", color=LEVEL_COLORS.get(level, "black"),
        )  # fmt: skip
    for axes in grid.flat[len(folds.heads) :]:
        axes.axis("off")
    color_bar(figure, grid, (0.0, limit), "z, mean over folds")
    return _save(
        figure, parent, "patterns",
        "Activation pattern of each head, mean of z over all folds (those that failed a test too), "
        "around the peak of the mean; one color scale.",
    )  # fmt: skip


def _draw_when(folds: _Folds, courses: dict[str, np.ndarray], parent: Path) -> Image:
    from matplotlib.figure import Figure

    levels = {level: courses[f"level {level}"] for level in levels_of(folds.heads)}
    several = list(levels.values())
    if len(several) > 1 and all(np.allclose(c, several[0], atol=1e-6) for c in several):
        levels = {"all levels, which are alike": several[0]}
    figure = Figure(figsize=(TWO_COLUMNS, 2.3), layout="constrained")
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    x = 1e3 * np.asarray(folds.arrays["when"][0]["window_times"])
    for axes, (level, each) in zip(panels, levels.items()):
        axes.plot(x, each.T, color=LEVEL_COLORS.get(level, "#0072b2"), lw=0.5, alpha=0.6)
        mean, sd = each.mean(axis=0), each.std(axis=0, ddof=1)
        axes.fill_between(x, mean - sd, mean + sd, color="0.88", lw=0, zorder=0)
        axes.plot(x, mean, color="black", lw=1.8)
        axes.axhline(0.5, color="0.4", lw=0.8, ls="--", zorder=1)
        if x[0] < 0:
            axes.axvline(0, color="0.6", lw=0.7, ls="--", zorder=0)
        axes.set_title(level)
        axes.set_xlabel("middle of the window (ms)")
        axes.margins(x=0)
    panels[0].set_ylabel("two-way accuracy (chance .5)")
    return _save(
        figure, parent, "when",
        "Decoding of each level's captions from one window at a time: thin lines are folds, black is "
        "their mean, gray one standard deviation over folds, dashed chance.",
    )  # fmt: skip


def _draw_winners(folds: _Folds, parent: Path) -> Image:
    from matplotlib.figure import Figure

    n = len(folds.heads)
    figure = Figure(figsize=(TWO_COLUMNS / 2 + 0.6, 0.6 + 0.22 * n), layout="constrained")
    axes = figure.subplots()
    for y, head in enumerate(folds.heads):
        values = folds.column("winners", head, "wins (%)")
        axes.barh(y, np.nanmean(values), color=head_style(head)["color"], height=0.66, alpha=0.55)
        axes.plot(values, np.full(len(values), y), "|", color=INK, ms=7, mew=1)
    axes.axvline(100 / n, color=INK, ls=(0, (3, 2)), lw=1)
    axes.set_yticks(range(n), folds.heads)
    axes.invert_yaxis()
    axes.set_xlabel("trials on which the head is the surest (%)")
    return _save(
        figure, parent, "winners",
        "How often each head is the surest by calibrated confidence: bars are means over folds, a "
        "line a fold; dashed: every head equally often.",
    )  # fmt: skip
