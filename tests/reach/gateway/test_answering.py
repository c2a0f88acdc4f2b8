"""The mailbox between pump and relay keeps order and bound; the relay speaks when it must, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reach.gateway.conftest import Door

from catena.core.errors import EngineError
from catena.core.messages import Delta, Finished, Usage
from catena.reach.gateway import answering
from catena.reach.gateway.answering import MAX_WAITING_EVENTS, Mailbox

CHAT = "/v1/chat/completions"
STREAMED: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PAUSES = st.lists(st.integers(0, 3), min_size=1, max_size=9)


async def pause(times: int) -> None:
    for _ in range(times):
        await anyio.lowlevel.checkpoint()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * MAX_WAITING_EVENTS), PAUSES, PAUSES, st.integers(0, 5))
def test_whatever_the_pace_everything_comes_once_in_order_and_never_too_much(
    count: int, put_pauses: list[int], take_pauses: list[int], num_wakes: int
) -> None:
    """Also proves that no wake is lost: a lost one would end in the time limit."""
    taken: list[list[Any]] = []

    async def pump(mailbox: Mailbox) -> None:
        for number in range(count):
            await mailbox.put(Delta(text=str(number)))
            await pause(put_pauses[number % len(put_pauses)])
        mailbox.close()

    async def disturb(mailbox: Mailbox) -> None:
        for _ in range(num_wakes):
            mailbox.wake()
            await pause(2)

    async def both() -> None:
        mailbox = Mailbox()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(pump, mailbox)
                group.start_soon(disturb, mailbox)
                while True:
                    taken.append(await mailbox.take())
                    if mailbox.is_closed:
                        break
                    await pause(take_pauses[len(taken) % len(take_pauses)])

    anyio.run(both)
    assert [item.text for items in taken for item in items] == [str(number) for number in range(count)]
    assert max(map(len, taken), default=0) <= MAX_WAITING_EVENTS


@pytest.mark.anyio
async def test_a_pump_waits_while_the_mailbox_is_full() -> None:
    mailbox = Mailbox()
    num_put = 0

    async def pump() -> None:
        nonlocal num_put
        for _ in range(MAX_WAITING_EVENTS + 5):
            await mailbox.put(Delta(text="x"))
            num_put += 1

    async with anyio.create_task_group() as group:
        group.start_soon(pump)
        await anyio.wait_all_tasks_blocked()
        assert num_put == MAX_WAITING_EVENTS
        assert len(await mailbox.take()) == MAX_WAITING_EVENTS
        await anyio.wait_all_tasks_blocked()
        assert num_put == MAX_WAITING_EVENTS + 5


@pytest.mark.anyio
async def test_a_taker_that_was_cancelled_loses_nothing() -> None:
    mailbox = Mailbox()
    with anyio.move_on_after(0):
        await mailbox.take()
    await mailbox.put(Delta(text="x"))
    assert await mailbox.take() == [Delta(text="x")]


@pytest.mark.anyio
@pytest.mark.parametrize("is_late", [False, True])
async def test_an_error_without_a_token_is_an_http_error_until_the_head_is_due(
    door: Door, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    monkeypatch.setattr(answering, "HOLD_S", 0.01)

    async def linger() -> None:
        await anyio.sleep(0.05 if is_late else 0)

    door.script.events = [linger, EngineError("broken")]
    response = await door.post(CHAT, STREAMED)
    assert response.status == (200 if is_late else 500)
    assert b"broken" in response.body
    assert b"[DONE]" not in response.body


@pytest.mark.anyio
async def test_a_late_acceptance_that_fails_at_once_sends_no_head_for_nothing(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "HOLD_S", 0.0)
    door.script.events = [EngineError("broken")]
    assert (await door.post(CHAT, STREAMED)).status == 500


@pytest.mark.anyio
async def test_an_empty_answer_is_a_complete_stream(door: Door) -> None:
    door.script.events = [Finished(0, "stop"), Usage(1, 0)]
    assert (await door.post(CHAT, STREAMED)).body.endswith(b"data: [DONE]\n\n")


@pytest.mark.anyio
async def test_a_stream_waiting_for_its_model_sleeps_between_signs(
    make_door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that is due but may not speak yet must not be woken in a loop."""
    monkeypatch.setattr(answering, "HOLD_S", 0.0)
    door = make_door(ping_s=0.05)
    num_wakes = 0
    wake = Mailbox.wake

    def count(mailbox: Mailbox) -> None:
        nonlocal num_wakes
        num_wakes += 1
        wake(mailbox)

    monkeypatch.setattr(Mailbox, "wake", count)

    async def linger() -> None:
        await anyio.sleep(0.25)

    door.script.events = [linger, Delta(text="x"), Finished(0, "stop")]
    response = await door.post(CHAT, STREAMED)
    assert b": alive\n\n" in response.body
    assert num_wakes < 15
