"""Errors in the form that Ollama's clients read: a status with `{"error": "text"}`, or such a line in a stream."""

from __future__ import annotations

import msgspec

from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import Failure, HttpError
from catena.reach.gateway.routing import Dialect

encode = msgspec.json.Encoder().encode

# What our words are called in this protocol.
_PARAMS = {"max_tokens": "options.num_predict", "response_format": "format"}


def _body(failure: Failure) -> bytes:
    """Clients show `error` and drop the rest, so the hint is part of it."""
    text = f"{failure.message} ({failure.hint})" if failure.hint else failure.message
    param = _PARAMS.get(failure.param or "", failure.param)
    return encode({"error": text, "code": failure.code, "param": param})


def _line(failure: Failure) -> bytes:
    """No line with `done` follows: clients raise at this one."""
    return _body(failure) + b"\n"


OLLAMA = Dialect(_body, _line)


async def nothing_here(exchange: Exchange) -> None:
    """An address under /api that this protocol does not serve."""
    raise HttpError(
        404, "there is nothing at this address", code="route_not_found", hint="see docs/protocols/ollama.md"
    )
