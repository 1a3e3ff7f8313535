"""Named steps on the signal that are not fitted on data: each is recorded, none is done twice.

Steps that are fitted (standardization, whitening) belong to training, where they see the training
side only. The functions here take arrays whose last axis is time, so the same step serves a
continuous recording (channel × time) and cut trials (trial × channel × time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.files import provenance
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

__all__ = [
    "STEPS",
    "Ledger",
    "average_reference",
    "average_repetitions",
    "band_pass",
    "baseline",
    "crop",
    "notch",
    "preprocess",
    "resample",
]

# Step name -> what it does, for messages and for the record.
STEPS: dict[str, str] = {
    "notch": "remove line noise at given frequencies",
    "band-pass": "keep a band of frequencies",
    "average reference": "subtract the mean over channels at every moment",
    "resample": "change the sampling rate",
    "epoch": "cut trials around stimulus onsets",
    "windows": "cut windows from recordings without events",
    "crop": "keep a part of each trial in time",
    "baseline": "subtract each channel's mean over a stretch of the trial",
    "reject": "leave out trials by amplitude",
    "average repetitions": "average trials of the same image",
    # Done in training, on the training set; or by a source before it gave its trials away.
    "standardize": "divide each channel by its standard deviation",
    "whiten": "take correlations between channels out of the noise",
    "mvnn": "multivariate noise normalization",
}

# A step -> other names under which a study may record it.
_SAME = {"average reference": ("reference",), "band-pass": ("highpass", "lowpass")}

FilterMethod = Literal["iir", "fir"]


class Ledger:
    """What was done to a signal, in order; a step that is in it cannot be done again.

    Parameters
    ----------
    done : iterable of mapping
        Steps applied before, each with a `name`.

    Examples
    --------
    >>> ledger = Ledger()
    >>> ledger.add("band-pass", low=1, high=30)
    >>> ledger.add("band-pass", low=1, high=20)
    Traceback (most recent call last):
    ...
    eegprompt.core.errors.InputError: the step 'band-pass' was applied already (low=1, high=30); applying \
it twice would change the data unseen: leave it out, or import the recording again without it
    """

    def __init__(self, done: Iterable[Mapping[str, Any]] = ()):
        self.steps: list[dict[str, Any]] = [dict(step) for step in done]

    def check(self, name: str) -> None:
        """Refuse a step that is unknown or was done.

        Raises
        ------
        UnknownNameError
            If there is no such step.
        InputError
            If it was applied before.
        """
        if name not in STEPS:
            raise UnknownNameError("preprocessing step", name, STEPS)
        for step in self.steps:
            same = (
                step.get("name") in _SAME.get(name, ()) and step.get("to", "average") == "average"
            )
            if step.get("name") == name or same:
                how = ", ".join(f"{k}={v}" for k, v in step.items() if k != "name")
                raise InputError(
                    f"the step '{name}' was applied already ({how}); applying it twice would change "
                    "the data unseen: leave it out, or import the recording again without it"
                )

    def add(self, name: str, **parameters: Any) -> None:
        """Record a step with its parameters; see :meth:`check` for what is refused."""
        self.check(name)
        self.steps.append({"name": name, **parameters})


def _checked_rate(sfreq: float) -> float:
    if not (np.isfinite(sfreq) and sfreq > 0):
        raise InputError(f"the sampling rate must be a positive number of Hz, got {sfreq}")
    return float(sfreq)


def band_pass(
    data: np.ndarray,
    sfreq: float,
    low: float | None,
    high: float | None,
    method: FilterMethod = "iir",
) -> np.ndarray:
    """Keep the frequencies between `low` and `high`, without phase shift.

    Parameters
    ----------
    data : array, last axis time
        Any unit.
    sfreq : float
        Sampling rate in Hz.
    low, high : float or None
        Edges in Hz; None leaves that side open.
    method : {"iir", "fir"}
        ``"iir"``: Butterworth of order 4, run forward and back. ``"fir"``: MNE's default design
        (windowed, zero phase), steeper, and longer than 3 s for a 1 Hz edge.

    Returns
    -------
    array of float64, like `data`

    Raises
    ------
    InputError
        If an edge is out of range or the data are shorter than three cycles of `low`.
    """
    from mne.filter import filter_data

    sfreq = _checked_rate(sfreq)
    nyquist = sfreq / 2
    if low is None and high is None:
        raise InputError("a band-pass needs a lower or an upper edge in Hz")
    for edge in (low, high):
        if edge is not None and not 0 < edge < nyquist:
            raise InputError(
                f"a filter edge must lie between 0 and {nyquist:g} Hz (half the sampling rate), "
                f"got {edge:g}"
            )
    if low is not None and high is not None and low >= high:
        raise InputError(f"the band's lower edge must be below its upper, got {low:g} and {high:g}")
    seconds = data.shape[-1] / sfreq
    if low is not None and seconds < 3 / low:
        raise InputError(
            f"{seconds:.3g} s of signal is too short for a lower edge of {low:g} Hz, which needs "
            f"{3 / low:.3g} s; filter the continuous recording when it is imported"
        )
    return np.asarray(
        filter_data(
            np.asarray(data, dtype=np.float64),
            sfreq,
            low,
            high,
            method=method,
            iir_params={"order": 4, "ftype": "butter", "output": "sos"}
            if method == "iir"
            else None,
            verbose="ERROR",
        )
    )


def notch(data: np.ndarray, sfreq: float, frequencies: Sequence[float]) -> np.ndarray:
    """Remove narrow bands around `frequencies` (Hz): second-order IIR notch, zero phase, Q = 30.

    Parameters
    ----------
    data : array, last axis time
    sfreq : float
        Sampling rate in Hz.
    frequencies : sequence of float
        Centers in Hz, each below half the sampling rate.

    Returns
    -------
    array of float64, like `data`
    """
    from scipy.signal import filtfilt, iirnotch

    sfreq = _checked_rate(sfreq)
    result = np.asarray(data, dtype=np.float64)
    for frequency in frequencies:
        if not 0 < frequency < sfreq / 2:
            raise InputError(
                f"a notch must lie between 0 and {sfreq / 2:g} Hz (half the sampling rate), got "
                f"{frequency:g}"
            )
        b, a = iirnotch(frequency, 30, fs=sfreq)
        if result.shape[-1] <= 9:
            raise InputError(f"{result.shape[-1]} samples are too few for a notch filter")
        result = filtfilt(b, a, result, axis=-1)
    return result


def resample(data: np.ndarray, sfreq: float, to: float) -> np.ndarray:
    """Change the sampling rate, band-limited (polyphase or Fourier as MNE does it).

    Parameters
    ----------
    data : array, last axis time
    sfreq, to : float
        Sampling rate before and after, in Hz. The first sample keeps its time.

    Returns
    -------
    array of float64, last axis ``round(n_times * to / sfreq)``
    """
    from mne.filter import resample as mne_resample

    sfreq, to = _checked_rate(sfreq), _checked_rate(to)
    if to == sfreq:
        raise InputError(f"the data are at {sfreq:g} Hz already; leave 'resample' out")
    data = np.asarray(data, dtype=np.float64)
    return np.asarray(mne_resample(data, up=to, down=sfreq, axis=-1, verbose="ERROR"))


def average_reference(data: np.ndarray) -> np.ndarray:
    """Subtract the mean over channels (second axis from the end) at every moment."""
    if data.shape[-2] < 2:
        raise InputError("an average reference needs at least two channels, got 1")
    return data - data.mean(axis=-2, keepdims=True)


def _stretch(n_times: int, sfreq: float, tmin: float, start: float | None, stop: float | None):
    """First and last+1 sample of a stretch given in seconds relative to onset, ends included."""
    last_time = tmin + (n_times - 1) / sfreq
    a = 0 if start is None else round((start - tmin) * sfreq)
    b = n_times - 1 if stop is None else round((stop - tmin) * sfreq)
    if not 0 <= a <= b < n_times:
        raise InputError(
            f"the stretch {start} to {stop} s does not lie in the trial, which runs from {tmin:.4g} "
            f"to {last_time:.4g} s"
        )
    return a, b + 1


def crop(
    eeg: np.ndarray, sfreq: float, tmin: float, start: float | None, stop: float | None
) -> tuple[np.ndarray, float]:
    """Keep `start` to `stop` (seconds from onset, ends included) of each trial.

    Returns
    -------
    eeg : array
        The part kept.
    tmin : float
        Time of its first sample in seconds.
    """
    a, b = _stretch(eeg.shape[-1], sfreq, tmin, start, stop)
    return eeg[..., a:b], tmin + a / sfreq


def baseline(
    eeg: np.ndarray, sfreq: float, tmin: float, start: float | None, stop: float | None
) -> np.ndarray:
    """Subtract each channel's mean over `start` to `stop` (seconds from onset, ends included)."""
    a, b = _stretch(eeg.shape[-1], sfreq, tmin, start, stop)
    return eeg - eeg[..., a:b].mean(axis=-1, keepdims=True)


def average_repetitions(
    eeg: np.ndarray, keys: Sequence[Any]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Average trials of equal key.

    Parameters
    ----------
    eeg : array (n_trials, n_chans, n_times)
    keys : sequence, length n_trials
        Trials with equal keys are averaged, e.g. (subject, image, side of the split).

    Returns
    -------
    averages : array (n_keys, n_chans, n_times)
        In the order in which keys first occur.
    members : list of array of int
        Rows that went into each average.
    """
    if len(keys) != len(eeg):
        raise InputError(f"one key a trial is needed: {len(eeg)} trials, {len(keys)} keys")
    groups: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    members = [np.array(rows) for rows in groups.values()]
    return np.stack([eeg[rows].mean(axis=0) for rows in members]), members


_ON_TRIALS = (
    *("average reference", "average repetitions", "band-pass", "baseline", "crop", "notch"),
    "resample",
)


def preprocess(
    study: Study,
    out: str | Path,
    steps: Sequence[Mapping[str, Any]],
    *,
    overwrite: bool = False,
    block: int = 256,
    progress: Callable[[int, int, str], None] | None = None,
) -> Study:
    """Apply steps to a study's trials and write the result as a new study.

    Captions are carried over, and so are splits; where repetitions are averaged, the splits that
    keep all trials of an average on one side.

    Parameters
    ----------
    study : Study
        What to start from; it is not changed.
    out : path-like
        Folder of the new study.
    steps : sequence of mapping
        Each with `name` and the parameters of its function, e.g.
        ``{"name": "crop", "start": 0.0, "stop": 0.5}``. Allowed: average reference, average
        repetitions (of one image and subject; `within`: further columns of the trials that must be
        equal, such as ``["session"]``), band-pass, baseline, crop, notch, resample. Averages are
        formed first: the other steps are linear, so that the order does not matter to them.
    overwrite : bool
        Replace `out` if it exists.
    block : int
        Trials held in memory at once.
    progress : callable, optional
        Called with (done, total, label).

    Returns
    -------
    Study

    Raises
    ------
    InputError
        If a step is unknown, was applied before, or does not fit the trials.
    """
    import shutil

    ledger = Ledger(study.info.get("steps", []))
    plan = []
    for step in steps:
        name = str(step.get("name"))
        if name not in _ON_TRIALS:
            raise UnknownNameError("step on trials", name, _ON_TRIALS)
        parameters = {k: v for k, v in step.items() if k != "name"}
        ledger.add(name, **parameters, on="trials")
        plan.append((name, parameters))
    if Path(out).resolve() == study.path.resolve():
        raise InputError(f"{out} is the study itself; write the result to another folder")
    sfreq, tmin = study.sfreq, study.tmin
    average = next((p for name, p in plan if name == "average repetitions"), None)
    plan = [(name, p) for name, p in plan if name != "average repetitions"]
    groups = _groups(study, average) if average is not None else None
    n_out = study.n_trials if groups is None else len(groups)
    notes = list(study.info.get("notes", []))
    with StudyWriter.open(out, overwrite=overwrite) as writer:
        for first in range(0, n_out, block):
            if groups is None:
                eeg = np.asarray(study.eeg[first : first + block], dtype=np.float64)
            else:
                several = groups[first : first + block]
                eeg = np.stack([study.eeg[rows].mean(axis=0, dtype=np.float64) for rows in several])
            sfreq, tmin = study.sfreq, study.tmin
            for name, parameters in plan:
                try:
                    eeg, sfreq, tmin = _apply(name, eeg, sfreq, tmin, parameters)
                except TypeError as problem:
                    raise InputError(
                        f"the step '{name}' got wrong parameters ({problem})"
                    ) from None
            writer.append(eeg)
            if progress is not None:
                progress(min(first + block, n_out), n_out, "preprocess")
        images = study.images.copy()
        # Images lie inside the study's folder, or anywhere by an absolute path.
        if (study.path / "images").is_dir():
            shutil.copytree(study.path / "images", writer.folder / "images")
        for folder in ("splits", "captions") if groups is None else ("captions",):
            if (study.path / folder).is_dir():
                shutil.copytree(study.path / folder, writer.folder / folder)
        trials = study.trials if groups is None else _averaged_trials(study, groups)
        splits = [] if groups is None else _averaged_splits(study, groups, notes)
        info = {
            **{k: v for k, v in study.info.items() if k not in ("provenance", "eeg_sha256")},
            "sfreq": sfreq,
            "tmin": tmin,
            "steps": ledger.steps,
            "notes": notes,
            "provenance": provenance(source=study.key, steps=list(steps)),
        }
        if study.accounting is not None:
            fewer = study.n_trials - n_out
            info["accounting"] = study.accounting.less("averaged with others", fewer).to_json()
        writer.finish(info=info, trials=trials, images=images)
        for split in splits:
            Study(writer.folder).write_split(split)
    return Study(out)


def _groups(study: Study, parameters: Mapping[str, Any]) -> list[np.ndarray]:
    """Trials of each average, in the order in which they first occur."""
    unknown = sorted(set(parameters) - {"within"})
    if unknown:
        raise UnknownNameError("parameter of 'average repetitions'", unknown[0], ["within"])
    within = parameters.get("within", ())
    columns = [within] if isinstance(within, str) else list(within)
    for column in columns:
        if column not in study.trials:
            raise UnknownNameError("column of the trials", column, study.trials.columns)
    keys = study.trials[["subject", "image_id", *columns]].astype(str)
    places = keys.groupby(list(keys.columns), sort=False).ngroup().to_numpy()
    order = np.argsort(places, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(places[order])) + 1)


def _averaged_trials(study: Study, groups: Sequence[np.ndarray]) -> Any:
    """One row an average: what its trials agree on, and how many went in."""
    count = study.trials["n_averaged"].to_numpy()
    trials = study.trials.iloc[[rows[0] for rows in groups]].reset_index(drop=True)
    trials["n_averaged"] = [int(count[rows].sum()) for rows in groups]
    several = np.array([len(rows) > 1 for rows in groups])
    # An average has no place in time.
    trials["onset"] = np.where(several, np.nan, trials["onset"].to_numpy(dtype=np.float64))
    for column, nothing in (("order", -1), ("block", -1)):
        trials[column] = np.where(several, nothing, trials[column].to_numpy())
    for column in ("session", "run"):
        values = study.trials[column].astype(str).to_numpy()
        trials[column] = ["+".join(dict.fromkeys(values[rows])) for rows in groups]
    return trials


def _averaged_splits(study: Study, groups: Sequence[np.ndarray], notes: list[str]) -> list[Split]:
    """Splits in which all trials of an average stand on one side, in terms of the averages."""
    result = []
    for name in study.split_names():
        split = study.split(name)
        folds = []
        for fold in split.folds:
            side = np.zeros(study.n_trials, int)
            for number, ids in enumerate((fold.train, fold.val, fold.test), start=1):
                side[ids] = number
            of_group = [np.unique(side[rows]) for rows in groups]
            if any(len(sides) > 1 for sides in of_group):
                break
            where = np.array([sides[0] for sides in of_group])
            folds.append(Fold(*(np.flatnonzero(where == number) for number in (1, 2, 3))))
        if len(folds) == len(split.folds):
            result.append(Split(name, tuple(folds), {**split.how, "n_trials": len(groups)}))
        else:
            notes.append(
                f"the split '{name}' was not carried over: it parts repetitions that were averaged"
            )
    return result


def _apply(
    name: str, eeg: np.ndarray, sfreq: float, tmin: float, parameters: dict[str, Any]
) -> tuple[np.ndarray, float, float]:
    if name == "band-pass":
        return band_pass(eeg, sfreq, **parameters), sfreq, tmin
    if name == "notch":
        return notch(eeg, sfreq, **parameters), sfreq, tmin
    if name == "average reference":
        return average_reference(eeg, **parameters), sfreq, tmin
    if name == "baseline":
        return baseline(eeg, sfreq, tmin, **parameters), sfreq, tmin
    if name == "crop":
        eeg, tmin = crop(eeg, sfreq, tmin, **parameters)
        return eeg, sfreq, tmin
    eeg = resample(eeg, sfreq, **parameters)
    return eeg, float(parameters["to"]), tmin
