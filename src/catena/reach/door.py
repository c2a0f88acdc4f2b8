"""The way from a command to the gateway that already runs on this machine; it reaches loopback addresses only."""

from __future__ import annotations

import http.client
import ipaddress
import itertools
import os
import secrets
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from catena.core.errors import (
    AuditError,
    BusyError,
    CatenaError,
    ConflictError,
    EngineError,
    ExpiredError,
    ForbiddenError,
    InputError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RefusedError,
    ResourceError,
    TooLargeError,
    UnauthenticatedError,
    UnsupportedError,
)

ADDRESS_FILE = "gateway.json"
JSON = "application/json"
PIECE_BYTES = 1 << 20
# By the code in the body; where a protocol has a name of its own for it, by the status.
_KINDS: Mapping[str, type[CatenaError]] = {
    kind.code: kind
    for kind in (AuditError, EngineError, IntegrityError, RefusedError, ResourceError, TooLargeError, UnsupportedError)
} | {"shutting_down": NetworkError}
_ERRORS: dict[int, type[CatenaError]] = {
    400: InputError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    503: ResourceError,
    504: ExpiredError,
}


class Address(NamedTuple):
    """Where a gateway listens and which process it is."""

    url: str
    pid: int


class Response(NamedTuple):
    """What came back: status, headers with lower-case names, decoded JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Form(NamedTuple):
    """Fields and one file called `file`, to be sent as multipart/form-data (RFC 7578)."""

    fields: Mapping[str, str]
    filename: str
    data: bytes

    def encoded(self) -> tuple[bytes, str]:
        """The body and its content type."""
        boundary = secrets.token_hex(16)
        part = f"--{boundary}\r\nContent-Disposition: form-data; name="
        texts = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in self.fields.items())
        filename = "".join("_" if letter in '"\\\r\n' else letter for letter in self.filename)
        head = f'{texts}{part}"file"; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        body = head.encode(errors="replace") + self.data + f"\r\n--{boundary}--\r\n".encode()
        return body, f"multipart/form-data; boundary={boundary}"


def announce(home: Path, url: str) -> None:
    """Leave word in the state folder that this process serves at `url`."""
    path = home / ADDRESS_FILE
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(msgspec.json.encode({"url": url, "pid": os.getpid()}))
    draft.replace(path)


def withdraw(home: Path) -> None:
    """Take back the word that `announce` left, if it is still this process's."""
    address = _read(home)
    if address and address.pid == os.getpid():
        (home / ADDRESS_FILE).unlink(missing_ok=True)


def find(home: Path) -> Address | None:
    """The gateway that serves this state folder now, if one answers to its health check."""
    address = _read(home)
    if address is None:
        return None
    try:
        return address if get(address.url, "/healthz", timeout_s=2.0).status == 200 else None
    except CatenaError:
        return None


def get(url: str, path: str, *, key: str | None = None, timeout_s: float = 30.0) -> Response:
    """GET `path` and decode its JSON (or None). Raises NetworkError, or the error class of a status."""
    return _ask(url, "GET", path, None, key, timeout_s)


def post(url: str, path: str, body: Any, *, key: str | None = None, timeout_s: float = 600.0) -> Response:
    """POST `body` as JSON to `path` and decode the answer's JSON. Raises as `get` does."""
    return _ask(url, "POST", path, msgspec.json.encode(body), key, timeout_s)


def post_form(url: str, path: str, form: Form, *, key: str | None = None, timeout_s: float = 600.0) -> Response:
    """POST `form` to `path` and decode the answer's JSON. Raises as `get` does."""
    body, kind = form.encoded()
    return _ask(url, "POST", path, body, key, timeout_s, kind)


def post_file(
    url: str, path: str, fields: Mapping[str, str], file: Path, *, key: str | None = None, timeout_s: float = 600.0
) -> Response:
    """POST a form with `fields` and the content of `file`, read as it is sent. Raises as `get` does, and OSError."""
    frame, kind = Form(fields, file.name, b"").encoded()
    cut = frame.rindex(b"\r\n--")
    with file.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        pieces = itertools.chain([frame[:cut]], iter(lambda: source.read(PIECE_BYTES), b""), [frame[cut:]])
        return _ask(url, "POST", path, pieces, key, timeout_s, kind, len(frame) + size)


def fetch(url: str, path: str, *, key: str | None = None, timeout_s: float = 60.0) -> Generator[bytes]:
    """GET `path` and yield what comes, piece by piece. Raises as `get` does; NetworkError when it breaks off."""
    connection = connect(url, timeout_s)
    try:
        connection.request("GET", path, headers=_headers(key, None))
        answer = connection.getresponse()
        lower = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status >= 400:
            raise _error(Response(answer.status, lower, _decode(lower, answer.read())))
        length = lower.get("content-length", "")
        if not length.isdecimal():
            raise NetworkError("what answered is not a gateway: it did not say how long its answer is")
        left = int(length)
        while left > 0 and (piece := answer.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
        if left:
            raise NetworkError("the answer was cut before its end", hint="ask again")
    except TimeoutError:
        raise ExpiredError(f"the gateway at {url} fell silent for {timeout_s:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(f"the gateway at {url} broke off: {error}", hint="start it with `catena up`") from None
    finally:
        connection.close()


def stream(
    url: str, path: str, body: Any, *, key: str | None = None, timeout_s: float = 600.0
) -> Generator[Response | str | Any]:
    """POST `body` and yield: the Response (its body None), then each `data:` object of the event stream, decoded, and
    each comment as a str. Returns after `[DONE]`. A body that is no Form is sent as JSON.

    Raises as `get` does; NetworkError when the stream breaks off or ends without `[DONE]`.
    """
    data, kind = body.encoded() if isinstance(body, Form) else (msgspec.json.encode(body), JSON)
    connection = connect(url, timeout_s)
    try:
        connection.request("POST", path, data, _headers(key, kind))
        with connection.getresponse() as answer:
            yield from _read_stream(answer)
    except TimeoutError:
        raise ExpiredError(f"the gateway at {url} fell silent for {timeout_s:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(f"the gateway at {url} broke off: {error}", hint="start it with `catena up`") from None
    finally:
        connection.close()


def _read_stream(answer: http.client.HTTPResponse) -> Generator[Response | str | Any]:
    lower = {name.lower(): value for name, value in answer.getheaders()}
    if answer.status >= 400:
        raise _error(Response(answer.status, lower, _decode(lower, answer.read())))
    yield Response(answer.status, lower, None)
    while line := answer.readline():
        if line.startswith(b":"):
            yield line[1:].decode(errors="replace").strip()
        elif line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield _event(data, lower)
    raise NetworkError("the answer was cut before its end", hint="ask again")


def _event(data: bytes, headers: dict[str, str]) -> Any:
    event = _parse(data)
    if isinstance(event, dict) and "error" in event:
        status = _detail(event).get("status")
        raise _error(Response(status if isinstance(status, int) else 500, headers, event))
    return event


def _ask(
    url: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None,
    key: str | None,
    timeout_s: float,
    kind: str = JSON,
    size: int | None = None,
) -> Response:
    headers = _headers(key, None if body is None else kind)
    if size is not None:
        headers["content-length"] = str(size)
    connection = connect(url, timeout_s)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        raw = answer.read()
    except TimeoutError:
        raise ExpiredError(f"the gateway at {url} gave no answer within {timeout_s:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(
            f"the gateway at {url} cannot be reached: {error}", hint="start it with `catena up`"
        ) from None
    finally:
        connection.close()
    lower = {name.lower(): value for name, value in answer.getheaders()}
    response = Response(answer.status, lower, _decode(lower, raw))
    if answer.status >= 400:
        raise _error(response)
    return response


def _headers(key: str | None, kind: str | None) -> dict[str, str]:
    headers = {"content-type": kind} if kind else {}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return headers


def _decode(headers: dict[str, str], raw: bytes) -> Any:
    is_json = headers.get("content-type", "").startswith(JSON)
    return _parse(raw) if is_json and raw else None


def _parse(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        raise NetworkError("what answered is not a gateway: it sent no valid JSON") from None


def _detail(body: Any) -> dict[str, Any]:
    detail = body.get("error") if isinstance(body, dict) else None
    return detail if isinstance(detail, dict) else {}


def connect(url: str, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to a loopback `url`. Raises ForbiddenError for any other address: nothing leaves this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http":
        raise ForbiddenError(f"{url!r} is not an http address", hint="only this machine is asked")
    if host != "localhost":
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise ForbiddenError(f"{host or url!r} is not a loopback address", hint="only this machine is asked")
    return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_s)


def _error(response: Response) -> CatenaError:
    detail = _detail(response.body)
    message = str(detail.get("message") or f"the gateway answered with status {response.status}")
    error: CatenaError
    if response.status == 429:
        seconds = response.headers.get("retry-after", "")
        error = BusyError(message, retry_after_s=float(seconds) if seconds.isdecimal() else 1.0)
    else:
        kind = _KINDS.get(str(detail.get("code"))) or _ERRORS.get(response.status, CatenaError)
        error = kind(message, hint=str(detail.get("hint") or ""))
    error.receipt = response.headers.get("catena-receipt")
    return error


def _read(home: Path) -> Address | None:
    try:
        return Address(**msgspec.json.decode((home / ADDRESS_FILE).read_bytes(), type=dict[str, Any]))
    except (OSError, msgspec.DecodeError, TypeError):
        return None
