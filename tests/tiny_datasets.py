"""Small files in the layouts of public datasets, written by those layouts' own rules.

Each trial holds noise and, from a third of its length on, a pattern of its category, so that what
was written can be told from what came back.
"""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

CONCEPTS = {
    "train": ("00001_aardvark", "00002_abacus", "00003_accordion", "00004_acorn", "00005_airbag"),
    "test": ("00001_aircraft_carrier", "00002_antelope", "00003_backscratcher"),
}
PER_CONCEPT = {"train": 2, "test": 1}
REPETITIONS = {"train": 2, "test": 4}
GIFFORD_CHANNELS = (
    "Pz", "P3", "P7", "O1", "Oz", "O2", "P4", "P8", "P1", "P5", "PO7", "PO3", "POz", "PO4", "PO8",
    "P6", "P2",
)  # fmt: skip


def patterned(categories: np.ndarray, n_chans: int, n_times: int, seed: int = 0) -> np.ndarray:
    """Trials (n, n_chans, n_times), float64 of unit noise."""
    rng = np.random.default_rng(seed)
    maps = np.random.default_rng(99).normal(size=(categories.max() + 1, n_chans))
    eeg = rng.normal(size=(len(categories), n_chans, n_times))
    eeg[..., n_times // 3 :] += maps[categories][..., None]
    return eeg


def things_pictures(folder: Path, train: str = "training_images") -> Path:
    """Gray pictures in concept folders."""
    from PIL import Image

    for part, concepts in CONCEPTS.items():
        for c, concept in enumerate(concepts):
            place = folder / (train if part == "train" else "test_images") / concept
            place.mkdir(parents=True, exist_ok=True)
            for i in range(PER_CONCEPT[part]):
                word = concept.split("_", 1)[1]
                shade = 20 + 25 * c + 7 * i + (3 if part == "test" else 0)
                Image.new("L", (24, 24), shade).save(place / f"{word}_{i + 1:02d}s.jpg")
    return folder


def things_trials(part: str, n_times: int = 30, n_chans: int = 17, seed: int = 0) -> np.ndarray:
    """Trials (image, repetition, channel, sample)."""
    concept = np.repeat(np.arange(len(CONCEPTS[part])), PER_CONCEPT[part])
    concept = concept + (len(CONCEPTS["train"]) if part == "test" else 0)
    rows = np.repeat(concept, REPETITIONS[part])
    eeg = patterned(rows, n_chans, n_times, seed=seed + (part == "test"))
    return eeg.reshape(len(concept), REPETITIONS[part], n_chans, n_times)


def things_times(n_times: int = 30) -> np.ndarray:
    """As the sources store it: with the baseline that the trials lack; 100 Hz."""
    return np.arange(-20, n_times) / 100


def write_things(folder: Path, layout: str, subject: int = 1) -> Path:
    """A subject's two parts in one of the layouts: gifford, nice, ubp, samga or neurobridge."""
    place = folder / f"sub-{subject:02d}"
    place.mkdir(parents=True)
    for part in CONCEPTS:
        eeg = things_trials(part, seed=10 * subject)
        shared = {"ch_names": list(GIFFORD_CHANNELS), "times": things_times()}
        word = "training" if part == "train" else "test"
        path = place / f"preprocessed_eeg_{word}.npy"
        content: dict[str, Any] = {"preprocessed_eeg_data": eeg, **shared}
        if layout == "gifford":
            np.save(path, np.array(content, dtype=object), allow_pickle=True)
        elif layout == "nice":
            path.write_bytes(pickle.dumps(content, protocol=4))
        elif layout == "ubp":
            write_ubp(place / f"{part}.pt", part, eeg, shared)
        else:
            blocks = eeg.reshape(-1, PER_CONCEPT[part], *eeg.shape[1:]).astype(np.float32)
            if layout == "samga":
                np.save(place / f"{part}.npy", blocks)
                info = {"ch_names": shared["ch_names"], "times": shared["times"].tolist()}
                (folder / "info.json").write_text(json.dumps(info))
            else:
                content = {"data": blocks, **shared}
                (place / f"{part}.npy").write_bytes(pickle.dumps(content, protocol=4))
    return folder


def write_ubp(path: Path, part: str, eeg: np.ndarray, shared: dict[str, Any]) -> None:
    import torch

    n, reps = eeg.shape[:2]
    names = [
        f"{part}_images/{c}/{c.split('_', 1)[1]}_{i + 1:02d}s.jpg"
        for c in CONCEPTS[part]
        for i in range(PER_CONCEPT[part])
    ]
    label = np.repeat(np.arange(len(CONCEPTS[part])), PER_CONCEPT[part])
    each = [np.tile(np.array(v)[:, None], (1, reps)) for v in (label, names)]
    content = {
        "eeg": eeg.astype(np.float16),
        "label": each[0],
        "img": each[1],
        "text": np.char.array(each[1]).astype(str),
        "session": np.tile(np.arange(reps) * 2 // reps, (n, 1)).astype(float),
        **shared,
    }
    content["text"] = np.asarray(content["text"])
    torch.save(content, path, pickle_protocol=5)


# -- ThoughtViz ----------------------------------------------------------------------------------
def python2_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """A dictionary of arrays as cPickle of Python 2 wrote it, protocol 2."""

    def number(n: int) -> bytes:
        return b"K" + bytes([n]) if n < 256 else b"J" + struct.pack("<i", n)

    result = b"\x80\x02}("
    for key, values in arrays.items():
        raw, dtype = values.tobytes(), values.dtype.str[1:].encode()
        result += b"U" + bytes([len(key)]) + key.encode()
        result += b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01("
        result += b"".join(map(number, values.shape)) + b"tcnumpy\ndtype\n(U"
        result += bytes([len(dtype)]) + dtype + b"K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        result += b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    return result + b"u."


def write_thoughtviz(folder: Path, kind: str = "image", n: int = 6) -> Path:
    """``KIND/data.pkl`` with `n` training and two test trials of each of ten classes."""
    path = folder / kind / "data.pkl"
    path.parent.mkdir(parents=True)
    arrays = {}
    for seed, (part, each) in enumerate((("train", n), ("test", 2))):
        classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), each))
        arrays[f"x_{part}"] = patterned(classes, 14, 32, seed=seed)[..., None]
        arrays[f"y_{part}"] = np.eye(10)[classes]
    path.write_bytes(python2_pickle(arrays))
    return path
