"""Beside the nine features: answers at once say what streams say; vectors, counts and arrays, where there are any."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from tests.matrix.conftest import Matrix
from tests.matrix.doors import DOORS
from tests.matrix.ends import ENDS
from tests.matrix.test_matrix import CALLS, EVERY, TOOLS
from tests.matrix.wholes import WHOLE
from tests.matrix.wish import Seen, Wish
from tests.providers.answers import Answer

RICH = Answer(
    reasoning=("Let me", " see."),
    text=("I", " ask."),
    calls=CALLS,
    finish="tool_calls",
    prompt_tokens=9,
    cached_tokens=4,
)


@EVERY
def test_an_answer_at_once_says_what_the_stream_says(matrix: Matrix, door: str, end: str) -> None:
    is_plain = "open_inference" in (door, end)
    matrix.providers[end].say(Answer() if is_plain else RICH)
    tools = () if is_plain else TOOLS
    streamed = matrix.ask(door, end, Wish("small", tools=tools))
    status, body = post(matrix, door, matrix.body(door, end, Wish("small", tools=tools, is_stream=False)))
    assert status == 200, body
    seen = Seen()
    WHOLE[door](body, seen)
    for name in ("text", "reasoning", "finish", "counts"):
        assert getattr(seen, name) == getattr(streamed, name), name
    called = [(call.name, call.arguments) for call in seen.calls]
    assert called == [(call.name, call.arguments) for call in streamed.calls]
    assert len(called) == len(tools)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        ("/v1/embeddings", {"input": ["a", "b"]}, lambda found: [row["embedding"] for row in found["data"]]),
        ("/api/embed", {"input": ["a", "b"]}, lambda found: found["embeddings"]),
    ],
)
def test_vectors_come_from_every_dialect_that_has_them(
    matrix: Matrix, end: str, path: str, body: Any, read: Any
) -> None:
    matrix.providers[end].say(Answer(vectors=((3.0, 4.0), (0.0, 1.0))))
    status, found = matrix.post(path, {**body, "model": f"{end}/small"})
    if end in ("anthropic", "open_inference"):
        assert status == 400 and "cannot carry" in str(found) and matrix.providers[end].asked == []
        return
    assert status == 200, found
    vectors = read(found)
    assert vectors[0] == pytest.approx([0.6, 0.8]) and vectors[1] == pytest.approx([0, 1])


@pytest.mark.parametrize("end", ENDS)
def test_prompts_are_counted_by_every_dialect_that_has_a_route_for_it(matrix: Matrix, end: str) -> None:
    matrix.providers[end].say(Answer(num_tokens=41))
    asked = {"model": f"{end}/small", "messages": [{"role": "user", "content": "hi"}]}
    status, found = matrix.post("/v1/messages/count_tokens", asked)
    if end in ("anthropic", "gemini"):
        assert (status, found["input_tokens"]) == (200, 41)
    else:
        assert status == 400 and "cannot count" in found["error"]["message"] and matrix.providers[end].asked == []


@pytest.mark.parametrize("end", ENDS)
def test_arrays_go_to_the_dialect_that_has_them_and_come_back_as_they_were(matrix: Matrix, end: str) -> None:
    values = [1.5, -2.0, 0.25]
    asked = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": values}]}
    status, found = matrix.post(f"/v2/models/{end}%2Fsmall/infer", asked)
    if end == "open_inference":
        assert status == 200, found
        assert found["outputs"] == [{"name": "x", "datatype": "FP32", "shape": [3], "data": values}]
        assert matrix.providers[end].asked[0].body.endswith(struct.pack("<3f", *values))
    else:
        assert status == 400 and "cannot carry" in found["error"] and matrix.providers[end].asked == []


def post(matrix: Matrix, door: str, body: dict[str, Any]) -> tuple[int, Any]:
    """A request for an answer at once."""
    if door == "open_inference":
        name = body.pop("model").replace("/", "%2F")
        return matrix.post(f"/v2/models/{name}/generate", body)
    return matrix.post(DOORS[door].path, msgspec.to_builtins(body))
