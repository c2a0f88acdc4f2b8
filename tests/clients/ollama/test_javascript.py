"""What the official JavaScript client must find at a running `catena up` with the real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Gateway, asked_by_node, npm_folder, requirement
from tests.clients.ollama.conftest import EMBEDDER, MODEL, until

pytestmark = pytest.mark.model
JAVASCRIPT = "JavaScript"
QUESTIONS = Path(__file__).with_name("questions.mjs")
PACKAGE, VERSION = "ollama", "0.6.4"


@pytest.fixture(scope="module")
def answers(pytestconfig: pytest.Config, gateway: Gateway) -> Any:
    """What the client got, by question."""
    return asked_by_node(QUESTIONS, str(npm_folder(pytestconfig, PACKAGE, VERSION)), gateway.url)


@requirement("J01", JAVASCRIPT, "`version`, `list` and `show` say what the Python client finds")
def test_what_is_there(answers: Any) -> None:
    assert answers["version"]["version"]
    assert {f"{MODEL}:latest", f"{EMBEDDER}:latest"} <= {one["name"] for one in answers["list"]["models"]}
    assert answers["show"]["capabilities"] == ["completion", "tools"]
    assert answers["show"]["model_info"]["llama.context_length"] == 8192


@requirement("J02", JAVASCRIPT, "`chat` answers at once, and its stream says the same and ends with `done`")
def test_chat(answers: Any) -> None:
    assert answers["chat"]["done_reason"] == "length"
    *parts, last = answers["stream"]
    assert "".join(part["message"]["content"] for part in parts) == answers["chat"]["message"]["content"] != ""
    assert (last["done"], last["eval_count"]) == (True, 12)


@requirement("J03", JAVASCRIPT, "`generate` streams responses")
def test_generate(answers: Any) -> None:
    said = "".join(part["response"] for part in answers["generate"])
    assert said == answers["chat"]["message"]["content"]


@requirement("J04", JAVASCRIPT, "tools are called with arguments as an object")
def test_tools(answers: Any) -> None:
    function = answers["tools"]["message"]["tool_calls"][0]["function"]
    assert function["name"] == "add"
    assert {"a", "b"} <= set(function["arguments"])


@requirement("J05", JAVASCRIPT, "`format` json gives JSON")
def test_format(answers: Any) -> None:
    assert isinstance(json.loads(answers["format"]["message"]["content"]), dict)


@requirement("J06", JAVASCRIPT, "`embed` and `embeddings` give vectors")
def test_vectors(answers: Any) -> None:
    first, second = answers["embed"]["embeddings"]
    assert len(first) == len(second) == 384
    assert answers["embeddings"]["embedding"] == pytest.approx(first, abs=1e-3)


@requirement("J07", JAVASCRIPT, "`ps` shows what is loaded")
def test_ps(answers: Any) -> None:
    assert f"{EMBEDDER}:latest" in [one["name"] for one in answers["ps"]["models"]]


@requirement("J08", JAVASCRIPT, "`pull` and `create` stream their steps to `success`")
def test_steps(answers: Any) -> None:
    assert answers["pull"][0]["status"] == "pulling manifest"
    assert answers["pull"][-1]["status"] == answers["create"][-1]["status"] == "success"


@requirement("J09", JAVASCRIPT, "a model is made, copied and deleted")
def test_making(answers: Any, gateway: Gateway) -> None:
    assert answers["made"]["system"] == "Be brief."
    assert answers["copy"] == {"status": "success"}
    assert answers["remove"] == [{"status": "success"}, {"status": "success"}]
    assert not [one for one in gateway.get("/api/tags")["models"] if one["name"].startswith("by-script")]


@requirement("J10", JAVASCRIPT, "an unknown model is a ResponseError 404 with its text, in a stream too")
def test_errors(answers: Any) -> None:
    for name in ("unknown", "unknownStream"):
        error = answers[name]
        assert (error["name"], error["status"]) == ("ResponseError", 404)
        assert error["message"].startswith("model 'nope' not found")


@requirement("J11", JAVASCRIPT, "`abort` of a stream stops the work, and the record says cancelled")
def test_abort(answers: Any, gateway: Gateway) -> None:
    assert answers["abort"]["first"]["done"] is False

    def cancelled() -> list[Any]:
        rows = gateway.get("/catena/v1/receipts?limit=20")["receipts"]
        return [row for row in rows if row["closed"] and row["closed"]["outcome"] == "cancelled"]

    until(cancelled)
    assert cancelled()[0]["opened"]["door"] == "ollama.chat"
