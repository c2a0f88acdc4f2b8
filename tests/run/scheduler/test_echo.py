"""The scheduler with a real engine: echo, through the registry, answering real requests."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from catena.core import registry
from catena.core.clock import monotonic_s
from catena.core.messages import ChatRequest, Message, Text, collect
from catena.core.protocols import Generator
from catena.core.settings import RunSettings
from catena.run.engines.echo import MODEL
from catena.run.scheduler import Scheduler

pytestmark = pytest.mark.anyio
# Measured: 3.2 µs on the reference machine (bench/leases.py); the bound leaves room for a busy one.
MAX_LEASE_S = 100e-6


async def test_requests_of_many_callers_are_answered_by_one_session(tmp_path: Path) -> None:
    answers: list[str] = []

    async def ask(scheduler: Scheduler, number: int) -> None:
        request = ChatRequest(MODEL.name, (Message("user", (Text(f"question {number}"),)),))
        async with scheduler.lease(MODEL, f"caller{number % 7}") as lease:
            assert isinstance(lease.session, Generator)
            answers.append((await collect(lease.session.generate(request))).choices[0].text)

    engines = registry.Made("engines", ["echo"])
    async with Scheduler(engines, RunSettings(slots=2, queue_limit=64), tmp_path) as scheduler:
        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(ask, scheduler, number)
        (session,) = scheduler.status().sessions
        assert (session.model, session.active, session.waiting) == ("echo", 0, 0)
    assert sorted(answers) == sorted(f"question {number}" for number in range(64))


async def test_a_lease_on_a_warm_session_costs_next_to_nothing(tmp_path: Path) -> None:
    async with Scheduler(registry.Made("engines", ["echo"]), RunSettings(), tmp_path) as scheduler:
        best_s = 1.0
        for _ in range(20):
            began_s = monotonic_s()
            for _ in range(200):
                async with scheduler.lease(MODEL, "local"):
                    pass
            best_s = min(best_s, (monotonic_s() - began_s) / 200)
    assert best_s < MAX_LEASE_S
