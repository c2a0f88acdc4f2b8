"""What the official OpenAI client must find at a running `catena up`: responses, at once and as streams."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pydantic
import pytest
from tests.clients.conftest import Gateway, requirement
from tests.clients.test_openai_requirements import ADD as CHAT_ADD
from tests.clients.test_openai_requirements import MODEL, SCHEMA
from tests.reach.gateway.conftest import MODEL as TINY
from tests.reach.gateway.conftest import Door, Log, Memory, Row, Script, over_loopback

from catena.core.errors import EngineError
from catena.core.messages import Delta, Finished, ToolCallDelta, Usage
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.archive import Archive
from catena.reach.gateway.application import create
from catena.store.database import Database

pytestmark = pytest.mark.model
ASKING, STREAM = "responses", "responses: streams"
ASK: Any = {
    "model": MODEL,
    "input": "Name the colours of a traffic light.",
    "max_output_tokens": 8,
    "temperature": 0,
    "extra_body": {"seed": 1},
}
ADD: Any = {"type": "function", **CHAT_ADD["function"], "strict": True}
CALL: Any = {
    **ASK,
    "max_output_tokens": 40,
    "tools": [ADD],
    "tool_choice": "required",
    "parallel_tool_calls": False,
}
ECHO: Any = {"model": "echo", "input": "one two three"}
SHORT: Any = {**ECHO, "max_output_tokens": 2}
LONG: Any = {**ASK, "max_output_tokens": 4000, "extra_body": {"ignore_eos": True}}
WAIT_S = 30.0


class Played(NamedTuple):
    """A gateway over a router that plays a script."""

    script: Script
    client: openai.OpenAI


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    """For what the small model cannot be brought to do: reasoning, breaking, calls at once."""
    script, settings = Script(), ReachSettings(port=0, drain_s=0.1, ping_s=0.05)
    rows = [Row("tiny", TINY.digest, (), TINY.manifest)]
    archive = Archive(lambda: Database(tmp_path / "responses.db"), keep_s=60, max_bytes=1 << 20)
    app = create(script, settings, Access(Memory()), models=lambda: rows, archive=archive)
    with (
        over_loopback(Door(app, script, Access(Memory()), Log()), settings) as (running, _),
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0, timeout=10) as client,
    ):
        yield Played(script, client)
    archive.close()


def ended(client: openai.OpenAI, id: str) -> Any:
    """The response when it is no longer being made; one in the foreground is kept at its end."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            found = client.responses.retrieve(id)
        except openai.NotFoundError:
            found = None
        if found is not None and found.status not in ("queued", "in_progress"):
            return found
        time.sleep(0.02)
    raise AssertionError("the response did not end in time")


def refused(client: openai.OpenAI, **change: Any) -> Any:
    """The error of a question that is refused."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{**ECHO, **change})
    return caught.value


@requirement("S01", ASKING, "an answer at once has an id, a status, items, usage, and `output_text`")
def test_an_answer_at_once(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASK)
    assert (answer.object, answer.status, answer.model) == ("response", "incomplete", MODEL)
    assert answer.id.startswith("resp_")
    assert answer.output[0].type == "message"
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens == 8
    assert answer.usage.total_tokens == answer.usage.input_tokens + 8


@requirement("S02", ASKING, "`max_output_tokens` cuts an answer, which is then `incomplete` with the reason")
def test_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(**SHORT)
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    whole = client.responses.create(**ECHO)
    assert (whole.status, whole.incomplete_details) == ("completed", None)


@requirement("S03", ASKING, "`max_output_tokens` may exceed what the prompt leaves of the context")
def test_a_bound_beyond_the_context(client: openai.OpenAI) -> None:
    assert client.responses.create(**{**ECHO, "max_output_tokens": 1_000_000}).status == "completed"


@requirement("S04", ASKING, "a response says what chat completions says to the same question")
def test_the_same_as_chat(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ASK["input"]}], max_tokens=8, temperature=0, seed=1
    )
    assert client.responses.create(**ASK).output_text == said.choices[0].message.content


@requirement("S05", ASKING, "`instructions` are a system message before the input")
def test_instructions(client: openai.OpenAI) -> None:
    plain, told = client.responses.create(**ECHO), client.responses.create(**ECHO, instructions="Be very brief.")
    assert told.usage is not None
    assert plain.usage is not None
    assert told.usage.input_tokens == plain.usage.input_tokens + 3
    assert told.instructions == "Be very brief."


@requirement("S06", ASKING, "input may be items: messages of every role, with texts or parts")
def test_items(client: openai.OpenAI) -> None:
    given: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "two", "annotations": []}],
        },
        {"role": "user", "content": "three"},
    ]
    answer = client.responses.create(model="echo", input=given)
    assert answer.output_text == "three"
    assert answer.usage is not None
    assert answer.usage.input_tokens == 5


@requirement("S07", ASKING, "items of an answer go back as they came, and the conversation goes on")
def test_items_go_back(client: openai.OpenAI) -> None:
    first = client.responses.create(**ECHO, store=False)
    given: Any = [{"role": "user", "content": ECHO["input"]}, *first.output, {"role": "user", "content": "And then?"}]
    assert client.responses.create(model="echo", input=given).output_text == "And then?"


@requirement("S08", ASKING, "`metadata` is repeated and kept")
def test_metadata(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ECHO, metadata={"a": "b"})
    assert answer.metadata == client.responses.retrieve(answer.id).metadata == {"a": "b"}


@requirement("S09", ASKING, "log probabilities come with `include`, `top_logprobs` says how many alternatives")
def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASK, include=["message.output_text.logprobs"], top_logprobs=2)
    part: Any = answer.output[0].content[0]  # type: ignore[union-attr, index]
    assert "".join(one.token for one in part.logprobs) == part.text
    assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in part.logprobs)


@requirement("S10", ASKING, "`text.format` with a schema makes JSON that follows it")
def test_schema(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "name": "light", "schema": SCHEMA, "strict": True}
    answer = client.responses.create(**{**ASK, "max_output_tokens": 40}, text={"format": form})
    value = json.loads(answer.output_text)
    assert value["colour"] in ("red", "green")
    assert isinstance(value["count"], int)


@requirement("S11", ASKING, "`text.format` json_object makes a JSON object")
def test_json_object(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        **{**ASK, "input": "Give me a small JSON object.", "max_output_tokens": 40},
        text={"format": {"type": "json_object"}},
    )
    assert answer.output_text.startswith("{")


class Light(pydantic.BaseModel):
    colour: str
    count: int


@requirement("S12", ASKING, "`responses.parse` gives the caller's own type")
def test_parse(client: openai.OpenAI) -> None:
    answer = client.responses.parse(**{**ASK, "max_output_tokens": 40}, text_format=Light)
    assert isinstance(answer.output_parsed, Light)


@requirement("S13", ASKING, "`tool_choice` required makes a call with an id of its own and arguments by the schema")
def test_required_call(client: openai.OpenAI) -> None:
    answer = client.responses.create(**CALL)
    call: Any = answer.output[0]
    assert (call.type, call.name, call.status) == ("function_call", "add", "completed")
    assert call.id != call.call_id
    assert set(json.loads(call.arguments)) == {"a", "b"}


@requirement("S14", ASKING, "`tool_choice` with a function's name makes that call")
def test_named_call(client: openai.OpenAI) -> None:
    other: Any = {**ADD, "name": "subtract"}
    choice: Any = {"type": "function", "name": "subtract"}
    answer = client.responses.create(**ECHO, tools=[ADD, other], tool_choice=choice)
    assert answer.output[0].name == "subtract"  # type: ignore[union-attr]
    assert answer.tool_choice.model_dump(exclude_none=True) == choice  # type: ignore[union-attr]


@requirement("S15", ASKING, "`tool_choice` allowed_tools leaves only those to the model")
def test_allowed_tools(client: openai.OpenAI) -> None:
    other: Any = {**ADD, "name": "subtract"}
    choice: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "subtract"}]}
    answer = client.responses.create(**ECHO, tools=[ADD, other], tool_choice=choice)
    assert answer.output[0].name == "subtract"  # type: ignore[union-attr]
    assert [tool.name for tool in answer.tools] == ["add", "subtract"]  # type: ignore[union-attr]


@requirement("S16", ASKING, "`tool_choice` none makes no call")
def test_no_call(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ECHO, tools=[ADD], tool_choice="none")
    assert [item.type for item in answer.output] == ["message"]


@requirement("S17", ASKING, "the result of a call goes back by `previous_response_id`, and the conversation goes on")
def test_result_of_a_call(client: openai.OpenAI) -> None:
    first = client.responses.create(**ECHO, tools=[ADD], tool_choice="required")
    result: Any = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "5"}  # type: ignore[union-attr]
    answer = client.responses.create(model="echo", input=[result], previous_response_id=first.id, tools=[ADD])
    assert answer.usage is not None
    assert answer.usage.input_tokens == 4


@requirement("S18", ASKING, "the result of a call that nobody made is refused")
def test_result_of_no_call(client: openai.OpenAI) -> None:
    error = refused(client, input=[{"type": "function_call_output", "call_id": "c9", "output": "5"}])
    assert error.param == "input[0].call_id"


@requirement("S19", ASKING, "calls of one answer come as items of their own, parallel ones too")
def test_parallel_calls(played: Played) -> None:
    played.script.events = [
        ToolCallDelta(0, 0, '{"a":1,"b":2}', id="c1", name="add"),
        ToolCallDelta(0, 1, '{"a":3,"b":4}', id="c2", name="add"),
        Finished(0, "tool_calls"),
    ]
    answer = played.client.responses.create(model="tiny", input="add", tools=[ADD])
    assert [item.call_id for item in answer.output] == ["c1", "c2"]  # type: ignore[union-attr]
    parsed = played.client.responses.parse(model="tiny", input="add", tools=[ADD])
    assert [item.parsed_arguments for item in parsed.output] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]  # type: ignore[union-attr]


@requirement("S20", ASKING, "reasoning is an item before the answer, in the open or, when a summary is wanted, as one")
def test_reasoning(played: Played) -> None:
    played.script.events = [
        Delta(reasoning="hm"),
        Delta(text="4"),
        Finished(0, "stop"),
        Usage(3, 9, reasoning_tokens=7),
    ]
    answer = played.client.responses.create(model="tiny", input="2+2")
    thought: Any = answer.output[0]
    assert (thought.type, thought.content[0].text, thought.summary) == ("reasoning", "hm", [])
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 7
    asked = played.client.responses.with_raw_response.create(model="tiny", input="2+2", reasoning={"summary": "auto"})
    assert asked.parse().output[0].summary[0].text == "hm"  # type: ignore[union-attr]
    assert "reasoning.summary" in asked.headers["catena-warning"]


HOSTED = ("web_search", "file_search", "code_interpreter", "computer_use_preview", "mcp", "image_generation")


@requirement("S21", ASKING, "hosted tools are refused by name, for nothing leaves this machine")
def test_hosted_tools(client: openai.OpenAI) -> None:
    for kind in HOSTED:
        error = refused(client, tools=[{"type": kind}])
        assert (error.param, error.code) == ("tools[0].type", "unsupported")
        assert kind in error.message


@requirement("S22", ASKING, "what cannot be honoured at all is refused by its name")
def test_refused_parameters(client: openai.OpenAI) -> None:
    for name, value in {"conversation": "conv_1", "prompt": {"id": "pmpt_1"}, "moderation": {"model": "x"}}.items():
        assert refused(client, **{name: value}).param == name


@requirement("S23", ASKING, "a parameter of chat completions is refused with the name that it has here")
def test_names_of_chat(client: openai.OpenAI) -> None:
    error = refused(client, extra_body={"max_tokens": 5})
    assert error.param == "max_tokens"
    assert "max_output_tokens" in error.body["hint"]
    assert "stand beside type" in refused(client, tools=[CHAT_ADD]).body["hint"]


@requirement("S24", ASKING, "what is accepted and not honoured is named in `catena-warning`")
def test_warnings(client: openai.OpenAI) -> None:
    reply = client.responses.with_raw_response.create(**ECHO, user="me", truncation="auto", service_tier="flex")
    for name in ("user", "truncation", "service_tier"):
        assert f"{name} ignored" in reply.headers["catena-warning"]
    assert "catena-warning" not in client.responses.with_raw_response.create(**ECHO, truncation="disabled").headers


@requirement("S25", ASKING, "an unknown model, a prompt beyond the context, a wrong value: the client's own classes")
def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="nope", input="hi")
    assert caught.value.code == "model_not_found"
    assert refused(client, input="word " * 9000).code == "context_length_exceeded"
    assert refused(client, temperature=3).param == "temperature"


@requirement("S26", ASKING, "`input_tokens.count` says what the usage of the answer says")
def test_count(client: openai.OpenAI) -> None:
    answer = client.responses.create(**ASK, instructions="Be brief.", tools=[ADD], tool_choice="none")
    counted = client.responses.input_tokens.count(
        model=MODEL, input=ASK["input"], instructions="Be brief.", tools=[ADD], tool_choice="none"
    )
    assert answer.usage is not None
    assert counted.input_tokens == answer.usage.input_tokens


@requirement("S27", ASKING, "every response has a receipt, whose record tells of its tokens and its door")
def test_receipt(client: openai.OpenAI, gateway: Gateway) -> None:
    reply = client.responses.with_raw_response.create(**SHORT)
    receipt = reply.headers["catena-receipt"]
    answer = reply.parse()
    assert answer.id == "resp_" + receipt.removeprefix("rcpt_")
    assert answer.model_extra == {**(answer.model_extra or {}), "catena": {"receipt": receipt}}
    assert gateway.record(receipt)["usage"]["completion_tokens"] == 2
    assert gateway.get(f"/catena/v1/receipts/{receipt}")["opened"]["door"] == "openai.responses"


@requirement("S31", STREAM, "a stream tells of a text in the order of the API, numbered from 0")
def test_order(client: openai.OpenAI) -> None:
    found = list(client.responses.create(**SHORT, stream=True))
    kinds = [event.type for event in found]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [event.sequence_number for event in found] == list(range(len(found)))
    assert deltas > 1


@requirement("S32", STREAM, "the stream of the same question at temperature 0 says the same")
def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    said = "".join(
        event.delta
        for event in client.responses.create(**ASK, stream=True)
        if event.type == "response.output_text.delta"
    )
    assert said == client.responses.create(**ASK).output_text != ""


@requirement("S33", STREAM, "`responses.stream` puts the same response together, with snapshots on the way")
def test_the_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(**ECHO) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots == ["one", "one two", "one two three"]
    assert (final.output_text, final.status) == ("one two three", "completed")
    assert client.responses.retrieve(final.id).output_text == final.output_text


@requirement("S34", STREAM, "`responses.stream` parses the caller's own type")
def test_the_helper_parses(client: openai.OpenAI) -> None:
    with client.responses.stream(**{**ASK, "max_output_tokens": 40}, text_format=Light) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Light)


@requirement("S35", STREAM, "arguments of a call stream in pieces that make the whole")
def test_streamed_arguments(client: openai.OpenAI) -> None:
    found = list(client.responses.create(**CALL, stream=True))
    pieces = [event.delta for event in found if event.type == "response.function_call_arguments.delta"]
    (done,) = [event for event in found if event.type == "response.function_call_arguments.done"]
    assert "".join(pieces) == done.arguments
    assert set(json.loads(done.arguments)) == {"a", "b"}
    (item,) = [event.item for event in found if event.type == "response.output_item.done"]
    assert item.arguments == done.arguments  # type: ignore[union-attr]


@requirement("S36", STREAM, "reasoning streams before the answer, as text or as its summary")
def test_streamed_reasoning(played: Played) -> None:
    played.script.events = [Delta(reasoning="h"), Delta(reasoning="m"), Delta(text="4"), Finished(0, "stop")]
    for summary, kind in ((None, "response.reasoning_text"), ("auto", "response.reasoning_summary_text")):
        found = list(
            played.client.responses.create(model="tiny", input="2+2", reasoning={"summary": summary}, stream=True)  # type: ignore[typeddict-item]
        )
        assert "".join(event.delta for event in found if event.type == f"{kind}.delta") == "hm"  # type: ignore[union-attr]
        assert [event.text for event in found if event.type == f"{kind}.done"] == ["hm"]  # type: ignore[union-attr]


@requirement("S37", STREAM, "log probabilities come with the deltas of their words")
def test_streamed_logprobs(client: openai.OpenAI) -> None:
    asked = {**ECHO, "include": ["message.output_text.logprobs"]}
    said, tokens = "", ""
    for event in client.responses.create(**asked, stream=True):
        if event.type == "response.output_text.delta":
            said += event.delta
            tokens += "".join(one.token for one in event.logprobs)
    assert said == tokens != ""


@requirement("S38", STREAM, "an answer that breaks ends with `response.failed` and an error that the client raises")
def test_a_broken_stream(played: Played) -> None:
    played.script.events = [Delta(text="Hel"), EngineError("it broke")]
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="it broke"):
        seen += played.client.responses.create(model="tiny", input="hi", stream=True)
    assert seen[-1].type == "response.failed"
    assert seen[-1].response.error.code == "server_error"
    assert played.client.responses.retrieve(seen[-1].response.id).status == "failed"


@requirement("S39", STREAM, "closing a stream cancels the work, and its record says so")
def test_closing_cancels(client: openai.OpenAI, gateway: Gateway) -> None:
    with client.responses.create(**LONG, stream=True) as stream:
        first = next(iter(stream))
        receipt = stream.response.headers["catena-receipt"]
    assert first.type == "response.created"
    end = time.monotonic() + WAIT_S
    while not (record := gateway.record(receipt)) and time.monotonic() < end:
        time.sleep(0.02)
    assert record["outcome"] == "cancelled"
    assert ended(client, first.response.id).status == "cancelled"
