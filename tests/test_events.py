"""No event comes in under another's name or time, and none is lost without a count."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tiny_datasets
import tiny_recordings as tiny
from eegprompt.core.errors import InputError, RecordingError
from eegprompt.readers._event_names import match_names, read_codes
from eegprompt.readers.bids import BidsReader
from eegprompt.readers.continuous import ContinuousReader
from eegprompt.study import Study

CSV: dict[str, Any] = {"unit": "uV", "marker": "Marker0", "exclude": ["Right AUX"]}


def read(source: Any, out: Path, **options: Any) -> Study:
    study = ContinuousReader().read(source, out, **{"min_events": 1, **options})
    return adds_up(study)


def read_bids(source: Any, out: Path, **options: Any) -> Study:
    return adds_up(BidsReader().read(source, out, **{"min_events": 1, **options}))


def adds_up(study: Study) -> Study:
    counted = study.accounting
    assert counted is not None and counted.trials == study.n_trials
    assert counted.found == sum(e["n_events"] for e in study.info["recordings"])
    return study


def left_out(study: Study) -> dict[str, int]:
    assert study.accounting is not None
    return dict(study.accounting.left_out)


# -- names -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "found", "meant"),
    [
        (["1", "01"], ["01", "1", "001"], {"1": "1", "01": "01"}),
        (["1"], ["01"], {}),  # names are text
        (["1"], ["1.0"], {"1.0": "1"}),
        (["S1", "S 2"], ["Stimulus/S  1", "Stimulus/S  2"],
         {"Stimulus/S  1": "S1", "Stimulus/S  2": "S 2"}),
        (["Stimulus/1"], ["Stimulus/1", "Response/1"], {"Stimulus/1": "Stimulus/1"}),
        (["Response/R1"], ["Response/R  1", "Stimulus/R  1"], {"Response/R  1": "Response/R1"}),
        (["face"], ["face", "Face", "face "], {"face": "face"}),
        (["left/face"], ["left/face", "right/face"], {"left/face": "left/face"}),
        (["face"], ["left/face", "right/face"], {}),
        (["house", "cat"], ["house"], {"house": "house"}),
        (["S1", "S 1"], ["S 1"], {"S 1": "S 1"}),
        (["S1"], ["S 1", "S  1", "s1"], {"S  1": "S1"}),
        (["7"], ["Stimulus/  7", "Stimulus/007"], {"Stimulus/  7": "7"}),
        (["face"], ["face "], {"face ": "face"}),
    ],
)  # fmt: skip
def test_a_name_stands_for_one_marker(asked, found, meant):
    assert match_names(asked, found, "x") == meant


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["1"], ["Stimulus/1", "Response/1"]),
        (["S1"], ["Stimulus/S  1", "Response/S  1"]),
        (["S1", "S  1"], ["Stimulus/S  1"]),
        (["1"], ["1.0", "1.00"]),
    ],
)
def test_a_name_that_may_be_two_and_two_names_of_one_are_refused(asked, found):
    with pytest.raises(RecordingError):
        match_names(asked, found, "x")


def test_meanings_are_kept_as_they_are_spelled(tmp_path):
    table = tmp_path / "codes.csv"
    table.write_text("event,category\n01,face\n1,house\n0,none of both\n")
    codes = read_codes(table)
    assert codes is not None and set(codes) == {"01", "1", "0"}
    assert set(read_codes({"01": "a", "1": "b"}) or ()) == {"01", "1"}
    table.write_text("event,category\n1,face\n1,house\n")
    with pytest.raises(RecordingError):
        read_codes(table)


def with_types(path: Path, made: tiny.Tiny) -> Path:
    """BrainVision with a response of each stimulus's number 50 samples later, and a late marker."""
    tiny.write_brainvision(path, made)
    markers = path.with_suffix(".vmrk")
    lines = [
        f"Mk{i}=Response,{code},{sample + 51},1,0"
        for i, (sample, code) in enumerate(zip(made.samples, made.codes), 100)
    ]
    lines += [f"Mk900=Stimulus,1,{made.data.shape[1] + 500},1,0"]
    text = markers.read_text("utf-8").replace("Stimulus,S  ", "Stimulus,")
    markers.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_kind_of_a_marker_is_part_of_its_name(tmp_path):
    made = tiny.make()
    path = with_types(tmp_path / "a.vhdr", made)
    ones = int((made.codes == 1).sum())
    study = read(path, tmp_path / "s", events={"Stimulus/1": "house"})
    assert study.n_trials == ones
    np.testing.assert_allclose(study.trials["onset"], made.samples[made.codes == 1] / 256)
    assert left_out(study) == {"not named": 80 - ones, "outside the data": 1}
    both = read(path, tmp_path / "b", events={"Stimulus/1": "house", "Response/2": "key"})
    assert both.n_trials == 40 and both.categories == ["house", "key"]
    with pytest.raises(RecordingError):  # which of both?
        read(path, tmp_path / "no", events={"1": "house"})


def test_a_name_is_one_marker_in_all_recordings(tmp_path):
    made = tiny.make(seed=1)
    with_types(tmp_path / "b.vhdr", made)
    only = tiny.write_brainvision(tmp_path / "a.vhdr", tiny.make(seed=2))
    markers = only.with_suffix(".vmrk")
    markers.write_text(markers.read_text("utf-8").replace("Stimulus,S", "Response,"), "utf-8")
    alone = read(only, tmp_path / "s", events={"1": "key"})
    assert alone.n_trials == 20
    assert any("'Response/  1'" in note for note in alone.info["notes"])
    text = (tmp_path / "b.vmrk").read_text("utf-8").replace("Response,", "Other,")
    (tmp_path / "b.vmrk").write_text(text, "utf-8")
    with pytest.raises(RecordingError):  # a response in one, a stimulus in the other
        read([only, tmp_path / "b.vhdr"], tmp_path / "no", events={"1": "key"}, subject="1")


def test_marker_columns_are_text(tmp_path):
    made = tiny.make()
    path = tiny.write_csv(tmp_path / "a.csv", made)
    table = pd.read_csv(path)
    column = np.full(len(table), "0", object)
    column[made.samples] = np.where(np.arange(40) % 2, "01", "1")
    column[made.samples[0]] = " face to face "
    table.assign(Marker0=column).to_csv(path, index=False)
    study = read(path, tmp_path / "s", **CSV, events={"01": "a", "face to face": "b"})
    assert study.trials["category"].tolist() == ["b"] + ["a"] * 20
    assert left_out(study) == {"not named": 19}


# -- beyond the data -------------------------------------------------------------------------------
def late_edf(path: Path) -> Path:
    rng = np.random.default_rng(0)
    onsets = [*(i + 5.25 for i in range(40)), 59.9, 60.0, 99.5]
    events = [(onset, "face") for onset in onsets]
    data = rng.normal(0, 10, (2, 60 * 64))
    return tiny_datasets.write_edf_plus(path, data, ["Fz", "Cz"], 64, events)


def late_set(path: Path) -> Path:
    made = tiny.make(n_events=41)
    made.samples[-1] = made.data.shape[1] + 40
    return tiny.write_eeglab(path, made)


def late_vhdr(path: Path) -> Path:
    made = tiny.make(n_events=41)
    made.samples[-1] = made.data.shape[1] + 40
    return tiny.write_brainvision(path, made)


@pytest.mark.parametrize(
    ("make", "name", "events", "lost"),
    [
        (late_set, "a.set", {"1": "house", "2": "face"}, {"outside the data": 1}),
        (late_vhdr, "a.vhdr", {"S1": "house", "S2": "face"}, {"outside the data": 1}),
        (late_edf, "a.edf", {"face": "face"}, {"outside the data": 2, "cut off": 1}),
    ],
)
def test_events_beyond_the_end_are_counted(make, name, events, lost, tmp_path):
    study = read(make(tmp_path / name), tmp_path / "s", events=events)
    assert study.n_trials == 40 and left_out(study) == lost
    assert any("outside the data" in note for note in study.info["notes"])


# -- several at one sample -------------------------------------------------------------------------
@pytest.mark.parametrize("repeated", ["error", "first", "last"])
def test_events_at_one_sample(repeated, tmp_path):
    made = tiny.make()
    path = tiny.write_brainvision(tmp_path / "a.vhdr", made)
    markers = path.with_suffix(".vmrk")
    text = markers.read_text("utf-8")
    markers.write_text(text + f"Mk99=Stimulus,S  7,{made.samples[4] + 1},1,0\n", "utf-8")
    events = {"S1": "house", "S2": "face", "S7": "cat"}
    if repeated == "error":
        with pytest.raises(RecordingError):
            read(path, tmp_path / "s", events=events)
        assert read(path, tmp_path / "w", events={"S1": "house", "S2": "face"}).n_trials == 40
        return
    study = read(path, tmp_path / "s", events=events, repeated=repeated)
    assert study.n_trials == 40 and left_out(study) == {"repeated at one sample": 1}
    own = tiny.CODES[str(made.codes[4])]
    assert study.trials["category"].tolist()[4] == {"first": own, "last": "cat"}[repeated]


# -- BIDS ------------------------------------------------------------------------------------------
@pytest.fixture
def dataset(tmp_path):
    """A dataset of one recording, its table of events, and a function that changes it."""
    root = tiny_datasets.write_bids(tmp_path / "ds", ("01",), n_runs=1)
    path = next(root.rglob("*_events.tsv"))
    table = pd.read_csv(path, sep="\t", dtype=str)

    def write(**columns: Any) -> Path:
        changed = table.assign(**columns)
        changed.to_csv(path, sep="\t", index=False, na_rep="n/a")
        return root

    return table, write


@pytest.mark.parametrize("folder", ["derivatives/filtered", "sourcedata"])
def test_recordings_below_derivatives_are_not_read_as_raw_ones(dataset, tmp_path, folder):
    root = dataset[1]()
    plain = read_bids(root, tmp_path / "plain")
    shutil.copytree(root / "sub-01", root / folder / "sub-01")
    signal = next((root / folder).rglob("*.eeg"))
    signal.write_bytes(np.fromfile(signal, "<i2").__floordiv__(2).astype("<i2").tobytes())
    again = read_bids(root, tmp_path / "again")
    assert np.array_equal(again.eeg, plain.eeg)


def test_onsets_rule_and_samples_that_contradict_are_refused(dataset, tmp_path):
    table, write = dataset
    onset = table["onset"].astype(float)
    right = (onset * 256).round().astype(int)
    plain = read_bids(write(), tmp_path / "plain")
    for name, sample in (("same", right), ("from one", right + 1)):
        study = read_bids(write(sample=sample), tmp_path / name)
        assert np.array_equal(study.eeg, plain.eeg)
    for name, sample in (("rate", right * 4), ("shift", right + 2), ("one", right + (onset > 9))):
        with pytest.raises(RecordingError):
            read_bids(write(sample=sample), tmp_path / name)
    asked = read_bids(write(sample=right * 4), tmp_path / "o", event_time="onset")
    assert np.array_equal(asked.eeg, plain.eeg)
    moved = read_bids(write(sample=right + 2), tmp_path / "s", event_time="sample")
    np.testing.assert_allclose(moved.trials["onset"], (right + 2) / 256)
    rough = read_bids(write(onset=onset.round(3), sample=right), tmp_path / "rounded")
    assert np.array_equal(rough.eeg, plain.eeg)


def test_rows_of_nothing_take_no_code(dataset, tmp_path):
    table, write = dataset
    kinds = table["trial_type"].where(table.index % 2 == 0)
    root = write(trial_type=kinds, stim_file="n/a")
    study = read_bids(root, tmp_path / "s", events={"0": "zero", "face": "face"})
    assert study.categories == ["face"]
    assert study.n_trials == int((kinds == "face").sum())
    assert left_out(study)["nothing shown"] == 16


def test_codes_in_value_where_trial_type_says_nothing(dataset, tmp_path):
    table, write = dataset
    value = table["trial_type"].map({"face": "02", "house": "2"})
    shutil.rmtree(write() / "stimuli")
    for trial_type in ("n/a", "stimulus"):
        root = write(trial_type=trial_type, stim_file="n/a", value=value)
        study = read_bids(root, tmp_path / trial_type[:1], events={"02": "f", "2": "h"})
        assert study.trials["category"].tolist() == value.map({"02": "f", "2": "h"}).tolist()
    root = write(trial_type="n/a", stim_file="n/a", value=value)
    with pytest.raises(RecordingError):
        read_bids(root, tmp_path / "no")
    plain = read_bids(root, tmp_path / "c", category_column="value")
    assert plain.categories == ["02", "2"]
    shown = read_bids(write(trial_type="n/a"), tmp_path / "i")  # the image says the category
    assert shown.image_identity == "known" and shown.categories == ["faces", "houses"]


def test_onsets_that_say_nothing_and_those_outside_are_counted(dataset, tmp_path):
    table, write = dataset
    onset = table["onset"].copy()
    onset[[1, 2, 3]] = ["n/a", "nan", ""]
    onset[[5, 6]] = ["-0.5", "900"]
    study = read_bids(write(onset=onset), tmp_path / "s")
    assert left_out(study) == {"no onset": 3, "outside the data": 2} and study.n_trials == 27
    milliseconds = table["onset"].astype(float) * 1000
    with pytest.raises(RecordingError):
        read_bids(write(onset=milliseconds), tmp_path / "ms")
    with pytest.raises(RecordingError):
        read_bids(write(onset=table["onset"] + "s"), tmp_path / "text")


def test_pauses_and_bad_segments_of_the_file_hold_in_a_dataset(dataset, tmp_path):
    table, write = dataset
    root = write()
    markers = next(root.rglob("*.vmrk"))
    at = [round(float(table["onset"][i]) * 256) + 40 for i in (3, 7)]
    text = markers.read_text("utf-8")
    text += f"Mk800=New Segment,,{at[0]},1,0,20200101000100000000\n"
    text += f"Mk801=Bad Interval,Bad,{at[1]},20,0\n"
    markers.write_text(text, "utf-8")
    study = read_bids(root, tmp_path / "s")
    assert left_out(study) == {"cut off": 1, "marked bad": 1}


# -- options ---------------------------------------------------------------------------------------
def test_pairs_may_be_written_with_equal_signs(tmp_path):
    path = tiny.write_csv(tmp_path / "a.csv", tiny.make())
    study = read(path, tmp_path / "s", **CSV, events="1=house,2=face", rename="TP9=T9, AF7=F7")
    assert study.ch_names == ["T9", "F7", "AF8", "TP10"] and study.n_trials == 40
    with pytest.raises(InputError):
        read(path, tmp_path / "no", **CSV, events=tiny.CODES, rename="TP9")


def test_channels_that_do_not_match_are_compared_by_name(dataset, tmp_path):
    _, write = dataset
    root = write()
    path = next(root.rglob("*_channels.tsv"))
    lines = path.read_text("utf-8").splitlines(keepends=True)
    plain = read_bids(root, tmp_path / "plain", montage="none")
    path.write_text("".join([lines[0], *lines[:0:-1]]), "utf-8")  # the same, in another order
    turned = read_bids(root, tmp_path / "turned", montage="none")
    assert set(turned.ch_names) == set(plain.ch_names)
    places = [turned.ch_names.index(name) for name in plain.ch_names]
    assert np.array_equal(turned.eeg[:, places], plain.eeg)
    path.write_text("".join(lines).replace("AF7", "F7"), "utf-8")
    with pytest.raises(RecordingError) as caught:
        read_bids(root, tmp_path / "no")
    assert "AF7" in str(caught.value) and "damaged" not in str(caught.value)
    named = read_bids(root, tmp_path / "named", channel_names="table", montage="none")
    assert named.ch_names == ["TP9", "F7", "AF8", "TP10"]
    assert np.array_equal(named.eeg, plain.eeg)
    path.write_text("".join([*lines, lines[-1]]), "utf-8")
    with pytest.raises(RecordingError):
        read_bids(root, tmp_path / "twice")
    path.write_text("".join(lines[:-1]), "utf-8")
    fewer = read_bids(root, tmp_path / "fewer", montage="none")
    assert np.array_equal(fewer.eeg, plain.eeg)
    assert any("TP10" in note for note in fewer.info["notes"])


def test_options_that_a_dataset_says_itself_are_refused_and_not_listed(dataset, tmp_path):
    from typer.testing import CliRunner

    from eegprompt.cli.app import app
    from eegprompt.readers.bids import BidsOptions

    assert not BidsOptions.not_offered & set(BidsOptions.offered())
    shown = CliRunner().invoke(app, ["import", "bids", "--options"], env={"COLUMNS": "400"})
    assert shown.exit_code == 0 and "subjects" in shown.output
    for name in BidsOptions.not_offered:
        typed = (f"--{name.replace('_', '-')} ", f"-o {name}=")
        assert not any(word in shown.output for word in typed)
        with pytest.raises(InputError):
            BidsReader().read(dataset[1](), tmp_path / "no", **{name: "1"})


def test_repeated_and_pairs_on_the_command_line(tmp_path):
    from typer.testing import CliRunner

    from eegprompt.cli.app import app

    made = tiny.make()
    path = tiny.write_brainvision(tmp_path / "a.vhdr", made)
    markers = path.with_suffix(".vmrk")
    text = markers.read_text("utf-8") + f"Mk99=Stimulus,S  7,{made.samples[4] + 1},1,0\n"
    markers.write_text(text, "utf-8")
    words = ["import", "continuous", str(path), "--out", str(tmp_path / "s"), "--repeated", "last"]
    words += ["--event", "S1=house", "--event", "S2=face", "--event", "S7=cat"]
    assert CliRunner().invoke(app, [*words, "-o", "rename=AF7=F7"]).exit_code == 0
    study = adds_up(Study(tmp_path / "s"))
    assert study.ch_names[1] == "F7" and left_out(study) == {"repeated at one sample": 1}
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "s")], env={"COLUMNS": "300"})
    assert "repeated at one sample: 1" in shown.output


# -- a table for several recordings ----------------------------------------------------------------
def test_rows_of_a_common_table_go_to_their_own_file(tmp_path):
    lines, source = ["file,onset,category"], tmp_path / "rec"
    for subject in (1, 2):
        made = tiny.make(seed=subject)
        tiny.write_csv(source / f"sub-{subject}" / "eeg.csv", made, aux=False)
        lines += [
            f"sub-{subject}/eeg.csv,{sample / 256:.6f},{'ab'[subject - 1]}"
            for sample in made.samples
        ]
    table = tmp_path / "events.csv"
    table.write_text("\n".join([*lines, "sub-3/eeg.csv,5.0,c"]) + "\n")
    options: dict[str, Any] = {"unit": "uV", "exclude": "Marker0", "events_table": str(table)}
    study = ContinuousReader().read(source, tmp_path / "s", **options)
    assert study.trials.groupby("subject")["category"].unique().map(list).to_dict() == {
        "1": ["a"], "2": ["b"],
    }  # fmt: skip
    assert left_out(study) == {"of a file that was not read": 1}
    assert any("sub-3/eeg.csv" in note for note in study.info["notes"])
    table.write_text("\n".join(lines).replace("sub-1/", "").replace("sub-2/", "") + "\n")
    with pytest.raises(RecordingError):  # of which of both?
        ContinuousReader().read(source, tmp_path / "no", **options)


def test_an_event_that_is_called_none_can_be_asked_for(dataset, tmp_path):
    table, write = dataset
    root = write(trial_type=table["trial_type"].replace("house", "none"), stim_file="n/a")
    shutil.rmtree(root / "stimuli")
    study = read_bids(root, tmp_path / "s", events={"none": "nothing", "face": "face"})
    assert study.n_trials == 32 and study.categories == ["face", "nothing"]
    assert read_bids(root, tmp_path / "f", events={"face": "face"}).categories == ["face"]
