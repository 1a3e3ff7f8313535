"""Every public thing says what it is, and what it says of its parameters is true."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import eegprompt

ROOT = Path(eegprompt.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py"))
SECTIONS = {
    "Parameters", "Returns", "Yields", "Raises", "Attributes", "Notes", "Examples", "References",
    "See Also", "Warns", "Methods", "Exit codes",
}  # fmt: skip
Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(tree: ast.Module) -> Iterator[tuple[str, Node, ast.ClassDef | None]]:
    """Public functions, classes and methods of a module; nested functions are private."""
    for node in tree.body:
        if isinstance(node, Node) and not node.name.startswith("_"):
            yield node.name, node, None
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if not isinstance(inner, ast.FunctionDef) or inner.name.startswith("_"):
                        continue
                    if not any(ast.unparse(d).endswith("overload") for d in inner.decorator_list):
                        yield f"{node.name}.{inner.name}", inner, node


def sections(text: str) -> dict[str, list[str]]:
    """Lines below each underlined heading."""
    lines = text.splitlines()
    found: dict[str, list[str]] = {}
    heading = ""
    for i, line in enumerate(lines):
        below = lines[i + 1] if i + 1 < len(lines) else ""
        if line.strip() and re.fullmatch(r"-{3,}", below.strip()):
            heading = line.strip()
            found[heading] = []
            if len(below.strip()) != len(heading):
                found.setdefault("(bad underline)", []).append(heading)
        elif heading and not re.fullmatch(r"-{3,}", line.strip()):
            found[heading].append(line)
    return found


def documented(lines: list[str]) -> list[str]:
    """Names of a Parameters section, in order."""
    names: list[str] = []
    for line in lines:
        if line and not line[0].isspace():
            left = re.split(r"\s*:(?:\s|$)", line, maxsplit=1)[0]
            names += [n.strip().lstrip("*") for n in left.split(",")]
    return names


def arguments(node: Node, owner: ast.ClassDef | None) -> list[str]:
    """Names of a call's parameters, without self; a class is called as its __init__."""
    if isinstance(node, ast.ClassDef):
        init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not init:
            return [
                n.target.id
                for n in node.body
                if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
            ]
        return arguments(init[0], node)
    a = node.args
    names = [x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs]]
    static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
    if owner is not None and not static:
        names = names[1:]
    return names + [x.arg for x in (a.vararg, a.kwarg) if x is not None]


def faults(source: str) -> list[str]:
    """What is wrong with the docstrings of a module."""
    tree = ast.parse(source)
    wrong = []
    if not ast.get_docstring(tree) and tree.body:
        wrong.append("the module has no docstring")
    for name, node, owner in public(tree):
        text = ast.get_docstring(node)
        if not text:
            wrong.append(f"{name} has no docstring")
            continue
        first = text.split("\n\n")[0].replace("\n", " ").strip()
        if first[-1] not in ".?!:;":
            wrong.append(f"{name}: the first paragraph does not end as a sentence: {first[-30:]!r}")
        found = sections(text)
        wrong += [
            f"{name}: the line below '{heading}' is not as long as it"
            for heading in found.pop("(bad underline)", [])
        ]
        wrong += [f"{name}: unknown section '{h}'" for h in found if h not in SECTIONS]
        if "Parameters" in found:
            said, real = documented(found["Parameters"]), arguments(node, owner)
            if isinstance(node, ast.ClassDef) and not real:
                continue  # inherits its __init__
            wrong += [
                f"{name}: documents '{n}', which it does not take" for n in said if n not in real
            ]
            if not isinstance(node, ast.ClassDef) or said:
                wrong += [
                    f"{name}: parameter '{n}' is not documented" for n in real if n not in said
                ]
            common = [n for n in said if n in real]
            if sorted(common, key=real.index) != common and not isinstance(node, ast.ClassDef):
                wrong.append(f"{name}: parameters are documented in another order than taken")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_things_are_documented_and_truly(path):
    source = path.read_text("utf-8")
    if not source.strip() or (path.name.startswith("_") and path.name != "__init__.py"):
        return
    assert faults(source) == []


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if ">>> " in p.read_text("utf-8")],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_examples_in_docstrings_run(path):
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module, optionflags=options).failed == 0


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1", "the module has no docstring"),
        ('"""M."""\ndef f(): ...', "f has no docstring"),
        ('"""M."""\ndef f():\n    """No end"""', "does not end as a sentence"),
        (
            '"""M."""\ndef f(a, b):\n    """F.\n\n    Parameters\n    ----------\n    a : int\n    """',
            "'b' is not documented",
        ),
        (
            '"""M."""\ndef f(a):\n    """F.\n\n    Parameters\n    ----------\n    a, c : int\n    """',
            "documents 'c'",
        ),
        ('"""M."""\ndef f():\n    """F.\n\n    Retruns\n    -------\n    int\n    """', "Retruns"),
        ('"""M."""\ndef _f(a): ...', ""),
    ],
)
def test_the_check_sees_what_it_should(source, fault):
    found = " ".join(faults(source))
    assert (fault in found) if fault else not found
