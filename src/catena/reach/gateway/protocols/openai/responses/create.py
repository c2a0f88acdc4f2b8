"""POST /v1/responses: the next response, at once, as a stream, or in the background."""

from __future__ import annotations

import anyio

from catena.core.errors import CancelledError, CatenaError, InputError, UnsupportedError
from catena.core.messages import ChatRequest, Event
from catena.reach.gateway import answering
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import describe
from catena.reach.gateway.protocols.openai.responses import asking, course, fields
from catena.reach.gateway.protocols.openai.responses.course import Asked
from catena.reach.gateway.protocols.openai.responses.form import CUT, Answering, ResponseRenderer, encode
from catena.reach.gateway.protocols.openai.responses.history import history, resolved
from catena.reach.gateway.protocols.openai.responses.items import read
from catena.reach.gateway.protocols.openai.responses.keeping import kept, shelf
from catena.reach.gateway.wire import check_fields, convert, read_json

# How long a stream that was cut may take to have its response kept.
KEEPING_S = 5.0


async def create(exchange: Exchange) -> None:
    """Answer POST /v1/responses."""
    body = await read_json(exchange)
    check_fields(body, fields.CREATE, exchange.warnings)
    wire = convert(body, asking.ResponseWire)
    exchange.enter("openai.responses")
    request, asked = await _asked(exchange, wire)
    if wire.background and (archive := shelf(exchange)) is not None:
        await course.begin(exchange, request, asked, archive, streams=bool(wire.stream))
    elif wire.stream:
        await _stream(exchange, request, asked)
    else:
        await _whole(exchange, request, asked)


async def compact(exchange: Exchange) -> None:
    """Refuse POST /v1/responses/compact."""
    raise UnsupportedError(
        "conversations are never shortened here", hint="begin another with what matters of this one, in your own words"
    )


async def _asked(exchange: Exchange, wire: asking.ResponseWire) -> tuple[ChatRequest, Asked]:
    """What is asked, and what is to be kept and repeated of it. Raises InputError and its kind."""
    asking.check(wire, exchange.warnings)
    parts = asking.parts(wire, exchange.warnings)
    stores = wire.store is not False and shelf(exchange) is not None
    if wire.store and not stores:
        exchange.warnings.append("store ignored: this gateway keeps no answers")
    if wire.background and not stores:
        raise InputError("background needs store, and a gateway that keeps answers", param="background")
    if wire.input is None:
        raise InputError("input is missing", param="input")
    items = read(wire.input)
    earlier = await history(exchange, wire.previous_response_id)
    items = await resolved(exchange, items, earlier)
    request = asking.to_request(wire, parts, [*earlier, *items], len(earlier))
    summarises = bool(parts.reasoning.summary or parts.reasoning.generate_summary)
    return request, Asked(items, asking.echo(wire, parts, stores=stores), summarises)


async def _whole(exchange: Exchange, request: ChatRequest, asked: Asked) -> None:
    events: list[Event] = []
    accepted, _ = await answering.whole(exchange, request, events.append)
    response = Answering(accepted, asked.echo, summarises=asked.summarises)
    for event in events:
        response.growth.add(event)
    response.complete()
    await _keep(exchange, response, asked)
    await exchange.answer(200, encode(response.form()))


async def _stream(exchange: Exchange, request: ChatRequest, asked: Asked) -> None:
    """A stream whose response is kept before its last event is sent, and also when it is cut."""
    renderer = ResponseRenderer(asked.echo, summarises=asked.summarises)
    exchange.last_words = renderer.last_words
    is_kept = False

    async def settle() -> None:
        nonlocal is_kept
        assert renderer.answering is not None
        renderer.answering.complete()
        is_kept = True
        await _keep(exchange, renderer.answering, asked)

    try:
        await answering.stream(exchange, request, renderer, settle)
    except BaseException as error:
        if renderer.answering is not None and not is_kept:
            if isinstance(error, CancelledError) and exchange.is_gone:
                renderer.answering.cancel()
            else:
                renderer.answering.fail(describe(error) if isinstance(error, CatenaError) else CUT)
            with anyio.move_on_after(KEEPING_S, shield=True):
                await _keep(exchange, renderer.answering, asked)
        raise


async def _keep(exchange: Exchange, response: Answering, asked: Asked) -> None:
    archive = shelf(exchange)
    if asked.echo["store"] and archive is not None:
        await archive.put(kept(response, exchange.caller.key, asked.items))
