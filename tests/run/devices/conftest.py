"""A machine made up of files: `/proc` and `/sys` below a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Tree = Callable[[dict[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files by path; a text `-> TARGET` makes a link to a folder, which is made too."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                target = tmp_path / text[3:]
                target.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target)
            else:
                path.write_text(text)
        return tmp_path

    return write
