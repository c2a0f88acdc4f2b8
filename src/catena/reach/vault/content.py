"""Files of any size, sealed in pieces of 64 KiB that can be read from any byte on, and journals that grow by frames.

A file is `CVF1` || slot (8) || size (8) || HMAC-SHA256 of kind, id, slot and size (32), then pieces, each AES-256-GCM
under the file's own key with its number as the nonce. Size and name are bound last, when they are known.
"""

from __future__ import annotations

import hmac
import io
import os
import struct
from pathlib import Path
from types import TracebackType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from catena.core.errors import IntegrityError
from catena.reach.vault.slots import TAG_BYTES
from catena.reach.vault.vault import Vault

PIECE_BYTES = 64 << 10
_START = b"CVF1"
_HEAD = struct.Struct(">4sQQ32s")
_SEALED_BYTES = PIECE_BYTES + TAG_BYTES


class SealedWriter:
    """Writes one new file, of mode 0600, encrypted as it comes. It can be read once it was bound to a name."""

    def __init__(self, path: Path, vault: Vault) -> None:
        slot, key = vault.new_key()
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
        self._cipher = AESGCM(key)
        self._slot = slot
        self._number = 0
        self._size = 0
        self._waiting = bytearray()
        self._file.write(_HEAD.pack(_START, slot, 0, bytes(32)))

    def __enter__(self) -> SealedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take more of the content. Raises OSError."""
        self._waiting += data
        self._size += len(data)
        whole = len(self._waiting) - len(self._waiting) % PIECE_BYTES
        for start in range(0, whole, PIECE_BYTES):
            self._put(bytes(self._waiting[start : start + PIECE_BYTES]))
        del self._waiting[:whole]
        return len(data)

    def close(self) -> None:
        """Write the rest and the size. Closing again does nothing. Raises OSError."""
        if self._file.closed:
            return
        with self._file:
            if self._waiting:
                self._put(bytes(self._waiting))
                self._waiting.clear()
            self._file.seek(0)
            self._file.write(_HEAD.pack(_START, self._slot, self._size, bytes(32)))

    def _put(self, piece: bytes) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number), piece, b""))
        self._number += 1


def bind(path: Path, vault: Vault, kind: str, id: str) -> int:
    """Bind a whole file to its name, not durably yet; its size in the clear. Raises IntegrityError, OSError."""
    with path.open("r+b") as file:
        slot, size, _ = _head(file.read(_HEAD.size), path.name)
        file.seek(0)
        file.write(_HEAD.pack(_START, slot, size, _binding(vault.key(slot), kind, id, slot, size)))
    return size


def slot_of(path: Path) -> int | None:
    """The slot of the file's key; None for a file that is not sealed. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(_HEAD.size)
    return _HEAD.unpack(data)[1] if len(data) == _HEAD.size and data.startswith(_START) else None


class SealedReader(io.RawIOBase):
    """Reads a file that was bound to this kind and id, from any byte on.

    Raises IntegrityError where it was changed, cut or put in another's place, NotFoundError if it was forgotten, and
    OSError.
    """

    def __init__(self, path: Path, vault: Vault, kind: str, id: str) -> None:
        super().__init__()
        self._at = 0
        self._piece = (-1, b"")
        self._file = path.open("rb")
        try:
            slot, size, binding = _head(self._file.read(_HEAD.size), id)
            key = vault.key(slot)
            num_pieces = -(-size // PIECE_BYTES)
            whole = _HEAD.size + size + num_pieces * TAG_BYTES
            if (
                not hmac.compare_digest(binding, _binding(key, kind, id, slot, size))
                or os.fstat(self._file.fileno()).st_size != whole
            ):
                raise _changed(id)
        except BaseException:
            self._file.close()
            raise
        self.size = size
        self._id = id
        self._cipher = AESGCM(key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        number, start = divmod(self._at, PIECE_BYTES)
        if self._at >= self.size:
            return 0
        if self._piece[0] != number:
            self._piece = (number, self._open(number))
        found = self._piece[1][start : start + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        self._piece = (-1, b"")
        super().close()

    def _open(self, number: int) -> bytes:
        self._file.seek(_HEAD.size + number * _SEALED_BYTES)
        try:
            return self._cipher.decrypt(_nonce(number), self._file.read(_SEALED_BYTES), b"")
        except InvalidTag:
            raise _changed(self._id) from None


def _head(data: bytes, name: str) -> tuple[int, int, bytes]:
    if len(data) != _HEAD.size or not data.startswith(_START):
        raise _changed(name)
    _, slot, size, binding = _HEAD.unpack(data)
    return slot, size, binding


def _binding(key: bytes, kind: str, id: str, slot: int, size: int) -> bytes:
    return hmac.digest(key, b"\0".join((b"catena file", kind.encode(), id.encode(), b"%d %d" % (slot, size))), "sha256")


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _changed(name: str) -> IntegrityError:
    return IntegrityError(f"the content of {name} was changed", hint="delete it and leave it anew")
