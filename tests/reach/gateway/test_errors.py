"""Errors reach the client with the right status, body and headers, before a stream and within it."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import msgspec
import pytest
from tests.reach.gateway.conftest import Door

from catena.core.errors import (
    HTTP_STATUS,
    AuditError,
    BusyError,
    CatenaError,
    ContextError,
    EngineError,
    RefusedError,
    UnsupportedError,
)
from catena.core.messages import Delta, Progress
from catena.reach.gateway import answering
from catena.reach.gateway.routing import Dialect, Route, Table

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
BOTH = pytest.mark.parametrize("is_stream", [False, True])


@BOTH
@pytest.mark.parametrize(
    ("error", "status", "code", "kind"),
    [
        (ContextError(9, 5), 400, "context_length_exceeded", "invalid_request_error"),
        (UnsupportedError("no"), 400, "unsupported", "invalid_request_error"),
        (RefusedError("no"), 403, "refused", "permission_error"),
        (BusyError("full", retry_after_s=2.5), 429, "rate_limit_exceeded", "rate_limit_error"),
        (EngineError("broke"), 500, "engine_failed", "server_error"),
        (AuditError("full disk"), 503, "audit_unavailable", "server_error"),
    ],
)
async def test_an_error_before_the_first_token_is_an_http_error(
    door: Door, error: CatenaError, status: int, code: str, kind: str, is_stream: bool
) -> None:
    door.script.events = [Progress("loading"), error]
    response = await door.post(CHAT, {**ASK, "stream": is_stream})
    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    assert (response.error["code"], response.error["type"]) == (code, kind)
    assert response.headers["catena-receipt"] == error.receipt


async def test_context_overflow_gives_both_numbers(door: Door) -> None:
    door.script.events = [ContextError(900, 512)]
    error = (await door.post(CHAT, ASK)).error
    assert "900" in error["message"]
    assert "512" in error["message"]
    assert error["param"] == "messages"


async def test_busy_says_when_to_come_back(door: Door) -> None:
    door.script.events = [BusyError("full", retry_after_s=2.5)]
    response = await door.post(CHAT, ASK)
    assert response.headers["retry-after"] == "3"
    assert "x-should-retry" not in response.headers


async def test_no_client_repeats_by_itself_what_was_already_computed(door: Door) -> None:
    door.script.events = [Delta(text="x"), EngineError("broke")]
    assert (await door.post(CHAT, ASK)).headers["x-should-retry"] == "false"


async def test_an_error_in_mid_stream_is_an_event_and_no_clean_end(door: Door) -> None:
    door.script.events = [Delta(text="half"), EngineError("broke")]
    response = await door.post(CHAT, {**ASK, "stream": True})
    assert response.status == 200
    last = response.body.decode().rstrip().splitlines()[-1]
    error = msgspec.json.decode(last.removeprefix("data: "))["error"]
    assert (error["code"], error["status"]) == ("engine_failed", 500)
    assert b"[DONE]" not in response.body


@BOTH
async def test_a_bug_of_ours_is_an_internal_error_whose_message_stays_here(
    door: Door, is_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    door.script.events = [ValueError("the secret question")]
    with caplog.at_level(logging.ERROR):
        response = await door.post(CHAT, {**ASK, "stream": is_stream})
    assert (response.status, response.error["code"]) == (500, "internal")
    assert b"secret" not in response.body
    assert "secret" not in caplog.text
    assert "ValueError" in caplog.text


@BOTH
async def test_a_request_that_takes_too_long_is_ended(make_door: Any, is_stream: bool) -> None:
    door = make_door(request_timeout_s=0.05)
    door.script.events = [anyio.sleep_forever]
    response = await door.post(CHAT, {**ASK, "stream": is_stream})
    assert (response.status, response.error["code"]) == (504, "expired")
    assert response.headers["catena-receipt"].startswith("rcpt_")
    assert response.headers["x-should-retry"] == "false"
    assert door.script.outcomes == ["cut CancelledError"]


async def test_a_stream_that_takes_too_long_ends_with_an_error_event(
    make_door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "HOLD_S", 0.0)
    door = make_door(request_timeout_s=0.05)
    door.script.events = [Delta(text="x"), anyio.sleep_forever]
    response = await door.post(CHAT, {**ASK, "stream": True})
    assert b'"code":"expired"' in response.body
    assert b"[DONE]" not in response.body


@pytest.mark.parametrize("leave_after", [0, 1])
@BOTH
async def test_whenever_the_client_leaves_the_work_is_cancelled(door: Door, leave_after: int, is_stream: bool) -> None:
    door.script.events = [Delta(text="x"), anyio.sleep_forever]
    if leave_after and not is_stream:
        leave_after = 0
    await door.ask("POST", CHAT, {**ASK, "stream": is_stream}, leave_after=leave_after)
    assert door.script.outcomes == ["cut CancelledError"]


async def test_an_unknown_model_is_not_found_by_name_of_the_parameter(door: Door) -> None:
    for path, body in (
        (CHAT, ASK),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/embeddings", {"input": "x"}),
    ):
        response = await door.post(path, {**body, "model": "nope"})
        assert (response.status, response.error["code"], response.error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "route_not_found"),
        ("POST", "/v1//chat/completions", 404, "route_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/tiny", 405, "method_not_allowed"),
        ("GET", "/v1/models/../models", 404, "model_not_found"),
        ("GET", "/v1/./models", 404, "route_not_found"),
    ],
)
async def test_a_wrong_address_or_method_is_said_so(door: Door, method: str, path: str, status: int, code: str) -> None:
    response = await door.ask(method, path)
    assert (response.status, response.error["code"]) == (status, code)
    if status == 405:
        assert "OPTIONS" in response.headers["allow"]


async def test_a_trailing_slash_is_forgiven_and_head_is_get_without_a_body(door: Door) -> None:
    assert (await door.get("/v1/models/")).status == 200
    whole, head = await door.get("/v1/models"), await door.ask("HEAD", "/v1/models")
    assert head.body == b""
    assert head.headers["content-length"] == str(len(whole.body))


async def test_every_error_code_has_a_status_of_its_class() -> None:
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


async def test_two_routes_for_one_address_are_our_own_bug() -> None:
    async def handle(exchange: Any) -> None: ...

    route = Route("GET", "/x/{a}", handle, None, Dialect(lambda _: b"", lambda _: b""))
    with pytest.raises(ValueError, match="two routes"):
        Table([route, route])
    found = Table([route]).find("GET", "/x/a%2Fb")
    assert found.params == {"a": "a/b"}
