"""A MATLAB file that crashes SciPy is one error of ours, for each reader of such files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_recordings as tiny
from eegprompt.core.errors import RecordingError
from eegprompt.readers import _matlab
from eegprompt.readers._matlab import check_matlab
from eegprompt.readers.continuous import ContinuousReader
from eegprompt.readers.mne import MneEpochsReader

pytestmark = pytest.mark.skipif(os.name != "posix", reason="checks are made on POSIX systems")


@pytest.fixture
def crashing(tmp_path: Path) -> Path:
    path = tiny.write_eeglab(tmp_path / "rec.set", tiny.make(n_events=4))
    content = bytearray(path.read_bytes())
    content[400] = 24  # the length of a name
    path.write_bytes(content)
    return path


def test_scipy_crashes_on_the_file_itself(crashing):
    code = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], squeeze_me=True)"
    done = subprocess.run([sys.executable, "-c", code, crashing], capture_output=True)
    if done.returncode >= 0:
        pytest.skip("this version of SciPy survives the file")


@pytest.mark.parametrize("reader", [ContinuousReader, MneEpochsReader])
def test_a_file_that_crashes_scipy_is_refused(crashing, reader, tmp_path):
    with pytest.raises(RecordingError) as caught:
        reader().read(crashing, tmp_path / "s", events=tiny.CODES)
    assert str(crashing) in str(caught.value) and not (tmp_path / "s").exists()
    # The next file is parsed by a new process, and read.
    whole = tiny.write_eeglab(tmp_path / "whole.set", tiny.make())
    assert ContinuousReader().read(whole, tmp_path / "t", events=tiny.CODES).n_trials == 40


def test_a_file_is_parsed_once_and_one_process_serves_all(tmp_path, monkeypatch):
    paths = [tiny.write_eeglab(tmp_path / f"{i}.set", tiny.make(seed=i)) for i in range(3)]
    check_matlab(paths[0])
    child = _matlab._serving[os.getpid()].pid
    check_matlab(paths[1])
    assert _matlab._serving[os.getpid()].pid == child
    monkeypatch.setattr(_matlab, "_parsed", lambda path, size: "broken")
    check_matlab(paths[0])
    with pytest.raises(RecordingError):
        check_matlab(paths[2])


def test_a_file_that_takes_too_long_or_too_much_is_refused(tmp_path, monkeypatch):
    path = tiny.write_eeglab(tmp_path / "rec.set", tiny.make())
    for code in ("import sys; input(); print('memory', flush=True)", "import time; time.sleep(60)"):
        monkeypatch.setattr(_matlab, "COMMAND", [sys.executable, "-c", code])
        monkeypatch.setattr(_matlab, "SECONDS", 0.3 if "sleep" in code else 60.0)
        monkeypatch.setattr(_matlab, "_serving", {})
        with pytest.raises(RecordingError) as caught:
            check_matlab(path)
        assert ("memory" in str(caught.value)) == ("memory" in code)
        for child in _matlab._serving.values():
            child.kill()
            child.wait()
