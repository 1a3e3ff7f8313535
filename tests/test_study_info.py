"""Facts and figure of a study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eegprompt.data.montage import positions_of
from eegprompt.errors import InputError
from eegprompt.study import Study
from eegprompt.study_info import cap_coordinates, draw_study, evoked, study_info


def test_facts_count_what_is_there(small_study: Path) -> None:
    study = Study(small_study)
    facts = study_info(study)
    assert (
        facts["trials"] == sum(facts["subjects"].values()) == sum(facts["classes"].values()) == 32
    )
    assert facts["images"] == 8 and facts["images_without_picture"] == 0
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
    cap = dict(zip(names, cap_coordinates(np.array(list(positions_of(names).values())))))
    assert np.hypot(*cap["Cz"]) < 0.25
    assert cap["Oz"][1] < -0.6 < 0.6 < cap["Fpz"][1]
    assert cap["T7"][0] < -0.6 < 0.6 < cap["T8"][0]
    assert np.isnan(cap_coordinates(np.full((1, 3), np.nan))).all()


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
