"""The session's side of its worker: starts the process, sends it calls, feeds their answers, and ends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, cast

import anyio
import anyio.to_thread

from catena.core.errors import EngineError
from catena.run.engines.llama_cpp import worker
from catena.run.engines.llama_cpp.call import SILENCE_S, Call, Refused

MAX_FRAME_BYTES = 64 << 20
# Freeing the memory of a large model can take a while.
ENDING_TIME_S = 20.0

log = logging.getLogger("catena.run.engines.llama_cpp")


class Process(asyncio.Protocol):
    """A worker and the socket to it. Made, used and ended on one event loop, by a thread that outlives it."""

    def __init__(self) -> None:
        self.has_ended = False
        self._calls: dict[int, Call] = {}
        self._numbers = count()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._popen = _start(theirs.fileno())

    @property
    def pid(self) -> int:
        """The process's id, for whoever measures it."""
        return self._popen.pid

    async def load(self, settings: dict[str, Any]) -> None:
        """Load a model with the settings of parameters.py. Raises EngineError; then, or when cancelled, `end` it."""
        self._socket.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self, self._socket)
        # How long a load may take is for the scheduler to say.
        call = self._begin(worker.LOAD, json.dumps(settings).encode(), _nothing, None)
        while await call.chunk() is not None:
            pass

    def ask(self, kind: int, body: bytes = b"", on_end: Callable[[], None] | None = None) -> Call:
        """Begin a call of a `kind` named in worker.py; `on_end` runs on the loop once the library let go of it."""
        return self._begin(kind, body, on_end or _nothing, SILENCE_S)

    async def end(self) -> int:
        """End the process, and with it every call; its exit status, negative if a signal ended it before."""
        if self._transport is None:
            self._socket.close()
        else:
            self._transport.abort()
        self._popen.kill()
        status = -signal.SIGKILL
        with anyio.CancelScope(shield=True):
            try:
                status = await anyio.to_thread.run_sync(self._popen.wait, ENDING_TIME_S)
            except subprocess.TimeoutExpired:
                log.warning("process %d does not end", self.pid)
        return status

    def _begin(self, kind: int, body: bytes, on_end: Callable[[], None], silence_s: float | None) -> Call:
        number = next(self._numbers)
        call = Call(partial(self._send, worker.STOP, number), on_end, silence_s)
        if self.has_ended:
            call.end(_gone())
        else:
            self._calls[number] = call
            self._send(kind, number, body)
        return call

    def _send(self, kind: int, number: int, body: bytes = b"") -> None:
        if self._transport is not None:
            self._transport.write(worker.frame(kind, number, body))

    # --- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        received, offset = self._received, 0
        while len(received) - offset >= worker.HEAD.size:
            length, number, kind = worker.HEAD.unpack_from(received, offset)
            start = offset + worker.HEAD.size
            if length > MAX_FRAME_BYTES:
                self._break("sent a frame that is too long")
                return
            if len(received) - start < length:
                break
            offset = start + length
            self._dispatch(kind, number, bytes(received[start:offset]))
        del received[:offset]

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(_gone())

    def _dispatch(self, kind: int, number: int, payload: bytes) -> None:
        if number not in self._calls:
            self._break("answered what was not asked")
        elif kind == worker.CHUNK:
            self._calls[number].feed(payload)
        else:
            self._calls.pop(number).end(_failure(kind, payload))

    def _break(self, what: str) -> None:
        log.error("process %d %s", self.pid, what)
        if self._transport is not None:
            self._transport.abort()


def _start(fileno: int) -> subprocess.Popen[bytes]:
    # What the library prints may quote a grammar, so it is shown to nobody but who asked to see more.
    stderr = None if log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL
    command = [sys.executable, "-P", worker.__file__, str(fileno), str(os.getpid())]
    try:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(fileno,),
            # The terminal's Ctrl-C is for the gateway.
            start_new_session=True,
            # The library would have a debugger print the stack of an abort.
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
    except OSError as error:
        raise EngineError("no process can be started for llama.cpp", hint=str(error)) from error


def _failure(kind: int, payload: bytes) -> Exception | None:
    if kind == worker.DONE:
        return None
    return Refused() if kind == worker.REFUSED else EngineError(payload.decode())


def _gone() -> EngineError:
    return EngineError("the process of llama.cpp ended", hint="the next request starts it again")


def _nothing() -> None:
    pass
