"""What nobody waits for takes what the others leave: no turn before theirs, not all slots, no session in use lately."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.run.scheduler.conftest import FakeEngine, make_model, turns, until

from catena.run.scheduler import occupancy
from catena.run.scheduler import tenant as tenants

pytestmark = pytest.mark.anyio
M = make_model("m")
A, B = (make_model(name, 60) for name in "ab")


async def warm(requests: Any, model: Any) -> None:
    await requests.ask("warm", model)
    await until(lambda: "warm" in requests.running)
    await requests.end("warm")


async def test_a_request_in_the_background_loads_a_model_that_nobody_else_wants(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        await requests.ask("batch", M, is_background=True)
        await until(lambda: "batch" in requests.running)
        await requests.end("batch")
        assert scheduler.status().sessions[0].active == 0


@pytest.mark.parametrize(("slots", "share"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4)])
async def test_half_of_the_slots_are_the_most_that_the_background_gets(
    engine: FakeEngine, opened: Callable[..., Any], slots: int, share: int
) -> None:
    engine.slots = slots
    async with opened(engine) as (_, requests):
        await warm(requests, M)
        for number in range(slots + 1):
            await requests.ask(f"batch{number}", M, f"caller{number}", is_background=True)
        assert len(requests.running) == share
        await requests.ask("now", M)
        assert ("now" in requests.running) is (slots > 1)


async def test_whoever_waits_goes_before_the_background_that_came_earlier(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (_, requests):
        await warm(requests, M)
        await requests.ask("first", M)
        await requests.ask("batch", M, is_background=True)
        await requests.ask("second", M)
        await requests.ask("third", M)
        for label in ("first", "second", "third"):
            await requests.end(label)
        assert requests.order[1:] == ["first", "second", "third", "batch"]


async def test_a_request_starts_at_once_while_the_background_stands_in_line(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    engine.slots = 2
    async with opened(engine) as (scheduler, requests):
        await warm(requests, M)
        await requests.ask("batch1", M, is_background=True)
        await requests.ask("batch2", M, is_background=True)
        assert scheduler.phase(M.digest) == "ready"
        await requests.ask("now", M)
        assert requests.running == {"batch1", "now"}
        assert requests.leases["now"].queued_s == 0
        await requests.end("batch1")
        assert requests.running == {"batch2", "now"}


async def test_the_background_takes_no_place_in_the_queue(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, queue_limit=1) as (scheduler, requests):
        await warm(requests, M)
        await requests.ask("running", M)
        await requests.ask("waiting", M)
        await requests.ask("batch", M, is_background=True)
        assert requests.errors == {}
        status = scheduler.status()
        assert (status.queue, status.sessions[0].waiting) == (1, 2)


async def test_the_background_goes_on_when_the_last_one_in_line_before_it_leaves(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    engine.slots = 2
    async with opened(engine) as (_, requests):
        await warm(requests, M)
        await requests.ask("one", M)
        await requests.ask("two", M)
        await requests.ask("three", M)
        await requests.ask("batch", M, is_background=True)
        await requests.end("one")
        await requests.cancel("three")
        await requests.end("two")
        assert requests.running == {"batch"}


async def test_the_background_that_leaves_the_line_or_its_lease_leaves_no_trace(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        await warm(requests, M)
        for label in ("a", "b", "c"):
            await requests.ask(label, M, is_background=True)
        await requests.cancel("b")
        await requests.cancel("a")
        await requests.end("c")
        [session] = scheduler.status().sessions
        assert (session.active, session.waiting, scheduler.status().queue) == (0, 0, 0)
        await requests.ask("now", M)
        assert requests.running == {"now"}


async def test_the_background_closes_no_session_that_was_used_lately(
    engine: FakeEngine, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occupancy, "LOOK_S", 0.01)
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await warm(requests, A)
        await requests.ask("batch", B, is_background=True)
        await turns()
        assert [one.model for one in scheduler.status().sessions] == ["a"]
        monkeypatch.setattr(occupancy, "RESTED_S", 0.0)
        await until(lambda: "batch" in requests.running)
        assert [one.model for one in scheduler.status().sessions] == ["b"]


async def test_a_request_for_another_model_takes_the_memory_after_the_lease_that_runs(
    engine: FakeEngine, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "MIN_TURN_S", 0.0)
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await requests.ask("batch1", B, is_background=True)
        await until(lambda: "batch1" in requests.running)
        await requests.ask("batch2", B, is_background=True)
        await requests.ask("now", A)
        await until(lambda: any(one.yields for one in scheduler._memory.tenants.values()))
        await requests.end("batch1")
        await until(lambda: "now" in requests.running)
        assert "batch2" not in requests.order
        await requests.cancel("batch2")


async def test_the_background_that_waits_for_memory_stands_behind_whoever_comes(
    engine: FakeEngine, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occupancy, "LOOK_S", 0.01)
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await warm(requests, A)
        await requests.ask("batch", B, is_background=True)
        await until(lambda: scheduler._memory._wanting)
        await requests.ask("now", make_model("c", 60))
        await until(lambda: "now" in requests.running)
        assert "batch" not in requests.order
        await requests.cancel("batch")
