"""Where a tiled log's files are, and how their bytes are hashed; also a worker process that hashes many of them.

Needs the standard library only, so that it starts as a process in 20 ms: `verify` lets it hash
on another core. Paths: https://c2sp.org/tlog-tiles. The seal is Catena's own, see docs/decisions/0003.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

WIDTH = 256
HASH_BYTES = 32
FIRST_SEAL = sha256(b"catena seal").digest()


def number_path(number: int) -> str:
    """A tile's number as path elements: 1234067 → `x001/x234/067`."""
    text = f"{number % 1000:03d}"
    while number := number // 1000:
        text = f"x{number % 1000:03d}/{text}"
    return text


def hash_path(row: int, number: int, width: int = WIDTH) -> str:
    """Where the hashes of tile `number` of `row` (levels 8·row and up) are, relative to the log's folder."""
    return f"tile/{row}/{number_path(number)}" + (f".p/{width}" if width < WIDTH else "")


def entries_path(number: int, width: int = WIDTH) -> str:
    """Where entries 256·number and up are, relative to the log's folder."""
    return f"tile/entries/{number_path(number)}" + (f".p/{width}" if width < WIDTH else "")


def completed(number: int) -> list[str]:
    """The files that become final when bundle `number` is full: bundle, its tile, and any tile above that it fills."""
    paths = [entries_path(number), hash_path(0, number)]
    row, count = 1, number + 1
    while count % WIDTH == 0:
        count //= WIDTH
        paths.append(hash_path(row, count - 1))
        row += 1
    return paths


def partial_paths(size: int) -> list[str]:
    """The tiles and the bundle at the right edge of a tree of `size` entries that are not full."""
    paths = [entries_path(size // WIDTH, size % WIDTH)] if size % WIDTH else []
    row = 0
    while count := size >> 8 * row:
        if count % WIDTH:
            paths.append(hash_path(row, count // WIDTH, count % WIDTH))
        row += 1
    return paths


def seal(before: bytes, digest: bytes) -> bytes:
    """The chain over the digests of all final files: it changes if any byte of any of them does."""
    return sha256(before + digest).digest()


def flat_digest(folder: Path, number: int) -> bytes:
    """SHA-256 over the files in `completed(number)`, one after the other. Raises OSError."""
    digest = sha256()
    for path in completed(number):
        with open(f"{folder}/{path}", "rb") as file:  # noqa: PTH123 - twice as fast as Path for 8,000 small files
            digest.update(file.read())
    return digest.digest()


def leaves(bundle: bytes) -> list[bytes]:
    """The leaf hashes of the entries in `bundle` (RFC 6962, 2.1). Raises ValueError if the lengths do not add up."""
    hashes: list[bytes] = []
    position, end = 0, len(bundle)
    while position + 2 <= end:
        start = position + 2
        position = start + (bundle[position] << 8 | bundle[position + 1])
        hashes.append(sha256(b"\x00" + bundle[start:position]).digest())
    if position != end:
        raise ValueError(f"the bundle ends within its entry {len(hashes)}")
    return hashes


def fold(hashes: list[bytes]) -> bytes:
    """The root over a power of two of subtree hashes (RFC 6962, 2.1)."""
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


def tile_root(folder: Path, number: int) -> bytes:
    """The root over bundle `number`, hashed anew from its entries; empty if the tile beside it says otherwise."""
    try:
        hashes = leaves((folder / entries_path(number)).read_bytes())
        is_right = len(hashes) == WIDTH and b"".join(hashes) == (folder / hash_path(0, number)).read_bytes()
    except (OSError, ValueError):
        return b""
    return fold(hashes) if is_right else b""


MODES = {"flat": flat_digest, "root": tile_root}


def digest(folder: Path, mode: str, number: int) -> bytes:
    """The mode's 32 bytes for bundle `number`; all zero where a file is missing or says otherwise."""
    try:
        return MODES[mode](folder, number) or bytes(HASH_BYTES)
    except OSError:
        return bytes(HASH_BYTES)


def main(folder: str, mode: str, num_tiles: str, num_workers: str, first: str) -> None:
    """Write the 32 bytes of every `num_workers`-th bundle from `first` on to stdout."""
    for number in range(int(first), int(num_tiles), int(num_workers)):
        sys.stdout.buffer.write(digest(Path(folder), mode, number))


if __name__ == "__main__":
    main(*sys.argv[1:])
