"""Attributions, patterns and what they must survive, against references and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from eegprompt.analyses import _temporal_decoding as temporal
from eegprompt.attribution import (
    clusters,
    gradients,
    localization,
    occlusion,
    partners,
    patterns,
    rollout,
)
from eegprompt.attribution import sanity as trust
from eegprompt.attribution.question import Question
from eegprompt.core.errors import InputError

N, CHANS, TIMES, DIMS = 48, 6, 20, 8


class TwoHeads(nn.Module):
    """A small nonlinear encoder with two heads, dropout and no positions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.drop = nn.Dropout(0.5)
        self.first = nn.Linear(CHANS * TIMES, 16)
        self.heads = nn.ModuleDict({name: nn.Linear(16, DIMS) for name in ("a", "b")})

    def forward(self, eeg):
        hidden = torch.tanh(self.first(self.drop(eeg.flatten(1))))
        return {name: head(hidden) for name, head in self.heads.items()}


@pytest.fixture
def encoder():
    return TwoHeads().train()


@pytest.fixture
def trials():
    return np.random.default_rng(0).standard_normal((N, CHANS, TIMES)).astype(np.float32)


@pytest.fixture
def captions():
    rng = np.random.default_rng(1)
    return {h: rng.standard_normal((5, DIMS))[rng.integers(0, 5, N)] for h in ("a", "b")}


def loss_of(encoder, captions, head):
    """The contrastive loss written out anew, for captum."""
    _, first, right = np.unique(
        captions[head].round(5), axis=0, return_index=True, return_inverse=True
    )
    distinct = captions[head][first]
    unit = nn.functional.normalize(torch.tensor(distinct, dtype=torch.float32), dim=1)

    def loss(eeg, which):
        out = nn.functional.normalize(encoder(eeg)[head], dim=1) @ unit.T / 0.07
        return nn.functional.cross_entropy(
            out, torch.tensor(right.ravel())[which], reduction="none"
        )

    return loss


# -- gradients -------------------------------------------------------------------------------------
def test_gradients_are_captums(encoder, trials, captions):
    from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency

    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    asked = Question.of(encoder, trials, captions)
    found = gradients.saliency(asked, batch_size=7)
    times_input = gradients.gradient_times_input(asked, batch_size=7)
    base = torch.from_numpy(trials.mean(0))
    path = gradients.integrated_gradients(asked, n_steps=9, batch_size=7)
    still = gradients.smoothgrad(asked, noise=0.0, n_samples=3)
    assert encoder.training, "the mode is given back"
    assert all(torch.equal(v, state[k]) for k, v in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())
    encoder.eval()
    eeg, which = torch.from_numpy(trials).requires_grad_(), torch.arange(N)
    for head in captions:
        loss = loss_of(encoder, captions, head)
        kw = {"additional_forward_args": which}
        expected = Saliency(loss).attribute(eeg, abs=False, **kw)
        np.testing.assert_allclose(found[head].signed, expected.mean(0), atol=1e-6)
        np.testing.assert_allclose(found[head].magnitude, expected.abs().mean(0), atol=1e-6)
        product = InputXGradient(loss).attribute(eeg, **kw).detach()
        np.testing.assert_allclose(times_input[head].signed, product.mean(0), atol=1e-6)
        values, delta = IntegratedGradients(loss).attribute(
            eeg, base.expand_as(eeg), n_steps=9, return_convergence_delta=True, **kw
        )
        values = values.detach()
        np.testing.assert_allclose(path[head].signed, values.mean(0), atol=1e-6)
        np.testing.assert_allclose(path[head].magnitude, values.abs().mean(0), atol=1e-6)
        missed = delta.abs().sum() / values.sum((1, 2)).abs().sum()
        assert path[head].error == pytest.approx(missed.item(), abs=1e-6)
        smooth = NoiseTunnel(Saliency(loss)).attribute(
            eeg, nt_samples=3, stdevs=0.0, abs=False, additional_forward_args=which
        )
        np.testing.assert_allclose(still[head].signed, smooth.detach().mean(0), atol=1e-6)


def test_integrated_gradients_are_complete_and_by_hand_where_known(encoder, trials, captions):
    base = trials.mean(0)
    found = gradients.integrated_gradients(Question.of(encoder, trials, captions), n_steps=40)
    encoder.eval()
    for head in captions:
        loss = loss_of(encoder, captions, head)
        change = loss(torch.tensor(trials), torch.arange(N)) - loss(
            torch.tensor(base).expand(N, -1, -1), torch.arange(N)
        )
        assert found[head].error < 0.01
        assert found[head].signed.sum() == pytest.approx(change.mean().item(), rel=0.01)
    assert (
        gradients.integrated_gradients(Question.of(encoder, trials, captions), n_steps=1)["a"].error
        > 0.01
    )


def test_smoothgrad_without_noise_is_the_gradient(encoder, trials, captions):
    plain = gradients.saliency(Question.of(encoder, trials, captions))["b"].magnitude
    still = gradients.smoothgrad(Question.of(encoder, trials, captions), noise=0.0, n_samples=3)[
        "b"
    ].magnitude
    np.testing.assert_allclose(still, plain, rtol=1e-4, atol=1e-6)
    one, two = (
        gradients.smoothgrad(Question.of(encoder, trials, captions), seed=3)["b"] for _ in range(2)
    )
    np.testing.assert_array_equal(one.magnitude, two.magnitude)
    assert not np.allclose(one.magnitude, plain, rtol=1e-3)


def test_any_module_and_one_trial(trials, captions):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(CHANS * TIMES, DIMS))
    found = gradients.saliency(Question.of(module, torch.from_numpy(trials), captions["a"]))
    assert found["output"].magnitude.shape == (CHANS, TIMES)
    alone = gradients.saliency(Question.of(module, trials[:1], captions["a"][:1]))["output"]
    assert not alone.magnitude.any(), "with nothing to contrast with, nothing matters"
    beside = gradients.saliency(
        Question.of(module, trials[:1], captions["a"][:1], candidates={"output": captions["a"]})
    )
    assert beside["output"].magnitude.any()
    with pytest.raises(InputError, match=r"trials\[None\]"):
        Question.of(module, trials[0], captions["a"][:1])
    with pytest.raises(InputError, match="one row a trial"):
        Question.of(module, trials, captions["a"][:3])
    with pytest.raises(InputError, match="no head a"):
        gradients.saliency(Question.of(module, trials, captions))


# -- occlusion and rollout -------------------------------------------------------------------------
class OneChannelOneMoment(nn.Module):
    """Says the sign of channel 2 at samples 8 to 11, and nothing else."""

    def forward(self, eeg):
        value = eeg[:, 2, 8:12].mean(1)
        return torch.stack([value, -value], 1)


def signed_task():
    rng = np.random.default_rng(0)
    side = np.repeat([1.0, -1.0], N // 2)
    eeg = 0.3 * rng.standard_normal((N, CHANS, TIMES))
    eeg[:, 2, 8:12] += side[:, None]
    return eeg.astype(np.float32), np.stack([side, -side], 1)


def test_occlusion_finds_the_channel_and_the_moment():
    eeg, said = signed_task()
    asked = Question.of(OneChannelOneMoment(), eeg, said)
    rise = occlusion.channel_occlusion(asked)["output"]
    assert rise.argmax() == 2 and rise[2] > 0.3
    assert not np.delete(rise, 2).any()
    centers, when = occlusion.window_occlusion(asked, width=4)
    assert centers[when["output"].argmax()] == 9.5
    assert when["output"][np.abs(centers - 9.5) >= 4].max() == 0
    groups = occlusion.channel_groups(
        np.random.default_rng(0).standard_normal((CHANS, 3)), CHANS, 3
    )
    assert (groups.sum(1) == 3).all() and groups.diagonal().all()
    nowhere = occlusion.channel_groups(np.full((CHANS, 3), np.nan), CHANS, 3)
    np.testing.assert_array_equal(nowhere, np.eye(CHANS, dtype=bool))
    with pytest.raises(InputError, match="width"):
        occlusion.window_occlusion(asked, width=99)


class Filtered(nn.Module):
    """Two filters, each of one channel; the head listens to the second."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Identity()
        self.scale = nn.Parameter(torch.ones(1))

    def spatial_attention(self, positions, subject=None):
        filters = torch.zeros(2, CHANS)
        filters[0, 1], filters[1, 2] = 1.0, -1.0
        return filters

    def forward(self, eeg, positions, subject=None):
        signals = self.stem(self.spatial_attention(positions) @ eeg) * self.scale
        value = signals[:, 1, 8:12].mean(1)
        return {"a": torch.stack([-value, value], 1)}


def test_rollout_looks_where_the_head_listens():
    eeg, said = signed_task()
    asked = Question.of(
        Filtered(), eeg, {"a": said}, positions=np.zeros((CHANS, 3)), subject=np.zeros(N, int)
    )
    share = rollout.attention_rollout(asked, filters=asked.encoder)["a"]
    assert share.argmax() == 2 and share.sum() == pytest.approx(1) and share[1] == 0
    assert not isinstance(OneChannelOneMoment(), rollout.SpatialFilters)


# -- patterns --------------------------------------------------------------------------------------
def test_pattern_of_a_planted_linear_model_has_its_closed_form():
    rng = np.random.default_rng(0)
    n = 4000
    source = rng.standard_normal(n)
    where, when = rng.standard_normal(CHANS), np.exp(-((np.arange(TIMES) - 9) ** 2) / 8)
    # noise that a filter would use: channel 5 carries no signal and channel 0's noise
    noise = rng.standard_normal((n, CHANS, TIMES))
    where[5], noise[:, 5] = 0.0, noise[:, 0]
    eeg = source[:, None, None] * where[:, None] * when + noise
    found = patterns.activation_pattern(eeg, 3 * source[:, None] + 7, n_permutations=40)
    expected = np.abs(where[:, None] * when)
    assert np.abs(found.amplitude - expected).max() < 0.08
    assert patterns.peak(found.amplitude, np.arange(TIMES) / 100) == pytest.approx(0.09)
    assert found.p == pytest.approx(1 / 41) and found.z.max() > found.threshold
    assert found.z[5].max() < found.threshold, "a channel of noise has no pattern"
    # the exact regression coefficient of one dimension, with groups and batches
    plain = patterns.activation_pattern(eeg, source[:, None], n_permutations=0, batch_size=333)
    slope = (
        np.einsum("n,nct->ct", source - source.mean(), eeg - eeg.mean(0)) / (n - 1) / source.std()
    )
    assert np.isnan(plain.z).all()
    np.testing.assert_allclose(plain.amplitude[:, 9], np.abs(slope[:, 9]), atol=0.03)
    grouped = patterns.activation_pattern(
        eeg, source[:, None], groups=np.repeat(["x", "y"], n // 2), n_permutations=0
    )
    assert np.abs(grouped.amplitude - expected).max() < 0.1


def test_pattern_of_nothing_is_chance_in_the_stated_share_of_cases():
    rng = np.random.default_rng(0)
    p = [
        patterns.activation_pattern(
            rng.standard_normal((40, 3, 5)), rng.standard_normal((40, 4)), n_permutations=39, seed=i
        ).p
        for i in range(60)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.15 and 0.3 < np.mean(p) < 0.7
    none = patterns.activation_pattern(rng.standard_normal((40, 3, 5)), np.ones((40, 4)))
    assert none.p == 1 and not none.amplitude.any() and not none.z.any()
    with pytest.raises(InputError, match="at least two"):
        patterns.activation_pattern(np.zeros((1, 3, 5)), np.ones((1, 4)))


def test_partners_share_no_noise():
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(200), 2)
    meaning = rng.standard_normal(200)[image]
    artifact = 5 * rng.standard_normal(400)
    eeg = np.zeros((400, 2, 3))
    eeg[:, 0] = (meaning + rng.standard_normal(400))[:, None]
    eeg[:, 1] = artifact[:, None]
    said = (meaning + artifact)[:, None]  # a decoder that lets an artifact through
    own = patterns.activation_pattern(eeg, said, n_permutations=0).amplitude[:, 0]
    rows, others = patterns.partner_outputs(said, image)
    shared = patterns.activation_pattern(eeg[rows], others, n_permutations=0).amplitude[:, 0]
    assert own[1] > own[0] and shared[0] > 0 and shared[1] < 0.15 * own[1]
    rows, others = patterns.partner_outputs(said[:5], ["a", "b", "a", "c", "a"])
    np.testing.assert_array_equal(rows, [0, 2, 4])
    assert others[0, 0] == pytest.approx((said[2, 0] + said[4, 0]) / 2)


def test_regressing_another_output_out_leaves_what_is_its_own():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 500))
    left = patterns.without((a + b)[:, None], b[:, None], ridge=0.0)[:, 0]
    assert abs(np.corrcoef(left, b)[0, 1]) < 1e-8 and np.corrcoef(left, a)[0, 1] > 0.99


# -- trust -----------------------------------------------------------------------------------------
def test_information_is_found_where_it_is_and_not_where_it_is_not():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(30), 2)
    captions = rng.standard_normal((30, 5))[units]
    said = captions + 2 * rng.standard_normal((60, 5))
    real = trust.caption_information(said, captions, units, n_permutations=199)
    assert real.p == 0.005 and real.accuracy > 0.65 and real.n_units == 30
    p = [
        trust.caption_information(
            rng.standard_normal((60, 5)), captions, units, n_permutations=99, seed=i
        ).p
        for i in range(40)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.2 and 0.3 < np.mean(p) < 0.7
    same = trust.caption_information(said, np.ones((60, 5)), units)
    assert np.isnan(same.p) and same.accuracy == 0.5
    constant = trust.caption_information(np.ones((60, 5)), captions, units, n_permutations=99)
    assert constant.accuracy == pytest.approx(0.5) and constant.p > 0.9


def test_shuffled_weights_keep_their_scale_and_leave_the_encoder_alone(encoder):
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    other = trust.shuffled_weights(encoder, 1)
    for name, value in other.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], before[name])
        assert not torch.equal(value, before[name])
        assert torch.equal(value.flatten().sort()[0], before[name].flatten().sort()[0])


def test_deletion_and_insertion_reward_the_right_order():
    eeg, said = signed_task()
    right = np.array([0, 0, 1.0, 0, 0, 0])
    wrong = -right
    kw = {"fractions": (0, 1 / 6, 0.5, 1), "n_random": 5}
    found = occlusion.deletion_insertion(
        Question.of(OneChannelOneMoment(), eeg, said),
        {"right": {"output": right}, "wrong": {"output": wrong}}, **kw,
    )  # fmt: skip
    curves = found["right"]["output"]
    assert curves.gain > 0.2 > 0 > found["wrong"]["output"].gain
    assert curves.deletion[0] == curves.insertion[-1] < curves.deletion[-1]
    assert curves.deletion[1] == pytest.approx(curves.deletion[-1])


def test_halves_share_no_image_and_similarity_is_of_energies():
    units = np.repeat(list("abcdefg"), 3)
    one, other = trust.halves(units)
    assert not set(units[one]) & set(units[other]) and len(one) + len(other) == 21
    x, y = np.random.default_rng(0).standard_normal((2, 40))
    assert trust.similarity(x, y) == pytest.approx(
        np.corrcoef(x.clip(0) ** 2, y.clip(0) ** 2)[0, 1]
    )
    assert trust.reliability(x, y + 2 * x) > trust.similarity(x, y + 2 * x) > 0.5
    assert np.isnan(trust.similarity(x, np.ones(40)))


# -- localization and partners ---------------------------------------------------------------------
def test_localization_against_truth():
    rng = np.random.default_rng(0)
    planted = rng.random((30, 5))
    found = planted + rng.standard_normal((30, 5))
    score = np.sqrt((np.maximum(found, 0) ** 2).mean(1))
    truth = np.sqrt((planted**2).mean(1))
    expected = roc_auc_score(truth >= truth.max() / 2, score)
    assert localization.localization_auc(found, planted) == pytest.approx(expected)
    assert np.isnan(localization.localization_auc(found, np.ones((30, 5))))
    times = np.arange(100) / 100
    bump = np.exp(-((times - 0.3) ** 2) / 0.002)[None] * np.ones((4, 1))
    assert localization.latency_error(np.roll(bump, 4, axis=1), bump, times) == pytest.approx(40)
    assert localization.window(times, 0.3).sum() == 5
    evoked = np.zeros((2, 40, 3, 4))
    said = rng.standard_normal((40, 1))
    evoked[0, :, 1, 2] = 2 * said[:, 0]
    evoked[1, :, 1, 2] = -2 * said[:, 0]  # another subject's dipole may be turned around
    truth_map = localization.planted_map(evoked, said)
    assert (
        truth_map[1, 2] == pytest.approx(2 * said.std(ddof=1)) and np.count_nonzero(truth_map) == 1
    )
    levels = {"low": planted, "high": planted[::-1]}
    assert localization.level_separation(levels, levels) == {"low": "low", "high": "high"}


def test_a_peak_on_a_related_partner_is_named_and_no_other():
    rng = np.random.default_rng(0)
    times = np.arange(60) / 100
    units = np.arange(80)
    a, c = rng.standard_normal((2, 80, 4))
    captions = {"place": a, "story": a + 0.7 * rng.standard_normal((80, 4)), "angle": c}
    where = rng.random(12)

    def bump(at, size, channels):
        return size * channels[:, None] * np.exp(-((times - at) ** 2) / 0.001)

    maps = {
        "place": bump(0.2, 2, where), "story": bump(0.21, 1, where), "angle": bump(0.2, 3, where),
    }  # fmt: skip
    names = list(maps)
    relations = {
        (x, y): partners.caption_relation(captions[x], captions[y], units)
        for i, x in enumerate(names)
        for y in names[i + 1 :]
    }
    found = partners.shared_peaks(maps, times, relations)
    assert [(s.head, s.partner) for s in found] == [("story", "place")]
    maps["story"] = bump(0.4, 1, where)
    assert partners.shared_peaks(maps, times, relations) == []
    assert partners.caption_relation(a, np.ones((80, 2)), units) == (0.0, 1.0)


# -- when ------------------------------------------------------------------------------------------
def planted_in_time(n=240, at=12, seed=0):
    rng = np.random.default_rng(seed)
    said = rng.standard_normal((30, 3))[np.arange(n) % 30]
    mixing = np.random.default_rng(7).standard_normal((3, CHANS))
    eeg = rng.standard_normal((n, CHANS, 24))
    eeg[:, :, at : at + 4] += 1.5 * (said @ mixing)[:, :, None]
    return eeg, said, np.arange(n) % 30


def test_temporal_decoding_finds_when_and_generalizes_only_there():
    train, said, _ = planted_in_time()
    test, true, units = planted_in_time(seed=1)
    true[:] = test_said = said  # the same images: meanings are shared, noise is not
    rng = np.random.default_rng(2)
    test = rng.standard_normal(test.shape)
    test[:, :, 12:16] += 1.5 * (
        test_said @ np.random.default_rng(7).standard_normal((3, CHANS))
    )[:, :, None]  # fmt: skip
    centers, x = temporal.window_means(train, width=2, step=2)
    _, y = temporal.window_means(test, width=2, step=2)
    np.testing.assert_allclose(x[3], train[:, :, 6:8].mean(2), atol=1e-5)
    nothing = rng.standard_normal(said.shape)[units]
    both = {"a": said, "b": nothing}
    scores, squares = temporal.temporal_decoding(x, both, y, both)
    course = scores["a"].mean(1)
    inside = (centers > 12) & (centers < 16)
    assert course[inside].min() > 0.8 and np.abs(course[~inside] - 0.5).max() < 0.08
    square = squares["a"]
    thin, thinned = temporal.temporal_decoding(x, both, y, both, every=2)
    np.testing.assert_array_equal(thin["a"], scores["a"])
    np.testing.assert_array_equal(thinned["a"], square[::2, ::2])
    np.testing.assert_allclose(square.diagonal(), course)
    assert square[np.ix_(inside, inside)].min() > 0.8
    assert abs(square[np.ix_(inside, ~inside)] - 0.5).max() < 0.1
    per_unit = temporal.unit_means(scores["a"], units)
    windows, p = temporal.above_chance(per_unit)
    np.testing.assert_array_equal(windows, inside)
    assert p < 0.01
    assert not temporal.above_chance(temporal.unit_means(scores["b"], units))[0].any()
    found = temporal.onset(per_unit, centers)
    assert 10.5 <= found.lo <= found.time <= found.hi <= 12.5 <= found.peak <= 14.5
    assert np.isnan(temporal.onset(np.full((9, 5), 0.5), np.arange(5)).time)
    same = temporal.temporal_decoding(x, {"a": said * 0}, y, {"a": said * 0})[0]["a"]
    assert (same == 0.5).all()


def test_ridge_is_sklearns_at_its_penalty():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 7)) @ rng.standard_normal((7, 7))
    y = x @ rng.standard_normal((7, 2)) + rng.standard_normal((100, 2))
    ours = temporal._ridge(x, y).weights
    centered = x - x.mean(0)
    mean = (centered**2).sum(0).mean()
    fits = [Ridge(alpha=r * mean).fit(x, y).coef_.T for r in temporal.RIDGES]
    assert min(np.abs(ours - f).max() for f in fits) < 1e-8


def test_contributions_are_unbiased_and_levels_differ_where_planted():
    rng = np.random.default_rng(0)
    said = rng.standard_normal((120, 2))
    eeg = rng.standard_normal((120, CHANS, 8))
    eeg[:, 1, 4] += 1.2 * said[:, 0]
    units = np.arange(120) // 2
    per_unit = clusters.contributions(eeg, said, units)
    noise = clusters.contributions(eeg, rng.standard_normal((120, 2)), units)
    share = 1.44 / 2.44
    assert per_unit[:, 1, 4].mean() == pytest.approx(share, abs=0.12)
    assert np.abs(noise.mean(0)).max() < 0.12 and abs(noise.mean()) < 0.01
    found = clusters.cluster_test(per_unit - noise, n_permutations=100)
    assert found.p == pytest.approx(0.01, abs=0.001) and found.mask[1, 4] and found.mask.sum() <= 3
    shuffled = noise - clusters.contributions(eeg[:, ::-1], rng.standard_normal((120, 2)), units)
    assert not clusters.cluster_test(shuffled, n_permutations=100).mask.any()
    assert np.isnan(clusters.cluster_test(per_unit[:3]).p)
    centers, binned = clusters.time_bins(eeg, 3)
    np.testing.assert_allclose(binned[..., 1], eeg[..., 3:6].mean(-1), atol=1e-6)
    np.testing.assert_array_equal(centers, [1, 4])
