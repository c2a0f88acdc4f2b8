"""Finds implementations by name: one file each inside Catena, entry points outside it; nothing loads unasked."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from catena.core.errors import NotFoundError


class Room(NamedTuple):
    """Where implementations of a seam live: a package, one module each, and the attribute each module exports.

    `besides` are modules of the package that implement nothing.
    """

    package: str
    attribute: str
    besides: frozenset[str] = frozenset()


# Entry-point groups carry the same names with the prefix `catena.`, e.g. `catena.engines`.
ROOMS: dict[str, Room] = {
    "detectors": Room("catena.reach.privacy.detectors", "find"),
    "dialects": Room("catena.run.dialects", "dialect", frozenset({"dialect", "framing", "shapes"})),
    "echoes": Room("catena.reach.privacy.echoes", "find"),
    "engines": Room("catena.run.engines", "Engine"),
    "protocols": Room("catena.reach.gateway.protocols", "routes"),
    "verbs": Room("catena.cli.verbs", "command"),
}

# Found by name but left out of `names` unless asked for: they are for tests and benchmarks.
ON_REQUEST = frozenset({("engines", "echo")})


def names(seam: str, *, all: bool = False) -> list[str]:
    """Names of every implementation of `seam`, inside and outside Catena, sorted. Imports none of them."""
    room = ROOMS[seam]
    inside = importlib.import_module(room.package).__path__
    found = {module.name for module in pkgutil.iter_modules(inside) if not module.name.startswith("_")} - room.besides
    found |= {point.name for point in _outside(seam)}
    return sorted(name for name in found if all or (seam, name) not in ON_REQUEST)


def find(seam: str, name: str) -> Any:
    """Import and return implementation `name` of `seam`. Catena's own wins over a plug-in of the same name.

    Raises NotFoundError with the known names.
    """
    room = ROOMS[seam]
    if name.isidentifier() and name in names(seam, all=True):
        for point in _outside(seam):
            if point.name == name and not _is_inside(room, name):
                return point.load()
        return getattr(importlib.import_module(f"{room.package}.{name}"), room.attribute)
    raise NotFoundError(f"there is no {name!r} among {seam}", hint=f"known: {', '.join(names(seam))}")


def _outside(seam: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"catena.{seam}"))


def _is_inside(room: Room, name: str) -> bool:
    return any(module.name == name for module in pkgutil.iter_modules(importlib.import_module(room.package).__path__))


class Made(Mapping[str, Any]):
    """Implementations of a seam by name, each imported and made when first asked for.

    One with a table of its own in `settings`, an attribute of its name, is made with that; others without arguments.
    """

    def __init__(self, seam: str, chosen: Iterable[str], settings: object = None) -> None:
        self._seam = seam
        self._settings = settings
        self._made: dict[str, Any] = dict.fromkeys(chosen)

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            table = getattr(self._settings, name, None)
            make = find(self._seam, name)
            self._made[name] = make(table) if hasattr(table, "__struct_fields__") else make()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)
