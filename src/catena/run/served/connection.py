"""One HTTP/1.1 exchange with a server of this machine: bounded, on a connection of its own.

Leaving an exchange closes the connection at once: by that these servers know that an answer is not wanted any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import httptools

from catena.core.errors import NetworkError

LOOPBACK = "127.0.0.1"
CONNECT_S = 5.0
# Longest silence of a server that computes: a long prompt on a slow device.
SILENCE_S = 600.0
MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 256 << 20
_READ_BYTES = 64 << 10


class Broken(NetworkError):
    """Nobody is at the other end, or no longer: the server may have ended."""


class Address(NamedTuple):
    """Where a server listens: a socket in a folder of its owner only, or else a port of the loopback interface."""

    socket: str = ""
    port: int = 0


class Answer:
    """An answer whose head has come; its body is read while it comes."""

    def __init__(self, reader: asyncio.StreamReader, silence_s: float) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._reader = reader
        self._silence_s = silence_s
        self._parser = httptools.HttpResponseParser(self)
        self._arrived: deque[bytes] = deque()
        self._num_head = self._num_body = 0
        self._has_head = self._is_complete = False

    async def piece(self) -> bytes | None:
        """The next piece of the body, None after the last. Raises NetworkError for a body that is cut or too long."""
        while not self._arrived:
            if self._is_complete:
                return None
            await self._read()
        return self._arrived.popleft()

    async def whole(self) -> bytes:
        """The body. Raises NetworkError."""
        pieces: list[bytes] = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def head(self) -> None:
        """Wait for status and headers. Raises NetworkError."""
        while not self._has_head:
            await self._read()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError:
            raise NetworkError(f"the server has been silent for {self._silence_s:.0f} s") from None
        except OSError:
            data = b""
        if not data:
            raise Broken("the server broke the connection off")
        if not self._has_head:
            self._num_head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            raise NetworkError("the server's answer is not HTTP") from None
        if not self._has_head and self._num_head > MAX_HEAD_BYTES:
            raise NetworkError("the head of the server's answer is too long")
        if self._num_body > MAX_BODY_BYTES:
            raise NetworkError("the server's answer is too long")

    # --- httptools --------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._num_body += len(body)
        self._arrived.append(body)

    def on_message_complete(self) -> None:
        self._is_complete = True


@asynccontextmanager
async def exchange(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    silence_s: float = SILENCE_S,
) -> AsyncGenerator[Answer]:
    """Ask, and give the answer once its head has come; leaving closes the connection at once.

    Raises NetworkError for a server that does not answer, or does not speak HTTP.
    """
    reader, writer = await _connected(address)
    try:
        lines = {"host": "localhost", "connection": "close", "content-length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        answer = Answer(reader, silence_s)
        try:
            async with asyncio.timeout(silence_s):
                await writer.drain()
        except (OSError, TimeoutError):
            raise Broken("the server does not read what it is asked") from None
        await answer.head()
        yield answer
    finally:
        writer.transport.abort()


async def _connected(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_S):
            if address.socket:
                return await asyncio.open_unix_connection(address.socket)
            return await asyncio.open_connection(LOOPBACK, address.port)
    except (OSError, TimeoutError):
        raise Broken("the server does not answer") from None
