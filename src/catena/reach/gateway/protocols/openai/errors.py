"""Errors in the form that OpenAI's clients read: the class by status, the rest from `error` in the body."""

from __future__ import annotations

from typing import Any

import msgspec

from catena.reach.gateway.failures import Failure
from catena.reach.gateway.routing import Dialect

encode = msgspec.json.Encoder().encode

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    "context_overflow": "context_length_exceeded",
    "unauthenticated": "invalid_api_key",
    "busy": "rate_limit_exceeded",
}
# What our words are called in this protocol.
_PARAMS = {"think": "reasoning_effort"}


def detail(failure: Failure) -> dict[str, Any]:
    """What is told of a failure, by the names of this protocol."""
    kind = _KINDS.get(failure.status, "server_error" if failure.status >= 500 else "invalid_request_error")
    code = _CODES.get(failure.code, failure.code)
    if failure.code == "not_found" and failure.param == "model":
        code = "model_not_found"
    return {
        "message": failure.message,
        "type": kind,
        "param": _PARAMS.get(failure.param or "", failure.param),
        "code": code,
        "hint": failure.hint or None,
    }


def _body(failure: Failure) -> bytes:
    return encode({"error": detail(failure)})


def _event(failure: Failure) -> bytes:
    """No `[DONE]` follows: clients take an end without it and without this event for a complete answer."""
    return b"data: " + encode({"error": {**detail(failure), "status": failure.status}}) + b"\n\n"


OPENAI = Dialect(_body, _event)
