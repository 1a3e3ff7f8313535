"""What a person sees: progress and notes on stderr, results on stdout.

Results alone go to stdout, so that ``eegprompt evaluate RUN --json | jq`` works; everything else
goes to stderr, and bars are drawn only where stderr is a terminal.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from eegprompt.core.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Progress",
    "bar",
    "err",
    "note",
    "out",
    "print_facts",
    "print_json",
    "print_table",
    "quiet_libraries",
    "step",
]


_PACKAGE = Path(__file__).parents[1]

# Libraries that talk on their own account while ours has said what matters.
_CHATTY = (
    "lightning",
    "lightning.pytorch",
    "lightning.fabric",
    "pytorch_lightning",
    "diffusers",
    "transformers",
    "mne",
    "httpx",
)


def out() -> Console:
    """The console of results. Where stdout is no terminal, lines are not folded."""
    return _console(sys.stdout)


def err() -> Console:
    """The console of progress, notes and errors."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else 200
    return Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=width)


def note(text: str) -> None:
    """Say something in passing, on stderr."""
    err().print(text, markup=False)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; a missing number is null."""
    from eegprompt.core.files import _plain

    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table on stdout. Columns whose cells are all numbers are set flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        cells = [row[index] for row in rows]
        numbers = bool(cells) and all(re.match(r"[-−–.<≤ ]*(\d|$)", cell) for cell in cells)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    out().print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values on stdout; long values are folded on a terminal only."""
    if not sys.stdout.isatty():
        width = max(map(len, facts), default=0)
        sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in facts.items())
        return

    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    out().print(table)


@contextmanager
def bar() -> Iterator[Progress]:
    """Give a progress callback ``(done, total, label)``, drawn only where stderr is a terminal.

    A total of 0 means that the end is not known.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, label: None
        return

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=err(), transient=True) as display:
        line = display.add_task("", total=None)

        def update(done: int, total: int, label: str) -> None:
            display.update(line, description=label, completed=done, total=total or None)

        yield update


@contextmanager
def step(title: str) -> Iterator[Progress]:
    """Show a progress bar while a step runs, then one line with the time it took."""
    started = time.monotonic()
    with bar() as progress:
        yield progress
    note(f"{title}: {time.monotonic() - started:.1f} s")


def quiet_libraries(debug: bool = False) -> None:
    """Keep other libraries' chatter off the screen; with `debug` everything is let through.

    Our own warnings are shown, each as one line.
    """
    if debug:
        logging.basicConfig(level=logging.INFO)
        return
    for variable, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("MNE_LOGGING_LEVEL", "ERROR"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(variable, value)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if Path(filename).is_relative_to(_PACKAGE):
            note(f"Warning: {message}")

    warnings.showwarning = show
