"""The gate of one connection: holds back every byte that is written to it until exactly these bytes are recorded.

Stands where aiohttp sees the transport. A request is gathered whole and released once; the opening of a tunnel, which
aiohttp writes by itself, is held until its record is durable; anything else ends the connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from catena.core.errors import CatenaError, RefusedError
from catena.reach.cloud.departure import Departure, Way, current

_TUNNEL = b"CONNECT "


class Gate:
    """A transport before `real`, which nothing else writes to."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._held: list[bytes] = []
        self._is_gathering = False
        self._departure: Departure | None = None
        self._opening: asyncio.Task[None] | None = None
        self._certificate: str | None = None
        tls = real.get_extra_info("ssl_object")
        if tls is not None and (der := tls.getpeercert(binary_form=True)):
            self._certificate = "sha256:" + hashlib.sha256(der).hexdigest()
        self._tls: str = (tls.version() or "") if tls is not None else ""
        peer = real.get_extra_info("peername")
        self._address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

    def __getattr__(self, name: str) -> Any:
        """All that is not writing is the transport's own."""
        return getattr(self._real, name)

    def write(self, data: Any) -> None:
        """Hold `data`. Raises RefusedError for what nobody gathers and no tunnel begins with."""
        if self._is_gathering:
            self._held.append(bytes(data))
        elif bytes(data[: len(_TUNNEL)]) == _TUNNEL and self._opening is None:
            self._opening = asyncio.ensure_future(self._open(bytes(data)))
        else:
            self._real.abort()
            raise RefusedError("nothing leaves this machine that was not recorded")

    def writelines(self, lines: Iterable[Any]) -> None:
        """As `write`, piece by piece."""
        self.write(b"".join(lines))

    def write_eof(self) -> None:
        """Half a connection is never closed."""

    def can_write_eof(self) -> bool:
        """Never."""
        return False

    @contextmanager
    def gathering(self) -> Generator[None]:
        """What is written in the block belongs together."""
        self._held, self._is_gathering = [], True
        try:
            yield
        finally:
            self._is_gathering = False

    async def release(self, host: str) -> None:
        """Record what was gathered for `host`, then let it go. Raises what recording raises; then it never goes."""
        wire, self._held = b"".join(self._held), []
        await self._record("request", host, wire)
        if self._real.is_closing():
            raise ConnectionResetError("the connection ended before anything was written")
        self._real.write(wire)

    def returned(self, data: bytes) -> None:
        """Count what came back for whoever wrote last."""
        if self._departure is not None:
            self._departure.returned(data)

    async def _open(self, wire: bytes) -> None:
        try:
            await self._record("tunnel", wire.split(b" ", 2)[1].decode("latin-1"), wire)
        except (CatenaError, asyncio.CancelledError):
            self._real.abort()
            return
        self._real.write(wire)

    async def _record(self, kind: Any, host: str, wire: bytes) -> None:
        departure = current()
        if departure is None:
            raise RefusedError("nothing leaves this machine without an open record")
        self._departure = departure
        way = Way(kind, host, self._address, self._certificate, self._tls, departure.proxy)
        await departure.departing(way, wire)


def gated(transport: Any) -> Gate:
    """The gate that `transport` is. Raises RefusedError for a transport that nothing holds back."""
    if not isinstance(transport, Gate):
        raise RefusedError("this connection has no gate, so nothing may leave by it")
    return transport
