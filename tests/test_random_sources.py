"""Any valid source equals MNE's own reading, or what is left out is counted, or it is refused."""

from __future__ import annotations

import pytest

import random_sources


@pytest.mark.parametrize("seed", range(50))
def test_recordings(seed, tmp_path):
    case = random_sources.random_recording(tmp_path / "f", seed)
    random_sources.check(case, tmp_path / "s")


@pytest.mark.parametrize("seed", range(50))
def test_datasets(seed, tmp_path):
    case = random_sources.random_dataset(tmp_path / "f", seed)
    random_sources.check(case, tmp_path / "s")
