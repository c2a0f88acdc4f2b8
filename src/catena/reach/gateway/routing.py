"""Routes are data: method, path pattern, handler, the scope a caller needs, and how errors are written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from msgspec import Struct

from catena.reach.gateway.failures import Failure, HttpError

if TYPE_CHECKING:
    from catena.reach.gateway.exchange import Exchange

JSON = "application/json"


class Dialect(Struct, frozen=True):
    """How a protocol writes an error: as the body of an answer, and as the last bytes of a stream that broke off.

    `id_header` is where its clients look for the name of a request; `x-request-id` carries it always.
    """

    body: Callable[[Failure], bytes]
    event: Callable[[Failure], bytes]
    content_type: str = JSON
    id_header: str = "x-request-id"


class Route(Struct, frozen=True):
    """One row of the routing table.

    `pattern` is a path whose `{name}` segments match exactly one segment; a last `{name*}` matches the rest,
    which may not be empty.
    `scope` is what a key must carry (see access.SCOPES), or None for a route that needs no key.
    A route with `header` (lower case) is for requests that carry that header, and is tried before one without.
    """

    method: str
    pattern: str
    handle: Callable[[Exchange], Awaitable[None]]
    scope: str | None
    dialect: Dialect
    header: str | None = None


Methods = dict[str, list[Route]]


class Found(Struct, frozen=True):
    """A route and the decoded values of its `{name}` segments."""

    route: Route
    params: dict[str, str]


class Table:
    """Finds the route of a request. Of two routes with one pattern, method and header, a ValueError at start tells."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Methods] = {}
        self._patterns: list[tuple[list[str], Methods]] = []
        self.routes = tuple(routes)
        by_pattern: dict[str, Methods] = {}
        for route in self.routes:
            same = by_pattern.setdefault(route.pattern, {}).setdefault(route.method, [])
            if any(other.header == route.header for other in same):
                raise ValueError(f"two routes for {route.method} {route.pattern}")
            same.append(route)
            same.sort(key=lambda one: one.header is None)
        for pattern, methods in by_pattern.items():
            if "{" in pattern:
                self._patterns.append((pattern.split("/"), methods))
            else:
                self._exact[pattern] = methods

    def find(self, method: str, raw_path: str, headers: Container[str] = ()) -> Found:
        """The route for `method`, the still percent-encoded `raw_path`, and the names of the headers sent.

        One trailing slash is forgiven; HEAD is answered as GET. Raises HttpError 404 or 405 (with Allow).
        """
        methods, params = self._match(raw_path)
        if methods is None and raw_path.endswith("/"):
            methods, params = self._match(raw_path[:-1])
        if methods is None:
            raise HttpError(404, "there is nothing at this address", code="route_not_found", hint="see docs/README.md")
        routes = methods.get("GET" if method == "HEAD" else method)
        if routes is None:
            allow = allowed(methods)
            raise HttpError(
                405,
                f"{method} is not possible here",
                code="method_not_allowed",
                hint=f"use {allow}",
                headers=(("allow", allow),),
            )
        for route in routes:
            if route.header is None or route.header in headers:
                return Found(route, params)
        raise HttpError(404, f"this address needs the header {routes[0].header}", code="route_not_found")

    def dialect(self, headers: Container[str]) -> Dialect | None:
        """The dialect that these headers speak, for requests without a route: that of a route needing one of them."""
        spoken = (route.dialect for route in self.routes if route.header is not None and route.header in headers)
        return next(spoken, None)

    def methods(self, raw_path: str) -> str:
        """The methods that `raw_path` answers to, as an Allow header; empty if there is no such path."""
        methods, _ = self._match(raw_path)
        return allowed(methods) if methods else ""

    def _match(self, raw_path: str) -> tuple[Methods | None, dict[str, str]]:
        exact = self._exact.get(raw_path)
        if exact is not None:
            return exact, {}
        segments = raw_path.split("/")
        for pattern, methods in self._patterns:
            params = _match_segments(pattern, segments)
            if params is not None:
                return methods, params
        return None, {}


def allowed(methods: Iterable[str]) -> str:
    """An Allow header for these methods."""
    names = set(methods) | {"OPTIONS"}
    if "GET" in names:
        names.add("HEAD")
    return ", ".join(sorted(names))


def _match_segments(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    takes_rest = pattern[-1].endswith("*}")
    if len(segments) < len(pattern) if takes_rest else len(segments) != len(pattern):
        return None
    params: dict[str, str] = {}
    for index, part in enumerate(pattern):
        if not part.startswith("{"):
            if part != segments[index]:
                return None
        elif part.endswith("*}"):
            rest = "/".join(unquote(segment) for segment in segments[index:])
            if not rest:
                return None
            params[part[1:-2]] = rest
        else:
            if not segments[index]:
                return None
            params[part[1:-1]] = unquote(segments[index])
    return params
