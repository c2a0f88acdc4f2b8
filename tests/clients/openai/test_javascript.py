"""What the official JavaScript client must find at a running `catena up` with the real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Gateway, asked_by_node, npm_folder, requirement
from tests.clients.test_openai_requirements import EMBEDDER, MODEL

pytestmark = pytest.mark.model
JAVASCRIPT = "JavaScript"
PACKAGE, VERSION = "openai", "7.57.0"
QUESTIONS = Path(__file__).with_name("questions.mjs")


@pytest.fixture(scope="module")
def answers(pytestconfig: pytest.Config, gateway: Gateway) -> Any:
    """What the client got, by question."""
    return asked_by_node(QUESTIONS, gateway.url, str(npm_folder(pytestconfig, PACKAGE, VERSION)))


def kinds(events: Any) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def said(response: Any) -> str:
    """The text of a response."""
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for message in messages for part in message["content"])


@requirement("J01", JAVASCRIPT, "`models.list` names the stored models")
def test_models(answers: Any) -> None:
    assert {MODEL, EMBEDDER, "echo"} <= set(answers["models"])


@requirement("J02", JAVASCRIPT, "`chat.completions.create` answers at once, and its stream says the same")
def test_chat(answers: Any) -> None:
    whole = answers["chat"]["choices"][0]["message"]["content"]
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in answers["chatChunks"]]
    assert "".join(deltas) == whole != ""


@requirement("J03", JAVASCRIPT, "a tool is called in chat, with arguments by its schema")
def test_chat_call(answers: Any) -> None:
    (call,) = answers["chatCall"]["choices"][0]["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert (arguments["a"] in (1, 2), arguments["b"] in (3, 4)) == (True, True)


@requirement("J04", JAVASCRIPT, "`embeddings.create` gives numbers, `completions.create` continues a prompt")
def test_embeddings_and_completions(answers: Any) -> None:
    assert [len(one["embedding"]) for one in answers["embedding"]["data"]] == [384, 384]
    assert "three" in answers["completion"]["choices"][0]["text"]


@requirement("J05", JAVASCRIPT, "`responses.create` answers at once with `output_text`, as chat does")
def test_response(answers: Any) -> None:
    whole = answers["whole"]
    assert whole["output_text"] == said(whole) == answers["chat"]["choices"][0]["message"]["content"]
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@requirement("J06", JAVASCRIPT, "its stream has every event in order, numbered, and says the same")
def test_response_stream(answers: Any) -> None:
    events = answers["events"]
    assert kinds(events)[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds(events)[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert said(events[-1]["response"]) == said(answers["whole"])


@requirement("J07", JAVASCRIPT, "`responses.stream` puts the response together")
def test_response_helper(answers: Any) -> None:
    assert answers["helperKinds"][-1] == "response.completed"
    assert answers["helper"]["output_text"] == "one two three"


@requirement("J08", JAVASCRIPT, "a function is called at once and streamed, with arguments by its schema")
def test_calls(answers: Any) -> None:
    (call,) = answers["called"]["output"]
    arguments = json.loads(call["arguments"])
    assert (call["type"], arguments["a"] in (1, 2), arguments["b"] in (3, 4)) == ("function_call", True, True)
    streamed = answers["callEvents"][-1]["response"]
    pieces = [event["delta"] for event in answers["callEvents"] if event["type"].endswith("arguments.delta")]
    assert "".join(pieces) == streamed["output"][0]["arguments"] == "{}"


@requirement("J09", JAVASCRIPT, "`responses.parse` gives JSON by a schema")
def test_parse(answers: Any) -> None:
    assert answers["parsed"]["output_parsed"]["colour"] in ("red", "green")


@requirement("J10", JAVASCRIPT, "a response goes on from another; `inputItems.list` shows what was sent")
def test_previous(answers: Any) -> None:
    assert answers["continued"]["output_text"] == "four"
    assert answers["continued"]["usage"]["input_tokens"] == 7
    assert [item["content"][0]["text"] for item in answers["items"]] == ["four"]


@requirement("J11", JAVASCRIPT, "`inputTokens.count` says what the usage says")
def test_count(answers: Any) -> None:
    assert answers["counted"]["input_tokens"] == answers["whole"]["usage"]["input_tokens"]


@requirement("J12", JAVASCRIPT, "a deleted response is not found")
def test_delete(answers: Any) -> None:
    assert answers["deleted"]["name"] == "NotFoundError"


@requirement("J13", JAVASCRIPT, "work in the background is polled to its end, and cancelled")
def test_background(answers: Any) -> None:
    assert answers["background"]["status"] == "queued"
    assert said(answers["polled"]) == "one two three"
    assert answers["cancelled"]["status"] == "cancelled"


@requirement("J14", JAVASCRIPT, "a stream of the background is resumed after any event")
def test_resume(answers: Any) -> None:
    events = [*answers["first"], *answers["rest"]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert said(events[-1]["response"]) == "one two three"


@requirement("J15", JAVASCRIPT, "errors are the client's own classes, with code and parameter")
def test_errors(answers: Any) -> None:
    assert answers["unknownModel"] == {
        "name": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
    }
    assert (answers["hosted"]["name"], answers["hosted"]["param"]) == ("BadRequestError", "tools[0].type")
    assert answers["outOfRange"]["param"] == "temperature"
    assert answers["wrongKey"]["name"] == "AuthenticationError"


@requirement("J16", JAVASCRIPT, "leaving a stream cancels its response")
def test_leaving(answers: Any) -> None:
    assert answers["leftResponse"]["status"] == "cancelled"
