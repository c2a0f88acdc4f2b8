"""Frames of HTTP/2: their numbers, and the bytes of those that are sent.

https://www.rfc-editor.org/rfc/rfc9113
"""

from __future__ import annotations

from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11

MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 5, 6

# What both sides begin with until settings say otherwise.
FIRST_WINDOW_BYTES = 65_535
FRAME_BYTES = 16_384
MAX_FRAME_BYTES = (1 << 24) - 1
MAX_WINDOW_BYTES = (1 << 31) - 1


class Violation(Exception):
    """The peer broke the protocol, so the connection ends with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame of a few bytes; data are framed by `head`, so that they are not copied."""
    return head(kind, flags, stream, len(payload)) + payload


def head(kind: int, flags: int, stream: int, num_bytes: int) -> bytes:
    """The nine bytes before a payload of `num_bytes`."""
    return (num_bytes << 48 | kind << 40 | flags << 32 | stream).to_bytes(HEAD_BYTES, "big")


def settings(pairs: Iterable[tuple[int, int]]) -> bytes:
    """A frame that says how this side wants to be spoken to."""
    return frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def window_update(stream: int, num_bytes: int) -> bytes:
    """Room for `num_bytes` more, of one stream or (0) of the connection."""
    return frame(WINDOW_UPDATE, 0, stream, num_bytes.to_bytes(4, "big"))


def reset(stream: int, code: int) -> bytes:
    """One stream ends here."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: int) -> bytes:
    """No stream after `last_stream` was or will be looked at: clients may ask elsewhere."""
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big"))


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding. Raises Violation."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Violation(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]
