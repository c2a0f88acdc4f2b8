"""Writes the annotated tree: one screen of folders into the READMEs, and every file with its first sentence into docs.

Usage: python -m tests.rules.tree
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.rules.reading import ROOT

READMES = ("README.md", "README.zh.md")
PAGE = "docs/tree.md"
MARKS = re.compile(r"(<!-- tree -->\n).*?(<!-- /tree -->)", re.DOTALL)
WIDTH = 120
DEPTH = 3
ROOMS = ("core", "watch", "store", "build", "run", "reach", "use", "domains", "cli")  # from the bottom up
# Folders in which one file is one thing: their files are named even on the short tree.
ONE_EACH = (
    "src/catena/cli/verbs",
    "src/catena/run/dialects",
    "src/catena/run/engines",
    "src/catena/reach/gateway/protocols",
    "src/catena/reach/privacy/detectors",
)

# What has no docstring: top-level folders and files, in the order in which a newcomer needs them.
TOP = {
    "src/catena": "the package; each room is one verb of a model's life",
    "recipes": "one file = one reproducible run that makes data or weights which ship",
    "tests": "mirrors src; stories: the life of a model; conformance: one suite per seam; rules: layers, sizes, names",
    "bench": "one script = one published number; results/ with machine and date",
    "docs": "guides · reference (generated) · decisions · every file in one sentence (tree.md)",
    "setup": "what `make` calls to prepare .venv and this machine",
    "Makefile": "run · test · lint · bench · docs: each line calls one real command",
    "pyproject.toml": "dependencies, extras, ruff, pyright, pytest, import contracts",
    "requirements.txt": "what `make run` installs, pinned with hashes; requirements-dev.txt: what `make test` adds",
}

HEAD = """\
# Every file in one sentence

Made by `python -m tests.rules.tree` from the first sentence of each file; a test keeps it current.
"""


def sentence(path: Path) -> str:
    """The first sentence of a Python file or package, without its full stop."""
    file = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    return (text or "").partition("\n\n")[0].replace("\n", " ").removesuffix(".")


def children(folder: Path) -> list[Path]:
    """Packages and modules directly in `folder`: rooms in their order, packages before modules, then by name."""
    found = [
        path
        for path in folder.iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.name != "__init__.py")
    ]
    return sorted(found, key=lambda path: (path.is_file(), _place(path.name), path.name))


def _place(name: str) -> int:
    return ROOMS.index(name) if name in ROOMS else len(ROOMS)


def short_tree(root: Path = ROOT) -> str:
    """The tree of the READMEs: folders only, down to the third level, in a fenced block."""
    rows: list[tuple[str, str]] = []
    for name, words in TOP.items():
        is_folder = (root / name).is_dir()
        rows.append((f"{name}/" if is_folder else name, words))
        if name == "src/catena":
            rows += _folders(root / name, root, 1)
    column = max(len(name) for name, _ in rows) + 2
    lines: list[str] = []
    for name, words in rows:
        lines += _wrapped(f"{name:{column}}", words)
    return "```\n" + "\n".join(lines) + "\n```\n"


def page(root: Path = ROOT) -> str:
    """docs/tree.md: a table for each package, a row for each of its files."""
    parts = [HEAD]
    packages = [root / "src" / "catena"]
    while packages:
        folder = packages.pop(0)
        inside = children(folder)
        packages[:0] = [path for path in inside if path.is_dir()]
        parts.append(f"\n## {folder.relative_to(root / 'src').as_posix()}\n\n{sentence(folder)}.\n")
        files = [path for path in inside if path.is_file()]
        if files:
            parts.append("| file | |\n|---|---|")
            parts += [f"| [{path.name}](../{path.relative_to(root).as_posix()}) | {_cell(path)} |" for path in files]
    return "\n".join(parts) + "\n"


def filled(text: str, root: Path = ROOT) -> str:
    """`text` with the short tree between its marks; unchanged if it has none."""
    tree = short_tree(root)
    return MARKS.sub(lambda match: match[1] + tree + match[2], text)


def _cell(path: Path) -> str:
    return sentence(path).replace("|", "\\|")


def _folders(folder: Path, root: Path, depth: int) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for path in children(folder):
        if not path.is_dir():
            continue
        is_listed = path.relative_to(root).as_posix() in ONE_EACH
        words = sentence(path)
        if is_listed:
            words += ": " + ", ".join(sorted(child.stem for child in children(path)))
        rows.append((f"{'  ' * depth}{path.name}/", words))
        if depth < DEPTH and not is_listed:
            rows += _folders(path, root, depth + 1)
    return rows


def _wrapped(name: str, words: str) -> list[str]:
    lines, line = [], name
    for word in words.split():
        if len(line) + 1 + len(word) > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = " " * len(name)
        line += word + " "
    return [*lines, line.rstrip()]


def main() -> None:
    (ROOT / PAGE).write_text(page())
    for name in READMES:
        path = ROOT / name
        if path.exists():
            path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
