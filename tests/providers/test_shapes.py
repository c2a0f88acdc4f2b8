"""What the test provider says, and what is recorded, is of its makers' shape: their own clients read it strictly."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from anthropic.types import (
    ContentBlockParam,
    OutputConfigParam,
    RawMessageStreamEvent,
    ThinkingConfigParam,
    ToolChoiceParam,
    ToolParam,
    message_create_params,
)
from ollama import ChatResponse
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter
from tests.providers.answers import Answer, Asked, Call, Speaker
from tests.run.dialects.page import WISHES
from tests.run.dialects.playing import RECORDED

from catena.core import registry
from catena.core.errors import UnsupportedError
from catena.core.messages import ChatRequest, Message, Text

RICH = Answer(
    reasoning=("a", "b"),
    calls=(Call("c1", "f", ('{"a":', "1}")), Call("c2", "g", ())),
    cached_tokens=3,
    reasoning_tokens=1,
)
FIELDS = {
    *message_create_params.MessageCreateParamsBase.__annotations__,
    *message_create_params.MessageCreateParamsStreaming.__annotations__,
}
# The dialect speaks version 2023-06-01, which still has them; the client speaks the newest, which has not.
OLDER = {"temperature", "top_p", "top_k"}
QUESTION = ChatRequest("m", (Message("user", (Text("Hi"),)),))


def said(name: str, answer: Answer) -> bytes:
    """What the provider says in this dialect to the question."""
    speaker: Speaker = importlib.import_module(f"tests.providers.{name}").speaker
    dialect = registry.find("dialects", name)
    out = dialect.generate(QUESTION, "m")
    headers = {**dialect.headers("k"), **out.headers}
    reply = speaker.reply(Asked(out.method, speaker.base + out.path, headers, out.body), answer)
    assert reply.status == 200, reply
    return b"".join(reply.pieces)


def data(body: bytes) -> Iterator[str]:
    """The data of each event of a stream."""
    for line in body.decode().split("\n"):
        if line.startswith("data: ") and line != "data: [DONE]":
            yield line.removeprefix("data: ")


@pytest.mark.parametrize("answer", [Answer(), RICH, Answer(finish="length"), Answer(finish="content_filter")])
def test_anthropics_client_reads_every_event(answer: Answer) -> None:
    read = TypeAdapter(RawMessageStreamEvent)
    events = [read.validate_json(one, strict=True) for one in data(said("anthropic", answer)) if '"ping"' not in one]
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


@pytest.mark.parametrize("name", ["anthropic_text.sse", "anthropic_tools.sse", "anthropic_error.sse"])
def test_anthropics_client_reads_what_is_recorded(name: str) -> None:
    read = TypeAdapter(RawMessageStreamEvent)
    unknown = ('"type":"ping"', '"type":"something_new"', '"type":"error"')
    events = [
        read.validate_json(one, strict=True)
        for one in data((RECORDED / name).read_bytes())
        if not any(word in one for word in unknown)
    ]
    assert events[0].type == "message_start"


@pytest.mark.parametrize("answer", [Answer(), RICH, Answer(finish="length"), Answer(finish="content_filter")])
def test_openais_client_reads_every_chunk(answer: Answer) -> None:
    chunks = [ChatCompletionChunk.model_validate_json(one, strict=True) for one in data(said("openai", answer))]
    assert chunks[-1].usage is not None and chunks[-2].choices[0].finish_reason


@pytest.mark.parametrize("answer", [Answer(), RICH, Answer(finish="length")])
def test_ollamas_client_reads_every_line(answer: Answer) -> None:
    lines = [ChatResponse.model_validate_json(line) for line in said("ollama", answer).split(b"\n") if line]
    assert lines[-1].done and lines[-1].done_reason in ("stop", "length")


def asked_of_anthropic() -> dict[str, Any]:
    """The body of each wish that the dialect carries."""
    dialect, found = registry.find("dialects", "anthropic"), dict[str, Any]()
    for wish, asking in WISHES.items():
        with contextlib.suppress(UnsupportedError):
            out = asking(dialect)
            if out.path == "/v1/messages":
                found[wish] = msgspec.json.decode(out.body)
    return found


@pytest.mark.parametrize(("wish", "body"), asked_of_anthropic().items())
def test_anthropics_client_would_send_what_is_asked_of_it(wish: str, body: Any) -> None:
    assert set(body) <= FIELDS | OLDER
    typed: dict[str, Any] = {
        "tool_choice": ToolChoiceParam,
        "thinking": ThinkingConfigParam,
        "output_config": OutputConfigParam,
    }
    for name in typed.keys() & body.keys():
        TypeAdapter(typed[name]).validate_python(body[name])
    for tool in body.get("tools", ()):
        TypeAdapter(ToolParam).validate_python(tool)
    block = TypeAdapter(ContentBlockParam)
    for turn in body["messages"]:
        for one in turn["content"] if isinstance(turn["content"], list) else ():
            block.validate_python(one)
