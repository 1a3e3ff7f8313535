"""A study goes to MNE and to torch and comes back as it was."""

from __future__ import annotations

import pickle

import mne
import numpy as np
import pandas as pd
import pytest
import torch

from eegprompt.core.errors import InputError, StudyError
from eegprompt.study import Study, StudyWriter
from eegprompt.study.exchange import TrialDataset


def with_unit(small_study, out, unit):
    """The small study again, in another unit and with positions."""
    study = Study(small_study)
    from eegprompt.signal.montage import positions_of

    with StudyWriter.open(out) as writer:
        writer.append(study.eeg * (1 if unit == "V" else 1e5))
        info = {k: v for k, v in study.info.items() if k not in ("provenance", "eeg_sha256")}
        info |= {"tmin": -6 / 64, "unit": unit, "ch_pos": positions_of(study.ch_names)}
        writer.finish(info=info, trials=study.trials, images=study.images.assign(path=""))
    return Study(out)


@pytest.mark.parametrize("unit", ["V", "a.u."])
def test_mne_reads_back_what_we_write_and_the_study_returns(unit, small_study, tmp_path):
    study = with_unit(small_study, tmp_path / "study", unit)
    epochs = study.to_epochs()
    epochs.save(tmp_path / "sub-epo.fif", verbose="ERROR")
    read = mne.read_epochs(tmp_path / "sub-epo.fif", verbose="ERROR")
    np.testing.assert_allclose(read.get_data(), study.eeg, rtol=1e-6)
    np.testing.assert_allclose(read.times, study.times, atol=1e-6)
    assert read.ch_names == study.ch_names and read.info["sfreq"] == study.sfreq
    assert (read.metadata["image_id"] == study.trials["image_id"].to_numpy()).all()
    assert sorted(read.event_id) == study.categories
    names = np.array(sorted(read.event_id))[read.events[:, 2] - 1]
    assert names.tolist() == study.trials["category"].tolist()
    # Positions: those of MNE's own template, in head coordinates.
    own = mne.channels.make_standard_montage("standard_1005")
    placed = mne.create_info(study.ch_names, 64.0, "eeg")
    placed.set_montage(own)
    for ours, theirs in zip(read.info["chs"], placed["chs"]):
        np.testing.assert_allclose(ours["loc"][:3], theirs["loc"][:3], atol=1e-4)
    back = Study.from_epochs(read, tmp_path / "back", design="randomised")
    assert back.unit == unit and back.image_identity == "known"
    np.testing.assert_allclose(back.eeg, study.eeg, rtol=1e-6)
    np.testing.assert_allclose(back.positions, study.positions, atol=1e-5)
    assert back.tmin == pytest.approx(study.tmin, abs=1e-6)
    columns = ["subject", "session", "run", "order", "image_id", "category", "n_averaged"]
    pd.testing.assert_frame_equal(back.trials[columns], study.trials[columns], check_dtype=False)


def test_some_trials_and_what_is_refused(small_study, tmp_path):
    study = Study(small_study)
    some = study.to_epochs([3, 1])
    np.testing.assert_allclose(some.get_data(), study.eeg[[3, 1]], rtol=1e-7)
    assert some.get_montage() is None  # this study knows no positions
    for wrong in ([99], [], [-1]):
        with pytest.raises(StudyError):
            study.to_epochs(wrong)
    with pytest.raises(InputError, match="did you mean 'image_id'"):
        Study.from_epochs(some, tmp_path / "no", image_column="image_i")
    with pytest.raises(InputError, match="design"):
        Study.from_epochs(some, tmp_path / "no", design="random")
    some.set_channel_types(dict.fromkeys(some.ch_names, "misc"), verbose="ERROR")
    with pytest.raises(StudyError, match="no EEG channel"):
        Study.from_epochs(some, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_epochs_of_ones_own(tmp_path):
    """Without metadata an event's name is the category; images may be given by name."""
    from PIL import Image

    rng = np.random.default_rng(0)
    info = mne.create_info(["Oz", "EOG"], 100.0, ["eeg", "eog"])
    events = np.column_stack([np.arange(6) * 50 + 50, np.zeros(6, int), [1, 2] * 3])
    epochs = mne.EpochsArray(
        rng.normal(0, 1e-5, (6, 2, 30)), info, events, -0.1, {"cat": 1, "dog": 2},
        baseline=(None, 0), verbose="ERROR",
    )  # fmt: skip
    study = Study.from_epochs(epochs, tmp_path / "a", name="own")
    assert study.ch_names == ["Oz"] and study.image_identity == "category"
    assert study.trials["category"].tolist() == ["cat", "dog"] * 3
    assert [s["name"] for s in study.info["steps"]] == ["epoch", "baseline"]
    Image.new("RGB", (8, 6)).save(tmp_path / "cat.png")
    epochs.metadata = pd.DataFrame({"file": ["x", "y", "x", "y", "x", "y"], "rt": range(6)})
    known = Study.from_epochs(
        epochs, tmp_path / "b", image_column="file", images={"x": tmp_path / "cat.png"}
    )
    assert known.image_identity == "known" and known.load_images(["x"]).shape == (1, 6, 8, 3)
    assert known.trials["rt"].tolist() == list(range(6))
    with pytest.raises(InputError, match="image in 'images'"):
        Study.from_epochs(
            epochs, tmp_path / "c", image_column="file", images={"z": tmp_path / "cat.png"}
        )


def some_epochs(**more):
    info = mne.create_info(["Fz", "Oz", "Cz"], 100.0, "eeg")
    data = np.random.default_rng(0).normal(0, 1e-5, (6, 3, 30))
    events = np.column_stack([np.arange(6) * 50 + 50, np.zeros(6, int), [1, 2] * 3])
    return mne.EpochsArray(
        data, info, events, -0.1, {"cat": 1, "dog": 2}, baseline=None, verbose="ERROR", **more
    )


def unusable(what):
    epochs = some_epochs()
    data, table = epochs.get_data(), pd.DataFrame({"image_id": list("abcabc"), "category": "x"})
    if what == "raw":
        return mne.io.RawArray(data[0], epochs.info, verbose="ERROR")
    if what == "evoked":
        return epochs.average()
    if what == "evokeds":
        return [epochs.average()]
    if what == "spectrum":
        return epochs.compute_psd(verbose="ERROR")
    if what == "array":
        return data
    if what == "empty":
        return epochs.drop(range(6), verbose="ERROR")
    if what == "projection":
        return epochs.set_eeg_reference(projection=True, verbose="ERROR")
    if what == "not a number":
        data[4, 1, 2] = np.inf
        return mne.EpochsArray(data, epochs.info, verbose="ERROR")
    if what == "two units":
        epochs.info["chs"][1]["unit"] = 0
        return epochs
    epochs.metadata = table
    if what == "empty category":
        table.loc[2, "category"] = None
    if what == "empty image":
        table.loc[2, "image_id"] = np.nan
    if what == "empty subject":
        epochs.metadata = table.assign(subject=["1", " ", "1", "1", "1", "1"])
        return epochs
    epochs.metadata = table
    return epochs


@pytest.mark.parametrize(
    "what",
    [
        "raw", "evoked", "evokeds", "spectrum", "array", "empty", "projection", "not a number",
        "two units", "empty category", "empty image", "empty subject",
    ],
)  # fmt: skip
def test_what_is_no_usable_epochs_is_refused_by_name(what, tmp_path):
    with pytest.raises(StudyError) as problem:
        Study.from_epochs(unusable(what), tmp_path / "no")
    assert "\n" not in str(problem.value) and not (tmp_path / "no").exists()
    named = {"raw": "Raw", "evoked": "Evoked", "evokeds": "Evoked", "spectrum": "EpochsSpectrum",
             "not a number": "Oz", "two units": "Oz"}  # fmt: skip
    assert named.get(what, "") in str(problem.value)


def test_epochs_that_are_not_loaded_lose_what_they_reject_first(tmp_path):
    rng = np.random.default_rng(0)
    raw = mne.io.RawArray(
        rng.normal(0, 1e-5, (2, 2000)), mne.create_info(["Fz", "Oz"], 100.0, "eeg"), verbose="ERROR"
    )
    raw._data[0, 510] = 1e-2
    events = np.column_stack([np.arange(100, 1700, 100), np.zeros(16, int), [1, 2] * 8])
    table = pd.DataFrame({"image_id": [f"i{k}" for k in range(16)], "category": ["a", "b"] * 8})
    epochs = mne.Epochs(
        raw, events, {"a": 1, "b": 2}, -0.1, 0.4, baseline=None, metadata=table,
        reject={"eeg": 1e-3}, preload=False, verbose="ERROR",
    )  # fmt: skip
    epochs.info["bads"] = ["Oz"]
    study = Study.from_epochs(epochs, tmp_path / "s")
    assert study.n_trials == 15 and "i4" not in set(study.trials["image_id"])
    np.testing.assert_array_equal(study.eeg, epochs.get_data().astype(np.float32))
    assert sum("amplitude 1" in n or "Oz as bad" in n for n in study.info["notes"]) == 2


def test_a_numbered_column_with_a_hole_filled_is_text(tmp_path):
    epochs = some_epochs(metadata=pd.DataFrame({"image_id": [1.0, 2, 1, 2, 1, 2], "subject": 3.0}))
    study = Study.from_epochs(epochs, tmp_path / "s", category_column="image_id")
    assert study.trials["image_id"].tolist() == ["1", "2"] * 3 and study.subjects == ["3"]


def test_torch_loads_the_same_trials_in_this_process_and_in_others(small_study):
    study = Study(small_study)
    dataset = study.to_torch([5, 2, 9])
    assert isinstance(dataset, TrialDataset) and len(dataset) == 3
    first = dataset[0]
    assert first["eeg"].dtype == torch.float32 and first["trial_id"] == 5
    np.testing.assert_array_equal(first["eeg"].numpy(), study.eeg[5])
    sent = pickle.dumps(dataset)
    assert len(sent) < 2000  # the trials stay in the file
    np.testing.assert_array_equal(pickle.loads(sent)[2]["eeg"].numpy(), study.eeg[9])
    for workers in (0, 1):
        loader = torch.utils.data.DataLoader(
            study.to_torch(), batch_size=10, num_workers=workers, shuffle=True,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        seen = []
        for batch in loader:
            np.testing.assert_array_equal(batch["eeg"].numpy(), study.eeg[batch["trial_id"]])
            images = study.trials["image_id"].iloc[batch["trial_id"].numpy()]
            assert batch["image_id"] == images.tolist()
            seen += batch["trial_id"].tolist()
        assert sorted(seen) == list(range(32))
    with pytest.raises(IndexError):
        dataset[3]
    with pytest.raises(StudyError):
        study.to_torch([99])
