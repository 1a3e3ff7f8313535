"""The reader of THINGS-EEG2: five layouts, one study; what does not fit is refused."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

import tiny_datasets as tiny
from eegprompt.core.errors import EegpromptError, InputError, RecordingError
from eegprompt.readers.things_eeg2 import ThingsEeg2Reader
from eegprompt.study import Study


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.things_images(tmp_path_factory.mktemp("images"))
    return tiny.things_images(folder, train="train_images")


def read(source: Any, out: Path, **options: Any) -> Study:
    return ThingsEeg2Reader().read(source, out, **options)


LAYOUTS = ("gifford", "nice", "ubp", "samga", "neurobridge")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_study(layout, images, tmp_path):
    study = read(tiny.write_things(tmp_path / "s", layout), tmp_path / "study", stimuli=images)
    n_train, n_test = 10 * 2, 3 * 4
    assert study.eeg.shape == (n_train + n_test, 17, 30)
    expected = np.concatenate(
        [tiny.things_trials(p, seed=10).reshape(-1, 17, 30) for p in ("train", "test")]
    )
    tolerance = 2e-3 if layout == "ubp" else 1e-6  # float16
    np.testing.assert_allclose(study.eeg, expected, rtol=tolerance, atol=tolerance)
    # The rows are the images in the order of their folders, each repeated.
    names = [
        f"{c.split('_', 1)[1]}_{i + 1:02d}s"
        for part in tiny.CONCEPTS
        for c in tiny.CONCEPTS[part]
        for i in range(tiny.PER_CONCEPT[part])
    ]
    assert study.images["image_id"].tolist() == names
    assert study.trials["image_id"].tolist() == list(np.repeat(names, [2] * 10 + [4] * 3))
    assert study.images["category"].tolist()[:3] == ["aardvark", "aardvark", "abacus"]
    assert study.image_path("acorn_02s").is_file()
    # The last part of the time axis counts: the trials lack the baseline.
    assert study.sfreq == 100 and study.tmin == pytest.approx(0.0)
    assert (study.design, study.image_identity, study.unit) == ("randomised", "known", "a.u.")
    assert set(study.ch_names) <= set(mne.channels.make_standard_montage("standard_1005").ch_names)
    sessions = sorted(study.trials["session"].unique())
    assert sessions == (["1", "2"] if layout == "ubp" else ["1"])
    assert any(step["name"] == "whiten" for step in study.info["steps"])


def test_the_official_split_is_zero_shot_and_validates_on_other_concepts(images, tmp_path):
    source = tiny.write_things(tmp_path / "s", "nice")
    study = read(source, tmp_path / "study", stimuli=images, val=0.4)
    fold = study.split("official").fold(0)
    side = {
        name: set(study.trials["category"].iloc[getattr(fold, name)])
        for name in ("train", "val", "test")
    }
    assert [len(side[s]) for s in side] == [3, 2, 3]
    assert not side["train"] & side["val"] and not (side["train"] | side["val"]) & side["test"]
    parts = study.trials["partition"].to_numpy()
    assert set(parts[fold.test]) == {"test"}
    assert set(parts[np.concatenate([fold.train, fold.val])]) == {"train"}
    assert len(fold.train) + len(fold.val) + len(fold.test) == study.n_trials


@pytest.mark.parametrize("average", ["test", "all"])
def test_repetitions_are_averaged_on_request(average, images, tmp_path):
    source = tiny.write_things(tmp_path / "s", "nice")
    study = read(source, tmp_path / "study", stimuli=images, average=average)
    n_train = 10 if average == "all" else 20
    assert study.n_trials == n_train + 3
    mean = tiny.things_trials("test", seed=10).mean(axis=1)
    np.testing.assert_allclose(study.eeg[n_train:], mean, atol=1e-6)
    assert study.trials["n_averaged"].tolist() == [2 if average == "all" else 1] * n_train + [4] * 3
    assert "average repetitions" in [s["name"] for s in study.info["steps"]]


def test_several_subjects_and_a_choice_of_them(images, tmp_path):
    for subject in (1, 2, 3):
        tiny.write_things(tmp_path / "s", "nice", subject)
    study = read(tmp_path / "s", tmp_path / "study", stimuli=images, subjects="1,03")
    assert study.subjects == ["01", "03"] and study.n_trials == 2 * 32
    one = read(tmp_path / "s" / "sub-02", tmp_path / "one", stimuli=images)
    assert one.subjects == ["02"]
    with pytest.raises(RecordingError, match="no subject 7; it holds 01, 02, 03"):
        read(tmp_path / "s", tmp_path / "no", stimuli=images, subjects="7")


def test_without_images_names_are_asked_for_or_numbered(images, tmp_path):
    source = tiny.write_things(tmp_path / "s", "nice")
    with pytest.raises(RecordingError, match="'stimuli'"):
        read(source, tmp_path / "study")
    study = read(source, tmp_path / "study", allow_missing_images=True)
    assert (study.images["path"] == "").all()
    assert any("concepts are numbers" in note for note in study.info["notes"])
    # UBP's files say themselves which image was shown.
    named = read(tiny.write_things(tmp_path / "u", "ubp"), tmp_path / "named")
    assert named.images["image_id"].iloc[3] == "abacus_02s"


def change(path: Path, **entries: Any) -> None:
    content = pickle.loads(path.read_bytes()) | entries
    path.write_bytes(pickle.dumps({k: v for k, v in content.items() if v is not None}, 4))


class Harm:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def nan_at(path: Path) -> None:
    eeg = pickle.loads(path.read_bytes())["preprocessed_eeg_data"]
    eeg[3, 1, 2, 5] = np.nan
    change(path, preprocessed_eeg_data=eeg)


BAD: dict[str, tuple[Any, str]] = {
    "missing key": (lambda p: change(p, ch_names=None), "lacks the key 'ch_names'"),
    "no array": (lambda p: change(p, preprocessed_eeg_data=[1]), "holds a list"),
    "text": (lambda p: change(p, preprocessed_eeg_data=np.array([["a"]])), "numbers are needed"),
    "shape": (lambda p: change(p, preprocessed_eeg_data=np.zeros((10, 17, 30))), "has shape"),
    "channels": (lambda p: change(p, ch_names=["Pz"]), "names 1 channels, but the data have 17"),
    "unknown channel": (
        lambda p: change(p, ch_names=[*tiny.GIFFORD_CHANNELS[:-1], "Q9"]),
        "names Q9, which the montage",
    ),
    "channel twice": (
        lambda p: change(p, ch_names=[*tiny.GIFFORD_CHANNELS[:-1], "Pz"]),
        "'Pz' twice",
    ),
    "times": (lambda p: change(p, times=np.arange(5) / 100), "at least 30 times"),
    "uneven times": (lambda p: change(p, times=np.arange(30.0) ** 2 / 100), "evenly spaced"),
    "another rate": (lambda p: change(p, times=np.arange(30) / 250), "sampling rate"),
    "nan": (nan_at, r"not finite at \[3, 1, 2, 5\]"),
    "images": (
        lambda p: change(p, preprocessed_eeg_data=np.zeros((9, 2, 17, 30))),
        "holds 10 images, but",
    ),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-999]), "ends early|damaged"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "gone": (lambda p: p.unlink(), "lacks preprocessed_eeg_training.npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_no_study(name, images, tmp_path):
    spoil, words = BAD[name]
    source = tiny.write_things(tmp_path / "s", "nice")
    file = source / "sub-01" / "preprocessed_eeg_training.npy"
    spoil(file)
    with pytest.raises(RecordingError, match=words) as refused:
        read(source, tmp_path / "study", stimuli=images)
    assert "sub-01" in str(refused.value) or "training_images" in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_crafted_file_does_not_run(layout, images, tmp_path):
    import torch

    source = tiny.write_things(tmp_path / "s", layout)
    canary = tmp_path / "canary"
    for file in sorted(source.glob("sub-01/*")):
        content = {"preprocessed_eeg_data": Harm(canary), "eeg": 1, "file": file.name}
        if layout == "ubp":
            torch.save(content, file)
        elif layout == "gifford":
            np.save(file, np.array(content, dtype=object), allow_pickle=True)
        else:
            file.write_bytes(pickle.dumps(content))
    with pytest.raises(RecordingError, match="could run code"):
        read(source, tmp_path / "study", stimuli=images)
    assert not canary.exists() and not (tmp_path / "study").exists()


def test_two_subjects_with_one_recording_are_refused(images, tmp_path):
    source = tiny.write_things(tmp_path / "s", "nice")
    twin = source / "sub-02"
    twin.mkdir()
    for file in (source / "sub-01").iterdir():
        (twin / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RecordingError, match="byte for byte"):
        read(source, tmp_path / "study", stimuli=images)


def test_wrong_folders_and_options(images, tmp_path):
    source = tiny.write_things(tmp_path / "s", "nice")
    with pytest.raises(RecordingError, match="does not exist"):
        read(tmp_path / "nowhere", tmp_path / "study")
    with pytest.raises(RecordingError, match="none of the known files"):
        read(images, tmp_path / "study")
    with pytest.raises(RecordingError, match="training_images or train_images"):
        read(source, tmp_path / "study", stimuli=source)
    with pytest.raises(InputError, match="did you mean 'stimuli'"):
        read(source, tmp_path / "study", stimulus=images)
    tiny.write_things(tmp_path / "t", "ubp")
    (source / "sub-01" / "train.pt").write_bytes(
        (tmp_path / "t" / "sub-01" / "train.pt").read_bytes()
    )
    with pytest.raises(RecordingError, match="choose one with 'layout'"):
        read(source, tmp_path / "study", stimuli=images)


def test_a_concept_on_both_sides_is_refused(tmp_path):
    folder = tiny.things_images(tmp_path / "p")
    (folder / "test_images" / "00002_antelope").rename(folder / "test_images" / "00002_abacus")
    source = tiny.write_things(tmp_path / "s", "nice")
    with pytest.raises(RecordingError, match=r"1 concepts stand on both sides \(first: abacus\)"):
        read(source, tmp_path / "study", stimuli=folder)


def test_damaged_files_raise_only_our_errors(images, tmp_path):
    rng = random.Random(0)
    for layout in ("gifford", "ubp", "samga"):
        source = tiny.write_things(tmp_path / layout, layout)
        file = sorted((source / "sub-01").glob("*train*"))[0]
        whole = file.read_bytes()
        for _ in range(25):
            broken = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
            for _ in range(rng.randrange(1, 30)):
                broken[rng.randrange(min(len(broken), 2000))] = rng.randrange(256)
            file.write_bytes(broken)
            try:
                read(source, tmp_path / "study", stimuli=images, overwrite=True)
            except EegpromptError as problem:
                assert "\n" not in str(problem)


def moved(folder: Path, name: str, old: str, new: str) -> Path:
    """Images with one of `old` taken for one of `new`: the total stays."""
    train = tiny.things_images(folder) / "training_images"
    (train / old / name).rename(train / new / name)
    return folder


def write_metadata(folder: Path) -> Path:
    """Names of the rows' images, as Gifford's image set holds them."""
    content: dict[str, list[str]] = {}
    for part, concepts in tiny.CONCEPTS.items():
        pairs = [
            (c, f"{c.split('_', 1)[1]}_{i + 1:02d}s.jpg")
            for c in concepts
            for i in range(tiny.PER_CONCEPT[part])
        ]
        content[f"{part}_img_concepts"] = [c for c, _ in pairs]
        content[f"{part}_img_files"] = [f for _, f in pairs]
    path = folder / "image_metadata.npy"
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


@pytest.mark.parametrize("layout", ["gifford", "nice", "samga"])
def test_concepts_that_hold_too_few_and_too_many_images_are_refused(layout, tmp_path):
    """The total fits, so that all rows between the two would get another image's name."""
    folder = moved(tmp_path / "p", "abacus_02s.jpg", "00002_abacus", "00004_acorn")
    source = tiny.write_things(tmp_path / "s", layout)
    with pytest.raises(RecordingError) as problem:
        read(source, tmp_path / "study", stimuli=folder)
    assert "00002_abacus holds 1" in str(problem.value)
    assert "00004_acorn holds 3" in str(problem.value) and not (tmp_path / "study").exists()


def test_equal_counts_that_are_not_those_of_the_release_are_refused(tmp_path, monkeypatch):
    from eegprompt.readers import things_eeg2

    monkeypatch.setattr(things_eeg2, "N_IMAGES", {"train": 10, "test": 3})
    monkeypatch.setattr(things_eeg2, "PER_CONCEPT", {"train": 5, "test": 1})
    source = tiny.write_things(tmp_path / "s", "nice")
    with pytest.raises(RecordingError, match="do not hold 5 images"):
        read(source, tmp_path / "study", stimuli=tiny.things_images(tmp_path / "p"))


def test_rows_go_by_the_names_of_the_metadata_where_it_is_there(images, tmp_path):
    source = tiny.write_things(tmp_path / "s", "nice")
    plain = read(source, tmp_path / "plain", stimuli=images)
    # One image too many in a folder shifts nothing: rows go by their names.
    folder = tiny.things_images(tmp_path / "p")
    spare = folder / "training_images" / "00001_aardvark" / "aardvark_00s.jpg"
    spare.write_bytes((folder / "training_images/00002_abacus/abacus_01s.jpg").read_bytes())
    write_metadata(folder)
    named = read(source, tmp_path / "named", stimuli=folder)
    assert named.images["image_id"].tolist() == plain.images["image_id"].tolist()
    assert named.images["sha256"].tolist() == plain.images["sha256"].tolist()
    assert any("1 images" in n and "aardvark_00s.jpg" in n for n in named.info["notes"])
    # Without images the names are known nevertheless.
    (source / "sub-01").joinpath("x").touch()
    write_metadata(source)
    assert (
        read(source, tmp_path / "n").images["image_id"].tolist()
        == named.images["image_id"].tolist()
    )
    (folder / "training_images/00002_abacus/abacus_02s.jpg").unlink()
    with pytest.raises(RecordingError, match=r"1 of 10 images that .*image_metadata.npy names"):
        read(source, tmp_path / "study", stimuli=folder)


def test_files_that_name_rows_differently_are_refused(tmp_path):
    source = tiny.write_things(tmp_path / "s", "ubp")
    path = write_metadata(source)
    read(source, tmp_path / "study")
    content = np.load(path, allow_pickle=True).item()
    content["train_img_files"][2:4] = content["train_img_files"][2:4][::-1]
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="row 2 is '00002_abacus/abacus_01s"):
        read(source, tmp_path / "no")
    content["train_img_files"] = content["train_img_files"][:-1]
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="10 images"):
        read(source, tmp_path / "no")


def test_labels_that_disagree_with_the_names_are_refused(tmp_path):
    import torch

    source = tiny.write_things(tmp_path / "s", "ubp")
    path = source / "sub-01" / "train.pt"
    content = torch.load(path, weights_only=False)
    content["label"][3] = content["label"][5]  # an abacus with the label of the accordions
    torch.save(content, path, pickle_protocol=5)
    with pytest.raises(RecordingError, match="'img' and 'label' disagree: row 3"):
        read(source, tmp_path / "study")
