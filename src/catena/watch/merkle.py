"""The Merkle tree of RFC 6962 over any source of subtree hashes: roots, inclusion paths, consistency paths.

Knows nothing of files. `Node` gives, for a level and an index, the hash of the complete subtree over the 2^level leaves
from index·2^level on.
"""

from __future__ import annotations

from collections.abc import Callable

from catena.watch.verifier import EMPTY_ROOT, node_hash

Node = Callable[[int, int], bytes]


def root(node: Node, size: int) -> bytes:
    """The root over the first `size` leaves (RFC 6962, 2.1)."""
    return range_hash(node, 0, size) if size else EMPTY_ROOT


def range_hash(node: Node, start: int, end: int) -> bytes:
    """The tree hash over leaves [start, end), where `start` is a multiple of the next power of two >= the length."""
    length = end - start
    if length & (length - 1) == 0:
        level = length.bit_length() - 1
        return node(level, start >> level)
    split = start + _split(length)
    return node_hash(range_hash(node, start, split), range_hash(node, split, end))


def inclusion(node: Node, index: int, size: int) -> list[bytes]:
    """The path that proves leaf `index` to be in the tree of `size` leaves (RFC 6962, 2.1.1), lowest first."""
    assert 0 <= index < size
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(range_hash(node, split, end))
            end = split
        else:
            path.append(range_hash(node, start, split))
            start = split
    return path[::-1]


def consistency(node: Node, first: int, second: int) -> list[bytes]:
    """The path that proves the tree of `second` leaves to extend that of `first` (RFC 6962, 2.1.2)."""
    assert 0 <= first <= second
    if first in (0, second):
        return []
    path: list[bytes] = []
    start, end, is_whole = 0, second, True
    while first != end:
        split = start + _split(end - start)
        if first <= split:
            path.append(range_hash(node, split, end))
            end = split
        else:
            path.append(range_hash(node, start, split))
            start, is_whole = split, False
    if not is_whole:
        path.append(range_hash(node, start, end))
    return path[::-1]


def _split(length: int) -> int:
    """The largest power of two smaller than `length`."""
    return 1 << (length - 1).bit_length() - 1
