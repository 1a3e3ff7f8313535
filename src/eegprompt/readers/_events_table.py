"""Events from a table with a line for each: onset or sample, and what was shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.readers._event_names import Code, counted, match_names, read_text_table, text_of
from eegprompt.readers._events import (
    IN_GAP,
    NOT_NAMED,
    OUTSIDE,
    Event,
    FoundEvents,
    note_left_out,
    place_at,
    sorted_events,
)
from eegprompt.readers._recording import Recording

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableColumns", "read_events_table", "rows_of_no_file", "table_for"]

CATEGORY_COLUMNS = ("category", "trial_type")  # the second is BIDS's
IMAGE_COLUMNS = ("image", "stim_file")
CODE_COLUMN = "value"  # BIDS: the marker, where trial_type says nothing
NOTHING_SHOWN, NO_ONSET = "nothing shown", "no onset"
_ONSET_PRECISION = 5e-4  # seconds by which a written onset may be rounded


@dataclass(frozen=True)
class TableColumns:
    """Which columns of a table to read; what is None is found by the usual names.

    Parameters
    ----------
    category, image : str or None
        Columns with the category and the image.
    time : {"onset", "sample"} or None
        Which column says when, where a table has both and they disagree.
    """

    category: str | None = None
    image: str | None = None
    time: str | None = None


def table_for(recording: Path, pattern: str | Path) -> Path:
    """The events table of a recording: ``{stem}`` stands for its file name without suffix.

    Examples
    --------
    >>> table_for(Path("sub-1/sub-1_task-x_eeg.edf"), "{stem}_events.tsv").as_posix()
    'sub-1/sub-1_task-x_events.tsv'
    """
    text = str(pattern)
    if "{stem}" not in text:
        return Path(pattern)
    stem = recording.stem
    first = recording.parent / text.replace("{stem}", stem)
    # BIDS: sub-1_eeg.edf goes with sub-1_events.tsv.
    return (
        first
        if first.exists()
        else recording.parent / text.replace("{stem}", stem.removesuffix("_eeg"))
    )


def read_events_table(
    recording: Recording,
    path: Path,
    *,
    columns: TableColumns,
    codes: Mapping[str, Code] | None,
    notes: list[str],
    repeated: str = "error",
    many: bool = False,
) -> FoundEvents:
    """Events from a table with a column `onset` (seconds) or `sample`.

    Parameters
    ----------
    recording : Recording
        What the events belong to.
    path : pathlib.Path
        CSV or TSV. A column `file` restricts rows to the recording of that name.
    columns : TableColumns
        Default `category` or `trial_type`, and `image` or `stim_file`, where one says anything;
        else, with `codes`, `value`.
    codes : mapping, optional
        Meaning of the values of the category column; rows of other values are left out.
    notes : list of str
        Receives a sentence on rows left out.
    repeated : {"error", "first", "last"}
        Which of several wanted events at one sample to take.
    many : bool
        The table serves several recordings, so that it must have the column `file`.

    Raises
    ------
    RecordingError
        If the table says nothing of what was shown or when, contradicts itself, or most of its
        events lie outside the recording.
    """
    table = _rows_for(recording, path, many)
    category_column, image_column = _columns(path, table, columns, codes, notes)
    places = _places(recording, path, table, columns.time, notes)
    shown = _shown(path, table, category_column, image_column, codes, notes)
    left_out: Counter[str] = Counter()
    rows: list[Event] = []
    for at, what in zip(places, shown):
        if isinstance(what, str):
            left_out[what] += 1
        elif isinstance(at, str):
            left_out[at] += 1
        else:
            rows.append((at, *what))
    if left_out[OUTSIDE] > len(rows):
        first, stop, start = recording.stretches[-1]
        end = start + (stop - first) / recording.sfreq
        raise RecordingError(
            f"{path} places {left_out[OUTSIDE]} of its events outside {recording.path.name}, which "
            f"runs from 0 to {end:.3f} s (samples 0 to {recording.data.shape[1] - 1}); onsets are "
            "seconds from the recording's first sample"
        )
    events = sorted_events(path, rows, repeated, left_out)
    note_left_out(path, left_out, len(table), notes)
    return FoundEvents(events, len(table), left_out)


def rows_of_no_file(path: Path, files: Sequence[Path]) -> Counter[str]:
    """How many rows of a table that serves several recordings name a file that is none of them.

    Raises
    ------
    RecordingError
        If a row may be of two of the recordings.
    """
    counts = Counter(read_text_table(path, "events table").get("file", []))
    unread: Counter[str] = Counter()
    for text, n in counts.items():
        own = [file for file in files if _is_of(text, file)]
        if len(own) > 1:
            raise RecordingError(
                f"{path}: the file '{text}' may be {own[0]} or {own[1]}; write as much of each path as "
                "tells them apart in the column 'file'"
            )
        if not own:
            unread[text] += n
    return unread


def _is_of(text: str, file: Path) -> bool:
    """Whether a path as it stands in a table is the end of a recording's."""
    parts = [part for part in Path(text.strip().replace("\\", "/")).parts if part != "."]
    return bool(parts) and list(file.resolve().parts[-len(parts) :]) == parts


def _rows_for(recording: Recording, path: Path, many: bool) -> pd.DataFrame:
    table = read_text_table(path, "events table")
    if "file" in table:
        table = table[[_is_of(text, recording.path) for text in table["file"]]]
        if not len(table):
            raise RecordingError(f"{path} has no rows for {recording.path.name} in column 'file'")
    elif many:
        raise RecordingError(
            f"{path} is to serve several recordings; add a column 'file' with each one's name, or "
            "give one table a recording with '{stem}', e.g. {stem}_events.tsv"
        )
    return table


# -- what was shown ------------------------------------------------------------------------------
def _columns(
    path: Path,
    table: pd.DataFrame,
    asked: TableColumns,
    codes: Mapping[str, Code] | None,
    notes: list[str],
) -> tuple[str | None, str | None]:
    """Columns with the category and with the image: those asked for, or those that say anything."""
    there = list(table.columns)
    for what, name in (("category column", asked.category), ("image column", asked.image)):
        if name is not None and name not in there:
            raise UnknownNameError(f"{what} in {path.name}", name, there)

    def says(column: str) -> bool:
        return column in there and any(text_of(v) is not None for v in table[column])

    category = asked.category or next(filter(says, CATEGORY_COLUMNS), None)
    image = asked.image or next(filter(says, IMAGE_COLUMNS), None)
    if codes is not None and asked.category is None and says(CODE_COLUMN):
        named = [] if category is None else match_names(codes, map(str.strip, table[category]), "")
        if not named:  # 'trial_type' says less than the markers in 'value'
            category = CODE_COLUMN
            notes.append(f"{path.name}: events are named by the column '{CODE_COLUMN}'")
    if category is None and image is None:
        if says(CODE_COLUMN):
            counts = Counter(v.strip() for v in table[CODE_COLUMN] if text_of(v) is not None)
            raise RecordingError(
                f"{path} says what was shown in the column '{CODE_COLUMN}' only, which holds "
                f"{counted(counts, 20)}; say what each means with 'events', or take them as "
                f"categories with 'category_column={CODE_COLUMN}'"
            )
        raise RecordingError(
            f"{path} has the columns {', '.join(there)}; say which holds the category "
            "('category_column') or the image ('image_column')"
        )
    return category, image


def _shown(
    path: Path,
    table: pd.DataFrame,
    category_column: str | None,
    image_column: str | None,
    codes: Mapping[str, Code] | None,
    notes: list[str],
) -> list[str | tuple[str, str | None, str | None]]:
    """Name, category and image of each row; or why a row is left out."""
    empty: list[str | None] = [None] * len(table)
    categories = empty if category_column is None else [text_of(v) for v in table[category_column]]
    images = empty if image_column is None else [text_of(v) for v in table[image_column]]
    if codes is None:
        return [
            (str(category if category is not None else image), category, image)
            if (image if image_column else category) is not None
            else NOTHING_SHOWN
            for category, image in zip(categories, images)
        ]
    named_by = category_column or image_column
    cells = [] if named_by is None else [str(value).strip() for value in table[named_by]]
    # Somebody may ask for an event that is called "none".
    names = [cell if cell and cell in codes else text_of(cell) for cell in cells]
    counts = Counter(name for name in names if name is not None)
    named = match_names(codes, counts, str(path))
    if counts and not named:
        raise RecordingError(
            f"{path} holds none of the events {', '.join(codes)}; its column "
            f"'{named_by}' holds {counted(dict(sorted(counts.items())), 20)}: "
            "correct 'events'"
        )
    result: list[str | tuple[str, str | None, str | None]] = []
    for name, image in zip(names, images):
        if name is None:
            result.append(NOTHING_SHOWN)
        elif name not in named:
            result.append(NOT_NAMED)
        else:
            code = codes[named[name]]
            own = code.image or image
            lacks = own is None if image_column else code.category is None and own is None
            result.append(NOTHING_SHOWN if lacks else (name, code.category, own))
    ignored = {name: n for name, n in sorted(counts.items()) if name not in named}
    if ignored:
        notes.append(f"{path.name}: events not named in 'events' were left out: {counted(ignored)}")
    return result


# -- when it was shown ---------------------------------------------------------------------------
def _places(
    recording: Recording, path: Path, table: pd.DataFrame, time: str | None, notes: list[str]
) -> list[int | str]:
    """Sample of each row, or why it has none. Onsets rule; samples that contradict are refused."""
    if time is not None and time not in table:
        raise UnknownNameError(f"column of time in {path.name}", time, list(table.columns))
    onsets = _numbers(path, table, "onset") if "onset" in table else None
    samples = _numbers(path, table, "sample") if "sample" in table else None
    if onsets is None and samples is None:
        raise RecordingError(
            f"{path} needs a column 'onset' (seconds from the recording's first sample) or 'sample' "
            f"(counted from 0), it has {', '.join(table.columns)}"
        )
    if time is None and onsets is not None and samples is not None:
        _compare(recording, path, table, onsets, samples, notes)
    if onsets is None or time == "sample" or (samples is not None and np.isnan(onsets).all()):
        assert samples is not None
        return [_place_of_sample(recording, path, value) for value in samples]
    return [NO_ONSET if np.isnan(t) else place_at(recording, float(t)) for t in onsets]


def _place_of_sample(recording: Recording, path: Path, value: float) -> int | str:
    if np.isnan(value):
        return NO_ONSET
    if not float(value).is_integer():
        raise RecordingError(
            f"{path} names sample {value:g}; samples are whole numbers, counted from 0"
        )
    if not 0 <= value < recording.data.shape[1]:
        return OUTSIDE
    inside = any(first <= value < stop for first, stop, _ in recording.stretches)
    return int(value) if inside else IN_GAP


def _compare(
    recording: Recording,
    path: Path,
    table: pd.DataFrame,
    onsets: np.ndarray,
    samples: np.ndarray,
    notes: list[str],
) -> None:
    """Refuse samples that are not those of the onsets, but for counting from 1."""
    both = np.flatnonzero(~np.isnan(onsets) & ~np.isnan(samples))
    if not len(both):
        return
    decimals = max(len(table["onset"].iloc[i].strip().partition(".")[2]) for i in both)
    allowed = 0.5 + min(0.5 * 10.0**-decimals, _ONSET_PRECISION) * recording.sfreq + 1e-6
    difference = samples[both] - onsets[both] * recording.sfreq
    if (np.abs(difference) <= allowed).all():
        return
    if (np.abs(difference - 1) <= allowed).all():
        notes.append(f"{path.name}: its column 'sample' counts from 1; onsets were taken")
        return
    row = both[int(np.argmax(np.abs(difference)))]
    raise RecordingError(
        f"{path}, line {table.index[row] + 2}: onset {onsets[row]:g} s is sample "
        f"{onsets[row] * recording.sfreq:.10g} at {recording.sfreq:g} Hz, but the column 'sample' says "
        f"{samples[row]:.10g} ({int((np.abs(difference) > allowed).sum())} of {len(both)} rows "
        "disagree); say which is right with 'event_time' (onset or sample)"
    )


def _numbers(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as numbers; NaN where a cell is empty or says n/a."""

    def number(row: int, text: str) -> float:
        if text_of(text) is None:
            return np.nan
        try:
            value = float(text)
        except ValueError:
            value = np.inf
        if not np.isfinite(value):
            raise RecordingError(
                f"{path}, line {row + 2}: column '{name}' holds {text[:30]!r}, which is no number"
            )
        return value

    cells: Sequence[str] = table[name].tolist()
    return np.array([number(row, text) for row, text in zip(table.index, cells)])
