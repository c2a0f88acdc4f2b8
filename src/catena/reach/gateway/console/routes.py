"""The console's rows in the gateway's routing table; none of them needs a key, because none of them tells anything."""

from __future__ import annotations

from catena.reach.gateway.console import Console
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.routing import Dialect, Route

PATTERNS = ("/", "/receipts", "/receipts/{receipt}", "/machine", "/console/{name*}")


def routes(dialect: Dialect) -> tuple[Route, ...]:
    """The page and its files; `dialect` writes the errors."""
    console = Console.open()

    async def handle(exchange: Exchange) -> None:
        found = console.find(exchange.raw_path, exchange.headers.get("if-none-match"))
        if found is None:
            raise HttpError(404, "the console has no such file", code="route_not_found")
        content_type = dict(found.headers).get("content-type", "")
        await exchange.answer(found.status, found.body, content_type, found.headers)

    return tuple(Route("GET", pattern, handle, None, dialect) for pattern in PATTERNS)
