"""Whether a recording's file holds all that its header promises, where MNE reads it cut off."""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path

from eegprompt.core.errors import RecordingError
from eegprompt.readers._edf_file import read_edf_header
from eegprompt.readers._matlab import check_matlab

__all__ = ["brainvision_data_file", "brainvision_marker_file", "check_whole", "fif_is_whole"]


def check_whole(path: Path) -> None:
    """Compare what a file promises with what it holds, where MNE would read it cut off."""
    suffix = path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        read_edf_header(path)
    if suffix == ".vhdr":
        _check_brainvision_size(path)
    if suffix == ".fif":
        fif_is_whole(path)
    if suffix == ".set":
        check_matlab(path)


def fif_is_whole(path: Path) -> None:
    """Refuse a FIF file that was cut off, which MNE reads silently.

    A file is whole where its chain of tags reaches the one that closes it, or else where its
    directory, as MNE reads it, names no tag that lies beyond the end.
    """
    size = path.stat().st_size
    broken = _end_of_chain(path, size)
    if broken is not None and not _directory_is_whole(path, size):
        raise RecordingError(
            f"{path} is cut off or damaged: its chain of tags breaks off at byte {broken} of {size}; "
            "copy it again, or leave it out"
        )


def _end_of_chain(path: Path, size: int) -> int | None:
    """Where the chain of tags breaks off; None where it is closed."""
    place, seen = 0, set()
    with open(path, "rb") as stream:
        while place not in seen:
            seen.add(place)
            stream.seek(place)
            head = stream.read(16)
            if len(head) < 16:
                break
            _, _, length, following = struct.unpack(">iIii", head)
            end = place + 16 + length
            if length < 0 or end > size or following < -1:
                break
            if following == -1:
                return None
            place = following or end
    return place


def _directory_is_whole(path: Path, size: int) -> bool:
    """Whether MNE finds a directory of tags, and all of them lie in the file."""
    from mne._fiff.constants import FIFF
    from mne._fiff.tag import read_tag

    try:
        with open(path, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("error")
            pointer = read_tag(stream, read_tag(stream, 0).next_pos)
            at = int(pointer.data.item()) if pointer.kind == FIFF.FIFF_DIR_POINTER else -1
            entries = read_tag(stream, at).data if at > 0 else []
            return bool(entries) and all(e.pos + 16 + e.size <= size for e in entries)
    except Exception:  # damaged bytes can break a parser in any way: then there is none
        return False


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
