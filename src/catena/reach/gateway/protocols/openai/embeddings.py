"""POST /v1/embeddings: texts to vectors, as numbers or as base64 of little-endian float32."""

from __future__ import annotations

import binascii
from array import array
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catena.core.errors import InputError
from catena.core.messages import EmbedRequest
from catena.reach.gateway.answering import server_timing, until_gone
from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.completions import token_ids
from catena.reach.gateway.sampling import at_least_one
from catena.reach.gateway.wire import check_fields, convert, read_json

MAX_INPUTS = 2048
encode = msgspec.json.Encoder().encode


class EmbeddingWire(Struct, frozen=True):
    """The body; `fields.EMBEDDING` says what becomes of each parameter."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


async def embed(exchange: Exchange) -> None:
    """Answer POST /v1/embeddings. The official Python client asks for base64 unless told otherwise."""
    body = await read_json(exchange)
    check_fields(body, fields.EMBEDDING, exchange.warnings)
    wire = convert(body, EmbeddingWire)
    at_least_one("dimensions", wire.dimensions)
    request = EmbedRequest(wire.model, _inputs(wire.input), wire.dimensions)
    exchange.enter("openai.embeddings")
    async with until_gone(exchange):
        answer = await exchange.services.router.embed(request, exchange.caller)
    exchange.receipt, exchange.model = answer.receipt, answer.model.name
    embedded = answer.embedded
    exchange.usage = embedded.usage
    exchange.headers_out["server-timing"] = server_timing(embedded.timings, 0.0)
    form = _base64 if wire.encoding_format == "base64" else _floats
    tokens = embedded.usage.prompt_tokens
    value = {
        "object": "list",
        "model": answer.model.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": form(vector)}
            for index, vector in enumerate(embedded.vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    await exchange.answer(200, encode(value))


def _inputs(value: str | list[Any]) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    if isinstance(value, str) or (value and all(isinstance(item, int) for item in value)):
        value = [value]
    if not value:
        raise InputError("input must not be empty", param="input")
    if len(value) > MAX_INPUTS:
        raise InputError(f"at most {MAX_INPUTS} inputs", param="input")
    if any(not item for item in value):
        raise InputError("an input must not be empty", param="input")
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    if all(isinstance(item, list) for item in value):
        return tuple(token_ids(item, "input") for item in value)
    raise InputError("input mixes texts and token ids", param="input")


def _floats(vector: bytes) -> list[float]:
    numbers = array("f", vector)
    return numbers.tolist()


def _base64(vector: bytes) -> str:
    return binascii.b2a_base64(vector, newline=False).decode()
