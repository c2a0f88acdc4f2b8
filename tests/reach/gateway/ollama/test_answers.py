"""Chats and prompts over a scripted router: lines, ends, errors in the middle, calls as objects, and one law."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import HELLO
from tests.reach.gateway.ollama.conftest import ASK, OllamaDoor, lines, open_door

from catena.core.clock import monotonic_s
from catena.core.errors import BusyError, EngineError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    Delta,
    Finished,
    Image,
    OutputFormat,
    Progress,
    Sampling,
    Text,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from catena.core.messages.reply import Collector
from catena.reach.gateway.protocols.ollama import forms
from catena.reach.gateway.protocols.ollama.forms import Lines, chat_wording, generate_wording

pytestmark = pytest.mark.anyio
CALL = (
    ToolCallDelta(0, 0, id="call_a", name="add"),
    ToolCallDelta(0, 0, '{"a": 1,'),
    ToolCallDelta(0, 1, id="call_b", name="now"),
    ToolCallDelta(0, 0, ' "b": [2]}'),
    Finished(0, "tool_calls"),
    Usage(5, 2),
)


@pytest.fixture
def door() -> OllamaDoor:
    return open_door(None)


async def test_a_chat_streams_lines_unless_told_otherwise(door: OllamaDoor) -> None:
    response = await door.post("/api/chat", ASK)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["catena-receipt"].startswith("rcpt_")
    *pieces, last = lines(response.body)
    assert [piece["message"]["content"] for piece in pieces] == ["Hello", " world"]
    assert all(piece["done"] is False and piece["model"] == "tiny" and piece["created_at"] for piece in pieces)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 2)
    assert (last["prompt_eval_duration"], last["eval_duration"], last["load_duration"]) == (10**7, 2 * 10**7, 0)
    assert last["total_duration"] > 0


async def test_a_chat_at_once_is_one_object(door: OllamaDoor) -> None:
    response = await door.post("/api/chat", {**ASK, "stream": False})
    assert response.json["message"] == {"role": "assistant", "content": "Hello world"}
    assert (response.json["done"], response.json["done_reason"]) == (True, "stop")
    assert "server-timing" in response.headers


async def test_a_prompt_gives_responses(door: OllamaDoor) -> None:
    *pieces, last = lines((await door.post("/api/generate", {"model": "tiny:latest", "prompt": "hi"})).body)
    assert [piece["response"] for piece in pieces] == ["Hello", " world"]
    assert (last["response"], last["done"], last["model"]) == ("", True, "tiny:latest")
    (request,) = door.script.asked
    assert isinstance(request, ChatRequest)
    assert request.model == "tiny"
    assert door.script.callers[0].door == "ollama.generate"


async def test_thinking_has_a_place_of_its_own(door: OllamaDoor) -> None:
    door.script.events = (Delta(reasoning="Hm."), Delta(text="Yes"), Finished(0, "stop"), Usage(1, 2))
    first, second, _ = lines((await door.post("/api/chat", {**ASK, "think": True})).body)
    assert first["message"] == {"role": "assistant", "content": "", "thinking": "Hm."}
    assert second["message"] == {"role": "assistant", "content": "Yes"}
    whole = await door.post("/api/generate", {"model": "tiny", "prompt": "x", "think": False, "stream": False})
    assert (whole.json["thinking"], whole.json["response"]) == ("Hm.", "Yes")
    assert [request.think for request in door.script.asked] == [True, False]  # type: ignore[union-attr]


async def test_a_degree_of_thinking_is_honoured_as_yes_and_warned_about(door: OllamaDoor) -> None:
    response = await door.post("/api/chat", {**ASK, "think": "high", "stream": False})
    assert "think honoured only as on or off" in response.headers["catena-warning"]
    assert door.script.asked[0].think is True  # type: ignore[union-attr]


@pytest.mark.parametrize("stream", [True, False])
async def test_calls_come_whole_with_their_arguments_as_objects(door: OllamaDoor, stream: bool) -> None:
    door.script.events = CALL
    response = await door.post("/api/chat", {**ASK, "stream": stream})
    first, last = lines(response.body) if stream else (response.json, response.json)
    assert first["message"]["tool_calls"] == [
        {"id": "call_a", "function": {"index": 0, "name": "add", "arguments": {"a": 1, "b": [2]}}},
        {"id": "call_b", "function": {"index": 1, "name": "now", "arguments": {}}},
    ]
    assert (last["done"], last["done_reason"]) == (True, "stop")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_was_cut_for_its_length_is_left_out(door: OllamaDoor, stream: bool) -> None:
    door.script.events = (*CALL[:2], Finished(0, "length"), Usage(5, 2))
    response = await door.post("/api/chat", {**ASK, "stream": stream})
    last = lines(response.body)[-1] if stream else response.json
    assert last["done_reason"] == "length"
    assert "tool_calls" not in last["message"]


@pytest.mark.parametrize("arguments", ["[1]", '{"a": ', "null"])
async def test_a_call_whose_arguments_are_no_object_is_an_error(door: OllamaDoor, arguments: str) -> None:
    door.script.events = (Delta(text="x"), ToolCallDelta(0, 0, arguments, "c", "add"), Finished(0, "stop"))
    last = lines((await door.post("/api/chat", ASK)).body)[-1]
    assert "no JSON object" in last["error"]
    assert "done" not in last
    assert (await door.post("/api/chat", {**ASK, "stream": False})).status == 500


async def test_an_error_in_the_middle_is_the_last_line_and_nothing_is_done(door: OllamaDoor) -> None:
    door.script.events = (Delta(text="Hel"), EngineError("the engine broke"))
    *_, last = found = lines((await door.post("/api/chat", ASK)).body)
    assert last["error"] == "the engine broke"
    assert not any(line.get("done") for line in found)
    assert door.script.outcomes == ["cut EngineError"]


async def test_an_error_before_the_first_piece_is_a_status(door: OllamaDoor) -> None:
    door.script.refusal = BusyError("the queue is full", retry_after_s=3)
    response = await door.post("/api/chat", ASK)
    assert (response.status, response.headers["retry-after"]) == (429, "3")
    assert response.error.startswith("the queue is full (")


async def test_an_unknown_model_is_not_found_in_the_words_that_clients_look_for(door: OllamaDoor) -> None:
    for path, body in (
        ("/api/chat", {**ASK, "model": "nope"}),
        ("/api/generate", {"model": "nope", "prompt": "x"}),
        ("/api/embed", {"model": "nope", "input": "x"}),
        ("/api/show", {"model": "nope"}),
        ("/api/chat", {"model": "nope", "messages": []}),
    ):
        response = await door.post(path, body)
        assert (response.status, response.json["code"]) == (404, "not_found")
        assert "model 'nope' not found" in response.error


async def test_a_sign_of_life_is_white_space_that_no_client_takes_for_a_line() -> None:
    door = open_door(None, ping_s=0.02)

    async def wait() -> None:
        await anyio.sleep(1.2)

    door.script.events = (Progress("loading"), Delta(text="a"), wait, *HELLO[1:])
    body = (await door.post("/api/chat", ASK)).body
    assert b" {" in body
    assert not any(line.strip() == b"" for line in body.splitlines())
    assert "".join(line["message"]["content"] for line in lines(body)) == "a world"


async def test_a_client_that_leaves_stops_the_work(door: OllamaDoor) -> None:
    async def hang() -> None:
        await anyio.sleep_forever()

    door.script.events = (Delta(text="a"), hang)
    await door.post("/api/chat", ASK, leave_after=1)
    assert door.script.outcomes[0].startswith("cut")


async def test_options_say_how_to_sample(door: OllamaDoor) -> None:
    options = {
        "num_predict": 7, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.1,
        "presence_penalty": 1, "frequency_penalty": -1, "seed": 42, "stop": "x",
    }  # fmt: skip
    await door.post("/api/chat", {**ASK, "options": options, "logprobs": True, "top_logprobs": 2})
    assert door.script.asked[0].sampling == Sampling(  # type: ignore[union-attr]
        max_tokens=7, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, repeat_penalty=1.1, presence_penalty=1.0,
        frequency_penalty=-1.0, seed=42, stop=("x",), logprobs=2, fills_context=True,
    )  # fmt: skip


@pytest.mark.parametrize("value", [0, -1, -2])
async def test_no_limit_is_said_by_a_number_that_is_not_above_zero(door: OllamaDoor, value: int) -> None:
    await door.post("/api/chat", {**ASK, "options": {"num_predict": value}})
    assert door.script.asked[0].sampling.max_tokens is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"options": {"temperature": 3}}, "temperature must be from 0 to 2"),
        ({"options": {"mirostat": 1}}, "mirostat is not supported"),
        ({"options": {"stop": [""]}}, "must not be empty"),
        ({"options": {"stop": ["a"] * 17}}, "at most 16"),
        ({"options": {"num_ctx": "big"}}, "num_ctx"),
        ({"options": [1]}, "options"),
        ({"format": "yaml"}, "format must be json or a JSON schema"),
        ({"format": {"$ref": "https://example.org/x"}}, "refer to itself"),
        ({"top_logprobs": 3}, "needs logprobs"),
        ({"messages": [{"role": "king", "content": "x"}]}, "role must be"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "no earlier assistant message"),
        ({"messages": [{"role": "user", "content": "x", "images": ["http://x/a.png"]}]}, "not base64"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGVsbG8="]}]}, "kinds of pictures"),
        ({"tools": [{"function": {"name": "a b"}}]}, "letters, digits"),
        ({"tools": [{"function": {"name": "a"}}] * 2}, "two tools have this name"),
        ({"tools": [{"type": "web", "function": {"name": "a"}}]}, "type function"),
        ({"tools": [{"function": {"name": "a", "parameters": {"type": "array"}}}]}, "type object"),
        ({"tools": [{"function": {"name": "a"}}], "format": "json"}, "exclude one another"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"keep_alive": "soon"}, "keep_alive must be"),
        ({"mesages": []}, "did you mean 'messages'"),
        ({"model": ""}, "model must name a model"),
        ({"model": 5}, "model"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(door: OllamaDoor, change: dict[str, Any], words: str) -> None:
    response = await door.post("/api/chat", {**ASK, **change})
    assert response.status == 400
    assert words in response.error
    assert door.script.asked == []


async def test_what_is_passed_over_is_named_and_defaults_are_not(door: OllamaDoor) -> None:
    options = {"num_gpu": 1, "repeat_last_n": 33, "use_mmap": True, "mirostat": 0, "typical_p": 1.0}
    response = await door.post("/api/chat", {**ASK, "options": options})
    warning = response.headers["catena-warning"]
    assert "num_gpu ignored" in warning
    assert "repeat_last_n ignored" in warning
    assert not any(name in warning for name in ("use_mmap", "mirostat", "typical_p"))


@pytest.mark.parametrize(("num_ctx", "is_warned"), [(128, False), (4096, True)])
async def test_a_context_is_compared_with_what_the_model_has(door: OllamaDoor, num_ctx: int, is_warned: bool) -> None:
    response = await door.post("/api/chat", {**ASK, "options": {"num_ctx": num_ctx}})
    assert ("holds 128 tokens" in response.headers.get("catena-warning", "")) is is_warned


async def test_tools_pictures_and_results_arrive_in_our_words(door: OllamaDoor) -> None:
    picture = "iVBORw0KGgo="
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "look", "images": [picture]},
        {"role": "assistant", "thinking": "t", "tool_calls": [
            {"function": {"name": "add", "arguments": {"a": 1}}},
            {"function": {"name": "now", "arguments": {}}},
        ]},
        {"role": "tool", "content": "noon", "tool_name": "now"},
        {"role": "tool", "content": "2"},
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    await door.post("/api/chat", {"model": "tiny", "messages": turns, "tools": tools, "tool_choice": "required"})
    (request,) = door.script.asked
    assert isinstance(request, ChatRequest)
    _, user, assistant, noon, two = request.messages
    assert user.parts == (Text("look"), Image(b"\x89PNG\r\n\x1a\n", "image/png"))
    assert [(call.id, call.name, call.arguments) for call in assistant.tool_calls] == [
        ("call_0", "add", '{"a":1}'),
        ("call_1", "now", "{}"),
    ]
    assert assistant.reasoning == "t"
    assert (noon.tool_call_id, two.tool_call_id) == ("call_1", "call_0")
    assert request.tools[0].name == "add"
    assert request.tool_choice.mode == "required"


async def test_a_format_is_json_or_a_schema(door: OllamaDoor) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for format in ("json", schema, "", None):
        await door.post("/api/generate", {"model": "tiny", "prompt": "x", "format": format})
    assert [request.output for request in door.script.asked] == [  # type: ignore[union-attr]
        OutputFormat("json"), OutputFormat("schema", schema=schema), OutputFormat(), OutputFormat(),
    ]  # fmt: skip


async def test_a_raw_prompt_passes_no_template_and_a_system_message_is_a_turn(door: OllamaDoor) -> None:
    await door.post("/api/generate", {"model": "tiny", "prompt": "One,", "raw": True})
    await door.post("/api/generate", {"model": "tiny", "prompt": "def f(", "suffix": "return"})
    await door.post("/api/generate", {"model": "tiny", "prompt": "hi", "system": "Be brief."})
    raw, gap, chat = door.script.asked
    assert raw == CompletionRequest("tiny", "One,", Sampling(fills_context=True))
    assert gap == CompletionRequest("tiny", "def f(", Sampling(fills_context=True), suffix="return")
    assert isinstance(chat, ChatRequest)
    assert [message.role for message in chat.messages] == ["system", "user"]
    for change in ({"system": "x"}, {"images": ["iVBORw0KGgo="]}, {"think": True}):
        response = await door.post("/api/generate", {"model": "tiny", "prompt": "x", "raw": True, **change})
        assert response.status == 400
    for name in ("template", "context", "width"):
        response = await door.post(
            "/api/generate", {"model": "tiny", "prompt": "x", name: [1] if name[0] == "c" else 1}
        )
        assert f"{name} is not supported" in response.error


async def test_log_probabilities_come_with_their_bytes_and_alternatives(door: OllamaDoor) -> None:
    token = TokenLogprob("é", "é".encode(), -0.5, (TopLogprob("e", b"e", -1.0),))
    door.script.events = (Delta(text="é", logprobs=(token,)), Finished(0, "stop"), Usage(1, 1))
    shown = [{"token": "é", "logprob": -0.5, "bytes": [195, 169],
              "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}]}]  # fmt: skip
    assert lines((await door.post("/api/chat", {**ASK, "logprobs": True})).body)[0]["logprobs"] == shown
    whole = await door.post("/api/generate", {"model": "tiny", "prompt": "x", "logprobs": True, "stream": False})
    assert whole.json["logprobs"] == shown


async def test_vectors_come_for_one_text_or_many_and_for_none_the_model_is_loaded(door: OllamaDoor) -> None:
    many = (await door.post("/api/embed", {"model": "tiny", "input": ["a", "b"]})).json
    assert many["embeddings"] == [[1.0, 0.0], [1.0, 0.0]]
    assert many["prompt_eval_count"] == 4
    assert (await door.post("/api/embeddings", {"model": "tiny", "prompt": "a"})).json == {"embedding": [1.0, 0.0]}
    assert (await door.post("/api/embed", {"model": "tiny", "input": []})).json["embeddings"] == []
    assert (await door.post("/api/embeddings", {"model": "tiny"})).json == {"embedding": []}
    assert door.sessions.loads == ["tiny", "tiny"]
    for value in (["a", ""], ["a"] * 2049, [1]):
        assert (await door.post("/api/embed", {"model": "tiny", "input": value})).status == 400
    response = await door.post("/api/embed", {"model": "tiny", "input": "a", "truncate": True, "options": {"a": 1}})
    assert "truncate ignored" in response.headers["catena-warning"]
    assert "options ignored" in response.headers["catena-warning"]


TEXTS = st.text(max_size=4)
DELTAS = st.builds(Delta, st.just(0), TEXTS, TEXTS)
FRAGMENTS = st.lists(st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=2), max_size=3).map(
    lambda calls: [
        fragment
        for index, call in enumerate(calls)
        for text in [json.dumps(call)]
        for fragment in (
            ToolCallDelta(0, index, text[: len(text) // 2], f"c{index}", "f"),
            ToolCallDelta(0, index, text[len(text) // 2 :]),
        )
    ]
)
EVENTS = st.tuples(st.lists(DELTAS, max_size=5), FRAGMENTS, st.sampled_from(["stop", "length", "tool_calls"])).map(
    lambda parts: [*parts[0], *parts[1], Finished(0, parts[2]), Usage(3, 4), Timings(prefill_s=0.1, decode_s=0.2)]
)


@settings(deadline=None)
@given(EVENTS, st.sampled_from([(chat_wording, "message"), (generate_wording, "response")]))
def test_the_pieces_of_a_stream_add_up_to_the_answer_at_once(events: list[Any], worded: tuple[Any, str]) -> None:
    wording, key = worded
    collector, renderer = Collector(), Lines("tiny", wording, monotonic_s())
    sent = b""
    for event in events:
        collector.add(event)
        sent += renderer.event(event)
    found = lines(sent + renderer.end())
    whole = msgspec.json.decode(forms.whole("tiny", collector.reply(), wording, monotonic_s()))
    parts = [line["message"] if key == "message" else line for line in found]
    answer = whole["message"] if key == "message" else whole
    text = "content" if key == "message" else "response"
    assert "".join(part[text] for part in parts) == answer[text]
    assert "".join(part.get("thinking", "") for part in parts) == answer.get("thinking", "")
    assert [call for part in parts for call in part.get("tool_calls", [])] == answer.get("tool_calls", [])
    assert [line["done"] for line in found] == [False] * (len(found) - 1) + [True]
    counted = ("done_reason", "prompt_eval_count", "eval_count", "prompt_eval_duration", "eval_duration")
    assert {name: found[-1][name] for name in counted} == {name: whole[name] for name in counted}
