"""POST /api/embed and the older /api/embeddings: texts to vectors of length 1."""

from __future__ import annotations

from array import array
from typing import Any

from msgspec import Struct

from catena.core.clock import monotonic_s
from catena.core.errors import InputError
from catena.core.messages import EmbedRequest
from catena.reach.gateway.answering import until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import asking, fields
from catena.reach.gateway.protocols.ollama.forms import encode
from catena.reach.gateway.protocols.ollama.reading import keep_alive, read, stored_name
from catena.reach.router import EmbeddedAnswer

MAX_INPUTS = 2048


class EmbedWire(Struct, frozen=True):
    model: str
    input: str | list[str] | None = None
    dimensions: int | None = None
    keep_alive: float | str | None = None


class EmbeddingsWire(Struct, frozen=True):
    model: str
    prompt: str | None = None
    keep_alive: float | str | None = None


async def embed(exchange: Exchange) -> None:
    """Answer POST /api/embed; without an input the model is loaded."""
    began_s = monotonic_s()
    wire = await read(exchange, fields.EMBED, EmbedWire)
    if wire.dimensions is not None and wire.dimensions < 0:
        raise InputError("dimensions must be at least 1", param="dimensions")
    inputs = [wire.input] if isinstance(wire.input, str) else wire.input or []
    if len(inputs) > MAX_INPUTS:
        raise InputError(f"at most {MAX_INPUTS} inputs", param="input")
    if len(inputs) > 1 and not all(inputs):
        raise InputError("an input must not be empty", param="input")
    texts = tuple(text for text in inputs if text)
    request = EmbedRequest(stored_name(wire.model), texts, wire.dimensions or None)
    answer = await _vectors(exchange, request, wire.model, wire.keep_alive)
    body: dict[str, Any] = {"model": wire.model, "embeddings": [], "total_duration": 0, "load_duration": 0}
    if answer is not None:
        body["embeddings"] = [array("f", vector).tolist() for vector in answer.embedded.vectors]
        body["load_duration"] = round(answer.embedded.timings.loading_s * 1e9)
        body["prompt_eval_count"] = answer.embedded.usage.prompt_tokens
    body["total_duration"] = round((monotonic_s() - began_s) * 1e9)
    await exchange.answer(200, encode(body))


async def embed_one(exchange: Exchange) -> None:
    """Answer POST /api/embeddings; without a prompt the model is loaded."""
    wire = await read(exchange, fields.EMBEDDINGS, EmbeddingsWire)
    request = EmbedRequest(stored_name(wire.model), (wire.prompt,) if wire.prompt else ())
    answer = await _vectors(exchange, request, wire.model, wire.keep_alive)
    vector = array("f", answer.embedded.vectors[0]).tolist() if answer else []
    await exchange.answer(200, encode({"embedding": vector}))


async def _vectors(
    exchange: Exchange, request: EmbedRequest, name: str, hold: float | str | None
) -> EmbeddedAnswer | None:
    """The vectors; None if there was nothing to embed, and the model was only loaded."""
    exchange.enter("ollama.embed")
    hold_s = keep_alive(exchange, hold)
    with asking.known(name):
        if not request.inputs:
            async with until_gone(exchange):
                model = await asking.sessions_of(exchange).load(request.model, exchange.caller)
            asking.hold(exchange, model, hold_s)
            return None
        async with until_gone(exchange):
            answer = await exchange.services.router.embed(request, exchange.caller)
    exchange.receipt, exchange.model, exchange.usage = answer.receipt, answer.model.name, answer.embedded.usage
    asking.hold(exchange, answer.model, hold_s)
    return answer
