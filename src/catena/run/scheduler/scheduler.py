"""The scheduler as the router sees it: leases, phases, status; its parts let in, make room and load."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Literal

import anyio
import anyio.to_thread
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import CancelledError
from catena.core.manifest import StoredModel
from catena.core.protocols import Engine, Headroom, Session
from catena.core.settings import RunSettings
from catena.run import devices
from catena.run.scheduler import status
from catena.run.scheduler.admission import Admission
from catena.run.scheduler.loading import Loader
from catena.run.scheduler.occupancy import Occupancy
from catena.run.scheduler.tenant import Tenant
from catena.store.prompts import Prompts

Phase = Literal["ready", "cold", "loading", "busy"]
STOP_TIMEOUT_S = 10.0

log = logging.getLogger("catena.run.scheduler")


class Lease(Struct, frozen=True):
    """A session for one request. `queued_s`: time in line; `loading_s`: time that the model was being loaded for it."""

    session: Session
    queued_s: float
    loading_s: float


class Scheduler:
    """Enter it once; it belongs to that event loop. `home` gets a private folder `run` for the sockets of engines.

    `find` gives a stored model by its name, for those that `run.drafts` names. With `keeps` False nothing is kept for
    later sessions, and what others kept is left alone. Raises ConfigError for settings that do not fit the engines.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        settings: RunSettings,
        home: Path,
        *,
        headroom: Headroom | None = None,
        find: Callable[[str], StoredModel] | None = None,
        keeps: bool = True,
    ) -> None:
        self._settings = settings
        self._folder = home / "run"
        self._group = anyio.create_task_group()
        self._memory = Occupancy(
            settings.memory_bytes, headroom or devices.Machine(), settings.load_timeout_s, self._settle
        )
        self._admission = Admission(
            self._memory.tenants, settings.queue_limit, self._bring, self._renew, self._memory.stir, self._look
        )
        self._prompts = Prompts(home) if keeps else None
        self._loader = Loader(
            engines, settings, self._folder, self._memory, self._admission, self._group, find, self._prompts
        )

    async def __aenter__(self) -> Scheduler:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._prompts is not None and not self._settings.kept_prompts_bytes:
            await anyio.to_thread.run_sync(self._prompts.clear)
        await self._group.__aenter__()
        self._admission.is_open = True
        self._group.start_soon(self._loader.unload_idle)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.is_open = False
        for tenant in self._memory.tenants.values():
            self._admission.fail(tenant, CancelledError("this machine is stopping to serve models"))
        try:
            with anyio.move_on_after(STOP_TIMEOUT_S, shield=True):
                while any(tenant.active for tenant in self._memory.tenants.values()):
                    await self._memory.changes()
        finally:
            self._group.cancel_scope.cancel()
            try:
                # What the body raised goes on as it is, not inside a group of errors.
                await self._group.__aexit__(None, None, None)
            finally:
                await self._close_all()

    def lease(
        self, model: StoredModel, caller: str, *, adapters: tuple[StoredModel, ...] = (), is_background: bool = False
    ) -> AbstractAsyncContextManager[Lease]:
        """A session of `model` with `adapters`, for one request of `caller`; leaving the context gives it back.

        With `is_background` nobody waits for the answer: it gets a slot when no other request waits for the session,
        at most half of them are such, and it closes no session that was used lately.
        Entering waits for a turn, and for the model to be loaded. Raises BusyError when the queue is full or no memory
        becomes free, UnsupportedError when no engine takes the model, ExpiredError when loading takes longer than
        `load_timeout_s`, ResourceError when the model cannot fit, what the engine raises, and CancelledError when the
        scheduler stops.
        """
        return _Leasing(self._admission, model, caller, adapters, is_background)

    def phase(self, digest: str) -> Phase:
        """What a request for the model `digest` would meet now: a free slot, a line, a load under way, or nothing."""
        found: Phase = "cold"
        for (model, _), tenant in self._memory.tenants.items():
            if model == digest:
                if tenant.admits(monotonic_s()):
                    return "ready"
                if tenant.stage == "loading":
                    found = "loading"
                elif tenant.stage != "cold" and not tenant.is_broken() and found == "cold":
                    found = "busy"
        return found

    def keep(self, digest: str, idle_s: float) -> None:
        """Let what is loaded, or being loaded, of the model `digest` idle for `idle_s` instead of `run.idle_unload_s`.

        0: close it as soon as nobody uses it; inf: not for idling. Holds until it is closed; memory that another model
        needs is given up all the same.
        """
        for (model, _), tenant in self._memory.tenants.items():
            if model == digest:
                tenant.keep_s = idle_s
        self._look()

    def status(self) -> status.Status:
        """What is loaded, who uses it, and how many wait."""
        tenants, idle_s = self._memory.tenants.values(), self._loader.idle_s
        sessions = tuple(_status(tenant, tenant.session, idle_s) for tenant in tenants if tenant.session is not None)
        return status.Status(sessions, self._admission.num_waiting, self._settings.queue_limit)

    async def _close_all(self) -> None:
        for tenant in list(self._memory.tenants.values()):
            if tenant.active:
                log.warning("%s is still in use and stays loaded", tenant.model.name)
            elif tenant.stage == "loaded":
                await self._memory.close(tenant, "exit")

    def _settle(self, tenant: Tenant) -> None:
        self._admission.settle(tenant)

    def _bring(self, tenant: Tenant) -> None:
        self._group.start_soon(self._loader.bring, tenant)

    def _look(self) -> None:
        self._loader.look()

    def _renew(self, tenant: Tenant) -> None:
        self._group.start_soon(self._loader.renew, tenant)


class _Leasing(AbstractAsyncContextManager[Lease]):
    """One lease. On a warm session with a free slot, entering takes no turn of the event loop."""

    __slots__ = ("_adapters", "_admission", "_began_s", "_caller", "_is_background", "_model", "_tenant")

    def __init__(
        self,
        admission: Admission,
        model: StoredModel,
        caller: str,
        adapters: tuple[StoredModel, ...],
        is_background: bool,
    ) -> None:
        self._admission = admission
        self._model = model
        self._caller = caller
        self._adapters = adapters
        self._is_background = is_background

    async def __aenter__(self) -> Lease:
        admission, came_s = self._admission, monotonic_s()
        tenant = self._tenant = admission.tenant(self._model, self._adapters)
        self._began_s = came_s
        session = admission.try_start(tenant, self._caller, came_s, is_background=self._is_background)
        if session is not None:
            return Lease(session, 0.0, 0.0)
        waiter = admission.join(tenant, self._caller, came_s, is_background=self._is_background)
        try:
            await waiter.event.wait()
        except BaseException:
            admission.give_up(tenant, waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        assert tenant.session is not None
        self._began_s = monotonic_s()
        loading_s = max(0.0, tenant.loaded_s - max(came_s, tenant.load_began_s))
        queued_s = max(0.0, self._began_s - came_s - loading_s)
        status.QUEUE_TIME.observe(queued_s)
        return Lease(tenant.session, queued_s, loading_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.stop(self._tenant, self._caller, self._began_s, is_background=self._is_background)


def _status(tenant: Tenant, session: Session, limit_s: float) -> status.SessionStatus:
    idle_s = 0.0 if tenant.active else monotonic_s() - tenant.used_s
    limit_s = limit_s if tenant.keep_s is None else tenant.keep_s
    return status.SessionStatus(
        model=tenant.model.name,
        digest=tenant.model.digest,
        engine=session.facts.engine,
        device=session.facts.device,
        memory_bytes=tenant.memory_bytes,
        slots=tenant.slots,
        active=tenant.active,
        waiting=len(tenant.line) + len(tenant.background),
        idle_s=idle_s,
        context_tokens=session.facts.context_tokens,
        unload_in_s=None if math.isinf(limit_s) else max(0.0, limit_s - idle_s),
    )
