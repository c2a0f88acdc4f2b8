"""Whatever is sent, the answer is never our own failure: 2xx or 4xx with an error body."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script

from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create
from catena.reach.gateway.protocols.openai import fields

GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "tiny", "prompt": "hi"},
    "/v1/embeddings": {"model": "tiny", "input": "hi"},
}
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=9)
ANYTHING = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=9), one, max_size=3), max_leaves=6
)
SHAPES = st.sampled_from(
    [
        {"role": "user"}, {"type": "text", "text": "x"}, {"type": "function", "function": {"name": "f"}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}, {"type": "json_object"}, {"1": 5}, "auto",
        [{"role": "assistant", "content": None, "tool_calls": []}], [[]], {"include_usage": True}, "stop", 0, -1, 1e300,
    ]
)  # fmt: skip
QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ask(path: str, body: bytes, method: str = "POST", headers: dict[str, str] | None = None) -> Any:
    """One request to a gateway of its own."""
    script = Script()
    app = create(
        script, ReachSettings(), Access(Memory()), models=lambda: [Row("tiny", MODEL.digest, (), MODEL.manifest)]
    )
    door = Door(app, script, Access(Memory()), Log())

    async def once() -> Any:
        return await door.ask(method, path, body, headers=headers or {})

    return anyio.run(once)


def check(response: Any) -> None:
    """No failure of ours, and errors have their body."""
    assert 200 <= response.status < 500, response.body
    if response.status >= 400:
        assert response.error["message"]
        assert response.error["type"]


@QUICK
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_values_of_known_parameters(path: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(fields.TABLES[f"POST {path}"]))
    change = data.draw(st.dictionaries(names, SHAPES | ANYTHING, min_size=1, max_size=3))
    check(ask(path, json.dumps({**GOOD[path], **change}).encode()))


@QUICK
@given(st.sampled_from(sorted(GOOD)), ANYTHING)
def test_any_json(path: str, value: Any) -> None:
    check(ask(path, json.dumps(value).encode()))


@QUICK
@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=60))
def test_any_bytes(path: str, body: bytes) -> None:
    check(ask(path, body))


@QUICK
@given(st.text(alphabet="/v1catenmodels%20.{}*\x00é", max_size=30), st.sampled_from(["GET", "POST", "HEAD", "PUT"]))
def test_any_path(path: str, method: str) -> None:
    response = ask("/" + path.replace("?", ""), b"", method)
    assert 200 <= response.status < 500


@QUICK
@given(st.dictionaries(
    st.sampled_from(["host", "origin", "authorization", "x-api-key", "content-length", "content-type", "accept"]),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
))  # fmt: skip
def test_any_headers(headers: dict[str, str]) -> None:
    check(ask("/v1/completions", json.dumps(GOOD["/v1/completions"]).encode(), headers=headers))


@pytest.mark.parametrize("path", sorted(GOOD))
def test_the_good_request_that_the_others_start_from_is_good(path: str) -> None:
    assert ask(path, json.dumps(GOOD[path]).encode()).status == 200
