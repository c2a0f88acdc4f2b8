"""One call on a connection, as the application sees it: an ASGI request, and an answer that ends with trailers.

The application writes length-prefixed messages, and its trailers as one more frame with the mark 0x80, as gRPC-Web
does: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md. Here that frame becomes trailers of HTTP/2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from catena.reach.gateway.exchange import Message
from catena.reach.gateway.grpc.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    frame,
    head,
    reset,
    window_update,
)
from catena.reach.gateway.grpc.heads import Head, block
from catena.reach.gateway.grpc.status import CONTENT_TYPE, GRPC, INTERNAL, TRAILERS

if TYPE_CHECKING:
    from catena.reach.gateway.grpc.connection import Connection

# What a call may send before the application reads it.
WINDOW_BYTES = 1 << 20
# Headers of an answer that its trailers tell: the head may have left before they are known.
TOLD = frozenset({b"catena-receipt", b"catena-warning", b"x-request-id", b"server-timing"})
_HEAD = b"\x88" + block([(b"content-type", CONTENT_TYPE.encode())])  # \x88: `:status` 200, of the static table
_BROKEN = [(b"grpc-status", str(INTERNAL).encode())]


class Call:
    """A stream of HTTP/2. `window` is what may be sent to the peer; it may fall below 0 (RFC 9113, 6.9.2).

    It is also the wire that an exchange may use beyond ASGI, but for answers, which may have to wait for room.
    """

    is_free = False

    def __init__(self, connection: Connection, stream: int, request: Head) -> None:
        self.stream = stream
        self.window = connection.first_window
        self.allowance = WINDOW_BYTES
        self.has_all = False
        self.is_over = False
        self.task: asyncio.Task[None] | None = None  # kept, because the loop holds tasks weakly
        self._connection = connection
        self._request = request
        self._pieces: list[bytes] = []
        self._num_unread = 0
        self._num_taken = 0
        self._is_told_end = False
        self._looking: list[asyncio.Future[None]] = []
        self._when_gone: Callable[[], None] | None = None
        self._told: list[tuple[bytes, bytes]] = []
        self._is_begun = False

    @property
    def has_body(self) -> bool:
        """Whether the whole body is here."""
        return self.has_all

    def when_gone(self, leave: Callable[[], None] | None) -> None:
        """Have `leave` called, once, when the peer has gone; None: no longer."""
        if leave is not None and self.is_over:
            leave()
        else:
            self._when_gone = leave

    @property
    def scope(self) -> dict[str, Any]:
        """The request as ASGI has it. Its method is one that HTTP/1.1 cannot send, so the doors share no address."""
        path = self._request.path
        return {
            "type": "http",
            "http_version": "2",
            "method": "GRPC",
            "path": path.decode("ascii"),
            "raw_path": path.partition(b"?")[0],
            "query_string": b"",
            "headers": self._request.fields,
            "server": self._connection.own,
            "catena.dialect": GRPC,
            "catena.wire": self,
        }

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        """More of the body came."""
        if piece:
            self._pieces.append(piece)
            self._num_unread += len(piece)
        self.has_all = is_last
        self.wake()

    def leave(self) -> None:
        """The peer does not want the answer any more, or is gone."""
        if not self.is_over:
            self.is_over = True
            self.wake()
            if self._when_gone is not None:
                self._when_gone()

    def wake(self) -> None:
        """Let whoever waits look again: the reader and the writer of a call may both be waiting."""
        for looking in self._looking:
            if not looking.done():
                looking.set_result(None)
        self._looking.clear()

    def unread(self) -> int:
        """Bytes that came and that nobody will read: the connection has room for them again."""
        self._pieces.clear()
        count, self._num_unread = self._num_unread, 0
        return count

    async def receive(self) -> Message:
        """ASGI's: the next piece of the body; after the last, when the peer has gone."""
        while True:
            if self.is_over:
                return {"type": "http.disconnect"}
            if self._pieces or (self.has_all and not self._is_told_end):
                break
            await self._look()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._num_unread = 0
        self._is_told_end = self.has_all
        self._taken(len(piece))
        return {"type": "http.request", "body": piece, "more_body": not self.has_all}

    async def send(self, message: Message) -> None:
        """ASGI's: the head waits for the first piece of the body, so that a short answer is one write."""
        if self.is_over:
            return
        if message["type"] == "http.response.start":
            self._told = [pair for pair in message["headers"] if pair[0] in TOLD]
            return
        data, trailers = _split(message["body"])
        if not message.get("more_body", False):
            await self._write(data, block([*(trailers or _BROKEN), *self._told]))
        elif data:
            await self._write(data, None)

    async def _write(self, data: memoryview, trailers: bytes | None) -> None:
        """Write messages, and after the last of them the trailers."""
        connection, stream = self._connection, self.stream
        pieces: list[bytes | memoryview] = []
        if not self._is_begun:
            self._is_begun = True
            if data:
                pieces.append(frame(HEADERS, END_HEADERS, stream, _HEAD))
            else:
                trailers = _HEAD + (trailers or b"")
        while data:
            count = min(len(data), self.window, connection.window, connection.max_frame)
            if count <= 0:
                connection.write(pieces)
                pieces = []
                if not await self._room():
                    return
                continue
            self.window -= count
            connection.window -= count
            pieces += (head(DATA, 0, stream, count), data[:count])
            data = data[count:]
        if trailers is not None:
            self.is_over = True
            pieces.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))
            if not self.has_all:
                pieces.append(reset(stream, NO_ERROR))
        connection.write(pieces)
        if trailers is None and connection.is_full:
            await self._room()

    async def _room(self) -> bool:
        """Wait until the peer takes more; False, and the call is over, if it does not in time."""
        connection = self._connection
        connection.waiting.add(self)
        try:
            async with asyncio.timeout(connection.settings.body_timeout_s):
                while not self.is_over and (connection.is_full or self.window <= 0 or connection.window <= 0):
                    await self._look()
        except TimeoutError:
            connection.write([reset(self.stream, CANCEL)])
            self.leave()
        finally:
            connection.waiting.discard(self)
        return not self.is_over

    async def _look(self) -> None:
        looking = asyncio.get_running_loop().create_future()
        self._looking.append(looking)
        await looking

    def _taken(self, num_bytes: int) -> None:
        """Give the peer room again for what was read, half a window at a time."""
        self._num_taken += num_bytes
        if not self.has_all and self._num_taken >= WINDOW_BYTES // 2:
            self.allowance += self._num_taken
            self._connection.write([window_update(self.stream, self._num_taken)])
            self._num_taken = 0
        self._connection.take(num_bytes)


def _split(body: bytes) -> tuple[memoryview, list[tuple[bytes, bytes]] | None]:
    """The messages of a piece, which holds whole frames, and the trailers if they are in it."""
    view, start = memoryview(body), 0
    while start < len(body):
        end = start + 5 + int.from_bytes(view[start + 1 : start + 5], "big")
        if body[start] & TRAILERS:
            lines = bytes(view[start + 5 : end]).split(b"\r\n")
            return view[:start], [(name, value) for name, _, value in (line.partition(b":") for line in lines) if name]
        start = end
    return view, None
