"""A ticket's record is opened durably and closed exactly once, whatever happens to the one who holds it."""

from __future__ import annotations

import hashlib
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core.errors import AuditError, EngineError
from catena.core.messages import Closed, Decision, Opened, Usage
from catena.reach.ticket import Caller, Ticket, salted_digest

pytestmark = pytest.mark.anyio
DECISION = Decision("local", "test", model="tiny", model_digest="sha256:" + "a" * 64)


class Log:
    """Takes records; `hold` makes an append wait, `error` makes it fail."""

    def __init__(self) -> None:
        self.records: list[Opened | Closed] = []
        self.hold: anyio.Event | None = None
        self.error: Exception | None = None

    async def append(self, record: Opened | Closed, /) -> int:
        if self.hold is not None:
            with anyio.CancelScope(shield=True):
                await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.records.append(record)
        return 40 + len(self.records)

    @property
    def closed(self) -> list[Closed]:
        return [record for record in self.records if isinstance(record, Closed)]


class Salts:
    def salt(self, receipt: str, /) -> bytes:
        return receipt.encode()


async def opened(log: Log, question: Any = "why") -> Ticket:
    return await Ticket.open(
        log, Salts(), caller=Caller("ctn_1", "openai.chat"), task="generate", decision=DECISION, question=question
    )


async def test_the_opening_record_says_who_asked_what_was_decided_and_never_what() -> None:
    log = Log()
    ticket = await opened(log)
    (record,) = log.records
    assert isinstance(record, Opened)
    assert (record.caller, record.door, record.task, record.decision) == (
        "ctn_1",
        "openai.chat",
        "generate",
        DECISION,
    )
    assert record.question_digest == salted_digest(ticket.receipt.encode(), b'"why"')


async def test_the_closing_record_points_to_its_opening_and_holds_what_was_gathered() -> None:
    log = Log()
    ticket = await opened(log)
    ticket.engine, ticket.device, ticket.num_deltas, ticket.usage = "e", "cpu", 3, Usage(1, 2)
    await ticket.close("complete", answer=b"because")
    (closed,) = log.closed
    assert (closed.receipt, closed.opened_index, closed.outcome) == (ticket.receipt, 41, "complete")
    assert (closed.engine, closed.device, closed.num_deltas, closed.usage) == ("e", "cpu", 3, Usage(1, 2))
    assert closed.answer_digest == salted_digest(ticket.receipt.encode(), b"because")
    assert ticket.is_closed


async def test_only_the_first_close_counts() -> None:
    log = Log()
    ticket = await opened(log)
    await ticket.close("failed", error=EngineError("x"))
    await ticket.close("complete", answer=b"late")
    assert [(record.outcome, record.error_code) for record in log.closed] == [("failed", "engine_failed")]


async def test_closing_twice_at_once_writes_one_record() -> None:
    log = Log()
    ticket = await opened(log)
    log.hold = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(ticket.close, "complete")
        group.start_soon(ticket.close, "cancelled")
        await anyio.wait_all_tasks_blocked()
        log.hold.set()
    assert [record.outcome for record in log.closed] == ["complete"]


async def test_a_cancelled_holder_still_gets_its_record_closed() -> None:
    log = Log()
    ticket = await opened(log)
    log.hold = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(ticket.close, "cancelled")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        log.hold.set()
    assert len(log.closed) == 1


async def test_a_log_that_refuses_is_an_audit_error_for_opening_and_closing() -> None:
    log = Log()
    ticket = await opened(log)
    log.error = AuditError("the disk is full")
    with pytest.raises(AuditError, match="disk is full"):
        await ticket.close("complete")
    with pytest.raises(AuditError, match="disk is full"):
        await opened(log)


async def test_an_error_of_ours_is_named_by_code_and_any_other_as_internal() -> None:
    log = Log()
    for error in (EngineError("secret text"), ValueError("secret text")):
        await (await opened(log)).close("failed", error=error)
    assert [record.error_code for record in log.closed] == ["engine_failed", "internal"]
    assert "secret" not in repr(log.records)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_salted_digest_is_sha256_of_salt_and_content(salt: bytes, content: bytes) -> None:
    digest = salted_digest(salt, content)
    assert digest == "sha256:" + hashlib.sha256(salt + content).hexdigest()
    assert digest != salted_digest(salt + b"\x01", content)
