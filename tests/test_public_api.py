"""What `import eegprompt` gives, what it costs, and that every name leads somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import eegprompt
from eegprompt.core import registry
from eegprompt.core.errors import UnknownNameError

ROOT = Path(eegprompt.__file__).parent
MODULES = sorted(
    ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for p in ROOT.rglob("*.py")
    if p.name != "__main__.py"
)
HEAVY = ("torch", "mne", "pandas", "scipy", "sklearn", "PIL", "transformers", "matplotlib", "yaml")


def _constants_classes_functions(name: str) -> tuple[int, str]:
    """The order that ruff keeps an __all__ in."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_import_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, time, json; before = time.process_time(); import eegprompt; "
        "print(json.dumps([time.process_time() - before, sorted(sys.modules)]))"
    )
    answers = [json.loads(_python(code)) for _ in range(3)]
    assert min(seconds for seconds, _ in answers) < 0.3
    assert set(answers[0][1]).isdisjoint(HEAVY)


def test_import_leaves_logging_warnings_and_threads_alone():
    code = (
        "import logging, warnings, threading; before = (logging.root.handlers[:], "
        "warnings.filters[:], warnings.showwarning, threading.active_count()); import eegprompt; "
        "print(before == (logging.root.handlers[:], warnings.filters[:], warnings.showwarning, "
        "threading.active_count()))"
    )
    assert _python(code).strip() == "True"


def test_the_command_line_starts_without_torch():
    code = (
        "import sys, eegprompt.cli.app; "
        "print(sorted(set(sys.modules) & {'torch', 'mne', 'pandas', 'transformers'}))"
    )
    assert _python(code).strip() == "[]"


def test_every_public_name_exists_and_is_listed_in_order():
    names = [n for n in eegprompt.__all__ if n != "__version__"]
    assert names == sorted(names)
    assert set(eegprompt.__all__) <= set(dir(eegprompt))
    for name in eegprompt.__all__:
        assert getattr(eegprompt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = eegprompt.nonsense


@pytest.mark.parametrize("module", MODULES)
def test_all_is_sorted_and_every_exported_member_exists(module):
    path = ROOT.joinpath(*module.split(".")[1:])
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(source.read_text("utf-8"))
    listed = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    private = any(p.startswith("_") for p in module.split("."))
    if not listed:
        public = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        assert private or not public, f"{module} defines {public} but no __all__"
        return
    if module == "eegprompt":
        return  # computed; see the test above
    exported = ast.literal_eval(listed[0].value)
    assert exported == sorted(exported, key=_constants_classes_functions)
    assert len(exported) == len(set(exported))
    loaded = importlib.import_module(module)
    assert [name for name in exported if not hasattr(loaded, name)] == []


@pytest.mark.parametrize(
    ("group", "name"), [(g, n) for g in sorted(registry.GROUPS) for n in registry.names(g)]
)
def test_every_registry_entry_leads_to_something_that_can_be_called(group, name):
    target, argument = registry.resolve(group, f"{name}:an:argument")
    assert callable(target)
    assert argument == "an:argument"
    with pytest.raises(UnknownNameError, match=f"did you mean '{name}"):
        registry.resolve(group, f"{name}x")


def test_every_file_of_the_package_is_installed_with_it():
    import tomllib

    source = ROOT.parents[1] / "pyproject.toml"
    if not source.exists():
        pytest.skip("runs in a source tree only")
    patterns = tomllib.loads(source.read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    suffixes = {Path(p).suffix for p in patterns["eegprompt"]}
    lost = [
        str(p.relative_to(ROOT))
        for p in ROOT.rglob("*")
        if p.is_file() and p.suffix not in {*suffixes, ".py", ".pyc"}
    ]
    assert lost == []


def test_the_default_settings_name_what_exists():
    from eegprompt.settings import ExperimentConfig

    config = ExperimentConfig(study="study")
    for group, spec in (
        ("encoder", config.encoder.name),
        ("objective", config.training.objective),
        ("text encoder", config.text_encoder),
        ("generator", config.generation.generator),
        ("features", config.evaluation.features),
    ):
        assert spec.partition(":")[0] in registry.names(group)


def test_constraints_can_be_read_by_pip():
    """A line that is no requirement would stop every installation."""
    from packaging.requirements import Requirement

    root = Path(__file__).parents[1]
    for name in ("constraints.txt", "constraints-eval.txt"):
        lines = [line for line in (root / name).read_text("utf-8").splitlines() if line.strip()]
        assert all(Requirement(line).specifier for line in lines) and len(lines) > 10
