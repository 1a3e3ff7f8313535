"""The built-in study: drawn scenes, ten captions each, and EEG simulated from what they mean.

It lies on disk in the same format as a recording. What makes it worth having is that everything
in it is known: the attributes of each scene, the sources and latencies of each kind of meaning,
and the noise-free sensors (``eegprompt.builtin.eeg.load_truth``).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegprompt.builtin.drawing import draw
from eegprompt.builtin.eeg import (
    DEFAULT_SIGNAL,
    Simulation,
    SimulationParameters,
    simulate_eeg,
)
from eegprompt.builtin.scene_captions import captions
from eegprompt.builtin.world import (
    KIND_ATTRIBUTES,
    Scene,
    kind_vector,
    meaning,
    split_scenes,
)
from eegprompt.core.errors import InputError
from eegprompt.core.files import content_key, provenance, sha256_file
from eegprompt.signal.montage import STANDARD_MONTAGE, positions_of
from eegprompt.study import Study, StudyWriter
from eegprompt.study.split import Fold, Split

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CAPTION_VERSION", "VAL_FRACTION", "simulate"]

CAPTION_VERSION = "1"
"""Version of the built-in captions; changes when their texts do."""

VAL_FRACTION = 0.15
"""Share of the training images, in each class, whose trials select and do not train."""

_IMAGE_SIZE = 64
_CITATION = (
    "eegprompt: built-in simulated study (drawn scenes, EEG from an MNE spherical head model)"
)


def simulate(
    out: str | Path,
    *,
    subjects: int = 2,
    images: int = 480,
    test_images: int = 96,
    repetitions: int = 2,
    sfreq: float = 128.0,
    seed: int = 0,
    signal: float = DEFAULT_SIGNAL,
    design: str = "randomised",
    drift: float = 0.0,
    baseline: bool | None = None,
    parameters: SimulationParameters | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Study:
    """Make the built-in study: scenes, captions, EEG, split, and the truth beside them.

    Parameters
    ----------
    out : path-like
        The study's folder; it appears when all of it is there.
    subjects : int
        How many people see all images.
    images : int
        Training and validation images together; at least 32. A share :data:`VAL_FRACTION` of each
        class validates.
    test_images : int
        Images of (object, color, setting) combinations that training never shows; at least 16.
    repetitions : int
        How often each subject sees each image.
    sfreq : float
        Sampling rate in Hz, 64 to 2000.
    seed : int
        The same seed gives the same scenes, captions, EEG and split, byte for byte.
    signal : float
        Linear ratio of evoked to background RMS; 0 plants no image information at all. Defined in
        :func:`eegprompt.builtin.eeg.simulate_eeg`.
    design : {'randomised', 'block'}
        Images in random order, or one uninterrupted block a class: then class and time are one.
    drift : float
        RMS of a slow drift of the electrode potentials over that of the background.
    baseline : bool, optional
        Subtract the mean before onset from each trial. By default so in the randomised design and
        not in the block design, whose model (EEGCVPR) was not corrected and where it would hide
        most of the drift.
    parameters : SimulationParameters, optional
        All other numbers of the simulation.
    overwrite : bool
        Replace a study that is there.
    progress : callable, optional
        Called with trials done, trials in all, and a label.

    Returns
    -------
    Study
        Opened. Split ``official``, captions ``builtin``.

    Raises
    ------
    InputError
        If a value is out of range or the folder exists; nothing is written then.
    StorageError
        If the disk refuses; nothing half-written stays.
    """
    for name, value, least in (("images", images, 32), ("test_images", test_images, 16)):
        if value < least:
            raise InputError(
                f"{name} must be at least {least}, so that each of the 16 classes is on each side, "
                f"got {value}; ask for more"
            )
    baseline = design == "randomised" if baseline is None else baseline
    known, unseen = split_scenes(images, test_images, seed)
    scenes = [*known, *unseen]
    ids = [f"scene-{index:05d}" for index in range(len(scenes))]
    classes = np.array([scene.object for scene in scenes])
    simulation = simulate_eeg(
        {
            kind: np.stack([kind_vector(scene, kind) for scene in scenes])
            for kind in KIND_ATTRIBUTES
        },
        np.unique(classes, return_inverse=True)[1],
        subjects=subjects,
        repetitions=repetitions,
        sfreq=sfreq,
        seed=seed,
        signal=signal,
        design=design,
        drift=drift,
        baseline=baseline,
        parameters=parameters,
    )
    asked = {
        "subjects": subjects,
        "images": images,
        "test_images": test_images,
        "repetitions": repetitions,
        "sfreq": sfreq,
        "seed": seed,
        "signal": signal,
        "design": design,
        "drift": drift,
        "baseline": baseline,
    }
    with StudyWriter.open(out, overwrite=overwrite) as writer:
        image_table = _draw_all(writer.folder, scenes, ids)
        digest = hashlib.sha256()
        done = 0
        for eeg in simulation.blocks():
            writer.append(eeg)
            digest.update(np.ascontiguousarray(eeg, dtype="<f4").data)
            done += len(eeg)
            if progress is not None:
                progress(done, simulation.n_trials, "simulating trials")
        info = _info(simulation, asked, parameters or SimulationParameters())
        writer.finish(
            info={**info, "eeg_sha256": digest.hexdigest()},
            trials=_trial_table(simulation, ids, classes),
            images=image_table,
        )
        simulation.truth.save(writer.folder / "truth")
        study = Study(writer.folder)
        study.write_captions("builtin", _caption_table(scenes, ids))
        study.write_split(_official_split(simulation, classes, images, seed))
    return Study(out)


def _draw_all(folder: Path, scenes: list[Scene], ids: list[str]) -> pd.DataFrame:
    """Draw the images into the study and list them with their attributes."""
    import pandas as pd
    from PIL import Image

    (folder / "images").mkdir()
    rows: list[dict[str, Any]] = []
    for scene, image_id in zip(scenes, ids, strict=True):
        path = f"images/{image_id}.png"
        Image.fromarray(np.asarray(draw(scene, size=_IMAGE_SIZE))).save(folder / path)
        rows.append(
            {
                "image_id": image_id,
                "path": path,
                "category": scene.object,
                "sha256": sha256_file(folder / path),
                "width": _IMAGE_SIZE,
                "height": _IMAGE_SIZE,
                **{f"attr_{name}": value for name, value in dataclasses.asdict(scene).items()},
            }
        )
    return pd.DataFrame(rows)


def _caption_table(scenes: list[Scene], ids: list[str]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "image_id": image_id,
            "kind": kind,
            "text": text,
            "meaning": meaning(scene, kind),
            "captioner": "builtin",
            "model": "builtin grammar",
            "version": CAPTION_VERSION,
        }
        for scene, image_id in zip(scenes, ids, strict=True)
        for kind, text in captions(scene, image_id).items()
    ]
    return pd.DataFrame(rows)


def _trial_table(simulation: Simulation, ids: list[str], classes: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    schedule = simulation.schedule
    subjects = np.array(simulation.truth.subjects)
    return pd.DataFrame(
        {
            "trial_id": np.arange(simulation.n_trials),
            "subject": subjects[schedule.subject],
            "session": "1",
            "run": schedule.run.astype(str),
            "block": schedule.block,
            "order": schedule.order,
            "onset": schedule.onset,
            "image_id": np.array(ids)[schedule.image],
            "category": classes[schedule.image],
            "n_averaged": 1,
        }
    )


def _official_split(simulation: Simulation, classes: np.ndarray, images: int, seed: int) -> Split:
    """All trials of an image on one side; test images are the held-out combinations."""
    rng = np.random.default_rng([seed, 21])
    side = np.full(len(classes), 2)
    side[:images] = 0
    for name in np.unique(classes[:images]):
        members = rng.permutation(np.flatnonzero(classes[:images] == name))
        side[members[: max(1, round(VAL_FRACTION * len(members)))]] = 1
    of_trial = side[simulation.schedule.image]
    train, val, test = (np.flatnonzero(of_trial == s) for s in range(3))
    how = {
        "kind": "official",
        "by": "image",
        "seed": seed,
        "val_fraction": VAL_FRACTION,
        "disjoint": "images; test also in (object, color, setting) combinations",
    }
    return Split("official", (Fold(train, val, test),), how)


def _info(
    simulation: Simulation, asked: dict[str, Any], parameters: SimulationParameters
) -> dict[str, Any]:
    truth = simulation.truth
    settings = dataclasses.asdict(dataclasses.replace(parameters, kinds=dict(parameters.kinds)))
    sfreq = simulation.sfreq
    edge = parameters.antialias * sfreq
    steps: list[dict[str, Any]] = [
        {"name": "average reference", "on": "simulated sensors"},
        {
            "name": "band-pass",
            "low": parameters.highpass,
            "high": edge,
            "filter": "high-pass of the simulated amplifier, of order 1; anti-alias low-pass that "
            f"ends at {sfreq / 2:g} Hz",
            "note": "drift is added behind the high-pass; "
            + ("line noise is kept" if truth.summary["line_noise"] else "line noise is taken out"),
            "on": "simulated sensors",
        },
        {"name": "epoch", "tmin": float(truth.times[0]), "tmax": float(truth.times[-1])},
    ]
    if truth.baseline is not None:
        start, stop = truth.baseline
        steps.append({"name": "baseline", "start": start, "stop": stop})
    return {
        "name": "builtin",
        "source": "simulated by eegprompt from drawn scenes",
        "license": "Apache-2.0",
        "citation": _CITATION,
        "design": asked["design"],
        "image_identity": "known",
        "ch_names": list(truth.ch_names),
        "ch_pos": positions_of(truth.ch_names),
        "montage": STANDARD_MONTAGE,
        "sfreq": sfreq,
        "tmin": float(truth.times[0]),
        "unit": "V",
        "steps": steps,
        "simulation": {**asked, "measured": truth.summary},
        "provenance": provenance(
            configuration={**asked, "parameters": settings},
            seed=asked["seed"],
            configuration_hash=content_key(asked, settings),
        ),
    }
