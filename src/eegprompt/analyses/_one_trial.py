"""One decoding from EEG to captions: what each head retrieved, by what margin, and from which EEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.analyses._findings import Image
from eegprompt.analyses._trials import (
    channel_scale,
    from_electrodes,
    in_steps,
    microvolts,
    step_edges,
    typical_trial,
)
from eegprompt.analyses.base import Context
from eegprompt.attribution.gradients import Attribution, integrated_gradients
from eegprompt.attribution.question import Question
from eegprompt.core.errors import InputError
from eegprompt.figures import style as look
from eegprompt.figures.panels import ScalpMap, scalp_maps
from eegprompt.figures.scalp import SensorLayout
from eegprompt.retrieval.search import evidence

if TYPE_CHECKING:
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["Candidate", "HeadOutput", "TrialExplanation", "explain_trial"]

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
class HeadOutput:
    """Output of one head for the trial.

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
    true_caption : str
        The image's own caption.
    attribution : array (n_chans, n_times)
        Integrated gradients of the best caption's loss, sign turned: positive supports it, in nats.
    error : float
        By how much attributions miss what they should sum to, as a fraction.
    """

    head: str
    candidates: list[Candidate]
    confidence: float
    margin: float
    z: float
    true_caption: str
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
    heads : list of HeadOutput
        In prompt order.
    figures : list of Image
        The EEG with what was attributed to it; the electrodes.
    """

    trial_id: int
    subject: str
    category: str
    image_id: str
    eeg: np.ndarray
    heads: list[HeadOutput]
    figures: list[Image]


def explain_trial(context: Context, trial_id: int) -> TrialExplanation:
    """Take one decoding apart, and draw its EEG with what was attributed to it.

    Parameters
    ----------
    context : Context
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
        If the trial is not in the test set.
    """
    ids = context.ids("test")
    if trial_id not in ids:
        part = next((s for s in ("train", "val") if trial_id in context.ids(s)), None)
        where = f"is in the {part} set" if part else "is not in the run's fold"
        some = ", ".join(str(i) for i in ids[:5])
        raise InputError(
            f"trial {trial_id} {where}; only test trials are decoded, e.g. {some or '(there are none)'}"
        )
    facts = context.trials(np.array([trial_id])).iloc[0]
    outputs = _outputs(context, trial_id)
    eeg = np.asarray(context.study.eeg[trial_id], dtype=np.float64)
    with look.style():
        figures = [_draw_eeg(context, trial_id, eeg, outputs)]
        if np.isfinite(context.positions).all(axis=1).any():
            figures.append(_draw_electrodes(context, trial_id, outputs))
    subject, category, image = (str(facts[name]) for name in ("subject", "category", "image_id"))
    return TrialExplanation(trial_id, subject, category, image, eeg, outputs, figures)


def _outputs(context: Context, trial_id: int) -> list[HeadOutput]:
    one = np.array([trial_id])
    table = context.decodings
    table = table[table["trial_id"] == trial_id].sort_values("rank")
    texts, meanings = context.true_captions(one), context.true_meanings(one)
    queries = context.test_embeddings(one)
    rows = {head: table[table["head"] == head] for head in context.heads}
    first = {
        head: context.pools[head].caption_ids.index(found["caption_id"].iloc[0])
        for head, found in rows.items()
        if len(found)
    }
    attributions = _attributions(context, trial_id, first)
    outputs = []
    for head, place in first.items():
        found, pool, query = rows[head], context.pools[head], queries[head]
        z, _ = evidence(query, pool, np.array([[place]]))[0, 0]
        means = found["meaning"] if "meaning" in found else found["text"]
        candidates = [
            Candidate(
                str(text),
                float(similarity),
                str(text) == texts[head][0] or (isinstance(m, str) and m == meanings[head][0]),
            )
            for text, similarity, m in zip(found["text"], found["similarity"], means)
        ]
        outputs.append(
            HeadOutput(
                head,
                candidates,
                float(found["confidence"].iloc[0]),
                _margin(query[0] @ pool.embeddings.T, place, _rivals(pool, place)),
                float(z),
                texts[head][0],
                -attributions[head].signed.astype(np.float64),
                attributions[head].error,
            )
        )
    return outputs


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


def _attributions(context: Context, trial_id: int, first: dict[str, int]) -> dict[str, Attribution]:
    """What of the EEG made each head retrieve its best caption rather than one of another meaning."""
    trial = np.asarray(context.study.eeg[trial_id], dtype=np.float64)
    question = Question.of(
        from_electrodes(context),
        (trial / channel_scale(context))[None].astype(np.float32),
        {head: context.pools[head].embeddings[place][None] for head, place in first.items()},
        positions=context.positions,
        subject=context.subject_index(np.array([trial_id])),
        candidates={
            head: context.pools[head].embeddings[_rivals(context.pools[head], place)]
            for head, place in first.items()
        },
        scales=context.scales,
    )
    return integrated_gradients(question, baseline=typical_trial(context), n_steps=STEPS)


# -- figures -------------------------------------------------------------------------------------
def _draw_eeg(context: Context, trial_id: int, eeg: np.ndarray, outputs: list[HeadOutput]) -> Image:
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    factor, unit = microvolts(context)
    times = context.times * 1e3
    eeg = (eeg - np.median(eeg, axis=1, keepdims=True)) * factor
    total = np.sum([h.attribution for h in outputs], axis=0)
    figure = Figure(figsize=(look.TWO_COLUMNS, 2.5 + 0.17 * len(outputs)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.17 * len(outputs) + 0.1))
    lines = np.stack([np.broadcast_to(times, eeg.shape), eeg], axis=2)
    few = len(eeg) <= FEW
    gray, width = ("0.55", 0.9) if few else ("0.75", 0.5)
    top.add_collection(LineCollection(list(lines), colors=gray, lw=width, rasterized=True))
    segments = np.stack([lines[:, :-1], lines[:, 1:]], axis=2)
    weight = (total[:, :-1] + total[:, 1:]) / 2
    share = MARKED_OF_FEW if few else MARKED
    limit = np.quantile(np.abs(weight), 1 - share)
    for sign, color, name in (
        (1, look.FOR, "supports what was retrieved"),
        (-1, look.AGAINST, "is evidence against it"),
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
    step = from_electrodes(context).step
    when = np.array([in_steps(np.abs(h.attribution).sum(axis=0), step) for h in outputs])
    when = 100 * when / np.maximum(when.sum(axis=1, keepdims=True), 1e-300)
    edges = 1e3 * step_edges(context.times, step)
    image = bottom.pcolormesh(
        edges, np.arange(len(outputs) + 1) - 0.5, when, cmap=look.TABLE, vmin=0, rasterized=True
    )
    bottom.set_ylim(len(outputs) - 0.5, -0.5)
    bottom.set_yticks(range(len(outputs)), [h.head for h in outputs])
    bottom.set_xlabel("time from stimulus onset (ms)")
    figure.colorbar(
        image,
        ax=bottom,
        label=f"attribution\n(% in {1e3 * step / context.sfreq:.0f} ms)",
        fraction=0.05,
        pad=0.01,
    )
    for axes in (top, bottom):
        axes.axvline(0, color=look.INK, lw=0.8, ls=(0, (3, 2)))
    return context.save_figure(
        figure,
        f"trial-{trial_id:06d}-eeg",
        f"Trial {trial_id}. Above: the EEG of all {len(eeg)} channels, each less its median; colored "
        f"is the {100 * share:.0f} % that weighs most by integrated gradients, summed over "
        "heads. Below: when each head’s attribution lies, magnitudes summed over channels.",
    )


def _draw_electrodes(context: Context, trial_id: int, outputs: list[HeadOutput]) -> Image:
    rows: dict[str, list[ScalpMap]] = {}
    for place, one in enumerate(outputs):
        values = one.attribution.sum(axis=1)
        reach = float(np.abs(values).max()) or 1.0
        rows.setdefault(str(place // 5), []).append(ScalpMap(values / reach, one.head))
    figure = scalp_maps(
        SensorLayout(context.ch_names, context.positions), rows, (-1, 1),
        "attribution over the head’s largest\n(no unit; red supports it)", cmap=look.DIVERGING,
        name_rows=False,
    )  # fmt: skip
    return context.save_figure(
        figure,
        f"trial-{trial_id:06d}-electrodes",
        f"Trial {trial_id}. Integrated gradients of each head’s retrieved caption, summed over time, "
        "each over its own largest electrode.",
    )
