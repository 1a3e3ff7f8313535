"""What events are called, and what each name stands for. Names are text: 01 and 1 are two."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eegprompt.core.errors import RecordingError
from eegprompt.core.long_rows import long_rows_refused

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Code", "counted", "match_names", "read_codes", "read_text_table", "text_of"]

_NOTHING = {"", "n/a", "nan", "none"}
# Kinds of markers that BrainVision's format puts before a marker's name.
_TYPE = re.compile(r"(Stimulus|Response|Event|Trigger|Comment)/(?=.)")
# BrainVision pads numbers to three places: "S  1", "R 12".
_PADDED = re.compile(r"([A-Za-z]?)( {2}\d| \d{2})")


@dataclass(frozen=True)
class Code:
    """What a marker stands for: a category, an image file, or both."""

    category: str | None = None
    image: str | None = None


def read_codes(codes: Mapping[str, str] | str | Path | None) -> dict[str, Code] | None:
    """Meaning of markers, from a mapping to categories or from a table."""
    if codes is None:
        return None
    if isinstance(codes, Mapping):
        pairs = [(str(name).strip(), Code(category=str(c))) for name, c in codes.items()]
        where = "'events'"
    else:
        table = read_text_table(Path(codes), "table of events' meanings")
        where = str(codes)
        if "event" not in table or not {"category", "image"} & set(table):
            raise RecordingError(
                f"{codes} needs a column 'event' and a column 'category' or 'image', it has "
                f"{', '.join(map(str, table.columns))}"
            )
        pairs = [
            (row["event"].strip(), Code(text_of(row.get("category")), text_of(row.get("image"))))
            for row in table.to_dict("records")
        ]
    result: dict[str, Code] = {}
    for name, meaning in pairs:
        if name in result:
            raise RecordingError(f"{where} lists event '{name}' twice; keep one line for it")
        if meaning == Code():
            raise RecordingError(f"{where} gives event '{name}' neither category nor image")
        result[name] = meaning
    return result


def text_of(value: object) -> str | None:
    """A cell's text; None where it is empty or says n/a, nan or none."""
    text = "" if value is None else str(value).strip()
    return None if text.lower() in _NOTHING else text


def read_text_table(path: Path, what: str) -> pd.DataFrame:
    """A CSV or TSV table with every cell as the text that stands there."""
    import pandas as pd

    if not path.is_file():
        raise RecordingError(f"the {what} {path} does not exist")
    try:
        with long_rows_refused():
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
    return table.fillna("")  # a line that is too short


def _spellings(name: str) -> list[set[str]]:
    """What a marker may be called: as it stands, without its kind, and without its padding.

    Examples
    --------
    >>> _spellings("Stimulus/S  1")[2] == {"S1", "S 1", "Stimulus/S1", "Stimulus/S 1"}
    True
    """
    whole = name.strip()
    kind = _TYPE.match(whole)
    text = name[kind.end() :] if kind else name
    own = {whole} | ({text.strip()} if kind else set())
    padded = set()
    number = _PADDED.fullmatch(text)
    if number is not None:
        letter, digits = number[1], number[2].strip()
        padded = {letter + digits, f"{letter} {digits}".strip()}
        padded |= {kind[0] + short for short in padded} if kind else set()
    if re.fullmatch(r"-?\d+\.0+", whole):  # a whole number of a column of floats
        padded = {whole.partition(".")[0]}
    return [{name}, own, padded]


def match_names(asked: Iterable[str], found: Iterable[str], where: str) -> dict[str, str]:
    """Which name that was asked for each marker goes by; markers that nobody named are not in it.

    A name stands first for the marker that is spelled so. Where there is none, the kind of marker
    (``Stimulus/``) and the padding of ``S  1`` may be left out, if one marker is meant.

    Examples
    --------
    >>> match_names(["S1", "Response/1"], ["Stimulus/S  1", "Response/1", "Stimulus/1"], "file")
    {'Response/1': 'Response/1', 'Stimulus/S  1': 'S1'}
    """
    asked = list(asked)
    spelled = {marker: _spellings(marker) for marker in dict.fromkeys(found)}
    result: dict[str, str] = {name: name for name in asked if name in spelled}
    for name in asked:
        if name in spelled:
            continue
        fitting: list[str] = []
        for place in (1, 2):
            loose = [m for m, forms in spelled.items() if name in forms[place]]
            fitting = fitting or [m for m in loose if m not in asked]
        if len(fitting) > 1:
            raise RecordingError(
                f"{where}: the event '{name}' may be {' or '.join(map(repr, sorted(fitting)))}; name "
                "the one you mean in full, or each"
            )
        for marker in fitting:
            if marker in result:
                raise RecordingError(
                    f"{where}: '{result[marker]}' and '{name}' are both the marker '{marker}'; name "
                    "it once"
                )
            result[marker] = name
    return result


def counted(counts: Mapping[str, int], most: int = 8) -> str:
    """Names with how often each occurs, for messages."""
    listed = ", ".join(f"'{name}' ({n}×)" for name, n in list(counts.items())[:most])
    return listed + (f", … ({len(counts)} in all)" if len(counts) > most else "") or "none"
