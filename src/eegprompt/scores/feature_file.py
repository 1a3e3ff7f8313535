"""Features of many images, in a file instead of memory."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import numpy as np

from eegprompt.core.errors import StorageError

__all__ = ["FeatureFile"]


class FeatureFile:
    """Rows of float32 in a file that has no name and vanishes with this object.

    A memory map would do, but its pages count as the process's memory until the system wants them
    back, so that two thousand images on AlexNet's second layer look like three gigabytes.

    Parameters
    ----------
    shape : (int, int)
        Images and values of each. The file lies in the folder of temporary files (``TMPDIR``).

    Raises
    ------
    StorageError
        If the disk has no room for it.
    """

    def __init__(self, shape: tuple[int, int]):
        folder = tempfile.gettempdir()
        needed, free = 4 * shape[0] * shape[1], shutil.disk_usage(folder).free
        if needed > free:
            raise StorageError(
                f"the features of {shape[0]} images take {needed / 2**30:.1f} GB, and {folder} has "
                f"{free / 2**30:.1f} GB left; set TMPDIR to a folder with room"
            )
        self.shape = shape
        self._stream = tempfile.TemporaryFile()  # noqa: SIM115  deleted with this object
        self._stream.truncate(needed)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, row: int, values: np.ndarray) -> None:
        """Write one row."""
        self._stream.seek(4 * row * self.shape[1])
        self._stream.write(np.asarray(values, dtype=np.float32).tobytes())

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Read some rows that follow one another."""
        start, stop, _ = rows.indices(self.shape[0])
        n = max(stop - start, 0)
        self._stream.seek(4 * start * self.shape[1])
        values = np.frombuffer(self._stream.read(4 * n * self.shape[1]), dtype=np.float32)
        return values.reshape(n, self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows, in memory."""
        return self[:].astype(dtype or np.float32, copy=False)
