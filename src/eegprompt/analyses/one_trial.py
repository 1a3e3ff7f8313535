"""One decoding from EEG to captions: what each head retrieved, by what margin, and from which EEG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.analyses.context import Material
from eegprompt.analyses.finding import Image
from eegprompt.analyses.trials import (
    FromElectrodes,
    channel_scale,
    in_steps,
    step_edges,
    typical_trial,
)
from eegprompt.attribution.gradients import Attribution, integrated_gradients
from eegprompt.attribution.question import Question
from eegprompt.core.errors import InputError
from eegprompt.figures import style as look
from eegprompt.figures.scalp import Cap, color_bar
from eegprompt.retrieval.search import evidence
from eegprompt.run import Run

if TYPE_CHECKING:
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["Candidate", "HeadSaid", "TrialExplanation", "explain_trial"]

STEPS = 64  # of integrated gradients
MARKED, MARKED_OF_FEW = 0.02, 0.1  # share of the EEG that is colored: of many and of few channels
FEW = 8  # channels, whose curves are told apart


@dataclass(frozen=True)
class Candidate:
    """One retrieved caption.

    Parameters
    ----------
    text : str
        The caption.
    similarity : float
        Cosine.
    right : bool
        Whether it means what the shown image's own caption means.
    """

    text: str
    similarity: float
    right: bool


@dataclass(frozen=True)
class HeadSaid:
    """What one head said of the trial.

    Parameters
    ----------
    head : str
        The head.
    candidates : list of Candidate
        Best first.
    confidence : float
        Of the best, in [0, 1].
    margin : float
        By how much the best lies above the next that means something else, in standard deviations
        of the pool's similarities; NaN where the pool has no such caption.
    z : float
        How far the best stands out of the pool, in the same unit.
    truth : str
        The image's own caption.
    attribution : array (n_chans, n_times)
        Integrated gradients of the best caption's loss, sign turned: positive speaks for it, in nats.
    error : float
        By how much attributions miss what they should sum to, as a fraction.
    """

    head: str
    candidates: list[Candidate]
    confidence: float
    margin: float
    z: float
    truth: str
    attribution: np.ndarray
    error: float


@dataclass(frozen=True)
class TrialExplanation:
    """One decoding, taken apart.

    Parameters
    ----------
    trial_id : int
        Which trial.
    subject, category, image_id : str
        Whose, and what was shown.
    eeg : array (n_chans, n_times)
        As recorded, in the study's unit.
    heads : list of HeadSaid
        In prompt order.
    figures : list of Image
        The EEG with what was attributed to it; the electrodes.
    """

    trial_id: int
    subject: str
    category: str
    image_id: str
    eeg: np.ndarray
    heads: list[HeadSaid]
    figures: list[Image]


def explain_trial(run: Run | str | Path, trial_id: int) -> TrialExplanation:
    """Take one decoding apart, and draw its EEG with what was attributed to it.

    Parameters
    ----------
    run : Run or path-like
        A decoded run.
    trial_id : int
        A test trial.

    Returns
    -------
    TrialExplanation
        Its figures lie in ``figures/explain/``.

    Raises
    ------
    InputError
        If the trial is not on the test set.
    RunError
        If the run was not decoded.
    """
    material = Material(run)
    ids = material.ids("test")
    if trial_id not in ids:
        side = next((s for s in ("train", "val") if trial_id in material.ids(s)), None)
        where = f"is on the {side} set" if side else "is not in the run's fold"
        some = ", ".join(str(i) for i in ids[:5])
        raise InputError(
            f"trial {trial_id} {where}; only test trials are decoded, e.g. {some or '(there are none)'}"
        )
    row = int(np.flatnonzero(ids == trial_id)[0])
    one = np.array([trial_id])
    facts = material.trials(one).iloc[0]
    said = _said(material, row, trial_id)
    eeg = np.asarray(material.study.eeg[trial_id], dtype=np.float64)
    with look.style():
        figures = [_draw_eeg(material, trial_id, eeg, said)]
        if np.isfinite(material.positions).all(axis=1).any():
            figures.append(_draw_electrodes(material, trial_id, said))
    return TrialExplanation(
        trial_id,
        str(facts["subject"]),
        str(facts["category"]),
        str(facts["image_id"]),
        eeg,
        said,
        figures,
    )


def _said(material: Material, row: int, trial_id: int) -> list[HeadSaid]:
    one = np.array([trial_id])
    table = material.decodings
    table = table[table["trial_id"] == trial_id].sort_values("rank")
    texts, meanings = material.true_captions(one), material.true_meanings(one)
    rows = {head: table[table["head"] == head] for head in material.heads}
    first = {
        head: _place(material, head, found["caption_id"].iloc[0])
        for head, found in rows.items()
        if len(found)
    }
    attributions = _attributions(material, trial_id, first)
    said = []
    for head, place in first.items():
        found = rows[head]
        pool, query = material.pools[head], material.embeddings("test")[head][row : row + 1]
        z, _ = evidence(query, pool, np.array([[place]]))[0, 0]
        margin = _margin(query[0] @ pool.embeddings.T, place, _rivals(pool, place))
        means = found["meaning"] if "meaning" in found else found["text"]
        candidates = [
            Candidate(
                str(text),
                float(similarity),
                str(text) == texts[head][0] or (isinstance(m, str) and m == meanings[head][0]),
            )
            for text, similarity, m in zip(found["text"], found["similarity"], means)
        ]
        attribution = attributions[head]
        said.append(
            HeadSaid(
                head,
                candidates,
                float(found["confidence"].iloc[0]),
                float(margin),
                float(z),
                texts[head][0],
                -attribution.signed.astype(np.float64),
                attribution.error,
            )
        )
    return said


def _place(material: Material, head: str, caption: str) -> int:
    return material.pools[head].caption_ids.index(caption)


def _rivals(pool: CandidatePool, place: int) -> np.ndarray:
    """Captions of the pool that mean something else: paraphrases contend for nothing."""
    own = pool.meanings[place]
    same = [i == place or (own is not None and m == own) for i, m in enumerate(pool.meanings)]
    return np.flatnonzero(~np.array(same))


def _margin(similarity: np.ndarray, place: int, rivals: np.ndarray) -> float:
    spread = similarity.std()
    if not len(rivals) or spread < 1e-7:
        return float("nan")
    return float((similarity[place] - similarity[rivals].max()) / spread)


def _attributions(
    material: Material, trial_id: int, first: dict[str, int]
) -> dict[str, Attribution]:
    """What of the EEG made each head retrieve its best caption rather than one of another meaning."""
    trial = np.asarray(material.study.eeg[trial_id], dtype=np.float64)
    scale = channel_scale(material)
    question = Question.of(
        FromElectrodes(material.encoder, material.steps, scale),
        (trial / scale)[None].astype(np.float32),
        {head: material.pools[head].embeddings[place][None] for head, place in first.items()},
        positions=material.positions,
        subject=material.subject_index(np.array([trial_id])),
        candidates={
            head: material.pools[head].embeddings[_rivals(material.pools[head], place)]
            for head, place in first.items()
        },
        scales=material.scales,
    )
    return integrated_gradients(question, baseline=typical_trial(material, scale), n_steps=STEPS)


# -- figures -------------------------------------------------------------------------------------
def _draw_eeg(material: Material, trial_id: int, eeg: np.ndarray, said: list[HeadSaid]) -> Image:
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    factor, unit = (1e6, "µV") if material.study.unit == "V" else (1.0, material.study.unit)
    times = material.times * 1e3
    eeg = (eeg - np.median(eeg, axis=1, keepdims=True)) * factor
    total = np.sum([h.attribution for h in said], axis=0)
    figure = Figure(figsize=(look.TWO_COLUMNS, 2.5 + 0.17 * len(said)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.17 * len(said) + 0.1))
    lines = np.stack([np.broadcast_to(times, eeg.shape), eeg], axis=2)
    few = len(eeg) <= FEW
    gray, width = ("0.55", 0.9) if few else ("0.75", 0.5)
    top.add_collection(LineCollection(list(lines), colors=gray, lw=width, rasterized=True))
    segments = np.stack([lines[:, :-1], lines[:, 1:]], axis=2)
    weight = (total[:, :-1] + total[:, 1:]) / 2
    share = MARKED_OF_FEW if few else MARKED
    limit = np.quantile(np.abs(weight), 1 - share)
    for sign, color, name in (
        (1, look.FOR, "speaks for what was retrieved"),
        (-1, look.AGAINST, "speaks against it"),
    ):
        marked = (sign * weight >= limit) & (weight != 0)
        top.add_collection(
            LineCollection(
                list(segments[marked]), colors=color, lw=2 if few else 1.4, rasterized=True
            )
        )
        top.plot([], [], color=color, lw=2, label=name)
    span = 1.03 * np.abs(eeg).max() or 1.0
    top.set_xlim(times[0], times[-1])
    top.set_ylim(-span, span)
    top.set_ylabel(f"EEG ({unit})")
    top.legend(loc="lower left", ncols=2, bbox_to_anchor=(0, 1.0), borderaxespad=0.1)
    step = FromElectrodes(material.encoder, material.steps, channel_scale(material)).step
    when = np.array([in_steps(np.abs(h.attribution).sum(axis=0), step) for h in said])
    when = 100 * when / np.maximum(when.sum(axis=1, keepdims=True), 1e-300)
    edges = 1e3 * step_edges(material.times, step)
    image = bottom.pcolormesh(
        edges, np.arange(len(said) + 1) - 0.5, when, cmap=look.TABLE, vmin=0, rasterized=True
    )
    bottom.set_ylim(len(said) - 0.5, -0.5)
    bottom.set_yticks(range(len(said)), [h.head for h in said])
    bottom.set_xlabel("time from stimulus onset (ms)")
    figure.colorbar(
        image,
        ax=bottom,
        label=f"attribution\n(% in {1e3 * step / material.sfreq:.0f} ms)",
        fraction=0.05,
        pad=0.01,
    )
    for axes in (top, bottom):
        axes.axvline(0, color=look.INK, lw=0.8, ls=(0, (3, 2)))
    return material.save_figure(
        figure,
        f"trial-{trial_id:06d}-eeg",
        f"Trial {trial_id}. Above: the EEG of all {len(eeg)} channels, each less its median; colored "
        f"is the {100 * share:.0f} % that weighs most by integrated gradients, summed over "
        "heads. Below: when each head’s attribution lies, magnitudes summed over channels.",
    )


def _draw_electrodes(material: Material, trial_id: int, said: list[HeadSaid]) -> Image:
    from matplotlib.figure import Figure

    columns = min(len(said), 5)
    rows = -(-len(said) // columns)
    figure = Figure(figsize=(look.TWO_COLUMNS, 0.2 + 1.5 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    cap = Cap(material.ch_names, material.positions)
    for axes, h in zip(panels, said):
        value = h.attribution.sum(axis=1)
        reach = float(np.abs(value).max()) or 1.0
        cap.draw(axes, value / reach, (-1, 1), cmap=look.DIVERGING)
        axes.set_title(h.head, fontsize=8, loc="center")
    for axes in panels[len(said) :]:
        axes.set_visible(False)
    color_bar(
        figure,
        panels.tolist(),
        (-1, 1),
        "attribution over the head’s largest\n(no unit; red speaks for)",
        look.DIVERGING,
    )
    return material.save_figure(
        figure,
        f"trial-{trial_id:06d}-electrodes",
        f"Trial {trial_id}. Integrated gradients of each head’s retrieved caption, summed over time, "
        "each over its own largest electrode.",
    )
