"""What all tests share: few threads, no network, a home of their own, a small study."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before NumPy or torch are loaded: tests run side by side, and threads would fight for the cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# A test that reaches for the network fails here as it would on a machine without one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new user's empty home: no settings, no caches, nothing written to the real one."""
    home = tmp_path_factory.mktemp("home")
    before = {k: os.environ.get(k) for k in ("HOME", "USERPROFILE", "HF_HOME", "MPLCONFIGDIR")}
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(home)
    os.environ["HF_HOME"] = str(home / "huggingface")
    os.environ["MPLCONFIGDIR"] = str(home / "matplotlib")
    os.environ["_MNE_FAKE_HOME_DIR"] = str(home)
    yield
    for key, value in before.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    """A study of noise: 2 subjects, 8 gray images, 32 trials, 4 channels, with split and captions."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    from eegprompt.core.kinds import KINDS
    from eegprompt.study import Study, StudyWriter
    from eegprompt.study.split import Fold, Split

    rng = np.random.default_rng(0)
    images = [f"img-{i}" for i in range(8)]
    out = tmp_path / "small-study"
    with StudyWriter.open(out) as writer:
        (writer.folder / "images").mkdir()
        for i, name in enumerate(images):
            Image.new("RGB", (16, 16), (i * 30,) * 3).save(writer.folder / "images" / f"{name}.png")
        writer.append(rng.standard_normal((32, 4, 32)) * 1e-5)
        writer.finish(
            info={
                "name": "small",
                "source": "noise",
                "ch_names": ["Fz", "Cz", "Pz", "Oz"],
                "sfreq": 64.0,
                "tmin": -0.1,
                "unit": "V",
                "design": "randomised",
                "image_identity": "known",
            },
            trials=pd.DataFrame(
                {
                    "subject": ["a", "b"] * 16,
                    "run": (["1"] * 16) + (["2"] * 16),
                    "order": np.arange(32),
                    "image_id": [images[i % 8] for i in range(32)],
                    "category": ["face" if i % 2 else "house" for i in range(32)],
                }
            ),
            images=pd.DataFrame(
                {
                    "image_id": images,
                    "path": [f"images/{name}.png" for name in images],
                    "category": ["face" if i % 2 else "house" for i in range(8)],
                    "width": 16,
                    "height": 16,
                }
            ),
        )
    study = Study(out)
    ids = np.arange(32)
    side = ids % 8
    study.write_split(
        Split("official", (Fold(ids[side < 4], ids[(side >= 4) & (side < 6)], ids[side >= 6]),))
    )
    study.write_captions(
        "builtin",
        pd.DataFrame(
            [
                {"image_id": image, "kind": kind, "text": f"{kind} of {image}"}
                for image in images
                for kind in KINDS
            ]
        ),
    )
    return out
