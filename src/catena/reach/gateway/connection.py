"""One HTTP/1.1 connection: uvicorn's httptools protocol, with limits on its head, its time, and its number."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from typing import Any, cast

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from catena.core.settings import ReachSettings

_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
# The application answers a late body itself; this much later the connection is closed in any case.
GRACE_S = 1.0
# Requests that may wait on one connection for the answers before them.
MAX_PIPELINED = 64


class Limits(ServerState):
    """What all connections share: uvicorn's state and our limits."""

    def __init__(self, settings: ReachSettings) -> None:
        super().__init__()
        self.settings = settings
        self.is_stopping = False
        self._lines: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def default_lines(self) -> bytes:
        """`default_headers` as lines, put together anew when they were replaced."""
        headers, lines = self._lines
        if headers is not self.default_headers:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in self.default_headers])
            self._lines = (self.default_headers, lines)
        return lines


class Wire:
    """What one request may do with its connection beyond ASGI, where a small answer would cost more than its work."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    @property
    def has_body(self) -> bool:
        """Whether the whole body is here, so that nobody need wait for it."""
        return not self._cycle.more_body

    @property
    def is_free(self) -> bool:
        """Whether an answer can be written now, at once and whole."""
        return not (self._connection.flow.write_paused or self._cycle.response_started)

    def answer(self, status: int, head: bytes, body: bytes, *, is_last: bool) -> None:
        """Write a whole answer with one call; `head` holds header lines, that of the length among them.

        With `is_last` the connection ends with this answer.
        """
        cycle, connection = self._cycle, self._connection
        if cycle.disconnected:
            return
        cycle.keep_alive = cycle.keep_alive and not is_last
        cycle.response_started = cycle.response_complete = True
        ending = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        connection.transport.write(
            b"".join((STATUS_LINE[status], connection.limits.default_lines(), head, ending, body))
        )
        cycle.message_event.set()
        if not cycle.keep_alive:
            connection.transport.close()
        cycle.on_response()

    def when_gone(self, leave: Callable[[], None] | None) -> None:
        """Have `leave` called, once, when the peer has gone; None: no longer."""
        if leave is not None and self._cycle.disconnected:
            leave()
        else:
            self._connection.leave = leave


class Connection(HttpToolsProtocol):
    """Refuses what is not HTTP, too large a head, a head or body that takes too long, and one connection too many."""

    transport: asyncio.Transport

    def __init__(self, config: Config, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, limits, {}, loop)
        self.limits = limits
        self._timer: TimerHandle | None = None
        self._unread: TimerHandle | None = None  # while the peer leaves what we wrote
        self._in_head = True
        self._packet_bytes = 0  # of the head so far, by packets: httptools holds an unfinished header back
        self._field_bytes = 0  # of the head, by its fields: a packet may hold more than the head
        self._upgrades = False
        self._is_odd = False  # framed in a way that another reader might understand otherwise
        self._ignored_bytes = 0  # of a body that came after its answer
        self.leave: Callable[[], None] | None = None  # called when the peer has gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        if len(self.connections) > self.limits.settings.max_connections:
            self._refuse(503, "too_many_connections", "too many connections", b"retry-after: 1\r\n")
        else:
            self._arm(self.limits.settings.header_timeout_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._be_patient()
        super().connection_lost(exc)
        if self.leave is not None:
            self.leave()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        limit = self.limits.settings.max_header_bytes
        if self._in_head:
            self._packet_bytes += len(data)
            if self._timer is None:
                self._arm(self.limits.settings.header_timeout_s, self._head_is_late)
        super().data_received(data)
        if self._in_head and self._packet_bytes > limit:
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._field_bytes = 0
        self._upgrades = self._is_odd = False

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._field_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value) + 4
        match name.lower():
            case b"upgrade":  # after an offer to upgrade, the parser stops: such a connection cannot be kept
                self._upgrades = True
            case b"transfer-encoding":
                self._is_odd = self._is_odd or value.strip().lower() != b"chunked"
            case _:
                pass

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        self._disarm()
        self._in_head = False
        self._packet_bytes = self._ignored_bytes = 0
        if self._field_bytes > self.limits.settings.max_header_bytes:
            self._refuse_head()
        elif self._is_odd or not self.url.startswith(b"/") or not self._has_known_version():
            self.send_400_response("")
        elif len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
        else:
            super().on_headers_complete()
            if self.limits.is_stopping or self._upgrades:
                self.cycle.keep_alive = False
            self.scope["catena.wire"] = Wire(self, self.cycle)  # type: ignore[typeddict-unknown-key]
            self._arm(self.limits.settings.body_timeout_s + GRACE_S, self._body_is_late)

    def on_body(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self._ignored_bytes += len(body)
            if self._ignored_bytes > self.limits.settings.max_body_bytes:
                self.transport.abort()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._disarm()
        if not self.transport.is_closing():
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The peer has stopped reading: whoever writes waits, and after a while the connection is cut."""
        super().pause_writing()
        self._be_impatient()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._be_patient()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._be_impatient()
        elif self.pipeline:
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP, in our form."""
        self._refuse(400, "bad_http", "this is not valid HTTP")

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose peer does not even read its answer is cut."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _has_known_version(self) -> bool:
        """HTTP/1.1, or 1.0 without a transfer coding, which that version does not know (RFC 9112, 6.1)."""
        version = self.parser.get_http_version() if self.parser else ""
        is_coded = any(name == b"transfer-encoding" for name, _ in self.headers)
        return version == "1.1" or (version == "1.0" and not is_coded)

    def _head_is_late(self) -> None:
        self._timer = None
        if self._packet_bytes:
            self._refuse(408, "header_timeout", "the head of the request did not arrive in time")
        else:
            self.transport.close()

    def _body_is_late(self) -> None:
        self._timer = None
        self.transport.abort()

    def _refuse_head(self) -> None:
        limit = self.limits.settings.max_header_bytes
        self._refuse(431, "headers_too_large", f"the head of the request is larger than {limit} bytes")

    def _refuse(self, status: int, code: str, message: str, headers: bytes = b"") -> None:
        """Answer and close; where another answer is on its way, only close."""
        if self.transport.is_closing():
            return
        self._disarm()
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if cycle is None or cycle.response_complete or not cycle.response_started:
            error: dict[str, Any] = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
            body = msgspec.json.encode({"error": error})
            head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n" % (status, _REASONS[status])
            ending = b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
            self.transport.write(head + headers + ending)
        self.transport.close()
        self._be_impatient()

    def _arm(self, delay_s: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(delay_s, act)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _be_impatient(self) -> None:
        """Cut the connection unless its peer takes what was written within the time for a body."""
        if self._unread is None:
            self._unread = self.loop.call_later(self.limits.settings.body_timeout_s, self.transport.abort)

    def _be_patient(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
