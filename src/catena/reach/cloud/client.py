"""The only place that speaks to remote ends: one bounded HTTP exchange, never redirected, never silently repeated.

Knows no dialect. aiohttp does the speaking; docs/decisions says why, and what of it is switched off. A connection holds
back all that is written to it until exactly those bytes are recorded.
"""

from __future__ import annotations

import asyncio
import functools
import io
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
from msgspec import Struct

from catena.core.errors import CatenaError, ExpiredError, MissingExtraError, NetworkError, RefusedError, TooLargeError
from catena.core.settings import ProviderSettings
from catena.reach.cloud.departure import Departure, Recorder, current, departing
from catena.reach.cloud.gate import Gate, gated
from catena.reach.cloud.guard import looking_up
from catena.run.dialects.dialect import Outgoing

try:
    import aiohttp
    from aiohttp.abc import ResolveResult
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.http import HttpProcessingError
    from yarl import URL
except ImportError:
    raise MissingExtraError("aiohttp", "cloud") from None

AGENT = "catena"
POOL_IDLE_S = 60.0
# Of an answer's head; with these it is under a megabyte.
MAX_LINE_BYTES = 8 << 10
MAX_HEADERS = 100
# The library warns of larger bodies that are written in one go.
WHOLE_BYTES = 1 << 20
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


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
        self._tls = _trusting(authorities) if base_url.startswith("https:") else True
        self._http: aiohttp.ClientSession | None = None
        proxy = URL(settings.proxy) if settings.proxy else None
        self._proxy = f"{proxy.host}:{proxy.port}" if proxy is not None else ""
        self._ends = {(url.host, url.port) for url in (proxy, URL(base_url)) if url and url.host and url.port}

    @asynccontextmanager
    async def ask(
        self, outgoing: Outgoing, headers: dict[str, str], recorder: Recorder, credentials: tuple[str, ...] = ()
    ) -> AsyncGenerator[Answer]:
        """Send `outgoing` and give the answer's head, its body to be read inside the block.

        `recorder` gets the exact bytes of each attempt, and nothing of it leaves before it has recorded them; what of
        `credentials` is in `headers` is not shown there. It is sent once more only where a kept connection broke before
        the first byte of an answer. Leaving early, or being cancelled at any time, ends the connection at once.
        Raises NetworkError, ExpiredError, and what `recorder` raises.
        """
        departure = Departure(recorder, self._ends, self._proxy, credentials)
        try:
            response = await self._head(outgoing, headers, departure)
        except _BrokenError as error:
            if not error.may_repeat:
                raise self._broke() from error
            try:
                response = await self._head(outgoing, headers, departure)
            except _BrokenError as again:
                raise self._broke() from again
        try:
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status, found, self._pieces(response))
        finally:
            departure.is_over = True
            response.close()

    async def close(self) -> None:
        """End every connection."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _head(self, outgoing: Outgoing, headers: dict[str, str], departure: Departure) -> aiohttp.ClientResponse:
        body = outgoing.body
        url, limit_s = URL(self._base_url + outgoing.path, encoded=True), self._settings.first_byte_timeout_s
        try:
            with anyio.fail_after(limit_s), departing(departure):
                response = await self._opened().request(
                    outgoing.method,
                    url,
                    data=(body if len(body) < WHOLE_BYTES else io.BytesIO(body)) or None,
                    headers={**outgoing.headers, **headers},
                    allow_redirects=False,
                    proxy=self._settings.proxy or None,
                    proxy_headers={"user-agent": AGENT} if self._settings.proxy else None,
                )
        except aiohttp.ConnectionTimeoutError:
            raise ExpiredError(f"provider {self._name!r} could not be connected to in time") from None
        except TimeoutError:
            raise ExpiredError(f"provider {self._name!r} gave no first byte within {limit_s:g} s") from None
        except aiohttp.ClientConnectionResetError:  # found broken before anything was written
            raise _BrokenError(may_repeat=True) from None
        except _BrokenError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, aiohttp.ClientResponseError) and not isinstance(error, aiohttp.ClientHttpProxyError):
                raise NetworkError(f"provider {self._name!r} gave no HTTP answer within its limits") from None
            raise NetworkError(
                f"provider {self._name!r} cannot be reached", hint="check its base_url and the network"
            ) from None
        connection = response.connection
        if connection is not None and connection.protocol is not None and not response.content.is_eof():
            connection.protocol.read_timeout = self._settings.idle_timeout_s
            connection.protocol.start_timeout()
        return response

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        left = self._settings.max_answer_bytes
        try:
            while piece := await response.content.readany():
                left -= len(piece)
                if left < 0:
                    limit = self._settings.max_answer_bytes
                    raise TooLargeError(f"the provider's answer is larger than {limit} bytes", hint="ask for less")
                yield piece
        except aiohttp.SocketTimeoutError:
            limit_s = self._settings.idle_timeout_s
            raise ExpiredError(f"provider {self._name!r} fell silent for {limit_s:g} s") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError):
            raise NetworkError(f"provider {self._name!r} broke off in the middle of its answer") from None

    def _opened(self) -> aiohttp.ClientSession:
        """The library's client, made when first needed: nothing is opened for a provider that nobody asks."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=_Connector(self._tls),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s),
                request_class=_Request,
                headers={"user-agent": AGENT, "accept-encoding": "identity"},
                skip_auto_headers=("content-type",),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
                max_headers=MAX_HEADERS,
            )
        return self._http

    def _broke(self) -> CatenaError:
        return NetworkError(f"provider {self._name!r} closed the connection without an answer", hint="ask again")


class _BrokenError(aiohttp.ClientConnectionError):
    """A connection was there and broke. It may be replaced if it was a kept one and no byte of an answer came.

    The library repeats what is idempotent after errors of its own, whether the connection was a kept one or not.
    """

    def __init__(self, *, may_repeat: bool) -> None:
        super().__init__()
        self.may_repeat = may_repeat


class _Request(aiohttp.ClientRequest):
    """A request whose bytes are gathered whole, recorded, and only then sent."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        """Raises ClientConnectionResetError where the connection ended meanwhile, and what recording raises."""
        if conn.transport is None or conn.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection ended before anything was written")
        gate: Gate = gated(conn.transport)
        with gate.gathering():
            response = await super().send(conn)
            if (writing := self._writer) is not None:
                await asyncio.shield(writing)
        host = self.url.host or ""
        try:
            await gate.release(host if self.url.is_default_port() else f"{host}:{self.url.port}")
        except ConnectionResetError as error:
            raise aiohttp.ClientConnectionResetError(str(error)) from None
        return response


class _Wire(ResponseHandler):
    """One connection. It knows if an earlier request used it and if an answer has begun, and ends without lingering.

    What is written to it passes a gate.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._is_kept = False
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection begins, or TLS within one."""
        self._gate = Gate(transport)
        super().connection_made(self._gate)  # pyright: ignore[reportArgumentType]

    def set_response_params(self, **given: Any) -> None:
        """A request begins."""
        if self._is_answered:
            self._is_kept, self._is_answered = True, False
            if self.should_close:  # something came unasked, and would be taken for the answer
                self._buffer.clear()
                self.abort()
        super().set_response_params(**given)

    def data_received(self, data: bytes) -> None:
        self._is_answered = True
        self._gate.returned(data)
        super().data_received(data)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        if isinstance(exc, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            exc = _BrokenError(may_repeat=self._is_kept and not self._is_answered)
        super().set_exception(exc, exc if exc_cause is None else exc_cause)

    def close(self) -> None:
        """Nothing more is sent: neither what waits to be written nor the farewell of TLS."""
        self.abort()


class _Connector(aiohttp.TCPConnector):
    def __init__(self, tls: ssl.SSLContext | bool) -> None:
        super().__init__(ssl=tls, limit=0, keepalive_timeout=POOL_IDLE_S, resolver=_Resolver())
        self._factory = functools.partial(_Wire, self._loop)


class _Resolver(aiohttp.ThreadedResolver):
    """The system's resolver, for names on the way of the present departure only."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Raises RefusedError for other names."""
        departure = current()
        if departure is None:
            raise RefusedError("nothing is looked up without an open record")
        departure.looked_up(host)
        with looking_up(host):
            found = await super().resolve(host, port, family)
        departure.resolved(host, port, [each["host"] for each in found])
        return found


@functools.cache
def _trusting(authorities: bytes) -> ssl.SSLContext:
    """Checks certificates against the system's authorities and the PEM certificates in `authorities`."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if found := _CERTIFICATE.findall(authorities.decode("ascii", "replace")):
        context.load_verify_locations(cadata="".join(found))
    return context
