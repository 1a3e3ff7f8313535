"""Every registered part keeps the contract that parts of one's own are held to."""

from __future__ import annotations

import inspect

import pytest

import tiny_models
from eegprompt.core.registry import ENTRY_POINTS, GROUPS, resolve
from eegprompt.steps.check_plugin import _CHECKS, check_plugin

# Group -> name -> what is put behind it and its options; None where the part needs a server, a
# recording or a large model: then its class alone is looked at, and its own tests do the rest.
CASES: dict[str, dict[str, tuple[str, dict] | None]] = {
    "captioner": {"chat": None, "file": None, "local": None, "rules": ("", {})},
    "text encoder": {
        "builtin": ("", {}),
        "clip": (":{clip}", {}),
        "sentence-transformers": None,
        "images": None,
    },
    "generator": {
        "builtin": ("", {"steps": 1}),
        "diffusers": (":{pipeline}", {"steps": 1, "height": 16, "width": 16}),
        "nearest": ("", {"height": 16, "width": 16}),
        "server": None,
    },
    "encoder": {
        "adapted": None,
        "atm": ("", {}),
        "braindecode": None,
        "fused": None,
        "nice": ("", {}),
        "ridge": None,
        "transformer": ("", {}),
    },
    "features": {"builtin": ("", {}), "pretrained": None},
    "split": {
        "by-image": ("", {}),
        "by-run": ("", {"within_subject": False}),
        "by-subject": ("", {}),
        "cross-session": ("", {}),
        "forward-in-block": ("", {}),
        "leave-classes-out": ("", {"classes": 1}),
        "leave-one-session-out": ("", {}),
        "official": None,
    },
}
BASES = {
    "captioner": "eegprompt.captions.base:Captioner",
    "text encoder": "eegprompt.text_encoders.base:TextEncoder",
    "generator": "eegprompt.generators.base:Generator",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("models")
    return {
        "clip": str(tiny_models.save_clip(place / "clip")),
        "pipeline": str(tiny_models.save_pipeline(place / "pipeline")),
    }


@pytest.mark.parametrize("group", sorted(CASES))
def test_no_registered_part_is_left_out(group):
    own = {name for name, target in GROUPS[group].items() if target.startswith("eegprompt.")}
    assert set(CASES[group]) == own
    assert group in _CHECKS and group in ENTRY_POINTS


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in CASES for name in CASES[group]]
)
def test_a_registered_part_keeps_its_contract(models, group, name):
    case = CASES[group][name]
    if case is not None:
        behind, options = case
        assert check_plugin(name + behind.format(**models), kind=group, **options)
        return
    target, _ = resolve(group, name)
    if group in BASES:
        module, _, base = BASES[group].partition(":")
        contract = getattr(__import__(module, fromlist=[base]), base)
        assert issubclass(target, contract) and not inspect.isabstract(target)
    else:
        assert callable(target)


@pytest.mark.parametrize("group", sorted(CASES))
def test_a_constructor_takes_an_argument_and_options_by_keyword(group):
    for name in CASES[group]:
        if group in BASES:
            target, _ = resolve(group, name)
            first = next(iter(inspect.signature(target).parameters.values()))
            assert first.kind is first.POSITIONAL_OR_KEYWORD
