"""Facts and figure of a study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.core.errors import InputError, StudyError
from eegprompt.figures.sensors import draw_study, evoked, flat_positions
from eegprompt.signal.montage import positions_of
from eegprompt.steps.info import info as study_info
from eegprompt.study import Study


def test_facts_count_what_is_there(small_study: Path) -> None:
    study = Study(small_study)
    facts = study_info(study)
    assert (
        facts["trials"] == sum(facts["subjects"].values()) == sum(facts["classes"].values()) == 32
    )
    assert facts["images"] == 8 and facts["images_without_image"] == 0
    assert facts["channels"] == study.ch_names and facts["sampling_rate_hz"] == study.sfreq
    assert set(facts["splits"]) == set(study.split_names())
    assert set(facts["captions"]) == set(study.caption_names())
    assert facts["design"] == study.design
    json.dumps(facts)


def test_evoked_is_the_mean(small_study: Path) -> None:
    study = Study(small_study)
    mean, n = evoked(study)
    assert n == 32 and np.allclose(mean, study.eeg.mean(axis=0), atol=1e-10)
    some, n = evoked(study, max_trials=4)
    rows = np.linspace(0, 31, 4).round().astype(int)
    assert n == 4 and np.allclose(some, study.eeg[rows].mean(axis=0), atol=1e-10)
    with pytest.raises(InputError, match="at least 1"):
        evoked(study, max_trials=0)


def test_cap_is_seen_from_above() -> None:
    names = ["Cz", "Oz", "Fpz", "T7", "T8"]
    cap = dict(zip(names, flat_positions(np.array(list(positions_of(names).values())))))
    assert np.hypot(*cap["Cz"]) < 0.25
    assert cap["Oz"][1] < -0.6 < 0.6 < cap["Fpz"][1]
    assert cap["T7"][0] < -0.6 < 0.6 < cap["T8"][0]
    assert np.isnan(flat_positions(np.full((1, 3), np.nan))).all()


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_figure_is_drawn_and_the_same_every_time(
    suffix: str, small_study: Path, tmp_path: Path
) -> None:
    study = Study(small_study)
    one = draw_study(study, tmp_path / f"one{suffix}").read_bytes()
    two = draw_study(study, tmp_path / f"two{suffix}").read_bytes()
    assert one == two and len(one) > 5000
    if suffix == ".svg":
        for text in (b"time from stimulus onset (ms)", b"mean over trials (", b"4 channels"):
            assert text in one


def test_a_study_without_positions_is_drawn_too(small_study: Path, tmp_path: Path) -> None:
    study = Study(small_study)
    study.info["ch_pos"] = {}
    text = draw_study(study, tmp_path / "f.svg").read_text()
    assert "4 without position" in text
    with pytest.raises(InputError, match=r"\.svg, \.png, \.pdf; got '\.bmp'"):
        draw_study(study, tmp_path / "f.bmp")


def test_images_that_are_one_file_gone_or_never_shown_are_named(small_study: Path) -> None:
    from eegprompt.core.files import sha256_file, write_table

    study = Study(small_study)
    plain = study_info(study)
    assert (plain["images_never_shown"], plain["image_files_gone"]) == (0, 0)
    assert "images_of_equal_bytes" not in plain
    images, folder = study.images, small_study / "images"
    (folder / "img-2.png").write_bytes((folder / "img-0.png").read_bytes())
    (folder / "img-3.png").write_bytes((folder / "img-0.png").read_bytes())
    images["sha256"] = [sha256_file(small_study / path) for path in images["path"]]
    (folder / "img-5.png").unlink()
    spare = images.iloc[[7]].assign(image_id="img-spare", sha256="")
    images = images.iloc[[*range(8)]]
    write_table(small_study / "images.parquet", pd.concat([images, spare], ignore_index=True))
    facts = study_info(Study(small_study))
    assert facts["images"] == 9 and facts["images_never_shown"] == 1
    assert facts["image_files_gone"] == 1
    (equal,) = facts["images_of_equal_bytes"]
    assert equal == "img-0 = img-2 = img-3, of the categories face, house"
    answer = CliRunner().invoke(app, ["info", str(small_study)])
    said = " ".join(answer.stdout.split())
    assert answer.exit_code == 0
    assert "img-0 = img-2 = img-3" in said and "images never shown 1" in said


def test_a_trial_of_another_category_than_its_image_is_refused(small_study: Path) -> None:
    from eegprompt.core.files import write_table

    study = Study(small_study)
    trials = study.trials
    trials.loc[3, "category"] = "house"
    write_table(small_study / "trials.parquet", trials)
    with pytest.raises(StudyError, match=r"1 trials .*trial 3 of 'house' shows 'img-3'"):
        Study(small_study)
