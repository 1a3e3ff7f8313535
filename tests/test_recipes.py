"""Every recipe is dry-run: names, options and files are checked, and nothing is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.files import write_json
from eegprompt.publication import compare
from eegprompt.recipe import load_recipe
from eegprompt.steps.dry_run import dry_run

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_is_dry_run(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["run", str(path), "--dry-run"])
    assert said.exit_code == 0, said.output
    lines = said.output.strip().splitlines()
    verbs = [line.split()[1] for line in lines]
    for verb in ("audit", "train", "decode", "draw", "score", "write"):
        assert verb in verbs
    assert not list(tmp_path.iterdir())  # nothing is made
    head = path.read_text("utf-8").split("make:")[0]
    for words in (f"eegprompt run recipes/{path.name}", "Time:", "Expected result"):
        assert words in head, words


def test_there_are_recipes_for_what_is_promised() -> None:
    assert {"builtin", "n170", "eegcvpr-paper", "things-eeg2"} <= {p.stem for p in RECIPES}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("variant: \"5-95\"", "variant: 6-95", "variant"),
        ('captioner: "file:', 'captioner: "files:', "did you mean 'file:PATH'"),
        ("duplicates: drop", "duplicats: drop", "did you mean 'duplicates'"),
        ("reader: eegcvpr", "reader: eegcvp", "did you mean 'eegcvpr'"),
        ("diffusers:stabilityai/sdxl-turbo", "diffusers", "needs to say which: diffusers:MODEL"),
        ("steps: 1", "stebs: 1", "did you mean 'steps'"),
        ("features: pretrained", "features: pretraind", "did you mean 'pretrained'"),
        ("{source}/captions.csv", "{recipe}/nowhere.csv", "do not exist"),
        ("eegcvpr-published.csv", "nowhere.csv", "do not exist"),
        ("epochs: 100", "epochs: none", "epochs"),
        ("what: [loss,", "what: [los,", "did you mean 'loss'"),
        ("ablations:", "ablation:", "did you mean 'ablations'"),
        ("seeds: 3", "seeds: 0", "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_a_slip_in_a_recipe_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = (FOLDER / "eegcvpr-paper.yaml").read_text("utf-8")
    assert old in text.split("make:", 1)[1]
    before, after = text.split("make:", 1)
    (tmp_path / "eegcvpr-published.csv").write_bytes(
        (FOLDER / "eegcvpr-published.csv").read_bytes()
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(before + "make:" + after.replace(old, new), "utf-8")
    with pytest.raises((InputError, UnknownNameError)) as problem:
        dry_run(path)
    assert says in str(problem.value)


def test_a_run_needs_a_folder() -> None:
    said = CliRunner().invoke(app, ["run", str(FOLDER / "builtin.yaml")])
    assert said.exit_code == 2 and "--out" in said.output


def test_the_papers_recipe_says_what_it_compares(tmp_path: Path) -> None:
    steps = dry_run(FOLDER / "eegcvpr-paper.yaml")
    ablate = next(step for step in steps if step.startswith("ablate"))
    # loss 3, captions 2, levels 4, of which three are the base; the heads share its training
    assert "loss (3), captions (2), heads (10), levels (4)" in ablate
    assert "19 variants with 3 seeds, 21 trainings" in ablate
    assert steps.index(ablate) < next(i for i, s in enumerate(steps) if "paper/" in s)
    fewer = dry_run(FOLDER / "eegcvpr-paper.yaml", ["ablations.seeds=1", "ablations.what=[loss]"])
    assert "3 variants with 1 seed, 3 trainings" in " ".join(fewer)
    without = dry_run(FOLDER / "eegcvpr-paper.yaml", ["ablations=null", "published=null"])
    assert not any(step.startswith("ablate") or "paper/" in step for step in without)


def test_whatever_stands_in_a_recipe_can_be_overridden(tmp_path: Path) -> None:
    path = FOLDER / "things-eeg2.yaml"
    words = ['make.import.options.subjects=["02"]', "explain=false"]
    recipe = load_recipe(path, words, source=tmp_path)
    assert recipe.make is not None and recipe.make.import_ is not None
    assert recipe.make.import_.options["subjects"] == ["02"] and recipe.explain is False
    # a study that is there is taken as it is: nothing is imported, and no source is asked for
    own = load_recipe(path, [f"study={tmp_path}"])
    assert own.make is None and own.settings["study"] == str(tmp_path)
    assert dry_run(path, [f"study={tmp_path}"])[0] == f"open {tmp_path}"
    with pytest.raises(InputError, match=r"make\.import\.raeder"):
        load_recipe(path, ["make.import.raeder=mne"], source=tmp_path)


SCORE = {
    "metric": "kid", "source": "eeg", "head": None, "scope": "set", "value": 0.0123, "n": 1997,
    "features": "pretrained", "protocol": "torch-fidelity", "weights": "inception.pth 6726825d",
}  # fmt: skip


def test_published_rows_stand_beside_the_runs(tmp_path: Path) -> None:
    clip = {
        **SCORE, "metric": "two_way_clip", "scope": "all", "value": 0.7, "lo": 0.65, "hi": 0.75,
        "chance": 0.5, "floor": 0.51, "floor_lo": 0.48, "floor_hi": 0.54, "protocol": "mindeye",
        "weights": "openai/clip 32bd6428",
    }  # fmt: skip
    rows = [
        {**SCORE, "sd": 0.004, "floor": 0.3},
        {**SCORE, "source": "real", "value": 0.0001},
        {**SCORE, "metric": "inception_score", "value": 15.0, "features": "builtin"},
        clip,
        {**clip, "scope": "within-class", "value": 0.6, "n": 1990},
        {**clip, "source": "shuffled", "value": 0.503},
        {**clip, "metric": "class_accuracy", "head": "ObjectSnap", "value": 0.99},
        {**clip, "metric": "class_accuracy", "subject": "1", "head": "ensemble", "value": 0.98},
    ]
    audit = {
        "verdict": "confounded",
        "summary": "Design confounded: time.",
        "allowed_leakage": ["leak"],
    }
    missing = ["image scores by network 'swav': no file", "something of captions"]
    write_json(tmp_path / "scores.json", {"rows": rows, "audit": audit, "missing": missing})
    table = compare(tmp_path, FOLDER / "eegcvpr-published.csv")
    text = table.markdown("Table 1")
    scores = text.split("What each row")[0]
    lines = {line.split("|")[1].strip(" *"): line for line in scores.splitlines() if "|" in line}
    assert "| 0.0123 ± 0.004 |" in text and "| 0.7 [0.65, 0.75] |" in text
    assert [cell.strip() for cell in lines["chance, by permutation"].split("|")].count("0.5") == 1
    assert "0.51 [0.48, 0.54]" in lines["floor: random captions"]
    assert "0.6" in lines["from EEG, among references of the same class"]
    assert "0.503" in lines["another trial's EEG"] and "0.0001" in text
    # neither a head, nor a subject, nor what no published score can be compared with
    assert "0.99" not in text and "0.98" not in text and "| 15" not in text
    assert "built-in features cannot be compared with published scores: inception_score" in text
    # each row of ours names n, protocol and weights; what differs by score is named by score
    about = [line for line in text.splitlines() if line.startswith("| this run, from EEG |")]
    assert len(about) == 1 and "| 1,997 |" in about[0]
    assert "torch-fidelity (KID)" in about[0] and "mindeye (CS)" in about[0]
    assert "openai/clip 32bd6428 (CS)" in about[0]
    assert "| 37.29 ± 0.32 | 0.009 ± 0.009 | 0.06 | 0.30 |" in text  # as printed
    assert "Design confounded" in text and "Allowed leakage: leak" in text
    assert "no file" in text and "something of captions" not in text


def test_the_table_is_also_numbers(tmp_path: Path) -> None:
    import io

    import pandas as pd

    write_json(tmp_path / "scores.json", {"rows": [{**SCORE, "sd": 0.004}]})
    table = pd.read_csv(io.StringIO(compare(tmp_path, FOLDER / "eegcvpr-published.csv").csv()))
    own = table[table["measured"] == "here"].iloc[0]
    assert own["kid"] == 0.0123 and own["kid_sd"] == 0.004 and own["n"] == "1,997"
    paper = table[table["model"].str.startswith("Interpretable")].iloc[0]
    assert paper["inception_score"] == 37.29 and paper["inception_score_sd"] == 0.32
    assert paper["class_accuracy"] == 0.79 and (table["measured"] == "published").sum() == 7


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n", "must have the columns"),
        ("model,type,source,kid\nx,GAN,y,about .5\n", "line 2: 'kid' must be a number"),
        ("", "must have the columns"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    write_json(tmp_path / "scores.json", {"rows": []})
    with pytest.raises(InputError, match=says):
        compare(tmp_path, tmp_path / "bad.csv")
