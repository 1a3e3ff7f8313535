"""EEG simulated through a real forward model, from the meaning of images, with the truth kept."""

from eegprompt.builtin.eeg.background import BACKGROUND_PARTS, Background, Drift
from eegprompt.builtin.eeg.forward import Head, head_model, patch_topography
from eegprompt.builtin.eeg.parameters import (
    DEFAULT_SIGNAL,
    CommonResponse,
    KindResponse,
    SimulationParameters,
)
from eegprompt.builtin.eeg.schedule import Schedule, make_schedule
from eegprompt.builtin.eeg.simulation import (
    DESIGNS,
    PARTS,
    Simulation,
    simulate_eeg,
    source_amplitudes,
)
from eegprompt.builtin.eeg.truth import COMMON, Truth, load_truth

__all__ = [
    "BACKGROUND_PARTS",
    "COMMON",
    "DEFAULT_SIGNAL",
    "DESIGNS",
    "PARTS",
    "Background",
    "CommonResponse",
    "Drift",
    "Head",
    "KindResponse",
    "Schedule",
    "Simulation",
    "SimulationParameters",
    "Truth",
    "head_model",
    "load_truth",
    "make_schedule",
    "patch_topography",
    "simulate_eeg",
    "source_amplitudes",
]
