"""A model server as a process: started behind its guard, its output kept, its end noticed, all its own ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

import anyio
import anyio.to_thread

from catena.core.errors import EngineError
from catena.run.served import guard
from catena.run.served.output import Output

# The scheduler waits longer than both together for a session to close.
GRACE_S = 10.0
ENDING_S = guard.KILL_S + 4.0

log = logging.getLogger("catena.run.served")


class Process(asyncio.Protocol):
    """One server and its guard. Made, used and ended on one event loop."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], output: Output) -> None:
        self._output = output
        self._grace_s = GRACE_S
        self._ended = asyncio.Event()
        self._status: int | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._popen = _start([sys.executable, "-I", "-S", guard.__file__, str(GRACE_S), *command], environ)

    async def watch(self) -> None:
        """Begin to read what the server prints; its end is the end of it and of everything that it started."""
        assert self._popen.stdout is not None
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: self, self._popen.stdout)

    @property
    def pid(self) -> int:
        """The guard's id; the server is its child."""
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether the server, or its guard, is no more."""
        return self._ended.is_set() or self._is_guard_gone()

    async def wait(self, limit_s: float) -> bool:
        """Wait for the end for up to `limit_s`; whether it came."""
        with anyio.move_on_after(limit_s):
            await self._ended.wait()
        return self.has_ended

    async def end(self) -> int:
        """Have the server stop, kill what has not ended in time, and free everything; the exit status, negative for a
        signal."""
        if self._status is None:
            with anyio.CancelScope(shield=True):
                await self._stop()
                self._status = await self._free()
        return -signal.SIGKILL if self._status is None else self._status

    async def _stop(self) -> None:
        if not self.has_ended and self._transport is not None:
            assert self._popen.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                os.write(self._popen.stdin.fileno(), b"s")
            if not await self.wait(self._grace_s + ENDING_S):
                log.warning("process %d does not end", self.pid)
        if not self._ended.is_set():
            # The guard was killed itself, or is stuck. Its id is still its own: it leads the server's group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _free(self) -> int:
        for pipe in (self._popen.stdin, self._popen.stdout if self._transport is None else None):
            if pipe is not None:
                pipe.close()  # the guard, if it still lives, kills at once
        status = -signal.SIGKILL
        try:
            status = await anyio.to_thread.run_sync(self._popen.wait, ENDING_S)
        except subprocess.TimeoutExpired:
            log.warning("process %d cannot be ended", self.pid)
        if self._transport is not None:
            self._transport.close()
        self._output.end()
        return status

    def _is_guard_gone(self) -> bool:
        """Looks without forgetting the id, which nobody else can have until `end`."""
        if self._popen.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    # --- asyncio.Protocol -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._output.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


def _start(command: list[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - the command is built from settings and the store's own paths
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            # The terminal's Ctrl-C is for the gateway.
            start_new_session=True,
            env=dict(environ),
        )
    except OSError as error:
        raise EngineError("no process can be started for a model server", hint=str(error)) from error
