"""Only this machine's own addresses, `localhost` and configured names are served; other pages are kept out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.reach.gateway.conftest import Door

from catena.core.errors import ConfigError

pytestmark = pytest.mark.anyio
MakeDoor = Callable[..., Door]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:7411", "127.0.0.1:7411", "127.9.9.9", "[::1]:7411", "localhost.", "[::ffff:7f00:1]"],
)
async def test_names_of_this_machine_are_served(door: Door, host: str) -> None:
    assert (await door.get("/healthz", headers={"host": host})).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.5", "169.254.169.254",
        "0.0.0.0", "user@localhost", "localhost/x", "localhost:port", "[::1", "localhost#", "0x7f000001", "2130706433",
    ],
)  # fmt: skip
async def test_any_other_host_is_forbidden_against_dns_rebinding(door: Door, host: str) -> None:
    response = await door.get("/healthz", headers={"host": host})
    assert (response.status, response.error["code"]) == (403, "forbidden")


async def test_a_missing_host_is_forbidden_and_two_are_refused(door: Door) -> None:
    assert (await door.get("/healthz", headers={"host": None})).status == 403
    assert (await door.get("/healthz", headers=[("host", "localhost")])).status == 400


async def test_the_address_a_request_came_in_on_is_ours(make_door: MakeDoor) -> None:
    door = make_door(key=True, host="192.168.1.4")
    ours = await door.get("/healthz", headers={"host": "192.168.1.4:7411"}, server=("192.168.1.4", 7411))
    other = await door.get("/healthz", headers={"host": "192.168.1.9:7411"}, server=("192.168.1.4", 7411))
    assert (ours.status, other.status) == (200, 403)


async def test_a_configured_name_is_served(make_door: MakeDoor) -> None:
    door = make_door(allowed_hosts=("ai.home.arpa",))
    assert (await door.get("/healthz", headers={"host": "AI.home.arpa:7411"})).status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:7411", 200),
        ("https://localhost:7411", 200),
        ("http://localhost:9999", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://127.0.0.1:7411", 403),
    ],
)
async def test_only_the_page_we_served_may_ask(door: Door, origin: str, status: int) -> None:
    assert (await door.get("/v1/models", headers={"origin": origin})).status == status


async def test_no_cors_header_is_sent_unless_configured(door: Door) -> None:
    for response in (
        await door.get("/v1/models", headers={"origin": "http://localhost:7411"}),
        await door.ask("OPTIONS", "/v1/models"),
        await door.ask("OPTIONS", "/v1/models", headers={"origin": "http://evil.example"}),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_configured_origin_may_ask_and_read_the_receipt(make_door: MakeDoor) -> None:
    door = make_door(cors_origins=("https://app.example",))
    wanted = {"origin": "https://app.example", "access-control-request-headers": "authorization, content-type, x;evil"}
    preflight = await door.ask("OPTIONS", "/v1/chat/completions", headers=wanted)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = await door.get("/v1/models", headers={"origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"catena-receipt", "inference-header-content-length"} <= set(exposed)
    assert "access-control-allow-credentials" not in answer.headers


async def test_every_answer_carries_the_security_headers(door: Door) -> None:
    for path in ("/healthz", "/nothing", "/v1/models"):
        headers = (await door.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "my-machine"])
async def test_listening_beyond_loopback_without_a_key_is_refused_at_start(make_door: MakeDoor, host: str) -> None:
    with pytest.raises(ConfigError, match="needs an API key") as caught:
        make_door(host=host)
    assert "catena keys add" in caught.value.hint


async def test_beyond_loopback_every_route_but_health_and_console_needs_a_key(make_door: MakeDoor) -> None:
    door = make_door(key=True, host="192.168.1.4")
    here: Any = {"headers": {"host": "192.168.1.4"}, "server": ("192.168.1.4", 7411)}
    free = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
    for route in door.app.table.routes:
        is_console = route.scope is None and route.pattern.startswith(("/receipts", "/console", "/machine"))
        is_call = route.method == "GRPC"  # no method of HTTP; what calls need: tests/clients/triton/test_calls.py
        if route.pattern in free or is_console or is_call or route.pattern == "/":
            continue
        response = await door.ask(route.method, route.pattern.replace("{", "").replace("}", ""), {}, **here)
        assert response.status == 401, route.pattern
        assert response.headers["www-authenticate"].startswith("Bearer")
