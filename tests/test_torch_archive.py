"""PyTorch files in both serializations: the same values as torch.load, and nothing is run."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eegprompt.core.errors import EegpromptError, RecordingError
from eegprompt.core.safe_pickle import load_pickled
from malicious import Runs, by_hand

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["present", "legacy"])


def save(path: Path, value: Any, legacy: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def legacy_file(path: Path, parts: list[bytes], tail: bytes = b"") -> Path:
    """A legacy file put together by hand from its five pickles."""
    magic, protocol = 0x1950A86A20F9469CFC6C, 1001
    whole = [pickle.dumps(v, 2) for v in (magic, protocol, {"little_endian": True}, [], [])]
    for place, part in enumerate(parts):
        whole[place] = part or whole[place]
    path.write_bytes(b"".join(whole) + tail)
    return path


def values(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return content.detach().numpy()
    if isinstance(content, dict):
        return {k: values(v) for k, v in content.items()}
    if isinstance(content, (list, tuple)):
        return [values(v) for v in content]
    return content


@BOTH
def test_the_same_as_torch_load(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "list": [{"eeg": base, "image": 1, "name": "é", "none": None, "yes": True, "x": 0.5}],
        "view": base[1:3, ::2],
        "turned": base.T,
        "zero": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "tuple": (1, (2, [3])),
        "big": 1 << 70,
        **{str(d): torch.arange(3).to(d) for d in (torch.float16, torch.float64, torch.uint8)},
        **{str(d): torch.arange(3).to(d) for d in (torch.int16, torch.int8, torch.bool)},
        "parameter": torch.nn.Parameter(base[0].clone()) if not legacy else None,
    }
    path = save(tmp_path / "a.pth", content, legacy)
    found, true = values(load_pickled(path)), values(torch.load(path, weights_only=True))
    for key in content:
        np.testing.assert_equal(found[key], true[key])
    if legacy:  # storages that share memory are stored once
        assert path.stat().st_size < 4000


@BOTH
def test_memory_does_not_grow_with_the_file(tmp_path: Path, legacy: bool) -> None:
    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    path = save(tmp_path / "a.pth", [torch.ones(1 << 20) for _ in range(24)], legacy)  # 100 MB
    before = anonymous()
    content = load_pickled(path)
    total = sum(float(t.sum()) for t in content)
    assert total == 24 << 20
    assert anonymous() - before < 30_000


@BOTH
def test_a_crafted_file_is_refused_and_runs_nothing(tmp_path: Path, legacy: bool) -> None:
    mark = tmp_path / "mark"
    for hidden in (Runs(mark), {"dataset": [{"eeg": torch.ones(2), "image": Runs(mark)}]}):
        path = save(tmp_path / "evil.pth", hidden, legacy)
        with pytest.raises(RecordingError, match=r"evil\.pth asks for \S*mkdir"):
            load_pickled(path)
        assert not mark.exists()


@pytest.mark.parametrize("place", range(5), ids=["magic", "protocol", "machine", "content", "keys"])
def test_no_part_of_a_legacy_file_can_run_code(tmp_path: Path, place: int) -> None:
    mark = tmp_path / "mark"
    for name, evil in by_hand(mark).items():
        path = legacy_file(tmp_path / "evil.pth", [b""] * place + [evil])
        with pytest.raises(RecordingError) as problem:
            load_pickled(path)
        assert "asks for" in str(problem.value), name
        assert not mark.exists()


def test_the_crafted_pickles_would_run(tmp_path: Path) -> None:
    """The test above means nothing if its pickles are harmless."""
    for name, evil in by_hand(tmp_path / "mark").items():
        if name in ("dotted", "build"):  # these try what pickle itself refuses or ignores
            continue
        pickle.loads(evil)
        assert (tmp_path / "mark").is_dir(), name
        (tmp_path / "mark").rmdir()


def test_numbers_that_ask_for_all_memory_are_refused(tmp_path: Path) -> None:
    storage = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nU\x01aU\x03cpu"
    crafted = {
        "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
        "text": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "long": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        "storage": storage + b"\x8a\x06\x00\x00\x00\x00\x00\x01NtQ.",
        "deep key": b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
        "deep list": b"\x80\x02" + b"]" * 500 + b"a" * 499 + b".",
        "in itself": b"\x80\x02]q\x00h\x00a.",
    }
    for name, evil in crafted.items():
        keys = pickle.dumps(["a"], 2) if name == "storage" else b""
        tail = struct.pack("<q", 1 << 40) if name == "storage" else b""
        path = legacy_file(tmp_path / "evil.pth", [b"", b"", b"", evil, keys], tail)
        if name in (
            "memo",
            "deep list",
        ):  # no harm where the memo is a dictionary, and none recurses
            assert load_pickled(path)[:0] == []
            continue
        with pytest.raises(RecordingError, match=r"evil\.pth"):
            load_pickled(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    good = save(tmp_path / "good.pth", torch.arange(6.0), legacy=True).read_bytes()
    # The tensor's shape is the one-element tuple that holds 6.
    assert good.count(b"K\x06\x85") == 1
    path = tmp_path / "bad.pth"
    path.write_bytes(good.replace(b"K\x06\x85", b"K\x07\x85"))
    with pytest.raises(RecordingError, match="more numbers than there are"):
        load_pickled(path)


@BOTH
def test_truncated_and_foreign_files(tmp_path: Path, legacy: bool) -> None:
    data = save(tmp_path / "good.pth", {"a": torch.ones(100)}, legacy).read_bytes()
    path = tmp_path / "bad.pth"
    for n in (0, 1, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(RecordingError, match=r"bad\.pth") as problem:
            load_pickled(path)
        if n > 4:  # a broken-off download is not called an attack
            assert "truncated" in str(problem.value) and "code" not in str(problem.value)


def test_what_is_no_file_of_tensors(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    for path in (tmp_path / "nowhere.pth", tmp_path, tmp_path / "text.pth"):
        with pytest.raises(RecordingError, match=re.escape(str(path))):
            load_pickled(path)
    torch.save({"a": torch.ones(3).to_sparse()}, tmp_path / "sparse.pth")
    with pytest.raises(RecordingError, match="_rebuild_sparse_tensor"):
        load_pickled(tmp_path / "sparse.pth")
    torch.save({"a": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "bf16.pth")
    with pytest.raises(RecordingError, match="BFloat16Storage"):
        load_pickled(tmp_path / "bf16.pth")


@pytest.mark.parametrize("what", ["present", "legacy", "pickle of present"])
def test_any_damage_ends_in_a_sentence_or_in_values(tmp_path_factory: Any, what: str) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    content = {"dataset": [{"eeg": torch.ones(2, 3), "image": 1}], "labels": ["a", "b"]}
    good = save(folder / "good.pth", content, what == "legacy").read_bytes()
    if what == "pickle of present":  # a damaged zip is found by its checksums; this one is whole
        with zipfile.ZipFile(folder / "good.pth") as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        (pickled,) = (name for name in parts if name.endswith("data.pkl"))
        good = parts[pickled]
    place = st.integers(0, len(good) - 1)

    @settings(max_examples=150, deadline=None, database=None)
    @given(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4), place)
    def damage(changes: list[tuple[int, int]], length: int) -> None:
        data = bytearray(good)
        for at, byte in changes:
            data[at] = byte
        path = folder / "bad.pth"
        cut = bytes(data if length % 4 else data[:length])
        if what == "pickle of present":
            with zipfile.ZipFile(path, "w") as archive:
                for name, part in (parts | {pickled: cut}).items():
                    archive.writestr(name, part)
        else:
            path.write_bytes(cut)
        try:
            values(load_pickled(path))
        except EegpromptError as problem:
            assert "bad.pth" in str(problem) and "\n" not in str(problem)

    damage()
