"""The reader of EEGCVPR40: one pickled file a trial comes out as it was, and runs nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_eegcvpr as tiny
from eegprompt.core.errors import EegpromptError, RecordingError, SplitError
from eegprompt.readers.eegcvpr40 import Eegcvpr40Reader
from eegprompt.study import Study
from malicious import Runs, by_hand


def read(source: Any, out: Path, **options: Any) -> Study:
    return Eegcvpr40Reader().read(source, out, **options)


@pytest.fixture(scope="module")
def made() -> tiny.Tiny:
    return tiny.make(per_class=4)


@pytest.fixture(scope="module")
def release(made: tiny.Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_40(tmp_path_factory.mktemp("release"), made)


@pytest.mark.parametrize("turned", [False, True])
def test_every_trial_and_image_is_as_it_was(
    turned: bool, made: tiny.Tiny, release: Path, tmp_path: Path
) -> None:
    source = tiny.write_40(tmp_path / "in", made, turned=True) if turned else release
    study = read(source, tmp_path / "study")
    assert study.eeg.shape == (32, 128, 440) and study.tmin == 0.02
    fold = study.split("official").fold(0)
    for row in study.trials.itertuples():
        side = row.source_file.split("/")[0]
        pixels, eeg, label, name, subject = np.load(source / row.source_file, allow_pickle=True)
        assert np.array_equal(study.eeg[row.trial_id], eeg.T if turned else eeg)
        assert (row.image_id, row.subject, row.label) == (name, str(subject), label)
        assert row.trial_id in getattr(fold, side)
        assert np.array_equal(study.load_images([name])[0], pixels[:, :, ::-1])
    assert study.design == "block" and study.split("official").how["kept_apart"] == ["images"]
    assert set(study.images["category"]) == {"sorrel", "parachute", "iron", "anemone fish"}
    assert "not verified: how many trials each side holds" in study.info["notes"]


def change(release: Path, folder: Path, place: int = 0, **parts: Any) -> Path:
    """The release with other objects in one of its files; gives the file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(release, folder)
    file = sorted((folder / "train").iterdir())[place]
    objects = list(np.load(file, allow_pickle=True))
    for key, value in parts.items():
        objects[["pixels", "eeg", "label", "image", "subject"].index(key)] = value
    return tiny.save_objects(file, objects)


def test_bad_trials_are_refused_with_file_and_key(release: Path, tmp_path: Path) -> None:
    nan = np.zeros((128, 440), "f4")
    nan[1, 1] = np.inf
    cases: list[tuple[dict[str, Any], str]] = [
        ({"eeg": nan}, r"not finite"),
        ({"eeg": nan[:, :439]}, r"\[1\].* 128 channels and 440 samples, got shape \(128, 439\)"),
        ({"eeg": "none"}, r"\[1\]"),
        ({"eeg": nan.astype("c8")}, r"\[1\]"),
        ({"label": -1}, r"\[2\], the label, is -1"),
        ({"label": 2.5}, r"\[2\], the label, should be a whole number"),
        ({"label": 17}, None),  # a class may have another number, if it has one
        ({"image": 7}, r"\[3\] should be the name"),
        ({"image": "n00000001_5"}, "labels the class"),
        ({"subject": "x"}, r"\[4\], the subject, should be a whole number"),
        ({"pixels": np.zeros((4, 4), "u1")}, r"\[0\], the image"),
        ({"pixels": np.zeros((4, 4, 3), "f4")}, r"\[0\], the image"),
        ({"pixels": np.zeros((4, 4, 3), "u1")}, "another image under the name"),
    ]
    for parts, message in cases:
        file = change(release, tmp_path / "in", **parts)
        if message is None:
            read(tmp_path / "in", tmp_path / "ok")
            continue
        with pytest.raises(RecordingError, match=message) as problem:
            read(tmp_path / "in", tmp_path / "study")
        # What two files disagree on is noticed at the later one.
        assert str(tmp_path / "in") in str(problem.value) and ".npy" in str(problem.value)
        assert file.exists() and not (tmp_path / "study").exists()


def test_bad_folders_are_refused(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    with pytest.raises(RecordingError, match="does not exist"):
        read(tmp_path / "nowhere", out)
    with pytest.raises(RecordingError, match="should hold the folders train, val, test"):
        read(tmp_path, out)
    with pytest.raises(RecordingError, match="name the folder above it"):
        read(release / "train", out)
    file = change(release, tmp_path / "in")
    with pytest.raises(RecordingError, match="is a file"):
        read(file, out)
    tiny.save_objects(file, [1, 2])
    with pytest.raises(RecordingError, match="should hold five objects"):
        read(tmp_path / "in", out)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RecordingError, match=file.name):
        read(tmp_path / "in", out)
    with pytest.raises(RecordingError, match="no trial is left"):
        read(release, out, subjects=9)
    assert not out.exists()


def test_an_image_on_two_sides_and_repeats(release: Path, made: tiny.Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(release, folder)
    file = sorted((folder / "train").iterdir())[0]
    shutil.copy(file, folder / "train" / "900.npy")
    study = read(folder, tmp_path / "a")
    assert study.n_trials == 32
    assert any("train/900.npy" in note and file.name in note for note in study.info["notes"])
    moved = np.load(file, allow_pickle=True)
    moved[1] = moved[1] * 2
    tiny.save_objects(folder / "test" / "901.npy", list(moved))
    with pytest.raises(SplitError, match="1 images are shown on both the train and the test set"):
        read(folder, tmp_path / "b")
    study = read(folder, tmp_path / "b", official=False, duplicates="keep")
    assert study.n_trials == 34 and not study.split_names()


def test_a_crafted_file_runs_nothing(release: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = change(release, tmp_path / "in", label=Runs(mark))
    for data in (file.read_bytes(), *by_hand(mark).values()):
        file.write_bytes(data)
        with pytest.raises(RecordingError, match=file.name):
            read(tmp_path / "in", tmp_path / "study")
        assert not mark.exists() and not (tmp_path / "study").exists()


def test_any_damage_ends_in_a_sentence(made: tiny.Tiny, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    file = tiny.save_objects(folder / "train" / "1.npy", tiny.five(made, 0))
    good = file.read_bytes()
    head = st.integers(0, min(len(good), 900))
    tail = st.integers(len(good) - 200, len(good) - 1)

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.tuples(head | tail, st.integers(0, 255)), min_size=1, max_size=3))
    def damage(changes: list[tuple[int, int]]) -> None:
        data = bytearray(good)
        for at, byte in changes:
            data[at] = byte
        file.write_bytes(data)
        try:
            read(folder, folder / "study")
        except EegpromptError:
            assert not (folder / "study").exists()
        shutil.rmtree(folder / "study", ignore_errors=True)
        assert [p.name for p in folder.iterdir()] == ["train"]

    damage()
