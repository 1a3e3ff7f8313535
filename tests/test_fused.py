"""The fused encoder: its convex branches, what they are chosen by, and how they are added."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from eegprompt.encoders.branches import BinnedBranch, CovarianceBranch, Evoked, symmetric_log
from eegprompt.encoders.fused import FusedEncoder
from eegprompt.encoders.readout import Reduced, Targets, best_scale, best_scales, choose

HEAD = "ObjectSnap"


def planted(n=120, n_chans=6, n_times=60, n_classes=3, seed=0, signal=1.0):
    """Single trials with a class's pattern at its own time, in correlated noise."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(7)
    label = np.arange(n) % n_classes
    patterns = fixed.normal(size=(n_classes, n_chans, 1)) * np.exp(
        -0.5 * ((np.arange(n_times) - fixed.uniform(15, 45, (n_classes, 1, 1))) / 5) ** 2
    )
    mixing = np.eye(n_chans) + 0.3 * fixed.normal(size=(n_chans, n_chans))
    noise = mixing @ rng.normal(size=(n, n_chans, n_times))
    return torch.from_numpy((noise + signal * patterns[label]).astype(np.float32)), label


def texts(n_classes=3, dim=16, seed=3):
    rows = np.random.default_rng(seed).normal(size=(n_classes, dim)) + 2
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def places(n_chans=6):
    rows = np.random.default_rng(1).normal(size=(n_chans, 3))
    return torch.tensor(0.09 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()


def make(n_classes=3, **options):
    torch.manual_seed(0)
    return FusedEncoder(
        heads=[HEAD], embedding_dim=16, n_chans=6, n_times=60, sfreq=100.0, tmin=-0.1,
        n_filters=6, width=8, hidden=8, **options,
    ).eval()  # fmt: skip


def prepared(signal=1.0, seed=0, fuse=True):
    encoder = make()
    eeg, label = planted(signal=signal, seed=seed)
    targets = {HEAD: Targets(label, texts())}
    encoder.prepare(lambda: iter(eeg.split(50)), places(), label, targets, np.arange(len(eeg)) % 5)
    if fuse:
        new, true = planted(60, signal=signal, seed=seed + 1)
        encoder.fuse(
            [(new, torch.full((60,), -1))],
            places(),
            {HEAD: Targets(true, texts())},
            {HEAD: texts()},
        )
    return encoder


# -- branches --------------------------------------------------------------------------------------
def test_symmetric_log_inverts_the_exponential_and_its_gradient_is_right():
    matrices = torch.randn(3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spd = torch.matrix_exp((matrices + matrices.mT) / 2)
    torch.testing.assert_close(symmetric_log(spd), (matrices + matrices.mT) / 2)
    spd = spd.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: symmetric_log((x + x.mT) / 2), spd)


def test_symmetric_log_has_a_gradient_where_eigenvalues_are_equal():
    x = torch.eye(4).requires_grad_()
    symmetric_log(x[None]).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(4, 4))


def test_sums_of_folds_are_sums_of_trials():
    eeg, label = planted(30)
    shown = torch.from_numpy(label)
    whole = Evoked.of(eeg, shown, 3)
    part = Evoked.of(eeg[:10], shown[:10], 3)
    rest = whole - part
    again = Evoked.of(eeg[10:], shown[10:], 3)
    for a, b in ((rest.counts, again.counts), (rest.sums, again.sums), (rest.moment, again.moment)):
        torch.testing.assert_close(a, b)


def test_whitening_by_sums_is_that_of_the_preprocessing():
    from eegprompt.encoders.preprocessing import FittedSteps

    eeg, _ = planted(400)
    steps = FittedSteps.fit(["whiten"], eeg.numpy(), np.arange(400))
    centered = eeg - eeg.mean(dim=(0, 2), keepdim=True)
    evoked = Evoked.of(centered, torch.zeros(400, dtype=torch.long), 1)
    np.testing.assert_allclose(evoked.whitening(1.0).numpy(), steps.matrix, rtol=0.02, atol=0.01)
    torch.testing.assert_close(evoked.whitening(0.0), torch.eye(6, dtype=torch.float64))


def test_unit_amplitude_forgets_a_trials_gain_and_is_finite_for_silence():
    branch = BinnedBranch(6, 60, 100.0, unit_amplitude=True)
    eeg, _ = planted(4)
    torch.testing.assert_close(branch(eeg), branch(7 * eeg), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(branch(0 * eeg)).all()


def test_covariances_tell_classes_apart_and_have_gradients_at_silence():
    eeg, label = planted(200)
    branch = CovarianceBranch(6, 60, filters=4, templates=2)
    branch.fit(Evoked.of(eeg, torch.from_numpy(label), 3))
    branch.center(branch.covariances(eeg).mean(dim=0).double())
    features = branch(eeg)
    assert features.shape == (200, branch.n_features)
    # At the reference the tangent vectors are about zero on average.
    assert features.mean(dim=0).abs().mean() < 0.5 * features.std(dim=0).mean()
    silence = torch.zeros(1, 6, 60, requires_grad=True)
    branch(silence).sum().backward()
    assert torch.isfinite(silence.grad).all()


# -- read-outs -------------------------------------------------------------------------------------
def test_directions_carry_a_score_to_its_own_caption():
    targets = Targets(np.arange(3), texts())
    products = targets.directions() @ targets.bank.T
    products -= products.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(products, np.eye(3) - 1 / 3, atol=0.02)


def test_weights_forget_how_often_a_thing_was_shown():
    targets = Targets(np.array([0, 0, 0, 1]), texts(2))
    np.testing.assert_allclose(targets.weights, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


@pytest.mark.parametrize("closed", [True, False])
def test_penalty_is_chosen_by_trials_left_out(closed):
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    useful = 2 * np.eye(3)[label] + rng.normal(size=(90, 3))
    features = np.hstack([useful, rng.normal(size=(90, 300))])
    targets = Targets(label, texts(), closed)
    fold = np.arange(90) // 3 % 5
    parts = [
        (np.flatnonzero(fold != f), Reduced(features[fold != f]), np.flatnonzero(fold == f),
         features[fold == f])
        for f in (*range(5), -1)
    ]  # fmt: skip
    chosen = choose(targets, parts)
    new = np.hstack([2 * np.eye(3)[label] + rng.normal(size=(90, 3)), rng.normal(size=(90, 300))])
    said = (new @ chosen.weight + chosen.bias) @ targets.bank.T
    assert (said.argmax(axis=1) == label).mean() > 0.45
    noise = rng.normal(size=(90, 300))
    none = choose(targets, [(a, Reduced(noise[a]), b, noise[b]) for a, _, b, _ in parts])
    assert none.loss > np.log(3) - 0.03 > chosen.loss


def test_scale_of_what_knows_nothing_is_about_zero():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 600)
    knows = 1.5 * np.eye(3)[target] + rng.normal(size=(600, 3))
    weights = np.ones(600)
    none, loss = best_scale(rng.normal(size=(600, 3)), target, weights)
    assert none < 0.1 and abs(loss - np.log(3)) < 0.01
    a, b = best_scales(knows, rng.normal(size=(600, 3)), target, weights)
    assert a > 0.5 and b < 0.2
    a, b = best_scales(rng.normal(size=(600, 3)), knows, target, weights)
    assert b > 0.5 and a < 0.1
    few = slice(0, 3)
    _, b = best_scales(knows[few], knows[few], target[few], weights[few])
    assert 0.1 < b < 5  # a few trials cannot move it far


# -- the encoder -----------------------------------------------------------------------------------
def test_branches_decode_without_a_trained_network_and_nothing_is_at_chance():
    new, label = planted(300, seed=9)
    for signal, low, high in ((1.0, 0.75, 1.0), (0.0, 0.2, 0.47)):
        encoder = prepared(signal=signal)
        seen = new if signal else planted(300, seed=9, signal=0.0)[0]
        with torch.no_grad():
            said = encoder(seen, places())[HEAD].numpy() @ texts().T
        assert low <= (said.argmax(axis=1) == label).mean() <= high


def test_network_speaks_alone_before_fusing_and_in_training():
    encoder = prepared(fuse=False)
    eeg, _ = planted(4)
    inside, there = encoder._enter(eeg, places())
    torch.testing.assert_close(encoder(eeg, places())[HEAD], encoder.network(inside, there)[HEAD])
    encoder = prepared()
    alone = encoder.network(encoder._enter(eeg, places())[0], places())[HEAD]
    assert not torch.allclose(encoder(eeg, places())[HEAD], alone)


def test_cosines_keep_how_sure_an_answer_is():
    encoder = prepared()
    eeg, _ = planted(60, seed=4)
    with torch.no_grad():
        said = torch.nn.functional.normalize(encoder(eeg, places())[HEAD], dim=1).numpy()
    margin = said @ (texts()[1] - texts()[0])
    assert margin.std() > 0.2 * np.abs(margin).max()
    lengths = encoder(eeg, places())[HEAD].norm(dim=1)
    assert (lengths.std() / lengths.mean()) < 0.3


def test_trials_do_not_see_each_other_and_subjects_may_be_unknown():
    encoder = prepared()
    eeg, _ = planted(5)
    with torch.no_grad():
        together = encoder(eeg, places())[HEAD]
        alone = torch.cat([encoder(eeg[i : i + 1], places())[HEAD] for i in range(5)])
        stranger = encoder(eeg, places(), torch.full((5,), -1))[HEAD]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, stranger)


def test_order_of_channels_and_other_caps():
    encoder = prepared()
    eeg, _ = planted(5)
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    with torch.no_grad():
        a = encoder(eeg, places())[HEAD]
        b = encoder(eeg[:, order], places()[order])[HEAD]
        other = encoder(torch.randn(2, 19, 60), places(19))[HEAD]
    assert torch.nn.functional.cosine_similarity(a, b).min() > 0.99
    assert torch.isfinite(other).all()


def test_weights_and_config_make_the_same_encoder():
    encoder = prepared()
    again = FusedEncoder(**json.loads(json.dumps(encoder.config))).eval()
    again.load_state_dict(encoder.state_dict())
    eeg, _ = planted(3)
    torch.testing.assert_close(again(eeg, places())[HEAD], encoder(eeg, places())[HEAD])


def test_gradients_reach_the_eeg_also_at_silence():
    encoder = prepared()
    for eeg in (planted(2)[0], torch.zeros(2, 6, 60)):
        eeg = eeg.requires_grad_()
        encoder(eeg, places())[HEAD].sum().backward()
        assert torch.isfinite(eeg.grad).all() and eeg.grad.abs().sum() > 0
