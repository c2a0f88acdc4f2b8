"""Errors are never swallowed: what catches everything passes it on, or is listed here with its reason."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from tests.rules.reading import Module, everything, package

# file and function → why it may catch everything and not pass it on
LISTED = {
    "cli/serving.py gateway": "raised again once the tasks that serve have ended, which would wrap it",
    "reach/gateway/application.py _serve": "the door: whatever breaks behind it becomes an answer",
    "reach/gateway/background.py _run": "a piece of work of its own: a bug in it must not end the others",
    "run/scheduler/loading.py bring": "its own task: whatever an engine raises is told to all who wait",
    "run/scheduler/occupancy.py close": "an engine that closes badly must not keep its memory counted",
}
BROAD = {"Exception", "BaseException"}
_SILENCER = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore)(.*)")
_SPECIFIC = re.compile(r"\s*(:\s*[A-Z]+[0-9]+|\[[\w, -]+\])")


def swallowing(module: Module) -> list[str]:
    """Functions with a handler of everything that can end without raising."""
    found: set[str] = set()
    inside: dict[ast.AST, str] = {}
    for node in ast.walk(module.tree):  # from the outside in, so the innermost function wins
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else inside.get(node, "")
        inside.update(dict.fromkeys(ast.iter_child_nodes(node), name))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _passes_on(node.body):
            found.add(f"{module.shown} {name}")
    return sorted(found)


def vague_silencers(module: Module) -> list[str]:
    """Comments that silence a checker without naming what exactly they silence."""
    found: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        match = _SILENCER.match(token.string) if token.type == tokenize.COMMENT else None
        if match and not _SPECIFIC.match(match[2]):
            found.append(f"{module.shown}:{token.start[0]} {token.string}")
    return found


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(each, ast.Name) and each.id in BROAD for each in kinds)


def _passes_on(body: list[ast.stmt]) -> bool:
    """Whether every way through `body` ends in `raise`."""
    last = body[-1]
    match last:
        case ast.Raise():
            return True
        case ast.If(body=then, orelse=otherwise):
            return bool(otherwise) and _passes_on(then) and _passes_on(otherwise)
        case ast.With(body=inner) | ast.AsyncWith(body=inner):
            return _passes_on(inner)
        case ast.Try(finalbody=final) if final and _passes_on(final):
            return True
        case _:
            return False


def test_nothing_is_swallowed_but_where_it_is_listed() -> None:
    assert {place for module in package() for place in swallowing(module)} == set(LISTED)


def test_every_silenced_check_is_named() -> None:
    assert [line for module in everything() for line in vague_silencers(module)] == []


@pytest.mark.parametrize(
    "handler",
    [
        "except Exception:\n    pass",
        "except BaseException as error:\n    print(error)",
        "except:\n    x = 1",
        "except (OSError, Exception):\n    return_value = 1",
        "except Exception:\n    if x:\n        raise",
    ],
)
def test_a_swallowing_handler_is_found(tmp_path: Path, handler: str) -> None:
    assert swallowing(_planted(tmp_path, f"try:\n    x = 1\n{handler}\n"))


@pytest.mark.parametrize(
    "handler",
    [
        "except BaseException:\n    x = 2\n    raise",
        "except Exception as error:\n    raise ValueError from error",
        "except OSError:\n    pass",
        "except Exception:\n    if x:\n        raise\n    else:\n        raise ValueError",
    ],
)
def test_a_handler_that_passes_on_is_not_found(tmp_path: Path, handler: str) -> None:
    assert not swallowing(_planted(tmp_path, f"try:\n    x = 1\n{handler}\n"))


@pytest.mark.parametrize(
    ("comment", "is_vague"),
    [
        ("# noqa", True),
        ("# type: ignore", True),
        ("# pyright: ignore", True),
        ("# noqa: it is fine", True),
        ("# noqa: BLE001 - listed", False),
        ("# type: ignore[arg-type]", False),
        ("# pyright: ignore[reportPrivateUsage]", False),
    ],
)
def test_a_vague_silencer_is_found(tmp_path: Path, comment: str, is_vague: bool) -> None:
    assert bool(vague_silencers(_planted(tmp_path, f"x = 1  {comment}\n"))) == is_vague


def _planted(tmp_path: Path, text: str) -> Module:
    path = tmp_path / "planted.py"
    path.write_text(text)
    return Module(path, tmp_path)
