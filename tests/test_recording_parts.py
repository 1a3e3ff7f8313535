"""Recordings that lie in several files, and trials that stand in several: each is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest

import tiny_recordings as tiny
from eegprompt.core.errors import RecordingError
from eegprompt.readers._open_recording import open_recording, without_continuations
from eegprompt.readers.continuous import ContinuousReader
from eegprompt.study import Study

CSV: dict[str, Any] = {"unit": "uV", "marker": "Marker0", "events": tiny.CODES}


def read(source: Any, out: Path, **options: Any) -> Study:
    return ContinuousReader().read(source, out, **options)


def split_fif(folder: Path, naming: str, seed: int = 0) -> list[Path]:
    """A recording of 5 MB that MNE saves in three parts."""
    made = tiny.make(seed=seed, n_events=60)
    rng = np.random.default_rng(seed)
    names = ["TP9", "AF7", "AF8", "TP10", "Fz", "Cz", "Pz", "Oz", "C3", "C4", "O1", "O2"]
    data = rng.normal(0, 1e-6, (len(names), made.data.shape[1]))
    data[:4] = made.data * 1e-6
    info = mne.create_info(names, 256.0, "eeg")
    raw = mne.io.RawArray(data.repeat(2, axis=1), info, verbose="ERROR")
    raw.set_annotations(mne.Annotations(2 * made.samples / 256, 0, [str(c) for c in made.codes]))
    folder.mkdir(parents=True, exist_ok=True)
    name = "sub-1_run-1_raw.fif" if naming == "neuromag" else "sub-1_run-1_eeg.fif"
    raw.save(
        folder / name, fmt="double", split_size="2MB", split_naming=naming, buffer_size_sec=1,
        overwrite=True, verbose="ERROR",
    )  # fmt: skip
    return sorted(folder.glob("*.fif"))


@pytest.mark.filterwarnings("ignore:This filename")
@pytest.mark.parametrize("naming", ["neuromag", "bids"])
def test_parts_of_a_fif_are_read_once(naming: str, tmp_path: Path) -> None:
    files = split_fif(tmp_path / "in", naming)
    assert len(files) > 2
    study = read(tmp_path / "in", tmp_path / "s", events=tiny.CODES)
    assert study.n_trials == 60 and len(study.info["recordings"]) == 1
    assert study.trials["run"].unique().tolist() == ["1"]
    assert set(study.info["provenance"]["sources"]) == {f.name for f in files}
    begin = without_continuations(files)
    assert len(begin) == 1
    alone = read(begin[0], tmp_path / "t", events=tiny.CODES)
    assert np.array_equal(alone.eeg, study.eeg)


@pytest.mark.filterwarnings("ignore:This filename")
def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    files = split_fif(tmp_path / "in", "neuromag")
    begin = without_continuations(files)[0]
    next(f for f in files if f != begin).unlink()
    with pytest.raises(RecordingError):
        open_recording(begin)


@pytest.mark.filterwarnings("ignore:This filename")
def test_parts_under_other_names_repeat_no_trial(tmp_path: Path) -> None:
    """Somebody saved the whole and a piece of it: no name and no reference tells."""
    made = tiny.make()
    whole = tiny.write_fif(tmp_path / "in" / "rec_raw.fif", made)
    raw = mne.io.read_raw_fif(whole, verbose="ERROR")
    at = (int(made.samples[20]) - 64) / 256
    raw.crop(at).save(tmp_path / "in" / "second half_raw.fif", verbose="ERROR")
    study = read(tmp_path / "in", tmp_path / "s", events=tiny.CODES, min_events=1)
    assert study.n_trials == 40
    assert len(np.unique(study.eeg.reshape(40, -1), axis=0)) == 40
    assert study.accounting is not None
    assert (study.accounting.found, study.accounting.left_out["repeated"]) == (60, 20)
    kept = read(tmp_path / "in", tmp_path / "k", events=tiny.CODES, min_events=1, duplicates="keep")
    assert kept.n_trials == 60
    with pytest.raises(RecordingError):
        read(tmp_path / "in", tmp_path / "r", events=tiny.CODES, min_events=1, duplicates="refuse")


def test_equal_trials_are_found_whatever_is_done_to_the_signal(tmp_path: Path) -> None:
    """After a filter the trials of a whole and of its half differ; as recorded they do not."""
    table = pd.read_csv(tiny.write_csv(tmp_path / "a.csv", tiny.make(), aux=False))
    table.iloc[len(table) // 2 :].to_csv(tmp_path / "b.csv", index=False)
    options = {**CSV, "bandpass": (1, 30), "resample": 128.0, "min_events": 1}
    study = read([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "s", **options)
    assert study.n_trials == 40
    assert any("repeat" in note for note in study.info["notes"])


def test_equal_trials_of_two_categories_are_refused(tmp_path: Path) -> None:
    path = tiny.write_csv(tmp_path / "a.csv", tiny.make(), aux=False)
    table = pd.read_csv(path)
    table["Marker0"] = table["Marker0"].map({0: 0, 1: 2, 2: 1})
    table.to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(RecordingError):
        read([path, tmp_path / "b.csv"], tmp_path / "s", **CSV)
    assert not (tmp_path / "s").exists()
