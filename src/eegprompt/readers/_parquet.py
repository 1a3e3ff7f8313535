"""Rows of a Parquet file, some at a time, so that a file of gigabytes takes little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegprompt.core.errors import RecordingError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["damaged", "open_parquet", "parquet_rows"]


def damaged(path: Path, problem: Exception) -> RecordingError:
    """What to raise for whatever the library raises: its errors have no common base."""
    text = " ".join(str(problem).split())[:160]
    return RecordingError(
        f"{path} cannot be read as Parquet ({type(problem).__name__}: {text}); it may be truncated: "
        "get it from its source again"
    )


def open_parquet(path: Path, columns: Sequence[str]) -> Any:
    """A Parquet file with all of the columns."""
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = set(file.schema_arrow.names)
    except Exception as problem:
        raise damaged(path, problem) from None
    missing = [c for c in columns if c not in names]
    if missing:
        raise RecordingError(
            f"{path} lacks the columns {', '.join(missing)} (it has {', '.join(sorted(names))[:200]}); "
            "check that it is of this dataset"
        )
    return file


def parquet_rows(
    path: Path, columns: Sequence[str], size: int
) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
    """Place of the first row and the rows, `size` at a time."""
    with open_parquet(path, columns) as file:
        batches, first = file.iter_batches(size, columns=list(columns)), 0
        while True:
            try:
                rows = next(batches, None)
            except Exception as problem:
                raise damaged(path, problem) from None
            if rows is None:
                return
            yield first, rows
            first += len(rows)
