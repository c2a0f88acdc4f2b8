"""How much of a file has come, piece by piece, kept so that a killed pull goes on with the byte it stood at.

The journal is a mapped file: what is noted in it outlives the process without a system call, as the bytes it speaks of
do, once they were written. Only a crash of the machine can lose either, so what was surely on disk is noted apart.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from catena.watch.durable import sync_data

PIECE_BYTES = 4 << 20
_MAGIC = b"catena/pieces/1\n"
_HEAD_BYTES = len(_MAGIC) + 32 + 32
_COUNT = 4


class Journal:
    """The pieces of one draft. One thread at a time may note progress of the same piece."""

    def __init__(self, path: Path, identity: str, size_bytes: int) -> None:
        """Open the journal at `path`, or begin it anew if it speaks of another file, or of none."""
        self.size_bytes = size_bytes
        self.num_pieces = -(-size_bytes // PIECE_BYTES)
        described = f"{identity} {size_bytes} {PIECE_BYTES}".encode()
        head, boot = _MAGIC + hashlib.sha256(described).digest(), hashlib.sha256(_boot()).digest()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            num_bytes = _HEAD_BYTES + 2 * _COUNT * self.num_pieces
            found = os.pread(descriptor, _HEAD_BYTES, 0)
            self.is_new = not found.startswith(head) or os.fstat(descriptor).st_size != num_bytes
            if self.is_new:
                # Written out, not left sparse: a mapped page that finds no room on disk later would end the process.
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, bytes(num_bytes), 0)
            self._map = mmap.mmap(descriptor, num_bytes)
        finally:
            os.close(descriptor)
        middle = _HEAD_BYTES + _COUNT * self.num_pieces
        self._landed = memoryview(self._map)[_HEAD_BYTES:middle].cast("I")
        self._synced = memoryview(self._map)[middle:].cast("I")
        if not self.is_new and self._map[len(head) : _HEAD_BYTES] != boot:
            self._landed[:] = self._synced
        self._map[:_HEAD_BYTES] = head + boot

    def length(self, number: int) -> int:
        """Bytes that piece `number` has when it is whole."""
        return min(PIECE_BYTES, self.size_bytes - number * PIECE_BYTES)

    def landed(self, number: int) -> int:
        """Bytes of the piece, from its start, that were written."""
        return min(self._landed[number], self.length(number))

    def is_whole(self, number: int) -> bool:
        """Whether all of the piece was written."""
        return self._landed[number] >= self.length(number)

    def note(self, number: int, num_bytes: int) -> None:
        """So many bytes of the piece, from its start, were written."""
        self._landed[number] = num_bytes

    def total(self) -> int:
        """Bytes written of all pieces."""
        return sum(self._landed)

    def sync(self, descriptor: int) -> None:
        """Make durable what was written to the draft so far, and note that it is."""
        snapshot = bytes(self._landed)
        sync_data(descriptor)
        self._synced[:] = memoryview(snapshot).cast("I")
        self._map.flush()

    def close(self) -> None:
        """Let go of the file. Nothing may be asked afterwards."""
        self._landed.release()
        self._synced.release()
        self._map.close()


def _boot() -> bytes:
    """What tells one run of the machine from the next. Where nobody says, every process is taken for a new one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return os.urandom(16)
