"""Where a model server is installed, in which version, and whether the settings let it be used. Starts nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct

from catena.core.settings import ServedSettings

GUIDE = "docs/guides/gpu-engines.md"


class Server(Struct, frozen=True):
    """A model server as a program: its package, how it is started with an interpreter or as a program on PATH, and the
    options that are Catena's own."""

    name: str
    module: tuple[str, ...]
    program: tuple[str, ...]
    reserved: frozenset[str]


class Installation(Struct, frozen=True):
    """`command` begins the command line; `version` "": not known; `reason` says why it cannot be used ("": it can)."""

    command: tuple[str, ...]
    version: str
    reason: str


def find(server: Server, settings: ServedSettings) -> Installation:
    """Look for the interpreter of the settings, else for the program on PATH."""
    key = f"run.{server.name}"
    if os.name != "posix":
        return Installation((), "", f"{server.name} is started on Linux and macOS only")
    if settings.python:
        path = Path(settings.python).expanduser()
        command = (str(path), *server.module)
        if not path.is_absolute() or not os.access(path, os.X_OK) or path.is_dir():
            return Installation((), "", f"{key}.python is not the whole path of an interpreter (see {GUIDE})")
    else:
        found = shutil.which(server.program[0])
        if found is None:
            return Installation(
                (), "", f"{server.name} is not installed; name its interpreter in {key}.python ({GUIDE})"
            )
        path = Path(found).resolve()
        command = (str(path), *server.program[1:])
    version = _version(path.parent.parent, server.name)
    return Installation(command, version, refused(f"{key}.arguments", settings.arguments, server.reserved))


def refused(key: str, arguments: Sequence[str], reserved: Collection[str]) -> str:
    """Why these arguments cannot be added; "" if they can. The servers take any beginning of an option for it."""
    if arguments and not arguments[0].startswith("--"):
        return f"{key} must begin with an option"
    for argument in arguments:
        if not argument.startswith("-") or re.fullmatch(r"-[0-9.]+", argument):
            continue
        word = argument.partition("=")[0].partition(".")[0].lstrip("-").replace("_", "-").lower()
        stems = (word, word.removeprefix("no-"))
        if not argument.startswith("--") or any(one.startswith(stem) for one in reserved for stem in stems):
            return f"{key}: {argument.partition('=')[0]} is not to be set there (see {GUIDE})"
    return ""


def _version(environment: Path, package: str) -> str:
    """The version of `package` in a Python environment, by the folder that its installer left."""
    libraries = [*environment.glob("lib/python3*/site-packages"), *environment.glob("lib/python3*/dist-packages")]
    pattern = re.compile(rf"{re.escape(package)}-(.+)\.dist-info", re.IGNORECASE)
    for folder in libraries:
        for path in folder.glob(f"{package}-*.dist-info"):
            if match := pattern.fullmatch(path.name):
                return match[1]
    return ""


def search_path(command: Sequence[str], path: str) -> str:
    """`PATH` with the programs of the server's environment first: it compiles with tools that came with it."""
    folder = str(Path(command[0]).parent)
    parts = [folder, *[part for part in path.split(os.pathsep) if part and part != folder]]
    return os.pathsep.join(parts)
