"""A study as MNE's Epochs, from MNE's Epochs, and as a dataset that torch loads from.

What is not MNE's or torch's own way of saying something goes along in the metadata, so that a study
comes back from Epochs as it went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import EegpromptError, StudyError, UnknownNameError
from eegprompt.core.files import provenance, sha256_file
from eegprompt.study.split import trial_ids

if TYPE_CHECKING:
    import mne
    import pandas as pd

    from eegprompt.study import Study

__all__ = [
    "TrialDataset",
    "check_epochs",
    "drop_counts",
    "epochs_of",
    "event_names",
    "is_average_referenced",
    "is_mne_object",
    "positions_in",
    "steps_in",
    "study_from_epochs",
    "text_in_cell",
]

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

    ids = np.arange(study.n_trials) if trials is None else trial_ids(trials, "'trials'", StudyError)
    if not len(ids) or ids.max() >= study.n_trials:
        raise StudyError(
            f"'trials' lists trial ids between 0 and {study.n_trials - 1}, at least one; got "
            f"{len(ids)} of them"
        )
    info = mne.create_info(study.ch_names, study.sfreq, "eeg")
    if study.unit != "V":  # MNE takes EEG to be in volts unless it is told that it has no unit
        for channel in info["chs"]:
            channel["unit"] = FIFF.FIFF_UNIT_NONE
    _note_filters(info, study)
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


def _note_filters(info: mne.Info, study: Study) -> None:
    """Say in MNE's own way which band was kept, so that it is known there and after coming back."""
    done = study.info.get("steps", [])
    band: dict[str, Any] = next((step for step in done if step.get("name") == "band-pass"), {})
    low, high = band.get("low") or 0.0, band.get("high") or study.sfreq / 2
    with info._unlock():
        info["highpass"], info["lowpass"] = float(low), float(min(high, study.sfreq / 2))


def is_mne_object(value: Any) -> bool:
    """Whether something is MNE's Epochs, Raw, Evoked or the like; MNE is not imported for it."""
    return any(t.__module__.split(".")[0] == "mne" for t in type(value).__mro__)


def check_epochs(epochs: Any, error: type[EegpromptError]) -> None:
    """Refuse what is not MNE's Epochs, holds no trial, or has projections still to be applied.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        Epochs that are not loaded have what they reject dropped here.
    error : type
        Raised where something does not fit.

    Raises
    ------
    EegpromptError
        Of the type `error`.
    """
    import mne

    if isinstance(epochs, mne.io.BaseRaw):
        raise error(
            "this is a Raw, a continuous recording; cut it into trials first: mne.Epochs(raw, events, "
            "…)"
        )
    if isinstance(epochs, mne.Evoked) or (
        isinstance(epochs, list) and any(isinstance(one, mne.Evoked) for one in epochs)
    ):
        raise error(
            "this is an Evoked, an average over trials; give the Epochs it was made of, or put "
            "averages into Epochs on purpose with mne.EpochsArray"
        )
    if not isinstance(epochs, mne.BaseEpochs):
        raise error(f"MNE Epochs are needed, got {type(epochs).__name__}")
    if not epochs.preload:
        epochs.drop_bad(verbose="ERROR")
    if not len(epochs.events):
        reasons = Counter(reason for entry in epochs.drop_log for reason in entry)
        listing = ", ".join(f"{why} ({n}×)" for why, n in reasons.most_common(6))
        raise error(
            f"the Epochs hold no trial{f': all were dropped, for {listing}' if listing else ''}; check "
            "the events and the rejection limits they were made with"
        )
    waiting = [p["desc"] for p in epochs.info["projs"] if not p["active"] and _is_of_eeg(epochs, p)]
    if waiting:
        raise error(
            f"the Epochs carry projections that were not applied ({', '.join(waiting)}); apply them "
            "with 'epochs.apply_proj()', or take them out with 'epochs.del_proj()'"
        )


def event_names(epochs: mne.BaseEpochs) -> list[str]:
    """Name of each trial's event; its code where it has no name."""
    by_code = {int(code): name for name, code in epochs.event_id.items()}
    return [by_code.get(code, str(code)) for code in epochs.events[:, 2].tolist()]


def drop_counts(epochs: mne.BaseEpochs) -> dict[str, int]:
    """How many events gave no trial, by reason, as MNE logged it; one reason each, the first."""
    named = {
        "IGNORED": "not selected",
        "NO_DATA": "cut off",
        "TOO_SHORT": "cut off",
        "USER": "dropped by hand",
    }
    channels = set(epochs.ch_names)

    def word(reason: str) -> str:
        if reason in channels:
            return "amplitude"
        return "marked bad" if reason.upper().startswith("BAD") else named.get(reason, reason)

    return dict(Counter(word(str(entry[0])) for entry in epochs.drop_log if entry))


def text_in_cell(value: Any) -> str | None:
    """What a cell of the metadata says; None where it is empty.

    Examples
    --------
    >>> text_in_cell("01"), text_in_cell(1.0), text_in_cell(float("nan")), text_in_cell(" ")
    ('01', '1', None, None)
    """
    import pandas as pd

    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, (float, np.floating)) and np.isnan(value):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)  # a column of numbers with one missing becomes floats
    return str(value).strip() or None


def is_average_referenced(eeg: np.ndarray) -> bool:
    """Whether the mean over channels is zero at every moment.

    Parameters
    ----------
    eeg : array (n_trials, n_chans, n_times)
        All channels that the reference was formed of.
    """
    if eeg.shape[1] < 2 or not eeg.size:
        return False
    return bool(np.abs(eeg.mean(axis=1)).max() < 1e-4 * np.median(eeg.std(axis=2)))


def _is_of_eeg(epochs: mne.BaseEpochs, projection: Any) -> bool:
    eeg = {n for n, t in zip(epochs.ch_names, epochs.get_channel_types()) if t == "eeg"}
    return bool(eeg & set(projection["data"]["col_names"]))


def study_from_epochs(
    epochs: mne.BaseEpochs,
    out: str | Path,
    *,
    columns: Mapping[str, str | None],
    images: str | Path | Mapping[str, str | Path] | None,
    facts: Mapping[str, str],
    overwrite: bool,
) -> Study:
    """Write MNE's Epochs as a study; see :meth:`eegprompt.Study.from_epochs`.

    Parameters
    ----------
    epochs : mne.BaseEpochs
        Its EEG channels are taken, in volts.
    out : path-like
        The study's folder.
    columns : mapping
        Column of the metadata for each column of the trials; None: the same name, where there.
    images : path-like, mapping or None
        Where the images' files are.
    facts : mapping
        `name`, `design`, `license` and `citation`.
    overwrite : bool
        Replace a study that is there.
    """
    from eegprompt.study.consistency import DESIGNS
    from eegprompt.study.study import Study
    from eegprompt.study.writer import StudyWriter

    if facts["design"] not in DESIGNS:
        raise UnknownNameError("design", facts["design"], DESIGNS)
    check_epochs(epochs, StudyError)
    ch_names = _eeg_channels(epochs)
    trials, image_known = _trials_of(epochs, columns)
    image_rows = _images_of(trials, images)
    notes = []
    if epochs.info["bads"]:
        notes.append(
            f"the Epochs mark {', '.join(epochs.info['bads'])} as bad; kept: drop such channels before"
        )
    lost, n = drop_counts(epochs), len(trials)
    if lost:
        listing = ", ".join(f"{why} {count}" for why, count in lost.items())
        notes.append(
            f"of {n + sum(lost.values())} events MNE dropped {sum(lost.values())}: {listing}"
        )
    with StudyWriter.open(out, overwrite=overwrite) as writer:
        for start in range(0, n, BLOCK):
            block = epochs[start : start + BLOCK].get_data(picks=ch_names, verbose="ERROR")
            _check_finite(block, start, ch_names)
            writer.append(block)
        info = {
            "source": "MNE Epochs",
            "ch_names": ch_names,
            "ch_pos": positions_in(epochs, ch_names),
            "sfreq": float(epochs.info["sfreq"]),
            "tmin": float(epochs.times[0]),
            "unit": _unit_of(epochs, ch_names),
            "montage": "",
            "image_identity": "known" if image_known else "category",
            "steps": steps_in(epochs),
            "notes": notes,
            "accounting": writer.accounting(n + sum(lost.values()), lost),
            "provenance": provenance(source="MNE Epochs", file=str(epochs.filename or "")),
        }
        writer.finish(info={**facts, **info}, trials=trials, images=image_rows)
    return Study(out)


def _eeg_channels(epochs: mne.BaseEpochs) -> list[str]:
    import mne

    picks = mne.pick_types(epochs.info, eeg=True, exclude=())
    if not len(picks):
        raise StudyError(
            f"the Epochs hold no EEG channel (types: {sorted(set(epochs.get_channel_types()))}); set "
            "their types with 'epochs.set_channel_types'"
        )
    return [epochs.ch_names[p] for p in picks]


def _trials_of(
    epochs: mne.BaseEpochs, columns: Mapping[str, str | None]
) -> tuple[pd.DataFrame, bool]:
    """The table of trials, and whether it knows which image each showed."""
    import pandas as pd

    metadata = epochs.metadata if epochs.metadata is not None else pd.DataFrame()
    for column in columns.values():
        if column is not None and column not in metadata:
            raise UnknownNameError("column of the metadata", column, map(str, metadata.columns))
    taken = {
        name: _filled_column(metadata, column or name)
        for name, column in columns.items()
        if column is not None or name in metadata
    }
    category = taken.get("category", np.array(event_names(epochs), dtype=object))
    trials = pd.DataFrame({"image_id": taken.get("image_id", category), "category": category})
    trials["subject"] = taken.get("subject", "1")
    for column in [str(c) for c in metadata if c not in (*trials, "trial_id")]:
        trials[column] = metadata[column].to_numpy()
    for column in ("session", "run"):
        if column in taken:
            trials[column] = taken[column]
    ordered = dict.fromkeys([*(c for c in _PER_TRIAL if c in trials), *trials])
    return trials[[*ordered]], "image_id" in taken


def _images_of(
    trials: pd.DataFrame, images: str | Path | Mapping[str, str | Path] | None
) -> pd.DataFrame:
    """The table of images, with what their files say."""
    import pandas as pd

    categories = trials.groupby("image_id")["category"].nunique()
    if (categories > 1).any():
        raise StudyError(
            f"the image '{categories[categories > 1].index[0]}' is shown under two categories; an "
            "image has one"
        )
    first = trials.groupby("image_id")["category"].first()
    rows = pd.DataFrame({"image_id": first.index, "category": first.to_numpy()})
    if isinstance(images, str | Path):
        images = _files_in(Path(images), rows["image_id"].astype(str).tolist())
    return pd.concat([rows, _image_facts(rows["image_id"], images or {})], axis=1)


def _files_in(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The file of each image: its path in the folder, or the one file of that name."""
    if not folder.is_dir():
        raise StudyError(f"there is no folder {folder} of images; give a folder or a mapping")
    by_name: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        for name in {path.name, path.stem}:
            by_name.setdefault(name, []).append(path)
    found = {}
    for name in names:
        own = folder / name
        files = [own] if own.is_file() else by_name.get(name, [])
        if len(files) != 1:
            what = f"{len(files)} files: {files[0]}, {files[1]}, …" if files else "no file"
            raise StudyError(
                f"the image '{name}' has {what} in {folder}; name images by their paths there, or "
                "give a mapping from image to file"
            )
        found[name] = files[0]
    return found


def _filled_column(metadata: pd.DataFrame, column: str) -> np.ndarray:
    """A column of the metadata as text; a cell that says nothing is an error with its trial."""
    texts = [text_in_cell(value) for value in metadata[column]]
    if None in texts:
        raise StudyError(
            f"column '{column}' of the metadata is empty for trial {texts.index(None)} (counted from "
            f"0; {texts.count(None)} such trials); drop those trials, or fill the cells"
        )
    return np.array(texts, dtype=object)


def _unit_of(epochs: mne.BaseEpochs, ch_names: Sequence[str]) -> str:
    """Volts, or arbitrary units where the channels say that they have none."""
    from mne.io.constants import FIFF

    chans = dict(zip(epochs.ch_names, epochs.info["chs"]))
    in_volts = [int(chans[name]["unit"]) == FIFF.FIFF_UNIT_V for name in ch_names]
    if any(in_volts) and not all(in_volts):
        raise StudyError(
            f"channel '{ch_names[in_volts.index(True)]}' of the Epochs is in volts and "
            f"'{ch_names[in_volts.index(False)]}' is not; bring all to one unit, or drop some"
        )
    return "V" if all(in_volts) else "a.u."


def _check_finite(block: np.ndarray, start: int, ch_names: Sequence[str]) -> None:
    finite = np.isfinite(block).all(axis=2)
    if not finite.all():
        trial, channel = np.argwhere(~finite)[0].tolist()
        raise StudyError(
            f"trial {start + trial} (counted from 0), channel '{ch_names[channel]}' of the Epochs "
            "holds a value that is not finite; drop the trial, or interpolate or drop the channel"
        )


def _image_facts(ids: pd.Series, images: Mapping[str, str | Path]) -> pd.DataFrame:
    import pandas as pd
    from PIL import Image

    for name in images:
        if name not in set(ids):
            raise UnknownNameError("image in 'images'", str(name), ids.astype(str))
    rows = []
    for image_id in ids:
        path = Path(images[image_id]).resolve() if image_id in images else None
        if path is None:
            rows.append({"path": "", "sha256": "", "width": 0, "height": 0})
            continue
        try:
            with Image.open(path) as image:
                width, height = image.size
        except OSError as problem:
            raise StudyError(f"{path} cannot be read as an image ({problem})") from None
        rows.append(
            {"path": str(path), "sha256": sha256_file(path), "width": width, "height": height}
        )
    return pd.DataFrame(rows)


def positions_in(epochs: mne.BaseEpochs, ch_names: Sequence[str]) -> dict[str, list[float]]:
    """Electrode positions that Epochs carry, in meters and head coordinates."""
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


def steps_in(epochs: mne.BaseEpochs) -> list[dict[str, Any]]:
    """What Epochs say, or show, was done to them."""
    steps: list[dict[str, Any]] = []
    low, high = float(epochs.info["highpass"]), float(epochs.info["lowpass"])
    if low > 0 or high < 0.49 * epochs.info["sfreq"]:
        steps.append({"name": "band-pass", "low": low, "high": high, "on": "by the source"})
    good = [
        name
        for name, kind in zip(epochs.ch_names, epochs.get_channel_types())
        if kind == "eeg" and name not in epochs.info["bads"]
    ]
    if good and is_average_referenced(epochs[:BLOCK].get_data(picks=good, verbose="ERROR")):
        steps.append({"name": "average reference", "on": "by the source"})
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
