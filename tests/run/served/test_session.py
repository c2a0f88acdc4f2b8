"""Sessions of served models: what is sent and left, and what becomes of servers that break in the middle."""

from __future__ import annotations

import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conformance.asking import ask, chat, reasons_of, text_of, usage_of
from tests.run.served import places

from catena.core import registry
from catena.core.errors import ContextError, EngineError, UnsupportedError
from catena.core.messages import (
    ChatRequest,
    Delta,
    EmbedRequest,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Tool,
    ToolCallDelta,
    ToolChoice,
)
from catena.core.settings import RunSettings
from catena.run.scheduler import Scheduler

pytestmark = pytest.mark.anyio
LONG = "one two three four five six seven eight nine ten"
TOOL = Tool("look", "Looks.", {"type": "object", "properties": {}})


async def gathered(session: Any, request: Any) -> list[Any]:
    with anyio.fail_after(20):
        return [event async for event in session.generate(request)]


def asked(place: places.Place) -> Any:
    """The body of the last request that the stand-in took."""
    return [one["asked"] for one in place.record() if "asked" in one][-1]


async def test_sampling_tools_and_schemas_reach_the_server(load: Any, place: places.Place) -> None:
    session = await load()
    numbers = {"max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 4}
    sampling = Sampling(**numbers, repeat_penalty=1.1, stop=("zz",), logprobs=2)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    turns = (
        Message("system", (Text("be short"),)),
        Message("user", (Text("hello"),)),
        Message("assistant", (Text("yes"),), reasoning="hm"),
        Message("user", (Text("and"),)),
    )
    request = ChatRequest("m", turns, sampling, (TOOL,), output=OutputFormat("schema", schema), think=False)
    assert text_of(await gathered(session, request)) == "{}"
    body = asked(place)
    expected = {
        **{**numbers, "repetition_penalty": 1.1, "stop": ["zz"], "logprobs": True, "top_logprobs": 2, "stream": True},
        **{"chat_template_kwargs": {"enable_thinking": False}, "tool_choice": "auto"},
    }
    assert expected.items() <= body.items()
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["reasoning_content"] == "hm"
    assert body["tools"][0]["function"]["name"] == "look"


async def test_a_named_tool_is_called(load: Any) -> None:
    request = chat("look", tools=(TOOL,), tool_choice=ToolChoice("named", "look"))
    events = await gathered(await load(), request)
    (call,) = [event for event in events if isinstance(event, ToolCallDelta)]
    assert (call.name, call.arguments, reasons_of(events)) == ("look", "{}", {0: "tool_calls"})


async def test_tools_without_a_parser_are_refused_with_the_setting_that_brings_one(
    load: Any, place: places.Place
) -> None:
    session = await load(arguments=())
    with pytest.raises(UnsupportedError) as caught:
        await gathered(session, chat("look", tools=(TOOL,)))
    assert f"run.{place.name}.arguments" in caught.value.hint and "--tool-call-parser" in caught.value.hint
    assert text_of(await gathered(session, chat("look", tools=(TOOL,), tool_choice=ToolChoice("none")))) == "look"


async def test_what_the_dialect_cannot_carry_is_refused(load: Any, place: places.Place) -> None:
    session = await load()
    with pytest.raises(UnsupportedError):
        await gathered(session, chat("a", output=OutputFormat("grammar", grammar="root ::= x")))
    assert not [one for one in place.record() if "asked" in one], "nothing was sent"


async def test_a_completion_without_a_limit_fills_the_context_as_far_as_it_goes(load: Any) -> None:
    session = await load(context_tokens=64)
    events = await gathered(session, ask("word " * 30, max_tokens=None))
    assert usage_of(events).completion_tokens == 31 and reasons_of(events) == {0: "stop"}
    events = await gathered(session, ask("word " * 40, max_tokens=None))
    assert usage_of(events).completion_tokens == 64 - 41 and reasons_of(events) == {0: "length"}
    with pytest.raises(ContextError) as caught:
        await gathered(session, ask("word " * 80, max_tokens=None))
    assert caught.value.available == 64 < caught.value.needed


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_an_answer_that_is_left_closes_its_connection_and_the_server_stops(
    load: Any, place: places.Place, way: str
) -> None:
    place.wish(token_s=0.05)
    session = await load()
    with anyio.CancelScope() as scope:
        async with aclosing(session.generate(ask(LONG, max_tokens=10))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    if way == "close":
                        break
                    scope.cancel()
    await places.until(lambda: "left_after" in place.record()[-1], 5)
    assert place.record()[-1]["left_after"] <= 3


async def test_a_server_that_crashes_in_an_answer_breaks_the_session_and_is_told_as_that(
    load: Any, place: places.Place
) -> None:
    place.wish(crash_after=2, token_s=0.02, grandchildren=1)
    session = await load()
    seen: list[Any] = []
    with anyio.fail_after(10), pytest.raises(EngineError) as caught:
        async for event in session.generate(ask(LONG, max_tokens=10)):
            seen.append(event)
    assert text_of(seen) == "one two"
    assert "ended" in caught.value.message and str(session.running.log_path) in caught.value.hint
    assert session.is_broken
    await place.gone()
    with pytest.raises(EngineError):
        await gathered(session, ask("a"))


async def test_an_error_in_an_answer_ends_it_as_an_error_and_the_server_goes_on(load: Any, place: places.Place) -> None:
    place.wish(error_after=1)
    session = await load()
    with pytest.raises(EngineError) as caught:
        await gathered(session, ask(LONG, max_tokens=10))
    assert "internal" not in caught.value.message, "the server's own words may quote the request"
    assert not session.is_broken


async def test_the_scheduler_starts_a_server_again_after_it_broke(
    place: places.Place, tmp_path: Path, folder: Path
) -> None:
    engine = registry.find("engines", place.name)(place.settings())
    model = places.stored(tmp_path / "model")
    async with Scheduler({place.name: engine}, RunSettings(), folder) as scheduler:
        async with scheduler.lease(model, "me") as lease:
            assert text_of(await gathered(lease.session, ask("one two", max_tokens=2))) == "one two"
        os.kill(place.starts()[0]["family"][0], signal.SIGKILL)
        assert await lease.session.running.process.wait(5)
        assert scheduler.phase(model.digest) == "cold"
        with anyio.fail_after(20):
            async with scheduler.lease(model, "me") as lease:
                assert text_of(await gathered(lease.session, ask("one two", max_tokens=2))) == "one two"
    assert len(place.starts()) == 2
    await place.gone()


async def test_vectors_of_another_width_are_refused(load: Any) -> None:
    session = await load("embed")
    with pytest.raises(UnsupportedError):
        await session.embed(EmbedRequest("m", ("a",), dimensions=3))
    with pytest.raises(ContextError):
        await session.embed(EmbedRequest("m", ("a " * 600,)))
