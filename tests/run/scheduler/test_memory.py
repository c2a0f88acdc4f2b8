"""Memory is bounded: idle sessions make room, leased ones never do, swaps starve nobody, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.run.scheduler.conftest import FakeEngine, Free, make_model, open_scheduler, turns, until

from catena.core.errors import BusyError, EngineError, ResourceError
from catena.run.scheduler import tenant as tenants

pytestmark = pytest.mark.anyio
A, B, C = (make_model(name, 60) for name in "abc")


def loaded(scheduler: Any) -> list[str]:
    return [session.model for session in scheduler.status().sessions]


@pytest.fixture
def no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late-comers to a model whose memory is wanted are not let in any more."""
    monkeypatch.setattr(tenants, "MIN_TURN_S", 0.0)
    monkeypatch.setattr(tenants, "MAX_TURN_S", 0.0)


async def test_an_idle_session_makes_room_for_another_model(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        await requests.end("a")
        await requests.ask("b", B)
        await until(lambda: "b" in requests.running)
        assert loaded(scheduler) == ["b"]
        assert engine.sessions[0].num_closed == 1


async def test_a_leased_session_is_never_closed_for_another_model(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        await requests.ask("b", B)
        await turns()
        assert loaded(scheduler) == ["a"]
        assert scheduler.phase(B.digest) == "busy"
        await requests.end("a")
        await until(lambda: "b" in requests.running)
        assert requests.leases["b"].queued_s > 0


async def test_the_one_that_is_cheap_to_bring_back_and_long_idle_goes_first(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, memory_bytes=130) as (scheduler, requests):
        for label, model in (("a", A), ("b", B)):
            await requests.ask(label, model)
            await until(lambda label=label: label in requests.running)
            await requests.end(label)
        by_name = {one.model.name: one for one in scheduler._memory.tenants.values()}
        by_name["a"].cost.load_s, by_name["b"].cost.load_s = 3600.0, 0.01
        await requests.ask("c", C)
        await until(lambda: "c" in requests.running)
        assert sorted(loaded(scheduler)) == ["a", "c"]


async def test_no_more_is_closed_than_needed(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, memory_bytes=130) as (scheduler, requests):
        for label, model in (("a", A), ("b", B)):
            await requests.ask(label, model)
            await until(lambda label=label: label in requests.running)
            await requests.end(label)
        for tenant in scheduler._memory.tenants.values():
            tenant.cost.load_s = 1.0  # as dear as one another, however long the machine took
        await requests.ask("c", C)
        await until(lambda: "c" in requests.running)
        assert sorted(loaded(scheduler)) == ["b", "c"]


async def test_requests_that_came_before_are_served_before_a_swap_and_late_ones_after(
    engine: FakeEngine, opened: Callable[..., Any], no_turn: None
) -> None:
    async with opened(engine, memory_bytes=100) as (_, requests):
        await requests.ask("a0", A)
        await until(lambda: requests.running)
        for label, model in (("a1", A), ("b0", B), ("a2", A), ("b1", B)):
            await requests.ask(label, model)
        for label in ("a0", "a1", "b0", "a2", "b1"):
            await until(lambda label=label: label in requests.running)
            # Who waits asks for memory after its engine was chosen, which happens in a thread.
            await until(lambda: not _is_waited_for(requests) or any(one.yields for one in _tenants(requests)))
            await requests.end(label)
        assert requests.order == ["a0", "a1", "b0", "a2", "b1"]


async def test_within_its_turn_a_loaded_model_serves_late_comers_and_swaps_are_few(
    engine: FakeEngine, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "MIN_TURN_S", 3600.0)
    monkeypatch.setattr(tenants, "MAX_TURN_S", 3600.0)
    async with opened(engine, memory_bytes=100) as (_, requests):
        await requests.ask("a0", A)
        await until(lambda: requests.running)
        labels = [f"{name}{number}" for number in range(1, 6) for name in "ba"]
        for label in labels:
            await requests.ask(label, A if label[0] == "a" else B)
        done: list[str] = []
        while len(done) < 11:
            await until(lambda: requests.running)
            done += sorted(requests.running)
            await requests.end(done[-1])
        assert engine.begun == ["a", "b"], "ABABAB… was served as AAA…BBB…"


async def test_a_model_that_is_asked_for_without_end_does_not_starve_another(
    engine: FakeEngine, opened: Callable[..., Any], no_turn: None
) -> None:
    engine.slots = 2
    async with opened(engine, memory_bytes=100) as (_, requests):
        await requests.ask("a0", A)
        await until(lambda: requests.running)
        await requests.ask("b", B)
        await until(lambda: any(one.yields for one in _tenants(requests)))
        # From here on A is never without a request.
        for number in range(1, 20):
            await requests.ask(f"a{number}", A)
            if number > 1:
                await requests.end(f"a{number - 2}")
        await until(lambda: "b" in requests.running)
        assert requests.order == ["a0", "b"]


async def test_a_line_goes_on_when_the_one_that_wanted_its_memory_leaves(
    engine: FakeEngine, opened: Callable[..., Any], no_turn: None
) -> None:
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        engine.slots = 2
        await requests.ask("a0", A)
        await until(lambda: requests.running)
        await requests.ask("b", B)
        await until(lambda: any(one.yields for one in _tenants(requests)))
        await requests.ask("late", A)
        assert "late" not in requests.running
        await requests.cancel("b")
        await until(lambda: "late" in requests.running)
        assert engine.begun == ["a"], "nobody waited for b any more"
        assert scheduler.phase(B.digest) == "cold"


async def test_a_small_model_need_not_wait_behind_a_large_one_if_it_takes_nothing_from_it(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    small, large = make_model("small", 5), make_model("large", 90)
    async with opened(engine, memory_bytes=100) as (_, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        await requests.ask("large", large)
        await until(lambda: any(one.yields for one in _tenants(requests)))
        await requests.ask("small", small)
        await until(lambda: "small" in requests.running)
        await requests.ask("medium", make_model("medium", 20))
        await turns()
        assert "medium" not in requests.running, "20 of the 35 free are promised to large"
        await requests.end("a")
        await until(lambda: "large" in requests.running)


async def test_a_model_larger_than_the_limit_is_refused_with_both_numbers(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, memory_bytes=50) as (_, requests):
        await requests.ask("a", A)
        await until(lambda: requests.errors)
        error = requests.errors["a"]
        assert isinstance(error, ResourceError)
        assert "60 B" in error.message
        assert "50 B" in error.message
        assert engine.begun == []


async def test_a_wait_for_memory_has_an_end(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, memory_bytes=100, load_timeout_s=0.1) as (_, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        await requests.ask("b", B)
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["b"], BusyError)
        await requests.ask("late", A)
        await requests.end("a")
        assert "late" in requests.running


async def test_a_guess_that_was_too_small_is_corrected_by_loading_again(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    engine.sizes["b"] = 95
    async with opened(engine, memory_bytes=130) as (scheduler, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        await requests.ask("b", B)
        await until(lambda: engine.begun == ["a", "b"])
        await requests.end("a")
        await until(lambda: "b" in requests.running)
        assert loaded(scheduler) == ["b"]
        assert engine.begun == ["a", "b", "b"]
        assert [session.num_closed for session in engine.sessions] == [1, 1, 0]


async def test_a_session_that_alone_is_over_the_limit_is_closed_and_refused(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    engine.sizes["a"] = 200
    async with opened(engine, memory_bytes=100) as (scheduler, requests):
        await requests.ask("a", A)
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["a"], ResourceError)
        assert engine.sessions[0].num_closed == 1
        assert loaded(scheduler) == []


async def test_an_engine_out_of_memory_gets_what_idle_sessions_held_and_one_more_try(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        for label, model in (("a", A), ("b", B)):
            await requests.ask(label, model)
            await until(lambda label=label: label in requests.running)
            await requests.end(label)
        engine.errors.append(ResourceError("too little memory"))
        await requests.ask("c", C)
        await until(lambda: "c" in requests.running)
        assert loaded(scheduler) == ["c"]
        assert engine.begun == ["a", "b", "c", "c"]


async def test_an_engine_out_of_memory_waits_for_a_leased_session_and_fails_if_there_is_none(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (_, requests):
        engine.errors.append(ResourceError("too little memory"))
        await requests.ask("alone", A)
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["alone"], ResourceError)
        await requests.ask("a", A)
        await until(lambda: requests.running)
        engine.errors.append(ResourceError("too little memory"))
        await requests.ask("b", B)
        await until(lambda: engine.begun == ["a", "a", "b"])
        await turns()
        assert "b" not in requests.running
        await requests.end("a")
        await until(lambda: "b" in requests.running)


async def test_without_a_limit_what_is_free_counts(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    free = Free(100)
    async with opened(engine, free=free) as (scheduler, requests):
        await requests.ask("huge", make_model("huge", 101))
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["huge"], ResourceError)
        await requests.ask("a", A)
        await until(lambda: requests.running)
        # Weights mapped from a file leave the memory free to the eye: the sessions' own word counts too.
        await requests.end("a")
        await requests.ask("b", B)
        await until(lambda: "b" in requests.running)
        assert loaded(scheduler) == ["b"]


async def test_a_session_that_does_not_close_well_is_logged_and_gone(
    engine: FakeEngine, opened: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(engine, memory_bytes=100) as (_, requests):
        await requests.ask("a", A)
        await until(lambda: requests.running)
        await requests.end("a")

        async def broken() -> None:
            raise EngineError("cannot close")

        engine.sessions[0].close = broken  # type: ignore[method-assign]
        await requests.ask("b", B)
        await until(lambda: "b" in requests.running)
        assert "did not close well" in caplog.text


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "ask", "end", "cancel"]), st.integers(0, 3), st.integers(0, 63)),
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(1, 3), st.sampled_from([70, 130, 200]), st.booleans())
def test_in_any_interleaving_everybody_is_served_and_no_limit_is_passed(
    tmp_path: Path, steps: list[tuple[str, int, int]], slots: int, memory_bytes: int, is_hurried: bool
) -> None:
    """FakeSession and Requests assert the rest: never more than slots, never a lease on a closed session."""

    async def play() -> None:
        engine = FakeEngine(slots)
        models = [A, B, C, make_model("d", 20)]
        async with open_scheduler(engine, tmp_path, memory_bytes=memory_bytes) as (scheduler, requests):

            def check() -> None:
                assert sum(one.memory_bytes for one in scheduler._memory.tenants.values()) <= memory_bytes

            asked: list[str] = []
            cancelled: set[str] = set()
            for number, (kind, which, choice) in enumerate(steps):
                if kind == "ask":
                    asked.append(f"r{number}")
                    await requests.ask(asked[-1], models[which], f"caller{choice % 3}")
                elif kind == "end" and requests.running:
                    await requests.end(sorted(requests.running)[choice % len(requests.running)])
                elif kind == "cancel" and asked:
                    cancelled.add(asked[choice % len(asked)])
                    await requests.cancel(asked[choice % len(asked)])
                check()
            requests.end_all()
            await until(lambda: set(requests.order) | cancelled == set(asked) and not requests.running)
            check()
            assert requests.errors == {}
            assert scheduler.status().queue == 0
        assert all(session.num_closed == 1 for session in engine.sessions)

    with pytest.MonkeyPatch.context() as patch:
        if is_hurried:
            patch.setattr(tenants, "MIN_TURN_S", 0.0)
            patch.setattr(tenants, "MAX_TURN_S", 0.0)
        # anyio.run refuses while the loop of another test's fixture exists.
        asyncio.run(play())


def _tenants(requests: Any) -> list[Any]:
    return list(requests._scheduler._memory.tenants.values())


def _is_waited_for(requests: Any) -> bool:
    """Whether somebody waits for a model that is not in memory."""
    return any(one.line and one.stage != "loaded" for one in _tenants(requests))
