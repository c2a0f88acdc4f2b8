"""The files of a C2SP tiled log (https://c2sp.org/tlog-tiles): bundles of entries, whole and durable writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from catena.core.errors import IntegrityError
from catena.watch.layout import HASH_BYTES, WIDTH, entries_path, hash_path, number_path

__all__ = [
    "HASH_BYTES",
    "MAX_ENTRY_BYTES",
    "WIDTH",
    "entries_path",
    "hash_path",
    "number_path",
    "pack",
    "read",
    "unpack",
    "write",
    "write_open",
]

MAX_ENTRY_BYTES = 0xFFFF


def pack(entries: Iterable[bytes]) -> bytes:
    """Entries as a bundle: each after its length as a big-endian uint16."""
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def unpack(bundle: bytes) -> list[bytes]:
    """The entries of a bundle. Raises IntegrityError if the lengths do not add up."""
    entries: list[bytes] = []
    position, end = 0, len(bundle)
    while position + 2 <= end:
        start = position + 2
        position = start + (bundle[position] << 8 | bundle[position + 1])
        entries.append(bundle[start:position])
    if position != end:
        raise IntegrityError(f"a bundle of entries ends within entry {len(entries)}")
    return entries


def read(path: Path) -> bytes:
    """The bytes of a file of the log. Raises IntegrityError if it is missing or unreadable."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        name = _short(path)
        raise IntegrityError(f"{name} of the audit log cannot be read: {error.strerror}", param=name) from None


def write(path: Path, data: bytes) -> None:
    """Write `path` whole: readers see the old file or the new one. Durable once its folder was synced."""
    os.close(write_open(path, data))


def write_open(path: Path, data: bytes) -> int:
    """Like `write`, and returns the file, open for reading and writing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        draft.replace(path)
    except OSError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return descriptor


def _short(path: Path) -> str:
    parts = path.parts
    return "/".join(parts[parts.index("tile") :]) if "tile" in parts else path.name
