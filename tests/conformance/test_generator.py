"""What every session that generates must do; run over each registered engine, a plug-in's too.

For an engine of yours: install its package, with the entry point `catena.engines`, beside Catena and run
`python -m pytest tests/conformance -k NAME`, with `--sample SOURCE` if it accepts none of the sample models.
"""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import pytest
from tests.conformance.asking import (
    BOUND_S,
    NUMBERS,
    ask,
    chat,
    check_order,
    events_of,
    raised_by,
    reasons_of,
    refuses_tools,
    text_of,
    usage_of,
)
from tests.conformance.conftest import Loaded

from catena.core.errors import CatenaError, ContextError, InputError, NotFoundError, UnsupportedError
from catena.core.messages import (
    ChatRequest,
    CompletionRequest,
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Image,
    Message,
    OutputFormat,
    Progress,
    Text,
    Tool,
    ToolCallDelta,
    ToolChoice,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("request_", [ask(), chat("Say hello.")], ids=["completion", "chat"])
async def test_events_come_in_the_promised_order(generator: Loaded, request_: GenerateRequest) -> None:
    events = await events_of(generator, request_)
    check_order(events, 1)
    assert text_of(events)


async def test_every_choice_streams_and_ends_by_itself(generator: Loaded) -> None:
    events = await events_of(generator, ask(num_choices=2, max_tokens=4, seed=1))
    check_order(events, 2)
    assert text_of(events, 0) and text_of(events, 1)
    single = usage_of(await events_of(generator, ask(max_tokens=4)))
    both = usage_of(events)
    assert both.prompt_tokens == single.prompt_tokens
    assert both.completion_tokens == 8


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_an_answer_ends_at_max_tokens_and_says_so(generator: Loaded, limit: int) -> None:
    events = await events_of(generator, ask(max_tokens=limit))
    assert usage_of(events).completion_tokens == limit
    assert reasons_of(events) == {0: "length"}


async def test_usage_grows_with_the_prompt_and_never_counts_more_cached_than_read(generator: Loaded) -> None:
    short = usage_of(await events_of(generator, ask("one, two, three, four,", max_tokens=2)))
    long = usage_of(await events_of(generator, ask(NUMBERS, max_tokens=2)))
    again = usage_of(await events_of(generator, ask(NUMBERS, max_tokens=2)))
    assert 0 < short.prompt_tokens < long.prompt_tokens == again.prompt_tokens
    assert all(0 <= usage.cached_tokens <= usage.prompt_tokens for usage in (short, long, again))


async def test_a_stop_string_ends_the_answer_before_it_also_where_it_spans_tokens(generator: Loaded) -> None:
    free = await events_of(generator, ask(max_tokens=12))
    pieces = [event.text for event in free if isinstance(event, Delta) and event.text]
    spanning = pieces[4][-1:] + pieces[5][:2]
    whole = "".join(pieces)
    for stops in ((pieces[4].strip() or pieces[4],), (spanning,), ("never in it", spanning)):
        events = await events_of(generator, ask(max_tokens=12, stop=stops))
        check_order(events, 1)
        assert text_of(events) == whole[: min(whole.find(stop) for stop in stops if stop in whole)]
        assert reasons_of(events) == {0: "stop"}
        told = [event.stop_sequence for event in events if isinstance(event, Finished)]
        assert told in ([None], [next(stop for stop in stops if stop in whole)]), "the wrong stop string was named"


async def test_an_answer_that_no_stop_string_ended_names_none(generator: Loaded) -> None:
    events = await events_of(generator, ask(max_tokens=3, stop=("never in it",)))
    assert [event.stop_sequence for event in events if isinstance(event, Finished)] == [None]


async def test_the_same_seed_gives_the_same_answer(generator: Loaded) -> None:
    first = text_of(await events_of(generator, ask(temperature=1.0, seed=7, max_tokens=8)))
    second = text_of(await events_of(generator, ask(temperature=1.0, seed=7, max_tokens=8)))
    assert first == second


async def test_more_requests_than_slots_are_all_answered(generator: Loaded) -> None:
    count = min(2 * generator.session.facts.slots + 1, 9)
    found: dict[int, list[Event]] = {}

    async def one(index: int) -> None:
        found[index] = await events_of(generator, ask(f"{index}: {NUMBERS}", max_tokens=3))

    async with anyio.create_task_group() as tasks:
        for index in range(count):
            tasks.start_soon(one, index)
    assert sorted(found) == list(range(count))
    for events in found.values():
        check_order(events, 1)
        assert usage_of(events).completion_tokens == 3


async def test_requests_on_different_slots_run_at_the_same_time(generator: Loaded) -> None:
    happened: list[tuple[str, int]] = []

    async def one(index: int) -> None:
        async for event in generator.session.generate(ask(f"{index}: {NUMBERS}", max_tokens=16)):
            if isinstance(event, Delta | Finished):
                happened.append((type(event).__name__, index))

    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, 0)
            tasks.start_soon(one, 1)
    ends = [place for place, (kind, _) in enumerate(happened) if kind == "Finished"]
    assert {index for kind, index in happened[: ends[0]] if kind == "Delta"} == {0, 1}


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_a_request_that_is_left_frees_its_slot_within_one_token(generator: Loaded, way: str) -> None:
    """Counted in tokens of a neighbour: one is being computed when the request is left, the next one ends it, and the
    successor begins with the one after that."""
    slots = min(generator.session.facts.slots, 4)
    neighbour_tokens = 0
    left_at: list[int] = []
    is_left = anyio.Event()
    started_at: list[int] = []
    long = ask(" ".join([NUMBERS] * 4), max_tokens=60)

    async def neighbour(is_counted: bool) -> None:
        nonlocal neighbour_tokens
        stream = generator.session.generate(long)
        async for event in stream:
            neighbour_tokens += is_counted and isinstance(event, Delta)
            if started_at:
                break
        await stream.aclose()

    async def left() -> None:
        stream = generator.session.generate(long)
        count = 0
        with anyio.CancelScope() as scope:
            async for event in stream:
                count += isinstance(event, Delta)
                if count == 3 and way == "close":
                    break
                if count == 3:
                    scope.cancel()
        await stream.aclose()
        left_at.append(neighbour_tokens)
        is_left.set()

    async def successor() -> None:
        await is_left.wait()
        stream = generator.session.generate(ask("a", max_tokens=1))
        async for event in stream:
            if not (isinstance(event, Progress) and event.phase == "queued"):
                started_at.append(neighbour_tokens)
        await stream.aclose()

    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            for index in range(slots - 1):
                tasks.start_soon(neighbour, index == 0)
            tasks.start_soon(left)
            tasks.start_soon(successor)
    assert started_at[0] - left_at[0] <= 3


async def test_a_request_left_before_its_first_token_frees_its_slot(generator: Loaded) -> None:
    with anyio.fail_after(BOUND_S):
        for _ in range(2 * min(generator.session.facts.slots, 4)):
            stream = generator.session.generate(ask(max_tokens=60))
            with anyio.move_on_after(0):
                await anext(stream)
            await stream.aclose()
    assert text_of(await events_of(generator, ask(max_tokens=2)))


async def test_context_overflow_gives_both_numbers_before_any_event(generator: Loaded) -> None:
    context = generator.session.facts.context_tokens
    for request in (ask(max_tokens=context), ask(max_tokens=context), ask("word " * (2 * context), max_tokens=1)):
        error = await raised_by(generator, request)
        assert isinstance(error, ContextError)
        assert error.available == context < error.needed
    assert text_of(await events_of(generator, ask(max_tokens=2)))


async def test_an_answer_that_may_fill_the_context_is_not_refused_for_its_wish(generator: Loaded) -> None:
    wish = {"max_tokens": 2 * generator.session.facts.context_tokens, "fills_context": True}
    events = await events_of(generator, chat("Say hello.", **wish, stop=("l",)))
    check_order(events, 1)
    too_long = ask("word " * (2 * generator.session.facts.context_tokens), **wish)
    assert isinstance(await raised_by(generator, too_long), ContextError)


@pytest.mark.parametrize(
    "sampling",
    [{"max_tokens": 0}, {"num_choices": 0}, {"stop": ("",)}, {"logprobs": -1}],
    ids=lambda one: next(iter(one)),
)
async def test_impossible_sampling_is_refused(generator: Loaded, sampling: dict[str, Any]) -> None:
    assert isinstance(await raised_by(generator, ask(**sampling)), InputError)


async def test_what_an_engine_does_not_know_is_refused_and_never_ignored(generator: Loaded) -> None:
    error = await raised_by(generator, CompletionRequest("m", "a", adapters={"nobody": 1.0}))
    assert isinstance(error, NotFoundError)
    pictures = (Message("user", (Text("what is this?"), Image(b"\x89PNG", "image/png"))),)
    assert isinstance(await raised_by(generator, ChatRequest("m", pictures)), UnsupportedError)
    needs_tools = chat("a", tool_choice=ToolChoice("named", "nobody"), tools=(Tool("somebody"),))
    assert isinstance(await raised_by(generator, needs_tools), InputError)


async def test_log_probabilities_are_given_for_every_token_when_asked_for(generator: Loaded) -> None:
    events = await events_of(generator, ask(max_tokens=4, logprobs=2))
    chosen = [logprob for event in events if isinstance(event, Delta) for logprob in event.logprobs]
    assert len(chosen) == usage_of(events).completion_tokens
    for one in chosen:
        assert one.logprob <= 0.0 and one.token_bytes
        assert len(one.top) <= 2
        assert [top.logprob for top in one.top] == sorted((top.logprob for top in one.top), reverse=True)


async def test_a_required_tool_is_called_or_refused(generator: Loaded) -> None:
    tool = Tool("look_up", "Looks a word up.", {"type": "object", "properties": {}, "additionalProperties": False})
    required = ToolChoice("required")
    request = chat("Look it up.", tools=(tool,), tool_choice=required, parallel_tool_calls=False, max_tokens=40)
    if await refuses_tools(generator, request):
        return
    events = await events_of(generator, request)
    check_order(events, 1)
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert calls[0].name == "look_up" and calls[0].id
    assert all(call.name is None and call.id is None for call in calls[1:])
    assert "".join(call.arguments for call in calls) == "{}"
    assert reasons_of(events) == {0: "tool_calls"}


async def test_no_error_holds_words_of_the_request(generator: Loaded) -> None:
    secret = "zanzibar"
    context = generator.session.facts.context_tokens
    schema = {"type": "object", "properties": {secret: {"not": {"const": secret}}}}
    requests = [
        ask(secret, max_tokens=context),
        ask(f"{secret} " * context),
        CompletionRequest("m", secret, suffix=secret),
        chat(secret, output=OutputFormat("schema", schema)),
        chat(secret, output=OutputFormat("grammar", grammar=f"root ::= {secret}")),
        ChatRequest("m", (Message("tool", (Text(secret),)), Message("assistant", (Image(secret.encode(), "a/b"),)))),
    ]
    errors = [await raised_by(generator, request) for request in requests[:2]]
    for request in requests[2:]:
        try:
            await events_of(generator, request)
        except CatenaError as error:  # an engine may also honour the wish
            errors.append(error)
    for error in errors:
        assert secret not in "".join(traceback.format_exception(error)) + error.hint
