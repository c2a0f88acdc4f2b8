"""The gateway over real sockets: limits, slow and vanishing clients, smuggling, drain."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pytest
from tests.reach.gateway.conftest import connect, read_all

from catena.core.errors import ConflictError
from catena.core.messages import Delta, Finished, Progress, Usage
from catena.core.settings import ReachSettings
from catena.reach.gateway import answering
from catena.reach.gateway.server import listening

CHAT = "/v1/chat/completions"
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],"stream":true}'
HELLO: Any = [{"role": "user", "content": "hi"}]
Serve = Callable[..., Any]


def head(path: str = CHAT, *, length: int | None = len(BODY), extra: str = "") -> bytes:
    """The head of a POST."""
    size = f"Content-Length: {length}\r\n" if length is not None else ""
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{size}{extra}\r\n").encode()


def wait_for(event: threading.Event) -> None:
    assert event.wait(5), "nothing happened within 5 s"


def test_the_official_client_gets_answers_at_once_and_streamed(serve: Serve) -> None:
    _, running, _ = serve()
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0, timeout=5) as client:
        whole = client.chat.completions.create(model="tiny", messages=HELLO)
        assert whole.choices[0].message.content == "Hello world"
        stream = client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello world"


def test_a_client_that_leaves_in_mid_stream_cancels_the_work(serve: Serve) -> None:
    door, running, _ = serve()
    door.script.events = [Delta(text="one"), anyio.sleep_forever, Finished(0, "stop")]
    with connect(running.url) as connection:
        connection.sendall(head() + BODY)
        assert connection.recv(100)
    wait_for(door.script.ended)
    assert door.script.outcomes == ["cut CancelledError"]


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_before_the_first_token_cancels_the_work(serve: Serve, is_stream: bool) -> None:
    door, running, _ = serve()
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        await anyio.sleep_forever()

    door.script.events = [hang]
    body = BODY if is_stream else BODY.replace(b"true", b"false")
    with connect(running.url) as connection:
        connection.sendall(head(length=len(body)) + body)
        wait_for(begun)
    wait_for(door.script.ended)
    assert door.script.outcomes == ["cut CancelledError"]


def test_a_stream_shows_signs_of_life_while_the_model_loads(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "HOLD_S", 0.05)
    door, running, portal = serve(ping_s=0.02)
    go_on = portal.call(anyio.Event)
    door.script.events = [Progress("loading"), go_on.wait, Delta(text="x"), Finished(0, "stop"), Usage(1, 1)]
    with connect(running.url) as connection:
        connection.sendall(head(extra="Connection: close\r\n") + BODY)
        seen = b""
        while seen.count(b": loading\n\n") < 3:
            seen += connection.recv(4096)
        assert b"data:" not in seen
        portal.call(go_on.set)
        seen += read_all(connection)
    assert b"[DONE]" in seen


def test_pings_go_on_between_tokens(serve: Serve) -> None:
    door, running, portal = serve(ping_s=0.02)
    go_on = portal.call(anyio.Event)
    door.script.events = [Delta(text="x"), go_on.wait, Finished(0, "stop"), Usage(1, 1)]
    with connect(running.url) as connection:
        connection.sendall(head(extra="Connection: close\r\n") + BODY)
        seen = b""
        while seen.count(b": alive\n\n") < 2:
            seen += connection.recv(4096)
        portal.call(go_on.set)
        seen += read_all(connection)
    assert b"[DONE]" in seen


def test_a_head_that_never_ends_is_answered_with_408(serve: Serve) -> None:
    _, running, _ = serve(header_timeout_s=0.1)
    with connect(running.url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow:")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed(serve: Serve) -> None:
    _, running, _ = serve(header_timeout_s=0.1)
    with connect(running.url) as connection:
        assert read_all(connection) == b""


def test_a_second_head_on_a_kept_connection_has_its_time_limit_too(serve: Serve) -> None:
    _, running, _ = serve(header_timeout_s=0.1)
    with connect(running.url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("in_pieces", [True, False])
def test_too_large_a_head_is_answered_with_431(serve: Serve, in_pieces: bool) -> None:
    _, running, _ = serve(max_header_bytes=2000)
    with connect(running.url) as connection:
        start = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: "
        connection.sendall(start + b"a" * 3000 + (b"" if in_pieces else b"\r\n\r\n"))
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_never_ends_is_answered_with_408(serve: Serve) -> None:
    door, running, _ = serve(body_timeout_s=0.1)
    with connect(running.url) as connection:
        connection.sendall(head() + BODY[:10])
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert door.script.asked == []


def test_a_client_that_leaves_with_half_a_body_asks_nothing(serve: Serve) -> None:
    door, running, portal = serve()
    with connect(running.url) as connection:
        connection.sendall(head() + BODY[:10])
    portal.call(door.app.idle)
    assert door.script.asked == []


def test_a_body_announced_too_large_is_refused_before_it_is_read(serve: Serve) -> None:
    _, running, _ = serve(max_body_bytes=1000)
    with connect(running.url) as connection:
        connection.sendall(head(length=5000))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_cut_at_the_limit(serve: Serve) -> None:
    _, running, _ = serve(max_body_bytes=1000)
    with connect(running.url) as connection:
        connection.sendall(head(length=None, extra="Transfer-Encoding: chunked\r\n"))
        connection.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(extra="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        head(extra="Content-Length: 5\r\n") + BODY,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
        b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        head(length=None, extra="Transfer-Encoding: chunked\r\n") + b"-5\r\nabcde\r\n0\r\n\r\n",
    ],
    ids=["both lengths", "two lengths", "folded", "space", "bare lf", "absolute", "connect", "h2", "tls", "negative"],
)
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    serve: Serve, request_bytes: bytes
) -> None:
    door, running, _ = serve()
    with connect(running.url) as connection:
        connection.sendall(request_bytes)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert door.script.asked == []


def test_an_offer_to_upgrade_is_ignored_and_the_connection_closed(serve: Serve) -> None:
    _, running, _ = serve()
    with connect(running.url) as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    _, running, _ = serve()
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connect(running.url) as connection:
        connection.sendall(one * 3 + last)
        answer = read_all(connection)
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"200", b"404"]


def test_one_connection_too_many_is_told_so(serve: Serve) -> None:
    _, running, _ = serve(max_connections=2)
    with connect(running.url) as one, connect(running.url) as two:
        for connection in (one, two):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        with connect(running.url) as three:
            answer = read_all(three)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer


def test_a_taken_port_is_a_conflict(serve: Serve) -> None:
    door, running, portal = serve()
    port = int(running.url.rpartition(":")[2])

    async def again() -> None:
        async with listening(door.app, ReachSettings(port=port)):
            pass

    with pytest.raises(ConflictError, match="is taken"):
        portal.call(again)


def test_draining_lets_a_stream_end_within_its_time(serve: Serve) -> None:
    door, running, portal = serve(drain_s=5.0)
    go_on = portal.call(anyio.Event)
    door.script.events = [Delta(text="one"), go_on.wait, Finished(0, "stop"), Usage(1, 1)]
    with connect(running.url) as connection:
        connection.sendall(head() + BODY)
        seen = connection.recv(4096)
        draining = portal.start_task_soon(running.drain, 5.0)
        portal.call(anyio.wait_all_tasks_blocked)
        assert not door.app.is_ready
        with pytest.raises(ConnectionRefusedError):
            connect(running.url)
        portal.call(go_on.set)
        draining.result(5)
        seen += read_all(connection)
    assert b"[DONE]" in seen
    assert door.script.outcomes == ["complete"]


def test_what_outlasts_the_drain_is_cancelled_and_told_so(serve: Serve) -> None:
    door, running, portal = serve()
    door.script.events = [Delta(text="one"), anyio.sleep_forever]
    with connect(running.url) as connection:
        connection.sendall(head() + BODY)
        seen = connection.recv(4096)
        portal.start_task_soon(running.drain, 0.05).result(5)
        seen += read_all(connection)
    assert b"shutting_down" in seen
    assert b"[DONE]" not in seen
    assert door.script.outcomes == ["cut CancelledError"]


def test_a_client_that_stops_reading_is_cut_off_and_its_work_cancelled(serve: Serve) -> None:
    door, running, _ = serve(body_timeout_s=0.2)
    door.script.events = itertools.repeat(Delta(text="x" * 10_000))
    with connect(running.url) as connection:
        connection.sendall(head() + BODY)
        wait_for(door.script.ended)
    assert door.script.outcomes == ["cut CancelledError"]
