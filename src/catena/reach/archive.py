"""Answers kept for whoever asked: content, for one key alone, for a bounded time and in bounded space.

Kept in a file of their own, apart from names and keys, each sealed by the vault with its owner's name. Of what is
deleted the key is destroyed first; then it is overwritten in that file, and leaves the journal beside it. Knows no
protocol: bodies are bytes.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal, Protocol

import anyio.to_thread
from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import IntegrityError, NotFoundError
from catena.reach.vault.vault import HEAD_BYTES, Vault

# `open`: being computed in the background; `done`: ended, however; `lost`: its process died before its end.
State = Literal["open", "done", "lost"]
MIGRATION = (
    "answers",
    "CREATE TABLE answers (id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, made_at_ns INTEGER NOT NULL,"
    " ends_at_ns INTEGER NOT NULL, size_bytes INTEGER NOT NULL, body BLOB NOT NULL, asked BLOB NOT NULL,"
    " frames BLOB NOT NULL) STRICT",
    "CREATE INDEX answers_by_owner ON answers (owner, made_at_ns)",
    "CREATE INDEX answers_by_end ON answers (ends_at_ns)",
)


# In a file with this mark every answer is sealed: one that is not was put there by somebody else.
SEALED = "answers are sealed"
KIND = "answer"
_LENGTHS = struct.Struct(">II")


class Table(Protocol):
    """The SQL database that answers are kept in."""

    def migrate(self, name: str, *statements: str) -> None: ...

    def read(self, statement: str, values: Sequence[Any] = (), /) -> list[tuple[Any, ...]]: ...

    def write(self, statement: str, values: Sequence[Any] = (), /) -> int: ...

    def close(self) -> None: ...


class Kept(Struct, frozen=True):
    """One answer: its `body`, what was `asked`, and the `frames` of its stream where it can be resumed."""

    id: str
    owner: str
    body: bytes
    asked: bytes
    frames: tuple[bytes, ...] = ()
    state: State = "done"


class Unread(Struct, frozen=True):
    """One answer that cannot be read: its key was destroyed (`is_gone`), or it was changed."""

    id: str
    owner: str
    is_gone: bool


class Archive:
    """Keeps each answer for `keep_s` seconds, and of each owner the newest that fit in `max_bytes`.

    Past that bound, the oldest go until a tenth of it is free, so that not every answer must look for room.
    `opening` opens the database at the first use. With `keep_s` 0 nothing is kept. Without a `vault` answers lie as
    they are.
    """

    def __init__(
        self,
        opening: Callable[[], Table],
        *,
        keep_s: float,
        max_bytes: int,
        vault: Vault | None = None,
        clock_ns: Callable[[], int] = now_ns,
    ) -> None:
        self.keeps = keep_s > 0
        self._vault = vault
        self._opening = opening
        self._keep_ns = int(keep_s * 1_000_000_000)
        self._max_bytes = max_bytes
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._table: Table | None = None
        self._room = threading.Lock()
        self._totals: dict[str, int] = {}  # bytes of an owner, never too few; counted anew after a deletion

    async def put(self, kept: Kept) -> None:
        """Keep an answer; durable when this returns. The oldest of the same owner make room."""
        await anyio.to_thread.run_sync(self._put, kept)

    async def settle(self, kept: Kept) -> None:
        """Put the end of an answer in the place of its beginning; does nothing if that was deleted meanwhile."""
        await anyio.to_thread.run_sync(self._settle, kept)

    async def find(self, id: str, owner: str) -> Kept:
        """The answer `id` of `owner`. Raises NotFoundError, also when it is another's."""
        return await anyio.to_thread.run_sync(self._find, id, owner)

    async def remove(self, id: str, owner: str) -> None:
        """Delete an answer and everything kept with it. Raises NotFoundError as `find` does."""
        await anyio.to_thread.run_sync(self._remove, id, owner)

    async def sweep(self) -> int:
        """Delete what is past its time; the number of answers deleted. Opens nothing that was not opened."""
        return await anyio.to_thread.run_sync(self._sweep) if self._table is not None else 0

    def recover(self) -> None:
        """At the start of the only process that computes: what is still open was lost with the last one."""
        self._open().write("UPDATE answers SET state = 'lost' WHERE state = 'open'")
        self._sweep()

    def close(self) -> None:
        """Give the database back, if it was opened."""
        with self._lock:
            if self._table is not None:
                self._table.close()
                self._table = None

    def _open(self) -> Table:
        with self._lock:
            if self._table is None:
                self._table = self._opening()
                self._table.migrate(*MIGRATION)
                if self._vault is not None:
                    self._table.migrate(SEALED)
                self._table.read("PRAGMA secure_delete = ON")
            return self._table

    def each(self) -> Generator[Kept | Unread]:
        """Every answer of every owner. Blocks, and holds no lock."""
        for id, owner in self._open().read("SELECT id, owner FROM answers"):
            rows = self._open().read(
                "SELECT body, asked, frames, state FROM answers WHERE id = ? AND owner = ?", (id, owner)
            )
            for row in rows:
                try:
                    yield self._read(id, owner, *row)
                except (NotFoundError, IntegrityError) as error:
                    yield Unread(id, owner, isinstance(error, NotFoundError))

    def drop(self, ids: Iterable[str]) -> int:
        """Delete the answers with these ids, whoever they are of; how many there were. Blocks."""
        ids = list(ids)
        return sum(
            self._delete(f"id IN ({', '.join('?' * len(some))})", some)
            for some in (ids[start : start + 500] for start in range(0, len(ids), 500))
        )

    def burn(self, ids: Iterable[str]) -> None:
        """Destroy the keys of the answers with these ids, durably. Blocks."""
        vault, table = self._vault, self._open()
        if vault is not None:
            heads = [table.read(f"SELECT substr(body, 1, {HEAD_BYTES}) FROM answers WHERE id = ?", (id,)) for id in ids]  # noqa: S608
            vault.forget(head for rows in heads for (head,) in rows)

    def _put(self, kept: Kept) -> None:
        now = self._clock_ns()
        row, size = self.written(kept)
        values = (kept.id, kept.owner, kept.state, now, now + self._keep_ns, size, *row)
        self._open().write("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._make_room(kept.owner, kept.id, size)

    def _settle(self, kept: Kept) -> None:
        (body, asked, frames), size = self.written(kept)
        table, old = self._open(), []
        if self._vault is not None:
            old = self._heads("id = ? AND owner = ?", (kept.id, kept.owner))
        changed = table.write(
            "UPDATE answers SET state = ?, size_bytes = ?, body = ?, asked = ?, frames = ? WHERE id = ? AND owner = ?",
            (kept.state, size, body, asked, frames, kept.id, kept.owner),
        )
        if self._vault is not None:  # so that the earlier form can never take the place of this one
            self._vault.forget(old if changed else [body], is_durable=False)
        self._make_room(kept.owner, kept.id, size)

    def written(self, kept: Kept) -> tuple[tuple[bytes, bytes, bytes], int]:
        """What stands in the columns of an answer, and its size in the clear."""
        frames = _packed(kept.frames)
        size = len(kept.body) + len(kept.asked) + len(frames)
        if self._vault is None:
            return (kept.body, kept.asked, frames), size
        plain = b"".join((_LENGTHS.pack(len(kept.body), len(kept.asked)), kept.body, kept.asked, frames))
        return (self._vault.seal(KIND, _name(kept.id, kept.owner), plain), b"", b""), size

    def _read(self, id: str, owner: str, body: bytes, asked: bytes, frames: bytes, state: State) -> Kept:
        """An answer out of its columns. Raises NotFoundError if it was forgotten, IntegrityError if it was changed."""
        if self._vault is not None:
            plain = self._vault.open_sealed(KIND, _name(id, owner), body)
            first, second = _LENGTHS.unpack_from(plain)
            start, end = _LENGTHS.size + first, _LENGTHS.size + first + second
            body, asked, frames = plain[_LENGTHS.size : start], plain[start:end], plain[end:]
        return Kept(id, owner, body, asked, _unpacked(frames), state)

    def _find(self, id: str, owner: str, known: bytes | None = None) -> Kept:
        rows = self._open().read(
            "SELECT body, asked, frames, state FROM answers WHERE id = ? AND owner = ? AND ends_at_ns > ?",
            (id, owner, self._clock_ns()),
        )
        if not rows or (known is not None and rows[0][0] == known):
            raise _gone()
        try:
            return self._read(id, owner, *rows[0])
        except NotFoundError:  # forgotten, or sealed anew since it was read
            return self._find(id, owner, rows[0][0])

    def _remove(self, id: str, owner: str) -> None:
        if not self._delete("id = ? AND owner = ? AND ends_at_ns > ?", (id, owner, self._clock_ns())):
            raise _gone()

    def _sweep(self) -> int:
        return self._delete("ends_at_ns <= ? AND state <> 'open'", (self._clock_ns(),))

    def _make_room(self, owner: str, newest: str, num_bytes: int) -> None:
        """Delete the oldest answers of `owner` beyond the bound; never the newest, nor one that is being computed."""
        with self._room:
            total = self._totals.get(owner, self._max_bytes) + num_bytes
            if total > self._max_bytes:
                total = self._count(owner)
            if total > self._max_bytes:
                self._delete(
                    "id IN (SELECT id FROM (SELECT id, state, sum(size_bytes) OVER"
                    " (ORDER BY made_at_ns DESC, id DESC) AS total FROM answers WHERE owner = ?)"
                    " WHERE total > ? AND id <> ? AND state <> 'open')",
                    (owner, self._max_bytes * 9 // 10, newest),
                )
                total = self._count(owner)
            self._totals[owner] = total

    def _count(self, owner: str) -> int:
        rows = self._open().read("SELECT coalesce(sum(size_bytes), 0) FROM answers WHERE owner = ?", (owner,))
        return rows[0][0]

    def _delete(self, condition: str, values: Sequence[Any]) -> int:
        table = self._open()
        if self._vault is not None:
            self._vault.forget(self._heads(condition, values))
        num_deleted = table.write(f"DELETE FROM answers WHERE {condition}", values)  # noqa: S608 - our own texts
        if num_deleted:
            self._totals.clear()
            table.read("PRAGMA wal_checkpoint(TRUNCATE)")  # the journal held what was deleted
        return num_deleted

    def _heads(self, condition: str, values: Sequence[Any]) -> list[bytes]:
        """The beginnings of sealed answers, which name their keys."""
        found = self._open().read(
            f"SELECT substr(body, 1, {HEAD_BYTES}) FROM answers WHERE {condition}",  # noqa: S608 - our own texts
            values,
        )
        return [head for (head,) in found]


def seal_rows(old: Table, new: Table, vault: Vault) -> None:
    """Copy every answer of `old`, which lie as they are, into `new`, sealed. Blocks; each row is durable by itself."""
    new.migrate(*MIGRATION)
    writer = Archive(lambda: new, keep_s=1, max_bytes=0, vault=vault)
    for (id,) in old.read("SELECT id FROM answers"):
        for row in old.read(
            "SELECT owner, state, made_at_ns, ends_at_ns, body, asked, frames FROM answers WHERE id = ?", (id,)
        ):
            owner, state, made_at_ns, ends_at_ns, body, asked, frames = row
            written, size = writer.written(Kept(id, owner, body, asked, _unpacked(frames), state))
            values = (id, owner, state, made_at_ns, ends_at_ns, size, *written)
            new.write("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    new.migrate(SEALED)


def _gone() -> NotFoundError:
    return NotFoundError("there is no such answer", hint="it may have been deleted, or be past its time")


def _name(id: str, owner: str) -> str:
    return f"{id}\n{owner}"


def _packed(frames: Sequence[bytes]) -> bytes:
    return zlib.compress(b"\0".join(frames), 1) if frames else b""


def _unpacked(data: bytes) -> tuple[bytes, ...]:
    return tuple(zlib.decompress(data).split(b"\0")) if data else ()
