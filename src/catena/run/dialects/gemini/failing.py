"""Errors of the Gemini API, before a stream and within one: https://ai.google.dev/gemini-api/docs/troubleshooting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from catena.core.errors import CatenaError, ContextError
from catena.run.dialects.dialect import refusal
from catena.run.dialects.shapes import tolerated

_TOO_LONG = re.compile(r"token count \((\d{1,12})\) exceeds the maximum number of tokens allowed \((\d{1,12})\)")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
# A wrong key is told with the status of a wrong request: https://ai.google.dev/gemini-api/docs/api-key
_WRONG_KEY = ("API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED")


class ErrorWire(Struct, frozen=True):
    """`status` is a word of google.rpc.Code, `code` the HTTP status: https://cloud.google.com/apis/design/errors."""

    code: int = 500
    message: str = ""
    status: str = ""
    details: list[dict[str, Any]] = []


class FailureWire(Struct, frozen=True):
    error: ErrorWire | None = None


def error(status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
    """What an answer with an error's status means; the API wraps some in a list of one."""
    wires = tolerated(body, list[FailureWire]) if body.lstrip().startswith(b"[") else None
    wire = wires[0] if wires else tolerated(body, FailureWire)
    return failure(wire.error if wire and wire.error else ErrorWire(), headers, status)


def failure(told: ErrorWire, headers: Mapping[str, str], status: int) -> CatenaError:
    """What `told` means with this HTTP status."""
    if status == 400 and (found := _TOO_LONG.search(told.message)):
        return ContextError(int(found[1]), int(found[2]))
    for detail in told.details:
        if detail.get("reason") in _WRONG_KEY:
            return refusal(401, headers, str(detail["reason"]))
        delay = _DELAY.fullmatch(str(detail.get("retryDelay", ""))[:32])
        if delay and "retry-after" not in headers:
            headers = {**headers, "retry-after": delay[1]}
    return refusal(status, headers, told.status)
