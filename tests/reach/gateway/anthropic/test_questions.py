"""What is asked: every block, tool and parameter becomes the core's own words, or is refused by its place."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from tests.reach.gateway.anthropic.conftest import ADD, ASK, PATH
from tests.reach.gateway.conftest import MODEL, Door, Row

from catena.core.errors import (
    AuditError,
    BusyError,
    CatenaError,
    ContextError,
    EngineError,
    ExpiredError,
    FormatError,
    NotFoundError,
    RefusedError,
    ResourceError,
    UnsupportedError,
)
from catena.core.ids import new_id
from catena.core.messages import Delta, Image, Message, Text, Tool, ToolCall, ToolChoice
from catena.reach.gateway.protocols.anthropic import fields, signing

pytestmark = pytest.mark.anyio
PNG = base64.b64encode(b"\x89PNG").decode()
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
VERSION = {"anthropic-version": "2023-06-01"}


async def asked(door: Door, **change: Any) -> Any:
    """The request that the router gets."""
    response = await door.post(PATH, {**ASK, **change})
    assert response.status == 200, response.body
    return door.script.asked[-1]


async def talk(door: Door, *turns: Any, **change: Any) -> tuple[Message, ...]:
    """The messages that these turns become."""
    return (await asked(door, messages=list(turns), **change)).messages


async def refused(door: Door, **change: Any) -> Any:
    """The error that `change` brings."""
    response = await door.post(PATH, {**ASK, **change})
    assert response.status == 400, response.body
    assert response.json["type"] == "error"
    assert response.error["type"] == "invalid_request_error"
    assert door.script.asked == []
    return response.error["details"]


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


async def test_sampling_is_passed_on_and_the_answer_may_fill_the_context(door: Door) -> None:
    sampling = (await asked(door, temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["a", "b"])).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (50, 0.5, 0.9, 3)
    assert sampling.stop == ("a", "b")
    assert sampling.fills_context


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stop_sequences": ["\n"]}, "stop_sequences"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages[0].name"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "txt", "text": "x"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"text": "x"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "text", "text": "x", "colour": 1})]}, "messages[0].content[0].colour"),
        ({"messages": [user(USE)]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image", "source": {"type": "base64"}}]}, "system[0]"),
        ({"tools": [{"name": "add"}]}, "tools[0].input_schema"),
        ({"tools": [{**ADD, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [ADD, ADD]}, "tools[1].name"),
        ({"tools": [{**ADD, "input_schema": {"type": "array"}}]}, "tools[0].input_schema.type"),
        ({"tools": [{**ADD, "colour": "red"}]}, "tools[0].colour"),
        ({"tools": [{**ADD, "type": "robot"}]}, "tools[0].type"),
        ({"tools": [{**ADD, "type": 5}]}, "tools[0].type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "sub"}, "tools": [ADD]}, "tool_choice.name"),
        ({"tool_choice": {"type": "auto", "name": "add"}, "tools": [ADD]}, "tool_choice.name"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "loud"}}, "thinking.type"),
        ({"thinking": {"type": "disabled", "colour": 1}}, "thinking.colour"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
        ({"output_config": {"fromat": None}}, "output_config.fromat"),
        ({"max_tokenz": 5}, "max_tokenz"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_its_place(door: Door, change: Any, param: str) -> None:
    assert (await refused(door, **change))["param"] == param


async def test_system_is_a_text_or_blocks(door: Door) -> None:
    question = Message("user", (Text("hi"),))
    assert (await talk(door, *ASK["messages"], system="Be short.")) == (
        Message("system", (Text("Be short."),)),
        question,
    )
    blocks = [{**text("Be"), "cache_control": {"type": "ephemeral"}}, text(" short.")]
    (system, _) = await talk(door, *ASK["messages"], system=blocks)
    assert system.parts == (Text("Be"), Text(" short."))
    assert await talk(door, *ASK["messages"], system="") == (question,)


async def test_a_system_turn_may_come_later(door: Door) -> None:
    found = await talk(door, *ASK["messages"], {"role": "system", "content": "Now in French."})
    assert [message.role for message in found] == ["user", "system"]


async def test_turns_of_one_side_become_one(door: Door) -> None:
    found = await talk(door, user(text("a"), text("b")), user(text("c")))
    assert found == (Message("user", (Text("a"), Text("b"), Text("\n\n"), Text("c"))),)


async def test_an_image_comes_by_value(door: Door) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    (message,) = await talk(door, user({"type": "image", "source": source}, text("What is it?")))
    assert message.parts == (Image(b"\x89PNG", "image/png"), Text("What is it?"))


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ({"type": "url", "url": "http://127.0.0.1/x.png"}, "unsupported"),
        ({"type": "file", "file_id": "file_1"}, "unsupported"),
        ({"type": "base64", "media_type": "image/png", "data": "&&&"}, "invalid_input"),
        ({"type": "base64", "media_type": "image/png", "data": ""}, "invalid_input"),
        ({"type": "base64", "media_type": "image/bmp", "data": PNG}, "invalid_input"),
        ({"type": "telepathy"}, "invalid_input"),
        ({"type": "base64", "media_type": "image/png", "data": PNG, "extra": 1}, "unknown_parameter"),
    ],
)
async def test_any_other_image_is_refused(door: Door, source: Any, code: str) -> None:
    details = await refused(door, messages=[user({"type": "image", "source": source})])
    assert details["param"].startswith("messages[0].content[0].source")
    assert details["error_code"] == code


async def test_documents_and_search_results_become_text(door: Door) -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "Once."}
    blocks = [
        {"type": "document", "title": "Tale", "context": "old", "source": plain},
        {"type": "document", "source": {"type": "content", "content": [text("Twice.")]}},
        {"type": "document", "source": {"type": "content", "content": "Thrice."}},
        {"type": "search_result", "title": "Hit", "source": "shelf", "content": [text("Found.")]},
    ]
    (message,) = await talk(door, user(*blocks))
    words = "".join(part.text for part in message.parts if isinstance(part, Text))
    assert words == "title: Tale\ncontext: old\nOnce.Twice.Thrice.title: Hit\nsource: shelf\nFound."


@pytest.mark.parametrize(
    "source",
    [
        {"type": "base64", "media_type": "application/pdf", "data": PNG},
        {"type": "url", "url": "http://127.0.0.1/x.pdf"},
        {"type": "file", "file_id": "x"},
        {"type": "text", "media_type": "text/html", "data": "<p>"},
        {"type": "content", "content": [USE]},
    ],
)
async def test_any_other_document_is_refused(door: Door, source: Any) -> None:
    details = await refused(door, messages=[user({"type": "document", "source": source})])
    assert details["param"].startswith("messages[0].content[0].source")


async def test_a_call_and_its_result_go_back_to_the_model(door: Door) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("3")]}
    found = await talk(door, *ASK["messages"], {"role": "assistant", "content": [text("I add."), USE]}, user(result))
    assert found[1] == Message("assistant", (Text("I add."),), (ToolCall("toolu_1", "add", '{"a":1}'),))
    assert found[2] == Message("tool", (Text("3"),), tool_call_id="toolu_1")


async def test_a_failed_result_says_so_and_a_result_may_hold_images_or_nothing(door: Door) -> None:
    second = {**USE, "id": "toolu_2"}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no file", "is_error": True},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [image]},
    ]
    turns = [*ASK["messages"], {"role": "assistant", "content": [USE, second]}, user(*results, text("Go on."))]
    found = await talk(door, *turns)
    assert found[2].parts == (Text("Error: "), Text("no file"))
    assert found[3].parts == (Image(b"\x89PNG", "image/png"),)
    assert found[4] == Message("user", (Text("Go on."),))


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "tool_result", "tool_use_id": "other"}],
        [text("first"), {"type": "tool_result", "tool_use_id": "toolu_1"}],
        [{"type": "tool_result", "tool_use_id": "toolu_1"}, {"type": "tool_result", "tool_use_id": "toolu_1"}],
        [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [USE]}],
    ],
)
async def test_a_result_out_of_place_is_refused(door: Door, content: Any) -> None:
    turns = [*ASK["messages"], {"role": "assistant", "content": [USE]}, {"role": "user", "content": content}]
    assert (await refused(door, messages=turns))["param"].startswith("messages[2].content[")


@pytest.mark.parametrize("use", [{**USE, "id": "a b"}, {**USE, "input": "x"}, {**USE, "caller": {"type": "code"}}])
async def test_a_strange_call_is_refused(door: Door, use: Any) -> None:
    turns = [*ASK["messages"], {"role": "assistant", "content": [use]}, *ASK["messages"]]
    assert (await refused(door, messages=turns))["param"].startswith("messages[1].content[0].")


async def test_thinking_of_ours_goes_back_and_a_changed_block_is_refused(door: Door) -> None:
    signature = signing.sign(None, new_id("rcpt"), "hm")
    block = {"type": "thinking", "thinking": "hm", "signature": signature}
    found = await talk(door, *ASK["messages"], {"role": "assistant", "content": [block, text("42")]}, user(text("?")))
    assert found[1].reasoning == "hm"
    door.script.asked.clear()
    turns = [*ASK["messages"], {"role": "assistant", "content": [{**block, "thinking": "ha"}]}, user(text("?"))]
    assert (await refused(door, messages=turns))["param"] == "messages[1].content[0].signature"


async def test_thinking_of_another_model_is_left_out_with_a_warning(door: Door) -> None:
    foreign = {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"}
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    turns = [*ASK["messages"], {"role": "assistant", "content": [redacted, foreign, text("42")]}, user(text("?"))]
    response = await door.post(PATH, {**ASK, "messages": turns})
    assert response.status == 200
    assert door.script.asked[0].messages[1] == Message("assistant", (Text("42"),))  # type: ignore[union-attr]
    for said in ("redacted_thinking left out", "thinking left out: another model made it"):
        assert said in response.headers["catena-warning"]


def test_a_signature_binds_the_text_the_receipt_and_the_machine() -> None:
    receipt, other = new_id("rcpt"), new_id("rcpt")

    def salt(name: str) -> bytes:
        return name.encode()

    signature = signing.sign(salt, receipt, "hm")
    assert signing.check(salt, signature, "hm") == "ours"
    assert signing.check(salt, signature, "hm ") == "changed"
    assert signing.check(salt, signature.replace(receipt, other), "hm") == "changed"
    assert signing.check(lambda name: name.encode() + b"!", signature, "hm") == "changed"
    assert signing.check(salt, f"ctn1.{receipt}", "hm") == "changed"
    for foreign in ("", "ctn1", "ctn1.x.y", "EqQBCgIYAhIM"):
        assert signing.check(salt, foreign, "hm") == "foreign"


@pytest.mark.parametrize(
    ("choice", "expected", "is_parallel"),
    [
        (None, ToolChoice("auto"), True),
        ({"type": "auto"}, ToolChoice("auto"), True),
        ({"type": "any"}, ToolChoice("required"), True),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "tool", "name": "add"}, ToolChoice("named", "add"), True),
        ({"type": "none"}, ToolChoice("none"), True),
    ],
)
async def test_tools_and_the_choice_among_them(
    door: Door, choice: Any, expected: ToolChoice, is_parallel: bool
) -> None:
    request = await asked(door, tools=[{**ADD, "type": "custom", "strict": True}], tool_choice=choice)
    assert request.tools == (Tool("add", "Add two numbers", ADD["input_schema"], strict=True),)
    assert request.tool_choice == expected
    assert request.parallel_tool_calls is is_parallel


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, None),
        ({"type": "enabled", "budget_tokens": 2048}, True),
        ({"type": "disabled"}, False),
        ({"type": "adaptive"}, None),
    ],
)
async def test_thinking_is_asked_for_forbidden_or_left_to_the_model(door: Door, thinking: Any, expected: Any) -> None:
    assert (await asked(door, thinking=thinking)).think is expected


async def test_an_answer_by_a_schema_also_under_its_older_name(door: Door) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    for change in ({"output_config": {"format": form, "effort": None}}, {"output_format": form}):
        output = (await asked(door, **change)).output
        assert (output.kind, output.schema) == ("schema", {"type": "object"})


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [ADD], "output_config": {"format": {"type": "json_schema", "schema": {}}}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "http://example.org/x"}}}},
        {"thinking": {"type": "between_tools"}},
        {"container": "container_1"},
        {"mcp_servers": [{"url": "http://127.0.0.1"}]},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "none"}]}},
        {"fallbacks": [{"model": "x"}]},
    ],
)
async def test_what_cannot_be_honoured_and_would_change_the_answer_is_refused(door: Door, change: Any) -> None:
    assert (await refused(door, **change))["error_code"] == "unsupported"


async def test_an_edit_of_the_context_that_keeps_everything_passes(door: Door) -> None:
    keep = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    response = await door.post(PATH, {**ASK, "context_management": keep})
    assert response.status == 200
    assert "catena-warning" not in response.headers


@pytest.mark.parametrize("name", [name for name, one in fields.TOOLS.items() if one.treatment == "refused"])
async def test_tools_that_others_would_run_are_refused(door: Door, name: str) -> None:
    tool = {"type": name.replace("*", "20260101"), "name": "x"}
    details = await refused(door, tools=[tool])
    assert (details["param"], details["error_code"]) == ("tools[0].type", "unsupported")


@pytest.mark.parametrize("name", [name for name, one in fields.BLOCKS.items() if one.treatment == "refused"])
async def test_blocks_that_others_would_make_are_refused(door: Door, name: str) -> None:
    details = await refused(door, messages=[user({"type": name})])
    assert (details["param"], details["error_code"]) == ("messages[0].content[0]", "unsupported")


async def test_what_is_not_honoured_is_named_once_in_the_warning(door: Door) -> None:
    marked = {**text("hi"), "cache_control": {"type": "ephemeral"}}
    change = {
        "messages": [user(marked, marked)],
        "cache_control": {"type": "ephemeral"},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "output_config": {"effort": "low"},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
    }
    warning = (await door.post(PATH, {**ASK, **change})).headers["catena-warning"]
    for name in ("cache_control", "metadata", "effort", "budget_tokens"):
        assert warning.count(f"{name} ignored") == 1
    assert "service_tier" not in warning
    assert "catena-warning" not in (await door.post(PATH, ASK, headers=VERSION)).headers


async def test_the_version_is_accepted_when_known_and_warned_about_when_not(door: Door) -> None:
    for headers in ({}, VERSION, {"anthropic-version": "2026-10-21"}):
        assert "catena-warning" not in (await door.post(PATH, ASK, headers=headers)).headers
    for version in ("2023-01-01", "2099-01-01", "é"):
        response = await door.post(PATH, ASK, headers={"anthropic-version": version})
        assert "anthropic-version" in response.headers["catena-warning"]
        assert response.status == 200


async def test_betas_are_accepted_warned_about_or_refused_by_table(door: Door) -> None:
    quiet = "token-counting-2024-11-01,fine-grained-tool-streaming-2025-05-14"
    assert "catena-warning" not in (await door.post(PATH, ASK, headers={"anthropic-beta": quiet})).headers
    loud = "prompt-caching-2024-07-31, claude-code-20250219, tomorrow-2099-01-01"
    warning = (await door.post(PATH, ASK, headers={"anthropic-beta": loud})).headers["catena-warning"]
    assert warning.count("anthropic-beta") == 3
    response = await door.post(PATH, ASK, headers={"anthropic-beta": "mcp-client-2025-11-20"})
    assert (response.status, response.error["details"]["param"]) == (400, "anthropic-beta")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ContextError(9, 5), 400, "invalid_request_error"),
        (UnsupportedError("no", param="think"), 400, "invalid_request_error"),
        (RefusedError("no"), 403, "permission_error"),
        (NotFoundError("no"), 404, "not_found_error"),
        (FormatError("no"), 422, "invalid_request_error"),
        (BusyError("full", retry_after_s=2.5), 429, "rate_limit_error"),
        (EngineError("no"), 500, "api_error"),
        (AuditError("no"), 503, "api_error"),
        (ResourceError("no"), 503, "overloaded_error"),
        (ExpiredError("no"), 504, "timeout_error"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_errors_have_the_types_of_the_api(
    door: Door, error: CatenaError, status: int, kind: str, is_stream: bool
) -> None:
    door.script.refusal = error
    response = await door.post(PATH, {**ASK, "stream": is_stream})
    assert response.status == status
    assert response.json["type"] == "error"
    assert response.error["type"] == kind
    assert response.error["details"]["error_code"] == error.code
    assert response.headers["request-id"].startswith("req_")
    assert response.error["details"].get("param") in (None, "thinking", "messages", "model")


async def test_a_key_is_taken_from_either_header_and_a_wrong_one_is_an_authentication_error(
    make_door: Callable[..., Door],
) -> None:
    door = make_door(key=True)
    _, key = door.access.add("second")
    for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
        assert (await door.post(PATH, ASK, headers=headers)).status == 200
    for headers in ({"x-api-key": key[:-1] + "z"}, {"authorization": f"Bearer {key[:-1]}z"}):
        response = await door.post(PATH, ASK, headers=headers)
        assert (response.status, response.error["type"]) == (401, "authentication_error")
        assert "request-id" in response.headers


async def test_a_body_over_the_limit_is_request_too_large(make_door: Callable[..., Door]) -> None:
    response = await make_door(max_body_bytes=40).post(PATH, ASK)
    assert (response.status, response.error["type"]) == (413, "request_too_large")


async def test_an_unknown_address_answers_in_the_dialect_of_the_header(door: Door) -> None:
    response = await door.post("/v1/messages/batches", {}, headers=VERSION)
    assert (response.status, response.json["type"], response.error["type"]) == (404, "error", "not_found_error")
    assert (await door.post("/v1/messages/batches", {})).json.keys() == {"error"}
    response = await door.get(PATH, headers={**VERSION, "host": "evil.example"})
    assert (response.status, response.error["type"]) == (403, "permission_error")


async def test_models_have_the_form_of_the_api_for_requests_with_its_header(door: Door) -> None:
    listed = (await door.get("/v1/models", headers=VERSION)).json
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "tiny", "tiny")
    (model,) = listed["data"]
    assert (model["type"], model["id"], model["max_input_tokens"]) == ("model", "tiny", 128)
    assert model["created_at"] == "2023-11-14T22:13:20Z"
    for name in ("tiny", "default", MODEL.digest.replace(":", "%3A")):
        assert (await door.get(f"/v1/models/{name}", headers=VERSION)).json == model
    missing = await door.get("/v1/models/nope", headers=VERSION)
    assert (missing.status, missing.error["type"]) == (404, "not_found_error")
    assert (await door.get("/v1/models")).json["object"] == "list"


async def test_models_come_in_pages(door: Door) -> None:
    rows = [Row(f"m{index}", MODEL.digest, (), MODEL.manifest) for index in range(5)]
    door.app.services = msgspec.structs.replace(door.app.services, models=lambda: rows)

    async def page(query: str) -> tuple[list[str], bool]:
        found = (await door.get(f"/v1/models?{query}", headers=VERSION)).json
        return [one["id"] for one in found["data"]], found["has_more"]

    assert await page("limit=2") == (["m0", "m1"], True)
    assert await page("limit=2&after_id=m1") == (["m2", "m3"], True)
    assert await page("limit=2&after_id=m3") == (["m4"], False)
    assert await page("limit=2&before_id=m3") == (["m1", "m2"], True)
    assert await page("after_id=m4") == ([], False)
    for query in ("limit=0", "limit=1001", "after_id=x", "after_id=m1&before_id=m2"):
        response = await door.get(f"/v1/models?{query}", headers=VERSION)
        assert (response.status, response.error["type"]) == (400, "invalid_request_error")


async def test_the_door_and_the_key_are_recorded(door: Door) -> None:
    await door.post(PATH, ASK)
    assert [(caller.key, caller.door) for caller in door.script.callers] == [("local", "anthropic.messages")]


async def test_a_client_that_leaves_cancels_the_work(door: Door) -> None:
    door.script.events = [Delta(text="x"), anyio.sleep_forever]
    await door.post(PATH, {**ASK, "stream": True}, leave_after=1)
    assert door.script.outcomes[0].startswith("cut")


async def test_a_prompt_is_counted_with_its_receipt(door: Door) -> None:
    prompt = {name: value for name, value in ASK.items() if name != "max_tokens"}
    response = await door.post(f"{PATH}/count_tokens", {**prompt, "system": "Be short.", "tools": [ADD]})
    assert response.json == {"input_tokens": 7}
    assert response.headers["catena-receipt"].startswith("rcpt_")
    request = door.script.asked[0]
    assert (request.messages[0].role, len(request.tools)) == ("system", 1)  # type: ignore[union-attr]
    assert door.script.callers[0].door == "anthropic.count_tokens"


async def test_a_count_takes_the_parameters_of_a_prompt_only(door: Door) -> None:
    for change in ({"max_tokens": 5}, {"stream": True}, {"temperature": 0}):
        prompt = {name: value for name, value in ASK.items() if name != "max_tokens"}
        response = await door.post(f"{PATH}/count_tokens", {**prompt, **change})
        assert (response.status, response.error["details"]["error_code"]) == (400, "unknown_parameter")
    missing = await door.post(f"{PATH}/count_tokens", {"model": "nope", "messages": ASK["messages"]})
    assert (missing.status, missing.error["type"]) == (404, "not_found_error")


async def test_a_thread_is_refused_in_the_words_that_make_the_client_send_the_whole(door: Door) -> None:
    details = await refused(door, thread={"create": True})
    assert details["error_code"] == "thread_unsupported_request"
    assert (await door.post(PATH, {**ASK, "thread": False})).status == 200
