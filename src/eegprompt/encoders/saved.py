"""A trained encoder on disk: weights and settings in one folder, with its preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegprompt.core.errors import RunError, StudyError
from eegprompt.core.files import atomic_path, read_json, write_json
from eegprompt.core.model_hub import choose_device
from eegprompt.core.registry import resolve
from eegprompt.encoders.preprocessing import FittedSteps

__all__ = ["check_channels", "load_encoder", "pick_device", "save_encoder", "typical_std"]


def save_encoder(
    folder: str | Path, encoder: torch.nn.Module, steps: FittedSteps, **facts: Any
) -> None:
    """Write ``model.safetensors``, the preprocessing and ``config.json``, in this order.

    Parameters
    ----------
    folder : path-like
        Made if need be. It is complete once ``config.json`` is there.
    encoder : torch.nn.Module
        With a `config` attribute: the arguments that make one of the same shape.
    steps : FittedSteps
        What the EEG goes through first.
    **facts
        What else a user of the encoder needs: `name` in the registry, `ch_names`, `positions`,
        `sfreq`, `tmin`, `subjects`, …
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    weights = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as partial:
        save_file(weights, partial)
    steps.save(folder)
    write_json(folder / "config.json", {**facts, "encoder": encoder.config})


def load_encoder(
    folder: str | Path, device: str = "auto"
) -> tuple[torch.nn.Module, FittedSteps, dict[str, Any]]:
    """Read what :func:`save_encoder` wrote.

    Returns
    -------
    encoder : torch.nn.Module
        In evaluation mode, on the device.
    steps : FittedSteps
        Apply them to EEG before the encoder.
    facts : dict
        The content of ``config.json``.

    Raises
    ------
    RunError
        If a file is missing, broken, or does not fit the others.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    facts = read_json(folder / "config.json", error=RunError, schema="encoder")
    try:
        make, _ = resolve("encoder", facts["name"])
        with torch.random.fork_rng(
            devices=[]
        ):  # weights are drawn, then replaced by the stored ones
            encoder = make(**facts["encoder"])
        encoder.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as problem:
        raise RunError(
            f"the encoder in {folder} cannot be loaded "
            f"({type(problem).__name__}: {str(problem).splitlines()[0]}); train the run again"
        ) from None
    return encoder.eval().to(pick_device(device)), FittedSteps.load(folder), facts


def check_channels(facts: dict[str, Any], ch_names: list[str]) -> None:
    """Refuse EEG whose channels are not those the encoder was trained with.

    Raises
    ------
    StudyError
        Naming the first difference.
    """
    expected = list(facts["ch_names"])
    if ch_names == expected:
        return
    if len(ch_names) != len(expected):
        what = f"{len(ch_names)} channels instead of {len(expected)}"
    else:
        index = next(i for i, (a, b) in enumerate(zip(ch_names, expected)) if a != b)
        what = f"'{ch_names[index]}' in place {index}, where '{expected[index]}' was"
    raise StudyError(
        f"the encoder was trained on other channels: the EEG has {what}; give the channels of the "
        "training study in their order, or train on this study"
    )


def pick_device(device: str = "auto") -> torch.device:
    """Resolve ``"auto"`` to CUDA, Apple's MPS or the CPU, whichever is there first.

    Raises
    ------
    InputError
        If the device has no such name or is not on this machine.
    """
    if device != "auto":
        return choose_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def typical_std(eeg: np.ndarray, ids: np.ndarray) -> float:
    """Size of EEG, by which EEG in another unit is told.

    Parameters
    ----------
    eeg : array (n_trials, n_chans, n_times)
        May be memory-mapped.
    ids : int array (n,)
        Trials to look at; up to 200 of them, evenly chosen.

    Returns
    -------
    float
        Median over channels and trials of a channel's standard deviation.
    """
    some = ids[np.linspace(0, len(ids) - 1, min(len(ids), 200)).astype(int)]
    return float(np.median(np.asarray(eeg[some], dtype=np.float64).std(axis=2)))
