"""The wire to a remote end: limits, cuts, cancellation, one retry at most, and no way elsewhere."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import psutil
import pytest
from tests.providers.answers import Answer
from tests.reach.cloud.conftest import KEY, Make, Place, asking
from tests.reach.cloud.recording import Heard

from catena.core.clock import monotonic_s
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
from catena.core.settings import ProviderSettings
from catena.reach.cloud.client import Client
from catena.reach.ticket import Caller
from catena.run.dialects.dialect import Outgoing

pytestmark = pytest.mark.anyio
LONG = ("x",) * 1000
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The gateway runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param}


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


@pytest.mark.parametrize("answer", [Answer(first_s=30), Answer(between_s=30)], ids=["before the head", "in mid-stream"])
async def test_a_cancelled_request_ends_its_connection_within_100_ms(make: Make, answer: Answer) -> None:
    place = make()
    place.made.say(answer)
    took_s: list[float] = []
    for _ in range(3):  # the quickest counts: this machine may be busy
        place.made.gone.clear()
        place.log.records.clear()
        with anyio.fail_after(5), anyio.move_on_after(0.1) as scope:
            await ask(place)
        began_s = monotonic_s()
        assert scope.cancelled_caught and await is_gone(place, 5)
        took_s.append(monotonic_s() - began_s)
        assert place.log.closed.outcome == "cancelled"
    assert min(took_s) < 0.1 and len(place.made.asked) == 3


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


@asynccontextmanager
async def raw(
    serve: Callable[[anyio.abc.SocketStream], Awaitable[None]], *, tls: bool = False, **settings: Any
) -> AsyncIterator[Client]:
    """A client, and its remote end that does with each connection what `serve` does."""

    async def take(stream: anyio.abc.SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            async with stream:
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, take)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = Client("far", f"http{'s' if tls else ''}://127.0.0.1:{port}", ProviderSettings("far", **settings))
        try:
            yield client
        finally:
            await client.close()
            group.cancel_scope.cancel()


async def exchange(client: Client, body: bytes = b"{}", method: str = "POST") -> bytes:
    async with client.ask(Outgoing("/x", body, method=method), {}, Heard()) as answer:
        return await answer.body(1 << 20)


@pytest.mark.parametrize("tls", [False, True], ids=["while it is sent", "in the handshake"])
async def test_a_request_that_is_cancelled_on_its_way_ends_its_connection_though_nobody_reads(tls: bool) -> None:
    begun, ended = anyio.Event(), anyio.Event()
    ports: list[int] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        ports.append(stream.extra(anyio.abc.SocketAttribute.remote_port))
        await stream.receive(1)
        begun.set()
        await ended.wait()

    def is_open() -> bool:
        return any(
            one.laddr.port in ports for one in psutil.Process().net_connections("inet") if one.status != "LISTEN"
        )

    async with raw(serve, tls=tls) as client, anyio.create_task_group() as group:
        group.start_soon(exchange, client, bytes(64 << 20))
        with anyio.fail_after(10):
            await begun.wait()
        await anyio.sleep(0.3)  # by now as much is on its way as the system takes
        assert is_open()
        group.cancel_scope.cancel()
        with anyio.fail_after(2, shield=True):
            while is_open():  # noqa: ASYNC110 - the system tells nobody
                await anyio.sleep(0.01)
        ended.set()


async def test_an_answer_that_broke_off_in_its_head_is_not_asked_for_again() -> None:
    num_asked = 0

    async def serve(stream: anyio.abc.SocketStream) -> None:
        nonlocal num_asked
        for reply in (OK, b"HTTP/1.1 200 OK\r\ncontent-"):
            await stream.receive()
            num_asked += 1
            await stream.send(reply)
        await anyio.sleep(0.1)
        stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )

    async with raw(serve) as client:
        assert await exchange(client) == b"ok"
        with pytest.raises(NetworkError):
            await exchange(client)
    assert num_asked == 2


async def test_what_is_idempotent_is_not_sent_twice_either() -> None:
    num_asked = 0

    async def serve(stream: anyio.abc.SocketStream) -> None:
        nonlocal num_asked
        await stream.receive()
        num_asked += 1

    async with raw(serve) as client:
        with pytest.raises(NetworkError, match="closed the connection without an answer"):
            await exchange(client, b"", "GET")
    assert num_asked == 1


async def test_what_comes_unasked_is_not_taken_for_the_next_answer() -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        await stream.send(OK)
        await anyio.sleep(0.05)
        await stream.send(OK.replace(b"ok", b"NO"))
        await stream.receive()

    async with raw(serve) as client:
        assert await exchange(client) == b"ok"
        await anyio.sleep(0.2)
        assert await exchange(client) == b"ok"


@pytest.mark.parametrize(
    "lines",
    [b"x: " + b"a" * 100_000 + b"\r\n", b"x: y\r\n" * 500, b"no header\r\n"],
    ids=["a long line", "many headers", "not HTTP"],
)
async def test_the_head_of_an_answer_has_limits(lines: bytes) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")

    async with raw(serve) as client:
        with pytest.raises(NetworkError, match="gave no HTTP answer within its limits"):
            await exchange(client)


async def test_large_requests_pass_and_answers_are_taken_as_they_come() -> None:
    got = bytearray()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        while len(got) < 5 << 20:
            got.extend(await stream.receive())
        await stream.send(OK.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))

    async with raw(serve) as client:
        assert await exchange(client, bytes(5 << 20)) == b"ok"
    assert b"content-length: 5242880\r\n" in bytes(got[:1000]).lower()


async def test_nothing_leaves_but_the_request_and_its_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    place, other = make(), make()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.made.root)
    place.made.say(Answer(headers={"set-cookie": "a=b; Path=/"}))
    for _ in range(2):
        place.log.records.clear()
        await ask(place)
    assert other.made.num_connections == 0 and place.made.num_connections == 1
    for asked in place.made.asked:
        assert asked.headers.pop("authorization") == f"Bearer {KEY}"
        asked.headers.pop("content-length")
        assert asked.headers == {
            "host": place.made.root.removeprefix("http://"),
            "user-agent": "catena",
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
