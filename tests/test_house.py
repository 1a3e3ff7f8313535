"""The rules of the house, read from the source: where things lie, who imports whom, how large they are."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import eegprompt
from eegprompt.core.registry import GROUPS

ROOT = Path(eegprompt.__file__).parent

# From the ground up: a package imports only from packages that stand before it.
ORDER = [
    "core",
    "study",
    "types",
    "signal",
    "prompts",
    "splits",
    "settings",
    "builtin",
    "stats",
    "metrics",
    "features",
    "text_encoders",
    "captions",
    "generators",
    "encoders",
    "retrieval",
    "training",
    "confounds",
    "attribution",
    "figures",
    "run",
    "decoded",
    "decoder",
    "sources",
    "scores",
    "audit_stamp",
    "ablations",
    "analyses",
    "readers",
    "publication",
    "reports",
    "recipe",
    "steps",
    "cli",
    "__main__",
]

# Where registered parts lie; the file is called as the registry calls the part.
FOLDERS = {
    "analysis": "analyses",
    "reader": "readers",
    "captioner": "captions",
    "text encoder": "text_encoders",
    "encoder": "encoders",
    "generator": "generators",
    "features": "features",
    "split": "splits",
}

# What does not keep a rule yet. A list only shrinks: what keeps its rule must be struck out.
UPWARD_STILL: set[str] = set()
CIRCLES_STILL = {("study.study", "study.exchange")}
RUN_STILL: set[str] = {
    "publication.figure_images",
    "publication.folder",
}
STEPS_STILL: set[str] = set()
LONG_FILES_STILL: set[str] = set()
LONG_FUNCTIONS_STILL: set[str] = {
    "confounds.signal_checks.check_decoders",
}


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees by dotted name without the package's own."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"))
    return found


def without_typing(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from without_typing(child)


def imports_of(tree: ast.Module, *, typing: bool = True) -> set[str]:
    """Modules of ours that a module imports anywhere, without the package's own name."""
    known = modules()
    found = set()
    for node in ast.walk(tree) if typing else without_typing(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eegprompt."):
            base = str(node.module).removeprefix("eegprompt.")
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base)
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("eegprompt.") for a in node.names if "eegprompt." in a.name
            }
    return found


def package(module: str) -> str:
    return module.split(".")[0]


def test_every_package_has_its_place_in_the_order():
    assert {package(m) for m in modules() if m} == set(ORDER)


def test_imports_run_strictly_downward():
    rank = {name: i for i, name in enumerate(ORDER)}
    upward = [
        f"{module} imports {target}"
        for module, tree in modules().items()
        for target in sorted(imports_of(tree))
        if module and target and rank[package(target)] > rank[package(module)]
    ]
    assert set(upward) == UPWARD_STILL


def test_modules_do_not_import_one_another_in_a_circle():
    edges = {m: imports_of(tree, typing=False) - {m} for m, tree in modules().items()}
    for one, other in CIRCLES_STILL:
        assert other in edges[one]
        edges[one].discard(other)
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join([*path, module])}"
        if module in done:
            return
        for target in sorted(edges.get(module, ())):
            walk(target, (*path, module))
        done.add(module)

    for module in sorted(edges):
        walk(module, ())


@pytest.mark.parametrize("group", sorted(FOLDERS))
def test_a_registered_part_lies_in_the_file_of_its_name(group):
    for name, target in GROUPS[group].items():
        if not target.startswith("eegprompt."):
            continue  # a part of somebody's own
        assert target.partition(":")[0] == f"eegprompt.{FOLDERS[group]}.{name.replace('-', '_')}"


@pytest.mark.parametrize("group", sorted(FOLDERS))
def test_a_group_of_parts_has_its_contract(group):
    base = importlib.import_module(f"eegprompt.{FOLDERS[group]}.base")
    assert inspect.getdoc(base)


def test_no_file_name_occurs_twice():
    registered = {
        target.partition(":")[0].rpartition(".")[2]
        for names in GROUPS.values()
        for target in names.values()
    }
    files = Counter(path.name for path in ROOT.rglob("*.py"))
    allowed = {"__init__.py", "__main__.py", "base.py", *(f"{name}.py" for name in registered)}
    verbs = {path.name for path in (ROOT / "steps").glob("*.py")}  # cli/VERB.py calls steps/VERB.py
    twice = {
        name: n
        for name, n in files.items()
        if n > 1 and name not in allowed and not (name in verbs and n == 2)
    }
    assert twice == {}


def test_packages_of_nouns_never_see_a_run():
    allowed = {"run", "decoder", "steps", "cli", "reports", "__main__"}
    wrong = [
        m
        for m, tree in modules().items()
        if "run" in imports_of(tree) and package(m) not in allowed
    ]
    assert set(wrong) == RUN_STILL


def test_a_step_is_a_function_of_the_package():
    wrong = set()
    for path in sorted((ROOT / "steps").glob("[a-z]*.py")):
        function = getattr(eegprompt, path.stem, None)
        if getattr(function, "__module__", None) != f"eegprompt.steps.{path.stem}":
            wrong.add(path.stem)
    assert wrong == STEPS_STILL


def test_no_file_is_longer_than_600_lines():
    long = {
        str(p.relative_to(ROOT))
        for p in ROOT.rglob("*.py")
        if len(p.read_text("utf-8").splitlines()) > 600
    }
    assert long == LONG_FILES_STILL


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (int(body[-1].end_lineno or 0) - body[0].lineno + 1) if body else 0


def test_no_function_has_a_body_of_more_than_80_lines():
    long = {
        f"{m}.{node.name}"
        for m, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > 80
    }
    assert long == LONG_FUNCTIONS_STILL


def imported_at_start(tree: ast.AST) -> Iterator[str]:
    """Top-level packages of others that importing a module imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        yield from imported_at_start(node)


@pytest.mark.parametrize("package_name", ["core", "study", "run", "types"])
def test_the_ground_needs_only_numpy_and_the_standard_library(package_name):
    allowed = {*sys.stdlib_module_names, "numpy", "eegprompt"}
    on_use = {"core.safe_yaml": "yaml", "core.schemas": "pydantic"}
    for module, tree in modules().items():
        if package(module) == package_name:
            assert set(imported_at_start(tree)) <= {*allowed, on_use.get(module)}, module
            # What needs more is itself imported where it is used only.
            at_start = {n.module for n in tree.body if isinstance(n, ast.ImportFrom)}
            assert not at_start & {f"eegprompt.{heavy}" for heavy in on_use}, module


def test_what_the_command_line_loads_at_start_is_light():
    code = (
        "import sys, eegprompt.cli.app; heavy = {'torch', 'mne', 'pandas', 'scipy', 'sklearn', 'PIL', "
        "'transformers', 'matplotlib'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Words of our own that the field has other words for, and what to write instead.
NOT_BUT = {
    r"\bpurity\b": "k-NN accuracy",
    r"\b(learned|tried) at\b": "training or testing time",
    r"\bquadratic means?\b": "RMS",
    r"\bgoe?s? along with\b": "covaries with",
    r"\brungs?\b": "prompt source",
    r"\bladder\b": "prompt sources",
    r"\bwaive[rd]?s?\b": "allow leakage",
    r"\bfitted[ _]steps\b": "preprocessing",
    r"\bnull heads?\b": "head at chance",
    r"\bpeople never seen\b": "unseen subjects",
    r"\b(training|validation|test|selection) side\b": "training, validation or test set",
}


@pytest.mark.parametrize("word", NOT_BUT)
def test_words_that_may_not_come_back(word):
    found = [
        f"{path.relative_to(ROOT.parent)}:{number}"
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in (".py", ".jinja", ".md", ".css") and "weights" not in path.parts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(word, line, re.IGNORECASE)
    ]
    assert found == [], f"write: {NOT_BUT[word]}"
