"""A batch is worked off under its key, in its window, through any break-off; its files appear once and whole."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from catena.core.errors import BusyError, ConflictError, IntegrityError, NotFoundError, ResourceError, TooLargeError
from catena.core.settings import ReachSettings
from catena.reach.access import Access, Identity
from catena.reach.batches import Answered, Batch, Batches, Counts, Files, Runner, batches, runner, work
from catena.reach.batches.files import new_file_id
from catena.store.database import Database

pytestmark = pytest.mark.anyio
URL = "/v1/chat/completions"
GOOD = Answered(200, {"catena-receipt": "rcpt_1", "x-request-id": "req_1"}, b'{"ok":true}')


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Desk:
    """Files, batches and who works them off; `answer` gives the answer to a body. Time stands still until moved."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.table = Database(home / "catena.db")
        self.now_s = 1_000_000
        self.asked: list[str] = []
        self.callers: list[Identity] = []
        self.answer: Callable[[Any], Awaitable[Answered]] = self.good
        self.access = Access(self.table)
        self.open()

    def open(self) -> None:
        """As a process that starts does."""
        clock: Any = lambda: self.now_s * 1_000_000_000  # noqa: E731
        self.files = Files(self.table, self.home / "files", max_files=9, max_bytes=100_000, clock_ns=clock)
        self.batches = Batches(self.table, self.home / "batches", clock_ns=clock)
        self.runner = Runner(self.batches, self.files, self.access, ReachSettings(batch_concurrency=2))
        self.runner.recover()

    async def good(self, body: Any) -> Answered:
        return GOOD

    async def ask(self, path: str, body: bytes, identity: Identity) -> Answered:
        asked = json.loads(body)
        self.asked.append(asked["name"])
        self.callers.append(identity)
        await anyio.lowlevel.checkpoint()
        return await self.answer(asked)

    def leave(self, text: str, purpose: str = "batch", owner: str = "local", keep_s: int | None = None) -> str:
        draft = self.files.make_folder() / "draft"
        draft.write_text(text)
        return self.files.adopt(draft, owner, "in.jsonl", purpose, keep_s).id

    def make(self, count: int = 3, *, window_s: int = 60, owner: str = "local", keep_s: int | None = None) -> Batch:
        lines = [
            {"custom_id": f"r{number}", "method": "POST", "url": URL, "body": {"name": f"r{number}"}}
            for number in range(count)
        ]
        id = self.leave("\n".join(map(json.dumps, lines)), owner=owner, keep_s=keep_s)
        return self.batches.add(
            owner, URL, id, completion_window="x", window_s=window_s, output_keep_s=None, metadata=None
        )

    async def run(self, batch: Batch) -> Batch:
        """Work until the batch is over."""
        async with self.working():
            await until(lambda: not self.now(batch).is_open)
        return self.now(batch)

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Work for the block, then break off."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.runner.run, self.ask)
            yield
            group.cancel_scope.cancel()

    def now(self, batch: Batch) -> Batch:
        return self.batches.find(batch.id, batch.owner)

    def lines(self, file_id: str | None, owner: str = "local") -> list[Any]:
        assert file_id is not None
        path = self.files.path(self.files.find(file_id, owner).id)
        return [json.loads(line) for line in path.read_text().splitlines()]


class Cut:
    """Does as `real` does for so many calls, then fails."""

    def __init__(self, real: Callable[..., Any], num_good: int) -> None:
        self.has_cut = False
        self._real = real
        self._left = num_good

    def __call__(self, *values: Any, **named: Any) -> Any:
        self._left -= 1
        if self._left >= 0:
            return self._real(*values, **named)
        self.has_cut = True
        raise ResourceError("cut here")


async def until(holds: Callable[[], Any]) -> None:
    """Wait, within bounds, until `holds()`."""
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110 - what is waited for stands in a database
            await anyio.sleep(0.002)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.table.close()


async def test_each_line_names_the_receipt_and_the_warning_of_its_answer(desk: Desk) -> None:
    async def warned(body: Any) -> Answered:
        return Answered(200, {**GOOD.headers, "catena-warning": "user ignored"}, GOOD.body)

    desk.answer = warned
    done = await desk.run(desk.make(1))
    [line] = desk.lines(done.output_file_id)
    assert line["response"] == {
        "status_code": 200,
        "request_id": "req_1",
        "body": {"ok": True},
        "catena_receipt": "rcpt_1",
        "catena_warning": "user ignored",
    }


@pytest.mark.parametrize("step", ["list_", "move", "forget", "advance"])
async def test_a_break_off_at_any_step_of_the_end_is_gone_on_from(
    desk: Desk, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SWEEP_S", 3600.0)
    batch = desk.make(4)

    async def mixed(body: Any) -> Answered:
        return GOOD if body["name"] != "r1" else Answered(400, {}, b'{"error":{}}')

    desk.answer = mixed
    for num_good in range(3):
        place: Any = desk.batches if step in ("forget", "advance") else desk.files
        cut = Cut(getattr(place, step), num_good)
        with monkeypatch.context() as patch:
            patch.setattr(place, step, cut)
            async with desk.working():
                await until(lambda cut=cut: cut.has_cut or not desk.now(batch).is_open)
        desk.open()
    done = await desk.run(batch)
    assert done.status == "completed"
    assert sorted(line["custom_id"] for line in desk.lines(done.output_file_id)) == ["r0", "r2", "r3"]
    assert [line["custom_id"] for line in desk.lines(done.error_file_id)] == ["r1"]
    outputs = desk.files.rows("local", purpose="batch_output", after=None, limit=9, is_rising=True)
    assert len(outputs) == 2, "each file is there once"


async def test_only_what_was_in_flight_is_asked_again(desk: Desk) -> None:
    batch = desk.make(20)

    async def slow(body: Any) -> Answered:
        if int(body["name"][1:]) >= 10:
            await anyio.sleep_forever()
        return GOOD

    desk.answer = slow
    async with desk.working():
        await until(lambda: desk.now(batch).counts.completed == 10 and len(desk.asked) == 12)
    desk.open()
    desk.answer = desk.good
    done = await desk.run(batch)
    assert Counter(desk.asked) == Counter({f"r{number}": 2 if number in (10, 11) else 1 for number in range(20)})
    assert Counter(line["custom_id"] for line in desk.lines(done.output_file_id)) == Counter(
        f"r{number}" for number in range(20)
    )


async def test_no_turn_now_means_asking_again_and_no_memory_a_few_times(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MIN_RETRY_S", 0.0)
    tries: Counter[str] = Counter()

    async def busy(body: Any) -> Answered:
        tries[body["name"]] += 1
        if body["name"] == "r0":
            return Answered(429, {"retry-after": "0"}, b"{}") if tries["r0"] < 20 else GOOD
        return Answered(503, {}, b'{"error":{}}')

    desk.answer = busy
    done = await desk.run(desk.make(2))
    assert tries == {"r0": 20, "r1": work.MAX_TRIES}
    assert (done.counts.completed, done.counts.failed) == (1, 1)


async def test_a_cancelled_batch_stops_the_requests_in_flight(desk: Desk) -> None:
    started: list[str] = []
    stopped: list[str] = []

    async def endless(body: Any) -> Answered:
        started.append(body["name"])
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(body["name"])
        raise AssertionError

    desk.answer = endless
    batch = desk.make(5)
    async with desk.working():
        await until(lambda: len(started) == 2)
        desk.batches.cancel(batch.id, "local")
        desk.runner.stop(batch.id)
        await until(lambda: not desk.now(batch).is_open)
    found = desk.now(batch)
    assert (found.status, found.output_file_id, sorted(stopped)) == ("cancelled", None, ["r0", "r1"])
    assert len(desk.asked) == 2


async def test_one_that_was_cancelled_or_ran_out_of_time_while_nothing_ran_ends_at_the_next_start(desk: Desk) -> None:
    cancelled, late = desk.make(2), desk.make(2, window_s=30)
    desk.batches.cancel(cancelled.id, "local")
    desk.now_s += 31
    assert (await desk.run(cancelled)).status == "cancelled"
    assert (await desk.run(late)).status == "expired"
    assert desk.asked == []


async def test_an_input_past_its_own_time_is_read_to_the_end_of_its_batch(desk: Desk) -> None:
    batch = desk.make(2, keep_s=10)
    desk.now_s += 20
    done = await desk.run(batch)
    assert (done.status, done.counts.completed) == ("completed", 2)
    assert desk.files.sweep() == 1


async def test_a_batch_that_expires_without_its_input_ends_all_the_same(desk: Desk) -> None:
    batch = desk.make(2)
    desk.batches.advance(batch.id, ("validating",), "in_progress", counts=Counts(2))
    (desk.home / "files" / batch.input_file_id).unlink()
    desk.now_s += 100
    assert (await desk.run(batch)).status == "expired"


async def test_an_input_whose_content_is_gone_fails_its_batch_at_the_start_and_in_its_midst(desk: Desk) -> None:
    early, late = desk.make(2), desk.make(4)
    (desk.home / "files" / early.input_file_id).unlink()
    desk.batches.advance(late.id, ("validating",), "in_progress", counts=Counts(4))
    (desk.home / "files" / late.input_file_id).unlink()
    for batch in (early, late):
        done = await desk.run(batch)
        assert (done.status, [problem.code for problem in done.problems]) == ("failed", ["integrity"])


async def test_lines_are_asked_with_the_rights_of_the_key_as_they_are_now(desk: Desk) -> None:
    row, _ = desk.access.add("mine", ("ask",))
    done = await desk.run(desk.make(2, owner=row.id))
    assert {(one.caller.key, one.scopes) for one in desk.callers} == {(row.id, frozenset({"ask"}))}
    assert done.status == "completed"


async def test_batches_of_many_owners_share_the_turns(desk: Desk) -> None:
    made = [desk.make(8, owner=desk.access.add(f"k{number}")[0].id) for number in range(3)]
    running = most = 0

    async def counted(body: Any) -> Answered:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        return GOOD

    desk.answer = counted
    for batch in made:
        assert (await desk.run(batch)).status == "completed"
    assert most == 2


def test_an_owner_has_so_many_open_batches_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_OPEN", 2)
    desk.make()
    last = desk.make()
    with pytest.raises(BusyError):
        desk.make()
    desk.make(owner="other")
    desk.batches.advance(last.id, ("validating",), "failed")
    desk.make()


def test_of_batches_that_are_over_the_newest_are_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_KEPT", 2)
    made = []
    for _ in range(4):
        made.append(desk.make().id)
        desk.now_s += 1
        desk.batches.advance(made[-1], ("validating",), "failed")
    assert [batch.id for batch in desk.batches.rows("local", after=None, limit=9)] == made[:1:-1]


def test_what_is_over_cannot_be_cancelled(desk: Desk) -> None:
    batch = desk.make()
    desk.batches.advance(batch.id, ("validating",), "failed")
    with pytest.raises(ConflictError):
        desk.batches.cancel(batch.id, "local")


def test_files_end_at_their_time_but_not_while_they_are_read(desk: Desk) -> None:
    short, long = desk.leave("a", keep_s=10), desk.leave("b", keep_s=100)
    desk.now_s += 11
    with pytest.raises(NotFoundError):
        desk.files.find(short, "local")
    assert [file.id for file in desk.files.rows("local", purpose=None, after=None, limit=9, is_rising=True)] == [long]
    assert desk.files.sweep(frozenset({short})) == 0
    assert desk.files.sweep() == 1
    assert not (desk.home / "files" / short).exists()


def test_an_owner_has_so_many_bytes_and_no_more(desk: Desk) -> None:
    desk.leave("x" * 90_000)
    with pytest.raises(TooLargeError):
        desk.leave("x" * 10_001)
    desk.leave("x" * 10_000)
    desk.leave("x" * 10_001, owner="other")


async def test_what_comes_in_while_work_begins_is_left_alone(desk: Desk) -> None:
    draft, moved = desk.files.make_folder() / "another", desk.home / "files" / new_file_id()
    draft.write_text("on its way")
    moved.write_text("in its place, not listed yet")
    batch = desk.make(1)
    async with desk.working():
        await until(lambda: not desk.now(batch).is_open)
    assert (draft.read_text(), moved.read_text()) == ("on its way", "in its place, not listed yet")


def test_at_a_start_drafts_and_strays_go_and_files_stay(desk: Desk) -> None:
    kept = desk.leave("a")
    (desk.files.drafts / "draft_1").write_text("half")
    (desk.home / "files" / "file-stray").write_text("no row")
    (desk.home / "batches" / "batch_stray").mkdir(parents=True)
    desk.open()
    assert sorted(path.name for path in (desk.home / "files").iterdir()) == [kept]
    assert list((desk.home / "batches").iterdir()) == []


def test_a_content_that_went_or_changed_is_not_given_out(desk: Desk) -> None:
    file = desk.files.find(desk.leave("hello"), "local")
    with desk.files.open(file, 2) as source:
        assert source.read() == b"llo"
    desk.files.path(file.id).write_text("other than before")
    with pytest.raises(IntegrityError):
        desk.files.open(file)
    desk.files.path(file.id).unlink()
    with pytest.raises(IntegrityError):
        desk.files.open(file)


def test_a_disk_that_takes_no_more_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError):
        desk.leave("hello")
    assert desk.files.rows("local", purpose=None, after=None, limit=9, is_rising=True) == []
