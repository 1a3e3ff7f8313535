"""Audits: what is planted is found, what is not is not, and odd studies get a stated outcome."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.confounds.design import group_guess, neighbor_guess, time_neighbors
from eegprompt.confounds.drift import accuracy_by_distance, decode_pseudo_classes, pseudo_classes
from eegprompt.confounds.linear_decoder import decode_sides, score_predictions
from eegprompt.confounds.nuisance import (
    band_power,
    dc,
    mean_and_log_variance,
    phase_randomised,
    slow_part,
    window_means,
)
from eegprompt.confounds.record import read_audit
from eegprompt.confounds.verdict import verdict
from eegprompt.core.errors import InputError, SplitError, UnknownNameError
from eegprompt.core.files import write_json
from eegprompt.reports.audit_page import leaks_once, write_audit_page
from eegprompt.splits.base import make_split
from eegprompt.splits.leaks import check_leaks, leaks, repeated_trials
from eegprompt.steps.audit import audit
from eegprompt.steps.simulate import simulate
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

RNG = np.random.default_rng


# -- the statistics --------------------------------------------------------------------------------
def test_guessing_from_the_group_is_a_guess_by_hand() -> None:
    labels, groups = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 2])
    # group 0: two zeros and a one: (1/2 + 1/2 + 0); group 1: 1 + 1; the lone trial cannot be guessed
    test = group_guess(labels, groups, n=199)
    assert test.accuracy == pytest.approx((0.5 + 0.5 + 0 + 1 + 1) / 5)
    assert test.n_groups == 2 and not test.one_class


def test_a_random_order_is_not_found_and_blocks_are() -> None:
    random = [
        group_guess(RNG(s).integers(0, 4, 80), np.repeat(np.arange(4), 20), n=199, seed=s).p
        for s in range(40)
    ]
    assert np.mean(np.array(random) < 0.1) < 0.3 and np.mean(random) == pytest.approx(0.5, abs=0.15)
    block = group_guess(np.repeat(np.arange(4), 20), np.repeat(np.arange(4), 20), n=199)
    assert block.p == 1 / 200 and block.one_class and block.accuracy == 1
    # Four sessions of ten classes each: session alone gives one in ten, not one in forty.
    labels = np.concatenate([RNG(s).permutation(np.repeat(np.arange(10), 5)) + 10 * s
                             for s in range(4)])  # fmt: skip
    session = group_guess(labels, np.repeat(np.arange(4), 50), n=199)
    assert session.accuracy == pytest.approx(4 / 49) and session.chance < 0.03 and session.p < 0.01


def test_images_move_together_in_permutations() -> None:
    # Each image four times in its own session, classes at random over images: no confound.
    found = []
    for s in range(30):
        image = np.repeat(np.arange(40), 4)
        labels = RNG(s).integers(0, 8, 40)[image]
        found.append(group_guess(labels, image // 10, units=image, n=199, seed=s).p)
    assert np.mean(np.array(found) < 0.05) < 0.25
    alone = group_guess(RNG(0).integers(0, 8, 40)[image], image // 10, n=199)
    assert alone.p < 0.01  # trial by trial, repetitions would be taken for a design


def test_neighbors_in_time_stop_at_the_end_of_a_recording() -> None:
    recording, order = np.array([0, 0, 0, 1, 1]), np.array([2, 0, 1, 5, 4])
    near = time_neighbors(recording, order, k=2)
    assert near.tolist() == [[2, -1], [-1, 2], [1, 0], [4, -1], [-1, 3]]
    staircase = np.repeat(np.arange(5), 12)
    line = time_neighbors(np.zeros(60, int), np.arange(60))
    assert neighbor_guess(staircase, line, n=199).p == 1 / 200
    assert neighbor_guess(RNG(1).permutation(staircase), line, n=199).p > 0.05
    with pytest.raises(InputError, match="even number"):
        time_neighbors(recording, order, k=3)


def test_the_decoder_finds_a_difference_and_stays_at_chance_without() -> None:
    labels = np.tile([0, 1, 2], 80)
    signal = np.eye(3)[labels] @ RNG(0).standard_normal((3, 6))
    noise = RNG(1).standard_normal((240, 6))
    folds = [(np.arange(180), np.arange(180, 240))]
    one = np.zeros(240, int)
    rows, predicted = decode_sides(signal + noise, labels, folds, one)
    assert rows.tolist() == list(range(180, 240))
    found = score_predictions(predicted, labels[rows], n=199)
    assert found.p < 0.01 and found.chance < found.noticed <= found.accuracy
    ps = []
    for s in range(20):
        rows, predicted = decode_sides(RNG(s + 5).standard_normal((240, 6)), labels, folds, one)
        ps.append(score_predictions(predicted, labels[rows], n=199, seed=s).p)
    assert np.mean(np.array(ps) < 0.05) <= 0.2


def test_each_subject_has_a_decoder_of_its_own_where_it_can() -> None:
    # The sign of the difference is turned round in the second subject.
    labels, subject = np.tile([0, 1], 100), np.repeat([0, 1], 100)
    features = ((2 * labels - 1) * (1 - 2 * subject))[:, None] + 0.1 * RNG(0).standard_normal(
        (200, 3)
    )
    odd = np.arange(200) % 4 < 2
    rows, predicted = decode_sides(features, labels, [(np.flatnonzero(odd), np.flatnonzero(~odd))],
                                   subject)  # fmt: skip
    assert (predicted == labels[rows]).mean() == 1
    apart = [(np.flatnonzero(subject == 0), np.flatnonzero(subject == 1))]
    rows, predicted = decode_sides(features, labels, apart, subject)
    assert (predicted == labels[rows]).mean() == 0


def test_decoder_of_tiny_classes_and_constant_features() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    rows, _ = decode_sides(RNG(0).standard_normal((6, 3)), labels,
                           [(np.array([0, 1, 3, 5]), np.array([2, 4]))], np.zeros(6, int))  # fmt: skip
    assert not len(rows)  # classes 1 and 2 have one training trial each: one class is left
    rows, _ = decode_sides(
        np.ones((6, 3)), labels, [(np.arange(6), np.arange(6))], np.zeros(6, int)
    )
    assert not len(rows)
    with pytest.raises(InputError, match="no predictions to score"):
        score_predictions(np.zeros(0, int), np.zeros(0, int))


def test_nuisance_features_are_what_they_say() -> None:
    t = np.arange(128) / 128
    eeg = np.stack([3 + np.sin(2 * np.pi * 10 * t), -1 + 2 * np.sin(2 * np.pi * 20 * t)])[None]
    assert dc(eeg)[0] == pytest.approx([3, -1])
    assert mean_and_log_variance(eeg)[0] == pytest.approx([3, -1, np.log(0.5), np.log(2)])
    power = band_power(eeg, 128.0)[0].reshape(5, 2)  # band, channel
    assert power[:, 0].argmax() == 2 and power[:, 1].argmax() == 3
    slow = slow_part(eeg + np.sin(2 * np.pi * 3 * t), 128.0)
    assert np.allclose(slow, slow_part(eeg * 0 + np.array([3, -1])[:, None] + np.sin(6 * np.pi * t),
                                       128.0))  # fmt: skip
    assert window_means(np.arange(10.0).reshape(1, 1, 10), 2).tolist() == [[2.0, 7.0]]
    with pytest.raises(InputError, match="trials, channels, samples"):
        dc(eeg[0])


@pytest.mark.parametrize("n_times", [64, 65])
def test_surrogates_keep_spectra_and_cross_spectra_and_lose_latency(n_times: int) -> None:
    eeg = RNG(0).standard_normal((200, 3, n_times)) + np.hanning(n_times) * 5
    made = phase_randomised(eeg, RNG(1))
    before, after = np.fft.rfft(eeg, axis=2), np.fft.rfft(made, axis=2)
    assert np.allclose(np.abs(before), np.abs(after))
    cross = before[:, 0] * before[:, 1].conj(), after[:, 0] * after[:, 1].conj()
    assert np.allclose(*cross)
    assert np.allclose(made.mean(axis=2), eeg.mean(axis=2))
    evoked = [np.ptp(x.mean(axis=0)) for x in (eeg, made)]
    assert evoked[1] < 0.3 * evoked[0]


def test_pseudo_classes_find_drift_and_only_drift() -> None:
    time, groups = np.tile(np.arange(40), 4), np.repeat(np.arange(4), 40)
    pseudo = pseudo_classes(time, groups, RNG(0))
    assert (
        set(pseudo.tolist()) == {0, 1, 2} and pseudo_classes(time[:8], groups[:8], RNG(0)).max() < 0
    )
    noise = RNG(1).standard_normal((160, 4))
    drift = np.cumsum(RNG(2).standard_normal((160, 4)), axis=0) / 3
    for features, found in ((noise, False), (noise + drift, True)):
        rows, predicted = decode_pseudo_classes(features, pseudo, groups, RNG(3))
        test = score_predictions(predicted, pseudo[rows], strata=groups[rows], n=199)
        assert (test.p < 0.01) == found


def test_accuracy_by_distance_counts_each_trial_once() -> None:
    distance = np.r_[np.arange(50), np.inf]
    bins = accuracy_by_distance(np.arange(51) < 25, distance)
    assert sum(b.n for b in bins) == 50 and [b.near for b in bins] == sorted(b.near for b in bins)
    assert bins[0].accuracy == 1 and bins[-1].accuracy == 0
    assert accuracy_by_distance(np.ones(5, bool), np.full(5, np.inf)) == []
    assert len(accuracy_by_distance(np.ones(30, bool), np.ones(30))) == 1


@pytest.mark.parametrize(
    ("d", "t", "p", "share", "order", "word"),
    [
        (True, True, False, None, True, "confounded"),
        (True, False, True, None, True, "confounded"),
        (True, False, False, 0.5, True, "confounded"),
        (True, False, False, 0.49, True, "suspect"),
        (True, False, False, None, False, "suspect"),
        (False, True, True, 0.9, True, "suspect"),
        (False, True, False, 0.9, True, "clean"),
        (False, False, False, None, False, "unknown"),
    ],
)
def test_the_rule(d, t, p, share, order, word) -> None:
    shaped = verdict(
        design=d, time=t, prestimulus=p, nuisance_share=share, order_known=order, shape=True
    )
    assert shaped == ("confounded" if d else "suspect")
    assert verdict(design=d, time=t, prestimulus=p, nuisance_share=share, order_known=order) == word


# -- the planted studies ---------------------------------------------------------------------------
PLANTED = {
    "evoked, randomized": ({"signal": 1.5}, "clean", True),
    "drift, block": ({"signal": 0.0, "design": "block", "drift": 1.0}, "confounded", True),
    "nothing, randomized": ({"signal": 0.0}, "clean", False),
    "both, block": ({"signal": 1.5, "design": "block", "drift": 1.0}, "confounded", True),
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders of fewer features: the cost of a fit grows with their third power."""
    from eegprompt.confounds import audit_data as _material
    from eegprompt.confounds import signal_checks as _signal

    monkeypatch.setattr(_material, "MOST_FEATURES", 512)
    monkeypatch.setattr(_signal, "_TIME_FEATURES", 128)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    folder = tmp_path_factory.mktemp("planted")
    return {
        name: simulate(folder / name.replace(", ", "-"), subjects=1, images=128, test_images=32,
                       seed=3, **options)
        for name, (options, _, _) in PLANTED.items()
    }  # fmt: skip


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_study_gets_its_verdict(planted: dict[str, Study], name: str) -> None:
    _, word, decodable = PLANTED[name]
    found = audit(planted[name], permutations=299)
    assert (found["verdict"], found["decodable"]) == (word, decodable)
    assert not found["leaks"] and found["evidence"] and found["summary"]
    if not decodable:
        assert "Nothing is decodable" in found["summary"]
    if "block" in name:
        rows = {r["decoder"]: r for r in found["checks"]["decoders"]["rows"]}
        assert rows["full"]["accuracy"] > 0.4  # naive accuracy is high
        assert "block" in found["checks"]["design"]["found_in"]
        assert found["checks"]["decoders"]["nuisance_share"] > 0.5
        for reason in ("tells time", "before the stimulus", "alone reaches"):
            assert reason in found["summary"]
    study = Study(planted[name].path)
    assert "became of it" not in write_audit_page(study, found).read_text("utf-8")  # no source
    study.info["accounting"] = {
        "found": study.n_trials + 1234, "trials": study.n_trials, "left_out": {"amplitude": 1234},
    }  # fmt: skip
    page = write_audit_page(study, found).read_text("utf-8")
    assert f"Design: {word}" in page and page.count("<svg") >= 8
    assert "left out, amplitude" in page and "1,234" in page


@pytest.mark.usefixtures("quick")
def test_an_undeclared_block_design_is_found(planted: dict[str, Study], tmp_path: Path) -> None:
    source = planted["drift, block"]
    study = copy_study(source, tmp_path / "s", design="unknown", block=-1, keep=np.arange(160))
    found = audit(study, permutations=199)
    assert found["verdict"] == "confounded"
    assert found["checks"]["design"]["found_in"] == ["order"]


def test_an_audit_is_the_same_again_and_grows_stale(tmp_path: Path) -> None:
    study = toy(tmp_path / "s", run=np.repeat(["1", "2", "3", "4"], 30))
    made = make_split(study, "by-run")
    first, second = (audit(study, permutations=199) for _ in range(2))
    assert {k: v for k, v in first.items() if k != "provenance"} == {
        k: v for k, v in second.items() if k != "provenance"
    }
    assert read_audit(study, "by-run")["stale"] is False
    assert read_audit(study, "by-image") is None
    study.write_split(Split("by-run", made.folds[1:], made.how), overwrite=True)
    assert read_audit(study, "by-run")["stale"] is True
    study.write_split(made, overwrite=True)
    assert read_audit(study, "by-run")["stale"] is False
    write_json(study.path / "study.json", {**study.info, "design": "randomised"})
    assert read_audit(Study(study.path), "by-run")["stale"] is True


def test_one_recording_a_class_is_confounded_by_variances_alone(tmp_path: Path) -> None:
    # Ten recordings of one class each that differ in the noise of their channels; no trial has a
    # mean, and nothing is evoked: a linear decoder of the response finds nothing, a net would.
    names = [f"c{i:02d}" for i in np.repeat(np.arange(10), 40)]
    gain = 1 + 0.25 * RNG(5).standard_normal((10, 4, 1)).repeat(40, axis=0)
    eeg = gain * RNG(1).standard_normal((400, 4, 64))
    eeg -= eeg.mean(axis=2, keepdims=True)
    order = RNG(0).permutation(400)  # toy() permutes the names so
    study = toy(tmp_path / "s", n=400, classes=names, eeg=eeg[order], order=None,
                run=np.array(names)[order])  # fmt: skip
    assert (study.trials["category"] == study.trials["run"]).all()
    found = audit(study, permutations=999)
    rows = {r["decoder"]: r for r in found["checks"]["decoders"]["rows"]}
    assert not rows["full"]["above_chance"] and rows["variance"]["above_chance"]
    assert not found["checks"]["time"]["found"] and not found["checks"]["prestimulus"]["found"]
    assert (found["verdict"], found["decodable"]) == ("confounded", True)
    assert found["checks"]["decoders"]["nuisance"] in ("variance", "power")
    assert found["checks"]["decoders"]["nuisance_share"] == 1
    assert rows["variance"]["share"] > 0.5
    words = " ".join([found["summary"], *found["evidence"]])
    assert "Nothing is decodable" not in words and "variance" in words
    page = write_audit_page(study, found).read_text("utf-8")
    assert "Nothing decodable" not in page and "nothing is decodable" not in page


def test_a_class_before_the_stimulus_is_decodable_where_the_response_is_not(tmp_path: Path) -> None:
    names = RNG(0).permutation([f"c{i % 2}" for i in range(160)])
    eeg = RNG(1).standard_normal((160, 4, 32))
    eeg[:, 1, :6] += 2 * (names == "c1")[:, None]
    found = audit(toy(tmp_path / "s", n=160, eeg=eeg), permutations=199)
    assert not any(r["above_chance"] for r in found["checks"]["decoders"]["rows"])
    assert found["decodable"] is True and "Nothing is decodable" not in found["summary"]


@pytest.mark.parametrize("what", ["length", "count", "flat channel"])
def test_noise_of_each_trials_length_and_count_is_decoded_too(tmp_path: Path, what: str) -> None:
    names = RNG(0).permutation([f"c{i % 2}" for i in range(160)])
    second = names == "c1"
    eeg, more = RNG(1).standard_normal((160, 4, 32)), {}
    if what == "length":
        eeg[second, :, 24:] = 0
    elif what == "count":
        more = {"n_averaged": np.where(second, 16, 1)}
    else:
        eeg[second, 2] = 0
    found = audit(toy(tmp_path / "s", n=160, eeg=eeg, **more), permutations=199)
    rows = {r["decoder"]: r for r in found["checks"]["decoders"]["rows"]}
    assert rows["noise"]["accuracy"] > 0.9 and found["checks"]["decoders"]["shape"]
    assert found["verdict"] == "suspect" and "length of trials" in found["summary"]
    even = audit(toy(tmp_path / "even", n=160), permutations=199)
    assert "noise" not in {r["decoder"] for r in even["checks"]["decoders"]["rows"]}
    # Lengths that have nothing to do with the class tell nothing.
    eeg = RNG(1).standard_normal((160, 4, 32))
    eeg[RNG(2).random(160) < 0.5, :, 24:] = 0
    mixed = audit(toy(tmp_path / "mixed", n=160, eeg=eeg), permutations=199)
    assert not mixed["checks"]["decoders"]["shape"] and mixed["verdict"] == "clean"


def test_an_audit_by_an_earlier_rule_counts_as_none(tmp_path: Path) -> None:
    study = toy(tmp_path / "s", run=np.repeat(["1", "2", "3", "4"], 30))
    make_split(study, "by-run")
    audit(study, permutations=199)
    stored = json.loads((study.path / "audit.json").read_text())
    write_json(study.path / "audit.json", {**stored, "format": 1})
    assert read_audit(study, "by-run") is None


# -- leaks -----------------------------------------------------------------------------------------
def test_leaks_are_found_refused_and_waived(planted: dict[str, Study], tmp_path: Path) -> None:
    study = planted["nothing, randomized"]
    n = study.n_trials
    split = Split("mixed", (Fold(np.arange(0, n, 3), np.arange(1, n, 3), np.arange(2, n, 3)),))
    found = leaks(study, split.folds[0])
    assert {(leak.kind, leak.sides) for leak in found} == {
        ("images", s) for s in (("train", "val"), ("train", "test"), ("val", "test"))
    }
    with pytest.raises(SplitError, match="--allow-leakage images"):
        check_leaks(study, split, 0)
    assert "are shown on both train and val" in check_leaks(study, split, 0, ["images"])[0]
    # The same image under another name is the same image.
    twins = copy_study(study, tmp_path / "twins", keep=np.arange(n))
    twins.images["sha256"] = "same"
    assert leaks(twins, study.split("official").folds[0])[0].kind == "images"


def test_repetitions_samples_and_subjects_on_two_sides(tmp_path: Path) -> None:
    study = toy(tmp_path / "s", n=60)
    half = Fold(np.arange(0, 20), np.arange(20, 40), np.arange(40, 60))
    assert leaks(study, half) == []
    eeg = np.array(study.eeg)
    eeg[59] = eeg[0]
    twice = toy(tmp_path / "twice", n=60, eeg=eeg)
    assert repeated_trials(twice)[59] == 0
    assert [(x.kind, x.sides) for x in leaks(twice, half)] == [("repetitions", ("train", "test"))]
    near = toy(tmp_path / "near", n=60, onset=np.arange(60) * 0.3)
    assert [(x.kind, x.count) for x in leaks(near, half)] == [("samples", 1), ("samples", 1)]
    people = toy(tmp_path / "people", n=60, subject=["a", "b"] * 30)
    found = leaks(people, half, {"kind": "by-subject"})
    assert {(x.kind, x.count) for x in found} == {("subjects", 2)} and leaks(people, half) == []
    flat = toy(tmp_path / "flat", n=60, eeg=np.zeros((60, 4, 32)), order=None)
    assert leaks(flat, half) == []  # nothing recorded is no repetition


def test_what_all_folds_leak_is_said_once(tmp_path: Path) -> None:
    study = toy(tmp_path / "s", n=60, subject=["a", "b"] * 30)
    ids = np.arange(60)
    folds = tuple(
        Fold(ids[(ids % 3 == k)], ids[ids % 3 == (k + 1) % 3], ids[ids % 3 == (k + 2) % 3])
        for k in range(3)
    )
    study.write_split(Split("mixed", folds, {"kind": "by-subject"}))
    found = audit(study, permutations=199)
    assert found["folds"] == 3 and len(found["leaks"]) == 6
    assert len(leaks_once(found)) == len(leaks_once(found, ("train", "test"))) + 1 == 2
    page = write_audit_page(study, found).read_text("utf-8")
    assert page.count("are on both train and test") <= 1 and "fold 1: " not in page
    some = {**found, "leaks": [leak for leak in found["leaks"] if leak["fold"] == 1]}
    assert all(words.endswith("(fold 1)") for words in leaks_once(some))


def test_training_refuses_a_leak_and_prints_a_waiver(small_study: Path, tmp_path: Path) -> None:
    study = Study(small_study)
    ids = np.arange(32)
    study.write_split(Split("leaky", (Fold(ids[:16], ids[16:24], ids[24:]),)))
    base = ["train", str(small_study), "--split", "leaky", "training.epochs=1", "kinds=ObjectSnap"]
    refused = CliRunner().invoke(app, [*base, "--out", str(tmp_path / "no")])
    assert refused.exit_code == 2 and "--allow-leakage images" in refused.output
    assert not (tmp_path / "no").exists()
    wrong = CliRunner().invoke(
        app, [*base, "--out", str(tmp_path / "no"), "--allow-leakage", "image"]
    )
    assert wrong.exit_code == 2 and "did you mean 'images'" in wrong.output
    run = tmp_path / "run"
    done = CliRunner().invoke(app, [*base, "--out", str(run), "--allow-leakage", "images"])
    assert done.exit_code == 0, done.output
    for command in ("decode", "evaluate", "report"):
        said = CliRunner().invoke(app, [command, str(run)])
        assert said.exit_code == 0, said.output
        if command == "evaluate":
            assert "Allowed leakage: 8 images are shown on both train and val" in said.output
            assert "not audited" in said.output
    stored = json.loads((run / "scores.json").read_text())
    assert all("8 images" in row["allowed_leakage"] for row in stored["rows"])
    assert {row["audit"] for row in stored["rows"]} == {"not audited"}
    page = (run / "report.html").read_text("utf-8")
    assert (
        "Allowed leakage: 8 images" in page and "Leaks allowed" in page
    )  # at the scores, at the head


# -- odd studies -----------------------------------------------------------------------------------
def toy(
    out: Path, *, n: int = 120, n_chans: int = 4, classes: int | list[str] = 2, eeg=None,
    onset=None, order="known", tmin: float = -0.1, **columns,
) -> Study:  # fmt: skip
    """Noise of a few channels, of which only the category is known."""
    names = [f"c{i % classes}" for i in range(n)] if isinstance(classes, int) else classes
    names = RNG(0).permutation(names)
    trials = {"subject": "a", "image_id": names, "category": names}
    if order is not None:
        trials["order"] = np.arange(n)
    if onset is not None:
        trials["onset"] = onset
    with StudyWriter.open(out) as writer:
        writer.append(RNG(1).standard_normal((n, n_chans, 32)) * 1e-5 if eeg is None else eeg)
        writer.finish(
            info={
                "name": "toy", "source": "noise", "ch_names": [f"E{i}" for i in range(n_chans)],
                "sfreq": 64.0, "tmin": tmin, "unit": "V", "design": "unknown",
                "image_identity": "category",
            },
            trials=pd.DataFrame({**trials, **columns}),
            images=pd.DataFrame({"image_id": sorted(set(names)), "category": sorted(set(names))}),
        )  # fmt: skip
    return Study(out)


def copy_study(source: Study, out: Path, *, keep: np.ndarray, design: str = "", **columns) -> Study:
    """Some trials of a study, with columns overwritten."""
    with StudyWriter.open(out) as writer:
        writer.append(np.array(source.eeg[keep]))
        writer.finish(
            info={**source.info, "design": design or source.design},
            trials=source.trials.iloc[keep].assign(**columns),
            images=source.images,
        )
    return Study(out)


def test_a_study_of_categories_without_split(tmp_path: Path) -> None:
    found = audit(toy(tmp_path / "s"), permutations=199)
    assert (found["verdict"], found["split"], found["decodable"]) == ("clean", None, False)
    assert any("no split yet" in text for text in found["limits"])
    assert found["checks"]["prestimulus"]["window"].endswith("before the stimulus")


def test_no_order_is_unknown_and_session_of_one_class_is_found(tmp_path: Path) -> None:
    found = audit(toy(tmp_path / "s", order=None), permutations=199)
    assert found["verdict"] == "unknown" and found["checks"]["time"]["decoding"] is None
    assert "cannot be known" in found["summary"]
    study = toy(tmp_path / "files", classes=2, order=None)
    runs = copy_study(study, tmp_path / "runs", keep=np.arange(120), run=study.trials["category"])
    found = audit(runs, permutations=199)
    assert found["verdict"] == "suspect"
    assert any("Each of 2 runs holds one class only" in text for text in found["evidence"])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(1, "one class"), ([f"c{i}" for i in range(120)], "No trial could be decoded")],
)
def test_one_class_and_tiny_classes(tmp_path: Path, classes, expected: str) -> None:
    found = audit(toy(tmp_path / "s", classes=classes), permutations=199)
    assert found["verdict"] == "clean" and found["decodable"] is None
    assert any(expected in text for text in found["evidence"])
    write_audit_page(Study(tmp_path / "s"), found)


def test_eeg_without_variance_and_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    found = audit(toy(tmp_path / "flat", eeg=np.zeros((120, 4, 32))), permutations=199)
    assert found["decodable"] is None and "the same in all trials" in found["summary"]
    assert "the same in all trials" in found["checks"]["time"]["words"][0]
    study = toy(tmp_path / "holes")
    values = np.load(study.path / "eeg.npy")
    values[3, 1, 20] = np.nan
    np.save(study.path / "eeg.npy", values)
    assert any("not finite" in text for text in audit(study, permutations=199)["limits"])


def test_onsets_that_are_not_known_and_trials_that_begin_late(tmp_path: Path) -> None:
    found = audit(toy(tmp_path / "nan", onset=np.full(120, np.nan)), permutations=199)
    assert found["verdict"] == "clean"  # the order is known
    some = np.where(np.arange(120) % 2, np.nan, np.arange(120.0))
    found = audit(toy(tmp_path / "some", onset=some, order=None), permutations=199)
    assert found["verdict"] == "unknown"
    found = audit(toy(tmp_path / "late", tmin=0.2), permutations=199)
    assert found["checks"]["prestimulus"]["decoding"] is None
    assert any("begin 200 ms after" in text for text in found["evidence"])
    found = audit(toy(tmp_path / "early", tmin=0.0), permutations=199)
    assert "first 20 ms" in found["checks"]["prestimulus"]["window"]


def test_a_class_before_the_stimulus_makes_suspect(tmp_path: Path) -> None:
    names = RNG(0).permutation([f"c{i % 2}" for i in range(160)])
    eeg = RNG(1).standard_normal((160, 4, 32))
    eeg[:, 1, :6] += 2 * (names == "c1")[:, None]
    found = audit(toy(tmp_path / "s", n=160, eeg=eeg), permutations=199)
    assert found["verdict"] == "suspect" and found["checks"]["prestimulus"]["found"]


def test_folds_by_subject_and_classes_left_out(tmp_path: Path) -> None:
    study = toy(tmp_path / "s", n=180, classes=3, subject=["a", "b", "c"] * 60,
                onset=np.repeat(np.arange(60.0), 3) * 2)  # fmt: skip
    make_split(study, "by-subject")
    make_split(study, "leave-classes-out", classes=1)
    with pytest.raises(InputError, match="several splits"):
        audit(study)
    found = audit(study, "by-subject", permutations=199)
    assert found["verdict"] == "clean" and not found["leaks"]
    found = audit(study, "leave-classes-out", permutations=199)
    assert any("never trains" in text for text in found["limits"])
    with pytest.raises(UnknownNameError):
        audit(study, "by-sub")
    with pytest.raises(InputError, match="at least 199"):
        audit(study, "by-subject", permutations=99)


def test_a_study_that_is_too_big_is_sampled(tmp_path: Path, monkeypatch) -> None:
    from eegprompt.confounds import audit_data as _material
    from eegprompt.confounds import signal_checks as _signal

    for module in (_material, _signal):
        monkeypatch.setattr(module, "MOST_TRIALS", 90)
    study = toy(tmp_path / "s", n=240, run=np.repeat(["1", "2", "3", "4"], 60))
    found = audit(study, permutations=199)
    assert any("90 trials drawn at random from 240" in text for text in found["limits"])
    assert any("drift was looked for in 1 recordings" in text for text in found["limits"])
    assert found["verdict"] == "clean"


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    study = toy(tmp_path / "s", run=np.repeat(["1", "2", "3", "4"], 30))
    make_split(study, "by-run")
    said = CliRunner().invoke(app, ["audit", str(study.path), "--permutations", "199"])
    assert said.exit_code == 0, said.output
    for words in ("Design (split by-run): clean", "full decoder", "Nothing is decodable", "Page:"):
        assert words in said.output
    assert (study.path / "audit-by-run.html").exists()
    out = CliRunner().invoke(app, ["audit", str(study.path), "--permutations", "199", "--json"])
    assert json.loads(out.stdout)["verdict"] == "clean"


def test_too_few_trials_are_said_to_be_too_few(tmp_path: Path) -> None:
    found = audit(toy(tmp_path / "s", n=20), permutations=199)
    assert found["decodable"] is None
    assert "cannot be told from so few trials" in " ".join(found["evidence"])
    assert any("little can be found" in text for text in found["limits"])


def test_what_would_have_been_noticed_is_the_edge_of_the_test() -> None:
    three = np.array([0, 1, 1])
    assert np.isnan(score_predictions(np.array([1, 1, 1]), three, n=999).noticed)
    labels = RNG(0).integers(0, 2, 200)
    for seed in range(3):
        needed = score_predictions(RNG(seed).integers(0, 2, 200), labels, n=999).noticed
        right = round(needed * 200)
        for more, below in ((0, True), (-2, False)):
            predicted = np.where(np.arange(200) < right + more, labels, 1 - labels)
            # The edge depends a little on how often each class is predicted.
            p = score_predictions(predicted, labels, n=999).p
            assert (p < 0.012) == below or abs(p - 0.01) < 0.01


def test_a_recipe_audits_once_and_a_read_only_study_is_no_obstacle(
    tmp_path: Path, monkeypatch
) -> None:
    from eegprompt.core.errors import StorageError
    from eegprompt.steps import audit as auditing
    from eegprompt.steps.experiment import _audit_once, _silent

    study = toy(tmp_path / "s", run=np.repeat(["1", "2", "3", "4"], 30))
    make_split(study, "by-run")

    def refuse(*_args, **_options):
        raise StorageError("may not be written")

    with monkeypatch.context() as patched:
        patched.setattr(auditing, "write_json", refuse)
        with pytest.warns(UserWarning, match="could not be kept"):
            _audit_once(study, "by-run", _silent(None))
    _audit_once(study, "by-run", _silent(None))
    written = (study.path / "audit.json").stat().st_mtime_ns
    _audit_once(study, "by-run", _silent(None))
    assert (study.path / "audit.json").stat().st_mtime_ns == written
    assert read_audit(study, "by-run")["verdict"] == "clean"
