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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.core.errors import RecordingError, SplitError
from eegprompt.core.files import read_json, read_table, write_json
from eegprompt.core.safe_pickle import checked_array, load_pickled
from eegprompt.readers._alljoined import METADATA, AlljoinedOptions, images_of
from eegprompt.readers._alljoined_raw import read_raw
from eegprompt.readers._alljoined_rows import read_rows
from eegprompt.readers._trial_files import (
    append_trials,
    checked_channels,
    clock_of,
    key_of,
    repeated_files,
    subject_folders,
)
from eegprompt.readers.base import Content, DatasetFacts, Import, Reader, one_source
from eegprompt.splits.official import drawn_groups, write_train_test
from eegprompt.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AlljoinedOptions", "AlljoinedReader"]

FILES = ("preprocessed_eeg_training_flat.npy", "preprocessed_eeg_test_flat.npy")
KEY = "preprocessed_eeg_data"
PARTITIONS = ("stim_train", "stim_test")
STEPS = ("notch", "bandpass", "reference", "resample", "baseline", "reject")
_Plan = tuple[str, Path]


class AlljoinedReader(Reader[AlljoinedOptions, _Plan]):
    """Imports Alljoined-1.6M, preprocessed or raw, or the rows of Alljoined1.

    The source is the dataset's folder, one of its parts, or a subject's folder in one of them. The
    official split keeps the dataset's test part; whole blocks of the training part validate,
    because neighbors in time share samples, and training trials of their images are left out.

    Examples
    --------
    ``AlljoinedReader().read("Alljoined-1.6M", "study", layout="preprocessed", subjects="01",
    stimuli="stimuli/images")``
    """

    name = "alljoined"
    options = AlljoinedOptions
    facts = DatasetFacts.of("alljoined-1.6m")

    def prepare(self, paths: list[Path], options: AlljoinedOptions) -> _Plan:
        """Which layout, and where it begins."""
        layout, place = _layout(one_source(paths), options.layout)
        asked = [s for s in STEPS if getattr(options, s)]
        if asked and layout != "raw":
            raise RecordingError(
                f"'{asked[0]}' is done to raw recordings, but {place} holds trials that were cut "
                "already; leave it out, or import the raw part"
            )
        return layout, place

    def write(self, job: Import[AlljoinedOptions, _Plan]) -> Content:
        """The trials of the layout."""
        layout, place = job.plan
        read = {"preprocessed": _read_preprocessed, "raw": read_raw, "rows": read_rows}[layout]
        return read(place, job)

    def split(self, study: Study, content: Content, job: Import[AlljoinedOptions, _Plan]) -> None:
        """The dataset's own test part, or a note that says why there is none."""
        trials = study.trials
        side = trials["partition"].to_numpy().astype(str)
        run = trials[["subject", "session", "run"]].astype(str).agg("/".join, axis=1)
        in_train = side == "train"
        groups, what = np.where(in_train, run.to_numpy().astype(str), ""), "blocks"
        # Rows name no block that one can trust, and their trials do not overlap; and of few blocks one
        # would cost too much.
        if job.plan[0] == "rows" or len(np.unique(groups[in_train])) < 4:
            groups, what = np.where(in_train, trials["image_id"].astype(str), ""), "images"
        apart = not set(trials["image_id"][in_train]) & set(trials["image_id"][side == "test"])
        try:
            write_train_test(
                study,
                side,
                drawn_groups(groups, job.options.val, job.options.seed),
                validation=f"whole training {what} drawn by the seed",
                images_apart=apart,
                seed=job.options.seed,
                val=job.options.val,
            )
            note = "" if apart else "images of the test part are shown in the training part, too"
        except SplitError as problem:
            note = f"the dataset's own split could not be written: {problem}"
        if note:
            stored = read_json(study.path / "study.json")
            stored["notes"] = [*stored["notes"], note]
            write_json(study.path / "study.json", stored)


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
def _read_preprocessed(root: Path, job: Import[AlljoinedOptions, Any]) -> Content:
    """Both parts of each subject, which the source cut and maybe whitened."""
    import pandas as pd

    folders = subject_folders(root, FILES, job.options.subjects)
    paths = [folder / file for folder in folders.values() for file in FILES]
    for path in paths:
        if not path.is_file():
            raise RecordingError(f"{path} is missing; both parts of a subject are needed")
    job.sources |= repeated_files(paths)
    tables, first = [], None
    configs: Any = None
    for subject, folder in folders.items():
        metadata = _metadata(folder, root, job.options.metadata)
        partition = _of_subject(metadata, subject)["partition"].astype(str)
        job.found += len(partition)
        job.left_out["of another partition"] += int((~partition.isin(PARTITIONS)).sum())
        for file, side in zip(FILES, ("train", "test")):
            path = folder / file
            content = load_pickled(path)
            eeg = checked_array(key_of(content, KEY, path), path, KEY, ndim=3)
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
            job.left_out["dropped by the source"] += n_dropped
            append_trials(job, eeg[:, None], path, KEY, f"subject {subject}, {side}")
            tables.append(rows)
    assert first is not None
    trials = pd.concat(tables, ignore_index=True)
    told = configs if isinstance(configs, dict) else {}
    whitened = told.get("mvnn_dim", "epochs") not in (None, "off")
    return Content(
        trials=trials,
        images=images_of(trials, job),
        ch_names=first[0],
        sfreq=first[1],
        tmin=first[2],
        unit="a.u." if whitened else "V",
        design="randomised",
        steps=_source_steps(told, whitened),
        name="alljoined-1.6m",
    )


def _cap(names: Any) -> Any:
    """The headset spells AFz in its own way."""
    if isinstance(names, np.ndarray):
        names = names.tolist()
    return ["AFz" if n == "Afz" else n for n in names] if isinstance(names, list) else names


def _source_steps(told: dict[str, Any], whitened: bool) -> list[dict[str, Any]]:
    """Steps as the file's `configs` give them."""
    by = "by the source"
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
