"""Reads a file in small pieces, so that a header can claim what it likes: nothing outside the file, nothing at once."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from catena.core.errors import FormatError
from catena.store.blobs import open_regular

PIECE_BYTES = 256 << 10


class Window:
    """The piece of an open file around the place last asked for; `size` in bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._start = 0
        self._piece = b""
        self.size = os.fstat(descriptor).st_size

    def piece(self, offset: int, length: int) -> tuple[bytes, int]:
        """Bytes that hold `length` of the file from `offset` on, and where in them that is.

        The bytes may go on beyond it. Raises FormatError if the file ends before. `length` is bounded by the caller.
        """
        if offset < 0 or offset + length > self.size:
            raise FormatError("the file ends before its header does", hint="it may be cut off: fetch it again")
        position = offset - self._start
        if position < 0 or position + length > len(self._piece):
            self._start, position = offset, 0
            self._piece = os.pread(self._descriptor, max(PIECE_BYTES, length), offset)
            if len(self._piece) < length:
                raise FormatError("the file became shorter while it was read")
        return self._piece, position

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on. Raises FormatError if the file ends before."""
        piece, position = self.piece(offset, length)
        return piece[position : position + length]


@contextmanager
def opened(path: Path) -> Generator[Window]:
    """A window on the plain file at `path`. Raises FormatError if it cannot be opened."""
    try:
        descriptor = open_regular(path)
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror}") from error
    try:
        yield Window(descriptor)
    finally:
        os.close(descriptor)
