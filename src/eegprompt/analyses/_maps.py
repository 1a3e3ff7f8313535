"""The maps that several analyses draw or test, computed once for a run.

All are of held-out trials. Patterns use up to :data:`PATTERN_TRIALS` of them, attributions through
the encoder two halves of :data:`HALF` each, which share no image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eegprompt.analyses._trials import (
    View,
    channel_scale,
    from_electrodes,
    typical_trial,
    view,
)
from eegprompt.analyses.base import Context, once
from eegprompt.attribution import sanity
from eegprompt.attribution.electrodes import FromElectrodes
from eegprompt.attribution.gradients import integrated_gradients, plain_gradients, smoothgrad
from eegprompt.attribution.occlusion import channel_groups, channel_occlusion
from eegprompt.attribution.patterns import (
    Pattern,
    activation_pattern,
    class_means,
    half_agreement,
)
from eegprompt.attribution.question import Question
from eegprompt.attribution.rollout import attention_rollout
from eegprompt.attribution.sanity import Information, Verdict
from eegprompt.core.kinds import KINDS, LEVELS
from eegprompt.stats.multiple import holm

__all__ = [
    "HALF",
    "METHODS",
    "PATTERN_TRIALS",
    "PERMUTATIONS",
    "Attributions",
    "Patterns",
    "attributions_of",
    "level_maps",
    "levels_of",
    "patterns_of",
    "shuffled_encoder",
]

PATTERN_TRIALS = 2000
PERMUTATIONS = 50
FASTEST = 250.0  # Hz; patterns of recordings at twice that and more are of averaged samples
HALF = 48
INTEGRATION_STEPS = 12
NEIGHBORS = 8

METHODS: dict[str, str] = {
    "saliency": "|gradient|, as in the paper",
    "gradient_times_input": "gradient × input",
    "integrated_gradients": "integrated gradients",
    "smoothgrad": "SmoothGrad",
    "occlusion": "occlusion of neighbors",
    "rollout": "attention rollout",
}
"""Attributions through the encoder, and what they are called in figures."""


@dataclass(frozen=True)
class Patterns:
    """Activation patterns of all heads with what is needed to judge them.

    Parameters
    ----------
    ids : array of int
        Test trials.
    units, subjects : array of str
        Of these: the image, or the trial where only its category is known; the subject.
    outputs : dict of head to array
        Outputs of the heads.
    captions : dict of head to array
        Embeddings of their true captions.
    found, untrained : dict of head to Pattern
        Of the heads, and of the encoder with shuffled weights.
    class_means : dict of head to array
        From true captions, without a model.
    information : dict of head to Information
        Whether the head is better than chance.
    p : dict of head to float
        The same, corrected for the number of heads (Holm).
    reliability, reliability_p : dict of head to float
        Reliability from two halves of the images, and its p, corrected for the number of heads.
    likeness : dict of head to float
        Similarity to the map of shuffled weights.
    verdicts : dict of head to Verdict
        On the head's pattern.
    """

    ids: np.ndarray
    units: np.ndarray
    subjects: np.ndarray
    outputs: dict[str, np.ndarray]
    captions: dict[str, np.ndarray]
    found: dict[str, Pattern]
    untrained: dict[str, Pattern]
    class_means: dict[str, np.ndarray]
    information: dict[str, Information]
    p: dict[str, float]
    reliability: dict[str, float]
    reliability_p: dict[str, float]
    likeness: dict[str, float]
    verdicts: dict[str, Verdict]

    @property
    def above_chance(self) -> list[str]:
        """Heads that are better than chance on images they were not trained on."""
        return [head for head, p in self.p.items() if p < sanity.ALPHA]


@once
def patterns_of(context: Context) -> Patterns:
    """Activation patterns of the test trials, tested."""
    ids = context.sample(context.ids("test"), PATTERN_TRIALS)
    outputs, captions = context.test_embeddings(ids), context.true_embeddings(ids)
    units, subjects = context.units(ids), context.labels(ids, "subject").astype(str)
    every = samples_averaged(context)
    trials = view(context, ids, every)
    shuffled = _outputs(context, shuffled_encoder(context), ids)
    half_rows = sanity.halves(units, context.seed)
    # So many permutations that p can be small enough after correction for the heads.
    n_half = max(20, math.ceil(math.sqrt(2 * len(context.heads) / sanity.ALPHA)))
    found: dict[str, Pattern] = {}
    untrained: dict[str, Pattern] = {}
    means, agreement, likeness = {}, {}, {}
    common: dict[str, Any] = {"groups": subjects, "units": units, "seed": context.seed}
    for place, head in enumerate(context.heads):
        for patterns, output in ((found, outputs[head]), (untrained, shuffled[head])):
            one = _pattern(trials, output, **common, n_permutations=PERMUTATIONS)
            patterns[head] = replace(
                one,
                amplitude=_at_every_sample(one.amplitude, every, context),
                z=_at_every_sample(one.z, every, context),
            )
        mean = (
            class_means(trials, captions[head], groups=subjects)
            if len(ids) > 1
            else np.zeros(trials.shape[1:])
        )
        means[head] = _at_every_sample(mean, every, context)
        agreement[head] = half_agreement(
            trials, outputs[head], half_rows, **common, n_permutations=n_half
        )
        likeness[head] = sanity.similarity(found[head].z, untrained[head].z)
        context.progress(place + 1, len(context.heads), "activation patterns")
    information = {
        head: sanity.caption_information(outputs[head], captions[head], units, seed=context.seed)
        for head in context.heads
    }
    p = _corrected({head: i.p for head, i in information.items()})
    agree = _corrected({head: a.p for head, a in agreement.items()})
    reliability = {head: a.reliability for head, a in agreement.items()}
    verdicts = {
        h: sanity.judge(p[h], likeness[h], reliability=reliability[h], reliability_p=agree[h])
        for h in context.heads
    }
    return Patterns(
        ids, units, subjects, outputs, captions, found, untrained, means, information, p,
        reliability, agree, likeness, verdicts,
    )  # fmt: skip


def samples_averaged(context: Context) -> int:
    """Samples that patterns average into one: some 4 ms, so that a recording at 1 kHz takes no
    longer than one at 250 Hz."""
    return max(1, int(context.sfreq // FASTEST))


def _at_every_sample(values: np.ndarray, every: int, context: Context) -> np.ndarray:
    """A map of averaged samples on the recording's time axis; the last value stands for the rest."""
    missing = len(context.times) - every * values.shape[1]
    return np.pad(np.repeat(values, every, axis=1), ((0, 0), (0, missing)), mode="edge")


@dataclass(frozen=True)
class Attributions:
    """Attributions through the encoder, tested.

    Parameters
    ----------
    ids : array of int
        Test trials: the first half, then the second.
    magnitude : dict of method to dict of head to array
        (n_chans, n_times), or (n_chans,) for occlusion and rollout; larger is more.
    signed : dict of method to dict of head to array
        Mean signed value, for the methods that have a sign.
    reliability, likeness : dict of method to dict of head to float
        Reliability from the two halves; similarity to the map of shuffled weights.
    verdicts : dict of method to dict of head to Verdict
        On each map.
    error : float
        Largest failure of completeness of the integrated gradients, as a fraction.
    module : FromElectrodes
        What was asked.
    """

    ids: np.ndarray
    magnitude: dict[str, dict[str, np.ndarray]]
    signed: dict[str, dict[str, np.ndarray]]
    reliability: dict[str, dict[str, float]]
    likeness: dict[str, dict[str, float]]
    verdicts: dict[str, dict[str, Verdict]]
    error: float
    module: FromElectrodes


@once
def attributions_of(context: Context) -> Attributions:
    """Attributions of up to twice :data:`HALF` test trials, tested."""
    known = patterns_of(context)
    module = from_electrodes(context)
    shuffled = FromElectrodes(shuffled_encoder(context), context.steps, channel_scale(context))
    halves = sanity.halves(known.units, context.seed)
    parts = [context.sample(known.ids[half], HALF) for half in halves if len(half)]
    maps = [_attributions(context, module, part) for part in parts]
    other = _attributions(context, shuffled.to(context.device), parts[0])
    magnitude, signed, reliability, likeness, verdicts = {}, {}, {}, {}, {}
    for method in maps[0]:
        magnitude[method] = {h: np.mean([m[method][h][0] for m in maps], 0) for h in context.heads}
        if maps[0][method][context.heads[0]][1] is not None:
            signed[method] = {
                h: np.mean([np.asarray(m[method][h][1]) for m in maps], 0) for h in context.heads
            }
        reliability[method] = {
            h: sanity.reliability(maps[0][method][h][0], maps[1][method][h][0])
            if len(maps) > 1
            else np.nan
            for h in context.heads
        }
        likeness[method] = {
            h: sanity.similarity(maps[0][method][h][0], other[method][h][0]) for h in context.heads
        }
        verdicts[method] = {
            h: sanity.judge(known.p[h], likeness[method][h], reliability=reliability[method][h])
            for h in context.heads
        }
    errors = [m["integrated_gradients"][h][2] for m in maps for h in context.heads]
    return Attributions(
        np.concatenate(parts), magnitude, signed, reliability, likeness, verdicts,
        float(max(errors)), module,
    )  # fmt: skip


def shuffled_encoder(context: Context) -> Any:
    """The run's encoder with its weights in another order."""
    return sanity.shuffled_weights(context.encoder, context.seed + 1)


def question(context: Context, module: FromElectrodes, ids: np.ndarray) -> Question:
    """Trials and captions as the functions of :mod:`eegprompt.attribution` take them."""
    pools = {head: pool.embeddings for head, pool in context.pools.items()}
    return Question.of(
        module,
        View(context.study.eeg, ids, 1 / channel_scale(context)),
        context.true_embeddings(ids),
        positions=context.positions,
        subject=context.subject_index(ids),
        scales=context.scales,
        # The captions that the head chooses from; as many as give a loss of its usual size.
        candidates={head: rows[_spread(len(rows), 200)] for head, rows in pools.items()},
    )


def _attributions(
    context: Context, module: FromElectrodes, ids: np.ndarray
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray | None, float]]]:
    """Method → head → magnitude, signed mean where there is one, error of completeness."""
    asked = question(context, module, ids)
    mean = typical_trial(context)
    plain, times_input = plain_gradients(asked, baseline=mean)
    by_gradient = {
        "saliency": plain,
        "gradient_times_input": times_input,
        "integrated_gradients": integrated_gradients(
            asked, baseline=mean, n_steps=INTEGRATION_STEPS
        ),
        "smoothgrad": smoothgrad(asked, seed=context.seed),
    }
    found: dict[str, dict[str, Any]] = {
        method: {
            head: (
                np.abs(a.signed) if method == "gradient_times_input" else a.magnitude,
                a.signed,
                a.error,
            )
            for head, a in maps.items()
        }
        for method, maps in by_gradient.items()
    }
    # A group that spans a small layout would tell nothing of where.
    neighbors = max(1, min(NEIGHBORS, len(context.ch_names) // 4))
    groups = channel_groups(context.positions, len(context.ch_names), neighbors)
    occluded = channel_occlusion(asked, groups=groups, baseline=mean)
    found["occlusion"] = {head: (np.maximum(v, 0), None, 0.0) for head, v in occluded.items()}
    if module.filters is not None:
        attention = attention_rollout(asked, filters=module.filters)
        found["rollout"] = {head: (v, None, 0.0) for head, v in attention.items()}
    return found


def levels_of(heads: Any) -> dict[str, list[str]]:
    """Level → those of some heads that belong to it; levels without heads are left out."""
    groups = {level.value: [h for h in names if h in set(heads)] for level, names in LEVELS.items()}
    others = [head for head in heads if head not in KINDS]
    groups |= {"other": others} if others else {}
    return {level: names for level, names in groups.items() if names}


def level_maps(maps: dict[str, np.ndarray], heads: Any) -> dict[str, np.ndarray]:
    """RMS over each level's heads, what is negative counted as zero."""
    return {
        level: np.sqrt(np.mean([np.maximum(maps[h], 0) ** 2 for h in names], axis=0))
        for level, names in levels_of(heads).items()
    }


def _pattern(trials: Any, output: np.ndarray, **options: Any) -> Pattern:
    """A pattern, or one of zeros where there are too few trials to regress on."""
    if len(output) > 1:
        return activation_pattern(trials, output, **options)
    zero = np.zeros(np.shape(trials)[1:])
    return Pattern(zero, zero, 0.0, 1.0, len(output))


def _outputs(context: Context, encoder: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
    import torch

    parts: dict[str, list[np.ndarray]] = {head: [] for head in context.heads}
    positions = torch.from_numpy(context.positions).to(context.device)
    with torch.inference_mode():
        for batch in context.batches(ids):
            out = encoder(batch.eeg, positions, batch.subject)
            for head in context.heads:
                parts[head].append(torch.nn.functional.normalize(out[head], dim=1).cpu().numpy())
    return {head: np.concatenate(rows) for head, rows in parts.items()}


def _corrected(p: dict[str, float]) -> dict[str, float]:
    return dict(zip(p, holm(np.array(list(p.values()))).tolist()))


def _spread(n: int, at_most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(int))
