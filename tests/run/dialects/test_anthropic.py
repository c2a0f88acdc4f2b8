"""Anthropic's Messages API: what a request becomes, what its streams, counts and errors mean, signed thoughts."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from tests.run.dialects.playing import gathered, play, recorded

from catena.core.errors import (
    BusyError,
    CatenaError,
    ContextError,
    InputError,
    NetworkError,
    ProviderError,
    UnsupportedError,
)
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    Finished,
    Image,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from catena.run.dialects.anthropic import dialect
from catena.run.dialects.dialect import Outgoing

HELLO = ChatRequest("m", (Message("user", (Text("Hi"),)),))
WEATHER = Tool("weather", "of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
END = b'data: {"type":"message_delta","delta":{"stop_reason":%b},"usage":{"output_tokens":1}}\n\n'
STOP = b'data: {"type":"message_stop"}\n\n'


def asked(request: Any, model: str = "claude-opus-4-5") -> tuple[dict[str, Any], Outgoing]:
    out = dialect.generate(request, model)
    return msgspec.json.decode(out.body), out


def test_a_conversation_becomes_turns_of_two_sides_with_the_system_before_them() -> None:
    call = ToolCall("t1", "weather", '{"city": "Bern"}')
    request = ChatRequest(
        "m",
        (
            Message("system", (Text("Be brief."),)),
            Message("user", (Text("Weather?"), Image(b"\x89PNG", "image/png"))),
            Message("assistant", (Text("Looking."),), (call,)),
            Message("tool", (Text("rain"),), tool_call_id="t1"),
            Message("user", (Text("And?"), Text(""))),
        ),
        Sampling(max_tokens=50, temperature=0.5, top_p=0.9, top_k=3, stop=("END",)),
        tools=(WEATHER, Tool("now", strict=True)),
    )
    body, out = asked(request)
    assert out.path == "/v1/messages" and out.lost == ()
    assert body == {
        "model": "claude-opus-4-5",
        "stream": True,
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [
            {"name": "weather", "description": "of a city", "input_schema": WEATHER.parameters},
            {"name": "now", "input_schema": {"type": "object"}, "strict": True},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather?"},
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/png",
                            "data": base64.b64encode(b"\x89PNG").decode(),
                        },
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("choice", "is_parallel", "wire"),
    [
        (ToolChoice(), True, None),
        (ToolChoice(), False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), True, {"type": "any"}),
        (ToolChoice("named", "weather"), False, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}),
    ],
)
def test_each_choice_of_tools_has_its_words(choice: ToolChoice, is_parallel: bool, wire: Any) -> None:
    body, out = asked(
        msgspec.structs.replace(HELLO, tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=is_parallel)
    )
    assert body.get("tool_choice") == wire and out.lost == ()


def test_a_schema_is_the_format_of_the_output_and_a_limit_is_always_named() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body, _ = asked(msgspec.structs.replace(HELLO, output=OutputFormat("schema", schema)))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert body["max_tokens"] == 8192


@pytest.mark.parametrize(
    ("model", "limit", "thinking", "lost"),
    [
        ("claude-opus-4-5", None, {"type": "enabled", "budget_tokens": 4096}, ()),
        ("claude-3-7-sonnet-20250219", 1500, {"type": "enabled", "budget_tokens": 1024}, ()),
        ("kimi-k3", 4096, {"type": "enabled", "budget_tokens": 2048}, ()),
        ("claude-opus-4-20250514", None, {"type": "enabled", "budget_tokens": 4096}, ()),
        ("claude-sonnet-4-6", 100, {"type": "adaptive", "display": "summarized"}, ()),
        ("claude-opus-5-5", None, {"type": "adaptive", "display": "summarized"}, ()),
        ("claude-opus-4-5", 1024, None, ("think",)),
    ],
)
def test_each_model_is_asked_to_think_in_its_own_way(model: str, limit: int | None, thinking: Any, lost: Any) -> None:
    body, out = asked(msgspec.structs.replace(HELLO, think=True, sampling=Sampling(max_tokens=limit)), model)
    assert body.get("thinking") == thinking and out.lost == lost


def test_thinking_excludes_a_temperature_and_a_forced_call_excludes_thinking() -> None:
    warm = Sampling(temperature=0.3, top_k=4, top_p=0.96)
    body, out = asked(msgspec.structs.replace(HELLO, think=True, sampling=warm))
    assert "temperature" not in body and "top_k" not in body and body["top_p"] == 0.96
    assert out.lost == ("sampling.temperature", "sampling.top_k")
    body, out = asked(msgspec.structs.replace(HELLO, think=True, tools=(WEATHER,), tool_choice=ToolChoice("required")))
    assert "thinking" not in body and out.lost == ("think",)
    assert asked(msgspec.structs.replace(HELLO, think=False))[0]["thinking"] == {"type": "disabled"}


def test_wishes_that_only_colour_an_answer_are_named_as_lost() -> None:
    sampling = Sampling(temperature=1.5, min_p=0.1, seed=3, repeat_penalty=1.1, presence_penalty=1, logit_bias={1: 2.0})
    request = ChatRequest(
        "m",
        (
            Message("user", (Text("a"),), name="Ada"),
            Message("assistant", (Text("b"),), reasoning="unsigned"),
            Message("system", (Text("c"),)),
            Message("user", (Text("d"),)),
        ),
        sampling,
    )
    body, out = asked(request)
    assert body["temperature"] == 1
    assert sorted(out.lost) == [
        "messages.name",
        "messages.reasoning",
        "messages.system",
        "sampling.logit_bias",
        "sampling.min_p",
        "sampling.presence_penalty",
        "sampling.repeat_penalty",
        "sampling.seed",
        "sampling.temperature",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"output": OutputFormat("json")},
        {"output": OutputFormat("grammar", grammar="root ::= x")},
        {"sampling": Sampling(num_choices=2)},
        {"sampling": Sampling(logprobs=0)},
        {"sampling": Sampling(stop=("\n",))},
        {"adapters": {"a": 1.0}},
        {"tools": (Tool("dotted.name"),)},
        {"messages": (Message("user", (Image(b"BM", "image/bmp"),)),)},
        {"messages": (Message("user", (Audio(b"RIFF", "audio/wav"),)),)},
    ],
)
def test_what_the_api_has_no_words_for_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="the anthropic dialect cannot carry"):
        asked(msgspec.structs.replace(HELLO, **change))


def test_a_call_whose_arguments_are_no_object_is_refused() -> None:
    broken = Message("assistant", (), (ToolCall("1", "f", "[1"),))
    with pytest.raises(InputError, match="no JSON object"):
        asked(ChatRequest("m", (broken,)))


def test_a_text_to_be_continued_becomes_a_turn_and_is_named_and_repeated_here() -> None:
    body, out = asked(CompletionRequest("m", "Once", echo=True))
    assert body["messages"] == [{"role": "user", "content": "Once"}] and out.lost == ("prompt",)
    reply = gathered(play(dialect, CompletionRequest("m", "Once", echo=True), recorded("anthropic_text.sse")))
    assert reply.choices[0].text == "OnceHello wörld"
    for change in ({"prompt": (1, 2)}, {"suffix": "end"}):
        with pytest.raises(UnsupportedError):
            asked(msgspec.structs.replace(CompletionRequest("m", "Once"), **change))


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_text_streams_and_its_usage_is_the_whole_prompt(size: int) -> None:
    events = list(play(dialect, HELLO, recorded("anthropic_text.sse"), size=size))
    assert "".join(getattr(event, "text", "") for event in events) == "Hello wörld"
    assert events[-2:] == [Finished(0, "stop"), Usage(100, 15, cached_tokens=58)]


def test_calls_stream_side_by_side_with_their_arguments_in_fragments() -> None:
    events = list(play(dialect, HELLO, recorded("anthropic_tools.sse"), size=11))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert calls == [
        ToolCallDelta(0, 0, "", "toolu_01A", "weather"),
        ToolCallDelta(0, 0, '{"city":'),
        ToolCallDelta(0, 0, ' "Bern"}'),
        ToolCallDelta(0, 1, "", "toolu_01B", "now"),
        ToolCallDelta(0, 1, "{}"),
    ]
    reply = gathered(events)
    assert reply.choices[0].reasoning == "Two cities, two calls." and reply.choices[0].reason == "tool_calls"
    assert reply.usage == Usage(472, 89, reasoning_tokens=20)


def test_signed_thoughts_go_back_exactly_as_they_came() -> None:
    choice = gathered(play(dialect, HELLO, recorded("anthropic_tools.sse"))).choices[0]
    turn = Message("assistant", (Text(choice.text),), choice.tool_calls, reasoning=choice.reasoning, seals=choice.seals)
    body, out = asked(ChatRequest("m", (turn,)))
    assert out.lost == ()
    assert body["messages"][0]["content"][:3] == [
        {"type": "thinking", "thinking": "Two cities, two calls.", "signature": "EqQBCgIYAhIM:/+=="},
        {"type": "redacted_thinking", "data": "EmwKAhgB"},
        {"type": "text", "text": "I'll look."},
    ]


@pytest.mark.parametrize("change", [{"reasoning": "Other"}, {"seals": ("gemini:text:0:x",)}, {"seals": ()}])
def test_thoughts_that_changed_or_that_others_signed_stay_away_and_are_named(change: dict[str, Any]) -> None:
    choice = gathered(play(dialect, HELLO, recorded("anthropic_tools.sse"))).choices[0]
    turn = Message("assistant", (Text("x"),), reasoning=choice.reasoning, seals=choice.seals)
    body, out = asked(ChatRequest("m", (msgspec.structs.replace(turn, **change),)))
    assert body["messages"][0]["content"] == [{"type": "text", "text": "x"}] and out.lost == ("messages.reasoning",)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("pause_turn", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_each_reason_to_stop_has_its_own(word: str, reason: str) -> None:
    events = list(play(dialect, HELLO, END % b'"%b","stop_sequence":"X"' % word.encode() + STOP))
    stop = "X" if word == "stop_sequence" else None
    assert events[0] == Finished(0, reason, stop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        recorded("anthropic_text.sse").partition(b"event: message_stop")[0],
        END % b"null" + STOP,
        END % b'"not_yet_known"' + STOP,
        STOP,
        b"data: {not json}\n\n",
        b'data: {"type":5}\n\n',
        b'data: {"type":"content_block_stop","index":0}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}\n\n',
        b"data: " + b'{"a":' * 5000 + b"\n\n",
    ],
)
def test_a_cut_or_malformed_answer_never_ends_well(body: bytes) -> None:
    with pytest.raises(NetworkError):
        list(play(dialect, HELLO, body))


def test_an_error_inside_a_stream_comes_after_what_was_said() -> None:
    events = play(dialect, HELLO, recorded("anthropic_error.sse"))
    assert getattr(next(events), "text", "") == "Half"
    with pytest.raises(BusyError, match="overloaded_error"):
        next(events)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", InputError),
        (401, "authentication_error", ProviderError),
        (402, "billing_error", ProviderError),
        (429, "rate_limit_error", BusyError),
        (500, "api_error", NetworkError),
        (529, "overloaded_error", BusyError),
    ],
)
def test_errors_by_status_keep_the_word_and_not_the_sentence(status: int, kind: str, error: type[CatenaError]) -> None:
    body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": "secret sk-1"}})
    found = dialect.error(status, {"retry-after": "3"}, body)
    assert type(found) is error and kind in str(found) and "secret" not in str(found)
    if isinstance(found, BusyError):
        assert found.retry_after_s == 3
    assert isinstance(dialect.error(503, {}, b"<html>"), NetworkError)


def test_a_prompt_that_is_too_long_is_told_with_both_numbers() -> None:
    told = {"type": "invalid_request_error", "message": "prompt is too long: 203078 tokens > 200000 maximum"}
    found = dialect.error(400, {}, msgspec.json.encode({"type": "error", "error": told}))
    assert isinstance(found, ContextError) and (found.needed, found.available) == (203078, 200000)


def test_prompts_are_counted_models_listed_and_the_key_shown() -> None:
    out = dialect.count(msgspec.structs.replace(HELLO, tools=(WEATHER,)), "m")
    assert out.path == "/v1/messages/count_tokens"
    assert set(msgspec.json.decode(out.body)) == {"model", "messages", "tools"}
    assert dialect.counted(b'{"input_tokens": 14}') == 14
    assert dialect.models().method == "GET"
    assert dialect.listed(b'{"data":[{"id":"a","type":"model"},{"id":"b"}],"has_more":false}') == ("a", "b")
    assert dialect.headers("k") == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert "x-api-key" not in dialect.headers(None)
