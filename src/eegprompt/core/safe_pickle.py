"""Read arrays, tensors and plain containers out of pickles without running anything they say.

A pickle is a program: opened with :mod:`pickle`, a crafted one runs whatever its author likes. Here
only instructions that build plain values are followed, and the only names a file may call are those
by which arrays, dtypes, scalars and tensors are written, each replaced by a function of this module.
Any other instruction or name is refused in one sentence. Files of ``torch.save`` are pickles too,
with the numbers of the tensors beside them (a zip archive) or behind them (its legacy format).

Large arrays and all tensors are not copied: they are mapped from where their bytes lie in the file,
so that a recording of many gigabytes opens at once and is read as it is used.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eegprompt.core.errors import RecordingError

__all__ = ["checked_array", "load_pickled"]

MAP_FROM = 1 << 20  # bytes of an array from which on it is mapped instead of copied
_SIMPLE_KINDS = "biufcSUO"  # what a recording holds; no structures, dates or raw memory
_STORAGES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "<i1", "Byte": "<u1", "Bool": "?",
}  # fmt: skip
_KEYS = (str, bytes, int, float, bool, complex, type(None), np.generic)
# Magic number and version of torch.save before version 1.6.
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)
# What values are made of. Absent on purpose: INST, OBJ, NEWOBJ and the extension registry, which make
# objects of any class, and PERSID.
_INSTRUCTIONS = """
    PROTO FRAME MARK STOP POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE BINUNICODE8
    SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 READONLY_BUFFER EMPTY_LIST LIST
    APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET EMPTY_TUPLE TUPLE
    TUPLE1 TUPLE2 TUPLE3 GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL
    REDUCE BUILD BINPERSID
"""


class _BadFileError(Exception):
    """Something is wrong with the file; its text becomes part of one sentence."""


def load_pickled(path: str | Path) -> Any:
    """Load a pickle, a ``.npy`` file or a file of ``torch.save`` that holds plain values.

    Which of these a file is is told from its first bytes, not from its name. Strings of Python 2 are
    read as latin1.

    Parameters
    ----------
    path : path-like
        The file; it must stay in its place as long as the values are used.

    Returns
    -------
    object
        Arrays, scalars, strings, numbers, lists, tuples, dicts and sets. A tensor comes as an array;
        an array of zero dimensions that holds an object gives the object. Tensors, and arrays of
        1 MiB and more, are mapped from the file and cannot be written to.

    Raises
    ------
    RecordingError
        If the file is missing, truncated, damaged, or asks for anything else than arrays, tensors and
        containers.

    Examples
    --------
    >>> import pickle, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "data.pkl"
    >>> _ = path.write_bytes(pickle.dumps({"eeg": np.arange(3.0)}))
    >>> load_pickled(path)
    {'eeg': array([0., 1., 2.])}
    """
    path = Path(path)
    if not path.is_file():
        raise RecordingError(f"{path} does not exist or is no file; check the source")
    if path.stat().st_size == 0:
        raise RecordingError(f"{path} is empty; copy it again")
    try:
        with open(path, "rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        if data[:2] == b"PK":
            return _load_torch(path, data)
        if data[:6] == b"\x93NUMPY":
            return _load_npy(path, data)
        source = _Bytes(data)
        value = _Unpickler(source).load()
        return _load_legacy_torch(source) if _is(value, _LEGACY[0]) else value
    except _BadFileError as problem:
        raise RecordingError(f"{path} {problem}: get it from its source again") from None
    except Exception as problem:  # a damaged file can fail in any way; all mean the same
        reason = " ".join(str(problem).split())[:80]
        raise RecordingError(
            f"{path} cannot be read as arrays or tensors ({type(problem).__name__}: {reason}); it may "
            "be truncated or damaged: get it from its source again"
        ) from None


def checked_array(
    value: Any, path: str | Path, key: str, *, ndim: int | None = None, kinds: str = "fiu"
) -> np.ndarray:
    """An array from a loaded file, or an error that names the file and the key.

    Parameters
    ----------
    value : object
        What was found under `key`.
    path : path-like
    key : str
    ndim : int, optional
        How many dimensions it must have.
    kinds : str
        NumPy's letters of the kinds of values that are allowed; ``"fiu"`` are real numbers.

    Raises
    ------
    RecordingError
        If it is no array, or one of another kind or number of dimensions.
    """
    wrong = ""
    if not isinstance(value, np.ndarray):
        wrong = f"holds a {type(value).__name__}, but an array is needed"
    elif value.dtype.kind not in kinds:
        needed = "numbers are" if set(kinds) <= set("fiub") else "other values are"
        wrong = f"is an array of {value.dtype}, but {needed} needed"
    elif ndim is not None and value.ndim != ndim:
        wrong = f"has shape {value.shape}, but {ndim} dimensions are needed"
    if wrong:
        raise RecordingError(f"{path}: '{key}' {wrong}; check that the file is of this dataset")
    array: np.ndarray = value
    return array


# -- the files -----------------------------------------------------------------------------------
class _Bytes:
    """Part of a mapped file that refuses, before memory is set aside, to be asked for what it lacks."""

    def __init__(self, data: mmap.mmap, start: int = 0, stop: int | None = None):
        self.data, self.at = data, start
        self.stop = len(data) if stop is None else min(stop, len(data))

    def skip(self, n: int) -> int:
        """Go on by `n` bytes; where they begin."""
        if not 0 <= n <= self.stop - self.at:
            raise _BadFileError(f"ends early, it may be truncated ({n} bytes announced)")
        self.at += n
        return self.at - n

    def read(self, n: int) -> bytes:
        start = self.skip(n)
        return self.data[start : start + n]

    def readline(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.stop) + 1
        if not end:
            raise _BadFileError("ends early, it may be truncated (a line has no end)")
        return self.read(end - self.at)


def _is(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _load_npy(path: Path, data: mmap.mmap) -> Any:
    """A .npy file: mapped where it holds plain values, unpickled where it holds objects."""
    head = io.BytesIO(data[:70_000])
    version = np.lib.format.read_magic(head)
    readers: Mapping[tuple[int, int], Callable[..., Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise _BadFileError(f"is in version {version} of the .npy format, which is not read")
    shape, _, dtype = readers[version](head)
    if not dtype.hasobject:
        needed = math.prod(shape) * dtype.itemsize
        if head.tell() + needed > len(data):
            raise _BadFileError(
                f"should hold {needed} bytes of {dtype} of shape {shape}, and ends "
                f"{head.tell() + needed - len(data)} bytes early"
            )
        return np.load(path, mmap_mode="r" if needed else None, allow_pickle=False)
    value = _Unpickler(_Bytes(data, head.tell())).load()
    if not isinstance(value, np.ndarray) or value.dtype != object or value.shape != shape:
        raise _BadFileError("says in its header something else than it holds")
    return value[()] if shape == () else value


def _load_torch(path: Path, data: mmap.mmap) -> Any:
    """An archive of ``torch.save``: a pickle, and beside it a member for each tensor's numbers."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise _BadFileError("is a zip archive, but none that torch.save makes")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise _BadFileError("holds big-endian numbers, which are not read; save it anew")
    where = {name: _place_of(data, info) for name, info in members.items()}
    start, size = where[pickles[0]]
    content = data[start : start + size] if size < 64 * MAP_FROM else b""
    if content and zlib.crc32(content) != members[pickles[0]].CRC:
        raise _BadFileError("is damaged: its checksum is wrong")
    inside = f"{root}data/"
    numbers = {k.removeprefix(inside): v for k, v in where.items() if k.startswith(inside)}
    return _Unpickler(_Bytes(data, start, start + size), numbers).load()


def _place_of(data: mmap.mmap, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a member begin, and how many they are; they must not be compressed."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise _BadFileError("is compressed, which torch.save does not do; save it anew")
    header = data[info.header_offset : info.header_offset + 30]
    name, extra = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + name + extra, info.file_size


def _load_legacy_torch(source: _Bytes) -> Any:
    """What follows the magic number: version, machine, content, keys, and the numbers of each key."""
    if not _is(version := _Unpickler(source).load(), _LEGACY[1]):
        raise _BadFileError(f"is in version {version!r:.20} of torch's legacy format; save it anew")
    machine = _Unpickler(source).load()
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise _BadFileError("holds big-endian numbers, which are not read; save it anew")
    # The numbers lie behind the content: it is read once to learn which there are, then to have them.
    begin, first = source.at, _Unpickler(source, {}, describe=True)
    first.load()
    keys = _Unpickler(source).load()
    if not isinstance(keys, list) or {str(key) for key in keys} != set(first.described):
        raise _BadFileError("is damaged: its list of storages does not fit its tensors")
    numbers = {}
    for key in map(str, keys):
        dtype, n = first.described[key]
        if (stored := struct.unpack("<q", source.read(8))[0]) != n:
            raise _BadFileError(f"is damaged: storage {key} holds {stored} numbers, not {n}")
        numbers[key] = source.skip(n * dtype.itemsize), n * dtype.itemsize
    return _Unpickler(_Bytes(source.data, begin), numbers).load()


# -- the unpickler -------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Slab:
    """Bytes left in the file: where they begin and how many they are."""

    start: int
    size: int


@dataclass(frozen=True)
class _Name:
    """A global name that is allowed; `make` builds its value."""

    text: str
    make: Callable[..., Any]


class _Unbuilt:
    """An array or dtype that was announced; its content comes later."""

    def __init__(self, build: Callable[[Any], Any]):
        self.build, self.value = build, None


# Typed loosely: the class is part of Python's standard library, but not of its documentation.
_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _Unpickler(_InPython):
    """Python's own unpickler, less all instructions and names that could do anything.

    The one written in Python, not the one in C: that one sets aside memory for as many objects as a
    damaged number says.
    """

    def __init__(
        self,
        source: _Bytes,
        numbers: Mapping[str, tuple[int, int]] | None = None,
        describe: bool = False,
    ):
        super().__init__(source, encoding="latin1")
        self.source, self.numbers, self.describe = source, numbers, describe
        self.described: dict[str, tuple[np.dtype, int]] = {}
        self.n_unbuilt = 0
        self.allowed = self._allowed()

    dispatch = {getattr(pickle, name)[0]: None for name in _INSTRUCTIONS.split()}  # noqa: RUF012

    def load(self) -> Any:
        try:
            value = super().load()
        except KeyError as problem:
            code = problem.args[0] if problem.args else None
            if type(code) is not int or code in self.dispatch:
                raise
            raise _refused(f"the pickle instruction {bytes([code])!r}") from None
        if self.n_unbuilt or self.metastack or self.stack or isinstance(value, (_Name, _Slab)):
            raise _BadFileError("is damaged: it ends in the middle")
        return value

    # -- instructions that need care -----------------------------------------------------------
    def load_frame(self) -> None:
        """A frame says only how much follows."""
        at = self.source.at + 8
        self.source.skip(struct.unpack("<Q", self.source.read(8))[0])
        self.source.at = at

    def _bytes(self, form: str) -> bytes | _Slab:
        """Bytes whose number comes first; large ones stay where they are."""
        n = struct.unpack(form, self.source.read(struct.calcsize(form)))[0]
        return self.source.read(n) if n < MAP_FROM else _Slab(self.source.skip(n), n)

    def load_binstring(self) -> None:
        content = self._bytes("<i")
        self.append(content if isinstance(content, _Slab) else content.decode("latin1"))

    def load_binbytes(self) -> None:
        self.append(self._bytes("<I"))

    def load_binbytes8(self) -> None:
        self.append(self._bytes("<Q"))

    load_bytearray8 = load_binbytes8

    def load_readonly_buffer(self) -> None:
        """What is mapped cannot be written to anyway."""

    def load_reduce(self) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, _Name) or not isinstance(arguments, tuple):
            raise _refused("a call of something that has no name")
        self.append(what.make(*arguments))

    def load_build(self) -> None:
        state, what = self.stack.pop(), self.stack[-1]
        if not isinstance(what, _Unbuilt):
            raise _refused("a change of an object from outside")
        self.stack[-1] = what.value = what.build(state)
        self.n_unbuilt -= 1

    def _recall(self, get: Callable[[Any], None]) -> None:
        get(self)
        if isinstance(self.stack[-1], _Unbuilt):
            self.stack[-1] = self.stack[-1].value
            if self.stack[-1] is None:
                raise _BadFileError("holds an array inside itself, which is not read")

    def load_get(self) -> None:
        self._recall(_InPython.load_get)

    def load_binget(self) -> None:
        self._recall(_InPython.load_binget)

    def load_long_binget(self) -> None:
        self._recall(_InPython.load_long_binget)

    def _into(self, kind: type, place: int, keys: slice) -> None:
        """Only a container is filled, by keys that take no time to hash, and not with itself."""
        if place:
            target, items = self.stack[place - 1], self.stack[place:]
        else:
            target, items = self.metastack[-1][-1], self.stack
        if type(target) is not kind:
            raise _BadFileError("is damaged: values are out of place")
        if any(item is target for item in items):
            raise _BadFileError("holds a container inside itself, which is not read")
        _check_keys(items[keys] if kind is not list else ())

    def load_append(self) -> None:
        self._into(list, -1, slice(0))
        super().load_append()

    def load_appends(self) -> None:
        self._into(list, 0, slice(0))
        super().load_appends()

    def load_setitem(self) -> None:
        self._into(dict, -2, slice(0, 1))
        super().load_setitem()

    def load_setitems(self) -> None:
        self._into(dict, 0, slice(None, None, 2))
        super().load_setitems()

    def load_additems(self) -> None:
        self._into(set, 0, slice(None))
        super().load_additems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()

    # -- names ---------------------------------------------------------------------------------
    def find_class(self, module: str, name: str) -> _Name:
        full = f"{module}.{name}"
        if full not in self.allowed:
            raise _refused(ascii(full)[1:81].rstrip("'"))
        return _Name(full, self.allowed[full])

    def _allowed(self) -> dict[str, Callable[..., Any]]:
        """Names a file may use -> our function for each; nothing else can ever be called."""

        def no_call(*_: Any) -> Any:
            raise _BadFileError("makes an array in an unusual way, which is not read")

        def pairs(given: Any = ()) -> dict[Any, Any]:
            return dict(zip(_check_keys([k for k, _ in given]), [v for _, v in given]))

        names: dict[str, Callable[..., Any]] = {
            "numpy.ndarray": no_call,
            "numpy.dtype": self._dtype,
            "_codecs.encode": _encode,
            "collections.OrderedDict": pairs,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            **{f"torch.{kind}Storage": no_call for kind in _STORAGES},
        }
        for core in ("numpy.core", "numpy._core"):
            names[f"{core}.multiarray._reconstruct"] = self._array
            names[f"{core}.multiarray.scalar"] = self._scalar
            names[f"{core}.numeric._frombuffer"] = self._from_buffer
        for builtins in ("builtins", "__builtin__"):
            names[f"{builtins}.set"] = lambda values=(): set(_check_keys(values))
            names[f"{builtins}.frozenset"] = lambda values=(): frozenset(_check_keys(values))
            names[f"{builtins}.complex"] = lambda a=0.0, b=0.0: complex(float(a), float(b))
            names[f"{builtins}.bytes"] = lambda: b""  # how protocols below 3 write no bytes
            names[f"{builtins}.bytearray"] = lambda v=b"", *_: _to_bytes(v)
        return names

    # -- what the names make -------------------------------------------------------------------
    def _later(self, build: Callable[[Any], Any]) -> _Unbuilt:
        self.n_unbuilt += 1
        return _Unbuilt(build)

    def _dtype(self, spec: Any, align: Any = False, copy: Any = True) -> _Unbuilt:
        text = spec.decode("latin1") if isinstance(spec, bytes) else spec
        if not isinstance(text, str) or not text or len(text) > 12:
            raise _BadFileError("holds an array of an unusual type; only plain values are read")
        if text[0] not in _SIMPLE_KINDS or not (text[1:].isdigit() and text.isascii()):
            raise _BadFileError(f"holds an array of type {text!a}, which is not read")
        plain = np.dtype("O") if text[0] == "O" else np.dtype(text)

        def build(state: Any) -> np.dtype:
            # (version, byte order, subtype, names, fields, size, alignment, flags[, metadata])
            order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
            if order not in ("<", ">", "|", "="):
                raise _BadFileError("is damaged: an unknown byte order")
            if not isinstance(state, tuple) or any(part is not None for part in state[2:5]):
                raise _BadFileError("holds a structured array, which is not read")
            return plain if order in "|=" else plain.newbyteorder("<" if order == "<" else ">")

        return self._later(build)

    def _array(self, kind: Any, shape: Any = (), code: Any = b"b") -> _Unbuilt:
        if not isinstance(kind, _Name) or kind.text != "numpy.ndarray":
            raise _BadFileError("holds an array of an unusual class, which is not read")

        def build(state: Any) -> np.ndarray:
            shape, dtype, fortran, content = state[-4:]
            return self._filled(content, dtype, shape, "F" if fortran else "C")

        return self._later(build)

    def _from_buffer(
        self, content: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None
    ) -> np.ndarray:
        if order in ("C", "F"):
            return self._filled(content, dtype, shape, order)
        # Written with its axes in the order in which they lie in memory (NumPy 2.3 and newer).
        return self._filled(content, dtype, shape, "C").transpose(axes)

    def _filled(self, content: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
        """An array of given shape and type, from bytes, from bytes in the file, or from a list."""
        if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple):
            raise _BadFileError("is damaged: an array without type or shape")
        if len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise _BadFileError("holds an array of an impossible shape")
        n = math.prod(shape)
        if dtype.hasobject:
            if not isinstance(content, list) or len(content) != n:
                raise _BadFileError(f"holds an array of shape {shape} with other content")
            flat = np.empty(n, dtype=object)
            for index, value in enumerate(content):
                flat[index] = value
            return flat.reshape(shape, order=order)
        raw = content if isinstance(content, _Slab) else _to_bytes(content)
        had, needed = raw.size if isinstance(raw, _Slab) else len(raw), n * dtype.itemsize
        if had != needed:
            raise _BadFileError(f"holds {had} bytes for an array of {dtype} of shape {shape}")
        if n == 0:
            return np.empty(shape, dtype)
        if isinstance(raw, _Slab):
            return np.frombuffer(self.source.data, dtype, n, raw.start).reshape(shape, order=order)
        array = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))
        return array.reshape(shape, order=order)

    def _scalar(self, dtype: Any, content: Any = b"") -> Any:
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise _BadFileError("holds a scalar of an unusual type, which is not read")
        return self._filled(content, dtype, (), "C")[()]

    def persistent_load(self, given: Any) -> np.ndarray:
        """The numbers of a tensor: those that the pickle refers to, beside or behind it."""
        word, kind, key, _, n, *rest = given
        known = isinstance(kind, _Name) and kind.text.endswith("Storage")
        if word not in ("storage", b"storage") or not known or type(n) is not int or n < 0:
            raise _BadFileError("refers to something outside itself, which is not read")
        if any(part is not None for part in rest):
            raise _BadFileError("holds a part of another tensor's numbers, which is not read")
        key, dtype = str(key), np.dtype(_STORAGES[kind.text[6:].removesuffix("Storage")])
        if self.describe:
            if self.described.setdefault(key, (dtype, n)) != (dtype, n):
                raise _BadFileError("is damaged: it describes some numbers in two ways")
            return np.empty(0, dtype)
        if self.numbers is None or key not in self.numbers:
            raise _BadFileError("refers to numbers that are not in it")
        start, size = self.numbers[key]
        if n * dtype.itemsize > min(size, len(self.source.data) - start):
            raise _BadFileError("is truncated: it holds fewer numbers than announced")
        return self._filled(_Slab(start, n * dtype.itemsize), dtype, (n,), "C")

    def _tensor(self, numbers: Any, first: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        """A tensor as an array; every number it shows must lie within its storage."""
        ok = isinstance(numbers, np.ndarray) and isinstance(shape, tuple)
        ok = ok and isinstance(strides, tuple) and len(shape) == len(strides) <= 32
        if not ok or not all(type(k) is int and 0 <= k < 2**48 for k in (first, *shape, *strides)):
            raise _BadFileError("holds a tensor in an unusual way, which is not read")
        if 0 in shape:
            return np.empty(shape, numbers.dtype)
        last = first + sum((n - 1) * step for n, step in zip(shape, strides))
        if self.describe:
            return numbers
        if last >= len(numbers) or math.prod(shape) > len(numbers):
            raise _BadFileError("holds a tensor that shows more numbers than there are")
        steps = [step * numbers.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(numbers[first:], shape, steps, writeable=False)


_Unpickler.dispatch = {
    code: getattr(_Unpickler, handler.__name__)
    for code, handler in _InPython.dispatch.items()
    if code in _Unpickler.dispatch
}


def _refused(what: str) -> _BadFileError:
    return _BadFileError(
        f"asks for {what}, which could run code; only arrays, tensors and plain containers are read, "
        "and it was not loaded"
    )


def _check_keys(values: Any) -> Any:
    """Keys of a dict or members of a set; hashing nested tuples could take forever."""
    for value in values:
        if not isinstance(value, _KEYS):
            raise _BadFileError(f"uses a {type(value).__name__} as a key, which is not read")
    return values


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):  # a string of Python 2, read as latin1
        return value.encode("latin1")
    if not isinstance(value, bytes):
        raise _BadFileError(f"holds a {type(value).__name__} where bytes should be")
    return value


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _BadFileError("encodes a text in an unusual way, which is not read")
    return text.encode("latin1")
