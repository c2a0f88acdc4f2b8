"""States of conversations that outlive a session: files that the library writes of its slots, and reads again.

A set of them stands in a folder below the model's (store/prompts.py), named by all that a state depends on besides the
weights. `slots.json` is written last and holds the SHA-256 of each file; a set that is not as it says is deleted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.clock import now_ns

INDEX = "slots.json"
# A shorter prompt is computed again in no time.
LEAST_TOKENS = 32
# Room that is left for others on the disk: without it the audit log, and so every answer, stops.
SPARE_BYTES = 1 << 30


class State(Struct, frozen=True):
    """One slot's file, its size and digest, and how many tokens it holds."""

    name: str
    size_bytes: int
    sha256: str
    num_tokens: int


class Kept:
    """The set of one session. `folder` is the model's private folder, `depends` what its states depend on.

    All sets, over all models, may take `limit_bytes`; the oldest give way.
    """

    def __init__(self, folder: Path, depends: Any, limit_bytes: int) -> None:
        key = hashlib.sha256(msgspec.json.encode(depends, order="deterministic")).hexdigest()[:16]
        self.folder = folder / key
        self._model = folder
        self._limit_bytes = limit_bytes
        self._states: list[State] = []

    def claim(self) -> list[str]:
        """Names of the files that may be read again, in the order of slots; everything else there is deleted."""
        found: list[State] = []
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            found = msgspec.json.decode((self.folder / INDEX).read_bytes(), type=list[State])
        except (OSError, msgspec.DecodeError):
            pass
        size_bytes = sum(state.size_bytes for state in found)
        if size_bytes > self._limit_bytes or not all(self._is_whole(state) for state in found):
            found = []
        names = [state.name for state in found]
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in names and (path.name != INDEX or not found):
                path.unlink(missing_ok=True)
        return names

    def begin(self) -> bool:
        """Forget the set that was claimed, for a newer one; False if the folder is gone: so is its model."""
        if not self.folder.is_dir():
            return False
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)
        self._states = []
        return True

    def room_bytes(self) -> int:
        """How large the next file may be."""
        own = sum(state.size_bytes for state in self._states)
        try:
            return min(self._limit_bytes - own, shutil.disk_usage(self.folder).free - SPARE_BYTES)
        except OSError:
            return 0

    def add(self, name: str, num_tokens: int) -> None:
        """Count a file that was written into the set; one that is too short to be worth it is deleted."""
        path = self.folder / name
        try:
            if num_tokens < LEAST_TOKENS:
                path.unlink(missing_ok=True)
                return
            path.chmod(0o600)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._states.append(State(name, path.stat().st_size, digest, num_tokens))
        except OSError:
            path.unlink(missing_ok=True)
        self._make_room()

    def drop(self, name: str) -> None:
        """Delete a file that could not be written whole."""
        (self.folder / name).unlink(missing_ok=True)

    def end(self) -> None:
        """Write the index, without which nothing of the set is used; nothing is left of a set that has no states."""
        if not self._states:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        draft = self.folder / f"{INDEX}.new"
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(self._states))
            draft.replace(self.folder / INDEX)
            os.utime(self.folder, ns=(now_ns(), now_ns()))
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _is_whole(self, state: State) -> bool:
        path = self.folder / state.name
        try:
            if path.parent != self.folder or path.is_symlink() or path.stat().st_size != state.size_bytes:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == state.sha256
        except OSError:
            return False

    def _make_room(self) -> None:
        """Delete the oldest other sets until all together fit."""
        sets = [one for one in self._model.parent.glob("*/*") if one.is_dir() and one != self.folder]
        sizes = {one: _size(one) for one in sets}
        excess = sum(sizes.values()) + _size(self.folder) - self._limit_bytes
        for one in sorted(sets, key=_age):
            if excess <= 0:
                return
            excess -= sizes[one]
            shutil.rmtree(one, ignore_errors=True)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
