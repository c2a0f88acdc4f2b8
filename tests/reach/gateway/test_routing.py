"""Routes that share an address, told apart by a header; and what an address that nobody owns answers with."""

from __future__ import annotations

from typing import Any

import pytest

from catena.reach.gateway.failures import HttpError
from catena.reach.gateway.native import NATIVE
from catena.reach.gateway.routing import Dialect, Route, Table


async def _nothing(exchange: Any) -> None:
    pass


OTHER = Dialect(lambda failure: b"other", lambda failure: b"", id_header="other-id")
PLAIN = Route("GET", "/v1/things/{name*}", _nothing, None, NATIVE)
MARKED = Route("GET", "/v1/things/{name*}", _nothing, None, OTHER, header="other-version")


@pytest.mark.parametrize("routes", [[PLAIN, MARKED], [MARKED, PLAIN]])
def test_a_route_with_a_header_is_taken_by_requests_that_carry_it_and_by_no_other(routes: list[Route]) -> None:
    table = Table(routes)
    assert table.find("GET", "/v1/things/a/b", {"other-version": "1"}).route is MARKED
    assert table.find("HEAD", "/v1/things/a/b", {"accept": "x"}).route is PLAIN
    assert table.find("GET", "/v1/things/a/b").params == {"name": "a/b"}


def test_an_address_that_only_headers_lead_to_is_not_found_without_them() -> None:
    with pytest.raises(HttpError) as caught:
        Table([MARKED]).find("GET", "/v1/things/a")
    assert caught.value.status == 404
    assert "other-version" in caught.value.message


def test_two_routes_for_one_header_are_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Table([PLAIN, MARKED, MARKED])


def test_a_request_without_a_route_is_answered_in_the_dialect_that_its_headers_speak() -> None:
    table = Table([PLAIN, MARKED])
    assert table.dialect({"other-version": "1"}) is OTHER
    assert table.dialect({"accept": "x"}) is None


INFER = Route("POST", "/v2/models/{model}/infer", _nothing, None, NATIVE)
VERSIONED = Route("POST", "/v2/models/{model}/versions/{version}/infer", _nothing, None, NATIVE)


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/v2/models/net/infer", INFER, {"model": "net"}),
        ("/v2/models/far/net/infer", INFER, {"model": "far/net"}),
        ("/v2/models/far%2Fnet/infer", INFER, {"model": "far/net"}),
        ("/v2/models/far/a/b/infer", INFER, {"model": "far/a/b"}),
        ("/v2/models/far/net/versions/1/infer", VERSIONED, {"model": "far/net", "version": "1"}),
    ],
)
def test_a_model_whose_name_holds_a_slash_is_found(path: str, route: Route, params: dict[str, str]) -> None:
    found = Table([INFER, VERSIONED]).find("POST", path)
    assert found.route is route and found.params == params


@pytest.mark.parametrize("path", ["/v2/models//infer", "/v2/models/a//infer", "/v2/models" + "/a" * 20 + "/infer", "*"])
def test_an_address_that_only_looks_like_such_a_name_is_not_found(path: str) -> None:
    with pytest.raises(HttpError):
        Table([INFER, VERSIONED]).find("POST", path)
