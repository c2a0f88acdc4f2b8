"""Manifests as kept: canonical bytes, this machine's signature over them, and the names that point to them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from catena.core.clock import now_ns
from catena.core.errors import IntegrityError, NotFoundError
from catena.core.ids import is_digest
from catena.core.manifest import Manifest
from catena.core.messages import canonical_bytes
from catena.store.database import Database
from catena.store.offers import catalogue
from catena.store.seals import INSERT as INSERT_SEAL
from catena.store.seals import Seal, seal_row
from catena.watch import keys
from catena.watch.keys import Signer

_MIGRATION = (
    "store",
    "CREATE TABLE manifests (digest TEXT PRIMARY KEY, manifest BLOB NOT NULL, signature BLOB NOT NULL,"
    " key TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE names (name TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES manifests,"
    " added_at_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE seals (digest TEXT PRIMARY KEY, seal BLOB NOT NULL, signature BLOB NOT NULL) STRICT, WITHOUT ROWID",
)
# Set before the signed bytes, so that this signature can never pass for one over anything else.
_DOMAIN = b"catena.local/manifest/v1\n"
PREFIX_DIGITS = 12


class Named(NamedTuple):
    """A name, the digest it points to, and when it was given (Unix nanoseconds)."""

    name: str
    digest: str
    added_at_ns: int


class Manifests:
    """Every manifest that was ever stored here; the audit log may refer to any of them."""

    def __init__(self, database: Database, signer: Signer) -> None:
        database.migrate(*_MIGRATION)
        self._database = database
        self._signer = signer
        # Names as they stood at a version of the database; other threads may replace the pair at any time.
        self._named: tuple[tuple[int, ...] | None, dict[str, Named]] = (None, {})

    def read(self, digest: str) -> Manifest:
        """The manifest with this digest. Raises NotFoundError; IntegrityError if digest or signature do not hold."""
        rows = self._database.read("SELECT manifest, signature, key FROM manifests WHERE digest = ?", (digest,))
        if not rows:
            raise NotFoundError("there is no manifest with this digest", hint="see `catena models`", param="model")
        data, signature, key = rows[0]
        hint = "pull the model again, or restore catena.db from a backup"
        if digest_of(data) != digest:
            raise IntegrityError("a manifest does not match its digest: catena.db was changed", hint=hint)
        if key != self._signer.verifier_key:
            raise IntegrityError(
                "a manifest was signed with another machine's key",
                hint="restore the folder keys/, or pull the model again",
            )
        if not keys.verify(key, _DOMAIN + data, signature):
            raise IntegrityError("a manifest's signature does not hold: catena.db was changed", hint=hint)
        return _decode(data, hint)

    def keep(self, manifest: Manifest, seals: list[Seal]) -> Named:
        """Sign `manifest`, let its name point to it, and keep the seals of its files; all durable together."""
        data = canonical_bytes(manifest)
        signature = self._signer.sign(_DOMAIN + data)
        named = Named(manifest.name, digest_of(data), now_ns())
        with self._database.transaction() as connection:
            connection.executemany(INSERT_SEAL, [seal_row(seal, self._signer) for seal in seals])
            connection.execute(
                "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?)",
                (named.digest, data, signature, self._signer.verifier_key),
            )
            connection.execute(
                "INSERT INTO names VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET digest = excluded.digest, added_at_ns = excluded.added_at_ns WHERE digest != excluded.digest",
                named,
            )
        return self.named(manifest.name) or named

    def named(self, name: str) -> Named | None:
        """Where `name` points to, None if nothing is called so. Read anew only when the database changed."""
        version, kept = self._database.version(), self._named
        if version is None or version != kept[0]:
            kept = self._named = (version, {})
        elif name in kept[1]:
            return kept[1][name]
        rows = self._database.read("SELECT name, digest, added_at_ns FROM names WHERE name = ?", (name,))
        if not rows:
            return None
        found = kept[1][name] = Named(*rows[0])
        return found

    def names(self) -> list[Named]:
        """Every name, sorted."""
        return [Named(*row) for row in self._database.read("SELECT name, digest, added_at_ns FROM names ORDER BY name")]

    def sound(self) -> Iterator[Manifest]:
        """Every kept manifest that can be trusted."""
        for (digest,) in self._database.read("SELECT digest FROM manifests ORDER BY digest"):
            try:
                yield self.read(digest)
            except IntegrityError:
                continue

    def forget(self, name: str) -> Manifest:
        """Remove the name; its manifest stays. Raises IntegrityError, with the name gone, if that cannot be read."""
        rows = self._database.read(
            "SELECT manifest FROM manifests WHERE digest = (SELECT digest FROM names WHERE name = ?)", (name,)
        )
        self._database.write("DELETE FROM names WHERE name = ?", (name,))
        return _decode(rows[0][0] if rows else b"", f"the name {name!r} is removed all the same")

    def find(self, text: str) -> str:
        """The digest that `text` means: a name, a digest, or its first digits when they are no other's.

        Raises NotFoundError with names that are near.
        """
        if named := self.named(text):
            return named.digest
        digits = text.removeprefix("sha256:")
        if len(digits) >= PREFIX_DIGITS and is_digest(f"sha256:{digits.ljust(64, '0')}"):
            rows = self._database.read(
                "SELECT digest FROM manifests WHERE substr(digest, 8, ?) = ? LIMIT 2", (len(digits), digits)
            )
            if len(rows) == 1:
                return str(rows[0][0])
            if rows:
                raise NotFoundError(f"{text!r} begins more than one digest", hint="give more digits", param="model")
        known = [named.name for named in self.names()]
        hint = f"`catena pull` lists what can be fetched; stored: {', '.join(known[:10]) or 'nothing yet'}"
        if near := difflib.get_close_matches(text, known, n=3):
            hint = f"did you mean {' or '.join(near)}?"
        if any(offer.name == text for offer in catalogue()):
            hint = f"fetch it with `catena pull {text}`"
        raise NotFoundError("there is no such model here", hint=hint, param="model")


def check_name_of(named: Named, manifest: Manifest) -> None:
    """A name is not signed, but the manifest it points to holds it. Raises IntegrityError if they differ."""
    if manifest.name != named.name:
        raise IntegrityError(
            f"the name {named.name!r} points to the manifest of another model: catena.db was changed",
            hint=f"`catena rm {named.name}`, and pull it again",
        )


def digest_of(data: bytes) -> str:
    """The digest of `data` in the form that manifests and records use."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _decode(data: bytes, hint: str) -> Manifest:
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise IntegrityError("a manifest cannot be read", hint=hint) from error
