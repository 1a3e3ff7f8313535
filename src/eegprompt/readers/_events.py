"""When was what shown: events of a recording, from markers, annotations, a table, or windows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eegprompt.core.errors import RecordingError, UnknownNameError
from eegprompt.readers._recording import Recording, code_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Code", "events_of", "read_codes", "read_events_table", "table_for", "window_events"]

CATEGORY_COLUMNS = ("category", "trial_type")  # the second is BIDS's
IMAGE_COLUMNS = ("image", "stim_file")
_NOTHING = {"", "n/a", "nan", "none"}


@dataclass(frozen=True)
class Code:
    """What a marker's value stands for: a category, an image file, or both."""

    category: str | None = None
    image: str | None = None


def read_codes(
    codes: Mapping[str, str] | str | Path | None, *, exact: bool = False
) -> dict[str, Code] | None:
    """Meaning of marker values, from a mapping to categories or from a table.

    Parameters
    ----------
    codes : mapping, path-like or None
        ``{"1": "house", "2": "face"}``, or a CSV/TSV file with a column `event` and `category`,
        `image` or both.
    exact : bool
        Take names as they are spelled: 01 and 1 are two.

    Raises
    ------
    RecordingError
        If the table lacks a column or lists a value twice.
    """
    if codes is None:
        return None
    spelled = (lambda value: str(value).strip()) if exact else code_of
    if isinstance(codes, Mapping):
        return {spelled(code): Code(category=str(category)) for code, category in codes.items()}
    table = _read_text_table(Path(codes), "table of events' meanings")
    if "event" not in table or not {"category", "image"} & set(table):
        raise RecordingError(
            f"{codes} needs a column 'event' and a column 'category' or 'image', it has "
            f"{', '.join(map(str, table.columns))}"
        )
    result: dict[str, Code] = {}
    for row in table.to_dict("records"):
        code = spelled(row["event"])
        if code in result:
            raise RecordingError(f"{codes} lists event '{code}' twice; keep one line for it")
        result[code] = Code(_text(row.get("category")), _text(row.get("image")))
        if result[code] == Code():
            raise RecordingError(f"{codes} gives event '{code}' neither category nor image")
    return result


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return None if text.lower() in _NOTHING else text


def _read_text_table(path: Path, what: str) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise RecordingError(f"the {what} {path} does not exist")
    try:
        table = pd.read_csv(
            path,
            sep="\t" if path.suffix.lower() in (".tsv", ".txt") else ",",
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            index_col=False,
        )
    except Exception as problem:  # pandas raises many kinds; each means the file is no table
        reason = " ".join(str(problem).split())[:150] or type(problem).__name__
        raise RecordingError(
            f"{path} cannot be read as a table ({reason}); write it as CSV or TSV with a header line"
        ) from None
    table.columns = [str(c).strip() for c in table.columns]
    if not len(table):
        raise RecordingError(f"the {what} {path} has no rows")
    return table


def events_of(
    recording: Recording, codes: Mapping[str, Code] | None, notes: list[str]
) -> pd.DataFrame:
    """Events from the marker channel that was read, or else from annotations.

    Parameters
    ----------
    recording : Recording
        With a marker, or with annotations.
    codes : mapping of str to Code, or None
        Meaning of the markers. Where it is missing, the error lists the markers found.
    notes : list of str
        Receives a sentence on markers that `codes` leaves out.

    Returns
    -------
    pandas.DataFrame
        Columns `sample` (int), `code`, `category`, `image` (text or None), in order of time.

    Raises
    ------
    RecordingError
        If there is nothing to take events from, or none of the codes occurs.
    """
    if recording.marker is not None:
        found = _onsets(recording.marker)
        where = "marker"
    elif recording.annotations:
        found = []
        for onset, _, description in recording.annotations:
            sample = recording.sample_at(onset)
            if sample is not None:
                found.append((sample, _short(description)))
        where = "annotation"
    else:
        stim = list(recording.facts.get("stim_channels", []))
        channels = f" (stimulus channels: {', '.join(stim)})" if stim else ""
        raise RecordingError(
            f"{recording.path} has no annotations; say where the events are: the column or channel "
            f"with 'marker'{channels}, a file with 'events_table', or cut 'windows' without events"
        )
    counts = Counter(code for _, code in found)
    listing = ", ".join(f"'{c}' ({n}×)" for c, n in sorted(counts.items())[:20]) or "none"
    if codes is None:
        raise RecordingError(
            f"{recording.path}: say what each {where} means with 'events', e.g. "
            f"1=house,2=face; it holds {listing}"
        )
    known = {_short(code): meaning for code, meaning in codes.items()}
    kept = [(sample, code) for sample, code in found if code in known]
    ignored = {c: n for c, n in counts.items() if c not in known}
    if found and not kept:
        raise RecordingError(
            f"{recording.path} holds none of the events {', '.join(known)}; its {where}s are "
            f"{listing}: correct 'events'"
        )
    if ignored:
        some = ", ".join(f"'{c}' ({n}×)" for c, n in sorted(ignored.items())[:8])
        notes.append(f"{recording.path.name}: {where}s not named in 'events' were left out: {some}")
    return _table(
        recording.path,
        [(sample, code, known[code].category, known[code].image) for sample, code in kept],
    )


def _short(description: str) -> str:
    """BrainVision writes 'Stimulus/S  1' for what a person calls S1 or 'S 1'."""
    text = re.sub(r"^(Stimulus|Response|Event|Trigger)/", "", code_of(description))
    return re.sub(r"^([A-Z]) (\d+)$", r"\1\2", text)


def _onsets(marker: np.ndarray) -> list[tuple[int, str]]:
    """Samples where a marker begins: a value held over several samples is one event."""
    before = np.concatenate([[""], marker[:-1]])
    starts = np.flatnonzero((marker != "") & (marker != before))
    return [(int(i), _short(marker[i])) for i in starts]


def _table(path: Path, rows: list[tuple[int, str, str | None, str | None]]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows, columns=["sample", "code", "category", "image"], dtype=object)
    table["sample"] = table["sample"].astype(np.int64)
    table = table.sort_values("sample", kind="stable").reset_index(drop=True)
    twice = table["sample"].duplicated()
    if twice.any():
        sample = int(table.loc[twice, "sample"].iloc[0])
        raise RecordingError(
            f"{path} has two events at sample {sample}; keep one of them (a response or a second "
            "code there can be left out of 'events')"
        )
    return table


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
    category_column: str | None,
    image_column: str | None,
    codes: Mapping[str, Code] | None,
    notes: list[str],
    many: bool = False,
) -> pd.DataFrame:
    """Events from a table with a column `onset` (seconds) or `sample`.

    Parameters
    ----------
    recording : Recording
        What the events belong to.
    path : pathlib.Path
        CSV or TSV. A column `file` restricts rows to the recording of that name.
    category_column, image_column : str or None
        Columns to use; default `category` or `trial_type`, and `image` or `stim_file`, where there.
    codes : mapping, optional
        Meaning of the values of the category column; rows of other values are left out.
    notes : list of str
        Receives a sentence on rows left out.
    many : bool
        The table serves several recordings, so that it must have the column `file`.

    Returns
    -------
    pandas.DataFrame
        As :func:`events_of`.
    """
    table = _read_text_table(path, "events table")
    columns = list(table.columns)
    for what, name in (("category column", category_column), ("image column", image_column)):
        if name is not None and name not in columns:
            raise UnknownNameError(f"{what} in {path.name}", name, columns)
    category_column = category_column or next((c for c in CATEGORY_COLUMNS if c in columns), None)
    image_column = image_column or next((c for c in IMAGE_COLUMNS if c in columns), None)
    if category_column is None and image_column is None:
        raise RecordingError(
            f"{path} has the columns {', '.join(columns)}; say which holds the category "
            "('category_column') or the image ('image_column')"
        )
    if "file" in columns:
        table = table[[Path(str(f)).name == recording.path.name for f in table["file"]]]
        if not len(table):
            raise RecordingError(f"{path} has no rows for {recording.path.name} in column 'file'")
    elif many:
        raise RecordingError(
            f"{path} is to serve several recordings; add a column 'file' with each one's name, or "
            "give one table a recording with '{stem}', e.g. {stem}_events.tsv"
        )
    if "sample" in columns:
        samples = _column(path, table, "sample")
    elif "onset" in columns:
        samples = [
            np.nan if np.isnan(t) else _sample(recording, path, t)
            for t in _column(path, table, "onset")
        ]
    else:
        raise RecordingError(
            f"{path} needs a column 'onset' (seconds from the recording's first sample) or 'sample' "
            f"(counted from 0), it has {', '.join(columns)}"
        )
    rows, left_out = [], 0
    for sample, row in zip(samples, table.to_dict("records")):
        category = _text(row[category_column]) if category_column else None
        image = _text(row[image_column]) if image_column else None
        code = code_of(category if category is not None else image)
        if codes is not None:
            meaning = codes.get(code)
            category = meaning.category if meaning else None
            image = (meaning.image if meaning else None) or (image if meaning else None)
        if np.isnan(sample) or (image is None if image_column else category is None):
            left_out += 1
            continue
        if not (float(sample).is_integer() and 0 <= sample < recording.data.shape[1]):
            raise RecordingError(
                f"{path} names sample {sample:g}, but {recording.path.name} has samples 0 to "
                f"{recording.data.shape[1] - 1}"
            )
        rows.append((int(sample), code, category, image))
    if left_out:
        notes.append(
            f"{path.name}: {left_out} of {len(table)} rows name no "
            f"{'image' if image_column else 'category'} (or none in 'events') and were left out"
        )
    return _table(path, rows)


def _column(path: Path, table: pd.DataFrame, name: str) -> list[float]:
    result = []
    for row, text in zip(table.index, table[name]):
        if _text(text) is None:
            result.append(np.nan)
            continue
        try:
            result.append(float(text))
        except ValueError:
            raise RecordingError(
                f"{path}, line {row + 2}: column '{name}' holds {str(text)[:30]!r}, which is no "
                "number"
            ) from None
    return result


def _sample(recording: Recording, path: Path, seconds: float) -> float:
    sample = recording.sample_at(seconds)
    if sample is not None:
        return sample
    first, stop, start = recording.stretches[-1]
    end = start + (stop - first) / recording.sfreq
    if 0 <= seconds < end:
        return np.nan  # in a gap: nothing was recorded
    raise RecordingError(
        f"{path} names an event at {seconds:g} s, but {recording.path.name} runs from 0 to "
        f"{end:.3f} s; onsets are seconds from the recording's first sample"
    )


def window_events(recording: Recording, length: float, step: float, category: str) -> pd.DataFrame:
    """Begin of each window of `length` seconds, every `step` seconds, within unbroken stretches."""
    n_times, n_step = round(length * recording.sfreq), round(step * recording.sfreq)
    if n_times < 2 or n_step < 1:
        raise RecordingError(
            f"windows of {length:g} s every {step:g} s are shorter than the samples of "
            f"{recording.path.name} ({1 / recording.sfreq:g} s)"
        )
    rows: list[tuple[int, str, str | None, str | None]] = []
    for first, stop, _ in recording.stretches:
        rows += [(i, category, category, None) for i in range(first, stop - n_times + 1, n_step)]
    return _table(recording.path, rows)
