"""Write a study block by block; the folder appears only when all of it is there."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from eegprompt.core.errors import StudyError
from eegprompt.core.files import atomic_directory, provenance, write_json, write_table
from eegprompt.study.accounting import Accounting
from eegprompt.study.consistency import FORMAT_VERSION
from eegprompt.study.study import IMAGE_COLUMNS, OURS, TRIAL_COLUMNS, Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StudyWriter"]


def _numeric(values: pd.Series) -> pd.Series:
    """Numbers of a column whose type says nothing, such as one of missing values alone."""
    import pandas as pd

    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        raise StudyError(
            f"the column '{values.name}' of the trials should hold numbers, got {values.iloc[0]!r}"
        ) from None


class StudyWriter:
    """Write a study block by block; the folder appears only when all of it is there.

    Parameters
    ----------
    folder : pathlib.Path
        The partial folder given by :meth:`open`.

    Examples
    --------
    ``with StudyWriter.open(out) as writer:`` then any number of ``writer.append(eeg)``, then
    ``writer.finish(info=…, trials=…, images=…)`` once.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._stream: BinaryIO | None = None
        self._shape: tuple[int, int] | None = None
        self._n_trials = 0
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._finished = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: str | Path, *, overwrite: bool = False) -> Iterator[StudyWriter]:
        """Open a writer for the study folder `out`; an error inside leaves nothing behind."""
        with atomic_directory(out, overwrite=overwrite, ours=OURS) as folder:
            writer = cls(folder)
            try:
                yield writer
            finally:
                writer._pool.shutdown()
                if writer._stream is not None:
                    writer._stream.close()
            if not writer._finished:
                raise StudyError("the study was not finished: no tables were written")

    def accounting(self, found: int, left_out: Mapping[str, int] | None = None) -> dict[str, Any]:
        """What became of the `found` events of a source, for ``info``, once all trials are written.

        Raises
        ------
        StudyError
            If the trials written and those left out are not the events found.
        """
        return Accounting(found, self._n_trials, left_out or {}).to_json()

    def append(self, eeg: np.ndarray) -> None:
        """Append trials (n_trials, n_chans, n_times); kept as float32.

        Raises
        ------
        StudyError
            If a value is not finite, or the shape differs from the trials before.
        """
        eeg = np.ascontiguousarray(eeg, dtype="<f4")
        if eeg.ndim != 3:
            raise StudyError(f"trials must be (trials, channels, samples), got shape {eeg.shape}")
        if self._shape is None:
            self._shape = (eeg.shape[1], eeg.shape[2])
            self._stream = open(self.folder / "eeg.npy", "wb")  # noqa: SIM115 (closed in open())
            self._stream.write(self._header(0))
        if eeg.shape[1:] != self._shape:
            raise StudyError(
                f"trials must all have {self._shape[0]} channels and {self._shape[1]} samples, got "
                f"{eeg.shape[1]} and {eeg.shape[2]}"
            )
        # The square sum of finite values is finite, unless they are huge; it takes one quick pass.
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = not np.isfinite(np.dot(eeg.reshape(-1), eeg.reshape(-1)))
        finite = np.isfinite(eeg).all(axis=(1, 2)) if suspect else np.ones(len(eeg), bool)
        if not finite.all():
            bad = int(np.flatnonzero(~finite)[0])
            channel = int(np.flatnonzero(~np.isfinite(eeg[bad]).all(axis=1))[0])
            raise StudyError(
                f"trial {self._n_trials + bad}, channel {channel} (counted from 0) holds a value that "
                "is not finite; drop the trial or mend the recording"
            )
        assert self._stream is not None
        block = eeg.data if eeg.size else b""
        # Hashing takes as long as writing and runs beside it.
        hashing = self._pool.submit(self._digest.update, block)
        try:
            self._stream.write(block)
        finally:
            hashing.result()
        self._n_trials += len(eeg)

    def finish(self, *, info: dict[str, Any], trials: pd.DataFrame, images: pd.DataFrame) -> None:
        """Write the tables and ``study.json``; see the design page for the columns.

        Raises
        ------
        StudyError
            If there is no trial, or ``info["accounting"]`` counts others than were written.
        """
        if self._stream is None or not self._n_trials:
            raise StudyError(
                "no trials are left to write; check the events and the rejection limits"
            )
        if "accounting" in info:
            counted = Accounting.from_json(info["accounting"]).trials
            if counted != self._n_trials:
                raise StudyError(
                    f"{self._n_trials} trials were written, but the accounting counts {counted}"
                )
        self._stream.seek(0)
        self._stream.write(self._header(self._n_trials))
        self._stream.close()
        trials = trials.copy()
        trials["trial_id"] = np.arange(len(trials))
        for column, default in (
            ("session", "1"),
            ("run", "1"),
            ("block", -1),
            ("order", -1),
            ("onset", np.nan),
            ("n_averaged", 1),
        ):
            if column not in trials:
                trials[column] = default
            elif isinstance(default, (int, float)) and trials[column].dtype == object:
                trials[column] = _numeric(trials[column])
        images = images.copy()
        for column in ("path", "sha256"):
            if column not in images:
                images[column] = ""
        for column in ("width", "height"):
            if column not in images:
                images[column] = 0
        extra_trial = [c for c in trials if c not in TRIAL_COLUMNS]
        extra_image = [c for c in images if c not in IMAGE_COLUMNS]
        write_table(self.folder / "trials.parquet", trials[[*TRIAL_COLUMNS, *extra_trial]])
        write_table(self.folder / "images.parquet", images[[*IMAGE_COLUMNS, *extra_image]])
        full = {"format_version": FORMAT_VERSION, "steps": [], **info}
        full["eeg_sha256"] = self._digest.hexdigest()
        full.setdefault("provenance", provenance())
        write_json(self.folder / "study.json", full)
        Study(self.folder)  # raises if anything does not fit
        self._finished = True

    def _header(self, n_trials: int) -> bytes:
        """A .npy header of fixed length, so that the count can be put in at the end."""
        assert self._shape is not None
        shape = (n_trials, *self._shape)
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        length = 192 - 10
        return (
            b"\x93NUMPY\x01\x00"
            + length.to_bytes(2, "little")
            + (text.ljust(length - 1) + "\n").encode("latin1")
        )
