"""API keys: made once, shown once, kept only as salted hashes, and checked on every request.

A key is `ctn_` + 8 hexadecimal digits (its public id) + `_` + 64 hexadecimal digits (256 random bits). Because the
secret is random and that long, it cannot be guessed from its hash, so salted SHA-256 is right: a slow password hash
would add nothing but a way to keep the gateway busy.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from catena.core.clock import monotonic_s, now_ns
from catena.core.errors import ConfigError, ConflictError, InputError, NotFoundError, UnauthenticatedError
from catena.reach.ticket import Caller

SCOPES: dict[str, str] = {
    "ask": "use models, and read the receipts of its own questions",
    "audit": "read every receipt",
    "metrics": "read /metrics",
    "manage": "pull, make, copy and delete models, and say how long they stay in memory",
}
MIGRATION = (
    "keys",
    "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, salt BLOB NOT NULL, hash BLOB NOT NULL,"
    " scopes TEXT NOT NULL, made_at_ns INTEGER NOT NULL, revoked_at_ns INTEGER) STRICT",
)
FRESH_S = 1.0
_SHAPE = re.compile(r"(ctn_[0-9a-f]{8})_[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
EVERYTHING = frozenset(SCOPES)


class Table(Protocol):
    """The SQL database that keys are kept in."""

    def migrate(self, name: str, statement: str, /) -> None: ...

    def read(self, statement: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]: ...

    def write(self, statement: str, values: Sequence[Any] = (), /) -> int: ...


class KeyRow(Struct, frozen=True):
    """What is known of a key: everything but the key. Times in Unix nanoseconds."""

    id: str
    name: str
    scopes: tuple[str, ...]
    made_at_ns: int
    revoked_at_ns: int | None = None


class Identity(Struct, frozen=True):
    """Who asks, and what they may."""

    caller: Caller
    scopes: frozenset[str]


LOCAL = Identity(Caller(), EVERYTHING)


class _Kept(Struct, frozen=True):
    row: KeyRow
    salt: bytes
    digest: bytes


class Access:
    """The keys of this machine. `is_required`: also callers from this machine need one."""

    def __init__(
        self, database: Table, *, is_required: bool = False, clock_s: Callable[[], float] = monotonic_s
    ) -> None:
        database.migrate(*MIGRATION)
        self.is_required = is_required
        self._database = database
        self._clock_s = clock_s
        self._kept: dict[str, _Kept] = {}
        self._read_at_s = float("-inf")

    def add(self, name: str, scopes: Iterable[str] = ("ask",)) -> tuple[KeyRow, str]:
        """Make a key. Returns its row and the key itself, which cannot be shown again.

        Raises InputError for an unusable name or an unknown scope, ConflictError for a name in use.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a key", hint="letters, digits, dot, dash, underscore; at most 64")
        wanted = tuple(sorted(set(scopes)))
        if unknown := sorted(set(wanted) - EVERYTHING):
            raise InputError(f"there is no scope {unknown[0]!r}", hint=f"known: {', '.join(SCOPES)}")
        if not wanted:
            raise InputError("a key needs at least one scope", hint=f"known: {', '.join(SCOPES)}")
        row = KeyRow(f"ctn_{secrets.token_hex(4)}", name, wanted, now_ns())
        key = f"{row.id}_{secrets.token_hex(32)}"
        salt = os.urandom(16)
        num_rows = self._database.write(
            "INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (row.id, row.name, salt, _digest(salt, key), " ".join(wanted), row.made_at_ns),
        )
        if num_rows == 0:
            raise ConflictError(f"there is already a key named {name!r}", hint="choose another name")
        self._read_at_s = float("-inf")
        return row, key

    def rows(self) -> list[KeyRow]:
        """Every key ever made, oldest first."""
        self._refresh(must=True)
        return sorted((kept.row for kept in self._kept.values()), key=lambda row: (row.made_at_ns, row.id))

    def revoke(self, name: str) -> KeyRow:
        """Make the key with this name or id useless, everywhere within FRESH_S. Raises NotFoundError."""
        for row in self.rows():
            if name in (row.name, row.id):
                self._database.write(
                    "UPDATE keys SET revoked_at_ns = ? WHERE id = ? AND revoked_at_ns IS NULL", (now_ns(), row.id)
                )
                return next(kept for kept in self.rows() if kept.id == row.id)
        raise NotFoundError(f"there is no key {name!r}", hint="see `catena keys list`")

    def check_listening(self, host: str) -> None:
        """Decide whether keys are required when listening on `host`. Raises ConfigError beyond loopback without one."""
        if is_loopback(host):
            return
        if not any(row.revoked_at_ns is None for row in self.rows()):
            raise ConfigError(
                f"listening on {host} needs an API key, and there is none",
                hint="make one with `catena keys add NAME`, or listen on 127.0.0.1",
                param="reach.host",
            )
        self.is_required = True

    def identify(self, authorization: str | None, x_api_key: str | None, *, is_needed: bool = True) -> Identity:
        """Who sends these headers. Without a key: this machine's own user, unless keys are required.

        Clients of the OpenAI API cannot be made without some key, so where keys are not required, a key that is not
        one of ours in form is as good as none. One of ours in form must always be right. With `is_needed` False (a
        route open to all), a missing or foreign key gives no scopes. Raises UnauthenticatedError.
        """
        key = _presented(authorization, x_api_key)
        if key is not None and key.startswith("ctn_"):
            return self._verify(key)
        if not self.is_required:
            return LOCAL
        if not is_needed:
            return Identity(Caller("nobody"), frozenset())
        what = "this is not a key of this gateway" if key else "a key is needed"
        raise UnauthenticatedError(what, hint="send `Authorization: Bearer ctn_…`; `catena keys add NAME` makes one")

    def standing(self, id: str) -> Identity | None:
        """What the caller with this id (`local`, or that of a key) may do now; None for one that is no more."""
        if id == LOCAL.caller.key:
            return LOCAL
        self._refresh()
        kept = self._kept.get(id)
        if kept is None or kept.row.revoked_at_ns is not None:
            return None
        return Identity(Caller(id), frozenset(kept.row.scopes))

    def _verify(self, key: str) -> Identity:
        shape = _SHAPE.fullmatch(key)
        self._refresh()
        kept = self._kept.get(shape[1]) if shape else None
        is_right = kept is not None and hmac.compare_digest(kept.digest, _digest(kept.salt, key))
        if kept is None or not is_right or kept.row.revoked_at_ns is not None:
            raise UnauthenticatedError("this key is unknown or was revoked", hint="see `catena keys list`")
        return Identity(Caller(kept.row.id), frozenset(kept.row.scopes))

    def _refresh(self, *, must: bool = False) -> None:
        """Read the keys anew when what is known is older than FRESH_S: a revocation needs no restart."""
        now_s = self._clock_s()
        if not must and now_s - self._read_at_s < FRESH_S:
            return
        rows = self._database.read("SELECT id, name, salt, hash, scopes, made_at_ns, revoked_at_ns FROM keys")
        self._kept = {
            id: _Kept(KeyRow(id, name, tuple(scopes.split()), made_at_ns, revoked_at_ns), salt, digest)
            for id, name, salt, digest, scopes, made_at_ns, revoked_at_ns in rows
        }
        self._read_at_s = now_s


def _digest(salt: bytes, key: str) -> bytes:
    return hashlib.sha256(salt + key.encode()).digest()


def _presented(authorization: str | None, x_api_key: str | None) -> str | None:
    """The key in `Authorization: Bearer …` or `x-api-key: …`; None if there is none."""
    if authorization:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return key.strip()
        return authorization.strip()
    return x_api_key


def is_loopback(host: str) -> bool:
    """Whether listening on `host` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return plain_address(ipaddress.ip_address(host)).is_loopback
    except ValueError:
        return False


def plain_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address that came mapped into IPv6, as IPv4."""
    return getattr(address, "ipv4_mapped", None) or address
