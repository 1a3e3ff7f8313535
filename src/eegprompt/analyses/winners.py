"""Which head speaks: who is surest of each trial, by class and by subject, and with what right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.analyses._confidence import (
    Dependence,
    Reliability,
    dependence_on,
    reliability,
    shares_by,
    winner_shares,
)
from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Finding, Image, Omitted
from eegprompt.figures import style as look
from eegprompt.metrics.classification import roc_auc
from eegprompt.retrieval.search import closeness

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["analyze"]

ALPHA = 0.05
BINS = 8
MOST_GROUPS = 40  # rows of a heat map that can still be read
PERMUTATIONS = 999


@dataclass(frozen=True)
class _Said:
    """What the heads said of the test trials: arrays (n_trials, n_heads)."""

    ids: np.ndarray
    heads: list[str]
    confidence: np.ndarray
    similarity: np.ndarray
    closeness: np.ndarray  # what a confidence estimates; .5 for a random caption
    right: np.ndarray  # 1 where the caption means what the image's own means
    category: np.ndarray
    subject: np.ndarray
    image: np.ndarray | None


def analyze(material: Material) -> Finding:
    """Winning heads, what they depend on, and how far a confidence can be taken at its word.

    Parameters
    ----------
    material : Material
        A decoded run.

    Returns
    -------
    Finding
        With arrays ``trial_id``, and ``confidence``, ``similarity``, ``closeness``, ``right`` and
        ``wins`` of shape (n_trials, n_heads).

    Raises
    ------
    Omitted
        If the run has no test trials.
    """
    said = _gather(material)
    wins = winner_shares(said.confidence)
    raw = winner_shares(said.similarity)
    valid = ~np.isnan(wins).any(axis=1)
    if not valid.any():
        raise Omitted("no test trial has a confidence that is a number")
    material.progress(1, 3, "winners: what they depend on")
    units = np.arange(len(said.ids)) if said.image is None else said.image
    dependence = {
        "class": dependence_on(
            wins, said.category, units=units, n_permutations=PERMUTATIONS, seed=material.seed
        ),
        "subject": dependence_on(
            wins, said.subject, n_permutations=PERMUTATIONS, seed=material.seed
        ),
    }
    curves = [
        reliability(said.confidence[:, i], said.closeness[:, i], BINS)
        for i in range(len(said.heads))
    ]
    table = _table(said, wins, raw, curves)
    material.progress(2, 3, "winners: figures")
    with look.style():
        figures = [
            _draw_shares(material, said, wins, raw),
            *_draw_by_group(material, said, wins),
            _draw_reliability(material, said, curves),
        ]
    n_missing = int(np.isnan(said.confidence).sum())
    notes = [
        f"{len(said.ids)} test trials; a trial on which heads tie counts in parts.",
        "A confidence estimates how close in meaning the retrieved caption is to the true one: the "
        "share of the pool’s captions that are less similar to it in text space, less what the "
        "caption earns on other trials; 0.5 is a random caption. It was calibrated on validation "
        "trials; the curve is of test trials.",
        "Calibration error: mean distance of the curve from the diagonal, bins of equal numbers of "
        "trials; “by sampling”: what it would be for an honest head with as few trials. “Sure when "
        "right”: chance that a trial on which the head is right has the higher confidence of the two "
        "(AUC); 0.5 is none.",
    ]
    if n_missing:
        notes.append(f"{n_missing} confidences are not numbers; they never win and are left out.")
    return Finding(
        name="winners",
        title="Which head speaks",
        seen=_seen(said, wins, raw, curves, dependence),
        not_concluded=(
            "The surest head is not the most important one for the brain or for the image: a "
            "confidence says how well this encoder reads one kind of caption from this EEG, and a "
            "kind with few different captions is easier to be sure of. Winners by raw similarity "
            "only mirror how narrow each kind’s captions lie in text space and must not be compared "
            "across heads; they are drawn to show that."
        ),
        table=table,
        figures=figures,
        arrays={
            "trial_id": said.ids,
            "confidence": said.confidence,
            "similarity": said.similarity,
            "closeness": said.closeness,
            "right": said.right,
            "wins": wins,
        },
        notes=notes,
    )


def _gather(material: Material) -> _Said:
    ids = material.ids("test")
    if not len(ids):
        raise Omitted("the run has no test trials")
    heads = list(material.heads)
    table = material.decodings
    first = table[(table["rank"] == 1) & table["trial_id"].isin(ids)]
    truth = material.true_embeddings(ids)
    meanings = material.true_meanings(ids)
    texts = material.true_captions(ids)
    shape = (len(ids), len(heads))
    confidence, similarity = np.full(shape, np.nan), np.full(shape, np.nan)
    close, right = np.full(shape, np.nan), np.full(shape, np.nan)
    for j, head in enumerate(heads):
        rows = first[first["head"] == head].drop_duplicates("trial_id").set_index("trial_id")
        rows = rows.reindex(ids)
        confidence[:, j] = rows["confidence"].to_numpy(dtype=float)
        similarity[:, j] = rows["similarity"].to_numpy(dtype=float)
        pool = material.pools[head]
        place = {caption: i for i, caption in enumerate(pool.caption_ids)}
        indices = np.array([place.get(c, -1) for c in rows["caption_id"]])
        found = indices >= 0
        if found.any() and len(pool) > 1:
            own, others = closeness(truth[head][found], pool, indices[found, None])
            close[found, j] = (own - others + 0.5)[:, 0]
        right[:, j] = _right(rows, texts[head], meanings[head])
    trials = material.trials(ids)
    known = material.study.image_identity == "known"
    return _Said(
        ids,
        heads,
        confidence,
        similarity,
        close,
        right,
        trials["category"].astype(str).to_numpy(dtype=object),
        trials["subject"].astype(str).to_numpy(dtype=object),
        trials["image_id"].astype(str).to_numpy(dtype=object) if known else None,
    )


def _right(rows: pd.DataFrame, texts: list[str], meanings: np.ndarray) -> np.ndarray:
    """1 where the retrieved caption says what the image's own says; NaN where none was retrieved."""
    said = rows["text"].to_numpy(dtype=object)
    means = rows["meaning"].to_numpy(dtype=object) if "meaning" in rows else said
    same = [
        np.nan if not isinstance(s, str) else float(s == t or (isinstance(m, str) and m == own))
        for s, t, m, own in zip(said, texts, means, meanings)
    ]
    return np.array(same, dtype=float)


def _table(
    said: _Said, wins: np.ndarray, raw: np.ndarray, curves: list[Reliability]
) -> list[dict[str, Any]]:
    rows = []
    for j, (head, curve) in enumerate(zip(said.heads, curves)):
        right = said.right[:, j] == 1
        scored = np.isfinite(said.right[:, j]) & np.isfinite(said.confidence[:, j])
        both = 0 < right[scored].sum() < scored.sum()
        auc = roc_auc(said.confidence[scored, j], right[scored]) if both else float("nan")
        rows.append(
            {
                "head": head,
                "wins (%)": _round(100 * np.nanmean(wins[:, j]), 1),
                "wins, raw (%)": _round(100 * np.nanmean(raw[:, j]), 1),
                "confidence": _round(_mean(said.confidence[:, j]), 3),
                "closeness": _round(_mean(said.closeness[:, j]), 3),
                "calibration error": _round(curve.error, 3),
                "by sampling": _round(curve.by_chance, 3),
                "right (%)": _round(100 * _mean(said.right[:, j]), 1),
                "sure when right": _round(auc, 3),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _round(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


# -- figures -------------------------------------------------------------------------------------
def _draw_shares(material: Material, said: _Said, wins: np.ndarray, raw: np.ndarray) -> Image:
    from matplotlib.figure import Figure

    n = len(said.heads)
    figure = Figure(figsize=(look.TWO_COLUMNS, 0.6 + 0.22 * n), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, shares, title in (
        (panels[0], wins, "calibrated confidence"),
        (panels[1], raw, "raw similarity (not comparable)"),
    ):
        mean = 100 * np.nanmean(shares, axis=0)
        colors = [look.head_style(head)["color"] for head in said.heads]
        axes.barh(range(n), mean, color=colors, height=0.66, alpha=1 if shares is wins else 0.45)
        axes.axvline(100 / n, color=look.INK, ls=(0, (3, 2)), lw=1)
        for y, value in enumerate(mean):
            axes.text(value + 0.8, y, f"{value:.0f}", va="center", fontsize=7)
        axes.set_title(title)
        axes.set_xlabel("trials on which the head wins (%)")
        axes.set_xlim(0, max(mean.max() * 1.12, 100 / n * 1.2))
        axes.set_yticks(range(n), said.heads)
    panels[0].invert_yaxis()
    return material.save_figure(
        figure,
        "winners-shares",
        f"How often each head is the surest, over {len(said.ids)} test trials. Left by calibrated "
        "confidence; right by raw cosine similarity, whose scale differs between heads. Dashed: "
        "every head equally often.",
    )


def _draw_by_group(material: Material, said: _Said, wins: np.ndarray) -> list[Image]:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    groups = []
    for name, labels in (("class", said.category), ("subject", said.subject)):
        values, means = shares_by(wins, labels)
        if len(values) > 1:
            groups.append((name, [str(v) for v in values][:MOST_GROUPS], 100 * means[:MOST_GROUPS]))
    if not groups:
        return []
    heights = [0.18 * len(names) for _, names, _ in groups]
    figure = Figure(figsize=(5.2, 1.4 + sum(heights) + 0.25 * len(groups)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True, height_ratios=heights))
    scale = Normalize(0, max(float(np.nanmax(m)) for _, _, m in groups))
    for axes, (name, names, means) in zip(panels, groups):
        image = _cells(axes, means, names, scale)
        axes.set_ylabel(name)
    axes.set_xticks(
        range(len(said.heads)), said.heads, rotation=45, ha="right", rotation_mode="anchor"
    )
    if sum(len(names) for _, names, _ in groups) >= 12:  # else its label has no room
        figure.colorbar(image, ax=panels, label="trials on which the head wins (%)", shrink=0.6)
    return [
        material.save_figure(
            figure,
            "winners-groups",
            f"Winning head by {' and by '.join(name for name, _, _ in groups)}, in percent of the "
            "trials of a row, by calibrated confidence.",
        )
    ]


def _cells(axes: Axes, means: np.ndarray, names: list[str], scale: Normalize) -> Any:
    image = axes.imshow(np.ma.masked_invalid(means), norm=scale, cmap=look.TABLE, aspect="auto")
    for i, j in np.ndindex(means.shape):
        if np.isfinite(means[i, j]):
            color = "w" if scale(means[i, j]) > 0.55 else look.INK
            axes.text(j, i, f"{means[i, j]:.0f}", ha="center", va="center", fontsize=7, color=color)
    axes.set_yticks(range(len(names)), [n[:18] for n in names])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _draw_reliability(material: Material, said: _Said, curves: list[Reliability]) -> Image:
    from matplotlib.figure import Figure

    n = len(said.heads)
    columns = min(n, 5)
    rows = -(-n // columns)
    figure = Figure(figsize=(look.TWO_COLUMNS, 0.35 + 1.5 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    ends = [
        v
        for c in curves
        for v in (*c.confidence, *(c.outcome - c.spread), *(c.outcome + c.spread))
        if np.isfinite(v)
    ]
    lo, hi = (min(*ends, 0.45), max(*ends, 0.55)) if ends else (0.0, 1.0)
    lo, hi = max(lo - 0.03, 0), min(hi + 0.03, 1.05)
    for axes, head, curve in zip(panels, said.heads, curves):
        style = look.head_style(head)
        axes.plot([lo, hi], [lo, hi], color="0.6", lw=0.8)
        axes.axhline(0.5, color=look.INK, ls=(0, (3, 2)), lw=0.7)
        axes.errorbar(
            curve.confidence, curve.outcome, 2 * curve.spread, color=style["color"],
            marker=style["marker"], ms=3.5, lw=1, elinewidth=0.8,
        )  # fmt: skip
        axes.set_title(head, fontsize=8)
        error = f"error {curve.error:.2f}" if np.isfinite(curve.error) else "no trials"
        axes.text(0.97, 0.05, error, transform=axes.transAxes, ha="right", fontsize=7)
        axes.set_xlim(lo, hi)
        axes.set_ylim(lo, hi)
    for axes in panels[n:]:
        axes.set_visible(False)
    figure.supxlabel("confidence (0.5: a random caption)", fontsize=8)
    figure.supylabel("closeness in meaning", fontsize=8)
    return material.save_figure(
        figure,
        "winners-reliability",
        "How close in meaning retrieved captions were, against how close the head said they would "
        "be; bins of equal numbers of test trials, bars two standard errors. On the gray diagonal "
        "confidence can be taken at its word; dashed: a random caption.",
    )


# -- words ---------------------------------------------------------------------------------------
def _seen(
    said: _Said,
    wins: np.ndarray,
    raw: np.ndarray,
    curves: list[Reliability],
    dependence: dict[str, Dependence],
) -> str:
    share = np.nanmean(wins, axis=0)
    order = np.argsort(-share)
    n = len(said.heads)
    if n == 1:
        first = f"There is one head, {said.heads[0]}, so it always speaks."
    else:
        some = [i for i in order[:3] if share[i] >= 0.005]
        best = ", ".join(f"{said.heads[i]} ({100 * share[i]:.0f} %)" for i in some)
        first = f"By calibrated confidence most trials are won by {best}; equal shares would be "
        first += f"{100 / n:.0f} %." + _lead(said, order, curves)
        top_raw = int(np.nanmean(raw, axis=0).argmax())
        if top_raw != order[0]:
            first += f" By raw similarity it would be {said.heads[top_raw]}."
    sentences = [first]
    for name, found in dependence.items():
        if np.isfinite(found.p):
            does = "depends" if found.p < ALPHA else "does not clearly depend"
            sentences.append(
                f"Who wins {does} on the {name} (Cramér’s V {found.value:.2f}, {found.chance:.2f} "
                f"under permutation, p {_p(found.p)})."
            )
    errors = [c.error for c in curves]
    if np.isfinite(errors).any():
        worst = int(np.nanargmax(errors))
        sentences.append(
            f"Confidences differ from what came of them by {np.nanmedian(errors):.2f} (median over "
            f"heads; at most {errors[worst]:.2f}, {said.heads[worst]})."
        )
    return " ".join(sentences)


def _lead(said: _Said, order: np.ndarray, curves: list[Reliability]) -> str:
    """Whether the winner is surer than others by more than confidences can be trusted."""
    sure = np.array([_mean(column) for column in said.confidence.T])
    errors = [c.error for c in curves if np.isfinite(c.error)]
    rest = np.delete(sure, order[0])
    if not (np.isfinite(rest).any() and np.isfinite(sure[order[0]]) and errors):
        return ""
    lead = float(sure[order[0]] - np.nanmax(rest))
    if lead >= np.median(errors):
        return ""
    return (
        f" Its mean confidence is {abs(lead):.3f} {'above' if lead >= 0 else 'below'} the next head’s, "
        f"less than the error of calibration ({np.median(errors):.3f}): that it is this head and not "
        "another may be chance."
    )


def _p(value: float) -> str:
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"
