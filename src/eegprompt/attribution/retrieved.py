"""What of some EEG made each head retrieve its caption: attributions of a decoder's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from eegprompt.attribution.clusters import electrode_info
from eegprompt.attribution.electrodes import FromElectrodes
from eegprompt.attribution.gradients import (
    Attribution,
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from eegprompt.attribution.question import Question
from eegprompt.core.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from eegprompt.retrieval.pool import CandidatePool

__all__ = ["METHODS", "as_evoked", "attribute_retrieved"]

METHODS: dict[str, Callable[..., dict[str, Attribution]]] = {
    "gradient-x-input": gradient_times_input,
    # A mean trial, the usual baseline, would be the trial itself where there is one only.
    "integrated-gradients": partial(integrated_gradients, baseline=0.0),
    "saliency": saliency,
    "smoothgrad": smoothgrad,
}
_UNSIGNED = ("saliency", "smoothgrad")


def attribute_retrieved(
    encoder: nn.Module,
    steps: Any,
    eeg: np.ndarray,
    retrieved: Mapping[str, Sequence[str]],
    pools: Mapping[str, CandidatePool],
    *,
    method: str = "integrated-gradients",
    positions: np.ndarray,
    subject: np.ndarray,
    scales: Mapping[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """By how much each channel at each time point supports the caption that was retrieved.

    Each head's loss is the cross-entropy of its retrieved caption among the pool's captions that
    say something else; what lowers the loss supports the caption.

    Parameters
    ----------
    encoder, steps
        The encoder and its preprocessing.
    eeg : array (n_trials, n_chans, n_times)
        As recorded.
    retrieved : mapping of str to sequence of str
        By head the `caption_id` of each trial.
    pools : mapping of str to CandidatePool
        Where the captions were retrieved.
    method : str, default "integrated-gradients"
        Of :data:`METHODS`; ``saliency`` and ``smoothgrad`` have no sign.
    positions : array (n_chans, 3)
        Electrode positions in meters.
    subject : int array (n_trials,)
        Index of each trial's subject; -1 for anyone else.
    scales : mapping of str to float, optional
        Inverse temperatures of the heads.

    Returns
    -------
    dict of str to array (n_trials, n_chans, n_times)
        Positive where the EEG supports the caption, in nats; for methods without a sign the size of
        the gradient, in nats per standard deviation of the channel.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    InputError
        If a caption is not in its pool.
    """
    if method not in METHODS:
        raise UnknownNameError("method of attribution", method, METHODS)
    scale = eeg.std(axis=2).mean(axis=0)[:, None]
    module = FromElectrodes(encoder, steps, scale).to(next(encoder.parameters()).device)
    found: dict[str, list[np.ndarray]] = {head: [] for head in retrieved}
    for i, trial in enumerate(eeg):
        captions, rivals = {}, {}
        for head, ids in retrieved.items():
            pool = pools[head]
            if ids[i] not in pool.caption_ids:
                raise InputError(f"the pool of {head} has no caption with the id '{ids[i]}'")
            place = pool.caption_ids.index(ids[i])
            same = pool.same_answer(pool.texts[place], pool.meanings[place])
            captions[head] = pool.embeddings[place][None]
            rivals[head] = pool.embeddings[~same]
        question = Question.of(
            module,
            (trial / scale)[None].astype(np.float32),
            captions,
            positions=positions,
            subject=subject[i : i + 1],
            candidates=rivals,
            scales=scales,
        )
        for head, map_ in METHODS[method](question).items():
            found[head].append(map_.magnitude if method in _UNSIGNED else -map_.signed)
    return {head: np.stack(maps) for head, maps in found.items()}


def as_evoked(
    maps: Mapping[str, np.ndarray],
    ch_names: Sequence[str],
    positions: np.ndarray,
    sfreq: float,
    tmin: float,
) -> dict[str, Any]:
    """Attributions as MNE's Evoked, for its figures.

    Parameters
    ----------
    maps : mapping of str to array (n_trials, n_chans, n_times)
        By head; the mean over trials is taken.
    ch_names : sequence of str
        Names of the channels.
    positions : array (n_chans, 3)
        Meters; channels without a position are left out.
    sfreq, tmin : float
        Sampling rate in Hz and time of the first sample in seconds.

    Returns
    -------
    dict of str to mne.EvokedArray
        MNE labels the values as volts; they are attributions.

    Raises
    ------
    InputError
        If no channel has a position.
    """
    import mne

    placed = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if not len(placed):
        raise InputError(
            "no electrode has a position, so there is no topography; see as_evoked=False"
        )
    info = electrode_info([ch_names[int(i)] for i in placed], positions[placed], sfreq)
    return {
        head: mne.EvokedArray(
            values.mean(axis=0)[placed], info, tmin, comment=head, nave=len(values), verbose="error"
        )
        for head, values in maps.items()
    }
