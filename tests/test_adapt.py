"""A run adapted to a new person: what is fitted, what is left, what it is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from eegprompt.core.errors import InputError, RunError, StudyError
from eegprompt.core.files import read_json
from eegprompt.encoders.adapted import AdaptedEncoder
from eegprompt.encoders.saved import load_encoder
from eegprompt.run import Run
from eegprompt.steps.adapt import adapt
from eegprompt.study import Study
from test_training import Hashed, go, settings, write_study


def one_phrasing(study):
    """The same text wherever the meaning is the same: hashed paraphrases are not alike."""
    captions = study.captions("mine")
    captions["text"] = captions["kind"] + " " + captions["meaning"]
    study.write_captions("mine", captions, overwrite=True)
    return Study(study.path)


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    study = one_phrasing(write_study(tmp_path_factory.mktemp("group") / "study", n_subjects=2))
    config = settings(study, training={"epochs": 6})
    return go(study, tmp_path_factory.mktemp("group") / "run", config=config)


def newcomer(path, turned=True):
    """The same responses at other electrodes: what the group's encoder knows does not hold."""
    study = one_phrasing(write_study(path, seed=3))
    eeg = np.load(study.path / "eeg.npy")
    if turned:
        np.save(study.path / "eeg.npy", eeg[:, ::-1])
    trials = study.trials.copy()
    trials["subject"] = "new"
    trials.to_parquet(study.path / "trials.parquet", index=False)
    return Study(study.path)


@pytest.fixture(scope="module")
def adapted(group, tmp_path_factory):
    study = newcomer(tmp_path_factory.mktemp("new") / "study")
    return adapt(group, study, tmp_path_factory.mktemp("new") / "run", text_encoder=Hashed())


def test_a_read_out_is_fitted_and_the_encoder_left_as_it_is(group, adapted):
    before = load_file(group.encoder_dir / "model.safetensors")
    after = load_file(adapted.encoder_dir / "model.safetensors")
    for name, value in before.items():
        assert torch.equal(value, after[f"base.{name}"]), name
    assert after["weight"].abs().sum() > 0
    encoder, _, facts = load_encoder(adapted.encoder_dir, "cpu")
    assert isinstance(encoder, AdaptedEncoder) and facts["subjects"] == ["new"]
    assert facts["name"] == "adapted" and set(facts["scales"]) == set(facts["kinds"])
    assert Run(adapted.path).fold.test.size


def test_the_learning_curve_rises_above_the_encoder_alone(adapted):
    record = read_json(adapted.path / "provenance.json")["adapt"]
    curve = pd.DataFrame(record["curve"])
    assert curve["n_trials"].tolist() == [0, 8, 16, 32, 64, 128, 160]
    last = curve.iloc[-1]
    assert last["both"] > last["encoder"] + 0.2 and last["both"] > 0.7
    assert curve["encoder"].nunique() == 1 and curve["both"].iloc[0] == curve["encoder"].iloc[0]


def test_where_the_encoder_holds_it_is_not_lost(group, tmp_path):
    made = adapt(
        group, newcomer(tmp_path / "study", False), tmp_path / "run", text_encoder=Hashed()
    )
    curve = pd.DataFrame(read_json(made.path / "provenance.json")["adapt"]["curve"])
    assert curve["both"].iloc[-1] >= curve["encoder"].iloc[0] - 0.05


def test_test_trials_do_not_reach_the_fit(group, adapted, tmp_path):
    study = newcomer(tmp_path / "study")
    test = adapted.fold.test
    eeg = np.load(study.path / "eeg.npy")
    eeg[test] = eeg[test][::-1] * 3
    np.save(study.path / "eeg.npy", eeg)
    again = adapt(group, Study(study.path), tmp_path / "run", text_encoder=Hashed())
    one, other = (load_file(r.encoder_dir / "model.safetensors") for r in (adapted, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_adapted_is_refused(group, adapted, tmp_path):
    study = adapted.study
    with pytest.raises(InputError):
        adapt(group, study, adapted.path)
    with pytest.raises(RunError):
        adapt(adapted, study, tmp_path / "twice")
    other = newcomer(tmp_path / "study")
    info = read_json(other.path / "study.json") | {"sfreq": 50.0}
    from eegprompt.core.files import write_json

    write_json(other.path / "study.json", info)
    with pytest.raises(StudyError):
        adapt(group, Study(other.path), tmp_path / "rate")
    assert not (tmp_path / "rate").exists()


def test_training_an_adapted_encoder_says_what_to_do(group, tmp_path):
    config = settings(group.study, encoder={"name": "adapted"})
    with pytest.raises(InputError, match="eegprompt adapt"):
        go(group.study, tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_a_known_name_is_said(group, tmp_path):
    study = newcomer(tmp_path / "study")
    trials = study.trials.copy()
    trials["subject"] = "s1"
    trials.to_parquet(study.path / "trials.parquet", index=False)
    with pytest.warns(UserWarning, match=r"\['s1'\]"):
        adapt(group, Study(study.path), tmp_path / "run", text_encoder=Hashed())
