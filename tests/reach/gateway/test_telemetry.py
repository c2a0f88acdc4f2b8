"""What is counted: every request once, by route and status, whatever became of it; and never a word of content."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reach.gateway.conftest import Door

from catena.core.errors import EngineError
from catena.core.messages import Delta, Usage
from catena.reach.gateway import telemetry
from catena.reach.gateway.exchange import header_text

CHAT = "/v1/chat/completions"
ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "a secret question"}]}


def count(route: str, status: str) -> float:
    return telemetry.REQUESTS.labels(route, status).value


@pytest.mark.anyio
@pytest.mark.parametrize(("events", "status"), [(None, "200"), ([EngineError("x")], "500"), ([ValueError("x")], "500")])
async def test_a_request_is_counted_once_under_its_route_and_status(door: Door, events: Any, status: str) -> None:
    before, running = count(CHAT, status), telemetry.RUNNING.value
    if events is not None:
        door.script.events = events
    await door.post(CHAT, ASK)
    assert count(CHAT, status) == before + 1
    assert telemetry.RUNNING.value == running


@pytest.mark.anyio
async def test_a_client_that_left_is_counted_as_gone(door: Door) -> None:
    before = count(CHAT, telemetry.GONE)
    door.script.events = [Delta(text="x"), anyio.sleep_forever]
    await door.post(CHAT, {**ASK, "stream": True}, leave_after=1)
    assert count(CHAT, telemetry.GONE) == before + 1


@pytest.mark.anyio
async def test_addresses_that_do_not_exist_share_one_label(door: Door) -> None:
    before = count("-", "404")
    for number in range(5):
        await door.get(f"/made/up/{number}")
    assert count("-", "404") == before + 5
    assert b"made" not in telemetry.exposition()


@pytest.mark.anyio
async def test_tokens_are_counted_where_usage_is_known_and_zero_is_a_value(door: Door) -> None:
    prompt, completion = (telemetry.TOKENS.labels("tiny", kind) for kind in ("prompt", "completion"))
    before = prompt.value, completion.value
    await door.post(CHAT, ASK)
    door.script.events = [Delta(text="x"), Usage(3, 0)]
    await door.post(CHAT, {**ASK, "stream": True})
    assert (prompt.value, completion.value) == (before[0] + 5 + 3, before[1] + 2)


@pytest.mark.anyio
async def test_the_access_log_names_route_and_status_and_no_content(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "catena"):
        await door.post(CHAT + "?q=secret", ASK, headers={"authorization": "Bearer secret"})
        await door.get("/secret/path")
    (first, second) = [record.getMessage() for record in caplog.records if record.name == "catena.reach.access"]
    assert first.startswith(f"POST {CHAT} 200 ")
    assert second.startswith("GET - 404 ")
    assert "secret" not in caplog.text


@given(st.text())
def test_a_header_text_is_printable_ascii_of_the_same_length(text: str) -> None:
    shown = header_text(text)
    assert len(shown) == len(text)
    assert all(" " <= letter <= "~" for letter in shown)
    assert all(new == old or new == "?" for new, old in zip(shown, text, strict=True))
    assert header_text(shown) == shown
