"""The form of answers: blocks, stop reasons, usage; streamed and at once the same, whatever the model does."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from anthropic.types import ToolUseBlock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.anthropic.conftest import ADD, ASK, PATH, accumulated, checked, events, parsed
from tests.reach.gateway.conftest import MODEL, Door, Log, Memory, Row, Script

from catena.core.errors import EngineError
from catena.core.messages import Delta, Event, Finished, Progress, Timings, ToolCallDelta, Usage
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create
from catena.reach.gateway.protocols.anthropic import truncated

pytestmark = pytest.mark.anyio
THINK = {**ASK, "thinking": {"type": "enabled", "budget_tokens": 2048}}


async def both(door: Door, *script: Event, body: Any = ASK) -> tuple[Any, Any]:
    """The same answer at once and as the client accumulates it from a stream, without ids."""
    door.script.events = script
    whole = await door.post(PATH, body)
    assert whole.status == 200, whole.body
    parsed(whole.body)
    streamed = await door.post(PATH, {**body, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    checked(streamed.body)
    return _plain(whole.json), _plain(accumulated(streamed.body))


def _plain(message: Any) -> Any:
    """A message without what differs from request to request, or is null."""
    kept = {name: value for name, value in message.items() if name != "id" and value is not None}
    kept["content"] = [{name: value for name, value in block.items() if value is not None} for block in kept["content"]]
    for block in kept["content"]:
        if "signature" in block:
            block["signature"] = block["signature"].startswith("ctn1.rcpt_")
    return kept


async def test_an_answer_at_once_has_the_form_of_the_api(door: Door) -> None:
    response = await door.post(PATH, ASK)
    answer = response.json
    assert answer["id"] == "msg_" + response.headers["catena-receipt"].removeprefix("rcpt_")
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "tiny")
    assert answer["content"] == [{"type": "text", "text": "Hello world"}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)
    assert response.headers["request-id"] == response.headers["x-request-id"]


async def test_cached_tokens_are_not_among_the_input_tokens(door: Door) -> None:
    usage = (await door.post(PATH, ASK)).json["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (2, 3, 2)
    assert usage["cache_creation_input_tokens"] == 0


async def test_a_stream_names_every_event_and_ends_with_the_usage(door: Door) -> None:
    response = await door.post(PATH, {**ASK, "stream": True})
    found = checked(response.body)
    assert [name for name, _ in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0][1]["message"]["id"] == "msg_" + response.headers["catena-receipt"].removeprefix("rcpt_")
    assert found[-2][1]["usage"]["input_tokens"] == 2
    assert found[-2][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


async def test_reasoning_is_a_signed_block_before_the_text(door: Door) -> None:
    script = (Delta(reasoning="h"), Delta(reasoning="m"), Delta(text="42"), Finished(0, "stop"), Usage(1, 3, 0, 2))
    whole, streamed = await both(door, *script, body=THINK)
    assert whole["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": True},
        {"type": "text", "text": "42"},
    ]
    assert whole == streamed
    assert whole["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


async def test_reasoning_that_is_to_be_omitted_leaves_a_signed_empty_block(door: Door) -> None:
    body = {**ASK, "thinking": {"type": "adaptive", "display": "omitted"}}
    script = (Delta(reasoning="hm"), Delta(text="42"), Finished(0, "stop"), Usage(1, 3))
    whole, streamed = await both(door, *script, body=body)
    assert whole["content"][0] == {"type": "thinking", "thinking": "", "signature": True}
    assert whole == streamed


async def test_a_piece_with_reasoning_and_text_makes_both_blocks(door: Door) -> None:
    whole, streamed = await both(door, Delta(text="b", reasoning="a"), Finished(0, "stop"), Usage(1, 1))
    assert [block["type"] for block in whole["content"]] == ["thinking", "text"]
    assert whole == streamed


async def test_calls_are_blocks_with_their_input_as_an_object(door: Door) -> None:
    script = (
        Delta(text="Adding."),
        ToolCallDelta(0, 0, id="call_1", name="add"),
        ToolCallDelta(0, 0, '{"a":'),
        ToolCallDelta(0, 0, " 1}"),
        ToolCallDelta(0, 1, "", id="call_2", name="add"),
        ToolCallDelta(0, 1, ""),
        Finished(0, "tool_calls"),
        Usage(9, 9),
    )
    whole, streamed = await both(door, *script, body={**ASK, "tools": [ADD]})
    assert whole["content"][1:] == [
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "add", "input": {}},
    ]
    assert whole["stop_reason"] == "tool_use"
    assert whole == streamed


async def test_fragments_of_two_calls_that_alternate_are_shown_one_call_after_the_other(door: Door) -> None:
    script = (
        ToolCallDelta(0, 0, '{"a"', id="x", name="add"),
        ToolCallDelta(0, 1, '{"b"', id="y", name="add"),
        ToolCallDelta(0, 0, ":1}"),
        ToolCallDelta(0, 1, ":2}"),
        Finished(0, "tool_calls"),
    )
    whole, streamed = await both(door, *script)
    assert [block["input"] for block in whole["content"]] == [{"a": 1}, {"b": 2}]
    assert whole == streamed


async def test_the_next_call_is_shown_as_soon_as_the_one_before_is_complete(door: Door) -> None:
    shown: list[int] = []

    async def look() -> None:
        shown.append(1)

    door.script.events = [
        ToolCallDelta(0, 0, "{}", id="x", name="add"),
        ToolCallDelta(0, 1, '{"b": 1}', id="y", name="add"),
        look,
        Finished(0, "tool_calls"),
    ]
    found = [name for name, _ in checked((await door.post(PATH, {**ASK, "stream": True})).body)]
    assert found[1:4] == ["content_block_start", "content_block_delta", "content_block_stop"]
    assert shown == [1]


async def test_a_call_that_was_cut_keeps_the_arguments_that_stand(door: Door) -> None:
    script = (
        ToolCallDelta(0, 0, '{"a": 1, "b": [2, "x"], "c": "un', id="x", name="add"),
        Finished(0, "length"),
        Usage(5, 50),
    )
    whole, streamed = await both(door, *script)
    assert whole["content"][0]["input"] == {"a": 1, "b": [2, "x"]}
    assert whole["stop_reason"] == "max_tokens"
    assert whole == streamed


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "5", '{"a": 1} and more'])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_call_that_nobody_can_read_is_an_error_and_no_clean_end(
    door: Door, arguments: str, is_stream: bool
) -> None:
    door.script.events = [ToolCallDelta(0, 0, arguments, id="x", name="add"), Finished(0, "tool_calls"), Usage(1, 1)]
    response = await door.post(PATH, {**ASK, "stream": is_stream})
    if is_stream and response.status == 200:
        assert events(response.body)[-1][1]["error"]["type"] == "api_error"
        assert b"message_stop" not in response.body
    else:
        assert response.status == 500
        assert response.error["type"] == "api_error"


@pytest.mark.parametrize(
    ("script", "reason", "stop"),
    [
        ((Finished(0, "stop"), Usage(1, 0)), "end_turn", None),
        ((Finished(0, "stop", "END"), Usage(1, 0)), "stop_sequence", "END"),
        ((Finished(0, "length"), Usage(1, 50)), "max_tokens", None),
        ((Finished(0, "length"), Usage(1, 49)), "model_context_window_exceeded", None),
        ((Finished(0, "length"),), "max_tokens", None),
        ((Finished(0, "tool_calls"), Usage(1, 0)), "tool_use", None),
        ((Finished(0, "content_filter"), Usage(1, 0)), "refusal", None),
    ],
)
async def test_the_reason_of_the_end_is_told_in_the_words_of_the_api(
    door: Door, script: tuple[Event, ...], reason: str, stop: str | None
) -> None:
    whole, streamed = await both(door, *script)
    assert (whole["stop_reason"], whole.get("stop_sequence")) == (reason, stop)
    assert whole["content"] == []
    assert whole == streamed


async def test_an_answer_without_an_end_is_an_error(door: Door) -> None:
    door.script.events = [Delta(text="half")]
    assert (await door.post(PATH, ASK)).status == 500
    body = (await door.post(PATH, {**ASK, "stream": True})).body
    assert events(body)[-1][0] == "error"


async def test_a_broken_stream_ends_with_an_error_event_and_no_stop(door: Door) -> None:
    door.script.events = [Delta(text="half"), EngineError("broke")]
    response = await door.post(PATH, {**ASK, "stream": True})
    found = events(response.body)
    assert found[-1] == (
        "error",
        {
            "type": "error",
            "error": {"type": "api_error", "message": "broke", "details": {"error_code": "engine_failed"}},
        },
    )
    assert "message_stop" not in [name for name, _ in found]


async def test_a_waiting_stream_pings_and_says_for_what_in_a_comment(make_door: Any) -> None:
    door = make_door(ping_s=0.05)

    async def wait() -> None:
        await anyio.sleep(1.3)

    door.script.events = [Progress("loading", 0.5), wait, Delta(text="x"), Finished(0, "stop"), Usage(1, 1)]
    body = (await door.post(PATH, {**ASK, "stream": True})).body
    assert body.startswith(b": loading 50%\nevent: ping\n")
    assert events(body)[0] == ("ping", {"type": "ping"})
    checked(body)


TEXTS = st.text(alphabet='ab{}"\\é\U0001f600 \n', max_size=4)
OBJECTS = st.dictionaries(
    st.text(max_size=3), st.none() | st.booleans() | st.integers(0, 9) | st.lists(TEXTS, max_size=2) | TEXTS, max_size=3
)


@st.composite
def scripts(draw: st.DrawFn) -> list[Event]:
    """Any order of pieces that a model may bring; the fragments of its calls may alternate with all else."""
    is_cut = draw(st.booleans())
    queues: list[list[Event]] = []
    for index in range(draw(st.integers(0, 3))):
        text = json.dumps(draw(OBJECTS), ensure_ascii=draw(st.booleans()))
        if is_cut:
            text = text[: draw(st.integers(0, len(text)))]
        cut = draw(st.integers(0, len(text)))
        first = ToolCallDelta(0, index, text[:cut], id=f"call_{index}", name="add")
        queues.append([first, ToolCallDelta(0, index, text[cut:])])
    pieces = st.builds(Delta, text=TEXTS, reasoning=TEXTS) | st.just(Progress("prefill"))
    queues.append(draw(st.lists(pieces, max_size=5)))
    found: list[Event] = []
    while any(queues):
        found.append(draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    reason = "length" if is_cut else draw(st.sampled_from(["stop", "tool_calls", "content_filter"]))
    stop = draw(st.none() | st.just("END")) if reason == "stop" else None
    cached = draw(st.integers(0, 5))
    return [*found, Finished(0, reason, stop), Usage(cached + 3, draw(st.integers(0, 60)), cached), Timings()]


def quick_door(script: list[Event]) -> Door:
    """A gateway of its own that plays `script`."""
    played = Script()
    played.events = script
    app = create(
        played, ReachSettings(), Access(Memory()), models=lambda: [Row("tiny", MODEL.digest, (), MODEL.manifest)]
    )
    return Door(app, played, Access(Memory()), Log())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts(), st.booleans())
def test_whatever_the_model_does_the_stream_is_well_formed_and_says_what_the_answer_says(
    script: list[Event], is_hidden: bool
) -> None:
    body = {**ASK, "thinking": {"type": "adaptive", "display": "omitted" if is_hidden else "summarized"}}

    async def ask() -> tuple[Any, Any]:
        return await both(quick_door(script), *script, body=body)

    whole, streamed = anyio.run(ask)
    assert whole == streamed
    said = "".join(event.text for event in script if isinstance(event, Delta))
    assert "".join(block["text"] for block in whole["content"] if block["type"] == "text") == said
    calls = {event.index for event in script if isinstance(event, ToolCallDelta)}
    assert len([block for block in whole["content"] if block["type"] == "tool_use"]) == len(calls)


@settings(max_examples=200, deadline=None)
@given(OBJECTS, st.data())
def test_what_stands_of_cut_json_is_what_the_official_client_reads(value: Any, data: st.DataObject) -> None:
    from jiter import from_json

    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    cut = text[: data.draw(st.integers(0, len(text)))]
    expected = from_json(cut.encode("utf-8", "surrogatepass"), partial_mode=True) if cut else {}
    assert truncated.beginning(cut) == expected


async def test_the_official_client_reads_the_input_of_a_call_strictly(door: Door) -> None:
    door.script.events = [ToolCallDelta(0, 0, '{"a": 1}', id="call_1", name="add"), Finished(0, "tool_calls")]
    (block,) = parsed((await door.post(PATH, ASK)).body).content
    assert isinstance(block, ToolUseBlock)
    assert block.input == {"a": 1}
