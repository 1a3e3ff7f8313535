"""Files with changed bytes: whatever was changed, a reader reads them or ends in a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eegprompt.errors import EegpromptError


def check_any_damage(file: Path, read: Callable[[Path], object], head: int, tail: int) -> None:
    """Change up to three bytes among the first `head` and the last `tail` of a file, many times.

    `read` is called with the study's folder to be made; a failure leaves nothing behind.
    """
    out = file.parents[1] / "made" / "study"
    out.parent.mkdir()
    good = file.read_bytes()
    place = st.integers(0, min(len(good), head)) | st.integers(len(good) - tail, len(good) - 1)

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=3))
    def damage(changes: list[tuple[int, int]]) -> None:
        data = bytearray(good)
        for at, byte in changes:
            data[at] = byte
        file.write_bytes(data)
        try:
            read(out)
        except EegpromptError:
            assert not out.exists()
        shutil.rmtree(out, ignore_errors=True)
        assert list(out.parent.iterdir()) == []

    damage()
