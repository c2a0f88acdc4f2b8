"""Errors as gRPC tells them: a status by number, a message, when to try again.

https://github.com/grpc/grpc/blob/master/doc/statuscodes.md and doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from catena.reach.gateway.failures import Failure
from catena.reach.gateway.routing import Dialect

CONTENT_TYPE = "application/grpc"
TRAILERS = 0x80
CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 1, 3, 4, 5, 7, 8
FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED = 9, 12, 13, 14, 15, 16
MAX_MESSAGE_BYTES = 1024

BY_CODE: dict[str, int] = {
    "route_not_found": UNIMPLEMENTED,
    "body_too_large": RESOURCE_EXHAUSTED,
    "out_of_resources": RESOURCE_EXHAUSTED,
    "integrity": DATA_LOSS,
}
BY_HTTP: dict[int, int] = {
    400: INVALID_ARGUMENT,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: NOT_FOUND,
    405: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    409: FAILED_PRECONDITION,
    413: INVALID_ARGUMENT,
    415: UNIMPLEMENTED,
    422: INVALID_ARGUMENT,
    429: RESOURCE_EXHAUSTED,
    499: CANCELLED,
    501: UNIMPLEMENTED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}


def number(failure: Failure) -> int:
    """The status of a failure."""
    return BY_CODE.get(failure.code) or BY_HTTP.get(failure.status, INTERNAL)


def text(failure: Failure) -> str:
    """The message with its hint: the protocol has one text and no place beside it."""
    return f"{failure.message} (hint: {failure.hint})" if failure.hint else failure.message


def ending(failure: Failure) -> bytes:
    """The trailers of a call that failed; `grpc-retry-pushback-ms` where another try may succeed later."""
    told = text(failure).encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    message = quote_from_bytes(told.encode(), safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")
    lines = [f"grpc-status:{number(failure)}", f"grpc-message:{message}"]
    for name, value in failure.headers:
        if name == "retry-after":
            lines.append(f"grpc-retry-pushback-ms:{int(value) * 1000}")
    return trailers(*lines)


def trailers(*lines: str) -> bytes:
    """The last frame of an answer."""
    body = "\r\n".join(lines).encode()
    return bytes((TRAILERS,)) + len(body).to_bytes(4, "big") + body


GOOD_END = trailers("grpc-status:0")
GRPC = Dialect(ending, ending, CONTENT_TYPE, is_for_pages=False)
