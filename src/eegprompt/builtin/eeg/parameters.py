"""Every number of the simulated EEG, with where it comes from.

They were fixed before any encoder was trained on the simulation. The one number that was
adjusted is :data:`DEFAULT_SIGNAL`, and only so that shrinkage LDA classifies the object from
single trials at about four times chance (``benchmarks/simulation.py`` prints the evidence).

That low-level meaning is placed in occipital sources at about 100 ms, middle-level meaning in
parietal and temporal sources at 170–220 ms, and high-level meaning in frontal sources at
300–400 ms is the assumption of the method's paper (arXiv 2507.07157). Recovering it from the
simulation validates a method; it says nothing about the brain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["DEFAULT_SIGNAL", "CommonResponse", "KindResponse", "SimulationParameters"]

DEFAULT_SIGNAL = 0.35
"""Default ratio of evoked to background RMS."""


@dataclass(frozen=True)
class KindResponse:
    """Where and when the meaning of one caption kind moves the EEG.

    Parameters
    ----------
    anchors : tuple of str
        Electrodes under which the sources lie, one source each.
    latency : float
        Mean latency of the peak, in seconds after onset.
    width : float
        Standard deviation of the Gaussian peak, in seconds (full width at half maximum: 2.35 ×).
    """

    anchors: tuple[str, ...]
    latency: float
    width: float


@dataclass(frozen=True)
class CommonResponse:
    """One component of the evoked response that every image shares.

    Parameters
    ----------
    anchors : tuple of str
        Electrodes under which the sources lie, one source each.
    latency, width : float
        As in :class:`KindResponse`, in seconds.
    amplitude : float
        Signed peak at the electrode where it is largest, in volts.
    """

    anchors: tuple[str, ...]
    latency: float
    width: float
    amplitude: float


# Latencies of the first level: the earliest cortical response (C1) rises from 50 ms and peaks at
# 80–100 ms over striate cortex, P1 at 100–130 ms over lateral extrastriate cortex (Luck 2014, An
# Introduction to the ERP Technique, ch. 3; Di Russo et al. 2002, Hum Brain Mapp 15:95); stimulus
# properties differ from 80 ms on (VanRullen & Thorpe 2001, J Cogn Neurosci 13:454); single images
# are told apart best at about 100 ms, first in occipital cortex (Cichy, Pantazis & Oliva 2014,
# Nat Neurosci 17:455, and 2016, Cereb Cortex 26:3563; Carlson et al. 2013, J Vis 13(10):1).
# Second level: N1 at 150–200 ms over parietal and temporal sites (Luck 2014), categorical
# information at 150–200 ms (Thorpe, Fize & Marlot 1996, Nature 381:520), global scene properties
# at 220 ms over posterior temporal sites (Harel et al. 2016, eNeuro 3(5); occipito-temporal
# and parietal sources of these responses: Hari & Puce 2017, MEG-EEG Primer).
# Third level: affective, semantic and task-related responses from 250–300 ms on (Luck 2014;
# Schupp et al. 2006, Prog Brain Res 156:31); its frontal place is the paper's assumption.
# Widths: full width at half maximum about 35–40 ms (C1, P1), 60 ms (N1, P2) and 105 ms (later
# components), as the figures of the same sources show.
_KINDS: dict[str, KindResponse] = {
    "ObjectSnap": KindResponse(("O1", "O2", "PO7", "PO8", "POO9h", "POO10h"), 0.110, 0.017),
    "ColorTone": KindResponse(("POO1", "POO2", "PO9", "PO10", "OI1h", "OI2h"), 0.100, 0.017),
    "ClarityCue": KindResponse(("Oz", "POz", "POO1", "POO2", "I1", "I2"), 0.085, 0.015),
    "SceneSetting": KindResponse(("P7", "P8", "TPP7h", "TPP8h", "TPP9h", "TPP10h"), 0.220, 0.025),
    "LayoutMap": KindResponse(("P5", "P6", "P3", "P4", "CPP5h", "CPP6h"), 0.180, 0.025),
    "SpatialLink": KindResponse(("CPz", "Pz", "CP1", "CP2", "CPP1h", "CPP2h"), 0.200, 0.025),
    "AngleView": KindResponse(("TP7", "TP8", "TTP7h", "TTP8h", "CP5", "CP6"), 0.170, 0.025),
    "MoodFeel": KindResponse(("AF7", "AF8", "F5", "F6", "AFF5h", "AFF6h"), 0.300, 0.045),
    "ThemeTag": KindResponse(("Fz", "F1", "AFF1h", "AFF2h", "FFC1h", "FFC2h"), 0.350, 0.045),
    "StoryHint": KindResponse(("F7", "F8", "FT7", "FT8", "FFT7h", "FFT8h"), 0.400, 0.045),
}

# P1, N1, P2 and the late positivity of any image; latencies, polarities and places as in Luck
# 2014, ch. 3; peaks of 3–6 µV as usual for images in view for half a second.
_COMMON: tuple[CommonResponse, ...] = (
    CommonResponse(("O1", "O2", "PO7", "PO8"), 0.105, 0.016, 4e-6),
    CommonResponse(("P7", "P8", "PO9", "PO10"), 0.165, 0.022, -5e-6),
    CommonResponse(("Cz", "FC1", "FC2"), 0.210, 0.030, 3e-6),
    CommonResponse(("Pz", "CPz", "P3", "P4"), 0.380, 0.080, 4e-6),
)


@dataclass(frozen=True)
class SimulationParameters:
    """Every number of the simulation but those a user asks for; voltages in V, times in s.

    The scheme – components at given sources with given peaks, deviations from trial to trial, and
    noise from sources all over the cortex, all projected through one leadfield – is that of SEREEG
    (Krol et al. 2018, J Neurosci Methods 309:13).

    Attributes
    ----------
    kinds : mapping of str to KindResponse
        Where and when each caption kind is expressed.
    common : tuple of CommonResponse
        The response that every image evokes alike.
    tmin, duration : float
        Window of a trial: from `tmin` (before onset) for `duration`. As most image studies.
    baseline : tuple of float
        Interval whose mean is subtracted from a trial.
    soa : tuple of float
        Stimulus onset asynchrony, uniform between these; longer than a window, so that no sample
        belongs to two trials.
    run_trials : int
        At most so many trials a run, in the randomised design (about two minutes, a usual length).
    run_break, block_break : float
        Pause between runs, and between the blocks of a block design (10 s in Spampinato et al.
        2017, CVPR).
    n_dipoles : int
        Dipoles on the cortical shell; through three orientations each.
    depth : float
        Radius of that shell over the radius of the head: some 20 mm below the scalp, as cortex
        lies (Stokes et al. 2005, J Neurophysiol 94:4520: 10–20 mm to gyral crowns; sulci deeper).
    patch : float
        Standard deviation of an active patch, in meters: several cm² must be active together to be
        seen in single trials (Nunez & Srinivasan 2006, Electric Fields of the Brain, ch. 2).
    tilt : float
        Spread of source orientations about the radial direction, in radians: gyral crowns are
        radial, walls tangential.
    rebound, rebound_delay, rebound_width : float
        A peak is followed by one of opposite sign, of this size, so many widths later, so many
        times as wide: evoked components alternate (Luck 2014).
    nonlinearity : float
        Share of a saturating nonlinear part in the map from meaning to source amplitudes; nearby
        meanings stay nearby (Kriegeskorte et al. 2008, Neuron 60:1126).
    map_seed : int
        Fixes that map: the same for all studies and all subjects.
    source_latency_sd : float
        Spread of peak latency among the sources of one kind, as a fraction of the latency.
    subject_location_sd : float
        Differences of source places between subjects, in meters (cap placement and anatomy: Atcherson
        et al. 2007, Brain Topogr 20(2); Steinmetz et al. 1989, Electroencephalogr Clin
        Neurophysiol 72:499).
    subject_tilt_sd : float
        Differences of source orientation between subjects, in radians: folding is individual.
    subject_latency_sd : float
        Differences of latency between subjects, as a fraction (about 5 ms at 110 ms).
    subject_gain_sd, subject_response_sd : float
        Between subjects, standard deviation of the log of the whole EEG's amplitude (skull
        conductivity) and of the evoked response over it.
    trial_latency_sd : float
        Latency jitter from trial to trial, as a fraction of latency: about 9 ms at 110 ms and 32 ms
        at 400 ms; half of its variance is shared by all kinds (Jung et al. 2001, Hum Brain Mapp
        14:166; Ouyang et al. 2017, Neurosci Biobehav Rev 75:1).
    trial_gain_sd : float
        Standard deviation of the log of the gain from trial to trial; half of the variance shared
        (Truccolo et al. 2002, Clin Neurophysiol 113:206; Arieli et al. 1996, Science 273:1868).
    pink_rms : float
        1/f background, mean over channels (eyes open, broadband: about 10 µV; Nunez &
        Srinivasan 2006).
    pink_exponent, pink_exponent_sd : float
        Power falls as 1/f to this exponent; mean and spread between subjects (Donoghue et al. 2020,
        Nat Neurosci 23:1655: about 1 to 1.5 in adults with eyes open).
    highpass : float
        Corner of the amplifier's high-pass, in Hz.
    antialias : float
        The band ends in a cosine flank from this fraction of the sampling rate to its half.
    alpha_rms, alpha_rms_sd : float
        Posterior alpha at the electrode where it is largest, eyes open; spread of its log between
        subjects.
    alpha_frequency, alpha_frequency_sd : float
        In Hz (Klimesch 1999, Brain Res Rev 29:169).
    alpha_bandwidth : float
        Standard deviation of the alpha band in Hz: narrow-band noise waxes and wanes within about
        half a second (bursts of a few cycles to seconds; Freyer et al. 2009, J Neurosci 29:8512).
    alpha_anchors : tuple of str
        Electrodes over the alpha sources.
    line_frequency, line_rms : float
        Mains interference; left out where the sampling rate cannot hold it.
    blink_rate : float
        Per second (Bentivoglio et al. 1997, Mov Disord 12:1028: 17 a minute at rest, fewer in
        visual tasks).
    blink_refractory : float
        Least time between blinks.
    blink_peak, blink_peak_sd : float
        Peak at the electrode where it is largest (100–200 µV near the eyes, average reference
        lowers it; Luck 2014, ch. 6).
    blink_rise, blink_fall : float
        Standard deviations of the two flanks: closing is faster than opening (200–400 ms in all).
    eye_direction : tuple of float
        From the center of the head sphere to the right eye (left: mirrored), in any unit.
    sensor_rms : float
        White noise of amplifier and electrode (about 0.5–1 µV with active electrodes).
    drift_topographies : int
        Independent slow processes of a recording, where drift is asked for.
    drift_period : tuple of float
        Periods of the slow sinusoids in it, in seconds; the rest is a random walk (sweat and
        electrode potentials; Kappenman & Luck 2010, Psychophysiology 47:888; that such drift lets
        block designs be decoded: Li et al. 2021, IEEE TPAMI 43:316).
    ratio_window : tuple of float
        Interval in which the ratio of evoked to background RMS is defined.
    """

    kinds: Mapping[str, KindResponse] = field(default_factory=lambda: MappingProxyType(_KINDS))
    common: tuple[CommonResponse, ...] = _COMMON
    tmin: float = -0.1
    duration: float = 0.8
    baseline: tuple[float, float] = (-0.1, 0.0)
    soa: tuple[float, float] = (0.9, 1.2)
    run_trials: int = 120
    run_break: float = 60.0
    block_break: float = 10.0
    n_dipoles: int = 500
    depth: float = 0.80
    patch: float = 0.008
    tilt: float = 0.45
    rebound: float = 0.5
    rebound_delay: float = 2.5
    rebound_width: float = 1.3
    nonlinearity: float = 0.3
    map_seed: int = 20250710
    source_latency_sd: float = 0.06
    subject_location_sd: float = 0.005
    subject_tilt_sd: float = 0.30
    subject_latency_sd: float = 0.04
    subject_gain_sd: float = 0.15
    subject_response_sd: float = 0.15
    trial_latency_sd: float = 0.08
    trial_gain_sd: float = 0.30
    pink_rms: float = 8e-6
    pink_exponent: float = 1.2
    pink_exponent_sd: float = 0.1
    highpass: float = 0.1
    antialias: float = 0.45
    alpha_rms: float = 6e-6
    alpha_rms_sd: float = 0.3
    alpha_frequency: float = 10.0
    alpha_frequency_sd: float = 0.8
    alpha_bandwidth: float = 0.7
    alpha_anchors: tuple[str, ...] = ("Oz", "POz", "O1", "O2", "PO7", "PO8", "P3", "P4", "Pz")
    line_frequency: float = 50.0
    line_rms: float = 1e-6
    blink_rate: float = 0.2
    blink_refractory: float = 0.8
    blink_peak: float = 100e-6
    blink_peak_sd: float = 25e-6
    blink_rise: float = 0.045
    blink_fall: float = 0.085
    eye_direction: tuple[float, float, float] = (0.035, 0.080, -0.030)
    sensor_rms: float = 0.7e-6
    drift_topographies: int = 6
    drift_period: tuple[float, float] = (200.0, 900.0)
    ratio_window: tuple[float, float] = (0.05, 0.5)
