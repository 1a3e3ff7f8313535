"""What several commands share: options and how a user's words become arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from eegprompt.core.errors import InputError

__all__ = [
    "Json",
    "Overwrite",
    "RunPath",
    "Settings",
    "StudyPath",
    "numbers",
    "pairs",
    "plain",
]

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study's folder.")]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run's folder, or a run over folds.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings, e.g. training.epochs=5; 'eegprompt settings' lists all.",
    ),
]


def plain(text: str) -> Any:
    """Read one value as YAML does: 3 is a number, true a truth value, 1,30 a list of numbers.

    What begins with a zero is a name: subject 01 is not subject 1.

    Examples
    --------
    >>> plain("3"), plain("true"), plain("face"), plain("1,30"), plain("01"), plain("01,02")
    (3, True, 'face', [1, 30], '01', '01,02')
    """
    from eegprompt.core.safe_yaml import parse_yaml

    if any(re.fullmatch(r"0\d+", part.strip()) for part in text.split(",")):
        return text
    try:
        value = parse_yaml(text, "the option")
    except InputError:
        return text
    if isinstance(value, str) and "," in value:
        parts = [parse_yaml(part, "the option") for part in value.split(",")]
        if all(isinstance(part, int | float) for part in parts):
            return parts
    return value


def pairs(given: Iterable[str] | None) -> dict[str, Any]:
    """Read ``key=value`` words; dots make groups, dashes in a key count as underscores.

    Examples
    --------
    >>> pairs(["l-freq=1", "rename.T3=T7"])
    {'l_freq': 1, 'rename': {'T3': 'T7'}}
    """
    result: dict[str, Any] = {}
    for word in given or ():
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InputError(f"an option is written key=value, got '{word}'")
        name, *inner = key.strip().split(".", 1)
        name = name.replace("-", "_")
        if not inner:
            result[name] = plain(text)
        elif isinstance(result.setdefault(name, {}), dict):
            result[name][inner[0]] = plain(text)
        else:
            raise InputError(f"'{name}' in '{word}' has a single value already, so it is no group")
    return result


def numbers(text: str, what: str, count: int) -> tuple[float, ...]:
    """Read `count` numbers separated by commas.

    Examples
    --------
    >>> numbers("1,30", "--bandpass", 2)
    (1.0, 30.0)
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        example = {1: "0.5", 2: "1,30"}.get(count, ",".join(["0"] * count))
        raise InputError(
            f"{what} takes {count} numbers separated by commas, e.g. {example}; got '{text}'"
        )
    return values
