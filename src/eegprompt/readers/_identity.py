"""Whose recording a file is, by its path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from eegprompt.core.errors import RecordingError, UnknownNameError

__all__ = ["ENTITY", "identify"]

ENTITY = {
    "subject": re.compile(
        r"(?:^|/)(?:sub-([A-Za-z0-9]+)|(?:subject|subj|sub)[-_ ]?(\d+))(?=[/_.]|$)", re.I
    ),
    "session": re.compile(
        r"(?:^|[/_])(?:ses-([A-Za-z0-9]+)|(?:session|sess|ses)[-_ ]?(\d+))(?=[/_.]|$)", re.I
    ),
    "run": re.compile(r"(?:^|[/_])run[-_ ]?([A-Za-z0-9]+)(?=[/_.]|$)", re.I),
}


def identify(
    files: Sequence[Path],
    *,
    pattern: str | None = None,
    subject: str | None = None,
    session: str | None = None,
) -> list[dict[str, str]]:
    """Subject, session and run of each recording, from its path.

    Parameters
    ----------
    files : sequence of pathlib.Path
    pattern : str, optional
        The end of each path with the names ``{subject}``, ``{session}``, ``{run}``, ``{category}``
        and ``{_}`` (anything) in it. Without one, names like ``subject1``, ``sub-01``, ``ses-2``
        and ``run-3`` are found by themselves.
    subject, session : str, optional
        For all recordings.

    Returns
    -------
    list of dict
        With `subject`, `session`, `run` (numbered within session where the path has none), and
        `category` where the pattern names it.

    Raises
    ------
    RecordingError
        If the pattern does not fit a path, or recordings lie in several folders and none names
        its subject.

    Examples
    --------
    >>> who = identify([Path("S001R03.edf")], pattern="S{subject}R{run}.edf")
    >>> who[0]["subject"], who[0]["run"]
    ('001', '03')
    """
    result: list[dict[str, str]] = []
    regex = _as_regex(pattern) if pattern else None
    for file in files:
        path = file.resolve().as_posix()
        entry: dict[str, str] = {}
        if regex is not None:
            match = regex.search(path)
            if match is None:
                raise RecordingError(
                    f"the pattern '{pattern}' does not fit {file}; it must describe the end of each "
                    "path, e.g. 'subject{subject}/session{session}/{_}.csv'"
                )
            entry |= match.groupdict()
        for what, found_by in ENTITY.items():
            if what not in entry and (found := found_by.findall(path)):
                # The last one: folders further up may belong to something else.
                last = found[-1]
                entry[what] = last if isinstance(last, str) else next(filter(None, last))
        if subject is not None:
            entry["subject"] = subject
        if session is not None:
            entry["session"] = session
        result.append(entry)
    nameless = [f for f, e in zip(files, result) if "subject" not in e]
    if nameless and (len({f.resolve().parent for f in files}) > 1 or len(nameless) < len(files)):
        raise RecordingError(
            f"it is not clear whose recording {nameless[0]} is; say 'subject' if all are of one "
            "person, or describe the paths with 'pattern', e.g. '{subject}/{_}.edf'"
        )
    taken: Counter[tuple[str, str]] = Counter()
    for entry in result:
        entry.setdefault("subject", "1")
        entry.setdefault("session", "1")
    explicit = {(e["subject"], e["session"], e["run"]) for e in result if "run" in e}
    if len(explicit) < sum("run" in e for e in result):
        for entry in result:  # one run in several files (or names that say little): number them
            entry.pop("run", None)
    for entry in result:
        key = (entry["subject"], entry["session"])
        taken[key] += 1
        entry.setdefault("run", str(taken[key]))
    return result


def _as_regex(pattern: str) -> re.Pattern[str]:
    allowed = ("subject", "session", "run", "category")
    text, seen = "", set()
    for part in re.split(r"(\{[^{}]*\})", pattern.replace("\\", "/")):
        if not (part.startswith("{") and part.endswith("}")):
            text += re.escape(part)
            continue
        name = part[1:-1]
        if name == "_":
            text += "[^/]*?"
        elif name not in allowed:
            raise UnknownNameError("name in 'pattern'", name, [*allowed, "_"])
        elif name in seen:
            text += f"(?P={name})"
        else:
            seen.add(name)
            text += f"(?P<{name}>[^/]+?)"
    return re.compile(f"(?:^|/){text}$")
