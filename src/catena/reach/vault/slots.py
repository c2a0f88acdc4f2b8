"""The file of item keys: a header that holds the master key, locked, and slots of 64 bytes, one wrapped key in each.

`keys/vault`: 4 KiB of header, then slots. A slot is nonce (12) || AES-256-GCM of the item's key under the master key
(48) || how often it was given out before (4). A burnt one begins with 60 zeros, written over the key; it may be given
out again with another key. Its number is that count (32 bits) and its place (32 bits), so it never comes back.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from catena.core.errors import ConflictError, IntegrityError, NotFoundError, ResourceError
from catena.reach.vault.masters import KEY_BYTES, Lock
from catena.watch.durable import sync, sync_data

NAME = "vault"
HEADER_BYTES, SLOT_BYTES = 4096, 64
NONCE_BYTES, TAG_BYTES = 12, 16
_START = b"CATENA VAULT 1\n"
_WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_EMPTY = bytes(_WRAPPED_BYTES)
_PLACE = (1 << 32) - 1
# So many slots are looked through for burnt ones when new ones are needed.
_LOOKED_AT = 4096


class Header(Struct, frozen=True):
    """What stands at the start: how it is locked, and the master key under that lock."""

    lock: Lock
    wrapped: bytes


def encode_header(lock: Lock, outer: bytes, master: bytes) -> bytes:
    """The 4 KiB at the start of a vault whose master key is locked with `outer`."""
    nonce = os.urandom(NONCE_BYTES)
    wrapped = nonce + AESGCM(outer).encrypt(nonce, master, msgspec.json.encode(lock))
    data = _START + msgspec.json.encode(Header(lock, wrapped)) + b"\n"
    return data.ljust(HEADER_BYTES, b"\0")


def read_header(path: Path) -> Header:
    """The header of the vault at `path`. Raises IntegrityError, FileNotFoundError."""
    with path.open("rb") as file:
        data = file.read(HEADER_BYTES)
    if not data.startswith(_START) or len(data) != HEADER_BYTES:
        raise _damaged()
    try:
        return msgspec.json.decode(data[len(_START) :].rstrip(b"\0"), type=Header)
    except msgspec.DecodeError:
        raise _damaged() from None


def unlock(header: Header, outer: bytes) -> bytes:
    """The master key. Raises IntegrityError for a wrong key or passphrase, and for a header that was changed."""
    nonce, wrapped = header.wrapped[:NONCE_BYTES], header.wrapped[NONCE_BYTES:]
    try:
        return AESGCM(outer).decrypt(nonce, wrapped, msgspec.json.encode(header.lock))
    except (InvalidTag, ValueError):
        what = "the passphrase is wrong" if header.lock.place == "passphrase" else "the key of the vault is another one"
        raise IntegrityError(f"{what}, or the vault was changed", hint="nothing was read or written") from None


class Slots:
    """The slots of one open file. Safe for threads and, where new ones are made, for processes."""

    def __init__(self, path: Path, master: bytes) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._master = AESGCM(master)
        self._looked_to = 0

    def close(self) -> None:
        os.close(self._file)

    def make(self, count: int) -> list[tuple[int, bytes]]:
        """`count` new slots with their keys, on the disk when this returns. Raises ResourceError."""
        try:
            with self._alone():
                end = -(-(os.fstat(self._file).st_size - HEADER_BYTES) // SLOT_BYTES)
                numbers = self._burnt(count, end)
                numbers += range(end, end + count - len(numbers))
                made = [(number, os.urandom(KEY_BYTES)) for number in numbers]
                for number, key in made:
                    os.pwrite(self._file, _wrap(self._master, number, key), _offset(number))
                sync_data(self._file)
        except OSError as error:
            raise _refused(error) from error
        return made

    def read(self, number: int) -> bytes:
        """The key in a slot. Raises NotFoundError for a burnt one, IntegrityError for one that was changed."""
        data = os.pread(self._file, SLOT_BYTES, _offset(number)) if number >= 0 else b""
        if len(data) < SLOT_BYTES or _count(data) < number >> 32:
            raise IntegrityError("an item names a key that never was", hint="restore it from a backup, or delete it")
        if data.startswith(_EMPTY) or _count(data) > number >> 32:
            raise NotFoundError("the key of this item was destroyed", hint="it was deleted or forgotten")
        return self.unwrap(number, data)

    def unwrap(self, number: int, data: bytes) -> bytes:
        """The key in the 64 bytes of slot `number`. Raises IntegrityError."""
        try:
            return self._master.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:_WRAPPED_BYTES], _name(number))
        except InvalidTag:
            raise IntegrityError("the key of an item was changed", hint="restore keys/vault from a backup") from None

    def burn(self, numbers: Iterable[int], *, is_durable: bool = True) -> None:
        """Destroy the keys in these slots, on the disk when this returns unless told otherwise. Raises ResourceError"""
        try:
            with self._alone():
                for number in numbers:
                    data = os.pread(self._file, SLOT_BYTES, _offset(number)) if number >= 0 else b""
                    if len(data) == SLOT_BYTES and _count(data) == number >> 32:
                        os.pwrite(self._file, _EMPTY, _offset(number))
            if is_durable:
                sync_data(self._file)
        except OSError as error:
            raise _refused(error) from error

    def copy_to(self, path: Path, header: bytes, master: bytes) -> None:
        """Write the same keys under another master key to a new file, on the disk when this returns."""
        other, size = AESGCM(master), os.fstat(self._file).st_size
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            for place in range((size - HEADER_BYTES) // SLOT_BYTES):
                data = os.pread(self._file, SLOT_BYTES, _offset(place))
                number = _count(data) << 32 | place
                is_burnt = data.startswith(_EMPTY)
                file.write(data if is_burnt else _wrap(other, number, self.unwrap(number, data)))
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)

    def _burnt(self, count: int, end: int) -> list[int]:
        """The next numbers of up to `count` burnt slots; goes round the file, a stretch each time."""
        start = self._looked_to if self._looked_to < end else 0
        data = os.pread(self._file, min(_LOOKED_AT, end - start) * SLOT_BYTES, _offset(start))
        found: list[int] = []
        slot = 0
        while len(found) < count and (at := data.find(_EMPTY, slot * SLOT_BYTES)) >= 0:
            slot = -(-at // SLOT_BYTES)
            whole = data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
            if len(whole) == SLOT_BYTES and whole.startswith(_EMPTY) and _count(whole) < _PLACE:
                found.append(_count(whole) + 1 << 32 | start + slot)
            slot += 1
        self._looked_to = start + (slot if len(found) == count else _LOOKED_AT)
        return found

    @contextmanager
    def _alone(self) -> Generator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def hold(path: Path, *, is_alone: bool) -> int:
    """Say that this process uses the vault, or changes it alone. Raises ConflictError; closing the result ends it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ConflictError(
            "the vault is in use by another process" if is_alone else "the vault is being locked anew",
            hint="stop `catena up` first" if is_alone else "try again in a moment",
        ) from None
    return lock


def _wrap(master: AESGCM, number: int, key: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + master.encrypt(nonce, key, _name(number)) + (number >> 32).to_bytes(4, "big")


def _name(number: int) -> bytes:
    return b"catena vault slot %d" % number


def _offset(number: int) -> int:
    return HEADER_BYTES + (number & _PLACE) * SLOT_BYTES


def _count(data: bytes) -> int:
    return int.from_bytes(data[_WRAPPED_BYTES:], "big")


def _damaged() -> IntegrityError:
    return IntegrityError("keys/vault is damaged", hint="restore it from a backup; without it nothing can be read")


def _refused(error: OSError) -> ResourceError:
    return ResourceError(
        f"the keys of items cannot be written: {error.strerror}", hint="free space on the disk that holds CATENA_HOME"
    )
