"""The pace and the memory of importing and reading full-size recordings, on synthetic files.

    python benchmarks/reading.py --folder /some/disk        # all of it; 16 GB of disk, deleted after
    python benchmarks/reading.py --folder /some/disk --kinds eegcvpr-legacy --trials 2000

Each kind is a file of the source's own layout and full size, of noise. Printed for each: the size,
the import's largest anonymous memory (RssAnon of a process of its own, polled every 10 ms), and its
pace as a share of that of a plain copy of the same file (``shutil.copyfile``) just before and after
it. Then, on the imported study: batched random access through the training loader against bare
``numpy.memmap`` with the same indices and a warm cache; and one pass of training in a process whose
data may not become as large as the study (RLIMIT_DATA).

The page cache is warm throughout, so that a slow disk does not hide a slow reader. Other load on the
machine makes wall-clock figures worse: the load is printed, and processor time beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

IMPORT = """
import sys, time, json
import mne, pandas, torch  # to load libraries takes a second or two and is not counted
from eegprompt.core.registry import resolve
from eegprompt.signal.montage import positions_of
positions_of(["Cz"])
kind, source, out, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
reader = resolve("reader", kind)[0]()
print("ready", flush=True)
wall, processor = time.perf_counter(), time.process_time()
reader.read(source, out, **options)
print(time.perf_counter() - wall, time.process_time() - processor, flush=True)
"""

TRAIN = """
import resource, sys
from eegprompt.settings import load_config
from eegprompt.study import Study
from eegprompt.steps.train import train
import lightning.pytorch  # its libraries are mapped before the limit is set
study = Study(sys.argv[1])  # Arrow sets a gigabyte of addresses aside with the first table
with open("/proc/self/status") as status:
    mapped = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
limit = mapped * 1024 + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
config = load_config({
    "study": sys.argv[1], "split": "by-image", "captions": "classes", "kinds": ["ObjectSnap"],
    "encoder": {"options": {"width": 8, "depth": 1}},
    "training": {"epochs": 1, "preprocessing": []},
})
print("ready", flush=True)
train(study, sys.argv[2], config)
print("trained", flush=True)
"""


# -- synthetic files -------------------------------------------------------------------------------
def synthetic_eegcvpr(folder: Path, trials: int, *, legacy: bool) -> Path:
    """A signal file of EEGCVPR's size: 128 channels, mostly 499 samples, six subjects."""
    import torch

    from eegprompt.readers._eegcvpr import class_names

    rng = np.random.default_rng(0)
    synsets = list(class_names())
    images = [f"{s}_{i}" for s in synsets for i in range(50)][:1996]
    lengths = np.where(rng.random(trials) < 0.6, 499, rng.integers(491, 533, trials))
    # The values lie in a mapped file: 3 GB of tensors would fill the memory of a small machine.
    backing = np.memmap(folder / "values", np.float32, "w+", shape=(int(lengths.sum()) * 128,))
    noise = rng.standard_normal(128 * 600, dtype=np.float32)
    dataset, start = [], 0
    for i, n_times in enumerate(lengths.tolist()):
        values = backing[start : start + 128 * n_times]
        np.multiply(noise[: 128 * n_times], np.float32(1 + i / trials), out=values)
        start += 128 * n_times
        image = i % len(images)
        dataset.append(
            {
                "eeg": torch.from_numpy(values.reshape(128, n_times)),
                "image": image,
                "label": synsets.index(images[image].split("_")[0]),
                "subject": 1 + i // len(images) % 6,
            }
        )
    path = folder / "eeg_5_95_std.pth"
    content = {"dataset": dataset, "labels": synsets, "images": images}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    (folder / "values").unlink()
    return path


def synthetic_things(folder: Path, images: int) -> Path:
    """One subject of THINGS-EEG2 as NICE has it: bare pickles, 63 channels at 250 Hz, float32."""
    import pickle

    from eegprompt.signal.montage import EEGCVPR_CHANNELS

    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, 63, 250), dtype=np.float32)
    root = folder / "things"
    subject = root / "sub-01"
    subject.mkdir(parents=True)
    for part, n_images, repetitions in (("training", images, 4), ("test", 200, 80)):
        shape = (n_images, repetitions, 63, 250)
        backing = np.memmap(folder / "values", np.float32, "w+", shape=shape)
        for start in range(0, n_images, 16):
            block = backing[start : start + 16].reshape(-1, 63, 250)
            for i in range(0, len(block), 64):
                np.multiply(
                    noise[: len(block[i : i + 64])], 1 + start / n_images + i, out=block[i : i + 64]
                )
        content = {
            "preprocessed_eeg_data": np.asarray(backing).view(np.ndarray),
            "ch_names": list(EEGCVPR_CHANNELS[:63]),
            "times": np.round(np.arange(-50, 250) / 250, 3),
        }
        with open(subject / f"preprocessed_eeg_{part}.npy", "wb") as stream:
            pickle.dump(content, stream, protocol=5)  # writes a large array from where it lies
        (folder / "values").unlink()
    return root


@dataclass
class Kind:
    """A row of the table: how its files are made, and which reader takes them."""

    reader: str
    make: Callable[[Path, int], Path]
    trials: int
    options: dict[str, Any] = field(default_factory=dict)


KINDS: dict[str, Kind] = {
    "eegcvpr-present": Kind(
        "eegcvpr", lambda folder, n: synthetic_eegcvpr(folder, n, legacy=False), 11965
    ),
    "eegcvpr-legacy": Kind(
        "eegcvpr", lambda folder, n: synthetic_eegcvpr(folder, n, legacy=True), 11965
    ),
    "things-eeg2": Kind("things-eeg2", synthetic_things, 16540, {"allow_missing_images": True}),
}


# -- measuring -------------------------------------------------------------------------------------
def watched(command: list[str]) -> tuple[list[str], float]:
    """Run a process; give its lines and its largest anonymous memory in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    largest = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            if line.startswith("RssAnon"):
                largest = max(largest, int(line.split()[1]) * 1024)
        time.sleep(0.01)
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")
    if process.wait():
        raise SystemExit(f"{command[2:4]} failed")
    return lines, largest


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def copy_rate(path: Path, folder: Path) -> float:
    """Bytes a second of a plain copy; the copy is deleted."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    begin = time.perf_counter()
    for file in files:
        shutil.copyfile(file, folder / "copy")
    seconds = time.perf_counter() - begin
    (folder / "copy").unlink()
    return size_of(path) / seconds


def measure_import(name: str, kind: Kind, folder: Path, trials: int, repeats: int) -> Path:
    """Import a kind's file and print its figures; gives the study."""
    import json

    source_folder = folder / "source"
    source_folder.mkdir()
    source = kind.make(source_folder, trials)
    size = size_of(source)
    copies, paces, processor, largest = [copy_rate(source, folder)], [], [], 0.0
    out = folder / "study"
    for _ in range(repeats):
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-c", IMPORT, kind.reader, str(source), str(out)]
        lines, memory = watched([*command, json.dumps(kind.options)])
        wall, cpu = map(float, lines[1].split())
        paces.append(size / wall)
        processor.append(cpu)
        largest = max(largest, memory)
        copies.append(copy_rate(source, folder))
    # Each import beside the copies just before and after it: the pace of a disk changes by the minute.
    shares = [2 * pace / (a + b) for pace, a, b in zip(paces, copies, copies[1:])]
    print(
        f"{name:<20} {size / 1e9:5.2f} GB  RssAnon at most {largest / 1e9:4.2f} GB  "
        f"import {statistics.median(paces) / 1e6:5.0f} MB/s (processor "
        f"{statistics.median(processor):.1f} s)  copy {statistics.median(copies) / 1e6:5.0f} MB/s  "
        f"= {statistics.median(shares):.0%} of the copy ({min(shares):.0%} to {max(shares):.0%} in "
        f"{repeats})   load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    shutil.rmtree(source_folder)
    return out


def measure_loader(path: Path, batch: int = 128, n_batches: int = 40, rounds: int = 7) -> None:
    """Random batches through the training loader against bare memmap, interleaved."""
    from torch.utils.data import DataLoader

    from eegprompt.encoders.preprocessing import FittedSteps
    from eegprompt.study import Study
    from eegprompt.training.batches import TrainingData, TrialsDataset, TrialSet

    study = Study(path)
    rng = np.random.default_rng(0)
    rows = np.arange(study.n_trials)
    batches = [rng.permutation(study.n_trials)[:batch] for _ in range(n_batches)]
    side = TrialSet(rows, np.zeros_like(rows), np.zeros_like(rows))
    bare = np.memmap(path / "eeg.npy", np.float32, "r", offset=192, shape=study.eeg.shape)
    assert np.array_equal(bare[-1], study.eeg[-1])

    def through(steps: FittedSteps) -> float:
        material = TrainingData(study.eeg, False, steps, study.positions, {"train": side}, {}, [], [],
                             {}, {})  # fmt: skip
        loader: Any = DataLoader(TrialsDataset(material, "train"), sampler=batches, batch_size=None)  # type: ignore[arg-type]
        begin = time.process_time()
        for item in loader:
            assert len(item["eeg"]) == batch
        return time.process_time() - begin

    def plain() -> float:
        begin = time.process_time()
        for batch_rows in batches:
            item = bare[batch_rows]  # held until the next is there, as training holds a batch
            assert len(item) == batch
        return time.process_time() - begin

    none = FittedSteps([], np.eye(study.n_chans), np.zeros(study.n_chans))
    whiten = FittedSteps(["whiten"], np.eye(study.n_chans), np.zeros(study.n_chans))
    plain(), through(none)
    times = [(plain(), through(none)) for _ in range(rounds)]
    with_steps = through(whiten)
    bare_s, loader_s = (statistics.median(t) for t in zip(*times))
    size = n_batches * batch * study.eeg[0].nbytes
    print(
        f"loader, {n_batches} batches of {batch} trials at random: {size / loader_s / 1e6:.0f} MB/s, "
        f"bare memmap {size / bare_s / 1e6:.0f} MB/s = {bare_s / loader_s:.0%} (processor time, "
        f"median of {rounds}); with whitening {size / with_steps / 1e6:.0f} MB/s",
        flush=True,
    )


def measure_training(path: Path, limit: int) -> None:
    """One pass over a study in a process that may not hold as much as the study is large."""
    import pandas as pd

    from eegprompt.splits.base import make_split
    from eegprompt.study import Study

    study = Study(path)
    make_split(study, "by-image")
    study.write_captions(
        "classes",
        pd.DataFrame(
            {
                "image_id": study.images["image_id"],
                "kind": "ObjectSnap",
                "text": "a " + study.images["category"],
            }
        ),
    )
    begin = time.perf_counter()
    lines, largest = watched(
        [sys.executable, "-c", TRAIN, str(path), str(path.parent / "run"), str(limit)]
    )
    assert "trained" in lines
    print(
        f"training, one pass over {study.eeg.nbytes / 1e9:.2f} GB that may map {limit / 1e9:.1f} GB "
        f"of data beyond its libraries: RssAnon at most {largest / 1e9:.2f} GB, "
        f"{time.perf_counter() - begin:.0f} s",
        flush=True,
    )


def main() -> None:
    """Print one line a kind, and the loader's and training's lines for the last study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to write; default a temporary folder")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which, separated by commas")
    parser.add_argument("--trials", type=int, help="fewer trials than full size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.2, help="data in training, GB")
    parser.add_argument("--skip-training", action="store_true")
    options = parser.parse_args()
    for name in options.kinds.split(","):
        kind = KINDS[name]
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            study = measure_import(
                name, kind, Path(folder), options.trials or kind.trials, options.repeats
            )
            measure_loader(study)
            if not options.skip_training and name == options.kinds.split(",")[0]:
                measure_training(study, int(options.limit * 1e9))


if __name__ == "__main__":
    main()
