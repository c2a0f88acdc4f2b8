"""The echo engine: its answer is its input, at the rate that was set."""

from __future__ import annotations

import time

import pytest
from tests.conformance.asking import ask, chat, check_order, events_of, text_of, usage_of
from tests.conformance.conftest import Loaded

from catena.core import registry
from catena.core.errors import UnsupportedError
from catena.core.messages import ChatRequest, Delta, Message, OutputFormat, Sampling, Text
from catena.core.protocols import Placement
from catena.run.engines import echo

pytestmark = pytest.mark.anyio


async def loaded(tokens_per_s: float = 0.0) -> Loaded:
    class Rated(echo.Engine):
        pass

    Rated.tokens_per_s = tokens_per_s
    placement = Placement()
    return Loaded(Rated(), echo.MODEL, placement, await Rated().load(echo.MODEL, placement))


async def test_the_answer_is_the_last_message_of_the_user_word_by_word() -> None:
    messages = tuple(
        Message(role, (Text(text),)) for role, text in (("user", "first"), ("assistant", "x"), ("user", " the  last\n"))
    )
    events = await events_of(await loaded(), ChatRequest("echo", messages))
    check_order(events, 1)
    assert [event.text for event in events if isinstance(event, Delta)] == [" the", "  last", "\n"]
    assert (usage_of(events).prompt_tokens, usage_of(events).completion_tokens) == (5, 3)


async def test_tokens_come_at_the_set_rate_and_not_faster() -> None:
    slow = await loaded(100.0)
    began = time.perf_counter()
    events = await events_of(slow, ask("a " * 21, max_tokens=21))
    assert time.perf_counter() - began >= 0.2
    assert usage_of(events).completion_tokens == 21


async def test_it_is_found_by_name_but_listed_on_request_only() -> None:
    assert "echo" not in registry.names("engines")
    assert "echo" in registry.names("engines", all=True)


async def test_what_it_cannot_honour_is_refused_by_name() -> None:
    session = await loaded()
    for request, param in (
        (chat("a", output=OutputFormat("json")), "response_format"),
        (chat("a", logit_bias={1: 1.0}), "logit_bias"),
        (chat("a", think=True), "think"),
        (ask("a", ignore_eos=True), "ignore_eos"),
    ):
        with pytest.raises(UnsupportedError) as caught:
            await events_of(session, request)
        assert caught.value.param == param


async def test_every_sampling_wish_leaves_the_answer_as_it_is() -> None:
    session = await loaded()
    wishes = Sampling(temperature=2.0, top_p=0.1, seed=3, presence_penalty=1.0, max_tokens=9)
    request = ChatRequest("echo", (Message("user", (Text("just this"),)),), wishes)
    assert text_of(await events_of(session, request)) == "just this"
