"""Alljoined-1.6M and Alljoined1: many images on consumer and research caps (Xu et al. 2024, 2025).

Told apart by their files:

- 1.6M preprocessed: ``preprocessed_eeg/sub-XX/preprocessed_eeg_{training,test}_flat.npy``, a pickled
  dictionary with `preprocessed_eeg_data` (trial, 32, 250), `ch_names`, `times` and `configs`; beside
  them ``experiment_metadata.parquet`` (or ``…_categories.parquet``, ``stim_order.parquet``), whose
  rows with `dropped` false are the trials of each `partition`, in order.
- 1.6M raw: ``raw_eeg/sub-XX/session_XX/block_XX/*.edf``, 32 channels at 256 Hz, whose annotations say
  what was shown: ``stim_train,05008,-1,1``.
- Alljoined1 rows: Parquet files ``train-*`` and ``test-*`` with `EEG` (channel lists of samples at
  512 Hz), `subject_id`, `session`, `block`, `trial`, `73k_id`, `coco_id` and `curr_time`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from eegprompt.core.errors import EegpromptError, RecordingError, SplitError
from eegprompt.core.files import provenance, read_json, read_table, sampled_sha256, write_json
from eegprompt.core.numpy_pickle import checked_array, load_pickled
from eegprompt.readers._events import Event, FoundEvents, place_at, sorted_events
from eegprompt.readers._images import check_stimuli, find_images
from eegprompt.readers._open_recording import open_recording
from eegprompt.readers._recording import Recording
from eegprompt.readers._trial_files import (
    DatasetFacts,
    Progress,
    TrialFileOptions,
    checked_channels,
    clock_of,
    image_rows,
    key_of,
    one_source,
    repeated_files,
    subject_folders,
    trial_blocks,
)
from eegprompt.readers.continuous import ContinuousOptions, RecordingsImport
from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of
from eegprompt.splits.official import drawn_groups, write_train_test
from eegprompt.study import Study, StudyWriter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FACTS", "AlljoinedOptions", "AlljoinedReader"]

FACTS = DatasetFacts(
    title="Alljoined-1.6M",
    citation="Xu et al. (2025). Alljoined-1.6M. arXiv:2508.18571.",
    license="CC-BY-NC-ND 4.0",
    url="https://huggingface.co/datasets/Alljoined/Alljoined-1.6M",
    expected=(
        "20 subjects, 4 sessions, 16,540 training images 4 times and 200 test images 80 times, "
        "32 channels; preprocessed (trial, 32, 250) at 250 Hz, raw at 256 Hz"
    ),
    unverified=(
        "that rows of the metadata with 'dropped' false are the trials in their order, beyond their "
        "number",
        "which trials share samples, where onsets are not known: an image came every 200 ms, so that "
        "trials of a second overlap",
    ),
)
FACTS_1 = DatasetFacts(
    title="Alljoined1",
    citation=(
        "Xu, Aristimunha, Feucht et al. (2024). Alljoined1: a dataset for EEG-to-image decoding. "
        "arXiv:2404.05553."
    ),
    license="CC-BY-NC-ND 4.0",
    url="https://huggingface.co/datasets/Alljoined/05_125",
    expected="8 subjects, about 46,000 trials of 64 channels (63 in some releases) at 512 Hz",
    unverified=(
        "the channels' order (that of BioSemi's cap of 64 is taken) and the time of the first sample "
        "(-0.05 s): the rows do not say",
        "that 'curr_time' counts seconds from the beginning of a session",
    ),
)
FILES = ("preprocessed_eeg_training_flat.npy", "preprocessed_eeg_test_flat.npy")
METADATA = (
    "experiment_metadata_categories.parquet",
    "experiment_metadata.parquet",
    "stim_order.parquet",
)
PARTITIONS = ("stim_train", "stim_test")
ROW_COLUMNS = ("EEG", "subject_id", "session", "block", "trial", "73k_id", "coco_id", "curr_time")
_STIMULUS = re.compile(r"(?:^|,)stim_(train|test),(\d+)(?:,|$)")
# Subject, session and block in a file's name: ``Subject 19, Session 1, Block 2.edf``.
_IN_NAME = tuple(
    re.compile(rf"(?<![a-z]){word}[ _.-]*0*(\d+)", re.IGNORECASE)
    for word in ("sub(?:ject)?", "ses(?:sion)?", "block")
)
# What an Emotiv headset records besides EEG.
_NO_EEG = (
    "Timestamp", "OrTimestamp", "Counter", "Interpolated", "RawCq", "Battery", "FwBuffer",
    "FwClock", "Marker", "HighBit", "Saturation", "CQ", "EQ", "MOT", "TIME_STAMP", "COUNTER",
    "INTERPOLATED", "MARKER", "EDF Annotations",
)  # fmt: skip


class AlljoinedOptions(TrialFileOptions):
    """Settings of the reader for Alljoined. The steps are for raw recordings only."""

    layout: Literal["preprocessed", "raw", "rows"] | None = Field(
        None, description="which layout, where a folder holds several"
    )
    metadata: Path | None = Field(
        None, description="table of the trials (1.6M); default that beside the trials"
    )
    categories: Path | None = Field(
        None, description="CSV with 'image' (an image's number) and 'category'"
    )
    channels: tuple[str, ...] | None = Field(
        None, description="names of the rows' channels, in order (Alljoined1)"
    )
    tmin: float | None = Field(
        None, description="start of a trial [s]; default -0.2 (raw), -0.05 (rows)"
    )
    tmax: float = Field(1.0, description="end of a trial of a raw recording, included [s]")
    notch: tuple[float, ...] = Field((), description="raw: line frequencies to remove [Hz]")
    bandpass: tuple[float | None, float | None] | None = Field(
        None, description="raw: lower and upper edge [Hz]"
    )
    reference: Literal["average"] | None = Field(None, description="raw: 'average' or as recorded")
    resample: float | None = Field(None, gt=0, description="raw: new sampling rate [Hz]")
    baseline: tuple[float | None, float | None] | None = Field(
        None, description="raw: stretch whose mean is subtracted [s]"
    )
    reject: float | None = Field(None, gt=0, description="raw: limit in microvolts")
    repeated: Literal["error", "first", "last"] = Field(
        "error", description="raw: which of several images at one sample to take"
    )
    identity: Literal["folder", "name"] | None = Field(
        None,
        description="raw: what says subject, session and block where a file's name and its folder "
        "disagree; default: refuse",
    )
    val: float = Field(0.1, gt=0, lt=0.9, description="training blocks that validate, a fraction")
    seed: int = Field(0, description="draws the blocks that validate")


class AlljoinedReader:
    """Imports Alljoined-1.6M, preprocessed or raw, or the rows of Alljoined1.

    The official split keeps the dataset's test part; whole blocks of the training part validate,
    because neighbors in time share samples, and training trials of their images are left out.

    Examples
    --------
    ``AlljoinedReader().read("Alljoined-1.6M", "study", layout="preprocessed", subjects="01",
    stimuli="stimuli/images")``
    """

    name = "alljoined"
    options = AlljoinedOptions

    def read(
        self,
        source: str | Path | Iterable[str | Path],
        out: str | Path,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Study:
        """Import Alljoined into a new study.

        Parameters
        ----------
        source : path-like
            The dataset's folder, one of its parts, or a subject's folder in one of them.
        out : path-like
            The study's folder. It appears only when all of it is written.
        progress : callable, optional
            Called with (done, total, label).
        **options
            See :class:`AlljoinedOptions`.

        Returns
        -------
        Study

        Raises
        ------
        InputError
            If an option is unknown or not allowed.
        RecordingError
            If a file is not what it should be.
        """
        opts = AlljoinedOptions.parse(options)
        root = one_source(source, self.name)
        layout, place = _layout(root, opts.layout)
        check_stimuli(opts.stimuli)
        steps = ("notch", "bandpass", "reference", "resample", "baseline", "reject")
        asked = [s for s in steps if getattr(opts, s)]
        if asked and layout != "raw":
            raise RecordingError(
                f"'{asked[0]}' is done to raw recordings, but {place} holds trials that were cut "
                "already; leave it out, or import the raw part"
            )
        read = {"preprocessed": _read_preprocessed, "raw": _read_raw, "rows": _read_rows}[layout]
        with StudyWriter.open(out, overwrite=opts.overwrite) as writer:
            notes: list[str] = []
            info, trials, images, sources = read(place, opts, writer, notes, progress)
            info["notes"] = [*notes, *info.get("notes", [])]
            info["provenance"] = provenance(
                reader=self.name, options=opts.model_dump(mode="json"), sources=sources
            )
            writer.finish(info=info, trials=trials, images=images)
            _split(Study(writer.folder), opts, by_block=layout != "rows")
        return Study(out)


def _layout(root: Path, asked: str | None) -> tuple[str, Path]:
    """Which layout lies below a folder, and where it begins."""
    if root.is_file():
        if root.suffix == ".parquet":
            return "rows", root
        raise RecordingError(f"{root} is no folder and no Parquet file; name the dataset's folder")
    places = {"preprocessed": root / "preprocessed_eeg", "raw": root / "raw_eeg"}
    places = {k: p if p.is_dir() else root for k, p in places.items()}
    there = {}
    if any(places["preprocessed"].glob(f"**/{FILES[0]}")):
        there["preprocessed"] = places["preprocessed"]
    if next(places["raw"].glob("**/block_*/*.edf"), None):
        there["raw"] = places["raw"]
    rows = [p for p in root.glob("**/*.parquet") if re.match(r"(train|test)-", p.name)]
    if rows:
        there["rows"] = root
    if asked is not None and asked in there:
        return asked, there[asked]
    if len(there) == 1 and asked is None:
        return next(iter(there.items()))
    what = f"the layouts {' and '.join(there)}" if there else "none of the layouts"
    remedy = "choose one with 'layout'" if there else "check the source"
    raise RecordingError(
        f"{root} holds {what} (preprocessed: {FILES[0]}; raw: block_*/*.edf; rows: train-*.parquet); "
        f"{remedy}"
    )


# -- 1.6M, preprocessed --------------------------------------------------------------------------
def _read_preprocessed(
    root: Path,
    opts: AlljoinedOptions,
    writer: StudyWriter,
    notes: list[str],
    progress: Progress | None,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, dict[str, str]]:
    import pandas as pd

    folders = subject_folders(root, FILES, opts.subjects)
    paths = [folder / file for folder in folders.values() for file in FILES]
    for path in paths:
        if not path.is_file():
            raise RecordingError(f"{path} is missing; both parts of a subject are needed")
    sources = repeated_files(paths)
    tables, first = [], None
    n_found, left_out = 0, Counter[str]()
    configs: Any = None
    for subject, folder in folders.items():
        metadata = _metadata(folder, root, opts.metadata)
        partition = _of_subject(metadata, subject)["partition"].astype(str)
        n_found += len(partition)
        left_out["of another partition"] += int((~partition.isin(PARTITIONS)).sum())
        for file, side in zip(FILES, ("train", "test")):
            path = folder / file
            content = load_pickled(path)
            eeg = checked_array(
                key_of(content, "preprocessed_eeg_data", path),
                path,
                "preprocessed_eeg_data",
                ndim=3,
            )
            chans = checked_channels(_cap(key_of(content, "ch_names", path)), eeg.shape[1], path)
            clock = clock_of(key_of(content, "times", path), eeg.shape[2], path)
            configs = configs or content.get("configs")
            facts = (chans, *clock, eeg.shape[2])
            if first is not None and facts != first:
                raise RecordingError(
                    f"{path} has other channels, another sampling rate or another length of trials "
                    f"than {paths[0]}; import parts and subjects that were preprocessed alike"
                )
            first = facts
            rows, n_dropped = _rows_of(metadata, subject, side, len(eeg), path)
            left_out["dropped by the source"] += n_dropped
            for block in trial_blocks(
                eeg[:, None],
                path,
                "preprocessed_eeg_data",
                progress=progress,
                label=f"subject {subject}, {side}",
            ):
                writer.append(block)
            tables.append(rows)
    assert first is not None
    trials = pd.concat(tables, ignore_index=True)
    trials, images = _with_images(trials, opts, writer, notes, progress)
    whitened = not isinstance(configs, dict) or configs.get("mvnn_dim", "epochs") not in (
        None,
        "off",
    )
    info = {
        "name": opts.name or "alljoined-1.6m",
        **FACTS.info(),
        **_cap_info(first[0]),
        "sfreq": first[1],
        "tmin": first[2],
        "unit": "a.u." if whitened else "V",
        "design": "randomised",
        "image_identity": "known",
        "steps": _source_steps(configs, whitened),
        "notes": FACTS.notes(),
        "accounting": writer.accounting(n_found, left_out),
    }
    return info, trials, images, sources


def _cap(names: Any) -> Any:
    """The headset spells AFz in its own way."""
    if isinstance(names, np.ndarray):
        names = names.tolist()
    return ["AFz" if n == "Afz" else n for n in names] if isinstance(names, list) else names


def _cap_info(ch_names: list[str]) -> dict[str, Any]:
    return {
        "ch_names": ch_names,
        "ch_pos": {n: p for n, p in positions_of(ch_names).items() if p is not None},
        "montage": STANDARD_MONTAGE,
    }


def _source_steps(configs: Any, whitened: bool) -> list[dict[str, Any]]:
    """Steps as the file's `configs` give them."""
    by = "by the source"
    told = configs if isinstance(configs, dict) else {}
    steps: list[dict[str, Any]] = []
    if told.get("l_freq") is not None or told.get("h_freq") is not None:
        steps.append(
            {"name": "band-pass", "low": told.get("l_freq"), "high": told.get("h_freq"), "on": by}
        )
    if told.get("notch_freqs"):
        steps.append({"name": "notch", "frequencies": list(told["notch_freqs"]), "on": by})
    steps.append(
        {"name": "epoch", "tmin": told.get("tmin", -0.2), "tmax": told.get("tmax", 1.0), "on": by}
    )
    steps.append({"name": "baseline", "start": None, "stop": 0.0, "on": by})
    steps.append({"name": "resample", "to": told.get("sfreq", 250), "on": by})
    if whitened:
        steps.append({"name": "whiten", "method": "multivariate noise normalization", "on": by})
    return steps


def _metadata(folder: Path, root: Path, given: Path | None) -> pd.DataFrame:
    """The table of a subject's trials."""
    places = [given] if given else [p / m for p in (folder, root, root.parent) for m in METADATA]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise RecordingError(
            f"{given or folder} holds none of {', '.join(METADATA)}; the table says which image "
            "each trial shows: put it beside the trials, or name it with 'metadata'"
        )
    table = read_table(found, error=RecordingError)
    needed = ("image_path", "partition", "session", "category_name")
    missing = [c for c in needed if c not in table.columns]
    if missing:
        raise RecordingError(
            f"{found} lacks the columns {', '.join(missing)} (it has {', '.join(table.columns)}); "
            f"name another table with 'metadata', e.g. {METADATA[0]}"
        )
    table.attrs["path"] = str(found)
    return table


def _of_subject(metadata: pd.DataFrame, subject: str) -> pd.DataFrame:
    """Rows of the table of trials that are of one subject."""
    import pandas as pd

    if "subject" not in metadata or not subject.isdigit():
        return metadata
    return metadata[pd.to_numeric(metadata["subject"], errors="coerce") == int(subject)]


def _rows_of(
    metadata: pd.DataFrame, subject: str, side: str, n_trials: int, path: Path
) -> tuple[pd.DataFrame, int]:
    """Rows of the table that are the trials of a part, in their order; and how many were dropped."""
    import pandas as pd

    table = _of_subject(metadata, subject)
    where = metadata.attrs["path"]
    table = table[table["partition"].astype(str) == f"stim_{side}"]
    n_rows = len(table)
    if "dropped" in table:
        table = table[~table["dropped"].astype(bool)]
    if len(table) != n_trials:
        hint = (
            ""
            if "dropped" in metadata
            else "; it has no column 'dropped', so name a table that has"
        )
        raise RecordingError(
            f"{path} holds {n_trials} trials, but {where} has {len(table)} rows of subject {subject} "
            f"in the partition 'stim_{side}' that were not dropped{hint}: get both from one source"
        )
    block = table["block_id"] if "block_id" in table else pd.Series(1, index=table.index)
    image = [Path(str(p)).stem for p in table["image_path"]]
    result = pd.DataFrame(
        {
            "subject": subject,
            "session": table["session"].astype(str).to_numpy(),
            "run": block.astype(str).to_numpy(),
            "image_id": image,
            "category": table["category_name"].astype(str).to_numpy(),
            "partition": side,
        }
    )
    result["order"] = result.groupby(["session", "run"]).cumcount()
    return result, n_rows - len(table)


def _with_images(
    trials: pd.DataFrame,
    opts: AlljoinedOptions,
    writer: StudyWriter,
    notes: list[str],
    progress: Progress | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of images, with their images and one category each."""
    grouped = trials.groupby("image_id", sort=True)["category"]
    wrong = grouped.nunique()
    if (wrong > 1).any():
        name = str(wrong[wrong > 1].index[0])
        raise RecordingError(f"the image '{name}' is shown under two categories; an image has one")
    images = grouped.first().reset_index()
    found = {}
    names = images["image_id"].tolist()
    if opts.stimuli is not None:
        found = find_images(names, opts.stimuli)
        missing = [n for n in names if n not in found]
        if missing and not opts.allow_missing_images:
            raise RecordingError(
                f"{len(missing)} of {len(names)} images are not below {opts.stimuli} (first: "
                f"{', '.join(missing[:3])}); add them, or pass 'allow_missing_images'"
            )
    table = image_rows(images, found, writer, notes=notes, progress=progress)
    return trials, table


# -- 1.6M, raw -----------------------------------------------------------------------------------
def _read_raw(
    root: Path,
    opts: AlljoinedOptions,
    writer: StudyWriter,
    notes: list[str],
    progress: Progress | None,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Raw recordings, cut as any other; a block is a recording."""
    folder = re.compile(r"sub-(\d+)/session_(\d+)/block_(\d+)/")
    found = []
    for file in sorted(p for p in root.rglob("*.edf") if p.is_file()):
        match = folder.search(file.resolve().as_posix())
        if match:
            subject, session, run = (f"{int(n):02d}" for n in match.groups())
            found.append((file, {"subject": subject, "session": session, "run": run}))
    asked = None
    if opts.subjects is not None:
        asked = {f"{int(s):02d}" if s.isdigit() else s for s in opts.subjects}
    found = _identified(found, opts.identity, asked, notes)
    if asked is not None:
        there = sorted({who["subject"] for _, who in found})
        missing = sorted(asked - set(there))
        if missing:
            raise RecordingError(
                f"{root} holds no subject {', '.join(missing)}; it holds {', '.join(there)}: correct "
                "'subjects'"
            )
        found = [(file, who) for file, who in found if who["subject"] in asked]
    settings = opts.model_dump(
        include={
            *("notch", "bandpass", "reference", "resample", "baseline", "reject", "tmax"),
            "repeated",
        }
    )
    tmin = -0.2 if opts.tmin is None else opts.tmin
    job = _RawImport(
        ContinuousOptions.parse(
            {
                **settings,
                "tmin": tmin,
                "min_events": 1,
                "design": "randomised",
                "rename": {"Afz": "AFz"},
                "stimuli": opts.stimuli,
                "allow_missing_images": opts.allow_missing_images,
            }
        ),
        None,
        writer,
        several=len(found) > 1,
    )
    job.category_of = _categories(root, opts)
    for index, (file, who) in enumerate(found):
        if progress is not None:
            progress(index, len(found), f"{who['subject']}/{who['session']}/{who['run']}")
        job.add(file, who)
    info, trials, images = job.result(root)
    trials["partition"] = trials["image_id"].map(job.side_of)
    info |= {**FACTS.info(), "name": opts.name or "alljoined-1.6m-raw"}
    info["notes"] = [*info["notes"], *FACTS.notes()[1:]]
    return info, trials, images, info["provenance"]["sources"]


def _identified(
    found: list[tuple[Path, dict[str, str]]],
    identity: Literal["folder", "name"] | None,
    asked: set[str] | None,
    notes: list[str],
) -> list[tuple[Path, dict[str, str]]]:
    """Files with their subject, session and block, as their folders and their names say it.

    In the release, many blocks in the folder of subject 8 are called ``Subject 19, …``.
    """
    result, wrong = [], []
    for file, folder in found:
        name = {
            key: f"{int(match.group(1)):02d}"
            for key, match in zip(folder, (p.search(file.stem) for p in _IN_NAME))
            if match
        }
        said = {**folder, **name}
        if said != folder and (asked is None or asked & {said["subject"], folder["subject"]}):
            wrong.append((file, folder, said))
            folder = {**folder, **(name if identity == "name" else {})}
        result.append((file, folder))
    if wrong:
        file, inside, said = wrong[0]
        what = (
            f"the names of {len(wrong)} of {len(found)} files disagree with their folders (first: "
            f"'{file.name}', {_in_words(said)}, lies in the folder of {_in_words(inside)})"
        )
        if identity is None:
            raise RecordingError(
                f"{what}; say which is right with 'identity': folder or name, or leave the subject "
                "out with 'subjects'"
            )
        notes.append(f"{what}; the {identity} was taken")
    first: dict[tuple[str, ...], Path] = {}
    for file, who in result:
        twin = first.setdefault(tuple(who.values()), file)
        if twin.parent != file.parent:
            raise RecordingError(
                f"{twin} and {file} are both {_in_words(who)}; leave one out, or say with 'identity' "
                "whether folders or names are right"
            )
    return result


def _in_words(who: dict[str, str]) -> str:
    return f"subject {who['subject']}, session {who['session']}, block {who['run']}"


def _categories(root: Path, opts: AlljoinedOptions) -> dict[str, str]:
    """Category of each image by its number, from a table of the user's or of the dataset."""
    if opts.categories is not None:
        return _category_table(opts.categories)
    places = [opts.metadata] if opts.metadata else []
    for base in (root.parent / "preprocessed_eeg", root):
        places += [p for m in METADATA[:2] for p in (base / m, *sorted(base.glob(f"sub-*/{m}")))]
    result: dict[str, str] = {}
    for path in places:
        if path.is_file():
            table = read_table(path, error=RecordingError)
            if {"image_path", "category_name"} <= set(table.columns):
                for image, category in zip(table["image_path"], table["category_name"]):
                    number = Path(str(image)).stem
                    if isinstance(category, str) and not number.isdecimal():
                        raise RecordingError(
                            f"{path}: the column 'image_path' holds {str(image)[:60]!r}, whose name is "
                            "no number of an image; get the file from its source again"
                        )
                    if isinstance(category, str):
                        result[str(int(number))] = category
    if not result:
        raise RecordingError(
            f"nothing beside {root} says what category an image is of; name the dataset's "
            f"{METADATA[0]} with 'metadata', or a CSV with 'image' and 'category' with 'categories'"
        )
    return result


def _category_table(path: Path) -> dict[str, str]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str)
        return {str(int(i)): str(c) for i, c in zip(table["image"], table["category"])}
    except FileNotFoundError:
        raise RecordingError(f"the table of categories {path} does not exist") from None
    except Exception as problem:  # whatever is wrong with a table, it is no such table
        raise RecordingError(
            f"{path} should be a CSV with the columns 'image' (a number) and 'category' "
            f"({type(problem).__name__}: {str(problem)[:80]}); mend it"
        ) from None


class _RawImport(RecordingsImport):
    """Recordings whose annotations name the partition and the number of the image."""

    reader = "alljoined"
    source = FACTS.title
    category_of: dict[str, str]

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.side_of: dict[str, str] = {}

    def open(self, file: Path) -> Recording:
        """Read the EEG channels of a headset's file, which holds much besides."""
        import mne

        from eegprompt.readers._file_checks import check_whole
        from eegprompt.readers._raw_recording import mne_errors

        check_whole(file)
        with mne_errors(file, self.notes, "EDF"):
            names = mne.io.read_raw_edf(file, preload=False, verbose="ERROR").ch_names
        eeg = ["AFz" if n == "Afz" else n for n in names if not n.startswith(_NO_EEG)]
        known = positions_of(eeg)
        eeg = [n for n in eeg if known[n] is not None]
        if not eeg:
            raise RecordingError(
                f"{file} holds no EEG channel of the montage {STANDARD_MONTAGE} (it holds "
                f"{', '.join(names[:8])}); check that it is of this dataset"
            )
        return open_recording(file, channels=eeg, rename=self.opts.rename)

    def events_in(self, recording: Recording, file: Path, who: dict[str, str]) -> FoundEvents:
        """Events from annotations like ``stim_train,05008,-1,1``."""
        rows: list[Event] = []
        left_out: Counter[str] = Counter()
        for onset, _, text in recording.annotations:
            match = _STIMULUS.search(text)
            sample = place_at(recording, onset)
            if match is None or isinstance(sample, str):
                left_out["not a stimulus" if match is None else str(sample)] += 1
                continue
            side, number = match.group(1), str(int(match.group(2)))
            image = f"{int(number):05d}"
            if self.side_of.setdefault(image, side) != side:
                raise RecordingError(
                    f"{file}: the image {image} is marked stim_{side} here and "
                    f"stim_{self.side_of[image]} elsewhere; it would stand on both sides"
                )
            if number not in self.category_of:
                raise RecordingError(
                    f"{file}: the category of the image {image} is not known; give a table that has "
                    "it with 'metadata' or 'categories'"
                )
            rows.append((sample, f"stim_{side}", self.category_of[number], image))
        found = len(recording.annotations)
        return FoundEvents(sorted_events(file, rows, self.opts.repeated, left_out), found, left_out)


# -- Alljoined1 ----------------------------------------------------------------------------------
def _read_rows(
    root: Path,
    opts: AlljoinedOptions,
    writer: StudyWriter,
    notes: list[str],
    progress: Progress | None,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, dict[str, str]]:
    import pandas as pd

    paths = [root] if root.is_file() else sorted(root.glob("**/*.parquet"))
    paths = [path for path in paths if path.is_file()]
    files = [p for p in paths if re.match(r"(train|test)-", p.name) or root.is_file()]
    files.sort(key=lambda p: p.name.startswith("test"))
    sources = {p.name: sampled_sha256(p) for p in files}
    category_of = _category_table(opts.categories) if opts.categories else None
    if category_of is None:
        notes.append(
            "the rows do not say an image's category, so that all are 'unknown'; a CSV with the "
            "columns image (the 73k_id) and category would say it (the reader's option 'categories')"
        )
    shape: tuple[int, int] | None = None
    rows: list[dict[str, Any]] = []
    n_found = 0
    for n, path in enumerate(files):
        side = "test" if path.name.startswith("test") else "train"
        if progress is not None:
            progress(n, len(files), path.name)
        for batch in _batches(path):
            keep = [
                i
                for i, subject in enumerate(batch["subject_id"])
                if opts.subjects is None or int(subject) in {int(s) for s in opts.subjects}
            ]
            n_found += len(batch["subject_id"])
            if not keep:
                continue
            eeg = [_trial(batch["EEG"][i], path) for i in keep]
            shape = shape or eeg[0].shape
            odd = next((e for e in eeg if e.shape != shape), None)
            if odd is not None:
                raise RecordingError(
                    f"{path}: 'EEG' holds trials of shape {shape} and {odd.shape}; all must be alike"
                )
            writer.append(np.stack(eeg))
            for i in keep:
                number = str(int(batch["73k_id"][i]))
                category = "unknown" if category_of is None else category_of.get(number)
                if category is None:
                    raise RecordingError(
                        f"{opts.categories} has no category for the image {number}; add it"
                    )
                rows.append({**_row(batch, i), "category": category, "partition": side})
    if shape is None:
        raise RecordingError(f"{root} holds no trial of the subjects asked for; check 'subjects'")
    trials = pd.DataFrame(rows)
    tmin = -0.05 if opts.tmin is None else opts.tmin
    ch_names = _row_channels(shape[0], opts, root)
    trials, images = _with_images(trials, opts, writer, notes, progress)
    info = {
        "name": opts.name or "alljoined1",
        **FACTS_1.info(),
        **_cap_info(ch_names),
        "sfreq": 512.0,
        "tmin": tmin,
        "unit": "V",
        "design": "randomised",
        "image_identity": "known",
        "steps": [
            {"name": "band-pass", "low": None, "high": None, "on": "by the source; see its name"},
            {
                "name": "epoch",
                "tmin": tmin,
                "tmax": tmin + (shape[1] - 1) / 512,
                "on": "by the source",
            },
        ],
        "notes": FACTS_1.notes(),
        "accounting": writer.accounting(n_found, {"of another subject": n_found - len(rows)}),
    }
    return info, trials, images, sources


def _row(batch: dict[str, list[Any]], i: int) -> dict[str, Any]:
    """What a row says of its trial."""
    return {
        "subject": f"{int(batch['subject_id'][i]):02d}",
        "session": str(int(batch["session"][i])),
        "onset": float(batch["curr_time"][i]),
        "order": int(batch["trial"][i]) - 1,
        "image_id": f"nsd-{int(batch['73k_id'][i]):05d}",
        "coco_id": int(batch["coco_id"][i]),
    }


def _check_numbers(values: list[Any], column: str, path: Path) -> None:
    """Refuse a column that holds something else than numbers that have a place on a line."""
    for value in values:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) < 2**53 or (column != "curr_time" and value != int(value)):
            kind = "a number" if column == "curr_time" else "a whole number"
            raise RecordingError(
                f"{path}: the column '{column}' holds {str(value)[:60]!r}, not {kind}; check that the "
                "file is of Alljoined1 and whole"
            )


def _batches(path: Path) -> Iterator[dict[str, list[Any]]]:
    """Rows of a Parquet file, some at a time, with its columns checked."""
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        missing = [c for c in ROW_COLUMNS if c not in table.schema_arrow.names]
        if missing:
            raise RecordingError(
                f"{path} lacks the columns {', '.join(missing)} (it has "
                f"{', '.join(table.schema_arrow.names)}); check that it is of Alljoined1"
            )
        for batch in table.iter_batches(batch_size=64, columns=list(ROW_COLUMNS)):
            rows = batch.to_pydict()
            for column in ROW_COLUMNS:
                if column != "EEG":
                    _check_numbers(rows[column], column, path)
            yield rows
    except EegpromptError:
        raise
    except Exception as problem:  # a damaged file can break a parser in any way
        reason = " ".join(str(problem).split())[:80]
        raise RecordingError(
            f"{path} cannot be read as Parquet ({reason}); get it from its source again"
        ) from None


def _trial(value: Any, path: Path) -> np.ndarray:
    trial: np.ndarray
    try:
        trial = np.array(value, dtype=np.float32)
    except (ValueError, TypeError):
        trial = np.empty(0, dtype=np.float32)
    if trial.ndim != 2 or not trial.size or not np.isfinite(trial).all():
        raise RecordingError(
            f"{path}: 'EEG' should hold channels by samples of finite numbers; get the file again"
        )
    return trial


def _row_channels(n_chans: int, opts: AlljoinedOptions, root: Path) -> list[str]:
    if opts.channels is not None:
        return checked_channels(list(opts.channels), n_chans, root, "channels")
    from eegprompt.signal.montage import template

    names = template("biosemi64").ch_names
    if n_chans != len(names):
        raise RecordingError(
            f"{root} holds {n_chans} channels, not the {len(names)} of BioSemi's cap, and the rows do "
            "not name them; name them in order with 'channels'"
        )
    return list(names)


# -- the split -----------------------------------------------------------------------------------
def _split(study: Study, opts: AlljoinedOptions, *, by_block: bool) -> None:
    """Write the official split, or say why there is none."""
    trials = study.trials
    side = trials["partition"].to_numpy().astype(str)
    run = trials["subject"] + "/" + trials["session"].astype(str) + "/" + trials["run"].astype(str)
    in_train = side == "train"
    groups, what = np.where(in_train, run.to_numpy().astype(str), ""), "blocks"
    # Rows name no block that one can trust, and their trials do not overlap; and of few blocks one
    # would cost too much.
    if not by_block or len(np.unique(groups[in_train])) < 4:
        groups, what = np.where(in_train, trials["image_id"].astype(str), ""), "images"
    apart = not set(trials["image_id"][in_train]) & set(trials["image_id"][side == "test"])
    try:
        write_train_test(
            study,
            side,
            drawn_groups(groups, opts.val, opts.seed),
            validation=f"whole training {what} drawn by the seed",
            images_apart=apart,
            seed=opts.seed,
            val=opts.val,
        )
        note = "" if apart else "images of the test part are shown in the training part, too"
    except SplitError as problem:
        note = f"the dataset's own split could not be written: {problem}"
    if note:
        stored = read_json(study.path / "study.json")
        stored["notes"] = [*stored["notes"], note]
        write_json(study.path / "study.json", stored)
