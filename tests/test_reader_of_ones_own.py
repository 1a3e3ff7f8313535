"""The reader that the documentation shows does what the package's own do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eegprompt
from eegprompt.core.errors import InputError, RecordingError
from eegprompt.study import Study

DOCS = Path(__file__).parents[1] / "docs" / "recordings.md"
IMAGES = ("cat_1", "cat_2", "house_1")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with the reader that the page shows, its recordings and its images."""
    section = DOCS.read_text("utf-8").partition("## A reader of one's own")[2].partition("\n## ")[0]
    module, use = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(module.splitlines()) < 60
    (tmp_path / "lab_reader.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in IMAGES:
        Image.new("RGB", (8, 8), (len(name), 20, 30)).save(tmp_path / "images" / f"{name}.png")
    rng = np.random.default_rng(0)
    (tmp_path / "recordings").mkdir()
    for subject in ("01", "02"):
        np.savez(
            tmp_path / "recordings" / f"sub-{subject}.npz",
            eeg=rng.normal(0, 1e-5, (12, 3, 50)),
            images=np.tile(IMAGES, 4),
            good=np.arange(12) != 3,
        )
    yield use
    sys.modules.pop("lab_reader", None)


def test_the_page_imports_a_study(lab):
    exec(lab)
    study = Study("studies/lab")
    assert study.n_trials == 22 and set(study.trials["subject"]) == {"01", "02"}
    info = study.info
    assert info["accounting"] == {"found": 24, "trials": 22, "left_out": {"marked bad": 2}}
    assert info["citation"].startswith("Me and You") and info["license"] == "CC-BY 4.0"
    assert info["provenance"]["reader"] == "lab" and len(info["provenance"]["sources"]) == 2
    assert any("trigger" in note for note in info["notes"])
    assert set(info["ch_pos"]) == {"O1", "Oz", "O2"} and all(study.images["width"] == 8)
    first = np.load("recordings/sub-01.npz")
    kept = first["eeg"][first["good"]].astype("f4")
    assert np.array_equal(np.asarray(study.eeg[:11]), kept)


def test_its_options_and_failures_are_those_of_the_package(lab):
    own = "lab_reader:LabReader"
    with pytest.raises(InputError, match="tmin"):  # did you mean
        eegprompt.import_(own, "recordings", "out/study", tmim=0.0)
    with pytest.raises(RecordingError, match="nowhere"):
        eegprompt.import_(own, "nowhere", "out/study")
    assert not Path("out").exists()
    Path("images/cat_2.png").unlink()
    with pytest.raises(RecordingError, match="cat_2"):
        eegprompt.import_(own, "recordings", "study", stimuli="images")
    assert not Path("study").exists()


def test_what_is_no_reader_is_refused(lab):
    with pytest.raises(InputError, match="Reader"):
        eegprompt.import_("lab_reader:LabOptions", "recordings", "study")
