"""The audit log as the rest of Catena sees it: append a record and go on once it is durable.

A thread gathers what arrived while the last batch was being synced and commits it together (group commit), so that
durability costs one fdatasync per batch. When idle it publishes the checkpoint and partial tiles for C2SP readers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from catena.core.clock import monotonic_s, now_ns
from catena.core.errors import AuditError, CatenaError
from catena.core.messages import Closed, Opened
from catena.watch import metrics
from catena.watch.notes import Signs
from catena.watch.pairing import Record
from catena.watch.reader import AuditReader, Proof, Reading, Recorded
from catena.watch.writer import TURN_OVER_RECORDS, Writer

__all__ = ["AuditLog", "AuditReader", "Proof", "Recorded"]

APPEND_TIME_S = 30.0
CLOSE_TIME_S = 30.0
PUBLISH_IDLE_S = 1.0
PUBLISH_BUSY_S = 30.0

_RECORDS = metrics.counter("catena_watch_records_total", "Records that became durable.").labels()
_FAILED = metrics.counter("catena_watch_failed_commits_total", "Batches that the disk refused.").labels()
_COMMIT = metrics.histogram("catena_watch_commit_seconds", "Time to make one batch durable.").labels()
_OPEN = metrics.gauge("catena_watch_open_requests", "Requests opened and not closed.").labels()

_logger = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    record: Record
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]


class AuditLog(Reading):
    """The one writer. Open it with `await AuditLog.open(…)`; everything committed can be read through it."""

    def __init__(self, folder: Path, writer: Writer, batch_records: int) -> None:
        super().__init__(folder, writer)
        self._writer = writer
        self._batch_records = batch_records
        self._queue: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        self._received: list[_Waiting] = []
        self._is_ending = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="catena-audit", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, folder: Path, signer: Signs, *, batch_records: int = 1024) -> AuditLog:
        """Lock `folder`, repair a torn last write, close as `lost` what a dead process left open.

        Raises ConflictError if another process writes it, IntegrityError if acknowledged records were changed or are
        missing, AuditError if the folder cannot be written.
        """
        writer = await anyio.to_thread.run_sync(Writer.open, folder, signer)
        if writer.num_repaired_bytes:
            _logger.warning("audit log: cut a torn last write of %d bytes", writer.num_repaired_bytes)
        return cls(folder, writer, batch_records)

    @property
    def num_syncs(self) -> int:
        """How often a batch was synced since the log was opened."""
        return self._writer.num_syncs

    async def append(self, record: Record) -> int:
        """Write `record` and return its index once it is durable.

        A cancelled caller waits until then all the same, so that it knows of every record it opened. Raises AuditError
        if the disk refuses (nothing was recorded, and later appends try again), ConflictError if the request is
        already open or not open at that index.
        """
        if self._is_closed:
            raise AuditError("the audit log is closed", hint="no record, no answer: start `catena up` again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._hand(_Waiting(record, loop, future))
        # No cancel scope: two appends are a large part of what a small request costs.
        durable = asyncio.shield(future)
        timer = loop.call_later(APPEND_TIME_S, _give_up, durable)
        try:
            return await durable
        except asyncio.CancelledError:
            if anyio.current_effective_deadline() > -math.inf:  # not by a cancel scope: the task is to end at once
                self._abandon(record, future)
                raise
            with anyio.CancelScope(shield=True):
                return await self._late(record, future)
            raise AssertionError("a shielded scope is not cancelled") from None
        except TimeoutError:
            self._abandon(record, future)
            raise _too_late() from None
        finally:
            timer.cancel()

    async def _late(self, record: Record, future: asyncio.Future[int]) -> int:
        """Wait for a record whose caller was cancelled; the caller's next wait will tell it so."""
        try:
            async with asyncio.timeout(APPEND_TIME_S):
                return await asyncio.shield(future)
        except TimeoutError:
            self._abandon(record, future)
            raise _too_late() from None
        except asyncio.CancelledError:
            self._abandon(record, future)
            raise

    async def close(self) -> None:
        """Write what is waiting, publish the checkpoint, release the lock. Later appends raise AuditError."""
        if not self._is_closed:
            self._is_closed = True
            for loop in list(self._gathered):
                self._hand_over(loop)
            self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join, CLOSE_TIME_S)

    def _abandon(self, record: Record, future: asyncio.Future[int]) -> None:
        """Nobody waits any more: if the record still becomes durable and opens a request, close that as cancelled."""

        def close(done: asyncio.Future[int]) -> None:
            if done.cancelled() or done.exception() is not None or not isinstance(record, Opened):
                return
            closed = Closed(record.receipt, now_ns(), done.result(), "cancelled")
            self._hand(_Waiting(closed, done.get_loop(), done.get_loop().create_future()))

        future.add_done_callback(close)

    def _hand(self, waiting: _Waiting) -> None:
        """Hand a record to the writing thread, together with what comes in the same turn of its loop.

        Each hand-over wakes the thread and costs the loop its turn: one for each record was a quarter of what a small
        request costs.
        """
        gathered = self._gathered.setdefault(waiting.loop, [])
        gathered.append(waiting)
        if len(gathered) == 1:
            waiting.loop.call_soon(self._hand_over, waiting.loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if gathered := self._gathered.pop(loop, None):
            self._queue.put(gathered)

    def _run(self) -> None:
        """The writing thread."""
        try:
            published_s, is_published, is_open = monotonic_s(), True, True
            while is_open:
                batch, is_open = self._gather(None if is_published else PUBLISH_IDLE_S)
                if batch:
                    self._commit(batch)
                    is_published = False
                is_idle = not batch and is_open
                if not is_published and (is_idle or monotonic_s() - published_s > PUBLISH_BUSY_S):
                    self._later(self._writer.publish)
                    published_s, is_published = monotonic_s(), True
                elif len(self._writer.view.entries) >= TURN_OVER_RECORDS:
                    self._later(self._writer.turn_over)
            self._later(self._writer.close)
        finally:
            self._is_closed = True
            self._writer.release()
            self._is_ending = False
            while rest := self._gather(0.0)[0]:
                self._deliver(rest, [AuditError("the audit log is closed")] * len(rest))

    def _gather(self, timeout_s: float | None) -> tuple[list[_Waiting], bool]:
        """What is waiting, at least one unless the time passes first, and False once the log is to be closed."""
        received = self._received
        with suppress(queue.Empty):
            if not received and not self._is_ending:
                self._receive(self._queue.get(timeout=timeout_s))
            while len(received) < self._batch_records and not self._is_ending:
                self._receive(self._queue.get_nowait())
        batch = received[: self._batch_records]
        del received[: self._batch_records]
        return batch, bool(received) or not self._is_ending

    def _receive(self, handed: list[_Waiting] | None) -> None:
        if handed is None:
            self._is_ending = True
        else:
            self._received += handed

    def _commit(self, batch: list[_Waiting]) -> None:
        began_s = monotonic_s()
        try:
            results: Sequence[int | CatenaError] = self._writer.commit([waiting.record for waiting in batch])
        except AuditError as error:
            results = [AuditError(error.message, hint=error.hint) for _ in batch]
            _FAILED.add()
        _COMMIT.observe(monotonic_s() - began_s)
        _RECORDS.add(sum(type(result) is int for result in results))
        _OPEN.set(self._writer.view.num_open)
        self._deliver(batch, results)

    def _deliver(self, batch: list[_Waiting], results: Sequence[int | CatenaError]) -> None:
        """Wake every waiter, once per event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | CatenaError]]] = {}
        for waiting, result in zip(batch, results, strict=True):
            by_loop.setdefault(waiting.loop, []).append((waiting.future, result))
        for loop, pairs in by_loop.items():
            with suppress(RuntimeError):  # that loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_settle, pairs)

    def _later(self, work: Callable[[], None]) -> None:
        """Run housekeeping that may fail without harm: records are safe in the journal, so it is tried again later."""
        try:
            work()
        except (OSError, CatenaError) as error:
            _logger.warning("audit log: housekeeping was put off: %s", error)


def _give_up(durable: asyncio.Future[int]) -> None:
    if not durable.done():
        durable.set_exception(TimeoutError())


def _too_late() -> AuditError:
    return AuditError(
        f"the audit log did not take a record within {APPEND_TIME_S:.0f} s",
        hint="check the disk that holds CATENA_HOME",
    )


def _settle(pairs: list[tuple[asyncio.Future[int], int | CatenaError]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, CatenaError):
            future.set_exception(result)
            future.exception()  # an abandoned waiter must not make a warning
        else:
            future.set_result(result)
