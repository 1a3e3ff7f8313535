"""The reader of pickles reads what NumPy writes, and never runs what anybody else wrote."""

from __future__ import annotations

import builtins
import contextlib
import mmap
import os
import pickle
import random
import struct
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegprompt.core.errors import EegpromptError, RecordingError
from eegprompt.core.safe_pickle import checked_array, load_pickled


def equal(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray):
        if b.dtype == object:
            return a.dtype == object and all(map(equal, a.ravel(), b.ravel()))
        return (
            isinstance(a, np.ndarray)
            and (a.dtype.newbyteorder("="), a.shape) == (b.dtype.newbyteorder("="), b.shape)
            and np.array_equal(a, b)
        )
    if isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


RNG = np.random.default_rng(0)
HARMLESS: dict[str, Any] = {
    "dict": {"preprocessed_eeg_data": RNG.normal(size=(3, 2, 4)), "ch_names": ["Oz", "Pz"]},
    "dtypes": [
        np.array([0, 1, 2]).astype(t)
        for t in ("f2", "f4", ">f4", ">f8", "i1", "u1", "i8", ">i2", "?", "c8")
    ],
    "texts": [np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), "ä", b"\xff", ""],
    "order": [np.asfortranarray(RNG.normal(size=(3, 4))), RNG.normal(size=(2, 3, 4)).T],
    "axes": RNG.normal(size=(2, 3, 4)).transpose(1, 0, 2),
    "empty": [np.empty((0, 3)), np.array(5.0), (), {}, []],
    "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("x"), 2**70, -1, 1e300],
    "containers": [{1: None}, (1, (2, 3), True), OrderedDict(a=1) and {"a": 1}, 3 + 4j],
    "sets": {"s": {1, 2}, "f": frozenset(["a"])},
    "shared": [(x := np.arange(4)), x, [x]],
    "objects": np.array([np.zeros((4, 5, 3), "u1"), RNG.normal(size=(2, 3)), 7, "id"], object),
    "large": np.arange(300_000.0).reshape(300, 1000),
    "large-fortran": np.asfortranarray(np.arange(300_000.0).reshape(300, 1000)),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", HARMLESS)
def test_what_numpy_and_pickle_write_is_read_as_they_read_it(name, protocol, tmp_path):
    path = tmp_path / "data.npy"  # the suffix says nothing
    path.write_bytes(pickle.dumps(HARMLESS[name], protocol=protocol))
    assert equal(load_pickled(path), pickle.loads(path.read_bytes()))


def test_object_arrays_in_npy_files(tmp_path):
    np.save(tmp_path / "dict.npy", np.array(HARMLESS["dict"], dtype=object))
    assert equal(load_pickled(tmp_path / "dict.npy"), HARMLESS["dict"])
    np.save(tmp_path / "trial.npy", HARMLESS["objects"], allow_pickle=True)
    assert equal(load_pickled(tmp_path / "trial.npy"), HARMLESS["objects"])
    np.save(tmp_path / "plain.npy", np.arange(6).reshape(2, 3))
    assert equal(np.asarray(load_pickled(tmp_path / "plain.npy")), np.arange(6).reshape(2, 3))


def is_mapped(array: Any) -> bool:
    """Whether the numbers of an array lie in the file, not in memory of its own."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(getattr(array, "obj", array), mmap.mmap)  # NumPy holds it by a memoryview


def test_large_arrays_are_mapped_and_cannot_be_written(tmp_path):
    path = tmp_path / "large.pkl"
    path.write_bytes(pickle.dumps({"x": HARMLESS["large"]}, protocol=4))
    array = load_pickled(path)["x"]
    assert is_mapped(array) and not array.flags.writeable
    assert np.array_equal(array, HARMLESS["large"])


def python2_array(key: bytes, values: np.ndarray) -> bytes:
    """{key: array} as Python 2 with cPickle wrote it, protocol 2, from the format's description."""
    raw = values.tobytes()
    dtype = values.dtype.str[1:].encode()
    return (
        b"\x80\x02}U" + bytes([len(key)]) + key
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"".join(b"M" + struct.pack("<H", n) for n in values.shape)
        + {1: b"\x85", 2: b"\x86", 3: b"\x87"}[values.ndim]
        + b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + struct.pack("<i", len(raw)) + raw + b"tbs."
    )  # fmt: skip


@pytest.mark.parametrize("n", [5, 20_000])
def test_pickles_of_python_2(n, tmp_path):
    values = np.random.default_rng(1).normal(size=(n, 14))
    path = tmp_path / "data.pkl"
    path.write_bytes(python2_array(b"x_train", values))
    assert equal(pickle.loads(path.read_bytes(), encoding="latin1"), {"x_train": values})
    assert equal(load_pickled(path), {"x_train": values})


@pytest.mark.parametrize("protocol", [2, 5])
def test_archives_of_torch(protocol, tmp_path):
    """Tensors and arrays in one file, as torch.save writes them; torch reads the same."""
    import torch

    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "eeg": (np.arange(600_000) % 7).astype(np.float16).reshape(6, 100, 1000),
        "tensor": base.half(),
        "strided": base.transpose(0, 2)[1:],
        "long": torch.arange(3),
        "names": ["Oz"],
        "img": np.array([["a/b.jpg", "c"]]),
    }
    path = tmp_path / "train.pt"
    torch.save(content, path, pickle_protocol=protocol)
    read = load_pickled(path)
    assert is_mapped(read["eeg"]) == (protocol == 5)  # below, it lies there as text
    expected = torch.load(path, weights_only=False)
    for key, value in expected.items():
        value = value.numpy() if isinstance(value, torch.Tensor) else value
        assert equal(np.asarray(read[key]) if key != "names" else read[key], value), key
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(150):
        broken = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 20)):
            broken[rng.randrange(min(len(broken), 4000))] = rng.randrange(256)
        path.write_bytes(broken)
        with contextlib.suppress(EegpromptError):
            load_pickled(path)


def test_an_archive_of_torch_cannot_run_code_or_look_past_its_numbers(tmp_path):
    import torch

    canary, path = tmp_path / "canary", tmp_path / "train.pt"
    torch.save({"eeg": torch.zeros(3), "x": Calls(os.system, f"touch {canary}")}, path)
    with pytest.raises(RecordingError, match=r"posix\.system"):
        load_pickled(path)
    assert not canary.exists()
    torch.save(torch.zeros(3), path)
    whole = path.read_bytes()
    assert b"K\x03\x85" in whole  # the tensor's shape, (3,)
    path.write_bytes(whole.replace(b"K\x03\x85", b"K\xff\x85"))
    with pytest.raises(RecordingError, match="checksum"):
        load_pickled(path)
    with zipfile.ZipFile(tmp_path / "crafted.pt", "w") as crafted:
        torch.save(torch.zeros(3), path)
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                part = archive.read(name).replace(b"K\x03\x85", b"K\xff\x85")
                crafted.writestr(name, part)
    path = tmp_path / "crafted.pt"
    with pytest.raises(RecordingError, match="more numbers than there are"):
        load_pickled(path)


# -- files made to do harm -----------------------------------------------------------------------
class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


def attacks(canary: Path) -> dict[str, bytes]:
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    chain = Calls(getattr, Calls(__import__, "os"), "system")
    text = {
        "global": f"cos\nsystem\n(S'{touch}'\ntR.",
        "inst": f"(S'{touch}'\nios\nsystem\n.",
        "posix": f"cposix\nsystem\n(S'{touch}'\ntR.",
        "builtin": f"c__builtin__\neval\n(S{code!r}\ntR.",
        "dotted": "\x80\x04\x8c\x05numpy\x8c\x13ndarray.__subclasses__\x93)R.",
        "getattr": "cbuiltins\ngetattr\n(cos\npath\nS'sys'\ntR.",
        "ext": "\x80\x02\x82\x01.",
        "persid": "P1\n.",
        "newobj": "\x80\x02csubprocess\nPopen\n(S'true'\nt\x81.",
    }
    made: dict[str, Any] = {
        "os.system": Calls(os.system, touch),
        "eval": Calls(builtins.eval, code),
        "exec": Calls(builtins.exec, code),
        "popen": Calls(subprocess.Popen, ["touch", str(canary)]),
        "chain": chain,
        "open": Calls(open, str(canary), "w"),
        "in a list": [np.zeros(3), [Calls(os.system, touch)]],
        "in a key": {"preprocessed_eeg_data": np.zeros(2), "ch_names": Calls(os.system, touch)},
        "in an object array": np.array([1, Calls(os.system, touch)], dtype=object),
        "in a state": Calls(np.dtype, "f8", state=(Calls(os.system, touch),)),
        "np.load": Calls(np.load, str(canary), None, True),
        "np.fromfile": Calls(np.fromfile, str(canary)),
        "np.memmap": Calls(np.memmap, str(canary), "u1", "w+", 0, (4,)),
        "np.save": Calls(np.save, str(canary), np.zeros(3)),
        "np.savetxt": Calls(np.savetxt, str(canary), [1.0]),
        "np.vectorize": Calls(np.vectorize, os.system),
        "np.frompyfunc": Calls(np.frompyfunc, os.system, 1, 1),
        "np.apply_along_axis": Calls(np.apply_along_axis, os.system, 0, [touch]),
        "map": Calls(map, os.system, [touch]),
        "bytearray of anything": Calls(bytearray, 10**12),
    }
    return {k: v.encode("latin1") for k, v in text.items()} | {
        f"{k} protocol {p}": pickle.dumps(v, protocol=p) for k, v in made.items() for p in (0, 2, 5)
    }


NAMES = sorted(attacks(Path("canary")))


@pytest.mark.parametrize("name", NAMES)
def test_a_crafted_file_is_refused_in_one_sentence_and_not_run(name, tmp_path):
    canary = tmp_path / "canary"
    content = attacks(canary)[name]
    path = tmp_path / "data.pkl"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as refused:
        load_pickled(path)
    assert not canary.exists()
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    # The same inside an object array's .npy file.
    header = np.lib.format.header_data_from_array_1_0(np.empty((), object))
    with open(tmp_path / "data.npy", "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(content)
    with pytest.raises(RecordingError):
        load_pickled(tmp_path / "data.npy")
    assert not canary.exists()


def test_the_attacks_would_have_worked(tmp_path):
    """Else the test above shows nothing."""
    worked = []
    for name in (
        "os.system protocol 2",
        "in an object array protocol 5",
        "global",
        "np.save protocol 5",
    ):
        canary = tmp_path / f"canary-{len(worked)}"
        with contextlib.suppress(Exception):
            pickle.loads(attacks(canary)[name])
        worked.append(canary.exists() or canary.with_suffix(".npy").exists())
    assert all(worked)


def test_the_message_names_what_was_asked_for(tmp_path):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(Calls(os.system, "true"), protocol=4))
    with pytest.raises(RecordingError, match=r"posix\.system"):
        load_pickled(path)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


def dtype(name: bytes, flags: bytes = b"0") -> bytes:
    return b"cnumpy\ndtype\n(S'" + name + b"'\ntR(I3\nS'<'\nNNNI-1\nI-1\nI" + flags + b"\ntb"


BOMBS = {
    "array without content": ARRAY + b".",
    "huge shape": ARRAY + b"(I1\n(I999999999999\nt" + dtype(b"f8") + b"I00\nS''\ntb.",
    "announced bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    "announced frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff",
    "announced number": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "many digits": b"I" + b"9" * 100_000 + b"\n.",
    "high memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "array inside itself": ARRAY
    + b"p0\n(I1\n(I1\nt" + dtype(b"O8", b"63") + b"I00\n(lp1\ng0\natb.",
    "deep tuple as key": b"}(K\x01" + b"\x852\x86" * 60 + b"K\x01u.",
    "text as shape": ARRAY + b"(I1\nS'ab'\nNI00\nS''\ntb.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_neither_fills_the_memory_nor_takes_long(name, tmp_path):
    path = tmp_path / "data.pkl"
    path.write_bytes(BOMBS[name])
    if name == "high memo":
        assert load_pickled(path) == {}
        return
    with pytest.raises(RecordingError):
        load_pickled(path)


def test_damaged_files_raise_only_our_errors(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "data.pkl"
    for protocol in (0, 2, 4, 5):
        whole = pickle.dumps([HARMLESS["dict"], HARMLESS["objects"]], protocol=protocol)
        for _ in range(300):
            broken = bytearray(whole)
            if rng.random() < 0.3:
                del broken[rng.randrange(len(broken)) :]
            for _ in range(rng.randrange(1, 4)):
                if broken:
                    broken[rng.randrange(len(broken))] = rng.randrange(256)
            path.write_bytes(broken)
            try:
                load_pickled(path)
            except EegpromptError as problem:
                assert str(path) in str(problem)


def test_files_that_are_no_pickle_are_named(tmp_path):
    for name, content, words in (
        ("empty", b"", "is empty"),
        ("zip", b"PK\x03\x04", "damaged"),
        ("text", b"onset,image\n", "instruction"),
        ("letters", b"hello there\n", "damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=words):
            load_pickled(tmp_path / name)
    with pytest.raises(RecordingError, match="does not exist"):
        load_pickled(tmp_path / "nowhere.npy")
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros(1000))
    whole.write_bytes(whole.read_bytes()[:-8])
    with pytest.raises(RecordingError, match="ends 8 bytes early"):
        load_pickled(whole)


def test_checked_array_names_file_and_key(tmp_path):
    assert checked_array(np.zeros((2, 3)), "f.npy", "eeg", ndim=2).shape == (2, 3)
    for value, words in (
        ([1], "'eeg' holds a list"),
        (np.array(["a"]), "numbers are needed"),
        (np.zeros(3), r"shape \(3,\)"),
    ):
        with pytest.raises(RecordingError, match=words):
            checked_array(value, "f.npy", "eeg", ndim=2)
