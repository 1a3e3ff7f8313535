"""The page of settings says what the code says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from eegprompt.cli.app import app
from eegprompt.reports.settings_page import list_settings
from eegprompt.settings import apply_overrides, load_config

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_the_page_is_that_of_the_code():
    # In a process of its own: other tests register names of theirs.
    code = (
        "from eegprompt.reports.settings_page import settings_page; print(settings_page(), end='')"
    )
    page = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8"
    ).stdout
    assert PAGE.read_text("utf-8") == page, (
        "a setting has changed; run: eegprompt settings --markdown > docs/settings.md"
    )


def test_every_setting_is_listed_with_a_meaning_and_a_default_that_is_one():
    settings = list_settings()
    config = load_config({"study": "x"}).model_dump(mode="json")
    flat = {
        f"{name}.{inner}" if isinstance(value, dict) else name: part
        for name, value in config.items()
        for inner, part in (value.items() if isinstance(value, dict) else [("", value)])
    }
    assert {s.key for s in settings} == set(flat)
    assert all(s.meaning for s in settings)
    for setting in settings:
        if setting.default:
            assert yaml.safe_load(setting.default) == flat[setting.key], setting.key
            words = [f"{setting.key}={setting.default}", "study=x"]
            assert load_config(apply_overrides({}, words)) == load_config({"study": "x"})


def test_choices_and_limits_are_those_that_are_checked():
    allowed = {s.key: s.allowed for s in list_settings()}
    assert allowed["decoding.order"] == "kinds, confidence, object-first"
    assert allowed["decoding.abstain"] == "≥ 0.5 < 1 or null"
    assert "diffusers:MODEL" in allowed["generation.generator"]
    for word in ("decoding.order=kind", "decoding.abstain=0.4", "decoding.selection=topk:2"):
        with pytest.raises(ValueError, match=word.partition("=")[0]):
            load_config({"study": "x"}, [word])


def test_the_command_lists_them():
    run = CliRunner().invoke
    answer = run(app, ["settings", "generation.", "--json"])
    assert {row["key"].partition(".")[0] for row in json.loads(answer.stdout)} == {"generation"}
    assert "training.epochs" in run(app, ["settings", "epochs"]).stdout
    from eegprompt.reports.settings_page import settings_page

    assert run(app, ["settings", "--markdown"]).stdout == settings_page()
    answer = run(app, ["settings", "decodin.order"])
    assert answer.exit_code == 2 and "did you mean 'decoding.order'" in answer.stderr


def test_a_setting_given_as_nothing_is_an_empty_text():
    base = {"study": "s", "generation": {"negative_prompt": "fog"}}
    assert load_config(base, ["generation.negative_prompt="]).generation.negative_prompt == ""
    assert load_config(base, ["decoding.abstain=null"]).decoding.abstain is None
