"""What the EEG would be without stimuli: 1/f noise, alpha, mains, blinks, sensor noise, drift."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from eegprompt.builtin.eeg.forward import Head, patch_topography
from eegprompt.builtin.eeg.parameters import SimulationParameters

__all__ = ["BACKGROUND_PARTS", "Background", "Drift"]

BACKGROUND_PARTS = ("pink", "alpha", "line", "sensor")
"""What the ratio of evoked to background counts as background: everything but blinks and drift."""


def _unit_noise(rng: np.random.Generator, n_rows: int, n: int, amplitude: np.ndarray) -> np.ndarray:
    """Gaussian noise of unit variance with a given amplitude spectrum, float32 (n_rows, n)."""
    from scipy.fft import irfft

    z = rng.standard_normal((n_rows, len(amplitude), 2), dtype=np.float32)
    spectrum = (z[..., 0] + 1j * z[..., 1]) * amplitude.astype(np.float32)
    spectrum[:, 0] = 0  # no constant: an amplifier's offset is not the brain's
    variance = 4 * float((amplitude[1:] ** 2).sum()) / n**2
    return irfft(spectrum, n=n, axis=1) / np.float32(np.sqrt(variance))


class Background:
    """Ongoing activity of one subject, stretch by stretch.

    Parameters
    ----------
    head : Head
        The forward model.
    parameters : SimulationParameters
        All numbers.
    sfreq : float
        Sampling rate in Hz.
    rng : numpy.random.Generator
        Draws what makes this subject different from others; not used after that.
    """

    def __init__(
        self, head: Head, parameters: SimulationParameters, sfreq: float, rng: np.random.Generator
    ):
        p = self.parameters = parameters
        self.sfreq = sfreq
        n_chans, n_dipoles, _ = head.leadfield.shape
        self.exponent = p.pink_exponent + p.pink_exponent_sd * rng.standard_normal()
        self.alpha_frequency = p.alpha_frequency + p.alpha_frequency_sd * rng.standard_normal()

        # Independent dipoles all over the upper cortex, each with its own strength and orientation.
        # Gaussian sources that share one spectrum are fully described by their covariance at the
        # sensors, so a square root of it replaces the dipoles: as many series as channels.
        orientation = rng.standard_normal((n_dipoles, 3))
        orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
        strength = np.exp(0.5 * rng.standard_normal(n_dipoles))
        strength *= (head.dipoles[:, 2] - head.center[2]) / (head.depth * head.radius) > -0.5
        mixing = np.einsum("cdk,dk,d->cd", head.leadfield, orientation, strength)
        values, vectors = np.linalg.eigh(mixing @ mixing.T)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        root = root[:, values > values.max() * 1e-9]
        root *= p.pink_rms / np.sqrt((root**2).sum(axis=1).mean())
        self._pink = root.astype(np.float32)

        alpha = np.stack(
            [self._radial_topography(head, head.below(name)) for name in p.alpha_anchors], axis=1
        )
        alpha /= np.abs(alpha).max(axis=0)
        alpha *= np.exp(0.3 * rng.standard_normal(alpha.shape[1]))
        alpha /= np.sqrt((alpha**2).sum(axis=1).max())
        alpha *= p.alpha_rms * np.exp(p.alpha_rms_sd * rng.standard_normal())
        self._alpha = alpha.astype(np.float32)

        # Mains reach each electrode lead with its own strength, nearly in phase.
        self._line = (
            p.line_rms
            * np.sqrt(2)
            * np.exp(0.5 * rng.standard_normal(n_chans) + 0.5j * rng.standard_normal(n_chans))
        )
        self._sensor = p.sensor_rms * np.exp(0.2 * rng.standard_normal(n_chans))

        right = np.array(p.eye_direction)
        left = right * [-1, 1, 1]
        blink = sum(self._radial_topography(head, head.on_shell(d)) for d in (left, right))
        self._blink = np.asarray(blink / np.abs(blink).max(), dtype=np.float32)
        # Noise drawn for one subject is louder than another's by the skull it passed.
        self.gain = float(np.exp(p.subject_gain_sd * rng.standard_normal()))

    def _radial_topography(self, head: Head, position: np.ndarray) -> np.ndarray:
        radial = (position - head.center) / np.linalg.norm(position - head.center)
        return patch_topography(head, position, radial, self.parameters.patch)

    @property
    def holds_line(self) -> bool:
        """Whether the sampling rate can hold the mains frequency."""
        return self.parameters.line_frequency < self.parameters.antialias * self.sfreq

    def _band(self, frequency: np.ndarray) -> np.ndarray:
        """Amplitude response of the amplifier: first-order high-pass, cosine anti-alias flank."""
        p = self.parameters
        edge, end = p.antialias * self.sfreq, self.sfreq / 2
        flank = 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - edge) / (end - edge), 0, 1))
        return flank * frequency / np.hypot(frequency, p.highpass)

    def stretch(
        self, n_samples: int, rng: np.random.Generator, parts: Collection[str] | None = None
    ) -> np.ndarray:
        """Simulate one continuous stretch.

        Parameters
        ----------
        n_samples : int
            Its length.
        rng : numpy.random.Generator
            Source of randomness; every part is drawn whether it is kept or not, so that leaving a
            part out leaves the others as they were.
        parts : collection of str, optional
            Which of "pink", "alpha", "line", "sensor", "blinks" to keep; all by default.

        Returns
        -------
        array of float32, shape (n_chans, n_samples)
            Volts, average reference.
        """
        from scipy.fft import next_fast_len

        p = self.parameters
        keep = set(parts if parts is not None else (*BACKGROUND_PARTS, "blinks"))
        n_chans = len(self._pink)
        # Periodic noise would tie the end of a stretch to its start: the surplus is thrown away.
        n = next_fast_len(n_samples + round(2 * self.sfreq), real=True)
        frequency = np.fft.rfftfreq(n, 1 / self.sfreq)
        band = self._band(frequency)
        out = np.zeros((n_chans, n_samples), np.float32)

        falling = np.maximum(frequency, frequency[1]) ** (-self.exponent / 2) * band
        noise = _unit_noise(rng, self._pink.shape[1], n, falling)[:, :n_samples]
        if "pink" in keep:
            out += self._pink @ noise
        peak = np.exp(-((frequency - self.alpha_frequency) ** 2) / (4 * p.alpha_bandwidth**2))
        noise = _unit_noise(rng, self._alpha.shape[1], n, peak * band)[:, :n_samples]
        if "alpha" in keep:
            out += self._alpha @ noise
        t = np.arange(n_samples) / self.sfreq
        mains = p.line_frequency + 0.02 * rng.standard_normal()
        wave = np.exp(2j * np.pi * (mains * t + rng.random()))
        if "line" in keep and self.holds_line:
            out += (self._line[:, None] * wave).real.astype(np.float32)
        noise = rng.standard_normal((n_chans, n_samples), dtype=np.float32)
        if "sensor" in keep:
            out += noise * self._sensor.astype(np.float32)[:, None]
        wave = self._blinks(t, rng)
        if "blinks" in keep:
            out += self._blink[:, None] * wave.astype(np.float32)
        out -= out.mean(axis=0)
        return out * np.float32(self.gain)

    def _blinks(self, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        p = self.parameters
        wave = np.zeros(len(t))
        now = -0.5
        while True:
            wait = 1 / p.blink_rate - p.blink_refractory
            now += p.blink_refractory + rng.exponential(max(wait, 0.0))
            if now > t[-1] + 0.5:
                return wave
            height = max(p.blink_peak + p.blink_peak_sd * rng.standard_normal(), p.blink_peak / 4)
            width = np.where(t < now, p.blink_rise, p.blink_fall)
            wave += height * np.exp(-((t - now) ** 2) / (2 * width**2))


class Drift:
    """Slow drift of the electrode potentials over one session.

    Parameters
    ----------
    head : Head
        The forward model; half of each topography is smooth, half is the electrode's own.
    parameters : SimulationParameters
        All numbers.
    duration : float
        Of the session, in seconds.
    rms : float
        Over the session and the channels, in volts.
    rng : numpy.random.Generator
        Source of randomness.
    """

    def __init__(
        self,
        head: Head,
        parameters: SimulationParameters,
        duration: float,
        rms: float,
        rng: np.random.Generator,
    ):
        n_chans, n_dipoles, _ = head.leadfield.shape
        n = parameters.drift_topographies
        smooth = np.einsum("cdk,ndk->nc", head.leadfield, rng.standard_normal((n, n_dipoles, 3)))
        smooth /= np.sqrt((smooth**2).mean(axis=1, keepdims=True))
        topography = smooth + rng.standard_normal((n, n_chans))
        self._times = np.arange(int(duration) + 2, dtype=float)
        walk = np.cumsum(rng.standard_normal((n, len(self._times))), axis=1)
        period = rng.uniform(*parameters.drift_period, size=(n, 1))
        wave = np.sin(2 * np.pi * (self._times / period + rng.random((n, 1))))
        course = _standard(walk) + _standard(wave)
        slow = topography.T @ course
        slow -= slow.mean(axis=0)
        slow -= slow.mean(axis=1, keepdims=True)
        self._slow = slow * (rms / np.sqrt((slow**2).mean()))

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Drift at session times (n_times,) in seconds: float32 (n_chans, n_times), volts."""
        return np.stack([np.interp(times, self._times, row) for row in self._slow]).astype(
            np.float32
        )


def _standard(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True))
