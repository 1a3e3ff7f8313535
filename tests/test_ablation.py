"""Variants are compared with the same seeds, trainings are shared, and what is done is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eegprompt.ablations.axes import AXES, plan
from eegprompt.ablations.table import BY_HEAD, ablation_table
from eegprompt.core.errors import InputError, RunError, UnknownNameError
from eegprompt.settings import load_config
from eegprompt.steps.ablate import _row, ablate
from eegprompt.study import Study


@pytest.fixture
def base(small_study: Path):
    study = Study(small_study)
    return load_config(
        {
            "study": str(small_study),
            "split": study.split_names()[0],
            "captions": study.caption_names()[0],
            "encoder": {"name": "ridge", "options": {"bin_width": 0.05}},
            "evaluation": {"permutations": 19, "resamples": 100},
        }
    )


def test_variants_of_one_axis_share_a_training(small_study: Path, base, tmp_path: Path) -> None:
    seen = []
    rows = ablate(
        Study(small_study),
        tmp_path / "a",
        base,
        what=["pool", "captions"],
        seeds=2,
        draw=False,
        progress=lambda done, total, label: seen.append((done, total)),
    )
    assert len(list((tmp_path / "a" / "trained").iterdir())) == 4  # two seeds, ten kinds and one
    assert seen[-1] == (10, 10)
    assert {r["variant"] for r in rows} == {"train", "test", "all", "10-kinds", "one-joined"}
    pool = [r for r in rows if r["axis"] == "pool" and r["measure"] == "retrieval"]
    # the pool of prompts does not change how retrieval is scored: differences are exactly nothing
    assert [r["difference"] for r in pool[1:]] == [0.0, 0.0]
    assert all(r["p"] == 1.0 and r["lo"] == r["hi"] == 0.0 for r in pool[1:])
    joined = Study(small_study).captions(f"{base.captions}-joined")
    assert set(joined["kind"]) == {"ObjectSnap"} and joined["text"].str.count(", ").min() >= 2
    # both axes have the base among their variants: it is carried out once
    twin = json.loads((tmp_path / "a/captions/10-kinds/seed-0/measured.json").read_text())
    assert twin["same_as"] == "pool/train"
    assert not (tmp_path / "a/captions/10-kinds/seed-0/encoder").exists()
    page = (tmp_path / "a" / "ablation.md").read_text()
    assert "| one-joined |" in page and "±" in page
    # each head stands for itself, as in the paper
    own = [r for r in rows if r["measure"] == BY_HEAD and r["variant"] == "10-kinds"]
    mean = next(r for r in rows if r["variant"] == "10-kinds" and r["measure"] == "retrieval")
    assert len({r["head"] for r in own}) == 10
    assert np.mean([r["mean"] for r in own]) == pytest.approx(mean["mean"])
    assert "Each head's caption retrieval" in page and "one-joined is below 10-kinds in" in page
    assert plan(base, ["pool", "captions"], 2) == (
        {"pool": ["train", "test", "all"], "captions": ["10-kinds", "one-joined"]},
        4,
    )
    # again: nothing is done anew, and more seeds only add
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("measured.json")}
    again = ablate(
        Study(small_study), tmp_path / "a", base, what=["pool", "captions"], seeds=2, draw=False
    )
    assert again == rows
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("measured.json")}
    # equal experiments are measured once: the base, first of both axes, as it trained
    assert not (tmp_path / "a" / "captions" / "10-kinds" / "seed-0" / "encoder").exists()
    # and neither the order of axes nor where the study lies changes what is known
    moved = small_study.rename(small_study.with_name("moved"))
    there = base.model_copy(update={"study": str(moved)})
    assert ablate(Study(moved), tmp_path / "a", there, what=["pool"], seeds=2, draw=False)
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("measured.json")}


def test_images_as_targets_name_the_image(small_study: Path, base, tmp_path: Path) -> None:
    from eegprompt.core.errors import CaptionError
    from eegprompt.text_encoders.images import ImageTargets

    study = Study(small_study)
    rows = ablate(study, tmp_path / "a", base, what=["target"], seeds=1, draw=False)
    found = {r["variant"] for r in rows if r["measure"] == "image_retrieval"}
    assert found == {"captions", "image"}
    encoder = ImageTargets(f"builtin@{small_study}", device="cpu")
    one = encoder.embed(["image img-0", "image img-5"])
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder.embed(["image img-5"]), one[1:], atol=1e-5)
    with pytest.raises(CaptionError, match="names no image"):
        encoder.embed(["a red car"])
    with pytest.raises(InputError, match="images:MODEL@STUDY"):
        ImageTargets("builtin")


def test_layers_of_any_vision_transformer_as_targets(small_study: Path, tmp_path: Path) -> None:
    """A tiny DINOv2 made here: its mean tokens of a layer, of images cropped as its processor says."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from eegprompt.core.files import write_json
    from eegprompt.text_encoders.images import ImageTargets

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = Dinov2Model(Dinov2Config(**sizes, mlp_ratio=2, image_size=28, patch_size=14)).eval()
    model.save_pretrained(tmp_path)
    write_json(
        tmp_path / "preprocessor_config.json",
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28},
         "image_mean": [0.5] * 3, "image_std": [0.25] * 3},
    )  # fmt: skip
    study = Study(small_study)
    name = study.images["image_id"].iloc[0]
    asked = [f"image {name}"]
    one = ImageTargets(f"{tmp_path}@2@{small_study}", "cpu").embed(asked)
    share = ImageTargets(f"{tmp_path}@0.67@{small_study}", "cpu").embed(asked)
    np.testing.assert_array_equal(one, share)
    from PIL import Image

    image = Image.fromarray(study.load_images([name])[0])
    scale = 32 / min(image.size)
    resized = image.resize([round(s * scale) for s in image.size], Image.Resampling.BICUBIC)
    left, top = (resized.width - 28) // 2, (resized.height - 28) // 2
    pixels = np.asarray(resized.crop((left, top, left + 28, top + 28)), np.float32)
    x = torch.from_numpy((pixels / 255 - 0.5) / 0.25).permute(2, 0, 1)[None]
    with torch.no_grad():
        hidden = model(x, output_hidden_states=True).hidden_states[2].mean(dim=1).numpy()
    np.testing.assert_allclose(one, hidden / np.linalg.norm(hidden), atol=1e-5)
    two = ImageTargets(f"{tmp_path}@2+3@{small_study}", "cpu").embed(asked)
    assert two.shape == (1, 32)
    np.testing.assert_allclose(two[:, :16] * np.sqrt(2), one, atol=1e-5)
    for wrong in (f"{tmp_path}@4@{small_study}", f"{tmp_path}@x@{small_study}"):
        with pytest.raises(InputError):
            ImageTargets(wrong, "cpu")


def test_lda_stands_on_the_encoder_axis_by_class_accuracy_alone(
    small_study: Path, base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = ablate(Study(small_study), tmp_path / "a", base, what=["encoder"], seeds=1, draw=False)
    lda = [r for r in rows if r["variant"] == "shrinkage-LDA"]
    assert [r["measure"] for r in lda] == ["class_accuracy"]
    assert lda[0]["sd"] is None and lda[0]["compared_with"] == "ridge"


def test_a_variant_that_cannot_be_had_is_named_and_the_others_are_measured(
    small_study: Path, base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eegprompt.ablations.axes import Variant

    def axis(_: object) -> list[Variant]:
        wide = {"encoder": {"name": "ridge", "options": {"bin_width": 99.0}}}
        return [Variant("as-is"), Variant("too-wide", wide)]

    monkeypatch.setitem(AXES, "width", axis)
    study, out = Study(small_study), tmp_path / "a"
    rows = ablate(study, out, base, what=["width"], seeds=1, draw=False)
    assert {r["variant"] for r in rows} == {"as-is"}
    page = (out / "ablation.md").read_text()
    assert "## Not measured" in page and "width: too-wide: trials of" in page
    assert json.loads((out / "ablation.json").read_text())["failed"][0] in page
    monkeypatch.setitem(AXES, "width", lambda config: axis(config)[1:])
    with pytest.raises(RunError, match="no variant could be measured"):
        ablate(study, out, base, what=["width"], seeds=1, draw=False)


def test_differences_are_paired_by_hand() -> None:
    rng = np.random.default_rng(0)
    common = rng.standard_normal(1000)

    def entry(value: float, noise: float) -> dict:
        drawn = value + common + noise * rng.standard_normal(1000)
        return {"value": value, "n": 9, "replicates": drawn.tolist(), "units": "same"}

    base = [entry(0.5, 0.0), entry(0.6, 0.0)]
    better = [entry(0.7, 0.05), entry(0.8, 0.05)]
    row = _row("loss", "b", "a", "retrieval", better, base)
    assert row["difference"] == pytest.approx(0.2) and row["mean"] == pytest.approx(0.75)
    assert row["sd"] == pytest.approx(np.std([0.7, 0.8], ddof=1))
    assert 0.1 < row["lo"] < 0.2 < row["hi"] < 0.3 and row["p"] < 0.01  # the common part cancels
    worse = [{**e, "units": "others"} for e in better]
    assert _row("loss", "b", "a", "retrieval", worse, base)["p"] is None
    same = _row("loss", "b", "a", "retrieval", base, base)
    assert same["p"] == 1.0
    assert "0.750 ± 0.071" in ablation_table([row], [0, 1]) and row["chance"] is None
    known = _row("loss", "b", "a", "retrieval", [{**e, "chance": 0.25} for e in better], base)
    table = ablation_table([known], [0, 1], stamp="Design confounded.")
    assert "(chance 0.250)" in table and "Design confounded." in table


def test_a_difference_without_an_interval_says_why() -> None:
    def entry(value: float, units: str) -> dict:
        return {"value": value, "n": 9, "replicates": [value, value + 1], "units": units}

    whole = [{"value": 1.0, "n": 9}]
    rows = [
        _row("loss", "b", "a", "kid", whole, whole),
        _row("loss", "b", "a", "retrieval", [entry(0.5, "x")], [entry(0.4, "y")]),
        _row("loss", "b", "a", "class_accuracy", [entry(0.5, "x")], [entry(0.4, "x")]),
    ]
    assert "whole set of images" in rows[0]["no_interval"]
    assert "different images or trials" in rows[1]["no_interval"]
    assert rows[2]["no_interval"] is None and rows[2]["lo"] is not None
    page = ablation_table(rows, (0,))
    assert "Differences without interval and p: " in page
    assert all(row["no_interval"] in page for row in rows[:2])


def test_what_cannot_be_compared_is_refused(small_study: Path, base, tmp_path: Path) -> None:
    study = Study(small_study)
    with pytest.raises(UnknownNameError, match="did you mean 'loss'"):
        ablate(study, tmp_path / "a", base, what=["los"])
    with pytest.raises(InputError, match="at least one"):
        ablate(study, tmp_path / "a", base, what=["loss"], seeds=0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "base.json").write_text(json.dumps({"settings": {}, "study": "other"}))
    with pytest.raises(RunError, match="another study"):
        ablate(study, tmp_path / "b", base, what=["loss"])


def test_every_axis_makes_settings_that_are_valid(base) -> None:
    for axis, make in AXES.items():
        names = [variant.name for variant in make(base)]
        assert len(names) == len(set(names)) >= 2, axis
