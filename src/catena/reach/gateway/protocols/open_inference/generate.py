"""POST generate and generate_stream: models that generate, asked with a text.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import InputError, NotFoundError
from catena.core.messages import CompletionRequest, Delta, Event, Sampling
from catena.reach.gateway import answering
from catena.reach.gateway.answering import Accepted
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.open_inference import fields
from catena.reach.gateway.protocols.open_inference.metadata import VERSION, check_version
from catena.reach.gateway.wire import check_fields, convert, read_json
from catena.reach.ticket import Caller

DEFAULT_MAX_TOKENS = 16
MAX_STOPS = 4
MAX_SEED = (1 << 63) - 1
_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 1 << 20),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, 2),
    "seed": (-MAX_SEED - 1, MAX_SEED),
}
_ABOVE_ZERO = frozenset({"top_p", "repetition_penalty"})
_ALLOWED = {**fields.GENERATE, **fields.GENERATE_PARAMETERS}
encode = msgspec.json.Encoder().encode


class GenerateWire(Struct, frozen=True, forbid_unknown_fields=True):
    text_input: str
    id: str = ""
    parameters: dict[str, Any] = {}


class ParametersWire(Struct, frozen=True):
    """The parameters that are honoured; `fields.GENERATE_PARAMETERS` says what becomes of the others."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    exclude_input_in_output: bool | None = None


async def generate(exchange: Exchange) -> None:
    """Answer with the whole text."""
    wire, request = await _asked(exchange)
    try:
        accepted, reply = await answering.whole(exchange, request)
    except NotFoundError as error:
        error.param = error.param or "model"
        raise
    text = "".join(choice.text for choice in reply.choices)
    await exchange.answer(200, encode(_form(wire, accepted.model.name, text)))


async def generate_stream(exchange: Exchange) -> None:
    """Answer with server-sent events, each a piece of the text."""
    wire, request = await _asked(exchange)
    try:
        await answering.stream(exchange, request, TextRenderer(wire))
    except NotFoundError as error:
        error.param = error.param or "model"
        raise


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
    exchange.caller = Caller(exchange.caller.key, "open_inference.generate")
    return wire, to_request(exchange.params["model"], wire.text_input, convert(parameters, ParametersWire))


def to_request(model: str, text: str, wire: ParametersWire) -> CompletionRequest:
    """What is asked, in our own words. Raises InputError naming the parameter."""
    for name, (low, high) in _BOUNDS.items():
        value = getattr(wire, name)
        if value is not None and (not low <= value <= high or (value == 0 and name in _ABOVE_ZERO)):
            least = "above 0" if name in _ABOVE_ZERO else f"at least {low:g}"
            raise InputError(f"{name} must be {least} and at most {high:g}", param=name)
    if wire.max_tokens is not None and wire.max_tokens < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    stops = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    if len(stops) > MAX_STOPS or not all(stops):
        raise InputError(f"stop takes up to {MAX_STOPS} texts, none of them empty", param="stop")
    sampling = Sampling(
        max_tokens=DEFAULT_MAX_TOKENS if wire.max_tokens is None else wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        min_p=wire.min_p,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repeat_penalty=wire.repetition_penalty,
        seed=wire.seed,
        stop=stops,
        ignore_eos=bool(wire.ignore_eos),
    )
    return CompletionRequest(model, text, sampling, echo=wire.exclude_input_in_output is False)


def _form(wire: GenerateWire, model: str, text: str) -> dict[str, str]:
    form = {"model_name": model, "model_version": VERSION, "text_output": text}
    return {"id": wire.id, **form} if wire.id else form
