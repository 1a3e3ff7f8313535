"""New EEG as the array that a trained encoder reads: the same channels, rate, window and unit.

What differs is brought in line where that is exact (order of channels, a longer window of MNE's
Epochs), and refused with what to do where it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.encoders.saved import check_channels
from eegprompt.study.exchange import check_epochs, is_mne_object

if TYPE_CHECKING:
    import mne

__all__ = ["MOST_INTERPOLATED", "array_from_epochs", "match_eeg"]

MOST_INTERPOLATED = 0.25
"""Share of the channels that may be interpolated; with more, little of the map is measured."""

Remedy = Literal["refuse", "interpolate"]

_SCALE = 50.0  # EEG further than this factor from the training study's is in another unit


_SCALE_OF_ONE = 300.0  # the same of one channel and the others, which a bad electrode may exceed


def match_eeg(
    eeg: Any,
    facts: Mapping[str, Any],
    positions: np.ndarray,
    *,
    eeg_std: float | None = None,
    ch_names: Sequence[str] | None = None,
    sfreq: float | None = None,
    missing: Remedy = "refuse",
    bads: Remedy = "refuse",
) -> np.ndarray:
    """Trials in the channels, window and unit of the training study, checked.

    Parameters
    ----------
    eeg : mne.BaseEpochs or array (n_trials, n_chans, n_times)
        Epochs are matched by name; an array is taken to have the study's channels in their order.
    facts : mapping
        Of the encoder: `ch_names`, `sfreq`, `tmin`, `unit` and the number of samples.
    positions : array, shape (n_chans, 3)
        Where the electrodes of the training study lie, in meters; NaN where that is not known.
    eeg_std : float, optional
        Typical standard deviation of the training study's channels, by which another unit is told.
    ch_names, sfreq : optional
        Of an array: compared with the training study's.
    missing, bads : {"refuse", "interpolate"}
        What to do about channels that Epochs lack, or mark as bad.

    Returns
    -------
    array of float, shape (n_trials, n_chans, n_times)

    Raises
    ------
    InputError
        If the EEG does not fit, is not finite, has a flat channel or is in another unit.
    """
    if is_mne_object(eeg) or (isinstance(eeg, list) and any(map(is_mne_object, eeg))):
        if ch_names is not None or sfreq is not None:
            raise InputError(
                "Epochs say their channels and their rate themselves; leave 'ch_names' and "
                "'sfreq' out"
            )
        eeg = array_from_epochs(eeg, facts, positions, missing=missing, bads=bads)
    elif missing != "refuse" or bads != "refuse":
        raise InputError(
            "an array does not say which channels are missing or bad; leave 'missing' and 'bads' "
            "out, or give MNE's Epochs"
        )
    eeg = np.asarray(eeg)
    _check_shape(eeg, facts, ch_names, sfreq)
    if eeg.size:
        _check_values(eeg, facts["ch_names"])
        if eeg_std:
            _check_unit(eeg, facts["ch_names"], eeg_std, str(facts.get("unit", "its unit")))
    return eeg


def _check_shape(
    eeg: np.ndarray, facts: Mapping[str, Any], ch_names: Sequence[str] | None, sfreq: float | None
) -> None:
    n_chans, n_times = len(facts["ch_names"]), int(facts["encoder"]["n_times"])
    if eeg.ndim != 3 or eeg.dtype.kind not in "fiu":
        raise InputError(
            f"EEG must be numbers of shape (n_trials, {n_chans}, {n_times}), got {eeg.dtype} of "
            f"shape {eeg.shape}; a single trial is eeg[None]"
        )
    if ch_names is not None:
        check_channels(dict(facts), list(ch_names))
    if eeg.shape[1:] != (n_chans, n_times):
        raise InputError(
            f"the encoder was trained on {n_chans} channels and {n_times} samples a trial, got "
            f"{eeg.shape[1]} and {eeg.shape[2]}; give the same channels and the same window"
        )
    trained = float(facts["sfreq"])
    if sfreq is not None and not np.isclose(sfreq, trained, rtol=1e-3):
        raise InputError(
            f"the encoder was trained at {trained:g} Hz, got {sfreq:g} Hz; resample the EEG"
        )


def _check_values(eeg: np.ndarray, names: Sequence[str]) -> None:
    finite = np.isfinite(eeg).all(axis=2)
    if not finite.all():
        trial, channel = np.argwhere(~finite)[0]
        raise InputError(
            f"trial {trial}, channel '{names[channel]}' holds a value that is not "
            "finite; drop the trial or fix the recording"
        )
    flat = eeg.min(axis=2) == eeg.max(axis=2)
    if flat.any():
        trial, channel = np.argwhere(flat)[0]
        raise InputError(
            f"trial {trial}, channel '{names[channel]}' is flat, so the electrode was "
            "off; drop the trial or interpolate the channel"
        )


def _check_unit(eeg: np.ndarray, names: Sequence[str], trained: float, unit: str) -> None:
    of_channel = np.median(eeg.std(axis=2), axis=0)
    here = float(np.median(of_channel))
    if not 1 / _SCALE < here / trained < _SCALE:
        raise InputError(
            f"the EEG's channels vary by {here:.3g}, those of the training study by "
            f"{trained:.3g} {unit}; give the EEG in {unit}, filtered like the study"
        )
    apart = np.abs(np.log(of_channel / here))
    if apart.max() > np.log(_SCALE_OF_ONE):
        worst = int(apart.argmax())
        raise InputError(
            f"channel '{names[worst]}' varies by {of_channel[worst]:.3g}, the others by "
            f"{here:.3g} {unit}; it is in another unit or no EEG: convert it, or interpolate it"
        )


def array_from_epochs(
    epochs: mne.BaseEpochs,
    facts: Mapping[str, Any],
    positions: np.ndarray,
    *,
    missing: Remedy = "refuse",
    bads: Remedy = "refuse",
) -> np.ndarray:
    """Trials of Epochs in the channels, the order, the window and the unit of a training study.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        They are not changed.
    facts : mapping
        Of the encoder: `ch_names`, `sfreq`, `tmin`, `unit` and the number of samples.
    positions : array, shape (n_chans, 3)
        Where the electrodes of the training study lie, in meters; NaN where that is not known.
    missing : {"refuse", "interpolate"}
        What to do about channels that the Epochs lack.
    bads : {"refuse", "interpolate"}
        What to do about channels that the Epochs mark as bad.

    Returns
    -------
    array of float64, shape (n_trials, n_chans, n_times)

    Raises
    ------
    InputError
        If the Epochs do not fit, saying what to do.
    """
    for what, remedy in (("'missing'", missing), ("'bads'", bads)):
        if remedy not in ("refuse", "interpolate"):
            raise UnknownNameError(f"value of {what}", str(remedy), ["refuse", "interpolate"])
    check_epochs(epochs, InputError)
    wanted = [str(name) for name in facts["ch_names"]]
    names = _matched(epochs.ch_names, wanted)
    lacking = [name for name in wanted if name not in names]
    marked = [name for name in wanted if names.get(name) in epochs.info["bads"]]
    _check_missing(lacking, missing, epochs.ch_names)
    _check_bads(marked, bads)
    if len(lacking) + len(marked) > MOST_INTERPOLATED * len(wanted):
        raise InputError(
            f"{len(lacking)} channels are missing and {len(marked)} bad of the {len(wanted)} that the "
            f"encoder reads; at most {MOST_INTERPOLATED:.0%} can be interpolated: train on the "
            "channels that these Epochs have"
        )
    _check_kinds(epochs, list(names.values()), str(facts.get("unit", "V")))
    first, n_times = _window(epochs, facts)
    loaded = epochs.get_data(picks=list(names.values()), verbose="ERROR")
    if not len(loaded):
        raise InputError("the Epochs hold no trial that was not dropped; see 'epochs.drop_log'")
    eeg = np.zeros((len(loaded), len(wanted), n_times))
    eeg[:, [wanted.index(name) for name in names]] = loaded[:, :, first : first + n_times]
    if lacking or marked:
        eeg = _interpolated(eeg, wanted, [*lacking, *marked], positions, epochs, names)
    return eeg


def _matched(there: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Wanted name -> name in the Epochs; case matters only where it tells two channels apart."""
    folded: dict[str, list[str]] = {}
    for name in there:
        folded.setdefault(name.casefold(), []).append(name)
    taken = set(wanted) & set(there)
    result = {}
    for name in wanted:
        alike = [n for n in folded.get(name.casefold(), []) if n not in taken]
        if name in taken:
            result[name] = name
        elif len(alike) == 1 and [w.casefold() for w in wanted].count(name.casefold()) == 1:
            result[name] = alike[0]
    return result


def _check_missing(lacking: Sequence[str], missing: Remedy, there: Sequence[str]) -> None:
    if lacking and missing == "refuse":
        more = " …" if len(lacking) > 8 else ""
        raise InputError(
            f"the Epochs lack {len(lacking)} channels that the encoder was trained on "
            f"({', '.join(lacking[:8])}{more}; they have {', '.join(there[:8])}"
            f"{' …' if len(there) > 8 else ''}); rename them with 'epochs.rename_channels' if they go "
            "by other names, or pass missing='interpolate'"
        )


def _check_bads(marked: Sequence[str], bads: Remedy) -> None:
    if marked and bads == "refuse":
        raise InputError(
            f"the Epochs mark {', '.join(marked)} as bad; pass bads='interpolate', or take the mark "
            "away (epochs.info['bads'] = []) if what they hold is EEG"
        )


def _check_kinds(epochs: mne.BaseEpochs, names: Sequence[str], unit: str) -> None:
    """Refuse channels that are no EEG, or whose unit is not the training study's."""
    from mne.io.constants import FIFF

    types = dict(zip(epochs.ch_names, epochs.get_channel_types()))
    other = [name for name in names if types[name] != "eeg"]
    if other:
        raise InputError(
            f"channel '{other[0]}' of the Epochs is of type {types[other[0]]}, not eeg; set the types "
            "with 'epochs.set_channel_types' if it holds EEG"
        )
    expected = FIFF.FIFF_UNIT_V if unit == "V" else FIFF.FIFF_UNIT_NONE
    chans = dict(zip(epochs.ch_names, epochs.info["chs"]))
    wrong = [name for name in names if int(chans[name]["unit"]) != expected]
    if wrong and unit == "V":
        raise InputError(
            f"channel '{wrong[0]}' of the Epochs is not in volts, as the training study is; convert "
            "the values, and give the channel's unit in its info"
        )
    if wrong:
        raise InputError(
            f"the training study is in {unit}, standardized by its source, but the Epochs are in "
            "volts; EEG in volts cannot be decoded by this run: train on a study in volts"
        )


def _window(epochs: mne.BaseEpochs, facts: Mapping[str, Any]) -> tuple[int, int]:
    """First sample and number of samples of the training window in the Epochs."""
    n_times = int(facts["encoder"]["n_times"])
    rate, here = float(facts["sfreq"]), float(epochs.info["sfreq"])
    # Over a trial the two clocks may part by less than half a sample.
    if abs(here / rate - 1) * n_times >= 0.5:
        raise InputError(
            f"the encoder was trained at {rate:g} Hz, the Epochs are at {here:g} Hz; resample them "
            f"first: epochs.load_data().resample({rate:g}), or the recording before it is cut"
        )
    start = float(facts.get("tmin", epochs.times[0]))
    first = round((start - float(epochs.times[0])) * rate)
    if first < 0 or first + n_times > len(epochs.times):
        stop = start + (n_times - 1) / rate
        raise InputError(
            f"the encoder reads {start:.4g} to {stop:.4g} s from onset, the Epochs hold "
            f"{epochs.times[0]:.4g} to {epochs.times[-1]:.4g} s; cut them again with "
            f"tmin={start:.6g}, tmax={stop:.6g} or wider"
        )
    return first, n_times


def _interpolated(
    eeg: np.ndarray,
    wanted: Sequence[str],
    gone: Sequence[str],
    positions: np.ndarray,
    epochs: mne.BaseEpochs,
    names: Mapping[str, str],
) -> np.ndarray:
    """Channels `gone` from the others, by spherical splines."""
    import mne

    places = _places(wanted, gone, positions, epochs, names)
    unplaced = [name for name in gone if name not in places]
    if unplaced:
        raise InputError(
            f"channels cannot be interpolated, since the position of {', '.join(unplaced[:8])} is not "
            "known; give the Epochs a montage ('epochs.set_montage'), or train on a study with "
            "positions"
        )
    # Channels without a position neither help nor change.
    placed = [i for i, name in enumerate(wanted) if name in places]
    info = mne.create_info([wanted[i] for i in placed], float(epochs.info["sfreq"]), "eeg")
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), on_missing="ignore")
    info["bads"] = list(gone)
    whole = mne.EpochsArray(eeg[:, placed], info, baseline=None, verbose="ERROR")
    where = np.array(list(places.values()))
    # The sphere that lies nearest to the electrodes.
    system = np.column_stack([2 * where, np.ones(len(where))])
    center = np.linalg.lstsq(system, (where**2).sum(axis=1), rcond=None)[0][:3]
    whole.interpolate_bads(reset_bads=True, origin=tuple(center), verbose="ERROR")
    result = eeg.copy()
    result[:, placed] = whole.get_data(verbose="ERROR")
    return result


def _places(
    wanted: Sequence[str],
    gone: Sequence[str],
    positions: np.ndarray,
    epochs: mne.BaseEpochs,
    names: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Positions in one frame: the run's own where they have those that are gone, else the Epochs'."""
    own = {
        name: np.asarray(where, dtype=np.float64)
        for name, where in zip(wanted, positions)
        if np.isfinite(where).all()
    }
    montage = epochs.get_montage()
    if set(gone) <= set(own) or montage is None:
        return own
    found = montage.get_positions()
    if found["coord_frame"] != "head":
        return own
    return {
        name: np.asarray(found["ch_pos"][names[name]])
        for name in wanted
        if name in names and np.isfinite(found["ch_pos"].get(names[name], np.nan)).all()
    }
