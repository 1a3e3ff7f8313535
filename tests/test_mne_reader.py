"""Epochs become the study that they are: who, when, where, which event; nothing twice, all counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

import tiny_datasets
import tiny_recordings as tiny
from eegprompt.core.errors import InputError, RecordingError
from eegprompt.readers.bids import BidsReader
from eegprompt.readers.continuous import ContinuousReader
from eegprompt.readers.mne import MneEpochsReader
from eegprompt.signal.montage import template
from eegprompt.steps.info import info as study_info
from eegprompt.study import Study

NAMES = ["Fz", "Cz", "Pz", "Oz"]
RATE = 256.0


def make_raw(n_events: int = 24, seed: int = 0, step: int = 200) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = rng.normal(0, 1e-5, (4, (n_events + 2) * step + 400))
    raw = mne.io.RawArray(data, mne.create_info(NAMES, RATE, "eeg"), verbose="ERROR")
    samples = 300 + np.arange(n_events) * step + rng.integers(0, 30, n_events)
    codes = np.tile([1, 2], n_events)[:n_events]
    return raw, np.column_stack([samples, np.zeros(n_events, int), codes])


def make_epochs(**kwargs: Any) -> mne.Epochs:
    seed, n, step = (kwargs.pop(k, d) for k, d in (("seed", 0), ("n", 24), ("step", 200)))
    raw, events = make_raw(n, seed, step)
    options = {"tmin": -0.1, "tmax": 0.5, "baseline": None, "preload": True, "verbose": "ERROR"}
    event_id = kwargs.pop("event_id", {"face": 1, "house": 2})
    return mne.Epochs(raw, events, event_id, **{**options, **kwargs})


def save(epochs: Any, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    epochs.save(path, overwrite=True, verbose="ERROR", **options)
    return path


MEANING = {"face": "face", "house": "house"}


def read(source: Any, out: Path, **options: Any) -> Study:
    if not {"events", "category_column"} & set(options):
        options["events"] = MEANING
    study = MneEpochsReader().read(source, out, **options)
    for entry in study.info["recordings"]:  # it adds up
        assert entry["n_events"] == entry["n_trials"] + sum(entry["dropped"].values())
    assert sum(e["n_trials"] for e in study.info["recordings"]) == study.n_trials
    return study


# -- who -------------------------------------------------------------------------------------------
def with_people(epochs: Any, subject: Any, session: Any = None, **more: Any) -> Any:
    table = pd.DataFrame({"subject": subject, **more}, index=range(len(epochs)))
    if session is not None:
        table["session"] = session
    epochs.metadata = table
    return epochs


def test_who_was_recorded_comes_from_the_metadata(tmp_path):
    subject, session = ["A", "B", "B"] * 8, np.repeat([1, 2], 12)
    epochs = with_people(make_epochs(), subject, session, run=["x"] * 24)
    study = read(save(epochs, tmp_path / "all-epo.fif"), tmp_path / "s")
    assert study.trials["subject"].tolist() == subject
    assert study.trials["session"].tolist() == [str(s) for s in session]
    assert set(study.trials["run"]) == {"x"}
    for _, rows in study.trials.groupby(["subject", "session"]):
        assert rows["order"].tolist() == list(range(len(rows)))
    by_name = read(
        tmp_path / "all-epo.fif", tmp_path / "n", subject_column="none", session_column="none"
    )
    assert set(by_name.trials["subject"]) == set(by_name.trials["session"]) == {"1"}
    said = read(tmp_path / "all-epo.fif", tmp_path / "o", subject="P")
    assert said.subjects == ["P"] and set(said.trials["session"]) == {"1", "2"}
    with_people(epochs, 1.0, who=subject)
    other = read(save(epochs, tmp_path / "o-epo.fif"), tmp_path / "w", subject_column="who")
    assert other.trials["subject"].tolist() == subject


def test_files_without_a_name_in_several_folders_are_told_apart_by_the_metadata(tmp_path):
    for number, folder in enumerate("ab"):
        save(
            with_people(make_epochs(seed=number), f"P{number}"),
            tmp_path / "f" / folder / "x-epo.fif",
        )
    assert read(tmp_path / "f", tmp_path / "s").subjects == ["P0", "P1"]
    save(make_epochs(seed=5), tmp_path / "f" / "c" / "x-epo.fif")
    with pytest.raises(RecordingError):  # the third says nowhere whose it is
        read(tmp_path / "f", tmp_path / "t")


def test_a_name_and_metadata_that_disagree_are_an_error_until_one_is_chosen(tmp_path):
    path = save(with_people(make_epochs(), "07"), tmp_path / "sub-03-epo.fif")
    with pytest.raises(RecordingError):
        read(path, tmp_path / "no")
    assert read(path, tmp_path / "a", subject_column="subject").subjects == ["07"]
    assert read(path, tmp_path / "b", subject_column="none").subjects == ["03"]
    alike = save(with_people(make_epochs(), "sub-03"), tmp_path / "sub-03-epo.fif")
    assert read(alike, tmp_path / "c").subjects == ["sub-03"]
    holes = save(with_people(make_epochs(), ["01", None] * 12), tmp_path / "x-epo.fif")
    with pytest.raises(RecordingError):
        read(holes, tmp_path / "d")
    with pytest.raises(InputError):
        read(path, tmp_path / "e", subject_column="subjct")
    with pytest.raises(InputError):
        read(path, tmp_path / "f", subject="1", subject_column="subject")


# -- which event -----------------------------------------------------------------------------------
def test_names_that_look_like_numbers_stay_apart(tmp_path):
    path = save(make_epochs(event_id={"01": 1, "1": 2}), tmp_path / "a-epo.fif")
    study = read(path, tmp_path / "s", events={"01": "face", "1": "house"})
    assert study.trials["category"].tolist() == ["face", "house"] * 12
    one = read(path, tmp_path / "o", events={"01": "face"})
    assert one.n_trials == 12 and one.categories == ["face"]
    assert one.info["recordings"][0]["dropped"]["not named"] == 12
    table = tmp_path / "events.csv"
    table.write_text("event,category\n01,face\n1,house\n")
    assert read(path, tmp_path / "t", events=table).n_trials == 24


# -- nothing twice ---------------------------------------------------------------------------------
@pytest.mark.parametrize("naming", ["neuromag", "bids"])
@pytest.mark.parametrize("given", ["folder", "first", "parts"])
def test_parts_of_split_epochs_are_one_recording(naming, given, tmp_path):
    epochs = make_epochs(n=800)
    folder = tmp_path / "f"
    save(epochs, folder / "sub-01_task-x_epo.fif", split_size="1.2MB", split_naming=naming)
    parts = sorted(folder.iterdir())
    assert len(parts) > 1
    first = next(p for p in parts if p.stem.endswith("epo") and "split-02" not in p.stem)
    source = {"folder": folder, "first": first, "parts": parts[::-1]}[given]
    study = read(source, tmp_path / "s")
    assert study.n_trials == 800
    order = np.argsort(study.trials["order"].to_numpy(), kind="stable")
    if given != "parts" or naming == "neuromag":
        np.testing.assert_array_equal(order, np.arange(800))
        np.testing.assert_allclose(study.eeg, epochs.get_data(), rtol=1e-6)
    repeated = Counter()
    for entry in study.info["recordings"]:
        repeated[entry["file"]] += entry["dropped"].get("repeated", 0)
    assert (sum(repeated.values()) > 0) == (given != "first")


def test_equal_trials_in_two_files_are_left_out_and_counted(tmp_path):
    epochs = make_epochs()
    folder = tmp_path / "f"
    save(epochs[:16], folder / "sub-01_run-1-epo.fif")
    save(epochs[10:].reorder_channels(NAMES[::-1]), folder / "sub-01_run-2-epo.fif", fmt="double")
    study = read(folder, tmp_path / "s")
    assert study.n_trials == 24
    assert [e["dropped"].get("repeated", 0) for e in study.info["recordings"]] == [0, 6]
    assert len(np.unique(study.eeg.reshape(24, -1), axis=0)) == 24
    twice = save(mne.concatenate_epochs([epochs, epochs], verbose="ERROR"), tmp_path / "t-epo.fif")
    assert read(twice, tmp_path / "t").n_trials == 24  # in one file, too
    swapped = epochs[:4]
    swapped.events[:, 2] = 3 - swapped.events[:, 2]
    save(swapped, folder / "sub-01_run-3-epo.fif")
    with pytest.raises(RecordingError):  # one trial of two categories
        read(folder, tmp_path / "no")
    with pytest.raises(RecordingError):
        read(twice, tmp_path / "no", duplicates="refuse")
    assert read(twice, tmp_path / "k", duplicates="keep").n_trials == 48


def test_files_with_numbers_that_are_no_parts_are_read(tmp_path):
    folder = tmp_path / "f"
    save(make_epochs(seed=1), folder / "face-epo.fif")
    save(make_epochs(seed=2), folder / "face-1-epo.fif")
    save(make_epochs(seed=3), folder / "face-epo-1.fif")  # named like a part of the first
    assert read(folder, tmp_path / "s").n_trials == 72


# -- when ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["as they are", "decimated", "resampled", "cut decimated"])
def test_onsets_are_those_of_the_recording_at_any_rate(how, tmp_path):
    epochs = make_epochs(decim=4) if how == "cut decimated" else make_epochs()
    true = (epochs.events[:, 0] - epochs.events[0, 0]) / RATE
    if how == "decimated":
        epochs.decimate(4, verbose="ERROR")
    if how == "resampled":
        epochs.resample(64, verbose="ERROR")
    path = save(epochs, tmp_path / "a-epo.fif")
    study = read(path, tmp_path / "s")
    np.testing.assert_allclose(study.trials["onset"], true, atol=1e-9)
    kept = mne.read_epochs(path, verbose="ERROR").times
    np.testing.assert_allclose(study.times, kept, atol=1e-6)
    assert not any("share" in note for note in study.info["notes"])


def test_overlap_is_seen_after_decimation(tmp_path):
    epochs = make_epochs(step=100).decimate(4, verbose="ERROR")  # 0.6 s every 0.4 s
    study = read(save(epochs, tmp_path / "a-epo.fif"), tmp_path / "s")
    assert (np.diff(study.trials["onset"]) < 0.6).sum() > 10
    assert any("share" in note for note in study.info["notes"])


def test_events_that_are_no_onsets_give_none(tmp_path):
    made = make_epochs()
    plain = mne.EpochsArray(made.get_data(), made.info, tmin=-0.1, verbose="ERROR")
    study = read(save(plain, tmp_path / "a-epo.fif"), tmp_path / "s", events={"1": "face"})
    assert study.trials["onset"].isna().all() and study.n_trials == 24
    made.events[[3, 4]] = made.events[[4, 3]]
    back = read(save(made, tmp_path / "b-epo.fif"), tmp_path / "t")
    assert back.trials["onset"].isna().all()


# -- all counted -----------------------------------------------------------------------------------
def test_what_mne_dropped_is_counted_by_reason(tmp_path):
    raw, events = make_raw()
    raw._data[1, events[2, 0]] = 5e-3
    raw.set_annotations(mne.Annotations([events[5, 0] / RATE], [0.1], ["BAD_move"]))
    events[-1, 0] = raw.n_times - 5
    events[8, 2] = 9
    epochs = mne.Epochs(
        raw, events, {"face": 1, "house": 2}, -0.1, 0.5, baseline=None, preload=True,
        reject={"eeg": 1e-3}, verbose="ERROR",
    ).drop([0], reason="USER", verbose="ERROR")  # fmt: skip
    study = read(save(epochs, tmp_path / "a-epo.fif"), tmp_path / "s", events={"face": "face"})
    entry = study.info["recordings"][0]
    assert entry["n_events"] == 24 and entry["n_trials"] == study.n_trials
    dropped = {why: n for why, n in entry["dropped"].items() if n}
    assert {"not selected", "amplitude", "marked bad", "cut off", "dropped by hand"} <= set(dropped)
    assert dropped["not named"] == int((epochs.events[:, 2] == 2).sum())
    assert any("amplitude 1" in note for note in study_info(study)["notes"])
    again = Study.from_epochs(epochs, tmp_path / "b")
    assert any("dropped 5" in note for note in again.info["notes"])


# -- where -----------------------------------------------------------------------------------------
def measured(names: list[str] = NAMES, by: float = 0.006) -> Any:
    where = mne.channels.make_standard_montage("standard_1005").get_positions()
    places = {n: np.asarray(where["ch_pos"][n]) * (1 + by / 0.1) for n in names}
    return mne.channels.make_dig_montage(
        places, where["nasion"], where["lpa"], where["rpa"], coord_frame="head"
    )


def test_measured_positions_are_kept_and_a_template_is_used_on_request(tmp_path):
    epochs = make_epochs().set_montage(measured(), verbose="ERROR")
    path = save(epochs, tmp_path / "sub-1-epo.fif")
    study = read(path, tmp_path / "s")
    own = np.array([c["loc"][:3] for c in epochs.info["chs"]])
    np.testing.assert_allclose(study.positions, own, atol=1e-6)
    assert study.info["montage"] == "file"
    asked = read(path, tmp_path / "t", montage="standard_1005")
    assert asked.info["montage"] == "standard_1005"
    assert np.abs(asked.positions - own).max() > 2e-3
    assert np.isnan(read(path, tmp_path / "n", montage="none").positions).all()
    bare = read(save(make_epochs(), tmp_path / "sub-2-epo.fif"), tmp_path / "b")
    np.testing.assert_allclose(bare.positions, asked.positions)
    some = make_epochs().set_montage(measured(NAMES[:2]), on_missing="ignore", verbose="ERROR")
    mixed = read(save(some, tmp_path / "sub-3-epo.fif"), tmp_path / "m")
    np.testing.assert_allclose(mixed.positions[:2], own[:2], atol=1e-6)
    np.testing.assert_allclose(mixed.positions[2:], asked.positions[2:], atol=1e-6)
    other = make_epochs(seed=4).set_montage(measured(by=0.012), verbose="ERROR")
    save(other, tmp_path / "sub-4-epo.fif")
    both = read([path, tmp_path / "sub-4-epo.fif"], tmp_path / "two")
    assert sum("mm from where" in note for note in both.info["notes"]) == 1


def test_bids_keeps_the_positions_of_electrodes_tsv(tmp_path):
    root = tiny_datasets.write_bids(tmp_path / "ds", ("01",), n_runs=1)
    names = tiny.make().ch_names
    known = template().get_positions()["ch_pos"]
    where = {name: known[name] * 1.07 for name in names}
    folder = root / "sub-01" / "eeg"
    (folder / "sub-01_electrodes.tsv").write_text(
        "name\tx\ty\tz\n"
        + "".join(f"{n}\t" + "\t".join(f"{v:.6f}" for v in p) + "\n" for n, p in where.items())
    )
    (folder / "sub-01_coordsystem.json").write_text(
        '{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m", '
        '"AnatomicalLandmarkCoordinates": {"NAS": [0, 0.1, 0], "LPA": [-0.08, 0, 0], '
        '"RPA": [0.08, 0, 0]}, "AnatomicalLandmarkCoordinateSystem": "CapTrak", '
        '"AnatomicalLandmarkCoordinateUnits": "m"}'
    )
    study = BidsReader().read(root, tmp_path / "s")
    found = dict(zip(study.ch_names, study.positions))
    for name, place in where.items():
        np.testing.assert_allclose(found[name], place, atol=1e-4)
    asked = BidsReader().read(root, tmp_path / "t", montage="standard_1005")
    assert np.abs(asked.positions - study.positions).max() > 3e-3


@pytest.mark.parametrize("asked", [None, "01", "1", ["1", "01"], "01,1"])
def test_subjects_that_differ_in_a_leading_zero_are_two(asked, tmp_path):
    root = tiny_datasets.write_bids(tmp_path / "ds", ("01", "1"), n_runs=1)
    study = BidsReader().read(
        root, tmp_path / "s", **({} if asked is None else {"subjects": asked})
    )
    assert study.subjects == ([asked] if asked in ("01", "1") else ["01", "1"])
    assert study.n_trials == 32 * len(study.subjects)


def test_a_number_that_two_subjects_are_is_refused(tmp_path):
    root = tiny_datasets.write_bids(tmp_path / "ds", ("01", "001"), n_runs=1)
    with pytest.raises(RecordingError):
        BidsReader().read(root, tmp_path / "s", subjects="1")


# -- EEGLAB ----------------------------------------------------------------------------------------
def write_epoched_set(path: Path, epochs: Any, responses: bool = False) -> Path:
    """An epoched EEG structure in a MATLAB 5 file; responses lie before or after time 0."""
    n, n_chans, n_times = epochs.get_data().shape
    names = {code: name for name, code in epochs.event_id.items()}
    event, epoch = [], []
    for i, code in enumerate(epochs.events[:, 2].tolist()):
        zero = i * n_times + 1 - epochs.times[0] * RATE
        inside = [(names[code], 0.0)]
        if responses:
            inside.insert(i % 2, ("key", 200.0 if i % 2 else -50.0))
        for name, late in inside:
            event.append({"type": name, "latency": zero + late / 1e3 * RATE, "epoch": i + 1.0})
        cell = np.empty(len(inside), object)
        cell[:] = [name for name, _ in inside]
        late = np.empty(len(inside), object)
        late[:] = [late for _, late in inside]
        epoch.append({"eventtype": cell if responses else cell[0],
                      "eventlatency": late if responses else late[0]})  # fmt: skip

    def structs(rows: list[dict[str, Any]]) -> np.ndarray:
        table = np.zeros(len(rows), dtype=[(key, "O") for key in rows[0]])
        for key in rows[0]:
            for place, row in enumerate(rows):
                table[key][place] = row[key]
        return table

    data = epochs.get_data().transpose(1, 2, 0) * 1e6
    eeg = {
        "setname": path.stem, "nbchan": float(n_chans), "trials": float(n), "pnts": float(n_times),
        "srate": RATE, "xmin": float(epochs.times[0]), "xmax": float(epochs.times[-1]), "data": data,
        "chanlocs": structs([{"labels": c, "type": "EEG"} for c in epochs.ch_names]),
        "event": structs(event), "epoch": structs(epoch), "ref": "common",
        "icawinv": np.zeros((0, 0)), "icaweights": np.zeros((0, 0)),
        "chaninfo": {"nosedir": "+X"},
    }  # fmt: skip
    savemat(path, {"EEG": eeg}, appendmat=False)
    return path


@pytest.mark.parametrize("responses", [False, True])
def test_an_epoched_set_is_read_as_the_trials_it_holds(responses, tmp_path):
    epochs = make_epochs()
    path = write_epoched_set(tmp_path / "sub-02.set", epochs, responses)
    study = read(path, tmp_path / "s")
    own = mne.read_epochs_eeglab(path, verbose="ERROR")
    np.testing.assert_allclose(study.eeg, own.get_data(), rtol=1e-6)
    np.testing.assert_allclose(study.eeg, epochs.get_data(), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(study.times, epochs.times, atol=1e-9)
    assert study.trials["category"].tolist() == ["face", "house"] * 12
    assert study.subjects == ["02"] and study.trials["onset"].isna().all()
    if responses:  # locked to what was shown, whatever lies beside it
        with pytest.raises(RecordingError):
            read(path, tmp_path / "no", events={"key": "key"})


def test_the_right_reader_is_named_and_nothing_is_called_damaged(tmp_path):
    epochs = make_epochs()
    for path, reader, right in (
        (write_epoched_set(tmp_path / "a.set", epochs), ContinuousReader(), "'mne'"),
        (save(epochs, tmp_path / "a-epo.fif"), ContinuousReader(), "'mne'"),
        (tiny.write_eeglab(tmp_path / "b.set", tiny.make()), MneEpochsReader(), "'continuous'"),
        (tiny.write_fif(tmp_path / "b_raw.fif", tiny.make()), MneEpochsReader(), "'continuous'"),
    ):
        with pytest.raises(RecordingError) as problem:
            reader.read(path, tmp_path / "no", events=MEANING)
        assert right in str(problem.value) and "damaged" not in str(problem.value)


def test_average_reference_and_filters_are_on_record(tmp_path):
    epochs = make_epochs().set_eeg_reference("average", verbose="ERROR")
    epochs.filter(None, 40, verbose="ERROR")
    study = read(save(epochs, tmp_path / "a-epo.fif"), tmp_path / "s")
    assert [s["name"] for s in study.info["steps"]] == ["band-pass", "average reference", "epoch"]
    assert "40 Hz" in study_info(study)["filters"]
    back = Study.from_epochs(study.to_epochs(), tmp_path / "b")
    assert {"band-pass", "average reference"} <= {s["name"] for s in back.info["steps"]}
    plain = read(save(make_epochs(), tmp_path / "b-epo.fif"), tmp_path / "p")
    assert [s["name"] for s in plain.info["steps"]] == ["epoch"]


# -- whatever the source ---------------------------------------------------------------------------
def random_source(folder: Path, seed: int) -> tuple[list[Path], dict[str, Any], Counter[str]]:
    """Files of random but valid Epochs, what to ask of them, and what each wanted event occurs."""
    rng = np.random.default_rng(seed)
    pool = [
        "1",
        "01",
        "001",
        "face",
        "Face",
        "face/left",
        "S  1",
        "gato",
        "ni\u00f1o",
        "n/a",
        "None",
    ]
    names = rng.choice(pool, 4, replace=False).tolist()
    wanted = {name: f"c{i % 2}" for i, name in enumerate(names[:3])}
    event_id = {name: int(code) for name, code in zip(names, rng.permutation(90)[:4] + 1)}
    files: list[Path] = []
    count: Counter[str] = Counter()
    decim = int(rng.choice([1, 1, 4]))
    channels = rng.permutation(NAMES).tolist()
    for number in range(int(rng.integers(1, 4))):
        raw, events = make_raw(int(rng.integers(6, 20)), seed=seed * 10 + number)
        events[:, 2] = rng.choice(list(event_id.values()), len(events))
        events[:3, 2] = [event_id[name] for name in names[:3]]
        if rng.random() < 0.4:
            events[-1, 0] = raw.n_times - int(rng.integers(1, 60))  # beyond the end
        if rng.random() < 0.4:
            raw.set_annotations(mne.Annotations([events[4, 0] / RATE], [0.01], ["bad"]))
        extra = raw.copy().rename_channels({n: f"x{n}" for n in NAMES})
        raw.add_channels([extra.set_channel_types({"xFz": "eog", "xCz": "misc"}, verbose="ERROR")],
                         force_update_info=True)  # fmt: skip
        raw.reorder_channels(rng.permutation(raw.ch_names).tolist())
        epochs = mne.Epochs(
            raw, events, event_id, -0.1, 0.5, baseline=None, preload=True, verbose="ERROR",
            on_missing="ignore", decim=decim,
        )  # fmt: skip
        files.append(folder / f"sub-{number}_x-epo.fif")
        save(epochs, files[-1], fmt=str(rng.choice(["single", "double"])))
        back = {code: name for name, code in epochs.event_id.items()}
        count.update(name for c in epochs.events[:, 2].tolist() if (name := back[c]) in wanted)
    if rng.random() < 0.4:  # one file again, in another order of channels
        again = mne.read_epochs(files[0], verbose="ERROR")
        again.reorder_channels(again.ch_names[::-1])
        files.append(save(again, folder / "sub-0_y-epo.fif", fmt="double"))
    return files, {"channels": channels, "events": wanted}, count


@pytest.mark.parametrize("seed", range(50))
def test_any_valid_source_equals_mne_or_is_counted(seed, tmp_path):
    files, options, count = random_source(tmp_path / "f", seed)
    study = read(files, tmp_path / "s", **options)
    wanted = options["events"]
    assert study.n_trials == sum(count.values()) and study.ch_names == options["channels"]
    said = Counter()
    for name, n in count.items():
        said[wanted[name]] += n
    assert Counter(study.trials["category"]) == said
    row = 0
    for path in files:
        own = mne.read_epochs(path, verbose="ERROR")
        names = {code: name for name, code in own.event_id.items()}
        kept = [i for i, c in enumerate(own.events[:, 2].tolist()) if names[c] in wanted]
        entry = next(e for e in study.info["recordings"] if e["file"] == path.name)
        assert entry["n_events"] == len(own.drop_log)
        if entry["dropped"].get("repeated"):
            assert entry["dropped"]["repeated"] == len(kept) and entry["n_trials"] == 0
            continue
        data = own.get_data(picks=study.ch_names)[kept]
        here = slice(row, row + len(kept))
        np.testing.assert_array_equal(study.eeg[here], data.astype(np.float32))
        assert study.trials["category"][here].tolist() == [
            wanted[names[c]] for c in own.events[kept, 2].tolist()
        ]
        np.testing.assert_allclose(study.times, own.times, atol=1e-6)
        np.testing.assert_allclose(
            study.trials["onset"][here], (own.events[kept, 0] - own.events[0, 0]) / RATE, atol=1e-9
        )
        row += len(kept)
