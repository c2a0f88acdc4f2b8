"""POST /v1/responses/input_tokens: how many tokens a question has, by the template and tokens of the model itself."""

from __future__ import annotations

from catena.core.errors import InputError
from catena.reach.gateway.answering import unless_gone, warn_lost
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai.responses import asking, fields
from catena.reach.gateway.protocols.openai.responses.form import encode
from catena.reach.gateway.protocols.openai.responses.history import history, resolved
from catena.reach.gateway.protocols.openai.responses.items import read
from catena.reach.gateway.wire import check_fields, convert, read_json


async def count(exchange: Exchange) -> None:
    """Answer POST /v1/responses/input_tokens. Recorded like a question: it takes a turn at the model."""
    body = await read_json(exchange)
    check_fields(body, fields.COUNT, exchange.warnings)
    wire = convert(body, asking.AskedWire)
    parts = asking.parts(wire, exchange.warnings)
    if wire.input is None:
        raise InputError("input is missing", param="input")
    exchange.enter("openai.responses.input_tokens")
    earlier = await history(exchange, wire.previous_response_id)
    items = await resolved(exchange, read(wire.input), earlier)
    question = asking.question(wire, parts, [*earlier, *items], len(earlier))
    counted = await unless_gone(exchange, exchange.services.router.count(question, exchange.caller))
    exchange.receipt, exchange.model = counted.receipt, counted.model.name
    warn_lost(exchange, counted.lost)
    await exchange.answer(200, encode({"object": "response.input_tokens", "input_tokens": counted.num_tokens}))
