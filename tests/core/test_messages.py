"""Messages: however an answer is cut into pieces the reply is the same, and equal values have equal bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catena.core import messages
from catena.core.messages import (
    ChatRequest,
    Choice,
    CompletionRequest,
    Delta,
    Event,
    Finished,
    FinishReason,
    Image,
    Message,
    Progress,
    Reply,
    Sampling,
    Text,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    canonical_bytes,
    collect,
    message_text,
)
from catena.core.messages.reply import Collector

texts = st.text(max_size=12)
logprobs = st.builds(TokenLogprob, texts, st.binary(max_size=4), st.floats(-50, 0))
calls = st.builds(ToolCall, texts.filter(bool), texts.filter(bool), texts)
choices = st.builds(
    Choice,
    text=texts,
    reasoning=texts,
    tool_calls=st.lists(calls, max_size=3).map(tuple),
    reason=st.sampled_from(get_args(FinishReason)),
    logprobs=st.lists(logprobs, max_size=3).map(tuple),
)
replies = st.builds(
    Reply,
    st.lists(choices, min_size=1, max_size=3).map(tuple),
    st.builds(Usage, st.integers(0, 99), st.integers(0, 99)),
    st.builds(Timings, prefill_s=st.floats(0, 9), decode_s=st.floats(0, 9)),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """`text` cut at any places, also into empty pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Reply, list[Event]]:
    """A reply and one of the many streams of events that bring it; choices are interleaved."""
    reply = draw(replies)
    queues = [_events(draw, index, choice) for index, choice in enumerate(reply.choices)]
    events: list[Event] = []
    while any(queues):
        events.append(draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
        if draw(st.integers(0, 4)) == 0:
            events.append(Progress("prefill", 0.5))
    assert reply.usage is not None
    return reply, [*events, reply.usage, reply.timings]


def _events(draw: st.DrawFn, index: int, choice: Choice) -> list[Event]:
    events: list[Event] = [Delta(index, reasoning=piece) for piece in pieces(draw, choice.reasoning)]
    events += [Delta(index, text=piece) for piece in pieces(draw, choice.text)]
    events += [Delta(index, logprobs=(each,)) for each in choice.logprobs]
    for number, call in enumerate(choice.tool_calls):
        first, *rest = pieces(draw, call.arguments)
        events.append(ToolCallDelta(index, number, first, call.id, call.name))
        events += [ToolCallDelta(index, number, piece) for piece in rest]
    return [*events, Finished(index, choice.reason or "stop")]


def gathered(events: Sequence[Event]) -> Reply:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.reply()


@given(streams())
def test_however_a_reply_is_cut_into_events_it_is_collected_whole(stream: tuple[Reply, list[Event]]) -> None:
    reply, events = stream
    assert gathered(events) == reply


@given(streams())
def test_the_digest_of_an_answer_does_not_depend_on_how_it_was_cut(stream: tuple[Reply, list[Event]]) -> None:
    reply, events = stream
    assert canonical_bytes(gathered(events)) == canonical_bytes(reply)


@given(streams(), st.data())
def test_a_cut_answer_is_the_beginning_of_the_whole_one(stream: tuple[Reply, list[Event]], data: st.DataObject) -> None:
    reply, events = stream
    part = gathered(events[: data.draw(st.integers(0, len(events)))])
    for choice in part.choices:
        assert any(
            whole.text.startswith(choice.text) and whole.reasoning.startswith(choice.reasoning)
            for whole in reply.choices
        )


@given(streams())
def test_collecting_a_stream_is_collecting_its_events(stream: tuple[Reply, list[Event]]) -> None:
    async def play() -> AsyncIterator[Event]:
        for event in stream[1]:
            yield event

    assert asyncio.run(collect(play())) == stream[0]


def test_a_choice_without_an_end_has_no_reason() -> None:
    assert gathered([Delta(0, "half")]) == Reply((Choice("half"),))


def test_choices_come_in_their_order_however_they_arrive() -> None:
    assert [choice.text for choice in gathered([Delta(2, "c"), Delta(0, "a"), Delta(1, "b")]).choices] == [
        "a",
        "b",
        "c",
    ]


@given(values)
def test_equal_values_give_equal_bytes(value: Any) -> None:
    again = msgspec.json.decode(msgspec.json.encode(value))
    assert canonical_bytes(again) == canonical_bytes(value)
    assert canonical_bytes(_reversed(value)) == canonical_bytes(value)


@given(st.dictionaries(texts, values, min_size=1, max_size=4), st.data())
def test_another_value_gives_other_bytes(value: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    assert canonical_bytes({**value, key: [value[key]]}) != canonical_bytes(value)


def _reversed(value: Any) -> Any:
    """An equal value whose dictionaries were filled in the other order."""
    if isinstance(value, dict):
        return {key: _reversed(inner) for key, inner in reversed(value.items())}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


def test_canonical_bytes_have_sorted_keys_and_no_spaces() -> None:
    assert canonical_bytes({"b": 1, "a": {"d": [1, 2], "c": "é"}}) == '{"a":{"c":"é","d":[1,2]},"b":1}'.encode()


@given(streams())
def test_every_event_survives_its_wire_form(stream: tuple[Reply, list[Event]]) -> None:
    for event in stream[1]:
        assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_a_request_survives_its_wire_form_and_tells_its_kind() -> None:
    chat = ChatRequest("m", (Message("user", (Text("hi"), Image(b"\x89PNG", "image/png"))),), Sampling(stop=("x",)))
    raw = CompletionRequest("m", (1, 2, 3))
    for request in (chat, raw):
        assert msgspec.json.decode(msgspec.json.encode(request), type=ChatRequest | CompletionRequest) == request


def test_the_text_of_a_message_is_its_text_parts() -> None:
    assert message_text(Message("user", (Text("a"), Image(b"", "image/png"), Text("b")))) == "ab"


@pytest.mark.parametrize("name", [name for name in messages.__all__ if name != "PUBLIC"])
def test_what_crosses_a_seam_cannot_be_changed(name: str) -> None:
    kind = getattr(messages, name)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        assert kind.__struct_config__.frozen
    else:
        assert callable(kind) or get_args(kind)


def test_canonical_bytes_sort_whole_numbers_as_keys_like_any_other() -> None:
    biased = ChatRequest("tiny", (), Sampling(logit_bias={9: 1.0, 10: -2.0, 2: 0.5}))
    again = ChatRequest("tiny", (), Sampling(logit_bias={2: 0.5, 9: 1.0, 10: -2.0}))
    assert canonical_bytes(biased) == canonical_bytes(again)
    assert b'"logit_bias":{"10":-2.0,"2":0.5,"9":1.0}' in canonical_bytes(biased)
