"""What several dialects do with JSON: decode it strictly within bounds, and give a call its arguments as an object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from catena.core.errors import InputError
from catena.core.messages import Message, Text, ToolCall
from catena.run.dialects.dialect import malformed

T = TypeVar("T")
MAX_COUNT = (1 << 53) - 1
JSON = {"content-type": "application/json"}
encode = msgspec.json.Encoder().encode


def decoded(dialect: str, data: bytes, kind: type[T]) -> T:
    """`data` as `kind`. Raises NetworkError for what is no JSON, is too deep, or is of another shape."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise malformed(dialect, "a field is missing or of another type") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed(dialect, "it is not JSON") from None


def tolerated(data: bytes, kind: type[T]) -> T | None:
    """`data` as `kind`, or None: the bodies of errors may come from any machine on the way."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def count(number: float | None) -> int:
    """A number of tokens as it was reported: at least 0, and exact."""
    return min(max(int(number), 0), MAX_COUNT) if number is not None and math.isfinite(number) else 0


def arguments(call: ToolCall, where: str) -> dict[str, Any]:
    """The arguments of an earlier call as the object that they must be. Raises InputError."""
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise InputError(f"{where}: the arguments of {call.name} are no JSON object", param=where) from None


def texts(messages: Sequence[Message]) -> list[str]:
    """Every text of `messages` that is not empty, in order."""
    return [part.text for message in messages for part in message.parts if isinstance(part, Text) and part.text]
