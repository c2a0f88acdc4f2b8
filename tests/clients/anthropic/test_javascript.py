"""What the official TypeScript client must find at a running `catena up` with the real model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.clients.anthropic.conftest import MODEL, closed
from tests.clients.conftest import Gateway, asked_by_node, npm_folder, requirement

pytestmark = pytest.mark.model
TYPESCRIPT = "TypeScript"
PACKAGE, VERSION = "@anthropic-ai/sdk", "1.13.0"
QUESTIONS = Path(__file__).with_name("questions.mjs")


@pytest.fixture(scope="module")
def answers(pytestconfig: pytest.Config, gateway: Gateway) -> Any:
    """What the client got, by question."""
    return asked_by_node(QUESTIONS, gateway.url, str(npm_folder(pytestconfig, PACKAGE, VERSION)))


def text(message: Any) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def inputs(message: Any) -> list[Any]:
    return [block["input"] for block in message["content"] if block["type"] == "tool_use"]


@requirement("J01", TYPESCRIPT, "`messages.create` answers at once, with usage and stop reason")
def test_an_answer_at_once(answers: Any) -> None:
    whole = answers["whole"]
    assert (whole["type"], whole["role"], whole["model"]) == ("message", "assistant", MODEL)
    assert text(whole)
    assert whole["usage"]["output_tokens"] == 8
    assert whole["stop_reason"] == "max_tokens"


@requirement("J02", TYPESCRIPT, "`messages.stream` puts the same message together, from events in the order of the API")
def test_a_stream_says_the_same(answers: Any) -> None:
    assert answers["kinds"][:2] == ["message_start", "content_block_start"]
    assert answers["kinds"][-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert text(answers["streamed"]) == text(answers["whole"])
    assert answers["streamed"]["stop_reason"] == answers["whole"]["stop_reason"]
    assert answers["streamed"]["usage"]["output_tokens"] == 8


@requirement("J03", TYPESCRIPT, "a tool is called with an object as its input, at once and streamed")
def test_tools(answers: Any) -> None:
    assert answers["called"]["stop_reason"] == answers["callStreamed"]["stop_reason"] == "tool_use"
    for message in (answers["called"], answers["callStreamed"]):
        (found,) = inputs(message)
        assert (found["a"] in (1, 2), found["b"] in (3, 4)) == (True, True)


@requirement("J04", TYPESCRIPT, "the result of a call goes back, and the conversation goes on")
def test_result(answers: Any) -> None:
    assert text(answers["continued"])


@requirement("J05", TYPESCRIPT, "`countTokens` says what the usage of the answer says of its prompt")
def test_count_tokens(answers: Any) -> None:
    usage = answers["whole"]["usage"]
    assert answers["counted"]["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]


@requirement("J06", TYPESCRIPT, "`models.list` turns its pages, `models.retrieve` knows the alias")
def test_models(answers: Any) -> None:
    assert {"echo", MODEL} <= set(answers["models"])
    assert len(answers["models"]) == len(set(answers["models"]))
    assert answers["shown"]["id"] == MODEL


@requirement("J07", TYPESCRIPT, "errors are the client's own classes, with the type of the API and a request id")
def test_errors(answers: Any) -> None:
    assert answers["unknownModel"]["name"] == "NotFoundError"
    assert (answers["outOfRange"]["name"], answers["outOfRange"]["type"]) == (
        "BadRequestError",
        "invalid_request_error",
    )
    assert answers["outOfRange"]["id"].startswith("req_")
    assert answers["wrongKey"] == "AuthenticationError"


@requirement("J08", TYPESCRIPT, "a stream that is aborted is cancelled, and its record says so")
def test_abort(answers: Any, gateway: Gateway) -> None:
    assert closed(gateway, answers["leftReceipt"])["outcome"] == "cancelled"
