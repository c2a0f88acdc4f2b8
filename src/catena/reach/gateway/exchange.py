"""One request and its one answer: headers, body within its limits, sending, and knowing when the client has gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import anyio

from catena.core.errors import CancelledError, InputError
from catena.core.ids import new_id
from catena.core.messages import PUBLIC, Label, Usage
from catena.reach.gateway.failures import Failure, HttpError
from catena.reach.gateway.routing import JSON, Dialect, Route
from catena.reach.gateway.services import Services
from catena.reach.ticket import Caller

if TYPE_CHECKING:
    from catena.reach.gateway.connection import Wire

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[str, str]]

# Sent with everything; a route that serves a page overrides them by name.
ALWAYS: dict[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
MAX_WARNING_CHARS = 1000
MAX_SESSION_CHARS = 200


class Exchange:
    """What a handler gets. `receipt`, `warnings` and `headers_out` go out with whatever answer is sent."""

    def __init__(self, services: Services, scope: Scope, receive: Receive, send: Send) -> None:
        self.services = services
        self.scope = scope
        self.method: str = scope["method"]
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.raw_path = raw_path.decode("latin-1")
        self.headers: dict[str, str] = {}
        self.repeated: set[str] = set()
        for name, value in scope["headers"]:
            key = name.decode("latin-1")
            if key in self.headers:
                self.repeated.add(key)
            self.headers[key] = value.decode("latin-1").strip()
        self.request_id = new_id("req")
        self.route: Route | None = None
        self.params: dict[str, str] = {}
        self.caller = Caller()
        self.scopes: frozenset[str] = frozenset()
        self.receipt: str | None = None
        self.warnings: list[str] = []
        self.headers_out: dict[str, str] = {}
        self.status = 0
        self.is_gone = False
        self.is_finished = False
        self.first_event_s: float | None = None
        self.usage: Usage | None = None
        self.model = ""
        # Says in an open stream what went wrong, where its protocol must know for that what was sent before.
        self.last_words: Callable[[Failure], bytes] | None = None
        self.limit: anyio.CancelScope | None = None  # ends this request; work with a time limit of its own may lift it
        self.wire: Wire | None = scope.get("catena.wire")  # None behind another server than ours
        self._has_all = False  # of a body that is read by `piece`
        self._receive = receive
        self._send = send

    def enter(self, door: str) -> None:
        """The caller asks a model through `door`; its session and label are those of the headers.

        Raises InputError for a label that is none, or for a session of more than MAX_SESSION_CHARS.
        """
        session, label = self.headers.get("catena-session", ""), PUBLIC
        if len(session) > MAX_SESSION_CHARS:
            raise InputError(f"catena-session has at most {MAX_SESSION_CHARS} characters", param="catena-session")
        if "catena-label" in self.headers:
            label = Label.parse(self.headers["catena-label"])
        self.caller = Caller(self.caller.key, door, session=session, label=label)

    @property
    def dialect(self) -> Dialect | None:
        return self.route.dialect if self.route else None

    @property
    def query(self) -> dict[str, str]:
        """The query string, decoded; of a repeated name the last value."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))

    def query_int(self, name: str, default: int, low: int, high: int) -> int:
        """Whole number `name` of the query string. Raises InputError outside `low`..`high`."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
            raise InputError(f"{name} must be a whole number from {low} to {high}", param=name)
        return int(text)

    async def body(self) -> bytes:
        """The whole body. Raises HttpError 413 or 408, CancelledError when the client left before its end."""
        limit = self.services.settings.max_body_bytes
        pieces: list[bytes] = []

        async def keep(piece: bytes) -> None:
            pieces.append(piece)

        await self.read(keep, limit)
        return b"".join(pieces)

    async def read(self, take: Callable[[bytes], Awaitable[None]], limit: int) -> None:
        """Hand every piece of the body to `take`. Raises as `body` does, 413 above `limit` bytes."""
        length = self.headers.get("content-length", "0")
        if "content-length" in self.repeated or not (length.isascii() and length.isdecimal()):
            raise HttpError(400, "the Content-Length header is not one number", headers=CLOSE)
        if int(length) > limit:
            raise _too_large(limit)
        if self.wire is not None and self.wire.has_body:
            await self._take(take, limit)
            return
        try:
            with anyio.fail_after(self.services.settings.body_timeout_s):
                await self._take(take, limit)
        except TimeoutError:
            raise HttpError(
                408,
                f"the body did not arrive within {self.services.settings.body_timeout_s:g} s",
                code="body_timeout",
                headers=CLOSE,
            ) from None

    async def _take(self, take: Callable[[bytes], Awaitable[None]], limit: int) -> None:
        num_bytes, is_last = 0, False
        while not is_last:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                raise CancelledError("the client left before its request was complete")
            piece: bytes = message.get("body", b"")
            num_bytes += len(piece)
            if num_bytes > limit:
                raise _too_large(limit)
            await take(piece)
            is_last = not message.get("more_body", False)

    async def piece(self) -> bytes | None:
        """The next piece of a body that is read while it is answered, None after the last; waits as long as it takes.

        Raises CancelledError when the client left.
        """
        if self._has_all:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_gone = True
            raise CancelledError("the client went away")
        self._has_all = not message.get("more_body", False)
        return message.get("body", b"")

    async def gone(self) -> None:
        """Return when the client has gone. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True

    async def answer(self, status: int, body: bytes, content_type: str = JSON, headers: Headers = ()) -> None:
        """Send a whole answer."""
        out = self._head(status, content_type if body else "", headers)
        if status not in (204, 304):
            out["content-length"] = str(len(body))
        self.is_finished = True
        if self.method == "HEAD":
            body = b""
        if self.wire is not None and self.wire.is_free:
            is_last = out.pop("connection", "") == "close"
            self.wire.answer(status, _lines(out), body, is_last=is_last)
        else:
            await self._start(status, out)
            await self._send({"type": "http.response.body", "body": body})

    async def open_stream(self, content_type: str, headers: Headers = (), *, status: int = 200) -> None:
        """Send the head of an answer that comes piece by piece."""
        await self._start(status, self._head(status, content_type, headers))

    async def write(self, piece: bytes) -> None:
        """Send a piece of an open stream; waits while the client does not read (the connection bounds how long)."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self, piece: bytes = b"") -> None:
        """Send the last piece of an open stream and end it."""
        self.is_finished = True
        await self._send({"type": "http.response.body", "body": piece})

    async def fail(self, failure: Failure, dialect: Dialect) -> None:
        """Say what went wrong: as an answer, or as the last event of a stream that has begun."""
        if self.is_finished or self.is_gone:
            return
        if self.status:
            await self.finish((self.last_words or dialect.event)(failure))
        else:
            headers = (*failure.headers, (dialect.id_header, self.request_id))
            await self.answer(failure.status, dialect.body(failure), dialect.content_type, headers)

    def _head(self, status: int, content_type: str, headers: Headers) -> dict[str, str]:
        """The headers of the answer; from here on it has begun."""
        dialect = self.dialect
        out = dict(ALWAYS) if dialect is None or dialect.is_for_pages else {}
        if content_type:
            out["content-type"] = content_type
        out["x-request-id"] = self.request_id
        if dialect is not None:
            out[dialect.id_header] = self.request_id
        if self.receipt:
            out["catena-receipt"] = self.receipt
        if self.warnings:
            out["catena-warning"] = header_text("; ".join(self.warnings))[:MAX_WARNING_CHARS]
        out |= self.headers_out
        out |= headers
        self.status = status
        return out

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


CLOSE: tuple[tuple[str, str], ...] = (("connection", "close"),)


def header_text(text: str) -> str:
    """`text` with everything that may not stand in a header value replaced by `?`."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _lines(headers: dict[str, str]) -> bytes:
    """`headers` as they are written. Raises ValueError for one that would end its line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not text.count("\n") == text.count("\r") == len(headers):
        raise ValueError("a header holds a line break")
    return text.encode("latin-1")


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes", code="body_too_large", headers=CLOSE)
