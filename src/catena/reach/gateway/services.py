"""What the gateway needs from the rest of the house, as narrow seams, so that it can be tested without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from catena.core.manifest import Manifest
from catena.core.messages import Closed, EmbedRequest, GenerateRequest, Opened
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.ticket import Caller

if TYPE_CHECKING:
    from catena.reach.router import Answer, EmbeddedAnswer


class Reach(Protocol):
    """The router, as protocols see it."""

    def generate(self, request: GenerateRequest, caller: Caller, /) -> AbstractAsyncContextManager[Answer]: ...

    async def embed(self, request: EmbedRequest, caller: Caller, /) -> EmbeddedAnswer: ...


class Listed(Protocol):
    """One model as a list shows it."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def manifest(self) -> Manifest: ...


Record = tuple[Opened, int, Closed | None, int | None]


class Reader(Protocol):
    """The reading side of the audit log."""

    def checkpoint(self) -> str: ...

    def find(self, receipt: str, /) -> Record: ...

    def recent(self, limit: int, before: str | None = None) -> Sequence[Record]: ...

    def prove(self, receipt: str, salt: bytes | None = None, /) -> Any: ...


class Services(Struct, frozen=True):
    """Everything a handler may use. What is None is not served (501)."""

    router: Reach
    settings: ReachSettings
    access: Access
    models: Callable[[], Sequence[Listed]]
    status: Callable[[], Any] | None = None
    reader: Reader | None = None
    trace: Callable[[str], Any] | None = None
    verifier_key: str | None = None
    salt: Callable[[str], bytes] | None = None
