"""Keeps the exact bytes that left, one encrypted file for each record, where the settings want that.

AES-256-GCM (NIST SP 800-38D) under a key of the record's own, which HKDF-SHA256 (RFC 5869) derives from a secret of
this machine; the record's id and digest are authenticated with it. Credentials are not among the bytes that are kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio.to_thread
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from catena.core.errors import AuditError, IntegrityError, NotFoundError
from catena.core.ids import is_id
from catena.core.messages import Egress
from catena.watch.durable import sync_data
from catena.watch.keys import open_secret

FOLDER = "egress"
_START = b"CEK1"
_NONCE_BYTES = 12


class Shelf:
    """The files below `home`/egress. Made with the first of them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / FOLDER
        self._secret = b""

    async def keep(self, record: Egress, shown: bytes, /) -> None:
        """Keep `shown`, of which `record` holds the digest; on disk when this returns. Raises AuditError."""
        try:
            await anyio.to_thread.run_sync(self._write, record, shown)
        except OSError as error:
            raise AuditError(
                f"what is about to leave cannot be kept: {error.strerror or error}",
                hint='no copy, no request: free space below CATENA_HOME, or set reach.keep_egress = "digest"',
            ) from None

    def read(self, record: Egress) -> bytes:
        """The bytes of `record`. Raises NotFoundError if they were not kept, IntegrityError if they were changed."""
        try:
            data = self._path(record).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(
                f"the bytes of {record.receipt} number {record.serial} were not kept, only their digest",
                hint='reach.keep_egress = "bytes" keeps them from then on',
            ) from None
        except OSError as error:
            raise IntegrityError(f"what was kept of {record.receipt} cannot be read: {error.strerror}") from None
        nonce, sealed = data[len(_START) : len(_START) + _NONCE_BYTES], data[len(_START) + _NONCE_BYTES :]
        try:
            if not data.startswith(_START):
                raise InvalidTag
            return self._cipher(record).decrypt(nonce, sealed, record.digest.encode())
        except (InvalidTag, ValueError):
            raise IntegrityError(
                f"what was kept of {record.receipt} number {record.serial} was changed, or is of another machine"
            ) from None

    def has(self, record: Egress) -> bool:
        """Whether the bytes of `record` are here."""
        return self._path(record).is_file()

    def _write(self, record: Egress, shown: bytes) -> None:
        path = self._path(record)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _START + nonce + self._cipher(record).encrypt(nonce, shown, record.digest.encode())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            view = memoryview(sealed)
            while view:
                view = view[os.write(descriptor, view) :]
            sync_data(descriptor)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _path(self, record: Egress) -> Path:
        """Files of about nine hours share a folder: an id begins with its time."""
        if not is_id(record.receipt, "rcpt"):
            raise IntegrityError("a record of what left has a receipt of another form")
        return self._folder / record.receipt[5:10] / f"{record.receipt}.{record.serial}"

    def _cipher(self, record: Egress) -> AESGCM:
        if not self._secret:
            self._secret = open_secret(self._home, FOLDER)
        info = f"catena egress {record.receipt} {record.serial}".encode()
        return AESGCM(HKDF(SHA256(), 32, None, info).derive(self._secret))
