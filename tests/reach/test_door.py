"""The door asks this machine only, turns every answer that is no answer into one of our errors, and waits bounded."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from catena.core.errors import (
    AuditError,
    BusyError,
    CatenaError,
    ConflictError,
    EngineError,
    ExpiredError,
    ForbiddenError,
    InputError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RefusedError,
    ResourceError,
    TooLargeError,
    UnauthenticatedError,
    UnsupportedError,
)
from catena.reach import door

JSON = "application/json"


@contextmanager
def answering(body: bytes, *, status: int = 200, content_type: str = JSON, **headers: str) -> Iterator[tuple[str, Any]]:
    """A server on loopback that answers everything so; gives its address and the requests that came."""
    seen: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            seen.append((self.command, self.path, dict(self.headers.items()), self.rfile.read(length)))
            self.send_response(status)
            for name, value in {"content-type": content_type, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, format: str, *values: Any) -> None:
            """Nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def events(url: str) -> list[Any]:
    return list(door.stream(url, "/x", {}, timeout_s=2))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "http://192.168.1.1:80",
        "http://0.0.0.0:7411",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "http://[::2]:80",
        "http://127.0.0.1@example.org/",
        "https://127.0.0.1",
        "file:///etc/passwd",
        "",
    ],
)
def test_nothing_but_this_machine_is_asked(url: str) -> None:
    with pytest.raises(ForbiddenError):
        door.get(url, "/healthz")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_addresses_of_this_machine_are_asked(host: str) -> None:
    connection = door.connect(f"http://{host}:7411", 1)
    assert (connection.host, connection.port) == (host.strip("[]"), 7411)


def test_get_and_post_carry_key_and_json_and_decode_the_answer() -> None:
    with answering(b'{"a": 1}', catena_receipt="rcpt_x") as (url, seen):
        assert door.get(url, "/a", key="secret").body == {"a": 1}
        response = door.post(url, "/b", {"q": "é"})
    assert (response.status, response.headers["catena-receipt"]) == (200, "rcpt_x")
    (get, path, headers, _), (post, _, _, sent) = seen
    assert (get, path, post) == ("GET", "/a", "POST")
    assert headers["authorization"] == "Bearer secret"
    assert json.loads(sent) == {"q": "é"}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_input", InputError),
        (400, "unsupported", UnsupportedError),
        (401, "invalid_api_key", UnauthenticatedError),
        (403, "forbidden", ForbiddenError),
        (403, "refused", RefusedError),
        (404, "model_not_found", NotFoundError),
        (409, "conflict", ConflictError),
        (413, "body_too_large", TooLargeError),
        (500, "engine_failed", EngineError),
        (500, "integrity", IntegrityError),
        (500, "internal", CatenaError),
        (503, "audit_unavailable", AuditError),
        (503, "out_of_resources", ResourceError),
        (504, "expired", ExpiredError),
    ],
)
def test_an_error_keeps_its_class_sentence_hint_and_receipt(status: int, code: str, kind: type[CatenaError]) -> None:
    body = json.dumps({"error": {"message": "so it is", "code": code, "hint": "do this"}}).encode()
    with answering(body, status=status, catena_receipt="rcpt_x") as (url, _):
        with pytest.raises(CatenaError) as caught:
            door.get(url, "/")
        with pytest.raises(kind):
            events(url)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint, caught.value.receipt) == ("so it is", "do this", "rcpt_x")


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("-1", 1)])
def test_busy_says_when_to_come_back(retry_after: str, seconds: float) -> None:
    with answering(b"{}", status=429, retry_after=retry_after) as (url, _), pytest.raises(BusyError) as caught:
        door.get(url, "/")
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"error": "text"}', b'{"error": null}'])
def test_an_error_without_our_form_is_an_error_all_the_same(body: bytes) -> None:
    with answering(body, status=500) as (url, _), pytest.raises(CatenaError, match="status 500"):
        door.get(url, "/")


def test_what_is_no_gateway_is_said_to_be_none() -> None:
    with answering(b"<html>") as (url, _), pytest.raises(NetworkError, match="not a gateway"):
        door.get(url, "/")
    with (
        answering(b"data: <html>\n\n", content_type="text/event-stream") as (url, _),
        pytest.raises(NetworkError, match="not a gateway"),
    ):
        events(url)


def test_a_stream_gives_head_comments_and_events_until_done() -> None:
    body = b': loading\n\ndata: {"a": 1}\n\nevent: x\ndata: {"b": 2}\n\ndata: [DONE]\n\ndata: {"c": 3}\n\n'
    with answering(body, content_type="text/event-stream", catena_receipt="rcpt_x") as (url, _):
        head, *rest = events(url)
    assert head.headers["catena-receipt"] == "rcpt_x"
    assert rest == ["loading", {"a": 1}, {"b": 2}]


def test_a_stream_without_its_end_is_no_answer() -> None:
    with (
        answering(b'data: {"a": 1}\n\n', content_type="text/event-stream") as (url, _),
        pytest.raises(NetworkError, match="cut before its end"),
    ):
        events(url)


def test_an_error_in_mid_stream_is_raised_as_its_class() -> None:
    body = b'data: {"a": 1}\n\ndata: {"error": {"message": "broke", "code": "engine_failed", "status": 500}}\n\n'
    with answering(body, content_type="text/event-stream", catena_receipt="rcpt_x") as (url, _):
        stream = door.stream(url, "/x", {}, timeout_s=2)
        assert next(stream).status == 200
        assert next(stream) == {"a": 1}
        with pytest.raises(EngineError, match="broke") as caught:
            next(stream)
    assert caught.value.receipt == "rcpt_x"


def test_a_file_is_sent_as_it_is_read_in_a_form_with_its_length(tmp_path: Path) -> None:
    file, data = tmp_path / 'a "b".jsonl', os.urandom(door.PIECE_BYTES + 5)
    file.write_bytes(data)
    with answering(b'{"id": 1}') as (url, seen):
        assert door.post_file(url, "/v1/files", {"purpose": "batch"}, file).body == {"id": 1}
    _, _, headers, body = seen[0]
    lower = {name.lower(): value for name, value in headers.items()}
    assert int(lower["content-length"]) == len(body)
    assert body.count(data) == 1
    assert b'filename="a _b_.jsonl"' in body and b'name="purpose"\r\n\r\nbatch\r\n' in body


def test_what_is_fetched_comes_in_pieces_and_is_no_answer_when_it_is_cut() -> None:
    data = os.urandom(door.PIECE_BYTES + 5)
    with answering(data, content_length=str(len(data))) as (url, _):
        pieces = list(door.fetch(url, "/x"))
        assert (len(pieces), b"".join(pieces)) == (2, data)
    with answering(data, content_length=str(len(data) + 1)) as (url, _), pytest.raises(NetworkError):
        list(door.fetch(url, "/x", timeout_s=2))
    with answering(b"{}", status=404) as (url, _), pytest.raises(NotFoundError):
        next(door.fetch(url, "/x"))


def test_a_silent_server_is_left_in_time() -> None:
    with silent() as url:
        with pytest.raises(ExpiredError):
            door.get(url, "/", timeout_s=0.05)
        with pytest.raises(ExpiredError):
            next(door.stream(url, "/x", {}, timeout_s=0.05))


def test_where_nobody_listens_the_hint_says_what_to_start() -> None:
    with silent() as url:
        pass
    with pytest.raises(NetworkError) as caught:
        door.get(url, "/")
    assert "catena up" in caught.value.hint
    with pytest.raises(NetworkError):
        events(url)


def test_a_gateway_is_found_by_the_word_it_left_and_not_after_it_took_it_back(tmp_path: Path) -> None:
    assert door.find(tmp_path) is None
    with answering(b"{}") as (url, seen):
        door.announce(tmp_path, url)
        assert door.find(tmp_path) == (url, os.getpid())
        assert seen[0][1] == "/healthz"
        door.withdraw(tmp_path)
        assert door.find(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "left", [b"", b"{", b"[]", b'{"url": "http://127.0.0.1:9"}', b'{"url": "http://example.org", "pid": 1}']
)
def test_a_word_that_leads_nowhere_is_no_gateway(tmp_path: Path, left: bytes) -> None:
    (tmp_path / door.ADDRESS_FILE).write_bytes(left)
    assert door.find(tmp_path) is None


def test_another_process_may_not_take_the_word_back(tmp_path: Path) -> None:
    (tmp_path / door.ADDRESS_FILE).write_bytes(b'{"url": "http://127.0.0.1:9", "pid": 1}')
    door.withdraw(tmp_path)
    assert (tmp_path / door.ADDRESS_FILE).exists()
