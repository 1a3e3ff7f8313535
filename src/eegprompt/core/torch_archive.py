"""Read PyTorch files of tensors and containers without running what else may be in them.

A ``.pth`` file is a pickle, and a pickle is a program. Files in PyTorch's present serialization (a
zip archive) are loaded by PyTorch itself with ``weights_only=True`` and memory-mapped. Files in its
legacy one, which cannot be mapped that way, are read here: an unpickler that knows tensors and
containers and nothing else builds the description, and each tensor is read from its place in the
file when it is asked for. In neither case does a file's size decide how much memory is taken.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import EegpromptError, RecordingError

if TYPE_CHECKING:
    import torch

__all__ = ["StoredTensor", "open_torch"]

# Magic number and protocol of torch.save before version 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_MAX_DEPTH = 32
_REMEDY = "get the file from its source again"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies in a file and is read when asked for.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    load : callable
        Gives the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray] = field(repr=False, compare=False)

    def numpy(self) -> np.ndarray:
        """The values, as an array that should not be written to."""
        return self.load()


def open_torch(path: str | Path) -> Any:
    """Open a file that ``torch.save`` wrote: tensors, containers, numbers and text.

    Parameters
    ----------
    path : path-like
        In PyTorch's present or legacy serialization.

    Returns
    -------
    object
        Dictionaries, lists, tuples, numbers, text and None as they were stored, and a
        :class:`StoredTensor` for each tensor. Values are read when a tensor is asked for them, so
        the file must stay in its place until then.

    Raises
    ------
    RecordingError
        If the file is missing, truncated, no PyTorch file, or holds anything else. Nothing that
        the file may ask to be called is called.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise RecordingError(f"{path} is a folder, not a PyTorch file; name the file in it")
    try:
        if zipfile.is_zipfile(path):
            content = _open_zip(path)
        elif _begins_as_zip(path):  # its table of contents, at the end, is missing
            raise RecordingError(f"{path} breaks off in the middle; it is truncated: {_REMEDY}")
        else:
            content = _open_legacy(path)
        return _plain(content, path, 0, {})
    except EegpromptError:
        raise
    except (OSError, MemoryError) as problem:
        raise RecordingError(
            f"{path} cannot be read ({type(problem).__name__}: {problem}); check the disk, or "
            f"{_REMEDY}"
        ) from None
    except Exception as problem:
        # A damaged pickle can fail in any way; all of them mean the same to the reader.
        raise RecordingError(
            f"{path} cannot be read as a PyTorch file ({type(problem).__name__}: "
            f"{_first_line(problem)}); it may be truncated or damaged: {_REMEDY}"
        ) from None


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise RecordingError(f"{path} is empty: {_REMEDY}")
    return start == b"PK\x03\x04"


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:160] if lines else "no details"


def _refused(path: Path, what: str) -> RecordingError:
    return RecordingError(
        f"{path} asks for {what} when it is loaded, which a file of tensors has no need of; it may "
        f"have been made to run code and was not loaded: {_REMEDY}"
    )


# -- present serialization -------------------------------------------------------------------------
def _open_zip(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():  # what PyTorch finds odd, it also refuses
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as problem:
        named = re.search(
            r"(?:GLOBAL|global:?|class|function) ([A-Za-z_][\w.]*\.\w+)", str(problem)
        )
        if named or "nsupported" in str(problem):
            raise _refused(path, named.group(1) if named else "more than tensors") from None
        raise


def _of_torch(tensor: torch.Tensor, path: Path) -> StoredTensor:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise RecordingError(
            f"{path} holds a {tensor.layout} tensor on '{tensor.device}'; only plain dense tensors "
            "can be read: save it again as one"
        )
    tensor = tensor.detach()
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise RecordingError(
            f"{path} holds a tensor of shape {tuple(tensor.shape)} over fewer values than that; "
            f"{_REMEDY}"
        )
    try:
        dtype = tensor[..., :0].numpy().dtype if tensor.ndim else tensor.numpy().dtype
    except (TypeError, RuntimeError):
        raise RecordingError(
            f"{path} holds a tensor of {tensor.dtype}, which NumPy lacks; save it as float32"
        ) from None
    return StoredTensor(tuple(tensor.shape), dtype, tensor.numpy)


# -- legacy serialization --------------------------------------------------------------------------
@dataclass
class _Storage:
    """A stretch of values in the file; where it begins is known once the pickles are read."""

    dtype: np.dtype
    n_values: int
    offset: int | None = None


class _Bounded:
    """A mapped file that refuses to be asked for more than it has left, before memory is set aside."""

    def __init__(self, data: mmap.mmap):
        self.data, self.at = data, 0

    def read(self, n: int) -> bytes:
        left = len(self.data) - self.at
        if not 0 <= n <= left:
            raise EOFError(f"{n} bytes are wanted and {left} are left")
        self.at += n
        return self.data[self.at - n : self.at]

    def readline(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + (1 << 16)) + 1
        if not end:
            raise EOFError("a line has no end")
        return self.read(end - self.at)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
    return _Tensor(storage, offset, shape, stride)


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the pickle describes it, not yet checked."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", name): np.dtype(dtype) for name, dtype in _DTYPES.items()},
}

# What a pickle of tensors and containers is made of. Absent on purpose: BUILD, INST, OBJ, NEWOBJ and
# the extension registry, which make objects or change them, and sets.
_OPCODES = """
    PROTO FRAME MARK STOP POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE BINUNICODE8
    SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM
    SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT
    MEMOIZE GLOBAL STACK_GLOBAL REDUCE BINPERSID
"""


# Typed loosely: the class is part of Python's standard library, but not of its documentation.
_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _Unpickler(_InPython):
    """Tensors and containers, nothing else.

    The interpreter written in Python, not the one in C: that one sets aside memory for as many
    objects as a damaged number says.
    """

    def __init__(self, stream: _Bounded, path: Path, storages: dict[str, _Storage]):
        super().__init__(stream, encoding="utf-8")
        self.path, self.storages = path, storages

    dispatch = {getattr(pickle, name)[0]: None for name in _OPCODES.split()}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _refused(self.path, f"{module}.{name}")
        return _ALLOWED[module, name]

    def load_reduce(self) -> None:
        function, arguments = self.stack[-2], self.stack[-1]
        if function is OrderedDict and arguments:
            raise _refused(self.path, "a filled OrderedDict")
        super().load_reduce()

    def load_setitem(self) -> None:
        _check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_setitems()

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_dict()

    def persistent_load(self, given: Any) -> Any:
        word, dtype, key, _, n_values, *rest = given
        if word not in ("storage", b"storage") or not isinstance(dtype, np.dtype):
            raise ValueError("an unknown kind of storage")
        if not isinstance(n_values, int) or n_values < 0:
            raise ValueError("a storage of no length")
        known = self.storages.setdefault(str(key), _Storage(dtype, n_values))
        if (known.dtype, known.n_values) != (dtype, n_values):
            raise ValueError(f"storage {key} is described in two ways")
        if rest and rest[0] is not None:
            raise ValueError("a storage that is a part of another")
        return known


_Unpickler.dispatch = {
    code: getattr(_Unpickler, handler.__name__)
    for code, handler in _InPython.dispatch.items()
    if code in _Unpickler.dispatch
}


def _check_key(key: Any) -> None:
    # Hashing a deeply nested tuple exhausts the stack.
    if not isinstance(key, (str, int, float, bytes)):
        raise ValueError(f"a dictionary key of type {type(key).__name__}")


def _open_legacy(path: Path) -> Any:
    size = path.stat().st_size
    with (
        open(path, "rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        storages: dict[str, _Storage] = {}
        bounded = _Bounded(data)

        def load() -> Any:
            try:
                return _Unpickler(bounded, path, storages).load()
            except KeyError as problem:
                code = problem.args[0] if problem.args else None
                if isinstance(code, int):
                    raise _refused(path, f"the pickle operation {bytes([code])!r}") from None
                raise

        try:
            magic = load()
        except RecordingError:
            raise
        except Exception:
            magic = None
        if magic != _MAGIC:
            raise RecordingError(
                f"{path} is no PyTorch file: it begins neither like a zip archive nor like the "
                f"legacy format of torch.save; name another file, or {_REMEDY}"
            )
        if (protocol := load()) != _PROTOCOL:
            raise RecordingError(
                f"{path} is in version {protocol!r} of PyTorch's legacy format, and {_PROTOCOL} can "
                "be read; save it again with a newer PyTorch"
            )
        machine = load()
        if isinstance(machine, dict) and machine.get("little_endian") is False:
            raise RecordingError(
                f"{path} was saved on a big-endian machine; save it again on a common one"
            )
        content, keys = load(), load()
        if not isinstance(keys, list) or {str(k) for k in keys} != set(storages):
            raise ValueError("the list of storages does not fit the tensors")
        for key in keys:
            storage = storages[str(key)]
            if bounded.at + 8 > size:
                raise _truncated(path, size)
            (n_values,) = struct.unpack("<q", bounded.read(8))
            if n_values != storage.n_values:
                raise ValueError(f"storage {key} holds {n_values} values, not {storage.n_values}")
            storage.offset = bounded.at
            bounded.at += n_values * storage.dtype.itemsize
            if bounded.at > size:
                raise _truncated(path, size)
    return content


def _truncated(path: Path, size: int) -> RecordingError:
    return RecordingError(
        f"{path} ends after {size} bytes, in the middle of its tensors; it is truncated: {_REMEDY}"
    )


def _of_legacy(tensor: _Tensor, path: Path) -> StoredTensor:
    storage, start = tensor.storage, tensor.offset
    shape, stride = tuple(tensor.shape), tuple(tensor.stride)
    numbers = (start, *shape, *stride)
    if (
        not isinstance(storage, _Storage)
        or storage.offset is None
        or len(shape) != len(stride)
        or not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in numbers)
    ):
        raise ValueError("a tensor that is not described as one")
    n_values = math.prod(shape)
    last = start + sum((n - 1) * s for n, s in zip(shape, stride)) if n_values else start
    if n_values > storage.n_values or last >= max(storage.n_values, 1):
        raise ValueError(f"a tensor of shape {shape} that goes beyond its storage")
    offset = storage.offset + start * storage.dtype.itemsize
    span = last - start + 1 if n_values else 0

    def load() -> np.ndarray:
        values = np.fromfile(path, storage.dtype, count=span, offset=offset)
        if len(values) < span:
            raise RecordingError(f"{path} became shorter while it was read; {_REMEDY}")
        steps = tuple(s * storage.dtype.itemsize for s in stride)
        return np.lib.stride_tricks.as_strided(values, shape, steps, writeable=False)

    return StoredTensor(shape, storage.dtype, load)


# -- both ------------------------------------------------------------------------------------------
def _plain(value: Any, path: Path, depth: int, done: dict[int, Any]) -> Any:
    """The content with every tensor wrapped; refuses whatever is neither container nor value."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, _Tensor):
        return _of_legacy(value, path)
    if id(value) in done:  # one object in several places, as pickles allow
        if done[id(value)] is None:
            raise ValueError("a container that holds itself")
        return done[id(value)][1]
    if depth > _MAX_DEPTH:
        raise ValueError(f"containers nested more than {_MAX_DEPTH} deep")
    done[id(value)] = None
    result: Any
    if isinstance(value, dict):
        result = {
            _plain(k, path, depth + 1, done): _plain(v, path, depth + 1, done)
            for k, v in value.items()
        }
    elif isinstance(value, list):
        result = [_plain(v, path, depth + 1, done) for v in value]
    elif isinstance(value, tuple):
        result = tuple(_plain(v, path, depth + 1, done) for v in value)
    elif type(value).__module__.split(".")[0] == "torch" and hasattr(value, "untyped_storage"):
        result = _of_torch(value, path)
    else:
        raise RecordingError(
            f"{path} holds a {type(value).__module__}.{type(value).__name__}, and only tensors, "
            f"containers, numbers and text are read; {_REMEDY}"
        )
    done[id(value)] = (value, result)  # keeps the object alive, so that its id stays its own
    return result
