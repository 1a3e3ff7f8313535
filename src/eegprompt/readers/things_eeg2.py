"""THINGS-EEG2: ten people, 16,540 training and 200 test images of objects (Gifford et al. 2022).

The recordings are passed around in several layouts, told apart by their files and keys:

- Gifford's and NICE's (ATM's too): ``sub-XX/preprocessed_eeg_training.npy`` and ``_test.npy``, a
  dictionary with `preprocessed_eeg_data` (image, repetition, channel, sample), `ch_names` and
  `times`, as an object array or as a bare pickle. 17 channels at 100 Hz, or 63 at 250 Hz.
- UBP's: ``sub-XX/train.pt`` and ``test.pt`` with `eeg` (float16), `img`, `session`, `text`, `label`.
- SAMGA's and NeuroBridge's: ``sub-XX/train.npy`` and ``test.npy``, an array (concept, image,
  repetition, channel, sample) with ``info.json`` beside it, or a dictionary with `data` in its place.

Rows are images in the order of the concept folders by name (``training_images/00001_aardvark``), ten
a concept; test images are one a concept, and no concept is on both sides (zero-shot). Where a file
names the images (UBP's ``img``, or Gifford's ``image_metadata.npy`` beside the images or the trials),
rows go by these names; else each concept folder must hold as many images as the release has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import read_json
from eegprompt.core.safe_pickle import checked_array, load_pickled
from eegprompt.readers._images import IMAGE_SUFFIXES
from eegprompt.readers._trial_files import (
    TrialFileOptions,
    append_trials,
    checked_channels,
    clock_of,
    key_of,
    repeated_files,
    subject_folders,
)
from eegprompt.readers.base import (
    Content,
    DatasetFacts,
    Import,
    Reader,
    image_rows,
    one_source,
)
from eegprompt.splits.official import drawn_groups, write_train_test
from eegprompt.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ThingsEeg2Options", "ThingsEeg2Reader"]

# Layout -> its two files, training first, and the key of the trials in them.
LAYOUTS: dict[str, tuple[str, str, str]] = {
    "preprocessed": (
        "preprocessed_eeg_training.npy",
        "preprocessed_eeg_test.npy",
        "preprocessed_eeg_data",
    ),
    "ubp": ("train.pt", "test.pt", "eeg"),
    "samga": ("train.npy", "test.npy", "data"),
}
PARTS = ("train", "test")
N_IMAGES = {"train": 16540, "test": 200}
PER_CONCEPT = {"train": 10, "test": 1}
IMAGE_METADATA = "image_metadata.npy"  # of Gifford's image set: concepts and files, in order
_FOLDERS = {"train": ("training_images", "train_images"), "test": ("test_images",)}


class ThingsEeg2Options(TrialFileOptions):
    """Settings of the reader for THINGS-EEG2."""

    layout: Literal["preprocessed", "ubp", "samga"] | None = Field(
        None, description="which layout, where a folder holds several"
    )
    average: Literal["none", "test", "all"] = Field(
        "none", description="average an image's repetitions: of no part, the test part, or both"
    )
    whitened: bool | None = Field(
        None, description="whether the source whitened the trials; default what its code does"
    )
    val: float = Field(0.1, gt=0, lt=0.9, description="training concepts that validate, a fraction")
    seed: int = Field(0, description="draws the concepts that validate")


@dataclass(frozen=True)
class _Part:
    """One part of one subject: the trials stay in the file."""

    path: Path
    key: str
    eeg: np.ndarray  # (image, repetition, channel, sample)
    ch_names: list[str]
    sfreq: float
    tmin: float
    names: list[str] | None  # image of each image, where the file says so
    sessions: np.ndarray | None  # (image, repetition)
    per_concept: int | None


@dataclass(frozen=True)
class _Images:
    """The images of one part, in the order of the rows."""

    ids: list[str]
    categories: list[str]
    images: dict[str, Path]


@dataclass(frozen=True)
class _Plan:
    """What is to be read: each subject's folder, and the first subject's parts and images."""

    folders: dict[str, Path]
    layout: str
    first: dict[str, _Part]
    shown: dict[str, _Images]
    sources: dict[str, str]
    notes: list[str]


class ThingsEeg2Reader(Reader[ThingsEeg2Options, _Plan]):
    """Imports THINGS-EEG2 in any of its layouts: a subject's folder, or that of ``sub-01``, ….

    The official split is zero-shot: the test part's concepts are never trained. Its validation set
    is a tenth of the training concepts, so that selection asks the same question as the test.

    Examples
    --------
    ``ThingsEeg2Reader().read("Preprocessed_data_250Hz", "study", subjects="01",
    stimuli="images_set", average="test")``
    """

    name = "things-eeg2"
    options = ThingsEeg2Options
    facts = DatasetFacts.of("things-eeg2")

    def prepare(self, paths: list[Path], options: ThingsEeg2Options) -> _Plan:
        """Find the subjects' files and which image each row shows."""
        root = one_source(paths)
        layout = _layout(root, options.layout)
        files = LAYOUTS[layout][:2]
        folders = subject_folders(root, files, options.subjects)
        for path in (folder / file for folder in folders.values() for file in files):
            if not path.is_file():
                raise RecordingError(
                    f"{path.parent} lacks {path.name}; both parts are needed, as the test part's "
                    "concepts are others than the training part's"
                )
        sources = repeated_files([folder / f for folder in folders.values() for f in files])
        first = {p: _open(next(iter(folders.values())), layout, p) for p in PARTS}
        notes: list[str] = []
        beside = [root, root.parent]
        if options.stimuli is not None:
            beside = [options.stimuli, options.stimuli.parent, *beside]
        shown = {p: _images(p, first[p], options, notes, beside) for p in PARTS}
        _check_disjoint(shown)
        notes += [
            f"the {p} part has {len(shown[p].ids)} images; the release has {N_IMAGES[p]}"
            for p in PARTS
            if len(shown[p].ids) != N_IMAGES[p]
        ]
        return _Plan(folders, layout, first, shown, sources, notes)

    def write(self, job: Import[ThingsEeg2Options, _Plan]) -> Content:
        """Both parts of each subject."""
        import pandas as pd

        opts, plan = job.options, job.plan
        like, shown = plan.first["train"], plan.shown
        job.notes += plan.notes
        job.sources |= plan.sources
        tables = []
        for subject, folder in plan.folders.items():
            for p in PARTS:
                part = _open(folder, plan.layout, p)
                _check_same(part, plan.first[p], like)
                averaged = opts.average in ("all", p)
                n_images, n_repetitions = part.eeg.shape[:2]
                job.found += n_images * n_repetitions
                if averaged:
                    job.left_out["averaged with others"] += n_images * (n_repetitions - 1)
                label = f"subject {subject}, {p}"
                append_trials(job, part.eeg, part.path, part.key, label, average=averaged)
                tables.append(_trials(part, shown[p], subject, p, averaged))
        images = pd.DataFrame(
            {
                "image_id": [i for p in PARTS for i in shown[p].ids],
                "category": [c for p in PARTS for c in shown[p].categories],
            }
        )
        whitened = opts.whitened is not False
        return Content(
            trials=pd.concat(tables, ignore_index=True),
            images=image_rows(images, shown["train"].images | shown["test"].images, job),
            ch_names=like.ch_names,
            sfreq=like.sfreq,
            tmin=like.tmin,
            unit="a.u." if whitened else "V",
            design="randomised",
            steps=_steps(like, plan.layout, whitened, opts),
            more={"layout": plan.layout},
        )

    def split(self, study: Study, content: Content, job: Import[ThingsEeg2Options, _Plan]) -> None:
        """Zero-shot, as the dataset has it."""
        side = content.trials["partition"].to_numpy().astype(str)
        groups, what = content.trials["category"], "concepts"
        if groups[side == "train"].nunique() < 2:  # nothing to choose among
            groups, what = content.trials["image_id"], "images"
        in_train = np.where(side == "train", groups.astype(str), "")
        write_train_test(
            study,
            side,
            drawn_groups(in_train, job.options.val, job.options.seed),
            validation=f"training {what} drawn by the seed, of which none is trained",
            images_apart=True,
            seed=job.options.seed,
            val=job.options.val,
        )


# -- files ---------------------------------------------------------------------------------------
def _layout(root: Path, asked: str | None) -> str:
    """Which layout the files are in; of several, the one that was asked for."""
    places = [root]
    if root.is_dir():
        places += sorted(p for p in root.iterdir() if p.is_dir())
    there = [k for k, v in LAYOUTS.items() if any((p / f).is_file() for p in places for f in v[:2])]
    if asked is not None:
        return asked
    if len(there) != 1:
        files = "; ".join(f"{k}: {v[0]}, {v[1]}" for k, v in LAYOUTS.items())
        what = f"files of the layouts {' and '.join(there)}" if there else "none of the known files"
        remedy = "choose one with 'layout'" if there else f"looked for {files}"
        raise RecordingError(f"{root} holds {what}; {remedy}")
    return there[0]


def _open(folder: Path, layout: str, part: str) -> _Part:
    """One part of a subject, its shape and its facts checked; the trials are mapped."""
    path = folder / LAYOUTS[layout][PARTS.index(part)]
    key = LAYOUTS[layout][2]
    content = load_pickled(path)
    about: Any = content
    if layout == "samga" and isinstance(content, np.ndarray):
        beside = [p / "info.json" for p in (folder, folder.parent)]
        found = next((p for p in beside if p.is_file()), None)
        if found is None:
            raise RecordingError(
                f"{path} holds trials only, and no info.json lies beside it; it should name the "
                "channels ('ch_names') and the times ('times')"
            )
        about = read_json(found, error=RecordingError)
        eeg, key = content, "array"
    else:
        found = path
        eeg = key_of(content, key, path)
    eeg = checked_array(eeg, path, key)
    per_concept = None
    if eeg.ndim == 5 and layout == "samga":
        per_concept = int(eeg.shape[1])
        eeg = eeg.reshape(-1, *eeg.shape[2:])
    if eeg.ndim != 4 or 0 in eeg.shape:
        raise RecordingError(
            f"{path}: '{key}' has shape {eeg.shape}, but (image, repetition, channel, sample) is "
            "needed; check that the file is of this dataset"
        )
    ch_names = checked_channels(key_of(about, "ch_names", found), eeg.shape[2], found)
    sfreq, tmin = clock_of(key_of(about, "times", found), eeg.shape[3], found)
    names = sessions = None
    if layout == "ubp":
        names = _names(_beside(content, "img", path, eeg, "UO"), path)
        _check_labels(_beside(content, "label", path, eeg, "fiu"), path, names)
        told = _beside(content, "session", path, eeg, "fiu")
        sessions = None if told is None else np.asarray(told).astype(int) + 1
    return _Part(path, key, eeg, ch_names, sfreq, tmin, names, sessions, per_concept)


def _beside(content: Any, key: str, path: Path, like: np.ndarray, kinds: str) -> np.ndarray | None:
    """What UBP's file says of each image and repetition under a key, where it does."""
    if key not in content:
        return None
    values = checked_array(content[key], path, key, kinds=kinds)
    if values.shape != like.shape[:2]:
        raise RecordingError(
            f"{path}: '{key}' has shape {values.shape}, but 'eeg' {like.shape[:2]}; get the file again"
        )
    return values


def _names(img: np.ndarray | None, path: Path) -> list[str] | None:
    """Image of each image from UBP's `img`, which repeats it for each repetition."""
    if img is None:
        return None
    names = [str(n) for n in img[:, 0]]
    if (img != img[:, :1]).any():
        raise RecordingError(f"{path}: 'img' names several images in one row; get the file again")
    if len(set(names)) < len(names):
        raise RecordingError(f"{path}: 'img' names an image in two rows; get the file again")
    return names


def _check_labels(labels: np.ndarray | None, path: Path, names: list[str] | None) -> None:
    """Refuse a file whose labels part its images into other concepts than their folders do."""
    if names is None or labels is None:
        return
    concept_of: dict[Any, str] = {}
    label_of: dict[str, Any] = {}
    for row, name in enumerate(names):
        concept = _short_name(name).split("/")[0]
        for label in np.unique(labels[row]).tolist():
            if (
                concept_of.setdefault(label, concept) != concept
                or label_of.setdefault(concept, label) != label
            ):
                raise RecordingError(
                    f"{path}: 'img' and 'label' disagree: row {row} shows '{concept}' with the label "
                    f"{label}, which elsewhere is '{concept_of[label]}' (and '{concept}' has the label "
                    f"{label_of.get(concept)}); get the file again"
                )


def _check_same(part: _Part, like: _Part, train: _Part) -> None:
    """Refuse parts and subjects that do not go together."""
    for what, mine, theirs, other in (
        ("channels", part.ch_names, train.ch_names, train),
        ("sampling rate", part.sfreq, train.sfreq, train),
        ("time of the first sample", round(part.tmin, 6), round(train.tmin, 6), train),
        ("number of samples", part.eeg.shape[3], train.eeg.shape[3], train),
        ("number of images", len(part.eeg), len(like.eeg), like),
        ("image names", part.names, like.names, like),
    ):
        if mine != theirs:
            shown = f" ({mine} and {theirs})" if not isinstance(mine, list) else ""
            raise RecordingError(
                f"{part.path} has another {what} than {other.path}{shown}; import subjects and parts "
                "that were preprocessed alike"
            )


# -- images --------------------------------------------------------------------------------------
def _images(
    part: str, of: _Part, opts: ThingsEeg2Options, notes: list[str], beside: Sequence[Path]
) -> _Images:
    """Id, category and image of each image, in the order of the rows."""
    n = len(of.eeg)
    paths: dict[int, Path] = {}
    told = _told_names(part, of, beside)
    if opts.stimuli is not None:
        folder = _stimulus_folder(opts.stimuli, part)
        listed = _concept_images(folder)
        if told is None:
            if len(listed) != n:
                raise RecordingError(
                    f"{folder} holds {len(listed)} images, but {of.path} has {n} images; rows "
                    "follow the folders by name, so that all and only the images shown must be there"
                )
            _check_counts(listed, folder, part, of)
            names = [_short_name(p) for p in listed]
            paths = dict(enumerate(listed))
        else:
            where, names = told
            by_name = {_short_name(p): p for p in listed}
            paths = {i: by_name[name] for i, name in enumerate(names) if name in by_name}
            missing = [names[i] for i in range(n) if i not in paths]
            if missing and not opts.allow_missing_images:
                raise RecordingError(
                    f"{len(missing)} of {n} images that {where} names are not below {folder} "
                    f"(first: {', '.join(missing[:3])}); add them, or pass 'allow_missing_images'"
                )
            further = sorted(by_name.keys() - set(names))
            if further:
                notes.append(
                    f"{len(further)} images below {folder.name} are shown in no row of the {part} "
                    f"part (first: {', '.join(further[:3])})"
                )
    elif told is not None:
        names = told[1]
    elif opts.allow_missing_images:
        size = of.per_concept or (10 if part == "train" and n % 10 == 0 else 1)
        names = [f"{i // size + 1:05d}_{part}-concept/{part}_{i % size + 1:02d}" for i in range(n)]
        notes.append(
            f"no image names were given for the {part} part: its concepts are numbers, and {size} "
            "rows in a row were taken as one"
        )
    else:
        raise RecordingError(
            f"{of.path} does not say which image was shown; name the folder with training_images "
            "and test_images in it with 'stimuli', or pass 'allow_missing_images' to go on with "
            "numbers for names"
        )
    concepts = [name.split("/")[0] for name in names]
    plain = {c: re.sub(r"^\d+_", "", c) for c in concepts}
    if len(set(plain.values())) < len(plain):  # one word for two concepts: keep the numbers
        plain = {c: c for c in concepts}
    if of.per_concept is not None:
        rows = np.array(concepts).reshape(-1, of.per_concept)
        if (rows != rows[:, :1]).any() or len(set(concepts)) != len(rows):
            raise RecordingError(
                f"{of.path} has {of.per_concept} images a concept, but the images do not; check "
                "'stimuli'"
            )
    ids = _ids(names, part)
    return _Images(ids, [plain[c] for c in concepts], {ids[i]: p for i, p in paths.items()})


def _short_name(name: str | Path) -> str:
    """An image by its concept's folder and its file, whatever lies above."""
    return "/".join(Path(str(name).replace("\\", "/")).parts[-2:])


def _told_names(part: str, of: _Part, beside: Sequence[Path]) -> tuple[Path, list[str]] | None:
    """The file that names the images of the rows, and the names; None where none does."""
    mine = None if of.names is None else [_short_name(name) for name in of.names]
    path = next((p / IMAGE_METADATA for p in beside if (p / IMAGE_METADATA).is_file()), None)
    if path is None:
        return None if mine is None else (of.path, mine)
    content = load_pickled(path)
    columns = []
    for key in (f"{part}_img_concepts", f"{part}_img_files"):
        values = key_of(content, key, path)
        values = values.tolist() if isinstance(values, np.ndarray) else values
        if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
            raise RecordingError(f"{path}: '{key}' should be a list of texts; get the file again")
        columns.append(list(values))
    names = [f"{concept}/{_short_name(file).split('/')[-1]}" for concept, file in zip(*columns)]
    if not len(columns[0]) == len(columns[1]) == len(of.eeg) or len(set(names)) < len(names):
        raise RecordingError(
            f"{path} names {len(columns[0])} concepts and {len(set(names))} different files of the "
            f"{part} part, but {of.path} has {len(of.eeg)} images; get both from one source"
        )
    if mine is not None and mine != names:
        row = next(i for i, (a, b) in enumerate(zip(mine, names)) if a != b)
        raise RecordingError(
            f"row {row} is '{mine[row]}' in {of.path}, but '{names[row]}' in {path}; get both from "
            "one source, or move the second away"
        )
    return path, names


def _check_counts(listed: Sequence[Path], folder: Path, part: str, of: _Part) -> None:
    """Refuse folders of concepts that hold unequal numbers of images: names would shift."""
    counts = Counter(path.parent.name for path in listed)
    usual = Counter(counts.values()).most_common(1)[0][0]
    expected = PER_CONCEPT[part] if len(listed) == N_IMAGES[part] else of.per_concept or usual
    wrong = {concept: k for concept, k in sorted(counts.items()) if k != expected}
    if wrong:
        some = ", ".join(f"{concept} holds {k}" for concept, k in list(wrong.items())[:4])
        raise RecordingError(
            f"{len(wrong)} of {len(counts)} folders below {folder} do not hold {expected} images as "
            f"each concept of this dataset has ({some}), so that rows and images would shift against "
            f"each other; put them right, or add {IMAGE_METADATA}, which names the image of each row"
        )


def _ids(names: list[str], part: str) -> list[str]:
    """File names without suffix, with what is needed before them to tell them apart."""
    stems = [Path(n).stem if Path(n).suffix.lower() in IMAGE_SUFFIXES else n for n in names]
    if len(set(stems)) == len(stems):
        return [s.replace("/", "-") for s in stems]
    return [f"{part}-" + str(Path(n).with_suffix("")).replace("/", "-") for n in names]


def _stimulus_folder(stimuli: Path, part: str) -> Path:
    for name in _FOLDERS[part]:
        for folder in (stimuli / name, stimuli if stimuli.name == name else stimuli / "-"):
            if folder.is_dir():
                return folder
    raise RecordingError(
        f"{stimuli} holds no folder {' or '.join(_FOLDERS[part])}; name the folder that holds "
        "training_images and test_images with 'stimuli'"
    )


def _concept_images(folder: Path) -> list[Path]:
    """Images by concept folder and name, which is the order of the rows."""
    return [
        image
        for concept in sorted(p for p in folder.iterdir() if p.is_dir())
        for image in sorted(concept.iterdir())
        if image.suffix.lower() in IMAGE_SUFFIXES and not image.name.startswith(".")
    ]


def _check_disjoint(shown: dict[str, _Images]) -> None:
    both = sorted(set(shown["train"].categories) & set(shown["test"].categories))
    if both:
        raise RecordingError(
            f"{len(both)} concepts stand on both sides (first: {', '.join(both[:3])}), but the test "
            "part is zero-shot; check 'stimuli' and that both parts are of this dataset"
        )
    both = sorted(set(shown["train"].ids) & set(shown["test"].ids))
    if both:
        raise RecordingError(f"the image '{both[0]}' stands on both sides; check 'stimuli'")


# -- tables --------------------------------------------------------------------------------------
def _trials(part: _Part, images: _Images, subject: str, side: str, averaged: bool) -> pd.DataFrame:
    import pandas as pd

    n, n_reps = part.eeg.shape[:2]
    each = 1 if averaged else n_reps
    sessions = np.full((n, each), "1", dtype=object)
    if part.sessions is not None and not averaged:
        sessions = part.sessions.astype(str).astype(object)
    return pd.DataFrame(
        {
            "subject": subject,
            "session": sessions.ravel(),
            "image_id": np.repeat(np.array(images.ids, object), each),
            "category": np.repeat(np.array(images.categories, object), each),
            "n_averaged": n_reps if averaged else 1,
            "partition": side,
            "repetition": np.tile(np.arange(each), n),
        }
    )


def _steps(
    part: _Part, layout: str, whitened: bool, opts: ThingsEeg2Options
) -> list[dict[str, Any]]:
    """What the source's code does to the signal, and what was done here."""
    by = f"by the source ({layout} layout)"
    steps: list[dict[str, Any]] = [
        {"name": "epoch", "tmin": -0.2, "tmax": 1.0, "on": by},
        {"name": "baseline", "start": None, "stop": 0.0, "on": by},
        {"name": "resample", "to": part.sfreq, "on": by},
    ]
    if whitened:
        steps.append({"name": "whiten", "method": "multivariate noise normalization", "on": by})
    if opts.average != "none":
        what = "test part" if opts.average == "test" else "both parts"
        steps.append({"name": "average repetitions", "of": what, "on": "trials"})
    return steps
