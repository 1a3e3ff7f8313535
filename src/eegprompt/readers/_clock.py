"""Sampling rate and gaps of a recording, from the time stamps of its samples."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from eegprompt.core.errors import RecordingError

__all__ = ["read_clock"]


Segments = tuple[tuple[int, int, float], ...]
_SAME_RATE = 0.02  # by which parts of one recording may differ
_LONG_ENOUGH = 10.0  # seconds of a part whose rate says something


def read_clock(
    path: Path, times: np.ndarray, sfreq: float | None, max_gap: float, notes: list[str]
) -> tuple[float, Segments, int, dict[str, Any]]:
    """Sampling rate, segments without gaps, jumps back, and what the time stamps show.

    A step longer than `max_gap`, forward beyond a sample or back, parts the recording.
    """
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise RecordingError(f"{path}, line {row + 2} has no time stamp; mend or delete that line")
    steps = np.diff(times)
    typical = float(np.median(steps))
    if typical <= 0:
        raise RecordingError(
            f"{path}: the time stamps do not rise (median step {typical:g} s); name the right "
            "column with 'time_column', or give 'sfreq' and leave the column out"
        )
    # Time stamps of single samples jitter where they are those of the packets in which samples come.
    regular = float((np.abs(steps - typical) <= 0.1 * typical).mean()) > 0.95
    back = steps < (0 if regular else -max_gap)
    gap = steps - typical > max_gap
    skip = (steps > 1.5 * typical) & ~gap if regular else np.zeros(len(steps), bool)
    parts = _parts(back | gap, len(times))
    # Lost samples that add up to a gap part the recording too: what follows would lie elsewhere.
    for first, stop in parts:
        inside = slice(first, stop - 1)
        if steps[inside][skip[inside]].sum() - typical * skip[inside].sum() > max_gap:
            gap[inside] |= skip[inside]
    parts = _parts(back | gap, len(times))
    measured = _rate(path, times, parts, skip)
    if sfreq is not None and abs(measured - sfreq) > 0.01 * sfreq:
        raise RecordingError(
            f"{path}: the time stamps give {measured:.4g} Hz but 'sfreq' says {sfreq:g} Hz; leave "
            "'sfreq' out, or correct it"
        )
    whole = float(round(measured))
    near = whole if abs(measured - whole) <= 0.005 * measured else measured
    rate = float(sfreq) if sfreq is not None else near
    segments: list[tuple[int, int, float]] = []
    for first, stop in parts:
        start = 0.0
        if segments:
            before, end, begin = segments[-1]
            jumped = back[first - 1]
            start = begin + ((end - before) / rate if jumped else times[first] - times[before])
        segments.append((first, stop, float(start)))
    return rate, tuple(segments), int(back.sum()), {
        "sfreq_from": "time stamps",
        "sfreq_measured": round(measured, 6),
        "jitter_ms": round(_jitter(times, parts) * 1e3, 3),
        "backward_steps": int(((steps <= 0) & ~back).sum()),
        **_breaks(path, steps, rate, gap=gap, back=back, skip=skip & ~gap, notes=notes),
    }  # fmt: skip


def _parts(ends: np.ndarray, n_samples: int) -> list[tuple[int, int]]:
    bounds = [0, *(int(i) + 1 for i in np.flatnonzero(ends)), n_samples]
    return list(pairwise(bounds))


def _rate(path: Path, times: np.ndarray, parts: list[tuple[int, int]], skip: np.ndarray) -> float:
    """The sampling rate of the longest part; refuses what no EEG has, and parts that differ."""
    found: list[tuple[int, float]] = []
    for first, stop in parts:
        kept = np.diff(times[first:stop])[~skip[first : stop - 1]]
        span = float(kept.sum())
        found.append((len(kept), len(kept) / span if span > 0 else np.nan))
    measured = max(found)[1]
    if not (np.isfinite(measured) and 1 <= measured <= 100_000):
        raise RecordingError(
            f"{path}: the time stamps give a sampling rate of {measured:.4g} Hz, which no EEG has; "
            "time stamps must be in seconds: name their column with 'time_column', or give 'sfreq'"
        )
    long = [rate for n, rate in found if n >= _LONG_ENOUGH * measured]
    if any(not abs(rate - measured) <= _SAME_RATE * measured for rate in long):
        raise RecordingError(
            f"{path}: the time stamps give sampling rates from {min(long):.5g} to {max(long):.5g} Hz "
            "in parts of the recording; cut it into one file for each rate"
        )
    return measured


def _jitter(times: np.ndarray, parts: list[tuple[int, int]]) -> float:
    """Standard deviation of time stamps around even spacing, in seconds."""
    within = [np.zeros(1)]
    for first, stop in parts:
        if stop - first > 2:
            index = np.arange(stop - first)
            line = np.polyval(np.polyfit(index, times[first:stop], 1), index)
            within.append(times[first:stop] - line)
    return float(np.concatenate(within[1:] or within).std())


def _breaks(
    path: Path,
    steps: np.ndarray,
    rate: float,
    *,
    gap: np.ndarray,
    back: np.ndarray,
    skip: np.ndarray,
    notes: list[str],
) -> dict[str, int]:
    """Count gaps, jumps back and lost samples, and say so."""
    lost = int(np.round(steps[skip] * rate - 1).sum())
    if gap.any():
        seconds = float((steps[gap] - 1 / rate).sum())
        notes.append(
            f"{path.name}: {int(gap.sum())} gaps ({seconds:.2f} s in all) part the recording; no "
            "trial spans one"
        )
    if back.any():
        far = ", ".join(f"{-step:.3g} s" for step in steps[back][:4])
        notes.append(
            f"{path.name}: the clock of its time stamps jumps back {int(back.sum())} times (by {far}); "
            "no trial spans a jump, and onsets count on without the jumps"
        )
    if lost:
        notes.append(
            f"{path.name}: {lost} samples were lost one by one; what follows each lies earlier by as "
            "much"
        )
    return {"gaps": int(gap.sum()), "jumps_back": int(back.sum()), "samples_lost": lost}
