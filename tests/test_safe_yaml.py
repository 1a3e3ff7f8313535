"""YAML from anybody: nothing hangs, nothing fills memory, nothing ends in a traceback."""

from __future__ import annotations

import time

import pytest

from eegprompt.cli.options import plain
from eegprompt.core.errors import InputError, RunError
from eegprompt.core.safe_yaml import MAX_BYTES, parse_yaml, read_yaml, read_yaml_settings
from eegprompt.recipe import load_recipe
from eegprompt.run import Run
from eegprompt.settings import apply_overrides, load_config

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghij", "bcdefghijk")
)
HOSTILE = {
    "aliases of aliases": BOMB,
    "merges of merges": "a: &a {x: 1}\n"
    + "".join(
        f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi")
    ),
    "an alias inside of itself": "a: &a [1, *a]\n",
    "a mapping inside of itself": "&a {b: *a}\n",
    "deep lists": "a: " + "[" * 5000 + "]" * 5000,
    "deep unclosed": "[" * 50_000,
    "deep mappings": "{a: " * 3000 + "1" + "}" * 3000,
    "deep blocks": "- " * 2000 + "1",
    "a name twice": "seed: 1\nseed: 2\n",
    "python object": "!!python/object/apply:os.system ['touch /tmp/x']\n",
    "an integer of 10,000 digits": "seed: " + "9" * 10_000,
    "month 13": "seed: 2020-13-45\n",
    "bool that is none": "seed: !!bool maybe\n",
    "date that is none": "seed: !!timestamp tomorrow\n",
    "int that is none": "seed: !!int ''\n",
    "float that is none": "seed: !!float x\n",
    "list as a name": "? [1, 2]\n: 3\n",
    "too large": "a" * (MAX_BYTES + 1),
    "two documents": "a: 1\n---\nb: 2\n",
    "control characters": "a: \x01\n",
    "half of a surrogate pair": 'a: "\\ud800"\n',
    "an alias of nothing": "a: *b\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_at_once(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(HOSTILE[name], "utf-8")
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError):
        load_recipe(path)
    with pytest.raises(InputError):
        load_config(path)
    with pytest.raises(RunError):
        Run(tmp_path)
    assert time.process_time() - began < 10


def test_hostile_words_on_the_command_line_are_refused_or_text():
    for text in ("[" * 3000, "&a [*a]", "1" * 5000):
        with pytest.raises(InputError):
            apply_overrides({}, [f"seed={text}"])
        assert plain(text) == text


def test_what_settings_need_is_read(tmp_path):
    text = "base: &base {epochs: 3, 1: one}\nother: {<<: *base, epochs: 5}\nlist: [*base, *base]\n"
    base = {"epochs": 3, 1: "one"}
    found = parse_yaml(text, "settings")
    assert found == {"base": base, "other": {**base, "epochs": 5}, "list": [base, base]}
    assert parse_yaml("", "settings") is None
    path = tmp_path / "settings.yaml"
    path.write_text("", "utf-8")
    assert read_yaml_settings(path) == {}
    for wrong in ("- 1\n- 2\n", "1: 2\n", "text"):
        path.write_text(wrong, "utf-8")
        with pytest.raises(InputError):
            read_yaml_settings(path)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(InputError):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError):
        read_yaml(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(RunError):
        read_yaml(tmp_path / "bytes.yaml", error=RunError)
