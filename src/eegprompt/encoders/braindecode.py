"""Encoders of braindecode as peers: ``braindecode:EEGNet``, ``braindecode:Labram`` and the others.

The network's classifier becomes a layer of features, and every caption kind has a linear
projection of its own on them, so that the peers differ from each other and from eegprompt's
encoder in the network alone. Kernels and pools last as long in seconds as published; networks that
were pretrained on EEG of one rate, length and set of channels are given EEG in that form.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eegprompt.core.errors import (
    InputError,
    MissingDependencyError,
    ModelLoadError,
    UnknownNameError,
)
from eegprompt.core.files import read_json
from eegprompt.core.model_hub import fetch, load_errors, locate
from eegprompt.signal.montage import positions_of, template

__all__ = [
    "COMPARED",
    "PUBLISHED",
    "RECIPES",
    "BraindecodeEncoder",
    "Recipe",
    "lasting",
    "resampled",
]

COMPARED = ("ATCNet", "Deep4Net", "EEGConformer", "EEGNet", "ShallowFBCSPNet")
"""Models that an ablation of encoders compares."""

_SHALLOW = {"filter_time_length": 25, "pool_time_length": 75, "pool_time_stride": 15}
PUBLISHED: dict[str, tuple[float, dict[str, int]]] = {
    "ATCNet": (
        250.0,
        {
            "conv_block_kernel_length_1": 64,
            "conv_block_kernel_length_2": 16,
            "conv_block_pool_size_1": 8,
            "conv_block_pool_size_2": 7,
        },
    ),
    "CTNet": (250.0, {"kernel_size": 64, "pool_size_1": 8, "pool_size_2": 8}),
    "EEGConformer": (250.0, _SHALLOW),
    "EEGNeX": (128.0, {"kernel_block_1_2": 64, "kernel_block_4": 16, "kernel_block_5": 16}),
    "EEGNet": (
        128.0,
        {
            "kernel_length": 64,
            "depthwise_kernel_length": 16,
            "pool1_kernel_size": 4,
            "pool2_kernel_size": 8,
        },
    ),
    "EEGTCNet": (250.0, {"kern_length": 64}),
    "ShallowFBCSPNet": (250.0, _SHALLOW),
}
"""Sampling rate of the publication, and the settings that count samples there.

Deep4Net is left to braindecode's own shrinking, with which it does better (`benchmarks/README.md`);
EEGInceptionERP and TIDNet take seconds."""

ATCNET_WINDOWS = 10
"""Windows that must be left behind ATCNet's pools: fewer, and it reads the end of a trial alone."""


@dataclass(frozen=True)
class Recipe:
    """What a pretrained network expects of its EEG.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    multiple : int
        Trials are filled up with zeros to a multiple of so many samples.
    scale : float
        Factor of EEG of unit variance: .1 stands for 10 µV in units of 100 µV.
    clamp : float
        Largest absolute value.
    """

    sfreq: float
    multiple: int = 1
    scale: float = 1.0
    clamp: float = float("inf")


RECIPES = {
    "BENDR": Recipe(256.0),
    "BIOT": Recipe(200.0, 100),
    "CBraMod": Recipe(200.0, 200, 0.1),
    "CodeBrain": Recipe(200.0, 200, 0.1),
    "EEGDINO": Recipe(200.0, 200, 0.1),
    "EEGPT": Recipe(250.0, 64),
    "LUNA": Recipe(256.0, 40),
    "Labram": Recipe(200.0, 200, 0.1),
    "REVE": Recipe(200.0, 200, 1.0, 15.0),
    "STEEGFormer": Recipe(128.0, 16),
    "SignalJEPA": Recipe(128.0),
}
"""By the networks' publications, as NeuralBench and braindecode state them."""


def lasting(model: str, sfreq: float, n_times: int) -> dict[str, int]:
    """Settings of a network that last as long in seconds as published.

    Examples
    --------
    >>> lasting("ShallowFBCSPNet", 125.0, 125)
    {'filter_time_length': 12, 'pool_time_length': 38, 'pool_time_stride': 8}
    """
    rate, published = PUBLISHED.get(model, (sfreq, {}))
    found = {name: max(round(n * sfreq / rate), 1) for name, n in published.items()}
    if model == "ATCNet":
        pools = ("conv_block_pool_size_2", "conv_block_pool_size_1")
        while found[pools[0]] * found[pools[1]] * ATCNET_WINDOWS > n_times:
            larger = max(pools, key=lambda name: found[name])
            if found[larger] == 1:
                break
            found[larger] -= 1
    return found


def resampled(eeg: Tensor, n_times: int) -> Tensor:
    """EEG (..., n) at `n_times` samples for the same stretch of time, by its Fourier series.

    Examples
    --------
    >>> resampled(torch.ones(1, 4), 6)
    tensor([[1., 1., 1., 1., 1., 1.]])
    """
    n = eeg.shape[-1]
    if n == n_times:
        return eeg
    spectrum = torch.fft.rfft(eeg)[..., : n_times // 2 + 1]
    return torch.fft.irfft(spectrum, n=n_times) * (n_times / n)


class BraindecodeEncoder(nn.Module):
    """One of braindecode's networks with a projection for each head.

    Parameters
    ----------
    heads : sequence of str
        Names of the heads.
    embedding_dim : int
        Dimensions of the caption embeddings.
    n_chans, n_times : int
        Of a trial.
    sfreq : float
        Sampling rate in Hz.
    n_subjects : int
        Not used: these networks are the same for all subjects.
    ch_names : sequence of str, optional
        Channels of a trial; networks that know channels by name are told them.
    model : str
        Any of braindecode's models.
    pretrained : str, optional
        Folder or name on huggingface.co of weights that braindecode saved. The network then has the
        rate, length and channels of that folder's ``config.json``, and EEG is brought to them:
        channels by name, those that are missing from their neighbors.
    width : int
        Features between network and projections.
    options : dict, optional
        For the network's constructor, e.g. ``{"drop_prob": 0.25}``.
    built : dict, optional
        The network's own configuration, where an encoder that began with `pretrained` is read back.

    Raises
    ------
    MissingDependencyError
        If braindecode cannot be imported.
    UnknownNameError
        If there is no such model.
    ModelLoadError
        If the weights cannot be had or do not fit the network.
    InputError
        If the network cannot be made for trials of that size, or channels cannot be matched.
    """

    mixing: Tensor

    def __init__(
        self,
        heads: Sequence[str],
        embedding_dim: int,
        n_chans: int,
        n_times: int,
        sfreq: float,
        n_subjects: int = 0,
        ch_names: Sequence[str] = (),
        *,
        model: str = "EEGNet",
        pretrained: str | None = None,
        width: int = 128,
        options: dict[str, Any] | None = None,
        built: dict[str, Any] | None = None,
    ):
        super().__init__()
        try:
            from braindecode import models
            from braindecode.models.util import models_dict
        except (ImportError, OSError) as problem:
            raise MissingDependencyError("braindecode", "baselines") from problem
        if model not in models_dict:
            raise UnknownNameError("braindecode model", model, sorted(models_dict))
        self.config: dict[str, Any] = {
            "heads": list(heads),
            "embedding_dim": embedding_dim,
            "n_chans": n_chans,
            "n_times": n_times,
            "sfreq": sfreq,
            "ch_names": list(ch_names),
            "model": model,
            "pretrained": pretrained,
            "width": width,
            "options": dict(options or {}),
        }
        self.heads = tuple(heads)
        make = models_dict[model] if pretrained or built else _any_channels(models, model)
        self.recipe = RECIPES.get(model, Recipe(sfreq))
        folder = _folder(pretrained) if pretrained and not built else None
        stated = read_json(folder / "config.json") if folder else built or {}
        if stated:  # the trained weights are all that is needed from here on
            self.config |= {
                "pretrained": None,
                "built": {**stated, "n_outputs": width, **(options or {})},
            }
        self.rate = float(stated.get("sfreq") or self.recipe.sfreq)
        length = round(n_times * self.rate / sfreq)
        self.resampled = length
        length = -(-length // self.recipe.multiple) * self.recipe.multiple
        self.length = int(stated.get("n_times") or length)
        names = [str(c["ch_name"]) for c in stated.get("chs_info") or ()]
        n_inputs = int(stated.get("n_chans") or len(names) or n_chans)
        self.register_buffer("mixing", _mixing(list(ch_names), names, n_chans, n_inputs))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that short trials shrink its kernels, and the like
            if folder is not None:
                self.network = _loaded(make, folder, str(pretrained), width, options or {})
                self.config["built"]["n_outputs"] = self.network.n_outputs
            elif built:
                self.network = make.from_config(built)
            else:
                sizes = {"n_outputs": width, "n_times": self.length, "sfreq": self.rate}
                chans = _channels(ch_names) or {"n_chans": n_chans}
                asked = {**lasting(model, sfreq, n_times), **(options or {})}
                self.network = _made(make, model, {**sizes, **chans, **asked})
        with torch.no_grad():  # some networks take their last shape, or refuse, when called first
            said = self.network.eval()(torch.zeros(2, n_inputs, self.length)).flatten(1)
        self.network.train()
        self.projection = nn.Linear(said.shape[1], len(self.heads) * embedding_dim)

    def enter(self, eeg: Tensor) -> Tensor:
        """Trials as the network expects them."""
        if len(self.mixing):
            eeg = self.mixing @ eeg
        eeg = resampled(eeg, self.resampled)[..., : self.length]
        eeg = nn.functional.pad(eeg, (0, self.length - eeg.shape[-1]))
        return (self.recipe.scale * eeg).clamp(-self.recipe.clamp, self.recipe.clamp)

    def forward(
        self, eeg: Tensor, positions: Tensor, subject: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Embed trials; see :class:`eegprompt.encoders.base.EEGEncoder`."""
        said = self.network(self.enter(eeg)).flatten(1)
        out = self.projection(said).unflatten(1, (len(self.heads), -1))
        return {head: out[:, i] for i, head in enumerate(self.heads)}


def _made(make: Any, model: str, arguments: Mapping[str, Any]) -> Any:
    """The network; its refusals as input errors."""
    try:
        network = make(**arguments)
        with torch.no_grad():  # some find out only when they are called
            network.eval()(torch.zeros(2, network.n_chans, network.n_times))
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError) as problem:
        raise InputError(
            f"braindecode's {model} cannot be made for trials of {arguments['n_times']} samples at "
            f"{arguments['sfreq']:g} Hz: {str(problem).splitlines()[0]}"
        ) from problem
    return network.train()


def _any_channels(models: Any, model: str) -> Any:
    """The form of a network that takes any channels, where the network itself takes its own only."""
    known = {name.lower(): name for name in dir(models)}
    return getattr(models, known.get(f"interpolated{model.lower()}", model))


def _loaded(make: Any, folder: Path, name: str, width: int, options: Mapping[str, Any]) -> Any:
    """The trained network with a new last layer, or with its own where that cannot be exchanged."""
    with load_errors(name, "pretrained encoder"):
        try:
            network = make.from_pretrained(str(folder), n_outputs=width, **options)
        except ValueError:
            network = make.from_pretrained(str(folder), **options)
    return network


def _folder(pretrained: str) -> Path:
    """Where the weights lie, downloaded if need be."""
    what = "pretrained encoder"
    source = fetch(locate(pretrained, what), what, ("*.json", "*.safetensors", "*.bin"))
    assert source.folder is not None
    if not (Path(source.folder) / "config.json").exists():
        raise ModelLoadError(f"{what} {pretrained} has no config.json that says what it expects")
    return Path(source.folder)


def _channels(names: Sequence[str]) -> dict[str, Any]:
    """Names and places of channels as MNE and braindecode state them; nothing if none is known."""
    known = _places(names)
    if not names or len(known) < len(names):
        return {}
    return {
        "chs_info": [
            {"ch_name": name, "kind": 2, "loc": np.array([*known[name], *(9 * [0.0])])}
            for name in names
        ]
    }


def _places(names: Sequence[str]) -> dict[str, list[float]]:
    """Standard places of the channels that have one, whatever their case."""
    spelled = {name.lower(): name for name in template().ch_names}
    places = positions_of(spelled.values())
    found = {name: places[spelled[name.lower()]] for name in names if name.lower() in spelled}
    return {name: place for name, place in found.items() if place is not None}


def _mixing(have: list[str], want: list[str], n_chans: int, n_inputs: int) -> Tensor:
    """Matrix (n_inputs, n_chans) from a study's channels to a network's; empty where they agree."""
    lower = [name.lower() for name in have]
    if (not want and n_inputs == n_chans) or [name.lower() for name in want] == lower:
        return torch.zeros(0)
    if not want or not have:
        raise InputError(
            f"the pretrained encoder takes {n_inputs} channels and does not say which; the study has "
            f"{n_chans}"
        )
    places = _places([*want, *have])
    matrix = np.zeros((len(want), len(have)))
    near = [i for i, name in enumerate(have) if name in places]
    for row, name in enumerate(want):
        if name.lower() in lower:
            matrix[row, lower.index(name.lower())] = 1
        elif name in places and near:
            apart = [np.subtract(places[name], places[have[i]]) for i in near]
            weight = np.exp(-np.sum(np.square(apart), axis=1) / (2 * 0.03**2)) + 1e-9
            matrix[row, near] = weight / weight.sum()
        else:
            raise InputError(
                f"the pretrained encoder takes channel '{name}', which the study lacks, and its "
                "place is not known; give a montage with standard names"
            )
    return torch.from_numpy(matrix).float()
