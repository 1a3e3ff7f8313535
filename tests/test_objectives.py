"""Contrastive and other objectives: properties, and loops that compute the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eegprompt.core.errors import InputError
from eegprompt.core.registry import names, resolve
from eegprompt.training.objectives import ClipObjective, MseObjective, SiglipObjective, soft_targets

OBJECTIVES = [resolve("objective", name)[0] for name in names("objective")]


def unit(n, d=8, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return torch.tensor(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def same(labels):
    labels = torch.tensor(labels)
    return labels[:, None] == labels[None, :]


def one(objective, eeg, captions, positives):
    return objective({"A": eeg}, {"A": captions}, {"A": positives})[0]


def by_loops(eeg, captions, positives, scale, smoothing):
    """Symmetric multi-positive InfoNCE, written out pair by pair."""
    n = len(eeg)
    logit = [[scale * float(eeg[i] @ captions[j]) for j in range(n)] for i in range(n)]
    total = 0.0
    for i in range(n):
        right = [j for j in range(n) if positives[i][j]]
        for rows in (logit[i], [logit[k][i] for k in range(n)]):  # captions, then trials
            norm = math.log(sum(math.exp(value) for value in rows))
            for j in range(n):
                target = smoothing / n + (1 - smoothing) * (j in right) / len(right)
                total -= target * (rows[j] - norm)
    return total / (2 * n)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_clip_equals_loops(smoothing):
    eeg, captions = unit(7), unit(7, seed=1)
    positives = same([0, 1, 1, 2, 0, 3, 3])
    objective = ClipObjective(["A"], smoothing, temperature=0.2).double()
    expected = by_loops(eeg, captions, positives.tolist(), 5.0, smoothing)
    assert one(objective, 3 * eeg, captions, positives).item() == pytest.approx(expected)


def test_siglip_equals_loops():
    eeg, captions, positives = unit(5), unit(5, seed=1), same([0, 1, 1, 2, 0])
    objective = SiglipObjective(["A"], 0.1).double()
    total = 0.0
    for i in range(5):
        for j in range(5):
            logit = 10 * float(eeg[i] @ captions[j]) - 10
            label = 0.95 if positives[i, j] else 0.05
            odds = 1 / (1 + math.exp(-logit))
            total -= label * math.log(odds) + (1 - label) * math.log(1 - odds)
    assert one(objective, eeg, captions, positives).item() == pytest.approx(total / 5)


def test_mse_is_twice_one_minus_cosine():
    eeg, captions = unit(6), unit(6, seed=1)
    loss = one(MseObjective(["A"]), 2 * eeg, captions, torch.eye(6, dtype=torch.bool))
    assert loss.item() == pytest.approx(float((2 - 2 * (eeg * captions).sum(1)).mean()))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_least_at_alignment(objective):
    captions = torch.eye(6, 8, dtype=torch.float64)
    right = torch.eye(6, dtype=torch.bool)
    loss = objective(["A"], 0.0).double()
    aligned = one(loss, captions, captions, right)
    for seed in range(5):
        assert aligned < one(loss, captions + 0.3 * unit(6, seed=seed), captions, right)


def test_sharp_alignment_of_distinct_captions_costs_nothing():
    captions = torch.eye(6, 8, dtype=torch.float64)
    loss = ClipObjective(["A"], 0.0, temperature=0.01).double()
    assert one(loss, captions, captions, torch.eye(6, dtype=torch.bool)).item() < 1e-6


def test_duplicates_have_the_gradient_of_averaged_targets():
    """Identical captions: plain InfoNCE on the diagonal and the multi-positive form agree."""
    labels = [0, 0, 1, 1, 2, 2]
    captions = unit(3, seed=2)[labels]
    gradients = []
    for positives in (same(labels), torch.eye(6, dtype=torch.bool)):
        eeg = unit(3)[labels].requires_grad_()
        # duplicates in both directions, as when one image is shown twice and embedded the same
        one(ClipObjective(["A"]).double(), eeg, captions, positives).backward()
        gradients.append(eeg.grad)
    torch.testing.assert_close(*gradients)


def test_caption_side_duplicates_alone():
    """Trials differ, captions are duplicates: the trial-to-caption direction still agrees."""
    labels = [0, 0, 1, 1, 2, 2]
    captions = unit(3, seed=2)[labels]
    results = []
    for positives in (same(labels), torch.eye(6, dtype=torch.bool)):
        eeg = unit(6).requires_grad_()
        logits = 10 * eeg @ captions.T
        (-(soft_targets(positives).double() * logits.log_softmax(1)).sum(1).mean()).backward()
        results.append(eeg.grad)
    torch.testing.assert_close(*results)


def test_positives_pull_together():
    captions = unit(4, seed=3)
    eeg = unit(4)
    linked = same([0, 0, 1, 2])
    eeg.requires_grad_()
    one(ClipObjective(["A"]).double(), eeg, captions, linked).backward()
    with_link = eeg.grad.clone()
    eeg.grad = None
    one(ClipObjective(["A"]).double(), eeg, captions, torch.eye(4, dtype=torch.bool)).backward()
    pull = (with_link - eeg.grad)[0] @ captions[1]
    assert pull < 0  # a step against the gradient brings trial 0 nearer to caption 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_heads_are_averaged_and_order_of_trials_does_not_matter(objective):
    heads = ["A", "B"]
    eeg = {h: unit(6, seed=i) for i, h in enumerate(heads)}
    captions = {h: unit(6, seed=i + 5) for i, h in enumerate(heads)}
    positives = dict.fromkeys(heads, same([0, 0, 1, 2, 3, 4]))
    module = objective(heads, 0.1).double()
    loss, each = module(eeg, captions, positives)
    assert loss.item() == pytest.approx(np.mean([each[h].item() for h in heads]))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled, _ = module(
        {h: e[order] for h, e in eeg.items()},
        {h: c[order] for h, c in captions.items()},
        {h: p[order][:, order] for h, p in positives.items()},
    )
    assert shuffled.item() == pytest.approx(loss.item())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_scales_are_positive_one_a_head(objective):
    scales = objective(["A", "B"], 0.1).scales
    assert list(scales) == ["A", "B"] and all(s > 0 for s in scales.values())


def test_temperature_learns():
    module = ClipObjective(["A", "B"])
    aligned = {h: unit(6).float() for h in "AB"}
    loss, _ = module(aligned, aligned, dict.fromkeys("AB", torch.eye(6, dtype=torch.bool)))
    loss.backward()
    assert (module.log_scale.grad != 0).all()


def test_soft_targets_sum_to_one():
    targets = soft_targets(same([0, 0, 1, 2]), 0.2)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert targets[0, 0] == targets[0, 1] > targets[0, 2] > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClipObjective([]),
        lambda: ClipObjective(["A"], 1.0),
        lambda: ClipObjective(["A"], temperature=0),
    ],
)
def test_refuses(make):
    with pytest.raises(InputError):
        make()
