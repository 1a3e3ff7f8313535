"""Geometry of the heads: maps of their embeddings with numbers, similarity of heads, linear probes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from eegprompt.analyses._embedding_maps import (
    Map,
    NeighborScore,
    cka_matrix,
    knn_test,
    map_points,
    silhouette,
)
from eegprompt.analyses._linear_probe import LinearProbe, ProbeScore
from eegprompt.analyses.base import Analysis, Answer, Context, Finding, Image, Omitted
from eegprompt.core.kinds import KINDS
from eegprompt.figures import style as look
from eegprompt.figures.labeled_maps import draw_map, name_groups
from eegprompt.figures.panels import cells, panels
from eegprompt.stats.max_statistic import max_statistic_p

__all__ = ["Geometry"]

TRIALS = 1000  # for the numbers
MAPPED_TRIALS = 400  # one point each
MAPPED_POINTS = 1500  # trials times heads
PERPLEXITY = 30.0
NEIGHBORS = 10
PERMUTATIONS = 999
ALPHA = 0.05
ALIKE = 0.9  # CKA above which two heads are taken to be redundant
NAMED = 0.95  # share of images whose attribute follows from a kind's caption: the kind names it
ALL = "all heads"

Neighbors = dict[str, dict[str, NeighborScore]]  # head → class or subject
Probes = dict[str, dict[str, ProbeScore]]  # attribute → head


@dataclass(frozen=True)
class _Sample:
    """Held-out trials with their labels."""

    ids: np.ndarray
    spaces: dict[str, np.ndarray]  # head → (n_trials, n_dims)
    labels: dict[str, np.ndarray]  # class and subject
    image: np.ndarray | None  # None where only the category is known
    units: np.ndarray  # what is held out and permuted as one

    @property
    def concatenated(self) -> np.ndarray:
        """All heads of a trial as one vector."""
        return np.concatenate(list(self.spaces.values()), axis=1)


class Geometry(Analysis):
    """Maps, k-NN accuracy, similarity and probes of the heads' held-out embeddings.

    Arrays are ``cka (n_heads, n_heads)``, ``probe (n_attributes, n_heads)`` with its ``_chance`` and
    ``_p``, and ``heads_tsne``, ``heads_pca``, ``trials_tsne``, ``trials_pca (n_points, 2)`` with the
    trial and head of each point.
    """

    name = "geometry"
    title = "How the heads’ embeddings lie"
    question = "How the heads’ embeddings lie: maps, neighbors, similarity of heads, linear probes"
    not_concluded = (
        "Distances between clusters, their sizes and their shapes mean nothing in a t-SNE map, and "
        "clusters appear in noise: read the numbers, not the image. That heads lie apart means only "
        "that captions of different kinds lie apart in the text encoder’s space, at which the heads "
        "were trained to point. A probe shows what could be read from a head linearly, not what the "
        "decoder uses, and not where in the brain it comes from."
    )
    answers: ClassVar = {
        "class": (
            "Of a trial’s {k} nearest neighbors {value:.0f} % are of its class (all heads together; "
            "chance {chance:.0f} %, p = {p:.3f}); single heads are above chance in {above} of {of} cases.",
        )
        * 2,
        "subject": (
            "{value:.0f} % are of its subject (chance {chance:.0f} %, p = {p:.3f}): embeddings keep who "
            "was recorded.",
            "{value:.0f} % are of its subject (chance {chance:.0f} %, p = {p:.3f}): that embeddings tell "
            "who was recorded was not found.",
        ),
        "redundant": (
            "The median CKA of two heads is {value:.2f}, so most heads are redundant: what one reads is "
            "no further evidence beside another.",
            "The median CKA of two heads is {value:.2f}; the most similar are {pair} ({most:.2f}).",
        ),
        "probes": (
            "Linear probes read {value:.0f} of {of} attributes above chance from at least one head.",
        )
        * 2,
        "constant": (
            "",
            "One embedding for every trial, from which nothing can be read: {heads}.",
        ),
    }

    def compute(self, context: Context) -> Finding:
        """Neighbors, similarity, probes and maps."""
        sample = _sample(context)
        context.progress(0, 5, "geometry: neighbors")
        neighbors = _neighbors(sample, context.seed)
        context.progress(1, 5, "geometry: similarity of heads")
        similarity = cka_matrix(list(sample.spaces.values()))
        context.progress(2, 5, "geometry: linear probes")
        attributes = _attributes(context, sample)
        probes = _probes(context, sample, attributes)
        p = _probe_p(probes) if probes else np.zeros((0, len(context.heads)))
        context.progress(3, 5, "geometry: maps")
        maps = _Maps.of(context, sample)
        context.progress(4, 5, "geometry: figures")
        with look.style():
            figures = [*maps.draw(context, sample), _draw_neighbors(context, neighbors)]
            if len(sample.spaces) > 1:
                figures.append(_draw_similarity(context, sample, similarity))
            if probes:
                named = _named_by(context, sample, attributes)
                figures.append(_draw_probes(context, probes, p, named))
        known = sample.image is not None
        return self.finding(
            self._answers(sample, neighbors, similarity, p),
            table=_table(sample, neighbors),
            figures=figures,
            arrays={
                "cka": similarity,
                "probe": np.array([[s.value for s in row.values()] for row in probes.values()]),
                "probe_chance": np.array(
                    [[s.chance for s in row.values()] for row in probes.values()]
                ),
                "probe_p": p,
                **maps.arrays,
            },
            notes=[
                f"{len(sample.ids)} of {len(context.ids('test'))} test trials (seed {context.seed}); "
                f"t-SNE by scikit-learn from PCA, seed {context.seed}, perplexity "
                f"{maps.heads_tsne.perplexity:g} for heads and {maps.trials_tsne.perplexity:g} for "
                "trials.",
                f"k-NN accuracy: share of the {NEIGHBORS} nearest neighbors with the same label"
                f"{', trials of the same image left out' * known}; p by {PERMUTATIONS} permutations"
                f"{' of images' * known}, corrected for the number of heads by the largest of them.",
                f"Probe: ridge regression, 5-fold over {context.unit_name}, balanced accuracy; p by "
                f"{PERMUTATIONS} permutations, corrected for the whole table by the largest of its "
                "cells.",
                f"Rows of the probe arrays: {', '.join(probes) or 'none'}.",
            ],
        )

    def _answers(
        self, sample: _Sample, neighbors: Neighbors, similarity: np.ndarray, probe_p: np.ndarray
    ) -> Iterator[Answer]:
        heads = list(sample.spaces)
        for label in ("class", "subject"):
            every, p = neighbors[ALL][label], _corrected(neighbors, label)
            if np.isfinite(every.p):
                yield self.answer(
                    label, every.p < ALPHA, value=100 * every.value, chance=100 * every.chance,
                    p=every.p, k=NEIGHBORS, above=sum(p[h] < ALPHA for h in heads), of=len(heads),
                )  # fmt: skip
        off = np.where(np.eye(len(similarity)), np.nan, similarity)
        if np.isfinite(off).any():
            i, j = np.unravel_index(np.nanargmax(off), off.shape)
            median = np.nanmedian(off)
            yield self.answer(
                "redundant", median > ALIKE, value=median, most=off[i, j],
                pair=f"{heads[i]} and {heads[j]}",
            )  # fmt: skip
        if len(probe_p):
            read = int((probe_p < ALPHA).any(axis=1).sum())
            yield self.answer("probes", read > 0, value=read, of=len(probe_p))
        constant = [h for h, space in sample.spaces.items() if _is_constant(space)]
        if constant:
            yield self.answer("constant", False, heads=", ".join(constant))


def _sample(context: Context) -> _Sample:
    every = context.ids("test")
    ids = context.sample(every, TRIALS)
    spaces = {h: e.astype(np.float64) for h, e in context.test_embeddings(ids).items()}
    finite = np.all([np.isfinite(e).all(axis=1) for e in spaces.values()], axis=0)
    if finite.sum() < 8:
        raise Omitted(
            f"{int(finite.sum())} of {len(every)} test trials have embeddings; maps and neighbors need "
            "at least 8"
        )
    ids = ids[finite]
    labels = {"class": context.labels(ids, "category"), "subject": context.labels(ids, "subject")}
    known = context.study.image_identity == "known"
    image = context.labels(ids, "image_id") if known else None
    units = np.arange(len(ids)) if image is None else image
    return _Sample(ids, {h: e[finite] for h, e in spaces.items()}, labels, image, units)


def _is_constant(space: np.ndarray) -> bool:
    return bool(np.ptp(space, axis=0).max() < 1e-6)


# -- neighbors -------------------------------------------------------------------------------------
def _neighbors(sample: _Sample, seed: int) -> Neighbors:
    options: dict[str, Any] = {"n_permutations": PERMUTATIONS, "seed": seed}
    by_class: dict[str, Any] = {"apart": sample.image, "units": sample.units, **options}
    return {
        head: {
            "class": knn_test(space, sample.labels["class"], NEIGHBORS, **by_class),
            "subject": knn_test(space, sample.labels["subject"], NEIGHBORS, **options),
        }
        for head, space in {**sample.spaces, ALL: sample.concatenated}.items()
    }


def _corrected(neighbors: Neighbors, label: str) -> dict[str, float]:
    """p of each head, corrected for their number; that of all heads together is one test."""
    single = {h: by[label] for h, by in neighbors.items() if h != ALL and by[label].p > 0}
    p = {h: by[label].p for h, by in neighbors.items()}
    if single:
        null = np.stack([found.null for found in single.values()], axis=1)
        corrected = max_statistic_p(np.array([found.value for found in single.values()]), null)
        p |= dict(zip(single, corrected.tolist()))
    return p


def _table(sample: _Sample, neighbors: Neighbors) -> list[dict[str, Any]]:
    p = {label: _corrected(neighbors, label) for label in sample.labels}
    spaces = {**sample.spaces, ALL: sample.concatenated}
    rows = []
    for head, by in neighbors.items():
        row: dict[str, Any] = {"head": head}
        for label, of in sample.labels.items():
            if len(set(of.tolist())) > 1:
                row |= {
                    f"{label} k-NN accuracy": round(by[label].value, 3),
                    f"{label} chance": round(by[label].chance, 3),
                    f"{label} p": round(p[label][head], 4),
                    f"{label} silhouette": round(silhouette(spaces[head], of), 3),
                }
        rows.append(row)
    return rows


def _mark(head: str) -> dict[str, Any]:
    style = look.head_style(head)
    return style if head in KINDS else {"color": look.INK, "marker": "*", "linestyle": "-"}


def _draw_neighbors(context: Context, neighbors: Neighbors) -> Image:
    labels = [
        k for k in ("class", "subject") if any(np.isfinite(n[k].p) for n in neighbors.values())
    ] or ["class"]
    figure, axes_of = panels(len(labels), 2.6, width=look.TWO_COLUMNS * len(labels) / 2)
    for axes, label in zip(axes_of, labels):
        p = _corrected(neighbors, label)
        reach = [1.0]
        for y, (head, by) in enumerate(neighbors.items()):
            value, chance, mark = 100 * by[label].value, 100 * by[label].chance, _mark(head)
            axes.plot([chance, value], [y, y], color=mark["color"], lw=1)
            axes.plot(
                value, y, mark["marker"], color=mark["color"], ms=5.5,
                mfc=mark["color"] if p[head] < ALPHA else "white",
            )  # fmt: skip
            axes.plot(chance, y, "|", color=look.INK, ms=8)
            reach += [value, chance]
        axes.set_title(f"by {label}")
        axes.set_xlabel(f"{NEIGHBORS} nearest neighbors of the same {label} (%)")
        axes.set_yticks(range(len(neighbors)), list(neighbors))
        axes.set_xlim(0, 1.07 * np.nanmax(reach))
    axes.invert_yaxis()
    return context.save_figure(
        figure, "geometry-neighbors",
        "k-NN accuracy in the full space, by head. Short black lines: chance; filled marks: above "
        f"chance (p < {ALPHA} by permutation, corrected for the number of heads).",
    )  # fmt: skip


# -- similarity of heads ---------------------------------------------------------------------------
def _draw_similarity(context: Context, sample: _Sample, similarity: np.ndarray) -> Image:
    heads = list(sample.spaces)
    size = max(2.6, min(4.6, 0.42 * len(heads) + 1.0))
    figure, (axes,) = panels(1, size * 0.92, width=size)
    texts = [
        ["–" if np.isnan(v) else f"{v:.2f}".replace("0.", ".", 1) for v in row]
        for row in similarity
    ]
    image = cells(axes, similarity, texts, heads, heads)
    figure.colorbar(image, ax=axes, label="debiased linear CKA", shrink=0.75)
    return context.save_figure(
        figure, "geometry-cka",
        "How similarly two heads arrange the same test trials: debiased linear CKA, 1 for the same "
        "arrangement, 0 for unrelated ones. – : the head gives the same embedding for all trials.",
    )  # fmt: skip


# -- probes ----------------------------------------------------------------------------------------
def _attributes(context: Context, sample: _Sample) -> dict[str, np.ndarray]:
    """Attributes of each trial's image: category, and scene attributes or caption meanings."""
    images = context.study.images.set_index("image_id")
    shown = context.trials(sample.ids)["image_id"].to_numpy()
    found: dict[str, np.ndarray] = {"category": sample.labels["class"]}
    for column in images.columns:
        if str(column).startswith("attr_"):
            found[str(column)[5:]] = images[column].astype(str).reindex(shown).to_numpy(object)
    if len(found) == 1:
        for head, meaning in context.true_meanings(sample.ids).items():
            found[f"caption of {head}"] = meaning.astype(object)
    kept: dict[str, np.ndarray] = {}
    for name, values in found.items():
        # Each value must occur often enough to be both in the training and in the held-out part.
        n_units = [len(set(sample.units[values == v].tolist())) for v in set(values.tolist())]
        repeated = any(_same_partition(values, other) for other in kept.values())
        if 2 <= len(n_units) <= 40 and min(n_units) >= 3 and not repeated:
            kept[name] = values
    return kept


def _same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = set(zip(one.tolist(), two.tolist()))
    return len(pairs) == len(set(one.tolist())) == len(set(two.tolist()))


def _probes(context: Context, sample: _Sample, attributes: dict[str, np.ndarray]) -> Probes:
    table: Probes = {name: {} for name in attributes}
    for i, (head, space) in enumerate(sample.spaces.items()):
        probe = LinearProbe(space, sample.units, seed=context.seed)
        for name, values in attributes.items():
            table[name][head] = probe.score(values, PERMUTATIONS)
        share = 2 + (i + 1) / len(sample.spaces)
        context.progress(round(100 * share), 500, "geometry: linear probes")
    return table


def _probe_p(probes: Probes) -> np.ndarray:
    """p of each attribute and head, corrected for the size of the table."""
    value = np.array([[score.value for score in row.values()] for row in probes.values()])
    null = np.stack([[score.null for score in row.values()] for row in probes.values()])
    return max_statistic_p(value, np.moveaxis(null, 2, 0))


def _named_by(
    context: Context, sample: _Sample, attributes: dict[str, np.ndarray]
) -> set[tuple[str, str]]:
    """Attributes and heads where the kind's captions name the attribute: it follows from them."""
    if sample.image is None:
        return set()
    images = context.study.images
    every = images["image_id"].astype(str).to_numpy()
    named = set()
    for name in attributes:
        column = name if name in images else f"attr_{name}"
        if column not in images:
            continue
        values = images[column].astype(str).to_numpy(object)
        for head in sample.spaces:
            meanings = np.array([context.meaning_of.get((head, i), "") for i in every], object)
            distinct = set(meanings.tolist())
            if len(distinct) > len(every) / 3:
                continue  # captions of single images: anything would follow from them
            right = sum(
                np.unique(values[meanings == one], return_counts=True)[1].max() for one in distinct
            )
            if right / len(every) >= NAMED:
                named.add((name, head))
    return named


def _draw_probes(
    context: Context, probes: Probes, p: np.ndarray, named: set[tuple[str, str]]
) -> Image:
    from matplotlib.patches import Rectangle

    names, heads = list(probes), list(next(iter(probes.values())))
    value = np.array([[probes[n][h].value for h in heads] for n in names])
    chance = np.array([[probes[n][h].chance for h in heads] for n in names])
    width = min(look.TWO_COLUMNS, 2.6 + 0.46 * len(heads))
    figure, (axes,) = panels(1, 1.5 + 0.25 * len(names), width=width)
    rows = [f"{n}  ({100 * np.nanmean(chance[i]):.0f})" for i, n in enumerate(names)]
    image = cells(
        axes, np.clip((value - chance) / (1 - chance), 0, 1),
        [[f"{100 * v:.0f}" for v in row] for row in value], rows, heads, bold=p < ALPHA,
    )  # fmt: skip
    for name, head in named:
        place = (heads.index(head) - 0.46, names.index(name) - 0.44)
        axes.add_patch(Rectangle(place, 0.92, 0.88, fill=False, ec=look.FRAME, lw=1.8))
    axes.set_ylabel("attribute (chance, %)")
    if len(names) >= 6:  # a shorter one has no room for its label, and the numbers are in the cells
        figure.colorbar(image, ax=axes, label="share of the way from chance to 1", shrink=0.9)
    frames = " Frames: the kind’s captions name the attribute." if named else ""
    return context.save_figure(
        figure, "geometry-probes",
        "What a linear probe reads from each head on held-out trials: balanced accuracy in percent. "
        f"Bold: above chance (p < {ALPHA}, corrected for all cells).{frames}",
    )  # fmt: skip


# -- maps ------------------------------------------------------------------------------------------
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
    def of(cls, context: Context, sample: _Sample) -> _Maps:
        heads = list(sample.spaces)
        rows = context.sample(np.arange(len(sample.ids)), MAPPED_TRIALS)
        few = context.sample(rows, max(MAPPED_POINTS // len(heads), 8))
        stacked = np.concatenate([space[few] for space in sample.spaces.values()])
        joined = sample.concatenated[rows]
        if _is_constant(joined):
            raise Omitted("every head gives the same embedding for all test trials")
        settings: dict[str, Any] = {"perplexity": PERPLEXITY, "seed": context.seed}
        of_heads = np.stack(
            [np.tile(few, len(heads)), np.repeat(np.arange(len(heads)), len(few))], axis=1
        )
        return cls(
            *(map_points(stacked, "pca"), map_points(stacked, "tsne", **settings)),
            *(map_points(joined, "pca"), map_points(joined, "tsne", **settings)),
            of_heads, rows, heads, sample.ids,
        )  # fmt: skip

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

    def draw(self, context: Context, sample: _Sample) -> list[Image]:
        """The map of heads, and the map of trials by class and by subject."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(look.TWO_COLUMNS, 3.1), layout="constrained")
        shades = _shades(self.heads)
        for axes, laid in zip(figure.subplots(1, 2), (self.heads_pca, self.heads_tsne)):
            groups = np.array(self.heads, object)[self.of_heads[:, 1]]
            draw_map(
                axes, laid.points, groups, {h: (shades[h], _mark(h)["marker"]) for h in self.heads}
            )
            name_groups(axes, laid.points, groups, self.heads)
            _label(axes, laid)
        n = len(self.of_heads) // len(self.heads)
        of_heads = context.save_figure(
            figure, "geometry-heads",
            f"Held-out embeddings of all heads, {n} trials, one point per trial and head; colored by "
            "level, named by head. Left: principal components. Right: t-SNE, perplexity "
            f"{self.heads_tsne.perplexity:g}, seed {context.seed}.",
        )  # fmt: skip
        by = [n for n in ("class", "subject") if n == "class" or len(set(sample.labels[n])) > 1]
        figure = Figure(figsize=(look.TWO_COLUMNS, 2.75 * len(by)), layout="constrained")
        for row, name in zip(np.atleast_2d(figure.subplots(len(by), 2)), by):
            for axes, laid in zip(row, (self.trials_pca, self.trials_tsne)):
                draw_map(axes, laid.points, sample.labels[name][self.of_trials])
                _label(axes, laid)
            row[1].legend(
                title=name, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1,
                labelspacing=0.25, borderpad=0,
            )  # fmt: skip
        of_trials = context.save_figure(
            figure, "geometry-trials",
            f"The same space by trial: all heads together, {len(self.of_trials)} trials, colored by "
            f"{' (above) and by '.join(by)}{' (below)' * (len(by) > 1)}. Left: principal components. "
            f"Right: t-SNE, perplexity {self.trials_tsne.perplexity:g}, seed {context.seed}.",
        )  # fmt: skip
        return [of_heads, of_trials]


def _label(axes: Any, laid: Map) -> None:
    """Only what the axes of a map mean: shares of variance, or nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    pca = laid.method == "pca"
    axes.set_title("PCA" if pca else f"t-SNE, perplexity {laid.perplexity:g}")
    for set_label, i in ((axes.set_xlabel, 0), (axes.set_ylabel, 1)):
        share = f"component {i + 1} ({100 * laid.explained[i]:.0f} % of variance)"
        set_label(share if pca else f"t-SNE {i + 1} (no unit)")


def _shades(heads: list[str]) -> dict[str, Any]:
    """A shade of its level's color for each head."""
    from matplotlib.colors import to_rgb

    shades: dict[str, Any] = {}
    for head in heads:
        color = look.head_style(head)["color"]
        level = [h for h in heads if look.head_style(h)["color"] == color]
        lighter = 0.55 * level.index(head) / max(len(level) - 1, 1)
        rgb = np.array(to_rgb(color))
        shades[head] = tuple(rgb + (1 - rgb) * lighter)
    return shades
