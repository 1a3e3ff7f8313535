"""The reader of ThoughtViz: pickles of Python 2, categories only."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_datasets as tiny
from eegprompt.core.errors import EegpromptError, RecordingError, SplitError
from eegprompt.readers.thoughtviz import CLASSES, ThoughtVizReader
from eegprompt.splits.by_image import by_image
from eegprompt.study import Study
from tiny_recordings import write_images


def read(source: Any, out: Path, **options: Any) -> Study:
    return ThoughtVizReader().read(source, out, **options)


@pytest.mark.parametrize("kind", CLASSES)
def test_trials_classes_and_the_official_split(kind, tmp_path):
    path = tiny.write_thoughtviz(tmp_path / "eeg", kind)
    study = read(path, tmp_path / "study")
    truth = pickle.loads(path.read_bytes(), encoding="latin1")  # Python's own reading of it
    expected = np.concatenate([truth["x_train"], truth["x_test"]])[..., 0]
    np.testing.assert_allclose(study.eeg, expected, atol=1e-6)
    labels = np.concatenate([truth["y_train"], truth["y_test"]]).argmax(axis=1)
    assert study.trials["category"].tolist() == [CLASSES[kind][i] for i in labels]
    assert study.image_identity == "category" and study.sfreq == 128
    fold = study.split("official").fold(0)
    assert fold.test.tolist() == list(range(60, 80))
    assert len(fold.val) == 10 and set(study.trials["category"].iloc[fold.val]) == set(
        CLASSES[kind]
    )
    with pytest.raises(SplitError, match="only the category"):
        by_image(study)


def test_images_stand_for_classes(tmp_path):
    path = tiny.write_thoughtviz(tmp_path / "eeg")
    folder = write_images(tmp_path / "p", **dict.fromkeys(CLASSES["image"], 2))
    study = read(path.parent, tmp_path / "study", stimuli=folder)
    assert all(study.image_path(c).is_file() for c in CLASSES["image"])


class Harm:
    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def test_bad_input(tmp_path):
    path = tiny.write_thoughtviz(tmp_path / "eeg")
    whole = pickle.loads(path.read_bytes(), encoding="latin1")
    canary = tmp_path / "canary"
    nan = whole["x_train"].copy()
    nan[4, 3, 2] = np.inf
    for entries, words in (
        ({"y_test": None}, "lacks the key 'y_test'"),
        ({"x_test": whole["x_test"][:, :5]}, r"\(trials, 14, 32, 1\) is needed"),
        ({"y_train": whole["y_train"][:-1]}, r"\(60, 10\) is needed"),
        ({"y_train": whole["y_train"] * 2}, "row 0 of 'y_train' is not one-hot"),
        ({"x_train": nan}, r"not finite at \[4, 0, 3, 2\]"),
        ({"x_train": Harm(canary)}, "could run code"),
    ):
        content = {k: v for k, v in (whole | entries).items() if v is not None}
        path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(RecordingError, match=words) as refused:
            read(path, tmp_path / "study")
        assert str(path) in str(refused.value)
        assert not (tmp_path / "study").exists() and not canary.exists()
    with pytest.raises(RecordingError, match="'kind=image'"):
        path.rename(tmp_path / "data.pkl")
        read(tmp_path / "data.pkl", tmp_path / "study")
    with pytest.raises(RecordingError, match=r"holds no data\.pkl"):
        read(tmp_path / "eeg", tmp_path / "study")


def test_the_whole_repository_will_do_with_a_kind(tmp_path):
    for kind in ("char", "digit"):
        tiny.write_thoughtviz(tmp_path / "ThoughtViz" / "data" / "eeg", kind, n=2)
    with pytest.raises(RecordingError, match=r"of each of char, digit, .* with 'kind=image'"):
        read(tmp_path / "ThoughtViz", tmp_path / "study")
    study = read(tmp_path / "ThoughtViz", tmp_path / "study", kind="digit")
    assert study.name == "thoughtviz-digit"
    assert any("'stimuli'" in note for note in study.info["notes"])


def test_damaged_files_raise_only_our_errors(tmp_path):
    path = tiny.write_thoughtviz(tmp_path / "eeg", n=2)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(60):
        broken = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 10)):
            broken[rng.randrange(min(len(broken), 400))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            read(path, tmp_path / "study", overwrite=True)
        except EegpromptError as problem:
            assert "\n" not in str(problem)
