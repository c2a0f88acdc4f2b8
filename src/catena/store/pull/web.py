"""The store's own way to the network: one HTTP client, bounded answers, redirects followed by hand, patient retries.

The token is shown to the hub that was configured and to nobody else: not to the host that a redirect leads to.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec
from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import ClientClosedError
from pyreqwest.exceptions import PyreqwestError as Broken
from pyreqwest.response import SyncResponse as Response

from catena import __version__
from catena.core.clock import now_ns
from catena.core.errors import BusyError, CancelledError, CatenaError, ConfigError, NetworkError
from catena.store.formats import plain_text
from catena.store.pull.hub import Hub, Refused

CONNECT_S, READ_S = 15.0, 30.0
MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 << 10
MAX_URL_CHARS = 16_384
# A request that fails is tried again after these waits, if nothing came of it meanwhile.
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
MAX_WAIT_S = 120.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_Shape = TypeVar("_Shape")


class Web:
    """Requests to one hub and to hosts it redirects to, by several threads; `close` ends what they wait for."""

    def __init__(self, hub: Hub) -> None:
        check_address(hub)
        self.hub = hub
        self._closed = threading.Event()
        self._client: SyncClient = (
            SyncClientBuilder()
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .user_agent(f"catena/{__version__}")
            .connect_timeout(timedelta(seconds=CONNECT_S))
            .read_timeout(timedelta(seconds=READ_S))
            .build()
        )

    def close(self) -> None:
        """End every request that is under way, and every wait."""
        self._closed.set()
        self._client.close()

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Generator[Response]:
        """The answer to a GET of exactly this address, its body unread: success or a redirect.

        Raises Refused for other answers, NetworkError if there is none.
        """
        request = self._client.get(url).header("Accept-Encoding", "identity").headers(dict(headers or {}))
        if origin(url) == origin(self.hub.endpoint):
            for name, value in self.hub.headers.items():
                request = request.header(name, value, is_sensitive=True)
        with self._told(url), request.build_streamed() as response:
            if response.status not in (*REDIRECTS, HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                raise self._refusal(response)
            yield response

    def target(self, url: str, response: Response) -> str:
        """Where a redirect leads. Raises NetworkError for a place that a hub has no business to send anyone to."""
        place = response.get_header("Location") or ""
        to = urljoin(url, place)
        if not place or len(to) > MAX_URL_CHARS or not self._is_allowed(to):
            raise NetworkError(
                f"{self.hub.host} redirects to a place that is not followed",
                hint="only https addresses are, and those of the configured hub itself",
            )
        return to

    def read(self, url: str, shape: type[_Shape], max_bytes: int) -> tuple[_Shape, Mapping[str, str]]:
        """The JSON at `url` and its headers in lower case, redirects followed; tried again while that may help.

        Raises Refused for an answer that will not change, NetworkError, BusyError if the hub asks for more patience.
        """
        patience = Patience(self)
        while True:
            try:
                data, headers = self._read(url, max_bytes)
                break
            except (Refused, NetworkError) as error:
                patience.wait(error)
        try:
            return msgspec.json.decode(data, type=shape), headers
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise NetworkError(
                f"{self.hub.host} does not answer as a hub does", hint=f"does {self.hub.variable} name a hub?"
            ) from None

    def pause(self, seconds: float) -> None:
        """Wait, unless the work ends meanwhile. Raises CancelledError then."""
        if self._closed.wait(seconds):
            raise CancelledError("the pull was stopped")

    def _read(self, url: str, max_bytes: int) -> tuple[bytes, Mapping[str, str]]:
        for _ in range(MAX_REDIRECTS + 1):
            with self.open(url) as response:
                if response.status in REDIRECTS:
                    url = self.target(url, response)
                    continue
                body = _body(response, max_bytes)
                if len(body) > max_bytes:
                    raise NetworkError(f"{self.hub.host} sends more than {max_bytes} bytes where a list was asked for")
                return body, {key.lower(): value for key, value in response.headers.items()}
        raise NetworkError(f"{self.hub.host} redirects more than {MAX_REDIRECTS} times")

    def _is_allowed(self, url: str) -> bool:
        parts = urlsplit(url)
        if parts.username or parts.password or not parts.hostname:
            return False
        return parts.scheme == "https" or (
            parts.scheme == "http" and (_is_loopback(self.hub.endpoint) or origin(url) == origin(self.hub.endpoint))
        )

    def _refusal(self, response: Response) -> Refused:
        said = response.get_header("X-Error-Message") or _body(response, MAX_ERROR_BYTES)[:400].decode(errors="replace")
        if self.hub.token:
            said = said.replace(self.hub.token, "***")
        return Refused(
            response.status,
            response.get_header("X-Error-Code") or "",
            plain_text(said),
            _seconds(response.get_header("Retry-After")),
        )

    @contextmanager
    def _told(self, url: str) -> Generator[None]:
        try:
            yield
        except ClientClosedError:
            raise CancelledError("the pull was stopped") from None
        except Broken as error:
            if self._closed.is_set():
                raise CancelledError("the pull was stopped") from None
            raise NetworkError(
                f"{urlsplit(url).netloc} {_reason(error)}",
                hint=f"check the network and proxy, then pull again: it goes on from where it stood; "
                f"{self.hub.variable} names another hub or a mirror",
            ) from None


class Patience:
    """How often one request may fail, and how long to wait before it is tried again."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._failures = 0

    def renew(self) -> None:
        """Something came: failures from here on count anew."""
        self._failures = 0

    def wait(self, error: Refused | NetworkError) -> None:
        """Wait before the next try. Raises the error if there is none, BusyError if the hub asks for a longer wait."""
        if isinstance(error, Refused) and not error.is_passing:
            raise error
        asked_s = error.retry_after_s if isinstance(error, Refused) else None
        if self._failures >= len(WAITS_S) or (asked_s or 0.0) > MAX_WAIT_S:
            raise _exhausted(self._web.hub, error)
        wait_s = WAITS_S[self._failures] * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, keeps no secret
        self._failures += 1
        self._web.pause(max(wait_s, asked_s or 0.0))


def check_address(hub: Hub) -> None:
    """Raises ConfigError for an endpoint that is no address, or over which a token would travel in the open."""
    parts = urlsplit(hub.endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ConfigError(f"{hub.variable} is not the address of a hub", hint="write https://HOST[:PORT][/PATH]")
    if hub.token and not (hub.token.isascii() and hub.token.isprintable() and " " not in hub.token):
        raise ConfigError(f"{hub.token_variable} holds something that is no token", hint="copy it anew")
    if hub.token and parts.scheme == "http" and not _is_loopback(hub.endpoint):
        raise ConfigError(
            f"{hub.variable} is not encrypted, so the token in {hub.token_variable} is not sent there",
            hint="use https, or take the token out of the environment",
        )


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def links(header: str) -> dict[str, str]:
    """The targets of a Link header by their relation (RFC 8288, as far as hubs use it)."""
    return {match[2]: match[1] for match in re.finditer(r'<([^>]*)>\s*;\s*rel="?([^",;]+)"?', header)}


def _exhausted(hub: Hub, error: Refused | NetworkError) -> CatenaError:
    if isinstance(error, NetworkError):
        return error
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = error.retry_after_s or 60.0
        return BusyError(
            f"{hub.host} asks to be left alone for {wait_s:.0f} s",
            retry_after_s=wait_s,
            hint="pull again then: it goes on from where it stood",
        )
    return NetworkError(
        f"{hub.host} answers {error.status}: {error.message}", hint="pull again later: it goes on from where it stood"
    )


def _body(response: Response, max_bytes: int) -> bytes:
    """The body, or a little more than `max_bytes` of it."""
    found = bytearray()
    while len(found) <= max_bytes and (piece := response.body_reader.read_chunk()) is not None:
        found += memoryview(piece)
    return bytes(found)


def _seconds(text: str | None) -> float | None:
    """What Retry-After asks for: seconds, or a date. None if it says neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_ns() / 1e9)
    except (ValueError, TypeError):
        return None


def _reason(error: Broken) -> str:
    """What went wrong, in a few words, from the innermost cause."""
    causes = [cause["message"] for cause in (getattr(error, "details", None) or {}).get("causes") or []]
    innermost = plain_text(causes[-1] if causes else error.message, 120)
    if "dns" in " ".join(causes).lower():
        return f"cannot be found: {innermost}"
    if any("Connect" in cause for cause in causes):
        return f"cannot be reached: {innermost}"
    return f"broke off: {innermost}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
