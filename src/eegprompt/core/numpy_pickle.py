"""Read NumPy arrays and plain containers out of a pickle without running anything it says.

Also out of the archives that ``torch.save`` makes, which are pickles beside the numbers of tensors.

A pickle is a program: opened with :mod:`pickle`, a crafted one runs whatever its author likes. So
this module does not use it. It interprets the opcodes itself, and the only names a file may call
are the few by which arrays, dtypes and scalars are written, each replaced by a function of ours
that builds the value from plain data. Any other name is refused in one sentence.

Large arrays are not copied: they are mapped from where their bytes lie in the file, so that a
recording of many gigabytes opens at once and is read as it is used.
"""

from __future__ import annotations

import codecs
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from eegprompt.core.errors import RecordingError

__all__ = ["checked_array", "load_pickled"]

Encoding = Literal["latin1", "bytes"]

MAP_FROM = 1 << 20  # bytes of an array from which on it is mapped instead of copied
MAX_TEXT = 1 << 30  # bytes of one string; a file written for Python 2 holds its arrays as one
MAX_OPCODES = 50_000_000
_SIMPLE_KINDS = "biufcSUO"  # what a recording holds; no structures, dates or raw memory
_STORAGES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "<i1", "Byte": "<u1", "Bool": "?",
}  # fmt: skip
_HASHABLE = (str, bytes, int, float, bool, complex, type(None), np.generic)


class _BadPickleError(Exception):
    """Something is wrong with the file; its text becomes part of one sentence."""


@dataclass(frozen=True)
class _Slab:
    """Bytes left in the file: where they begin and how many they are."""

    start: int
    size: int


@dataclass
class _Name:
    """A global name that is allowed; `make` builds its value."""

    text: str
    make: Callable[..., Any]


class _Unbuilt:
    """An array or dtype that was announced, but whose content has not come yet."""

    def __init__(self, build: Callable[[Any], Any]):
        self.build = build
        self.places: list[int] = []  # numbers under which it is remembered


_MARK = object()


def load_pickled(path: str | Path, *, encoding: Encoding = "latin1") -> Any:
    """Load a pickle, a ``.npy`` file of objects or an archive of torch that holds plain values.

    Which of these a file is is told from its first bytes, not from its name; a plain ``.npy`` file
    is mapped, and a tensor comes as an array.

    Parameters
    ----------
    path : path-like
        The file.
    encoding : {"latin1", "bytes"}
        How the strings of Python 2 are read.

    Returns
    -------
    object
        Arrays, scalars, strings, numbers, lists, tuples, dicts and sets. An array of zero
        dimensions that holds an object gives the object. Arrays of 1 MiB and more are mapped from
        the file and cannot be written to.

    Raises
    ------
    RecordingError
        If the file is missing, damaged, or asks for anything else than arrays and containers.

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
    size = path.stat().st_size
    if size == 0:
        raise RecordingError(f"{path} is empty; copy it again")
    with open(path, "rb") as stream:
        start = stream.read(8)
        stream.seek(0)
        try:
            if start[:2] == b"PK":
                value = _load_torch(path, stream, encoding)
            elif start[:6] == b"\x93NUMPY":
                value = _load_npy(path, stream, size, encoding)
            else:
                value = _Machine(path, stream, size, encoding).run()
        except _BadPickleError as problem:
            raise RecordingError(f"{path} {problem}") from None
        except Exception as problem:  # a damaged file can fail in any way; all mean the same
            raise RecordingError(
                f"{path} is no pickle of NumPy arrays, or a damaged one "
                f"({type(problem).__name__}: {str(problem)[:80]}); get it from its source again"
            ) from None
    return value


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
    if not isinstance(value, np.ndarray):
        raise RecordingError(
            f"{path}: '{key}' holds a {type(value).__name__}, but an array is needed; check that the "
            "file is of this dataset"
        )
    if value.dtype.kind not in kinds:
        raise RecordingError(
            f"{path}: '{key}' is an array of {value.dtype}, but "
            f"{'numbers are' if set(kinds) <= set('fiub') else 'other values are'} needed; check "
            "that the file is of this dataset"
        )
    if ndim is not None and value.ndim != ndim:
        raise RecordingError(
            f"{path}: '{key}' has shape {value.shape}, but {ndim} dimensions are needed; check that "
            "the file is of this dataset"
        )
    return value


def _load_npy(path: Path, stream: BinaryIO, size: int, encoding: Encoding) -> Any:
    """A .npy file: mapped where it holds plain values, unpickled by us where it holds objects."""
    version = np.lib.format.read_magic(stream)
    readers: Mapping[tuple[int, int], Callable[..., Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise _BadPickleError(f"is in version {version} of the .npy format, which is not read")
    shape, _, dtype = readers[version](stream)
    if not dtype.hasobject:
        needed = math.prod(shape) * dtype.itemsize
        if stream.tell() + needed > size:
            raise _BadPickleError(
                f"should hold {needed} bytes of {dtype} of shape {shape}, but ends "
                f"{stream.tell() + needed - size} bytes early: copy it again"
            )
        return np.load(path, mmap_mode="r" if needed else None, allow_pickle=False)
    value = _Machine(path, stream, size, encoding).run()
    if not isinstance(value, np.ndarray) or value.dtype != object or value.shape != shape:
        raise _BadPickleError("says in its header something else than it holds: get it again")
    return value[()] if shape == () else value


def _load_torch(path: Path, stream: BinaryIO, encoding: Encoding) -> Any:
    """An archive of ``torch.save``: a pickle, and beside it a member for each tensor's numbers."""
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise _BadPickleError("is a zip archive, but none that torch.save makes")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise _BadPickleError("holds big-endian numbers, which are not read: save it again")
        where = {name: _member_start(stream, info) for name, info in members.items()}
    start, size = where[pickles[0]]
    stream.seek(start)
    machine = _Machine(path, stream, start + size, encoding)
    machine.storages = {
        name.removeprefix(f"{root}data/"): _Slab(*place)
        for name, place in where.items()
        if name.startswith(f"{root}data/")
    }
    return machine.run()


def _member_start(stream: BinaryIO, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a member begin, and how many they are; they must not be compressed."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise _BadPickleError("is compressed, which torch.save does not do: save it again")
    stream.seek(info.header_offset)
    header = stream.read(30)
    if header[:4] != b"PK\x03\x04":
        raise _BadPickleError("is a damaged archive: get it from its source again")
    name, extra = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + name + extra, info.file_size


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):  # a string of Python 2, read as latin1
        return value.encode("latin1")
    raise _BadPickleError(f"holds a {type(value).__name__} where bytes should be")


class _Machine:
    """Interprets the opcodes of one pickle."""

    def __init__(self, path: Path, stream: BinaryIO, size: int, encoding: Encoding):
        self.path, self.stream, self.size = path, stream, size
        self.encoding = encoding
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Slab] | None = None  # of an archive of torch
        self.allowed = self._allowed_names()

    # -- the file ------------------------------------------------------------------------------
    def read(self, n: int) -> bytes:
        """The next `n` bytes; refused before they are asked for if the file is too short."""
        self._check_left(n)
        data = self.stream.read(n)
        if len(data) != n:
            raise _BadPickleError("ends early: copy it again")
        return data

    def _check_left(self, n: int) -> None:
        if n < 0 or self.stream.tell() + n > self.size:
            raise _BadPickleError(f"ends early ({n} bytes more were announced): copy it again")

    def line(self) -> bytes:
        """A line of text, without its end."""
        data = self.stream.readline(self.size)
        if not data.endswith(b"\n"):
            raise _BadPickleError("ends in the middle of a line: copy it again")
        return data[:-1]

    def bytes_of(self, n: int) -> bytes | _Slab:
        """`n` bytes; large ones stay where they are."""
        if n < MAP_FROM:
            return self.read(n)
        self._check_left(n)
        slab = _Slab(self.stream.tell(), n)
        self.stream.seek(n, 1)
        return slab

    def text_of(self, n: int) -> str:
        if n > MAX_TEXT:
            raise _BadPickleError(f"holds a text of {n} bytes, which no recording needs")
        return self.read(n).decode("utf-8", "surrogatepass")

    def old_string(self, data: bytes | _Slab) -> Any:
        """A string of Python 2: text, or the bytes of an array."""
        if isinstance(data, _Slab) or self.encoding == "bytes":
            return data
        return data.decode(self.encoding)

    # -- the stack -----------------------------------------------------------------------------
    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, *, unbuilt: bool = False) -> Any:
        """The top value; one whose content has not come is refused, unless it is to be filled."""
        if not self.stack or self.stack[-1] is _MARK:
            raise _BadPickleError("is damaged (a value is missing): get it from its source again")
        value = self.stack.pop()
        self._check_value(value, unbuilt)
        return value

    def _check_value(self, value: Any, unbuilt: bool = False) -> None:
        if isinstance(value, _Unbuilt) and not unbuilt:
            raise _BadPickleError("holds an array without content or inside itself; not read")

    def pop_mark(self) -> list[Any]:
        """All values above the last mark."""
        values: list[Any] = []
        while self.stack:
            value = self.stack.pop()
            if value is _MARK:
                return values[::-1]
            self._check_value(value)
            values.append(value)
        raise _BadPickleError("is damaged (a mark is missing): get it from its source again")

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _BadPickleError("is damaged (values are out of place): get it again")
        return self.stack[-1]

    def remember(self, index: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise _BadPickleError("is damaged (nothing to remember): get it from its source again")
        self.memo[index] = value = self.stack[-1]
        if isinstance(value, _Unbuilt):
            value.places.append(index)

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise _BadPickleError("is damaged (an unknown reference): get it from its source again")
        value = self.memo[index]
        self._check_value(value)
        self.push(value)

    # -- running -------------------------------------------------------------------------------
    def run(self) -> Any:
        """Interpret up to the end mark and return the one value."""
        for _ in range(MAX_OPCODES):
            code = self.stream.read(1)
            if not code:
                raise _BadPickleError("ends early, without an end mark: copy it again")
            if code == b".":
                value = self.pop()
                if self.stack or isinstance(value, (_Name, _Slab)):
                    raise _BadPickleError("is damaged (it ends in the middle): get it again")
                return value
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise _BadPickleError(
                    f"uses the pickle instruction {code!r}, which arrays and containers do not need: "
                    "it may be crafted to do harm, or be no pickle; get it from its source again"
                )
            operation(self)
        raise _BadPickleError(f"has more than {MAX_OPCODES} instructions, which no recording needs")

    # -- names ---------------------------------------------------------------------------------
    def name(self, module: Any, attribute: Any) -> _Name:
        """What an allowed name stands for."""
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise _BadPickleError("is damaged (a name that is no text): get it again")
        full = f"{module}.{attribute}"
        if full not in self.allowed:
            shown = ascii(full)[:80]
            raise _BadPickleError(
                f"asks for {shown}, which could run code; only NumPy arrays and plain containers are "
                "read, and nothing was run: get the file from its source again"
            )
        return _Name(full, self.allowed[full])

    def _allowed_names(self) -> dict[str, Callable[..., Any]]:
        """Names a file may use -> our function for each; nothing else can ever be called."""

        def no_call(*_: Any) -> Any:
            raise _BadPickleError("makes an array in an unusual way, which is not read")

        names: dict[str, Callable[..., Any]] = {
            "numpy.ndarray": no_call,
            "numpy.dtype": self._dtype,
            "_codecs.encode": self._encode,
            "collections.OrderedDict": lambda pairs=(): {_key(k): v for k, v in pairs},
        }
        for core in ("numpy.core", "numpy._core"):
            names[f"{core}.multiarray._reconstruct"] = self._array
            names[f"{core}.multiarray.scalar"] = self._scalar
            names[f"{core}.numeric._frombuffer"] = self._from_buffer
        names["torch._utils._rebuild_tensor_v2"] = self._tensor
        names |= {f"torch.{kind}Storage": no_call for kind in _STORAGES}
        for builtins in ("builtins", "__builtin__"):
            names[f"{builtins}.set"] = lambda values=(): {_key(v) for v in values}
            names[f"{builtins}.frozenset"] = lambda values=(): frozenset(_key(v) for v in values)
            names[f"{builtins}.complex"] = lambda a=0.0, b=0.0: complex(float(a), float(b))
            names[f"{builtins}.bytes"] = lambda: b""  # how protocols below 3 write no bytes
            names[f"{builtins}.bytearray"] = lambda v=b"", *_: _to_bytes(v)
        return names

    def call(self, what: Any, arguments: Any) -> None:
        if not isinstance(what, _Name) or not isinstance(arguments, tuple):
            raise _BadPickleError("calls something that is no name; only arrays are made: not read")
        self.push(what.make(*arguments))

    # -- what the names make -------------------------------------------------------------------
    @staticmethod
    def _encode(text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _BadPickleError("encodes a text in an unusual way, which is not read")
        return text.encode("latin1")

    @staticmethod
    def _dtype(spec: Any, align: Any = False, copy: Any = True) -> _Unbuilt:
        text = spec.decode("latin1") if isinstance(spec, bytes) else spec
        if not isinstance(text, str) or not text or len(text) > 12:
            raise _BadPickleError("holds an array of an unusual type; only plain values are read")
        if text[0] not in _SIMPLE_KINDS or not (text[1:].isdigit() and text.isascii()):
            raise _BadPickleError(
                f"holds an array of type {text!a}, which is not read; plain numbers, texts and "
                "objects are"
            )
        plain = np.dtype("O") if text[0] == "O" else np.dtype(text)

        def build(state: Any) -> np.dtype:
            # (version, byte order, subtype, names, fields, size, alignment, flags[, metadata])
            if not isinstance(state, tuple) or not 8 <= len(state) <= 9:
                raise _BadPickleError("is damaged (the state of a type): get it again")
            order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
            if order not in ("<", ">", "|", "="):
                raise _BadPickleError("is damaged (an unknown byte order): get it again")
            if any(part is not None for part in state[2:5]):
                raise _BadPickleError("holds a structured array, which is not read")
            return plain if order in "|=" else plain.newbyteorder("<" if order == "<" else ">")

        return _Unbuilt(build)

    def _array(self, kind: Any, shape: Any = (), code: Any = b"b") -> _Unbuilt:
        if not isinstance(kind, _Name) or kind.text != "numpy.ndarray":
            raise _BadPickleError("holds an array of an unusual class, which is not read")

        def build(state: Any) -> np.ndarray:
            if not isinstance(state, tuple) or len(state) not in (4, 5):
                raise _BadPickleError("is damaged (the state of an array): get it again")
            shape, dtype, fortran, content = state[-4:]
            return self._filled(content, dtype, shape, "F" if fortran else "C")

        return _Unbuilt(build)

    def _from_buffer(
        self, content: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None
    ) -> np.ndarray:
        if order not in ("C", "F", "K"):
            raise _BadPickleError("is damaged (an unknown order of an array): get it again")
        if order != "K":
            return self._filled(content, dtype, shape, order)
        # Written with its axes in the order in which they lie in memory (NumPy 2.3 and newer).
        ordered = isinstance(axes, (tuple, list)) and all(type(a) is int for a in axes)
        if not ordered or sorted(axes) != list(range(len(shape))):
            raise _BadPickleError("is damaged (an unknown order of axes): get it again")
        return self._filled(content, dtype, shape, "C").transpose(axes)

    def _filled(self, content: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
        """An array of given shape and type, from bytes, from bytes in the file, or from a list."""
        if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple):
            raise _BadPickleError("is damaged (an array without type or shape): get it again")
        if len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise _BadPickleError("holds an array of an impossible shape: get it again")
        n = math.prod(shape)
        if dtype.hasobject:
            if not isinstance(content, list) or len(content) != n:
                raise _BadPickleError(f"holds an array of shape {shape} with other content")
            flat = np.empty(n, dtype=object)
            for index, value in enumerate(content):
                flat[index] = value
            return flat.reshape(shape, order=order)
        needed = n * dtype.itemsize
        had = content.size if isinstance(content, _Slab) else len(_to_bytes(content))
        if had != needed:
            raise _BadPickleError(
                f"holds {had} bytes for an array of {dtype} of shape {shape}, which needs {needed}: "
                "get it again"
            )
        if isinstance(content, _Slab) and n == 0:
            return np.empty(shape, dtype)
        if isinstance(content, _Slab):
            return np.memmap(
                self.path,
                dtype=dtype,
                mode="r",
                offset=content.start,
                shape=shape,
                order=order,
            )
        array = np.frombuffer(_to_bytes(content), dtype=dtype) if n else np.empty(0, dtype)
        array = array.astype(dtype.newbyteorder("="))
        return array.reshape(shape, order=order)

    def storage(self, reference: Any) -> np.ndarray:
        """The numbers that a reference in an archive of torch stands for."""
        if self.storages is None or not isinstance(reference, tuple) or len(reference) != 5:
            raise _BadPickleError("refers to something outside itself, which is not read")
        word, kind, key, _, n = reference
        known = isinstance(kind, _Name) and kind.text.startswith("torch.")
        if word != "storage" or not known or key not in self.storages or type(n) is not int:
            raise _BadPickleError("refers to numbers that are not in it: get it again")
        dtype = np.dtype(_STORAGES[kind.text.removeprefix("torch.").removesuffix("Storage")])
        slab = self.storages[key]
        if (
            n < 0
            or n * dtype.itemsize > slab.size
            or slab.start + slab.size > self.path.stat().st_size
        ):
            raise _BadPickleError("ends early: fewer numbers than announced; copy it again")
        return self._filled(_Slab(slab.start, n * dtype.itemsize), dtype, (n,), "C")

    def _tensor(self, numbers: Any, first: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        """A tensor as an array; every number it shows must lie within its storage."""
        ok = isinstance(numbers, np.ndarray) and isinstance(shape, tuple)
        ok = ok and isinstance(strides, tuple) and len(shape) == len(strides) <= 32
        if not ok or not all(type(k) is int and k >= 0 for k in (first, *shape, *strides)):
            raise _BadPickleError("holds a tensor in an unusual way, which is not read")
        if 0 in shape:
            return np.empty(shape, numbers.dtype)
        last = first + sum((n - 1) * step for n, step in zip(shape, strides))
        if last >= len(numbers):
            raise _BadPickleError("holds a tensor that shows more numbers than there are")
        return np.lib.stride_tricks.as_strided(
            numbers[first:],
            shape,
            [step * numbers.itemsize for step in strides],
            writeable=False,
        )

    def _scalar(self, dtype: Any, content: Any = b"") -> Any:
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise _BadPickleError("holds a scalar of an unusual type, which is not read")
        return self._filled(content, dtype, (), "C")[()]


def _key(value: Any) -> Any:
    """A key of a dict or a member of a set; hashing nested tuples could take forever."""
    if not isinstance(value, _HASHABLE):
        raise _BadPickleError(
            f"uses a {type(value).__name__} as a key, which is not read; texts and numbers are"
        )
    return value


# -- the opcodes ---------------------------------------------------------------------------------
def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True) if data else 0


def _decimal(text: bytes) -> int:
    if len(text) > 4000:
        raise _BadPickleError("holds a number of thousands of digits, which no recording needs")
    return int(text)


def _int_line(m: _Machine) -> None:
    text = m.line()
    m.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else _decimal(text))


def _long_n(m: _Machine, n: int) -> None:
    if not 0 <= n <= 1 << 12:
        raise _BadPickleError(f"holds a number of {n} bytes, which no recording needs")
    m.push(_long(m.read(n)))


def _string_line(m: _Machine) -> None:
    text = m.line().strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise _BadPickleError("is damaged (a text without quotes): get it again")
    m.push(m.old_string(codecs.escape_decode(text[1:-1])[0]))  # type: ignore[attr-defined]


def _set_items(m: _Machine, values: list[Any]) -> None:
    target = m.top(dict)
    if len(values) % 2:
        raise _BadPickleError("is damaged (a key without a value): get it again")
    for key, value in zip(values[::2], values[1::2]):
        target[_key(key)] = value


def _build(m: _Machine) -> None:
    """Fill what was announced; it may be remembered under several numbers by then."""
    state = m.pop()
    unbuilt = m.pop(unbuilt=True)
    if not isinstance(unbuilt, _Unbuilt):
        raise _BadPickleError("changes an object from outside, which arrays do not need: not read")
    value = unbuilt.build(state)
    for index in unbuilt.places:
        if m.memo[index] is unbuilt:
            m.memo[index] = value
    m.push(value)


def _global_line(m: _Machine) -> None:
    module, attribute = m.line(), m.line()
    m.push(m.name(module.decode("utf-8"), attribute.decode("utf-8")))


def _stack_global(m: _Machine) -> None:
    attribute, module = m.pop(), m.pop()
    m.push(m.name(module, attribute))


def _reduce(m: _Machine) -> None:
    arguments, what = m.pop(), m.pop()
    m.call(what, arguments)


def _tuple_of(n: int) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        m.push(tuple([m.pop() for _ in range(n)][::-1]))

    return operation


def _append(m: _Machine) -> None:
    value = m.pop()
    m.top(list).append(value)


def _appends(m: _Machine) -> None:
    values = m.pop_mark()
    m.top(list).extend(values)


def _add_items(m: _Machine) -> None:
    values = m.pop_mark()
    m.top(set).update(_key(v) for v in values)


def _set_item(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    _set_items(m, [key, value])


def _make_dict(m: _Machine) -> None:
    values = m.pop_mark()
    m.push({})
    _set_items(m, values)


def _protocol(m: _Machine) -> None:
    version = m.read(1)[0]
    if version > 5:
        raise _BadPickleError(f"is in version {version} of the pickle format; up to 5 are read")


def _dup(m: _Machine) -> None:
    value = m.pop()
    m.stack += [value, value]


def _discard(m: _Machine) -> None:
    if m.stack and m.stack[-1] is _MARK:
        m.stack.pop()
    else:
        m.pop()


def _unsigned(m: _Machine, n: int) -> int:
    return int.from_bytes(m.read(n), "little")


_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _protocol,
    b"\x95": lambda m: m._check_left(_unsigned(m, 8)),  # a frame says only how much follows
    b"(": lambda m: m.push(_MARK),
    b"0": _discard,
    b"1": lambda m: m.pop_mark(),
    b"2": _dup,
    # numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _int_line,
    b"L": lambda m: m.push(_decimal(m.line().removesuffix(b"L"))),
    b"F": lambda m: m.push(float(m.line())),
    b"J": lambda m: m.push(_long(m.read(4))),
    b"K": lambda m: m.push(_unsigned(m, 1)),
    b"M": lambda m: m.push(_unsigned(m, 2)),
    b"\x8a": lambda m: _long_n(m, _unsigned(m, 1)),
    b"\x8b": lambda m: _long_n(m, _long(m.read(4))),
    b"G": lambda m: m.push(struct.unpack(">d", m.read(8))[0]),
    # texts and bytes
    b"S": _string_line,
    b"T": lambda m: m.push(m.old_string(m.bytes_of(_long(m.read(4))))),
    b"U": lambda m: m.push(m.old_string(m.read(_unsigned(m, 1)))),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: m.push(m.text_of(_unsigned(m, 4))),
    b"\x8c": lambda m: m.push(m.text_of(_unsigned(m, 1))),
    b"\x8d": lambda m: m.push(m.text_of(_unsigned(m, 8))),
    b"B": lambda m: m.push(m.bytes_of(_unsigned(m, 4))),
    b"C": lambda m: m.push(m.read(_unsigned(m, 1))),
    b"\x8e": lambda m: m.push(m.bytes_of(_unsigned(m, 8))),
    b"\x96": lambda m: m.push(m.bytes_of(_unsigned(m, 8))),
    # containers
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.pop_mark()),
    b"a": _append,
    b"e": _appends,
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"}": lambda m: m.push({}),
    b"d": _make_dict,
    b"s": _set_item,
    b"u": lambda m: _set_items(m, m.pop_mark()),
    b"\x8f": lambda m: m.push(set()),
    b"\x90": _add_items,
    b"\x91": lambda m: m.push(frozenset(_key(v) for v in m.pop_mark())),
    # references
    b"p": lambda m: m.remember(_decimal(m.line())),
    b"q": lambda m: m.remember(_unsigned(m, 1)),
    b"r": lambda m: m.remember(_unsigned(m, 4)),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"g": lambda m: m.recall(_decimal(m.line())),
    b"h": lambda m: m.recall(_unsigned(m, 1)),
    b"j": lambda m: m.recall(_unsigned(m, 4)),
    # names, and making values by them
    b"c": _global_line,
    b"i": _global_line,  # Python 2's way of making an object: its name is refused, or it is damaged
    b"\x93": _stack_global,
    b"R": _reduce,
    b"Q": lambda m: m.push(m.storage(m.pop())),
    b"b": _build,
    b"\x98": lambda m: None,  # "read-only from here": what is mapped is so anyway
}
