"""MNE's Epochs are decoded as the EEG they are: by channel name, rate, window and unit, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
import torch

import tiny_models
from eegprompt.core.errors import InputError
from eegprompt.core.threads import FEW, threads_for
from eegprompt.decoder import Decoder
from eegprompt.encoders.preprocessing import FittedSteps
from eegprompt.retrieval.candidates import Candidates
from eegprompt.retrieval.pool import CandidatePool
from eegprompt.study import Study, StudyWriter

NAMES = ["Fp1", "Fz", "Cz", "C3", "C4", "Pz", "P3", "P4", "O1", "O2", "Oz", "POz"]
RATE, TMIN, N_TIMES = 100.0, -0.1, 24
DIMS = 8


class Weighing(torch.nn.Module):
    """Every channel and every sample has a weight of its own, so that none can be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(0)
        size = (DIMS, len(NAMES) * N_TIMES)
        self.weights = torch.nn.Parameter(torch.randn(size, generator=made))

    def forward(self, eeg: Any, positions: Any, subject: Any = None) -> dict[str, Any]:
        return {"ObjectSnap": eeg.flatten(1) @ self.weights.T}


def make_decoder(study: Study) -> Decoder:
    rng = np.random.default_rng(1)
    pool = CandidatePool(
        kind="ObjectSnap",
        texts=tuple(f"a thing {i}" for i in range(30)),
        embeddings=rng.normal(size=(30, DIMS)).astype(np.float32),
        caption_ids=tuple(map(str, range(30))),
        meanings=(None,) * 30,
        name="train",
    )
    facts = {
        "ch_names": study.ch_names,
        "positions": study.positions.tolist(),
        "sfreq": study.sfreq,
        "tmin": study.tmin,
        "unit": study.unit,
        "eeg_std": float(np.median(study.eeg.std(axis=2))),
        "encoder": {"heads": ["ObjectSnap"], "n_times": study.n_times, "embedding_dim": DIMS},
    }
    n = study.n_chans
    steps = FittedSteps((), np.eye(n), np.zeros(n))
    return Decoder(Weighing(), steps, facts, candidates=Candidates({"ObjectSnap": pool}))


def write_study(out: Path, unit: str = "V", positions: bool = True) -> Study:
    from eegprompt.signal.montage import positions_of

    rng = np.random.default_rng(0)
    n = 16
    smooth = rng.normal(size=(n, 1, N_TIMES)) + 0.4 * rng.normal(size=(n, len(NAMES), N_TIMES))
    with StudyWriter.open(out) as writer:
        writer.append(smooth * (1e-5 if unit == "V" else 1.0))
        writer.finish(
            info={
                "name": "s", "ch_names": NAMES, "sfreq": RATE, "tmin": TMIN, "unit": unit,
                "design": "randomised", "image_identity": "known",
                "ch_pos": positions_of(NAMES) if positions else {},
            },
            trials=pd.DataFrame({"subject": "1", "image_id": ["a", "b"] * (n // 2)}).assign(
                category=lambda t: t["image_id"]
            ),
            images=pd.DataFrame({"image_id": ["a", "b"], "category": ["a", "b"]}),
        )  # fmt: skip
    return Study(out)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return write_study(tmp_path_factory.mktemp("studies") / "s")


@pytest.fixture(scope="module")
def decoder(study) -> Decoder:
    return make_decoder(study)


def same(a: Any, b: Any) -> bool:
    return np.array_equal(a.embeddings["ObjectSnap"], b.embeddings["ObjectSnap"]) and (
        a.captions.equals(b.captions)
    )


@pytest.mark.parametrize("seed", range(4))
def test_own_trials_in_any_order_of_channels_decode_bit_for_bit(seed, study, decoder, tmp_path):
    expected = decoder.decode(study.eeg)
    epochs = study.to_epochs()
    assert same(decoder.decode(epochs), expected)
    shuffled = epochs.reorder_channels(np.random.default_rng(seed).permutation(NAMES).tolist())
    assert shuffled.ch_names != NAMES and same(decoder.decode(shuffled), expected)
    path = tmp_path / "sub-epo.fif"
    shuffled.save(path, fmt="double", verbose="ERROR")
    assert same(decoder.decode(mne.read_epochs(path, preload=False, verbose="ERROR")), expected)
    # The same values as an array, in the order of these Epochs, are other EEG: arrays say no names.
    assert not same(decoder.decode(shuffled.get_data()), expected)


def test_standardized_studies_too(tmp_path):
    study = write_study(tmp_path / "s", unit="a.u.")
    decoder = make_decoder(study)
    assert same(decoder.decode(study.to_epochs()), decoder.decode(study.eeg))
    volts = write_study(tmp_path / "v").to_epochs()
    with pytest.raises(InputError):
        decoder.decode(volts)
    with pytest.raises(InputError):
        make_decoder(write_study(tmp_path / "w")).decode(study.to_epochs())


def test_case_other_channels_and_a_wider_window_do_not_matter(study, decoder):
    expected = decoder.decode(study.eeg)
    epochs = study.to_epochs()
    data = np.random.default_rng(3).normal(0, 1e-5, (16, 15, N_TIMES + 17))
    data[:, 2:14, 10 : 10 + N_TIMES] = epochs.get_data()
    names = ["EOG", "AF7", *(n.upper() for n in NAMES), "STI"]
    info = mne.create_info(names, RATE, ["eog", "eeg", *["eeg"] * 12, "stim"])
    wide = mne.EpochsArray(data, info, tmin=TMIN - 0.1, verbose="ERROR")
    assert same(decoder.decode(wide), expected)
    # Names that differ in case only are two channels, and the exact one is meant.
    both = study.to_epochs()
    twin = mne.EpochsArray(
        np.ones((16, 1, N_TIMES)), mne.create_info(["cz"], RATE, "eeg"), tmin=TMIN, verbose="ERROR"
    )
    both.add_channels([twin], force_update_info=True)
    assert same(decoder.decode(both), expected)


def test_what_mne_dropped_is_not_decoded(study, decoder):
    epochs = study.to_epochs().drop([0, 3], reason="USER", verbose="ERROR")
    assert same(decoder.decode(epochs), decoder.decode(np.delete(study.eeg, [0, 3], axis=0)))
    raw = mne.io.RawArray(
        np.concatenate(list(study.eeg), axis=1), mne.create_info(NAMES, RATE, "eeg"),
        verbose="ERROR",
    )  # fmt: skip
    events = np.column_stack([np.arange(16) * N_TIMES + 10, np.zeros(16, int), np.ones(16, int)])
    late = mne.Epochs(
        raw, events, tmin=-0.1, tmax=0.13, baseline=None, preload=False, verbose="ERROR",
        reject={"eeg": float(np.ptp(study.eeg[:8], axis=2).max())},
    )  # fmt: skip
    some = decoder.decode(late)  # rejected when they are read
    assert 8 <= len(some) == len(late) <= 16


def changed(epochs: mne.EpochsArray, change: str) -> Any:
    data, info, times = epochs.get_data(), epochs.info, {"tmin": TMIN, "verbose": "ERROR"}
    if change == "rate":
        return epochs.resample(80, verbose="ERROR")
    if change == "rate, cut to length":
        info = mne.create_info(NAMES, 250.0, "eeg")
        return mne.EpochsArray(data, info, **times)
    if change == "late":
        return mne.EpochsArray(data, info, tmin=0.0, verbose="ERROR")
    if change == "short":
        return epochs.crop(None, 0.1)
    if change == "renamed":
        return epochs.rename_channels({"Cz": "E5", "Pz": "E7"})
    if change == "lacking":
        return epochs.drop_channels(["Oz"])
    if change == "bad":
        epochs.info["bads"] = ["Oz"]
        return epochs
    if change == "microvolts":
        return mne.EpochsArray(data * 1e6, info, **times)
    if change == "type":
        return epochs.set_channel_types({"Cz": "eog"}, verbose="ERROR")
    if change == "empty":
        return epochs.drop(range(16), verbose="ERROR")
    if change == "not a number":
        data[3, 2, 1] = np.nan
        return mne.EpochsArray(data, info, **times)
    if change == "projection":
        return epochs.set_eeg_reference(projection=True, verbose="ERROR")
    if change == "evoked":
        return epochs.average()
    if change == "evokeds":
        return [epochs.average()]
    assert change == "raw"
    return mne.io.RawArray(data[0], info, verbose="ERROR")


@pytest.mark.parametrize(
    "change",
    [
        "rate", "rate, cut to length", "late", "short", "renamed", "lacking", "bad", "microvolts",
        "type", "empty", "not a number", "projection", "evoked", "evokeds", "raw",
    ],
)  # fmt: skip
def test_epochs_that_are_other_eeg_are_refused(change, study, decoder):
    with pytest.raises(InputError) as problem:
        decoder.decode(changed(study.to_epochs(), change))
    assert "\n" not in str(problem.value)


def test_applied_projections_are_what_the_data_are(study, decoder):
    epochs = study.to_epochs().set_eeg_reference(projection=True, verbose="ERROR")
    referenced = study.eeg - study.eeg.mean(axis=1, keepdims=True)
    found = decoder.embed(epochs.apply_proj(verbose="ERROR"))["ObjectSnap"]
    np.testing.assert_allclose(found, decoder.embed(referenced)["ObjectSnap"], atol=1e-5)


def test_missing_and_bad_channels_are_interpolated_when_asked(study, decoder):
    true = study.eeg[:, NAMES.index("Cz")].astype(float)
    whole = study.to_epochs()
    whole.info["bads"] = ["Cz"]
    without = study.to_epochs().drop_channels(["Cz"])
    seen: list[np.ndarray] = []
    keep = decoder.embed_checked
    decoder.embed_checked = lambda eeg, *rest: seen.append(eeg) or keep(eeg, *rest)  # type: ignore
    try:
        decoder.decode(whole, bads="interpolate")
        decoder.decode(without, missing="interpolate")
    finally:
        del decoder.embed_checked
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-12)
    others = [i for i, n in enumerate(NAMES) if n != "Cz"]
    np.testing.assert_array_equal(seen[0][:, others].astype(np.float32), study.eeg[:, others])
    cz = NAMES.index("Cz")
    assert np.corrcoef(seen[0][:, cz].ravel(), true.ravel())[0, 1] > 0.7
    # As MNE interpolates with the same electrodes.
    own = whole.copy().interpolate_bads(origin=(0.0, 0.0, 0.04), verbose="ERROR").get_data()
    assert np.corrcoef(seen[0][:, cz].ravel(), own[:, cz].ravel())[0, 1] > 0.99
    # One does not stand for the other, and most of a map is not made up.
    for epochs, how in ((whole, {"missing": "interpolate"}), (without, {"bads": "interpolate"})):
        with pytest.raises(InputError):
            decoder.decode(epochs, **how)
    few = study.to_epochs().drop_channels(NAMES[:4])
    with pytest.raises(InputError):
        decoder.decode(few, missing="interpolate")
    with pytest.raises(InputError):
        decoder.decode(without, missing="zero")


def test_without_positions_nothing_is_interpolated_unless_the_epochs_know_them(tmp_path):
    study = write_study(tmp_path / "s", positions=False)
    decoder, epochs = make_decoder(study), study.to_epochs()
    epochs.info["bads"] = ["Oz"]
    with pytest.raises(InputError):
        decoder.decode(epochs, bads="interpolate")
    epochs.set_montage("standard_1005", verbose="ERROR")
    assert len(decoder.decode(epochs, bads="interpolate")) == 16
    assert epochs.info["bads"] == ["Oz"]  # the caller's Epochs are as they were


def test_a_channel_without_a_position_does_not_keep_others_from_being_interpolated(study):
    decoder = make_decoder(study)
    decoder.facts["positions"][NAMES.index("P3")] = [None] * 3
    seen: list[np.ndarray] = []
    keep = decoder.embed_checked
    decoder.embed_checked = lambda eeg, *rest: seen.append(eeg) or keep(eeg, *rest)  # type: ignore
    epochs = study.to_epochs()
    epochs.info["bads"] = ["Cz"]
    decoder.decode(epochs, bads="interpolate")
    cz, others = NAMES.index("Cz"), [i for i, n in enumerate(NAMES) if n != "Cz"]
    assert np.corrcoef(seen[0][:, cz].ravel(), study.eeg[:, cz].ravel())[0, 1] > 0.7
    np.testing.assert_array_equal(seen[0][:, others].astype(np.float32), study.eeg[:, others])
    epochs.set_montage(None).info["bads"] = ["P3"]
    with pytest.raises(InputError):
        decoder.decode(epochs, bads="interpolate")


def one_channel(eeg: np.ndarray, factor: float) -> np.ndarray:
    return eeg * np.where(np.arange(len(NAMES)) == 3, factor, 1.0)[:, None]


def test_one_channel_in_another_unit_is_refused(study, decoder):
    for factor in (1e3, 1e6, 1e-3, 1e-6):
        with pytest.raises(InputError) as problem:
            decoder.decode(one_channel(study.eeg, factor))
        assert f"'{NAMES[3]}'" in str(problem.value)
    assert len(decoder.decode(one_channel(study.eeg, 30))) == 16  # a noisy electrode


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda e: e * 1e6, {}),
        (lambda e: e[..., :-1], {}),
        (lambda e: e[:, :-1], {}),
        (lambda e: e, {"missing": "interpolate"}),
        (lambda e: e, {"bads": "interpolate"}),
        (lambda e: e.astype(object), {}),
    ],
)
def test_arrays_are_checked_by_shape_and_size(change, options, study, decoder):
    with pytest.raises(InputError):
        decoder.decode(change(np.array(study.eeg)), **options)


def test_epochs_say_their_names_and_rate_themselves(study, decoder):
    for extra in ({"ch_names": NAMES}, {"sfreq": RATE}):
        with pytest.raises(InputError):
            decoder.decode(study.to_epochs(), **extra)


# -- few trials do not wait for who else is at work -------------------------------------------------
def test_few_trials_take_one_thread_and_many_what_there_is(monkeypatch, study, decoder):
    seen: list[int] = []
    forward = decoder.encoder.forward
    monkeypatch.setattr(
        decoder.encoder, "forward", lambda *a: seen.append(torch.get_num_threads()) or forward(*a)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        decoder.embed(study.eeg[:1])
        decoder.embed(np.tile(study.eeg, (3, 1, 1)))
        assert seen == [1, 2] and torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), threads_for(FEW, torch.device("cpu")):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2  # also after an error
    finally:
        torch.set_num_threads(before)
    monkeypatch.undo()


def test_one_trial_beside_a_busy_core_takes_no_multiple(tmp_path):
    """Two threads took about a hundred times as long as one beside processes that use all cores."""
    from eegprompt.encoders.transformer import EEGTransformer

    torch.manual_seed(0)
    encoder = EEGTransformer(heads=["ObjectSnap"], embedding_dim=64, n_chans=64, n_times=128,
                                 sfreq=128.0).eval()  # fmt: skip
    names = [f"E{i}" for i in range(64)]
    facts = {
        "ch_names": names, "positions": [[0.0, 0.0, 0.1]] * 64, "sfreq": 128.0, "tmin": 0.0, "unit": "V",
        "encoder": {"heads": ["ObjectSnap"], "n_times": 128, "embedding_dim": 64},
    }  # fmt: skip
    decoder = Decoder(encoder, FittedSteps((), np.eye(64), np.zeros(64)), facts)
    eeg = np.random.default_rng(0).normal(0, 1e-5, (1, 64, 128))

    def median(n_threads: int) -> float:
        torch.set_num_threads(n_threads)
        decoder.embed(eeg)
        taken = []
        for _ in range(25):
            begin = time.perf_counter()
            decoder.embed(eeg)
            taken.append(time.perf_counter() - begin)
        return float(np.median(taken))

    before = torch.get_num_threads()
    loop = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(0.3)
        assert median(2) < 5 * median(1)
    finally:
        for process in busy:
            process.kill()
            process.wait()
        torch.set_num_threads(before)


def test_the_tiny_run_refuses_epochs_of_a_study_it_does_not_know(tmp_path):
    clip = tiny_models.save_clip(tmp_path / "clip")
    study = tiny_models.save_study(tmp_path / "study", clip)
    epochs = study.to_epochs([0, 1]).rename_channels({"O1": "Fz"})
    run = tiny_models.save_run(tmp_path / "run", study, clip, tmp_path / "none")
    decoder = Decoder.from_pretrained(run)
    with pytest.raises(InputError):
        decoder.embed(epochs)
    kept = decoder.embed(epochs.rename_channels({"Fz": "O1"}))
    for head, rows in decoder.embed(study.eeg[:2]).items():
        np.testing.assert_array_equal(rows, kept[head])
