"""Every recipe is dry-run: names, options and files are checked, and nothing is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegprompt.artifacts import write_json
from eegprompt.cli.app import app
from eegprompt.dry_run import dry_run
from eegprompt.errors import InputError, UnknownNameError
from eegprompt.published import write_comparison

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
        ("duplicates: drop", "duplicats: drop", "did you mean 'duplicates'"),
        ("reader: eegcvpr", "reader: eegcvp", "did you mean 'eegcvpr'"),
        ("diffusers:stabilityai/sdxl-turbo", "diffusers", "needs the name of a model"),
        ("steps: 1", "stebs: 1", "did you mean 'steps'"),
        ("features: pretrained", "features: pretraind", "did you mean 'pretrained'"),
        ("{source}/captions.csv", "{recipe}/nowhere.csv", "do not exist"),
        ("eegcvpr-published.csv", "nowhere.csv", "do not exist"),
        ("epochs: 100", "epochs: none", "epochs"),
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


def test_published_rows_stand_beside_the_runs(tmp_path: Path) -> None:
    row = {"metric": "kid", "rung": "eeg", "head": None, "scope": "all", "value": 0.0123, "lo": 0.01,
           "hi": 0.02, "chance": None}  # fmt: skip
    rows = [
        {**row, "rung": "floor", "value": 9.0},
        row,
        {**row, "metric": "two_way_clip", "scope": "within-class", "value": 0.6},
        {**row, "metric": "two_way_clip", "value": 0.7, "lo": None, "chance": 0.5},
    ]
    audit = {"verdict": "confounded", "summary": "Design confounded: time.", "waived": ["leak"]}
    write_json(tmp_path / "scores.json", {"rows": rows, "audit": audit})
    text = write_comparison(tmp_path, FOLDER / "eegcvpr-published.csv").read_text("utf-8")
    ours = next(line for line in text.splitlines() if "this run" in line)
    assert "**0.0123** [0.01, 0.02]" in ours and "**0.7**; 0.5" in ours
    assert "37.29" in text and "published, not measured here" in text
    assert "Design confounded" in text and "Waived: leak" in text
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="must have the columns"):
        write_comparison(tmp_path, tmp_path / "bad.csv")
