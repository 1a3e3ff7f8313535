"""The recipes themselves, carried out on miniatures in the sources' own layouts.

Only names of models and sizes are overridden. In the EEGCVPR miniature each class has its own
channels and no image its own response, and classes are shown one after the other: so the class must
be found, the image within its class must not, and the audit must call the design confounded.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny_datasets
import tiny_eegcvpr
import tiny_models
import tiny_pipelines
from eegprompt.cli.app import app
from eegprompt.core.errors import RecordingError
from eegprompt.core.kinds import KINDS
from eegprompt.readers._eegcvpr import class_names
from eegprompt.recipe import load_recipe
from eegprompt.steps.experiment import make_study
from eegprompt.study import Study
from test_whole_path import weights_are_there

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not weights_are_there(), reason="the source tree holds no weights of the built-in models"
    ),
]

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP and an SDXL-Turbo, tiny and with random weights."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.save_clip(folder / "clip")
    tiny_pipelines.save("sdxl-turbo", folder / "turbo")
    return folder


def words(recipe: str, source: Path, out: Path, models: Path, *more: str) -> list[str]:
    """The command, with what must be smaller than in the recipe."""
    return [
        "run", str(RECIPES / f"{recipe}.yaml"), "--source", str(source), "--out", str(out),
        f"text_encoder=clip:{models / 'clip'}", f"generation.generator=diffusers:{models / 'turbo'}",
        "generation.options={steps: 1, guidance: 0, height: 16, width: 16}", "training.device=cpu",
        "training.batch_size=16", "encoder.options={width: 8, depth: 1}",
        "evaluation.features=builtin", "evaluation.permutations=199",
        "evaluation.resamples=100", *more,
    ]  # fmt: skip


def carry_out(command: list[str], *, fails: bool = False) -> str:
    answer = CliRunner().invoke(app, command, prog_name="eegprompt")
    assert (answer.exit_code != 0) is fails, answer.output
    return " ".join(answer.output.split())


def write_store(path: Path, column: str, captions: dict[str, list[str]]) -> None:
    """One row an image, one column a kind."""
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([column, *KINDS])
        writer.writerows([name, *texts] for name, texts in captions.items())


def scores_of(run: Path) -> dict[tuple[str, str | None, str | None], dict[str, Any]]:
    rows = json.loads((run / "scores.json").read_text("utf-8"))["rows"]
    return {
        (r["metric"], r["head"], r["scope"]): r
        for r in rows
        if r["source"] in (None, "eeg") and not r.get("subject")
    }


@pytest.fixture(scope="module")
def eegcvpr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EEGCVPR as its publishers give it, with images and a caption store beside it."""
    folder = tmp_path_factory.mktemp("EEGCVPR")
    made = tiny_eegcvpr.make(per_class=8)
    tiny_eegcvpr.write(folder, made, legacy=True)
    tiny_eegcvpr.write_splits(folder, made)
    tiny_eegcvpr.write_images(folder / "imagenet", made.images, "flat")
    names = class_names()
    write_store(
        folder / "captions.csv",
        "image_id",
        {
            image: [
                f"{names[image.split('_')[0]]} {kind} {int(image.split('_')[1])}" for kind in KINDS
            ]
            for image in sorted(set(made.images))
        },
    )
    return folder


SMALL = (
    "kinds=[ObjectSnap,MoodFeel]", "make.import.options.samples=[20,148]", "training.epochs=25",
    "training.patience=25", "training.label_smoothing=0", "ablations={what: [heads], seeds: 1}",
    "explain=[attribution,geometry,confidence]", "generation.trials_per_image=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(eegcvpr: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's recipe, carried out."""
    out = tmp_path_factory.mktemp("paper") / "run"
    said = carry_out(words("eegcvpr-paper", eegcvpr, out, models, *SMALL))
    assert "Ablations:" in said and "table-1.md" in said
    return out


def test_the_papers_recipe_finds_what_was_planted_and_no_more(run: Path) -> None:
    stored = json.loads((run / "scores.json").read_text("utf-8"))
    assert stored["audit"]["verdict"] == "confounded"
    found = scores_of(run)
    accuracy = found["class_accuracy", "ensemble", "all"]
    assert accuracy["value"] > 0.8 and accuracy["chance"] == pytest.approx(0.25)
    within = found["image_retrieval_top1", "ensemble", "within-class"]
    assert within["lo"] <= within["chance"] <= within["hi"] and within["p"] > 0.05


def test_table_figures_and_ablations_lie_where_a_reader_looks(run: Path) -> None:
    from PIL import Image

    paper = run / "paper"
    table = (paper / "table-1.md").read_text("utf-8")
    assert "37.29 ± 0.32" in table and "**this run, from EEG**" in table
    assert "Design confounded" in table  # wherever the numbers are
    assert "inception_score" in table.split("cannot be compared")[1]  # built-in features
    page = (paper / "README.md").read_text("utf-8")
    assert "Not there" not in page and "../ablation/ablation.md" in page
    for number, like in (
        (3, "geometry-heads"),
        (4, "attribution-topographies"),
        (5, "confidence-shares"),
    ):
        own = run / "figures" / "explain" / f"{like}.svg"
        assert (paper / f"figure-{number}.svg").read_bytes() == own.read_bytes()
    with Image.open(paper / "figure-2.png") as figure:
        assert figure.width > figure.height > 100  # four classes beside each other
    ablation = json.loads((run / "ablation" / "ablation.json").read_text("utf-8"))
    assert {r["variant"] for r in ablation["rows"]} == {"all-heads", "top-1"}
    html = (run / "report.html").read_text("utf-8")
    for text in ("Beside published scores", "37.29", 'href="paper/figure-4.svg"', "How many heads"):
        assert text in html


def test_what_was_interrupted_goes_on_and_what_is_done_stays(
    run: Path, eegcvpr: Path, models: Path
) -> None:
    def times() -> dict[Path, int]:
        kept = ("*.safetensors", "*_0.png", "scores.json", "measured.json", "decodings.parquet")
        return {p: p.stat().st_mtime_ns for kind in kept for p in run.rglob(kind)}

    before = times()
    # as if it had been stopped while images were drawn, and again in the ablations
    lost = [
        next((run / "images").rglob("eeg/*_0.png")),
        run / "ablation" / "heads" / "top-1" / "seed-0" / "measured.json",
    ]
    content = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    shutil.rmtree(run / "paper")
    carry_out(words("eegcvpr-paper", eegcvpr, run, models, *SMALL))
    assert {path: path.read_bytes() for path in lost} == content
    assert (run / "paper" / "figure-2.svg").exists()
    redone = {p.relative_to(run).parts[0] for p, at in times().items() if before.get(p) != at}
    # scores rest on the image that was drawn again
    assert redone == {"images", "scores.json", "ablation"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("source", "there are no recordings at"),
        ("signal", "holds no eeg_5_95_std.pth"),
        ("store", "captions.csv does not exist"),
        ("caption", "the caption MoodFeel of 'n02389026_100' is empty"),
        ("kind", "has no captions of the kinds MoodFeel; add them"),
        ("image", "1 of 32 images are not below"),
    ],
)
def test_what_is_missing_is_named(
    change: str, says: str, eegcvpr: Path, models: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    if change != "source":
        shutil.copytree(eegcvpr, source)
    if change == "signal":
        (source / "eeg_5_95_std.pth").unlink()
    if change == "store":
        (source / "captions.csv").unlink()
    if change in ("caption", "kind"):
        store = source / "captions.csv"
        lines = [line.split(",") for line in store.read_text().splitlines()]
        place = list(KINDS).index("MoodFeel") + 1
        for line in lines if change == "kind" else lines[1:2]:
            line[place : place + 1] = [] if change == "kind" else [""]
        store.write_text("\n".join(",".join(line) for line in lines))
    if change == "image":
        next((source / "imagenet").rglob("*.JPEG")).unlink()
    command = words("eegcvpr-paper", source, tmp_path / "run", models, *SMALL)
    assert says in carry_out(command, fails=True)
    assert not (tmp_path / "run" / "study").exists()  # nothing was imported in vain


def test_the_right_folder_can_follow_a_wrong_one(eegcvpr: Path, tmp_path: Path) -> None:
    def make(source: Path) -> Study:
        recipe = load_recipe(RECIPES / "eegcvpr-paper.yaml", SMALL, source=source)
        assert recipe.make is not None
        return make_study(recipe.make, tmp_path / "run" / "study")

    wrong = tmp_path / "wrong"
    wrong.mkdir()
    shutil.copy(eegcvpr / "captions.csv", wrong)
    with pytest.raises(RecordingError) as caught:
        make(wrong)
    assert str(wrong) in str(caught.value)
    study = make(eegcvpr)
    moved = tmp_path / "moved"
    shutil.copytree(eegcvpr, moved)
    assert make(moved).key == study.key  # what was made of them stays


def test_things_eeg2_is_zero_shot(models: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "THINGS", tmp_path / "run"
    tiny_datasets.things_images(source / "images_set")
    tiny_datasets.write_things(source / "Preprocessed_data_250Hz", "nice")
    write_store(
        source / "captions.csv",
        "image",
        {
            path.name: [f"{path.stem.split('_')[0]} {kind}" for kind in KINDS]
            for path in (source / "images_set").rglob("*.jpg")
        },
    )
    carry_out(
        words(
            "things-eeg2",
            source,
            out,
            models,
            "kinds=[ObjectSnap,ColorTone]",
            "explain=false",
            "training.epochs=2",
        )
    )
    n_test = len(tiny_datasets.CONCEPTS["test"])
    found = scores_of(out)["image_retrieval_top1", "ensemble", "all"]
    # n-way: as many candidates as test concepts, one image each, none of them trained
    assert found["n"] == n_test and found["chance"] == pytest.approx(1 / n_test)
    missing = json.loads((out / "scores.json").read_text("utf-8"))["missing"]
    assert "class accuracy: no test class was seen in training" in missing
    assert len(list((out / "images").rglob("eeg/*_0.png"))) == n_test  # averaged repetitions
