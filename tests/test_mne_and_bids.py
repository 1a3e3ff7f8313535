"""Readers of MNE's Epochs and of BIDS datasets; what they need is asked for by name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest

import tiny_datasets
import tiny_recordings as tiny
from eegprompt.core.errors import EegpromptError, InputError, RecordingError
from eegprompt.readers.bids import BidsReader
from eegprompt.readers.mne import MneEpochsReader
from eegprompt.study import Study
from test_continuous import assert_response


def write_epochs(path: Path, seed: int = 0, metadata: bool = True) -> mne.Epochs:
    made = tiny.make(seed=seed)
    info = mne.create_info(list(made.ch_names), made.sfreq, "eeg")
    raw = mne.io.RawArray(made.data * 1e-6, info, verbose="ERROR")
    events = np.column_stack([made.samples, np.zeros_like(made.samples), made.codes])
    names = [tiny.CODES[str(c)] for c in made.codes]
    table = pd.DataFrame(
        {
            "image": [f"{n}s/{n}s_{i % 3}.png" for i, n in enumerate(names)],
            "what": names,
            "number": np.where(np.arange(len(names)) % 2, 1.0, np.nan),
        }
    )
    epochs = mne.Epochs(
        raw, events, {"house": 1, "face": 2}, -0.1, 0.8, baseline=None, preload=True,
        metadata=table if metadata else None, verbose="ERROR",
    )  # fmt: skip
    epochs.save(path, overwrite=True, verbose="ERROR")
    return epochs


def read(source: Any, out: Path, **options: Any) -> Study:
    return MneEpochsReader().read(source, out, **options)


def test_epochs_with_metadata(tmp_path):
    epochs = write_epochs(tmp_path / "sub-03_ses-2-epo.fif")
    images = tiny.write_images(tmp_path / "p", faces=3, houses=3)
    study = read(
        tmp_path / "sub-03_ses-2-epo.fif", tmp_path / "study", image_column="image",
        category_column="what", stimuli=images,
    )  # fmt: skip
    np.testing.assert_allclose(study.eeg, epochs.get_data(), rtol=1e-6, atol=1e-12)
    assert study.image_identity == "known" and len(study.images) == 6
    assert study.trials["category"].tolist() == epochs.metadata["what"].tolist()
    assert study.subjects == ["03"] and set(study.trials["session"]) == {"2"}
    np.testing.assert_allclose(study.times, epochs.times, atol=1e-9)
    first = epochs.events[0, 0]
    np.testing.assert_allclose(study.trials["onset"], (epochs.events[:, 0] - first) / 256)
    assert_response(study)


def test_event_names_to_categories_or_images(tmp_path):
    path = tmp_path / "sub-01-epo.fif"
    write_epochs(path, metadata=False)
    study = read(path, tmp_path / "a", events={"face": "people", "house": "places"})
    assert study.image_identity == "category" and study.categories == ["people", "places"]
    some = read(path, tmp_path / "b", events={"face": "people"})
    assert some.n_trials == 20 and any("'house' (20×)" in n for n in some.info["notes"])
    table = tmp_path / "events.csv"
    table.write_text("event,category,image\nface,people,f.png\nhouse,places,h.png\n")
    known = read(path, tmp_path / "c", events=table)
    assert known.image_identity == "known" and known.images["image_id"].tolist() == ["f", "h"]


def test_several_files_are_one_study_and_a_repeated_one_is_left_out(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    for subject in (1, 2):
        write_epochs(folder / f"sub-{subject}-epo.fif", seed=subject)
    (folder / "sub-4-epo.fif").write_bytes((folder / "sub-1-epo.fif").read_bytes())
    study = read(folder, tmp_path / "study", category_column="what")
    assert study.subjects == ["1", "2"] and study.n_trials == 80
    assert any("byte for byte" in note for note in study.info["notes"])


def test_what_is_needed_is_asked_for_by_name(tmp_path):
    path = tmp_path / "sub-01-epo.fif"
    write_epochs(path)
    for options, kind, words in (
        ({}, RecordingError, r"image, what, number.*'image_column'.*'events'"),
        ({"image_column": "images"}, InputError, "did you mean 'image'"),
        (
            {"events": {"dog": "animal"}},
            RecordingError,
            "its events are 'house'|its events are 'face'",
        ),
        ({"events": {"face": "a"}, "image_column": "image"}, InputError, "leave one out"),
        ({"category_column": "what", "channels": "Q1"}, InputError, "Q1"),
        ({"category_column": "what", "montage": "file"}, RecordingError, "no positions"),
        ({"image_column": "number"}, RecordingError, "category of the image '1'"),
        ({"stimuli": tmp_path / "no", "category_column": "what"}, RecordingError, "does not exist"),
    ):
        with pytest.raises(kind, match=words):
            read(path, tmp_path / "study", **options)
        assert not (tmp_path / "study").exists()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RecordingError):
        read(tmp_path / "notes.txt", tmp_path / "study")
    tiny.write_fif(tmp_path / "rec_raw.fif", tiny.make())
    with pytest.raises(RecordingError, match="continuous"):
        read(tmp_path / "rec_raw.fif", tmp_path / "study", category_column="what")


def test_damaged_epochs_raise_only_our_errors(tmp_path):
    path = tmp_path / "sub-01-epo.fif"
    write_epochs(path)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(20):
        broken = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 20)):
            broken[rng.randrange(min(len(broken), 4000)) * rng.choice((1, -1))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            read(path, tmp_path / "study", category_column="what", overwrite=True)
        except EegpromptError as problem:
            assert "\n" not in str(problem)


# -- BIDS ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_datasets.write_bids(tmp_path_factory.mktemp("bids") / "ds")


def test_a_bids_dataset(dataset, tmp_path):
    study = BidsReader().read(dataset, tmp_path / "study", baseline=(-0.1, 0))
    assert study.subjects == ["01", "02"] and study.n_trials == 2 * 2 * 32
    assert sorted(study.trials["run"].unique()) == ["1", "2"]
    assert study.image_identity == "known" and len(study.images) == 8
    assert study.image_path("faces_1").is_file()
    assert (study.name, study.info["license"]) == ("Tiny faces", "CC0")
    assert_response(study)


def test_bids_choices_and_what_is_missing(dataset, tmp_path):
    one = BidsReader().read(dataset, tmp_path / "one", subjects="02", resample=128)
    assert one.subjects == ["02"] and one.sfreq == 128
    numbered = BidsReader().read(dataset, tmp_path / "numbered", subjects=2)  # as typed with -o
    assert numbered.subjects == ["02"]
    for options, kind, words in (
        ({"subjects": "07"}, InputError, "unknown subject"),
        ({"tasks": "rest"}, InputError, "unknown task"),
        ({"windows": (1, 1), "category_from": "file"}, InputError, "BIDS"),
        ({"image_column": "photo"}, InputError, "photo"),
    ):
        with pytest.raises(kind, match=words):
            BidsReader().read(dataset, tmp_path / "study", **options)
    with pytest.raises(RecordingError, match=r"dataset_description\.json"):
        BidsReader().read(dataset / "sub-01", tmp_path / "study")
    bare = tiny_datasets.write_bids(tmp_path / "bare", ("01",), n_runs=1)
    events = next(bare.rglob("*_events.tsv"))
    whole = events.read_text()
    events.write_text(whole.replace("trial_type", "kind").replace("stim_file", "photo"))
    with pytest.raises(RecordingError, match=r"'category_column'.*'image_column'"):
        BidsReader().read(bare, tmp_path / "study")
    named = BidsReader().read(
        bare, tmp_path / "named", category_column="kind", image_column="photo"
    )
    assert named.n_trials == 32
    events.unlink()
    with pytest.raises(RecordingError, match=r"no events\.tsv"):
        BidsReader().read(bare, tmp_path / "study")
    signal = next(bare.rglob("*.eeg"))
    signal.write_bytes(signal.read_bytes()[:-3])
    with pytest.raises(RecordingError, match="cut off"):
        BidsReader().read(bare, tmp_path / "study")
    signal.unlink()
    with pytest.raises(RecordingError, match="not beside it"):
        BidsReader().read(bare, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_damaged_datasets_raise_only_our_errors(tmp_path):
    root, rng = tiny_datasets.write_bids(tmp_path / "ds", ("01",), n_runs=1), random.Random(0)
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix not in (".png", ".eeg"))
    for n in range(24):
        file = files[n % len(files)]
        whole = file.read_bytes()
        broken = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 12)):
            if broken:
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        file.write_bytes(broken)
        try:
            BidsReader().read(root, tmp_path / "study", overwrite=True)
        except EegpromptError as problem:
            assert "\n" not in str(problem)
        file.write_bytes(whole)


def test_without_mne_bids_the_extra_is_named(dataset, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mne_bids", None)
    with pytest.raises(EegpromptError, match=r"eegprompt\[bids\]"):
        BidsReader().read(dataset, tmp_path / "study")
