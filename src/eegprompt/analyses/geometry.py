"""Geometry of the heads: maps of their embeddings with numbers, likeness of heads, linear probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.analyses._embedding_maps import (
    Map,
    Purity,
    cka_matrix,
    map_points,
    purity_test,
    silhouette,
)
from eegprompt.analyses._linear_probe import LinearProbe, ProbeScore
from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image, Omitted
from eegprompt.core.kinds import KINDS
from eegprompt.figures import style as look
from eegprompt.stats.max_statistic import max_statistic_p

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["analyze"]

TRIALS = 1000  # for the numbers
MAPPED_TRIALS = 400  # one point each
MAPPED_POINTS = 1500  # trials times heads
PERPLEXITY = 30.0
NEIGHBORS = 10
PERMUTATIONS = 999
ALPHA = 0.05
ALIKE = 0.9  # CKA above which two heads are taken to say the same
NAMED = 0.95  # share of images whose attribute follows from a kind's caption: the kind names it
_SHOWN_LABELS = 24


@dataclass(frozen=True)
class _Sample:
    """Held-out trials with what is known of them."""

    ids: np.ndarray
    spaces: dict[str, np.ndarray]  # head → (n_trials, n_dims)
    category: np.ndarray
    subject: np.ndarray
    image: np.ndarray | None  # None where only the category is known

    @property
    def units(self) -> np.ndarray:
        """What is held out and permuted as one: images, or trials where no image is known."""
        return np.arange(len(self.ids)) if self.image is None else self.image

    @property
    def side_by_side(self) -> np.ndarray:
        """All heads of a trial as one vector."""
        return np.concatenate(list(self.spaces.values()), axis=1)


def analyze(material: Material) -> Finding:
    """Maps, purity, likeness and probes of the heads' held-out embeddings.

    Parameters
    ----------
    material : Material
        The run.

    Returns
    -------
    Finding
        With arrays ``cka (n_heads, n_heads)``, ``probe (n_attributes, n_heads)`` and its ``_chance``
        and ``_p``, ``heads_tsne``, ``heads_pca``, ``trials_tsne``, ``trials_pca (n_points, 2)`` with
        the trial and head of each point.

    Raises
    ------
    Omitted
        If fewer than 8 test trials have embeddings.
    """
    sample = _sample(material)
    material.progress(0, 5, "geometry: neighbors")
    constant = [h for h, space in sample.spaces.items() if _is_constant(space)]
    purity = _purities(sample, material.seed)
    material.progress(1, 5, "geometry: likeness of heads")
    likeness = cka_matrix(list(sample.spaces.values()))
    material.progress(2, 5, "geometry: linear probes")
    attributes = _attributes(material, sample)
    probes = _probes(material, sample, attributes)
    named = _named_by(material, sample, attributes)
    material.progress(3, 5, "geometry: maps")
    maps = _Maps.of(material, sample)
    material.progress(4, 5, "geometry: figures")
    with look.style():
        figures = [
            *maps.draw(material, sample),
            _draw_purity(material, purity),
            *_draw_likeness(material, sample, likeness),
            *_draw_probes(material, probes, named),
        ]
    return Finding(
        name="geometry",
        title="How the heads’ embeddings lie",
        seen=_seen(purity, likeness, probes, sample, constant),
        not_concluded=(
            "Distances between clusters, their sizes and their shapes mean nothing in a t-SNE map, "
            "and clusters appear in noise: read the numbers, not the image. That heads lie apart "
            "says only that captions of different kinds lie apart in the text encoder’s space, which "
            "the heads were trained to point at. A probe shows what could be read from a head "
            "linearly, not what the decoder uses, and not where in the brain it comes from."
        ),
        table=_table(sample, purity),
        figures=figures,
        arrays={
            "cka": likeness,
            "probe": np.array([[s.value for s in row.values()] for row in probes.values()]),
            "probe_chance": np.array([[s.chance for s in row.values()] for row in probes.values()]),
            "probe_p": _probe_p(probes) if probes else np.zeros((0, len(material.heads))),
            **maps.arrays,
        },
        notes=[
            f"{len(sample.ids)} of {len(material.ids('test'))} test trials (seed {material.seed}); "
            f"t-SNE by scikit-learn from PCA, seed {material.seed}, perplexity "
            f"{maps.heads_tsne.perplexity:g} for heads and {maps.trials_tsne.perplexity:g} for "
            "trials.",
            f"Purity: share of the {NEIGHBORS} nearest neighbors with the same label"
            + (", trials of the same image left out" if sample.image is not None else "")
            + f"; p by {PERMUTATIONS} permutations"
            + (" of images" if sample.image is not None else "")
            + ", corrected for the number of heads by the largest of them.",
            "Probe: ridge regression, 5-fold over "
            + ("images" if sample.image is not None else "trials")
            + f", balanced accuracy; p by {PERMUTATIONS} permutations, corrected for the whole table by "
            "the largest of its cells.",
            f"Rows of the probe arrays: {', '.join(probes) or 'none'}.",
        ],
    )


def _sample(material: Material) -> _Sample:
    every = material.ids("test")
    if len(every) < 8:
        raise Omitted(
            f"the run has {len(every)} test trial{'s' * (len(every) != 1)}; maps and neighbors need "
            "at least 8"
        )
    ids = material.sample(every, TRIALS)
    rows = np.searchsorted(every, ids) if (np.diff(every) > 0).all() else _places(every, ids)
    spaces = {head: e[rows].astype(np.float64) for head, e in material.embeddings("test").items()}
    finite = np.all([np.isfinite(e).all(axis=1) for e in spaces.values()], axis=0)
    if finite.sum() < 8:
        raise Omitted(f"only {int(finite.sum())} test trials have embeddings that are numbers")
    ids, spaces = ids[finite], {head: e[finite] for head, e in spaces.items()}
    trials = material.trials(ids)
    known = material.study.image_identity == "known"
    return _Sample(
        ids,
        spaces,
        trials["category"].astype(str).to_numpy(dtype=object),
        trials["subject"].astype(str).to_numpy(dtype=object),
        trials["image_id"].astype(str).to_numpy(dtype=object) if known else None,
    )


def _places(every: np.ndarray, ids: np.ndarray) -> np.ndarray:
    where = {int(trial): i for i, trial in enumerate(every)}
    return np.array([where[int(trial)] for trial in ids])


def _is_constant(space: np.ndarray) -> bool:
    return bool(np.ptp(space, axis=0).max() < 1e-6)


# -- neighbors -----------------------------------------------------------------------------------
def _purities(sample: _Sample, seed: int) -> dict[str, dict[str, Purity]]:
    """By head: how pure neighborhoods are by class and by subject."""
    found: dict[str, dict[str, Purity]] = {}
    every = {**sample.spaces, "all heads": sample.side_by_side}
    for head, space in every.items():
        found[head] = {
            "class": purity_test(
                space, sample.category, NEIGHBORS,
                apart=sample.image, units=sample.units, n_permutations=PERMUTATIONS, seed=seed,
            ),
            "subject": purity_test(
                space, sample.subject, NEIGHBORS, n_permutations=PERMUTATIONS, seed=seed
            ),
        }  # fmt: skip
    return found


def _corrected(purity: dict[str, dict[str, Purity]], label: str) -> dict[str, float]:
    """p of each head, corrected for their number; "all heads" is a test of its own."""
    single = {h: by[label] for h, by in purity.items() if h != "all heads" and by[label].p > 0}
    p = {h: by[label].p for h, by in purity.items()}
    if single:
        null = np.stack([found.null for found in single.values()], axis=1)
        corrected = max_statistic_p(np.array([found.value for found in single.values()]), null)
        p |= dict(zip(single, corrected.tolist()))
    return p


def _probe_p(probes: dict[str, dict[str, ProbeScore]]) -> np.ndarray:
    """p of each attribute and head, corrected for the size of the table."""
    value = np.array([[score.value for score in row.values()] for row in probes.values()])
    null = np.stack([[score.null for score in row.values()] for row in probes.values()])
    return max_statistic_p(value, np.moveaxis(null, 2, 0))


def _table(sample: _Sample, purity: dict[str, dict[str, Purity]]) -> list[dict[str, Any]]:
    rows = []
    sure = {label: _corrected(purity, label) for label in ("class", "subject")}
    spaces = {**sample.spaces, "all heads": sample.side_by_side}
    for head, by in purity.items():
        row: dict[str, Any] = {"head": head}
        for label, of in (("class", sample.category), ("subject", sample.subject)):
            if len(set(of.tolist())) < 2:
                continue
            row |= {
                f"{label} purity": round(by[label].value, 3),
                f"{label} chance": round(by[label].chance, 3),
                f"{label} p": round(sure[label][head], 4),
                f"{label} silhouette": round(silhouette(spaces[head], of), 3),
            }
        rows.append(row)
    return rows


def _draw_purity(material: Material, purity: dict[str, dict[str, Purity]]) -> Image:
    from matplotlib.figure import Figure

    kinds = [k for k in ("class", "subject") if any(np.isfinite(p[k].p) for p in purity.values())]
    kinds = kinds or ["class"]
    figure = Figure(figsize=(look.TWO_COLUMNS * len(kinds) / 2, 2.6), layout="constrained")
    for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds), sharey=True)), kinds):
        p = _corrected(purity, kind)
        for y, (head, by) in enumerate(purity.items()):
            found = by[kind]
            mark = _mark(head)
            sure = p[head] < ALPHA
            value, chance = 100 * found.value, 100 * found.chance
            axes.plot([chance, value], [y, y], color=mark["color"], lw=1)
            axes.plot(
                value, y, mark["marker"], color=mark["color"], ms=5.5,
                mfc=mark["color"] if sure else "white",
            )  # fmt: skip
            axes.plot(chance, y, "|", color=look.INK, ms=8)
        axes.set_title(f"by {kind}")
        axes.set_xlabel(f"{NEIGHBORS} nearest neighbors of the same {kind} (%)")
        axes.set_yticks(range(len(purity)), list(purity))
        reach = [100 * x for by in purity.values() for x in (by[kind].value, by[kind].chance)]
        axes.set_xlim(0, 1.07 * max(np.nanmax(reach), 1))
    axes.invert_yaxis()
    return material.save_figure(
        figure,
        "geometry-purity",
        "Purity of neighborhoods in the full space, by head. Short black lines: chance; filled "
        f"marks: above chance (p < {ALPHA} by permutation, corrected for the number of heads).",
    )


def _mark(head: str) -> dict[str, Any]:
    style = look.head_style(head)
    return style if head in KINDS else {"color": look.INK, "marker": "*", "linestyle": "-"}


# -- likeness of heads ---------------------------------------------------------------------------
def _draw_likeness(material: Material, sample: _Sample, likeness: np.ndarray) -> list[Image]:
    heads = list(sample.spaces)
    if len(heads) < 2:
        return []
    from matplotlib.figure import Figure

    size = max(2.6, min(4.6, 0.42 * len(heads) + 1.0))
    figure = Figure(figsize=(size, size * 0.92), layout="constrained")
    axes = figure.subplots()
    shown = np.ma.masked_invalid(likeness)
    image = axes.imshow(shown, vmin=0, vmax=1, cmap=look.TABLE)
    for i, j in np.ndindex(likeness.shape):
        text = "–" if np.isnan(likeness[i, j]) else f"{likeness[i, j]:.2f}".replace("0.", ".", 1)
        dark = np.isfinite(likeness[i, j]) and likeness[i, j] > 0.55
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color="w" if dark else look.INK)
    axes.set_xticks(range(len(heads)), heads, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(heads)), heads)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="debiased linear CKA", shrink=0.75)
    return [
        material.save_figure(
            figure,
            "geometry-cka",
            "How alike two heads arrange the same test trials: debiased linear CKA, 1 for the same "
            "arrangement, 0 for unrelated ones. – : the head gives the same embedding for all trials.",
        )
    ]


# -- probes --------------------------------------------------------------------------------------
def _attributes(material: Material, sample: _Sample) -> dict[str, np.ndarray]:
    """What is known of each trial's image: category, and scene attributes or caption meanings."""
    images = material.study.images.set_index("image_id")
    shown = material.trials(sample.ids)["image_id"].to_numpy()
    found: dict[str, np.ndarray] = {"category": sample.category}
    for column in images.columns:
        if str(column).startswith("attr_"):
            found[str(column)[5:]] = images[column].astype(str).reindex(shown).to_numpy(object)
    if len(found) == 1:
        for head, meaning in material.true_meanings(sample.ids).items():
            found[f"caption of {head}"] = meaning.astype(object)
    kept: dict[str, np.ndarray] = {}
    units = sample.units
    for name, values in found.items():
        # each value must be met often enough that some of it is held out and some is learned from
        per_value = [len(set(units[values == v].tolist())) for v in set(values.tolist())]
        told_already = any(_same_partition(values, other) for other in kept.values())
        if 2 <= len(per_value) <= 40 and min(per_value) >= 3 and not told_already:
            kept[name] = values
    return kept


def _same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = set(zip(one.tolist(), two.tolist()))
    return len(pairs) == len(set(one.tolist())) == len(set(two.tolist()))


def _probes(
    material: Material, sample: _Sample, attributes: dict[str, np.ndarray]
) -> dict[str, dict[str, ProbeScore]]:
    """By attribute and head."""
    table: dict[str, dict[str, ProbeScore]] = {name: {} for name in attributes}
    for i, (head, space) in enumerate(sample.spaces.items()):
        probe = LinearProbe(space, sample.units, seed=material.seed)
        for name, values in attributes.items():
            table[name][head] = probe.score(values, PERMUTATIONS)
        share = 2 + (i + 1) / len(sample.spaces)
        material.progress(round(100 * share), 500, "geometry: linear probes")
    return table


def _named_by(
    material: Material, sample: _Sample, attributes: dict[str, np.ndarray]
) -> dict[tuple[str, str], bool]:
    """Whether a kind's captions name an attribute: its value follows from what they mean."""
    if sample.image is None:
        return {}
    images = material.study.images
    every = images["image_id"].astype(str).to_numpy()
    table = material.captions.drop_duplicates(["kind", "image_id"])
    meaning = table["meaning"] if "meaning" in table else table["text"]
    said = dict(
        zip(zip(table["kind"], table["image_id"]), meaning.where(meaning.notna(), table["text"]))
    )
    named = {}
    for name in attributes:
        column = name if name in images else f"attr_{name}"
        if column not in images:
            continue
        values = images[column].astype(str).to_numpy(object)
        for head in sample.spaces:
            says = np.array([str(said.get((head, image), "")) for image in every], dtype=object)
            if len(set(says.tolist())) > len(every) / 3:
                continue  # captions of single images: anything would follow from them
            right = 0
            for one in set(says.tolist()):
                _, counts = np.unique(values[says == one], return_counts=True)
                right += counts.max()
            named[name, head] = right / len(every) >= NAMED
    return named


def _draw_probes(
    material: Material,
    probes: dict[str, dict[str, ProbeScore]],
    named: dict[tuple[str, str], bool],
) -> list[Image]:
    if not probes:
        return []
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names, heads = list(probes), list(next(iter(probes.values())))
    value = np.array([[probes[n][h].value for h in heads] for n in names])
    chance = np.array([[probes[n][h].chance for h in heads] for n in names])
    sure = _probe_p(probes) < ALPHA
    above = np.clip((value - chance) / (1 - chance), 0, 1)
    figure = Figure(
        figsize=(min(look.TWO_COLUMNS, 2.6 + 0.46 * len(heads)), 1.5 + 0.25 * len(names)),
        layout="constrained",
    )
    axes = figure.subplots()
    image = axes.imshow(above, vmin=0, vmax=1, cmap=look.TABLE, aspect="auto")
    for i, j in np.ndindex(value.shape):
        axes.text(
            j, i, f"{100 * value[i, j]:.0f}", ha="center", va="center", fontsize=7,
            fontweight="bold" if sure[i, j] else "normal",
            color="w" if above[i, j] > 0.55 else look.INK,
        )  # fmt: skip
        if named.get((names[i], heads[j])):
            axes.add_patch(
                Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, ec=look.FRAME, lw=1.8)
            )
    axes.set_xticks(range(len(heads)), heads, rotation=45, ha="right", rotation_mode="anchor")
    rows = [f"{n}  ({100 * np.nanmean(chance[i]):.0f})" for i, n in enumerate(names)]
    axes.set_yticks(range(len(names)), rows)
    axes.set_ylabel("attribute (chance, %)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(names) >= 6:  # a shorter one has no room for its label, and the numbers are in the cells
        figure.colorbar(image, ax=axes, label="share of the way from chance to 1", shrink=0.9)
    frames = " Frames: the kind’s captions name the attribute." if any(named.values()) else ""
    return [
        material.save_figure(
            figure,
            "geometry-probes",
            "What a linear probe reads from each head on held-out trials: balanced accuracy in "
            f"percent. Bold: above chance (p < {ALPHA}, corrected for all cells).{frames}",
        )
    ]


# -- maps ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Maps:
    """Where points lie in the four maps, and whose points they are."""

    heads_pca: Map
    heads_tsne: Map
    trials_pca: Map
    trials_tsne: Map
    of_heads: np.ndarray  # (n_points, 2): trial's row in the sample, head's number
    of_trials: np.ndarray  # rows in the sample
    heads: list[str]
    ids: np.ndarray

    @classmethod
    def of(cls, material: Material, sample: _Sample) -> _Maps:
        heads = list(sample.spaces)
        rows = material.sample(np.arange(len(sample.ids)), MAPPED_TRIALS)
        few = material.sample(rows, max(MAPPED_POINTS // len(heads), 8))
        stacked = np.concatenate([space[few] for space in sample.spaces.values()])
        joined = sample.side_by_side[rows]
        if _is_constant(joined):
            raise Omitted("every head gives the same embedding for all test trials")
        settings: dict[str, Any] = {"perplexity": PERPLEXITY, "seed": material.seed}
        of_heads = np.stack(
            [np.tile(few, len(heads)), np.repeat(np.arange(len(heads)), len(few))], axis=1
        )
        return cls(
            map_points(stacked, "pca"),
            map_points(stacked, "tsne", **settings),
            map_points(joined, "pca"),
            map_points(joined, "tsne", **settings),
            of_heads,
            rows,
            heads,
            sample.ids,
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Coordinates, and the trial and head of each point."""
        return {
            "heads_pca": self.heads_pca.points,
            "heads_tsne": self.heads_tsne.points,
            "heads_trial_id": self.ids[self.of_heads[:, 0]],
            "heads_head": self.of_heads[:, 1],
            "trials_pca": self.trials_pca.points,
            "trials_tsne": self.trials_tsne.points,
            "trials_trial_id": self.ids[self.of_trials],
        }

    def draw(self, material: Material, sample: _Sample) -> list[Image]:
        """The map of heads, and the map of trials by class and by subject."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(look.TWO_COLUMNS, 3.1), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, laid in zip(panels, (self.heads_pca, self.heads_tsne)):
            shades = _shades(self.heads)
            for number, head in enumerate(self.heads):
                mine = self.of_heads[:, 1] == number
                axes.scatter(
                    laid.points[mine, 0], laid.points[mine, 1], s=5, lw=0, alpha=0.75, rasterized=True,
                    color=shades[head], marker=_mark(head)["marker"],
                )  # fmt: skip
            _name_heads(axes, laid, self.of_heads[:, 1], self.heads)
            _bare(axes, laid)
        n = len(self.of_heads) // len(self.heads)
        images = [
            material.save_figure(
                figure,
                "geometry-heads",
                f"Held-out embeddings of all heads, {n} trials, a point each trial and head; colored "
                "by level, named by head. Left: principal components. Right: t-SNE, perplexity "
                f"{self.heads_tsne.perplexity:g}, seed {material.seed}.",
            )
        ]
        by = [("class", sample.category)]
        if len(set(sample.subject.tolist())) > 1:
            by.append(("subject", sample.subject))
        figure = Figure(figsize=(look.TWO_COLUMNS, 2.75 * len(by)), layout="constrained")
        grid = np.atleast_2d(figure.subplots(len(by), 2))
        for row, (name, labels) in zip(grid, by):
            for axes, laid in zip(row, (self.trials_pca, self.trials_tsne)):
                _scatter_labels(axes, laid, labels[self.of_trials])
                _bare(axes, laid)
            row[1].legend(
                title=name, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1,
                labelspacing=0.25, borderpad=0,
            )  # fmt: skip
        images.append(
            material.save_figure(
                figure,
                "geometry-trials",
                f"The same space by trial: all heads side by side, {len(self.of_trials)} trials, "
                f"colored by {' (above) and by '.join(n for n, _ in by)}"
                f"{' (below)' if len(by) > 1 else ''}. Left: principal components. Right: t-SNE, "
                f"perplexity {self.trials_tsne.perplexity:g}, seed {material.seed}.",
            )
        )
        return images


def _bare(axes: Axes, laid: Map) -> None:
    """Only what the axes of a map mean: shares of variance, or nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    if laid.method == "pca":
        axes.set_title("PCA")
        for set_label, i in ((axes.set_xlabel, 0), (axes.set_ylabel, 1)):
            set_label(f"component {i + 1} ({100 * laid.explained[i]:.0f} % of variance)")
    else:
        axes.set_title(f"t-SNE, perplexity {laid.perplexity:g}")
        axes.set_xlabel("t-SNE 1 (no unit)")
        axes.set_ylabel("t-SNE 2 (no unit)")


def _shades(heads: list[str]) -> dict[str, Any]:
    """A shade of its level's color for each head."""
    from matplotlib.colors import to_rgb

    shades: dict[str, Any] = {}
    for head in heads:
        color = np.array(to_rgb(look.head_style(head)["color"]))
        level = [h for h in heads if look.head_style(h)["color"] == look.head_style(head)["color"]]
        lighter = 0.55 * level.index(head) / max(len(level) - 1, 1)
        shades[head] = tuple(color + (1 - color) * lighter)
    return shades


def _name_heads(axes: Axes, laid: Map, of_head: np.ndarray, heads: list[str]) -> None:
    """Write each head's name at the median of its points, moved apart where names would meet."""
    from matplotlib.patheffects import withStroke

    places = np.array([np.median(laid.points[of_head == i], axis=0) for i in range(len(heads))])
    height = np.ptp(laid.points[:, 1]) * 0.06
    places[:, 1] += (
        0.6 * height
    )  # above the points, which a tight cluster would hide under its name
    width = np.ptp(laid.points[:, 0]) * 0.24
    order = np.argsort(places[:, 1])
    for _ in range(50):
        for a in order:
            for b in order:
                gap = places[b] - places[a]
                if a != b and abs(gap[0]) < width and 0 <= gap[1] < height:
                    places[b, 1] += (height - gap[1]) / 2 + 1e-9
                    places[a, 1] -= (height - gap[1]) / 2 + 1e-9
    for place, head in zip(places, heads):
        axes.annotate(
            head, place, ha="center", va="center", fontsize=7, fontweight="bold",
            color=look.INK, path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )  # fmt: skip


def _scatter_labels(axes: Axes, laid: Map, labels: np.ndarray) -> None:
    """Points by label: eight colors times three markers; rarer labels beyond these are gray."""
    names, counts = np.unique(labels.astype(str), return_counts=True)
    shown = sorted(names[np.argsort(-counts, kind="stable")][:_SHOWN_LABELS].tolist())
    rest = ~np.isin(labels.astype(str), shown)
    if rest.any():
        axes.scatter(
            laid.points[rest, 0],
            laid.points[rest, 1],
            s=6,
            color="0.85",
            lw=0,
            rasterized=True,
            label="other",
        )
    for i, name in enumerate(shown):
        mine = labels.astype(str) == name
        axes.scatter(
            laid.points[mine, 0], laid.points[mine, 1], s=9, lw=0, alpha=0.85, rasterized=True,
            color=look.PALETTE[i % len(look.PALETTE)],
            marker="o^sDv"[i // len(look.PALETTE) % 5], label=name[:18],
        )  # fmt: skip


# -- words ---------------------------------------------------------------------------------------
def _seen(
    purity: dict[str, dict[str, Purity]],
    likeness: np.ndarray,
    probes: dict[str, dict[str, ProbeScore]],
    sample: _Sample,
    constant: list[str],
) -> str:
    said = []
    heads = list(sample.spaces)
    by_class = {h: purity[h]["class"] for h in heads}
    corrected = _corrected(purity, "class")
    above = [h for h in by_class if corrected[h] < ALPHA]
    every = purity["all heads"]["class"]
    if np.isfinite(every.p):
        said.append(
            f"Of a trial’s {NEIGHBORS} nearest neighbors {100 * every.value:.0f} % are of its class "
            f"(all heads side by side; chance {100 * every.chance:.0f} %, p = {every.p:.3f}); single "
            f"heads are above chance in {len(above)} of {len(heads)} cases"
            + (f" ({', '.join(above[:4])}{', …' * (len(above) > 4)})." if above else ".")
        )
    who = purity["all heads"]["subject"]
    if np.isfinite(who.p):
        said.append(
            f"{100 * who.value:.0f} % are of its subject (chance {100 * who.chance:.0f} %, p = "
            f"{who.p:.3f})"
            + (
                ": embeddings keep who was recorded."
                if who.p < ALPHA
                else ": that embeddings tell who was recorded was not found."
            )
        )
    off = likeness[~np.eye(len(likeness), dtype=bool)]
    if np.isfinite(off).any():
        i, j = divmod(
            int(np.nanargmax(np.where(np.eye(len(likeness)), np.nan, likeness))), len(likeness)
        )
        said.append(
            f"Two heads arrange trials alike to a median CKA of {np.nanmedian(off):.2f}; the most "
            f"alike are {heads[i]} and {heads[j]} ({likeness[i, j]:.2f})."
            + (
                " So most heads say the same thing in different words: what one reads is no further "
                "evidence beside another."
                if np.nanmedian(off) > ALIKE
                else ""
            )
        )
    if probes:
        sure = _probe_p(probes) < ALPHA
        said.append(
            f"Linear probes read {int(sure.any(axis=1).sum())} of {len(probes)} "
            f"attribute{'s' * (len(probes) > 1)} above chance from at least one head."
        )
    if constant:
        said.append(
            f"{', '.join(constant)} give{'s' * (len(constant) == 1)} the same embedding for every "
            "trial, so nothing can be read from it."
        )
    return " ".join(said)
