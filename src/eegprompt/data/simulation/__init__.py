"""EEG simulated through a real forward model, from the meaning of images, with the truth kept."""

from eegprompt.data.simulation.background import BACKGROUND_PARTS, Background, Drift
from eegprompt.data.simulation.forward import Head, head_model, patch_topography
from eegprompt.data.simulation.parameters import (
    DEFAULT_SIGNAL,
    CommonResponse,
    KindResponse,
    SimulationParameters,
)
from eegprompt.data.simulation.schedule import Schedule, make_schedule
from eegprompt.data.simulation.simulate import (
    DESIGNS,
    PARTS,
    Simulation,
    simulate_eeg,
    source_amplitudes,
)
from eegprompt.data.simulation.truth import COMMON, Truth, load_truth

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
