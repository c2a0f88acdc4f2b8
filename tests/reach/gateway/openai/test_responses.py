"""POST /v1/responses at once: the form of answers, what items become, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from tests.reach.gateway import conftest
from tests.reach.gateway.conftest import MODEL, Door
from tests.reach.gateway.openai.conftest import ADD, ASK, PATH, Maker, response_of

from catena.core.errors import ContextError, EngineError
from catena.core.messages import (
    Delta,
    Finished,
    Image,
    Message,
    OutputFormat,
    Sampling,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    TopLogprob,
    Usage,
)
from catena.reach.presets import Preset

pytestmark = pytest.mark.anyio
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
PNG = b"\x89PNG\r\n\x1a\n"


async def test_an_answer_at_once_has_the_form_of_the_api(door: Door) -> None:
    reply = await door.post(PATH, ASK)
    assert reply.status == 200
    answer = response_of(reply.json)
    assert answer["id"] == "resp_" + reply.headers["catena-receipt"].removeprefix("rcpt_")
    assert answer["catena"] == {"receipt": reply.headers["catena-receipt"]}
    assert (answer["object"], answer["status"], answer["model"]) == ("response", "completed", "tiny")
    (message,) = answer["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"] == [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello world"}]
    assert answer["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }
    assert answer["error"] is None
    assert answer["incomplete_details"] is None


async def test_every_parameter_of_the_question_is_repeated(door: Door) -> None:
    asked = {
        **ASK,
        "instructions": "be brief",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tools": [ADD],
        "tool_choice": {"type": "function", "name": "add"},
        "top_logprobs": 2,
        "reasoning": {"effort": "low"},
        "max_tool_calls": 3,
    }
    answer = response_of((await door.post(PATH, asked)).json)
    for name in ("instructions", "temperature", "top_p", "max_output_tokens", "metadata", "parallel_tool_calls"):
        assert answer[name] == asked[name], name
    assert answer["tools"] == [{**ADD, "strict": False}]
    assert answer["tool_choice"] == asked["tool_choice"]
    assert answer["reasoning"] == {"effort": "low", "summary": None}
    assert answer["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert (answer["store"], answer["background"], answer["truncation"]) == (True, False, "disabled")


async def test_sampling_reaches_the_model(door: Door) -> None:
    await door.post(PATH, {**ASK, "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 7, "seed": 3, "stop": "x"})
    sampling = door.script.asked[0].sampling  # type: ignore[union-attr]
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.9, 7)
    assert (sampling.seed, sampling.stop, sampling.fills_context, sampling.logprobs) == (3, ("x",), True, None)
    assert door.script.callers[0].door == "openai.responses"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("hi", [Message("user", (Text("hi"),))]),
        ([{"role": "user", "content": "hi"}], [Message("user", (Text("hi"),))]),
        (
            [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be brief"}]}],
            [Message("system", (Text("be brief"),))],
        ),
        (
            [{"role": "assistant", "content": [{"type": "output_text", "text": "yes", "annotations": []}]}],
            [Message("assistant", (Text("yes"),))],
        ),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
            [Message("assistant", (Text("no"),))],
        ),
        (
            [CALL, {"type": "function_call_output", "call_id": "c1", "output": "5"}],
            [
                Message("assistant", tool_calls=(ToolCall("c1", "add", "{}"),)),
                Message("tool", (Text("5"),), tool_call_id="c1"),
            ],
        ),
        (
            [
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                {"role": "assistant", "content": "I add"},
                CALL,
                {**CALL, "call_id": "c2"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "6"}]},
            ],
            [
                Message(
                    "assistant",
                    (Text("I add"),),
                    (ToolCall("c1", "add", "{}"), ToolCall("c2", "add", "{}")),
                    reasoning="hm",
                ),
                Message("tool", (Text("6"),), tool_call_id="c2"),
            ],
        ),
        (
            [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}],
            [Message("assistant", (Text("one"),)), Message("assistant", (Text("two"),))],
        ),
        (
            [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": '["s"]'}],
            [Message("assistant", reasoning="hm", seals=("s",))],
        ),
        (
            [{"role": "user", "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()},
            ]}],
            [Message("user", (Text("see"), Image(PNG, "image/png")))],
        ),
    ],
)  # fmt: skip
async def test_items_become_a_conversation(door: Door, given: Any, meant: list[Message]) -> None:
    reply = await door.post(PATH, {**ASK, "input": given})
    assert reply.status == 200, reply.body
    assert door.script.asked[0].messages == tuple(meant)  # type: ignore[union-attr]


async def test_instructions_come_before_everything(door: Door) -> None:
    await door.post(PATH, {**ASK, "instructions": "be brief"})
    assert door.script.asked[0].messages[0] == Message("system", (Text("be brief"),))  # type: ignore[union-attr]


async def test_what_was_sealed_elsewhere_is_left_out(door: Door) -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAB"}
    await door.post(PATH, {**ASK, "input": [item, {"role": "user", "content": "hi"}]})
    assert door.script.asked[0].messages == (Message("user", (Text("hi"),)),)  # type: ignore[union-attr]


async def test_an_output_can_be_sent_back_as_it_came(door: Door) -> None:
    door.script.events = [
        Delta(reasoning="hm", seal="s"),
        Delta(text="Hello"),
        ToolCallDelta(0, 0, "{}", id="c1", name="add"),
        Finished(0, "tool_calls"),
    ]
    output = (await door.post(PATH, {**ASK, "tools": [ADD]})).json["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[0]["encrypted_content"] == '["s"]'
    given = [*output, {"type": "function_call_output", "call_id": "c1", "output": "3"}]
    assert (await door.post(PATH, {**ASK, "input": given})).status == 200
    assert door.script.asked[1].messages == (  # type: ignore[union-attr]
        Message("assistant", (Text("Hello"),), (ToolCall("c1", "add", "{}"),), reasoning="hm", seals=("s",)),
        Message("tool", (Text("3"),), tool_call_id="c1"),
    )


async def test_calls_come_as_items_of_their_own(door: Door) -> None:
    door.script.events = [
        ToolCallDelta(0, 0, '{"a"', id="c1", name="add"),
        ToolCallDelta(0, 0, ":1}"),
        ToolCallDelta(0, 1, "{}", id="c2", name="add"),
        Finished(0, "tool_calls"),
    ]
    answer = response_of((await door.post(PATH, {**ASK, "tools": [ADD]})).json)
    assert [(item["call_id"], item["arguments"], item["status"]) for item in answer["output"]] == [
        ("c1", '{"a":1}', "completed"),
        ("c2", "{}", "completed"),
    ]
    assert all(item["id"].startswith("fc_") for item in answer["output"])


async def test_a_call_that_begins_before_another_is_complete_waits_its_turn(door: Door) -> None:
    door.script.events = [
        ToolCallDelta(0, 0, "{", id="c1", name="add"),
        ToolCallDelta(0, 1, "{", id="c2", name="add"),
        ToolCallDelta(0, 2, "[", id="c3", name="add"),
        ToolCallDelta(0, 0, "}"),
        ToolCallDelta(0, 1, "}"),
        Finished(0, "tool_calls"),
    ]
    output = (await door.post(PATH, {**ASK, "tools": [ADD]})).json["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("c1", "{}"), ("c2", "{}"), ("c3", "[")]


async def test_a_call_that_goes_on_after_it_was_complete_is_a_failure(door: Door) -> None:
    door.script.events = [
        ToolCallDelta(0, 0, "{}", id="c1", name="add"),
        ToolCallDelta(0, 1, "{}", id="c2", name="add"),
        ToolCallDelta(0, 0, "}"),
        Finished(0, "tool_calls"),
    ]
    reply = await door.post(PATH, {**ASK, "tools": [ADD]})
    assert (reply.status, reply.error["code"]) == (500, "engine_failed")


async def test_seals_of_a_call_come_after_it_and_go_back_with_it(door: Door) -> None:
    door.script.events = [
        ToolCallDelta(0, 0, "{}", id="c1", name="add"),
        Delta(seal="s"),
        Finished(0, "tool_calls"),
    ]
    output = (await door.post(PATH, {**ASK, "tools": [ADD]})).json["output"]
    given = [*output, {"type": "function_call_output", "call_id": "c1", "output": "3"}]
    assert (await door.post(PATH, {**ASK, "input": given})).status == 200
    assert door.script.asked[1].messages == (  # type: ignore[union-attr]
        Message("assistant", (), (ToolCall("c1", "add", "{}"),), seals=("s",)),
        Message("tool", (Text("3"),), tool_call_id="c1"),
    )


@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_an_answer_that_was_cut_is_incomplete_and_says_why(door: Door, reason: Any, why: str) -> None:
    door.script.events = [Delta(text="Hel"), Finished(0, reason), Usage(1, 1)]
    answer = response_of((await door.post(PATH, ASK)).json)
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": why})
    assert answer["output"][0]["status"] == "incomplete"
    assert answer["completed_at"] is None


async def test_an_empty_answer_is_an_empty_message(door: Door) -> None:
    door.script.events = [Finished(0, "stop"), Usage(1, 0)]
    (message,) = response_of((await door.post(PATH, ASK)).json)["output"]
    assert message["content"][0]["text"] == ""


@pytest.mark.parametrize("asked", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 1}])
async def test_log_probabilities_come_when_asked_for(door: Door, asked: dict[str, Any]) -> None:
    one = TokenLogprob("Hi", b"Hi", -0.5, (TopLogprob("Yo", b"Yo", -1.5),))
    door.script.events = [Delta(text="Hi", logprobs=(one,)), Finished(0, "stop")]
    answer = response_of((await door.post(PATH, {**ASK, **asked})).json)
    (shown,) = answer["output"][0]["content"][0]["logprobs"]
    assert (shown["token"], shown["logprob"], shown["bytes"]) == ("Hi", -0.5, [72, 105])
    assert shown["top_logprobs"] == [{"token": "Yo", "bytes": [89, 111], "logprob": -1.5}]
    assert door.script.asked[0].sampling.logprobs == asked.get("top_logprobs", 0)  # type: ignore[union-attr]


async def test_reasoning_comes_in_the_open_or_as_its_own_summary(door: Door) -> None:
    door.script.events = [Delta(reasoning="hm"), Delta(text="4"), Finished(0, "stop")]
    plain = response_of((await door.post(PATH, ASK)).json)["output"][0]
    assert (plain["summary"], plain["content"]) == ([], [{"type": "reasoning_text", "text": "hm"}])
    reply = await door.post(PATH, {**ASK, "reasoning": {"summary": "auto", "effort": "high"}})
    shown = response_of(reply.json)["output"][0]
    assert (shown["summary"], shown["content"]) == ([{"type": "summary_text", "text": "hm"}], [])
    assert "reasoning.summary" in reply.headers["catena-warning"]
    assert "reasoning.effort" in reply.headers["catena-warning"]
    assert door.script.asked[1].think is True  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("form", "meant"),
    [
        ({"type": "text"}, OutputFormat()),
        ({"type": "json_object"}, OutputFormat("json")),
        (
            {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True},
            OutputFormat("schema", schema={"type": "object"}),
        ),
    ],
)
async def test_the_form_of_the_answer_is_asked_of_the_model(door: Door, form: Any, meant: OutputFormat) -> None:
    answer = response_of((await door.post(PATH, {**ASK, "text": {"format": form}})).json)
    assert door.script.asked[0].output == meant  # type: ignore[union-attr]
    assert answer["text"]["format"] == form


@pytest.mark.parametrize(
    ("choice", "meant", "names"),
    [
        ("none", ToolChoice("none"), ["add", "sub"]),
        ("required", ToolChoice("required"), ["add", "sub"]),
        ({"type": "function", "name": "sub"}, ToolChoice("named", "sub"), ["add", "sub"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]},
            ToolChoice("required"),
            ["sub"],
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]},
            ToolChoice("auto"),
            ["add"],
        ),
    ],
)
async def test_the_choice_of_tools(door: Door, choice: Any, meant: ToolChoice, names: list[str]) -> None:
    tools = [ADD, {**ADD, "name": "sub"}]
    answer = response_of((await door.post(PATH, {**ASK, "tools": tools, "tool_choice": choice})).json)
    asked: Any = door.script.asked[0]
    assert asked.tool_choice == meant
    assert [tool.name for tool in asked.tools] == names
    assert answer["tool_choice"] == choice
    assert len(answer["tools"]) == 2


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
    ({"input": [{"type": "mesage", "role": "user", "content": "x"}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]},
        "input[0].content[0].image_url",
    ),
    ({"input": [{"type": "function_call_output", "call_id": "c9", "output": "5"}]}, "input[0].call_id"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].type"),
    ({"tools": [{"type": "code_interpreter", "container": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "image_generation"}]}, "tools[0].type"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].function"),
    ({"tools": [{**ADD, "name": "a b"}]}, "tools[0].name"),
    ({"tools": [ADD, ADD]}, "tools[1].name"),
    ({"tools": [{**ADD, "paramters": {}}]}, "tools[0].paramters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
    ({"text": {"form": {}}}, "text.form"),
    ({"tools": [ADD], "text": {"format": {"type": "json_object"}}}, "text.format"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"include": ["message.everything"]}, "include[0].type"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_tokens": 5}, "max_tokens"),
    ({"n": 2}, "n"),
    ({"messages": []}, "messages"),
    ({"temperature": 3}, "temperature"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
    ({"metadata": {"a": "x" * 513}}, "metadata"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ({"moderation": {"model": "x"}}, "moderation"),
    ({"background": True, "store": False}, "background"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "param"), REFUSED, ids=[f"{param}-{number}" for number, (_, param) in enumerate(REFUSED)]
)
async def test_what_cannot_be_honoured_is_refused_by_name(door: Door, change: dict[str, Any], param: str) -> None:
    reply = await door.post(PATH, {**ASK, **change})
    assert reply.status in (400, 404), reply.body
    assert reply.error["param"] == param
    assert door.script.asked == []


@pytest.mark.parametrize(
    "change",
    [
        {"user": "me"}, {"safety_identifier": "me"}, {"prompt_cache_key": "k"}, {"prompt_cache_retention": "24h"},
        {"service_tier": "flex"}, {"truncation": "auto"}, {"text": {"verbosity": "low"}},
        {"include": ["file_search_call.results"]}, {"reasoning": {"mode": "pro"}},
        {"tools": [{**ADD, "defer_loading": True}]},
    ],
)  # fmt: skip
async def test_what_is_not_honoured_is_named_in_a_warning(door: Door, change: dict[str, Any]) -> None:
    reply = await door.post(PATH, {**ASK, **change})
    assert reply.status == 200, reply.body
    name = next(iter(change))
    said = reply.headers["catena-warning"]
    assert (name if isinstance(change[name], str) else "ignored") in said


async def test_what_has_no_effect_passes_without_a_warning(door: Door) -> None:
    harmless = {
        "truncation": "disabled", "service_tier": "auto", "text": {"verbosity": "medium"}, "context_management": [],
        "parallel_tool_calls": True, "metadata": {}, "user": None, "conversation": None, "max_tool_calls": 3,
    }  # fmt: skip
    reply = await door.post(PATH, {**ASK, **harmless})
    assert reply.status == 200
    assert "catena-warning" not in reply.headers


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (ContextError(200, 128), 400, "context_length_exceeded", "input"),
        (EngineError("it broke"), 500, "engine_failed", None),
    ],
)
async def test_failures_come_in_the_shape_of_the_api(
    door: Door, error: Exception, status: int, code: str, param: str | None
) -> None:
    door.script.events = [error]
    reply = await door.post(PATH, ASK)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)


async def test_an_unknown_model_is_told_of_by_name(door: Door) -> None:
    reply = await door.post(PATH, {**ASK, "model": "nope"})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


async def test_what_the_question_left_open_is_what_the_model_was_made_with(door: Door, monkeypatch: Any) -> None:
    made = msgspec.structs.replace(
        MODEL.manifest, facts=Preset(Sampling(temperature=0.25, presence_penalty=1.0)).facts()
    )
    monkeypatch.setattr(conftest, "MODEL", msgspec.structs.replace(MODEL, manifest=made))
    answer = response_of((await door.post(PATH, {**ASK, "presence_penalty": 0.5})).json)
    assert (answer["temperature"], answer["top_p"]) == (0.25, None)
    assert (answer["presence_penalty"], answer["frequency_penalty"]) == (0.5, 0.0)


async def test_conversations_are_never_shortened(door: Door) -> None:
    reply = await door.post(f"{PATH}/compact", ASK)
    assert (reply.status, reply.error["code"]) == (400, "unsupported")


async def test_a_count_is_of_the_same_question(door: Door) -> None:
    asked = {"model": "tiny", "input": "hi", "instructions": "be brief", "tools": [ADD]}
    reply = await door.post(f"{PATH}/input_tokens", asked)
    assert reply.json == {"object": "response.input_tokens", "input_tokens": 7}
    assert reply.headers["catena-receipt"]
    assert door.script.callers[0].door == "openai.responses.input_tokens"
    await door.post(PATH, asked)
    counted, made = door.script.asked
    assert (counted.messages, counted.tools) == (made.messages, made.tools)  # type: ignore[union-attr]


async def test_a_count_takes_no_parameter_of_sampling(door: Door) -> None:
    reply = await door.post(f"{PATH}/input_tokens", {**ASK, "temperature": 1})
    assert (reply.status, reply.error["param"]) == (400, "temperature")


async def test_a_gateway_that_keeps_nothing_says_so(make_door: Maker) -> None:
    door = make_door(responses_keep_s=0)
    reply = await door.post(PATH, {**ASK, "store": True})
    assert reply.json["store"] is False
    assert "store ignored" in reply.headers["catena-warning"]
    assert (await door.get(f"{PATH}/{reply.json['id']}")).status == 404
    assert (await door.post(PATH, {**ASK, "background": True})).error["param"] == "background"
