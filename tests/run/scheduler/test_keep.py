"""A caller may say how long a model stays: not past its last use, or for as long as memory is not needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.run.scheduler.conftest import FakeEngine, Requests, make_model, turns, until

from catena.core.manifest import StoredModel

pytestmark = pytest.mark.anyio
A, B = make_model("a"), make_model("b")


async def run(requests: Requests, label: str, model: StoredModel) -> None:
    """Begin a request and wait until it runs."""
    await requests.ask(label, model)
    await until(lambda: label in requests.running)


async def test_a_model_kept_for_no_time_goes_when_nobody_uses_it(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        await run(requests, "one", A)
        await run(requests, "other", B)
        scheduler.keep(A.digest, 0)
        await turns()
        assert engine.sessions[0].num_closed == 0, "closed in use"
        await requests.end("one")
        await until(lambda: len(scheduler.status().sessions) == 1)
        assert engine.sessions[0].num_closed == 1
        assert [session.model for session in scheduler.status().sessions] == ["b"]


async def test_an_idle_model_kept_for_no_time_goes_at_once(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine) as (scheduler, requests):
        await run(requests, "one", A)
        await requests.end("one")
        assert scheduler.status().sessions[0].unload_in_s == pytest.approx(900, abs=5)
        scheduler.keep(A.digest, 0)
        await until(lambda: not scheduler.status().sessions)
        assert engine.sessions[0].num_closed == 1


async def test_a_model_kept_outlives_the_time_that_others_may_idle(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, idle_unload_s=0.02) as (scheduler, requests):
        await run(requests, "one", A)
        await run(requests, "other", B)
        scheduler.keep(A.digest, math.inf)
        await requests.end("one")
        await requests.end("other")
        await until(lambda: len(scheduler.status().sessions) == 1)
        (kept,) = scheduler.status().sessions
        assert (kept.model, kept.unload_in_s, kept.context_tokens) == ("a", None, 100)


async def test_a_kept_model_still_makes_room_for_another(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, memory_bytes=10) as (scheduler, requests):
        await run(requests, "one", A)
        scheduler.keep(A.digest, math.inf)
        await requests.end("one")
        await run(requests, "other", B)
        assert [session.model for session in scheduler.status().sessions] == ["b"]


async def test_what_was_said_holds_until_the_model_is_closed(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine) as (scheduler, requests):
        await run(requests, "one", A)
        scheduler.keep(A.digest, 0)
        await requests.end("one")
        await until(lambda: engine.sessions[0].num_closed == 1)
        await run(requests, "again", A)
        await requests.end("again")
        await turns()
        assert scheduler.status().sessions[0].unload_in_s == pytest.approx(900, abs=5)


async def test_a_model_that_is_not_loaded_can_be_named(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine) as (scheduler, _):
        scheduler.keep(A.digest, 0)
        await turns()
        assert scheduler.status().sessions == ()


async def test_without_an_idle_time_a_kept_one_still_goes(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, idle_unload_s=0) as (scheduler, requests):
        await run(requests, "one", A)
        await requests.end("one")
        assert scheduler.status().sessions[0].unload_in_s is None
        scheduler.keep(A.digest, 0)
        await until(lambda: engine.sessions[0].num_closed == 1)
