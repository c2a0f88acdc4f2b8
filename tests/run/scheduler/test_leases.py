"""A session is loaded once for all who wait, shared up to its slots; no cancellation or failure hurts the others."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.run.scheduler.conftest import FakeEngine, Free, make_model, until

from catena.core.errors import (
    BusyError,
    CancelledError,
    ContextError,
    EngineError,
    ExpiredError,
    MissingExtraError,
    UnsupportedError,
)
from catena.core.manifest import StoredModel
from catena.core.settings import RunSettings
from catena.run import devices
from catena.run.scheduler import Scheduler
from catena.watch import metrics

pytestmark = pytest.mark.anyio
M = make_model("m")


async def test_many_requests_to_a_cold_model_load_it_once(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    engine.slots = 8
    async with opened(engine) as (scheduler, requests):
        engine.gate = anyio.Event()
        for number in range(8):
            await requests.ask(f"r{number}", M, f"caller{number}")
        await until(lambda: engine.begun)
        assert scheduler.phase(M.digest) == "loading"
        engine.gate.set()
        await until(lambda: len(requests.running) == 8)
        assert engine.begun == ["m"]
        assert len({id(lease.session) for lease in requests.leases.values()}) == 1


async def test_a_load_goes_on_when_the_one_who_caused_it_goes_away(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (_, requests):
        engine.gate = anyio.Event()
        await requests.ask("first", M)
        await requests.ask("second", M)
        await until(lambda: engine.begun)
        await requests.cancel("first")
        engine.gate.set()
        await until(lambda: "second" in requests.running)
        assert engine.begun == ["m"]
        assert requests.errors == {}


async def test_a_load_that_everybody_left_stays_warm_for_the_next(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        engine.gate = anyio.Event()
        await requests.ask("gone", M)
        await until(lambda: engine.begun)
        await requests.cancel("gone")
        engine.gate.set()
        await until(lambda: scheduler.phase(M.digest) == "ready")
        await requests.ask("next", M)
        assert requests.leases["next"].loading_s == 0
        assert engine.begun == ["m"]


async def test_phases_follow_a_model_from_cold_to_busy_and_back(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine) as (scheduler, requests):
        assert scheduler.phase(M.digest) == "cold"
        engine.gate = anyio.Event()
        await requests.ask("a", M)
        await until(lambda: scheduler.phase(M.digest) == "loading")
        engine.gate.set()
        await until(lambda: "a" in requests.running)
        assert scheduler.phase(M.digest) == "busy"
        await requests.end("a")
        assert scheduler.phase(M.digest) == "ready"


async def test_requests_beyond_the_slots_wait_and_are_let_in_by_fair_turns(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        await requests.ask("a0", M, "a")
        await until(lambda: requests.running)
        for number in range(1, 100):
            await requests.ask(f"a{number}", M, "a")
        await requests.ask("b0", M, "b")
        assert scheduler.status().queue == 100
        for label in ("a0", "a1", "b0"):
            await requests.end(label)
        assert requests.order == ["a0", "a1", "b0", "a2"]


async def test_a_caller_with_fewer_leases_running_gets_the_free_slot(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    engine.slots = 3
    async with opened(engine) as (_, requests):
        for label in ("a0", "a1", "a2"):
            await requests.ask(label, M, "a")
        await until(lambda: len(requests.running) == 3)
        for label in ("a3", "b0", "b1"):
            await requests.ask(label, M, "b" if label[0] == "b" else "a")
        await requests.end("a0")
        await requests.end("a1")
        assert requests.order[3:] == ["b0", "a3"], "b has one of three and a has one: now it is the turn of a"


async def test_a_request_cancelled_in_line_leaves_no_trace(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine) as (scheduler, requests):
        await requests.ask("a", M)
        await until(lambda: requests.running)
        await requests.ask("gone", M)
        await requests.ask("b", M)
        await requests.cancel("gone")
        assert scheduler.status().queue == 1
        await requests.end("a")
        assert requests.order == ["a", "b"]
        await requests.end("b")
        (session,) = scheduler.status().sessions
        assert (session.active, session.waiting) == (0, 0)
        assert scheduler.phase(M.digest) == "ready"


async def test_a_slot_granted_to_a_request_that_is_cancelled_goes_to_the_next(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (_, requests):
        await requests.ask("a", M)
        await until(lambda: requests.running)
        await requests.ask("gone", M)
        await requests.ask("b", M)
        # In one step of the loop: the slot is handed to "gone", and "gone" is cancelled before it could run.
        requests._ends["a"].set()
        await until(lambda: "a" not in requests.running)
        await requests.cancel("gone")
        await until(lambda: requests.order[-1] == "b")


async def test_a_full_queue_turns_away_with_an_honest_time(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, queue_limit=2) as (scheduler, requests):
        await requests.ask("a0", M)
        await until(lambda: requests.running)
        await requests.ask("a1", M)
        await requests.ask("a2", M)
        (tenant,) = scheduler._memory.tenants.values()
        tenant.cost.lease_s = 7.0
        await requests.ask("a3", M)
        error = requests.errors["a3"]
        assert isinstance(error, BusyError)
        assert error.retry_after_s == 7.0, "one caller waits, so its next place is free after one lease"
        assert scheduler.status().queue == 2


async def test_in_a_full_queue_the_greediest_gives_its_last_place_to_who_has_less(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, queue_limit=4) as (scheduler, requests):
        await requests.ask("a0", M, "a")
        await until(lambda: requests.running)
        for number in range(1, 5):
            await requests.ask(f"a{number}", M, "a")
        for label in ("b0", "b1", "b2"):
            await requests.ask(label, M, "b")
        assert set(requests.errors) == {"a4", "a3", "b2"}
        assert all(isinstance(error, BusyError) for error in requests.errors.values())
        assert scheduler.status().queue == 4


async def test_a_refused_request_to_a_cold_model_leaves_nothing_behind(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, queue_limit=1) as (scheduler, requests):
        await requests.ask("a", M)
        await until(lambda: requests.running)
        await requests.ask("b", M)
        await requests.ask("c", make_model("other"))
        assert isinstance(requests.errors["c"], BusyError)
        assert len(scheduler._memory.tenants) == 1


async def test_a_failed_load_fails_each_waiter_with_an_error_of_its_own_and_is_not_kept(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        engine.gate = anyio.Event()
        engine.errors.append(ContextError(7, 5))
        await requests.ask("a", M)
        await requests.ask("b", M)
        engine.gate.set()
        await until(lambda: len(requests.errors) == 2)
        first, second = requests.errors["a"], requests.errors["b"]
        assert first is not second
        assert isinstance(first, ContextError)
        assert (first.needed, first.available, str(first)) == (7, 5, str(second))
        assert scheduler.phase(M.digest) == "cold"
        await requests.ask("c", M)
        await until(lambda: "c" in requests.running)


async def test_a_bug_in_an_engine_is_an_error_for_its_waiters_and_not_the_end_of_the_scheduler(
    engine: FakeEngine, opened: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(engine) as (_, requests):
        engine.errors.append(ZeroDivisionError("oops"))
        await requests.ask("a", M)
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["a"], EngineError)
        assert "ZeroDivisionError" in caplog.text
        await requests.ask("b", M)
        await until(lambda: "b" in requests.running)


async def test_a_load_that_takes_too_long_is_told_and_can_be_tried_again(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine, load_timeout_s=0.05) as (scheduler, requests):
        engine.gate = anyio.Event()
        await requests.ask("a", M)
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["a"], ExpiredError)
        await until(lambda: scheduler.phase(M.digest) == "cold")
        engine.gate.set()
        await requests.ask("b", M)
        await until(lambda: "b" in requests.running)


async def test_a_load_that_cannot_be_interrupted_is_told_in_time_and_kept_when_it_comes_late(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    class Stubborn(FakeEngine):
        async def load(self, model: StoredModel, placement: Any) -> Any:
            with anyio.CancelScope(shield=True):
                return await super().load(model, placement)

    stubborn = Stubborn()
    async with opened(stubborn, load_timeout_s=0.05) as (scheduler, requests):
        stubborn.gate = anyio.Event()
        await requests.ask("a", M)
        await until(lambda: requests.errors)
        assert isinstance(requests.errors["a"], ExpiredError)
        stubborn.gate.set()
        await until(lambda: scheduler.phase(M.digest) == "ready")
        await requests.ask("b", M)
        assert "b" in requests.running
        assert stubborn.begun == ["m"]


async def test_when_no_engine_takes_a_model_every_reason_is_named(tmp_path: Path) -> None:
    class Engines(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "absent":
                raise MissingExtraError("nowhere", "more")
            if name == "broken":
                raise ImportError("libsomething.so is missing")
            return FakeEngine()

        def __iter__(self) -> Any:
            return iter(("absent", "broken", "fake"))

        def __len__(self) -> int:
            return 3

    model = StoredModel(make_model("x").manifest, "sha256:" + "f" * 64, {})
    odd = StoredModel(
        type(model.manifest)("x", "generate", "odd", (), "MIT", model.manifest.provenance), model.digest, {}
    )
    async with Scheduler(Engines(), RunSettings(), tmp_path, headroom=Free()) as scheduler:
        with pytest.raises(UnsupportedError) as caught:
            async with scheduler.lease(odd, "local"):
                pytest.fail("nobody can run this")
        assert "absent: nowhere is not installed" in caught.value.message
        assert "broken: libsomething.so is missing" in caught.value.message
        assert "fake: only test models" in caught.value.message
        assert caught.value.hint == "pip install 'catena[more]'"
        async with scheduler.lease(model, "local") as lease:
            assert lease.session.facts.engine == "fake 1"


async def test_other_adapters_make_another_session(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    lora = make_model("lora")
    async with opened(engine) as (_, requests):
        await requests.ask("plain", M)
        # One after the other: each chooses its engine in a thread.
        await until(lambda: "plain" in requests.running)
        await requests.ask("tuned", M, adapters=(lora,))
        await until(lambda: len(requests.running) == 2)
        assert [placement.adapters for placement in engine.placements] == [(), (lora,)]


async def test_an_engine_is_told_the_cores_owned_and_a_private_folder(
    engine: FakeEngine, opened: Callable[..., Any], tmp_path: Path
) -> None:
    async with opened(engine, slots=3, context_tokens=64) as (_, requests):
        await requests.ask("a", M)
        await until(lambda: requests.running)
        (placement,) = engine.placements
        assert (placement.threads, placement.slots, placement.context_tokens) == (devices.owned_cores(), 3, 64)
        assert placement.folder == str(tmp_path / "run")
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    async with opened(engine, threads=7) as (_, requests):
        await requests.ask("a", M)
        await until(lambda: requests.running)
        assert engine.placements[-1].threads == 7


async def test_times_tell_waiting_from_loading(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine) as (_, requests):
        engine.gate = anyio.Event()
        await requests.ask("cold", M)
        await until(lambda: engine.begun)
        await anyio.sleep(0.05)  # the time that is measured, not a wait for something to happen
        engine.gate.set()
        await until(lambda: "cold" in requests.running)
        await requests.ask("behind", M)
        await anyio.sleep(0.05)
        await requests.end("cold")
        cold, behind = requests.leases["cold"], requests.leases["behind"]
        assert cold.loading_s >= 0.05
        assert cold.queued_s < 0.05
        assert behind.queued_s >= 0.05
        assert behind.loading_s == 0


async def test_leaving_closes_every_session_once_and_turns_away_who_comes_later(
    engine: FakeEngine, opened: Callable[..., Any]
) -> None:
    async with opened(engine) as (scheduler, requests):
        await requests.ask("a", M)
        await requests.ask("b", make_model("n"))
        await until(lambda: len(requests.running) == 2)
    assert [session.num_closed for session in engine.sessions] == [1, 1]
    with pytest.raises(CancelledError):
        async with scheduler.lease(M, "local"):
            pytest.fail("the scheduler is closed")


async def test_stopping_fails_who_waits_and_lets_who_runs_finish(engine: FakeEngine, tmp_path: Path) -> None:
    leave = anyio.Event()
    done: list[str] = []

    async def run(scheduler: Scheduler, label: str) -> None:
        try:
            async with scheduler.lease(M, label):
                await leave.wait()
                done.append(label)
        except CancelledError:
            done.append(f"{label} was turned away")
            leave.set()

    async with anyio.create_task_group() as group:
        async with Scheduler({"fake": engine}, RunSettings(), tmp_path, headroom=Free()) as scheduler:
            group.start_soon(run, scheduler, "a")
            await until(lambda: scheduler.status().sessions)
            group.start_soon(run, scheduler, "b")
            await until(lambda: scheduler.status().queue)
        assert done == ["b was turned away", "a"]
        assert engine.sessions[0].num_closed == 1


async def test_what_the_body_raises_leaves_the_scheduler_as_it_is(engine: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="mine"):
        async with (
            Scheduler({"fake": engine}, RunSettings(), tmp_path, headroom=Free()) as scheduler,
            scheduler.lease(M, "local"),
        ):
            raise EngineError("mine")
    assert engine.sessions[0].num_closed == 1


async def test_idle_sessions_are_unloaded_and_used_ones_are_not(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    async with opened(engine, idle_unload_s=0.05) as (scheduler, requests):
        await requests.ask("a", M)
        await requests.ask("b", make_model("n"))
        await until(lambda: len(requests.running) == 2)
        await requests.end("a")
        await until(lambda: scheduler.phase(M.digest) == "cold")
        assert [session.model for session in scheduler.status().sessions] == ["n"]
        await requests.ask("again", M)
        await until(lambda: "again" in requests.running)


async def test_metrics_follow_loads_leases_and_lines(engine: FakeEngine, opened: Callable[..., Any]) -> None:
    def value(name: str) -> float:
        (line,) = [line for line in metrics.render().splitlines() if line.startswith(name + " ")]
        return float(line.split()[-1])

    loads = 'catena_run_loads_total{model="metered",outcome="loaded"}'
    async with opened(engine) as (_, requests):
        model = make_model("metered", 4096)
        await requests.ask("a", model)
        await until(lambda: requests.running)
        await requests.ask("b", model)
        assert value(loads) == 1
        assert value("catena_run_waiting_requests") == 1
        assert value("catena_run_leased_slots") == 1
        assert value("catena_run_open_sessions") == 1
        assert value("catena_run_session_bytes") == 4096
    assert value("catena_run_waiting_requests") == 0
    assert value("catena_run_leased_slots") == 0
    assert value("catena_run_open_sessions") == 0
    assert value("catena_run_session_bytes") == 0
