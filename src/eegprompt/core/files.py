"""Files that are whole or not there: atomic writes, content keys, provenance."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import EegpromptError, InputError, StorageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Ours",
    "atomic_directory",
    "atomic_path",
    "content_key",
    "is_replaced",
    "move_aside",
    "package_versions",
    "parse_json",
    "provenance",
    "read_arrays",
    "read_json",
    "read_table",
    "sampled_sha256",
    "settle",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_page",
    "write_table",
    "write_text",
]

_REPORTED_PACKAGES = (
    *("eegprompt", "numpy", "torch", "lightning", "transformers", "diffusers"),
    *("mne", "scikit-learn", "pandas"),
)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence with a remedy."""
    try:
        yield
    except EegpromptError:
        raise
    except Exception as error:
        if _says_full(error):
            raise StorageError(
                f"no space left on the disk while writing {path}; free some space and run the same "
                "command again: what was finished is kept"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StorageError(
                f"{path} may not be written ({error.strerror}); choose a folder you may write to"
            ) from error
        raise


def _says_full(error: Exception) -> bool:
    """Whether a write failed for want of space; torch and safetensors raise errors of their own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOSPC
    text = str(error)
    return "No space left" in text or ("enforce fail" in text and "inline_container" in text)


def _allowed(mode: int) -> int:
    """The user's mode of a new file; temporary ones are private."""
    umask = os.umask(0)
    os.umask(umask)
    return mode & ~umask


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block succeeds.

    Parameters
    ----------
    path : path-like
        The file to write. Its folder is made if need be.

    Yields
    ------
    pathlib.Path
        Where to write. It keeps the suffix of `path`; it is removed if the block raises.

    Raises
    ------
    StorageError
        If the disk is full or the folder may not be written.
    """
    path = Path(path)
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:40]}-", suffix=f".partial{path.suffix}", dir=path.parent
        )
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(_allowed(0o666))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class Ours:
    """How a folder that eegprompt wrote is told from anybody else's.

    Parameters
    ----------
    what : str
        What such a folder is, for messages, e.g. ``"a study"``.
    marker : tuple of str
        Files, one of which every such folder holds; ``"a&b"`` asks for both.
    entries : tuple of str
        Patterns of all names that eegprompt writes into it, the markers among them.
    inside : mapping of str to tuple of str
        For folders among the entries: patterns of all files that eegprompt writes below them. Images
        say in themselves that it did.
    listed : tuple of str
        A folder among the entries, and the table whose column ``path`` names all files below it.
    """

    what: str
    marker: tuple[str, ...]
    entries: tuple[str, ...]
    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    listed: tuple[str, ...] = ()

    def foreign(self, folder: str | Path) -> list[str]:
        """Names in a folder that eegprompt did not write, sorted; temporary files are ours."""
        folder = Path(folder)
        found = [e.name for e in folder.iterdir() if not _matches(e.name, self.entries)]
        for name, patterns in self.inside.items():
            below = _files_below(folder, name)
            found += [f for f in below if not _matches(Path(f).name, patterns)]
            found += [f for f in below if f not in found and not _is_marked(folder / f)]
        if self.listed:
            name, table = self.listed
            below = _files_below(folder, name)
            with suppress(InputError):  # a table that cannot be read names nothing
                named = set(read_table(folder / table)["path"]) if below else set()
                below = [f for f in below if f not in named]
            found += [f for f in below if not _matches(Path(f).name, ())]
        return sorted(found)

    def check(self, folder: str | Path) -> None:
        """Refuse a folder that may not be replaced or deleted.

        Raises
        ------
        InputError
            If it is a file, lacks the marker, or holds anything else; the message names what.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder} is a file, not {self.what}; choose another place")
        foreign = self.foreign(folder)
        some = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
        if not any(
            all((folder / name).is_file() for name in names.split("&")) for names in self.marker
        ):
            inside = f" (it holds {some})" if foreign else ""
            raise InputError(
                f"{folder} is not {self.what} that eegprompt wrote{inside}, so it is not replaced; "
                "choose another place"
            )
        if foreign:
            raise InputError(
                f"{folder} holds what eegprompt did not write: {some}; move that elsewhere, or choose "
                "another place"
            )


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in (*patterns, ".*.partial*"))


def _is_marked(file: Path) -> bool:
    """Whether an image says that eegprompt made it; of other files nothing is asked."""
    if file.suffix not in (".png", ".svg") or file.name.startswith("."):
        return True
    with open(file, "rb") as stream:
        return b"eegprompt" in stream.read(1 << 16)


def _files_below(folder: Path, name: str) -> list[str]:
    """Files below a subfolder, relative to `folder`; none where it is a link, which goes alone."""
    if (folder / name).is_symlink():
        return []
    return [p.relative_to(folder).as_posix() for p in (folder / name).rglob("*") if not p.is_dir()]


def _aside(path: Path) -> Path:
    """Where the folder that is being replaced waits until the new one stands."""
    return path.with_name(f".{path.name}.replaced")


def is_replaced(path: Path) -> bool:
    """Whether a folder that `path` takes the place of still waits."""
    return _aside(path).is_dir()


def move_aside(path: Path) -> Path:
    """Move a folder aside before it is replaced; :func:`settle` ends the replacement."""
    settle(path)
    os.replace(path, _aside(path))
    return _aside(path)


def settle(path: Path) -> None:
    """End a replacement that was cut off: bring the old folder back, or remove it if the new stands."""
    old = _aside(path)
    if old.is_dir() and path.exists():
        shutil.rmtree(old)
    elif old.is_dir():
        os.replace(old, path)


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_abandoned(path: Path) -> None:
    """Remove temporary folders for `path` of processes on this machine that were killed."""
    if os.name != "posix":
        return  # elsewhere signal 0 is no mere question
    for partial in path.parent.glob(f".{glob.escape(path.name)}-{_host()}-*-*.partial"):
        number = partial.name.removeprefix(f".{path.name}-{_host()}-").partition("-")[0]
        if not number.isdigit() or not partial.is_dir():
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            shutil.rmtree(partial, ignore_errors=True)
        except OSError:
            continue  # somebody else's process, or none that can be asked about


@contextmanager
def atomic_directory(
    path: str | Path, *, overwrite: bool = False, ours: Ours | None = None
) -> Iterator[Path]:
    """Give a temporary folder beside `path` that takes its name when the block succeeds.

    A folder that is replaced is moved aside first and removed only after the new one stands: killed
    at any moment, the old or the new one is there.

    Parameters
    ----------
    path : path-like
        The folder to make.
    overwrite : bool
        Replace a folder that is already there; else it is an error.
    ours : Ours, optional
        What may be replaced. Without it nothing but an empty folder is.

    Yields
    ------
    pathlib.Path
        Where to write. It is removed if the block raises.

    Raises
    ------
    InputError
        If `path` exists and may not be replaced.
    StorageError
        If the disk is full or the folder may not be written.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    with _disk_errors(path):
        settle(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not overwrite:
            raise InputError(f"{path} exists already; choose another place or pass --overwrite")
        if ours is None:
            raise InputError(f"{path} exists already and is not replaced; choose another place")
        ours.check(path)
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        owner = f".{path.name}-{_host()}-{os.getpid()}-"
        partial = Path(tempfile.mkdtemp(prefix=owner, suffix=".partial", dir=path.parent))
        try:
            yield partial
            partial.chmod(_allowed(0o777))
            if path.exists():
                if not path.is_dir() or any(path.iterdir()):  # somebody may have put it there
                    if ours is None or not overwrite:
                        raise InputError(f"{path} was made by somebody else meanwhile; it is kept")
                    ours.check(path)
                move_aside(path)
            try:
                os.replace(partial, path)
            finally:
                settle(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write bytes atomically; see :func:`atomic_path`."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; see :func:`atomic_path`."""
    return write_bytes(path, text.encode("utf-8"))


_GENERATOR = '<meta name="generator" content="eegprompt">'


def write_page(path: str | Path, html: str, of: str | Path) -> Path:
    """Write an HTML page on a run or study atomically; only an older page on it is replaced.

    Raises
    ------
    InputError
        If there is a file that eegprompt did not write, or a page on another run or study.
    """
    path, of = Path(path), Path(of).resolve()
    source = f'<meta name="source" content="{content_key(str(of))}">'
    head = ""
    if path.is_file():
        with open(path, "rb") as stream:
            head = stream.read(1 << 14).decode("utf-8", "replace")
    # What lies in the folder itself is on it, wherever it was moved.
    same = source in head or of in path.resolve().parents
    if path.exists() and not (_GENERATOR in head and same):
        raise InputError(f"{path} exists and is no page on {of}; choose another file for it")
    return write_text(path, html.replace(_GENERATOR, f"{_GENERATOR}\n{source}", 1))


def _plain(value: Any) -> Any:
    """Make NumPy scalars, arrays, paths and non-finite floats fit for JSON."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None  # JSON has no NaN; a missing number is null
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    return value


def write_json(path: str | Path, value: Any) -> Path:
    """Write a value as indented JSON, atomically. NaN and infinity become null."""
    return write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def read_json(
    path: str | Path, *, error: type[InputError] = InputError, schema: str | None = None
) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : path-like
        The file.
    error : type
        Raised where it cannot be used.
    schema : str, optional
        What the file must hold: a name in :data:`eegprompt.core.schemas.FILES`. Give it for every
        file of eegprompt's own.

    Returns
    -------
    object
        As :func:`json.loads` makes it.

    Raises
    ------
    InputError
        Of the type `error`, with the file's name: if it is missing, broken, or holds something else
        than `schema` says.
    """
    path = Path(path)
    again = "delete it and run the step that writes it again"
    try:
        content = parse_json(path.read_text("utf-8"))
    except FileNotFoundError:
        raise error(f"{path} is missing; it is written by the step before this one") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder, not a file; {again}") from None
    except (ValueError, RecursionError) as problem:
        why = "it nests too deep" if isinstance(problem, RecursionError) else str(problem)
        raise error(f"{path} is not valid JSON ({why}); {again}") from None
    if schema is not None:
        from eegprompt.core.schemas import check_content

        check_content(content, schema, path, error)
    return content


def parse_json(text: str | bytes) -> Any:
    """Read JSON text that somebody else may have written.

    Raises
    ------
    ValueError
        If it is no JSON, or holds half of a surrogate pair, which no file and no screen takes.
    RecursionError
        If it nests too deep.

    Examples
    --------
    >>> parse_json('{"a": [1, null]}')
    {'a': [1, None]}
    """
    content = json.loads(text)
    escape = b"\\ud" if isinstance(text, bytes) else "\\ud"
    if escape in text.lower():  # type: ignore[operator]
        json.dumps(content, ensure_ascii=False).encode("utf-8")  # UnicodeEncodeError: a ValueError
    return content


def write_table(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table as Parquet, atomically."""
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False)
    return Path(path)


def read_table(
    path: str | Path, *, error: type[InputError] = InputError, columns: str | None = None
) -> pd.DataFrame:
    """Read a Parquet table.

    Parameters
    ----------
    path : path-like
        The file.
    error : type
        Raised where it cannot be used.
    columns : str, optional
        What the table must hold: a name in :data:`eegprompt.core.columns.TABLES`. Give it for every
        table of eegprompt's own.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    InputError
        Of the type `error`, with the file's name: if it is missing, broken, lacks a column, or a
        column holds something else.
    """
    import pandas as pd

    from eegprompt.core.columns import check_table, check_text

    path = Path(path)
    if not path.exists():
        raise error(f"{path} is missing; it is written by the step before this one")
    try:
        table = pd.read_parquet(path)
    except Exception as problem:  # pyarrow's errors have no common base worth naming
        raise error(
            f"{path} cannot be read as Parquet ({type(problem).__name__}); it may be half-written: "
            "delete it and run the step that writes it again"
        ) from None
    check_text(table, path, error)
    if columns is not None:
        table = check_table(table, columns, path, error)
    return table


def read_arrays(path: str | Path, *, error: type[InputError] = InputError) -> dict[str, np.ndarray]:
    """Read a safetensors file of arrays.

    Raises
    ------
    InputError
        Of the type `error`, with the file's name: if it is missing or broken, or holds a type of
        number that NumPy does not know.
    """
    from safetensors.numpy import load_file

    path = Path(path)
    again = "delete it and run the step that writes it again"
    if not path.is_file():
        raise error(f"{path} is missing; it is written by the step before this one")
    try:
        return dict(load_file(path))
    except Exception as problem:  # SafetensorError, and what its code for NumPy lets through
        why = (str(problem).splitlines() or [""])[0][:200]
        raise error(f"{path} cannot be read ({type(problem).__name__}: {why}); {again}") from None


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sampled_sha256(path: str | Path) -> str:
    """SHA-256 of a large file's size and of 64 stretches of 64 KiB, first and last among them.

    It takes no time and tells a file from others and from a truncated one, but not from one that
    was changed in between; so it is marked as what it is.

    Examples
    --------
    >>> sampled_sha256(__file__).split(":")[0]
    'sampled-sha256'
    """
    size = Path(path).stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as stream:
        for k in range(64):
            stream.seek(max(0, size - (1 << 16)) * k // 63)
            digest.update(stream.read(1 << 16))
    return f"sampled-sha256:{digest.hexdigest()}"


def content_key(*parts: Any, length: int = 16) -> str:
    """Short key of the content of `parts`: equal content, equal key, on any machine.

    Arrays count by dtype, shape and bytes; everything else by its JSON form.

    Examples
    --------
    >>> content_key("a", 1) == content_key("a", 1) != content_key("a", 2)
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(json.dumps(_plain(part), sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:length]


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a result, as installed."""
    versions = {"python": platform.python_version()}
    for name in _REPORTED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def provenance(**facts: Any) -> dict[str, Any]:
    """Where an artifact came from: the given facts, the versions, the command and the time.

    Examples
    --------
    >>> sorted(provenance(seed=1))
    ['command', 'created', 'packages', 'platform', 'seed']
    """
    return {
        **{k: _plain(v) for k, v in facts.items()},
        "packages": package_versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
