"""SHA-256 of large files, computed once for each state of a file."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from eegprompt.core.errors import EegpromptError
from eegprompt.core.files import read_json, sha256_file, write_json

__all__ = ["remembered_sha256"]

_SETTLED = 2.0  # seconds after which a further change changes a file's time too


def remembered_sha256(path: Path, note: Path) -> str:
    """SHA-256 of all bytes of a file, by a note where the file is as it was when that was written.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    note : pathlib.Path
        Where to remember its digest, with its size and the times of its last changes. Where that
        cannot be written, the digest is computed again each time.
    """
    now = path.stat()
    state = {"size": now.st_size, "modified": now.st_mtime_ns, "changed": now.st_ctime_ns}
    with suppress(EegpromptError, AttributeError, KeyError, TypeError):
        known = read_json(note)
        if {k: known.get(k) for k in state} == state and len(known["sha256"]) == 64:
            return str(known["sha256"])
    digest = sha256_file(path)
    # A file that was changed a moment ago may be changed again within the clock's resolution.
    if time.time() - max(now.st_mtime, now.st_ctime) > _SETTLED:
        with suppress(EegpromptError, OSError):
            write_json(note, {**state, "sha256": digest})
    return digest
