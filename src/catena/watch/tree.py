"""The log's Merkle tree as it grows: its right edge in memory, everything older in tile files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from catena.core.errors import IntegrityError
from catena.watch import layout, tiles
from catena.watch.tiles import HASH_BYTES, WIDTH
from catena.watch.verifier import EMPTY_ROOT, node_hash


class Row(NamedTuple):
    """The hashes at level 8·row from position `first` (a multiple of 256) on; those before are in tile files."""

    first: int
    hashes: list[bytes]


class Mark(NamedTuple):
    """A state to go back to when a batch could not be written."""

    size: int
    edge: list[bytes]
    lengths: list[int]


class Tree:
    """Starts from the full tiles below `base` (a multiple of 256) in `folder`, and grows leaf by leaf.

    Safe to read (`node`, for subtrees below a committed size) while one other thread appends.
    """

    def __init__(self, folder: Path, base: int = 0) -> None:
        assert base % WIDTH == 0
        self._folder = folder
        self._tiles: dict[tuple[int, int], bytes] = {}
        self.size = base
        self.rows: list[Row] = [Row(base, [])]
        count = base // WIDTH
        while count:
            row, first = len(self.rows), count - count % WIDTH
            self.rows.append(Row(first, [self._tile_root(row - 1, number) for number in range(first, count)]))
            count //= WIDTH
        # The roots of the complete subtrees that `size` is the sum of, largest first.
        self._edge = [self.node(level, (base >> level) - 1) for level in reversed(range(64)) if base >> level & 1]

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        self.rows[0].hashes.append(leaf)
        position, level = self.size, 0
        while position & 1:
            leaf = node_hash(self._edge.pop(), leaf)
            position >>= 1
            level += 1
            if level & 7 == 0:
                if level >> 3 == len(self.rows):
                    self.rows.append(Row(0, []))
                self.rows[level >> 3].hashes.append(leaf)
        self._edge.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root over everything appended."""
        if not self._edge:
            return EMPTY_ROOT
        result = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            result = node_hash(left, result)
        return result

    def mark(self) -> Mark:
        """Remember the present state."""
        return Mark(self.size, self._edge.copy(), [len(row.hashes) for row in self.rows])

    def rewind(self, mark: Mark) -> None:
        """Forget what was appended since `mark`."""
        self.size, self._edge = mark.size, mark.edge
        del self.rows[len(mark.lengths) :]
        for row, length in zip(self.rows, mark.lengths, strict=True):
            del row.hashes[length:]

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree over the 2^level leaves from index·2^level on.

        Raises IntegrityError if its tile file is missing or has the wrong length.
        """
        if level & 7 == 0:
            row = self.rows[level >> 3] if level >> 3 < len(self.rows) else Row(1 << 62, [])
            if index >= row.first:
                return row.hashes[index - row.first]
            offset = index % WIDTH * HASH_BYTES
            return self._tile(level >> 3, index // WIDTH)[offset : offset + HASH_BYTES]
        return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def full_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """Row, number and bytes of every full tile that is still in memory."""
        for number, row in enumerate(self.rows):
            for start in range(0, len(row.hashes) - WIDTH + 1, WIDTH):
                yield number, (row.first + start) // WIDTH, b"".join(row.hashes[start : start + WIDTH])

    def partial_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """Row, number and bytes of the tile at the right edge of each row, where it is not empty."""
        for number, row in enumerate(self.rows):
            if width := len(row.hashes) % WIDTH:
                yield number, (row.first + len(row.hashes)) // WIDTH, b"".join(row.hashes[-width:])

    def forget(self) -> None:
        """Drop the full tiles from memory; they must be in files by now."""
        for number, row in enumerate(self.rows):
            full = len(row.hashes) - len(row.hashes) % WIDTH
            if full:
                # One assignment: a reading thread sees the old row or the new one.
                self.rows[number] = Row(row.first + full, row.hashes[full:])

    def _tile(self, row: int, number: int) -> bytes:
        tile = self._tiles.get((row, number))
        if tile is None:
            path = tiles.hash_path(row, number)
            tile = tiles.read(self._folder / path)
            if len(tile) != WIDTH * HASH_BYTES:
                raise IntegrityError(f"{path} of the audit log has {len(tile)} bytes instead of 8192", param=path)
            if len(self._tiles) >= 64:
                self._tiles.clear()
            self._tiles[row, number] = tile
        return tile

    def _tile_root(self, row: int, number: int) -> bytes:
        tile = self._tile(row, number)
        hashes = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
        return layout.fold(hashes)
