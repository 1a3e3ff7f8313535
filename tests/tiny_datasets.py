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


def things_images(folder: Path, train: str = "training_images") -> Path:
    """Gray images in concept folders."""
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


# -- Alljoined -----------------------------------------------------------------------------------
HEADSET = ("Cz", "Fz", "Fp1", "F7", "F3", "FC1", "C3", "Afz", "Pz", "P4", "O1", "Oz")
WORDS = ("feather", "cloak", "jetski", "abacus")


def alljoined_order(n_blocks: int = 6, subject: int = 1) -> Any:
    """A table of trials: blocks of eight training images, of which one was dropped, and of tests."""
    import pandas as pd

    rows = []
    for session in (1, 2):
        for block in range(1, n_blocks + 1):
            side = "test" if block == 1 else "train"
            for i in range(8):
                number = 16541 + i % 4 if side == "test" else 8 * (block - 2) + i + 1
                rows.append(
                    {
                        "image_path": f"/srv/stimuli/images/{number:05d}.jpg",
                        "dataset": "repr_eeg2",
                        "subject": subject,
                        "session": session,
                        "block_id": block,
                        "sequence_id": 1,
                        "sequence_image_id": i + 1,
                        "partition": f"stim_{side}",
                        "category_name": WORDS[number % 4] + ("_test" if side == "test" else ""),
                        "category_num": number % 4,
                        "dropped": block == 2 and i == 3,
                    }
                )
    return pd.DataFrame(rows)


def alljoined_trials(table: Any, side: str) -> np.ndarray:
    kept = table[(table["partition"] == f"stim_{side}") & ~table["dropped"]]
    return patterned(kept["category_num"].to_numpy(), len(HEADSET), 30, seed=len(kept))


def write_alljoined(folder: Path, subject: int = 1) -> Path:
    """``preprocessed_eeg/sub-XX`` with its two parts and its table."""
    place = folder / "preprocessed_eeg" / f"sub-{subject:02d}"
    place.mkdir(parents=True)
    table = alljoined_order(subject=subject)
    table.to_parquet(place / "experiment_metadata.parquet")
    for side, word in (("train", "training"), ("test", "test")):
        content = {
            "preprocessed_eeg_data": alljoined_trials(table, side),
            "configs": {"tmin": -0.2, "tmax": 1.0, "sfreq": 100, "mvnn_dim": "epochs"},
            "ch_names": list(HEADSET),
            "times": np.arange(30) / 100,
        }
        path = place / f"preprocessed_eeg_{word}_flat.npy"
        path.write_bytes(pickle.dumps(content, protocol=5))
    return folder


def write_alljoined_raw(folder: Path) -> Path:
    """``raw_eeg/sub-01/session_XX/block_XX/*.edf`` with annotations, and a counter beside the EEG."""
    table = alljoined_order()
    (folder / "preprocessed_eeg").mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "preprocessed_eeg" / "experiment_metadata_categories.parquet")
    for (session, block), rows in table.groupby(["session", "block_id"]):
        place = folder / "raw_eeg" / "sub-01" / f"session_{session:02d}" / f"block_{block:02d}"
        place.mkdir(parents=True)
        rng = np.random.default_rng(10 * session + block)
        sfreq, spacing = 64, 20
        data = rng.normal(0, 5, (len(HEADSET), sfreq * 6))
        events = []
        for i, row in enumerate(rows.itertuples()):
            at = 40 + spacing * i
            data[:, at + 6 : at + 14] += 3 * row.category_num - 4
            number = int(Path(row.image_path).stem)
            events.append((at / sfreq, f"{row.partition},{number:05d},-1,{i + 1}"))
        counter = np.arange(data.shape[1]) % 128
        write_edf_plus(
            place / f"Subject 1, Session {session}, Block {block}.edf",
            np.vstack([data, counter]),
            [*HEADSET, "COUNTER"],
            sfreq,
            events,
        )
    return folder


def write_edf_plus(
    path: Path, data: np.ndarray, names: list[str], sfreq: int, events: list[tuple[float, str]]
) -> Path:
    """EDF+ with one-second records; an annotation lies in that it begins in, or in the last."""
    n_records, per_record = data.shape[1] // sfreq, sfreq
    lists = []
    for record in range(n_records):
        text = f"+{record}\x14\x14\x00".encode()
        for onset, words in events:
            if min(int(onset), n_records - 1) == record:
                text += f"+{onset:.6f}\x14{words}\x14\x00".encode()
        lists.append(text)
    width = max(map(len, lists)) // 2 + 1  # in samples of two bytes
    labels = [*names, "EDF Annotations"]
    counts = [per_record] * len(names) + [width]
    n = len(labels)

    def field(text: object, width: int) -> bytes:
        return str(text).encode("ascii").ljust(width)[:width]

    head = field("0", 8) + field("X X X X", 80) + field("Startdate 01-JAN-2020 X X X", 80)
    head += field("01.01.20", 8) + field("00.00.00", 8) + field(256 * (n + 1), 8)
    head += field("EDF+C", 44) + field(n_records, 8) + field(1, 8) + field(n, 4)
    head += b"".join(field(label, 16) for label in labels) + field("", 80) * n
    head += b"".join(field("uV" if label in names else "", 8) for label in labels)
    head += field("-3276.8", 8) * len(names) + field(-1, 8)
    head += field("3276.7", 8) * len(names) + field(1, 8)
    head += field(-32768, 8) * n + field(32767, 8) * n + field("", 80) * n
    head += b"".join(field(c, 8) for c in counts) + field("", 32) * n
    numbers = (data * 10).round().astype("<i2")
    body = b"".join(
        numbers[:, r * per_record : (r + 1) * per_record].tobytes()
        + lists[r].ljust(2 * width, b"\x00")
        for r in range(n_records)
    )
    path.write_bytes(head + body)
    return path


def write_alljoined1(folder: Path, n_chans: int = 64) -> Path:
    """``data/train-*.parquet`` and ``test-*.parquet`` of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for side, images in (("train", range(20)), ("test", range(20, 24))):
        rows = []
        for subject in (1, 2):
            for session in (1, 2):
                for trial, image in enumerate(images):
                    eeg = rng.normal(0, 5e-6, (n_chans, 32))
                    rows.append(
                        {
                            "EEG": eeg.tolist(),
                            "subject_id": subject,
                            "session": session,
                            "block": 1,
                            "trial": image + 1,
                            "73k_id": image,
                            "coco_id": 1000 + image,
                            "curr_time": 1.6 + 0.8 * trial + (100 if side == "test" else 0),
                        }
                    )
        table = pa.Table.from_pylist(rows)
        for name in ("subject_id", "session", "block", "trial", "73k_id", "coco_id"):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(pa.int32()))
        pq.write_table(table, folder / "data" / f"{side}-00000-of-00001.parquet")
    return folder


def numbered_images(folder: Path, numbers: Any, width: int = 5) -> Path:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        Image.new("L", (16, 16), n % 200 + 20).save(folder / f"{n:0{width}d}.jpg")
    return folder


# -- BIDS ----------------------------------------------------------------------------------------
def write_bids(root: Path, subjects: tuple[str, ...] = ("01", "02"), n_runs: int = 2) -> Path:
    """A BIDS dataset of BrainVision recordings, written without mne-bids."""
    import tiny_recordings as recordings

    root.mkdir(parents=True)
    about = {"Name": "Tiny faces", "BIDSVersion": "1.8.0", "License": "CC0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(about))
    (root / "participants.tsv").write_text(
        "participant_id\n" + "".join(f"sub-{s}\n" for s in subjects)
    )
    for s, subject in enumerate(subjects):
        for run in range(1, n_runs + 1):
            made = recordings.make(seed=10 * s + run, n_events=32)
            stem = f"sub-{subject}_task-view_run-{run}"
            folder = root / f"sub-{subject}" / "eeg"
            recordings.write_brainvision(folder / f"{stem}_eeg.vhdr", made)
            sidecar = {
                "TaskName": "view", "SamplingFrequency": made.sfreq, "EEGReference": "Fpz",
                "PowerLineFrequency": 50, "SoftwareFilters": "n/a", "EEGChannelCount": 4,
            }  # fmt: skip
            (folder / f"{stem}_eeg.json").write_text(json.dumps(sidecar))
            channels = "name\ttype\tunits\tstatus\n" + "".join(
                f"{c}\tEEG\tµV\tgood\n" for c in made.ch_names
            )
            (folder / f"{stem}_channels.tsv").write_text(channels, encoding="utf-8")
            lines = ["onset\tduration\ttrial_type\tstim_file"]
            for i, (sample, code) in enumerate(zip(made.samples, made.codes)):
                name = recordings.CODES[str(code)]
                image = f"{name}s/{name}s_{i % 4}.png"
                lines.append(f"{sample / made.sfreq:.6f}\t0\t{name}\t{image}")
            (folder / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")
    recordings.write_images(root / "stimuli", faces=4, houses=4)
    return root
