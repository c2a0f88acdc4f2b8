"""One file per format, found by name: reads headers, within bounds, and says what a model is."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from catena.core.errors import FormatError, NotFoundError, UnsupportedError
from catena.core.manifest import Signature, Task

Value = str | int | float | bool


# Where the file of a model with this name is, as a path without links; None if there is none.
Find = Callable[[str], Path | None]


class Facts(Struct, frozen=True):
    """What a model's files say of it, in the words of the manifest; `chat_template` is the template's text."""

    task: Task
    licence: str = "unknown"
    signature: Signature = Signature()
    values: dict[str, Value] = {}
    chat_template: str | None = None


class Format(Protocol):
    """A module of this package. `COMPANIONS`: files that belong to a model if they lie beside it, name → role.

    `NEEDS_FOLDER`: whether those who load such a model look for its other files beside the weights, by name.
    """

    COMPANIONS: Mapping[str, str]
    NEEDS_FOLDER: bool

    def matches(self, head: bytes, name: str, /) -> bool:
        """Whether a file that starts with `head` (up to 16 bytes) and is called `name` may be of this format."""
        ...

    def parts(self, name: str, find: Find, /) -> tuple[str, ...]:
        """The other files of weights that the one called `name` needs, by their names beside it: all `is_within`.

        Raises FormatError or UnsupportedError.
        """
        ...

    def describe(self, paths: Mapping[str, Path], /) -> Facts:
        """Read the files, by role as `by_role` has them; `weights` is always there.

        Raises FormatError or UnsupportedError.
        """
        ...


def plain_text(text: str, max_length: int = 200) -> str:
    """What of a text from a stranger's file may go into a manifest and onto a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:max_length]).strip()


def by_role(files: Iterable[tuple[str, str, Path]]) -> dict[str, Path]:
    """The path of each file of a model by its role, given role, name and path of each; of several files of one role
    the first, and the others under ROLE/NAME."""
    found: dict[str, Path] = {}
    for role, name, path in files:
        found[role if role not in found else f"{role}/{name}"] = path
    return found


@contextmanager
def told_of(name: str) -> Generator[None]:
    """Let errors of the block say which file they are about, and what to do."""
    try:
        yield
    except (FormatError, UnsupportedError) as error:
        error.message = f"{name}: {error.message}"
        error.hint = error.hint or "compare its size and SHA-256 with what its publisher states; fetch it again"
        raise


def path_of(name: str, find: Find) -> Path:
    """Where the file called `name` is. Raises FormatError if it is missing."""
    path = find(name)
    if path is None:
        raise FormatError(f"{plain_text(name)} is missing", hint="fetch it too")
    return path


def check_size(paths: Mapping[str, Path], name: str, needed_bytes: int) -> None:
    """Raises FormatError if the file of weights called `name` is missing, or has fewer bytes."""
    path = paths.get(f"weights/{name}")
    if path is None:
        raise FormatError(f"{plain_text(name)} is missing: the model has weights in it", hint="fetch it too")
    if path.stat().st_size < needed_bytes:
        raise FormatError(f"{plain_text(name)} is too short", hint="it may be cut off: fetch it again")


@functools.cache
def names() -> tuple[str, ...]:
    """Every format, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Format:
    """The format with this name. Raises NotFoundError."""
    if name not in names():
        raise NotFoundError(f"there is no format {name!r}", hint=f"known: {', '.join(names())}")
    module: Format = importlib.import_module(f"{__name__}.{name}")  # type: ignore[assignment]
    return module


def recognise(head: bytes, name: str) -> str | None:
    """The name of the format of a file that starts with `head` and is called `name`; None if none matches."""
    return next((format for format in names() if find(format).matches(head, name)), None)
