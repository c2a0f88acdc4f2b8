"""Files on their way into the store: drafts that are whole, hashed and sampled, not yet named."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from catena.core.manifest import FileEntry
from catena.store import seals
from catena.store.rows import How
from catena.store.seals import Seal


class Staged(Struct, frozen=True):
    """One file: its entry in the manifest, its draft, how that came about, and its seal."""

    entry: FileEntry
    draft: Path
    how: How
    seal: Seal


class Unpacked(Struct, frozen=True):
    """The staged files that came in one package, and the digest and size in bytes of that package."""

    files: list[Staged]
    digest: str
    size_bytes: int


def stage(role: str, name: str, draft: Path, digest: str, how: How) -> Staged:
    """Seal a draft whose whole content is known to have this digest."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        seal = seals.make(descriptor, digest)
    finally:
        os.close(descriptor)
    return Staged(FileEntry(role, name, seal.size_bytes, digest), draft, how, seal)
