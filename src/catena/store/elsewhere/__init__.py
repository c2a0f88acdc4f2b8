"""Models that other programs on this machine hold: found where those keep them, one file per program.

What lies there is a stranger's: names, sizes and counts are bounded, and no link is followed out of a program's folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, IntegrityError, NotFoundError, UnsupportedError
from catena.core.manifest import StoredModel
from catena.store.formats import Value

if TYPE_CHECKING:
    from catena.store.elsewhere.laying import Plan

SCHEME = "found:"
# As a person writes them; the file of each has underscores.
PROGRAMS = ("ollama", "lmstudio", "llama.cpp", "huggingface", "modelscope")


class Found(Struct, frozen=True):
    """One model of another program, called `name` there. `path` is its file of weights, or its folder; `root` what it
    must lie in.

    `file_name` is what the weights are to be called where the program has no name for them; `digests` the SHA-256 it
    states, by path; `facts` what it sets for requests; `template` a chat template, should the weights have none;
    `leaves` what does not come along; `refusal` why the model cannot be taken, empty if it can. `stored_as` names a
    stored model of the same weights.
    """

    program: str
    name: str
    path: Path
    root: Path
    format: str
    size_bytes: int
    file_name: str = ""
    digests: dict[str, str] = {}
    facts: dict[str, Value] = {}
    template: str = ""
    licence: str | None = None
    leaves: tuple[str, ...] = ()
    refusal: str = ""
    stored_as: str = ""

    @property
    def source(self) -> str:
        """As `catena pull` takes it, and provenance records it."""
        return f"{SCHEME}{self.program}/{self.name}"

    def check_within(self, path: Path) -> None:
        """Raises UnsupportedError for a file outside the program's folder."""
        if not path.is_relative_to(self.root):
            raise UnsupportedError(
                f"{path.name} of {self.name} is a link out of the folder of {self.program}", hint="pull the file itself"
            )

    def check_digest(self, path: Path, digest: str) -> None:
        """Raises IntegrityError if the program states another digest of the file at `path`."""
        if self.digests.get(str(path), digest) != digest:
            raise IntegrityError(
                f"{path.name} of {self.name} is damaged: it is not what {self.program} calls it",
                hint=f"let {self.program} fetch it again",
            )


class Shelf(Protocol):
    """A file here: where one program keeps models."""

    def roots(self) -> tuple[Path, ...]:
        """The folders that its settings or defaults name, whether they exist or not."""
        ...

    def plan(self, model: StoredModel, /) -> Plan:
        """How the program wants to find a stored model. Raises UnsupportedError for one that it cannot run."""
        ...

    def find(self, root: Path, /) -> Iterator[Found]:
        """The models in one of them, `root` being without links. Raises OSError for what cannot be read."""
        ...


def found() -> list[Found]:
    """Every model of every program, sorted by program and name; what cannot be read is passed over."""
    models: dict[str, Found] = {}
    for program in PROGRAMS:
        for model in _of(program):
            models.setdefault(model.source, model)
    return sorted(models.values(), key=lambda model: (PROGRAMS.index(model.program), model.name))


def located(source: str) -> Found:
    """The model that `found:PROGRAM/NAME` means. Raises InputError, NotFoundError, UnsupportedError."""
    program, _, name = source.removeprefix(SCHEME).partition("/")
    if program not in PROGRAMS or not name:
        raise InputError(f"{source!r} names no model", hint=f"write {SCHEME}PROGRAM/NAME; known: {', '.join(PROGRAMS)}")
    known = list(_of(program))
    for model in known:
        if model.name in (name, f"{name}:latest"):
            if model.refusal:
                raise UnsupportedError(f"{name} cannot be taken from {program}: {model.refusal}")
            return model
    names = ", ".join(model.name for model in known[:8]) or "nothing"
    raise NotFoundError(f"{program} has no {name!r} here", hint=f"`catena models --found` lists all; it has {names}")


def folder_of(program: str) -> Path:
    """Where `program` keeps models, by its settings or defaults."""
    return _shelf(program).roots()[0]


def plan(program: str, model: StoredModel) -> Plan:
    """How `program` wants to find a stored model. Raises InputError, UnsupportedError."""
    return _shelf(program).plan(model)


def _shelf(program: str) -> Shelf:
    if program not in PROGRAMS:
        raise InputError(f"{program!r} is not a program that is known here", hint=f"known: {', '.join(PROGRAMS)}")
    shelf: Shelf = importlib.import_module(f"{__name__}.{program.replace('.', '_')}")  # type: ignore[assignment]
    return shelf


def _of(program: str) -> Iterator[Found]:
    shelf = _shelf(program)
    for root in shelf.roots():
        try:
            yield from (
                msgspec.structs.replace(model, program=program) for model in shelf.find(root.resolve(strict=True))
            )
        except (OSError, RuntimeError):
            continue
