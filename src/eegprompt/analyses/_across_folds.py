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
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses._findings import (
    Finding,
    Image,
    load_finding,
    load_record,
    save_finding,
)
from eegprompt.analyses._maps import levels_of
from eegprompt.analyses.base import Analysis, Answer, Context
from eegprompt.analyses.patterns import around_peak
from eegprompt.attribution.sanity import similarity
from eegprompt.core.errors import RunError
from eegprompt.core.files import content_key, read_arrays, read_json
from eegprompt.core.kinds import KINDS
from eegprompt.figures.panels import ScalpMap, onset_line, panels, scalp_maps
from eegprompt.figures.scalp import SensorLayout
from eegprompt.figures.style import (
    GRAY,
    INK,
    LEVEL_COLORS,
    TWO_COLUMNS,
    head_style,
    save_figure,
    style,
)

__all__ = ["NAME", "explain_folds", "load_folds"]

NAME = "across-folds"
POOLED = ("patterns", "timecourse", "confidence")


@dataclass(frozen=True)
class _Folds:
    """The stored findings of all folds, read side by side."""

    folders: list[Path]
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
        """Verdicts on the head's pattern, fold by fold."""
        return [str(row.get("verdict", "")) for row in self.rows("patterns", head)]


def explain_folds(
    folders: Sequence[Path], positions: np.ndarray | None, n_subjects: int | None
) -> Finding | None:
    """Pool what was found in the folds of a run.

    Writes ``explain/across-folds.json`` and ``.safetensors``, and figures into ``figures/explain/``,
    in the parent folder; what is there of the same findings is left as it is.

    Parameters
    ----------
    folders : sequence of pathlib.Path
        Of all folds, in their order.
    positions : array (n_chans, 3) or None
        Of the electrodes; None where the study is gone.
    n_subjects : int or None
        Subjects of the study, likewise.

    Returns
    -------
    Finding or None
        None for a single run, and where a fold was not explained yet, or found something else to
        compare (other heads, other channels).
    """
    key = _key(folders)
    if len(folders) < 2 or key is None:
        return None
    parent = folders[0].parent
    if load_record(parent, NAME).get("key") == key:
        return load_finding(parent, NAME)
    folds = _read(folders)
    if folds is None:
        return None
    started = time.monotonic()
    finding = Folds(folds, positions, n_subjects).pooled()
    save_finding(
        parent,
        finding,
        record={"key": key, "seconds": round(time.monotonic() - started, 2)},
        axes={n: folds.stored["patterns"][0][n] for n in ("ch_names", "times", "heads")},
    )
    return load_finding(parent, NAME)


def load_folds(folders: Sequence[Path]) -> Finding | None:
    """What :func:`explain_folds` wrote; None if it is not there or folds were explained anew since."""
    key = _key(folders)
    if len(folders) < 2 or key is None:
        return None
    parent = folders[0].parent
    return load_finding(parent, NAME) if load_record(parent, NAME).get("key") == key else None


def _key(folders: Sequence[Path]) -> str | None:
    keys = [load_record(folder, name).get("key") for folder in folders for name in POOLED]
    return None if None in keys else content_key(NAME, *keys)


def _read(folders: Sequence[Path]) -> _Folds | None:
    stored: dict[str, list[dict[str, Any]]] = {}
    arrays: dict[str, list[dict[str, np.ndarray]]] = {}
    for name in POOLED:
        paths = [folder / "explain" / f"{name}.json" for folder in folders]
        stored[name] = [read_json(path, error=RunError, schema="finding") for path in paths]
        arrays[name] = [
            read_arrays(path.with_suffix(".safetensors"), error=RunError) for path in paths
        ]
    shared = [(one["ch_names"], one["times"], one["heads"]) for one in stored["patterns"]]
    whole = all(one["arrays"] for found in stored.values() for one in found)
    if not whole or any(one != shared[0] for one in shared):
        return None
    titles = [folder.name.replace("-", " ") for folder in folders]
    return _Folds(list(folders), titles, shared[0][2], stored, arrays)


class Folds(Analysis):
    """Means over folds, with their spread."""

    name = NAME
    title = "All folds together"
    question = "What all folds found together"
    not_concluded = (
        "Folds share most of their training trials, so they resemble each other more than as many "
        "studies would, and their spread is no confidence interval (Bengio and Grandvalet 2004). "
        "Few subjects are no evidence about others. A mean over folds shows what recurs; it makes no "
        "map trustworthy that fails in most of them."
    )
    answers: ClassVar = {
        "passing": (
            "Each of the {n} folds tests trials that no other tests, with an encoder of its own. "
            "{every} of {heads} heads have a pattern that passes all tests in every fold, {never} in "
            "none; {value:.0f} of {of} maps pass in all.",
        )
        * 2,
        "agreement": (
            "Between two folds the map of a head correlates by {value:.2f} (median over heads).",
            "",
        ),
        "most confident": (
            "In all {n} folds the same head is the most confident one: {heads}.",
            "The most confident head changes from fold to fold ({heads}), so which one it is says "
            "something about a training, not about the recording.",
        ),
    }

    def __init__(self, folds: _Folds, positions: np.ndarray | None, n_subjects: int | None):
        self.folds, self.positions, self.n_subjects = folds, positions, n_subjects

    def compute(self, context: Context) -> Finding:
        """Folds are pooled from what they found, without a context."""
        return self.pooled()

    def pooled(self) -> Finding:
        """The finding of all folds."""
        folds = self.folds
        parent, n = folds.folders[0].parent, len(folds.folders)
        agreement = {head: _alike(folds.maps(head)) for head in folds.heads}
        passed = {h: sum(v == "passed" for v in folds.verdicts(h)) for h in folds.heads}
        maps = {head: folds.maps(head).mean(axis=0) for head in folds.heads}
        courses = _courses(folds)
        with style():
            images = [_draw_verdicts(folds, parent)]
            layout = (
                None
                if self.positions is None
                else SensorLayout(folds.stored["patterns"][0]["ch_names"], self.positions)
            )
            if layout is not None and layout.placed:
                images.append(_draw_maps(folds, layout, maps, passed, parent))
            images += [_draw_courses(folds, courses, parent), _draw_shares(folds, parent)]
        whole, total = n * len(folds.heads), sum(passed.values())
        answers = [
            self.answer(
                "passing", 2 * total > whole, value=total, of=whole, n=n, heads=len(folds.heads),
                every=sum(v == n for v in passed.values()),
                never=sum(v == 0 for v in passed.values()),
            )
        ]  # fmt: skip
        known = [a for a in agreement.values() if np.isfinite(a)]
        if known:
            answers.append(self.answer("agreement", value=np.median(known)))
        if len(folds.heads) > 1:
            answers.append(self._most_confident())
        subjects = "" if self.n_subjects is None else f" Subjects: {self.n_subjects}."
        return self.finding(
            answers,
            table=[_row(folds, head, agreement[head], passed[head]) for head in folds.heads],
            figures=images,
            arrays={
                **{f"z_mean/{h}": m.astype(np.float32) for h, m in maps.items()},
                "window_times": folds.arrays["timecourse"][0]["window_times"],
                **{f"accuracy_mean/{h}": c.mean(axis=0) for h, c in courses.items()},
                **{f"accuracy_sd/{h}": c.std(axis=0, ddof=1) for h, c in courses.items()},
            },
            verdict=f"{total} of {whole} maps pass",
            good=2 * total > whole,
            notes=[
                "Pooled are the activation patterns, the time-resolved decoding and the most confident "
                f"heads of {n} folds; ± and bands are standard deviations over folds. Attributions, "
                "differences between levels, deletion curves and the geometry of embeddings are of one "
                f"encoder's own and are not averaged.{subjects}"
            ],
        )

    def _most_confident(self) -> Answer:
        """The most confident head by fold: one that changes is no property of the recording."""
        folds = self.folds
        shares = np.array([folds.column("confidence", h, SHARE) for h in folds.heads])
        first = Counter(folds.heads[i] for i in np.nan_to_num(shares).argmax(axis=0)).most_common()
        same = len(first) == 1
        heads = first[0][0] if same else ", ".join(f"{head} in {n}" for head, n in first)
        return self.answer("most confident", same, n=len(folds.folders), heads=heads)


SHARE = "most confident (%)"


def _alike(maps: np.ndarray) -> float:
    """Mean similarity of two folds' maps."""
    found = [similarity(a, b) for a, b in combinations(maps, 2)]
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _row(folds: _Folds, head: str, alike: float, passed: int) -> dict[str, Any]:
    n = len(folds.folders)
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
        SHARE: _spread(folds.column("confidence", head, SHARE), 0),
        "confidence": _spread(folds.column("confidence", head, "confidence"), 3),
        "calibration error": _spread(folds.column("confidence", head, "calibration error"), 3),
    }


def _spread(values: np.ndarray, digits: int) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return ""
    sd = known.std(ddof=1) if len(known) > 1 else 0.0
    return f"{known.mean():.{digits}f} ± {sd:.{digits}f}"


def _courses(folds: _Folds) -> dict[str, np.ndarray]:
    """Level or head → two-way accuracy of each fold, (n_folds, n_windows)."""
    names = [n for n in folds.arrays["timecourse"][0] if n.startswith("accuracy/")]
    return {
        name.removeprefix("accuracy/"): np.stack([a[name] for a in folds.arrays["timecourse"]])
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
    right.set_title("identification by the head")
    figure.legend(list(seen.values()), list(seen), loc="outside lower left", ncols=4)
    return _save(
        figure, parent, "verdicts",
        "Left: verdicts on each head's activation pattern, fold by fold. Right: two-way identification "
        "by the head; one line per fold, dots are means, dashed: chance.",
    )  # fmt: skip


def _draw_maps(
    folds: _Folds,
    layout: SensorLayout,
    maps: dict[str, np.ndarray],
    passed: dict[str, int],
    parent: Path,
) -> Image:
    times = np.array(folds.stored["patterns"][0]["times"])
    rows: dict[str, list[ScalpMap]] = {}
    for place, (head, m) in enumerate(maps.items()):
        _, around, at = around_peak(m, times)
        values = np.maximum(m[:, around], 0).mean(axis=1)
        title = f"{head}\n{at}\npasses in {passed[head]} of {len(folds.folders)}"
        level = KINDS[head].level.value if head in KINDS else ""
        rows.setdefault(str(place // 5), []).append(ScalpMap(values, title, level))
    limit = max(1.0, *(float(one.values.max()) for some in rows.values() for one in some))
    figure = scalp_maps(
        layout, rows, (0.0, limit), "z, mean over folds", height=1.85, name_rows=False
    )
    return _save(
        figure, parent, "patterns",
        "Activation pattern of each head, mean of z over all folds (those that failed a test too), "
        "around the peak of the mean; one color scale.",
    )  # fmt: skip


def _draw_courses(folds: _Folds, courses: dict[str, np.ndarray], parent: Path) -> Image:
    levels = {level: courses[f"level {level}"] for level in levels_of(folds.heads)}
    several = list(levels.values())
    if len(several) > 1 and all(np.allclose(c, several[0], atol=1e-6) for c in several):
        levels = {"all levels, which are alike": several[0]}
    figure, axes_of = panels(len(levels), 2.3)
    x = 1e3 * np.asarray(folds.arrays["timecourse"][0]["window_times"])
    for axes, (level, each) in zip(axes_of, levels.items()):
        axes.plot(x, each.T, color=LEVEL_COLORS.get(level, "#0072b2"), lw=0.5, alpha=0.6)
        mean, sd = each.mean(axis=0), each.std(axis=0, ddof=1)
        axes.fill_between(x, mean - sd, mean + sd, color="0.88", lw=0, zorder=0)
        axes.plot(x, mean, color="black", lw=1.8)
        axes.axhline(0.5, color="0.4", lw=0.8, ls="--", zorder=1)
        onset_line(axes, x[0])
        axes.set_title(level)
        axes.set_xlabel("middle of the window (ms)")
    axes_of[0].set_ylabel("two-way accuracy (chance .5)")
    return _save(
        figure, parent, "timecourse",
        "Decoding of each level's captions from one window at a time: thin lines are folds, black is "
        "their mean, gray one standard deviation over folds, dashed chance.",
    )  # fmt: skip


def _draw_shares(folds: _Folds, parent: Path) -> Image:
    n = len(folds.heads)
    figure, (axes,) = panels(1, 0.6 + 0.22 * n, width=TWO_COLUMNS / 2 + 0.6)
    for y, head in enumerate(folds.heads):
        values = folds.column("confidence", head, SHARE)
        axes.barh(y, np.nanmean(values), color=head_style(head)["color"], height=0.66, alpha=0.55)
        axes.plot(values, np.full(len(values), y), "|", color=INK, ms=7, mew=1)
    axes.axvline(100 / n, color=INK, ls=(0, (3, 2)), lw=1)
    axes.set_yticks(range(n), folds.heads)
    axes.invert_yaxis()
    axes.set_xlabel("trials on which it is the most confident head (%)")
    return _save(
        figure, parent, "confidence",
        "How often each head is the most confident one: bars are means over folds, one "
        "line per fold; dashed: every head equally often.",
    )  # fmt: skip
