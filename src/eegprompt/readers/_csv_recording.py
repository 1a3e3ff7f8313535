"""A continuous recording from a CSV file: columns of values, and time stamps or a sampling rate."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.core.long_rows import long_rows_refused
from eegprompt.readers._channels import (
    default_channels,
    note_left_out,
    pick_channels,
    renamed_channels,
    standard_channels,
)
from eegprompt.readers._clock import read_clock
from eegprompt.readers._recording import UNITS, Recording, codes_at

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_csv"]

TIME_COLUMNS = ("timestamps", "timestamp", "time", "times", "t")


def read_csv(
    path: Path,
    *,
    channels: Sequence[str] | None,
    exclude: Sequence[str],
    rename: Mapping[str, str],
    marker: str | None,
    unit: str | None,
    sfreq: float | None,
    time_column: str | None,
    ignore_columns: Sequence[str],
    max_gap: float,
    montage: str | None,
) -> Recording:
    """Read a CSV file; see ``open_recording`` for the options."""
    if unit is None:
        raise RecordingError(
            f"{path}: a CSV file does not say the unit of its values; give one with 'unit' "
            "(uV, mV, V, or a.u. for standardized values)"
        )
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    table = _read_csv_table(path, marker)
    columns = [str(c) for c in table.columns]
    if time_column is not None and time_column not in columns:
        raise UnknownNameError(f"time column in {path.name}", time_column, columns)
    if time_column is None:
        lowered = {c.lower(): c for c in columns}
        time_column = next((lowered[c] for c in TIME_COLUMNS if c in lowered), None)
    if marker is not None and marker not in columns:
        raise UnknownNameError(f"marker column in {path.name}", marker, columns)
    no_channels = {time_column, marker, *ignore_columns}
    notes: list[str] = []
    inside = [c for c in columns if c not in no_channels]
    renamed = renamed_channels(path, inside, rename, notes)
    available = [renamed.get(c, c) for c in inside]
    original = dict(zip(available, inside))
    # What may be text is named first, so that a text column is never taken for a channel unseen.
    standard = standard_channels(available, montage, notes)
    available = [standard.get(name, name) for name in available]
    original = {standard.get(name, name): column for name, column in original.items()}
    default = default_channels(available, montage)
    chosen = pick_channels(path, available, default, channels, exclude, standard)
    if channels is None:
        note_left_out([n for n in available if n not in default and n not in exclude], notes)
    signals = [_numbers(path, table[original[name]]) for name in chosen]
    data = np.stack(signals) * UNITS[unit]
    if time_column is not None:
        times = _numbers(path, table[time_column])
        rate, stretches, jumps, facts = read_clock(path, times, sfreq, max_gap, notes)
    elif sfreq is not None:
        rate, facts = float(sfreq), {"sfreq_from": "option"}
        if not (np.isfinite(rate) and rate > 0):
            raise RecordingError(f"'sfreq' must be a positive number of Hz, got {sfreq}")
        stretches, jumps = ((0, data.shape[1], 0.0),), 0
    else:
        raise RecordingError(
            f"{path} has no time stamps (columns: {', '.join(columns)}); name their column with "
            "'time_column', or give the sampling rate with 'sfreq'"
        )
    values = None
    if marker is not None:
        values = codes_at(table[marker].to_numpy())
    return Recording(
        path=path,
        ch_names=tuple(chosen),
        sfreq=rate,
        data=data,
        stretches=stretches,
        marker=values,
        facts={**facts, "unit": unit},
        notes=tuple(notes),
        jumps=jumps,
    )


def _read_csv_table(path: Path, marker: str | None) -> pd.DataFrame:
    import pandas as pd

    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = stream.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise RecordingError(
            f"{path} is not UTF-8 text, so it is no CSV file; export it again as CSV (UTF-8)"
        ) from None
    separator = max(",;\t", key=header.count)
    names = [n.strip().strip('"') for n in header.split(separator)]
    if len(names) < 2 or "\0" in header:
        raise RecordingError(
            f"{path} is no CSV file with named columns (first line: {header[:60]!r}); it needs a "
            "header line and at least two columns"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise RecordingError(f"{path} has two columns named '{repeated[0]}'; rename one of them")
    if all(_is_number(name) for name in names):
        raise RecordingError(
            f"{path} has no header line (it begins with numbers); put the column names in line 1"
        )
    try:
        with long_rows_refused():
            table = pd.read_csv(
                path,
                sep=separator,
                encoding="utf-8-sig",
                header=0,
                names=names,
                index_col=False,
                low_memory=False,
                dtype=None if marker is None else {marker: str},  # names are text: 01 is not 1
                skip_blank_lines=False,
            )
    except Exception as problem:  # pandas raises many kinds; each means the file is no table
        reason = " ".join(str(problem).split())[:150] or type(problem).__name__
        raise RecordingError(
            f"{path} cannot be read as CSV ({reason}); look at the line it names, or copy the file "
            "again"
        ) from None
    if len(table) < 2:
        raise RecordingError(f"{path} holds {len(table)} rows of data; a recording needs more")
    last = _last_line(path)
    if '"' not in last and last.count(separator) < len(names) - 1:
        raise RecordingError(
            f"{path} breaks off in its last line (line {len(table) + 1} has "
            f"{last.count(separator) + 1} of {len(names)} columns); copy the file again, or delete "
            "that line if the recording was stopped there"
        )
    return table


def _last_line(path: Path) -> str:
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 65536))
        tail = stream.read().decode("utf-8", errors="replace")
    return tail.rstrip("\r\n").rsplit("\n", 1)[-1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path: Path, column: pd.Series) -> np.ndarray:
    """A column as float64; text in it is an error with its line."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    is_text = ~np.isfinite(values) & column.notna().to_numpy()
    if is_text.any():
        row = int(np.flatnonzero(is_text)[0])
        raise RecordingError(
            f"{path}, line {row + 2}: column '{column.name}' holds {str(column.iloc[row])[:30]!r}, "
            "which is no number; mend the line, or leave the column out with 'exclude'"
        )
    return values
