"""From the source's own files to scores, by the commands that a person types, for each reader.

Recordings are a few trials with a planted response and training is two passes, so the scores mean
nothing; that every step takes what the step before it wrote does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny_eegcvpr
from eegprompt.builtin.models import clip_folder
from eegprompt.cli.app import app
from eegprompt.core.errors import ModelLoadError
from eegprompt.study import Study


def weights_are_there() -> bool:
    """Whether the built-in text encoder can be loaded."""
    try:
        return clip_folder().exists()
    except ModelLoadError:
        return False


pytestmark = pytest.mark.skipif(
    not weights_are_there(), reason="the source tree holds no weights of the built-in models"
)


def eegcvpr(folder: Path) -> list[Any]:
    made = tiny_eegcvpr.make(per_class=8)
    tiny_eegcvpr.write(folder, made, legacy=True)
    tiny_eegcvpr.write_splits(folder, made)
    tiny_eegcvpr.write_order(folder, made)
    images = tiny_eegcvpr.write_images(folder / "images", made.images)
    return [folder, "--stimuli", images, "-o", "samples=20,148"]


def eegcvpr40(folder: Path) -> list[Any]:
    return [tiny_eegcvpr.write_40(folder, tiny_eegcvpr.make(per_class=4))]


def eegcvpr_hf(folder: Path) -> list[Any]:
    return [tiny_eegcvpr.write_hub(folder, tiny_eegcvpr.make(per_class=4))]


# Reader -> what writes its files and gives the arguments of the import, captioner, split.
KINDS: dict[str, tuple[Callable[[Path], list[Any]], str, str]] = {
    "eegcvpr": (eegcvpr, "rules", "official"),
    "eegcvpr40": (eegcvpr40, "file", "official"),
    "eegcvpr-hf": (eegcvpr_hf, "rules", "by-image"),
}


def captions_file(study: Study, path: Path) -> Path:
    rows = [
        f"{c},ObjectSnap,a {c}\n{c},SceneSetting,the place of a {c}\n" for c in study.categories
    ]
    path.write_text("category,kind,text\n" + "".join(rows))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_from_files_to_scores(kind: str, tmp_path: Path) -> None:
    def run(*words: Any) -> str:
        answer = CliRunner().invoke(app, [str(w) for w in words], prog_name="eegprompt")
        assert answer.exit_code == 0, answer.output
        return answer.output

    write, captioner, split = KINDS[kind]
    study_path, run_path = tmp_path / "study", tmp_path / "run"
    run("import", kind, *write(tmp_path / "source"), "--out", study_path)
    study = Study(study_path)
    if split not in study.split_names():
        run("split", study_path, split)
    spec = captioner
    if captioner == "file":
        spec = f"file:{captions_file(study, tmp_path / 'captions.csv')}"
    run("captions", "write", study_path, "--captioner", spec, "--name", "mine")
    run(
        "train", study_path, "--out", run_path, f"split={split}", "captions=mine",
        "kinds=[ObjectSnap,SceneSetting]", "training.epochs=2", "training.batch_size=16",
        "training.device=cpu", "encoder.options={width: 8, depth: 1}",
    )  # fmt: skip
    run("decode", run_path)
    run("evaluate", run_path, "evaluation.permutations=99", "evaluation.resamples=100")
    rows = json.loads((run_path / "scores.json").read_text("utf-8"))["rows"]
    heads = {r["head"] for r in rows if r["metric"] == "caption_retrieval_top1"}
    assert {"ObjectSnap", "SceneSetting"} <= heads
    assert "class" in run("info", study_path)
