"""One file per format, found by name: reads headers, within bounds, and says what a model is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from catena.core.errors import NotFoundError
from catena.core.manifest import Signature, Task

Value = str | int | float | bool


class Facts(Struct, frozen=True):
    """What a model's files say of it, in the words of the manifest; `chat_template` is the template's text."""

    task: Task
    licence: str = "unknown"
    signature: Signature = Signature()
    values: dict[str, Value] = {}
    chat_template: str | None = None


class Format(Protocol):
    """A module of this package. `COMPANIONS`: files that belong to a model if they lie beside it, name → role."""

    COMPANIONS: Mapping[str, str]

    def matches(self, head: bytes, name: str, /) -> bool:
        """Whether a file that starts with `head` (up to 16 bytes) and is called `name` may be of this format."""
        ...

    def describe(self, paths: Mapping[str, Path], /) -> Facts:
        """Read the files, by role; `weights` is always there. Raises FormatError or UnsupportedError."""
        ...


def plain_text(text: str, max_length: int = 200) -> str:
    """What of a text from a stranger's file may go into a manifest and onto a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:max_length]).strip()


def names() -> list[str]:
    """Every format, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Format:
    """The format with this name. Raises NotFoundError."""
    if name not in names():
        raise NotFoundError(f"there is no format {name!r}", hint=f"known: {', '.join(names())}")
    module: Format = importlib.import_module(f"{__name__}.{name}")  # type: ignore[assignment]
    return module


def recognise(head: bytes, name: str) -> str | None:
    """The name of the format of a file that starts with `head` and is called `name`; None if none matches."""
    return next((format for format in names() if find(format).matches(head, name)), None)
