"""The batches of this machine as the database holds them: each for its own key, every change whole and durable."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from catena.core.clock import now_ns
from catena.core.errors import BusyError, ConflictError, IntegrityError, NotFoundError
from catena.core.ids import new_id
from catena.reach.batches.batch import Batch, Status
from catena.reach.batches.files import Table
from catena.reach.batches.journal import Journal, burn, counted, lines
from catena.reach.vault.vault import Vault

MIGRATION = (
    "batches",
    "CREATE TABLE batches (id TEXT PRIMARY KEY, owner TEXT NOT NULL, made_at_ns INTEGER NOT NULL,"
    " is_open INTEGER NOT NULL, state BLOB NOT NULL) STRICT",
    "CREATE INDEX batches_by_owner ON batches (owner, made_at_ns)",
    "CREATE INDEX batches_by_open ON batches (is_open)",
)
# Of each owner: batches that are not over, and those that are remembered.
KIND = "batch"
MAX_OPEN = 64
MAX_KEPT = 10_000
RETRY_S = 60.0


class Batches:
    """Every method blocks. `folder` holds the journals of batches that are not over.

    In a `vault` both are sealed, and what is known of a batch anew with each change.
    """

    def __init__(
        self, table: Table, folder: Path, *, vault: Vault | None = None, clock_ns: Callable[[], int] = now_ns
    ) -> None:
        table.migrate(*MIGRATION)
        self._vault = vault
        self._table = table
        self._folder = folder
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._journals: dict[str, Journal] = {}

    def now_s(self) -> int:
        """Unix seconds."""
        return self._clock_ns() // 1_000_000_000

    def folder(self, id: str) -> Path:
        """Where the journal of a batch lies."""
        return self._folder / id

    @contextmanager
    def journal(self, batch: Batch) -> Generator[Journal]:
        """The journal of a batch, open for the block; meanwhile it is asked for counts instead of its files."""
        with Journal(self.folder(batch.id), batch.counts.total, self._vault) as journal:
            self._journals[batch.id] = journal
            try:
                yield journal
            finally:
                del self._journals[batch.id]

    def forget(self, id: str) -> None:
        """Delete the journal of a batch whose answers are in place."""
        if self._vault is not None:
            burn(self.folder(id), self._vault)
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def lines(self, path: Path) -> Generator[bytes]:
        """The lines of a file of a journal, without their ends."""
        return lines(path, self._vault)

    def recover(self) -> None:
        """At the start of the only process that works, before it takes batches: journals of those that are over go,
        and what lies in the clear is sealed."""
        if self._vault is not None:
            for id, state in self._table.read("SELECT id, state FROM batches"):
                if state.startswith(b"{"):
                    self._table.write("UPDATE batches SET state = ? WHERE id = ?", (self._sealed(id, state), id))
        if self._folder.is_dir():
            names = {batch.id for batch in self.open_rows()}
            for path in self._folder.iterdir():
                if path.name not in names:
                    self.forget(path.name)

    def open_rows(self) -> list[Batch]:
        """Every batch that is not over, oldest first."""
        return self._decoded(
            self._table.read("SELECT id, state FROM batches WHERE is_open = 1 ORDER BY made_at_ns, id")
        )

    def each(self) -> list[Batch]:
        """Every batch of every owner that can be read."""
        return self._decoded(self._table.read("SELECT id, state FROM batches"))

    def gone(self) -> list[str]:
        """Batches of which nothing can be read any more, because their keys were destroyed."""
        found: list[str] = []
        for id, state in self._table.read("SELECT id, state FROM batches"):
            try:
                self._batch(id, state)
            except NotFoundError:
                found.append(id)
            except IntegrityError:
                continue
        return found

    def burn(self, ids: Iterable[str]) -> None:
        """Destroy the keys of all that is known of these batches, and of their journals, durably."""
        if self._vault is not None:
            for id in ids:
                self._vault.forget(
                    state for (state,) in self._table.read("SELECT state FROM batches WHERE id = ?", (id,))
                )
                burn(self.folder(id), self._vault)

    def drop(self, ids: Iterable[str]) -> None:
        """Delete these batches, whoever they are of; nothing may work on them."""
        ids = list(ids)
        self.burn(ids)
        for id in ids:
            self._table.write("DELETE FROM batches WHERE id = ?", (id,))
            shutil.rmtree(self.folder(id), ignore_errors=True)

    def add(
        self,
        owner: str,
        endpoint: str,
        input_file_id: str,
        *,
        completion_window: str,
        window_s: int,
        output_keep_s: int | None,
        metadata: dict[str, str] | None,
    ) -> Batch:
        """A new batch, durable when this returns. Raises BusyError when its owner has MAX_OPEN that are not over."""
        now = self.now_s()
        batch = Batch(
            new_id("batch"),
            owner,
            endpoint,
            input_file_id,
            completion_window,
            now + window_s,
            output_keep_s,
            metadata,
            at={"created": now},
        )
        with self._lock:
            [(count,)] = self._table.read("SELECT count(*) FROM batches WHERE owner = ? AND is_open = 1", (owner,))
            if count >= MAX_OPEN:
                raise BusyError(f"this key has {count} batches that are not over", retry_after_s=RETRY_S)
            values = (batch.id, owner, self._clock_ns(), self._sealed(batch.id, msgspec.json.encode(batch)))
            self._table.write("INSERT INTO batches VALUES (?, ?, ?, 1, ?)", values)
            beyond = self._table.read(
                "SELECT id FROM batches WHERE is_open = 0 AND owner = ? AND id NOT IN"
                " (SELECT id FROM batches WHERE owner = ? ORDER BY made_at_ns DESC LIMIT ?)",
                (owner, owner, MAX_KEPT),
            )
            self.drop(id for (id,) in beyond)
        return batch

    def find(self, id: str, owner: str) -> Batch:
        """The batch `id` of `owner`, with what its journal counts. Raises NotFoundError, also when it is another's."""
        rows = self._table.read("SELECT id, state FROM batches WHERE id = ? AND owner = ?", (id, owner))
        return self._with_counts(self._one(rows))

    def rows(self, owner: str, *, after: str | None, limit: int) -> list[Batch]:
        """Up to `limit` batches of `owner`, newest first, those made before `after`. Raises NotFoundError."""
        condition, values = "owner = ?", [owner]
        if after is not None:
            self.find(after, owner)
            condition += " AND (made_at_ns, id) < (SELECT made_at_ns, id FROM batches WHERE id = ?)"
            values.append(after)
        rows = self._table.read(
            f"SELECT id, state FROM batches WHERE {condition}"  # noqa: S608 - our own texts
            " ORDER BY made_at_ns DESC, id DESC LIMIT ?",
            (*values, limit),
        )
        return [self._with_counts(batch) for batch in self._decoded(rows)]

    def cancel(self, id: str, owner: str) -> Batch:
        """Have a batch stopped. Raises NotFoundError, ConflictError when it is over or about to be."""
        batch = self.advance(id, ("validating", "in_progress"), "cancelling", owner=owner)
        if batch.status != "cancelling":
            raise ConflictError(f"a batch with status {batch.status!r} cannot be cancelled")
        return self._with_counts(batch)

    def advance(
        self, id: str, expected: tuple[Status, ...], status: Status, *, owner: str | None = None, **changes: Any
    ) -> Batch:
        """Give a batch a status if it has one of those `expected`; what it is afterwards."""
        with self._lock:
            rows = self._table.read(
                "SELECT id, state FROM batches WHERE id = ? AND owner = coalesce(?, owner)", (id, owner)
            )
            batch = self._one(rows)
            if batch.status not in expected:
                return batch
            at = {status: self.now_s(), **batch.at}
            batch = msgspec.structs.replace(batch, status=status, at=at, **changes)
            self._table.write(
                "UPDATE batches SET is_open = ?, state = ? WHERE id = ?",
                (int(batch.is_open), self._sealed(id, msgspec.json.encode(batch)), id),
            )
            if self._vault is not None:  # so that the earlier state can never come back
                self._vault.forget([rows[0][1]], is_durable=False)
            return batch

    def inputs(self) -> frozenset[str]:
        """The files that batches still read."""
        return frozenset(batch.input_file_id for batch in self.open_rows())

    def _with_counts(self, batch: Batch) -> Batch:
        if batch.status not in ("in_progress", "cancelling") or batch.outcome is not None:
            return batch
        journal = self._journals.get(batch.id)
        counts = journal.counts if journal else counted(self.folder(batch.id), batch.counts.total)
        return msgspec.structs.replace(batch, counts=counts)

    def _sealed(self, id: str, state: bytes) -> bytes:
        return state if self._vault is None else self._vault.seal(KIND, id, state)

    def _one(self, rows: list[tuple[Any, ...]]) -> Batch:
        """The batch of one row. Raises NotFoundError."""
        if not rows:
            raise NotFoundError("there is no such batch", hint="GET /v1/batches lists them")
        return self._batch(*rows[0])

    def _batch(self, id: str, state: bytes) -> Batch:
        """Raises NotFoundError if it was forgotten, IntegrityError if it was changed."""
        if self._vault is not None:
            try:
                return msgspec.json.decode(self._vault.open_sealed(KIND, id, state), type=Batch)
            except NotFoundError:  # it may have been sealed anew since it was read
                again = self._table.read("SELECT state FROM batches WHERE id = ?", (id,))
                if not again or again[0][0] == state:
                    raise
                return self._batch(id, again[0][0])
        return msgspec.json.decode(state, type=Batch)

    def _decoded(self, rows: list[tuple[Any, ...]]) -> list[Batch]:
        """The batches of rows, but for those that were forgotten or changed."""
        found: list[Batch] = []
        for id, state in rows:
            with suppress(NotFoundError, IntegrityError):
                found.append(self._batch(id, state))
        return found
