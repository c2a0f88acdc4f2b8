"""Serves the application over TCP: start, drain, stop. Why uvicorn's protocol and not its server: decision 0006."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
from uvicorn.config import Config

from catena.core.errors import CatenaError, ConfigError, ConflictError, MissingExtraError
from catena.core.settings import ReachSettings
from catena.reach.gateway.application import Gateway
from catena.reach.gateway.connection import Connection, Limits

if TYPE_CHECKING:
    from catena.reach.gateway.grpc.serving import Door

# After streams were cancelled: time for their error events and closing records.
CLOSING_TIME_S = 12.0


class Listening:
    """A gateway that takes requests. `url` names it, and `calls` is its door for gRPC where that is served."""

    def __init__(
        self, app: Gateway, limits: Limits, server: asyncio.Server, url: str, calls: Door | None = None
    ) -> None:
        self.url = url
        self.calls = calls
        self._app = app
        self._limits = limits
        self._server = server
        self._patience = anyio.CancelScope()

    @property
    def num_connections(self) -> int:
        """Connections that are open now."""
        return len(self._limits.connections)

    def hurry(self) -> None:
        """Make a drain that has begun go on to cancelling at once."""
        self._patience.cancel()

    async def drain(self, drain_s: float) -> None:
        """Take nothing new, let answers end for `drain_s`, then cancel them and see their records closed."""
        self._app.drain()
        self._limits.is_stopping = True
        self._server.close()
        for connection in list(self._limits.connections):
            connection.shutdown()
        if self.calls is not None:
            self.calls.drain()
        with anyio.move_on_after(drain_s) as self._patience:
            await self._app.idle()
        self._app.stop()
        with anyio.move_on_after(CLOSING_TIME_S):
            await self._app.idle()
        await anyio.lowlevel.checkpoint()  # lets the last answers reach their transports
        for connection in list(self._limits.connections):
            connection.transport.close()
        if self.calls is not None:
            self.calls.close()


@asynccontextmanager
async def listening(app: Gateway, settings: ReachSettings) -> AsyncGenerator[Listening]:
    """Listen on `settings.host` and `settings.port` (0: any free one) for the block, then drain.

    Raises ConflictError when the port is taken, ConfigError when the address is not ours.
    """
    config = Config(
        app,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it would log what strangers send
    config.load()
    limits = Limits(settings)
    loop = asyncio.get_running_loop()
    calls = None if settings.grpc_port is None else _calls(app, settings)
    try:
        server = await loop.create_server(
            lambda: Connection(config, limits, loop), settings.host, settings.port, backlog=1024
        )
    except OSError as error:
        raise _cannot_listen(settings, "port", error) from None
    if calls is not None and settings.grpc_port is not None:
        try:
            await calls.open(settings.grpc_port)
        except OSError as error:
            server.close()
            raise _cannot_listen(settings, "grpc_port", error) from None
    port = server.sockets[0].getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    running = Listening(app, limits, server, f"http://{host}:{port}", calls)
    async with app.services.background.running(), anyio.create_task_group() as group:
        group.start_soon(_keep_date, limits)
        if calls is not None:
            group.start_soon(calls.watch)
        group.start_soon(app.keep_house)
        group.start_soon(app.work)
        try:
            yield running
        finally:
            with anyio.CancelScope(shield=True):
                await running.drain(settings.drain_s)
            group.cancel_scope.cancel()


async def serve(app: Gateway, settings: ReachSettings, *, ready: Callable[[Listening], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain at once.

    `ready` gets the addresses, once requests are taken. Raises as `listening` does.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with listening(app, settings) as running, anyio.create_task_group() as group:
            ready(running)
            await anext(signals)

            async def watch_for_another() -> None:
                await anext(signals)
                running.hurry()

            group.start_soon(watch_for_another)
            await running.drain(settings.drain_s)
            group.cancel_scope.cancel()


async def _keep_date(limits: Limits) -> None:
    """Keep the Date header that every response carries right to the second."""
    while True:
        limits.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        await anyio.sleep(1.0)


def _calls(app: Gateway, settings: ReachSettings) -> Door:
    """The door for gRPC, not open yet."""
    try:
        from catena.reach.gateway.grpc.serving import Door  # noqa: PLC0415 - only where gRPC is served
    except ImportError as error:
        if error.name != "hpack":
            raise
        raise MissingExtraError("hpack", "grpc") from None
    return Door(app, settings)


def _cannot_listen(settings: ReachSettings, what: Literal["port", "grpc_port"], error: OSError) -> CatenaError:
    where = f"{settings.host}:{getattr(settings, what)}"
    flag = f"--{what.replace('_', '-')}"
    if error.errno == errno.EADDRINUSE:
        return ConflictError(
            f"{where} is taken", hint=f"another gateway may run already: `catena up {flag} 0` takes a free port"
        )
    reason = os.strerror(error.errno) if error.errno else "the address is not known"
    return ConfigError(
        f"cannot listen on {where}: {reason}", hint=f"choose another --host or {flag}", param="reach.host"
    )
