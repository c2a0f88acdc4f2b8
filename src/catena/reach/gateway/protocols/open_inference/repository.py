"""POST /v2/repository: which models there are, and bringing them into memory and out of it.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from catena.core.errors import MissingExtraError
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.open_inference import fields
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, found
from catena.reach.gateway.services import Sessions
from catena.reach.gateway.wire import check_fields, convert, decode
from catena.reach.ticket import Caller

ON_DEMAND = "not in memory: the first request loads it"


class IndexWire(Struct, frozen=True, forbid_unknown_fields=True):
    ready: bool = False


class LoadWire(Struct, frozen=True, forbid_unknown_fields=True):
    parameters: dict[str, Any] = {}


async def index(exchange: Exchange) -> None:
    """POST index: every model; READY are those in memory. `ready`: only those."""
    wire = convert(await _body(exchange), IndexWire)
    await answer_json(exchange, index_form(exchange, is_ready_only=wire.ready))


def index_form(exchange: Exchange, *, is_ready_only: bool) -> list[dict[str, str]]:
    """Name, version, state and reason of every model."""
    sessions = exchange.services.sessions
    loaded = {one.digest for one in sessions.loaded()} if sessions else set[str]()
    rows: list[dict[str, str]] = []
    for row in exchange.services.models():
        is_ready = row.digest in loaded
        if is_ready or not is_ready_only:
            state, reason = ("READY", "") if is_ready else ("UNAVAILABLE", ON_DEMAND)
            rows.append({"name": row.name, "version": VERSION, "state": state, "reason": reason})
    return rows


async def load(exchange: Exchange) -> None:
    """POST models/{model}/load: answered once the model is in memory."""
    await _check(exchange)
    await bring_in(exchange)
    await answer_json(exchange, {})


async def bring_in(exchange: Exchange) -> None:
    """Have the model of this address in memory."""
    row, sessions = found(exchange), _sessions(exchange)
    await sessions.load(row.name, Caller(exchange.caller.key, "open_inference.load"))


async def unload(exchange: Exchange) -> None:
    """POST models/{model}/unload: out of memory, now or once its last request has ended."""
    await _check(exchange)
    take_out(exchange)
    await answer_json(exchange, {})


def take_out(exchange: Exchange) -> None:
    """Have the model of this address out of memory, once its last request has ended."""
    row = found(exchange)
    _sessions(exchange).keep(row.digest, 0.0)


async def _check(exchange: Exchange) -> None:
    wire = convert(await _body(exchange), LoadWire)
    check_fields(wire.parameters, fields.LOAD_PARAMETERS, exchange.warnings)


async def _body(exchange: Exchange) -> dict[str, Any]:
    """The JSON object that was sent; the official client sends none at all for an empty one."""
    body = await exchange.body()
    return decode(body, exchange.services.settings.max_json_depth) if body.strip() else {}


def _sessions(exchange: Exchange) -> Sessions:
    if exchange.services.sessions is None:
        raise MissingExtraError("the scheduler", "local")
    return exchange.services.sessions
