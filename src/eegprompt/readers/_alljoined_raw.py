"""Alljoined-1.6M as it was recorded: EDF files of a headset, whose annotations say what was shown."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from eegprompt.core.errors import RecordingError
from eegprompt.readers._alljoined import AlljoinedOptions, categories_beside
from eegprompt.readers._events import Event, FoundEvents, place_at, sorted_events
from eegprompt.readers._file_checks import check_whole
from eegprompt.readers._open_recording import open_recording
from eegprompt.readers._raw_recording import mne_errors
from eegprompt.readers._recording import Recording
from eegprompt.readers._recordings import CuttingOptions
from eegprompt.readers.base import Content, ImageOptions, Import
from eegprompt.readers.continuous import ContinuousImport, ContinuousOptions
from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of

__all__ = ["read_raw"]

_STIMULUS = re.compile(r"(?:^|,)stim_(train|test),(\d+)(?:,|$)")
# Subject, session and block in a file's name: ``Subject 19, Session 1, Block 2.edf``.
_IN_NAME = tuple(
    re.compile(rf"(?<![a-z]){word}[ _.-]*0*(\d+)", re.IGNORECASE)
    for word in ("sub(?:ject)?", "ses(?:sion)?", "block")
)
# What an Emotiv headset records besides EEG.
_NO_EEG = (
    "Timestamp", "OrTimestamp", "Counter", "Interpolated", "RawCq", "Battery", "FwBuffer",
    "FwClock", "Marker", "HighBit", "Saturation", "CQ", "EQ", "MOT", "TIME_STAMP", "COUNTER",
    "INTERPOLATED", "MARKER", "EDF Annotations",
)  # fmt: skip


def read_raw(root: Path, job: Import[AlljoinedOptions, Any]) -> Content:
    """Raw recordings, cut as any other; a block is a recording."""
    opts = job.options
    folder = re.compile(r"sub-(\d+)/session_(\d+)/block_(\d+)/")
    found = []
    for file in sorted(p for p in root.rglob("*.edf") if p.is_file()):
        match = folder.search(file.resolve().as_posix())
        if match:
            subject, session, run = (f"{int(n):02d}" for n in match.groups())
            found.append((file, {"subject": subject, "session": session, "run": run}))
    asked = None
    if opts.subjects is not None:
        asked = {f"{int(s):02d}" if s.isdigit() else s for s in opts.subjects}
    found = _identified(found, opts.identity, asked, job.notes)
    if asked is not None:
        there = sorted({who["subject"] for _, who in found})
        missing = sorted(asked - set(there))
        if missing:
            raise RecordingError(
                f"{root} holds no subject {', '.join(missing)}; it holds {', '.join(there)}: correct "
                "'subjects'"
            )
        found = [(file, who) for file, who in found if who["subject"] in asked]
    shared = {*CuttingOptions.model_fields, *ImageOptions.model_fields, "tmax"}
    cut = ContinuousOptions(
        **opts.model_dump(include=shared),
        tmin=-0.2 if opts.tmin is None else opts.tmin,
        min_events=1,
        design="randomised",
        rename={"Afz": "AFz"},
    )
    recordings = _RawImport(job, cut, None, len(found) > 1)
    recordings.category_of = categories_beside(root, opts)
    job.facts = replace(job.facts, unverified=job.facts.unverified[1:])
    content = recordings.add_all(found)
    content.trials["partition"] = content.trials["image_id"].map(recordings.side_of)
    content.name = "alljoined-1.6m-raw"
    return content


def _identified(
    found: list[tuple[Path, dict[str, str]]],
    identity: Literal["folder", "name"] | None,
    asked: set[str] | None,
    notes: list[str],
) -> list[tuple[Path, dict[str, str]]]:
    """Files with their subject, session and block, as their folders and their names say it.

    In the release, many blocks in the folder of subject 8 are called ``Subject 19, …``.
    """
    result, wrong = [], []
    for file, folder in found:
        name = {
            key: f"{int(match.group(1)):02d}"
            for key, match in zip(folder, (p.search(file.stem) for p in _IN_NAME))
            if match
        }
        said = {**folder, **name}
        if said != folder and (asked is None or asked & {said["subject"], folder["subject"]}):
            wrong.append((file, folder, said))
            folder = {**folder, **(name if identity == "name" else {})}
        result.append((file, folder))
    if wrong:
        file, inside, said = wrong[0]
        what = (
            f"the names of {len(wrong)} of {len(found)} files disagree with their folders (first: "
            f"'{file.name}', {_in_words(said)}, lies in the folder of {_in_words(inside)})"
        )
        if identity is None:
            raise RecordingError(
                f"{what}; say which is right with 'identity': folder or name, or leave the subject "
                "out with 'subjects'"
            )
        notes.append(f"{what}; the {identity} was taken")
    first: dict[tuple[str, ...], Path] = {}
    for file, who in result:
        twin = first.setdefault(tuple(who.values()), file)
        if twin.parent != file.parent:
            raise RecordingError(
                f"{twin} and {file} are both {_in_words(who)}; leave one out, or say with 'identity' "
                "whether folders or names are right"
            )
    return result


def _in_words(who: dict[str, str]) -> str:
    return f"subject {who['subject']}, session {who['session']}, block {who['run']}"


class _RawImport(ContinuousImport):
    """Recordings whose annotations name the partition and the number of the image."""

    category_of: dict[str, str]

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.side_of: dict[str, str] = {}

    def open(self, file: Path) -> Recording:
        """Read the EEG channels of a headset's file, which holds much besides."""
        import mne

        check_whole(file)
        with mne_errors(file, self.notes, "EDF"):
            names = mne.io.read_raw_edf(file, preload=False, verbose="ERROR").ch_names
        eeg = ["AFz" if n == "Afz" else n for n in names if not n.startswith(_NO_EEG)]
        known = positions_of(eeg)
        eeg = [n for n in eeg if known[n] is not None]
        if not eeg:
            raise RecordingError(
                f"{file} holds no EEG channel of the montage {STANDARD_MONTAGE} (it holds "
                f"{', '.join(names[:8])}); check that it is of this dataset"
            )
        return open_recording(file, channels=eeg, rename=self.opts.rename)

    def events_in(self, recording: Recording, file: Path, who: dict[str, str]) -> FoundEvents:
        """Events from annotations like ``stim_train,05008,-1,1``."""
        rows: list[Event] = []
        left_out: Counter[str] = Counter()
        for onset, _, text in recording.annotations:
            match = _STIMULUS.search(text)
            sample = place_at(recording, onset)
            if match is None or isinstance(sample, str):
                left_out["not a stimulus" if match is None else str(sample)] += 1
                continue
            side, number = match.group(1), str(int(match.group(2)))
            image = f"{int(number):05d}"
            if self.side_of.setdefault(image, side) != side:
                raise RecordingError(
                    f"{file}: the image {image} is marked stim_{side} here and "
                    f"stim_{self.side_of[image]} elsewhere; it would stand on both sides"
                )
            if number not in self.category_of:
                raise RecordingError(
                    f"{file}: the category of the image {image} is not known; give a table that has "
                    "it with 'metadata' or 'categories'"
                )
            rows.append((sample, f"stim_{side}", self.category_of[number], image))
        found = len(recording.annotations)
        return FoundEvents(sorted_events(file, rows, self.opts.repeated, left_out), found, left_out)
