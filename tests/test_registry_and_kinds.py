"""Names a user types."""

import sys

import pytest

from eegprompt.core import registry
from eegprompt.core.errors import EegpromptError, UnknownNameError
from eegprompt.core.kinds import KINDS, LEVELS, parse_kinds
from eegprompt.run import slug
from eegprompt.settings import load_config


def test_there_are_ten_kinds_in_three_levels():
    assert len(KINDS) == 10
    assert [len(v) for v in LEVELS.values()] == [3, 4, 3]
    assert sorted(k.prompt_order for k in KINDS.values()) == list(range(10))


def test_kinds_are_parsed_in_prompt_order():
    assert parse_kinds("StoryHint, ObjectSnap,StoryHint") == ("ObjectSnap", "StoryHint")
    assert parse_kinds(["mid"]) == LEVELS["mid"]
    assert parse_kinds(None) == tuple(KINDS)
    with pytest.raises(UnknownNameError, match="did you mean 'MoodFeel'"):
        parse_kinds("Moodfeel2")


def test_an_entry_is_imported_only_when_it_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "a_plugin_of_mine.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.GROUPS, "generator", dict(registry.GROUPS["generator"]))
    registry.register("generator", "mine", "a_plugin_of_mine:Thing")
    assert "mine" in registry.names("generator") and "a_plugin_of_mine" not in sys.modules
    target, argument = registry.resolve("generator", "mine:some/model:tag")
    assert target.__name__ == "Thing" and argument == "some/model:tag"
    with pytest.raises(EegpromptError, match="exists already"):
        registry.register("generator", "mine", "other:Thing")
    with pytest.raises(UnknownNameError, match="did you mean 'mine'"):
        registry.resolve("generator", "mien")


def test_settings_are_checked_before_anything_runs():
    config = load_config(
        {"study": "s"}, ["training.epochs=5", "kinds=high", "generation.sources=[eeg]"]
    )
    assert config.training.epochs == 5 and len(config.kinds) == 3
    with pytest.raises(ValueError, match="did you mean 'seed'") as problem:
        load_config({"study": "s", "sed": 1, "training": {"epochs": 0}})
    assert "training.epochs" in str(problem.value)
    with pytest.raises(ValueError, match="key=value"):
        load_config({"study": "s"}, ["epochs"])
    with pytest.raises(ValueError, match="does not exist"):
        load_config("nowhere.yaml")


def test_only_settings_that_decide_training_are_in_its_key():
    base = load_config({"study": "s"})
    assert base.key == load_config({"study": "s", "generation": {"samples": 3}}).key
    assert base.key != load_config({"study": "s", "seed": 1}).key


def test_slug():
    assert slug("a b/c:d") == "a-b-c-d"
