"""Loading and unloading, in tasks of the scheduler's own, so that nobody's leaving can hurt the others who wait."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from catena.core.clock import monotonic_s
from catena.core.errors import (
    CatenaError,
    ConfigError,
    EngineError,
    ExpiredError,
    MissingExtraError,
    NotFoundError,
    ResourceError,
    UnsupportedError,
)
from catena.core.manifest import StoredModel
from catena.core.protocols import Context, Engine, Placement
from catena.core.settings import RunSettings
from catena.run import devices
from catena.run.scheduler import places, status
from catena.run.scheduler.admission import Admission
from catena.run.scheduler.occupancy import Occupancy
from catena.run.scheduler.tenant import Tenant
from catena.store.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Generator

    from anyio.abc import TaskGroup

# In `run.drafts` instead of the name of a model.
FROM_PROMPT = "prompt"

log = logging.getLogger("catena.run.scheduler")


class Loader:
    """Brings tenants from cold to loaded with the first engine that accepts them; closes the ones that stay idle."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        settings: RunSettings,
        folder: Path,
        memory: Occupancy,
        admission: Admission,
        group: TaskGroup,
        find: Callable[[str], StoredModel] | None,
        prompts: Prompts | None,
    ) -> None:
        places.check(settings, engines)
        self._find = find
        self._engines = engines
        self._settings = settings
        self._folder = folder
        self._prompts = prompts
        self._threads = settings.threads or devices.owned_cores()
        self._memory = memory
        self._admission = admission
        self._group = group
        self.idle_s = settings.idle_unload_s or math.inf
        self._wake = anyio.Event()

    async def bring(self, tenant: Tenant) -> None:
        """Load for everybody in line; a failure is told to them and not kept."""
        outcome = "loaded"
        try:
            if not await self._open(tenant):
                outcome = "unwanted"
        except CatenaError as error:
            outcome = error.code
            self._admission.fail(tenant, error)
        except Exception:
            # An engine may come from outside: its bugs must not take the scheduler down.
            log.exception("%s could not be loaded", tenant.model.name)
            outcome = "internal"
            error = EngineError(f"{tenant.model.name} could not be loaded", hint="the log says more")
            self._admission.fail(tenant, error)
        status.LOADS.labels(tenant.model.name, outcome).add()
        if outcome != "loaded":
            tenant.closed()
        elif self._memory.is_over():
            # The first guess of its memory was wrong. Closing it starts another load, with what was learnt.
            await self._memory.close(tenant, "memory")
            return
        self._admission.settle(tenant)
        self._memory.stir()

    async def renew(self, tenant: Tenant) -> None:
        """Close a session that broke; whoever waits for it then has it loaded again."""
        if tenant.is_broken() and not tenant.active:
            await self._memory.close(tenant, "broken")

    async def unload_idle(self) -> None:
        """Close, for ever, sessions that nobody has used for as long as they may idle."""
        while True:
            self._wake = anyio.Event()
            now_s = monotonic_s()
            # What is in use or not loaded now cannot be due earlier than this, or wakes this loop.
            due_s = now_s + self.idle_s
            for tenant in list(self._memory.tenants.values()):
                if tenant.stage == "loaded" and not tenant.active:
                    limit_s = self.idle_s if tenant.keep_s is None else tenant.keep_s
                    if tenant.used_s + limit_s <= now_s:
                        await self._memory.close(tenant, "idle")
                    else:
                        due_s = min(due_s, tenant.used_s + limit_s)
            with anyio.move_on_after(due_s - monotonic_s()):
                await self._wake.wait()

    def look(self) -> None:
        """Have the idle sessions looked at now."""
        self._wake.set()

    async def _open(self, tenant: Tenant) -> bool:
        """Choose an engine, make room, load; once more if the engine found the room too small. False: nobody waits."""
        tenant.load_began_s = monotonic_s()
        # Importing an engine can take a second: not on the event loop.
        name, engine = await anyio.to_thread.run_sync(_choose, self._engines, tenant.model)
        with _not_counted(tenant):
            if not await self._memory.make_room(tenant):
                return False
        try:
            await self._load(tenant, name, engine)
        except ResourceError:
            if not any(one.memory_bytes for one in self._memory.tenants.values() if one is not tenant):
                raise
            tenant.stage = "waiting"
            with _not_counted(tenant):
                if not await self._memory.make_room(tenant, is_retry=True):
                    return False
            await self._load(tenant, name, engine)
        return True

    async def _load(self, tenant: Tenant, name: str, engine: Engine) -> None:
        drafter = self._settings.drafts.get(tenant.model.name)
        found = self._settings.contexts.get(tenant.model.name)
        context = Context() if found is None else Context(**msgspec.structs.asdict(found))
        placement = Placement(
            device=places.device(self._settings, name),
            threads=self._threads,
            slots=self._settings.slots,
            context_tokens=context.tokens or self._settings.context_tokens,
            context=context,
            kept_folder=await anyio.to_thread.run_sync(self._kept_folder, tenant),
            kept_bytes=self._settings.kept_prompts_bytes,
            folder=str(self._folder),
            prompt_cache_bytes=self._settings.prompt_cache_bytes,
            kv_type=self._settings.kv_type,
            draft=await self._draft(tenant.model, drafter),
            drafts_from_prompt=drafter == FROM_PROMPT,
            adapters=tenant.adapters,
            batch_window_s=self._settings.batch_window_s,
            batch_rows=self._settings.batch_rows,
        )
        tenant.stage = "loading"
        timer, work = anyio.CancelScope(), anyio.CancelScope()
        self._group.start_soon(self._expire, tenant, timer, work)
        try:
            with work:
                session = await engine.load(tenant.model, placement)
                # An engine that loads in a thread of its own cannot be interrupted; what comes late is still good.
                tenant.opened(session, monotonic_s())
        finally:
            timer.cancel()
        if tenant.session is None:
            raise self._too_slow(tenant)
        status.LOAD_TIME.labels(tenant.model.name).observe(tenant.loaded_s - tenant.load_began_s)
        status.OPEN.add(1)
        status.MEMORY.add(tenant.memory_bytes)

    def _kept_folder(self, tenant: Tenant) -> str:
        """The model's folder for what outlives its session; "" where settings want nothing kept."""
        if self._prompts is None or not self._settings.kept_prompts_bytes:
            return ""
        return str(self._prompts.open(tenant.model.digest))

    async def _draft(self, model: StoredModel, name: str | None) -> StoredModel | None:
        """The stored model that drafts for `model`. Raises ConfigError if there is none of this name."""
        if name is None or name == FROM_PROMPT or self._find is None:
            return None
        try:
            return await anyio.to_thread.run_sync(self._find, name)
        except NotFoundError as error:
            raise ConfigError(f"run.drafts of {model.name}: {error.message}", hint=error.hint) from error

    async def _expire(self, tenant: Tenant, timer: anyio.CancelScope, work: anyio.CancelScope) -> None:
        """Tell whoever waits when a load takes too long, also when the engine does not let go of it."""
        with timer:
            while True:
                await anyio.sleep(self._settings.load_timeout_s)
                work.cancel()
                self._admission.fail(tenant, self._too_slow(tenant))

    def _too_slow(self, tenant: Tenant) -> ExpiredError:
        return ExpiredError(
            f"{tenant.model.name} was not loaded within {self._settings.load_timeout_s:g} s",
            hint="raise run.load_timeout_s",
        )


def _choose(engines: Mapping[str, Engine], model: StoredModel) -> tuple[str, Engine]:
    """The first engine that accepts `model`, with its name. Raises UnsupportedError with the reason of each other."""
    reasons: list[str] = []
    hint = "`catena doctor` tells what is missing"
    for name in engines:
        try:
            engine = engines[name]
        except MissingExtraError as error:
            reasons.append(f"{name}: {error.message}")
            hint = error.hint
        except (ImportError, OSError) as error:
            # A library that is there but does not load, e.g. for want of a system library.
            reasons.append(f"{name}: {error}")
        else:
            reason = engine.accepts(model)
            if reason is None:
                return name, engine
            reasons.append(f"{name}: {reason}")
    raise UnsupportedError(f"no engine runs {model.name} ({'; '.join(reasons) or 'none is installed'})", hint=hint)


@contextmanager
def _not_counted(tenant: Tenant) -> Generator[None]:
    """Waiting for memory is not loading."""
    began_s = monotonic_s()
    yield
    tenant.load_began_s += monotonic_s() - began_s
