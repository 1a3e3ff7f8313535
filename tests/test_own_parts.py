"""Parts of one's own: named by module, by entry points, checked; kinds and sources from outside."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eegprompt.core import kinds as kinds_module
from eegprompt.core import registry
from eegprompt.core.errors import InputError, UnknownNameError
from eegprompt.core.kinds import KINDS, LEVELS, add_kinds, parse_kinds, read_kinds
from eegprompt.core.registry import check_name, names, resolve
from eegprompt.settings import load_config
from eegprompt.steps.check_plugin import _CHECKS, check_plugin

PAGE = Path(__file__).parents[1] / "docs" / "own-parts.md"
KIND = """
- name: SurfaceFeel
  level: low
  instruction: Say how the surface of the main object would feel.
  order: 2.5
"""


@pytest.fixture
def own_kinds_forgotten():
    """Kinds that a test adds are gone after it."""
    kinds, levels = dict(KINDS), dict(LEVELS)
    yield
    KINDS.clear()
    KINDS.update(kinds)
    LEVELS.update(levels)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The module of the documentation's examples, importable."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert all(len(block.splitlines()) < 30 for block in blocks)
    (tmp_path / "my_parts.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return importlib.import_module("my_parts")


def module(tmp_path: Path, monkeypatch, text: str) -> None:
    (tmp_path / "odd_parts.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_parts", raising=False)


@pytest.mark.parametrize(
    "spec",
    ["Conv", "Labels", "Labels:x", "Hashed", "Noise:32", "odd_even", "FREQUENT"],
)
def test_the_documented_parts_pass_their_check(parts, spec):
    kind = "split" if spec == "odd_even" else None
    assert check_plugin(f"my_parts:{spec}", kind=kind)


def test_every_kind_of_part_has_a_check_and_an_example():
    text = PAGE.read_text("utf-8")
    for group in registry.ENTRY_POINTS.values():
        assert f"`{group}`" in text or f"`.{group.partition('.')[2]}`" in text
    assert {"encoder", "captioner", "text encoder", "generator", "split"} <= set(_CHECKS)


def test_a_plain_module_is_an_encoder(parts):
    import torch

    make, argument = resolve("encoder", "my_parts:Conv")
    encoder = make(
        heads=["ObjectSnap"], embedding_dim=8, n_chans=5, n_times=40, sfreq=100.0, width=4
    )
    assert argument is None and encoder.config["width"] == 4
    out = encoder(torch.zeros(3, 5, 40), torch.zeros(5, 3))
    assert out["ObjectSnap"].shape == (3, 8)


BAD = """
import numpy as np, torch
from eegprompt.captions.base import Captioner
from eegprompt.generators.base import Generator
from eegprompt.text_encoders.base import TextEncoder

class NaN(torch.nn.Module):
    def forward(self, eeg):
        return eeg.flatten(1) * float("nan")

class Shape(torch.nn.Module):
    def forward(self, eeg):
        return eeg.sum()

class Local(torch.nn.Module):
    def __init__(self, n_chans):
        super().__init__()
        self.net = torch.nn.Linear(n_chans, 2)
        self.f = lambda x: x
    def forward(self, eeg):
        return self.net(eeg.mean(-1))

class NoConstructor(Generator):
    name = "x"
    def __init__(self, *, needed):
        pass
    def generate(self, prompts, seeds):
        return None

class NotImages(Generator):
    name = "x"
    def __init__(self, argument=None):
        pass
    def generate(self, prompts, seeds):
        return np.zeros((len(prompts), 4, 4))

class Abstract(Captioner):
    name = "x"

class Long(TextEncoder):
    name = "x"
    def __init__(self, argument=None, device="auto"):
        pass
    def embed(self, texts):
        return 2 * np.ones((len(texts), 3), np.float32)

class Plain:
    pass

def split(study, name=None):
    return None
"""


@pytest.mark.parametrize(
    ("group", "name", "error"),
    [
        ("encoder", "NaN", InputError),
        ("encoder", "Shape", InputError),
        ("encoder", "Local", InputError),
        ("encoder", "Plain", InputError),
        ("encoder", "Absent", UnknownNameError),
        ("generator", "NoConstructor", InputError),
        ("generator", "NotImages", InputError),
        ("captioner", "Abstract", InputError),
        ("text encoder", "Long", InputError),
        ("split", "split", InputError),
        ("split", "Plain", InputError),
    ],
)
def test_a_bad_part_ends_in_one_sentence(tmp_path, monkeypatch, group, name, error):
    module(tmp_path, monkeypatch, BAD)
    with pytest.raises(error) as problem:
        check_plugin(f"odd_parts:{name}", kind=group)
    assert "\n" not in str(problem.value) and name in str(problem.value)


def test_a_module_that_is_not_there_or_fails(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError):
        resolve("encoder", "no_such_module_at_all:Encoder")
    with pytest.raises(UnknownNameError):
        check_name("encoder", "transfomer")
    check_name("encoder", "no_such_module_at_all:Encoder")
    module(tmp_path, monkeypatch, "import a_package_that_is_missing\n")
    with pytest.raises(InputError, match="a_package_that_is_missing"):
        resolve("generator", "odd_parts:X")


@pytest.mark.parametrize("group", sorted(set(registry._BASES)))
def test_a_name_from_settings_calls_nothing_that_is_no_part(group):
    for spec in ("os:system:true", "subprocess:Popen:true", "builtins:exec:1"):
        with pytest.raises(InputError):
            resolve(group, spec)


def test_names_of_installed_packages_appear(tmp_path, monkeypatch, parts):
    folder = tmp_path / "my_parts-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[eegprompt.encoders]\nconv = my_parts:Conv\n")
    registry.installed.cache_clear()
    try:
        assert "conv" in names("encoder") and "conv" in registry.forms("encoder")
        make, argument = resolve("encoder", "conv")
        assert make.args == (parts.Conv,) and argument is None
        assert load_config({"study": "s", "encoder": {"name": "conv"}}).encoder.name == "conv"
    finally:
        registry.installed.cache_clear()


# -- kinds ---------------------------------------------------------------------------------------
def test_a_kind_takes_its_place(tmp_path, own_kinds_forgotten):
    path = tmp_path / "kinds.yaml"
    path.write_text(KIND)
    assert parse_kinds(f"ObjectSnap,{path},MoodFeel") == ("ObjectSnap", "SurfaceFeel", "MoodFeel")
    assert LEVELS["low"] == ("ObjectSnap", "ColorTone", "ClarityCue", "SurfaceFeel")
    config = load_config({"study": "s", "kinds": ["SurfaceFeel", "ObjectSnap"]})
    stored = config.save(tmp_path / "config.yaml")
    del KINDS["SurfaceFeel"]
    assert load_config(stored).kinds == ("ObjectSnap", "SurfaceFeel")
    assert kinds_module.own_kinds(KINDS) == list(config.own_kinds)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "- 3",
        "[]",
        "- {name: ObjectSnap, level: low, instruction: x, order: 1}",
        "- {name: a b, level: low, instruction: x, order: 1}",
        "- {name: low, level: low, instruction: x, order: 1}",
        "- {name: Good, level: lower, instruction: x, order: 1}",
        "- {name: Good, level: low, order: 1}",
        "- {name: Good, level: low, instruction: x, order: .nan}",
        "- {name: Good, level: low, instruction: x, order: first}",
        "- {name: Good, level: low, instruction: x, place: 1}",
        "- {name: Good, level: low, instruction: x}\n- {name: Good, level: low, instruction: x}",
    ],
)
def test_a_kind_file_that_is_not_in_order(tmp_path, text):
    before = dict(KINDS)
    path = tmp_path / "kinds.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(str(path))):
        add_kinds(path)
    assert before == KINDS


@pytest.mark.slow
def test_a_kind_from_outside_goes_from_captions_to_report(
    small_study, tmp_path, own_kinds_forgotten
):
    """In processes of their own: only what lies on disk is known there."""
    import shutil

    import eegprompt
    from eegprompt.captions.base import Captioner
    from eegprompt.study import Study

    study = Study(shutil.copytree(small_study, tmp_path / "study"))
    path = tmp_path / "kinds.yaml"
    path.write_text(KIND)
    assert [kind.prompt_order for kind in read_kinds(path)] == [2.5]

    class Touch(Captioner):
        name = "touch"
        kinds = parse_kinds(f"ObjectSnap,{path}")

        def answers(self, study, image_ids):
            for n, image_id in enumerate(image_ids):
                words = ("rough", "smooth", "soft", "cold")[n % 4]
                yield image_id, {"ObjectSnap": f"a thing {n % 5}", "SurfaceFeel": words}, None

    eegprompt.caption(study, Touch())
    out = tmp_path / "run"
    code = f"""
import json, eegprompt
from eegprompt.study import Study
study = Study({str(study.path)!r})
settings = {{
    "study": str(study.path), "split": study.split_names()[0], "captions": "touch",
    "kinds": ["SurfaceFeel", "ObjectSnap"], "encoder": {{"name": "ridge"}},
    "evaluation": {{"permutations": 19, "resamples": 100}},
    "generation": {{"options": {{"steps": 1}}, "trials_per_image": 1}},
}}
eegprompt.train(study, {str(out)!r}, eegprompt.load_config(settings))
"""
    later = f"""
import eegprompt
run = {str(out)!r}
eegprompt.decode(run)
eegprompt.generate(run, sources=["eeg"])
eegprompt.evaluate(run)
eegprompt.explain(run, what="patterns")
eegprompt.report(run)
"""
    for script in (code, later):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    run = eegprompt.Run(out)
    assert next(iter(run.prompts["heads"])) == '["ObjectSnap", "SurfaceFeel"]'
    assert "SurfaceFeel" in {row["head"] for row in run.scores.to_dict("records")}
    assert "SurfaceFeel" in run.report_path.read_text("utf-8")


# -- prompt sources --------------------------------------------------------------------------------
def test_a_source_from_outside_is_composed_and_drawn(parts, monkeypatch, tmp_path):
    import shutil

    import tiny_models
    from eegprompt import sources
    from eegprompt.run import Run
    from eegprompt.steps.decode import decode
    from eegprompt.steps.generate import generate

    for name in ("SOURCES", "PROMPT_SOURCES"):
        monkeypatch.setattr(sources, name, getattr(sources, name))
    before = list(sources.SOURCES), list(sources.PROMPT_SOURCES), dict(sources.ENTRIES)
    try:
        clip = tiny_models.save_clip(tmp_path / "clip")
        pipeline = tiny_models.save_pipeline(tmp_path / "pipeline")
        study = tiny_models.save_study(tmp_path / "study", clip)
        run = decode(tiny_models.save_run(tmp_path / "run", study, clip, pipeline))
        asked = ["eeg", "my_parts:FREQUENT"]
        run = generate(run, sources=asked, generator="my_parts:Noise:16")
        rows = run.prompts[run.prompts["source"] == "most-frequent"]
        assert len(rows) == len(run.fold.test) and rows["text"].nunique() == 1
        folder = run.path / "images" / "my_parts-Noise-16" / "most-frequent"
        assert len(list(folder.glob("*.png"))) > 0
        with pytest.raises(UnknownNameError):
            generate(run, sources=["my_parts:ABSENT"])
        with pytest.raises(InputError):
            generate(run, sources=["my_parts:most_frequent"])
    finally:
        sources.SOURCES[:], sources.PROMPT_SOURCES[:] = before[:2]
        sources.ENTRIES.clear()
        sources.ENTRIES.update(before[2])
    # Elsewhere, where the part is not known, the run is as good as before.
    again = Run(shutil.copytree(run.path, tmp_path / "again"))
    assert set(generate(again, sources=["eeg"]).prompts["source"]) >= {"eeg", "floor", "ceiling"}


def test_numbers_of_prompts_are_checked():
    from eegprompt.sources import Source, add_source

    for wrong in (Source("eeg", "x", lambda known: []), Source("x", "x"), object()):
        with pytest.raises(InputError):
            add_source(wrong)  # type: ignore[arg-type]
