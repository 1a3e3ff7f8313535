"""Which columns each table of eegprompt's own must hold to be read back, and what their values are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "check_table", "check_text"]

TABLES: dict[str, dict[str, str]] = {
    "trials": {
        "trial_id": "id",
        "subject": "label",
        "session": "label",
        "run": "label",
        "block": "finite",
        "order": "finite",
        "onset": "finite",
        "image_id": "label",
        "category": "label",
        "n_averaged": "finite",
    },
    "images": {
        "image_id": "label",
        "path": "text?",
        "category": "label",
        "sha256": "text?",
        "width": "finite",
        "height": "finite",
    },
    "captions": {"image_id": "label", "kind": "text", "text": "text?", "meaning": "text? if there"},
    "decodings": {
        "trial_id": "id",
        "head": "text",
        "rank": "id",
        "text": "text",
        "similarity": "finite",
        "confidence": "finite",
        "meaning": "text? if there",
    },
    "prompts": {
        "trial_id": "id",
        "source": "text",
        "text": "text",
        "n_tokens": "finite if there",
        "heads": "text? if there",
        "kept": "text? if there",
        "dropped": "text? if there",
        "reason": "text? if there",
    },
    "candidates": {
        "kind": "text",
        "pool": "text",
        "caption_id": "label",
        "text": "text",
        "meaning": "text?",
    },
    "training": {"epoch": "number", "train_loss": "number if there", "val_loss": "number if there"},
}
"""Columns of each table: what its values are; "?" where one may be missing."""

_EXPECTED = {
    "id": "whole numbers from 0",
    "number": "numbers",
    "finite": "finite numbers",
    "text": "text",
    "text?": "text, or nothing",
    "label": "text or whole numbers",
}


def check_table(table: pd.DataFrame, name: str, path: Path, error: type[InputError]) -> Any:
    """Refuse a table that lacks a column or holds something else in one.

    Parameters
    ----------
    table : pandas.DataFrame
        As read.
    name : str
        A name in :data:`TABLES`.
    path : pathlib.Path
        For the message.
    error : type
        Raised if it does not fit.

    Returns
    -------
    pandas.DataFrame
        The table, its rows counted from 0 whatever index was stored with it.
    """
    again = "write it again with the step that makes it"
    names = [str(column) for column in table.columns]
    if len(set(names)) < len(names):
        raise error(f"{path} has a column twice: {', '.join(names[:20])}; {again}")
    columns = TABLES[name]
    lacking = [c for c, kind in columns.items() if c not in names and not kind.endswith(" there")]
    if lacking:
        raise error(f"{path} lacks the columns {lacking}; {again}")
    for column, wanted in columns.items():
        kind = wanted.removesuffix(" if there")
        if column in names and not _holds(table[column], kind):
            raise error(
                f"{path}: the column '{column}' should hold {_EXPECTED[kind]}, but is of type "
                f"{table[column].dtype}{_first_wrong(table[column], kind)}; {again}"
            )
    return table.reset_index(drop=True)


def check_text(table: pd.DataFrame, path: Path, error: type[InputError]) -> None:
    """Refuse a table with text that is not UTF-8, which pandas finds only when it is used."""
    import pandas as pd

    for number, column in enumerate(table.columns):
        values = table.iloc[:, number]
        if isinstance(values.dtype, pd.StringDtype):
            try:
                values.to_list()
            except Exception as problem:  # pyarrow says it in several ways
                raise error(
                    f"{path}: the column '{column}' holds text that is not UTF-8 "
                    f"({type(problem).__name__}); write or copy it again"
                ) from None


def _holds(values: pd.Series, kind: str) -> bool:
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return False
    code = getattr(values.dtype, "kind", "O")
    if kind == "id":
        return code in "iu" and (not len(values) or bool(values.min() >= 0))
    if kind == "number":
        return code in "iuf"
    if kind == "finite":  # or nothing
        return code in "iu" or (code == "f" and not bool(np.isinf(values.to_numpy(float)).any()))
    if isinstance(values.dtype, pd.StringDtype):
        return kind == "text?" or not bool(values.isna().any())
    if kind == "label" and code in "iu":
        return True
    if code == "f" and kind == "text?":
        return bool(values.isna().all())  # a column of nothing reads back as numbers
    return code == "O" and all(_is(value, kind) for value in values)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, str):
        return True
    if kind == "label":
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return kind == "text?" and (value is None or (isinstance(value, float) and np.isnan(value)))


def _first_wrong(values: pd.Series, kind: str) -> str:
    if kind in ("text", "text?", "label") and getattr(values.dtype, "kind", "O") == "O":
        for row, value in enumerate(values):
            if not _is(value, kind):
                return f", with {str(value)[:40]!r} in row {row}"
    return ""
