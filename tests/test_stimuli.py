"""Images are found by names of any script, and no name gets the image of another."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.readers._images import category_folders, category_images, find_images
from eegprompt.study import Study, StudyWriter


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "names", [("猫", "犬"), ("кошка", "собака"), ("قط", "كلب"), ("बिल्ली", "बल्ली"), ("C", "C++")]
)
def test_categories_of_any_script_are_told_apart(names, tmp_path):
    one, other = names
    stimuli = write(tmp_path / "s", f"{one}/a.png", f"{other}/b.png")
    found = category_images(names, stimuli, {})
    assert {c: p.parent.name for c, (p, _) in found.items()} == {one: one, other: other}
    only = write(tmp_path / "only", f"{one}/a.png")
    with pytest.raises(RecordingError):  # the other category has no image, not that of this one
        category_folders(only, [other])
    with pytest.raises(RecordingError):
        category_folders(only, names)


def test_case_plural_and_the_way_a_letter_is_written_do_not_matter(tmp_path):
    accented = "caf\u00e9"
    stimuli = write(
        tmp_path,
        "Faces/a.png",
        f"{unicodedata.normalize('NFD', accented)}/b.png",
        "КОШКА/c.png",
        "İstanbul/d.png",
    )
    found = category_folders(stimuli, ["face", accented, "кошка", "İSTANBUL"])
    assert [p.name for p in found.values()][0::2] == ["Faces", "КОШКА"]
    assert len(set(found.values())) == 4


def test_one_folder_does_not_serve_two_categories(tmp_path):
    stimuli = write(tmp_path, "face/a.png")
    with pytest.raises(RecordingError):
        category_folders(stimuli, ["face", "Faces"])


def test_one_image_does_not_serve_two_names(tmp_path):
    stimuli = write(tmp_path / "s", "b/1.jpg", "c/2.jpg")
    assert find_images(["b/1.jpg", "2"], stimuli).keys() == {"b/1.jpg", "2"}
    assert find_images(["old/b/1.jpg"], stimuli)["old/b/1.jpg"] == stimuli / "b/1.jpg"
    assert len(find_images(["c/2.jpg", "C/2.JPG"], stimuli)) == 2  # one name, written twice
    for names in (["a/1.jpg", "b/1.jpg"], ["a/1.jpg", "d/1.jpg"]):
        with pytest.raises(RecordingError):
            find_images(names, stimuli)


def test_names_that_differ_in_case_are_two_images(tmp_path):
    stimuli = write(tmp_path, "a/Cat.png", "a/cat.png")
    if len(list((tmp_path / "a").iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    found = find_images(["a/Cat.png", "a/cat.png"], stimuli)
    assert {name: path.name for name, path in found.items()} == {
        "a/Cat.png": "Cat.png",
        "a/cat.png": "cat.png",
    }


def many_images(out: Path, n: int) -> Study:
    import numpy as np

    names = [f"i{i}" for i in range(n)]
    with StudyWriter.open(out) as writer:
        writer.append(np.random.default_rng(0).normal(0, 1, (2, 1, 3)))
        writer.finish(
            info={
                "name": "many", "ch_names": ["Oz"], "sfreq": 10.0, "tmin": 0.0, "unit": "V",
                "design": "unknown", "image_identity": "known",
            },
            trials=pd.DataFrame({"subject": "1", "image_id": names[:2], "category": "c"}),
            images=pd.DataFrame({"image_id": names, "category": "c", "path": names}),
        )  # fmt: skip
    return Study(out)


def test_the_path_of_an_image_is_looked_up_not_searched(tmp_path):
    study = many_images(tmp_path / "study", 20_000)
    begin = time.perf_counter()
    paths = [study.image_path(name).name for name in study.images["image_id"]]
    assert time.perf_counter() - begin < 5  # a search for each takes a minute
    assert paths == study.images["image_id"].tolist()
    with pytest.raises(UnknownNameError):
        study.image_path("i20000")
    study.images = study.images.iloc[::-1].reset_index(drop=True)
    assert study.image_path("i7").name == "i7"
