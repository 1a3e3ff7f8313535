"""Where and when the three levels differ: cluster-permutation tests across images or subjects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses._maps import Patterns, levels_of, patterns_of
from eegprompt.analyses._trials import view
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image, Omitted
from eegprompt.attribution.clusters import (
    ClusterTest,
    cluster_tests,
    contributions,
    electrode_info,
    time_bins,
)
from eegprompt.attribution.patterns import partner_outputs
from eegprompt.figures.panels import (
    ScalpMap,
    bin_edges,
    channel_images,
    samples_within,
    scalp_maps,
    windows_within,
)
from eegprompt.figures.scalp import SensorLayout
from eegprompt.figures.style import DIVERGING, style

__all__ = ["Levels"]

ALPHA = 0.05  # over all pairs of levels
BIN = 0.024  # seconds
FLIPS = 200
SUBJECTS = 8  # from so many on, subjects are the units

Tests = dict[tuple[str, str], ClusterTest]


@dataclass(frozen=True)
class _Shares:
    """How much of the EEG each level's heads explain, by unit of the test."""

    of: dict[str, np.ndarray]  # level → (n_units, n_chans, n_bins)
    times: np.ndarray  # middle of the bins, in seconds
    by_subject: bool
    partners: bool  # whether outputs are those of other trials of the image
    n_trials: int
    n_components: int

    @property
    def forming_p(self) -> float:
        """p that forms clusters."""
        return 0.01 if self.by_subject else 0.001


class Levels(Analysis):
    """Differences between levels in how far heads' outputs explain the EEG."""

    name = "levels"
    title = "Where and when the levels differ"
    question = "Where and when low, mid and high levels of meaning differ"
    not_concluded = (
        "A cluster says that the maps differ, not where or when the difference begins or ends "
        "(Sassenhagen and Draschkow 2019)."
    )
    answers: ClassVar = {
        "differ": (
            "The maps of {pair} differ (p = {p:.3f} across {value:.0f} {units}): {one} explains more "
            "mostly at {more}, less at {less}.",
            "The maps of {pair} do not differ (p = {p:.3f} across {value:.0f} {units}).",
        ),
    }

    def compute(self, context: Context) -> Finding:
        """Contributions by level, one cluster test of all pairs, and maps of t."""
        known = patterns_of(context)
        found = _shares(context, known)
        adjacency, placed = _adjacency(context)
        context.progress(1, 2, "cluster permutation")
        of = found.of
        tests = cluster_tests(
            {(one, other): of[one] - of[other] for one, other in combinations(of, 2)},
            adjacency, n_permutations=FLIPS, seed=context.seed, threshold_p=found.forming_p,
        )  # fmt: skip
        layout = SensorLayout(context.ch_names, context.positions)
        with style():
            figures = [_maps(context, layout, tests, found.times)] if layout.placed else []
            figures.append(_over_time(context, tests, found.times))
        rows = [_row(context, pair, test, found.times) for pair, test in tests.items()]
        units = "subjects" if found.by_subject else context.unit_name
        differ = sum(t.mask.any() for t in tests.values())
        return self.finding(
            self._answers(tests, rows, units),
            not_concluded=(
                f"The test is across {units} of one encoder that was trained on all subjects, with the "
                "same images for all: it licenses a statement about this model on these subjects, and "
                "none about other encoders, other images or people at large (Clark 1973). "
                + self.not_concluded
            ),
            table=rows,
            figures=figures,
            arrays={
                "bin_times": found.times.astype(np.float32),
                **{f"explained/{lv}": s.mean(axis=0).astype(np.float32) for lv, s in of.items()},
                **{f"t/{a}-{b}": t.t.astype(np.float32) for (a, b), t in tests.items()},
                **{f"mask/{a}-{b}": t.mask for (a, b), t in tests.items()},
            },
            verdict=f"{differ} of {len(tests)} pairs differ",
            notes=_notes(context, found, placed),
        )

    def _answers(self, tests: Tests, rows: list[dict[str, Any]], units: str) -> Iterator[Answer]:
        for (pair, test), row in zip(tests.items(), rows):
            when = {
                side: "no time" if row[f"first {side} at (ms)"] is None
                else f"{row[f'first {side} at (ms)']} ms" for side in ("more", "less")
            }  # fmt: skip
            yield self.answer(
                "differ", bool(test.mask.any()), pair=" and ".join(pair), one=pair[0], p=test.p,
                value=test.n_units, units=units, **when,
            )  # fmt: skip


def _shares(context: Context, known: Patterns) -> _Shares:
    """Contributions of the heads above chance, averaged over each level's."""
    heads = known.above_chance
    levels = levels_of(heads)
    if len(levels) < 2:
        raise Omitted(
            f"levels are compared where at least two have a head above chance; here {len(levels)} has"
        )
    # The same partition of the images in every kind: groups numbered in order of appearance.
    parts = {tuple(_groups(known.captions[h])) for h in heads}
    # Where every image has captions of its own, what matters is how alike they are to others'.
    if len(parts) == 1 and max(next(iter(parts))) + 1 < len(np.unique(known.units)):
        raise Omitted(
            "the captions of every kind sort the test images in the same way, so heads differ in "
            "words and not in what they tell apart, and a difference between levels would mean nothing"
        )
    rows, outputs, partners = _outputs(context, known)
    subjects, images = known.subjects[rows], known.units[rows]
    width = min(max(round(BIN * context.sfreq), 1), len(context.times))
    centers, binned = time_bins(view(context, known.ids[rows]), width)
    by_subject = len(np.unique(subjects)) >= SUBJECTS
    # A pattern of more dimensions than images can carry is mostly noise.
    n_components = min(12, max(2, len(np.unique(images)) // 8))

    def of_head(output: np.ndarray) -> np.ndarray:
        if not by_subject:
            return contributions(binned, output, images, subjects, n_components)
        # Leaving an image out leaves all its trials out; a subject's own pattern needs its trials.
        own = [subjects == name for name in np.unique(subjects)]
        each = [contributions(binned[s], output[s], images[s], None, n_components) for s in own]
        return np.stack([values.mean(axis=0) for values in each])

    of = {lv: np.mean([of_head(outputs[h]) for h in hs], axis=0) for lv, hs in levels.items()}
    times = context.times[0] + centers / context.sfreq
    return _Shares(of, times, by_subject, partners, len(rows), n_components)


def _groups(captions: np.ndarray) -> list[int]:
    names: dict[int, int] = {}
    labels = np.unique(captions.round(4), axis=0, return_inverse=True)[1].ravel().tolist()
    return [names.setdefault(label, len(names)) for label in labels]


def _outputs(context: Context, known: Patterns) -> tuple[np.ndarray, dict[str, np.ndarray], bool]:
    """Rows, outputs of the heads for their images, and whether those are of other trials.

    A head's output is a function of the trial's EEG, noise included, and so covaries with it even
    before the image is shown. Its output of other trials of the image does not.
    """
    if context.study.image_identity == "known":
        found = {h: partner_outputs(known.outputs[h], known.units) for h in known.above_chance}
        rows = next(iter(found.values()))[0]
        if 2 * len(rows) >= len(known.ids) and len(np.unique(known.units[rows])) > 1:
            return rows, {head: partners for head, (_, partners) in found.items()}, True
    return np.arange(len(known.ids)), known.outputs, False


def _adjacency(context: Context) -> tuple[Any, bool]:
    """Neighbors among the channels that have a position; others have none."""
    import mne
    from scipy import sparse

    placed = np.flatnonzero(np.isfinite(context.positions).all(axis=1))
    n = len(context.ch_names)
    whole = sparse.lil_array((n, n))
    whole.setdiag(1)
    if len(placed) >= 4:
        info = electrode_info([context.ch_names[i] for i in placed], context.positions[placed])
        with mne.utils.use_log_level("error"):
            some, _ = mne.channels.find_ch_adjacency(info, "eeg")
        for a, b in zip(*some.nonzero()):
            whole[placed[a], placed[b]] = 1
    return whole.tocoo(), len(placed) >= 4


def _notes(context: Context, found: _Shares, placed: bool) -> list[str]:
    width = 1e3 * (found.times[1] - found.times[0]) if len(found.times) > 1 else 1e3 * BIN
    source = (
        "The output is that of the other trials of the same image, which share no noise with the EEG "
        f"({found.n_trials} trials)."
        if found.partners
        else "The output is that of the same trial, so that a head's reading of noise counts too: "
        "images were not shown often enough to tell the two apart."
    )
    return [
        f"Unit of the test: one {'subject' if found.by_subject else 'image'}'s EEG times what the "
        "pattern of all other images predicts from the head's output, over the EEG's variance; mean "
        f"over the level's heads above chance, the {found.n_components} leading components of each. "
        f"{source} Clusters over neighboring electrodes and bins of {width:.0f} ms, formed at p < "
        f"{found.forming_p}, {FLIPS} sign flips at most, for all pairs together, seed {context.seed}.",
        *([] if placed else ["Without positions clusters extend over time only."]),
    ]


def _row(
    context: Context, pair: tuple[str, str], test: ClusterTest, times: np.ndarray
) -> dict[str, Any]:
    def strongest(sign: int) -> tuple[int | None, str]:
        inside = test.mask & (sign * test.t > 0)
        if not inside.any():
            return None, ""
        energy = np.where(inside, np.abs(test.t), 0.0)
        when = int(energy.sum(axis=0).argmax())
        first = np.argsort(-energy[:, when])[:3]
        names = [context.ch_names[i] for i in first if energy[i, when] > 0]
        return round(1e3 * times[when]), ", ".join(names)

    (more, there), (less, elsewhere) = strongest(1), strongest(-1)
    return {
        "levels": f"{pair[0]} − {pair[1]}",
        "p (strongest cluster)": round(test.p, 3) if np.isfinite(test.p) else None,
        "units": test.n_units,
        "first more at (ms)": more,
        "at electrodes": there,
        "first less at (ms)": less,
        "at electrodes ": elsewhere,
    }


def _maps(context: Context, layout: SensorLayout, tests: Tests, times: np.ndarray) -> Image:
    limit = max(1.0, max(float(np.quantile(np.abs(t.t), 0.99)) for t in tests.values()))
    rows: dict[str, list[ScalpMap]] = {}
    for (one, other), test in tests.items():
        for window in windows_within(times):
            inside = samples_within(times, window)
            title = f"{1e3 * window[0]:.0f}–{1e3 * window[1]:.0f} ms"
            rows.setdefault(f"{one} − {other}", []).append(
                ScalpMap(
                    test.t[:, inside].mean(axis=1), "" if len(rows) > 1 else title,
                    mask=np.asarray(test.mask[:, inside].any(axis=1)),
                )
            )  # fmt: skip
    return context.save_figure(
        scalp_maps(layout, rows, (-limit, limit), "t across units", cmap=DIVERGING), "levels-maps",
        "Differences between levels in how much of the EEG their heads' outputs explain: t value, "
        "mean over the window; marked electrodes are in a cluster with p < 0.05 (all pairs together) "
        "somewhere in it.",
    )  # fmt: skip


def _over_time(context: Context, tests: Tests, times: np.ndarray) -> Image:
    limit = max(1.0, max(float(np.abs(t.t).max()) for t in tests.values()))
    figure = channel_images(
        {f"{a} − {b}": np.where(t.mask, t.t, np.nan) for (a, b), t in tests.items()},
        bin_edges(times), (context.ch_names, context.positions), (-limit, limit), "t across units",
        DIVERGING,
    )  # fmt: skip
    return context.save_figure(
        figure, "levels-images",
        "The same at every channel and time point; gray is in no cluster with p < 0.05 (all pairs "
        "together).",
    )  # fmt: skip
