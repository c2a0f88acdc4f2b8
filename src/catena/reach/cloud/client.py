"""The only place that speaks to remote ends: one bounded HTTP exchange, never redirected, never silently repeated.

Knows no dialect. pyreqwest does the speaking; docs/decisions says why, and what it cannot do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from msgspec import Struct
from pyreqwest import exceptions
from pyreqwest.client import Client as HttpClient
from pyreqwest.client import ClientBuilder
from pyreqwest.proxy import ProxyBuilder

from catena.core.errors import CatenaError, ExpiredError, NetworkError, TooLargeError
from catena.core.settings import ProviderSettings
from catena.run.dialects.dialect import Outgoing

AGENT = "catena"
POOL_IDLE = timedelta(seconds=60)
CLOSING_TIME_S = 5.0
# The library's words for a connection that was there and broke before an answer came (in contrast to `Connect`).
BROKE_UNANSWERED = "(SendRequest)"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
T = TypeVar("T")


class Answer(Struct):
    """The head of an answer; names of `headers` are in lower case. `pieces` are to be read once."""

    status: int
    headers: dict[str, str]
    pieces: AsyncGenerator[bytes]

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises TooLargeError above `limit` bytes, and what reading `pieces` raises."""
        found: list[bytes] = []
        num_bytes = 0
        async with aclosing(self.pieces) as pieces:
            async for piece in pieces:
                num_bytes += len(piece)
                if num_bytes > limit:
                    raise TooLargeError(f"the provider's answer is larger than {limit} bytes", hint="ask for less")
                found.append(piece)
        return b"".join(found)


class Client:
    """Speaks to one remote end. Connections are kept for the next request; `close` ends them."""

    def __init__(self, name: str, base_url: str, settings: ProviderSettings, authorities: bytes = b"") -> None:
        self._name = name
        self._base_url = base_url
        self._settings = settings
        self._authorities = authorities
        self._http: HttpClient | None = None
        self._num_idle = 0  # connections that may wait in the pool: never fewer than do

    @asynccontextmanager
    async def ask(
        self, outgoing: Outgoing, headers: dict[str, str], leaving: Callable[[bytes], object]
    ) -> AsyncGenerator[Answer]:
        """Send `outgoing` and give the answer's head, its body to be read inside the block.

        `leaving` gets the bytes right before they leave. It is sent once more only where a kept connection broke before
        the first byte of an answer. Leaving the block early closes the connection. Raises NetworkError, ExpiredError.
        """
        is_kept = self._num_idle > 0
        self._num_idle = max(0, self._num_idle - 1)
        leaving(outgoing.body)
        try:
            request, response = await self._head(outgoing, headers)
        except _BrokeUnansweredError as error:
            if not is_kept:
                raise self._broke() from error
            self._num_idle = 0
            try:
                request, response = await self._head(outgoing, headers)
            except _BrokeUnansweredError as again:
                raise self._broke() from again
        try:
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status, found, self._pieces(response))
        finally:
            with anyio.move_on_after(CLOSING_TIME_S, shield=True):
                await request.__aexit__(None, None, None)

    async def close(self) -> None:
        """End every connection."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _head(self, outgoing: Outgoing, headers: dict[str, str]) -> tuple[Any, Any]:
        builder = self._opened().request(outgoing.method, self._base_url + outgoing.path)
        for name, value in outgoing.headers.items():
            builder = builder.header(name, value)
        for name, value in headers.items():
            builder = builder.header(name, value, is_sensitive=True)
        if outgoing.body:
            builder = builder.body_bytes(outgoing.body)
        # Without the limit of 0 the library gathers 64 KiB of a stream before it gives any.
        request = builder.streamed_read_buffer_limit(0).build_streamed()
        limit_s = self._settings.first_byte_timeout_s
        try:
            with anyio.fail_after(limit_s):
                return request, await _passing(request.__aenter__())
        except exceptions.ConnectTimeoutError:
            raise ExpiredError(f"provider {self._name!r} could not be connected to in time") from None
        except exceptions.PyreqwestError as error:
            if any(BROKE_UNANSWERED in cause["message"] for cause in _causes(error)):
                raise _BrokeUnansweredError from None
            raise NetworkError(
                f"provider {self._name!r} cannot be reached", hint="check its base_url and the network"
            ) from None
        except TimeoutError:
            raise ExpiredError(f"provider {self._name!r} gave no first byte within {limit_s:g} s") from None

    async def _pieces(self, response: Any) -> AsyncGenerator[bytes]:
        limit_s, left = self._settings.idle_timeout_s, self._settings.max_answer_bytes
        try:
            while True:
                with anyio.fail_after(limit_s):
                    piece = await _passing(response.body_reader.read_chunk())
                if piece is None:
                    break
                left -= len(piece)
                if left < 0:
                    limit = self._settings.max_answer_bytes
                    raise TooLargeError(f"the provider's answer is larger than {limit} bytes", hint="ask for less")
                yield bytes(piece)
        except exceptions.PyreqwestError:
            raise NetworkError(f"provider {self._name!r} broke off in the middle of its answer") from None
        except TimeoutError:
            raise ExpiredError(f"provider {self._name!r} fell silent for {limit_s:g} s") from None
        self._num_idle += 1

    def _opened(self) -> HttpClient:
        """The library's client, made when first needed: nothing is opened for a provider that nobody asks."""
        if self._http is None:
            settings = self._settings
            # An abandoned wait for a head ends with the read timeout at the latest: the library does not end it itself.
            silence_s = max(settings.first_byte_timeout_s, settings.idle_timeout_s) + 1
            builder = ClientBuilder().user_agent(AGENT).http1_only().follow_redirects(False).referer(False).no_proxy()
            builder = builder.gzip(False).brotli(False).zstd(False).deflate(False)
            builder = builder.connect_timeout(timedelta(seconds=settings.connect_timeout_s))
            builder = builder.read_timeout(timedelta(seconds=silence_s)).pool_idle_timeout(POOL_IDLE)
            if settings.proxy:
                builder = builder.proxy(ProxyBuilder.https(settings.proxy))
            for certificate in _CERTIFICATE.findall(self._authorities):
                builder = builder.add_root_certificate_pem(certificate)
            self._http = builder.build()
        return self._http

    def _broke(self) -> CatenaError:
        return NetworkError(f"provider {self._name!r} closed the connection without an answer", hint="ask again")


class _BrokeUnansweredError(Exception):
    """A connection was there, the request was on its way, and no byte of an answer came."""


async def _passing(work: Awaitable[T]) -> T:
    """What `work` gives. The library raises a cancellation of its own making, which anyio would not know as its own."""
    try:
        return await work
    except asyncio.CancelledError:
        await anyio.lowlevel.checkpoint()
        raise


def _causes(error: exceptions.PyreqwestError) -> list[Any]:
    details: Any = getattr(error, "details", None) or {}
    return details.get("causes") or []
