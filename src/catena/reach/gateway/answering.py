"""Drives one model answer: pumps its events, watches the client, keeps a stream alive, and ends it truthfully.

Knows no protocol: a Renderer turns events into bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import CancelledError, CatenaError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Progress,
    Reply,
    Timings,
    ToolCallDelta,
    Usage,
)
from catena.core.messages.reply import Collector

if TYPE_CHECKING:
    from catena.reach.gateway.exchange import Exchange

# A stream's head waits this long for the first event, so that an early error is a real HTTP error.
HOLD_S = 1.0
MAX_WAITING_EVENTS = 256


class Accepted(Struct, frozen=True):
    """The request was decided and recorded; the first thing that passes through the pump."""

    receipt: str
    model: StoredModel


class Renderer(Protocol):
    """A protocol's way to write a stream; every method gives the bytes to send, maybe none."""

    content_type: str

    def start(self, accepted: Accepted, /) -> bytes:
        """What comes before the first event."""
        ...

    def event(self, event: Event, /) -> bytes:
        """One event; Progress does not come here."""
        ...

    def end(self) -> bytes:
        """What ends a complete answer; sent only after the record was closed."""
        ...

    def sign(self, phase: str, fraction: float | None, /) -> bytes:
        """A sign of life that clients skip; `phase` is queued, loading, prefill, or empty."""
        ...


@asynccontextmanager
async def until_gone(exchange: Exchange) -> AsyncGenerator[TaskGroup]:
    """Run the block in a task group; when the client goes away, cancel it and raise CancelledError."""

    async def watch() -> None:
        await exchange.gone()
        group.cancel_scope.cancel()

    error: CatenaError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            yield group
        except CatenaError as caught:  # kept out of the group, which would wrap it
            error = caught
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    if exchange.is_gone and not exchange.is_finished:
        raise CancelledError("the client went away")


async def whole(exchange: Exchange, request: GenerateRequest) -> tuple[Accepted, Reply]:
    """Compute everything, then return it: the record is closed by then. Stops when the client leaves."""
    began_s = monotonic_s()
    collector = Collector()
    accepted: Accepted | None = None
    async with until_gone(exchange), exchange.services.router.generate(request, exchange.caller) as answer:
        accepted = _accept(exchange, Accepted(answer.receipt, answer.model))
        async for event in answer.events:
            if exchange.first_event_s is None and isinstance(event, Delta | ToolCallDelta | Finished):
                exchange.first_event_s = monotonic_s() - began_s
            collector.add(event)
    assert accepted is not None
    reply = collector.reply()
    exchange.usage = reply.usage
    exchange.headers_out["server-timing"] = server_timing(reply.timings, monotonic_s() - began_s)
    return accepted, reply


async def stream(exchange: Exchange, request: GenerateRequest, renderer: Renderer) -> None:
    """Send the answer as it is computed. The end is sent only after the record was closed.

    Errors before the head was sent are raised for a plain answer; later ones become the stream's last event.
    """
    sender, receiver = anyio.create_memory_object_stream[Accepted | Event](MAX_WAITING_EVENTS)
    errors: list[CatenaError] = []

    async def pump() -> None:
        async with sender:
            try:
                async with exchange.services.router.generate(request, exchange.caller) as answer:
                    await sender.send(Accepted(answer.receipt, answer.model))
                    async for event in answer.events:
                        await sender.send(event)
            except CatenaError as error:
                errors.append(error)

    async with receiver, until_gone(exchange) as group:
        group.start_soon(pump)
        await _Relay(exchange, renderer).run(receiver, errors)
        if errors:
            raise errors[0]
        await exchange.finish(renderer.end())


class _Relay:
    """Moves events from the pump to the client: holds the head back, joins what is ready, gives signs of life."""

    def __init__(self, exchange: Exchange, renderer: Renderer) -> None:
        self._exchange = exchange
        self._renderer = renderer
        self._began_s = monotonic_s()
        self._accepted: Accepted | None = None
        self._phase: tuple[str, float | None] = ("", None)
        self._is_begun = False

    async def run(self, receiver: MemoryObjectReceiveStream[Accepted | Event], errors: list[CatenaError]) -> None:
        """Return when the pump has ended. `errors` is looked at before a head is sent for nothing."""
        while True:
            items = await _take(receiver, self._patience_s())
            if items is None:
                break
            pieces = [piece for item in items if (piece := self._render(item))]
            await self._send(pieces, is_silent=not items)
        if self._accepted is not None and not errors:
            await self._send([self._begin()])

    def _patience_s(self) -> float | None:
        """How long to wait for the next event before something has to be said."""
        if self._exchange.status:
            return self._exchange.services.settings.ping_s
        if self._accepted is None:
            return None
        return max(0.0, self._began_s + HOLD_S - monotonic_s())

    def _render(self, item: Accepted | Event) -> bytes:
        match item:
            case Accepted():
                self._accepted = _accept(self._exchange, item)
                return b""
            case Progress(phase, fraction):
                is_news = self._phase[0] != phase
                self._phase = (phase, fraction)
                return self._renderer.sign(phase, fraction) if is_news and self._exchange.status else b""
            case Usage():
                self._exchange.usage = item
            case Timings():
                pass
            case _:
                if not self._is_begun:
                    self._exchange.first_event_s = monotonic_s() - self._began_s
                    self._phase = ("", None)
                    return self._begin() + self._renderer.event(item)
        return self._renderer.event(item)

    def _begin(self) -> bytes:
        if self._is_begun or self._accepted is None:
            return b""
        self._is_begun = True
        return self._renderer.start(self._accepted)

    async def _send(self, pieces: list[bytes], *, is_silent: bool = False) -> None:
        is_late = self._accepted is not None and monotonic_s() - self._began_s >= HOLD_S
        if not self._exchange.status:
            if not pieces and not is_late:
                return
            await self._exchange.open_stream(self._renderer.content_type, STREAM_HEADERS)
            is_silent = not pieces
        if is_silent:
            pieces = [self._renderer.sign(*self._phase)]
        if body := b"".join(pieces):
            await self._exchange.write(body)


# Proxies must neither gather nor change a stream.
STREAM_HEADERS = (("cache-control", "no-store, no-transform"), ("x-accel-buffering", "no"))


def server_timing(timings: Timings, total_s: float) -> str:
    """A Server-Timing header: where the time of an answer went, in milliseconds."""
    spent_s = timings.queued_s + timings.loading_s + timings.prefill_s + timings.decode_s
    parts = {
        "queue": timings.queued_s,
        "load": timings.loading_s,
        "prefill": timings.prefill_s,
        "decode": timings.decode_s,
        "gateway": max(0.0, total_s - spent_s),
    }
    return ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in parts.items())


def _accept(exchange: Exchange, accepted: Accepted) -> Accepted:
    exchange.receipt, exchange.model = accepted.receipt, accepted.model.name
    return accepted


async def _take(
    receiver: MemoryObjectReceiveStream[Accepted | Event], patience_s: float | None
) -> list[Accepted | Event] | None:
    """Everything that is ready, waiting up to `patience_s` for the first; [] when nothing came, None at the end."""
    items: list[Accepted | Event] = []
    try:
        with anyio.move_on_after(patience_s) as scope:
            items.append(await receiver.receive())
    except anyio.EndOfStream:
        return None
    if not scope.cancelled_caught:
        while receiver.statistics().current_buffer_used and len(items) < MAX_WAITING_EVENTS:
            items.append(receiver.receive_nowait())
    return items
