"""Work of the store told line by line: it runs on a thread, and ends when the client leaves."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

from catena.core.clock import monotonic_s
from catena.core.errors import CancelledError, CatenaError
from catena.reach.gateway.answering import HOLD_S, STREAM_HEADERS, until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama.forms import NDJSON, SIGN, encode

LOOK_S = 0.1
SUCCESS = {"status": "success"}
Line = dict[str, Any]


class Teller:
    """Between the work and its client: of lines with one status only the newest waits to be taken."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._lock = threading.Lock()
        self._is_cancelled = False

    def __call__(self, status: str, **more: Any) -> None:
        """Say how far the work is. Raises CancelledError once nobody listens, which ends the work."""
        line = {"status": status, **more}
        with self._lock:
            if self._is_cancelled:
                raise CancelledError("the client went away")
            if self._lines and self._lines[-1]["status"] == status:
                self._lines[-1] = line
            else:
                self._lines.append(line)

    def take(self) -> list[Line]:
        """What was said since the last time."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def cancel(self) -> None:
        """Have the work end when it next says something."""
        with self._lock:
            self._is_cancelled = True


async def narrate(exchange: Exchange, work: Callable[[Teller], None], *, is_stream: bool) -> None:
    """Run `work` and answer with its lines and `success`; without a stream with `success` alone.

    An error before the first line, within HOLD_S, is an HTTP error; a later one is the stream's last line. The work
    has time limits of its own, so that of a request does not end it.
    """
    teller = Teller()
    failure: list[CatenaError] = []
    has_ended = anyio.Event()
    if exchange.limit is not None:
        exchange.limit.deadline = math.inf

    async def run() -> None:
        try:
            # A thread of its own: whoever pulls for long must not keep others from theirs.
            limiter = anyio.CapacityLimiter(1)
            await anyio.to_thread.run_sync(work, teller, abandon_on_cancel=True, limiter=limiter)
        except CatenaError as error:
            failure.append(error)
        has_ended.set()

    try:
        async with until_gone(exchange) as group:
            group.start_soon(run)
            await _relay(exchange, teller, has_ended, failure, is_stream)
    finally:
        teller.cancel()


async def _relay(
    exchange: Exchange, teller: Teller, has_ended: anyio.Event, failure: list[CatenaError], is_stream: bool
) -> None:
    began_s = said_s = monotonic_s()
    held: list[Line] = []
    while not has_ended.is_set():
        with anyio.move_on_after(LOOK_S):
            await has_ended.wait()
        held += teller.take()
        now_s = monotonic_s()
        if not is_stream or failure or (not exchange.status and not has_ended.is_set() and now_s - began_s < HOLD_S):
            continue
        if held:
            await _say(exchange, held)
            held, said_s = [], now_s
        elif exchange.status and now_s - said_s >= exchange.services.settings.ping_s:
            await exchange.write(SIGN)
            said_s = now_s
    if failure:
        raise failure[0]
    if not is_stream:
        await exchange.answer(200, encode(SUCCESS))
        return
    await _say(exchange, held)
    await exchange.finish(encode(SUCCESS) + b"\n")


async def _say(exchange: Exchange, lines: list[Line]) -> None:
    if not exchange.status:
        await exchange.open_stream(NDJSON, STREAM_HEADERS)
    if lines:
        await exchange.write(b"".join(encode(line) + b"\n" for line in lines))
