"""POST /v1/messages: the next turn of a conversation, at once or as a stream."""

from __future__ import annotations

from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.anthropic import fields, parameters
from catena.reach.gateway.protocols.anthropic.form import Manner, MessageRenderer, message
from catena.reach.gateway.protocols.anthropic.growing import Answer
from catena.reach.gateway.protocols.anthropic.headers import check_headers
from catena.reach.gateway.protocols.anthropic.parameters import MessageWire
from catena.reach.gateway.wire import check_fields, convert, read_json


async def create(exchange: Exchange) -> None:
    """Answer POST /v1/messages."""
    check_headers(exchange)
    body = await read_json(exchange)
    check_fields(body, fields.MESSAGE, exchange.warnings)
    wire = convert(body, MessageWire)
    salt = exchange.services.salt
    request = parameters.to_request(wire, parameters.sampling(wire), salt, exchange.warnings)
    exchange.enter("anthropic.messages")
    wish = parameters.thinking(wire)
    manner = Manner(wire.max_tokens, wish is not None and wish.display == "omitted", salt)
    if wire.stream:
        await answering.stream(exchange, request, MessageRenderer(manner))
        return
    answer = Answer()
    accepted, _ = await answering.whole(exchange, request, answer.add)
    await exchange.answer(200, message(accepted, answer, manner))
