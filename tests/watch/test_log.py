"""The log as its callers see it: durable when `append` returns, gathered into few syncs, read beside the writer."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from catena.core.errors import AuditError, ConflictError, InputError, NotFoundError, TooLargeError
from catena.core.ids import new_id
from catena.core.messages import Closed, Decision, Opened
from catena.watch import log as log_module
from catena.watch import proof
from catena.watch import reader as reader_module
from catena.watch.keys import Signer
from catena.watch.log import AuditLog, AuditReader
from catena.watch.verification import verify
from catena.watch.verifier import check_proof
from catena.watch.writer import Writer

Grow = Callable[..., Path]
DECISION = Decision("local", "only here")


async def until(is_so: Callable[[], bool]) -> None:
    """Yield to the loop until `is_so`; bounded by the caller."""
    while not is_so():  # noqa: ASYNC110 - another thread changes it
        await asyncio.sleep(0)


def test_a_record_can_be_found_and_proved_as_soon_as_append_returns(
    tmp_path: Path, signer: Signer, records: Any
) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        try:
            index = await log.append(records.opened(1))
            beside = AuditReader.open(tmp_path / "audit")
            assert beside.find(records.receipt(1)) == (records.opened(1), index, None, None)
            assert (log.size, log.num_open, beside.root) == (1, 1, log.root)
            closed_index = await log.append(records.closed(1, index))
            found = log.find(records.receipt(1))
            assert found == (records.opened(1), 0, records.closed(1, 0), closed_index)
            opened, closed = proof.check(log.prove(records.receipt(1)), signer.verifier_key)
            assert (opened, closed) == (found.opened, found.closed)
        finally:
            await log.close()

    asyncio.run(main())


def test_a_thousand_appends_at_once_share_a_few_syncs(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        indices = await asyncio.gather(*[log.append(records.opened(number)) for number in range(1000)])
        assert sorted(indices) == list(range(1000))
        assert log.num_syncs <= 20
        await log.close()

    asyncio.run(main())


def test_what_comes_in_one_turn_of_the_loop_is_one_batch_also_when_the_log_is_closed_in_it(
    tmp_path: Path, signer: Signer, records: Any
) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        await asyncio.gather(*[log.append(records.opened(number)) for number in range(100)])
        assert log.num_syncs == 1
        last = asyncio.create_task(log.append(records.opened(100)))
        await asyncio.sleep(0)
        await log.close()
        assert await last == 100

    asyncio.run(main())


def test_no_batch_is_larger_than_asked_for(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer, batch_records=10)
        await asyncio.gather(*[log.append(records.opened(number)) for number in range(200)])
        assert log.num_syncs >= 20
        await log.close()

    asyncio.run(main())


def test_a_log_has_one_writer(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        with pytest.raises(ConflictError, match="another process"):
            await AuditLog.open(tmp_path / "audit", signer)
        assert await log.append(records.opened(1)) == 0
        await log.close()
        again = await AuditLog.open(tmp_path / "audit", signer)
        await again.close()

    asyncio.run(main())


def test_each_request_is_opened_once_and_closed_at_most_once(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        index = await log.append(records.opened(1))
        wrong: list[Opened | Closed] = [records.opened(1), records.closed(2, 0), records.closed(1, index + 1)]
        results = await asyncio.gather(*map(log.append, wrong), return_exceptions=True)
        assert [type(result) for result in results] == [ConflictError] * 3
        await log.append(records.closed(1, index))
        with pytest.raises(ConflictError):
            await log.append(records.closed(1, index))
        assert (log.size, log.num_open) == (2, 0)
        await log.close()

    asyncio.run(main())


def test_unfit_records_are_refused_alone_and_not_their_neighbours(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        quoted = msgspec.structs.replace(records.opened(1), receipt='r"1')
        large = msgspec.structs.replace(records.opened(2), caller="x" * 70_000)
        results = await asyncio.gather(*map(log.append, [quoted, large, records.opened(3)]), return_exceptions=True)
        assert [type(result) for result in results] == [InputError, TooLargeError, int]
        await log.close()

    asyncio.run(main())
    assert verify(tmp_path / "audit", signer.verifier_key).records == 1 + 0


def test_after_close_nothing_is_taken(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        await log.close()
        await log.close()
        with pytest.raises(AuditError, match="closed"):
            await log.append(records.opened(1))

    asyncio.run(main())


def test_a_request_cancelled_while_it_is_being_recorded_is_closed(tmp_path: Path, signer: Signer, records: Any) -> None:
    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        task = asyncio.ensure_future(log.append(records.opened(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with anyio.fail_after(10):
            await until(lambda: log.size == 2)
        found = log.find(records.receipt(1))
        assert found.closed is not None and found.closed.outcome == "cancelled"
        await log.close()

    asyncio.run(main())


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Batches reach the disk once this is set."""
    may_go, commit = threading.Event(), Writer.commit

    def wait(writer: Writer, batch: Any) -> Any:
        assert may_go.wait(20)
        return commit(writer, batch)

    monkeypatch.setattr(Writer, "commit", wait)
    return may_go


def test_a_caller_whose_scope_is_cancelled_still_gets_its_index(
    tmp_path: Path, signer: Signer, records: Any, held: threading.Event
) -> None:
    found: list[int] = []

    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)

        async def call() -> None:
            found.append(await log.append(records.opened(1)))
            found.append(await log.append(records.closed(1, 0)))  # begun when it was cancelled already
            await anyio.lowlevel.checkpoint()
            found.append(-1)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
            await anyio.lowlevel.checkpoint_if_cancelled()
        await log.close()

    async def run() -> None:
        threading.Timer(0.05, held.set).start()
        await main()

    anyio.run(run)
    assert found == [0, 1]


def test_a_disk_that_hangs_is_an_audit_error_and_what_it_still_takes_is_closed(
    tmp_path: Path, signer: Signer, records: Any, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "APPEND_TIME_S", 0.02)

    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        with pytest.raises(AuditError, match="did not take a record"):
            await log.append(records.opened(1))
        held.set()
        with anyio.fail_after(10):
            await until(lambda: log.size == 2)
        found = log.find(records.receipt(1))
        assert found.closed is not None and found.closed.outcome == "cancelled"
        await log.close()

    asyncio.run(main())


def test_requests_left_open_are_closed_as_lost_at_the_next_start(grow: Grow, signer: Signer, records: Any) -> None:
    folder = grow(20, keep_open=3, is_closed=False)
    assert AuditReader.open(folder).num_open == 3
    writer = Writer.open(folder, signer)
    writer.close()
    reader = AuditReader.open(folder)
    outcomes = [reader.find(records.receipt(number)).closed.outcome for number in range(20)]  # type: ignore[union-attr]
    assert outcomes == ["complete"] * 17 + ["lost"] * 3
    verdict = verify(folder, signer.verifier_key)
    assert (verdict.ok, verdict.records, verdict.open) == (True, 40, 0)


@pytest.mark.parametrize("num", [1, 127, 128, 129, 300])
def test_everything_is_found_wherever_it_is_kept(grow: Grow, signer: Signer, records: Any, num: int) -> None:
    folder = grow(num)
    reader = AuditReader.open(folder)
    for number in (0, num // 2, num - 1):
        receipt = records.receipt(number)
        found = reader.find(receipt)
        assert found.opened == records.opened(number) and found.closed == records.closed(number, found.opened_index)
        plain = json.loads(msgspec.json.encode(reader.prove(receipt)))
        assert [record["type"] for record in check_proof(plain, signer.verifier_key)] == ["open", "close"]
    with pytest.raises(NotFoundError):
        reader.find("rcpt_unknown")


def test_recent_lists_newest_first_and_goes_on_before_a_receipt(grow: Grow, records: Any) -> None:
    reader = AuditReader.open(grow(300))
    names = [row.opened.receipt for row in reader.recent(1000)]
    assert names == [records.receipt(number) for number in reversed(range(300))]
    assert all(row.closed is not None for row in reader.recent(1000))
    page = reader.recent(5, before=names[200])
    assert [row.opened.receipt for row in page] == names[201:206]


def test_full_tiles_leave_the_journal_and_the_log_goes_on(grow: Grow, signer: Signer) -> None:
    folder = grow(200)
    assert [path.name for path in folder.glob("journal-*")] == ["journal-0000000000000256"]
    grow(2200)
    verdict = verify(folder, signer.verifier_key, is_full=True)
    assert (verdict.ok, verdict.records) == (True, 4800)
    assert (folder / "tile" / "0" / "017").stat().st_size == 8192


def test_a_reader_beside_a_busy_writer_always_sees_a_sound_log(
    tmp_path: Path, signer: Signer, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "TURN_OVER_RECORDS", 256)
    monkeypatch.setattr(log_module, "PUBLISH_BUSY_S", 0.01)

    async def main() -> list[int]:
        log = await AuditLog.open(tmp_path / "audit", signer, batch_records=64)
        sizes: list[int] = []

        async def write() -> None:
            for first in range(0, 2000, 50):
                indices = await asyncio.gather(*[log.append(records.opened(first + at)) for at in range(50)])
                await asyncio.gather(
                    *[log.append(records.closed(first + at, index)) for at, index in enumerate(indices)]
                )

        task = asyncio.ensure_future(write())
        while not task.done():
            verdict = await asyncio.to_thread(verify, tmp_path / "audit", signer.verifier_key)
            assert verdict.ok, verdict.problems
            sizes.append(verdict.records)
        await task
        await log.close()
        return sizes

    sizes = asyncio.run(main())
    assert sizes == sorted(sizes) and len(set(sizes)) > 1
    assert verify(tmp_path / "audit", signer.verifier_key).records == 4000


def test_an_idle_log_publishes_what_a_c2sp_client_reads(
    tmp_path: Path, signer: Signer, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "PUBLISH_IDLE_S", 0.001)

    async def main() -> None:
        log = await AuditLog.open(tmp_path / "audit", signer)
        await log.append(records.opened(1))
        with anyio.fail_after(10):
            await until(lambda: (tmp_path / "audit" / "checkpoint").read_text() == log.checkpoint())
        assert (tmp_path / "audit" / "tile" / "entries" / "000.p" / "1").exists()
        await log.close()

    asyncio.run(main())


def test_a_log_that_was_never_written_is_empty(tmp_path: Path) -> None:
    reader = AuditReader.open(tmp_path / "audit")
    assert (reader.size, reader.num_open, reader.recent(5)) == (0, 0, [])
    with pytest.raises(NotFoundError):
        reader.checkpoint()


def test_a_receipt_is_looked_for_first_where_its_time_points_and_found_wherever_it_is(
    tmp_path: Path, signer: Signer, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer.open(tmp_path / "audit", signer)
    ticks = itertools.count(1_795_000_000_000_000_000, 10_000_000)
    with monkeypatch.context() as patched:
        patched.setattr("time.time_ns", lambda: next(ticks))
        receipts = [new_id("rcpt") for _ in range(1500)]
    for first in range(0, 1500, 500):
        part = range(first, first + 500)
        writer.commit(
            [
                Opened(receipts[at], 1_795_000_000_000_000_000 + at * 10_000_000, "d", "c", "t", DECISION, "q")
                for at in part
            ]
        )
    late = Opened("rcpt_00000000000000000000000000", 1_800_000_000_000_000_000, "d", "c", "t", DECISION, "q")
    writer.commit([late, *[records.opened(number) for number in range(1, 300)]])
    writer.close()
    reader = AuditReader.open(tmp_path / "audit")
    assert reader.find(late.receipt).opened == late
    read: list[int] = []
    bundle = reader_module._bundle
    monkeypatch.setattr(reader_module, "_bundle", lambda folder, number: read.append(number) or bundle(folder, number))
    for at in (0, 255, 256, 700, 1279):
        read.clear()
        assert reader.find(receipts[at]).opened_index == at
        assert read[0] == at // 256
