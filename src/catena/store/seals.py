"""The cheap check: what a stored file looked like when it was whole, signed, and compared on every use.

A seal is size, time of last change, and one digest over the file's head, tail and 32 chunks between them, whose places
follow from the file's own digest. It is asked in two steps: while `stat` gives what it gave this process before,
nothing is read; when it is new to the process, the sampled bytes are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from catena.core.errors import IntegrityError
from catena.core.messages import canonical_bytes
from catena.store.blobs import open_regular
from catena.store.database import Database
from catena.store.rows import Progress, Report
from catena.watch import keys
from catena.watch.keys import Signer

EDGE_BYTES = 64 << 10
NUM_CHUNKS, CHUNK_BYTES = 32, 4096
WHOLE_BYTES = 1 << 20
PIECE_BYTES = 1 << 20
INSERT = "INSERT OR REPLACE INTO seals VALUES (?, ?, ?)"
_DOMAIN = b"catena.local/seal/v1\n"


class Seal(Struct, frozen=True):
    """Of the file with this digest: size in bytes, time of last change (Unix nanoseconds), digest of the samples."""

    digest: str
    size_bytes: int
    mtime_ns: int
    samples: str


class Seals:
    """The seals of all stored files, and what `stat` said of those that this process has looked at."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer
        self._seen: dict[str, tuple[int, int, int, int]] = {}

    def check(self, path: Path, digest: str, what: str) -> None:
        """The cheap check of the file at `path`. Raises IntegrityError that calls it `what`."""
        try:
            found = path.lstat()
        except OSError:
            raise IntegrityError(f"{what} is missing from the store", hint="pull the model again") from None
        # The time of the last change of the inode cannot be set back, so it tells an edit that hid its time.
        looks = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        if self._seen.get(digest) == looks:
            return
        self._compare(path, digest, what, found)
        self._seen[digest] = looks

    def check_whole(self, path: Path, digest: str, what: str, report: Report) -> None:
        """Compare every byte with the digest. Raises IntegrityError.

        A file that proves whole though its time differs (touched, or restored from a backup) gets a new seal.
        """
        try:
            descriptor = open_regular(path)
        except OSError:
            raise IntegrityError(f"{what} is missing from the store", hint="pull the model again") from None
        try:
            size = os.fstat(descriptor).st_size
            found = hash_file(descriptor, lambda done: report(Progress("check", what, done, size)))
            if found != digest:
                raise IntegrityError(f"{what} does not match its digest", hint="pull the model again")
            seal = make(descriptor, digest)
        finally:
            os.close(descriptor)
        if self._read(digest) != seal:
            self._database.write(INSERT, seal_row(seal, self._signer))
        self._seen.pop(digest, None)
        self.check(path, digest, what)

    def is_sound(self, path: Path, digest: str) -> bool:
        """Whether the file is there and passes the cheap check."""
        try:
            self.check(path, digest, "the file")
        except IntegrityError:
            return False
        return True

    def keep(self, seal: Seal) -> None:
        """Remember a file that was just put in its place."""
        self.forget(seal.digest)
        self._database.write(INSERT, seal_row(seal, self._signer))

    def forget(self, digest: str) -> None:
        """The file was replaced: look at it anew."""
        self._seen.pop(digest, None)

    def drop(self, digest: str) -> None:
        """The file was removed."""
        self.forget(digest)
        self._database.write("DELETE FROM seals WHERE digest = ?", (digest,))

    def _compare(self, path: Path, digest: str, what: str, found: os.stat_result) -> None:
        seal = self._read(digest)
        if seal is None:
            raise IntegrityError(
                f"{what} has no valid seal: catena.db was changed", hint="`catena verify` reads every byte and seals it"
            )
        if found.st_size != seal.size_bytes:
            raise IntegrityError(
                f"{what} has {found.st_size} bytes instead of {seal.size_bytes}", hint="pull the model again"
            )
        if found.st_mtime_ns != seal.mtime_ns:
            raise IntegrityError(
                f"{what} was written to after it was stored",
                hint="`catena verify` reads every byte and, if none differs, takes it back into use",
            )
        descriptor = open_regular(path)
        try:
            samples = sample(descriptor, seal.size_bytes, digest)
        finally:
            os.close(descriptor)
        if samples != seal.samples:
            raise IntegrityError(f"{what} was changed: sampled bytes differ", hint="pull the model again")

    def _read(self, digest: str) -> Seal | None:
        """The seal of this digest; None if there is none, or none that this machine signed."""
        rows = self._database.read("SELECT seal, signature FROM seals WHERE digest = ?", (digest,))
        if not rows or not keys.verify(self._signer.verifier_key, _DOMAIN + rows[0][0], rows[0][1]):
            return None
        seal = msgspec.json.decode(rows[0][0], type=Seal)
        return seal if seal.digest == digest else None


def make(descriptor: int, digest: str) -> Seal:
    """The seal of an open file whose whole content is known to have this digest."""
    found = os.fstat(descriptor)
    return Seal(digest, found.st_size, found.st_mtime_ns, sample(descriptor, found.st_size, digest))


def seal_row(seal: Seal, signer: Signer) -> tuple[str, bytes, bytes]:
    """The values of INSERT: the seal's digest, bytes and signature."""
    data = canonical_bytes(seal)
    return seal.digest, data, signer.sign(_DOMAIN + data)


def sample(descriptor: int, size: int, digest: str) -> str:
    """The digest over the sampled bytes of an open file of `size` bytes: all of them up to WHOLE_BYTES."""
    if size <= WHOLE_BYTES:
        ranges = [(0, size)]
    else:
        ranges = [(0, EDGE_BYTES), (size - EDGE_BYTES, EDGE_BYTES)]
        for number in range(NUM_CHUNKS):
            drawn = hashlib.sha256(f"{digest} {number}".encode()).digest()
            ranges.append((int.from_bytes(drawn[:8]) % (size - CHUNK_BYTES), CHUNK_BYTES))
    total = hashlib.sha256()
    for offset, length in ranges:
        total.update(os.pread(descriptor, length, offset))
    return f"sha256:{total.hexdigest()}"


def hash_file(descriptor: int, advance: Callable[[int], None]) -> str:
    """The digest of an open file's content; `advance` hears how many bytes are done."""
    total, done = hashlib.sha256(), 0
    while piece := os.pread(descriptor, PIECE_BYTES, done):
        total.update(piece)
        done += len(piece)
        advance(done)
    return f"sha256:{total.hexdigest()}"
