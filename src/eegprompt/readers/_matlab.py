"""MATLAB files of anybody's, which SciPy does not always survive.

A damaged file can end the process that parses it. So another one parses each file first, within
limits of time and memory; it is started once and serves all files.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from threading import Lock

import numpy as np

from eegprompt.core.errors import RecordingError

__all__ = ["check_matlab", "events_of_set"]

_CHILD = """
import json, sys
from scipy.io import loadmat
for line in sys.stdin:
    path, memory = json.loads(line)
    try:
        import resource
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = memory if most == resource.RLIM_INFINITY else min(memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (soft, most))
    except ImportError:
        pass
    said = "read"
    try:
        loadmat(path, squeeze_me=True)
    except MemoryError:
        said = "memory"
    except BaseException:
        pass  # who reads it meets this error again, and says what it means
    print(said, flush=True)
"""
COMMAND = [sys.executable, "-P", "-c", _CHILD]
SECONDS = 60.0  # and one more for each 10 MB
MEMORY = 4 << 30  # bytes, and 8 more for each byte of the file

_whole: set[tuple[str, int, int]] = set()  # files that were parsed already, as they were then
_serving: dict[int, subprocess.Popen[bytes]] = {}  # by process: a forked one shares no pipe
_one_at_a_time = Lock()


def check_matlab(path: Path) -> None:
    """Refuse a file that cannot be parsed without a crash, or within limits of time and memory.

    Raises
    ------
    RecordingError
        If it cannot.
    """
    state = path.stat()
    known = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    with open(path, "rb") as stream:
        in_hdf5 = stream.read(10) == b"MATLAB 7.3"  # which SciPy does not parse
    if known in _whole or in_hdf5 or not sys.executable or os.name != "posix":
        return
    with _one_at_a_time:
        said = _parsed(known[0], state.st_size)
    if said is not None:
        raise RecordingError(
            f"{path} cannot be read as a MATLAB file ({said}); it may be damaged or cut off: copy it "
            "again, or leave it out"
        )
    _whole.add(known)


def _parsed(path: str, size: int) -> str | None:
    """What went wrong when the other process parsed a file; None if nothing a reader cannot say."""
    child = _serving.get(os.getpid())
    if child is None or child.poll() is not None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        _serving.clear()
        _serving[os.getpid()] = child
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps([path, MEMORY + 8 * size]).encode() + b"\n")
        child.stdin.flush()
    in_time = select.select([child.stdout], [], [], SECONDS + size / 1e7)[0]
    answer = child.stdout.readline() if in_time else b""
    if answer:
        return "it takes more memory than its size allows" if answer == b"memory\n" else None
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    _serving.clear()
    return "parsing it crashes" if in_time else f"parsing it takes over {SECONDS:g} s"


def events_of_set(file: Path) -> tuple[list[list[str]], list[list[float]]]:
    """Names and latencies (ms) of the events of each trial of an EEGLAB set."""
    from scipy.io import loadmat

    wanted = ["EEG", "epoch"]
    try:
        content = loadmat(file, variable_names=wanted, squeeze_me=True, struct_as_record=False)
    except NotImplementedError:  # MATLAB's version 7.3
        from pymatreader import read_mat

        content = read_mat(file, variable_names=wanted)
    owner = content.get("EEG", content)
    epoch = owner["epoch"] if isinstance(owner, dict) else owner.epoch
    if isinstance(epoch, dict):
        kinds, times = epoch["eventtype"], epoch["eventlatency"]
    else:
        kinds = [one.eventtype for one in np.atleast_1d(epoch)]
        times = [one.eventlatency for one in np.atleast_1d(epoch)]
    return (
        [
            [str(k) for k in ([one] if isinstance(one, str) else np.atleast_1d(one))]
            for one in kinds
        ],
        [[float(t) for t in np.atleast_1d(one)] for one in times],
    )
