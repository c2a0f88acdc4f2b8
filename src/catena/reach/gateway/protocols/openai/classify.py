"""POST /v1/classify and /classify: texts labelled, in the shape of vLLM; stretches of texts as an extension of it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from catena.core.clock import now_ns
from catena.core.errors import InputError, UnsupportedError
from catena.core.messages import ClassifyRequest
from catena.reach.gateway.answering import server_timing, until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.wire import check_fields, convert, read_json
from catena.reach.router import ClassifiedAnswer

MAX_INPUTS = 2048
encode = msgspec.json.Encoder().encode


class ClassifyWire(Struct, frozen=True):
    """The body; `fields.CLASSIFY` says what becomes of each parameter."""

    model: str
    input: str | list[str | int | list[int]]


async def classify(exchange: Exchange) -> None:
    """Answer POST /v1/classify."""
    body = await read_json(exchange)
    check_fields(body, fields.CLASSIFY, exchange.warnings)
    wire = convert(body, ClassifyWire)
    request = ClassifyRequest(wire.model, _inputs(wire.input))
    exchange.enter("openai.classify")
    async with until_gone(exchange):
        answer = await exchange.services.router.classify(request, exchange.caller)
    exchange.receipt, exchange.model, exchange.usage = answer.receipt, answer.model.name, answer.classified.usage
    exchange.headers_out["server-timing"] = server_timing(answer.classified.timings, 0.0)
    await exchange.answer(200, encode(form(request, answer)))


def form(request: ClassifyRequest, answer: ClassifiedAnswer) -> dict[str, Any]:
    """The answer: the likeliest label of each text with the probability of all, or the spans of each."""
    found = answer.classified
    data: list[dict[str, Any]] = []
    for index, chances in enumerate(found.probabilities):
        best = max(range(len(chances)), key=chances.__getitem__)
        data.append({"index": index, "label": found.labels[best], "probs": chances, "num_classes": len(chances)})
    for index, spans in enumerate(found.spans):
        text = request.inputs[index]
        shown = [
            {
                "label": one.label,
                "start": one.start,
                "end": one.end,
                "prob": one.probability,
                "text": text[one.start : one.end],
            }
            for one in spans
        ]
        data.append({"index": index, "spans": shown, "num_classes": len(found.labels)})
    tokens = found.usage.prompt_tokens
    return {
        "id": f"classify-{answer.receipt.partition('_')[2]}",
        "object": "list",
        "created": now_ns() // 1_000_000_000,
        "model": answer.model.name,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


def _inputs(value: str | list[Any]) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not 1 <= len(texts) <= MAX_INPUTS:
        raise InputError(f"input must be 1 to {MAX_INPUTS} texts", param="input")
    if not all(isinstance(text, str) for text in texts):
        raise UnsupportedError("token ids are not classified", hint="send the text", param="input")
    if not all(texts):
        raise InputError("an input must not be empty", param="input")
    return tuple(texts)
