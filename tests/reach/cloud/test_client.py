"""The wire to a remote end: limits, cuts, cancellation, one retry at most, and no way elsewhere."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.providers.answers import Answer
from tests.reach.cloud.conftest import KEY, Make, Place, asking

from catena.core.errors import (
    BusyError,
    CatenaError,
    ExpiredError,
    InputError,
    NetworkError,
    NotFoundError,
    ProviderError,
    TooLargeError,
)
from catena.core.messages import Delta, Reply, collect
from catena.reach.ticket import Caller

pytestmark = pytest.mark.anyio
LONG = ("x",) * 1000


async def ask(place: Place, **sampling: Any) -> Reply:
    async with place.router.generate(asking(**sampling), Caller()) as answer:
        return await collect(answer.events)


async def is_gone(place: Place, within_s: float) -> bool:
    return await anyio.to_thread.run_sync(place.made.gone.wait, within_s)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama", "gemini"])
async def test_every_dialect_streams_through(make: Make, kind: str) -> None:
    place = make(kind)
    reply = await ask(place)
    assert reply.choices[0].text == "Hello world" and reply.choices[0].reason == "stop"
    assert place.log.closed.outcome == "complete" and place.log.closed.usage == reply.usage


@pytest.mark.parametrize("cut", ["reset", "close", "clean"])
@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_a_cut_answer_is_an_error_and_never_a_clean_end(make: Make, kind: str, cut: Any) -> None:
    place = make(kind)
    place.made.say(Answer(text=("a", "b", "c"), cut_after=2, cut=cut))
    with pytest.raises(NetworkError):
        await ask(place)
    assert (place.log.closed.outcome, place.log.closed.finish) == ("failed", (None,))
    assert place.log.closed.num_deltas > 0 and len(place.made.asked) == 1


async def test_an_error_inside_a_stream_ends_it_as_an_error(make: Make) -> None:
    place = make()
    place.made.say(Answer(trouble_after=2, code="rate_limit_exceeded"))
    with pytest.raises(BusyError):
        await ask(place)


async def test_leaving_closes_the_connection_within_one_chunk(make: Make) -> None:
    place = make()
    place.made.say(Answer(text=LONG, between_s=0.02))
    num_seen = 0
    async with place.router.generate(asking(), Caller()) as answer:
        async for event in answer.events:
            num_seen += isinstance(event, Delta)
            if num_seen == 3:
                break
    assert await is_gone(place, 2)
    assert place.made.num_sent <= num_seen + 3  # the opening chunk, and at most one on the way
    assert place.log.closed.outcome == "cancelled"


async def test_cancelling_the_task_that_waits_closes_the_connection(make: Make) -> None:
    place = make()
    place.made.say(Answer(text=LONG, between_s=0.02))
    with anyio.move_on_after(0.3) as scope:
        await ask(place)
    assert scope.cancelled_caught and await is_gone(place, 2)
    assert place.log.closed.outcome == "cancelled"


async def test_cancelling_before_the_first_byte_ends_the_wait_at_once_and_the_connection_with_it(make: Make) -> None:
    place = make()
    place.made.say(Answer(text=LONG, first_s=0.6, between_s=0.02))
    with anyio.fail_after(0.5), anyio.move_on_after(0.1) as scope:
        await ask(place)
    assert scope.cancelled_caught and place.log.closed.outcome == "cancelled"
    assert await is_gone(place, 3) and place.made.num_sent <= 2


async def test_a_slow_first_byte_and_a_silence_are_limited(make: Make) -> None:
    place = make(first_byte_timeout_s=0.2, idle_timeout_s=0.2)
    place.made.say(Answer(first_s=5))
    with pytest.raises(ExpiredError, match=r"provider 'far' gave no first byte within 0\.2 s"):
        await ask(place)
    place.log.records.clear()
    place.made.say(Answer(between_s=5))
    with pytest.raises(ExpiredError, match=r"provider 'far' fell silent for 0\.2 s"):
        await ask(place)


async def test_a_kept_connection_that_died_unanswered_is_replaced_once(make: Make) -> None:
    place = make()
    place.made.say(Answer(), Answer(closes_unanswered=True), Answer(text=("again",)))
    await ask(place)
    place.log.records.clear()
    assert (await ask(place)).choices[0].text == "again"
    assert len(place.made.asked) == 3 and place.made.asked[1].body == place.made.asked[2].body


async def test_it_is_replaced_only_once_and_a_new_connection_never(make: Make) -> None:
    place = make()
    place.made.say(Answer(closes_unanswered=True))
    with pytest.raises(NetworkError, match="closed the connection without an answer"):
        await ask(place)
    assert len(place.made.asked) == 1
    place.log.records.clear()
    place.made.say(Answer(), Answer(closes_unanswered=True))
    await ask(place)
    place.log.records.clear()
    with pytest.raises(NetworkError):
        await ask(place)
    assert len(place.made.asked) == 4


REFUSALS: dict[int, type[CatenaError]] = {
    400: InputError,
    401: ProviderError,
    403: ProviderError,
    404: NotFoundError,
    429: BusyError,
    500: NetworkError,
    503: NetworkError,
    529: BusyError,
}


@pytest.mark.parametrize(("status", "kind"), REFUSALS.items())
async def test_each_refusal_has_its_error_and_is_not_tried_again(
    make: Make, status: int, kind: type[CatenaError]
) -> None:
    place = make()
    place.made.say(Answer(status=status, message=f"your key {KEY} and your secret question"))
    with pytest.raises(kind) as caught:
        await ask(place)
    assert type(caught.value) is kind and len(place.made.asked) == 1
    assert KEY not in str(caught.value) and "secret" not in str(caught.value)
    assert place.log.closed.error_code == kind.code and caught.value.receipt == place.log.opened.receipt


async def test_a_busy_provider_says_when_to_come_back(make: Make) -> None:
    place = make()
    place.made.say(Answer(status=429, headers={"retry-after": "17"}))
    with pytest.raises(BusyError) as caught:
        await ask(place)
    assert caught.value.retry_after_s == 17


async def test_a_redirect_is_not_followed(make: Make) -> None:
    place, other = make(), make()
    place.made.say(Answer(status=307, headers={"location": other.made.url + "/chat/completions"}))
    with pytest.raises(NetworkError, match="points elsewhere"):
        await ask(place)
    assert other.made.num_connections == 0


async def test_an_answer_has_a_largest_size(make: Make) -> None:
    place = make(max_answer_bytes=2000)
    place.made.say(Answer(text=("x" * 100,) * 100))
    with pytest.raises(TooLargeError, match="larger than 2000 bytes"):
        await ask(place)


async def test_a_body_that_is_not_of_the_dialect_is_an_error(make: Make) -> None:
    place = make()
    place.made.say(Answer(raw=b"<html>hello</html>", headers={"content-type": "text/html"}))
    with pytest.raises(NetworkError):
        await ask(place)


async def test_nobody_there_is_an_error_that_names_the_provider(make: Make) -> None:
    place = make(base_url="http://127.0.0.1:1/v1")
    with pytest.raises(NetworkError, match="provider 'far' cannot be reached"):
        await ask(place)


async def test_a_key_that_is_not_there_is_the_operators_affair_and_opens_no_connection(make: Make) -> None:
    place = make(environ={})
    with pytest.raises(ProviderError, match="the key of provider 'far' is not there") as caught:
        await ask(place)
    assert "FAR_KEY" in caught.value.hint and place.made.num_connections == 0
    assert place.log.closed.error_code == "provider_refused"


async def test_the_key_is_never_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = make()
    await ask(place)
    assert KEY not in caplog.text and KEY not in repr(place.cloud.ends)
