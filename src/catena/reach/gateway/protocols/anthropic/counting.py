"""POST /v1/messages/count_tokens: how many tokens a prompt has, exactly, without an answer being computed.

Recorded like a question: it takes a turn at the model, and whoever reads the log sees everything that was asked of it.
"""

from __future__ import annotations

from catena.core.messages import Sampling
from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.native import answer_json
from catena.reach.gateway.protocols.anthropic import fields, parameters
from catena.reach.gateway.protocols.anthropic.headers import check_headers
from catena.reach.gateway.protocols.anthropic.parameters import PromptWire
from catena.reach.gateway.wire import check_fields, convert, read_json


async def count(exchange: Exchange) -> None:
    """Answer POST /v1/messages/count_tokens; stops when the client leaves."""
    check_headers(exchange)
    body = await read_json(exchange)
    check_fields(body, fields.PROMPT, exchange.warnings)
    wire = convert(body, PromptWire)
    request = parameters.to_request(wire, Sampling(max_tokens=1), exchange.services.salt, exchange.warnings)
    exchange.enter("anthropic.count_tokens")
    async with answering.until_gone(exchange):
        counted = await exchange.services.router.count(request, exchange.caller)
        exchange.receipt, exchange.model = counted.receipt, counted.model.name
        answering.warn_lost(exchange, counted.lost)
        await answer_json(exchange, {"input_tokens": counted.num_tokens})
