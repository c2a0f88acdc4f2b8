"""JSON at the door is read strictly, and every field is known, ignored aloud, or refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import Door

from catena.core.errors import InputError, TooLargeError
from catena.reach.gateway.protocols.openai import fields
from catena.reach.gateway.protocols.openai.chat import ChatWire
from catena.reach.gateway.protocols.openai.completions import CompletionWire
from catena.reach.gateway.protocols.openai.embeddings import EmbeddingWire
from catena.reach.gateway.wire import check_depth, decode

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800 and more text"}',
        b'{"a": 1,}',
        b'{"a": 1} {}',
        b"\xef\xbb\xbf{}",
        b'{"a": "line\nbreak"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_not_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(InputError, match="the body"):
        decode(body, 64)


@settings(max_examples=50)
@given(st.recursive(st.none() | st.text(max_size=20) | st.integers(-(2**60), 2**60), st.lists, max_leaves=8))
def test_every_json_object_is_read_as_it_is(value: Any) -> None:
    assert decode(json.dumps({"a": value}).encode(), 64) == {"a": value}


@given(st.text(alphabet='"\\[]{}a', max_size=40), st.integers(1, 8))
def test_depth_counts_brackets_outside_strings_only(text: str, depth: int) -> None:
    nested = b"[" * depth + json.dumps(text).encode() + b"]" * depth
    check_depth(nested, depth)
    with pytest.raises(TooLargeError):
        check_depth(nested, depth - 1)


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 500_000, b'{"' * 300_000, b'"a' * 400_000, b"\\" * 900_000 + b"[" * 90]
)
def test_the_depth_scan_is_linear_also_for_hostile_bytes(text: bytes) -> None:
    began = time.process_time()
    with pytest.raises(InputError):
        decode(b"[" * 65 + text, 65) if text[:1] == b'"' else decode(text, 64)
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    ("table", "wire"), [(fields.CHAT, ChatWire), (fields.COMPLETION, CompletionWire), (fields.EMBEDDING, EmbeddingWire)]
)
def test_the_table_says_honoured_of_exactly_what_the_wire_form_reads(table: Any, wire: Any) -> None:
    honoured = {name for name, field in table.items() if field.treatment == "honoured"}
    assert honoured == set(wire.__struct_fields__)


async def refusal(door: Door, path: str = CHAT, **change: Any) -> Any:
    """The error that `change` to a good request brings."""
    response = await door.post(path, {**ASK, **change})
    assert response.status in (400, 413), response.body
    assert door.script.asked == []
    return response.error


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"seed": 1 << 63}, "seed"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "colour": 1}]}, "messages[0].colour"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
         "tools[0].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "http://x"}}}},
         "response_format"),
        ({"grammar": "root ::= x", "response_format": {"type": "json_object"}}, "grammar"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"temprature": 1}, "temprature"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"other": 1}}, "chat_template_kwargs.other"),
        ({"adapters": {"a": 3.0}}, "adapters"),
    ],
)  # fmt: skip
async def test_a_bad_parameter_is_refused_by_name(door: Door, change: dict[str, Any], param: str) -> None:
    error = await refusal(door, **change)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.anyio
async def test_an_unknown_parameter_is_refused_with_the_nearest_known(door: Door) -> None:
    error = await refusal(door, temprature=1)
    assert error["code"] == "unknown_parameter"
    assert "'temperature'" in error["hint"]


@pytest.mark.anyio
@pytest.mark.parametrize("missing", ["model", "messages"])
async def test_a_missing_parameter_is_named(door: Door, missing: str) -> None:
    response = await door.post(CHAT, {name: value for name, value in ASK.items() if name != missing})
    assert (response.status, response.error["param"]) == (400, missing)


@pytest.mark.anyio
async def test_ignored_parameters_are_named_in_a_header_and_harmless_values_are_not(door: Door) -> None:
    body = {
        **ASK,
        "store": True,
        "user": "me",
        "service_tier": "auto",
        "metadata": {},
        "modalities": ["text"],
        "function_call": "none",
        "prediction": None,
        "audio": None,
    }
    response = await door.post(CHAT, body)
    assert response.status == 200
    warned = [part.split(" ")[0] for part in response.headers["catena-warning"].split("; ")]
    assert warned == ["store", "user"]
    assert "catena-warning" not in (await door.post(CHAT, ASK)).headers


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(fields.CHAT))
async def test_null_is_as_good_as_nothing_for_every_optional_parameter(door: Door, name: str) -> None:
    if name not in ASK:
        response = await door.post(CHAT, {**ASK, name: None})
        assert response.status == 200
        assert "catena-warning" not in response.headers


@pytest.mark.anyio
async def test_an_earlier_answer_can_be_sent_back_as_it_came(door: Door) -> None:
    message = (await door.post(CHAT, ASK)).json["choices"][0]["message"]
    sent = {**message, "audio": None, "function_call": None, "tool_calls": None, "annotations": []}
    response = await door.post(CHAT, {**ASK, "messages": [*ASK["messages"], sent, *ASK["messages"]]})
    assert response.status == 200


@pytest.mark.anyio
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
async def test_a_body_that_a_page_may_send_unasked_is_refused(door: Door, content_type: str) -> None:
    response = await door.post(CHAT, ASK, headers={"content-type": content_type})
    assert (response.status, response.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.anyio
async def test_a_compressed_body_is_refused(door: Door) -> None:
    response = await door.post(CHAT, ASK, headers={"content-encoding": "gzip"})
    assert (response.status, response.error["code"]) == (415, "unsupported_encoding")


@pytest.mark.anyio
async def test_a_body_larger_than_the_limit_is_refused_also_in_pieces(make_door: Callable[..., Door]) -> None:
    door = make_door(max_body_bytes=100)
    assert (await door.post(CHAT, {**ASK, "user": "x" * 100})).status == 413
    pieces = await door.ask("POST", CHAT, pieces=[b" " * 60, b" " * 60])
    assert (pieces.status, pieces.error["code"]) == (413, "body_too_large")


@pytest.mark.anyio
async def test_the_error_never_quotes_content(door: Door) -> None:
    secret = "my secret illness"
    for body in (
        {**ASK, "messages": [{"role": secret, "content": "x"}]},
        {**ASK, "messages": [{"role": "user", "content": [{"type": secret}]}]},
        {**ASK, "tool_choice": secret},
        {**ASK, "response_format": {"type": secret}},
    ):
        response = await door.post(CHAT, body)
        assert response.status == 400
        assert secret.encode() not in response.body
