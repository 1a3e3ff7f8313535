"""The reader of Alljoined: trials and their table, raw recordings with annotations, rows."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tiny_datasets as tiny
from eegprompt.core.errors import EegpromptError, RecordingError
from eegprompt.readers.alljoined import AlljoinedReader
from eegprompt.study import Study


def read(source: Any, out: Path, **options: Any) -> Study:
    return AlljoinedReader().read(source, out, **options)


def test_preprocessed_trials_are_those_of_the_table_that_were_not_dropped(tmp_path):
    source = tiny.write_alljoined(tmp_path / "s")
    images = tiny.numbered_images(tmp_path / "p", [*range(1, 41), *range(16541, 16545)])
    study = read(source, tmp_path / "study", stimuli=images)
    table = tiny.alljoined_order()
    parts = [
        table[(table["partition"] == f"stim_{s}") & ~table["dropped"]] for s in ("train", "test")
    ]
    kept = pd.concat(parts)
    assert study.n_trials == len(kept) == 96 - 2
    assert study.trials["image_id"].tolist() == [Path(p).stem for p in kept["image_path"]]
    assert study.trials["category"].tolist() == kept["category_name"].tolist()
    assert study.trials["run"].astype(int).tolist() == kept["block_id"].tolist()
    expected = np.concatenate([tiny.alljoined_trials(table, s) for s in ("train", "test")])
    np.testing.assert_allclose(study.eeg, expected, atol=1e-6)
    assert "AFz" in study.ch_names and study.unit == "a.u." and study.sfreq == 100
    assert study.image_path("00007").is_file()
    assert "whiten" in [s["name"] for s in study.info["steps"]]


def test_the_official_split_validates_on_whole_blocks_and_keeps_images_apart(tmp_path):
    study = read(tiny.write_alljoined(tmp_path / "s"), tmp_path / "study")
    split = study.split("official")
    fold = split.fold(0)
    trials = study.trials
    run = trials["session"].astype(str) + "/" + trials["run"].astype(str)
    assert not set(run.iloc[fold.train]) & set(run.iloc[fold.val])
    sides = [set(trials["image_id"].iloc[getattr(fold, s)]) for s in ("train", "val", "test")]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    # The second session shows the validated images again; those trials are left out.
    assert split.how["left_out_for_images"] == 8 or split.how["left_out_for_images"] == 7


def test_raw_recordings_are_cut_where_annotations_say(tmp_path):
    source = tiny.write_alljoined_raw(tmp_path / "s")
    study = read(source / "raw_eeg", tmp_path / "study", tmin=-0.1, tmax=0.25, baseline=(None, 0))
    table = tiny.alljoined_order()  # nothing is dropped from raw recordings
    assert study.n_trials == len(table)
    assert study.unit == "V" and study.design == "randomised" and "COUNTER" not in study.ch_names
    assert study.trials["image_id"].tolist() == [Path(p).stem for p in table["image_path"]]
    assert study.trials["category"].tolist() == table["category_name"].tolist()
    # The planted step after each event: 3 µV a class.
    late = study.eeg[:, :, (study.times > 0.11) & (study.times < 0.2)].mean(axis=(1, 2)) * 1e6
    number = table["category_num"].to_numpy()
    means = [late[number == c].mean() for c in range(4)]
    assert np.allclose(np.diff(means), 3, atol=1.2)
    fold = study.split("official").fold(0)
    run = study.trials["session"].astype(str) + "/" + study.trials["run"].astype(str)
    assert not set(run.iloc[fold.train]) & set(run.iloc[fold.val])
    assert "samples" in study.split("official").how["kept_apart"]


def test_rows_of_alljoined1(tmp_path):
    source = tiny.write_alljoined1(tmp_path / "s")
    table = tmp_path / "categories.csv"
    table.write_text("image,category\n" + "".join(f"{i},{tiny.WORDS[i % 4]}\n" for i in range(24)))
    study = read(source, tmp_path / "study", categories=table)
    assert study.eeg.shape == (2 * 2 * 24, 64, 32) and study.sfreq == 512
    assert study.ch_names[:3] == ["Fp1", "AF7", "AF3"] and study.unit == "V"
    first = study.trials.iloc[0]
    assert (first["image_id"], first["category"], first["onset"]) == ("nsd-00000", "feather", 1.6)
    assert study.split("official").how["kept_apart"] == ["samples", "images"]
    import pyarrow.parquet as pq

    rows = pq.read_table(source / "data" / "test-00000-of-00001.parquet").to_pylist()
    at = int(np.flatnonzero(study.trials["partition"] == "test")[0])
    np.testing.assert_allclose(study.eeg[at], rows[0]["EEG"], rtol=1e-6)
    one = read(source, tmp_path / "one", subjects="2")
    assert one.subjects == ["02"] and set(one.images["category"]) == {"unknown"}
    with pytest.raises(RecordingError, match="name them in order with 'channels'"):
        read(tiny.write_alljoined1(tmp_path / "t", n_chans=63), tmp_path / "no")


class Harm:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def test_bad_input(tmp_path):
    source = tiny.write_alljoined(tmp_path / "s")
    place = source / "preprocessed_eeg" / "sub-01"
    file, table = (
        place / "preprocessed_eeg_training_flat.npy",
        place / "experiment_metadata.parquet",
    )
    whole, rows = pickle.loads(file.read_bytes()), table.read_bytes()
    canary = tmp_path / "canary"
    nan = whole["preprocessed_eeg_data"].copy()
    nan[5, 2, 1] = np.nan
    for entries, words in (
        ({"times": None}, "lacks the key 'times'"),
        ({"preprocessed_eeg_data": whole["preprocessed_eeg_data"][:-1]}, "holds 77 trials, but"),
        ({"preprocessed_eeg_data": nan}, "not finite"),
        ({"ch_names": ["Q1", *tiny.HEADSET[1:]]}, "names Q1"),
        ({"configs": Harm(canary)}, "could run code"),
    ):
        content = {k: v for k, v in (whole | entries).items() if v is not None}
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(RecordingError, match=words) as refused:
            read(source, tmp_path / "study")
        assert str(file) in str(refused.value) and not canary.exists()
    file.write_bytes(pickle.dumps(whole))
    for change, words in (
        (lambda t: t.drop(columns="partition"), "lacks the columns partition"),
        (lambda t: t.drop(columns="dropped"), "no column 'dropped'"),
        (lambda t: t.assign(category_name=range(len(t))), "two categories"),
    ):
        change(tiny.alljoined_order()).to_parquet(table)
        with pytest.raises(RecordingError, match=words):
            read(source, tmp_path / "study")
    table.unlink()
    with pytest.raises(RecordingError, match="'metadata'"):
        read(source, tmp_path / "study")
    table.write_bytes(rows)
    with pytest.raises(RecordingError, match="leave it out, or import the raw part"):
        read(source, tmp_path / "study", bandpass=(1, 40))
    with pytest.raises(RecordingError, match="43 of 43 images"):
        read(source, tmp_path / "study", stimuli=place)
    raw = tiny.write_alljoined_raw(tmp_path / "r")
    (raw / "preprocessed_eeg" / "experiment_metadata_categories.parquet").unlink()
    with pytest.raises(RecordingError, match="what category an image is of"):
        read(raw, tmp_path / "study")
    with pytest.raises(RecordingError, match="holds none of the layouts"):
        read(tmp_path / "r" / "preprocessed_eeg", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_damaged_files_raise_only_our_errors(tmp_path):
    rng = random.Random(0)
    rows = tiny.write_alljoined1(tmp_path / "rows")
    raw = tiny.write_alljoined_raw(tmp_path / "raw")
    for source, file in (
        (rows, rows / "data" / "train-00000-of-00001.parquet"),
        (raw, next(iter(sorted(raw.rglob("*.edf"))))),
    ):
        whole = file.read_bytes()
        for _ in range(8):
            broken = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
            for _ in range(rng.randrange(1, 30)):
                broken[rng.randrange(min(len(broken), 3000)) * rng.choice((1, -1))] = rng.randrange(
                    256
                )
            file.write_bytes(broken)
            try:
                read(source, tmp_path / "study", overwrite=True, tmax=0.25)
            except EegpromptError as problem:
                assert "\n" not in str(problem)


def renamed(folder: Path, old: str, new: str) -> int:
    files = [f for f in folder.rglob("*.edf") if old in f.name]
    for file in files:
        file.rename(file.with_name(file.name.replace(old, new)))
    return len(files)


def test_a_name_that_disagrees_with_its_folder_is_refused_until_one_is_said_to_be_right(tmp_path):
    source = tiny.write_alljoined_raw(tmp_path / "s")
    folder = source / "raw_eeg" / "sub-01"
    n = renamed(folder, "Subject 1, Session 1,", "Subject 19, Session 1,")
    assert n == 6
    options = {"tmin": -0.1, "tmax": 0.25}
    with pytest.raises(RecordingError) as problem:
        read(source / "raw_eeg", tmp_path / "study", **options)
    for said in ("6 of 12 files", "subject 19", "subject 01", "'identity'"):
        assert said in str(problem.value)
    assert not (tmp_path / "study").exists()
    study = read(source / "raw_eeg", tmp_path / "study", identity="folder", **options)
    assert study.subjects == ["01"]
    assert any("6 of 12" in n and "the folder was taken" in n for n in study.info["notes"])
    other = read(source / "raw_eeg", tmp_path / "other", identity="name", **options)
    assert other.trials["subject"].value_counts().to_dict() == {"01": 48, "19": 48}
    # Whom the disagreement does not concern is not held up by it.
    folder.rename(folder.with_name("sub-08"))
    renamed(source, "Subject 1,", "Subject 8,")
    tiny.write_alljoined_raw(tmp_path / "t")
    (tmp_path / "t" / "raw_eeg" / "sub-01").rename(source / "raw_eeg" / "sub-01")
    one = read(source / "raw_eeg", tmp_path / "one", subjects="1", **options)
    assert one.subjects == ["01"] and not any("disagree" in n for n in one.info["notes"])
    with pytest.raises(RecordingError):
        read(source / "raw_eeg", tmp_path / "no", subjects="19", **options)


def test_two_files_that_would_be_one_block_are_refused(tmp_path):
    source = tiny.write_alljoined_raw(tmp_path / "s")
    assert renamed(source, "Session 2, Block 3", "Session 1, Block 3") == 1
    with pytest.raises(RecordingError, match="are both subject 01, session 01, block 03"):
        read(source / "raw_eeg", tmp_path / "study", identity="name")


@pytest.mark.parametrize("name", ["nan.jpg", "", "1e5.jpg"])
def test_images_of_the_metadata_are_numbered(tmp_path, name):
    source = tiny.write_alljoined_raw(tmp_path / "s")
    path = source / "preprocessed_eeg" / "experiment_metadata_categories.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "image_path"] = name
    table.to_parquet(path)
    with pytest.raises(RecordingError) as caught:
        read(source / "raw_eeg", tmp_path / "study", tmin=-0.1, tmax=0.25)
    assert "'image_path'" in str(caught.value)
