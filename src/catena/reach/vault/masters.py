"""Where the key that opens the vault comes from: a file, the system's keyring, or a passphrase that nothing keeps.

From a passphrase the key is derived by scrypt (RFC 7914) with N = 2^17, r = 8, p = 1: 128 MiB and about half a second
for each guess.
"""

from __future__ import annotations

import base64
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Struct

from catena.core.errors import ConfigError, IntegrityError, MissingExtraError
from catena.watch.keys import open_secret

Place = Literal["file", "keyring", "passphrase"]
SERVICE = "catena vault"
KEY_BYTES, SALT_BYTES = 32, 16
MIN_PASSPHRASE_CHARS = 8
_N, _R, _P = 1 << 17, 8, 1
_MAX_N, _MAX_R, _MAX_P = 1 << 20, 32, 16


class Lock(Struct, frozen=True):
    """How the outermost key of one vault is found; nothing in it is secret. `id` names the vault, `turn` its lock."""

    place: Place
    id: str
    turn: int
    salt: bytes = b""
    n: int = _N
    r: int = _R
    p: int = _P


class Asking(Struct, frozen=True):
    """Where a passphrase is found: in `environ` under `variable`, else by `prompt`, which is given a question."""

    variable: str
    environ: Mapping[str, str]
    prompt: Callable[[str], str] | None = None

    def passphrase(self, *, is_new: bool) -> str:
        """The passphrase. Raises ConfigError when there is none, or a new one is too short."""
        found = self.environ.get(self.variable, "")
        if not found and self.prompt is not None:
            found = self.prompt("new passphrase of the vault" if is_new else "passphrase of the vault")
            if is_new and found and self.prompt("the same once more") != found:
                raise ConfigError("the two passphrases differ", hint="nothing was changed; try again")
        if not found:
            raise ConfigError(
                "what is kept here is locked by a passphrase, and none was given",
                hint=f"set the variable {self.variable}, or start from a terminal and be asked",
                param="reach.vault",
            )
        if is_new and len(found) < MIN_PASSPHRASE_CHARS:
            raise ConfigError(
                f"a passphrase needs at least {MIN_PASSPHRASE_CHARS} characters", hint="six random words are good"
            )
        return found


def new_lock(place: Place, id: str, turn: int) -> Lock:
    """A lock that was never used."""
    return Lock(place, id, turn, os.urandom(SALT_BYTES) if place == "passphrase" else b"")


def key_of(lock: Lock, home: Path, asking: Asking, *, is_new: bool = False) -> bytes:
    """The 32 bytes that open `lock`; made where `is_new`. Raises ConfigError, IntegrityError, MissingExtraError."""
    if lock.place == "file":
        if not is_new and not _path(home, lock).exists():
            raise IntegrityError(
                f"the key of the vault, keys/{_path(home, lock).name}, is missing",
                hint="restore it from a backup; without it nothing that is kept here can be read",
            )
        return open_secret(home, _name(lock))
    if lock.place == "keyring":
        return _from_keyring(lock, is_new)
    if not (0 < lock.n <= _MAX_N and 0 < lock.r <= _MAX_R and 0 < lock.p <= _MAX_P and len(lock.salt) == SALT_BYTES):
        raise IntegrityError("the vault asks for an unreasonable key derivation")
    passphrase = asking.passphrase(is_new=is_new)
    return Scrypt(salt=lock.salt, length=KEY_BYTES, n=lock.n, r=lock.r, p=lock.p).derive(passphrase.encode())


def destroy(lock: Lock, home: Path) -> None:
    """Delete the key of a lock that opens nothing any more; what cannot be deleted opens nothing either."""
    if lock.place == "file":
        path = _path(home, lock)
        if path.exists():
            with path.open("r+b") as file:
                file.write(bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
    elif lock.place == "keyring":
        ring = _keyring()
        try:
            ring.delete_password(SERVICE, _name(lock))
        except ring.errors.KeyringError:
            return


def _name(lock: Lock) -> str:
    return f"vault-{lock.id}-{lock.turn}"


def _path(home: Path, lock: Lock) -> Path:
    return home / "keys" / f"{_name(lock)}.secret"


def _from_keyring(lock: Lock, is_new: bool) -> bytes:
    ring = _keyring()
    try:
        found = ring.get_password(SERVICE, _name(lock))
        if not found and is_new:
            ring.set_password(SERVICE, _name(lock), base64.b64encode(os.urandom(KEY_BYTES)).decode())
            found = ring.get_password(SERVICE, _name(lock))
    except ring.errors.KeyringError:
        raise ConfigError(
            "the system's keyring does not give the key of the vault",
            hint='unlock it, or use reach.vault = "file" or "passphrase"',
            param="reach.vault",
        ) from None
    if not found:
        raise IntegrityError(
            f"the system's keyring has no entry {SERVICE!r} for {_name(lock)}",
            hint="run as the user who made it; without it nothing that is kept here can be read",
        )
    key = base64.b64decode(found)
    if len(key) != KEY_BYTES:
        raise IntegrityError(f"the entry {SERVICE!r} of the system's keyring has another length")
    return key


def _keyring() -> Any:
    try:
        return importlib.import_module("keyring")
    except ImportError:
        raise MissingExtraError("keyring", "keyring") from None
