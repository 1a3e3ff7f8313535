"""One study on disk, whatever recording it came from.

A study is a folder (see the project's design page): ``study.json``, ``eeg.npy`` (float32,
trial × channel × time, read memory-mapped), ``trials.parquet``, ``images.parquet``,
``splits/NAME.json``, ``captions/NAME.parquet`` and ``cache/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from eegprompt.core.errors import CaptionError, InputError, SplitError, StudyError, UnknownNameError
from eegprompt.core.files import (
    Ours,
    atomic_directory,
    content_key,
    provenance,
    read_json,
    read_table,
    sampled_sha256,
    write_json,
    write_table,
    write_text,
)
from eegprompt.core.image_files import to_rgb
from eegprompt.core.kinds import add_kinds, own_kinds, read_kinds
from eegprompt.study.accounting import Accounting
from eegprompt.study.split import Fold, Split

if TYPE_CHECKING:
    import mne
    import pandas as pd

    from eegprompt.study.exchange import TrialDataset

__all__ = ["DESIGNS", "IMAGE_IDENTITIES", "TRIAL_COLUMNS", "Study", "StudyWriter"]

FORMAT_VERSION = 1
DESIGNS = ("block", "randomised", "unknown")
IMAGE_IDENTITIES = ("known", "category")
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
        self._check_info()
        self.trials = read_table(self.path / "trials.parquet", error=StudyError, columns="trials")
        self.images = read_table(self.path / "images.parquet", error=StudyError, columns="images")
        self.eeg = self._open_eeg()
        self._image_rows: dict[str, int] = {}
        self._check_tables()
        if (self.path / "kinds.yaml").exists():
            add_kinds(self.path / "kinds.yaml")

    def __repr__(self) -> str:
        return (
            f"Study('{self.path}': {self.n_trials} trials, {len(self.images)} images, "
            f"{self.n_chans} channels, {self.n_times} samples at {self.sfreq:g} Hz)"
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
        """Content key of what training reads: changes when the data change."""
        facts = {k: v for k, v in self.info.items() if k != "provenance"}
        return content_key(
            facts,
            list(self.eeg.shape),
            sampled_sha256(self.path / "eeg.npy"),
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

    def split(self, name: str) -> Split:
        """Read a split by name.

        Raises
        ------
        UnknownNameError
            If there is none of that name.
        SplitError
            If it does not fit the study.
        """
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

    def write_captions(self, name: str, table: pd.DataFrame) -> Path:
        """Write a caption set into the study, replacing one of the same name."""
        _checked_name("caption set", name)
        return write_table(self.path / "captions" / f"{name}.parquet", table)

    def keep_kinds(self, names: Iterable[str]) -> None:
        """Write the definitions of caption kinds of one's own beside those kept already."""
        import yaml

        path = self.path / "kinds.yaml"
        before = [kind.name for kind in read_kinds(path)] if path.exists() else []
        wanted = own_kinds(dict.fromkeys([*before, *names]))
        if len(wanted) > len(before):
            write_text(path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))

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
    def from_epochs(cls, epochs: mne.BaseEpochs, out: str | Path, **options: Any) -> Study:
        """Write MNE's Epochs as a study.

        Parameters
        ----------
        epochs : mne.BaseEpochs
            Its EEG channels are taken.
        out : path-like
            The study's folder, to be made.
        **options
            `image_column` and `category_column` of the metadata (default `image_id` and `category`,
            and the name of the event), `images` (image -> file), `name`, `design`, `license`,
            `citation`, `overwrite`; see :func:`eegprompt.study.exchange.study_from_epochs`.

        Returns
        -------
        Study

        Raises
        ------
        StudyError
            If there is no EEG channel, a value is not finite, or an image has two categories.
        UnknownNameError
            If a column is not in the metadata.
        """
        from eegprompt.study.exchange import study_from_epochs

        return study_from_epochs(epochs, out, **options)

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

    # -- checks --------------------------------------------------------------------------------
    def _check_info(self) -> None:
        from eegprompt.core.schemas import check_content

        version = self.info.get("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise StudyError(
                f"{self.path} is in study format {version}, this version reads format "
                f"{FORMAT_VERSION}; import it again"
            )
        check_content(self.info, "study", self.path / "study.json", StudyError)
        for field, allowed in (("design", DESIGNS), ("image_identity", IMAGE_IDENTITIES)):
            if self.info[field] not in allowed:
                raise UnknownNameError(field, str(self.info[field]), allowed)
        names = self.info["ch_names"]
        if len(set(names)) != len(names):
            raise StudyError(f"{self.path / 'study.json'} names a channel twice")

    def _open_eeg(self) -> np.ndarray:
        path = self.path / "eeg.npy"
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

    def _check_tables(self) -> None:
        if len(self.trials) != self.n_trials:
            raise StudyError(
                f"trials.parquet has {len(self.trials)} rows but eeg.npy {self.n_trials} trials; "
                "import the study again"
            )
        if not np.array_equal(self.trials["trial_id"].to_numpy(), np.arange(self.n_trials)):
            raise StudyError("trial_id must count the rows of eeg.npy from 0")
        if len(self.ch_names) != self.n_chans:
            raise StudyError(
                f"study.json names {len(self.ch_names)} channels but eeg.npy has {self.n_chans}"
            )
        if self.images["image_id"].duplicated().any():
            raise StudyError("images.parquet lists an image twice")
        unknown = set(self.trials["image_id"]) - set(self.images["image_id"])
        if unknown:
            raise StudyError(
                f"{len(unknown)} images are shown in trials but not listed in images.parquet "
                f"(first: {sorted(unknown)[:3]})"
            )
        category = dict(zip(self.images["image_id"].tolist(), self.images["category"].tolist()))
        shown, said = self.trials["image_id"].tolist(), self.trials["category"].tolist()
        wrong = [i for i, image in enumerate(shown) if said[i] != category[image]]
        wrong = [i for i in wrong if str(said[i]) != str(category[shown[i]])]
        if wrong:
            i = wrong[0]
            raise StudyError(
                f"{len(wrong)} trials are of another category than the image they show (first: trial "
                f"{i} of '{said[i]}' shows '{shown[i]}', which is of '{category[shown[i]]}'); import "
                "the study again"
            )


def _numeric(values: pd.Series) -> pd.Series:
    """Numbers of a column whose type says nothing, such as one of missing values alone."""
    import pandas as pd

    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        raise StudyError(
            f"the column '{values.name}' of the trials should hold numbers, got {values.iloc[0]!r}"
        ) from None


class StudyWriter:
    """Write a study block by block; the folder appears only when all of it is there.

    Parameters
    ----------
    folder : pathlib.Path
        The partial folder given by :meth:`open`.

    Examples
    --------
    ``with StudyWriter.open(out) as writer:`` then any number of ``writer.append(eeg)``, then
    ``writer.finish(info=…, trials=…, images=…)`` once.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._stream: BinaryIO | None = None
        self._shape: tuple[int, int] | None = None
        self._n_trials = 0
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._finished = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: str | Path, *, overwrite: bool = False) -> Iterator[StudyWriter]:
        """Open a writer for the study folder `out`; an error inside leaves nothing behind."""
        with atomic_directory(out, overwrite=overwrite, ours=OURS) as folder:
            writer = cls(folder)
            try:
                yield writer
            finally:
                writer._pool.shutdown()
                if writer._stream is not None:
                    writer._stream.close()
            if not writer._finished:
                raise StudyError("the study was not finished: no tables were written")

    def accounting(self, found: int, left_out: Mapping[str, int] | None = None) -> dict[str, Any]:
        """What became of the `found` events of a source, for ``info``, once all trials are written.

        Raises
        ------
        StudyError
            If the trials written and those left out are not the events found.
        """
        return Accounting(found, self._n_trials, left_out or {}).to_json()

    def append(self, eeg: np.ndarray) -> None:
        """Append trials (n_trials, n_chans, n_times); kept as float32.

        Raises
        ------
        StudyError
            If a value is not finite, or the shape differs from the trials before.
        """
        eeg = np.ascontiguousarray(eeg, dtype="<f4")
        if eeg.ndim != 3:
            raise StudyError(f"trials must be (trials, channels, samples), got shape {eeg.shape}")
        if self._shape is None:
            self._shape = (eeg.shape[1], eeg.shape[2])
            self._stream = open(self.folder / "eeg.npy", "wb")  # noqa: SIM115 (closed in open())
            self._stream.write(self._header(0))
        if eeg.shape[1:] != self._shape:
            raise StudyError(
                f"trials must all have {self._shape[0]} channels and {self._shape[1]} samples, got "
                f"{eeg.shape[1]} and {eeg.shape[2]}"
            )
        # The square sum of finite values is finite, unless they are huge; it takes one quick pass.
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = not np.isfinite(np.dot(eeg.reshape(-1), eeg.reshape(-1)))
        finite = np.isfinite(eeg).all(axis=(1, 2)) if suspect else np.ones(len(eeg), bool)
        if not finite.all():
            bad = int(np.flatnonzero(~finite)[0])
            channel = int(np.flatnonzero(~np.isfinite(eeg[bad]).all(axis=1))[0])
            raise StudyError(
                f"trial {self._n_trials + bad}, channel {channel} (counted from 0) holds a value that "
                "is not finite; drop the trial or mend the recording"
            )
        assert self._stream is not None
        block = eeg.data if eeg.size else b""
        # Hashing takes as long as writing and runs beside it.
        hashing = self._pool.submit(self._digest.update, block)
        try:
            self._stream.write(block)
        finally:
            hashing.result()
        self._n_trials += len(eeg)

    def finish(self, *, info: dict[str, Any], trials: pd.DataFrame, images: pd.DataFrame) -> None:
        """Write the tables and ``study.json``; see the design page for the columns.

        Raises
        ------
        StudyError
            If there is no trial, or ``info["accounting"]`` counts others than were written.
        """
        if self._stream is None or not self._n_trials:
            raise StudyError(
                "no trials are left to write; check the events and the rejection limits"
            )
        if "accounting" in info:
            counted = Accounting.from_json(info["accounting"]).trials
            if counted != self._n_trials:
                raise StudyError(
                    f"{self._n_trials} trials were written, but the accounting counts {counted}"
                )
        self._stream.seek(0)
        self._stream.write(self._header(self._n_trials))
        self._stream.close()
        trials = trials.copy()
        trials["trial_id"] = np.arange(len(trials))
        for column, default in (
            ("session", "1"),
            ("run", "1"),
            ("block", -1),
            ("order", -1),
            ("onset", np.nan),
            ("n_averaged", 1),
        ):
            if column not in trials:
                trials[column] = default
            elif isinstance(default, (int, float)) and trials[column].dtype == object:
                trials[column] = _numeric(trials[column])
        images = images.copy()
        for column in ("path", "sha256"):
            if column not in images:
                images[column] = ""
        for column in ("width", "height"):
            if column not in images:
                images[column] = 0
        extra_trial = [c for c in trials if c not in TRIAL_COLUMNS]
        extra_image = [c for c in images if c not in IMAGE_COLUMNS]
        write_table(self.folder / "trials.parquet", trials[[*TRIAL_COLUMNS, *extra_trial]])
        write_table(self.folder / "images.parquet", images[[*IMAGE_COLUMNS, *extra_image]])
        full = {"format_version": FORMAT_VERSION, "steps": [], **info}
        full["eeg_sha256"] = self._digest.hexdigest()
        full.setdefault("provenance", provenance())
        write_json(self.folder / "study.json", full)
        Study(self.folder)  # raises if anything does not fit
        self._finished = True

    def _header(self, n_trials: int) -> bytes:
        """A .npy header of fixed length, so that the count can be put in at the end."""
        assert self._shape is not None
        shape = (n_trials, *self._shape)
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        length = 192 - 10
        return (
            b"\x93NUMPY\x01\x00"
            + length.to_bytes(2, "little")
            + (text.ljust(length - 1) + "\n").encode("latin1")
        )
