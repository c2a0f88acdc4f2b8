"""Errors as HTTP sees them: one table from error to status and headers; their form is each protocol's affair."""

from __future__ import annotations

import math

from msgspec import Struct

from catena.core.errors import HTTP_STATUS, BusyError, CatenaError, InputError

AUDIT_RETRY_S = 5


class HttpError(InputError):
    """The HTTP side of a request is wrong; `status` says how. `headers` go with the answer."""

    def __init__(
        self, status: int, message: str, *, code: str = "", hint: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code or self.code
        self.headers = headers


class Failure(Struct, frozen=True):
    """What is told of an error, before a protocol gives it its form. `headers` are ready to send."""

    status: int
    code: str
    message: str
    hint: str
    param: str | None
    headers: tuple[tuple[str, str], ...]


def describe(error: CatenaError) -> Failure:
    """The status and headers of `error`.

    `x-should-retry: false` once work was done: the official OpenAI client repeats 5xx by itself otherwise.
    """
    headers: list[tuple[str, str]] = []
    if isinstance(error, HttpError):
        status = error.status
        headers += error.headers
    else:
        status = HTTP_STATUS.get(error.code, 500)
    if isinstance(error, BusyError):
        headers.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
    elif status == 503 and not any(name == "retry-after" for name, _ in headers):
        headers.append(("retry-after", str(AUDIT_RETRY_S)))
    elif error.receipt and status >= 408:
        headers.append(("x-should-retry", "false"))
    if status == 401:
        headers.append(("www-authenticate", 'Bearer realm="catena"'))
    return Failure(status, error.code, error.message, error.hint, error.param, tuple(headers))


def internal() -> CatenaError:
    """What a caller is told of a bug of ours: nothing of what it was, which goes to the log."""
    return CatenaError("the gateway failed on this request", hint="the log of the gateway says more")
