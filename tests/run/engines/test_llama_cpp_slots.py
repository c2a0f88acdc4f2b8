"""Slots of the llama.cpp engine: batching, reuse of prompts, and what happens when somebody leaves or closes."""

from __future__ import annotations

import time
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from tests.conformance.asking import BOUND_S, ask, events_of, usage_of
from tests.conformance.conftest import Loaded
from tests.run.engines.conftest import Load

from catena.core.errors import ContextError, EngineError, UnsupportedError
from catena.core.messages import Delta, Event, Progress, Timings
from catena.run.engines.llama_cpp.parameters import BATCH_TOKENS
from catena.run.engines.llama_cpp.session import Session

pytestmark = pytest.mark.anyio
STORY = " ".join(f"On day {day} the ship sailed {day * 7} miles and the crew was glad." for day in range(16))


def prefill_s(events: list[Event]) -> float:
    assert isinstance(events[-1], Timings)
    return events[-1].prefill_s


async def until_free(session: Session) -> float:
    """Seconds until the library has let go of every slot."""
    began = time.perf_counter()
    with anyio.fail_after(BOUND_S):
        while session.slots.free < session.slots.total:  # noqa: ASYNC110
            await anyio.sleep(0.0005)
    return time.perf_counter() - began


async def test_a_short_request_is_answered_while_long_ones_run(llama: Loaded) -> None:
    ends: list[str] = []

    async def one(name: str, max_tokens: int) -> None:
        await events_of(llama, ask(max_tokens=max_tokens))
        ends.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "long", 60)
        tasks.start_soon(one, "long too", 60)
        await anyio.sleep(0.05)
        tasks.start_soon(one, "short", 2)
    assert ends[0] == "short"


async def test_a_request_that_finds_no_slot_says_that_it_is_queued(llama: Loaded) -> None:
    first: list[Event] = []

    async def one() -> None:
        stream = llama.session.generate(ask(max_tokens=8))
        first.append(await anext(stream))
        async for _ in stream:
            pass

    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(llama.session.facts.slots + 1):
                tasks.start_soon(one)
    assert first.count(Progress("queued")) == 1


async def test_a_prompt_that_was_read_before_is_not_read_again(llama: Loaded) -> None:
    first = await events_of(llama, ask(f"{STORY} What", max_tokens=1))
    second = await events_of(llama, ask(f"{STORY} Where", max_tokens=1))
    prompt_tokens = usage_of(second).prompt_tokens
    assert usage_of(first).cached_tokens == 0
    assert prompt_tokens * 0.9 < usage_of(second).cached_tokens < prompt_tokens
    assert prefill_s(second) < prefill_s(first) / 3


@pytest.mark.parametrize("cache_bytes", [0, 64 << 20])
async def test_a_prompt_whose_slot_was_given_away_is_kept_as_the_setting_says(load: Load, cache_bytes: int) -> None:
    loaded = await load(slots=1, prompt_cache_bytes=cache_bytes)
    for text in (STORY, "A different thing altogether: seven white mice.", STORY):
        usage = usage_of(await events_of(loaded, ask(text, max_tokens=1)))
    assert (usage.cached_tokens > usage.prompt_tokens / 2) == (cache_bytes > 0)


async def test_overflow_is_found_also_when_the_prompt_is_in_the_cache(llama: Loaded) -> None:
    prompt_tokens = usage_of(await events_of(llama, ask(STORY, max_tokens=1))).prompt_tokens
    room = llama.session.facts.context_tokens - prompt_tokens
    with pytest.raises(ContextError) as caught:
        await events_of(llama, ask(STORY, max_tokens=room + 1))
    assert (caught.value.needed, caught.value.available) == (prompt_tokens + room + 1, prompt_tokens + room)


async def test_an_answer_without_a_limit_ends_where_the_context_does(load: Load) -> None:
    loaded = await load(context_tokens=256)
    events = await events_of(loaded, ask(max_tokens=None, ignore_eos=True))
    usage = usage_of(events)
    assert 250 <= usage.prompt_tokens + usage.completion_tokens <= 257


async def test_a_request_left_while_it_answers_costs_at_most_one_more_token(llama: Loaded) -> None:
    """Measured on the library's side: its thread comes back after no more than the time of three tokens."""
    stream = llama.session.generate(ask(max_tokens=200, ignore_eos=True))
    times: list[float] = []
    async for event in stream:
        if isinstance(event, Delta):
            times.append(time.perf_counter())
        if len(times) == 12:
            break
    await stream.aclose()
    waited_s = await until_free(llama.session)
    slowest_s = max(later - earlier for earlier, later in pairwise(times))
    assert waited_s < 3 * slowest_s + 0.05


async def test_a_request_left_while_its_prompt_is_read_costs_at_most_one_more_batch(llama: Loaded) -> None:
    prompt = "Quite another story. " + STORY * 3
    stream = llama.session.generate(ask(prompt, max_tokens=1))
    marks: list[float] = []
    async for event in stream:
        assert isinstance(event, Progress)
        marks.append(time.perf_counter())
        if len(marks) == 3:
            break
    await stream.aclose()
    waited_s = await until_free(llama.session)
    usage = usage_of(await events_of(llama, ask(prompt, max_tokens=1)))
    assert usage.prompt_tokens > 5 * BATCH_TOKENS
    assert waited_s < 2.5 * (marks[2] - marks[0]) / 2 + 0.05


async def test_more_choices_than_slots_are_refused(llama: Loaded) -> None:
    with pytest.raises(UnsupportedError, match="4 choices"):
        await events_of(llama, ask(num_choices=llama.session.facts.slots + 1))


async def test_closing_lets_running_requests_end_and_refuses_those_in_line(load: Load) -> None:
    loaded = await load(slots=1)
    results: list[str] = []
    is_running = anyio.Event()

    async def running() -> None:
        events: list[Event] = []
        async for event in loaded.session.generate(ask(max_tokens=20)):
            events.append(event)
            is_running.set()
        results.append(f"answered {usage_of(events).completion_tokens}")

    async def waiting() -> None:
        with pytest.raises(EngineError):
            await events_of(loaded, ask())
        results.append("refused")

    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running)
            await is_running.wait()
            tasks.start_soon(waiting)
            await anyio.lowlevel.checkpoint()
            await loaded.session.close()
    assert sorted(results) == ["answered 20", "refused"]
