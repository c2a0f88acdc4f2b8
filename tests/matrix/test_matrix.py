"""Every protocol that is served over every dialect of providers: each cell passes, or refuses as its promise says."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing

import msgspec
import pytest
from tests.matrix.cells import cell
from tests.matrix.conftest import Matrix
from tests.matrix.doors import DOORS
from tests.matrix.ends import ENDS, PICTURE_TEXT, question
from tests.matrix.wish import PICTURE, SCHEMA, Function, Seen, Wish
from tests.providers import anthropic, gemini
from tests.providers.answers import Answer, Call

EVERY = pytest.mark.parametrize(("door", "end"), [(door, end) for door in DOORS for end in ENDS])
TOOLS = (Function("weather", "of a city"), Function("clock", "of a city"))
CALLS = (Call("toolu_a", "weather", ('{"city":', ' "Bern"}')), Call("toolu_b", "clock", ('{"city": "Thun"}',)))
SIGNATURES = {"anthropic": anthropic.SIGNATURE, "gemini": gemini.SIGNATURE}
FINISH_OF_CALLS = {"openai": "tool_calls", "responses": "completed", "anthropic": "tool_use", "ollama": "stop"}
# Doors whose clients get the fragments of arguments, and ends that send them.
FRAGMENTS = {"openai", "responses", "anthropic"}, {"openai", "anthropic"}
WAIT_S = 5.0


def refused(matrix: Matrix, door: str, end: str, wish: Wish) -> Seen:
    """The refusal of a wish that cannot be carried: clear, in the door's own form, and nothing left the machine."""
    seen = matrix.ask(door, end, wish)
    assert seen.status == 400 and seen.error
    assert told(door, seen)
    assert matrix.providers[end].asked == []
    return seen


def told(door: str, seen: Seen) -> str:
    """The sentence of an error, from the form that the door's clients read."""
    assert seen.error is not None
    body = msgspec.json.decode(seen.error)
    match door:
        case "anthropic":
            assert body["type"] == "error" and body["error"]["type"].endswith(("_error", "_too_large"))
            return body["error"]["message"]
        case "openai" | "responses":
            assert {"message", "type", "param", "code"} <= set(body["error"])
            return body["error"]["message"]
        case _:
            assert isinstance(body["error"], str)
            return body["error"]


@EVERY
def test_stream(matrix: Matrix, door: str, end: str) -> None:
    pieces = tuple(f"{number} " for number in range(20))
    provider = matrix.providers[end]
    provider.say(Answer(text=pieces, between_s=0.005))
    connection, response = matrix.open(door, matrix.body(door, end, Wish("small")))
    with closing(connection), response:
        raw = b""
        while b'"0 "' not in raw and (piece := response.read1()):
            raw += piece
        num_sent = provider.num_sent
        raw += response.read()
    seen = Seen(response.status, {name.lower(): value for name, value in response.headers.items()})
    DOORS[door].read(seen, raw)
    assert seen.status == 200, raw
    assert num_sent < len(pieces), "the first piece came only when all had been sent"
    assert seen.is_whole and seen.text == "".join(pieces) and len(seen.texts) > 1
    assert seen.headers["catena-receipt"].startswith("rcpt_")
    (asked,) = provider.asked
    assert "What is there?" in question(asked)
    note = cell(door, end, "stream").note
    assert ("catena-warning" in note) == bool(seen.warning), seen.warning


@EVERY
def test_tools(matrix: Matrix, door: str, end: str) -> None:
    wish = Wish("small", tools=TOOLS)
    if cell(door, end, "tools").reason:
        assert "tools" in told(door, refused(matrix, door, end, wish))
        return
    provider = matrix.providers[end]
    provider.say(Answer(text=(), calls=CALLS, finish="tool_calls"), Answer())
    body = matrix.body(door, end, wish)
    seen = matrix.send(door, body)
    assert seen.is_whole and seen.finish == FINISH_OF_CALLS[door], seen
    assert ENDS[end].tools(provider.asked[0].json) == ["weather", "clock"]
    assert [(call.name, call.arguments) for call in seen.calls] == [
        ("weather", {"city": "Bern"}),
        ("clock", {"city": "Thun"}),
    ]
    assert len({call.id for call in seen.calls}) == 2 and all(call.id for call in seen.calls)
    if door in FRAGMENTS[0] and end in FRAGMENTS[1]:
        assert seen.num_fragments == 3
    again = matrix.send(door, DOORS[door].follow(body, seen, ["rain", "noon"]))
    assert again.is_whole and again.text == "Hello world", again
    results = ENDS[end].results(provider.asked[1].json)
    assert [result.text for result in results] == ["rain", "noon"]
    for result, name in zip(results, ("weather", "clock"), strict=True):
        # Named like its call: by the call's id, which then stands twice, or where there are no ids by its name.
        assert result.call == name if end == "ollama" else question(provider.asked[1]).count(f'"{result.call}"') == 2
    if end == "gemini" and door in ("anthropic", "responses"):
        assert gemini.SIGNATURE in question(provider.asked[1])


@EVERY
def test_schema(matrix: Matrix, door: str, end: str) -> None:
    wish = Wish("small", schema=SCHEMA)
    if cell(door, end, "schema").reason:
        refused(matrix, door, end, wish)
        return
    provider = matrix.providers[end]
    provider.say(Answer(text=('{"city":', '"Bern"}')))
    seen = matrix.ask(door, end, wish)
    assert seen.is_whole and seen.text == '{"city":"Bern"}', seen
    assert ENDS[end].schema(provider.asked[0].json) == SCHEMA


@EVERY
def test_images(matrix: Matrix, door: str, end: str) -> None:
    wish = Wish("small", picture=PICTURE)
    if cell(door, end, "images").reason:
        refused(matrix, door, end, wish)
        return
    provider = matrix.providers[end]
    provider.say(Answer())
    seen = matrix.ask(door, end, wish)
    assert seen.is_whole, seen
    assert ENDS[end].picture(provider.asked[0].json) == PICTURE_TEXT


@EVERY
def test_reasoning(matrix: Matrix, door: str, end: str) -> None:
    wish, provider = Wish("small", think=True, max_tokens=4096), matrix.providers[end]
    provider.say(Answer(reasoning=("Let me", " see."), text=("Be", "rn")), Answer())
    promise = cell(door, end, "reasoning")
    if promise.reason and door == "open_inference":
        refused(matrix, door, end, wish)
        return
    body = matrix.body(door, end, wish)
    seen = matrix.send(door, body)
    assert seen.is_whole and seen.text == "Bern", seen
    if promise.reason:
        assert seen.reasoning == "" and "think" in seen.warning
        return
    assert seen.reasoning == "Let me see."
    assert ("think" in seen.warning) == (end == "openai"), seen.warning
    again = matrix.send(door, DOORS[door].follow(body, seen, []))
    assert again.is_whole, again
    sent = question(provider.asked[1])
    if end == "ollama":
        assert "Let me see." in sent
    elif "exactly as they came" in promise.note:
        assert SIGNATURES[end] in sent and "messages.reasoning" not in again.warning
    else:
        assert "messages.reasoning" in again.warning and "Let me see." not in sent


@EVERY
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_stop(matrix: Matrix, door: str, end: str, reason: str) -> None:
    if end == "ollama" and reason == "content_filter":
        assert "nothing else" in cell("openai", end, "stop").note
        return
    provider = matrix.providers[end]
    provider.say(Answer(finish=reason, completion_tokens=16))  # type: ignore[arg-type]
    seen = matrix.ask(door, end, Wish("small"))
    assert seen.is_whole and seen.text == "Hello world", seen
    if door == "open_inference":
        assert seen.finish is None
    elif cell(door, end, "stop").reason:
        assert seen.finish == DOORS[door].words["stop"]
    else:
        assert seen.finish == DOORS[door].words[reason]


@EVERY
def test_usage(matrix: Matrix, door: str, end: str) -> None:
    provider = matrix.providers[end]
    provider.say(Answer(prompt_tokens=100, completion_tokens=15, cached_tokens=40, reasoning_tokens=5))
    seen = matrix.ask(door, end, Wish("small"))
    assert seen.is_whole, seen
    if door == "open_inference":
        assert seen.counts is None
    elif cell(door, end, "usage").reason:
        # 14 letters of question and 11 of answer, at about four a token.
        assert seen.counts is not None and seen.counts[:2] == (4, 3)
    else:
        cached = None if door == "ollama" else 0 if end == "ollama" else 40
        assert seen.counts == (100, 15, cached)


@EVERY
@pytest.mark.parametrize(("status", "expected"), [(429, 429), (401, 502), (503, 502)])
def test_errors_before_the_stream(matrix: Matrix, door: str, end: str, status: int, expected: int) -> None:
    matrix.providers[end].say(Answer(status=status, message="a secret", headers={"retry-after": "7"}))
    seen = matrix.ask(door, end, Wish("small"))
    assert seen.status == expected and "secret" not in told(door, seen), seen
    assert seen.headers["catena-receipt"].startswith("rcpt_")
    if status == 429:
        assert seen.headers["retry-after"] == "7"


@EVERY
@pytest.mark.parametrize(
    "fault",
    [Answer(trouble_after=3), Answer(cut_after=3), Answer(cut_after=3, cut="close"), Answer(cut_after=3, cut="clean")],
    ids=["trouble", "reset", "close", "clean"],
)
def test_errors_within_the_stream(matrix: Matrix, door: str, end: str, fault: Answer) -> None:
    provider = matrix.providers[end]
    provider.say(dataclasses.replace(fault, text=("a ",) * 9))
    seen = matrix.ask(door, end, Wish("small"))
    if end == "open_inference" and fault.cut == "clean":
        assert "marks no end" in cell(door, end, "errors").note
        assert seen.is_whole and seen.text == "a a a "
        return
    assert seen.error and not seen.is_whole, seen


@EVERY
def test_cancel(matrix: Matrix, door: str, end: str) -> None:
    provider = matrix.providers[end]
    provider.say(Answer(text=("x ",) * 500, between_s=0.01))
    connection, response = matrix.open(door, matrix.body(door, end, Wish("small")))
    assert response.read1()
    response.close()
    connection.close()
    began_s = time.monotonic()
    assert provider.gone.wait(WAIT_S), "the provider went on"
    assert time.monotonic() - began_s < 2 and provider.num_sent < 400
