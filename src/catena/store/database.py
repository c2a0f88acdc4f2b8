"""An SQLite database of the state folder: WAL mode, every commit durable, shared by processes and threads."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catena.core.clock import monotonic_s
from catena.core.errors import BusyError, CatenaError, IntegrityError, ResourceError

BUSY_S = 10.0
_POLL_S = 0.01
# File times may stand still for this long between two writes.
_TICK_NS = 100_000_000
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REFUSED = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


class Database:
    """One connection behind a lock. Errors of SQLite come as BusyError, IntegrityError or ResourceError."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._paths = (path, path.with_name(f"{path.name}-wal"))
        with self._told():
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            with self._told():
                path.chmod(0o600)
                self._execute("PRAGMA journal_mode = WAL")
                self._execute("PRAGMA synchronous = FULL")
                self._execute("PRAGMA secure_delete = ON")  # of what is deleted or changed no copy is left in the file
                self._execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY) STRICT")
        except CatenaError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Give the file back. Called once."""
        with self._lock:
            self._connection.close()

    def version(self) -> tuple[int, ...] | None:
        """Changes with every commit of any process; None when one was so recent that the next may look the same."""
        found: list[int] = []
        for path in self._paths:
            try:
                status = path.stat()
            except FileNotFoundError:
                found += (0, 0)
                continue
            found += (status.st_mtime_ns, status.st_size)
            if abs(time.time_ns() - status.st_mtime_ns) < _TICK_NS:
                return None
        return tuple(found)

    def migrate(self, name: str, *statements: str) -> None:
        """Run `statements` in one transaction, once in the life of this database."""
        if self.read("SELECT 1 FROM migrations WHERE name = ?", (name,)):
            return
        with self.transaction() as connection:
            if connection.execute("INSERT OR IGNORE INTO migrations VALUES (?)", (name,)).rowcount:
                for statement in statements:
                    connection.execute(statement)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock, self._told():
            return self._execute(statement, values).fetchall()

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement durably; the number of rows it changed."""
        with self._lock, self._told():
            return self._execute(statement, values).rowcount

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Everything inside becomes durable together, or not at all."""
        with self._lock, self._told():
            self._execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement. SQLite does not wait by itself while another process turns the file to WAL mode, recovers
        it, or is the last to close it (https://sqlite.org/wal.html, section 9), so it is waited for here."""
        until_s = monotonic_s() + BUSY_S
        while True:
            try:
                return self._connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or monotonic_s() >= until_s:
                    raise
            time.sleep(_POLL_S)

    @contextmanager
    def _told(self) -> Generator[None]:
        """Say in Catena's words what SQLite complains of."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            name = self._paths[0].name
            if code in _BUSY:
                raise BusyError("another process holds the database", retry_after_s=BUSY_S) from error
            if code in _DAMAGED:
                raise IntegrityError(f"{name} is damaged", hint="restore it from a backup of CATENA_HOME") from error
            if code in _REFUSED:
                raise ResourceError(
                    f"{name} cannot be read or written: {error}",
                    hint="free space on, or remount, the disk that holds CATENA_HOME",
                ) from error
            raise
