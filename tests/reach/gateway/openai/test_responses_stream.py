"""Responses as streams: every event in its place, numbered, of its type, and truthful at the end."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import Door
from tests.reach.gateway.openai.conftest import ADD, ASK, PATH, Maker, checked, events

from catena.core.errors import EngineError
from catena.core.messages import Delta, Event, Finished, Progress, TokenLogprob, ToolCallDelta, Usage
from catena.reach.gateway.protocols.openai.responses.growing import Growth

pytestmark = pytest.mark.anyio
STREAM = {**ASK, "stream": True}


async def test_a_text_is_told_in_the_order_of_the_api(door: Door) -> None:
    reply = await door.post(PATH, STREAM)
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = checked(reply.body)
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["delta"] for event in found if "delta" in event] == ["Hello", " world"]
    assert {event["item_id"] for event in found if "item_id" in event} == {found[2]["item"]["id"]}


async def test_the_last_event_holds_the_response_that_is_answered_at_once(door: Door) -> None:
    streamed = checked((await door.post(PATH, STREAM)).body)[-1]["response"]
    whole = (await door.post(PATH, ASK)).json
    for response in (streamed, whole):
        for name in ("id", "created_at", "completed_at", "catena"):
            del response[name]
        del response["output"][0]["id"]
    assert streamed == whole


async def test_reasoning_words_and_calls_are_items_one_after_the_other(door: Door) -> None:
    door.script.events = [
        Progress("loading"),
        Delta(reasoning="h"),
        Delta(reasoning="m"),
        Delta(text="I add"),
        ToolCallDelta(0, 0, '{"a"', id="c1", name="add"),
        ToolCallDelta(0, 0, ":1}"),
        ToolCallDelta(0, 1, "{}", id="c2", name="add"),
        Finished(0, "tool_calls"),
        Usage(3, 9, reasoning_tokens=2),
    ]
    found = checked((await door.post(PATH, {**STREAM, "tools": [ADD]})).body)
    added = [event["item"]["type"] for event in found if event["type"] == "response.output_item.added"]
    assert added == ["reasoning", "message", "function_call", "function_call"]
    assert found[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}
    arguments = [event["arguments"] for event in found if event["type"] == "response.function_call_arguments.done"]
    assert arguments == ['{"a":1}', "{}"]


async def test_reasoning_as_a_summary_has_the_events_of_summaries(door: Door) -> None:
    door.script.events = [Delta(reasoning="h"), Delta(reasoning="m"), Delta(text="4"), Finished(0, "stop")]
    found = checked((await door.post(PATH, {**STREAM, "reasoning": {"summary": "auto"}})).body)
    assert [event["type"].removeprefix("response.") for event in found[2:9]] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert found[8]["item"]["summary"] == [{"type": "summary_text", "text": "hm"}]


async def test_log_probabilities_come_with_their_words(door: Door) -> None:
    one, two = TokenLogprob("Hel", b"Hel", -0.5), TokenLogprob("lo", b"lo", -0.25)
    door.script.events = [
        Delta(logprobs=(one,)),
        Delta(text="Hello", logprobs=(two,)),
        Finished(0, "stop"),
    ]
    found = checked((await door.post(PATH, {**STREAM, "include": ["message.output_text.logprobs"]})).body)
    told = [event["logprobs"] for event in found if event["type"] == "response.output_text.delta"]
    assert [[each["token"] for each in logprobs] for logprobs in told] == [["Hel"], ["lo"]]
    (done,) = [event["logprobs"] for event in found if event["type"] == "response.output_text.done"]
    assert done == [*told[0], *told[1]] == found[-1]["response"]["output"][0]["content"][0]["logprobs"]


async def test_a_cut_by_length_ends_with_incomplete(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), Finished(0, "length"), Usage(1, 1)]
    last = checked((await door.post(PATH, STREAM)).body)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_an_error_before_the_first_event_is_an_http_error(door: Door) -> None:
    door.script.events = [EngineError("it broke")]
    reply = await door.post(PATH, STREAM)
    assert (reply.status, reply.error["code"]) == (500, "engine_failed")


async def test_an_error_in_the_middle_fails_the_response_and_makes_clients_raise(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), EngineError("it broke")]
    found = events((await door.post(PATH, STREAM)).body)
    assert [event["type"] for event in found[-2:]] == ["response.failed", "error"]
    failed, error = found[-2]["response"], found[-1]
    assert (failed["status"], failed["error"]) == ("failed", {"code": "server_error", "message": "it broke"})
    assert [item["status"] for item in failed["output"]] == ["incomplete"]
    assert (error["code"], error["message"], error["error"]["status"]) == ("engine_failed", "it broke", 500)
    kept = (await door.get(f"{PATH}/{failed['id']}")).json
    assert kept == failed


async def test_a_response_is_kept_before_its_last_event_is_sent(door: Door) -> None:
    archive = door.app.services.archive
    assert archive is not None
    order: list[str] = []
    put = archive.put

    async def watched(kept: Any) -> None:
        await put(kept)
        order.append("kept")

    archive.put = watched  # type: ignore[method-assign]

    async def record() -> None:
        order.append("asked")

    door.script.events = [Delta(text="Hi"), record, Finished(0, "stop")]
    body = (await door.post(PATH, STREAM)).body
    assert order == ["asked", "kept"]
    assert checked(body)[-1]["response"]["status"] == "completed"


async def test_a_response_that_cannot_be_kept_is_not_complete(door: Door) -> None:
    archive = door.app.services.archive
    assert archive is not None

    async def full(kept: Any) -> None:
        raise EngineError("no room")

    archive.put = full  # type: ignore[method-assign]
    found = events((await door.post(PATH, STREAM)).body)
    assert [event["type"] for event in found[-2:]] == ["response.failed", "error"]
    assert (await door.post(PATH, ASK)).status == 500
    assert checked((await door.post(PATH, {**STREAM, "store": False})).body)


async def test_a_client_that_leaves_cancels_its_response(door: Door) -> None:
    door.script.events = [Delta(text="Hel"), anyio.sleep_forever]
    body = (await door.post(PATH, STREAM, leave_after=1)).body
    (id,) = {event["response"]["id"] for event in events(body) if "response" in event}
    assert door.script.outcomes == ["cut CancelledError"]
    kept = (await door.get(f"{PATH}/{id}")).json
    assert (kept["status"], kept["output"][0]["content"][0]["text"]) == ("cancelled", "Hel")


async def test_a_stream_over_its_time_ends_as_failed(make_door: Maker) -> None:
    door = make_door(request_timeout_s=0.2)
    door.script.events = [Delta(text="Hel"), anyio.sleep_forever]
    found = events((await door.post(PATH, STREAM)).body)
    assert [event["type"] for event in found[-2:]] == ["response.failed", "error"]
    assert found[-1]["code"] == "expired"
    kept = (await door.get(f"{PATH}/{found[-2]['response']['id']}")).json
    assert kept["status"] == "failed"


SAID = st.text(alphabet='ab \n"\\é\u2028', min_size=1, max_size=3)
CALLS = st.integers(0, 3)
SCRIPTS = st.lists(st.one_of(
    st.builds(lambda text: Delta(text=text), SAID), st.builds(lambda text: Delta(reasoning=text), SAID),
    st.builds(lambda text: Delta(reasoning="", text="", seal=text), SAID), CALLS,
), max_size=12)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCRIPTS, st.booleans())
def test_whatever_a_model_says_its_items_are_told_and_kept_alike(script: list[Any], summarises: bool) -> None:
    growth = Growth("t", summarises=summarises)
    told: list[Any] = []
    calls = 0
    for step in [*script, Finished(0, "stop")]:
        event: Event = step
        if isinstance(step, int):
            event = ToolCallDelta(0, calls, "{}", id=f"c{calls}", name="add")
            calls += 1
        told += growth.add(event)
    done = [fields["item"] for kind, fields in told if kind == "response.output_item.done"]
    assert growth.output == done != []
    assert [item["id"].rpartition("_")[2] for item in done] == [str(index) for index in range(len(done))]
    said = "".join(step.text for step in script if isinstance(step, Delta))
    deltas = "".join(fields["delta"] for kind, fields in told if kind == "response.output_text.delta")
    shown = "".join(part["text"] for item in done if item["type"] == "message" for part in item["content"])
    assert said == deltas == shown
    assert sum(item["type"] == "function_call" for item in done) == calls
