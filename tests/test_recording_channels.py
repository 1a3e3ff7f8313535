"""Channels of recordings: their names, positions and units, and which are no EEG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tiny_recordings as tiny
from eegprompt.core.errors import RecordingError
from eegprompt.readers._open_recording import open_recording
from eegprompt.readers.continuous import ContinuousReader
from eegprompt.signal.channel_names import names_no_eeg, standard_names
from eegprompt.signal.montage import positions_of, template
from eegprompt.study import Study

CODES = {"code 1": "house", "code 2": "face"}


def read(source: Any, out: Path, **options: Any) -> Study:
    return ContinuousReader().read(source, out, **options)


def edf(path: Path, names: tuple[str, ...], **how: Any) -> Path:
    """EDF+ with the planted events and channels of these names."""
    made = tiny.make()
    made = replace(
        made, ch_names=names, data=np.resize(made.data, (len(names), made.data.shape[1]))
    )
    made.data = made.data + np.random.default_rng(1).normal(0, 0.5, made.data.shape)
    events = [(s / made.sfreq, f"code {c}") for s, c in zip(made.samples, made.codes)]
    return tiny.write_edf_plus(path, made, annotations=events, continuous=True, **how)


# -- names ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("FP1", "Fp1"), ("CZ", "Cz"), ("fcz", "FCz"), ("Fc5.", "FC5"), ("C3..", "C3"),
        ("EEG Fp1-REF", "Fp1"), ("EEG Fp1-LE", "Fp1"), ("EEG FP2-Ref", "Fp2"), ("Cz-M1", "Cz"),
        ("Pz-A1A2", "Pz"), ("POL O1", "O1"), ("EEG T3-REF", "T3"),
    ],
)  # fmt: skip
def test_names_of_one_electrode_are_one(written: str, name: str) -> None:
    assert standard_names([written], template().ch_names) == {written: name}


def test_names_that_a_template_has_stay_and_no_two_become_one() -> None:
    known = template().ch_names
    assert standard_names(["T3", "T4", "Fz", "A1"], known) == {}
    assert standard_names(["Fp1-A1", "Fp1-A2", "Cz"], known) == {}
    assert standard_names(["Fp1", "EEG Fp1-REF"], known) == {}
    assert standard_names(["Fp1-F3", "F3-C3", "EXG1"], known) == {}  # bipolar: at no electrode
    assert standard_names(["T3", "T6"], ["T7", "P8"]) == {"T3": "T7", "T6": "P8"}


@pytest.mark.parametrize(
    "name",
    ["EOG", "HEOG", "EOG left", "VEOGU", "ECG", "EKG1", "EMG-chin", "GSR", "Status", "TRIGGER",
     "Ref", "reference", "EXG3", "Right AUX", "Marker0", "Resp", "SpO2", "EEG EOG1-REF"],
)  # fmt: skip
def test_names_that_are_no_eeg(name: str) -> None:
    assert names_no_eeg(name)


@pytest.mark.parametrize("name", ["Fz", "E12", "EEG X1-REF", "Ear left", "Fp1-F3", "EEG 001", "Iz"])
def test_names_that_may_be_eeg(name: str) -> None:
    assert not names_no_eeg(name)


def test_channels_are_renamed_kept_or_left_out_and_the_import_goes_on(tmp_path: Path) -> None:
    names = ("EEG FP1-REF", "CZ", "Oz..", "Ear left", "HEOG", "Status")
    study = read(edf(tmp_path / "rec.edf", names), tmp_path / "s", events=CODES)
    assert study.ch_names == ["Fp1", "Cz", "Oz", "Ear left"]
    assert np.isfinite(study.positions).all(axis=1).tolist() == [True, True, True, False]
    assert study.positions[1] == pytest.approx(positions_of(["Cz"])["Cz"])
    notes = " ".join(study.info["notes"])
    assert all(n in notes for n in ("EEG FP1-REF", "Ear left", "HEOG", "Status"))


def test_channels_can_be_named_as_in_the_file_or_as_in_the_template(tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", ("EEG FP1-REF", "CZ", "Oz..", "HEOG"))
    options: dict[str, Any] = {"montage": "standard_1005"}
    assert open_recording(path, channels=["CZ", "Fp1", "HEOG"], **options).ch_names == (
        "Cz",
        "Fp1",
        "HEOG",
    )
    assert open_recording(path, exclude=["Oz.."], **options).ch_names == ("Fp1", "Cz")
    assert open_recording(path).ch_names == ("EEG FP1-REF", "CZ", "Oz..")  # no template, no change


def test_files_that_spell_names_differently_go_together(tmp_path: Path) -> None:
    a = edf(tmp_path / "sub-1.edf", ("FP1", "CZ", "OZ"))
    b = edf(tmp_path / "sub-2.edf", ("EEG Oz-REF", "EEG Cz-REF", "EEG Fp1-REF"))
    study = read([a, b], tmp_path / "s", events=CODES, duplicates="keep")
    assert study.ch_names == ["Fp1", "Cz", "Oz"] and study.subjects == ["1", "2"]


def test_numbers_of_a_biosemi_cap_are_not_ears(tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", ("A1", "A2", "A3", "A4", "B5", "B6"))
    study = read(path, tmp_path / "s", events=CODES)
    assert not np.isfinite(study.positions).any()
    assert any("biosemi" in note for note in study.info["notes"])
    placed = read(path, tmp_path / "t", events=CODES, montage="biosemi128")
    assert np.isfinite(placed.positions).all()


def test_columns_of_a_csv_have_no_type_so_an_unknown_one_is_asked_for(tmp_path: Path) -> None:
    made = tiny.make()
    made.ch_names = ("TP9", "AF7", "AF8", "counted")
    path = tiny.write_csv(tmp_path / "rec.csv", made)
    options: dict[str, Any] = {"unit": "uV", "marker": "Marker0", "events": tiny.CODES}
    with pytest.raises(RecordingError) as caught:
        read(path, tmp_path / "s", **options)
    assert "counted" in str(caught.value) and "'channels'" in str(caught.value)
    study = read(path, tmp_path / "s", **options, channels=made.ch_names)
    assert study.ch_names[-1] == "counted" and not np.isfinite(study.positions[-1]).any()


# -- flat channels -------------------------------------------------------------------------------
def test_flat_channels_are_left_out_with_a_note(tmp_path: Path) -> None:
    options: dict[str, Any] = {"unit": "uV", "marker": "Marker0", "events": tiny.CODES}
    paths = [tiny.write_csv(tmp_path / f"{i}.csv", tiny.make(seed=i)) for i in range(2)]
    table = pd.read_csv(paths[0]).assign(AF8=3.25)
    table.to_csv(paths[0], index=False)
    study = read(paths, tmp_path / "s", **options)
    assert study.ch_names == ["TP9", "AF7", "TP10"] and study.n_trials == 80
    assert any("0.csv" in n and "AF8" in n for n in study.info["notes"])
    # The other way round the study has the channel already: refused, by its name.
    table.to_csv(tmp_path / "2.csv", index=False)
    with pytest.raises(RecordingError) as caught:
        read([paths[1], tmp_path / "2.csv"], tmp_path / "t", **options)
    assert "AF8" in str(caught.value)


# -- units ---------------------------------------------------------------------------------------
NAMES = ("TP9", "AF7", "AF8", "TP10")


def test_a_channel_without_a_unit_beside_others_is_refused(tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", NAMES, units={"AF7": ""})
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    assert "AF7" in str(caught.value) and "'unit'" in str(caught.value)
    whole = open_recording(edf(tmp_path / "all.edf", NAMES))
    assert np.array_equal(open_recording(path, unit="uV").data, whole.data)
    assert open_recording(path, exclude=["AF7"]).ch_names == ("TP9", "AF8", "TP10")


@pytest.mark.parametrize("unit", ["mV", "V", "nV"])
def test_a_channel_in_another_unit_that_is_said_is_scaled(unit: str, tmp_path: Path) -> None:
    factor = 1e-6 / {"mV": 1e-3, "V": 1.0, "nV": 1e-9}[unit]
    whole = open_recording(edf(tmp_path / "all.edf", NAMES)).data
    path = edf(tmp_path / "rec.edf", NAMES, units={"AF7": unit}, factors={"AF7": factor})
    assert open_recording(path).data == pytest.approx(whole, abs=2e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3])
def test_a_channel_in_another_unit_than_is_said_is_refused(factor: float, tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", NAMES, factors={"AF7": factor})
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    assert "AF7" in str(caught.value) and "AF8" not in str(caught.value)


def test_a_channel_in_degrees_is_no_eeg(tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", NAMES, units={"AF8": "degC"})
    recording = open_recording(path)
    assert recording.ch_names == ("TP9", "AF7", "TP10")
    assert any("AF8" in note for note in recording.notes)


@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".vhdr", ".set", ".fif"])
def test_unit_holds_for_every_format(suffix: str, tmp_path: Path) -> None:
    made = tiny.make()
    write = {
        ".edf": lambda p, m: tiny.write_edf_plus(p, m, continuous=True), ".bdf": tiny.write_bdf,
        ".vhdr": tiny.write_brainvision, ".set": tiny.write_eeglab, ".fif": tiny.write_fif,
    }[suffix]  # fmt: skip
    path = write(tmp_path / f"rec_raw{suffix}", made)
    as_said = open_recording(path, montage="standard_1005")
    asked = open_recording(path, unit="mV", montage="standard_1005")
    factor = 1e-3 if suffix == ".fif" else 1e3  # FIF says volts, the others microvolts
    assert asked.data == pytest.approx(as_said.data * factor, rel=1e-9)
    assert open_recording(path, unit="a.u.").data == pytest.approx(
        as_said.data * factor * 1e3, rel=1e-9
    )


def test_a_wrong_unit_has_a_remedy_in_every_format(tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", NAMES, units=dict.fromkeys(NAMES, ""))
    with pytest.raises(RecordingError) as caught:
        read(path, tmp_path / "s", events=CODES)
    assert "'unit'" in str(caught.value)
    study = read(path, tmp_path / "s", events=CODES, unit="uV")
    assert study.eeg.std() < 1e-5


def test_unit_holds_for_bids(tmp_path: Path) -> None:
    pytest.importorskip("mne_bids")
    from eegprompt.readers.bids import BidsReader

    path = edf(
        tmp_path / "in/sub-1/eeg/sub-1_task-x_eeg.edf", NAMES, units=dict.fromkeys(NAMES, "")
    )
    (tmp_path / "in/dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    made = tiny.make()
    rows = [f"{s / 256}\t0\t{tiny.CODES[str(c)]}\n" for s, c in zip(made.samples, made.codes)]
    table = path.with_name("sub-1_task-x_events.tsv")
    table.write_text("onset\tduration\ttrial_type\n" + "".join(rows))
    with pytest.raises(RecordingError) as caught:
        BidsReader().read(tmp_path / "in", tmp_path / "s")
    assert "'unit'" in str(caught.value)
    study = BidsReader().read(tmp_path / "in", tmp_path / "s", unit="uV")
    assert study.n_trials == 40 and 1e-7 < study.eeg.std() < 1e-5


@pytest.fixture
def bids_of(tmp_path: Path) -> Any:
    """Write a dataset of one EDF, and read it."""
    pytest.importorskip("mne_bids")
    from eegprompt.readers.bids import BidsReader

    def write_and_read(
        table: dict[str, str], units: dict[str, str], out: str = "s", **options: Any
    ) -> Any:
        root = tmp_path / "in"
        # Where a unit is asked for, it is the right one, whatever the header says.
        milli = 1.0 if "unit" in options else 1e-3
        factors = {name: {"mV": milli}.get(unit, 1.0) for name, unit in units.items()}
        path = edf(root / "sub-1/eeg/sub-1_task-x_eeg.edf", NAMES, units=units, factors=factors)
        (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
        made = tiny.make()
        rows = [f"{s / 256}\t0\t{tiny.CODES[str(c)]}\n" for s, c in zip(made.samples, made.codes)]
        events = path.with_name("sub-1_task-x_events.tsv")
        events.write_text("onset\tduration\ttrial_type\n" + "".join(rows))
        lines = [f"{name}\tEEG\t{unit}\n" for name, unit in table.items()]
        channels = path.with_name("sub-1_task-x_channels.tsv")
        channels.write_text("name\ttype\tunits\n" + "".join(lines))
        return BidsReader().read(root, tmp_path / out, **options)

    return write_and_read


@pytest.mark.parametrize("unit", ["V", "mV", "%"])
def test_a_unit_that_table_and_file_say_differently_is_refused(bids_of: Any, unit: str) -> None:
    table = {**dict.fromkeys(NAMES, "µV"), "AF7": unit}
    with pytest.raises(RecordingError) as caught:
        bids_of(table, {})
    assert all(word in str(caught.value) for word in ("AF7", f"'{unit}'", "'uV'"))
    assert bids_of(table, {}, unit="uV").n_trials == 40


def test_a_unit_that_the_table_alone_says_is_taken(bids_of: Any) -> None:
    said = bids_of(dict.fromkeys(NAMES, "uV"), {}, "said")
    for i, unsaid in enumerate(("n/a", "")):  # nothing to compare
        assert np.array_equal(bids_of(dict.fromkeys(NAMES, unsaid), {}, f"{i}").eeg, said.eeg)
    told = bids_of(dict.fromkeys(NAMES, "uV"), {"AF7": ""}, "told")
    np.testing.assert_allclose(told.eeg, said.eeg, rtol=1e-5, atol=1e-12)
    assert any("AF7 (uV)" in note for note in told.info["notes"])


def test_units_are_those_of_their_channels_whatever_the_order_of_the_table(bids_of: Any) -> None:
    units = {"TP9": "mV", "TP10": "uV"}
    table = {name: units.get(name, "uV") for name in reversed(NAMES)}
    straight = bids_of({name: table[name] for name in NAMES}, units, "straight")
    turned = bids_of(table, units, "turned")
    assert turned.ch_names == straight.ch_names
    assert np.array_equal(turned.eeg, straight.eeg)
    asked = [
        bids_of(dict.fromkeys(names, "uV"), units, f"asked-{i}", unit="uV").eeg
        for i, names in enumerate((NAMES, NAMES[::-1]))
    ]
    assert np.array_equal(*asked)


def test_a_channel_to_rename_that_is_not_there_is_refused(tmp_path: Path) -> None:
    from eegprompt.core.errors import UnknownNameError

    made = tiny.make()
    paths = [edf(tmp_path / "rec.edf", NAMES), tiny.write_csv(tmp_path / "rec.csv", made)]
    for path in paths:
        options: dict[str, Any] = {"unit": "uV"} if path.suffix == ".csv" else {}
        with pytest.raises(UnknownNameError) as caught:
            open_recording(path, rename={"T9": "T7"}, **options)
        assert "T9" in str(caught.value) and "TP10" in str(caught.value)
        there = open_recording(path, rename={"T9": "TP9", "AF7": "F7"}, **options)
        assert there.ch_names == ("TP9", "F7", "AF8", "TP10")
        assert any("T9" in note for note in there.notes)


def test_two_channels_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as caught:
        open_recording(edf(tmp_path / "rec.edf", NAMES), rename={"TP9": "AF7"})
    assert "damaged" not in str(caught.value)


def test_options_of_csv_files_are_refused_elsewhere(tmp_path: Path) -> None:
    path = edf(tmp_path / "rec.edf", NAMES)
    for options in ({"time_column": "t"}, {"sfreq": 250.0}):
        with pytest.raises(RecordingError):
            open_recording(path, **options)  # type: ignore[arg-type]
    assert open_recording(path, sfreq=256.0).sfreq == 256


# -- Epochs --------------------------------------------------------------------------------------
def epochs_file(path: Path, names: list[str], data: np.ndarray) -> Path:
    import mne

    n = len(data)
    events = np.column_stack([np.arange(n) * 100, np.zeros(n, int), np.arange(n) % 2 + 1])
    epochs = mne.EpochsArray(
        data, mne.create_info(names, 64.0, "eeg"), events, event_id={"a": 1, "b": 2},
        verbose="ERROR",
    )  # fmt: skip
    epochs.save(path, fmt="double", verbose="ERROR")
    return path


def test_flat_channels_of_epochs_are_left_out_likewise(tmp_path: Path) -> None:
    from eegprompt.readers.mne import MneEpochsReader

    names = ["Fz", "Cz", "Pz"]
    data = np.random.default_rng(0).normal(0, 1e-5, (70, 3, 64))  # more than are read at once
    data[:64, 0] = 3e-6
    data[:, 1] = np.arange(70)[:, None] * 1e-7  # one value in each trial
    options: dict[str, Any] = {"events": {"a": "a", "b": "b"}}
    flat = epochs_file(tmp_path / "a-epo.fif", names, data)
    study = MneEpochsReader().read(flat, tmp_path / "s", **options)
    assert study.ch_names == ["Fz", "Pz"] and study.n_trials == 70
    assert any("a-epo.fif" in note and "Cz" in note for note in study.info["notes"])
    assert np.array_equal(study.eeg, data[:, [0, 2]].astype(np.float32))
    # A file after it that has the channel goes without it; the other way round it is refused.
    whole = np.random.default_rng(1).normal(0, 1e-5, (8, 3, 64))
    other = epochs_file(tmp_path / "b-epo.fif", names, whole)
    both = MneEpochsReader().read([flat, other], tmp_path / "t", subject="1", **options)
    assert both.ch_names == ["Fz", "Pz"] and both.n_trials == 78
    assert np.array_equal(both.eeg[70:], whole[:, [0, 2]].astype(np.float32))
    with pytest.raises(RecordingError) as caught:
        later = flat.rename(tmp_path / "c-epo.fif")
        MneEpochsReader().read([other, later], tmp_path / "u", subject="1", **options)
    assert "Cz" in str(caught.value)
    with pytest.raises(RecordingError) as caught:
        none = epochs_file(tmp_path / "d-epo.fif", names, np.full((8, 3, 64), 1e-6))
        MneEpochsReader().read(none, tmp_path / "v", **options)
    assert "all channels" in str(caught.value)


def test_channels_of_epochs_are_named_kept_and_left_out_likewise(tmp_path: Path) -> None:
    from eegprompt.core.errors import UnknownNameError
    from eegprompt.readers.mne import MneEpochsReader

    names = ["EEG FP1-REF", "CZ", "Ear left", "HEOG"]
    data = np.random.default_rng(0).normal(0, 1e-5, (8, 4, 64))
    path = epochs_file(tmp_path / "rec-epo.fif", names, data)
    options: dict[str, Any] = {"events": {"a": "a", "b": "b"}}
    study = MneEpochsReader().read(path, tmp_path / "s", **options)
    assert study.ch_names == ["Fp1", "Cz", "Ear left"]
    assert np.isfinite(study.positions).all(axis=1).tolist() == [True, True, False]
    assert np.array_equal(study.eeg, data[:, :3].astype(np.float32))
    asked = MneEpochsReader().read(path, tmp_path / "t", **options, channels=["CZ", "HEOG"])
    assert asked.ch_names == ["Cz", "HEOG"]
    with pytest.raises(UnknownNameError):
        MneEpochsReader().read(path, tmp_path / "u", **options, rename={"C3": "T7"})
