"""This machine's Ed25519 key and the secret that salts are drawn from, made on first use and kept by their owner."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from catena.core.errors import AuditError, IntegrityError, NotFoundError
from catena.watch import notes, verifier
from catena.watch.durable import sync

_SIGNING = "ed25519.secret"
_SALT = "salt.secret"
_BURNT = "burnt-salts"
VERIFIER = "verifier.vkey"


class Signer:
    """Signs for this machine. `name` is the C2SP key name, `verifier_key` what others need to check a signature."""

    def __init__(self, signing_secret: bytes, salt_secret: bytes, folder: Path | None = None) -> None:
        self._folder = folder
        self._burnt = _burnt(folder)
        self._private = Ed25519PrivateKey.from_private_bytes(signing_secret)
        self._salt_secret = salt_secret
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.name = f"catena.local/{self.public[:4].hex()}"
        self.key = verifier.Key(self.name, verifier.key_id(self.name, self.public), self.public)
        self.verifier_key = notes.format_key(self.name, self.public)

    @classmethod
    def open(cls, home: Path) -> Signer:
        """Read the keys in `home`/keys, or make them. Two processes that start at once end with the same keys.

        Raises IntegrityError if a key file is damaged, AuditError if the folder cannot be read or written.
        """
        folder = home / "keys"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            signer = cls(_secret(folder / _SIGNING), _secret(folder / _SALT), folder)
            public = folder / VERIFIER
            if not public.exists() or public.read_text(encoding="utf-8").strip() != signer.verifier_key:
                _place(public, signer.verifier_key.encode() + b"\n", is_replacing=True)
        except OSError as error:
            raise AuditError(
                f"the keys in {folder} cannot be read or made: {error.strerror}",
                hint="make the folder readable and writable for the user that runs catena",
            ) from None
        return signer

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature (64 bytes) of `data`."""
        return self._private.sign(data)

    def salt(self, receipt: str) -> bytes:
        """The receipt's own 32-byte salt: HMAC-SHA256 of a local secret and the receipt, so it need not be stored.

        Raises NotFoundError for one that was burnt.
        """
        if receipt in self._burnt:
            raise NotFoundError(
                f"the salt of {receipt} was destroyed, because what it stands for was forgotten",
                hint="the record itself can still be proved, without the salt",
            )
        return hmac.digest(self._salt_secret, receipt.encode(), hashlib.sha256)

    def burn_salts(self, receipts: Iterable[str]) -> int:
        """Never give these salts away again, nor compare anything with them; how many are new. Raises AuditError."""
        new = sorted(set(receipts) - self._burnt)
        if new and self._folder is not None:
            data = "".join(f"{receipt}\n" for receipt in new).encode()
            try:
                descriptor = os.open(self._folder / _BURNT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise AuditError(f"burnt salts cannot be noted: {error.strerror}") from None
        self._burnt |= set(new)
        return len(new)


def open_secret(home: Path, name: str) -> bytes:
    """The 32 bytes of `home`/keys/`name`.secret, drawn at random on first use. Raises IntegrityError, AuditError."""
    folder = home / "keys"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _secret(folder / f"{name}.secret")
    except OSError as error:
        raise AuditError(f"the key {name} cannot be read or made: {error.strerror}") from None


def verify(verifier_key: str, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `verifier_key` over `data`. Raises IntegrityError for a malformed key."""
    return verifier.is_signed(notes.parse_key(verifier_key), data, signature)


def _burnt(folder: Path | None) -> set[str]:
    try:
        return set((folder / _BURNT).read_text(encoding="ascii").split()) if folder is not None else set()
    except FileNotFoundError:
        return set()


def _secret(path: Path) -> bytes:
    """The 32 bytes at `path`, drawn at random if there is no such file yet."""
    if not path.exists():
        _place(path, os.urandom(32), is_replacing=False)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise IntegrityError(
            f"the key file {path.name} holds {len(secret)} bytes instead of 32",
            hint="restore it from a backup; without it old records cannot be continued under the same name",
        )
    return secret


def _place(path: Path, data: bytes, *, is_replacing: bool) -> None:
    """Write `path` whole and durable, readable by its owner only; without `is_replacing` the first writer wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_replacing:
            draft.replace(path)
        else:
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                return
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)
