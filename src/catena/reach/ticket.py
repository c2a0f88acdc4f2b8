"""One request's place in the audit log: opened before anything is computed, closed exactly once however it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import CatenaError
from catena.core.ids import new_id
from catena.core.messages import (
    PUBLIC,
    Closed,
    Cost,
    Decision,
    Egress,
    FinishReason,
    Label,
    Opened,
    Outcome,
    Timings,
    Usage,
    canonical_bytes,
)


class Appends(Protocol):
    """The writing side of the audit log."""

    async def append(self, record: Opened | Egress | Closed, /) -> int:
        """Give the index of `record` once it is durable; finishes, in bounded time, also for a caller being cancelled.

        Raises AuditError when it cannot be written.
        """
        ...


class Salts(Protocol):
    """Gives each receipt its own secret salt."""

    def salt(self, receipt: str, /) -> bytes: ...


class Caller(Struct, frozen=True):
    """Who asks: the id of an API key, or `local`; and through which door, e.g. `openai.chat`.

    What is asked in the background waits until nobody else does. `session` names a conversation whose label sticks
    ("": none), `label` is what the caller says that this request is worth, at least.
    """

    key: str = "local"
    door: str = "local"
    is_background: bool = False
    session: str = ""
    label: Label = PUBLIC


def salted_digest(salt: bytes, content: bytes) -> str:
    """`sha256:` + hex of SHA-256 over `salt` then `content`: tells nothing about short texts without the salt."""
    return "sha256:" + hashlib.sha256(salt + content).hexdigest()


class Ticket:
    """The open record of one request. Gather what happened in the attributes, then `close`."""

    def __init__(self, log: Appends, salt: bytes, opened: Opened, index: int) -> None:
        self.opened = opened
        self.engine = ""
        self.device = ""
        self.usage: Usage | None = None
        self.timings = Timings()
        self.finish: tuple[FinishReason | None, ...] = ()
        self.num_deltas = 0
        self.cost: Cost | None = None
        self._sent_digest: str | None = None
        self._num_sent = 0
        self._returned = hashlib.sha256(salt)
        self._num_returned = 0
        self._num_departures = 0
        self._lookups: list[str] = []
        self._log = log
        self._salt = salt
        self._index = index
        self._is_closed = False

    @classmethod
    async def open(
        cls, log: Appends, salts: Salts, *, caller: Caller, task: str, decision: Decision, question: Any
    ) -> Ticket:
        """Record that `question` was accepted under `decision`; durable when this returns. Raises AuditError.

        A question that is bytes is canonical already.
        """
        receipt = new_id("rcpt")
        salt = salts.salt(receipt)
        content = question if isinstance(question, bytes) else canonical_bytes(question)
        digest = salted_digest(salt, content)
        opened = Opened(receipt, now_ns(), caller.door, caller.key, task, decision, digest)
        return cls(log, salt, opened, await log.append(opened))

    @property
    def receipt(self) -> str:
        return self.opened.receipt

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def note_sent(self, body: bytes) -> None:
        """Keep the digest of the exact bytes that leave this machine."""
        self._sent_digest, self._num_sent = salted_digest(self._salt, body), len(body)

    def digest(self, content: bytes) -> str:
        """The digest of `content` under this record's own salt."""
        return salted_digest(self._salt, content)

    def note_lookup(self, name: str) -> None:
        """The system's resolver is about to be asked for `name`."""
        self._lookups.append(name)

    def note_returned(self, data: bytes) -> None:
        """Count bytes that came from the other end, in the order they came."""
        self._returned.update(data)
        self._num_returned += len(data)

    async def depart(self, egress: Callable[[int, int, tuple[str, ...]], Egress]) -> Egress:
        """Record what is about to leave; durable when this returns. Raises AuditError: then nothing may leave.

        `egress` gets the entry that opened the request, the record's number, and the names that were looked up for it.
        """
        self._num_departures += 1
        record = egress(self._index, self._num_departures, tuple(dict.fromkeys(self._lookups)))
        await self._log.append(record)
        self._lookups.clear()
        return record

    async def close(self, outcome: Outcome, *, answer: bytes | None = None, error: BaseException | None = None) -> None:
        """Write the closing record; later calls do nothing. Finishes even if the caller is being cancelled.

        Raises AuditError when it cannot be written: then the answer must not be presented as complete.
        """
        if self._is_closed:
            return
        self._is_closed = True
        closed = Closed(
            receipt=self.receipt,
            at_ns=now_ns(),
            opened_index=self._index,
            outcome=outcome,
            answer_digest=None if answer is None else salted_digest(self._salt, answer),
            engine=self.engine,
            device=self.device,
            usage=self.usage,
            timings=self.timings,
            finish=self.finish,
            num_deltas=self.num_deltas,
            error_code=_code(error),
            sent_digest=self._sent_digest,
            sent_bytes=self._num_sent,
            cost=self.cost,
            received_digest="sha256:" + self._returned.hexdigest() if self._num_returned else None,
            received_bytes=self._num_returned,
            departures=self._num_departures,
            lookups=tuple(dict.fromkeys(self._lookups)),
        )
        await self._log.append(closed)


def _code(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return error.code if isinstance(error, CatenaError) else "internal"
