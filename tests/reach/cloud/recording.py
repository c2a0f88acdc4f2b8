"""A recorder of departures that lets everything go and remembers it."""

from __future__ import annotations

from collections.abc import Iterable

from catena.reach.cloud.departure import Way


class Heard:
    """What left, how, and what came back."""

    def __init__(self) -> None:
        self.left: list[tuple[Way, bytes]] = []
        self.names: list[str] = []
        self.back = b""

    async def departing(self, way: Way, wire: bytes, credentials: Iterable[str]) -> None:
        self.left.append((way, wire))

    def looked_up(self, name: str, /) -> None:
        self.names.append(name)

    def returned(self, data: bytes, /) -> None:
        self.back += data
