"""One study on disk, whatever recording it came from.

A study is a folder (see the project's design page): ``study.json``, ``eeg.npy`` (float32,
trial × channel × time, read memory-mapped), ``trials.parquet``, ``images.parquet``,
``splits/NAME.json``, ``captions/NAME.parquet`` and ``cache/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.digests import remembered_sha256
from eegprompt.core.errors import CaptionError, InputError, SplitError, StudyError, UnknownNameError
from eegprompt.core.files import (
    Ours,
    content_key,
    read_json,
    read_table,
    write_json,
    write_table,
    write_text,
)
from eegprompt.core.image_files import to_rgb
from eegprompt.core.kinds import add_kinds, own_kinds, read_kinds
from eegprompt.study.accounting import Accounting
from eegprompt.study.consistency import check_info, check_tables, open_eeg
from eegprompt.study.split import Fold, Split

if TYPE_CHECKING:
    import mne
    import pandas as pd

    from eegprompt.study.exchange import TrialDataset

__all__ = ["TRIAL_COLUMNS", "Study"]

TRIAL_COLUMNS = (
    "trial_id",
    "subject",
    "session",
    "run",
    "block",
    "order",
    "onset",
    "image_id",
    "category",
    "n_averaged",
)
IMAGE_COLUMNS = ("image_id", "path", "category", "sha256", "width", "height")
OURS = Ours(
    "a study",
    ("study.json&eeg.npy&trials.parquet",),
    (
        *("study.json", "eeg.npy", "trials.parquet", "images.parquet", "images", "truth"),
        *("splits", "captions", "kinds.yaml", "cache", "audit.json", "audit-*.html"),
    ),
    inside={"splits": ("*.json",), "captions": ("*.parquet", "*.jsonl", "*.json")},
    listed=("images", "images.parquet"),
)
"""What eegprompt writes into a study's folder; only such a folder is ever replaced."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _checked_name(what: str, name: str) -> str:
    """A name that is safe as a file name."""
    if not _NAME.fullmatch(name):
        raise StudyError(
            f"{what} name '{name}' cannot be a file name; use letters, digits, '.', '_' and '-'"
        )
    return name


class Study:
    """A recording in eegprompt's format, opened for reading.

    Parameters
    ----------
    path : path-like
        The study's folder.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    info : dict
        The content of ``study.json``.
    trials : pandas.DataFrame
        One row a trial, in the order of ``eeg.npy``: `trial_id` is the row number.
    images : pandas.DataFrame
        One row an image.
    eeg : numpy.memmap, shape (n_trials, n_chans, n_times)
        Float32, read-only, in :attr:`unit`.

    Raises
    ------
    StudyError
        If the folder is missing, half-written or inconsistent.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "study.json").exists():
            exists = (
                "has no study.json, so it is no study" if self.path.exists() else "does not exist"
            )
            raise StudyError(
                f"{self.path} {exists}; make one with 'eegprompt simulate' or 'eegprompt import'"
            )
        self.info: dict[str, Any] = read_json(
            self.path / "study.json", error=StudyError, schema="mapping"
        )
        check_info(self.info, self.path)
        self.trials = read_table(self.path / "trials.parquet", error=StudyError, columns="trials")
        self.images = read_table(self.path / "images.parquet", error=StudyError, columns="images")
        self.eeg = open_eeg(self.path)
        self._image_rows: dict[str, int] = {}
        check_tables(self)
        if (self.path / "kinds.yaml").exists():
            add_kinds(self.path / "kinds.yaml")

    def __repr__(self) -> str:
        return (
            f"Study('{self.path}': {self.n_trials} trials, {len(self.images)} images, "
            f"{self.n_chans} channels, {self.n_times} samples at {self.sfreq:g} Hz)"
        )

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        from eegprompt.core.html_facts import facts_html

        window = f"{self.times[0]:.4g} to {self.times[-1]:.4g} s at {self.sfreq:g} Hz"
        return facts_html(
            f"Study {self.name}",
            {
                "folder": self.path,
                "trials": f"{self.n_trials} of {len(self.subjects)} subjects",
                "images": f"{len(self.images)} in {len(self.categories)} categories",
                "channels": self.n_chans,
                "window": window,
                "design": self.design,
                "splits": ", ".join(self.split_names()) or "none yet",
                "captions": ", ".join(self.caption_names()) or "none yet",
            },
        )

    # -- facts ---------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.info["name"])

    @property
    def ch_names(self) -> list[str]:
        """Channel names in the order of the data."""
        return list(self.info["ch_names"])

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return float(self.info["sfreq"])

    @property
    def tmin(self) -> float:
        """Time of the first sample relative to stimulus onset, in seconds."""
        return float(self.info["tmin"])

    @property
    def unit(self) -> str:
        """Unit of the EEG values: ``"V"`` or ``"a.u."`` where a source standardized them."""
        return str(self.info["unit"])

    @property
    def design(self) -> str:
        """``block``, ``randomised`` or ``unknown``."""
        return str(self.info["design"])

    @property
    def image_identity(self) -> str:
        """``known``, or ``category`` where only the category of the shown image is known."""
        return str(self.info["image_identity"])

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return int(self.eeg.shape[0])

    @property
    def n_chans(self) -> int:
        """Number of channels."""
        return int(self.eeg.shape[1])

    @property
    def n_times(self) -> int:
        """Number of samples a trial."""
        return int(self.eeg.shape[2])

    @property
    def times(self) -> np.ndarray:
        """Time of each sample relative to stimulus onset, in seconds."""
        return self.tmin + np.arange(self.n_times) / self.sfreq

    @property
    def positions(self) -> np.ndarray:
        """Electrode positions (n_chans, 3) in meters, head coordinates; NaN where unknown."""
        stored = self.info.get("ch_pos") or {}
        return np.array(
            [stored.get(name) or [np.nan] * 3 for name in self.ch_names], dtype=np.float32
        )

    @property
    def accounting(self) -> Accounting | None:
        """What became of the source's events; None where a study was made of no source."""
        stored = self.info.get("accounting")
        return None if stored is None else Accounting.from_json(stored)

    @property
    def categories(self) -> list[str]:
        """Names of the categories, sorted."""
        return sorted(self.images["category"].astype(str).unique())

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, sorted."""
        return sorted(self.trials["subject"].astype(str).unique())

    @property
    def key(self) -> str:
        """Content key of what training reads: changes when any byte of the data does.

        All EEG is read for it, 0.7 s a GB; that is done once for each state of the file, which its
        size and times tell.
        """
        facts = {k: v for k, v in self.info.items() if k != "provenance"}
        return content_key(
            facts,
            list(self.eeg.shape),
            remembered_sha256(self.path / "eeg.npy", self.path / "cache" / "eeg-sha256.json"),
            self.trials.to_json(),
            self.images.to_json(),
        )

    # -- images ------------------------------------------------------------------------------
    def image_path(self, image_id: str) -> Path:
        """Path of an image's file; an absolute path in the table is taken as it is."""
        row = self._image_row(image_id)
        if row is None:
            raise UnknownNameError("image", str(image_id), self.images["image_id"].head(8))
        path = self.images["path"].iat[row]
        if not isinstance(path, str) or not path:
            raise StudyError(
                f"the study has no image for image '{image_id}'; import it again with the image "
                "folder"
            )
        if "\0" in path or (not Path(path).is_absolute() and ".." in Path(path).parts):
            raise StudyError(
                f"{self.path / 'images.parquet'} names {path!r} for image '{image_id}', which is not "
                "below the study's folder; name it with its whole path, or import the study again"
            )
        return self.path / path

    def _image_row(self, image_id: str) -> int | None:
        """Row of an image in :attr:`images`; found by a look-up, not by a search each time."""
        ids = self.images["image_id"]
        row = self._image_rows.get(image_id)
        if row is None or row >= len(ids) or ids.iat[row] != image_id:  # the table was changed
            self._image_rows = {name: i for i, name in enumerate(ids)}
            row = self._image_rows.get(image_id)
        return row

    def load_images(self, image_ids: Sequence[str], size: int | None = None) -> np.ndarray:
        """Load images as one array.

        Parameters
        ----------
        image_ids : sequence of str
            Which images.
        size : int, optional
            Squash each to ``size × size`` (bicubic); needed where sizes differ.

        Returns
        -------
        array of uint8, shape (n_images, height, width, 3)

        Raises
        ------
        StudyError
            If a file is missing, cannot be read, or sizes differ and `size` is not given.
        """
        from PIL import Image, ImageOps

        arrays = []
        for image_id in image_ids:
            path = self.image_path(image_id)
            try:
                with Image.open(path) as handle:
                    image = to_rgb(ImageOps.exif_transpose(handle))
            except FileNotFoundError:
                raise StudyError(
                    f"the image of image '{image_id}' is gone from {path}; put it back, or import "
                    "the study again"
                ) from None
            except (OSError, SyntaxError, ValueError, InputError) as problem:
                raise StudyError(f"{path} cannot be read as an image ({problem})") from None
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            arrays.append(np.asarray(image, dtype=np.uint8))
        if len({a.shape for a in arrays}) > 1:
            raise StudyError("the images differ in size; give one size to bring them to")
        return np.stack(arrays) if arrays else np.zeros((0, size or 1, size or 1, 3), np.uint8)

    # -- splits --------------------------------------------------------------------------------
    def split_names(self) -> list[str]:
        """Names of the splits in the study, sorted."""
        return sorted(p.stem for p in (self.path / "splits").glob("*.json"))

    def split(self, name: str, **options: Any) -> Split:
        """A split of the study, by its name; with options, a new one of that kind.

        Parameters
        ----------
        name : str
            A split of the study; with `options`, a kind of split, e.g. ``"by-image"``.
        **options
            Of the kind, e.g. ``folds=5``: the split is made and written, as by
            :func:`eegprompt.split`, which also makes splits without options.

        Returns
        -------
        Split

        Raises
        ------
        UnknownNameError
            If there is no split, or no kind of split, of that name.
        SplitError
            If it does not fit the study, or there is another split of that name.

        Examples
        --------
        ``study.split("by-image", folds=5)``
        """
        if options:
            import eegprompt

            return eegprompt.split(self, name, **options)  # type: ignore[no-any-return]
        if name not in self.split_names():
            raise UnknownNameError("split", name, self.split_names())
        path = self.path / "splits" / f"{name}.json"
        stored = read_json(path, error=SplitError, schema="split")
        folds = tuple(
            Fold(np.array(f["train"]), np.array(f["val"]), np.array(f["test"]))
            for f in stored["folds"]
        )
        for index, fold in enumerate(folds):
            ids = np.concatenate([fold.train, fold.val, fold.test])
            if ids.size and (ids.min() < 0 or ids.max() >= self.n_trials):
                raise SplitError(
                    f"fold {index} of split '{name}' names trial {ids.max()}, but the study's trials "
                    f"run from 0 to {self.n_trials - 1}; make the split again"
                )
        return Split(name, folds, stored.get("how", {}))

    def write_split(self, split: Split, *, overwrite: bool = False) -> Path:
        """Write a split into the study.

        Parameters
        ----------
        split : Split
            Its name becomes the file's.
        overwrite : bool
            Replace a split of that name that holds other trials; runs that were trained on that one
            then refuse to go on, since their test trials may have been trained on.

        Raises
        ------
        SplitError
            If there is another split of that name and `overwrite` is not given.
        """
        _checked_name("split", split.name)
        if not overwrite and split.name in self.split_names():
            there = self.split(split.name)
            if [fold.key for fold in there.folds] != [fold.key for fold in split.folds]:
                raise SplitError(
                    f"the study {self.path} has another split '{split.name}' already; choose another "
                    "name, or pass --overwrite (overwrite=True): runs trained on it must then be "
                    "trained again"
                )
        folds = [
            {side: getattr(fold, side).tolist() for side in ("train", "val", "test")}
            for fold in split.folds
        ]
        return write_json(
            self.path / "splits" / f"{split.name}.json", {"how": split.how, "folds": folds}
        )

    # -- captions ------------------------------------------------------------------------------
    def caption_names(self) -> list[str]:
        """Names of the caption sets in the study, sorted."""
        return sorted(p.stem for p in (self.path / "captions").glob("*.parquet"))

    def captions(self, name: str) -> pd.DataFrame:
        """Read a caption set: at least the columns `image_id`, `kind` and `text`.

        A column `meaning`, where there is one, names what a caption says: captions of one kind
        with equal meaning are the same answer in retrieval.
        """
        if name not in self.caption_names():
            if not self.caption_names():
                raise CaptionError(
                    f"the study {self.path} has no captions yet; write some with 'eegprompt captions "
                    "write'"
                )
            raise UnknownNameError("caption set", name, self.caption_names())
        path = self.path / "captions" / f"{name}.parquet"
        return read_table(path, error=CaptionError, columns="captions")

    def write_captions(self, name: str, table: pd.DataFrame, *, overwrite: bool = False) -> Path:
        """Write a caption set into the study.

        Parameters
        ----------
        name : str
            Its name.
        table : pandas.DataFrame
            As :meth:`captions` gives it.
        overwrite : bool
            Replace a set of that name that says something else; runs that were trained on that one
            then refuse to go on.

        Raises
        ------
        CaptionError
            If there is another set of that name and `overwrite` is not given.
        """
        _checked_name("caption set", name)
        if not overwrite and name in self.caption_names():
            there, new = (
                t.to_json(orient="split", index=False) for t in (self.captions(name), table)
            )
            if there != new:
                raise CaptionError(
                    f"the study {self.path} has another caption set '{name}' already; choose another "
                    "name, or pass overwrite=True: runs trained on it must then be trained again"
                )
        return write_table(self.path / "captions" / f"{name}.parquet", table)

    def keep_kinds(self, names: Iterable[str]) -> None:
        """Write the definitions of caption kinds of one's own beside those kept already."""
        import yaml

        path = self.path / "kinds.yaml"
        before = [kind.name for kind in read_kinds(path)] if path.exists() else []
        wanted = own_kinds(dict.fromkeys([*before, *names]))
        if len(wanted) > len(before):
            write_text(path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))

    def caption(self, captioner: str, **options: Any) -> Path:
        """Write captions of all images; see :func:`eegprompt.caption`.

        Parameters
        ----------
        captioner : str
            E.g. ``"rules"`` or ``"file:captions.csv"``.
        **options
            As for :func:`eegprompt.caption`.
        """
        import eegprompt

        return Path(eegprompt.caption(self, captioner, **options))

    # -- to and from other libraries -----------------------------------------------------------
    def to_epochs(self, trials: Sequence[int] | np.ndarray | None = None) -> mne.EpochsArray:
        """The trials as MNE's Epochs, with electrode positions and the table as metadata.

        Events are named for categories. A study in arbitrary units gives channels without a unit,
        so that MNE does not take its values for volts. Events stand one trial apart: the true
        onsets, which may be those of several recordings, are in the metadata. MNE counts time in
        whole samples, so that a `tmin` between two moves by less than half a sample.

        Parameters
        ----------
        trials : sequence of int, optional
            Trial ids; default all, which are then held in memory.

        Returns
        -------
        mne.EpochsArray

        Raises
        ------
        StudyError
            If a trial id is out of range.
        """
        from eegprompt.study.exchange import epochs_of

        return epochs_of(self, trials)

    @classmethod
    def from_epochs(
        cls,
        epochs: mne.BaseEpochs,
        out: str | Path,
        *,
        image_column: str | None = None,
        category_column: str | None = None,
        subject_column: str | None = None,
        session_column: str | None = None,
        run_column: str | None = None,
        images: str | Path | Mapping[str, str | Path] | None = None,
        name: str = "epochs",
        design: str = "unknown",
        license: str = "",
        citation: str = "",
        overwrite: bool = False,
    ) -> Study:
        """Write MNE's Epochs as a study.

        Parameters
        ----------
        epochs : mne.BaseEpochs
            Its EEG channels are taken, in volts.
        out : path-like
            The study's folder, to be made.
        image_column, category_column, subject_column, session_column, run_column : str, optional
            Columns of the metadata; left out: `image_id`, `category`, `subject`, `session` and
            `run`, where there. The category is else the name of the event, the subject ``"1"``.
        images : path-like or mapping of str to path-like, optional
            A folder with a file for each value of `image_column` (its path in the folder, or its
            name, with or without the extension), or the file of each; files stay where they are.
        name, design, license, citation : str
            For ``study.json``; `design` is ``block``, ``randomised`` or ``unknown``.
        overwrite : bool
            Replace a study that is there.

        Returns
        -------
        Study

        Raises
        ------
        StudyError
            If these are no Epochs, there is no EEG channel, a value is not finite, an image has two
            categories, or an image's file is missing or one of several.
        UnknownNameError
            If a column is not in the metadata.
        """
        from eegprompt.study.exchange import study_from_epochs

        return study_from_epochs(
            epochs,
            out,
            columns={
                "image_id": image_column,
                "category": category_column,
                "subject": subject_column,
                "session": session_column,
                "run": run_column,
            },
            images=images,
            facts={"name": name, "design": design, "license": license, "citation": citation},
            overwrite=overwrite,
        )

    def to_torch(self, trials: Sequence[int] | np.ndarray | None = None) -> TrialDataset:
        """The trials as a map-style dataset for torch's DataLoader, memory-mapped.

        Parameters
        ----------
        trials : sequence of int, optional
            Trial ids, e.g. ``study.split("official").fold(0).train``; default all.

        Returns
        -------
        TrialDataset
        """
        from eegprompt.study.exchange import TrialDataset

        return TrialDataset(self, trials)
