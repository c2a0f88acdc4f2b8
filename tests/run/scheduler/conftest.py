"""What the tests of the scheduler share: models made up on the spot, and an engine whose loads they steer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from catena.core.errors import CatenaError
from catena.core.manifest import FileEntry, Manifest, Provenance, StoredModel
from catena.core.protocols import Placement, SessionFacts
from catena.core.settings import RunSettings
from catena.run.scheduler import Lease, Scheduler

BOUND_S = 10.0


def make_model(name: str, size_bytes: int = 10) -> StoredModel:
    files = (FileEntry("weights", "weights.bin", size_bytes, "sha256:" + "0" * 64),)
    manifest = Manifest(name, "generate", "test", files, "Apache-2.0", Provenance("test"))
    return StoredModel(manifest, "sha256:" + name.encode().hex().ljust(64, "0"), {})


async def until(holds: Callable[[], Any]) -> None:
    """Let other tasks run until `holds()`; fails after BOUND_S."""
    with anyio.fail_after(BOUND_S):
        while not holds():
            await anyio.lowlevel.checkpoint()


async def turns() -> None:
    """As many turns of the loop as any chain of wake-ups here needs."""
    for _ in range(12):
        await anyio.lowlevel.checkpoint()


class FakeSession:
    """Says how many use it, and fails the test when it is closed in use or twice."""

    def __init__(self, name: str, slots: int, memory_bytes: int) -> None:
        self.name = name
        self.facts = SessionFacts("fake 1", "cpu", slots, 100, memory_bytes)
        self.active = 0
        self.num_closed = 0
        self.is_broken = False

    async def close(self) -> None:
        assert self.active == 0, "closed in use"
        self.num_closed += 1
        assert self.num_closed == 1, "closed twice"
        await anyio.lowlevel.checkpoint()


class FakeEngine:
    """Loads at once, or when `gate` opens; a session takes the memory that `sizes` says, else its file's size."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.gate = anyio.Event()
        self.gate.set()
        self.sizes: dict[str, int] = {}
        self.errors: list[Exception] = []
        self.begun: list[str] = []
        self.placements: list[Placement] = []
        self.sessions: list[FakeSession] = []

    def accepts(self, model: StoredModel) -> str | None:
        return None if model.manifest.format == "test" else "only test models"

    async def load(self, model: StoredModel, placement: Placement) -> FakeSession:
        self.begun.append(model.name)
        self.placements.append(placement)
        await self.gate.wait()
        await anyio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop(0)
        size = self.sizes.get(model.name, model.manifest.files[0].size_bytes)
        session = FakeSession(model.name, self.slots, size)
        self.sessions.append(session)
        return session


class Requests:
    """Requests that tests begin and end one by one; `order` tells who was let in when."""

    def __init__(self, group: Any, scheduler: Scheduler) -> None:
        self.order: list[str] = []
        self.errors: dict[str, CatenaError] = {}
        self.leases: dict[str, Lease] = {}
        self.running: set[str] = set()
        self._group, self._scheduler = group, scheduler
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ends: dict[str, anyio.Event] = {}

    async def ask(self, label: str, model: StoredModel, caller: str = "local", **options: Any) -> None:
        """Begin request `label` and let it get as far as it gets."""
        self._scopes[label], self._ends[label] = anyio.CancelScope(), anyio.Event()
        self._group.start_soon(self._run, label, model, caller, options)
        await turns()

    async def _run(self, label: str, model: StoredModel, caller: str, options: dict[str, Any]) -> None:
        with self._scopes[label]:
            try:
                async with self._scheduler.lease(model, caller, **options) as lease:
                    session: Any = lease.session
                    assert session.num_closed == 0, "a closed session was leased"
                    session.active += 1
                    assert session.active <= session.facts.slots, "more leases than slots"
                    self.order.append(label)
                    self.leases[label] = lease
                    self.running.add(label)
                    try:
                        await self._ends[label].wait()
                    finally:
                        session.active -= 1
                        self.running.discard(label)
            except CatenaError as error:
                self.errors[label] = error

    async def end(self, label: str) -> None:
        """Let request `label` finish by itself."""
        self._ends[label].set()
        await turns()

    async def cancel(self, label: str) -> None:
        """Let the client of request `label` go away."""
        self._scopes[label].cancel()
        await turns()

    def end_all(self) -> None:
        for event in self._ends.values():
            event.set()


class Free:
    """Headroom that a test sets."""

    def __init__(self, free_bytes: int = 1 << 40) -> None:
        self.bytes = free_bytes

    def free_bytes(self, device: str) -> int:
        return self.bytes if device == "cpu" else 0


@asynccontextmanager
async def open_scheduler(
    engine: Any, home: Path, *, free: Free | None = None, **settings: Any
) -> AsyncGenerator[tuple[Scheduler, Requests]]:
    """A scheduler over `engine` and requests to it; whatever still runs at the end is let go."""
    async with (
        Scheduler({"fake": engine}, RunSettings(**settings), home, headroom=free or Free()) as scheduler,
        anyio.create_task_group() as group,
    ):
        requests = Requests(group, scheduler)
        yield scheduler, requests
        requests.end_all()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def model() -> Callable[..., StoredModel]:
    return make_model


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Any]:
    """`async with opened(engine, queue_limit=2) as (scheduler, requests)`."""
    return lambda engine, **settings: open_scheduler(engine, tmp_path, **settings)
