"""Ollama's dialect: what is sent is its reference's, what comes back is read as events."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest
from tests.providers.answers import Answer, Asked, Call
from tests.providers.ollama import speaker
from tests.run.dialects.playing import gathered, play

from catena.core.errors import BusyError, NetworkError, NotFoundError, UnsupportedError
from catena.core.messages import (
    Audio,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Image,
    Message,
    OutputFormat,
    PredictRequest,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from catena.run.dialects.ollama import dialect

HI = Message("user", (Text("Hi"),))
LOOK = Tool("look", "Looks", {"type": "object"})


def chat(*messages: Message, **options: Any) -> ChatRequest:
    return ChatRequest("far/big", messages or (HI,), **options)


def sent(request: Any) -> dict[str, Any]:
    return msgspec.json.decode(dialect.generate(request, "big").body)


def answered(request: Any, answer: Answer) -> bytes:
    out = dialect.generate(request, "big")
    reply = speaker.reply(Asked(out.method, out.path, out.headers, out.body), answer)
    assert reply.status == 200, reply.pieces
    return b"".join(reply.pieces)


def test_a_whole_conversation_is_sent_as_the_reference_has_it() -> None:
    request = chat(
        Message("user", (Text("See"), Image(b"\x89PNG", "image/png"))),
        Message("assistant", (), (ToolCall("c1", "look", '{"a":1}'),), reasoning="hm"),
        Message("tool", (Text("seen"),), tool_call_id="c1"),
        sampling=Sampling(max_tokens=9, temperature=0.0, top_k=3, min_p=0.1, repeat_penalty=1.1, seed=0, stop=("x",)),
        tools=(LOOK,),
        think=False,
        output=OutputFormat("schema", {"type": "object"}),
    )
    body = sent(request)
    assert body["messages"][0] == {
        "role": "user", "content": "See", "images": [base64.b64encode(b"\x89PNG").decode()]
    }  # fmt: skip
    assert body["messages"][1]["tool_calls"] == [{"function": {"name": "look", "arguments": {"a": 1}}}]
    assert body["messages"][1]["thinking"] == "hm" and body["messages"][2]["tool_name"] == "look"
    assert body["options"] == {
        **{"num_predict": 9, "temperature": 0.0, "top_k": 3, "min_p": 0.1, "repeat_penalty": 1.1, "seed": 0},
        "stop": ["x"],
    }
    assert body["think"] is False and body["format"] == {"type": "object"} and body["stream"] is True
    assert dialect.generate(request, "big").lost == () and answered(request, Answer())


def test_completions_go_out_raw_and_with_a_suffix_to_be_filled_in() -> None:
    assert sent(CompletionRequest("m", "text")) == {"model": "big", "stream": True, "prompt": "text", "raw": True}
    assert sent(CompletionRequest("m", "a", suffix="b"))["suffix"] == "b"
    request = CompletionRequest("m", "text")
    assert gathered(play(dialect, request, answered(request, Answer()))).choices[0].text == "Hello world"


@pytest.mark.parametrize(
    "request_",
    [
        chat(sampling=Sampling(num_choices=2)),
        chat(sampling=Sampling(logprobs=0)),
        chat(output=OutputFormat("grammar", grammar="g")),
        chat(adapters={"a": 1.0}),
        chat(tools=(LOOK,), tool_choice=ToolChoice("required")),
        chat(Message("user", (Audio(b"RIFF", "audio/wav"),))),
        chat(Message("assistant", (), (ToolCall("c", "f", "[1]"),))),
        CompletionRequest("m", (1, 2)),
        CompletionRequest("m", "a", echo=True),
    ],
)
def test_what_it_has_no_words_for_is_refused(request_: Any) -> None:
    with pytest.raises(UnsupportedError, match="the ollama dialect cannot carry"):
        sent(request_)


def test_tools_that_must_not_be_called_are_left_out_and_what_only_colours_is_named() -> None:
    assert "tools" not in sent(chat(tools=(LOOK,), tool_choice=ToolChoice("none")))
    request = chat(sampling=Sampling(logit_bias={1: 1.0}), tools=(LOOK,), parallel_tool_calls=False)
    assert dialect.generate(request, "big").lost == ("sampling.logit_bias", "parallel_tool_calls")


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_text_reasoning_calls_and_usage_stream_back(size: int) -> None:
    calls = (Call("", "look", ('{"a"', ":1}")), Call("", "look", ("{}",)))
    request = chat(tools=(LOOK,))
    reply = gathered(play(dialect, request, answered(request, Answer(("h", "m"), ("a", "é"), calls)), size=size))
    (choice,) = reply.choices
    assert (choice.reasoning, choice.text, choice.reason) == ("hm", "aé", "tool_calls")
    assert choice.tool_calls == (ToolCall("call_0", "look", '{"a":1}'), ToolCall("call_1", "look", "{}"))
    assert reply.usage is not None and (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 2)


def test_an_answer_that_was_cut_by_its_limit_says_so() -> None:
    body = answered(chat(), Answer(finish="length", has_usage=False))
    reply = gathered(play(dialect, chat(), body))
    assert reply.choices[0].reason == "length" and reply.usage is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"message": {"content": "a"}, "done": false}\n',
        b'{"message": {"content": "a"}, "done": fal',
        b"<html>",
        b'{"error": "out of memory"}\n',
        b'{"done": true, "done_reason": "load"}\n',
    ],
)
def test_a_body_that_is_cut_broken_or_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(NetworkError):
        gathered(play(dialect, chat(), body))


def test_errors_are_placed_by_status_and_never_quoted() -> None:
    error = dialect.error(404, {}, b'{"error": "model \\"secret\\" not found"}')
    assert isinstance(error, NotFoundError) and "secret" not in str(error)
    assert isinstance(dialect.error(429, {"retry-after": "2"}, b""), BusyError)


def test_vectors_are_asked_for_without_cutting_and_come_at_length_one() -> None:
    out = dialect.embed(EmbedRequest("m", ("a",), dimensions=2), "big")
    assert msgspec.json.decode(out.body) == {"model": "big", "input": ["a"], "truncate": False, "dimensions": 2}
    found = dialect.embedded(b'{"embeddings": [[3, 4]], "prompt_eval_count": 6}', EmbedRequest("m", ("a",)))
    assert struct.unpack("<2f", found.vectors[0]) == pytest.approx((0.6, 0.8)) and found.usage.prompt_tokens == 6
    with pytest.raises(UnsupportedError):
        dialect.embed(EmbedRequest("m", ((1, 2),)), "big")


def test_models_are_listed_keys_are_shown_and_arrays_are_impossible() -> None:
    assert dialect.models().path == "/api/tags" and dialect.listed(b'{"models": [{"name": "a:latest"}]}') == (
        "a:latest",
    )
    assert dialect.headers("k") == {"authorization": "Bearer k"} and dialect.headers(None) == {}
    with pytest.raises(UnsupportedError):
        dialect.predict(PredictRequest("m", ()), "m")
    with pytest.raises(UnsupportedError):
        dialect.predicted(b"", {}, PredictRequest("m", ()))
