"""Gaps, jumps and parts of recordings: no trial spans one, and no event moves or vanishes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_recordings as tiny
from eegprompt.core.errors import RecordingError
from eegprompt.readers._file_checks import fif_is_whole
from eegprompt.readers._open_recording import open_recording
from eegprompt.readers.continuous import ContinuousReader
from eegprompt.study import Study

CSV: dict[str, Any] = {"unit": "uV", "exclude": ["Right AUX"]}
MARKED = {**CSV, "marker": "Marker0", "events": tiny.CODES}


def read(source: Any, out: Path, **options: Any) -> Study:
    return ContinuousReader().read(source, out, **options)


# -- EDF+D ---------------------------------------------------------------------------------------
def discontinuous(path: Path, gap_after: int = 15, gap_s: float = 7.25) -> tuple[Path, tiny.Tiny]:
    """Events between the records by the clock of the file, which stood still for no one."""
    made = tiny.make()
    seconds = made.samples / made.sfreq
    late = gap_s * (seconds >= gap_after)
    n_records = made.data.shape[1] // 256
    starts = [i + gap_s * (i >= gap_after) for i in range(n_records)]
    events = [(float(t), f"code {c}") for t, c in zip(seconds + late, made.codes)]
    return tiny.write_edf_plus(path, made, starts=starts, annotations=events), made


def test_a_discontinuous_edf_is_parted_at_its_gaps(tmp_path: Path) -> None:
    path, made = discontinuous(tmp_path / "rec.edf")
    study = read(path, tmp_path / "s", events={"code 1": "house", "code 2": "face"})
    # One trial lies across the gap; all others bear their own label, and their own samples.
    across = [i for i, s in enumerate(made.samples) if s + 205 >= 15 * 256 > s - 26]
    assert set(range(40)) - set(study.trials["order"]) == set(across)
    kept = [i for i in range(40) if i not in across]
    assert study.trials["category"].tolist() == [tiny.CODES[str(made.codes[i])] for i in kept]
    for row, i in enumerate(kept):
        cut = made.data[:, made.samples[i] - 26 : made.samples[i] + 206]
        assert np.abs(study.eeg[row] * 1e6 - cut).max() < 0.06
    late = made.samples[-1] / 256 + 7.25
    assert study.trials["onset"].iloc[-1] == pytest.approx(late, abs=1 / 256)
    assert study.accounting is not None and study.accounting.found == 40


def test_annotations_are_those_that_mne_reads(tmp_path: Path) -> None:
    import mne

    made = tiny.make()
    events = [(0.25, "a"), (0.25, "b/ü"), (3.5, "x y"), (3.5, "z@@AF7")]
    path = tiny.write_edf_plus(tmp_path / "rec.edf", made, annotations=events, continuous=True)
    found = open_recording(path).annotations
    theirs = mne.io.read_raw_edf(path, verbose="ERROR").annotations
    assert sorted((o, text) for o, _, text in found) == sorted(
        (float(a["onset"]), str(a["description"])) for a in theirs
    )


@pytest.mark.parametrize("starts", [[0, 1, 1.5], [0, 2, 1]])
def test_records_that_overlap_are_refused(starts: list[float], tmp_path: Path) -> None:
    made = tiny.make()
    n = made.data.shape[1] // 256
    path = tiny.write_edf_plus(
        tmp_path / "rec.edf", made, starts=[*starts, *(10.0 + i for i in range(n - 3))]
    )
    with pytest.raises(RecordingError):
        open_recording(path)


def test_an_edf_without_a_whole_record_is_refused(tmp_path: Path) -> None:
    path = tiny.write_edf_plus(tmp_path / "rec.edf", tiny.make())
    data = bytearray(path.read_bytes())
    data[236:244] = b"-1      "  # as of a recording that was never closed
    for size in (256 * 6, 256 * 6 + 100):
        path.write_bytes(bytes(data[:size]))
        with pytest.raises(RecordingError):
            open_recording(path)


def test_gaps_in_a_file_that_calls_itself_continuous_count(tmp_path: Path) -> None:
    made = tiny.make()
    starts = [i + 3.0 * (i >= 4) for i in range(made.data.shape[1] // 256)]
    path = tiny.write_edf_plus(tmp_path / "rec.edf", made, starts=starts, continuous=True)
    recording = open_recording(path)
    assert [s[0] for s in recording.stretches] == [0, 4 * 256]
    assert recording.stretches[1][2] == 7.0


# -- clocks of CSV files -------------------------------------------------------------------------
@pytest.mark.parametrize("back_s", [30.0, 5.0, 0.2])
@pytest.mark.parametrize("jitter_s", [0.0, 0.004])
def test_a_clock_that_jumps_back_parts_the_recording(
    back_s: float, jitter_s: float, tmp_path: Path
) -> None:
    made = tiny.make()
    n = made.data.shape[1]
    at = int(made.samples[20]) + 60
    times = 100 + np.arange(n) / 256 - back_s * (np.arange(n) >= at)
    times = times + np.random.default_rng(0).normal(0, jitter_s, n)
    path = tiny.write_csv(tmp_path / "rec.csv", made, times=times)
    study = read(path, tmp_path / "s", **MARKED)
    assert study.sfreq == 256
    assert set(range(40)) - set(study.trials["order"]) == {20}
    onset = study.trials["onset"].to_numpy()
    assert (np.diff(onset) > 0.9).all()  # no two trials seem to share samples
    assert study.info["recordings"][0]["facts"]["jumps_back"] == 1
    # A time names no sample any more, so a table of onsets is refused.
    (tmp_path / "e.csv").write_text("onset,category\n3.0,house\n")
    with pytest.raises(RecordingError):
        read(path, tmp_path / "t", **CSV, events_table=str(tmp_path / "e.csv"), min_events=1)


def test_a_small_step_back_of_an_even_clock_is_a_jump(tmp_path: Path) -> None:
    made = tiny.make()
    n = made.data.shape[1]
    times = np.arange(n) / 256 - 0.05 * (np.arange(n) >= 3000)
    recording = open_recording(tiny.write_csv(tmp_path / "r.csv", made, times=times), **CSV)
    assert recording.jumps == 1 and [s[0] for s in recording.stretches] == [0, 3000]


def test_parts_of_two_rates_are_refused(tmp_path: Path) -> None:
    made = tiny.make()
    n = made.data.shape[1]
    times = np.where(np.arange(n) < 5000, np.arange(n) / 256, 60 + (np.arange(n) - 5000) / 200)
    with pytest.raises(RecordingError):
        open_recording(tiny.write_csv(tmp_path / "r.csv", made, times=times), **CSV)


def test_samples_lost_one_by_one_do_not_change_the_rate(tmp_path: Path) -> None:
    made = tiny.make()
    kept = np.delete(np.arange(made.data.shape[1]), np.arange(200, 10_000, 40))
    made.data = made.data[:, kept]
    marker = np.zeros(0, int)
    made.samples, made.codes = marker, marker
    recording = open_recording(tiny.write_csv(tmp_path / "r.csv", made, times=kept / 256), **CSV)
    assert recording.sfreq == 256
    # Taken as even, the last sample would lie a second early.
    assert recording.time_of(len(kept) - 1) == pytest.approx(kept[-1] / 256, abs=0.1)


# -- FIF -----------------------------------------------------------------------------------------
def tags(path: Path) -> list[tuple[bytes, bytes]]:
    """Head (without the place of the next) and content of each tag."""
    data, place, found = path.read_bytes(), 0, []
    while place >= 0:
        length, following = struct.unpack(">ii", data[place + 8 : place + 16])
        found.append((data[place : place + 12], data[place + 16 : place + 16 + length]))
        place = following if following else place + 16 + length
    return found


def test_a_fif_whose_tags_are_no_forward_chain_is_read(tmp_path: Path) -> None:
    import mne

    made = tiny.make()
    plain = tiny.write_fif(tmp_path / "rec_raw.fif", made)
    parts = tags(plain)
    # The last third lies before the second: the chain leaps forward and back again.
    third = len(parts) // 3
    order = [*range(third), *range(2 * third, len(parts)), *range(third, 2 * third)]
    place, places = 0, {}
    for i in order:
        places[i] = place
        place += 16 + len(parts[i][1])
    body = b""
    for i in order:
        following = places[i + 1] if i + 1 < len(parts) else -1
        body += parts[i][0] + struct.pack(">i", following) + parts[i][1]
    woven = tmp_path / "woven_raw.fif"
    woven.write_bytes(body)
    theirs = mne.io.read_raw_fif(woven, verbose="ERROR").get_data()
    assert np.array_equal(open_recording(woven).data, theirs)
    for size in (len(body) - 1, len(body) // 2, 100):
        woven.write_bytes(body[:size])
        with pytest.raises(RecordingError):
            fif_is_whole(woven)


def test_a_fif_that_runs_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tiny.write_fif(tmp_path / "rec_raw.fif", tiny.make())
    data = bytearray(path.read_bytes())
    data[12:16] = struct.pack(">i", 0)
    length = struct.unpack(">i", data[8:12])[0]
    second = 16 + length
    data[second + 12 : second + 16] = struct.pack(">i", second)
    path.write_bytes(bytes(data))
    with pytest.raises(RecordingError):
        fif_is_whole(path)
