"""Small enough to read: the sizes of files and functions, and which of them are too large.

Usage: python -m tests.rules.sizes
"""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

from tests.rules.reading import ROOT, Module, everything

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
PAGE_SUFFIXES = (".js", ".css", ".html")


def functions(module: Module) -> list[tuple[str, int]]:
    """Each function with its number of lines, from `def` to its last line."""
    return [
        (f"{module.shown}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def files(root: Path = ROOT) -> list[tuple[str, int]]:
    """Each file of source, of Python or of the page, with its number of lines."""
    found = [(module.shown, module.text.count("\n")) for module in everything(root)]
    pages = (path for path in sorted((root / "src").rglob("*")) if path.suffix in PAGE_SUFFIXES)
    return found + [(path.relative_to(root).as_posix(), path.read_text().count("\n")) for path in pages]


def too_large(root: Path = ROOT) -> list[str]:
    """Files and functions over the limits, with their size."""
    found = [f"{name}: {lines} lines" for name, lines in files(root) if lines > MAX_FILE_LINES]
    for module in everything(root):
        found += [f"{name}: {lines} lines" for name, lines in functions(module) if lines > MAX_FUNCTION_LINES]
    return found


def report(root: Path = ROOT) -> str:
    """Median and largest, of the package alone and of everything."""
    rows: list[str] = []
    for title, prefix in (("src", "src/"), ("tests", "tests/"), ("bench", "bench/")):
        sizes = sorted(((lines, name) for name, lines in files(root) if name.startswith(prefix)), reverse=True)
        spans = sorted(
            ((lines, name) for module in everything(root) if module.shown.startswith(prefix)
             for name, lines in functions(module)),
            reverse=True,
        )  # fmt: skip
        for kind, counted in (("files", sizes), ("functions", spans)):
            if counted:
                median = statistics.median(lines for lines, _ in counted)
                largest = ", ".join(f"{name} ({lines})" for lines, name in counted[:3])
                rows.append(f"{title:5} {len(counted):5} {kind:9} median {median:5.0f}   largest: {largest}")
    return "\n".join(rows)


if __name__ == "__main__":
    print(report())
