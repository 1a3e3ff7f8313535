"""Named steps: each does what it says, is recorded, and is refused the second time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.signal.steps import (
    Ledger,
    average_reference,
    average_repetitions,
    band_pass,
    baseline,
    crop,
    notch,
    preprocess,
    resample,
)
from eegprompt.study import Study

SFREQ = 200.0


def tone(hz: float, seconds: float = 10.0, sfreq: float = SFREQ) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sfreq)) / sfreq)[None]


def middle_rms(signal: np.ndarray) -> float:
    n = signal.shape[-1]
    return float(np.sqrt((signal[..., n // 4 : -n // 4] ** 2).mean()))


@pytest.mark.parametrize("method", ["iir", "fir"])
def test_band_pass_keeps_its_band_without_shift(method: Any) -> None:
    for hz, kept in ((0.1, False), (5, True), (15, True), (60, False)):
        filtered = band_pass(tone(hz, 40), SFREQ, 1, 30, method=method)
        assert (middle_rms(filtered) > 0.65) == kept, hz
        if kept:  # no phase shift: the sine lies on itself
            assert np.abs(filtered - tone(hz, 40))[..., 2000:-2000].max() < 0.05
        else:
            assert middle_rms(filtered) < 0.05


def test_notch_removes_one_line() -> None:
    both = tone(10) + tone(50)
    cleaned = notch(both, SFREQ, (50,))
    assert middle_rms(cleaned - tone(10)) < 0.02


def test_resample_keeps_amplitude_and_time() -> None:
    down = resample(tone(5), SFREQ, 50)
    assert down.shape == (1, 500)
    assert np.abs(down - tone(5, sfreq=50))[:, 50:-50].max() < 0.02


def test_reference_baseline_crop_and_repetitions() -> None:
    eeg = np.random.default_rng(0).standard_normal((6, 3, 100))
    assert np.allclose(average_reference(eeg).mean(axis=1), 0)
    tmin = -0.2
    based = baseline(eeg, 100.0, tmin, -0.1, 0.0)
    assert np.allclose(based[..., 10:21].mean(axis=-1), 0)
    assert np.allclose(np.diff(based, axis=-1), np.diff(eeg, axis=-1))
    part, start = crop(eeg, 100.0, tmin, 0.0, 0.5)
    assert part.shape == (6, 3, 51) and start == pytest.approx(0)
    assert np.array_equal(part, eeg[..., 20:71])
    mean, members = average_repetitions(eeg, ["a", "b", "a", "a", "b", "c"])
    assert np.allclose(mean[0], eeg[[0, 2, 3]].mean(axis=0))
    assert [m.tolist() for m in members] == [[0, 2, 3], [1, 4], [5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: band_pass(tone(5), SFREQ, None, None), "needs a lower or an upper edge"),
        (lambda: band_pass(tone(5), SFREQ, 0, 30), "between 0 and 100 Hz"),
        (lambda: band_pass(tone(5, 1), SFREQ, 1, 30), r"1 s of signal is too short .* needs 3 s"),
        (lambda: notch(tone(5), SFREQ, (130,)), "between 0 and 100 Hz"),
        (lambda: resample(tone(5), SFREQ, SFREQ), "already"),
        (lambda: resample(tone(5), SFREQ, -3), "positive number"),
        (lambda: average_reference(tone(5)), "at least two channels"),
        (lambda: crop(np.zeros((2, 3, 50)), 100.0, 0.0, -0.1, 0.2), "does not lie in the trial"),
        (lambda: baseline(np.zeros((2, 3, 50)), 100.0, 0.0, 0.3, 0.1), "does not lie"),
        (lambda: average_repetitions(np.zeros((2, 3, 5)), ["a"]), "one key a trial"),
    ],
)
def test_what_a_step_cannot_do_is_said(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_ledger_refuses_repetition_and_unknown_names() -> None:
    ledger = Ledger([{"name": "baseline", "start": -0.1}])
    ledger.add("crop", start=0)
    with pytest.raises(InputError, match=r"'baseline' was applied already \(start=-0.1\)"):
        ledger.add("baseline", start=0)
    with pytest.raises(UnknownNameError, match="did you mean 'band-pass'"):
        ledger.add("bandpass")
    assert [s["name"] for s in ledger.steps] == ["baseline", "crop"]


def test_a_step_is_known_by_its_other_names() -> None:
    for done, asked in (
        ({"name": "reference", "to": "average"}, "average reference"),
        ({"name": "highpass", "hz": 0.1}, "band-pass"),
        ({"name": "lowpass", "hz": 40.0}, "band-pass"),
    ):
        with pytest.raises(InputError):
            Ledger([done]).add(asked)
    Ledger([{"name": "reference", "to": "Cz"}]).add("average reference")


def test_preprocess_writes_a_new_study(small_study: Path, tmp_path: Path) -> None:
    study = Study(small_study)
    steps = [
        {"name": "average reference"},
        {"name": "baseline", "start": None, "stop": None},
        {"name": "crop", "start": study.times[4], "stop": study.times[19]},
    ]
    seen: list[int] = []
    done = preprocess(
        study, tmp_path / "new", steps, block=5, progress=lambda d, t, w: seen.append(d)
    )
    expected = study.eeg - study.eeg.mean(axis=1, keepdims=True)
    expected = (expected - expected.mean(axis=-1, keepdims=True))[..., 4:20]
    assert np.allclose(done.eeg, expected, atol=1e-9)
    assert done.times == pytest.approx(study.times[4:20])
    assert done.trials.equals(study.trials)
    assert done.split_names() == study.split_names()
    assert done.caption_names() == study.caption_names()
    assert done.load_images(list(done.images["image_id"])).shape[0] == len(study.images)
    assert done.key != study.key
    assert seen[-1] == study.n_trials
    # Once is enough, and nothing is left of a refused attempt.
    for again in steps:
        with pytest.raises(InputError, match="was applied already"):
            preprocess(done, tmp_path / "again", [again])
    with pytest.raises(InputError, match="was applied already"):
        preprocess(study, tmp_path / "again", [steps[0], steps[0]])
    with pytest.raises(UnknownNameError, match="unknown step on trials 'reject'"):
        preprocess(study, tmp_path / "again", [{"name": "reject"}])
    with pytest.raises(InputError, match="wrong parameters"):
        preprocess(study, tmp_path / "again", [{"name": "crop", "begin": 0}])
    with pytest.raises(InputError, match="is the study itself"):
        preprocess(study, small_study, [{"name": "average reference"}], overwrite=True)
    assert not (tmp_path / "again").exists()


def test_preprocess_resamples(small_study: Path, tmp_path: Path) -> None:
    study = Study(small_study)
    done = preprocess(study, tmp_path / "new", [{"name": "resample", "to": study.sfreq / 2}])
    assert done.sfreq == study.sfreq / 2 and done.n_times == study.n_times // 2
    assert done.tmin == study.tmin


def test_repetitions_are_averaged_as_a_step_and_splits_follow(
    small_study: Path, tmp_path: Path
) -> None:
    study = Study(small_study)
    step = {"name": "average repetitions"}
    done = preprocess(study, tmp_path / "new", [step, {"name": "crop", "start": 0.0, "stop": 0.2}])
    assert done.n_trials == 8  # each image is seen by one of the two subjects, four times
    assert done.trials["n_averaged"].tolist() == [4] * 8
    for row in done.trials.itertuples():
        same = study.trials["image_id"] == row.image_id
        same &= study.trials["subject"] == row.subject
        mean = study.eeg[same.to_numpy()].mean(axis=0)
        assert np.allclose(done.eeg[row.trial_id], mean[:, 6:20], atol=1e-9)
    fold = done.split("official").fold(0)
    old = study.split("official").fold(0)
    for side in ("train", "val", "test"):
        images = set(done.trials["image_id"].iloc[getattr(fold, side)])
        assert images == set(study.trials["image_id"].iloc[getattr(old, side)])
    with pytest.raises(InputError, match="applied already"):
        preprocess(done, tmp_path / "again", [step])
    apart = preprocess(study, tmp_path / "run", [{**step, "within": "run"}])
    assert apart.n_trials == 16 and set(apart.trials["run"]) == {"1", "2"}
    with pytest.raises(UnknownNameError, match="Allowed: within"):
        preprocess(study, tmp_path / "no", [{**step, "by": "run"}])


def test_a_split_that_parts_repetitions_is_not_carried_over(
    small_study: Path, tmp_path: Path
) -> None:
    from eegprompt.splits.base import make_split

    study = Study(small_study)
    make_split(study, "by-run", val_from="blocks", within_subject=False)
    done = preprocess(study, tmp_path / "new", [{"name": "average repetitions"}])
    assert done.split_names() == ["official"]
    assert any("'by-run' was not carried over" in note for note in done.info["notes"])
