"""Reads the project as text and as syntax trees: what the rule tests look at."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "catena"
PYTHON_FOLDERS = ("src", "tests", "bench", "setup")
_MADE = {"__pycache__", "build", "dist", ".git", ".venv", ".state"}


class Module:
    """One Python file: its path, its dotted name below the folder it was found in, its text and its syntax tree."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path = path
        parts = path.relative_to(base).with_suffix("").parts
        self.name = ".".join(part for part in parts if part != "__init__")
        self.shown = path.relative_to(base).as_posix()
        self.text = path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def first_sentence(self) -> str:
        """The first paragraph of the docstring, or nothing."""
        return (ast.get_docstring(self.tree) or "").partition("\n\n")[0]


def modules(*folders: Path, base: Path = ROOT) -> list[Module]:
    """Every Python file below `folders`, in the order of their paths, named relative to `base`."""
    return [Module(path, base) for folder in folders for path in sorted(folder.rglob("*.py"))]


def package() -> list[Module]:
    """The files of the package itself, named `core.errors` and so on."""
    return modules(SOURCE, base=SOURCE)


def everything(root: Path = ROOT) -> list[Module]:
    """All Python files of the project."""
    return modules(*(root / folder for folder in PYTHON_FOLDERS), base=root)


def texts(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Path and text of every file that is kept, whatever its kind; what is made or cannot be text is left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_made(name))
        for name in sorted(files):
            path = Path(folder) / name
            try:
                yield path.relative_to(root).as_posix(), path.read_text()
            except (UnicodeDecodeError, OSError):
                continue


def _is_made(name: str) -> bool:
    return name in _MADE or name.endswith((".egg-info", "_cache")) or name == ".hypothesis"
