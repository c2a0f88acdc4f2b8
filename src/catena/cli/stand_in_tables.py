"""Tables of stand-ins in files: content, so sealed with this machine's key and readable by its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from catena.core import config
from catena.core.errors import IntegrityError, ResourceError
from catena.reach.privacy.pseudonyms.table import Pseudonyms
from catena.watch.keys import Signer

MAGIC = b"catena stand-ins 1\n"
NONCE_BYTES = 12


def new_table() -> Pseudonyms:
    """One with a fresh key: other stand-ins at every call of the command."""
    return Pseudonyms(secrets.token_bytes(32))


def write_table(path: Path, table: Pseudonyms) -> None:
    """Seal the way back into the new file `path` (mode 0600). Raises ResourceError."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = _cipher().encrypt(nonce, msgspec.json.encode(table.backward), MAGIC)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(MAGIC + nonce + sealed)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}") from error


def read_table(path: Path) -> Pseudonyms:
    """The table of a file. Raises IntegrityError for one that another machine sealed, or that was changed."""
    content = path.read_bytes()
    body = content.removeprefix(MAGIC)
    try:
        if body == content:
            raise InvalidTag
        plain = _cipher().decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], MAGIC)
    except (InvalidTag, ValueError):
        raise IntegrityError(
            f"{path} is not a table of stand-ins that this machine sealed", hint="restore where you redacted"
        ) from None
    table = new_table()
    table.backward.update(msgspec.json.decode(plain, type=dict[str, str]))
    return table


def _cipher() -> ChaCha20Poly1305:
    return ChaCha20Poly1305(Signer.open(config.open_home()).salt("stand-in tables"))
