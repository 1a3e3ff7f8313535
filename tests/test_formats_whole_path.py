"""Every format goes through the whole path: import, captions, split, train, decode, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_datasets
import tiny_recordings
from eegprompt.core.registry import resolve
from eegprompt.encoders.preprocessing import default_steps
from eegprompt.recipe import complete_settings
from eegprompt.settings import load_config
from eegprompt.splits.base import make_split
from eegprompt.steps.caption import caption as write_captions
from eegprompt.steps.decode import decode
from eegprompt.steps.evaluate import evaluate
from eegprompt.steps.train import train
from eegprompt.study import Study
from test_mne_and_bids import write_epochs
from test_whole_path import weights_are_there

pytestmark = pytest.mark.skipif(
    not weights_are_there(), reason="the source tree holds no weights of the built-in models"
)


def things(folder: Path, layout: str) -> tuple[Path, dict[str, Any]]:
    images = tiny_datasets.things_images(folder / "p", train="train_images")
    return tiny_datasets.write_things(folder / "s", layout), {"stimuli": images, "val": 0.4}


def thoughtviz(folder: Path) -> tuple[Path, dict[str, Any]]:
    from eegprompt.readers.thoughtviz import CLASSES

    images = tiny_recordings.write_images(folder / "p", **dict.fromkeys(CLASSES["image"], 1))
    return tiny_datasets.write_thoughtviz(folder / "s"), {"stimuli": images}


def alljoined(folder: Path, raw: bool) -> tuple[Path, dict[str, Any]]:
    numbers = [*range(1, 41), *range(16541, 16545)]
    options: dict[str, Any] = {"stimuli": tiny_datasets.numbered_images(folder / "p", numbers)}
    if raw:
        return tiny_datasets.write_alljoined_raw(folder / "s") / "raw_eeg", {**options, "tmax": 0.3}
    return tiny_datasets.write_alljoined(folder / "s"), options


def alljoined1(folder: Path) -> tuple[Path, dict[str, Any]]:
    images = tiny_datasets.numbered_images(folder / "p", [])
    from PIL import Image

    for i in range(24):
        Image.new("L", (16, 16), 30 + 8 * i).save(images / f"nsd-{i:05d}.png")
    table = folder / "categories.csv"
    words = [tiny_datasets.WORDS[i % 4] for i in range(24)]
    table.write_text("image,category\n" + "".join(f"{i},{w}\n" for i, w in enumerate(words)))
    options = {"stimuli": images, "categories": table}
    return tiny_datasets.write_alljoined1(folder / "s"), options


def epochs(folder: Path) -> tuple[Path, dict[str, Any]]:
    images = tiny_recordings.write_images(folder / "p", faces=3, houses=3)
    for subject in (1, 2):
        write_epochs(folder / f"sub-{subject}-epo.fif", seed=subject)
    files = [folder / f"sub-{s}-epo.fif" for s in (1, 2)]
    return files, {  # type: ignore[return-value]
        "image_column": "image", "category_column": "what", "stimuli": images,
    }  # fmt: skip


def recordings(folder: Path) -> tuple[Path, dict[str, Any]]:
    images = tiny_recordings.write_images(folder / "p", faces=1, houses=1)
    for subject in (1, 2):
        for run in (1, 2):
            made = tiny_recordings.make(seed=10 * subject + run)
            tiny_recordings.write_csv(folder / "s" / f"subject{subject}" / f"run_{run}.csv", made)
    return folder / "s", {
        "marker": "Marker0", "events": tiny_recordings.CODES, "unit": "uV",
        "exclude": "Right AUX", "stimuli": images,
    }  # fmt: skip


def bids(folder: Path) -> tuple[Path, dict[str, Any]]:
    return tiny_datasets.write_bids(folder / "ds", ("01",)), {}


# What is imported -> its files, the split, and the preprocessing.
FORMATS: dict[str, tuple[str, Any, str, list[str]]] = {
    "things-eeg2 gifford": ("things-eeg2", lambda f: things(f, "gifford"), "official", []),
    "things-eeg2 nice": ("things-eeg2", lambda f: things(f, "nice"), "official", ["standardize"]),
    "things-eeg2 ubp": ("things-eeg2", lambda f: things(f, "ubp"), "by-image", []),
    "things-eeg2 samga": ("things-eeg2", lambda f: things(f, "samga"), "leave-classes-out", []),
    "thoughtviz": ("thoughtviz", thoughtviz, "official", ["standardize"]),
    "alljoined": ("alljoined", lambda f: alljoined(f, False), "official", []),
    "alljoined raw": ("alljoined", lambda f: alljoined(f, True), "official", ["whiten"]),
    "alljoined rows": ("alljoined", alljoined1, "official", ["whiten"]),
    "mne": ("mne", epochs, "by-image", ["mvnn"]),
    "bids": ("bids", bids, "by-image", ["mvnn"]),
    "continuous by run": ("continuous", recordings, "by-run", ["whiten"]),
    "continuous by subject": ("continuous", recordings, "by-subject", ["standardize"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_from_the_sources_own_files_to_scores(name: str, tmp_path: Path) -> None:
    kind, write, split, steps = FORMATS[name]
    source, options = write(tmp_path)
    reader, _ = resolve("reader", kind)
    study = reader().read(source, tmp_path / "study", **options)
    assert study.info["license"] is not None and study.info["provenance"]["reader"] == kind
    write_captions(study, "rules", "rules")
    if split != "official":
        make_split(study, split, **({"val": 0.3} if split == "by-image" else {}))
    config = load_config(
        {
            "study": str(study.path),
            "split": split,
            "captions": "rules",
            "kinds": ["ObjectSnap", "ColorTone"],
            "encoder": {"options": {"window": 0.02}},  # some of these trials last 64 ms
            "training": {"epochs": 1, "batch_size": 16, "preprocessing": steps},
            "evaluation": {"permutations": 19, "resamples": 100},
        }
    )
    run = train(study, tmp_path / "run", config)
    decode(run)
    evaluate(run)
    rows = json.loads(run.scores_path.read_text("utf-8"))["rows"]
    # Where only the class is known, it is the class that is scored.
    wanted = "class_accuracy" if study.image_identity == "category" else "caption_retrieval_top1"
    values = [r["value"] for r in rows if r["metric"].startswith(wanted)]
    assert values and np.isfinite(np.array(values, dtype=float)).all()
    kept = json.loads((run.encoder_dir / "fitted.json").read_text("utf-8"))
    assert kept["steps"] == steps
    assert len(run.decodings) and Study(study.path).n_trials == study.n_trials


def test_what_the_source_whitened_is_not_whitened_again(tmp_path: Path) -> None:
    source, options = things(tmp_path, "nice")
    reader, _ = resolve("reader", "things-eeg2")
    study = reader().read(source, tmp_path / "study", **options)
    write_captions(study, "rules", "rules")
    settings = {"study": str(study.path), "captions": "rules"}
    config = load_config({**settings, "training": {"preprocessing": ["whiten"]}})
    with pytest.raises(ValueError, match=r"was applied already.*preprocessing=\[\]"):
        train(study, tmp_path / "run", config)
    settled = complete_settings(study, {"study": str(study.path)})
    assert settled["captions"] == "rules"
    assert "whiten" not in default_steps(10**6, study.n_chans, study.info["steps"])
    own = {"study": str(study.path), "training": {"preprocessing": ["standardize"]}}
    assert complete_settings(study, own)["training"] == own["training"]  # what was said is kept
