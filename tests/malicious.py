"""Pickles that would run code if they were loaded, as a stranger could put them on the internet."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any


class Runs:
    """Unpickling an instance creates the file `mark`."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def by_hand(mark: Path) -> dict[str, bytes]:
    """Pickles that reach for a function by each operation that can."""
    name = str(mark).encode()
    return {
        "reduce": pickle.dumps(Runs(mark), 2),
        "stack global": pickle.dumps(Runs(mark), 4),
        "inst": b"(S'" + name + b"'\niposix\nmkdir\n.",
        "obj": b"(cposix\nmkdir\nS'" + name + b"'\no.",
        "eval": b'cbuiltins\neval\n(S\'__import__("os").mkdir("' + name + b"\")'\ntR.",
        "dotted": b"\x80\x04\x8c\x05torch\x8c\x0cos.path.join\x93(S'" + name + b"'\ntR.",
        "hidden in a list": b"](K\x01cposix\nmkdir\n(S'" + name + b"'\ntRe.",
        "build": b"ccollections\nOrderedDict\n)R}S'__class__'\ncposix\nmkdir\nsb.",
    }
