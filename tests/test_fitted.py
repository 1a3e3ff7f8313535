"""Fitted steps and the shrinkage LDA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, _cov

from eegprompt.core.errors import InputError, RunError, StudyError, UnknownNameError
from eegprompt.encoders.lda import ShrinkageLDA, bin_means
from eegprompt.encoders.preprocessing import STEPS, FittedSteps, noise_covariance, refuse_twice


def recording(n=400, n_chans=5, n_times=30, seed=0, scale=1e-5):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_chans, n_chans))
    eeg = np.einsum("cd,ndt->nct", mixing, rng.normal(size=(n, n_chans, n_times)))
    return (scale * (eeg + rng.normal(size=(n_chans, 1)))).astype(np.float32)


def covariance(eeg):
    centered = eeg - eeg.mean(axis=0)
    flat = centered.transpose(1, 0, 2).reshape(eeg.shape[1], -1).astype(np.float64)
    return flat @ flat.T / flat.shape[1]


def test_whitening_makes_the_training_covariance_the_identity():
    eeg = recording(n=3000)
    steps = FittedSteps.fit(["whiten"], eeg, np.arange(3000))
    np.testing.assert_allclose(covariance(steps.apply(eeg)), np.eye(5), atol=0.03)


def test_whitening_keeps_channels_in_their_place():
    eeg = recording(n=1000)
    white = FittedSteps.fit(["whiten"], eeg, np.arange(1000)).apply(eeg)
    a, b = (x.transpose(1, 0, 2).reshape(5, -1) for x in (eeg, white))
    correlation = np.corrcoef(a, b)[:5, 5:]
    assert (correlation.argmax(axis=1) == np.arange(5)).all() and (np.diag(correlation) > 0).all()


def test_standardize():
    eeg = recording()
    done = FittedSteps.fit(["standardize"], eeg, np.arange(400)).apply(eeg)
    np.testing.assert_allclose(done.mean(axis=(0, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(done.std(axis=(0, 2)), 1, atol=1e-2)


@pytest.mark.parametrize("name", sorted(STEPS))
def test_reads_no_trial_but_the_training_side(name):
    eeg = recording()
    first = FittedSteps.fit([name], eeg, np.arange(0, 400, 2))
    eeg[1::2] = np.nan
    second = FittedSteps.fit([name], eeg, np.arange(0, 400, 2))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    np.testing.assert_array_equal(first.offset, second.offset)


@pytest.mark.parametrize("names", [[], ["standardize"], ["whiten"], ["standardize", "whiten"]])
def test_save_load_and_tensor_agree(names, tmp_path):
    eeg = recording()
    steps = FittedSteps.fit(names, eeg, np.arange(400))
    steps.save(tmp_path)
    again = FittedSteps.load(tmp_path)
    assert again.names == tuple(names)
    np.testing.assert_array_equal(again.apply(eeg), steps.apply(eeg))
    as_tensor = again.apply(torch.from_numpy(eeg))
    np.testing.assert_allclose(as_tensor.numpy(), steps.apply(eeg), rtol=1e-4, atol=1e-4)


def test_chain_equals_one_after_the_other():
    eeg = recording()
    ids = np.arange(400)
    first = FittedSteps.fit(["standardize"], eeg, ids)
    middle = first.apply(eeg)
    second = FittedSteps.fit(["whiten"], middle, ids)
    both = FittedSteps.fit(["standardize", "whiten"], eeg, ids)
    np.testing.assert_allclose(both.apply(eeg), second.apply(middle), atol=2e-3)


def test_whitening_survives_a_rank_deficient_recording():
    eeg = recording()
    eeg = eeg - eeg.mean(axis=1, keepdims=True)  # average reference
    white = FittedSteps.fit(["whiten"], eeg, np.arange(400)).apply(eeg)
    assert np.isfinite(white).all() and np.abs(white).max() < 100


def test_unit_does_not_matter():
    small, large = recording(scale=1e-6), recording(scale=1.0)
    results = [FittedSteps.fit(["whiten"], e, np.arange(400)).apply(e) for e in (small, large)]
    np.testing.assert_allclose(*results, atol=2e-3)


def test_few_trials_are_shrunk_more():
    white = []
    for n in (4, 400):
        matrix = FittedSteps.fit(["whiten"], recording(), np.arange(n)).matrix
        scaled = matrix / np.diag(matrix)[:, None]
        white.append(np.abs(scaled - np.diag(np.diag(scaled))).mean())
    assert white[0] < white[1]


def test_names_the_flat_channel():
    eeg = recording()
    eeg[:, 2] = 1e-5
    with pytest.raises(StudyError, match="'Cz' is flat"):
        FittedSteps.fit(["whiten"], eeg, np.arange(400), ch_names=["A", "B", "Cz", "D", "E"])


def test_names_the_trial_and_channel_that_is_not_finite():
    eeg = recording()
    eeg[300, 1, 4] = np.inf
    with pytest.raises(StudyError, match=r"trial 300, channel 'B'"):
        FittedSteps.fit([], eeg, np.arange(400), ch_names=list("ABCDE"))


def test_unknown_step_wrong_channels_broken_files(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'whiten'"):
        FittedSteps.fit(["witen"], recording(), np.arange(5))
    steps = FittedSteps.fit(["whiten"], recording(), np.arange(400))
    with pytest.raises(StudyError, match="expect 5 channels, got 4"):
        steps.apply(np.zeros((2, 4, 30), np.float32))
    steps.save(tmp_path)
    (tmp_path / "fitted.safetensors").write_bytes(b"half")
    with pytest.raises(RunError):
        FittedSteps.load(tmp_path)
    with pytest.raises(RunError, match="missing"):
        FittedSteps.load(tmp_path / "nowhere")


# -- LDA -------------------------------------------------------------------------------------------
def planted(n=300, n_chans=6, n_times=50, n_classes=4, seed=0, signal=0.5):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    patterns = np.random.default_rng(9).normal(size=(n_classes, n_chans, 1))
    eeg = rng.normal(size=(n, n_chans, n_times)).cumsum(axis=2) / 5
    return (eeg + signal * patterns[labels]).astype(np.float32), np.array(list("abcd"))[labels]


@pytest.mark.parametrize("n", [60, 300])  # fewer trials than features in each class, and more
def test_lda_of_one_subject_is_scikit_learns(n):
    eeg, labels = planted(n)
    features = bin_means(eeg, 100.0, start=0)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    flat = features.reshape(n, -1).astype(float)
    reference.fit(flat / np.sqrt((flat**2).mean()), labels)
    lda = ShrinkageLDA().fit(features, labels)
    log = reference.predict_log_proba(flat / np.sqrt((flat**2).mean()))
    np.testing.assert_allclose(lda.decision(features), log, atol=1e-6)
    assert lda.subjects_ == ()


def test_lda_fits_each_subject_and_pools_for_others():
    # The patterns of the second subject are those of the first, turned round.
    eeg, labels = planted(600)
    subjects = np.repeat(["x", "y", "x"], 200)
    features = bin_means(eeg, 100.0, start=0)
    features[subjects == "y"] *= -1
    lda = ShrinkageLDA().fit(features[:400], labels[:400], subjects[:400])
    assert lda.subjects_ == ("x", "y")
    own = (lda.predict(features[400:], subjects[400:]) == labels[400:]).mean()
    stranger = (lda.predict(features[400:], np.repeat("z", 200)) == labels[400:]).mean()
    assert own > 0.5 > stranger + 0.1
    # Who lacks a class in training is decoded by the model of all.
    lacks = (subjects[:400] == "x") | (labels[:400] != "d")
    lda.fit(features[:400][lacks], labels[:400][lacks], subjects[:400][lacks])
    assert (
        lda.subjects_ == ("x",) and lda.decision(features[200:210], subjects[200:210]).shape[1] == 4
    )


def test_lda_probabilities_and_chance():
    eeg, labels = planted(signal=0.0)
    new, true = planted(signal=0.0, seed=1)
    lda = ShrinkageLDA().fit(bin_means(eeg, 100.0), labels)
    found = bin_means(new, 100.0)
    np.testing.assert_allclose(np.exp(lda.decision(found)).sum(axis=1), 1)
    assert abs((lda.predict(found) == true).mean() - 0.25) < 0.08


def test_windows_are_widened_for_many_channels_and_clipped_to_the_trial():
    assert bin_means(np.zeros((1, 128, 128)), 128.0).shape == (1, 128, 12)
    assert bin_means(np.zeros((1, 1000, 128)), 128.0).shape == (1, 1000, 1)
    assert bin_means(np.zeros((1, 4, 30)), 100.0, tmin=0.2).shape == (1, 4, 7)


def test_lda_refuses():
    eeg, _ = planted(8)
    with pytest.raises(InputError, match="two classes"):
        ShrinkageLDA().fit(bin_means(eeg, 100.0), ["a"] * 8)
    with pytest.raises(InputError, match="hold no window"):
        bin_means(eeg, 100.0, start=0.6)


# -- multivariate noise normalization ------------------------------------------------------------
def planted_noise(n_conditions=6, n_each=8, n_chans=5, n_times=12, seed=3):
    """Conditions with means far apart, and one noise covariance for all."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_chans) + 0.4 * rng.normal(size=(n_chans, n_chans))
    conditions = np.repeat(np.arange(n_conditions), n_each)
    noise = np.einsum("cd,ndt->nct", mixing, rng.normal(size=(len(conditions), n_chans, n_times)))
    means = rng.normal(size=(n_conditions, n_chans, n_times)) * 30
    order = rng.permutation(len(conditions))
    return (means[conditions] + noise)[order].astype(np.float32), conditions[order], mixing


def test_mvnn_is_that_of_the_code_published_with_it():
    """Guggenmos et al. 2018: scikit-learn's shrunk covariance at each time point of each condition,
    averaged, and its inverse square root by SciPy."""
    from scipy.linalg import fractional_matrix_power

    eeg, conditions, _ = planted_noise()
    ids = np.random.default_rng(0).permutation(len(eeg))[:40]
    sigma = np.mean(
        [
            np.mean(
                [
                    _cov(eeg[ids][conditions[ids] == c][:, :, t].astype(float), shrinkage="auto")
                    for t in range(eeg.shape[2])
                ],
                axis=0,
            )
            for c in np.unique(conditions[ids])
            if (conditions[ids] == c).sum() > 1
        ],
        axis=0,
    )
    steps = FittedSteps.fit(["mvnn"], eeg, ids, conditions=conditions[ids])
    np.testing.assert_allclose(steps.matrix, fractional_matrix_power(sigma, -0.5), rtol=1e-4)
    first = eeg[conditions == 0].astype(float)
    np.testing.assert_allclose(
        noise_covariance(first[:, :, :1]), _cov(first[:, :, 0], shrinkage="auto"), rtol=1e-9
    )


def test_mvnn_whitens_the_noise_and_not_what_conditions_share():
    eeg, conditions, mixing = planted_noise(n_conditions=3, n_each=800)
    ids = np.arange(len(eeg))
    steps = FittedSteps.fit(["mvnn"], eeg, ids, conditions=conditions)
    noise = steps.matrix @ mixing
    np.testing.assert_allclose(noise @ noise.T, np.eye(5), atol=0.15)
    # Without conditions their means pass for noise.
    blind = FittedSteps.fit(["mvnn"], eeg, ids).matrix @ mixing
    assert np.trace(blind @ blind.T) < 0.1 * np.trace(noise @ noise.T)


def test_mvnn_refuses_what_it_cannot_do():
    eeg, _, _ = planted_noise()
    with pytest.raises(StudyError, match="use 'whiten' instead of 'mvnn'"):
        FittedSteps.fit(["mvnn"], eeg, np.arange(8), conditions=np.arange(8))
    with pytest.raises(InputError, match="one condition a trial"):
        FittedSteps.fit(["mvnn"], eeg, np.arange(8), conditions=np.arange(7))
    with pytest.raises(StudyError, match="two trials"):
        noise_covariance(eeg[:1])


def test_a_step_is_refused_twice():
    by_source = [{"name": "epoch"}, {"name": "whiten", "on": "by the source"}]
    refuse_twice(["standardize"], by_source)
    refuse_twice(["whiten"], [{"name": "standardized by the source"}])
    for names, done in (
        (["whiten"], by_source),
        (["mvnn"], by_source),
        (["standardize"], [{"name": "standardized by the source"}]),
    ):
        with pytest.raises(InputError, match="was applied already"):
            refuse_twice(names, done)
    for names in (["whiten", "mvnn"], ["standardize", "standardize"]):
        with pytest.raises(InputError, match="leave one of them out"):
            refuse_twice(names, [])
