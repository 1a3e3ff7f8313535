"""The same run trained again otherwise: on shuffled labels, or with another seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eegprompt.analyses.context import Material
from eegprompt.settings import load_config
from eegprompt.steps.decode import decode
from eegprompt.steps.train import train
from eegprompt.study import Study

__all__ = ["retrained"]


def retrained(material: Material, name: str, *, shuffle: bool) -> Material:
    """Train the run's configuration anew, in a folder of its own below ``explain/``.

    Parameters
    ----------
    material : Material
        The run.
    name : str
        Of the folder; a training that is finished there is not done again.
    shuffle : bool
        Give every image the captions of another (all kinds together), so that nothing can be
        learned; else only the seed differs.

    Returns
    -------
    Material
        Of the new run.
    """
    folder = material.run.path / "explain" / "retrained" / name
    study = _mirror(material.study, folder / "study")
    captions = material.config.captions
    if shuffle:
        table = material.study.captions(captions)
        images = np.unique(table["image_id"].astype(str))
        order = np.random.default_rng([material.seed, 31]).permutation(len(images))
        other = dict(zip(images, images[order]))
        captions = f"{captions}-shuffled"
        table = table.assign(image_id=table["image_id"].astype(str).map(other))
        if captions not in study.caption_names():
            study.write_captions(captions, table)
    settings = {
        **material.config.model_dump(mode="json"),
        "study": str(study.path.resolve()),
        "captions": captions,
        "seed": material.seed + (0 if shuffle else 1),
    }
    run = train(study, folder / "run", load_config(settings), progress=material.progress)
    return Material(decode(run, progress=material.progress), progress=material.progress)


def _mirror(study: Study, folder: Path) -> Study:
    """A study whose large files are links to another's; captions and cache are its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in study.path.iterdir():
        if entry.name in ("captions", "cache") or (folder / entry.name).exists():
            continue
        (folder / entry.name).symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    own = folder / "captions"
    own.mkdir(exist_ok=True)
    for entry in (study.path / "captions").iterdir():
        if not (own / entry.name).exists():
            (own / entry.name).symlink_to(entry.resolve())
    return Study(folder)
