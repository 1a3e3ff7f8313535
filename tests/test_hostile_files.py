"""A small share of ``benchmarks/fuzz.py``: damaged files are read or refused, and nothing else."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not SCRIPT.exists(), reason="needs fork and limits of memory"
)


@pytest.fixture
def fuzz(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fuzz", module)
    spec.loader.exec_module(module)
    return module


def faults(fuzz: ModuleType, place: Path, name: str, n: int) -> list[tuple]:
    fuzz.prepare(place, [name])
    found = fuzz.fuzz(name, list(range(n)), 1, place / "work")
    assert len(found) == n
    return [case for case in found if case[1] not in ("read", "refused")]


def test_damaged_studies(fuzz, small_study, tmp_path, monkeypatch):
    def write(folder: Path) -> None:
        shutil.copytree(small_study, folder, dirs_exist_ok=True)

    monkeypatch.setitem(fuzz.TARGETS, "small", fuzz.Target(write, fuzz._read_study))
    assert faults(fuzz, tmp_path / "f", "small", 120) == []


@pytest.mark.parametrize(
    ("name", "n"), [("recipe", 100), ("thoughtviz", 40), ("things-gifford", 40)]
)
def test_damaged_recipes_and_recordings(fuzz, tmp_path, name, n):
    assert faults(fuzz, tmp_path, name, n) == []


@pytest.mark.parametrize(
    ("read", "ended"),
    [
        (lambda case, out: {}["a"], "traceback"),
        (lambda case, out: bytearray(7 << 30), "memory"),
        (lambda case, out: os.system("true"), "run"),
        (lambda case, out: (case.parents[1] / "elsewhere").write_text("x"), "outside"),
        (lambda case, out: os._exit(9), "killed"),
    ],
)
def test_the_fuzz_sees_what_must_not_happen(fuzz, tmp_path, monkeypatch, read, ended):
    def write(folder: Path) -> None:
        (folder / "a.json").write_text("{}")

    monkeypatch.setitem(fuzz.TARGETS, "bad", fuzz.Target(write, lambda case, out: None))
    fuzz.prepare(tmp_path, ["bad"])
    monkeypatch.setitem(fuzz.TARGETS, "bad", fuzz.Target(write, read))
    found = fuzz.fuzz("bad", [0], 0, tmp_path / "work")
    assert [how for _, how, *_ in found] == [ended]


def test_the_fuzz_sees_a_hang(fuzz, tmp_path, monkeypatch):
    import time

    monkeypatch.setitem(
        fuzz.TARGETS,
        "slow",
        fuzz.Target(lambda folder: (folder / "a.json").write_text("{}"), lambda case, out: None),
    )
    fuzz.prepare(tmp_path, ["slow"])
    slow = fuzz.Target(fuzz.TARGETS["slow"].write, lambda case, out: time.sleep(60))
    monkeypatch.setitem(fuzz.TARGETS, "slow", slow)
    monkeypatch.setattr(fuzz, "SECONDS", 1.0)
    monkeypatch.setattr(fuzz, "GRACE", 1.0)
    assert [how for _, how, *_ in fuzz.fuzz("slow", [0], 0, tmp_path / "work")] == ["hang"]
