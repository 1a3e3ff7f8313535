"""Small EEGCVPR releases in the sources' own layouts, with a planted response for each class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eegprompt.readers._eegcvpr import class_names

SYNSETS = tuple(class_names())[:4]


@dataclass
class Tiny:
    """A release: `dataset` as in the file, with NumPy arrays in place of tensors."""

    dataset: list[dict[str, Any]]
    labels: list[str]
    images: list[str]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> list[str]:
        """Name of the image of each trial."""
        return [self.images[item["image"]] for item in self.dataset]


def make(
    *, subjects: int = 2, per_class: int = 6, seed: int = 0, lengths: tuple[int, int] = (470, 520)
) -> Tiny:
    """Noise with a deflection on a class's own channels, shuffled as the release is."""
    rng = np.random.default_rng(seed)
    images = [f"{s}_{100 + 7 * i}" for s in SYNSETS for i in range(per_class)]
    rng.shuffle(images)
    dataset = []
    for subject in range(1, subjects + 1):
        for place, name in enumerate(images):
            label = SYNSETS.index(name.split("_")[0])
            n_times = int(rng.integers(*lengths, endpoint=True))
            eeg = rng.standard_normal((128, n_times)).astype(np.float32)
            eeg[8 * label : 8 * label + 8, 60:160] += 2
            dataset.append({"eeg": eeg, "image": place, "label": label, "subject": subject})
    order = rng.permutation(len(dataset))
    return Tiny([dataset[i] for i in order], list(SYNSETS), images)


def tensors(value: Any) -> Any:
    """The same with torch tensors in place of arrays."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {k: tensors(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(tensors(v) for v in value)
    return value


def save(path: Path, value: Any, *, legacy: bool = False) -> Path:
    """As ``torch.save`` writes it, today or before PyTorch 1.6."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(value), path, _use_new_zipfile_serialization=not legacy)
    return path


def write(
    folder: Path, tiny: Tiny, *, file: str = "eeg_5_95_std.pth", legacy: bool = False
) -> Path:
    """The signal file."""
    content = {"dataset": tiny.dataset, "labels": tiny.labels, "images": tiny.images, **tiny.extra}
    return save(folder / file, content, legacy=legacy)


def sides_by_image(shown: list[str], n_folds: int = 1) -> list[dict[str, list[int]]]:
    """Folds of places in a list of trials that keep an image on one side."""
    names = sorted(set(shown))
    folds = []
    for fold in range(n_folds):
        side_of = {
            n: ("test", "val", "train", "train")[(i + fold) % 4] for i, n in enumerate(names)
        }
        folds.append(
            {
                side: [i for i, name in enumerate(shown) if side_of[name] == side]
                for side in ("train", "val", "test")
            }
        )
    return folds


def write_splits(folder: Path, tiny: Tiny, *, single: int | None = None, n_folds: int = 1) -> Path:
    """A split of the whole list, or of the list of one subject."""
    shown = [
        name
        for name, item in zip(tiny.shown, tiny.dataset)
        if single is None or item["subject"] == single
    ]
    kind = "all" if single is None else "single"
    content = {"splits": sides_by_image(shown, n_folds)}
    return save(folder / f"block_splits_by_image_{kind}.pth", content, legacy=True)


def write_order(folder: Path, tiny: Tiny) -> Path:
    """All images class by class, as they were shown, with some that have no trial."""
    names = sorted(tiny.images, key=lambda n: (SYNSETS[::-1].index(n.split("_")[0]), n))
    path = folder / "image_order.txt"
    path.write_text("".join(f"{n}.JPEG\n" for n in [*names, f"{SYNSETS[0]}_9999"]))
    return path


SHAPES = {
    "nested": "{synset}/{name}.JPEG",
    "flat": "{name}.JPEG",
    "jpg": "{synset}/{name}.jpg",
    "png": "deep/train/{synset}/{name}.png",
}


def write_images(folder: Path, names: list[str], shape: str = "nested") -> Path:
    """An image of its own for each image, in a tree of one of the shapes."""
    rng = np.random.default_rng(1)
    for name in sorted(set(names)):
        path = folder / SHAPES[shape].format(synset=name.split("_")[0], name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        Image.fromarray(pixels).resize((32, 32)).save(path, format=kind)
    return folder


# -- EEGCVPR40: one file a trial -------------------------------------------------------------------
def five(tiny: Tiny, place: int, *, turned: bool = False) -> list[Any]:
    """The five objects of a trial: image (blue, green, red), EEG, label, image, subject."""
    item = tiny.dataset[place]
    eeg = np.ascontiguousarray(item["eeg"][:, 20:460])
    name = tiny.images[item["image"]]
    pixels = np.random.default_rng(item["image"]).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    return [pixels, eeg.T.copy() if turned else eeg, item["label"], name, item["subject"]]


def save_objects(path: Path, objects: list[Any]) -> Path:
    """An array of objects, as ``np.save`` writes it."""
    array = np.empty(len(objects), object)
    array[:] = objects
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=True)
    return path


def write_40(folder: Path, tiny: Tiny, *, turned: bool = False) -> Path:
    """One file a trial in train, val and test."""
    (fold,) = sides_by_image(tiny.shown)
    for side, places in fold.items():
        for place in places:
            save_objects(folder / side / f"{place}.npy", five(tiny, place, turned=turned))
    return folder


# -- Parquet, as on the Hugging Face hub -----------------------------------------------------------
def hub_rows(tiny: Tiny, places: list[int], n_times: int = 512) -> list[dict[str, Any]]:
    """Rows as a dataset on the hub has them, the EEG stretched to `n_times` samples."""
    import io

    rows = []
    for place in places:
        item = tiny.dataset[place]
        eeg = item["eeg"][:, 20:460]
        if n_times != 440:
            at = np.linspace(0, 439, n_times)
            eeg = np.stack([np.interp(at, np.arange(440), channel) for channel in eeg])
        pixels = np.random.default_rng(item["image"]).integers(0, 255, (6, 5, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, format="PNG")
        synset = tiny.labels[item["label"]]
        rows.append(
            {
                "image": {"bytes": data.getvalue(), "path": None},
                "conditioning_image": eeg.astype("f4").tolist(),
                "caption": f"image of a {class_names()[synset]}",
                "label_folder": synset,
                "subject": item["subject"],
            }
        )
    return rows


def write_parquet(path: Path, rows: list[dict[str, Any]], n_times: int = 512) -> Path:
    """A Parquet file with the hub's own description of its columns."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {
        "image": {"_type": "Image"},
        "conditioning_image": {"shape": [128, n_times], "dtype": "float32", "_type": "Array2D"},
        **{k: {"dtype": "string", "_type": "Value"} for k in ("caption", "label_folder")},
        "subject": {"dtype": "int32", "_type": "Value"},
    }
    schema = pa.schema(
        [
            ("image", image),
            ("conditioning_image", pa.list_(pa.list_(pa.float32()))),
            ("caption", pa.string()),
            ("label_folder", pa.string()),
            ("subject", pa.int32()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=10)
    return path


def write_hub(folder: Path, tiny: Tiny, n_times: int = 512) -> Path:
    """Train in two files, validation and test in one."""
    (fold,) = sides_by_image(tiny.shown)
    half = len(fold["train"]) // 2
    parts = {
        "train-00000-of-00002": fold["train"][:half],
        "train-00001-of-00002": fold["train"][half:],
        "validation-00000-of-00001": fold["val"],
        "test-00000-of-00001": fold["test"],
    }
    for name, places in parts.items():
        write_parquet(folder / f"{name}.parquet", hub_rows(tiny, places, n_times), n_times)
    return folder
