"""POST /api/generate: a prompt answered by way of the chat template, or continued as it is."""

from __future__ import annotations

from catena.core.errors import InputError
from catena.core.messages import ChatRequest, CompletionRequest, GenerateRequest, Message, Text
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.ollama import asking, fields, options
from catena.reach.gateway.protocols.ollama.asking import Common
from catena.reach.gateway.protocols.ollama.forms import generate_wording
from catena.reach.gateway.protocols.ollama.reading import images, read, stored_name, think


class GenerateWire(Common, frozen=True, kw_only=True):
    """The body. What is not here is not honoured; `fields.GENERATE` says what becomes of it."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None


async def generate(exchange: Exchange) -> None:
    """Answer POST /api/generate."""
    wire = await read(exchange, fields.GENERATE, GenerateWire)
    exchange.enter("ollama.generate")
    if not wire.prompt and not wire.images and not wire.suffix:
        await asking.load_or_unload(exchange, wire, generate_wording)
        return
    await asking.ask(exchange, wire, to_request(exchange, wire), generate_wording)


def to_request(exchange: Exchange, wire: GenerateWire) -> GenerateRequest:
    """What is asked, in our own words. Raises InputError or UnsupportedError naming the parameter."""
    sampling = options.sampling(asking.prepared(exchange, wire), options.num_logprobs(wire.logprobs, wire.top_logprobs))
    name, output = stored_name(wire.model), options.output(wire.format)
    if wire.raw or wire.suffix:
        _check_raw(wire)
        return CompletionRequest(name, wire.prompt or "", sampling, output, suffix=wire.suffix or "")
    turns: list[Message] = []
    if wire.system:
        turns.append(Message("system", (Text(wire.system),)))
    text = (Text(wire.prompt),) if wire.prompt else ()
    turns.append(Message("user", (*text, *images(wire.images, "images"))))
    return ChatRequest(name, tuple(turns), sampling, output=output, think=think(wire.think, exchange.warnings))


def _check_raw(wire: GenerateWire) -> None:
    what = "raw" if wire.raw else "suffix"
    for name in ("system", "images", "think"):
        if getattr(wire, name):
            raise InputError(f"{what} leaves no place for {name}", param=name, hint="put all of it into the prompt")
