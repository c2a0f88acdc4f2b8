"""The messages of a call: each with its length before it, one or many in a body; deadlines; the answer.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from catena.core.errors import ExpiredError, InputError
from catena.reach.gateway.answering import unless_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.grpc.status import CONTENT_TYPE, GOOD_END

PREFIX_BYTES = 5
TIMEOUT = "grpc-timeout"
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
Pieces = Sequence[bytes | memoryview]
Work = Callable[[Exchange, bytes], Coroutine[Any, Any, Pieces]]
Handle = Callable[[Exchange], Coroutine[Any, Any, None]]


def unary(
    work: Callable[[Exchange, bytes], Coroutine[Any, Any, Pieces]],
) -> Callable[[Exchange], Coroutine[Any, Any, None]]:
    """A handler for calls of one message and one answer: ends at the caller's deadline, or when the caller leaves."""

    async def handle(exchange: Exchange) -> None:
        limit_s = deadline_s(exchange)
        pieces: Pieces = ()
        if limit_s is None:
            pieces = await unless_gone(exchange, work(exchange, await one(exchange)))
        else:
            with anyio.move_on_after(limit_s) as limit:
                pieces = await unless_gone(exchange, work(exchange, await one(exchange)))
            if limit.cancelled_caught:
                raise late()
        await exchange.answer(200, framed(pieces, GOOD_END), CONTENT_TYPE)

    return handle


async def one(exchange: Exchange) -> bytes:
    """The only message of a call. Raises InputError if there is none or another, and what `Exchange.body` raises."""
    body = await exchange.body()
    if len(body) < PREFIX_BYTES or PREFIX_BYTES + _length(body) > len(body):
        raise InputError("the call holds no whole message")
    if PREFIX_BYTES + _length(body) < len(body):
        raise InputError("the call holds more than one message")
    return body[PREFIX_BYTES:]


class Messages:
    """The messages of a call that has many, as they come. `max_bytes` bounds each."""

    def __init__(self, exchange: Exchange, max_bytes: int) -> None:
        self._exchange = exchange
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._is_ended = False

    async def next(self) -> bytes | None:
        """The next message, None after the last. Raises InputError, and CancelledError when the caller left."""
        rest = self._rest
        while len(rest) < PREFIX_BYTES or len(rest) < PREFIX_BYTES + self._checked():
            if self._is_ended:
                if rest:
                    raise InputError("the call ends within a message")
                return None
            piece = await self._exchange.piece()
            if piece is None:
                self._is_ended = True
            else:
                rest += piece
        end = PREFIX_BYTES + _length(rest)
        message = bytes(memoryview(rest)[PREFIX_BYTES:end])
        del rest[:end]
        return message

    def _checked(self) -> int:
        length = _length(self._rest)
        if length > self._max_bytes:
            raise HttpError(413, f"a message is larger than {self._max_bytes} bytes", code="body_too_large")
        return length


def framed(pieces: Pieces, ending: bytes = b"") -> bytes:
    """One message made of `pieces`, with its length before it, and perhaps the end of the answer after it."""
    length = sum(map(len, pieces))
    return b"".join([b"\0", length.to_bytes(4, "big"), *pieces, ending])


def deadline_s(exchange: Exchange) -> float | None:
    """How long the caller waits, None if it does not say. Raises InputError."""
    text = exchange.headers.get(TIMEOUT)
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise InputError("grpc-timeout is not a time", param=TIMEOUT)
    return int(found[1]) * _UNITS_S[found[2]]


def late() -> ExpiredError:
    """What a caller is told whose deadline has passed."""
    return ExpiredError("the deadline of the call has passed", hint="allow more time")


def _length(body: bytes | bytearray) -> int:
    if body[0]:
        raise HttpError(
            415, "compressed messages are not read", code="unsupported_encoding", hint="send them as they are"
        )
    return int.from_bytes(body[1:PREFIX_BYTES], "big")
