"""The content of a file piece by piece, and of what is packed in it: gzip, bzip2, xz, tar and zip, within bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from typing import IO, Any

from catena.reach.forgetting.forms import OVERLAP_BYTES

PIECE_BYTES = 512 << 10
# Of what is packed, at most so much is looked at, so many levels deep.
MAX_UNPACKED_BYTES = 64 << 20
MAX_LEVELS = 3
_OPENERS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
_TAR_AT, _TAR = 257, b"ustar"


class Budget:
    """How much may still be unpacked."""

    def __init__(self, num_bytes: int = MAX_UNPACKED_BYTES) -> None:
        self.left = num_bytes


def pieces(file: IO[bytes], budget: Budget | None = None, level: int = 0) -> Generator[bytes]:
    """`file` in pieces that overlap, then what is packed in it. The file is seekable. Raises OSError."""
    start = file.read(512)
    file.seek(0)
    yield from _windows(file, None if level == 0 else budget)
    if level < MAX_LEVELS:
        budget = budget or Budget()
        try:
            file.seek(0)
            yield from _packed(file, start, budget, level + 1)
        except _BROKEN:
            return


def _windows(file: IO[bytes], budget: Budget | None) -> Generator[bytes]:
    tail = b""
    while piece := file.read(PIECE_BYTES):
        if budget is not None:
            budget.left -= len(piece)
        yield tail + piece
        if budget is not None and budget.left <= 0:
            return
        tail = (tail + piece)[-OVERLAP_BYTES:]


def _packed(file: IO[bytes], start: bytes, budget: Budget, level: int) -> Generator[bytes]:
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            with opener(file) as inner:
                yield from pieces(inner, budget, level)
            return
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                yield info.filename.encode("utf-8", "replace")
                if budget.left > 0 and not info.is_dir():
                    with archive.open(info) as inner:
                        yield from pieces(inner, budget, level)
    elif start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for entry in archive:
                inner = archive.extractfile(entry) if entry.isfile() else None
                if inner is not None and budget.left > 0:
                    with inner:
                        yield from pieces(inner, budget, level)
