"""What an EDF or BDF file says beside its signal: units, rates, the time of each record, annotations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eegprompt.core.errors import RecordingError

__all__ = ["EdfHeader", "Records", "read_edf_header", "read_records"]

_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14(.*)", re.DOTALL)
Annotation = tuple[float, float, str]


@dataclass(frozen=True)
class EdfHeader:
    """The fields of a header that are needed here; `counts` are samples a record of each signal."""

    header_bytes: int
    n_records: int
    record_seconds: float
    labels: tuple[str, ...]
    units: tuple[str, ...]
    counts: tuple[int, ...]
    sample_bytes: int

    @property
    def is_text(self) -> tuple[bool, ...]:
        """Which signals hold annotations."""
        return tuple(label in ("EDF Annotations", "BDF Annotations") for label in self.labels)

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return sum(self.counts) * self.sample_bytes


@dataclass(frozen=True)
class Records:
    """When each data record began, in seconds since the first, and all annotations likewise."""

    starts: np.ndarray
    annotations: tuple[Annotation, ...]


def read_edf_header(path: Path) -> EdfHeader:
    """Read the header of an EDF or BDF file."""
    sample_bytes = 3 if path.suffix.lower() == ".bdf" else 2
    size = path.stat().st_size
    try:
        with open(path, "rb") as stream:
            head = stream.read(256)
            n_signals = int(head[252:256])
            n_records = int(head[236:244])
            header_bytes = int(head[184:192])
            seconds = float(head[244:252])
            signals = stream.read(n_signals * 256)

        def column(at: int, width: int) -> list[bytes]:
            start = at * n_signals
            return [signals[start + width * i : start + width * (i + 1)] for i in range(n_signals)]

        counts = tuple(int(text) for text in column(216, 8))
        if n_signals < 1 or header_bytes != 256 * (n_signals + 1) or min(counts) < 1:
            raise ValueError("impossible counts")
    except ValueError:
        raise RecordingError(
            f"{path} has no valid EDF/BDF header; it may be damaged or of another format: copy it "
            "again, or leave it out"
        ) from None
    labels, units = (
        tuple(text.decode("latin-1").strip("\0 ") for text in column(at, width))
        for at, width in ((0, 16), (96, 8))
    )
    header = EdfHeader(header_bytes, n_records, seconds, labels, units, counts, sample_bytes)
    if n_records < 0:  # the standard's sign of a recording that was never closed; MNE counts
        return header
    promised = header_bytes + n_records * header.record_bytes
    if size < promised:
        raise RecordingError(
            f"{path} is cut off: its header promises {promised} bytes, the file holds {size}; copy "
            "it again, or leave it out"
        )
    return header


def read_records(path: Path, header: EdfHeader) -> Records | None:
    """Times of the data records and the annotations of an EDF+ or BDF+ file."""
    if not any(header.is_text) or header.record_seconds <= 0:
        return None
    content = np.memmap(path, np.uint8, "r", offset=header.header_bytes)
    n_records = len(content) // header.record_bytes
    if header.n_records >= 0:
        n_records = min(n_records, header.n_records)
    table = content[: n_records * header.record_bytes].reshape(n_records, header.record_bytes)
    edges = np.cumsum([0, *header.counts]) * header.sample_bytes
    texts = [i for i, text in enumerate(header.is_text) if text]
    starts = np.full(n_records, np.nan)
    found: list[Annotation] = []
    for record in range(n_records):
        for signal in texts:
            part = table[record, edges[signal] : edges[signal + 1]].tobytes()
            for place, tal in enumerate(part.split(b"\0")):
                match = _TAL.fullmatch(tal)
                if match is None:
                    continue
                onset, duration = float(match[1]), float(match[2] or 0)
                names = match[3].split(b"\x14")
                if signal == texts[0] and place == 0 and names[0] == b"":
                    starts[record] = onset
                for name in names:
                    text, of_channel = _text(name), False
                    if "@@" in text and text.rpartition("@@")[2] in header.labels:
                        text, of_channel = text.rpartition("@@")[0], True
                    event = (onset, duration, text)
                    if text and not (of_channel and event in found):
                        found.append(event)
    unknown = ~np.isfinite(starts)
    if unknown.any():
        with open(path, "rb") as stream:
            kind = stream.read(256)[192:197]
        if kind in (b"EDF+D", b"BDF+D"):
            raise RecordingError(
                f"{path} is discontinuous, but its data record {int(np.argmax(unknown))} (counted "
                "from 0) does not say when it began; export it again, or cut it at its gaps"
            )
        starts = np.arange(n_records) * header.record_seconds + (0.0 if unknown[0] else starts[0])
    zero = starts[0] if n_records else 0.0
    if (np.diff(starts) < header.record_seconds * (1 - 1e-6) - 1e-3).any():
        record = int(np.argmin(np.diff(starts))) + 1
        raise RecordingError(
            f"{path}: data record {record} (counted from 0) begins at {starts[record] - zero:g} s, "
            f"before the one before it has ended; export it again with its records in order"
        )
    return Records(
        starts - zero, tuple((onset - zero, duration, text) for onset, duration, text in found)
    )


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")
