"""The maps that several analyses draw or test, computed once for a run.

All are of held-out trials. Patterns use up to :data:`PATTERN_TRIALS` of them, attributions through
the encoder two halves of :data:`HALF` each, which share no image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eegprompt.analyses.context import Material, once_for_a_run
from eegprompt.analyses.trials import FromElectrodes, View, channel_scale, typical_trial, view
from eegprompt.attribution import sanity as trust
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
        What the heads say of them.
    captions : dict of head to array
        Embeddings of their true captions.
    found, untrained : dict of head to Pattern
        Of the heads, and of the encoder with shuffled weights.
    class_means : dict of head to array
        From true captions, without a model.
    information : dict of head to Information
        Whether the head speaks.
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
    def speaking(self) -> list[str]:
        """Heads that say something about images they were not trained on."""
        return [head for head, p in self.p.items() if p < trust.ALPHA]


@once_for_a_run
def patterns_of(material: Material) -> Patterns:
    """Activation patterns of the test trials, tested."""
    test = material.ids("test")
    ids = material.sample(test, PATTERN_TRIALS)
    rows = np.searchsorted(np.sort(test), ids)
    rows = np.argsort(test, kind="stable")[rows]
    outputs = {head: values[rows] for head, values in material.embeddings("test").items()}
    captions = material.true_embeddings(ids)
    table = material.trials(ids)
    known = material.study.image_identity == "known"
    units = table["image_id"].astype(str).to_numpy() if known else ids.astype(str)
    subjects = table["subject"].astype(str).to_numpy()
    every = samples_averaged(material)
    trials = view(material, ids, every)
    shuffled = _outputs(material, shuffled_encoder(material), ids)
    half_rows = trust.halves(units, material.seed)
    # So many permutations that p can be small enough after correction for the heads.
    n_half = max(20, math.ceil(math.sqrt(2 * len(material.heads) / trust.ALPHA)))
    found: dict[str, Pattern] = {}
    untrained: dict[str, Pattern] = {}
    means, agreement, likeness = {}, {}, {}
    common: dict[str, Any] = {"groups": subjects, "units": units, "seed": material.seed}
    for place, head in enumerate(material.heads):
        for patterns, said in ((found, outputs[head]), (untrained, shuffled[head])):
            one = _pattern(trials, said, **common, n_permutations=PERMUTATIONS)
            patterns[head] = replace(
                one,
                amplitude=_at_every_sample(one.amplitude, every, material),
                z=_at_every_sample(one.z, every, material),
            )
        means[head] = _at_every_sample(
            class_means(trials, captions[head], groups=subjects)
            if len(ids) > 1
            else np.zeros(trials.shape[1:]),
            every, material,
        )  # fmt: skip
        agreement[head] = half_agreement(
            trials, outputs[head], half_rows, **common, n_permutations=n_half
        )
        likeness[head] = trust.similarity(found[head].z, untrained[head].z)
        material.progress(place + 1, len(material.heads), "activation patterns")
    information = {
        head: trust.caption_information(outputs[head], captions[head], units, seed=material.seed)
        for head in material.heads
    }
    p = _corrected({head: i.p for head, i in information.items()})
    agree = _corrected({head: a.p for head, a in agreement.items()})
    reliability = {head: a.reliability for head, a in agreement.items()}
    verdicts = {
        h: trust.judge(p[h], likeness[h], reliability=reliability[h], reliability_p=agree[h])
        for h in material.heads
    }
    return Patterns(
        ids, units, subjects, outputs, captions, found, untrained, means, information, p,
        reliability, agree, likeness, verdicts,
    )  # fmt: skip


def samples_averaged(material: Material) -> int:
    """Samples that patterns average into one: some 4 ms, so that a recording at 1 kHz takes no
    longer than one at 250 Hz."""
    return max(1, int(material.sfreq // FASTEST))


def _at_every_sample(values: np.ndarray, every: int, material: Material) -> np.ndarray:
    """A map of averaged samples on the recording's time axis; the last value stands for the rest."""
    missing = len(material.times) - every * values.shape[1]
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


@once_for_a_run
def attributions_of(material: Material) -> Attributions:
    """Attributions of up to twice :data:`HALF` test trials, tested."""
    known = patterns_of(material)
    scale = channel_scale(material)
    module = FromElectrodes(material.encoder, material.steps, scale).to(material.device)
    shuffled = FromElectrodes(shuffled_encoder(material), material.steps, scale)
    shuffled = shuffled.to(material.device)
    parts = [material.sample(known.ids[half], HALF) for half in _halves(known, material.seed)]
    parts = [part for part in parts if len(part)]
    maps = [_attributions(material, module, part, scale) for part in parts]
    other = _attributions(material, shuffled, parts[0], scale)
    magnitude, signed, reliability, likeness, verdicts = {}, {}, {}, {}, {}
    for method in maps[0]:
        magnitude[method] = {h: np.mean([m[method][h][0] for m in maps], 0) for h in material.heads}
        if maps[0][method][material.heads[0]][1] is not None:
            signed[method] = {
                h: np.mean([np.asarray(m[method][h][1]) for m in maps], 0) for h in material.heads
            }
        reliability[method] = {
            h: trust.reliability(maps[0][method][h][0], maps[1][method][h][0])
            if len(maps) > 1
            else np.nan
            for h in material.heads
        }
        likeness[method] = {
            h: trust.similarity(maps[0][method][h][0], other[method][h][0]) for h in material.heads
        }
        verdicts[method] = {
            h: trust.judge(known.p[h], likeness[method][h], reliability=reliability[method][h])
            for h in material.heads
        }
    errors = [m["integrated_gradients"][h][2] for m in maps for h in material.heads]
    return Attributions(
        np.concatenate(parts), magnitude, signed, reliability, likeness, verdicts,
        float(max(errors)), module,
    )  # fmt: skip


def shuffled_encoder(material: Material) -> Any:
    """The run's encoder with its weights in another order."""
    return trust.shuffled_weights(material.encoder, material.seed + 1)


def question(
    material: Material, module: FromElectrodes, ids: np.ndarray, scale: np.ndarray
) -> Question:
    """Trials and captions as the functions of :mod:`eegprompt.attribution` take them."""
    pools = {head: pool.embeddings for head, pool in material.pools.items()}
    return Question.of(
        module,
        View(material.study.eeg, ids, 1 / scale),
        material.true_embeddings(ids),
        positions=material.positions,
        subject=material.subject_index(ids),
        scales=material.scales,
        # The captions that the head chooses from; as many as give a loss of its usual size.
        candidates={head: rows[_spread(len(rows), 200)] for head, rows in pools.items()},
    )


def _attributions(
    material: Material, module: FromElectrodes, ids: np.ndarray, scale: np.ndarray
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray | None, float]]]:
    """Method → head → magnitude, signed mean where there is one, error of completeness."""
    asked = question(material, module, ids, scale)
    mean = typical_trial(material, scale)
    plain, times_input = plain_gradients(asked, baseline=mean)
    by_gradient = {
        "saliency": plain,
        "gradient_times_input": times_input,
        "integrated_gradients": integrated_gradients(
            asked, baseline=mean, n_steps=INTEGRATION_STEPS
        ),
        "smoothgrad": smoothgrad(asked, seed=material.seed),
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
    # A group that spans a small cap would tell nothing of where.
    neighbors = max(1, min(NEIGHBORS, len(material.ch_names) // 4))
    groups = channel_groups(material.positions, len(material.ch_names), neighbors)
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
    """Quadratic mean over each level's heads, what is negative counted as zero."""
    return {
        level: np.sqrt(np.mean([np.maximum(maps[h], 0) ** 2 for h in names], axis=0))
        for level, names in levels_of(heads).items()
    }


def _pattern(trials: Any, said: np.ndarray, **options: Any) -> Pattern:
    """A pattern, or one of zeros where there are too few trials to regress on."""
    if len(said) > 1:
        return activation_pattern(trials, said, **options)
    zero = np.zeros(np.shape(trials)[1:])
    return Pattern(zero, zero, 0.0, 1.0, len(said))


def _outputs(material: Material, encoder: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
    import torch

    parts: dict[str, list[np.ndarray]] = {head: [] for head in material.heads}
    with torch.inference_mode():
        for batch in material.batches(ids):
            said = encoder(batch.eeg, material.positions_tensor, batch.subject)
            for head in material.heads:
                parts[head].append(torch.nn.functional.normalize(said[head], dim=1).cpu().numpy())
    return {head: np.concatenate(rows) for head, rows in parts.items()}


def _corrected(p: dict[str, float]) -> dict[str, float]:
    return dict(zip(p, holm(np.array(list(p.values()))).tolist()))


def _halves(known: Patterns, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return (
        trust.halves(known.units, seed)
        if len(known.ids) > 1
        else (np.array([0]), np.array([], int))
    )


def _spread(n: int, at_most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(int))
