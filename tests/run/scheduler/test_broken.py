"""A session that breaks by itself: nobody is sent to it any more, and the next request has the model loaded again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.run.scheduler.conftest import FakeEngine, make_model, turns, until

pytestmark = pytest.mark.anyio
A = make_model("a", 60)


async def test_the_next_request_after_a_break_gets_a_new_session(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        await requests.ask("first", A)
        await until(lambda: requests.running)
        await requests.end("first")
        engine.sessions[0].is_broken = True
        assert scheduler.phase(A.digest) == "cold"
        await requests.ask("second", A)
        await until(lambda: "second" in requests.running)
        assert requests.leases["second"].session is engine.sessions[1]
        assert engine.sessions[0].num_closed == 1
        assert scheduler.phase(A.digest) == "busy"


async def test_a_broken_session_is_not_closed_before_its_last_lease_ends_and_then_those_in_line_get_a_new_one(
    opened: Callable[..., Any],
) -> None:
    engine = FakeEngine(slots=2)
    async with opened(engine) as (_, requests):
        for label in ("one", "two", "in line"):
            await requests.ask(label, A)
        await until(lambda: len(requests.running) == 2)
        engine.sessions[0].is_broken = True
        await requests.end("one")
        await turns()
        assert requests.running == {"two"}
        assert (engine.sessions[0].num_closed, len(engine.sessions)) == (0, 1)
        await requests.end("two")
        await until(lambda: "in line" in requests.running)
        assert requests.leases["in line"].session is engine.sessions[1]


async def test_the_memory_of_a_broken_session_is_free_as_soon_as_its_last_lease_ends(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        engine.sessions[0].is_broken = True
        await requests.end("a")
        await until(lambda: engine.sessions[0].num_closed)
        assert scheduler.status().sessions == ()
        assert len(engine.sessions) == 1, "loaded again although nobody asked"


async def test_a_session_that_breaks_while_the_scheduler_stops_is_closed_once(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (_, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        engine.sessions[0].is_broken = True
    assert engine.sessions[0].num_closed == 1
