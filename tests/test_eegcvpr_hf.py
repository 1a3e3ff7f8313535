"""The reader of EEGCVPR on the Hugging Face hub: what its own library reads, ours does too."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tiny_eegcvpr as tiny
from eegprompt.core.errors import EegpromptError, RecordingError, SplitError
from eegprompt.readers.eegcvpr_hf import EegcvprHfReader
from eegprompt.study import Study
from malicious import by_hand


def read(source: Any, out: Path, **options: Any) -> Study:
    return EegcvprHfReader().read(source, out, **options)


@pytest.fixture(scope="module")
def made() -> tiny.Tiny:
    return tiny.make(per_class=4)


@pytest.fixture(scope="module")
def release(made: tiny.Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_hub(tmp_path_factory.mktemp("release") / "data", made)


@pytest.fixture(scope="module")
def study(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read(release.parent, tmp_path_factory.mktemp("made") / "study")


def test_every_trial_and_image_is_as_it_was(study: Study, release: Path) -> None:
    assert study.eeg.shape == (32, 128, 512) and study.design == "block"
    # 512 samples stand where 440 stood: the first and the last are 439 ms apart.
    assert (study.n_times - 1) / study.sfreq == pytest.approx(0.439)
    fold = study.split("official").fold(0)
    tables = {p.name: pq.read_table(p).to_pylist() for p in release.iterdir()}
    sides = {"train": "train", "validation": "val", "test": "test"}
    for trial in study.trials.itertuples():
        row = tables[trial.source_file][trial.source_index]
        assert np.array_equal(study.eeg[trial.trial_id], np.float32(row["conditioning_image"]))
        assert trial.subject == str(row["subject"])
        assert trial.trial_id in getattr(fold, sides[trial.source_file.split("-")[0]])
        shown = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        assert np.array_equal(study.load_images([trial.image_id])[0], shown)
        assert trial.image_id.startswith(row["label_folder"])
    assert len(study.images) == 16 and study.split("official").how["kept_apart"] == ["images"]


def test_the_hub_s_own_library_reads_the_same(
    study: Study, release: Path, made: tiny.Tiny, tmp_path: Path
) -> None:
    """Our fixture through ``datasets``, and a file that ``datasets`` wrote through our reader."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    files = {"train": sorted(map(str, release.glob("train*")))}
    theirs = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    n_train = len(study.split("official").fold(0).train)
    assert len(theirs) == n_train
    theirs = theirs.with_format("numpy")
    for i in (0, n_train - 1):
        assert np.array_equal(study.eeg[i], theirs[i]["conditioning_image"])
        (shown,) = study.load_images([study.trials["image_id"][i]])
        assert np.array_equal(shown, np.asarray(theirs[i]["image"]))
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "conditioning_image": datasets.Array2D(shape=(128, 440), dtype="float32"),
            "caption": datasets.Value("string"),
            "label_folder": datasets.Value("string"),
            "subject": datasets.Value("int32"),
        }
    )
    rows = tiny.hub_rows(made, [0, 1, 2], 440)
    dataset = datasets.Dataset.from_list(rows, features=features)
    dataset.to_parquet(str(tmp_path / "in" / "train-00000-of-00001.parquet"))
    ours = read(tmp_path / "in", tmp_path / "study")
    assert ours.sfreq == 1000 and ours.n_trials == 3
    assert np.array_equal(ours.eeg[2], made.dataset[2]["eeg"][:, 20:460])


def test_swapped_colors(made: tiny.Tiny, tmp_path: Path) -> None:
    rows = tiny.hub_rows(made, [0], 440)
    file = tiny.write_parquet(tmp_path / "train-0.parquet", rows, 440)
    as_it_is, swapped = (
        read(file, tmp_path / str(swap), swap_colors=swap) for swap in (False, True)
    )
    assert any("blue and red" in note for note in as_it_is.info["notes"])
    one, other = (s.load_images(s.images["image_id"])[0] for s in (as_it_is, swapped))
    assert np.array_equal(one[:, :, ::-1], other)


def test_repeats_and_images_on_two_sides(release: Path, made: tiny.Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(release, folder)
    (fold,) = tiny.sides_by_image(made.shown)
    again = tiny.hub_rows(made, fold["train"][:2])
    tiny.write_parquet(folder / "test-00001-of-00002.parquet", again)
    study = read(folder, tmp_path / "a")  # the code that made the release puts trials in twice
    assert study.n_trials == 32
    assert any("2 trials repeat another" in note for note in study.info["notes"])
    for row in again:
        row["conditioning_image"][0][0] += 1
    tiny.write_parquet(folder / "test-00001-of-00002.parquet", again)
    with pytest.raises(SplitError, match="on both the train and the test set"):
        read(folder, tmp_path / "b")
    assert read(folder, tmp_path / "b", official=False).n_trials == 34


def test_bad_rows_are_refused_with_file_and_column(made: tiny.Tiny, tmp_path: Path) -> None:
    good = tiny.hub_rows(made, [0, 1])
    eeg = good[1]["conditioning_image"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"conditioning_image": eeg[:127]}, "'conditioning_image' of row 1 has 127 channels"),
        ({"conditioning_image": [*eeg[:127], eeg[0][:9]]}, "channels of different length"),
        ({"conditioning_image": None}, "'conditioning_image' of row 1 has nan channels"),
        ({"conditioning_image": [[float("nan")] * 512, *eeg[1:]]}, "row 1: .* not finite"),
        ({"conditioning_image": [[None] * 512, *eeg[1:]]}, "lacks values"),
        ({"subject": None}, "row 1: 'subject' should be a number, got None"),
        ({"label_folder": "horse"}, "row 1: 'label_folder' should be a synset"),
        ({"image": None}, "row 1: 'image' should hold the bytes"),
        ({"image": {"bytes": b"GIF", "path": None}}, "row 1: the bytes of 'image' are no image"),
        ({"image": good[0]["image"] | {"path": "n01_1.png"}}, None),
    ]
    file = tmp_path / "in" / "train-00000-of-00001.parquet"
    for changes, message in cases:
        tiny.write_parquet(file, [good[0], good[1] | changes])
        if message is None:
            continue
        with pytest.raises(RecordingError, match=message) as problem:
            read(tmp_path / "in", tmp_path / "study")
        assert file.name in str(problem.value)
        assert not (tmp_path / "study").exists()
    tiny.write_parquet(file, tiny.hub_rows(made, [0], 300))
    with pytest.raises(RecordingError, match=r"300 samples.*'sfreq'"):
        read(file, tmp_path / "study")
    assert read(file, tmp_path / "ok", sfreq=500).sfreq == 500


def test_bad_files_are_refused(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    with pytest.raises(RecordingError, match="does not exist"):
        read(tmp_path / "nowhere", out)
    (tmp_path / "in").mkdir()
    with pytest.raises(RecordingError, match=r"holds no \.parquet file"):
        read(tmp_path / "in", out)
    good = release / "test-00000-of-00001.parquet"
    shutil.copy(good, tmp_path / "in" / "some.parquet")
    with pytest.raises(RecordingError, match="does not say whether it is of train"):
        read(tmp_path / "in" / "some.parquet", out)
    file = tmp_path / "train.parquet"
    pq.write_table(pq.read_table(good).drop_columns(["subject"]), file)
    with pytest.raises(RecordingError, match="lacks the columns subject"):
        read(file, out)
    table = pq.read_table(good)
    pq.write_table(table.set_column(1, "conditioning_image", table["caption"]), file)
    with pytest.raises(RecordingError, match="lists of lists of float32"):
        read(file, out)
    for data in (b"", b"PAR1", good.read_bytes()[:-20], *by_hand(tmp_path / "mark").values()):
        file.write_bytes(data)
        with pytest.raises(RecordingError, match=r"train\.parquet cannot be read as Parquet"):
            read(file, out)
    with pytest.raises(RecordingError, match="no trial is left of 8"):
        read(good, out, subjects=[9])
    assert not out.exists() and not (tmp_path / "mark").exists()


def test_any_damage_ends_in_a_sentence(made: tiny.Tiny, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    file = tiny.write_parquet(folder / "train.parquet", tiny.hub_rows(made, [0, 1]))
    good = file.read_bytes()
    place = st.integers(0, 400) | st.integers(len(good) - 2500, len(good) - 1)

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=3))
    def damage(changes: list[tuple[int, int]]) -> None:
        data = bytearray(good)
        for at, byte in changes:
            data[at] = byte
        file.write_bytes(data)
        try:
            read(file, folder / "study")
        except EegpromptError:
            assert not (folder / "study").exists()
        shutil.rmtree(folder / "study", ignore_errors=True)
        assert [p.name for p in folder.iterdir()] == ["train.parquet"]

    damage()
