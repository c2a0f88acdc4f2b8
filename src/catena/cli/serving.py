"""Serving: a gateway until interrupted, or one for the length of a command where none runs yet."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.from_thread
import anyio.to_thread

from catena.cli.chain import open_chain
from catena.core import config
from catena.core.clock import monotonic_s
from catena.core.errors import ConflictError
from catena.reach import door
from catena.reach.cloud import guard
from catena.reach.gateway.server import Listening, listening, serve

BACKEND: dict[str, Any] = {"use_uvloop": sys.platform != "win32"}
# How long to wait for a gateway that another process is just starting or ending.
OTHER_S = 15.0
# New objects, less those that went, between two collections.
COLLECT_AFTER = 10_000
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - names of addresses, nothing is bound here


@contextmanager
def gateway() -> Generator[str]:
    """The address of the gateway that serves this state folder; one is started for the block where none runs."""
    home = config.open_home()
    failure: BaseException | None = None
    with anyio.from_thread.start_blocking_portal("asyncio", BACKEND) as portal, ExitStack() as stack:
        began_s = monotonic_s()
        url = None
        while url is None:
            if address := door.find(home):
                url = address.url
                break
            try:
                url = stack.enter_context(portal.wrap_async_context_manager(_for_a_while()))
            except ConflictError:
                # Another process has the state folder open: a gateway that starts, or one that ends.
                if monotonic_s() - began_s > OTHER_S:
                    raise
                portal.call(anyio.sleep, 0.05)
        try:
            yield url
        except BaseException as error:  # noqa: BLE001 - kept out of the task groups that serve, which would wrap it
            failure = error
    if failure is not None:
        raise failure


def run(
    *,
    flags: Mapping[str, Any],
    with_echo: bool = False,
    ready: Callable[[Listening], None],
    visit: Callable[[str], bool] | None = None,
) -> None:
    """Serve until interrupted. `ready` gets the addresses; then `visit` runs on a thread, and ends it by giving False.

    Raises what opening the chain and listening raise, and what `visit` raises.
    """
    anyio.run(_run, flags, with_echo, ready, visit, backend_options=BACKEND)


async def _run(
    flags: Mapping[str, Any], with_echo: bool, ready: Callable[[Listening], None], visit: Callable[[str], bool] | None
) -> None:
    guard.install()
    async with open_chain(flags=flags, with_echo=with_echo) as chain, anyio.create_task_group() as group:

        async def guide(url: str, visit: Callable[[str], bool]) -> None:
            if not await anyio.to_thread.run_sync(visit, url, abandon_on_cancel=True):
                group.cancel_scope.cancel()

        def begin(running: Listening) -> None:
            url = _reachable(running.url)
            door.announce(chain.home, url)
            ready(running)
            if visit is not None:
                group.start_soon(guide, url, visit)

        gateway = chain.gateway()
        _spare_collector()
        try:
            await serve(gateway, chain.settings.reach, ready=begin)
        finally:
            door.withdraw(chain.home)
        group.cancel_scope.cancel()


def _spare_collector() -> None:
    """Leave what a start made out of every later collection, and collect less often: a full one stops all answers.

    Measured by bench/predict.py's client at 16 connections (2026-11-24): 31 ms became 14 ms at the 99th percentile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


@asynccontextmanager
async def _for_a_while() -> AsyncGenerator[str]:
    async with (
        open_chain(flags={"reach.host": "127.0.0.1", "reach.port": 0, "reach.grpc_port": None}) as chain,
        listening(chain.gateway(), chain.settings.reach) as running,
    ):
        door.announce(chain.home, running.url)
        try:
            yield running.url
        finally:
            door.withdraw(chain.home)


def _reachable(url: str) -> str:
    """`url` as a program on this machine can call it."""
    parts = urlsplit(url)
    host = EVERYWHERE.get(parts.hostname or "")
    return f"http://{host}:{parts.port}" if host else url
