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
# A path with more is not looked at for the name of a model that goes over several.
MAX_SEGMENTS = 12


class Dialect(Struct, frozen=True):
    """How a protocol writes an error: as the body of an answer, and as the last bytes of a stream that broke off.

    `id_header` is where its clients look for the name of a request; `x-request-id` carries it always. `is_for_pages`:
    its answers carry the headers that keep pages of others out.
    """

    body: Callable[[Failure], bytes]
    event: Callable[[Failure], bytes]
    content_type: str = JSON
    id_header: str = "x-request-id"
    is_for_pages: bool = True


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
        self._patterns: list[tuple[_Pattern, Methods]] = []
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
                self._patterns.append((_Pattern(pattern), methods))
            else:
                self._exact[pattern] = methods
        # The patterns that a path of this first segment and length may match, in their order.
        self._longest = max((len(one.parts) for one, _ in self._patterns), default=0) + 1
        self._likely: dict[tuple[str, int], list[tuple[_Pattern, Methods]]] = {}
        # The longest first: `…/{model}/versions/{version}/infer` before `…/{model}/infer`.
        self._with_model = sorted(
            (pair for pair in self._patterns if pair[0].has_model), key=lambda pair: -len(pair[0].parts)
        )
        firsts = {one.parts[1] for one, _ in self._patterns}
        for first in firsts:
            for length in range(1, self._longest + 1):
                self._likely[first, length] = [
                    pair for pair in self._patterns if pair[0].parts[1] == first and pair[0].may_have(length)
                ]

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
        key = (segments[1] if len(segments) > 1 else "", min(len(segments), self._longest))
        for pattern, methods in self._likely.get(key, ()):
            params = pattern.match(segments)
            if params is not None:
                return methods, params
        return self._match_long(segments)

    def _match_long(self, segments: list[str]) -> tuple[Methods | None, dict[str, str]]:
        """For names of models that hold a slash, as those of providers do, from clients that leave it unescaped."""
        for pattern, methods in self._with_model if 2 < len(segments) <= MAX_SEGMENTS else ():
            params = pattern.match_long(segments)
            if params is not None:
                return methods, params
        return None, {}


def allowed(methods: Iterable[str]) -> str:
    """An Allow header for these methods."""
    names = set(methods) | {"OPTIONS"}
    if "GET" in names:
        names.add("HEAD")
    return ", ".join(sorted(names))


class _Pattern:
    """A path with names in it; its first segment is none."""

    __slots__ = ("_literals", "_names", "_rest", "parts")

    def __init__(self, path: str) -> None:
        self.parts = path.split("/")
        if self.parts[1].startswith("{"):
            raise ValueError(f"{path} must not begin with a name")
        self._rest = self.parts[-1][1:-2] if self.parts[-1].endswith("*}") else None
        fixed = self.parts[:-1] if self._rest else self.parts
        self._literals = [(index, part) for index, part in enumerate(fixed) if not part.startswith("{")]
        self._names = [(index, part[1:-1]) for index, part in enumerate(fixed) if part.startswith("{")]

    @property
    def has_model(self) -> bool:
        """Whether its first name is that of a model, after which the number of segments is fixed."""
        return self._rest is None and bool(self._names) and self._names[0][1] == "model"

    def match_long(self, segments: list[str]) -> dict[str, str] | None:
        """As `match`, with a model's name that goes over several segments."""
        extra = len(segments) - len(self.parts)
        if extra < 1:
            return None
        at = self._names[0][0]
        name = segments[at : at + extra + 1]
        return self.match([*segments[:at], "/".join(name), *segments[at + extra + 1 :]]) if all(name) else None

    def may_have(self, num_segments: int) -> bool:
        """Whether a path of so many segments may match."""
        return num_segments >= len(self.parts) if self._rest else num_segments == len(self.parts)

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The decoded values of the names, None if the path is another."""
        for index, text in self._literals:
            if segments[index] != text:
                return None
        params: dict[str, str] = {}
        for index, name in self._names:
            if not segments[index]:
                return None
            params[name] = unquote(segments[index])
        if self._rest:
            rest = "/".join(unquote(segment) for segment in segments[len(self.parts) - 1 :])
            if not rest:
                return None
            params[self._rest] = rest
        return params
