"""Electrode positions by name."""

import mne
import numpy as np
import pytest

from eegprompt.core.errors import UnknownNameError
from eegprompt.signal.montage import EEGCVPR_CHANNELS, montage_names, positions_of, template


def test_the_128_channels_of_eegcvpr_are_all_in_the_template():
    assert len(EEGCVPR_CHANNELS) == len(set(EEGCVPR_CHANNELS)) == 128
    assert EEGCVPR_CHANNELS[:3] == ("Fp1", "Fp2", "F7")
    assert EEGCVPR_CHANNELS[-1] == "I2"
    assert None not in positions_of(EEGCVPR_CHANNELS).values()


def test_positions_are_those_mne_gives_a_recording():
    names = ["Fp1", "Cz", "T8", "Oz", "CPP5h"]
    info = mne.create_info(names, 100.0, "eeg")
    info.set_montage(template())
    theirs = np.array([ch["loc"][:3] for ch in info["chs"]])
    ours = np.array(list(positions_of(names).values()))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_head_coordinates_point_right_forward_up_in_meters():
    p = positions_of(["T7", "T8", "Fpz", "Oz", "Cz"])
    assert p["T8"][0] > 0.05 > -0.05 > p["T7"][0]
    assert p["Fpz"][1] > 0.05 > -0.05 > p["Oz"][1]
    assert 0.1 < p["Cz"][2] < 0.2


def test_names_are_not_guessed():
    assert positions_of(["oz", "Oz ", "EXG1"]) == {"oz": None, "Oz ": None, "EXG1": None}
    assert positions_of([]) == {}


def test_changing_a_result_changes_no_later_one():
    first = positions_of(["Oz"])
    first["Oz"][0] = 99.0
    assert positions_of(["Oz"])["Oz"][0] != 99.0


def test_other_templates():
    assert positions_of(["A1"], "biosemi64")["A1"] is None
    assert positions_of(["Cz"], "biosemi64")["Cz"] is not None
    assert "standard_1005" in montage_names()
    with pytest.raises(UnknownNameError, match="unknown montage 'standard_1006'; did you mean"):
        positions_of(["Cz"], "standard_1006")
