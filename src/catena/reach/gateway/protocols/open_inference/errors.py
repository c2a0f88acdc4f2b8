"""Errors in the form of this protocol: `{"error": text}` with the right status, and the same in a stream."""

from __future__ import annotations

import msgspec

from catena.reach.gateway.failures import Failure
from catena.reach.gateway.routing import Dialect

encode = msgspec.json.Encoder().encode


def error_body(failure: Failure) -> bytes:
    """The message with its hint: the protocol has one text and no place beside it."""
    text = f"{failure.message} (hint: {failure.hint})" if failure.hint else failure.message
    return encode({"error": text})


def error_event(failure: Failure) -> bytes:
    """The same as the last event of a stream of generate_stream."""
    return b"data: " + error_body(failure) + b"\n\n"


OPEN_INFERENCE = Dialect(error_body, error_event)
