"""The ASGI application: finds the route, checks who asks, runs the handler, and answers every error in its dialect."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio

from catena.core import registry
from catena.core.errors import CancelledError, CatenaError, ExpiredError, ForbiddenError, leaves
from catena.core.settings import ReachSettings
from catena.reach.access import Access, Identity
from catena.reach.archive import Archive
from catena.reach.batches import Runner
from catena.reach.gateway import health, telemetry
from catena.reach.gateway.background import Background
from catena.reach.gateway.console.routes import routes as console_routes
from catena.reach.gateway.exchange import CLOSE, Exchange, Receive, Scope, Send
from catena.reach.gateway.failures import HttpError, describe, internal
from catena.reach.gateway.guard import Guard
from catena.reach.gateway.inside import Inside
from catena.reach.gateway.native import NATIVE
from catena.reach.gateway.routing import Route, Table
from catena.reach.gateway.services import Forgets, Intake, Listed, Reach, Reader, Services, Sessions, Shelf

log = logging.getLogger("catena.reach.gateway")
STOPPING = "the gateway is shutting down"
SWEEP_S = 60.0


def create(
    router: Reach,
    settings: ReachSettings,
    access: Access,
    *,
    models: Callable[[], Sequence[Listed]],
    status: Callable[[], Any] | None = None,
    reader: Reader | None = None,
    trace: Callable[[str], Any] | None = None,
    verifier_key: str | None = None,
    salt: Callable[[str], bytes] | None = None,
    shelf: Shelf | None = None,
    intake: Intake | None = None,
    sessions: Sessions | None = None,
    archive: Archive | None = None,
    runner: Runner | None = None,
    forgetting: Forgets | None = None,
    routes: Iterable[Route] = (),
) -> Gateway:
    """The gateway over `router`, with every registered protocol and, beside them, `routes`.

    `models` lists what can be asked; `status`, `reader`, `trace`, `verifier_key` and `salt` serve /catena/v1; `shelf`,
    `intake` and `sessions` serve the protocols that manage models; `archive` keeps answers for their callers,
    `runner` files and batches, `forgetting` forgets any of it.
    Raises ConfigError when it is to listen beyond loopback and no API key exists.
    """
    access.check_listening(settings.host)
    services = Services(
        router,
        settings,
        access,
        models,
        status,
        reader,
        trace,
        verifier_key,
        salt,
        shelf,
        intake,
        sessions,
        archive,
        Background(settings.max_background),
        runner,
        forgetting,
    )
    found: list[Route] = [*health.routes, *console_routes(NATIVE), *routes]
    for name in registry.names("protocols"):
        found += registry.find("protocols", name)
    return Gateway(services, Table(found))


class Gateway:
    """An ASGI 3 application. `is_ready` is what /readyz says; `stop` ends what still runs."""

    def __init__(self, services: Services, table: Table) -> None:
        self.services = services
        self.table = table
        self.is_ready = True
        self._guard = Guard(services.settings.allowed_hosts, services.settings.cors_origins)
        self._running: dict[str, anyio.CancelScope] = {}
        self._stopping = False
        self._idle = anyio.Event()
        self._working: anyio.CancelScope | None = None

    @property
    def num_running(self) -> int:
        """Requests that have not been answered completely."""
        return len(self._running)

    def drain(self) -> None:
        """Say on /readyz that nothing new should come; what somebody waits for goes on."""
        self.is_ready = False
        if self._working is not None:
            self._working.cancel()

    async def idle(self) -> None:
        """Return when no request is running, and nothing in the background."""
        while self._running or self.services.background.works:
            await self.services.background.idle()
            if self._running:
                self._idle = anyio.Event()
                await self._idle.wait()

    async def keep_house(self) -> None:
        """Delete kept answers that are past their time, for as long as the gateway runs."""
        while self.services.archive is not None:
            await self.services.archive.sweep()
            await anyio.sleep(SWEEP_S)

    async def work(self) -> None:
        """Do what nobody waits for, batches, until the gateway drains."""
        if self.services.runner is not None and self.is_ready:
            with anyio.CancelScope() as self._working:
                await self.services.runner.run(Inside(self).post)

    def stop(self) -> None:
        """Cancel what still runs: streams end with an error event, and their records are closed."""
        self.is_ready = False
        self._stopping = True
        self.services.background.stop()
        for scope in self._running.values():
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        began_s = telemetry.begin()
        scope["catena.gateway"] = self
        exchange = Exchange(self.services, scope, receive, send)
        with anyio.CancelScope(deadline=anyio.current_time() + self.services.settings.request_timeout_s) as limit:
            self._running[exchange.request_id] = exchange.limit = limit
            if self._stopping:
                limit.cancel()
            try:
                await self._serve(exchange)
            finally:
                del self._running[exchange.request_id]
                if not self._running:
                    self._idle.set()
        if limit.cancelled_caught:
            await self._fail(exchange, self._why_cut(exchange))
        telemetry.end(exchange, began_s)

    async def serve_own(self, exchange: Exchange, identity: Identity) -> None:
        """Answer a request of this machine's own work, with the rights of `identity`; a drain does not wait for it."""
        began_s = telemetry.begin()
        with anyio.CancelScope(deadline=anyio.current_time() + self.services.settings.request_timeout_s) as limit:
            exchange.limit = limit
            await self._serve(exchange, identity)
        if limit.cancelled_caught:
            await self._fail(exchange, self._why_cut(exchange))
        telemetry.end(exchange, began_s)

    async def _serve(self, exchange: Exchange, own: Identity | None = None) -> None:
        """Run one request. This is a listed top-level handler: no error passes it, each becomes an answer."""
        try:
            if own is None:
                self._guard.check(exchange)
            if exchange.method == "OPTIONS":
                await self._options(exchange)
                return
            found = self.table.find(exchange.method, exchange.raw_path, exchange.headers)
            exchange.route, exchange.params = found.route, found.params
            self._admit(exchange, found.route, own)
            await found.route.handle(exchange)
        except CatenaError as error:
            await self._fail(exchange, error)
        except Exception as error:  # noqa: BLE001 - listed top-level handler
            await self._fail(exchange, _first_known(error, exchange))

    def _admit(self, exchange: Exchange, route: Route, own: Identity | None) -> None:
        """Check the key before a byte of the body is read."""
        headers = exchange.headers
        if exchange.repeated & {"authorization", "x-api-key"}:
            raise HttpError(400, "more than one key was sent", code="bad_key", headers=CLOSE)
        identity = own or self.services.access.identify(
            headers.get("authorization"), headers.get("x-api-key"), is_needed=route.scope is not None
        )
        exchange.caller, exchange.scopes = identity.caller, identity.scopes
        if route.scope is not None and route.scope not in identity.scopes:
            raise ForbiddenError(f"this key lacks the scope {route.scope!r}", hint="make a key that has it")

    async def _options(self, exchange: Exchange) -> None:
        allow = self.table.methods(exchange.raw_path)
        if not allow:
            raise HttpError(404, "there is nothing at this address", code="route_not_found")
        await exchange.answer(204, b"", headers=self._guard.preflight(exchange, allow))

    async def _fail(self, exchange: Exchange, error: CatenaError) -> None:
        if isinstance(error, CancelledError) and exchange.is_gone:
            return
        exchange.receipt = exchange.receipt or error.receipt
        failure = describe(error)
        spoken = exchange.scope.get("catena.dialect") or self.table.dialect(exchange.headers)
        await exchange.fail(failure, exchange.dialect or spoken or NATIVE)

    def _why_cut(self, exchange: Exchange) -> CatenaError:
        if self._stopping:
            return HttpError(503, STOPPING, code="shutting_down", headers=(("retry-after", "5"), *CLOSE))
        error = ExpiredError(
            f"the request took longer than {self.services.settings.request_timeout_s:g} s",
            hint="ask for fewer tokens, or raise reach.request_timeout_s",
        )
        error.receipt = exchange.receipt
        return error


def _first_known(error: Exception, exchange: Exchange) -> CatenaError:
    """The error to tell: one of ours out of a group, or else `internal`, with the tracebacks in the log."""
    found = leaves(error)
    for one in found:
        if isinstance(one, CatenaError):
            return one
    pattern = exchange.route.pattern if exchange.route else "-"
    for one in found:
        # Not the message: it might quote what was asked.
        where = "".join(traceback.format_tb(one.__traceback__))
        log.error("request %s to %s failed: %s\n%s", exchange.request_id, pattern, type(one).__qualname__, where)
    return internal()


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


__all__ = ["Gateway", "create"]
