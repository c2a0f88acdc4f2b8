"""One call's way out of this machine: every byte is recorded before it leaves, and counted when one comes back.

Knows no network and no dialect. `client` asks it before it opens, looks up or sends anything; `guard` asks it for every
connection of the process. Kept in the task's context, so that nobody else leaves by it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

from msgspec import Struct

from catena.core.errors import RefusedError

MAX_UNRECORDED_BYTES = 64


class Way(Struct, frozen=True):
    """How bytes go: to `host` (with its port, as named), really to `address`, past `proxy`, under `certificate`.

    `certificate` is the SHA-256 of the DER certificate that the other end proved to hold, None without TLS.
    """

    kind: Literal["request", "tunnel"]
    host: str
    address: str
    certificate: str | None
    tls: str
    proxy: str


class Recorder(Protocol):
    """Whose record a departure is written to."""

    async def departing(self, way: Way, wire: bytes, credentials: Iterable[str]) -> None:
        """Record `wire` before it leaves. Raises AuditError or RefusedError: then nothing of it may leave."""
        ...

    def looked_up(self, name: str, /) -> None:
        """The system's resolver is about to be asked for `name`."""
        ...

    def returned(self, data: bytes, /) -> None:
        """Bytes came back."""
        ...


class Unrecorded:
    """For a listing of models that a person asks for on the command line: it carries a key and a dialect's own `body`.

    That is empty, or a few bytes that are the same for everybody.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def departing(self, way: Way, wire: bytes, credentials: Iterable[str]) -> None:
        """Raises RefusedError for anything that could carry content."""
        body = b"" if way.kind == "tunnel" else self._body
        if wire.partition(b"\r\n\r\n")[2] != body or len(body) > MAX_UNRECORDED_BYTES or b"\r\n\r\n" not in wire:
            raise RefusedError("only a request without content leaves this machine without a record")

    def looked_up(self, name: str, /) -> None:
        """Nobody asks."""

    def returned(self, data: bytes, /) -> None:
        """Nobody asks."""


class Departure:
    """Leave to speak to one recipient, `host` at `port`, perhaps past `proxy` until it `is_over`."""

    def __init__(
        self, recorder: Recorder, ends: Iterable[tuple[str, int]], proxy: str, credentials: Iterable[str] = ()
    ) -> None:
        self._recorder = recorder
        self._ends = {(host.lower(), port) for host, port in ends}
        self._resolved: set[tuple[str, int]] = set()
        self.proxy = proxy
        self._credentials = tuple(credentials)
        self.is_over = False

    def may_look_up(self, name: str) -> bool:
        """Whether the way there leads past a host of this name."""
        return not self.is_over and any(name.lower() == host for host, _ in self._ends)

    def may_connect(self, address: str, port: int) -> bool:
        """Whether this address was named, or found by a look-up of this call."""
        return not self.is_over and ((address.lower(), port) in self._ends or (address, port) in self._resolved)

    def looked_up(self, name: str) -> None:
        """Count a look-up that is about to be made. Raises RefusedError for any other name."""
        if not self.may_look_up(name):
            raise RefusedError("nothing is looked up that is not on the way of an open record")
        self._recorder.looked_up(name)

    def resolved(self, name: str, port: int, addresses: Iterable[str]) -> None:
        """What the resolver said of `name`."""
        if self.may_look_up(name):
            self._resolved.update((address, port) for address in addresses)

    async def departing(self, way: Way, wire: bytes) -> None:
        """Record `wire`. Raises AuditError or RefusedError: then nothing of it may leave."""
        if self.is_over:
            raise RefusedError("this call is over, so nothing more may leave")
        await self._recorder.departing(way, wire, self._credentials)

    def returned(self, data: bytes) -> None:
        """Count what came back."""
        self._recorder.returned(data)


_CURRENT: ContextVar[Departure | None] = ContextVar("departure", default=None)


def current() -> Departure | None:
    """The departure that the present task may leave by."""
    return _CURRENT.get()


@contextmanager
def departing(departure: Departure) -> Generator[Departure]:
    """Let what runs in the block leave by `departure`."""
    token = _CURRENT.set(departure)
    try:
        yield departure
    finally:
        _CURRENT.reset(token)


def hidden(wire: bytes, credentials: Iterable[str], stand_in: Callable[[bytes], str]) -> bytes:
    """`wire` with each credential in a line of its head replaced by its `stand_in`; never in its body.

    What follows `proxy-authorization:` is a credential whoever wrote it.
    """
    head, separator, body = wire.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    secrets = [text.encode() for text in credentials if text]
    for number, line in enumerate(lines):
        name, colon, value = line.partition(b":")
        if name.lower() == b"proxy-authorization":
            value = b" " + stand_in(value.strip()).encode()
        for secret in secrets:
            if secret in value:
                value = value.replace(secret, stand_in(secret).encode())
        lines[number] = name + colon + value
    return b"\r\n".join([first, *lines]) + separator + body
