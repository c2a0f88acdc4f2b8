"""Work that goes on after its request was answered: counted per key, cancelled when the gateway stops."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from catena.core.errors import BusyError, leaves
from catena.reach.gateway.failures import HttpError

log = logging.getLogger("catena.reach.gateway")
RETRY_S = 5.0


class Work(Protocol):
    """One piece of work. `run` marks its own end, however it comes, and lets no error of ours out."""

    @property
    def owner(self) -> str: ...

    async def run(self) -> None: ...


class Background:
    """What runs now, by the key that wanted it: at most `limit` pieces for each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._group: TaskGroup | None = None
        self._scopes: dict[Work, anyio.CancelScope] = {}
        self._idle = anyio.Event()

    @property
    def works(self) -> tuple[Work, ...]:
        """What runs now, oldest first."""
        return tuple(self._scopes)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Work can be started inside this block; what still runs at its end is cancelled, and waited for."""
        async with anyio.create_task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                self.stop()

    def start(self, work: Work) -> None:
        """Begin a piece of work. Raises BusyError when its owner has as many as allowed, HttpError 503 at the end."""
        if self._group is None:
            raise HttpError(503, "nothing can be begun in the background now", code="shutting_down")
        if sum(one.owner == work.owner for one in self._scopes) >= self._limit:
            raise BusyError(f"this key has {self._limit} pieces of work in the background", retry_after_s=RETRY_S)
        self._scopes[work] = anyio.CancelScope()
        self._group.start_soon(self._run, work)

    def cancel(self, work: Work) -> None:
        """Stop a piece of work; does nothing when it has ended."""
        if work in self._scopes:
            self._scopes[work].cancel()

    def stop(self) -> None:
        """Cancel everything."""
        for scope in self._scopes.values():
            scope.cancel()

    async def idle(self) -> None:
        """Return when nothing runs."""
        while self._scopes:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _run(self, work: Work) -> None:
        """A listed top-level handler: a bug in one piece of work must not end the others, or the gateway."""
        try:
            with self._scopes[work]:
                await work.run()
        except Exception as error:  # noqa: BLE001 - listed top-level handler
            for one in leaves(error):
                where = "".join(traceback.format_tb(one.__traceback__))
                log.error("work in the background failed: %s\n%s", type(one).__qualname__, where)
        finally:
            del self._scopes[work]
            if not self._scopes:
                self._idle.set()
