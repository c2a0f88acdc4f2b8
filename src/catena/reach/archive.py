"""Answers kept for whoever asked: content, for one key alone, for a bounded time and in bounded space.

Kept in a file of their own, apart from names and keys. What is deleted is overwritten in that file, and leaves the
journal beside it. Knows no protocol: bodies are bytes.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import anyio.to_thread
from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import NotFoundError

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


class Archive:
    """Keeps each answer for `keep_s` seconds, and of each owner the newest that fit in `max_bytes`.

    Past that bound, the oldest go until a tenth of it is free, so that not every answer must look for room.
    `opening` opens the database at the first use. With `keep_s` 0 nothing is kept.
    """

    def __init__(
        self,
        opening: Callable[[], Table],
        *,
        keep_s: float,
        max_bytes: int,
        clock_ns: Callable[[], int] = now_ns,
    ) -> None:
        self.keeps = keep_s > 0
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
                self._table.read("PRAGMA secure_delete = ON")
            return self._table

    def _put(self, kept: Kept) -> None:
        now = self._clock_ns()
        frames = _packed(kept.frames)
        size = len(kept.body) + len(kept.asked) + len(frames)
        row = (kept.id, kept.owner, kept.state, now, now + self._keep_ns, size, kept.body, kept.asked, frames)
        self._open().write("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._make_room(kept.owner, kept.id, size)

    def _settle(self, kept: Kept) -> None:
        frames = _packed(kept.frames)
        size = len(kept.body) + len(kept.asked) + len(frames)
        self._open().write(
            "UPDATE answers SET state = ?, size_bytes = ?, body = ?, frames = ? WHERE id = ? AND owner = ?",
            (kept.state, size, kept.body, frames, kept.id, kept.owner),
        )
        self._make_room(kept.owner, kept.id, size)

    def _find(self, id: str, owner: str) -> Kept:
        rows = self._open().read(
            "SELECT body, asked, frames, state FROM answers WHERE id = ? AND owner = ? AND ends_at_ns > ?",
            (id, owner, self._clock_ns()),
        )
        if not rows:
            raise NotFoundError("there is no such answer", hint="it may have been deleted, or be past its time")
        body, asked, frames, state = rows[0]
        return Kept(id, owner, body, asked, _unpacked(frames), state)

    def _remove(self, id: str, owner: str) -> None:
        self._find(id, owner)
        self._delete("id = ? AND owner = ?", (id, owner))

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
        num_deleted = table.write(f"DELETE FROM answers WHERE {condition}", values)  # noqa: S608 - our own texts
        if num_deleted:
            self._totals.clear()
            table.read("PRAGMA wal_checkpoint(TRUNCATE)")  # the journal held what was deleted
        return num_deleted


def _packed(frames: Sequence[bytes]) -> bytes:
    return zlib.compress(b"\0".join(frames), 1) if frames else b""


def _unpacked(data: bytes) -> tuple[bytes, ...]:
    return tuple(zlib.decompress(data).split(b"\0")) if data else ()
