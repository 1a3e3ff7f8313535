"""Every import says what became of every event: found = trials + each reason with its number."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import tiny_datasets
import tiny_eegcvpr
import tiny_recordings as tiny
from eegprompt.core.errors import StudyError
from eegprompt.core.registry import names, resolve
from eegprompt.steps.info import info as study_info
from eegprompt.study import Accounting, Study, StudyWriter


def test_what_does_not_add_up_is_refused():
    good = Accounting(10, 7, {"amplitude": 2, "cut off": 1, "marked bad": 0})
    assert dict(good.left_out) == {"amplitude": 2, "cut off": 1}
    assert Accounting.from_json(json.loads(json.dumps(good.to_json()))) == good
    both = Accounting.total([good, Accounting(5, 4, {"amplitude": 1})])
    assert both == Accounting(15, 11, {"amplitude": 3, "cut off": 1})
    assert good.less("averaged with others", 3).trials == 4
    assert list(good.words().values()) == [10, 7, 2, 1]
    for found, trials, left_out in ((10, 7, {"cut off": 2}), (1, 2, {"cut off": -1}), (1, 0.5, {})):
        with pytest.raises(StudyError):
            Accounting(found, trials, left_out)
    for stored in (None, [], {"found": 1}, {"found": 1, "trials": 1, "left_out": [1]}):
        with pytest.raises(StudyError):
            Accounting.from_json(stored)


def test_a_study_that_counts_other_trials_than_it_holds_is_not_written(tmp_path, bare_info):
    with pytest.raises(StudyError), StudyWriter.open(tmp_path / "s") as writer:
        writer.append(np.zeros((4, 2, 8)))
        writer.finish(
            info={**bare_info, "accounting": Accounting(5, 5).to_json()},
            trials=pd.DataFrame({"subject": "1", "image_id": ["a"] * 4, "category": "c"}),
            images=pd.DataFrame({"image_id": ["a"], "category": ["c"]}),
        )
    assert not (tmp_path / "s").exists()


@pytest.fixture
def bare_info():
    return {
        "name": "x", "ch_names": ["Fz", "Cz"], "ch_pos": {}, "sfreq": 100.0, "tmin": 0.0,
        "unit": "V", "design": "unknown", "image_identity": "category",
    }  # fmt: skip


# -- every reader ----------------------------------------------------------------------------------
# Each writes a source of which some is left out, and says what the reader must count:
# (source, options, events found, reason -> number).
def continuous(folder):
    made = tiny.make()
    made.data[1, made.samples[[3, 8]] + 20] += 500
    tiny.write_csv(folder / "a.csv", made)
    (folder / "b.csv").write_bytes((folder / "a.csv").read_bytes())
    faces = int((made.codes == 2).sum())
    lost = {"recording repeated": 40, "not named": 40 - faces}
    lost["amplitude"] = int((made.codes[[3, 8]] == 2).sum())
    return folder, {"marker": "Marker0", "events": {"2": "face"}, "unit": "uV", "min_events": 1,
                    "exclude": "Right AUX", "reject": 200, "subject": "1"}, 80, lost  # fmt: skip


def bids(folder):
    root = tiny_datasets.write_bids(folder / "ds", ("01",), n_runs=1)
    table = root / "sub-01" / "eeg" / "sub-01_task-view_run-1_events.tsv"
    with open(table, "a") as stream:
        stream.write("1.0\t0\tn/a\tn/a\nn/a\t0\tface\tfaces/faces_1.png\n")
    return root, {"min_events": 1}, 34, {"nothing shown": 1, "no onset": 1}


def epochs(folder):
    import test_mne_and_bids

    made = test_mne_and_bids.write_epochs(folder / "sub-01-epo.fif", metadata=False)
    houses = int((made.events[:, 2] == 1).sum())
    return folder / "sub-01-epo.fif", {"events": {"face": "face"}}, 40, {"not named": houses}


def things(folder):
    source = tiny_datasets.write_things(folder / "s", "preprocessed")
    images = tiny_datasets.things_images(folder / "p")
    n_images, n_reps = tiny_datasets.things_trials("test").shape[:2]
    found = n_images * n_reps + int(np.prod(tiny_datasets.things_trials("train").shape[:2]))
    lost = {"averaged with others": n_images * (n_reps - 1)}
    return source, {"stimuli": images, "val": 0.4, "average": "test"}, found, lost


def thoughtviz(folder):
    return tiny_datasets.write_thoughtviz(folder / "s", n=6), {}, None, {}


def alljoined(folder):
    table = tiny_datasets.alljoined_order()
    options = {"layout": "preprocessed"}
    lost = {"dropped by the source": int(table["dropped"].sum())}
    return tiny_datasets.write_alljoined(folder / "s"), options, len(table), lost


def alljoined_rows(folder):
    options = {"subjects": "1"}
    return tiny_datasets.write_alljoined1(folder / "s"), options, 96, {"of another subject": 48}


def alljoined_raw(folder):
    return tiny_datasets.write_alljoined_raw(folder / "s"), {"layout": "raw", "tmax": 0.3}, None, {}


def eegcvpr(folder):
    made = tiny_eegcvpr.make(lengths=(440, 520))
    own = [item for item in made.dataset if item["subject"] == 1]
    short = sum(item["eeg"].shape[1] < 460 for item in own)
    tiny_eegcvpr.write(folder, made)
    lost = {"of another subject": len(made.dataset) - len(own), "too short or too long": short}
    return folder, {"subjects": "1"}, len(made.dataset), lost


def eegcvpr40(folder):
    made = tiny_eegcvpr.make(per_class=3)
    source = tiny_eegcvpr.write_40(folder, made)
    twin = sorted((source / "train").glob("*.npy"))[0]
    twin.with_name("99999.npy").write_bytes(twin.read_bytes())
    return source, {}, len(made.dataset) + 1, {"repeated": 1}


def eegcvpr_hf(folder):
    made = tiny_eegcvpr.make(per_class=3)
    other = sum(item["subject"] == 2 for item in made.dataset)
    source = tiny_eegcvpr.write_hub(folder, made)
    return source, {"subjects": "1"}, len(made.dataset), {"of another subject": other}


SOURCES = {
    "alljoined": (alljoined, alljoined_rows, alljoined_raw),
    "bids": (bids,),
    "continuous": (continuous,),
    "eegcvpr": (eegcvpr,),
    "eegcvpr-hf": (eegcvpr_hf,),
    "eegcvpr40": (eegcvpr40,),
    "mne": (epochs,),
    "things-eeg2": (things,),
    "thoughtviz": (thoughtviz,),
}


def test_each_reader_is_tried():
    assert set(SOURCES) == set(names("reader"))


@pytest.mark.parametrize("make", [m for makes in SOURCES.values() for m in makes])
def test_every_import_adds_up(make, tmp_path):
    kind = next(k for k, makes in SOURCES.items() if make in makes)
    source, options, found, lost = make(tmp_path)
    target, _ = resolve("reader", kind)
    study = target().read(source, tmp_path / "study", **options)
    counted = study.accounting
    assert counted is not None and counted.trials == study.n_trials
    lost = {why: n for why, n in lost.items() if n}
    assert dict(counted.left_out) == lost
    assert counted.found == (study.n_trials if found is None else found)
    assert counted.found == counted.trials + sum(lost.values())
    shown = study_info(study)["accounting"]
    assert shown["found"] == counted.found and set(shown.values()) >= set(lost.values())
    for entry in study.info.get("recordings", []):
        assert entry["n_events"] == entry["n_trials"] + sum(entry["dropped"].values())


def test_averages_and_epochs_of_mne_are_counted(tmp_path):
    import test_mne_and_bids
    from eegprompt.signal.steps import preprocess

    made = test_mne_and_bids.write_epochs(tmp_path / "sub-01-epo.fif", metadata=False)
    made = made.drop([0, 5], reason="USER", verbose="ERROR")
    study = Study.from_epochs(made, tmp_path / "s")
    assert study.accounting == Accounting(40, 38, {"dropped by hand": 2})
    averaged = preprocess(study, tmp_path / "a", [{"name": "average repetitions"}])
    assert averaged.n_trials == 2 and averaged.accounting is not None
    lost = {"dropped by hand": 2, "averaged with others": 36}
    assert averaged.accounting == Accounting(40, 2, lost)
