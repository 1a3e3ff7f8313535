"""One loader of YAML for files that somebody else may have written.

PyYAML's safe loader makes plain values only, but it recurses as deep as the text nests, and a few
hundred bytes of aliases that name aliases stand for billions of values. So size, depth, the number
of values that aliases stand for, and names that are given twice are checked on the stream of
events before anything is made of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from eegprompt.core.errors import InputError

__all__ = ["parse_yaml", "read_yaml", "read_yaml_settings"]

MAX_BYTES = 4 << 20
MAX_DEPTH = 50
MAX_VALUES = 200_000  # with what aliases stand for


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader; a name that is given twice in one mapping is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    name = (key.tag, key.value)
                    if name in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"'{key.value[:80]}' is given twice", key.start_mark
                        )
                    seen.add(name)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, what: str, *, error: type[InputError] = InputError) -> Any:
    """Read YAML text as plain values.

    Parameters
    ----------
    text : str
        One document.
    what : str
        Where it comes from, for messages.
    error : type
        Raised where it cannot be read.

    Returns
    -------
    object
        None where the text is empty.

    Raises
    ------
    InputError
        Of the type `error`: if the text is no YAML, is larger, deeper or stands for more values
        than any settings do, or gives a name twice.

    Examples
    --------
    >>> parse_yaml("seed: 3", "settings")
    {'seed': 3}
    """
    if len(text) > MAX_BYTES:
        raise error(
            f"{what} holds {len(text):,} characters of YAML; at most {MAX_BYTES:,} are read"
        )
    try:
        _check_size(text, what, error)
        content = yaml.load(text, Loader=_Loader)  # a SafeLoader
        if "\\u" in text.lower():  # half of a surrogate pair, which no file and no screen takes
            json.dumps(content, default=str, ensure_ascii=False).encode("utf-8")
        return content
    except yaml.YAMLError as problem:
        raise error(f"{what} is not valid YAML: {_first_line(problem)}") from None
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as problem:
        # What PyYAML does not catch itself: a date of month 13, an integer of 10,000 digits, …
        raise error(f"{what} holds a value that YAML cannot read: {_first_line(problem)}") from None


def read_yaml(path: str | Path, *, error: type[InputError] = InputError) -> Any:
    """Read a YAML file; see :func:`parse_yaml`.

    Raises
    ------
    InputError
        Of the type `error`: if the file is missing, is no file, or holds no YAML that is read.
    """
    path = Path(path)
    try:
        if path.stat().st_size > 4 * MAX_BYTES:
            raise error(f"{path} is too large for a YAML file: {path.stat().st_size:,} bytes")
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise error(f"the file {path} does not exist") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder; name a YAML file") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not valid YAML: it is no UTF-8 text ({problem})") from None
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror or problem})") from None
    return parse_yaml(text, str(path), error=error)


def read_yaml_settings(path: str | Path, *, error: type[InputError] = InputError) -> dict[str, Any]:
    """Read a YAML file of settings, one a line as ``name: value``; an empty file holds none.

    Raises
    ------
    InputError
        Of the type `error`: if it cannot be read, or holds something else than settings.
    """
    content = read_yaml(path, error=error)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise error(f"{path} must hold settings, one a line as 'name: value'")
    return content


def _check_size(text: str, what: str, error: type[InputError]) -> None:
    """Refuse text that nests too deep or stands for too many values, without making any."""
    stands_for: dict[str | None, int] = {}  # anchor -> values, with what its aliases stand for
    opened: list[tuple[str | None, int]] = []  # anchor, and values before it
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise error(f"{what}: the alias '*{event.anchor}' stands inside of what it names")
            total += stands_for.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                stands_for[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            total += 1
            if len(opened) > MAX_DEPTH:
                raise error(f"{what} nests deeper than {MAX_DEPTH} levels; no settings do")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                stands_for[anchor] = total - before
        if total > MAX_VALUES:
            raise error(f"{what} stands for more than {MAX_VALUES:,} values; no settings do")


def _first_line(problem: Exception) -> str:
    """The error in one line, with its place where PyYAML knows it."""
    mark = getattr(problem, "problem_mark", None)
    words = getattr(problem, "problem", None) or (str(problem).splitlines() or ["unreadable"])[0]
    where = f" (line {mark.line + 1})" if mark is not None else ""
    return f"{str(words)[:200]}{where}"
