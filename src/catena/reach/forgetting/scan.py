"""Looks for texts, in all their forms, in every byte of every file of a state folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

from msgspec import Struct

from catena.reach.forgetting.forms import Forms
from catena.reach.forgetting.unpacking import pieces


class Hit(Struct, frozen=True):
    """A file that holds texts: its path below the folder, and the numbers of the texts, from 1."""

    path: str
    texts: tuple[int, ...]


class Scan(Struct, frozen=True):
    """What was looked at and found; files that could not be read are named, for they prove nothing."""

    files: int
    bytes: int
    hits: tuple[Hit, ...]
    unread: tuple[str, ...] = ()


def files(folder: Path) -> Generator[Path]:
    """Every regular file below `folder`, by name; links are not followed."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                yield path


def scan(folder: Path, forms: Forms, *, is_wanted: Callable[[Path], bool] = lambda _: True) -> Scan:
    """Look for `forms` in names and contents of all files of `folder` that are wanted. Files that vanish are gone."""
    hits: list[Hit] = []
    unread: list[str] = []
    num_files = num_bytes = 0
    for path in files(folder):
        name = str(path.relative_to(folder))
        if not is_wanted(path):
            continue
        found = forms.find_text(name)
        try:
            num_bytes += path.stat().st_size
            with path.open("rb") as file:
                for piece in pieces(file):
                    found |= forms.find(piece)
        except FileNotFoundError:
            continue
        except OSError:
            unread.append(name)
        num_files += 1
        if found:
            hits.append(Hit(name, tuple(number + 1 for number in sorted(found))))
    return Scan(num_files, num_bytes, tuple(hits), tuple(unread))
