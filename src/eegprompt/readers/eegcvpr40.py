"""EEGCVPR40: the EEGCVPR recordings as one file a trial, with its image (Singh et al. 2024).

Source: https://github.com/prajwalsingh/EEGStyleGAN-ADA. Expected is a folder
``eeg_imagenet40_cvpr_2017_raw`` with ``train``, ``val`` and ``test``, in each one ``.npy`` a trial: an
array of five objects, ``[image (height, width, 3; blue, green, red), EEG (128, 440), label,
image name "n02951358_31190", subject]``. The five objects make each file a pickle; it is read
without running it.

What could not be verified: how many trials each side holds; whether the signal begins 20 ms after
onset, as that of the field does; its filter, reference, unit and scale (its values are not those of
EEGCVPR's own files, its source calls it raw); which number each class has. Each class was one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eegprompt.core.errors import RecordingError
from eegprompt.core.files import content_key
from eegprompt.core.safe_pickle import checked_array, load_pickled
from eegprompt.readers._eegcvpr import SFREQ, SidedOptions, TrialsWithImages, whole_number
from eegprompt.readers._images import add_pixels
from eegprompt.readers.base import Content, DatasetFacts, Import, Reader, one_source
from eegprompt.splits.official import SIDES

__all__ = ["Eegcvpr40Reader"]

N_CHANS, N_TIMES = 128, 440
_Plan = tuple[Path, list[tuple[str, Path]]]


class Eegcvpr40Reader(Reader[SidedOptions, _Plan]):
    """Imports EEGCVPR40, one file a trial with its image: the folder of ``train``, ``val``, ``test``.

    Examples
    --------
    ``Eegcvpr40Reader().read("eeg_imagenet40_cvpr_2017_raw", "study")``
    """

    name = "eegcvpr40"
    options = SidedOptions
    facts = DatasetFacts.of("eegcvpr40")

    def prepare(self, paths: list[Path], options: SidedOptions) -> _Plan:
        """The folder, and side and file of each trial."""
        folder = one_source(paths)
        return folder, _files(folder)

    def write(self, job: Import[SidedOptions, _Plan]) -> Content:
        """All files, in the order of their numbers."""
        folder, files = job.plan
        trials = TrialsWithImages(
            job, lambda file: _read(file).eeg, lambda file: str(file.relative_to(folder))
        )
        synset_of: dict[int, tuple[str, Path]] = {}
        job.sources[str(folder)] = f"{len(files)} files"
        for n, (side, file) in enumerate(files):
            trial = _read(file)
            if n % 4 == 0:
                job.progress(n, len(files), "trials")
            if not trials.wants(trial.subject):
                continue
            synset = trial.image.split("_")[0]
            known, first = synset_of.setdefault(trial.label, (synset, file))
            if known != synset:
                raise RecordingError(
                    f"{file} labels the class {synset} with {trial.label}, which is {known} in "
                    f"{first}; one of both is damaged: get it from its source again"
                )
            pixels = trial.pixels[:, :, ::-1]  # blue, green, red
            trials.add(
                str(file),
                file,
                trial.eeg,
                trial.image,
                synset,
                content_key(trial.pixels),
                lambda name=trial.image, p=pixels: add_pixels(p, job.writer.folder, name),  # type: ignore[misc]
                side,
                subject=str(trial.subject),
                label=trial.label,
                source_file=str(file.relative_to(folder)),
            )
        job.notes.append("the files do not say when a trial was recorded")
        steps = [{"name": "epoch", "tmin": job.options.tmin, "by": "the source"}]
        return trials.content(sfreq=SFREQ, steps=steps)


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Side and file of each trial, in the order of their numbers."""
    if not folder.is_dir():
        raise RecordingError(f"{folder} is a file; name the folder that holds train, val and test")
    there = [side for side in SIDES if (folder / side).is_dir()]
    files = [(side, file) for side in there for file in _sorted(folder / side)]
    if not files:
        one_side = folder.resolve().name in SIDES
        remedy = "the folder above it" if one_side else "the folder eeg_imagenet40_cvpr_2017_raw"
        raise RecordingError(
            f"{folder} should hold the folders {', '.join(SIDES)} with a .npy file for each trial, "
            f"and holds {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}; name "
            f"{remedy}"
        )
    return files


def _sorted(folder: Path) -> Iterator[Path]:
    def key(path: Path) -> tuple[int, str]:
        digits = "".join(c for c in path.stem if c.isdigit())
        return (int(digits) if digits else -1, path.name)

    yield from sorted((p for p in folder.iterdir() if p.suffix == ".npy"), key=key)


@dataclass
class _Trial:
    pixels: np.ndarray
    eeg: np.ndarray
    label: int
    image: str
    subject: int


def _read(file: Path) -> _Trial:
    """One file, checked."""
    content = load_pickled(file)
    if not isinstance(content, (np.ndarray, list, tuple)) or len(content) != 5:
        raise RecordingError(
            f"{file} should hold five objects (image, EEG, label, image, subject), and holds "
            f"{type(content).__name__}{f' of {len(content)}' if hasattr(content, '__len__') else ''}; "
            "is it of EEGCVPR40?"
        )
    pixels, eeg, label, image, subject = content
    eeg = checked_array(eeg, file, "[1], the EEG,", ndim=2)
    # 440 samples and 128 channels cannot be taken for one another, so either order is clear.
    if eeg.shape == (N_TIMES, N_CHANS):
        eeg = eeg.T
    if eeg.shape != (N_CHANS, N_TIMES):
        raise RecordingError(
            f"{file}: [1], the EEG, should have {N_CHANS} channels and {N_TIMES} samples, got shape "
            f"{eeg.shape}"
        )
    pixels = checked_array(pixels, file, "[0], the image,", ndim=3)
    if pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise RecordingError(
            f"{file}: [0], the image, should be of bytes with three colors, got {pixels.dtype} of "
            f"shape {pixels.shape}"
        )
    if not isinstance(image, str) or not image:
        raise RecordingError(f"{file}: [3] should be the name of the image, got {image!r:.60}")
    return _Trial(
        pixels,
        eeg,
        whole_number(label, 0, None, "[2], the label,", file),
        image.rsplit("/", 1)[-1].rsplit(".", 1)[0],
        whole_number(subject, 0, None, "[4], the subject,", file),
    )
