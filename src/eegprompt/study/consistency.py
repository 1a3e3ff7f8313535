"""What must hold of a study's files, each by itself and together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import StudyError, UnknownNameError

if TYPE_CHECKING:
    from eegprompt.study.study import Study

__all__ = [
    "DESIGNS",
    "FORMAT_VERSION",
    "IMAGE_IDENTITIES",
    "check_info",
    "check_tables",
    "open_eeg",
]

FORMAT_VERSION = 1
DESIGNS = ("block", "randomised", "unknown")
IMAGE_IDENTITIES = ("known", "category")


def check_info(info: dict[str, Any], folder: Path) -> None:
    """Refuse a ``study.json`` that is not in order."""
    from eegprompt.core.schemas import check_content

    version = info.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise StudyError(
            f"{folder} is in study format {version}, this version reads format "
            f"{FORMAT_VERSION}; import it again"
        )
    check_content(info, "study", folder / "study.json", StudyError)
    for field, allowed in (("design", DESIGNS), ("image_identity", IMAGE_IDENTITIES)):
        if info[field] not in allowed:
            raise UnknownNameError(field, str(info[field]), allowed)
    names = info["ch_names"]
    if len(set(names)) != len(names):
        raise StudyError(f"{folder / 'study.json'} names a channel twice")


def open_eeg(folder: Path) -> np.ndarray:
    """The EEG, memory-mapped."""
    path = folder / "eeg.npy"
    try:
        eeg = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise StudyError(f"{path} is missing; import the study again") from None
    except Exception as problem:  # a header is parsed as Python, with whatever that raises
        raise StudyError(
            f"{path} cannot be read ({problem}); it may be half-written: import the study again"
        ) from None
    if eeg.ndim != 3 or eeg.dtype != np.float32:
        raise StudyError(
            f"{path} must hold float32 of shape (trials, channels, samples), got {eeg.dtype} of "
            f"shape {eeg.shape}"
        )
    return eeg


def check_tables(study: Study) -> None:
    """Refuse tables that do not fit the EEG, ``study.json`` or one another."""
    if len(study.trials) != study.n_trials:
        raise StudyError(
            f"trials.parquet has {len(study.trials)} rows but eeg.npy {study.n_trials} trials; "
            "import the study again"
        )
    if not np.array_equal(study.trials["trial_id"].to_numpy(), np.arange(study.n_trials)):
        raise StudyError("trial_id must count the rows of eeg.npy from 0")
    if len(study.ch_names) != study.n_chans:
        raise StudyError(
            f"study.json names {len(study.ch_names)} channels but eeg.npy has {study.n_chans}"
        )
    if study.images["image_id"].duplicated().any():
        raise StudyError("images.parquet lists an image twice")
    unknown = set(study.trials["image_id"]) - set(study.images["image_id"])
    if unknown:
        raise StudyError(
            f"{len(unknown)} images are shown in trials but not listed in images.parquet "
            f"(first: {sorted(unknown)[:3]})"
        )
    category = dict(zip(study.images["image_id"].tolist(), study.images["category"].tolist()))
    shown, said = study.trials["image_id"].tolist(), study.trials["category"].tolist()
    wrong = [i for i, image in enumerate(shown) if said[i] != category[image]]
    wrong = [i for i in wrong if str(said[i]) != str(category[shown[i]])]
    if wrong:
        i = wrong[0]
        raise StudyError(
            f"{len(wrong)} trials are of another category than the image they show (first: trial "
            f"{i} of '{said[i]}' shows '{shown[i]}', which is of '{category[shown[i]]}'); import "
            "the study again"
        )
