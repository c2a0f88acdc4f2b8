"""Chat completions over a scripted router: the form of answers, at once and as a stream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.reach.gateway.conftest import MODEL, Door

from catena.core.messages import (
    Audio,
    Delta,
    Finished,
    Image,
    Text,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from catena.reach.gateway.protocols.openai import chat_form

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


def chunks(body: bytes) -> list[Any]:
    """The `data:` objects of a stream, without `[DONE]`."""
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [msgspec.json.decode(line) for line in lines if line != "[DONE]"]


async def test_an_answer_at_once_has_the_form_of_the_api(door: Door) -> None:
    response = await door.post(PATH, ASK)
    assert response.status == 200
    answer = response.json
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"] == "fp_" + MODEL.digest[7:19]
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["total_tokens"] == 7
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


async def test_every_answer_names_its_receipt_and_the_id_is_made_of_it(door: Door) -> None:
    response = await door.post(PATH, ASK)
    receipt = response.headers["catena-receipt"]
    assert response.json["id"] == "chatcmpl-" + receipt.removeprefix("rcpt_")


async def test_a_stream_is_role_then_text_then_reason_then_done(door: Door) -> None:
    response = await door.post(PATH, {**ASK, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = chunks(response.body)
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello"},
        {"content": " world"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None, None, None, "stop"]
    assert response.body.endswith(b"data: [DONE]\n\n")
    assert all("usage" not in chunk for chunk in found)


async def test_usage_comes_as_a_last_chunk_without_choices_only_when_asked_for(door: Door) -> None:
    response = await door.post(PATH, {**ASK, "stream": True, "stream_options": {"include_usage": True}})
    found = chunks(response.body)
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["completion_tokens"] == 2
    assert all(chunk["usage"] is None for chunk in found[:-1])


async def test_reasoning_is_apart_from_the_answer(door: Door) -> None:
    door.script.events = (Delta(reasoning="hm"), Delta(text="42"), Finished(0, "stop"), Usage(1, 2))
    whole = (await door.post(PATH, ASK)).json["choices"][0]["message"]
    assert (whole["reasoning_content"], whole["content"]) == ("hm", "42")
    found = chunks((await door.post(PATH, {**ASK, "stream": True})).body)
    assert [chunk["choices"][0]["delta"] for chunk in found[1:3]] == [{"reasoning_content": "hm"}, {"content": "42"}]


async def test_a_tool_call_has_id_and_name_on_its_first_delta_only(door: Door) -> None:
    door.script.events = (
        ToolCallDelta(0, 0, id="call_1", name="add"),
        ToolCallDelta(0, 0, '{"a":'),
        ToolCallDelta(0, 0, "1}"),
        Finished(0, "tool_calls"),
        Usage(1, 2),
    )
    found = chunks((await door.post(PATH, {**ASK, "stream": True})).body)
    calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in found[1:4]]
    assert calls[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "add", "arguments": ""},
    }
    assert calls[1:] == [
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"
    message = (await door.post(PATH, ASK)).json["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}


async def test_logprobs_carry_token_bytes_and_alternatives(door: Door) -> None:
    top = (TopLogprob("Hi", b"Hi", -0.5), TopLogprob("Yo", b"Yo", -1.5))
    door.script.events = (
        Delta(text="Hi", logprobs=(TokenLogprob("Hi", b"Hi", -0.5, top),)),
        Finished(0, "length"),
        Usage(1, 1),
    )
    body = {**ASK, "logprobs": True, "top_logprobs": 2}
    content = (await door.post(PATH, body)).json["choices"][0]["logprobs"]["content"]
    assert content[0]["bytes"] == [72, 105]
    assert [one["token"] for one in content[0]["top_logprobs"]] == ["Hi", "Yo"]
    found = chunks((await door.post(PATH, {**body, "stream": True})).body)
    assert found[1]["choices"][0]["logprobs"]["content"] == content
    assert door.script.asked[0].sampling.logprobs == 2  # type: ignore[union-attr]


async def test_choices_stream_interleaved_each_with_role_and_reason(door: Door) -> None:
    door.script.events = (
        Delta(0, "a"),
        Delta(1, "b"),
        Finished(1, "stop"),
        Finished(0, "length"),
        Usage(1, 2),
    )
    found = chunks((await door.post(PATH, {**ASK, "n": 2, "stream": True})).body)
    by_choice: dict[int, list[Any]] = {0: [], 1: []}
    for chunk in found:
        by_choice[chunk["choices"][0]["index"]].append(chunk["choices"][0])
    for texts in by_choice.values():
        assert texts[0]["delta"]["role"] == "assistant"
    assert [by_choice[index][-1]["finish_reason"] for index in (0, 1)] == ["length", "stop"]


async def test_what_is_asked_reaches_the_router_in_our_words(door: Door) -> None:
    await door.post(
        PATH,
        {
            "model": "default",
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "3"},
            ],
            "max_completion_tokens": 9,
            "temperature": 0,
            "stop": "END",
            "seed": 7,
            "logit_bias": {"15": -100},
            "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "add"}},
            "parallel_tool_calls": False,
        },
    )
    asked: Any = door.script.asked[0]
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "tool"]
    assert [part.text for part in asked.messages[1].parts] == ["a", "b"]
    assert asked.messages[2].tool_calls[0].name == "add"
    assert asked.messages[3].tool_call_id == "c1"
    sampling = asked.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.stop, sampling.seed) == (9, 0.0, ("END",), 7)
    assert sampling.logit_bias == {15: -100.0}
    assert (asked.tool_choice.mode, asked.tool_choice.name) == ("named", "add")
    assert asked.parallel_tool_calls is False
    assert door.script.callers[0].door == "openai.chat"


async def test_the_clean_end_comes_only_after_closing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes_at_done: list[list[str]] = []

    def end(self: Any) -> bytes:
        outcomes_at_done.append(list(door.script.outcomes))
        return chat_form.DONE

    monkeypatch.setattr(chat_form.ChatRenderer, "end", end)
    await door.post(PATH, {**ASK, "stream": True})
    assert outcomes_at_done == [["complete"]]


async def test_images_and_sounds_of_a_user_reach_the_model_by_value(door: Door) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}}
    sound = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}
    content = [{"type": "text", "text": "hi"}, picture, sound]
    assert (await door.post(PATH, {**ASK, "messages": [{"role": "user", "content": content}]})).status == 200
    (message,) = door.script.asked[0].messages  # type: ignore[union-attr]
    assert message.parts == (Text("hi"), Image(b"\x89PN", "image/png"), Audio(b"RIF", "audio/wav"))


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("user", {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        ("user", {"type": "image_url", "image_url": {"url": "data:image/png;base64,%"}}),
        ("user", {"type": "input_audio", "input_audio": {"data": "%", "format": "mp3"}}),
        ("user", {"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}}),
        ("user", {"type": "file", "file": {}}),
        ("system", {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}),
    ],
)
async def test_what_is_no_image_or_sound_is_refused_by_its_place(door: Door, role: str, part: Any) -> None:
    response = await door.post(PATH, {**ASK, "messages": [{"role": role, "content": [part]}]})
    assert response.status == 400
    assert response.error["param"] == "messages[0].content[0]"
