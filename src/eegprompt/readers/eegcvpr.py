"""EEGCVPR: six people, 128 channels, 40 ImageNet classes (Spampinato et al. 2017).

Source: https://github.com/perceivelab/eeg_visual_classification, by its authors. Files and what is
expected of them:

- ``eeg_5_95_std.pth``, ``eeg_14_70_std.pth``, ``eeg_55_95_std.pth`` (band-passed, standardized) and
  ``eeg_signals_raw_with_mean_std.pth``: a dictionary with `dataset`, a shuffled list of 11,964 or
  11,965 trials ``{"eeg": (128, 491...1527), "image": int, "label": int, "subject": 1...6}`` at
  1 kHz; `labels`, 40 synsets; `images`, 1,996 names; the raw file also `means` and `stddevs`.
- ``block_splits_by_image_all.pth``: 7970 / 1998 / 1997 places in the whole list.
- ``block_splits_by_image_single.pth``: 669 / 167 / 164 places in the list of one subject.
- ``image_order.txt``: the names in the order of showing, as posted in the repository's issues.
- images: ImageNet's, which nobody may pass on.

What could not be verified: that the first sample is the onset of the image; the unit and the
reference of the raw file; what its means and standard deviations, and the standardization of the
other files, were computed on (if on all trials, test trials took part); that every subject saw the
order of ``image_order.txt``; what the four sessions were. Each class was one block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from eegprompt.core.errors import InputError, RecordingError, UnknownNameError
from eegprompt.core.files import sampled_sha256
from eegprompt.core.safe_pickle import load_pickled
from eegprompt.readers._duplicates import Repeats
from eegprompt.readers._eegcvpr import DESIGN_NOTE, SFREQ, category_of, whole_number
from eegprompt.readers._trial_files import BLOCK_BYTES
from eegprompt.readers.base import (
    Content,
    DatasetFacts,
    Duplicates,
    ImageOptions,
    Import,
    Reader,
    image_rows,
    one_source,
    wanted_images,
)
from eegprompt.signal.montage import EEGCVPR_CHANNELS
from eegprompt.splits.official import NumberedSplit, write_numbered
from eegprompt.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EegcvprOptions", "EegcvprReader"]

# Variant -> file, and the pass band in Hz where it was filtered.
VARIANTS: dict[str, tuple[str, tuple[float, float] | None]] = {
    "5-95": ("eeg_5_95_std.pth", (5.0, 95.0)),
    "14-70": ("eeg_14_70_std.pth", (14.0, 70.0)),
    "55-95": ("eeg_55_95_std.pth", (55.0, 95.0)),
    "raw": ("eeg_signals_raw_with_mean_std.pth", None),
}
N_CHANS = 128
N_TRIALS = (11964, 11965)
N_SUBJECTS = 6
_PER_TRIAL = ("eeg", "image", "label", "subject")


class EegcvprOptions(ImageOptions):
    """Settings of the reader for EEGCVPR; the defaults are what the field uses."""

    variant: Literal["5-95", "14-70", "55-95", "raw"] | None = Field(
        None, description="which signal, where the folder holds several or the file was renamed"
    )
    samples: tuple[int, int] = Field(
        (20, 460), description="samples of a trial to keep, from the first to before the second"
    )
    length: tuple[int, int] = Field(
        (450, 600), description="shortest and longest trial to keep, in samples of the file"
    )
    subjects: tuple[int, ...] | None = Field(None, description="subjects to keep; default all")
    standardize: Literal["file", "none"] = Field(
        "file", description="raw only: use the means and stddevs of the file, or leave as recorded"
    )
    duplicates: Duplicates = "drop"
    splits: tuple[Path, ...] | None = Field(
        None, description="split files; default those beside the signal, 'none' for none"
    )
    single_subject: int | None = Field(
        None, description="subject whose list block_splits_by_image_single.pth numbers"
    )
    image_order: Path | None = Field(
        None, description="names in order of showing; default image_order.txt beside the signal"
    )

    @field_validator("splits", mode="before")
    @classmethod
    def _none_is_none(cls, value: Any) -> Any:
        return () if value == ("none",) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        first, stop = self.samples
        if not 0 <= first < stop - 1:
            raise ValueError(f"'samples' are a first and a later last one, got {first},{stop}")
        if self.length[0] > self.length[1]:
            raise ValueError(
                f"'length' is a shortest and a longest one, got {self.length[0]},{self.length[1]}"
            )
        return self


class EegcvprReader(Reader[EegcvprOptions, "_Plan"]):
    """Imports one of the four signal files of EEGCVPR, or of the folder that holds them.

    Trials keep their place in the file's list in the column `source_index`. Splits are resolved on
    the list they were written for and filtered afterwards: ``block_splits_by_image_all.pth``
    numbers the whole list, ``block_splits_by_image_single.pth`` the list of one subject.

    Examples
    --------
    ``EegcvprReader().read("EEG", "study", variant="5-95", stimuli="imagenet/train")``
    """

    name = "eegcvpr"
    options = EegcvprOptions
    facts = DatasetFacts.of("eegcvpr")

    def prepare(self, paths: list[Path], options: EegcvprOptions) -> _Plan:
        """The signal file with what it holds, its splits and the order of showing."""
        file, variant = _signal_file(one_source(paths), options.variant)
        content = _Content.of(file, scaled=variant == "raw" and options.standardize == "file")
        content.check_subjects(options)
        plan = _Plan(content, variant, content.notes())
        plan.splits = _splits(options, content, file.parent, plan.notes)
        order_file = options.image_order or file.parent / "image_order.txt"
        if options.image_order or order_file.exists():
            plan.order_file, plan.order = order_file, _image_order(order_file, content)
        return plan

    def write(self, job: Import[EegcvprOptions, _Plan]) -> Content:
        """The trials that are wanted, in the order of the list."""
        opts, plan = job.options, job.plan
        content, order = plan.content, plan.order
        job.notes += plan.notes
        job.found = len(content)
        job.sources[content.file.name] = sampled_sha256(content.file)
        plan.kept = _copy(content, job)
        trials = _trials(content, plan.kept, order)
        shown = trials.drop_duplicates("image").sort_values("image")
        images = shown[["image_id", "category"]].reset_index(drop=True)
        images["synset"] = [s.split("_")[0] for s in images["image_id"]]
        folders = dict(zip(images["image_id"], images["synset"]))
        found = wanted_images(list(folders), opts, folders)
        images = image_rows(images, found, job)
        if order:
            unknown = int((trials["order"] < 0).sum())
            job.notes.append(
                f"the order of showing is that of {plan.order_file.name}, joined by name and taken to "
                f"be every subject's{f'; {unknown} trials are not in it' if unknown else ''}"
            )
        else:
            job.notes.append(
                "the file does not say when a trial was recorded; the list of images in order of "
                "showing would (the reader's option 'image_order')"
            )
        return Content(
            trials=trials.drop(columns="image"),
            images=images,
            ch_names=EEGCVPR_CHANNELS,
            sfreq=SFREQ,
            tmin=opts.samples[0] / SFREQ,
            design="block",
            steps=_steps(content, opts, plan.variant, len(plan.kept)),
            name=f"eegcvpr-{plan.variant}",
        )

    def split(self, study: Study, content: Content, job: Import[EegcvprOptions, _Plan]) -> None:
        """Those that lie beside the signal, or were named."""
        for split in job.plan.splits:
            write_numbered(study, split, job.plan.kept)


# -- files -----------------------------------------------------------------------------------------
def _signal_file(source: Path, variant: str | None) -> tuple[Path, str]:
    """The signal file, and which variant it is."""
    named = {file: name for name, (file, _) in VARIANTS.items()}
    if source.is_file():
        found = variant or named.get(source.name)
        if found is None:
            raise RecordingError(
                f"the name of {source} does not say which signal it holds; say it with 'variant': "
                f"{', '.join(VARIANTS)}"
            )
        return source, found
    there = {
        name: source / file for name, (file, _) in VARIANTS.items() if (source / file).exists()
    }
    if variant is not None and variant not in there:
        raise RecordingError(
            f"{source} holds no {VARIANTS[variant][0]}, the file of variant '{variant}'; it holds "
            f"the variants {', '.join(there) or '(none)'}"
        )
    if variant is None and len(there) != 1:
        what = f"the signals {', '.join(there)}" if there else "none of the signal files"
        remedy = "choose one with 'variant'" if there else f"looked for: {', '.join(named)}"
        raise RecordingError(f"{source} holds {what}; {remedy}")
    found = variant or next(iter(there))
    return there[found], found


@dataclass
class _Content:
    """What a signal file holds, checked; the signals themselves stay in the file."""

    file: Path
    eeg: list[np.ndarray]
    subject: np.ndarray
    label: np.ndarray
    image: np.ndarray
    labels: list[str]
    images: list[str]
    means: np.ndarray | None
    stddevs: np.ndarray | None

    @classmethod
    def of(cls, file: Path, scaled: bool) -> _Content:
        content = load_pickled(file)
        keys = ("dataset", "labels", "images", *(("means", "stddevs") if scaled else ()))
        if not isinstance(content, dict) or any(k not in content for k in keys):
            there = (
                sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
            )
            hint = " (or pass 'standardize=none')" if scaled else ""
            raise RecordingError(
                f"{file} should hold a dictionary with the keys {', '.join(keys)}{hint}, and holds "
                f"{there}; name one of the signal files of EEGCVPR"
            )
        dataset = content["dataset"]
        if not isinstance(dataset, (list, tuple)) or not dataset:
            raise RecordingError(f"{file}: 'dataset' should be a list of trials; is it EEGCVPR?")
        labels, images = (_names(content[k], k, file) for k in ("labels", "images"))
        subject, label, image = numbers = np.empty((3, len(dataset)), np.int64)
        limits = (("subject", 1, None), ("label", 0, len(labels)), ("image", 0, len(images)))
        for i, item in enumerate(dataset):
            if not isinstance(item, dict) or any(k not in item for k in _PER_TRIAL):
                raise RecordingError(
                    f"{file}: dataset[{i}] should be a dictionary with the keys "
                    f"{', '.join(_PER_TRIAL)}; is it EEGCVPR?"
                )
            _check_signal(item["eeg"], i, file)
            for row, (key, low, stop) in enumerate(limits):
                numbers[row, i] = whole_number(item[key], low, stop, f"dataset[{i}]['{key}']", file)
            synset, shown = labels[numbers[1, i]], images[numbers[2, i]]
            if "_" in shown and shown.split("_")[0] != synset:
                raise RecordingError(
                    f"{file}: dataset[{i}] is labeled {synset} but shows the image {shown} of "
                    "another class; one of both is wrong: get the file from its source again"
                )
        means, stddevs = (
            _per_channel(content[k], k, file) if scaled else None for k in ("means", "stddevs")
        )
        eeg = [item["eeg"] for item in dataset]
        return cls(file, eeg, subject, label, image, labels, images, means, stddevs)

    def __len__(self) -> int:
        return len(self.eeg)

    def check_subjects(self, opts: EegcvprOptions) -> None:
        there = sorted({int(s) for s in self.subject})
        asked = [*(opts.subjects or ()), *([opts.single_subject] if opts.single_subject else [])]
        for subject in asked:
            if subject not in there:
                raise UnknownNameError("subject", str(subject), map(str, there))

    def notes(self) -> list[str]:
        notes = [DESIGN_NOTE]
        if len(self) not in N_TRIALS:
            notes.append(
                f"{self.file.name} holds {len(self)} trials; the release has {N_TRIALS[0]} or "
                f"{N_TRIALS[1]}"
            )
        n = len(set(self.subject.tolist()))
        if n != N_SUBJECTS:
            notes.append(f"{self.file.name} holds {n} subjects; the release has {N_SUBJECTS}")
        return notes


@dataclass
class _Plan:
    """What is to be read, found before anything is written; and the places kept, afterwards."""

    content: _Content
    variant: str
    notes: list[str]
    splits: list[NumberedSplit] = field(default_factory=list)
    order_file: Path = Path()
    order: dict[str, tuple[int, int]] = field(default_factory=dict)
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def _names(value: Any, key: str, file: Path) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) and v for v in value):
        raise RecordingError(f"{file}: '{key}' should be a list of names; is it EEGCVPR?")
    if len(set(value)) < len(value):
        raise RecordingError(f"{file}: '{key}' lists a name twice; each should stand there once")
    return list(value)


def _check_signal(eeg: Any, i: int, file: Path) -> None:
    if not isinstance(eeg, np.ndarray) or len(eeg.shape) != 2 or eeg.shape[0] != N_CHANS:
        raise RecordingError(
            f"{file}: dataset[{i}]['eeg'] should be a tensor of {N_CHANS} channels by samples, got "
            f"{_shown(eeg)}"
        )
    if eeg.dtype.kind not in "fiu":
        raise RecordingError(
            f"{file}: dataset[{i}]['eeg'] holds {eeg.dtype}, and should hold real numbers"
        )


def _per_channel(value: Any, key: str, file: Path) -> np.ndarray:
    """One number a channel, or one for all, as (n_chans or 1, 1)."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size not in (1, N_CHANS):
        raise RecordingError(
            f"{file}: '{key}' should hold {N_CHANS} numbers, one a channel, got {_shown(value)}; "
            "pass 'standardize=none' to do without"
        )
    array = array.astype(np.float32).reshape(-1, 1)
    if not np.isfinite(array).all() or (key == "stddevs" and (array <= 0).any()):
        raise RecordingError(
            f"{file}: '{key}' holds values that cannot be used to standardize (not finite, or not "
            "positive); pass 'standardize=none' to do without"
        )
    return array


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a tensor of {value.dtype} of shape {value.shape}"
    return f"{value!r}"[:60] if isinstance(value, (int, float, str)) else type(value).__name__


# -- the signal ------------------------------------------------------------------------------------
def _copy(content: _Content, job: Import[EegcvprOptions, _Plan]) -> np.ndarray:
    """Write the signals; give the places in the list of those written."""
    opts, notes = job.options, job.notes
    first, stop = opts.samples
    length = np.array([t.shape[1] for t in content.eeg])
    wanted = np.ones(len(content), bool)
    if opts.subjects is not None:
        wanted &= np.isin(content.subject, opts.subjects)
    fitting = (length >= max(opts.length[0], stop)) & (length <= opts.length[1])
    lost = int((wanted & ~fitting).sum())
    if lost:
        notes.append(
            f"{lost} trials are shorter than {max(opts.length[0], stop)} or longer than "
            f"{opts.length[1]} samples and were left out"
        )
    places = np.flatnonzero(wanted & fitting)
    if not len(places):
        raise RecordingError(
            f"{content.file}: no trial is left of {len(content)} ({length.min()} to {length.max()} "
            f"samples long); loosen 'length' ({opts.length[0]},{opts.length[1]}) or 'samples'"
        )
    repeats = Repeats(opts.duplicates, content.eeg.__getitem__, lambda p: f"dataset[{p}]")
    scaled = content.means is not None and opts.standardize == "file"
    batch = max(1, BLOCK_BYTES // (4 * N_CHANS * (stop - first)))
    block = np.empty((batch, N_CHANS, stop - first), np.float32)
    kept: list[int] = []
    filled = 0
    for n, place in enumerate(places):
        signal = content.eeg[place]
        if repeats.is_one(int(place), content.images[content.image[place]], signal):
            continue
        trial = block[filled]
        np.copyto(trial, signal[:, first:stop], casting="unsafe")
        if scaled:
            trial -= content.means
            trial /= content.stddevs
        # The sum of finite numbers is finite, unless they are beyond all reason.
        if not np.isfinite(trial.sum()):
            raise RecordingError(
                f"{content.file}: dataset[{place}]['eeg'] holds values that are not finite; get the "
                "file from its source again"
            )
        kept.append(int(place))
        filled += 1
        if filled == batch:
            job.writer.append(block)
            filled = 0
            job.progress(n + 1, len(places), "trials")
    if filled:
        job.writer.append(block[:filled])
    notes += repeats.notes()
    job.left_out["of another subject"] = int((~wanted).sum())
    job.left_out["too short or too long"] = lost
    job.left_out["repeated"] = repeats.n_dropped
    return np.array(kept)


# -- the tables ------------------------------------------------------------------------------------
def _image_order(file: Path, content: _Content) -> dict[str, tuple[int, int]]:
    """Image name -> place in the order of showing, and number of its block."""
    try:
        lines = [s for line in file.read_text("utf-8").splitlines() if (s := line.strip())]
    except (OSError, UnicodeDecodeError) as problem:
        raise RecordingError(
            f"{file} cannot be read as a list of image names ({type(problem).__name__}); it should "
            "have one name a line"
        ) from None
    result: dict[str, tuple[int, int]] = {}
    block, before = -1, None
    for place, line in enumerate(lines):
        name = line.replace("\\", "/").rsplit("/", 1)[-1]
        name = name.rsplit(".", 1)[0] if "." in name else name
        synset = name.split("_")[0]
        if synset != before:
            block, before = block + 1, synset
        if name in result:
            raise RecordingError(
                f"{file} names the image {name} twice (line {place + 1}), so its place is not known; "
                "keep one of both, or leave the file out"
            )
        result[name] = (place, block)
    known = sum(name in result for name in content.images)
    if not known:
        raise RecordingError(
            f"{file} names none of the {len(content.images)} images of {content.file.name} (its first "
            f"line: {lines[0][:60] if lines else 'none'}); give the order of these images"
        )
    return result


def _trials(content: _Content, kept: np.ndarray, order: dict[str, tuple[int, int]]) -> pd.DataFrame:
    import pandas as pd

    names = [content.images[i] for i in content.image[kept]]
    place = [order.get(name, (-1, -1)) for name in names]
    synsets = [content.labels[i] for i in content.label[kept]]
    return pd.DataFrame(
        {
            "subject": content.subject[kept].astype(str),
            "order": [p for p, _ in place],
            "block": [b for _, b in place],
            "image_id": names,
            "image": content.image[kept],
            "category": [category_of(s) for s in synsets],
            "source_index": kept,
        }
    )


def _steps(
    content: _Content, opts: EegcvprOptions, variant: str, n_kept: int
) -> list[dict[str, Any]]:
    """What the source did to the signal, and what was done here."""
    first, stop = opts.samples
    scaled = variant == "raw" and opts.standardize == "file"
    steps: list[dict[str, Any]] = []
    if band := VARIANTS[variant][1]:
        by = "by the authors of the recordings; filter not stated"
        steps.append({"name": "band-pass", "low": band[0], "high": band[1], "filter": by})
    if band or scaled:
        on = "trials not stated" if band else "means and stddevs of the file, trials not stated"
        steps.append({"name": "standardized by the source", "on": on})
    steps.append({"name": "epoch", "tmin": 0.0, "tmax": None, "n_events": len(content)})
    steps.append(
        {
            "name": "crop",
            "tmin": first / SFREQ,
            "tmax": (stop - 1) / SFREQ,
            "lengths_kept": list(opts.length),
            "kept": n_kept,
        }
    )
    return steps


# -- splits ----------------------------------------------------------------------------------------
def _splits(
    opts: EegcvprOptions, content: _Content, beside: Path, notes: list[str]
) -> list[NumberedSplit]:
    """Official splits as places in the whole list, checked before anything is written."""
    files = opts.splits
    chosen = files is not None
    if files is None:
        names = ("block_splits_by_image_all.pth", "block_splits_by_image_single.pth")
        files = tuple(beside / name for name in names if (beside / name).exists())
    result = []
    for file in files:
        single = "single" in file.name
        if not single and "all" not in file.name:
            raise RecordingError(
                f"the name of {file} should say whether it numbers the whole list ('all') or that "
                "of one subject ('single'); rename it as its source did"
            )
        subject = opts.single_subject
        if single and subject is None and opts.subjects is not None and len(opts.subjects) == 1:
            subject = opts.subjects[0]
        if single and subject is None:
            if chosen:
                raise InputError(
                    f"{file} numbers the trials of one subject and does not say whose; say it with "
                    "'single_subject'"
                )
            notes.append(
                f"{file.name} was not read: it numbers the trials of one subject, and the import was "
                "not told whose (the reader's option 'single_subject')"
            )
            continue
        listed = np.flatnonzero(content.subject == subject) if single else np.arange(len(content))
        result.append(
            NumberedSplit.of(
                file,
                "official-single" if single else "official",
                listed,
                f"the list of subject {subject}" if single else "the whole list",
                [content.images[i] for i in content.image],
            )
        )
    return result
