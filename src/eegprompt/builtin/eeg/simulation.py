"""From the meaning of images to the EEG of people who see them."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from eegprompt.builtin.eeg.background import BACKGROUND_PARTS, Background, Drift
from eegprompt.builtin.eeg.forward import Head, head_model, patch_topography
from eegprompt.builtin.eeg.parameters import DEFAULT_SIGNAL, SimulationParameters
from eegprompt.builtin.eeg.schedule import Schedule, make_schedule
from eegprompt.builtin.eeg.truth import COMMON, Truth
from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.signal.montage import EEGCVPR_CHANNELS

__all__ = ["DESIGNS", "PARTS", "Simulation", "simulate_eeg", "source_amplitudes"]

DESIGNS = ("randomised", "block")
PARTS = ("evoked", *BACKGROUND_PARTS, "blinks", "drift")
"""What a simulated recording is the sum of."""

_CALIBRATION_STRETCHES = 4


def source_amplitudes(
    kind: str, vectors: np.ndarray, n_sources: int, parameters: SimulationParameters
) -> np.ndarray:
    """Map meanings to source amplitudes: fixed, smooth, mostly linear.

    Parameters
    ----------
    kind : str
        Caption kind; each has a map of its own.
    vectors : array (n_images, n_dims)
        Coordinates of meaning, about unit variance each.
    n_sources : int
        How many amplitudes an image.
    parameters : SimulationParameters
        The share of the nonlinear part, and the map's seed.

    Returns
    -------
    array (n_images, n_sources)
        Unitless, about unit variance.
    """
    n_dims = vectors.shape[1]
    rng = np.random.default_rng([parameters.map_seed, zlib.crc32(kind.encode())])
    linear, inner = rng.standard_normal((2, n_dims, n_sources)) / np.sqrt(n_dims)
    return vectors @ linear + parameters.nonlinearity * np.tanh(2 * vectors @ inner)


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated recording that is computed while it is read.

    Attributes
    ----------
    schedule : Schedule
        The trials.
    truth : Truth
        What is planted.
    sfreq : float
        Sampling rate in Hz.
    background : tuple of Background
        Ongoing activity, one a subject.
    drift : tuple of Drift
        Slow drift, one a subject; empty where none was asked for.
    seed : int
        Seed of the noise.
    """

    schedule: Schedule
    truth: Truth
    sfreq: float
    background: tuple[Background, ...]
    drift: tuple[Drift, ...]
    seed: int

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return self.truth.n_trials

    def blocks(self, parts: Collection[str] | None = None) -> Iterator[np.ndarray]:
        """Simulate the trials in order, a few at a time.

        Parameters
        ----------
        parts : collection of str, optional
            Which of :data:`PARTS` to add up; all by default. A part is the same whatever the
            others are.

        Yields
        ------
        array of float32, shape (n_some, n_chans, n_times)
            Volts, average reference, baseline-corrected where the study is.
        """
        keep = set(PARTS if parts is None else parts)
        if keep - set(PARTS):
            raise UnknownNameError("part of a simulation", sorted(keep - set(PARTS))[0], PARTS)
        schedule, truth = self.schedule, self.truth
        edges = np.flatnonzero(np.r_[True, np.diff(schedule.piece) > 0, True])
        n_times = len(truth.times)
        offset = round(-truth.times[0] * self.sfreq)
        for first, last in pairwise(edges):
            trials = np.arange(first, last)
            subject = int(schedule.subject[first])
            start = schedule.sample[trials] - offset
            start = start - start[0]
            samples = start[:, None] + np.arange(n_times)
            rng = np.random.default_rng([self.seed, 17, int(schedule.piece[first])])
            eeg = self.background[subject].stretch(int(samples.max()) + 1, rng, keep)
            out = np.ascontiguousarray(eeg[:, samples].transpose(1, 0, 2))
            if self.drift and "drift" in keep:
                clock = schedule.clock[trials, None] + truth.times
                slow = self.drift[subject](clock.ravel()).reshape(-1, *clock.shape)
                out += slow.transpose(1, 0, 2)
            out = truth.subtract_baseline(out)
            if "evoked" in keep:
                for kind in (*truth.kinds, COMMON):
                    out += truth.responses(kind, trials)
            yield out


def _check_number(name: str, value: float, least: float, most: float, remedy: str) -> None:
    if not (np.isfinite(value) and least <= value <= most):
        raise InputError(f"{name} must lie between {least:g} and {most:g}, got {value}; {remedy}")


def _sources(
    head: Head,
    anchors: tuple[str, ...],
    latency: float,
    width: float,
    name: str,
    n_subjects: int,
    seed: int,
    p: SimulationParameters,
) -> dict[str, np.ndarray]:
    """Places, orientations, latencies and topographies of one response in all subjects."""
    n = len(anchors)
    code = zlib.crc32(name.encode())
    shared = np.random.default_rng([p.map_seed, 1, code])
    base = np.stack([head.below(anchor) for anchor in anchors])
    radial = (base - head.center) / np.linalg.norm(base - head.center, axis=1, keepdims=True)
    tilted = radial + p.tilt * shared.standard_normal((n, 3))
    base_latency = latency * (1 + p.source_latency_sd * shared.standard_normal(n))
    positions, orientations, latencies, topographies = [], [], [], []
    for subject in range(n_subjects):
        rng = np.random.default_rng([seed, 13, subject, code])
        moved = base + p.subject_location_sd * rng.standard_normal((n, 3))
        position = np.stack([head.on_shell(m - head.center) for m in moved])
        orientation = tilted + p.subject_tilt_sd * rng.standard_normal((n, 3))
        orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
        latencies.append(base_latency * (1 + p.subject_latency_sd * rng.standard_normal()))
        topographies.append(
            [patch_topography(head, a, b, p.patch) for a, b in zip(position, orientation)]
        )
        positions.append(position)
        orientations.append(orientation)
    topography = np.array(topographies)
    # A source counts by what it does at the sensors, not by its moment.
    topography /= np.sqrt((topography**2).mean(axis=2, keepdims=True))
    return {
        "positions": np.array(positions),
        "orientations": np.array(orientations),
        "latencies": np.array(latencies),
        "widths": np.full(n, width),
        "topographies": topography,
    }


def simulate_eeg(
    kind_vectors: Mapping[str, np.ndarray],
    category: np.ndarray,
    *,
    subjects: int = 2,
    repetitions: int = 2,
    sfreq: float = 128.0,
    seed: int = 0,
    signal: float = DEFAULT_SIGNAL,
    design: str = "randomised",
    drift: float = 0.0,
    baseline: bool = True,
    parameters: SimulationParameters | None = None,
) -> Simulation:
    """Simulate the EEG of people who see images, through a forward model.

    Parameters
    ----------
    kind_vectors : mapping of str to array (n_images, n_dims)
        For each caption kind, the meaning of each image as coordinates.
    category : array of int, shape (n_images,)
        Class of each image: what a block design blocks.
    subjects, repetitions : int
        How many people see all images, and how often each sees each.
    sfreq : float
        Sampling rate in Hz. Below 112 Hz the anti-alias filter takes the 50 Hz line noise out.
    seed : int
        The same seed gives the same bytes.
    signal : float
        Ratio of evoked to background, linear, as RMS over channels and the ratio window. Evoked:
        the noise-free deviation of the images' responses from their mean, at mean latency and
        gain. Background: 1/f, alpha, line and sensor noise (not blinks, not drift), after the
        study's baseline correction. Subjects differ; the RMS of their ratios is this.
        With 0, all images evoke exactly the same.
    design : {'randomised', 'block'}
        Random order, or one uninterrupted block a class.
    drift : float
        RMS of a slow drift over that of the background. It is added behind the high-pass filter, as
        a DC-coupled amplifier shows it; a baseline correction takes most of it out again.
    baseline : bool
        Whether to subtract each trial's mean before onset.
    parameters : SimulationParameters, optional
        All other numbers.

    Returns
    -------
    Simulation
        Read it with :meth:`Simulation.blocks`.

    Raises
    ------
    InputError
        If a value is out of range; the message says what is allowed.
    """
    p = parameters or SimulationParameters()
    _check_number("subjects", subjects, 1, 1000, "give at least one subject")
    _check_number("repetitions", repetitions, 1, 1000, "each image is shown at least once")
    _check_number("sfreq", sfreq, 64, 2000, "responses need 64 Hz; 128 and 250 are usual")
    _check_number("signal", signal, 0, 100, "0 plants nothing, some tenths are realistic")
    _check_number("drift", drift, 0, 1000, "0 plants none, 1 is as large as the background")
    _check_number("seed", seed, 0, 2**63 - 1, "take any whole number from 0 on")
    if design not in DESIGNS:
        raise UnknownNameError("design", design, DESIGNS)
    if not kind_vectors:
        raise InputError("no caption kind was given; give coordinates for at least one")
    for kind, vectors in kind_vectors.items():
        if kind not in p.kinds:
            raise UnknownNameError("caption kind", kind, p.kinds)
        if np.ndim(vectors) != 2 or len(vectors) != len(category):
            raise InputError(
                f"the coordinates of {kind} must have shape ({len(category)}, n_dims), got "
                f"{np.shape(vectors)}; give one row an image"
            )
        if not np.isfinite(vectors).all():
            raise InputError(f"the coordinates of {kind} hold a value that is not finite; mend it")

    head = head_model(EEGCVPR_CHANNELS, p.n_dipoles, p.depth)
    schedule = make_schedule(
        np.asarray(category),
        n_subjects=subjects,
        repetitions=repetitions,
        design=design,
        sfreq=sfreq,
        seed=seed,
        parameters=p,
    )
    times = (np.arange(int(p.duration * sfreq)) + round(p.tmin * sfreq)) / sfreq
    background = tuple(
        Background(head, p, sfreq, np.random.default_rng([seed, 12, s])) for s in range(subjects)
    )
    truth = _plant(
        kind_vectors, schedule, head, times, p.baseline if baseline else None, seed, p, subjects
    )
    truth = _calibrate(truth, background, sfreq, signal, drift, seed, p)
    drifts: tuple[Drift, ...] = ()
    if drift > 0:
        drifts = tuple(
            Drift(
                head,
                p,
                float(schedule.clock[schedule.subject == s].max()) + p.duration,
                drift * truth.summary["background_rms"][s],
                np.random.default_rng([seed, 14, s]),
            )
            for s in range(subjects)
        )
    return Simulation(schedule, truth, float(sfreq), background, drifts, seed)


def _plant(
    kind_vectors: Mapping[str, np.ndarray],
    schedule: Schedule,
    head: Head,
    times: np.ndarray,
    baseline: tuple[float, float] | None,
    seed: int,
    p: SimulationParameters,
    n_subjects: int,
) -> Truth:
    """Lay out the sources and draw the trials' jitter; amplitudes not yet to scale."""
    kinds = tuple(kind_vectors)
    n_images = len(next(iter(kind_vectors.values())))
    sources: dict[str, dict[str, np.ndarray]] = {}
    amplitudes: dict[str, np.ndarray] = {}
    for kind in kinds:
        where = p.kinds[kind]
        sources[kind] = _sources(
            head, where.anchors, where.latency, where.width, kind, n_subjects, seed, p
        )
        vectors = np.asarray(kind_vectors[kind], dtype=float)
        amplitudes[kind] = source_amplitudes(kind, vectors, len(where.anchors), p)
    parts = []
    for index, component in enumerate(p.common):
        part = _sources(
            head,
            component.anchors,
            component.latency,
            component.width,
            f"{COMMON} {index}",
            n_subjects,
            seed,
            p,
        )
        total = np.abs(part["topographies"].sum(axis=1)).max(axis=1)
        part["topographies"] *= component.amplitude / total[:, None, None]
        parts.append(part)
    sources[COMMON] = {
        name: np.concatenate([part[name] for part in parts], axis=0 if name == "widths" else 1)
        for name in parts[0]
    }
    amplitudes[COMMON] = np.ones((n_images, len(sources[COMMON]["widths"])))
    n_trials = len(schedule.subject)
    rng = np.random.default_rng([seed, 15])

    def half_shared() -> np.ndarray:
        own = rng.standard_normal((n_trials, len(kinds) + 1))
        return (own + rng.standard_normal((n_trials, 1))) / np.sqrt(2)

    return Truth(
        kinds=kinds,
        subjects=tuple(f"S{s + 1}" for s in range(n_subjects)),
        ch_names=head.ch_names,
        times=times,
        baseline=baseline,
        rebound=(p.rebound, p.rebound_delay, p.rebound_width),
        amplitudes=amplitudes,
        trial_subject=schedule.subject,
        trial_image=schedule.image,
        delay=p.trial_latency_sd * half_shared(),
        gain=np.exp(p.trial_gain_sd * half_shared()),
        summary={},
        **{
            name: {k: v[name] for k, v in sources.items()}
            for name in ("positions", "orientations", "latencies", "widths", "topographies")
        },
    )


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def _calibrate(
    truth: Truth,
    background: tuple[Background, ...],
    sfreq: float,
    signal: float,
    drift: float,
    seed: int,
    p: SimulationParameters,
) -> Truth:
    """Bring the evoked responses to the asked ratio to the background."""
    window = (truth.times >= p.ratio_window[0]) & (truth.times <= p.ratio_window[1])
    n_times = len(truth.times)
    noise = []
    for subject, ongoing in enumerate(background):
        squares = []
        for index in range(_CALIBRATION_STRETCHES):
            rng = np.random.default_rng([seed, 16, subject, index])
            eeg = ongoing.stretch(64 * n_times, rng, BACKGROUND_PARTS)
            trials = eeg.reshape(len(eeg), 64, n_times)
            squares.append(_rms(truth.subtract_baseline(trials)[..., window]) ** 2)
        noise.append(float(np.sqrt(np.mean(squares))))

    # Each kind weighs the same: in each subject, its deviation from the mean image has unit RMS.
    # Then their sum is brought to the ratio, which subjects reach more or less.
    amplitudes = {k: a - a.mean(axis=0) if k != COMMON else a for k, a in truth.amplitudes.items()}
    topographies = {kind: value.copy() for kind, value in truth.topographies.items()}
    truth = replace(truth, amplitudes=amplitudes, topographies=topographies)
    rng = np.random.default_rng([seed, 18])
    responsiveness = np.exp(p.subject_response_sd * rng.standard_normal(len(background)))
    responsiveness /= _rms(responsiveness)
    for subject in range(len(background)):
        for kind in truth.kinds:
            size = _rms(truth.evoked(kind, subject)[..., window])
            topographies[kind][subject] /= size or 1.0
        whole = sum(truth.evoked(kind, subject)[..., window] for kind in truth.kinds)
        wanted = signal * responsiveness[subject] * noise[subject]
        for kind in truth.kinds:
            topographies[kind][subject] *= wanted / (_rms(np.asarray(whole)) or 1.0)
    for subject, ongoing in enumerate(background):
        topographies[COMMON][subject] *= ongoing.gain
    summary = {
        "signal": signal,
        "drift": drift,
        "ratio_window": p.ratio_window,
        "background_rms": noise,
        "evoked_rms": [signal * float(r) * n for r, n in zip(responsiveness, noise)],
        "alpha_frequency": [b.alpha_frequency for b in background],
        "pink_exponent": [b.exponent for b in background],
        "line_noise": bool(background[0].holds_line),
        "sfreq": sfreq,
    }
    return replace(truth, summary=summary)
