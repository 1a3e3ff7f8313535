"""The simulated EEG: the forward model, what is planted, and what it is planted in."""

import dataclasses

import mne
import numpy as np
import pytest

from eegprompt.builtin.eeg import (
    COMMON,
    DEFAULT_SIGNAL,
    PARTS,
    SimulationParameters,
    head_model,
    make_schedule,
    simulate_eeg,
    source_amplitudes,
)
from eegprompt.core.errors import InputError
from eegprompt.core.kinds import KINDS, LEVELS, Level
from eegprompt.signal.montage import EEGCVPR_CHANNELS, template

P = SimulationParameters()
N_IMAGES, N_CLASSES = 48, 4
CATEGORY = np.arange(N_IMAGES) % N_CLASSES


def vectors(n_images=N_IMAGES, seed=0):
    rng = np.random.default_rng(seed)
    return {kind: rng.standard_normal((n_images, 4)) for kind in KINDS}


def simulate(**options):
    return simulate_eeg(vectors(), CATEGORY, **{"subjects": 2, "repetitions": 1, **options})


def eeg_of(simulation, parts=None):
    return np.concatenate(list(simulation.blocks(parts)))


@pytest.fixture(scope="module")
def default():
    return simulate()


@pytest.fixture(scope="module")
def head():
    return head_model(EEGCVPR_CHANNELS, P.n_dipoles, P.depth)


# -- forward model ---------------------------------------------------------------------------------


def test_leadfield_is_what_mne_gives_for_single_dipoles(head):
    """An independent path through MNE: fixed dipoles instead of a free source space."""
    info = mne.create_info(list(EEGCVPR_CHANNELS), 1000.0, "eeg")
    info.set_montage(template())
    sphere = mne.make_sphere_model("auto", "auto", info=info, verbose="ERROR")
    which = np.array([5, 120, 333])
    orientation = np.random.default_rng(0).standard_normal((3, 3))
    orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
    dipoles = mne.Dipole(
        np.arange(3) / 1000, head.dipoles[which], np.full(3, 1e-8), orientation, np.full(3, 99.0)
    )
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="ERROR")
    theirs = forward["sol"]["data"]
    theirs = theirs - theirs.mean(axis=0)
    ours = np.einsum("cdk,dk->cd", head.leadfield[:, which], orientation)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_a_radial_source_is_seen_best_by_the_electrode_above_it(head):
    for name in ("Oz", "Cz", "F7", "TP8", "PO7"):
        position = head.below(name)
        radial = (position - head.center) / np.linalg.norm(position - head.center)
        nearest = ((head.dipoles - position) ** 2).sum(axis=1).argmin()
        above = np.array(EEGCVPR_CHANNELS)[(head.leadfield[:, nearest] @ radial).argsort()[-6:]]
        assert name in above


# -- schedule --------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", ["randomised", "block"])
def test_every_image_is_shown_as_often_as_asked_and_windows_never_overlap(design):
    s = make_schedule(
        CATEGORY, n_subjects=2, repetitions=3, design=design, sfreq=128.0, seed=0, parameters=P
    )
    for subject in range(2):
        mine = s.subject == subject
        assert (np.bincount(s.image[mine], minlength=N_IMAGES) == 3).all()
        assert (np.diff(s.order[mine]) == 1).all()
        assert (np.diff(s.clock[mine]) > P.duration).all()
        for run in np.unique(s.run[mine]):
            assert (np.diff(s.onset[mine & (s.run == run)]) > P.duration).all()
    assert not np.array_equal(s.image[s.subject == 0], s.image[s.subject == 1])


def test_a_block_holds_one_class_and_a_class_one_block():
    s = make_schedule(
        CATEGORY, n_subjects=2, repetitions=2, design="block", sfreq=128.0, seed=0, parameters=P
    )
    for subject in range(2):
        mine = s.subject == subject
        pairs = set(zip(s.block[mine].tolist(), CATEGORY[s.image[mine]].tolist()))
        assert len(pairs) == N_CLASSES
        assert (np.diff(s.block[mine]) >= 0).all()


def test_a_randomised_run_mixes_the_classes():
    s = make_schedule(
        CATEGORY,
        n_subjects=1,
        repetitions=2,
        design="randomised",
        sfreq=128.0,
        seed=0,
        parameters=P,
    )
    assert len(np.unique(s.run)) >= 2
    assert all(len(set(CATEGORY[s.image[s.run == run]])) == N_CLASSES for run in np.unique(s.run))


# -- determinism -----------------------------------------------------------------------------------


def test_same_seed_same_bytes_other_seed_others():
    one, two, other = (eeg_of(simulate(subjects=1, seed=s)) for s in (3, 3, 4))
    assert one.tobytes() == two.tobytes()
    assert not np.allclose(one, other)


def test_parts_add_up_and_leave_one_another_alone():
    simulation = simulate(subjects=1, drift=0.5)
    whole = eeg_of(simulation)
    parts = sum(eeg_of(simulation, [part]) for part in PARTS)
    np.testing.assert_allclose(parts, whole, atol=1e-9)


def test_signal_changes_nothing_but_the_evoked_part():
    noise = [p for p in PARTS if p != "evoked"]
    a, b = (eeg_of(simulate(subjects=1, signal=s), noise) for s in (0.0, 0.7))
    assert a.tobytes() == b.tobytes()


# -- what is planted -------------------------------------------------------------------------------


def test_shape_unit_and_reference(default):
    eeg = eeg_of(default)
    assert eeg.dtype == np.float32
    assert eeg.shape == (2 * N_IMAGES, 128, 102)
    assert default.truth.times[13] == 0
    assert 5e-6 < eeg.std() < 5e-5  # volts: tens of microvolts with blinks
    assert np.abs(eeg.mean(axis=1)).max() < 1e-9
    assert np.abs(eeg[:, :, :13].mean(axis=2)).max() < 1e-9


def test_without_signal_all_images_evoke_exactly_the_same():
    truth = simulate(signal=0.0).truth
    for kind in KINDS:
        assert not truth.responses(kind).any()
    assert np.ptp(truth.amplitudes[COMMON], axis=0).max() == 0
    common = truth.evoked(COMMON, "S1")
    assert np.abs(common).max() > 1e-6
    assert np.ptp(common, axis=0).max() < 1e-11  # rounding of float32


@pytest.mark.parametrize("options", [{}, {"signal": 0.1}, {"baseline": False}])
def test_measured_ratio_is_the_requested_one(options):
    simulation = simulate(subjects=3, repetitions=4, **options)
    truth = simulation.truth
    window = (truth.times >= P.ratio_window[0]) & (truth.times <= P.ratio_window[1])
    background = eeg_of(simulation, ["pink", "alpha", "line", "sensor"])[..., window]
    ratios = []
    for index, subject in enumerate(truth.subjects):
        evoked = sum(truth.evoked(kind, subject) for kind in KINDS)[..., window]
        evoked = evoked - evoked.mean(axis=0)
        mine = background[truth.trial_subject == index]
        ratios.append(np.sqrt((evoked**2).mean() / (mine.astype(float) ** 2).mean()))
    measured = np.sqrt(np.mean(np.square(ratios)))
    assert measured == pytest.approx(options.get("signal", DEFAULT_SIGNAL), rel=0.08)


def test_trials_are_the_noise_plus_the_rebuilt_responses(default):
    ids = np.array([70, 3, 41])
    rebuilt = sum(default.truth.responses(kind, ids) for kind in (*KINDS, COMMON))
    np.testing.assert_allclose(eeg_of(default, ["evoked"])[ids], rebuilt, atol=1e-11)


def test_levels_come_one_after_the_other(default):
    truth = default.truth
    for subject in truth.subjects:
        peaks = {
            level: [truth.peak_latency(kind, subject) for kind in kinds]
            for level, kinds in LEVELS.items()
        }
        assert max(peaks[Level.LOW]) < min(peaks[Level.MID])
        assert max(peaks[Level.MID]) < min(peaks[Level.HIGH])
        assert min(peaks[Level.LOW]) > 0.06 and max(peaks[Level.LOW]) < 0.13
        assert min(peaks[Level.MID]) > 0.14 and max(peaks[Level.MID]) < 0.25
        assert min(peaks[Level.HIGH]) > 0.25 and max(peaks[Level.HIGH]) < 0.45


def test_topographies_are_largest_where_claimed(default):
    truth = default.truth
    prefixes = {
        Level.LOW: ("O", "PO", "PPO", "I", "P9", "P10"),
        Level.MID: ("P", "CP", "TP", "T", "CCP", "C5", "C6", "CPP", "TPP"),
        Level.HIGH: ("F", "AF"),
    }
    for level, kinds in LEVELS.items():
        for kind in kinds:
            for subject in truth.subjects:
                strength = (truth.strength(kind, subject) ** 2).mean(axis=1)
                best = truth.ch_names[strength.argmax()]
                assert best.startswith(prefixes[level]), (kind, subject, best)


def test_subjects_share_a_topography_roughly_but_not_exactly(default):
    truth = default.truth
    for kind in KINDS:
        a, b = ((truth.strength(kind, s) ** 2).mean(axis=1) for s in truth.subjects)
        assert 0.5 < np.corrcoef(a, b)[0, 1] < 0.999


def test_nearer_meanings_give_nearer_patterns(default):
    from scipy.stats import spearmanr

    upper = np.triu_indices(N_IMAGES, 1)
    for kind, v in vectors().items():
        pattern = default.truth.evoked(kind, "S1").reshape(N_IMAGES, -1)
        d_meaning = np.linalg.norm(v[:, None] - v[None], axis=2)[upper]
        gram = pattern @ pattern.T
        size = np.diag(gram)
        d_pattern = np.sqrt(np.maximum(size[:, None] + size[None] - 2 * gram, 0))[upper]
        assert spearmanr(d_meaning, d_pattern)[0] > 0.5, kind
    step = np.array([[0.0] * 4, [1e-4] * 4])  # continuous: a small step in meaning moves little
    a = source_amplitudes("ThemeTag", step, 6, P)
    assert np.abs(np.diff(a, axis=0)).max() < 1e-2


def test_equal_meanings_evoke_equal_patterns_and_the_map_does_not_depend_on_the_seed():
    v = vectors()["MoodFeel"]
    np.testing.assert_array_equal(
        source_amplitudes("MoodFeel", v, 6, P)[:5], source_amplitudes("MoodFeel", v[:5], 6, P)
    )
    a, b = (simulate(subjects=1, seed=s).truth.amplitudes["MoodFeel"] for s in (0, 1))
    np.testing.assert_array_equal(a, b)


def test_trials_jitter_in_latency_and_gain(default):
    truth = default.truth
    assert truth.delay.shape == truth.gain.shape == (2 * N_IMAGES, len(KINDS) + 1)
    assert truth.delay.std() == pytest.approx(P.trial_latency_sd, rel=0.2)
    assert np.log(truth.gain).std() == pytest.approx(P.trial_gain_sd, rel=0.2)
    shared = np.corrcoef(truth.delay.T)[np.triu_indices(len(KINDS) + 1, 1)].mean()
    assert 0.3 < shared < 0.7


def test_a_subset_of_kinds_can_be_simulated():
    some = {"ObjectSnap": vectors()["ObjectSnap"]}
    simulation = simulate_eeg(some, CATEGORY, subjects=1, repetitions=1)
    assert simulation.truth.kinds == ("ObjectSnap",)
    assert next(simulation.blocks()).shape[1] == 128


# -- what it is planted in -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spectrum(default):
    from scipy.signal import welch

    rng = np.random.default_rng(0)
    found = {}
    for part in ("pink", "alpha", "line", "sensor"):
        eeg = np.concatenate(
            [default.background[0].stretch(128 * 60, rng, [part]) for _ in range(4)], axis=1
        )
        frequency, found[part] = welch(eeg, 128.0, nperseg=512)
    found["all"] = sum(found[part] for part in ("pink", "alpha", "line", "sensor"))
    return frequency, found


def test_background_falls_as_one_over_f(default, spectrum):
    frequency, power = spectrum
    band = (frequency >= 1) & (frequency <= 45)
    slope = np.polyfit(np.log(frequency[band]), np.log(power["pink"].mean(axis=0)[band]), 1)[0]
    assert -slope == pytest.approx(default.background[0].exponent, abs=0.1)
    assert 0.9 < -slope < 1.5


def test_alpha_peaks_at_the_back(default, spectrum):
    frequency, power = spectrum
    names = list(EEGCVPR_CHANNELS)
    alpha = power["alpha"]
    at = frequency[alpha.mean(axis=0).argmax()]
    assert at == pytest.approx(default.background[0].alpha_frequency, abs=0.5)
    loudest = {names[i] for i in alpha.sum(axis=1).argsort()[-5:]}
    assert all("O" in name or name.startswith("P") for name in loudest)
    ratio = (
        power["all"][:, np.abs(frequency - at).argmin()]
        / power["all"][:, np.abs(frequency - 20).argmin()]
    )
    assert ratio[names.index("POz")] > 3 * ratio[names.index("Fz")]


def test_alpha_waxes_and_wanes(default):
    from scipy.signal import hilbert

    alpha = default.background[0].stretch(128 * 30, np.random.default_rng(0), ["alpha"])
    envelope = np.abs(hilbert(alpha[list(EEGCVPR_CHANNELS).index("Oz")]))
    assert envelope.std() / envelope.mean() > 0.3


def test_line_noise_stands_out_where_the_rate_can_hold_it(spectrum):
    frequency, power = spectrum
    line = power["all"].mean(axis=0)
    at = np.abs(frequency - 50).argmin()
    assert line[at] > 5 * line[at - 12]
    slow = simulate(sfreq=100.0, subjects=1)
    assert not slow.background[0].holds_line
    assert not slow.background[0].stretch(500, np.random.default_rng(0), ["line"]).any()


def test_blinks_are_frontal_and_come_at_their_rate(default):
    blinks = default.background[0].stretch(128 * 600, np.random.default_rng(1), ["blinks"])
    names = list(EEGCVPR_CHANNELS)
    peak = np.abs(blinks).max(axis=1)
    assert names[peak.argmax()] in {"Fp1", "Fp2", "Fpz", "F9", "F10", "AF7", "AF8"}
    assert peak[names.index("Fp1")] > 5 * peak[names.index("Cz")]
    assert 5e-5 < peak.max() < 3e-4
    wave = blinks[peak.argmax()]
    above = wave > 3e-5
    onsets = (np.diff(above.astype(int)) == 1).sum()
    assert onsets / 600 == pytest.approx(P.blink_rate, rel=0.25)


def test_drift_has_the_asked_size_is_slow_and_tells_blocks_apart():
    simulation = simulate(
        subjects=1, repetitions=3, design="block", drift=2.0, signal=0.0, baseline=False
    )
    drift = eeg_of(simulation, ["drift"])
    wanted = 2.0 * simulation.truth.summary["background_rms"][0]
    assert np.sqrt((drift.astype(float) ** 2).mean()) == pytest.approx(wanted, rel=0.35)
    assert drift.std(axis=2).mean() < 0.05 * drift.std()
    level = drift.mean(axis=2)
    block = simulation.schedule.block
    within = np.mean([level[block == b].var(axis=0).mean() for b in np.unique(block)])
    assert within < 0.6 * level.var(axis=0).mean()


def test_no_drift_by_default(default):
    assert default.drift == ()


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signal": -0.1}, r"signal must lie between 0 and 100, got -0\.1"),
        ({"signal": float("nan")}, "signal must lie between"),
        ({"drift": -1}, "drift must lie between"),
        ({"sfreq": 20}, "sfreq must lie between 64 and 2000, got 20"),
        ({"subjects": 0}, "subjects must lie between"),
        ({"repetitions": 0}, "repetitions must lie between"),
        ({"seed": -1}, "seed must lie between"),
        ({"design": "blocks"}, "unknown design 'blocks'; did you mean 'block'"),
    ],
)
def test_bad_values_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        simulate(**options)


def test_bad_coordinates_are_refused():
    with pytest.raises(InputError, match="no caption kind"):
        simulate_eeg({}, CATEGORY)
    with pytest.raises(InputError, match="unknown caption kind 'Mood'"):
        simulate_eeg({"Mood": np.zeros((N_IMAGES, 2))}, CATEGORY)
    with pytest.raises(InputError, match=r"must have shape \(48, n_dims\), got \(3, 2\)"):
        simulate_eeg({"MoodFeel": np.zeros((3, 2))}, CATEGORY)
    with pytest.raises(InputError, match="not finite"):
        simulate_eeg({"MoodFeel": np.full((N_IMAGES, 2), np.nan)}, CATEGORY)
    with pytest.raises(InputError, match="unknown part of a simulation 'blink'"):
        next(simulate(subjects=1).blocks(["blink"]))


def test_parameters_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        P.pink_rms = 1.0
    with pytest.raises(TypeError):
        P.kinds["ObjectSnap"] = None
