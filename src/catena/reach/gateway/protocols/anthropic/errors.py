"""Errors in the form that Anthropic's clients read: the class by status, type and message from the body."""

from __future__ import annotations

from typing import Any

import msgspec

from catena.reach.gateway.failures import Failure
from catena.reach.gateway.routing import Dialect

encode = msgspec.json.Encoder().encode

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Nothing is too much here: the disk does not take the record.
_KINDS_BY_CODE = {"audit_unavailable": "api_error"}
# By this code the official client knows that it must send a conversation whole.
_CODES_BY_PARAM = {("unsupported", "thread"): "thread_unsupported_request"}
# What our words are called in this protocol.
_PARAMS = {"stop": "stop_sequences", "think": "thinking", "response_format": "output_config.format"}


def error_body(failure: Failure) -> bytes:
    """`{"type": "error", "error": {"type", "message", "details"}}`; our code, parameter and hint are the details."""
    kind = _KINDS_BY_CODE.get(failure.code) or _KINDS.get(failure.status)
    if kind is None:
        kind = "api_error" if failure.status >= 500 else "invalid_request_error"
    details: dict[str, Any] = {"error_code": _CODES_BY_PARAM.get((failure.code, failure.param or ""), failure.code)}
    if failure.param:
        details["param"] = _PARAMS.get(failure.param, failure.param)
    if failure.hint:
        details["hint"] = failure.hint
    return encode({"type": "error", "error": {"type": kind, "message": failure.message, "details": details}})


def error_event(failure: Failure) -> bytes:
    """The same as the last event of a stream: no `message_stop` follows, which clients take for a cut answer."""
    return b"event: error\ndata: " + error_body(failure) + b"\n\n"


ANTHROPIC = Dialect(error_body, error_event, id_header="request-id")
