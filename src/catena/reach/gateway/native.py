"""Catena's own way to write errors and answers, for /catena/v1, /healthz and addresses that no protocol owns."""

from __future__ import annotations

from typing import Any

import msgspec

from catena.reach.gateway.exchange import Exchange
from catena.reach.gateway.failures import Failure
from catena.reach.gateway.routing import Dialect

encoder = msgspec.json.Encoder()


def error_body(failure: Failure) -> bytes:
    """`{"error": {"message", "type", "param", "code", "hint"}}`: the OpenAI form, which most clients can read."""
    return encoder.encode({"error": error_detail(failure)})


def error_event(failure: Failure) -> bytes:
    """The same as a server-sent event."""
    return b"data: " + encoder.encode({"error": {**error_detail(failure), "status": failure.status}}) + b"\n\n"


def error_detail(failure: Failure) -> dict[str, Any]:
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    return {
        "message": failure.message,
        "type": kind,
        "param": failure.param,
        "code": failure.code,
        "hint": failure.hint,
    }


NATIVE = Dialect(error_body, error_event)


async def answer_json(exchange: Exchange, value: Any, status: int = 200) -> None:
    """Send `value` as JSON."""
    await exchange.answer(status, encoder.encode(value))
