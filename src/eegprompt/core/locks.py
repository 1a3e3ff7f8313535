"""One process at a time writes into a folder: who does, and since when."""

from __future__ import annotations

import functools
import inspect
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from eegprompt.core.errors import RunError

__all__ = ["only_writer", "writes"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_HELD: Counter[str] = Counter()  # by this process, and how often: a verb calls another


@contextmanager
def only_writer(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes from writing into a folder meanwhile.

    The operating system takes the lock of a process that ended, however it did. Where it has none to
    give (not a POSIX system, or a folder that may not be written), nothing is kept from anybody.

    Parameters
    ----------
    folder : path-like
        It need not exist yet. The lock is a hidden file beside it, since the folder may be replaced.

    Raises
    ------
    RunError
        If another process writes there; the message says which one, and since when.
    """
    path = Path(folder).resolve()
    key = str(path)
    made = [parent for parent in path.parents if not parent.exists()]
    stream = None
    if not _HELD[key]:
        stream = _taken(path.with_name(f".{path.name}.partial-lock"), path)
    _HELD[key] += 1
    try:
        yield
    finally:
        _HELD[key] -= 1
        if stream is not None:
            with suppress(OSError):
                Path(stream.name).unlink()
            stream.close()
            with suppress(OSError):  # where nothing was written in the end
                for parent in made:
                    parent.rmdir()


def writes(argument: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Make a function the only writer of the folder that one of its arguments is or has as `path`.

    Parameters
    ----------
    argument : str
        Its name.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            given: Any = signature.bind(*args, **kwargs).arguments[argument]
            with only_writer(given if isinstance(given, (str, os.PathLike)) else given.path):
                return function(*args, **kwargs)

        return locked

    return decorate


def _taken(lock: Path, folder: Path) -> Any:
    """The open lock file; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stream = open(lock, "a+", encoding="utf-8")  # noqa: SIM115 (closed by who unlocks)
        except OSError:  # what is written next says so, if it matters
            return None
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            said = stream.read()
            stream.close()
            raise RunError(
                f"{folder} is being written{_by_whom(said)}; wait until it has ended, or end it"
            ) from None
        except OSError:  # a file system without locks
            stream.close()
            with suppress(OSError):
                lock.unlink()
            return None
        # The file may have been removed, and made again by another, since it was opened.
        with suppress(OSError):
            if os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
                break
        stream.close()
    stream.truncate(0)
    who = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
        "process": os.getpid(),
        "machine": platform.node(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    stream.write(json.dumps(who))
    stream.flush()
    return stream


def _by_whom(said: str) -> str:
    """Who holds a lock, as its file says; nothing where it was taken this very moment."""
    try:
        who = json.loads(said)
        return (
            f" since {who['since']} by process {who['process']} on {who['machine']} "
            f"('{who['command']}')"
        )
    except (ValueError, KeyError, TypeError):
        return " by another process"
