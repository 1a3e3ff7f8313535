"""Whether a recording's file holds all that its header promises, where MNE reads it cut off."""

from __future__ import annotations

import re
from pathlib import Path

from eegprompt.core.errors import RecordingError

__all__ = ["brainvision_data_file", "brainvision_marker_file", "check_whole", "fif_is_whole"]


def check_whole(path: Path) -> None:
    """Compare what a file promises with what it holds, where MNE would read it cut off.

    Raises
    ------
    RecordingError
        If some is missing.
    """
    suffix = path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        _check_edf_size(path, 3 if suffix == ".bdf" else 2)
    if suffix == ".vhdr":
        _check_brainvision_size(path)
    if suffix == ".fif":
        fif_is_whole(path)


def _check_edf_size(path: Path, sample_bytes: int) -> None:
    """Compare what the header promises with what the file holds."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as stream:
            head = stream.read(256)
            n_signals = int(head[252:256])
            n_records = int(head[236:244])
            header_bytes = int(head[184:192])
            signals = stream.read(n_signals * 256)
        at = n_signals * 216
        counts = [int(signals[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals)]
        if n_signals < 1 or header_bytes != 256 * (n_signals + 1) or min(counts) < 1:
            raise ValueError("impossible counts")
    except ValueError:
        raise RecordingError(
            f"{path} has no valid EDF/BDF header; it may be damaged or of another format: copy it "
            "again, or leave it out"
        ) from None
    if n_records < 0:  # the standard's sign of a recording that was never closed; MNE counts
        return
    promised = header_bytes + n_records * sum(counts) * sample_bytes
    if size < promised:
        raise RecordingError(
            f"{path} is cut off: its header promises {promised} bytes, the file holds {size}; copy "
            "it again, or leave it out"
        )


def fif_is_whole(path: Path) -> None:
    """Walk the chain of tags to the one that closes the file: MNE reads a cut-off file silently.

    Raises
    ------
    RecordingError
        If the chain breaks off.
    """
    size = path.stat().st_size
    place = 0
    with open(path, "rb") as stream:
        while True:
            stream.seek(place)
            head = stream.read(16)
            if len(head) < 16:
                break
            _, _, length, following = (
                int.from_bytes(head[i : i + 4], "big", signed=True) for i in (0, 4, 8, 12)
            )
            end = place + 16 + length
            if length < 0 or end > size:
                break
            if following == -1:
                return
            if following < 0 or 0 < following <= place:
                break  # a chain that runs in a circle
            place = following or end
    raise RecordingError(
        f"{path} is cut off or damaged: its chain of tags breaks off at byte {place} of {size}; copy "
        "it again, or leave it out"
    )


def _brainvision_fields(path: Path) -> dict[str, str]:
    text = path.read_bytes().decode("utf-8", errors="replace")
    pairs = re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", text, flags=re.MULTILINE)
    return {key.lower(): value for key, value in pairs}


def brainvision_data_file(path: Path) -> Path | None:
    named = _brainvision_fields(path).get("datafile")
    return path.parent / named.replace("$b", path.stem) if named else None


def brainvision_marker_file(path: Path) -> Path | None:
    named = _brainvision_fields(path).get("markerfile")
    return path.parent / named.replace("$b", path.stem) if named else None


def _check_brainvision_size(path: Path) -> None:
    fields = _brainvision_fields(path)
    signal = brainvision_data_file(path)
    if signal is None:
        raise RecordingError(f"{path} names no DataFile; it is no BrainVision header")
    try:
        present = signal.is_file()
    except (OSError, ValueError):  # a damaged name, with a NUL or endless
        present = False
    if not present:
        raise RecordingError(
            f"{path} names its signal file {signal.name!r}, which is not beside it; copy the .vhdr, "
            ".vmrk and .eeg files together"
        )
    width = {"INT_16": 2, "IEEE_FLOAT_32": 4, "INT_32": 4, "UINT_16": 2}.get(
        fields.get("binaryformat", "").upper()
    )
    try:
        n_chans = int(fields.get("numberofchannels", "0"))
        points = int(fields.get("datapoints", "0"))
    except ValueError:
        return  # MNE says what is wrong with the header
    if width is None or n_chans < 1:
        return
    size = signal.stat().st_size
    if size % (width * n_chans) or (points and size < points * width * n_chans):
        raise RecordingError(
            f"{signal} is cut off: {size} bytes are no whole number of samples of {n_chans} channels"
            f"{f', or fewer than the {points} promised' if points else ''}; copy it again, or leave "
            "it out"
        )
