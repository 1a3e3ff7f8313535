"""Alljoined1 as rows of Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import sampled_sha256
from eegprompt.readers._alljoined import AlljoinedOptions, category_table, images_of
from eegprompt.readers._parquet import damaged, parquet_rows
from eegprompt.readers._trial_files import checked_channels
from eegprompt.readers.base import Content, DatasetFacts, Import
from eegprompt.signal.montage import template

__all__ = ["read_rows"]

SFREQ = 512.0
ROW_COLUMNS = ("EEG", "subject_id", "session", "block", "trial", "73k_id", "coco_id", "curr_time")


def read_rows(root: Path, job: Import[AlljoinedOptions, Any]) -> Content:
    """Rows of the Parquet files, the training part first."""
    import pandas as pd

    opts = job.options
    paths = [root] if root.is_file() else sorted(root.glob("**/*.parquet"))
    paths = [path for path in paths if path.is_file()]
    files = [p for p in paths if re.match(r"(train|test)-", p.name) or root.is_file()]
    files.sort(key=lambda p: p.name.startswith("test"))
    job.sources |= {p.name: sampled_sha256(p) for p in files}
    category_of = category_table(opts.categories) if opts.categories else None
    if category_of is None:
        job.notes.append(
            "the rows do not say an image's category, so that all are 'unknown'; a CSV with the "
            "columns image (the 73k_id) and category would say it (the reader's option 'categories')"
        )
    asked = None if opts.subjects is None else {int(s) for s in opts.subjects}
    shape: tuple[int, ...] | None = None
    rows: list[dict[str, Any]] = []
    for n, path in enumerate(files):
        side = "test" if path.name.startswith("test") else "train"
        job.progress(n, len(files), path.name)
        for batch in _batches(path):
            keep = [i for i, s in enumerate(batch["subject_id"]) if not asked or int(s) in asked]
            job.found += len(batch["subject_id"])
            job.left_out["of another subject"] += len(batch["subject_id"]) - len(keep)
            if not keep:
                continue
            eeg = [_trial(batch["EEG"][i], path) for i in keep]
            shape = shape or eeg[0].shape
            odd = next((e for e in eeg if e.shape != shape), None)
            if odd is not None:
                raise RecordingError(
                    f"{path}: 'EEG' holds trials of shape {shape} and {odd.shape}; all must be alike"
                )
            job.writer.append(np.stack(eeg))
            for i in keep:
                number = str(int(batch["73k_id"][i]))
                category = "unknown" if category_of is None else category_of.get(number)
                if category is None:
                    raise RecordingError(
                        f"{opts.categories} has no category for the image {number}; add it"
                    )
                rows.append({**_row(batch, i), "category": category, "partition": side})
    if shape is None:
        raise RecordingError(f"{root} holds no trial of the subjects asked for; check 'subjects'")
    trials = pd.DataFrame(rows)
    tmin = -0.05 if opts.tmin is None else opts.tmin
    tmax = tmin + (shape[1] - 1) / SFREQ
    job.facts = DatasetFacts.of("alljoined1")
    return Content(
        trials=trials,
        images=images_of(trials, job),
        ch_names=_row_channels(shape[0], opts, root),
        sfreq=SFREQ,
        tmin=tmin,
        unit="V",
        design="randomised",
        steps=[
            {"name": "band-pass", "low": None, "high": None, "on": "by the source; see its name"},
            {"name": "epoch", "tmin": tmin, "tmax": tmax, "on": "by the source"},
        ],
        name="alljoined1",
    )


def _row(batch: dict[str, list[Any]], i: int) -> dict[str, Any]:
    """What a row says of its trial."""
    return {
        "subject": f"{int(batch['subject_id'][i]):02d}",
        "session": str(int(batch["session"][i])),
        "onset": float(batch["curr_time"][i]),
        "order": int(batch["trial"][i]) - 1,
        "image_id": f"nsd-{int(batch['73k_id'][i]):05d}",
        "coco_id": int(batch["coco_id"][i]),
    }


def _check_numbers(values: list[Any], column: str, path: Path) -> None:
    """Refuse a column that holds something else than numbers that have a place on a line."""
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) < 2**53 or (column != "curr_time" and value != int(value)):
            kind = "a number" if column == "curr_time" else "a whole number"
            raise RecordingError(
                f"{path}: the column '{column}' holds {str(value)[:60]!r}, not {kind}; check that the "
                "file is of Alljoined1 and whole"
            )


def _batches(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Rows of a file, some at a time, with its columns checked."""
    for _, batch in parquet_rows(path, ROW_COLUMNS, 64):
        try:
            rows = batch.to_pydict()
        except Exception as problem:
            raise damaged(path, problem) from None
        for column in ROW_COLUMNS:
            if column != "EEG":
                _check_numbers(rows[column], column, path)
        yield rows


def _trial(value: Any, path: Path) -> np.ndarray:
    trial: np.ndarray
    try:
        trial = np.array(value, dtype=np.float32)
    except (ValueError, TypeError):
        trial = np.empty(0, dtype=np.float32)
    if trial.ndim != 2 or not trial.size or not np.isfinite(trial).all():
        raise RecordingError(
            f"{path}: 'EEG' should hold channels by samples of finite numbers; get the file again"
        )
    return trial


def _row_channels(n_chans: int, opts: AlljoinedOptions, root: Path) -> list[str]:
    if opts.channels is not None:
        return checked_channels(list(opts.channels), n_chans, root, "channels")
    names = template("biosemi64").ch_names
    if n_chans != len(names):
        raise RecordingError(
            f"{root} holds {n_chans} channels, not the {len(names)} of BioSemi's cap, and the rows do "
            "not name them; name them in order with 'channels'"
        )
    return list(names)
