"""Annotations as a file holds them: MNE drops or moves those outside the data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eegprompt.readers._file_checks import brainvision_marker_file

__all__ = ["ON_RECORDING", "annotations_of"]

# What is said of the recording itself: no event, unless somebody asks for it by name.
ON_RECORDING = re.compile(r"(BAD.*|EDGE boundary|boundary|New Segment.*)", re.IGNORECASE)

Annotation = tuple[float, float, str]  # onset and duration in seconds, description


def annotations_of(
    path: Path, raw: Any, stored: Sequence[Annotation] | None = None
) -> tuple[Annotation, ...]:
    """All annotations of a recording, in seconds since its first sample."""
    # Onsets of FIF files count from where the recording began, not from its first sample.
    late = float(raw.first_time)
    kept = [
        (float(a["onset"]) - late, float(a["duration"]), str(a["description"]))
        for a in raw.annotations
    ]
    stored = _in_file(path, float(raw.info["sfreq"])) if stored is None else stored
    if stored is None:
        return tuple(kept)
    # In a BIDS dataset, what is bad may stand in the table of events, too.
    added = [a for a in kept if ON_RECORDING.fullmatch(a[2].strip()) and a not in stored]
    return tuple(sorted([*stored, *added], key=lambda a: a[0]))


def _in_file(path: Path, sfreq: float) -> Sequence[Annotation] | None:
    """What a file of EEGLAB or BrainVision holds; None for others: MNE leaves nothing out."""
    import mne

    suffix = path.suffix.lower()
    source: Path | None = path if suffix == ".set" else None
    if suffix == ".vhdr":
        source = brainvision_marker_file(path)
    if source is None or not source.is_file():
        return None
    with warnings.catch_warnings(), mne.use_log_level("ERROR"):
        warnings.simplefilter("ignore")
        try:
            found = mne.read_annotations(source, sfreq=sfreq)
        except Exception:  # MNE read the recording, so that its own annotations stand
            return None
    return [(float(a["onset"]), float(a["duration"]), str(a["description"])) for a in found]
