"""Imports run strictly downward. Read from the source, so that nothing need be installed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import eegprompt

ROOT = Path(eegprompt.__file__).parent

L0 = {"errors", "kinds", "types", "artifacts", "study", "run", "registry", "protocols"}
L0 |= {"study_exchange"}  # what study.py imports inside its methods
# Small helpers of several L1 members, which may not import one another.
L0 |= {"pretrained", "builtin_models", "arrays", "image_files"}
L1 = {
    "data",
    "captions",
    "text",
    "encoders",
    "objectives",
    "retrieval",
    "prompts",
    "generators",
    "metrics",
    "controls",
    "interpret",
    "builtin",
}
L3 = {"report", "cli", "__main__"}
# Whatever else stands in the package puts L1 together and is L2.


@dataclass(frozen=True)
class Import:
    """One import statement of one module of ours."""

    module: str  # who imports, e.g. "eegprompt.data.splits"
    target: str  # what is imported
    line: int
    at_import_time: bool

    def __str__(self) -> str:
        return f"{self.module} line {self.line} imports {self.target}"


def layer(part: str) -> int:
    """Layer of a direct member of the package."""
    return 0 if part in L0 else 1 if part in L1 else 3 if part in L3 else 2


def part(module: str) -> str:
    """The package's direct member that a module lies in; "" is the package itself."""
    return module.split(".")[1] if "." in module else ""


def module_name(path: Path, root: Path) -> str:
    """Dotted name of a file below `root`."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, *, is_package: bool, known: set[str]) -> list[Import]:
    """Every import in a file, wherever it stands; `known` are the names of our modules."""
    found: list[Import] = []

    def visit(node: ast.AST, at_import_time: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import_time = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, at_import_time)
            return
        if isinstance(node, ast.Import):
            found.extend(
                Import(module, alias.name, node.lineno, at_import_time) for alias in node.names
            )
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - (node.level - 1)]
                base = ".".join([*package, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                target = whole if whole in known else base
                found.append(Import(module, target, node.lineno, at_import_time))
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.append(Import(module, str(node.args[0].value), node.lineno, at_import_time))
        for child in ast.iter_child_nodes(node):
            visit(child, at_import_time)

    visit(ast.parse(source), True)
    return found


def all_imports(root: Path = ROOT) -> Iterator[Import]:
    """Every import in the package."""
    files = sorted(root.rglob("*.py"))
    known = {module_name(path, root) for path in files}
    for path in files:
        yield from imports_of(
            path.read_text("utf-8"),
            module_name(path, root),
            is_package=path.name == "__init__.py",
            known=known,
        )


def upward(imports: list[Import]) -> list[str]:
    """Imports that do not run downward."""
    wrong = []
    for one in imports:
        if part(one.module) == "" or one.target.split(".")[0] != "eegprompt":
            continue
        here, there = part(one.module), part(one.target)
        if there == "":  # `import eegprompt`: only the version may be meant
            if layer(here) < 2:
                wrong.append(f"{one} (a lower layer asks for the whole package)")
        elif layer(there) > layer(here) or (layer(here) == 1 == layer(there) and here != there):
            wrong.append(f"{one} (layer {layer(here)} from layer {layer(there)})")
    return wrong


IMPORTS = list(all_imports())


def test_imports_run_downward_and_l1_packages_meet_only_through_l0():
    assert upward(IMPORTS) == []


def test_l0_needs_only_numpy_and_the_standard_library_to_be_imported():
    allowed = {*sys.stdlib_module_names, "numpy", "eegprompt"}
    wrong = [
        str(one)
        for one in IMPORTS
        if part(one.module) in L0 and one.at_import_time and one.target.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_the_package_itself_imports_nothing_of_its_own():
    wrong = [
        str(one)
        for one in IMPORTS
        if one.module == "eegprompt"
        and one.at_import_time
        and one.target.split(".")[0] not in sys.stdlib_module_names
    ]
    assert wrong == []


def test_what_the_command_line_loads_at_start_is_light():
    """Walk import-time imports from the command line; nothing heavy may be among them."""
    heavy = {"torch", "mne", "pandas", "scipy", "sklearn", "PIL", "transformers", "matplotlib"}
    by_module: dict[str, list[Import]] = {}
    for one in IMPORTS:
        if one.at_import_time:
            by_module.setdefault(one.module, []).append(one)
    seen, waiting, wrong = set(), ["eegprompt.cli.app"], []
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for one in by_module.get(module, []):
            top = one.target.split(".")[0]
            if top in heavy:
                wrong.append(str(one))
            elif top == "eegprompt":
                waiting.append(one.target)
    assert "eegprompt.cli.studies" in seen
    assert wrong == []


def test_modules_do_not_import_one_another_in_a_circle():
    edges: dict[str, set[str]] = {}
    for one in IMPORTS:
        if one.at_import_time and one.target.startswith("eegprompt.") and one.target != one.module:
            edges.setdefault(one.module, set()).add(one.target)
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            pytest.fail("circle: " + " → ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        for target in sorted(edges.get(module, ())):
            walk(target, [*path, module])
        done.add(module)

    for module in sorted(edges):
        walk(module, [])


def test_every_named_layer_member_exists():
    present = {
        p.stem
        for p in ROOT.iterdir()
        if p.suffix == ".py" or (p.is_dir() and p.name[0] not in "_.")
    }
    assert sorted((L0 | L1 | L3) - present) == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("eegprompt.study", "from eegprompt.data.splits import make_split", 1),
        ("eegprompt.study", "def f():\n    import eegprompt.training", 1),
        ("eegprompt.data.x", "from eegprompt import text", 1),
        ("eegprompt.data.x", "from ..metrics import images", 1),
        ("eegprompt.data.x", "import importlib\nimportlib.import_module('eegprompt.decoder')", 1),
        ("eegprompt.data.x", "from eegprompt.data.y import z\nfrom . import y", 0),
        ("eegprompt.metrics.x", "from eegprompt.errors import InputError", 0),
        ("eegprompt.decoder", "from eegprompt.cli import main", 1),
        ("eegprompt.decoder", "from eegprompt.training import train\nimport eegprompt", 0),
        ("eegprompt.report.x", "from eegprompt.decoding import decode", 0),
    ],
)
def test_the_walk_sees_what_it_should(module, source, count):
    known = {"eegprompt.text", "eegprompt.data.y", "eegprompt.metrics.images"}
    found = imports_of(source, module, is_package=False, known=known)
    assert len(upward(found)) == count


def test_the_walk_knows_import_time_from_later():
    source = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import mne\nclass C:\n    import pandas\n"
    )
    found = imports_of(source, "eegprompt.study", is_package=False, known=set())
    assert [i.target for i in found if i.at_import_time] == ["typing", "pandas"]
