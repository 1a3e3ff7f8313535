"""Where and when the three levels differ: cluster-permutation tests across images or subjects."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image, Omitted
from eegprompt.analyses.maps import Patterns, levels_of, patterns_of
from eegprompt.analyses.patterns import front_to_back
from eegprompt.analyses.trials import view
from eegprompt.attribution.clusters import (
    ClusterTest,
    cluster_tests,
    contributions,
    electrode_info,
    time_bins,
)
from eegprompt.attribution.patterns import partner_outputs
from eegprompt.figures.scalp import Cap, color_bar
from eegprompt.figures.style import DIVERGING, TWO_COLUMNS, style

__all__ = ["analyze"]

ALPHA = 0.05  # over all pairs of levels
BIN = 0.024  # seconds
FLIPS = 200
SUBJECTS = 8  # from so many on, subjects are the units


def analyze(material: Material) -> Finding:
    """Differences between levels in how far heads' outputs explain the EEG."""
    known = patterns_of(material)
    levels = levels_of(known.speaking)
    if len(levels) < 2:
        raise Omitted(
            f"levels are compared where at least two have a head above chance; here {len(levels)} has"
        )
    parts = {
        tuple(
            np.unique(known.captions[h].round(4), axis=0, return_inverse=True)[1].ravel().tolist()
        )
        for h in known.speaking
    }
    # Where every image has captions of its own, what matters is how alike they are to others'.
    n_groups = max(len(set(labels)) for labels in parts)
    if _one_partition(parts) and n_groups < len(np.unique(known.units)):
        raise Omitted(
            "the captions of every kind sort the test images in the same way, so heads differ in "
            "words and not in what they tell apart, and a difference between levels would mean nothing"
        )
    width = max(round(BIN * material.sfreq), 1)
    width = min(width, len(material.times))
    rows, outputs, partners = _outputs(material, known)
    who, images = known.subjects[rows], known.units[rows]
    centers, binned = time_bins(view(material, known.ids[rows]), width)
    moments = material.times[0] + centers / material.sfreq
    by_subject = len(np.unique(who)) >= SUBJECTS
    units = who if by_subject else images
    # A pattern of more dimensions than images can carry is mostly noise.
    n_components = min(12, max(2, len(np.unique(images)) // 8))
    shares = {
        level: np.mean(
            [
                # Leaving an image out leaves all its trials out; a subject's own pattern needs its
                # own trials.
                _by_subject(binned, outputs[h], images, who, n_components)
                if by_subject
                else contributions(binned, outputs[h], images, who, n_components)
                for h in names
            ],
            axis=0,
        )
        for level, names in levels.items()
    }
    adjacency, placed = _adjacency(material)
    material.progress(1, 2, "cluster permutation")
    tests = cluster_tests(
        {(one, other): shares[one] - shares[other] for one, other in combinations(levels, 2)},
        adjacency, n_permutations=FLIPS, seed=material.seed,
        threshold_p=0.01 if by_subject else 0.001,
    )  # fmt: skip
    n_units = len(np.unique(units))
    table = [_row(material, pair, test, moments) for pair, test in tests.items()]
    cap = Cap(material.ch_names, material.positions)
    with style():
        figures = [_images(material, tests, moments)]
        if cap.placed:
            figures.insert(0, _maps(material, cap, tests, moments))
    differ = [f"{a} and {b}" for (a, b), t in tests.items() if t.mask.any()]
    what = (
        "subjects"
        if by_subject
        else "images"
        if material.study.image_identity == "known"
        else "trials"
    )
    seen = (
        f"Maps differ, with p < {ALPHA} across {n_units} {what}, between {', '.join(differ)}. "
        if differ
        else f"No two levels' maps differ with p < {ALPHA} across {n_units} {what}. "
    ) + " ".join(
        f"{r['levels'].split(' − ')[0]} explains more than {r['levels'].split(' − ')[1]} mostly at "
        f"{r['first more at (ms)']} ms, less at {r['first less at (ms)']} ms."
        for r in table
        if r["first more at (ms)"] is not None and r["first less at (ms)"] is not None
    )
    return Finding(
        name="levels",
        title="Where and when the levels differ",
        seen=seen.strip(),
        not_concluded=(
            (
                f"The test is across {n_units} subjects, but of one encoder that was trained on all of "
                "them, and with the same images for all: it says that the difference holds from "
                "subject to subject, not that it would with another encoder or with other images "
                "(Clark 1973). "
                if by_subject
                else f"The test is across {what}: it licenses a statement about this model on these "
                "subjects, and none about people at large. "
            )
            + "A cluster says that the maps differ, not where or when "
            "the difference begins or ends (Sassenhagen and Draschkow 2019)."
        ),
        table=table,
        figures=figures,
        arrays={
            "bin_times": moments.astype(np.float32),
            **{f"explained/{lv}": s.mean(axis=0).astype(np.float32) for lv, s in shares.items()},
            **{f"t/{a}-{b}": t.t.astype(np.float32) for (a, b), t in tests.items()},
            **{f"mask/{a}-{b}": t.mask for (a, b), t in tests.items()},
        },
        verdict=f"{len(differ)} of {len(tests)} pairs differ",
        good=None,
        notes=[
            f"Unit of the test: one {'subject' if by_subject else 'image'}'s EEG times what the "
            "pattern of all other images predicts from the head's output, over the EEG's variance; "
            f"mean over the level's heads above chance, the {n_components} leading components of each. "
            + (
                "The output is that of the other trials of the same image, which share no noise with "
                f"the EEG ({len(rows)} trials). "
                if partners
                else "The output is that of the same trial, so that a head's reading of noise counts "
                "too: images were not shown often enough to tell the two apart. "
            )
            + f"Clusters over neighboring electrodes and bins of {1e3 * width / material.sfreq:.0f} "
            f"ms, formed at p < {0.01 if by_subject else 0.001}, {FLIPS} sign flips at most, for all "
            f"pairs together, seed {material.seed}.",
            *([] if placed else ["Without positions clusters extend over time only."]),
        ],
    )


def _one_partition(parts: set[tuple[int, ...]]) -> bool:
    """Whether labelings differ in the names of their groups only."""
    canonical = set()
    for labels in parts:
        names: dict[int, int] = {}
        canonical.add(tuple(names.setdefault(label, len(names)) for label in labels))
    return len(canonical) == 1


def _outputs(material: Material, known: Patterns) -> tuple[np.ndarray, dict[str, np.ndarray], bool]:
    """Rows, what heads say of their images, and whether that is of other trials of the image.

    A head's output is a function of the trial's EEG, noise included, and so goes along with it even
    before the image is shown. What it said of other trials of the image does not.
    """
    if material.study.image_identity == "known":
        found = {h: partner_outputs(known.outputs[h], known.units) for h in known.speaking}
        rows = next(iter(found.values()))[0]
        if 2 * len(rows) >= len(known.ids) and len(np.unique(known.units[rows])) > 1:
            return rows, {head: partners for head, (_, partners) in found.items()}, True
    return np.arange(len(known.ids)), known.outputs, False


def _by_subject(
    binned: np.ndarray,
    output: np.ndarray,
    images: np.ndarray,
    subjects: np.ndarray,
    n_components: int,
) -> np.ndarray:
    """Contributions of each subject, (n_subjects, n_chans, n_bins): mean over its images."""
    own = [subjects == name for name in np.unique(subjects)]
    return np.stack(
        [
            contributions(binned[rows], output[rows], images[rows], n_components=n_components).mean(
                axis=0
            )
            for rows in own
        ]
    )


def _adjacency(material: Material) -> tuple[Any, bool]:
    """Neighbors among the channels that have a position; others have none."""
    import mne
    from scipy import sparse

    placed = np.flatnonzero(np.isfinite(material.positions).all(axis=1))
    n = len(material.ch_names)
    whole = sparse.lil_array((n, n))
    whole.setdiag(1)
    if len(placed) >= 4:
        info = electrode_info([material.ch_names[i] for i in placed], material.positions[placed])
        with mne.utils.use_log_level("error"):
            some, _ = mne.channels.find_ch_adjacency(info, "eeg")
        for a, b in zip(*some.nonzero()):
            whole[placed[a], placed[b]] = 1
    return whole.tocoo(), len(placed) >= 4


def _row(
    material: Material,
    pair: tuple[str, str],
    test: ClusterTest,
    moments: np.ndarray,
) -> dict[str, Any]:
    def strongest(sign: int) -> tuple[int | None, str]:
        inside = test.mask & (sign * test.t > 0)
        if not inside.any():
            return None, ""
        energy = np.where(inside, np.abs(test.t), 0.0)
        when = int(energy.sum(axis=0).argmax())
        first = np.argsort(-energy[:, when])[:3]
        names = [material.ch_names[i] for i in first if energy[i, when] > 0]
        return round(1e3 * moments[when]), ", ".join(names)

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


def _maps(
    material: Material, cap: Cap, tests: dict[tuple[str, str], ClusterTest], moments: np.ndarray
) -> Image:
    from matplotlib.figure import Figure

    from eegprompt.analyses.patterns import WINDOWS, _inside

    windows = [w for w in WINDOWS if w[0] < moments[-1] and w[1] > moments[0]]
    windows = windows or [(float(moments[0]), float(moments[-1]))]
    figure = Figure(figsize=(TWO_COLUMNS, 1.6 * len(tests)), layout="constrained")
    grid = figure.subplots(len(tests), len(windows), squeeze=False)
    limit = max(1.0, max(float(np.quantile(np.abs(t.t), 0.99)) for t in tests.values()))
    for place, (row, ((one, other), test)) in enumerate(zip(grid, tests.items())):
        for axes, w in zip(row, windows):
            inside = _inside(moments, w)
            cap.draw(axes, test.t[:, inside].mean(axis=1), (-limit, limit), cmap=DIVERGING,
                     mask=np.asarray(test.mask[:, inside].any(axis=1)))  # fmt: skip
            if place == 0:
                axes.set_title(f"{1e3 * w[0]:.0f}–{1e3 * w[1]:.0f} ms", fontsize=8, loc="center")
        row[0].text(-0.1, 0.5, f"{one} − {other}", transform=row[0].transAxes, rotation=90,
                    va="center", ha="center", fontweight="bold", fontsize=8)  # fmt: skip
    color_bar(figure, grid, (-limit, limit), "t across units", DIVERGING)
    return material.save_figure(
        figure, "levels-maps",
        "Differences between levels in how much of the EEG their heads' outputs explain: t value, "
        "mean over the window; marked electrodes are in a cluster with p < 0.05 (all pairs together) "
        "somewhere in it.",
    )  # fmt: skip


def _images(
    material: Material, tests: dict[tuple[str, str], ClusterTest], moments: np.ndarray
) -> Image:
    from matplotlib.figure import Figure

    order = front_to_back(material)
    figure = Figure(figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    panels = figure.subplots(1, len(tests), sharey=True, squeeze=False)[0]
    limit = max(1.0, max(float(np.abs(t.t).max()) for t in tests.values()))
    half = 1e3 * (moments[1] - moments[0]) / 2 if len(moments) > 1 else 1.0
    extent = (1e3 * moments[0] - half, 1e3 * moments[-1] + half, len(order) - 0.5, -0.5)
    for axes, ((one, other), test) in zip(panels, tests.items()):
        shown = axes.imshow(
            np.where(test.mask, test.t, np.nan)[order], aspect="auto", cmap=DIVERGING, vmin=-limit,
            vmax=limit, extent=extent, interpolation="nearest",
        )  # fmt: skip
        axes.set_facecolor("0.93")
        axes.set_title(f"{one} − {other}")
        axes.set_xlabel("time from onset (ms)")
    ticks = np.unique(np.linspace(0, len(order) - 1, min(len(order), 9)).round().astype(int))
    panels[0].set_yticks(ticks, [material.ch_names[order[i]] for i in ticks])
    panels[0].set_ylabel("channel, front to back")
    figure.colorbar(shown, ax=panels, aspect=18, pad=0.02).set_label("t across units")
    return material.save_figure(
        figure, "levels-images",
        "The same at every channel and moment; gray is in no cluster with p < 0.05 (all pairs together).",
    )  # fmt: skip
