"""Seams stay narrow, and what crosses them is frozen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.rules.reading import Module, package

MAX_SEAM = 2  # in core/protocols.py: what a stranger implements
MAX_VIEW = 4  # elsewhere: what one module wants of another, in its own words


def protocols(module: Module) -> list[tuple[str, int]]:
    """Each Protocol class with its number of methods; properties are data, not methods."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and any(_is_protocol(base) for base in node.bases):
            methods = [
                each
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                and not any(_last_name(mark) == "property" for mark in each.decorator_list)
            ]
            found.append((node.name, len(methods)))
    return found


def too_wide(modules: list[Module]) -> list[str]:
    """Seams with more than two methods, and views with more than four."""
    found: list[str] = []
    for module in modules:
        limit = MAX_SEAM if module.name == "core.protocols" else MAX_VIEW
        found += [f"{module.shown} {name}: {count} methods" for name, count in protocols(module) if count > limit]
    return found


def not_frozen(modules: list[Module]) -> list[str]:
    """Structs of core, which cross seams, that can be changed on the way."""
    found: list[str] = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and any(_last_name(base) == "Struct" for base in node.bases):
                options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if options.get("frozen") != "True":
                    found.append(f"{module.shown} {node.name}")
    return found


def _is_protocol(base: ast.expr) -> bool:
    return _last_name(base) == "Protocol" and not ast.unparse(base).startswith("asyncio.")


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_every_seam_is_narrow() -> None:
    assert too_wide(package()) == []


def test_every_struct_of_core_is_frozen() -> None:
    core = [module for module in package() if module.name.startswith("core")]
    assert not_frozen(core) == []


@pytest.mark.parametrize(("name", "num_methods"), [("core/protocols.py", 3), ("reach/wants.py", 5)])
def test_a_wide_seam_is_found(tmp_path: Path, name: str, num_methods: int) -> None:
    methods = "".join(f"    def m{i}(self): ...\n" for i in range(num_methods))
    wide = _planted(tmp_path, name, f"class Wide(Protocol):\n{methods}")
    narrow = _planted(tmp_path, name, f"class Narrow(Protocol[T]):\n{methods.partition('m1')[0]}m1(self): ...\n")
    assert too_wide([wide]) == [f"{name} Wide: {num_methods} methods"]
    assert too_wide([narrow]) == []


def test_a_struct_that_can_change_is_found(tmp_path: Path) -> None:
    text = "class Loose(Struct):\n    x: int\nclass Firm(msgspec.Struct, frozen=True):\n    x: int\n"
    assert not_frozen([_planted(tmp_path, "core/thing.py", text)]) == ["core/thing.py Loose"]


def _planted(tmp_path: Path, name: str, text: str) -> Module:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return Module(path, tmp_path)
