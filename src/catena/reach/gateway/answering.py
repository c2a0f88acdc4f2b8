"""Drives one model answer: pumps its events, watches the client, keeps a stream alive, and ends it truthfully.

Knows no protocol: a Renderer turns events into bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import CancelledError, CatenaError
from catena.core.manifest import StoredModel
from catena.core.messages import (
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Listened,
    Progress,
    Reply,
    Segment,
    Timings,
    ToolCallDelta,
    TranscribeRequest,
    Usage,
)
from catena.core.messages.reply import Collector

if TYPE_CHECKING:
    from catena.reach.gateway.exchange import Exchange
    from catena.reach.router import Answer, Transcript

# A stream's head waits this long for the first event, so that an early error is a real HTTP error.
HOLD_S = 1.0
MAX_WAITING_EVENTS = 256
T = TypeVar("T")


class Accepted(Struct, frozen=True):
    """The request was decided and recorded; the first thing that passes through the pump.

    `lost` are wishes that a remote end's dialect cannot carry.
    """

    receipt: str
    model: StoredModel
    lost: tuple[str, ...] = ()


Item = Accepted | Event | Segment | Listened


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


async def unless_gone(exchange: Exchange, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; when the client goes away it is cancelled, and CancelledError raised.

    For one piece of work this is `until_gone` without the cost of a task group; on a wire of ours without that of a
    task or a scope, for there the whole request is cancelled.
    """
    wire, limit = exchange.wire, exchange.limit
    if wire is not None and limit is not None:

        def cancel() -> None:
            exchange.is_gone = True
            limit.cancel()

        wire.when_gone(cancel)
        try:
            return await work
        finally:
            wire.when_gone(None)
    with anyio.CancelScope() as scope:
        watch = asyncio.get_running_loop().create_task(exchange.gone())
        watch.add_done_callback(lambda _: scope.cancel() if exchange.is_gone else None)
        try:
            return await work
        finally:
            watch.cancel()
    raise CancelledError("the client went away")


async def whole(
    exchange: Exchange, request: GenerateRequest, observe: Callable[[Event], object] | None = None
) -> tuple[Accepted, Reply]:
    """Compute everything, then return it: the record is closed by then. Stops when the client leaves.

    `observe` sees each event as it comes, for a protocol whose answers keep an order that a Reply does not.
    """
    began_s = monotonic_s()
    collector = Collector()
    accepted: Accepted | None = None
    async with until_gone(exchange), exchange.services.router.generate(request, exchange.caller) as answer:
        accepted = _accept(exchange, Accepted(answer.receipt, answer.model, answer.lost))
        async for event in answer.events:
            if exchange.first_event_s is None and isinstance(event, Delta | ToolCallDelta | Finished):
                exchange.first_event_s = monotonic_s() - began_s
            collector.add(event)
            if observe is not None:
                observe(event)
    assert accepted is not None
    reply = collector.reply()
    exchange.usage = reply.usage
    exchange.headers_out["server-timing"] = server_timing(reply.timings, monotonic_s() - began_s)
    return accepted, reply


async def stream(
    exchange: Exchange,
    request: GenerateRequest | TranscribeRequest,
    renderer: Renderer,
    settle: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Send the answer as it is computed. The end is sent only after the record was closed, and `settle` has ended.

    Errors before the head was sent are raised for a plain answer; later ones become the stream's last event.
    """
    mailbox = Mailbox()

    async def pump() -> None:
        try:
            async with _asked(exchange, request) as answer:
                await mailbox.put(Accepted(answer.receipt, answer.model, answer.lost))
                async for event in answer.events:
                    await mailbox.put(event)
        except CatenaError as error:
            mailbox.close(error)
        else:
            mailbox.close()

    async with until_gone(exchange) as group:
        relay = _Relay(exchange, renderer, mailbox)
        group.start_soon(pump)
        group.start_soon(relay.keep_time)
        await relay.run()
        if mailbox.error is not None:
            raise mailbox.error
        if settle is not None:
            await settle()
        await exchange.finish(renderer.end())


def _asked(
    exchange: Exchange, request: GenerateRequest | TranscribeRequest
) -> AbstractAsyncContextManager[Answer | Transcript]:
    router = exchange.services.router
    if isinstance(request, TranscribeRequest):
        return router.transcribe(request, exchange.caller)
    return router.generate(request, exchange.caller)


class Mailbox:
    """Between one pump and one relay: bounded, in order, and cheaper than a stream with a timer per item."""

    def __init__(self) -> None:
        self.error: CatenaError | None = None
        self.is_closed = False
        self._items: list[Item] = []
        self._wake: anyio.Event | None = None
        self._room: anyio.Event | None = None

    async def put(self, item: Item) -> None:
        """Add an item, waiting while MAX_WAITING_EVENTS are there already."""
        while len(self._items) >= MAX_WAITING_EVENTS:
            self._room = anyio.Event()
            await self._room.wait()
        self._items.append(item)
        self.wake()

    def close(self, error: CatenaError | None = None) -> None:
        """Nothing more comes; `error` is why, unless all is well."""
        self.is_closed, self.error = True, error
        self.wake()

    def wake(self) -> None:
        """Make a waiting `take` return; does nothing while nobody waits."""
        if self._wake is not None:
            self._wake.set()

    async def take(self) -> list[Item]:
        """Everything that is there; waits for the first item, the end, or `wake` (then the list may be empty)."""
        if not self._items and not self.is_closed:
            self._wake = anyio.Event()
            await self._wake.wait()
            self._wake = None
        items, self._items = self._items, []
        if self._room is not None:
            self._room.set()
            self._room = None
        return items


class _Relay:
    """Moves events from the mailbox to the client: holds the head back, joins what is ready, gives signs of life."""

    def __init__(self, exchange: Exchange, renderer: Renderer, mailbox: Mailbox) -> None:
        self._exchange = exchange
        self._renderer = renderer
        self._mailbox = mailbox
        self._began_s = monotonic_s()
        self._due_s = self._began_s + HOLD_S  # when something must be said
        self._accepted: Accepted | None = None
        self._phase: tuple[str, float | None] = ("", None)
        self._is_begun = False

    async def run(self) -> None:
        """Return when everything was sent and the pump has ended."""
        while True:
            items = await self._mailbox.take()
            is_last = self._mailbox.is_closed
            is_good_end = is_last and self._mailbox.error is None
            pieces = [self._render(item) for item in items]
            if is_good_end:
                pieces.append(self._begin())
            is_due = is_good_end or (not is_last and monotonic_s() >= self._due_s)
            await self._send(b"".join(pieces), is_due=is_due)
            if is_last:
                return

    async def keep_time(self) -> None:
        """Wake the relay whenever it must say something."""
        ping_s = self._exchange.services.settings.ping_s
        while True:
            left_s = self._due_s - monotonic_s()
            if left_s <= 0:
                self._mailbox.wake()
                left_s = ping_s
            await anyio.sleep(left_s)

    def _render(self, item: Item) -> bytes:
        match item:
            case Delta() | ToolCallDelta() | Finished():
                if not self._is_begun:
                    self._exchange.first_event_s = monotonic_s() - self._began_s
                    self._phase = ("", None)
                    return self._begin() + self._renderer.event(item)
            case Accepted():
                self._accepted = _accept(self._exchange, item)
                return b""
            case Progress(phase, fraction):
                is_news = self._phase[0] != phase
                self._phase = (phase, fraction)
                return self._renderer.sign(phase, fraction) if is_news and self._exchange.status else b""
            case Usage():
                self._exchange.usage = item
            case _:
                pass
        return self._renderer.event(cast(Event, item))  # whoever asks for speech can write what comes of it

    def _begin(self) -> bytes:
        if self._is_begun or self._accepted is None:
            return b""
        self._is_begun = True
        return self._renderer.start(self._accepted)

    async def _send(self, body: bytes, *, is_due: bool) -> None:
        """Send `body`, after the head if that has not been sent; when it is empty, a sign of life if one is due."""
        if not self._exchange.status:
            if not body and not (is_due and self._accepted is not None):
                return
            await self._exchange.open_stream(self._renderer.content_type, STREAM_HEADERS)
        if not body and is_due:
            body = self._renderer.sign(*self._phase)
        if body:
            await self._exchange.write(body)
            self._due_s = monotonic_s() + self._exchange.services.settings.ping_s


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


def warn_lost(exchange: Exchange, lost: Iterable[str]) -> None:
    """Name the wishes that a remote end's dialect cannot carry in the warnings."""
    for name in lost:
        exchange.warnings.append(f"{name.removeprefix('sampling.')} ignored: the provider's dialect cannot carry it")


def _accept(exchange: Exchange, accepted: Accepted) -> Accepted:
    warn_lost(exchange, accepted.lost)
    exchange.receipt, exchange.model = accepted.receipt, accepted.model.name
    return accepted
