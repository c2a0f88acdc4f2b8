"""What the scheduler costs and gives: a lease on a warm session, a hand-over, a fair turn, and swaps saved.

    python bench/leases.py

The engine of the swaps is a stand-in that loads for 50 ms and answers for 5 ms: only the order is measured there.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import lab

from catena.core import registry
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.protocols import Placement, SessionFacts
from catena.core.settings import RunSettings
from catena.run.engines.echo import MODEL
from catena.run.scheduler import Scheduler
from catena.run.scheduler import tenant as tenants

ROUNDS, LEASES = 15, 5000
LOAD_S, ANSWER_S = 0.05, 0.005


class Session:
    """Holds a megabyte, for show."""

    facts = SessionFacts("stand-in", "cpu", 1, 100, 1 << 20)

    async def close(self) -> None:
        """Nothing is held."""


class Engine:
    """Loads anything in LOAD_S and counts how often."""

    def __init__(self) -> None:
        self.num_loads = 0

    def accepts(self, model: StoredModel) -> None:
        return None

    async def load(self, model: StoredModel, placement: Placement) -> Session:
        self.num_loads += 1
        await anyio.sleep(LOAD_S)
        return Session()


def model(name: str) -> StoredModel:
    entry = FileEntry("weights", "weights", 1 << 20, "sha256:" + "0" * 64)
    manifest = Manifest(name, "generate", "stand-in", (entry,), "Apache-2.0", Provenance("bench"))
    return StoredModel(manifest, f"sha256:{name * 64}", {})


@asynccontextmanager
async def opened(engines: Any, **settings: Any) -> AsyncGenerator[Scheduler]:
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as home:
        async with Scheduler(engines, RunSettings(**settings), Path(home)) as scheduler:
            yield scheduler


async def warm_lease_us() -> float:
    """Entering and leaving a lease when a slot is free, median of ROUNDS."""
    figures: list[float] = []
    async with opened(registry.Made("engines", ["echo"])) as scheduler:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(LEASES):
                async with scheduler.lease(MODEL, "local"):
                    pass
            figures.append((time.perf_counter() - start) / LEASES * 1e6)
    return lab.median(figures)


async def handover_us() -> float:
    """One lease when 200 requests of 20 callers wait for one slot: turn, wake-up and all; median of ROUNDS."""
    figures: list[float] = []

    async def ask(scheduler: Scheduler, one: StoredModel, caller: str) -> None:
        async with scheduler.lease(one, caller):
            pass

    async with opened({"stand-in": Engine()}) as scheduler:
        one = model("a")
        async with scheduler.lease(one, "first"):
            pass
        for _ in range(ROUNDS):
            async with anyio.create_task_group() as group, scheduler.lease(one, "first"):
                for number in range(200):
                    group.start_soon(ask, scheduler, one, f"caller{number % 20}")
                await anyio.wait_all_tasks_blocked()
                start = time.perf_counter()
            figures.append((time.perf_counter() - start) / 200 * 1e6)
    return lab.median(figures)


async def served(requests: list[tuple[str, str]], **settings: Any) -> tuple[list[str], int, float]:
    """Put `(caller, model)` in line one after another; gives callers in the order of service, loads, and seconds."""
    order: list[str] = []
    engine = Engine()

    async def ask(scheduler: Scheduler, caller: str, name: str) -> None:
        async with scheduler.lease(model(name), caller):
            order.append(caller)
            await anyio.sleep(ANSWER_S)

    async with opened({"stand-in": engine}, **settings) as scheduler:
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for caller, name in requests:
                group.start_soon(ask, scheduler, caller, name)
                await anyio.lowlevel.checkpoint()
        took_s = time.perf_counter() - start
    return order, engine.num_loads, took_s


async def swaps() -> dict[str, Any]:
    """200 requests that alternate between two models, with memory for one."""
    requests = [("local", "ab"[number % 2]) for number in range(200)]
    _, num_loads, took_s = await served(requests, memory_bytes=1 << 20)
    tenants.MIN_TURN_S = tenants.MAX_TURN_S = 0.0
    _, num_strict, strict_s = await served(requests, memory_bytes=1 << 20)
    return {
        "requests": len(requests),
        "loads": num_loads,
        "seconds": round(took_s, 2),
        "loads_in_order_of_arrival": num_strict,
        "seconds_in_order_of_arrival": round(strict_s, 2),
    }


async def main() -> None:
    order, _, _ = await served([("many", "a")] * 100 + [("one", "a")])
    lab.save(
        "leases",
        {
            "warm_lease_us": await warm_lease_us(),
            "handover_us": await handover_us(),
            "place_of_one_behind_100_of_another_caller": order.index("one") + 1,
            "swaps": await swaps(),
        },
    )


if __name__ == "__main__":
    anyio.run(main)
