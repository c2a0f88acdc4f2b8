"""/healthz: the process lives. /readyz: it takes requests. /metrics: what it has done, for Prometheus."""

from __future__ import annotations

from catena.core.errors import UnauthenticatedError
from catena.reach.access import is_loopback
from catena.reach.gateway import telemetry
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import NATIVE, answer_json
from catena.reach.gateway.routing import Route


async def health(exchange: Exchange) -> None:
    await answer_json(exchange, {"status": "ok"})


async def ready(exchange: Exchange) -> None:
    is_ready = exchange.scope["catena.gateway"].is_ready
    await answer_json(exchange, {"status": "ready" if is_ready else "stopping"}, 200 if is_ready else 503)


async def metrics(exchange: Exchange) -> None:
    """Free on loopback; beyond it a key with the scope `metrics`."""
    if not is_loopback(exchange.services.settings.host) and "metrics" not in exchange.scopes:
        raise UnauthenticatedError("metrics need a key here", hint="catena keys add NAME --scope metrics")
    await exchange.answer(200, telemetry.exposition(), "text/plain; version=0.0.4; charset=utf-8")


routes = (
    Route("GET", "/healthz", health, None, NATIVE),
    Route("GET", "/readyz", ready, None, NATIVE),
    Route("GET", "/metrics", metrics, None, NATIVE),
)
