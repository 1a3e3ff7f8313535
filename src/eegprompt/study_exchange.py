"""A study as MNE's Epochs, from MNE's Epochs, and as a dataset that torch loads from.

What is not MNE's or torch's own way of saying something goes along in the metadata, so that a study
comes back from Epochs as it went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.artifacts import provenance, sha256_file
from eegprompt.errors import StudyError, UnknownNameError
from eegprompt.types import trial_ids

if TYPE_CHECKING:
    import mne
    import pandas as pd

    from eegprompt.study import Study

__all__ = ["TrialDataset", "epochs_of", "study_from_epochs"]

BLOCK = 64  # trials copied at a time
_PER_TRIAL = ("subject", "session", "run", "block", "order", "onset", "n_averaged")


def epochs_of(study: Study, trials: Sequence[int] | np.ndarray | None = None) -> mne.EpochsArray:
    """A study's trials as MNE's Epochs; see :meth:`eegprompt.Study.to_epochs`.

    Parameters
    ----------
    study : Study
    trials : sequence of int, optional
        Trial ids; default all.

    Returns
    -------
    mne.EpochsArray
    """
    import mne
    from mne.io.constants import FIFF

    ids = (
        np.arange(study.n_trials) if trials is None else trial_ids(trials, "'trials'", StudyError)
    )
    if not len(ids) or ids.max() >= study.n_trials:
        raise StudyError(
            f"'trials' lists trial ids between 0 and {study.n_trials - 1}, at least one; got "
            f"{len(ids)} of them"
        )
    info = mne.create_info(study.ch_names, study.sfreq, "eeg")
    if study.unit != "V":  # MNE takes EEG to be in volts unless it is told that it has no unit
        for channel in info["chs"]:
            channel["unit"] = FIFF.FIFF_UNIT_NONE
    known = {
        name: where
        for name, where in zip(study.ch_names, study.positions.astype(float))
        if np.isfinite(where).all()
    }
    if known:
        info.set_montage(
            mne.channels.make_dig_montage(known, coord_frame="head"),
            on_missing="ignore",
            verbose="ERROR",
        )
    of_image = dict(zip(study.images["image_id"], study.images["category"].astype(str)))
    metadata = study.trials.iloc[ids].reset_index(drop=True)
    category = metadata["image_id"].map(of_image)
    metadata["category"] = category
    event_id = {name: code for code, name in enumerate(sorted(set(category)), start=1)}
    events = np.zeros((len(ids), 3), dtype=np.int64)
    # Onsets are those of several recordings and may be unknown; MNE wants distinct samples.
    events[:, 0] = np.arange(len(ids)) * study.n_times + max(0, -round(study.tmin * study.sfreq))
    events[:, 2] = category.map(event_id)
    return mne.EpochsArray(
        np.asarray(study.eeg[ids], dtype=np.float64),
        info,
        events=events,
        tmin=study.tmin,
        event_id=event_id,
        baseline=None,
        metadata=metadata,
        verbose="ERROR",
    )


def study_from_epochs(
    epochs: mne.BaseEpochs,
    out: str | Path,
    *,
    image_column: str | None = None,
    category_column: str | None = None,
    pictures: Mapping[str, str | Path] | None = None,
    name: str = "epochs",
    design: str = "unknown",
    license: str = "",
    citation: str = "",
    overwrite: bool = False,
) -> Study:
    """Write MNE's Epochs as a study; see :meth:`eegprompt.Study.from_epochs`.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        Its EEG channels are taken, in volts.
    out : path-like
        The study's folder.
    image_column, category_column : str, optional
        Columns of the metadata; default `image_id` and `category`, where there, and the name of the
        event for the category.
    pictures : mapping of str to path-like, optional
        Value of `image_column` -> its picture, which stays where it is.
    name, design, license, citation : str
        For ``study.json``.
    overwrite : bool
        Replace a study that is there.

    Returns
    -------
    Study
    """
    import mne
    import pandas as pd
    from mne.io.constants import FIFF

    from eegprompt.study import DESIGNS, Study, StudyWriter

    if design not in DESIGNS:
        raise UnknownNameError("design", design, DESIGNS)
    picks = mne.pick_types(epochs.info, eeg=True, exclude=())
    if not len(picks):
        raise StudyError(
            f"the Epochs hold no EEG channel (types: {sorted(set(epochs.get_channel_types()))}); set "
            "their types with 'epochs.set_channel_types'"
        )
    metadata = epochs.metadata if epochs.metadata is not None else pd.DataFrame()
    for column in (image_column, category_column):
        if column is not None and column not in metadata:
            raise UnknownNameError("column of the metadata", column, map(str, metadata.columns))
    image_column = image_column or ("image_id" if "image_id" in metadata else None)
    category_column = category_column or ("category" if "category" in metadata else None)
    by_code = {code: event for event, code in epochs.event_id.items()}
    n = len(epochs.events)
    category = (
        metadata[category_column].astype(str).to_numpy()
        if category_column is not None
        else np.array([by_code[code] for code in epochs.events[:, 2].tolist()], dtype=object)
    )
    image = metadata[image_column].astype(str).to_numpy() if image_column else category
    trials = pd.DataFrame({"image_id": image, "category": category})
    trials["subject"] = "1"
    for column in [str(c) for c in metadata if c not in (*trials, "trial_id")]:
        trials[column] = metadata[column].to_numpy()
    if "subject" in metadata:
        trials["subject"] = metadata["subject"].astype(str).to_numpy()
    for column in ("session", "run"):
        if column in trials:
            trials[column] = trials[column].astype(str)
    categories = trials.groupby("image_id")["category"].nunique()
    if (categories > 1).any():
        raise StudyError(
            f"the image '{categories[categories > 1].index[0]}' is shown under two categories; an "
            "image has one"
        )
    first = trials.groupby("image_id")["category"].first()
    images = pd.DataFrame({"image_id": first.index, "category": first.to_numpy()})
    images = pd.concat([images, _picture_facts(images["image_id"], pictures or {})], axis=1)
    units = {int(epochs.info["chs"][p]["unit"]) for p in picks}
    ch_names = [epochs.ch_names[p] for p in picks]
    with StudyWriter.open(out, overwrite=overwrite) as writer:
        for start in range(0, n, BLOCK):
            block = epochs[start : start + BLOCK].get_data(picks=ch_names, verbose="ERROR")
            writer.append(block)
        writer.finish(
            info={
                "name": name,
                "source": "MNE Epochs",
                "license": license,
                "citation": citation,
                "ch_names": ch_names,
                "ch_pos": _positions(epochs, ch_names),
                "sfreq": float(epochs.info["sfreq"]),
                "tmin": float(epochs.times[0]),
                "unit": "V" if units == {FIFF.FIFF_UNIT_V} else "a.u.",
                "montage": "",
                "design": design,
                "image_identity": "known" if image_column else "category",
                "steps": _steps(epochs),
                "provenance": provenance(source="MNE Epochs", file=str(epochs.filename or "")),
            },
            trials=trials[[*dict.fromkeys([*(c for c in _PER_TRIAL if c in trials), *trials])]],
            images=images,
        )
    return Study(out)


def _picture_facts(ids: pd.Series, pictures: Mapping[str, str | Path]) -> pd.DataFrame:
    import pandas as pd
    from PIL import Image

    for name in pictures:
        if name not in set(ids):
            raise UnknownNameError("image in 'pictures'", str(name), ids.astype(str))
    rows = []
    for image_id in ids:
        path = Path(pictures[image_id]).resolve() if image_id in pictures else None
        if path is None:
            rows.append({"path": "", "sha256": "", "width": 0, "height": 0})
            continue
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except OSError as problem:
            raise StudyError(f"{path} cannot be read as a picture ({problem})") from None
        rows.append(
            {"path": str(path), "sha256": sha256_file(path), "width": width, "height": height}
        )
    return pd.DataFrame(rows)


def _positions(epochs: mne.BaseEpochs, ch_names: list[str]) -> dict[str, list[float]]:
    montage = epochs.get_montage()
    if montage is None:
        return {}
    found = montage.get_positions()
    if found["coord_frame"] != "head":
        return {}
    return {
        n: [float(x) for x in found["ch_pos"][n]]
        for n in ch_names
        if n in found["ch_pos"] and np.isfinite(found["ch_pos"][n]).all()
    }


def _steps(epochs: mne.BaseEpochs) -> list[dict[str, Any]]:
    """What Epochs say was done to them."""
    steps: list[dict[str, Any]] = []
    low, high = float(epochs.info["highpass"]), float(epochs.info["lowpass"])
    if low > 0 or high < 0.49 * epochs.info["sfreq"]:
        steps.append({"name": "band-pass", "low": low, "high": high, "on": "by the source"})
    tmin, tmax = float(epochs.times[0]), float(epochs.times[-1])
    steps.append({"name": "epoch", "tmin": tmin, "tmax": tmax, "on": "by the source"})
    if epochs.baseline is not None:
        start, stop = epochs.baseline
        steps.append({"name": "baseline", "start": start, "stop": stop, "on": "by the source"})
    return steps


class TrialDataset:
    """A study's trials for a ``torch.utils.data.DataLoader``, read from disk as they are asked for.

    A map-style dataset: ``dataset[i]`` is a dictionary with `eeg`, a float32 tensor (n_chans,
    n_times) in the study's unit, `trial_id`, `image_id`, `category` and `subject`. Worker processes
    open the file anew instead of being sent the trials.

    Parameters
    ----------
    study : Study
    trials : sequence of int, optional
        Trial ids, e.g. a side of a split; default all.

    Examples
    --------
    ``DataLoader(study.to_torch(study.split("official").fold(0).train), batch_size=64, shuffle=True)``
    """

    def __init__(self, study: Study, trials: Sequence[int] | np.ndarray | None = None):
        ids = (
            np.arange(study.n_trials)
            if trials is None
            else trial_ids(trials, "'trials'", StudyError)
        )
        if len(ids) and ids.max() >= study.n_trials:
            raise StudyError(f"'trials' lists trial ids between 0 and {study.n_trials - 1}")
        self.path = study.path
        self.trial_ids = ids
        of_image = dict(zip(study.images["image_id"], study.images["category"].astype(str)))
        rows = study.trials.iloc[ids]
        self.image_ids = rows["image_id"].astype(str).tolist()
        self.categories = [of_image[i] for i in rows["image_id"]]
        self.subjects = rows["subject"].astype(str).tolist()
        self._eeg: np.ndarray | None = study.eeg

    def __len__(self) -> int:
        return len(self.trial_ids)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map that is sent to another process is sent with all it holds.
        return {**self.__dict__, "_eeg": None}

    def _open(self) -> np.ndarray:
        if self._eeg is None:
            self._eeg = np.load(self.path / "eeg.npy", mmap_mode="r", allow_pickle=False)
        return self._eeg

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        if not -len(self) <= index < len(self):
            raise IndexError(f"trial {index} of {len(self)}")
        return {
            "eeg": torch.from_numpy(np.array(self._open()[self.trial_ids[index]])),
            "trial_id": int(self.trial_ids[index]),
            "image_id": self.image_ids[index],
            "category": self.categories[index],
            "subject": self.subjects[index],
        }

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch at once: one read of the file in the order of the file."""
        import torch

        ids = self.trial_ids[np.asarray(indices)]
        order = np.argsort(ids, kind="stable")
        eeg = np.empty((len(ids), *self._open().shape[1:]), np.float32)
        eeg[order] = self._open()[ids[order]]
        return [
            {
                "eeg": tensor,
                "trial_id": int(self.trial_ids[i]),
                "image_id": self.image_ids[i],
                "category": self.categories[i],
                "subject": self.subjects[i],
            }
            for i, tensor in zip(indices, torch.from_numpy(eeg))
        ]
