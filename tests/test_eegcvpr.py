"""The reader of EEGCVPR: what is in the file comes out, splits fall as its own loader has them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_eegcvpr as tiny
from eegprompt.core.errors import EegpromptError, InputError, RecordingError, SplitError
from eegprompt.readers.eegcvpr import VARIANTS, EegcvprReader
from eegprompt.signal.montage import EEGCVPR_CHANNELS
from eegprompt.study import Study
from malicious import Runs


def read(source: Any, out: Path, **options: Any) -> Study:
    return EegcvprReader().read(source, out, **options)


@pytest.fixture(scope="module")
def made() -> tiny.Tiny:
    return tiny.make()


@pytest.fixture(scope="module")
def release(made: tiny.Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: signal, both splits, order, images."""
    folder = tmp_path_factory.mktemp("release")
    tiny.write(folder, made)
    tiny.write_splits(folder, made, n_folds=2)
    tiny.write_splits(folder, made, single=2)
    tiny.write_order(folder, made)
    tiny.write_images(folder / "images", made.images)
    return folder


@pytest.fixture(scope="module")
def study(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read(
        release,
        tmp_path_factory.mktemp("made") / "study",
        stimuli=release / "images",
        single_subject=2,
    )


def one_item(made: tiny.Tiny, **changes: Any) -> tiny.Tiny:
    """The release with something else in its third trial."""
    dataset = [dict(item) for item in made.dataset]
    dataset[2] |= changes
    return tiny.Tiny(dataset, made.labels, made.images, dict(made.extra))


# -- what comes out --------------------------------------------------------------------------------
def test_every_trial_is_where_it_was(study: Study, made: tiny.Tiny) -> None:
    assert study.n_trials == len(made.dataset)
    for row in study.trials.itertuples():
        item = made.dataset[row.source_index]
        assert np.array_equal(study.eeg[row.trial_id], item["eeg"][:, 20:460])
        assert row.subject == str(item["subject"])
        assert row.image_id == made.images[item["image"]]
    assert study.trials["source_index"].tolist() == list(range(len(made.dataset)))
    names = dict(zip(study.images["image_id"], study.images["category"]))
    assert names[f"{tiny.SYNSETS[3]}_100"] == "anemone fish"
    assert study.design == "block" and study.image_identity == "known" and study.unit == "a.u."
    assert study.sfreq == 1000 and study.tmin == 0.02 and study.n_times == 440


def test_channels_are_in_the_montage_of_mne(study: Study) -> None:
    assert study.ch_names == list(EEGCVPR_CHANNELS) and len(set(study.ch_names)) == 128
    montage = mne.channels.make_standard_montage("colin27_1005")
    assert set(study.ch_names) <= set(montage.ch_names)
    assert np.isfinite(study.positions).all()


@pytest.mark.parametrize("legacy", [False, True], ids=["present", "legacy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_four_signals_in_two_serializations(
    variant: str, legacy: bool, made: tiny.Tiny, tmp_path: Path
) -> None:
    few = tiny.Tiny(made.dataset[:4], made.labels, made.images)
    if variant == "raw":
        rng = np.random.default_rng(1)
        means, stddevs = rng.normal(size=(128, 1)), rng.uniform(1, 2, (128, 1))
        few.extra = {"means": means.astype("f4"), "stddevs": stddevs.astype("f4")}
    tiny.write(tmp_path, few, file=VARIANTS[variant][0], legacy=legacy)
    study = read(tmp_path, tmp_path / "study")
    signal = few.dataset[1]["eeg"][:, 20:460]
    expected = (signal - few.extra["means"]) / few.extra["stddevs"] if few.extra else signal
    assert np.allclose(study.eeg[1], expected, atol=1e-6)
    names = [step["name"] for step in study.info["steps"]]
    assert ("band-pass" in names) == (variant != "raw")
    assert study.name == f"eegcvpr-{variant}"
    if variant == "raw":
        as_recorded = read(tmp_path, tmp_path / "b", standardize="none")
        assert np.array_equal(as_recorded.eeg[1], signal)


def test_other_types_of_numbers(made: tiny.Tiny, tmp_path: Path) -> None:
    few = tiny.Tiny([dict(d) for d in made.dataset[:3]], made.labels, made.images)
    few.dataset[0]["eeg"] = few.dataset[0]["eeg"].astype("f8")
    few.dataset[1]["eeg"] = few.dataset[1]["eeg"].astype("f2")
    few.dataset[2]["eeg"] = np.asfortranarray(few.dataset[2]["eeg"]).T.copy().T
    study = read(tiny.write(tmp_path, few), tmp_path / "study")
    assert study.eeg.dtype == np.float32
    assert np.allclose(study.eeg[1], made.dataset[1]["eeg"][:, 20:460], atol=2e-3)
    assert np.array_equal(study.eeg[2], made.dataset[2]["eeg"][:, 20:460])


def test_what_the_field_leaves_out_is_an_option(made: tiny.Tiny, tmp_path: Path) -> None:
    dataset = [dict(item) for item in made.dataset[:6]]
    for place, n_times in ((1, 449), (2, 601), (3, 455)):
        dataset[place]["eeg"] = np.ones((128, n_times), "f4") * place
    path = tiny.write(tmp_path, tiny.Tiny(dataset, made.labels, made.images))
    study = read(path, tmp_path / "a")  # 455 samples are enough for the field, not for 20 to 460
    assert study.trials["source_index"].tolist() == [0, 4, 5]
    assert any("3 trials are shorter than 460 or longer than 600" in n for n in study.info["notes"])
    study = read(path, tmp_path / "b", samples=(0, 100), length=(400, 601))
    assert study.eeg.shape == (6, 128, 100) and study.tmin == 0
    with pytest.raises(RecordingError, match="no trial is left"):
        read(path, tmp_path / "c", length=(1000, 2000))
    only = read(path, tmp_path / "d", subjects=int(dataset[0]["subject"]))
    assert len(only.subjects) == 1


def test_order_and_block_come_by_name(study: Study, release: Path) -> None:
    lines = [line.split(".")[0] for line in (release / "image_order.txt").read_text().split()]
    for row in study.trials.itertuples():
        assert lines[row.order] == row.image_id
        assert row.block == 3 - tiny.SYNSETS.index(row.image_id.split("_")[0])


def test_without_an_order_none_is_made_up(release: Path, tmp_path: Path) -> None:
    shutil.copy(release / "eeg_5_95_std.pth", tmp_path)
    study = read(tmp_path, tmp_path / "study")
    assert (study.trials[["order", "block"]] == -1).all(axis=None)


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_images_in_every_tree(shape: str, made: tiny.Tiny, tmp_path: Path, release: Path) -> None:
    images = tiny.write_images(tmp_path / "images", made.images, shape)
    file = release / "eeg_5_95_std.pth"
    study = read(file, tmp_path / "a", stimuli=images, samples=(20, 30), splits="none")
    assert study.load_images(study.images["image_id"][:3], 8).shape == (3, 8, 8, 3)
    for gone in sorted(images.rglob("*_100.*")):
        gone.unlink()
    with pytest.raises(RecordingError, match=r"4 of 24 images .*_100.*'allow_missing_images'"):
        read(file, tmp_path / "b", stimuli=images)
    assert not (tmp_path / "b").exists()
    study = read(file, tmp_path / "b", stimuli=images, allow_missing_images=True, samples=(20, 30))
    assert (study.images["path"] == "").sum() == 4
    assert any("4 of 24 images have no image" in note for note in study.info["notes"])


# -- splits ----------------------------------------------------------------------------------------
def loader_of_the_field(data: dict, splits: dict, side: str, fold: int = 0, subject: int = 0):
    """What the dataset's own loader does: subject, then places, then length (the order matters)."""
    listed = [d for d in data["dataset"] if subject in (0, d["subject"])]
    places = [i for i in splits["splits"][fold][side] if 450 <= listed[i]["eeg"].size(1) <= 600]
    return [listed[i]["eeg"][:, 20:460].numpy() for i in places]


@pytest.mark.parametrize(("name", "subject"), [("official", 0), ("official-single", 2)])
def test_splits_fall_as_in_the_dataset_s_own_loader(
    name: str, subject: int, study: Study, release: Path
) -> None:
    kind = "single" if subject else "all"
    data = torch.load(release / "eeg_5_95_std.pth", weights_only=True)
    splits = torch.load(release / f"block_splits_by_image_{kind}.pth", weights_only=True)
    made = study.split(name)
    assert len(made.folds) == len(splits["splits"])
    for number, fold in enumerate(made.folds):
        for side in ("train", "val", "test"):
            expected = loader_of_the_field(data, splits, side, number, subject)
            found = study.eeg[getattr(fold, side)]
            assert len(found) == len(expected)
            assert {a.tobytes() for a in found} == {a.tobytes() for a in expected}
    assert made.how["kept_apart"] == ["images"]


def test_filters_come_after_the_split(release: Path, tmp_path: Path, study: Study) -> None:
    one = read(release, tmp_path / "one", subjects=2)
    whole, part = study.split("official").fold(1), one.split("official").fold(1)
    for side in ("train", "val", "test"):
        of_two = study.trials.iloc[getattr(whole, side)]
        expected = set(of_two[of_two["subject"] == "2"]["source_index"])
        assert set(one.trials.iloc[getattr(part, side)]["source_index"]) == expected
    left_out = one.split("official").how["left_out_for_filters"][1]
    assert sum(left_out.values()) == study.n_trials / 2
    # One subject was kept, so the list of one subject is its.
    assert one.split_names() == ["official", "official-single"]


def test_a_split_of_one_subject_says_whose(release: Path, tmp_path: Path) -> None:
    unsaid = read(release, tmp_path / "a", samples=(20, 30))
    assert unsaid.split_names() == ["official"]
    assert any("option 'single_subject'" in note for note in unsaid.info["notes"])
    assert any(note.startswith("not verified: ") for note in unsaid.info["notes"])
    with pytest.raises(InputError, match="does not say whose"):
        read(release, tmp_path / "b", splits=release / "block_splits_by_image_single.pth")


def split_file(path: Path, **sides: Any) -> Path:
    return tiny.save(path / "splits_all.pth", {"splits": [sides]}, legacy=True)


def test_bad_splits_are_refused(release: Path, made: tiny.Tiny, tmp_path: Path) -> None:
    (good,) = tiny.sides_by_image(made.shown)
    n = len(made.dataset)
    name = made.shown[good["train"][0]]
    other = next(i for i in good["train"][1:] if made.shown[i] == name)
    cases: list[tuple[dict[str, Any], str]] = [
        (good | {"test": [*good["test"], n]}, rf"'test'\]\[12\] is {n}, .* 0 to {n - 1}"),
        (good | {"val": [-1]}, r"'val'\]\[0\] is -1"),
        (good | {"val": [good["train"][0]]}, "on both the train and the val side"),
        (good | {"val": good["val"] * 2}, "lists a trial twice"),
        (good | {"val": [0.5]}, "whole numbers"),
        (
            good | {"train": [i for i in good["train"] if i != other], "val": [other]},
            rf"1 images on both the train and the val side \(first: {name}\)",
        ),
        ({"train": [1], "test": [2]}, "train, val, test"),
    ]
    for sides, message in cases:
        file = split_file(tmp_path, **sides)
        with pytest.raises(SplitError, match=message):
            read(release, tmp_path / "study", splits=file)
        assert not (tmp_path / "study").exists()
    tiny.save(tmp_path / "other_all.pth", {"splits": 3})
    with pytest.raises(SplitError, match="'splits' is a list"):
        read(release, tmp_path / "study", splits=tmp_path / "other_all.pth")


# -- repeats ---------------------------------------------------------------------------------------
def test_trials_that_repeat_another_are_found(made: tiny.Tiny, tmp_path: Path) -> None:
    dataset = [*made.dataset[:5], made.dataset[1], made.dataset[3]]
    path = tiny.write(tmp_path, tiny.Tiny(dataset, made.labels, made.images), legacy=True)
    study = read(path, tmp_path / "a")
    assert study.trials["source_index"].tolist() == [0, 1, 2, 3, 4]
    assert any(
        "2 trials repeat another" in n and "dataset[5] = dataset[1], dataset[6]" in n
        for n in study.info["notes"]
    )
    assert read(path, tmp_path / "b", duplicates="keep").n_trials == 7
    with pytest.raises(RecordingError, match=r"dataset\[5\] repeats dataset\[1\]"):
        read(path, tmp_path / "c", duplicates="refuse")
    dataset[5] = made.dataset[2] | {"eeg": made.dataset[1]["eeg"]}
    path = tiny.write(tmp_path, tiny.Tiny(dataset, made.labels, made.images))
    with pytest.raises(RecordingError, match="under another image"):
        read(path, tmp_path / "c")


# -- bad input -------------------------------------------------------------------------------------
def test_bad_trials_are_refused_with_file_and_key(made: tiny.Tiny, tmp_path: Path) -> None:
    eeg = made.dataset[2]["eeg"]
    nan = eeg.copy()
    nan[5, 100] = np.nan
    wrong_class = next(
        i for i, n in enumerate(made.images) if n.split("_")[0] != made.shown[2].split("_")[0]
    )
    cases: list[tuple[dict[str, Any], str]] = [
        ({"eeg": nan}, r"dataset\[2\]\['eeg'\] holds values that are not finite"),
        ({"eeg": eeg[:127]}, r"dataset\[2\]\['eeg'\] .* 128 channels .* \(127, "),
        ({"eeg": eeg.T.copy()}, r"dataset\[2\]\['eeg'\] .* 128 channels"),
        ({"eeg": eeg.astype("c8")}, r"complex64|ComplexFloat"),
        ({"eeg": 3}, r"dataset\[2\]\['eeg'\]"),
        ({"label": 4}, r"dataset\[2\]\['label'\] is 4, .* below 4"),
        ({"label": -1}, r"dataset\[2\]\['label'\] is -1"),
        ({"label": "a"}, r"dataset\[2\]\['label'\] should be a whole number, got 'a'"),
        ({"image": 24}, r"dataset\[2\]\['image'\] is 24"),
        ({"subject": 0}, r"dataset\[2\]\['subject'\] is 0"),
        ({"image": wrong_class}, r"dataset\[2\] is labeled .* of another class"),
    ]
    for legacy, (changes, message) in enumerate(cases):
        path = tiny.write(tmp_path, one_item(made, **changes), legacy=bool(legacy % 2))
        with pytest.raises(RecordingError, match=message) as problem:
            read(path, tmp_path / "study")
        assert "eeg_5_95_std.pth" in str(problem.value)
        assert [p.name for p in tmp_path.iterdir()] == ["eeg_5_95_std.pth"]


def test_bad_files_are_refused(made: tiny.Tiny, tmp_path: Path) -> None:
    out = tmp_path / "study"
    with pytest.raises(RecordingError, match="does not exist"):
        read(tmp_path / "nowhere", out)
    with pytest.raises(RecordingError, match=r"none of the signal files; looked for: eeg_5_95"):
        read(tmp_path, out)
    few = tiny.Tiny(made.dataset[:3], made.labels, made.images)
    tiny.write(tmp_path, few)
    tiny.write(tmp_path, few, file="eeg_14_70_std.pth")
    with pytest.raises(RecordingError, match="choose one with 'variant'"):
        read(tmp_path, out)
    with pytest.raises(RecordingError, match="no eeg_signals_raw_with_mean_std"):
        read(tmp_path, out, variant="raw")
    renamed = tiny.write(tmp_path, few, file="mine.pth")
    with pytest.raises(RecordingError, match="say it with 'variant'"):
        read(renamed, out)
    assert read(renamed, tmp_path / "ok", variant="5-95").n_trials == 3
    with pytest.raises(RecordingError, match=r"dataset, labels, images, means, stddevs"):
        read(renamed, out, variant="raw")
    few.extra = {"means": np.zeros(128, "f4"), "stddevs": np.zeros(128, "f4")}
    with pytest.raises(RecordingError, match="'stddevs' holds values"):
        read(tiny.write(tmp_path, few, file="mine.pth"), out, variant="raw")
    few.extra = {"means": np.zeros(7, "f4"), "stddevs": np.ones(7, "f4")}
    with pytest.raises(RecordingError, match=r"'means' should hold 128 .* 'standardize=none'"):
        read(tiny.write(tmp_path, few, file="mine.pth"), out, variant="raw")
    assert read(renamed, tmp_path / "as-is", variant="raw", standardize="none").n_trials == 3
    tiny.save(renamed, [1, 2])
    with pytest.raises(RecordingError, match="should hold a dictionary"):
        read(renamed, out, variant="5-95")
    tiny.save(renamed, {"dataset": [1], "labels": ["a"], "images": ["b"]})
    with pytest.raises(RecordingError, match=r"dataset\[0\] should be a dictionary"):
        read(renamed, out, variant="5-95")
    with pytest.raises(InputError, match="'samples'"):
        read(renamed, out, samples=(5, 5))
    with pytest.raises(InputError, match="did you mean 'variant'"):
        read(renamed, out, varient="raw")
    assert not out.exists() and not list(tmp_path.glob(".study*"))


def test_bad_orders_are_refused(release: Path, made: tiny.Tiny, tmp_path: Path) -> None:
    order = tmp_path / "order.txt"
    for text, message in (
        ("a_1\nb_2\n", "names none of the 24 images"),
        (f"{made.images[0]}\n{made.images[0]}.jpg\n", "twice"),
        ("", "names none"),
    ):
        order.write_text(text)
        with pytest.raises(RecordingError, match=message):
            read(release, tmp_path / "study", image_order=order)
    with pytest.raises(RecordingError, match="cannot be read as a list of image names"):
        read(release, tmp_path / "study", image_order=tmp_path / "nowhere.txt")


@pytest.mark.parametrize("legacy", [False, True], ids=["present", "legacy"])
def test_a_crafted_file_runs_nothing(made: tiny.Tiny, tmp_path: Path, legacy: bool) -> None:
    mark = tmp_path / "mark"
    evil = one_item(made, image=Runs(mark))
    path = tiny.write(tmp_path / "in", evil, legacy=legacy)
    with pytest.raises(RecordingError, match=r"eeg_5_95_std\.pth asks for \S*mkdir"):
        read(path, tmp_path / "study")
    tiny.write(tmp_path / "in", made)
    tiny.save(tmp_path / "in" / "block_splits_by_image_all.pth", Runs(mark), legacy=legacy)
    with pytest.raises(RecordingError, match=r"all\.pth asks for \S*mkdir"):
        read(tmp_path / "in", tmp_path / "study")
    assert not mark.exists() and not (tmp_path / "study").exists()


def test_any_damage_ends_in_a_sentence_and_no_study(
    made: tiny.Tiny, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    few = tiny.Tiny(made.dataset[:2], made.labels, made.images)
    good = tiny.write(folder, few, legacy=True).read_bytes()

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3))
    def damage(changes: list[tuple[int, int]]) -> None:
        data = bytearray(good)
        for at, byte in changes:
            data[at] = byte
        (folder / "eeg_5_95_std.pth").write_bytes(data)
        out = folder / "study"
        try:
            read(folder, out, samples=(20, 30))
        except EegpromptError as problem:
            assert "eeg_5_95_std.pth" in str(problem)
            assert not out.exists()
        shutil.rmtree(out, ignore_errors=True)
        assert [p.name for p in folder.iterdir()] == ["eeg_5_95_std.pth"]

    damage()
