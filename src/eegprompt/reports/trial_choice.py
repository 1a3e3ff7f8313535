"""Which trials are shown, and what is shown of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eegprompt.core.errors import InputError
from eegprompt.core.kinds import KINDS
from eegprompt.reports.contents import Material, RunMaterial, json_list
from eegprompt.reports.data_uris import data_uri
from eegprompt.sources import SOURCES

__all__ = ["HeadView", "TrialView", "sample_trials", "view_trial"]


@dataclass(frozen=True)
class HeadView:
    """What one head said of one trial."""

    head: str
    level: str
    text: str
    similarity: float | None
    confidence: float | None
    truth: tuple[str, ...]
    same: bool | None
    in_prompt: bool | None
    reason: str = ""
    others: tuple[tuple[str, bool | None], ...] = ()


@dataclass
class TrialView:
    """One trial as it is shown."""

    trial_id: int
    run_label: str
    subject: str
    category: str
    image_id: str
    images: dict[str, str | None] = field(default_factory=dict)
    prompts: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    heads: list[HeadView] = field(default_factory=list)
    right: tuple[int, int] | None = None
    by_chance: float | None = None


def sample_trials(material: Material, count: int = 12) -> tuple[list[tuple[RunMaterial, int]], int]:
    """A fair sample of test trials: images drawn at random, then one trial of each.

    The draw depends on the run's seed and on which trials there are, and on nothing that was
    scored. Trials with an image are preferred to those without only as a whole: if any images
    were drawn, the sample is of trials that have one.

    Parameters
    ----------
    material : Material
        The run or its folds.
    count : int
        How many at most.

    Returns
    -------
    sample : list of (RunMaterial, int)
        Trial ids with the run they belong to, in random order.
    n_images : int
        How many images there were to choose from.
    """
    pairs: dict[tuple[str, str], list[tuple[RunMaterial, int]]] = {}
    for run in material.runs:
        ids = run.drawn("eeg")
        if not ids and run.decodings is not None:
            ids = sorted({int(i) for i in run.decodings["trial_id"]})
        for trial_id in ids:
            image = _trial_fact(run, trial_id, "image_id") or f"trial {trial_id}"
            if run.study is not None and run.study.image_identity == "category":
                image = f"trial {trial_id}"  # the image is not known, so the trial is the unit
            pairs.setdefault((run.label, image), []).append((run, trial_id))
    keys = sorted(pairs)
    generator = np.random.default_rng([material.first.seed, 2507, len(keys)])
    order = generator.permutation(len(keys))[:count]
    sample = []
    for index in order:
        choices = pairs[keys[int(index)]]
        sample.append(choices[int(generator.integers(len(choices)))])
    return sample, len(keys)


def _trial_fact(run: RunMaterial, trial_id: int, column: str) -> str | None:
    if run.study is None or not 0 <= trial_id < len(run.study.trials):
        return None
    return str(run.study.trials[column].iloc[trial_id])


def view_trial(run: RunMaterial, trial_id: int, *, others: int = 0) -> TrialView:
    """Gather what is shown of one trial.

    Parameters
    ----------
    run : RunMaterial
        The run it belongs to.
    trial_id : int
        Which trial.
    others : int
        How many further candidates of each head to list.
    """
    image_id = _trial_fact(run, trial_id, "image_id") or ""
    view = TrialView(
        trial_id,
        run.label,
        _trial_fact(run, trial_id, "subject") or "",
        _trial_fact(run, trial_id, "category") or "",
        image_id,
    )
    view.images["reference"] = _reference(run, image_id)
    for source in SOURCES:
        if source == "reference":
            continue  # shown at its own size
        path = run.image(source, trial_id)
        view.images[source] = data_uri(path) if path else None
    kept, left_out = _prompts(run, view)
    view.heads = _heads(run, view, kept, left_out, others)
    _count_right(run, view)
    return view


def _reference(run: RunMaterial, image_id: str) -> str | None:
    if run.study is None or not image_id:
        return None
    try:
        return data_uri(run.study.image_path(image_id))
    except InputError:
        return None


def _prompts(
    run: RunMaterial, view: TrialView
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Fill in the prompts; returns captions kept on each prompt source, and those eeg's prompt leaves out."""
    kept: dict[str, list[dict[str, Any]]] = {}
    left_out: list[dict[str, Any]] = []
    if run.prompts is None:
        return kept, left_out
    rows = run.prompts[run.prompts["trial_id"] == view.trial_id]
    for row in rows.to_dict("records"):
        source = str(row["source"])
        if row.get("n_tokens") is not None and row["n_tokens"] == row["n_tokens"]:
            view.tokens[source] = int(row["n_tokens"])
        reason = row.get("reason")
        view.reasons[source] = reason if isinstance(reason, str) else ""
        kept[source] = [k for k in json_list(row.get("kept")) if isinstance(k, dict)]
        if source == "eeg":
            left_out = [d for d in json_list(row.get("dropped")) if isinstance(d, dict)]
        view.prompts[source] = _pieces(run, view.image_id, str(row["text"]), kept[source])
    return kept, left_out


def _pieces(
    run: RunMaterial, image_id: str, prompt: str, kept: list[dict[str, Any]]
) -> list[tuple[str, bool]]:
    """A prompt cut into its captions, each with whether it says the same as the image's own."""
    pieces: list[tuple[str, bool]] = []
    done = 0
    for caption in kept:
        said = str(caption.get("text"))
        text = " ".join(said.split()).rstrip(".,;: ")  # as prompts are joined
        place = prompt.find(text, done)
        if place < 0:  # the prompt was put together otherwise: shown as it is
            return [(prompt, False)]
        if place > done:
            pieces.append((prompt[done:place], False))
        pieces.append((text, bool(run.same_meaning(image_id, str(caption.get("head")), said))))
        done = place + len(text)
    if done < len(prompt):
        pieces.append((prompt[done:], False))
    return pieces


def _heads(
    run: RunMaterial,
    view: TrialView,
    kept: dict[str, list[dict[str, Any]]],
    left_out: list[dict[str, Any]],
    others: int,
) -> list[HeadView]:
    if run.decodings is None:
        return []
    rows = run.decodings[run.decodings["trial_id"] == view.trial_id].sort_values("rank")
    in_prompt = {(k.get("head"), k.get("text")) for k in kept.get("eeg", [])}
    reasons = {
        (c.get("head"), c.get("text")): str(c["reason"])
        for c in (*left_out, *kept.get("eeg", []))
        if c.get("reason") and c["reason"] != "all heads speak"
    }
    views = []
    for head in sorted(rows["head"].unique(), key=_place):
        mine = rows[rows["head"] == head].to_dict("records")
        best = mine[0]
        text = str(best["text"])
        views.append(
            HeadView(
                head,
                _level(head),
                text,
                _finite(best.get("similarity")),
                _finite(best.get("confidence")),
                tuple(run.true_captions(view.image_id, head)),
                run.same_meaning(view.image_id, head, text),
                (head, text) in in_prompt if "eeg" in kept else None,
                reasons.get((head, text), ""),
                tuple(
                    (str(r["text"]), run.same_meaning(view.image_id, head, str(r["text"])))
                    for r in mine[1 : 1 + others]
                ),
            )
        )
    return views


def _count_right(run: RunMaterial, view: TrialView) -> None:
    """Count captions that say the same as the image's own, and how many would by chance."""
    known = [h for h in view.heads if h.same is not None]
    if not known:
        return
    view.right = (sum(bool(h.same) for h in known), len(known))
    shares = [run.share_right(view.image_id, h.head) for h in known]
    if all(share is not None for share in shares):
        view.by_chance = float(sum(share for share in shares if share is not None))


def _place(head: str) -> tuple[float, str]:
    return (KINDS[head].prompt_order if head in KINDS else len(KINDS), head)


def _level(head: str) -> str:
    return KINDS[head].level.value if head in KINDS else "other"


def _finite(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
