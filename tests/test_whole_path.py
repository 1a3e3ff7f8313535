"""The whole path on a small simulated study: above chance where signal was planted, at chance
where none was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eegprompt.builtin.models import clip_folder, features_folder, pipeline_folder
from eegprompt.core.errors import ModelLoadError
from eegprompt.recipe import MakeRecipe, Recipe
from eegprompt.run import Run
from eegprompt.steps.experiment import run_recipe


def weights_are_there() -> bool:
    """Whether the built-in models can be loaded."""
    try:
        return all(find().exists() for find in (clip_folder, pipeline_folder, features_folder))
    except ModelLoadError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not weights_are_there(), reason="the source tree holds no weights of the built-in models"
    ),
]

KINDS = ("ObjectSnap", "SceneSetting", "MoodFeel")


def go(out: Path, signal: float, **generation) -> list[dict]:
    """Carry out a small recipe and give its score rows."""
    recipe = Recipe(
        make=MakeRecipe(
            simulate={
                "subjects": 1,
                "images": 192,
                "test_images": 32,
                "repetitions": 2,
                "sfreq": 64.0,
                "signal": signal,
            }
        ),
        settings={
            "kinds": KINDS,
            "training": {"epochs": 12, "patience": 4, "batch_size": 64},
            "generation": {"trials_per_image": 1, **generation},
            "evaluation": {"permutations": 999, "resamples": 200},
        },
    )
    folder = run_recipe(recipe, out)
    return json.loads((folder / "scores.json").read_text("utf-8"))["rows"]


def p_values(rows: list[dict]) -> list[float]:
    """Corrected where a corrected one exists; only scores of decoded EEG have a p."""
    found = [r["p_holm"] if r.get("p_holm") is not None else r.get("p") for r in rows]
    return [p for p in found if p is not None]


def test_planted_signal_is_decoded_from_eeg_to_report(tmp_path):
    from eegprompt.reports import write_report

    rows = go(tmp_path / "run", signal=2.0, options={"steps": 8})
    top1 = {
        r["head"]: r
        for r in rows
        if r["metric"] == "caption_retrieval_top1" and r["scope"] == "all"
    }
    assert set(KINDS) <= set(top1)
    for head in KINDS:
        assert top1[head]["value"] > top1[head]["chance"]
        assert top1[head]["p_holm"] < 0.05
    run = Run(tmp_path / "run")
    prompts = run.prompts
    assert set(prompts["source"]) == {"eeg", "floor", "ceiling"}
    images = sorted((run.path / "images").rglob("*.png"))
    assert len(images) == 3 * 32
    html = write_report(run).read_text("utf-8")
    assert "ObjectSnap" in html and "data:image" in html

    # Finished work is left as it is, byte for byte and by the clock.
    before = {p: p.stat().st_mtime_ns for p in [*images, run.decodings_path, run.scores_path]}
    assert go(tmp_path / "run", signal=2.0, options={"steps": 8}) == rows
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_where_no_signal_is_planted_nothing_is_found(tmp_path):
    rows = go(tmp_path / "run", signal=0.0, sources=("eeg",), options={"steps": 1})
    found = p_values(rows)
    assert len(found) > len(KINDS)
    assert min(found) > 0.05
    values = [r["value"] - r["chance"] for r in rows if r["metric"] == "caption_retrieval_top1"]
    assert abs(np.mean(values)) < 0.1


def test_captions_of_another_captioner_are_learned_and_decoded(tmp_path):
    from eegprompt.settings import load_config
    from eegprompt.steps.caption import caption as write_captions
    from eegprompt.steps.decode import decode
    from eegprompt.steps.simulate import simulate
    from eegprompt.steps.train import train

    study = simulate(
        tmp_path / "study", subjects=1, images=96, test_images=16, repetitions=1, sfreq=64.0,
        signal=4.0,
    )  # fmt: skip
    write_captions(study, "rules")
    settings = {"study": str(study.path), "captions": "rules", "kinds": ["ColorTone", "LayoutMap"]}
    run = train(study, tmp_path / "run", load_config({**settings, "training": {"epochs": 2}}))
    decode(run)
    written = study.captions("rules")
    for head, rows in run.decodings.groupby("head"):
        assert set(rows["text"]) <= set(written.loc[written["kind"] == head, "text"])
    assert "mostly" in run.prompts["text"].iloc[0]
