"""Random valid recordings equal what MNE reads, trial by trial, or are counted, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import random_recordings
from eegprompt.core.errors import RecordingError
from eegprompt.readers.continuous import ContinuousReader
from random_recordings import AFTER, BEFORE


def check(kind: str, seed: int, folder: Path) -> str:
    """Import one random source and compare; says what became of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writers
        source = random_recordings.make(kind, seed, folder / "in")
        expected = random_recordings.theirs(source)
    if source.refused:
        with pytest.raises(RecordingError):
            ContinuousReader().read(source.path, folder / "s", **source.options)
        return "refused"
    study = ContinuousReader().read(source.path, folder / "s", **source.options)
    assert study.ch_names == source.expected
    placed = np.isfinite(study.positions).all(axis=1)
    assert placed.tolist() == [n != "Ear left" for n in study.ch_names]
    notes = " ".join(study.info["notes"])
    assert all(n in notes for n in source.other_names)
    # Each event is a trial with its own name and its own samples, or it is counted.
    kept = source.kept
    assert study.trials["category"].tolist() == sorted(kept, key=kept.__getitem__)
    for row, category in enumerate(study.trials["category"]):
        window = slice(kept[category] - BEFORE, kept[category] + AFTER + 1)
        assert np.allclose(study.eeg[row], expected[:, window], rtol=1e-6, atol=1e-12)
        assert np.abs(study.eeg[row] - source.volts[:, window]).max() <= source.tolerance
    accounting = study.accounting
    assert accounting is not None
    assert (accounting.found, accounting.trials) == (len(source.events), len(kept))
    return "read"


@pytest.mark.parametrize("kind", random_recordings.WRITERS)
def test_random_recordings_are_read_as_mne_reads_them(kind: str, tmp_path: Path) -> None:
    pytest.importorskip({"edf": "edfio", "brainvision": "pybv"}.get(kind, "mne"))
    outcomes = [check(kind, seed, tmp_path / str(seed)) for seed in range(12)]
    assert outcomes.count("read") > len(outcomes) / 2
