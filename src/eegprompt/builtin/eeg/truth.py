"""What was planted: sources, latencies, topographies, and the noise-free sensors they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import StudyError, UnknownNameError
from eegprompt.core.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from eegprompt.study import Study

__all__ = ["COMMON", "Truth", "load_truth"]

COMMON = "common"
"""Name of the response that every image evokes alike."""

_SOURCE_ARRAYS = ("positions", "orientations", "latencies", "widths", "topographies", "amplitudes")


@dataclass(frozen=True, eq=False, repr=False)
class Truth:
    """The evoked part of a simulated study, from which its noise-free sensors are rebuilt.

    A trial's response of one kind is the sum over the kind's sources of topography × amplitude
    for the image × gain of the trial × time course, delayed by the trial's latency jitter, less
    the mean of the baseline where the study is baseline-corrected.

    Attributes
    ----------
    kinds : tuple of str
        Caption kinds, in the order of the columns of `gain` and `delay`; the last column there
        belongs to the common response.
    subjects, ch_names : tuple of str
        As in the study.
    times : array (n_times,)
        Seconds from onset.
    baseline : tuple of float or None
        Interval whose mean was subtracted.
    rebound : tuple of float
        Size, delay and width of the opposite peak after a peak (the latter two in widths).
    positions, orientations : dict of str to array (n_subjects, n_sources, 3)
        Of each kind's sources: meters in head coordinates, unit vectors.
    latencies : dict of str to array (n_subjects, n_sources)
        Mean latencies of the peaks, in seconds.
    widths : dict of str to array (n_sources,)
        Standard deviations of the peaks, in seconds.
    topographies : dict of str to array (n_subjects, n_sources, n_chans)
        Volts at a source amplitude of 1; average reference.
    amplitudes : dict of str to array (n_images, n_sources)
        Source amplitudes, the same for all subjects.
    trial_subject, trial_image : array of int (n_trials,)
        Index of the subject and of the image of each trial.
    gain, delay : array (n_trials, n_kinds + 1)
        Gain of each trial, and its latency jitter as a fraction of the latency.
    summary : dict
        Measured ratio of evoked to background and the like.
    """

    kinds: tuple[str, ...]
    subjects: tuple[str, ...]
    ch_names: tuple[str, ...]
    times: np.ndarray
    baseline: tuple[float, float] | None
    rebound: tuple[float, float, float]
    positions: dict[str, np.ndarray]
    orientations: dict[str, np.ndarray]
    latencies: dict[str, np.ndarray]
    widths: dict[str, np.ndarray]
    topographies: dict[str, np.ndarray]
    amplitudes: dict[str, np.ndarray]
    trial_subject: np.ndarray
    trial_image: np.ndarray
    gain: np.ndarray
    delay: np.ndarray
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Truth({self.n_trials} trials, {len(self.subjects)} subjects, "
            f"{len(self.kinds)} kinds, {len(self.ch_names)} channels)"
        )

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.trial_subject)

    def _checked(self, kind: str) -> str:
        if kind not in self.positions:
            raise UnknownNameError("caption kind", kind, [*self.kinds, COMMON])
        return kind

    def _subject(self, subject: str | int) -> int:
        if isinstance(subject, int):
            return subject
        if subject not in self.subjects:
            raise UnknownNameError("subject", subject, self.subjects)
        return self.subjects.index(subject)

    def _courses(self, kind: str, subject: int, delay: np.ndarray) -> np.ndarray:
        """Time courses of a kind's sources, float32 (len(delay), n_sources, n_times)."""
        size, later, wider = self.rebound
        width = self.widths[kind][:, None]
        peak = self.latencies[kind][subject][:, None] * (1 + delay[:, None, None])
        z = ((self.times - peak) / width).astype(np.float32)
        course = np.exp(-(z**2) / 2)
        course -= np.float32(size) * np.exp(-(((z - later) / wider) ** 2) / 2)
        return course

    def _sensors(self, kind: str, subject: int, courses: np.ndarray) -> np.ndarray:
        """Project sources (n, n_sources, n_times) to the sensors, baseline subtracted."""
        n, n_sources, n_times = courses.shape
        topography = self.topographies[kind][subject].T.astype(np.float32)
        # One large product: a stack of small ones loses its time to the threads' hand-shakes.
        flat = topography @ courses.transpose(1, 0, 2).reshape(n_sources, n * n_times)
        return self.subtract_baseline(flat.reshape(-1, n, n_times).transpose(1, 0, 2))

    def subtract_baseline(self, eeg: np.ndarray) -> np.ndarray:
        """Subtract the mean of the baseline, as was done in the study; shape (..., n_times)."""
        if self.baseline is None:
            return eeg
        inside = baseline_samples(self.times, self.baseline)
        return eeg - eeg[..., inside].mean(axis=-1, keepdims=True)

    def responses(
        self, kind: str, trial_ids: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """Noise-free sensors of one kind in single trials, with each trial's jitter and gain.

        Parameters
        ----------
        kind : str
            A caption kind, or ``"common"``.
        trial_ids : sequence of int, optional
            Which trials; all by default.

        Returns
        -------
        array of float32, shape (n_trials, n_chans, n_times)
            Volts. The sum over all kinds and ``"common"`` is what the study's EEG holds beside its
            noise, to the rounding of float32.
        """
        kind = self._checked(kind)
        ids = np.arange(self.n_trials) if trial_ids is None else np.asarray(trial_ids, dtype=int)
        column = len(self.kinds) if kind == COMMON else self.kinds.index(kind)
        out = np.zeros((len(ids), len(self.ch_names), len(self.times)), np.float32)
        for subject in np.unique(self.trial_subject[ids]):
            rows = np.flatnonzero(self.trial_subject[ids] == subject)
            for first in range(0, len(rows), 256):
                some = rows[first : first + 256]
                trials = ids[some]
                amplitude = self.amplitudes[kind][self.trial_image[trials]]
                amplitude = amplitude * self.gain[trials, column, None]
                courses = self._courses(kind, subject, self.delay[trials, column])
                courses *= amplitude[:, :, None].astype(np.float32)
                out[some] = self._sensors(kind, subject, courses)
        return out

    def evoked(self, kind: str, subject: str | int, images: np.ndarray | None = None) -> np.ndarray:
        """Noise-free sensors of one kind at mean latency and gain, an image each.

        Parameters
        ----------
        kind : str
            A caption kind, or ``"common"``.
        subject : str or int
            Name or index of a subject.
        images : array of int, optional
            Indices of images; all by default.

        Returns
        -------
        array of float32, shape (n_images, n_chans, n_times)
            Volts.
        """
        kind = self._checked(kind)
        index = self._subject(subject)
        amplitude = self.amplitudes[kind]
        amplitude = amplitude if images is None else amplitude[images]
        courses = self._courses(kind, index, np.zeros(1)) * amplitude[:, :, None].astype(np.float32)
        return self._sensors(kind, index, courses)

    def strength(self, kind: str, subject: str | int) -> np.ndarray:
        """Standard deviation over images of a kind's noise-free sensors (n_chans, n_times), volts.

        Where and when the EEG of this subject differs by this kind of meaning.
        """
        evoked = self.evoked(kind, subject)
        return evoked.std(axis=0)

    def peak_latency(self, kind: str, subject: str | int) -> float:
        """When the sensors differ most by this kind's meaning, in seconds."""
        strength = np.sqrt((self.strength(kind, subject) ** 2).mean(axis=0))
        return float(self.times[strength.argmax()])

    def save(self, folder: str | Path) -> Path:
        """Write into a folder: ``truth.json`` and ``truth.npz``."""
        folder = Path(folder)
        write_json(
            folder / "truth.json",
            {
                "kinds": self.kinds,
                "subjects": self.subjects,
                "ch_names": self.ch_names,
                "baseline": self.baseline,
                "rebound": self.rebound,
                "summary": self.summary,
            },
        )
        arrays: dict[str, np.ndarray] = {
            "times": self.times,
            "trial_subject": self.trial_subject,
            "trial_image": self.trial_image,
            "gain": self.gain,
            "delay": self.delay,
        }
        for name in _SOURCE_ARRAYS:
            for kind, value in getattr(self, name).items():
                arrays[f"{name}/{kind}"] = value
        with atomic_path(folder / "truth.npz") as partial, open(partial, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        return folder


def baseline_samples(times: np.ndarray, baseline: tuple[float, float]) -> np.ndarray:
    """Which samples the baseline covers: the onset itself is not among them."""
    half = (times[1] - times[0]) / 2
    return (times >= baseline[0] - half) & (times < baseline[1] - half)


def load_truth(study: Study) -> Truth:
    """Read what was planted in a simulated study.

    Parameters
    ----------
    study : Study
        A study made by ``eegprompt simulate``.

    Raises
    ------
    StudyError
        If the study holds no truth: it was recorded, not simulated, or is incomplete.
    """
    folder = study.path / "truth"
    if not (folder / "truth.npz").exists():
        raise StudyError(
            f"{study.path} has no truth/truth.npz, so what is planted in it is unknown; only studies "
            "made by 'eegprompt simulate' have one"
        )
    facts = read_json(folder / "truth.json", error=StudyError, schema="truth")
    try:
        with np.load(folder / "truth.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as problem:  # zip, header and value errors alike
        raise StudyError(
            f"{folder / 'truth.npz'} cannot be read ({problem}); simulate the study again"
        ) from None
    kinds = tuple(facts["kinds"])
    needed = [f"{name}/{kind}" for name in _SOURCE_ARRAYS for kind in (*kinds, COMMON)]
    needed += ["times", "trial_subject", "trial_image", "gain", "delay"]
    lacking = [name for name in needed if name not in arrays]
    if lacking:
        raise StudyError(
            f"{folder / 'truth.npz'} lacks {', '.join(lacking[:5])}, which truth.json says it holds; "
            "simulate the study again"
        )
    sources = {
        name: {kind: arrays[f"{name}/{kind}"] for kind in (*kinds, COMMON)}
        for name in _SOURCE_ARRAYS
    }
    baseline = facts["baseline"]
    return Truth(
        kinds=kinds,
        subjects=tuple(facts["subjects"]),
        ch_names=tuple(facts["ch_names"]),
        times=arrays["times"],
        baseline=None if baseline is None else (baseline[0], baseline[1]),
        rebound=tuple(facts["rebound"]),
        trial_subject=arrays["trial_subject"],
        trial_image=arrays["trial_image"],
        gain=arrays["gain"],
        delay=arrays["delay"],
        summary=facts["summary"],
        **sources,
    )
