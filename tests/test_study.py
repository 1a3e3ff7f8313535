"""A study is read as it was written, and refused when it does not fit together."""

import json

import numpy as np
import pandas as pd
import pytest

from eegprompt.core.errors import CaptionError, SplitError, StudyError, UnknownNameError
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

INFO = {
    "name": "tiny", "source": "test", "ch_names": ["Fz", "Cz"], "sfreq": 100.0, "tmin": -0.1,
    "unit": "V", "design": "randomised", "image_identity": "known",
    "ch_pos": {"Fz": [0, 0.06, 0.08], "Cz": None},
}  # fmt: skip
IMAGES = pd.DataFrame({"image_id": ["a", "b"], "category": ["cat", "dog"]})


def trials(n):
    return pd.DataFrame({
        "subject": "1", "image_id": ["a", "b"] * (n // 2), "category": ["cat", "dog"] * (n // 2)
    })  # fmt: skip


def write(out, eeg, info=INFO, table=None, blocks=3):
    with StudyWriter.open(out) as writer:
        for block in np.array_split(eeg, blocks):
            writer.append(block)
        writer.finish(info=info, trials=trials(len(eeg)) if table is None else table, images=IMAGES)
    return Study(out)


@pytest.fixture
def eeg():
    return np.random.default_rng(0).standard_normal((10, 2, 5)).astype(np.float32)


def test_what_is_written_is_read(tmp_path, eeg):
    study = write(tmp_path / "s", eeg)
    assert np.array_equal(study.eeg, eeg)
    assert np.array_equal(np.load(tmp_path / "s" / "eeg.npy"), eeg)  # plain NumPy reads it, too
    assert study.times[0] == pytest.approx(-0.1) and study.n_times == 5
    assert np.isnan(study.positions[1]).all() and study.positions[0, 2] == pytest.approx(0.08)


def test_blocks_do_not_matter(tmp_path, eeg):
    one, many = write(tmp_path / "a", eeg, blocks=1), write(tmp_path / "b", eeg, blocks=5)
    assert (one.path / "eeg.npy").read_bytes() == (many.path / "eeg.npy").read_bytes()


def test_a_value_that_is_not_finite_names_trial_and_channel(tmp_path, eeg):
    eeg[7, 1, 3] = np.nan
    with pytest.raises(StudyError, match="trial 7, channel 1 "):
        write(tmp_path / "s", eeg)
    assert list(tmp_path.iterdir()) == []


def test_no_trials_is_an_error(tmp_path):
    with pytest.raises(StudyError, match="no trials are left"):
        write(tmp_path / "s", np.zeros((0, 2, 5), np.float32), blocks=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"design": "random"}, "unknown design 'random'; did you mean 'randomised'"),
        ({"image_identity": "no"}, "Allowed: known, category"),
        ({"ch_names": ["Fz"]}, "names 1 channels but eeg.npy has 2"),
        ({"ch_names": ["Fz", "Fz"]}, "names a channel twice"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, eeg, change, message):
    with pytest.raises((StudyError, UnknownNameError), match=message):
        write(tmp_path / "s", eeg, info={**INFO, **change})


def test_trials_of_unlisted_images_are_refused(tmp_path, eeg):
    table = trials(10)
    table.loc[3, "image_id"] = "ghost"
    with pytest.raises(StudyError, match="ghost"):
        write(tmp_path / "s", eeg, table=table)


def test_a_half_written_study_is_named(tmp_path, eeg):
    study = write(tmp_path / "s", eeg)
    path = study.path / "eeg.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StudyError, match="half-written"):
        Study(study.path)
    (study.path / "eeg.npy").unlink()
    with pytest.raises(StudyError, match=r"eeg\.npy is missing"):
        Study(study.path)


def test_a_missing_study_says_how_to_make_one(tmp_path):
    with pytest.raises(StudyError, match="does not exist; make one with 'eegprompt simulate'"):
        Study(tmp_path / "nothing")
    with pytest.raises(StudyError, match="it is no study"):
        Study(tmp_path)


def test_another_format_version_is_refused(tmp_path, eeg):
    study = write(tmp_path / "s", eeg)
    info = json.loads((study.path / "study.json").read_text())
    (study.path / "study.json").write_text(json.dumps({**info, "format_version": 99}))
    with pytest.raises(StudyError, match="format 99"):
        Study(study.path)


def test_splits_round_trip_and_do_not_leak(tmp_path, eeg):
    study = write(tmp_path / "s", eeg)
    study.write_split(Split("mine", (Fold([0, 1], [2], [3]),), {"seed": 1}))
    back = study.split("mine")
    assert back.fold(0).train.tolist() == [0, 1] and back.how == {"seed": 1}
    with pytest.raises(SplitError, match="folds 0 to 0, got fold 1"):
        back.fold(1)
    with pytest.raises(SplitError, match="both the train and the test set"):
        Fold([0, 1], [2], [1])
    with pytest.raises(SplitError, match="val set is empty"):
        Fold([0, 1], [], [2])
    study.write_split(Split("far", (Fold([0], [1], [99]),)))
    with pytest.raises(SplitError, match="names trial 99"):
        study.split("far")
    with pytest.raises(UnknownNameError, match="did you mean 'mine'"):
        study.split("mien")
    with pytest.raises(StudyError, match="cannot be a file name"):
        study.write_split(Split("../evil", (Fold([0], [1], [2]),)))


@pytest.mark.parametrize(
    "ids",
    [
        [0.5, 1.7],
        [0.0, 1.0],
        np.array([True, False]),
        [True, False],
        ["0", "1"],
        [0, -1],
        [[0, 1]],
        [None, 0],
        np.array([0, 2**63], dtype=np.uint64),
    ],
)
def test_what_is_no_trial_id_is_refused_and_not_rounded(ids, tmp_path, eeg):
    with pytest.raises(SplitError):
        Fold(ids, [2], [3])
    study = write(tmp_path / "study", eeg)
    for use in (study.to_torch, study.to_epochs):
        with pytest.raises(StudyError):
            use(ids)


def test_trial_ids_of_any_integer_type_are_taken():
    for ids in ([0, 1], (0, 1), np.array([0, 1], np.uint8), np.array([0, 1], object)):
        fold = Fold(ids, pd.Series([2]), [])
        assert fold.train.tolist() == [0, 1] and fold.train.dtype == np.int64


def test_captions_round_trip(tmp_path, eeg):
    study = write(tmp_path / "s", eeg)
    with pytest.raises(CaptionError, match="no captions yet"):
        study.captions("builtin")
    table = pd.DataFrame({"image_id": ["a"], "kind": ["ObjectSnap"], "text": ["a cat"]})
    study.write_captions("mine", table)
    assert study.captions("mine").equals(table)
    study.write_captions("bad", table.drop(columns="kind"))
    with pytest.raises(CaptionError, match="lacks the columns"):
        study.captions("bad")


def test_a_missing_image_is_named(tmp_path, eeg):
    study = write(tmp_path / "s", eeg)
    with pytest.raises(StudyError, match="no image for image 'a'"):
        study.load_images(["a"])
    with pytest.raises(UnknownNameError, match="unknown image 'zebra'"):
        study.image_path("zebra")


def test_the_key_follows_the_data(tmp_path, eeg):
    keys = [write(tmp_path / "a", eeg).key, write(tmp_path / "again", eeg).key]
    keys += [write(tmp_path / "b", eeg[:8]).key, write(tmp_path / "c", eeg + 1e-6).key]
    assert keys[0] == keys[1] and len(set(keys)) == 3
