"""The scheduler: hands out leases of sessions, loads what is missing once for all who wait, and unloads what is idle."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Literal

import anyio
import anyio.to_thread
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import (
    BusyError,
    CancelledError,
    CatenaError,
    EngineError,
    ExpiredError,
    MissingExtraError,
    ResourceError,
    UnsupportedError,
)
from catena.core.manifest import StoredModel
from catena.core.protocols import Engine, Headroom, Placement, Session
from catena.core.settings import RunSettings
from catena.run import devices
from catena.run.scheduler import status
from catena.run.scheduler.line import Waiter
from catena.run.scheduler.occupancy import Occupancy
from catena.run.scheduler.tenant import Cost, Key, Tenant, key_of

Phase = Literal["ready", "cold", "loading", "busy"]
STOP_TIMEOUT_S = 10.0
MIN_RETRY_S, MAX_RETRY_S = 1.0, 120.0

log = logging.getLogger("catena.run.scheduler")


class Lease(Struct, frozen=True):
    """A session for one request. `queued_s`: time in line; `loading_s`: time that the model was being loaded for it."""

    session: Session
    queued_s: float
    loading_s: float


class Scheduler:
    """Enter it once; it belongs to that event loop. `home` gets a private folder `run` for the sockets of engines."""

    def __init__(
        self, engines: Mapping[str, Engine], settings: RunSettings, home: Path, *, headroom: Headroom | None = None
    ) -> None:
        self._engines = engines
        self._settings = settings
        self._folder = home / "run"
        self._threads = settings.threads or devices.owned_cores()
        self._memory = Occupancy(
            settings.memory_bytes, headroom or devices.Machine(), settings.load_timeout_s, self._settle
        )
        self._tenants = self._memory.tenants
        self._costs: dict[Key, Cost] = {}
        self._num_waiting = 0
        self._is_open = False
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> Scheduler:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._group.__aenter__()
        self._is_open = True
        if self._settings.idle_unload_s:
            self._group.start_soon(self._unload_idle)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._is_open = False
        stopping = CancelledError("this machine is stopping to serve models")
        for tenant in self._tenants.values():
            self._fail(tenant, stopping)
        try:
            with anyio.move_on_after(STOP_TIMEOUT_S, shield=True):
                while any(tenant.active for tenant in self._tenants.values()):
                    await self._memory.changes()
        finally:
            self._group.cancel_scope.cancel()
            is_handled = await self._group.__aexit__(kind, error, trace)
            for tenant in list(self._tenants.values()):
                if tenant.active:
                    log.warning("%s is still in use and stays loaded", tenant.model.name)
                elif tenant.stage == "loaded":
                    await self._memory.close(tenant, "exit")
        return is_handled

    def lease(
        self, model: StoredModel, caller: str, *, adapters: tuple[StoredModel, ...] = ()
    ) -> AbstractAsyncContextManager[Lease]:
        """A session of `model` with `adapters`, for one request of `caller`; leaving the context gives it back.

        Entering waits for a turn, and for the model to be loaded. Raises BusyError when the queue is full or no memory
        becomes free, UnsupportedError when no engine takes the model, ExpiredError when loading takes longer than
        `load_timeout_s`, ResourceError when the model cannot fit, what the engine raises, and CancelledError when the
        scheduler stops.
        """
        return _Leasing(self, model, caller, adapters)

    def phase(self, digest: str) -> Phase:
        """What a request for the model `digest` would meet now: a free slot, a line, a load under way, or nothing."""
        found: Phase = "cold"
        for (model, _), tenant in self._tenants.items():
            if model == digest:
                if tenant.admits(monotonic_s()):
                    return "ready"
                if tenant.stage == "loading":
                    found = "loading"
                elif tenant.stage != "cold" and found == "cold":
                    found = "busy"
        return found

    def status(self) -> status.Status:
        """What is loaded, who uses it, and how many wait."""
        now_s = monotonic_s()
        sessions = tuple(
            status.SessionStatus(
                model=tenant.model.name,
                digest=tenant.model.digest,
                engine=tenant.session.facts.engine,
                device=tenant.session.facts.device,
                memory_bytes=tenant.memory_bytes,
                slots=tenant.slots,
                active=tenant.active,
                waiting=len(tenant.line),
                idle_s=0.0 if tenant.active else now_s - tenant.used_s,
            )
            for tenant in self._tenants.values()
            if tenant.session is not None
        )
        return status.Status(sessions, self._num_waiting, self._settings.queue_limit)

    # Letting in. Nothing here waits, so every step is whole.

    def _tenant(self, key: Key, model: StoredModel, adapters: tuple[StoredModel, ...]) -> Tenant:
        tenant = self._tenants.get(key)
        if tenant is None:
            if not self._is_open:
                raise CancelledError("this machine is not serving models", hint="start it with `catena up`")
            cost = self._costs.setdefault(key, Cost())
            tenant = self._tenants[key] = Tenant(key, model, adapters, cost)
        return tenant

    def _join(self, tenant: Tenant, caller: str, now_s: float) -> Waiter:
        if not self._is_open:
            raise CancelledError("this machine is stopping to serve models")
        if self._num_waiting >= self._settings.queue_limit:
            self._push_out(tenant, caller)
        waiter = Waiter(caller, now_s)
        tenant.line.join(waiter)
        self._count_waiting(1)
        self._settle(tenant)
        return waiter

    def _push_out(self, tenant: Tenant, caller: str) -> None:
        """The queue is full: the last request of the caller with the most in it goes, if that is fair, or this one."""
        counts: dict[str, int] = {}
        for one in self._tenants.values():
            for waiter in one.line:
                counts[waiter.caller] = counts.get(waiter.caller, 0) + 1
        greediest = max(counts, key=counts.__getitem__)
        status.REFUSED.add()
        if counts[greediest] <= counts.get(caller, 0) + 1:
            raise self._full(tenant, len(counts))
        last = [
            (waiter.since_s, one, waiter) for one in self._tenants.values() if (waiter := one.line.newest(greediest))
        ]
        _, place, waiter = max(last, key=lambda found: found[0])
        place.line.leave(waiter)
        self._count_waiting(-1)
        waiter.error = self._full(place, len(counts))
        waiter.event.set()

    def _full(self, tenant: Tenant, num_callers: int) -> BusyError:
        """A place of a caller becomes free when one of its own requests is let in: after a round of all callers."""
        now_s, cost = monotonic_s(), tenant.cost
        wait_s = (cost.lease_s or 0.0) * num_callers / max(1, tenant.slots)
        if tenant.stage != "loaded":
            began_s = tenant.load_began_s if tenant.stage == "loading" else now_s
            wait_s += max(0.0, began_s + (cost.load_s or 0.0) - now_s)
        retry_after_s = min(MAX_RETRY_S, max(MIN_RETRY_S, wait_s))
        return BusyError(
            f"{self._num_waiting} requests are waiting already, which is the limit", retry_after_s=retry_after_s
        )

    def _settle(self, tenant: Tenant) -> None:
        """Let in who may be let in; load a model that somebody waits for; forget one that nobody does."""
        if tenant.stage == "cold":
            if not tenant.line:
                if self._tenants.get(tenant.key) is tenant:
                    del self._tenants[tenant.key]
            elif self._is_open:
                tenant.stage = "waiting"
                self._group.start_soon(self._bring, tenant)
            return
        now_s = monotonic_s()
        while (waiter := tenant.next(now_s)) is not None:
            self._count_waiting(-1)
            status.LEASED.add(1)
            waiter.is_granted = True
            waiter.event.set()

    def _stop(self, tenant: Tenant, caller: str, began_s: float) -> None:
        """A lease ended."""
        now_s = monotonic_s()
        tenant.stop(caller, now_s)
        tenant.cost.note_lease(now_s - began_s)
        status.LEASED.add(-1)
        if tenant.line:
            self._settle(tenant)
        if not tenant.active and (self._memory.is_wanted or not self._is_open):
            self._memory.stir()

    def _give_up(self, tenant: Tenant, waiter: Waiter) -> None:
        """A waiting request was cancelled: it leaves no trace."""
        if waiter.is_granted:
            self._stop(tenant, waiter.caller, monotonic_s())
        elif waiter.error is None:
            tenant.line.leave(waiter)
            self._count_waiting(-1)
            if not tenant.line and self._memory.is_wanted:
                self._memory.stir()

    def _fail(self, tenant: Tenant, error: CatenaError) -> None:
        """Everybody who waits for `tenant` gets an error of their own: the router writes a receipt into it."""
        waiters = tenant.line.clear()
        self._count_waiting(-len(waiters))
        for waiter in waiters:
            own = type(error).__new__(type(error), *error.args)
            own.__dict__.update(error.__dict__)
            own.__cause__ = error
            waiter.error = own
            waiter.event.set()

    def _count_waiting(self, change: int) -> None:
        self._num_waiting += change
        status.WAITING.add(change)

    # Loading and unloading, in tasks of the scheduler's own, so that nobody's leaving can hurt the others.

    async def _bring(self, tenant: Tenant) -> None:
        """From cold to loaded, for everybody in line; a failure is told to them and not kept."""
        outcome = "loaded"
        try:
            session = await self._open(tenant, await self._choose(tenant.model))
        except CatenaError as error:
            outcome, session = error.code, None
            self._fail(tenant, error)
        except Exception:
            log.exception("%s could not be loaded", tenant.model.name)
            outcome, session = "engine_failed", None
            self._fail(tenant, EngineError(f"{tenant.model.name} could not be loaded", hint="the log says more"))
        if session is None:
            tenant.closed()
        status.LOADS.labels(tenant.model.name, outcome).add()
        self._settle(tenant)
        self._memory.stir()

    async def _choose(self, model: StoredModel) -> Engine:
        """The first engine that accepts `model`. Raises UnsupportedError with the reason of each that does not."""
        return await anyio.to_thread.run_sync(_choose, self._engines, model)

    async def _open(self, tenant: Tenant, engine: Engine) -> Session | None:
        """Make room and load. None if nobody waits any more.

        The first guess of the memory needed may be wrong: then it is tried once more, with what was learnt.
        """
        if not await self._memory.make_room(tenant):
            return None
        try:
            session = await self._load(tenant, engine)
        except ResourceError:
            if not any(one.memory_bytes for one in self._tenants.values() if one is not tenant):
                raise
            tenant.stage = "waiting"
            if not await self._memory.make_room(tenant, is_retry=True):
                return None
            session = await self._load(tenant, engine)
        if self._memory.is_over():
            await self._memory.close(tenant, "memory")
            tenant.stage = "waiting"
            if not await self._memory.make_room(tenant):
                return None
            session = await self._load(tenant, engine)
        return session

    async def _load(self, tenant: Tenant, engine: Engine) -> Session:
        placement = Placement(
            threads=self._threads,
            slots=self._settings.slots,
            context_tokens=self._settings.context_tokens,
            folder=str(self._folder),
            adapters=tenant.adapters,
        )
        tenant.stage, tenant.load_began_s = "loading", monotonic_s()
        timer, work = anyio.CancelScope(), anyio.CancelScope()
        self._group.start_soon(self._expire, tenant, timer, work)
        try:
            with work:
                session = await engine.load(tenant.model, placement)
                # An engine that loads in a thread cannot be interrupted: what comes late is still good.
                tenant.opened(session, monotonic_s())
                status.LOAD_TIME.labels(tenant.model.name).observe(tenant.loaded_s - tenant.load_began_s)
                status.OPEN.add(1)
                status.MEMORY.add(tenant.memory_bytes)
                return session
            raise self._too_slow(tenant)
        finally:
            timer.cancel()

    async def _expire(self, tenant: Tenant, timer: anyio.CancelScope, work: anyio.CancelScope) -> None:
        """Tell whoever waits when a load takes too long, also when the engine does not let go of it."""
        with timer:
            while True:
                await anyio.sleep(self._settings.load_timeout_s)
                work.cancel()
                self._fail(tenant, self._too_slow(tenant))

    def _too_slow(self, tenant: Tenant) -> ExpiredError:
        return ExpiredError(
            f"{tenant.model.name} was not loaded within {self._settings.load_timeout_s:g} s",
            hint="raise run.load_timeout_s",
        )

    async def _unload_idle(self) -> None:
        """Close sessions that nobody has used for `idle_unload_s`."""
        limit_s = self._settings.idle_unload_s
        while True:
            now_s = due_s = monotonic_s()
            due_s += limit_s
            for tenant in list(self._tenants.values()):
                if tenant.stage != "loaded" or tenant.active:
                    continue
                if tenant.used_s + limit_s <= now_s:
                    await self._memory.close(tenant, "idle")
                else:
                    due_s = min(due_s, tenant.used_s + limit_s)
            await anyio.sleep(max(0.0, due_s - monotonic_s()))


class _Leasing(AbstractAsyncContextManager[Lease]):
    """One lease. On a warm session with a free slot it takes no turn of the event loop."""

    __slots__ = ("_adapters", "_began_s", "_caller", "_key", "_model", "_scheduler", "_tenant")

    def __init__(
        self, scheduler: Scheduler, model: StoredModel, caller: str, adapters: tuple[StoredModel, ...]
    ) -> None:
        self._scheduler = scheduler
        self._model = model
        self._caller = caller
        self._adapters = adapters

    async def __aenter__(self) -> Lease:
        scheduler, began_s = self._scheduler, monotonic_s()
        tenant = self._tenant = scheduler._tenant(key_of(self._model, self._adapters), self._model, self._adapters)
        if tenant.admits(began_s) and scheduler._is_open:
            tenant.start(self._caller)
            status.LEASED.add(1)
            self._began_s = began_s
            assert tenant.session is not None
            return Lease(tenant.session, 0.0, 0.0)
        waiter = scheduler._join(tenant, self._caller, began_s)
        try:
            await waiter.event.wait()
        except BaseException:
            scheduler._give_up(tenant, waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        self._began_s = now_s = monotonic_s()
        loading_s = max(0.0, tenant.loaded_s - max(began_s, tenant.load_began_s))
        queued_s = max(0.0, now_s - began_s - loading_s)
        status.QUEUE_TIME.observe(queued_s)
        assert tenant.session is not None
        return Lease(tenant.session, queued_s, loading_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scheduler._stop(self._tenant, self._caller, self._began_s)


def _choose(engines: Mapping[str, Engine], model: StoredModel) -> Engine:
    reasons: list[str] = []
    hint = "`catena doctor` lists the engines of this machine"
    for name in engines:
        try:
            engine = engines[name]
        except MissingExtraError as error:
            reasons.append(f"{name}: {error.message}")
            hint = error.hint
            continue
        reason = engine.accepts(model)
        if reason is None:
            return engine
        reasons.append(f"{name}: {reason}")
    raise UnsupportedError(f"no engine can run {model.name} ({'; '.join(reasons) or 'none is installed'})", hint=hint)
