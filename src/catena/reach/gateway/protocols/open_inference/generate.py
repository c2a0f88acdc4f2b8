"""POST generate and generate_stream: models that generate, asked with a text.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from catena.core.errors import InputError
from catena.core.messages import CompletionRequest, Delta, Event
from catena.reach.gateway import answering
from catena.reach.gateway.answering import Accepted
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.open_inference import fields
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, check_version
from catena.reach.gateway.sampling import SamplingWire, at_least_one, check_bounds, read_sampling
from catena.reach.gateway.wire import check_fields, convert, read_json

DEFAULT_MAX_TOKENS = 16
MAX_STOPS = 4
_ALLOWED = {**fields.GENERATE, **fields.GENERATE_PARAMETERS}
encode = msgspec.json.Encoder().encode


class GenerateWire(Struct, frozen=True, forbid_unknown_fields=True):
    text_input: str
    id: str = ""
    parameters: dict[str, Any] = {}


class ParametersWire(SamplingWire, frozen=True, kw_only=True):
    """The parameters that are honoured; `fields.GENERATE_PARAMETERS` says what becomes of the others."""

    max_tokens: int | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    exclude_input_in_output: bool | None = None


async def generate(exchange: Exchange) -> None:
    """Answer with the whole text."""
    wire, request = await _asked(exchange)
    accepted, reply = await answering.whole(exchange, request)
    text = "".join(choice.text for choice in reply.choices)
    await exchange.answer(200, encode(_form(wire, accepted.model.name, text)))


async def generate_stream(exchange: Exchange) -> None:
    """Answer with server-sent events, each a piece of the text."""
    wire, request = await _asked(exchange)
    await answering.stream(exchange, request, TextRenderer(wire))


class TextRenderer:
    """Writes each piece as an event of its own. The protocol has no closing mark: a cut answer ends with an error."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, wire: GenerateWire) -> None:
        self._wire = wire
        self._model = ""

    def start(self, accepted: Accepted) -> bytes:
        self._model = accepted.model.name
        return b""

    def event(self, event: Event) -> bytes:
        if not isinstance(event, Delta) or not event.text:
            return b""
        return b"data: " + encode(_form(self._wire, self._model, event.text)) + b"\n\n"

    def end(self) -> bytes:
        return b""

    def sign(self, phase: str, fraction: float | None) -> bytes:
        return f": {phase or 'ping'}\n\n".encode()


async def _asked(exchange: Exchange) -> tuple[GenerateWire, CompletionRequest]:
    check_version(exchange)
    body = await read_json(exchange)
    check_fields(body, _ALLOWED, exchange.warnings)
    beside = {name: body.pop(name) for name in list(body) if name in fields.GENERATE_PARAMETERS}
    wire = convert(body, GenerateWire)
    if twice := sorted(beside.keys() & wire.parameters.keys()):
        raise InputError(f"{twice[0]} is given twice", param=twice[0])
    check_fields(wire.parameters, fields.GENERATE_PARAMETERS, exchange.warnings)
    parameters = beside | wire.parameters
    exchange.enter("open_inference.generate")
    return wire, to_request(exchange.params["model"], wire.text_input, convert(parameters, ParametersWire))


def to_request(model: str, text: str, wire: ParametersWire) -> CompletionRequest:
    """What is asked, in our own words. Raises InputError naming the parameter."""
    check_bounds(wire)
    at_least_one("max_tokens", wire.max_tokens)
    sampling = replace(
        read_sampling(wire, wire.repetition_penalty, max_stops=MAX_STOPS),
        max_tokens=DEFAULT_MAX_TOKENS if wire.max_tokens is None else wire.max_tokens,
        ignore_eos=bool(wire.ignore_eos),
    )
    return CompletionRequest(model, text, sampling, echo=wire.exclude_input_in_output is False)


def _form(wire: GenerateWire, model: str, text: str) -> dict[str, str]:
    form = {"model_name": model, "model_version": VERSION, "text_output": text}
    return {"id": wire.id, **form} if wire.id else form
