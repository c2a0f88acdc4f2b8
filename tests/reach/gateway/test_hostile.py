"""What a hostile peer or a full disk may do: bytes that two readers could take in two ways, dribble, depth, size."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest
from tests.reach.gateway.conftest import Door, Memory, connect, read_all
from tests.reach.gateway.test_server import BODY, CHAT, head
from tests.reach.test_router import Log, Models, Salts, Scheduler, Session

from catena.core.messages import Delta, Finished, Usage
from catena.core.settings import ReachSettings
from catena.reach.access import Access
from catena.reach.gateway.application import create
from catena.reach.gateway.server import Listening
from catena.reach.router import Router

Serve = Callable[..., Any]
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SAME = f"Content-Length: {len(BODY)}\r\n"


def coded(*lines: str) -> bytes:
    """A chunked request whose coding is announced by `lines`."""
    return head(length=None, extra="".join(f"{line}\r\n" for line in lines)) + CHUNKED


def chunked(body: bytes) -> bytes:
    """A request with this as its chunked body."""
    return head(length=None, extra="Transfer-Encoding: chunked\r\n") + body


def sized(value: str) -> bytes:
    """A request that gives this as its length."""
    return head(length=None, extra=f"Content-Length:{value}\r\n") + BODY


ODD = {
    "a coding we do not know": coded("Transfer-Encoding: xchunked"),
    "a coding after chunked": coded("Transfer-Encoding: chunked, identity"),
    "a coding before chunked": coded("Transfer-Encoding: identity, chunked"),
    "two equal codings": coded("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "two different codings": coded("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    "a coding behind a vertical tab": coded("Transfer-Encoding: \x0bchunked"),
    "a coding in HTTP/1.0": coded("Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "length with a plus": sized(f" +{len(BODY)}"),
    "length as a list": sized(f" {len(BODY)}, {len(BODY)}"),
    "length in hexadecimal": sized(" 0x10"),
    "length with a space": sized(" 1 0"),
    "length beyond 64 bits": sized(" 99999999999999999999999"),
    "negative length": sized(" -1"),
    "empty length": sized(""),
    "the same length twice": head(extra=SAME) + BODY,
    "chunk size beyond 64 bits": chunked(b"FFFFFFFFFFFFFFFFF\r\nabc"),
    "chunk size with 0x": chunked(b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "chunk ended by LF": chunked(b"5\nabcde\n0\n\n"),
    "chunk size with a space": chunked(b"5 \r\nabcde\r\n0\r\n\r\n"),
    "trailer that names a host": chunked(CHUNKED.replace(b"\r\n\r\n", b"\r\nHost: evil\r\n\r\n")),
    "NUL in a header": GET + b"A: b\x00c\r\n\r\n",
    "bare CR in a header": GET + b"A: b\rHost: evil\r\n\r\n",
    "bad header name": GET + b"A(b): c\r\n\r\n",
    "empty header name": GET + b": c\r\n\r\n",
    "header without a colon": GET + b"Abc\r\n\r\n",
    "two hosts": GET + b"Host: evil\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": GET.replace(b"1.1", b"1.2") + b"\r\n",
    "HTTP/9.9": GET.replace(b"1.1", b"9.9") + b"\r\n",
    "method in small letters": GET.replace(b"GET", b"get") + b"\r\n",
    "endless method": b"G" * 3000 + GET[3:] + b"\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "space in the address": GET.replace(b"healthz", b"a b") + b"\r\n",
    "NUL in the address": GET.replace(b"healthz", b"a\x00b") + b"\r\n",
}


@pytest.mark.parametrize("request_bytes", ODD.values(), ids=ODD.keys())
def test_what_could_be_read_in_two_ways_asks_nothing_and_ends_the_connection(
    serve: Serve, request_bytes: bytes
) -> None:
    door, running, _ = serve(header_timeout_s=2.0, body_timeout_s=2.0)
    with connect(running.url) as connection:
        connection.sendall(request_bytes)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer
    assert door.script.asked == []


def test_nothing_smuggled_behind_a_refused_request_is_answered(serve: Serve) -> None:
    door, running, _ = serve()
    smuggled = head(length=len(BODY)) + BODY
    with connect(running.url) as connection:
        connection.sendall(coded("Transfer-Encoding: chunked, identity") + smuggled)
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1") == 1
    assert door.script.asked == []


def test_a_body_is_never_taken_for_the_next_request(serve: Serve) -> None:
    _, running, _ = serve()
    with connect(running.url) as connection:
        inner = GET + b"\r\n"
        connection.sendall(GET + b"Content-Length: %d\r\n\r\n" % len(inner) + inner)
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("is_body", [False, True], ids=["head", "body"])
def test_dribbling_wins_no_time(serve: Serve, is_body: bool) -> None:
    """Slow loris: a byte now and then does not put the limit off."""
    door, running, _ = serve(header_timeout_s=0.3, body_timeout_s=0.3)
    with connect(running.url) as connection:
        connection.settimeout(0.01)
        connection.sendall(head(length=5000) if is_body else GET)
        answer, end = b"", time.monotonic() + 5
        while not answer and time.monotonic() < end:
            try:
                connection.sendall(b" " if is_body else b"A: b\r\n")
                answer = connection.recv(4096)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert door.script.asked == []


def test_many_slow_connections_keep_nobody_else_out(serve: Serve) -> None:
    _, running, _ = serve(header_timeout_s=5.0, max_connections=200)
    slow = [connect(running.url) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(b"GET /healthz HT")
        with connect(running.url) as connection:
            connection.sendall(GET + b"Connection: close\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    "extra",
    [b"A: " + b"b" * 40_000, b"\r\n".join(b"A%d: b" % number for number in range(5000))],
    ids=["one huge", "many small"],
)
def test_headers_have_a_limit_together(serve: Serve, extra: bytes) -> None:
    _, running, _ = serve()
    with connect(running.url) as connection:
        connection.sendall(GET + extra + b"\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_an_endless_address_is_refused(serve: Serve) -> None:
    _, running, _ = serve()
    with connect(running.url) as connection:
        connection.sendall(b"GET /" + b"a" * 70_000)
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.anyio
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
async def test_deep_json_is_refused_before_it_is_decoded(door: Door, opening: bytes) -> None:
    response = await door.post(CHAT, b'{"messages":' + opening * 200_000)
    assert (response.status, response.error["code"]) == (413, "too_large")


@pytest.mark.anyio
async def test_a_number_of_a_million_digits_costs_nothing(door: Door) -> None:
    body = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],"seed":' + b"9" * 1_000_000 + b"}"
    began = time.process_time()
    assert (await door.post(CHAT, body)).status == 400
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:{port}", "0.0.0.0:{port}", "a@localhost:{port}"],
)
def test_a_name_rebound_to_this_machine_is_not_served_though_the_origin_matches(serve: Serve, host: str) -> None:
    door, running, _ = serve()
    name = host.format(port=running.url.rpartition(":")[2])
    lines = f"Host: {name}\r\nOrigin: http://{name}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with connect(running.url) as connection:
        start = f"POST {CHAT} HTTP/1.1\r\n{lines}Content-Length: {len(BODY)}\r\n\r\n"
        connection.sendall(start.encode() + BODY)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"access-control-allow" not in answer
    assert door.script.asked == []


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n"], ids=["kept", "closing"])
def test_a_peer_that_leaves_its_answer_lying_is_cut(serve: Serve, extra: str) -> None:
    door, running, portal = serve(body_timeout_s=0.2, request_timeout_s=30.0)
    door.script.events = [Delta(text="x" * 20_000_000), Finished(0, "stop"), Usage(1, 1)]
    body = BODY.replace(b"true", b"false")
    with connect(running.url) as connection:
        connection.sendall(head(length=len(body), extra=extra) + body)
        assert connection.recv(15, socket.MSG_PEEK) == b"HTTP/1.1 200 OK"
        portal.call(until_closed, running)


async def until_closed(running: Listening) -> None:
    """Wait until no connection is open, for 5 s at most."""
    with anyio.fail_after(5):
        while running.num_connections:  # noqa: ASYNC110 - nobody is told when a connection ends
            await anyio.sleep(0.01)


def test_a_flood_of_pipelined_requests_is_cut_before_it_fills_the_memory(serve: Serve) -> None:
    door, running, portal = serve()
    with connect(running.url) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        for _ in range(10_000):
            connection.sendall((GET + b"\r\n") * 1000)
    portal.call(door.app.idle)


@pytest.fixture
def full_disk() -> Callable[[int], Door]:
    """A gateway over the real router, whose log takes `num_records` and then refuses."""

    def make(num_records: int) -> Door:
        steps: list[str] = []
        log = Log(steps, broken_from=num_records)
        router = Router(Models(), Scheduler(Session(steps)), log, Salts())  # type: ignore[arg-type]
        access = Access(Memory())
        app = create(router, ReachSettings(), access, models=lambda: [])
        return Door(app, SimpleNamespace(steps=steps), access, log)  # type: ignore[arg-type]

    return make


@pytest.mark.anyio
async def test_a_disk_that_fills_while_streaming_ends_the_stream_with_an_error(
    full_disk: Callable[[int], Door],
) -> None:
    response = await full_disk(1).post(CHAT, BODY)
    assert response.status == 200
    events = [line[6:] for line in response.body.split(b"\n") if line.startswith(b"data: ")]
    assert msgspec.json.decode(events[-1])["error"]["code"] == "audit_unavailable"
    assert b"Hello" in response.body
    assert b"[DONE]" not in response.body


@pytest.mark.anyio
@pytest.mark.parametrize("num_records", [0, 1])
async def test_a_full_disk_is_503_for_an_answer_at_once(full_disk: Callable[[int], Door], num_records: int) -> None:
    response = await full_disk(num_records).post(CHAT, BODY.replace(b"true", b"false"))
    assert (response.status, response.error["code"]) == (503, "audit_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert b"Hello" not in response.body


@pytest.mark.anyio
async def test_without_an_opening_record_nothing_is_computed_and_the_error_is_http(
    full_disk: Callable[[int], Door],
) -> None:
    door = full_disk(0)
    response = await door.post(CHAT, BODY)
    assert response.status == 503
    assert "computed" not in door.script.steps  # type: ignore[attr-defined]
