"""HTTP/2 over loopback, frame by frame: what a proper client gets, and what an odd or hostile one does not."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import anyio
import pytest
from hpack import Decoder, Encoder
from tests.reach.gateway.conftest import Door, Listening
from tritonclient.grpc import service_pb2 as theirs

from catena.core.errors import BusyError
from catena.core.messages import Delta
from catena.reach.gateway.grpc import frames
from catena.reach.gateway.grpc.call import WINDOW_BYTES

MAX_AT_ONCE = 16 << 10
SERVICE = "/inference.GRPCInferenceService/"
Serve = Callable[..., tuple[Door, Listening, Any]]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """A client that says exactly what a test wants."""

    def __init__(self, address: str, *, greets: bool = True, window: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.address = address
        self.encoder, self.decoder = Encoder(), Decoder()
        self._rest = b""
        if greets:
            pairs = [] if window is None else [(frames.INITIAL_WINDOW_SIZE, window)]
            self.send(frames.PREFACE + frames.settings(pairs))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, path: str, stream: int = 1, *, flags: int = frames.END_HEADERS, **fields: str) -> bytes:
        pairs = {":method": "POST", ":scheme": "http", ":path": path, ":authority": self.address}
        pairs |= {"content-type": "application/grpc", "te": "trailers"}
        pairs |= {name.replace("_", "-").replace("--", ":"): value for name, value in fields.items()}
        block = self.encoder.encode([(name, value) for name, value in pairs.items() if value])
        return frames.frame(frames.HEADERS, flags, stream, block)

    def call(self, path: str, message: bytes = b"", stream: int = 1, **fields: str) -> None:
        body = b"\0" + len(message).to_bytes(4, "big") + message
        data = frames.frame(frames.DATA, frames.END_STREAM, stream, body)
        self.send(self.head(path, stream, **fields) + data)

    def next(self) -> Frame | None:
        """The next frame; None when the other side has closed."""
        while len(self._rest) < 9 or len(self._rest) < 9 + int.from_bytes(self._rest[:3], "big"):
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not piece:
                return None
            self._rest += piece
        end = 9 + int.from_bytes(self._rest[:3], "big")
        found = Frame(self._rest[3], self._rest[4], int.from_bytes(self._rest[5:9], "big"), self._rest[9:end])
        self._rest = self._rest[end:]
        return found

    def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of this kind; others are read on the way."""
        while (found := self.next()) is not None:
            if found.kind == kind and stream in (None, found.stream):
                return found
            if found.kind == frames.HEADERS:
                self.decoder.decode(found.payload)
        raise AssertionError(f"the connection ended before a frame {kind}")

    def answer(self, stream: int = 1) -> tuple[bytes, dict[str, str]]:
        """The body of an answer, and its head and trailers together."""
        body, fields = b"", {}
        while (found := self.next()) is not None:
            if found.stream != stream:
                continue
            if found.kind == frames.DATA:
                body += found.payload
            elif found.kind == frames.HEADERS:
                fields |= dict(self.decoder.decode(found.payload))
            elif found.kind == frames.RST_STREAM:
                return body, fields | {"reset": str(int.from_bytes(found.payload, "big"))}
            if found.flags & frames.END_STREAM and found.kind in (frames.DATA, frames.HEADERS):
                return body, fields
        return body, fields

    def ended(self) -> int | None:
        """The code that the other side ends the connection with; None if it only closes."""
        code = None
        while (found := self.next()) is not None:
            if found.kind == frames.GOAWAY:
                code = int.from_bytes(found.payload[4:8], "big")
        return code


def question(rows: int = 1) -> bytes:
    one = theirs.ModelInferRequest(model_name="net", raw_input_contents=[struct.pack("<2f", 1.5, -2) * rows])
    one.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    return one.SerializeToString()


@pytest.fixture
def connect() -> Iterator[Callable[..., Peer]]:
    """Connections that are closed when the test ends."""
    with ExitStack() as stack:

        def begin(address: str, **options: Any) -> Peer:
            peer = Peer(address, **options)
            stack.callback(peer.socket.close)
            return peer

        yield begin


@pytest.fixture
def start(serve: Serve, connect: Callable[..., Peer]) -> Callable[..., tuple[Door, Peer, Any]]:
    def begin(*, greets: bool = True, window: int | None = None, **settings: Any) -> tuple[Door, Peer, Any]:
        door, running, portal = serve(grpc_port=0, **settings)
        assert running.calls is not None
        return door, connect(running.calls.address, greets=greets, window=window), portal

    return begin


def test_a_call_is_answered_with_trailers_that_tell_status_and_receipt(start: Any) -> None:
    _, peer, _ = start()
    for stream in (1, 3):
        peer.call(SERVICE + "ModelInfer", question(), stream)
        body, fields = peer.answer(stream)
        found = theirs.ModelInferResponse.FromString(body[5:])
        assert found.raw_output_contents[0] == struct.pack("<2f", 1.5, -2)
        assert (fields[":status"], fields["content-type"], fields["grpc-status"]) == ("200", "application/grpc", "0")
        assert fields["catena-receipt"].startswith("rcpt_")


def test_a_head_may_come_in_pieces_padded_and_with_a_priority(start: Any) -> None:
    _, peer, _ = start()
    whole = peer.head(SERVICE + "ModelInfer")[9:]
    first = b"\x03" + bytes(5) + whole[:7] + bytes(3)
    flags = frames.PADDED | frames.HAS_PRIORITY
    peer.send(frames.frame(frames.HEADERS, flags, 1, first))
    peer.send(frames.frame(frames.CONTINUATION, 0, 1, whole[7:20]))
    peer.send(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, whole[20:]))
    body = b"\0" + len(question()).to_bytes(4, "big") + question()
    peer.send(frames.frame(frames.DATA, frames.PADDED, 1, b"\x04" + body[:9] + bytes(4)))
    peer.send(frames.frame(frames.DATA, 0, 1, body[9:]))
    peer.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
    assert peer.answer()[1]["grpc-status"] == "0"


def test_every_byte_may_come_alone(start: Any) -> None:
    _, peer, _ = start(greets=False)
    body = b"\0" + len(question()).to_bytes(4, "big") + question()
    data = frames.PREFACE + frames.settings([]) + peer.head(SERVICE + "ModelInfer")
    data += frames.frame(frames.DATA, frames.END_STREAM, 1, body)
    for index in range(len(data)):
        peer.send(data[index : index + 1])
    assert peer.answer()[1]["grpc-status"] == "0"


def test_a_peer_with_a_small_window_gets_as_much_as_it_allows(start: Any) -> None:
    _, peer, _ = start(window=10)
    peer.call(SERVICE + "ModelInfer", question(8))
    peer.until(frames.HEADERS)
    body = peer.until(frames.DATA).payload
    assert len(body) == 10
    peer.send(frames.window_update(1, 7))
    body += peer.until(frames.DATA).payload
    assert len(body) == 17
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1000)]))
    rest, fields = peer.answer()
    assert theirs.ModelInferResponse.FromString((body + rest)[5:]).model_name == "net"
    assert fields["grpc-status"] == "0"


def test_a_body_larger_than_the_window_gets_room_as_it_is_read(start: Any) -> None:
    _, peer, _ = start()
    message = question(400_000)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    peer.send(peer.head(SERVICE + "ModelInfer"))
    room, given = WINDOW_BYTES, 0
    while body:
        count = min(len(body), frames.FRAME_BYTES, room)
        if not count:
            update = peer.until(frames.WINDOW_UPDATE, 1)
            given = int.from_bytes(update.payload, "big")
            room += given
            continue
        room -= count
        flags = frames.END_STREAM if count == len(body) else 0
        peer.send(frames.frame(frames.DATA, flags, 1, body[:count]))
        body = body[count:]
    assert given > 0
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1 << 24)]) + frames.window_update(0, 1 << 24))
    answer, fields = peer.answer()
    assert (fields["grpc-status"], len(answer) > 3_200_000) == ("0", True)


@pytest.mark.parametrize(("rows", "settings"), [(400, {"max_body_bytes": 4000}), (1, {})])
def test_a_stream_whose_questions_wait_takes_a_window_and_no_more(
    start: Any, rows: int, settings: dict[str, Any]
) -> None:
    door, peer, _ = start(**settings)
    door.script.events = [anyio.sleep_forever]
    message = question(rows)
    whole = b"\0" + len(message).to_bytes(4, "big") + message
    data = frames.frame(frames.DATA, 0, 1, whole)
    peer.send(peer.head(SERVICE + "ModelStreamInfer") + data)
    wait_until(lambda: bool(door.script.asked))
    peer.send(data * (2 * WINDOW_BYTES // len(whole)))
    assert peer.answer()[1]["reset"] == str(frames.FLOW_CONTROL_ERROR)
    wait_until(lambda: door.script.outcomes == ["cut CancelledError"])


def test_pings_and_settings_are_acknowledged(start: Any) -> None:
    _, peer, _ = start()
    peer.send(frames.frame(frames.PING, 0, 0, b"12345678"))
    found = peer.until(frames.PING)
    assert (found.flags, found.payload) == (frames.ACK, b"12345678")


def test_a_call_that_is_reset_is_cancelled(start: Any) -> None:
    door, peer, _ = start()
    began = anyio.Event()

    async def wait() -> None:
        began.set()
        await anyio.sleep_forever()

    door.script.events = [wait]
    peer.call(SERVICE + "ModelInfer", question())
    wait_until(lambda: bool(door.script.asked))
    peer.send(frames.reset(1, frames.CANCEL))
    wait_until(lambda: door.script.outcomes == ["cut CancelledError"])
    door.script.events = []
    peer.call(SERVICE + "ModelInfer", question(), 3)
    assert peer.answer(3)[1]["grpc-status"] == "0"


def test_a_call_whose_connection_ends_is_cancelled(start: Any) -> None:
    door, peer, _ = start()
    door.script.events = [anyio.sleep_forever]
    peer.call(SERVICE + "ModelInfer", question())
    wait_until(lambda: bool(door.script.asked))
    peer.socket.close()
    wait_until(lambda: door.script.outcomes == ["cut CancelledError"])


def test_a_deadline_cancels_the_work(start: Any) -> None:
    door, peer, _ = start()
    door.script.events = [anyio.sleep_forever]
    peer.call(SERVICE + "ModelInfer", question(), grpc_timeout="50m")
    fields = peer.answer()[1]
    assert (fields["grpc-status"], door.script.outcomes) == ("4", ["cut CancelledError"])
    peer.call(SERVICE + "ModelInfer", question(), 3, grpc_timeout="soon")
    assert peer.answer(3)[1]["grpc-status"] == "3"


def test_a_busy_gateway_says_when_to_come_again(start: Any) -> None:
    door, peer, _ = start()
    door.script.refusal = BusyError("the queue is full", retry_after_s=2)
    peer.call(SERVICE + "ModelInfer", question())
    fields = peer.answer()[1]
    assert (fields["grpc-status"], fields["grpc-retry-pushback-ms"]) == ("8", "2000")
    assert fields["grpc-message"] == "the queue is full (hint: try again in 2 s)"


def test_an_answer_that_breaks_off_never_ends_well(start: Any) -> None:
    door, peer, _ = start()
    one = theirs.ModelInferRequest(model_name="tiny", id="7", raw_input_contents=[b"\2\0\0\0hi"])
    one.inputs.add(name="text_input", datatype="BYTES", shape=[1])

    def broken() -> None:
        raise RuntimeError("a bug")

    door.script.events = [Delta(text="Hel"), broken]
    peer.call(SERVICE + "ModelStreamInfer", one.SerializeToString())
    body, fields = peer.answer()
    assert b"Hel" in body
    assert (fields["grpc-status"], "bug" in fields["grpc-message"]) == ("13", False)


def test_what_is_no_call_is_refused_as_http_and_unknown_procedures_by_status(start: Any) -> None:
    _, peer, _ = start()
    expected = [({"__method": "GET"}, "405"), ({"content_type": "application/json"}, "415")]
    for index, (fields, status) in enumerate(expected):
        peer.send(peer.head(SERVICE + "ServerLive", 1 + 2 * index, flags=5, **fields))
        assert peer.answer(1 + 2 * index)[1][":status"] == status
    peer.call("/no.Service/Here", b"", 5)
    fields = peer.answer(5)[1]
    assert (fields[":status"], fields["grpc-status"]) == ("200", "12")
    peer.call(SERVICE + "ServerLive", b"", 7, __authority="evil.example")
    assert peer.answer(7)[1]["grpc-status"] == "7"


def test_addresses_of_the_other_door_are_not_here(start: Any) -> None:
    door, peer, _ = start()
    peer.call("/v2/models/net/infer")
    assert peer.answer()[1]["grpc-status"] == "12"
    assert door.script.asked == []


@pytest.mark.parametrize(
    "fields",
    [{"__scheme": ""}, {"__path": "nothing"}, {"__odd": "x"}, {"connection": "close"}, {"Upper": "x"}],
)
def test_a_malformed_head_ends_its_stream_only(start: Any, fields: dict[str, str]) -> None:
    _, peer, _ = start()
    peer.send(peer.head(SERVICE + "ServerLive", 1, flags=5, **fields))
    assert peer.answer()[1]["reset"] == str(frames.PROTOCOL_ERROR)
    peer.call(SERVICE + "ServerLive", b"", 3)
    assert peer.answer(3)[1]["grpc-status"] == "0"


HEADERS_5 = frames.frame(frames.HEADERS, 0, 1, b"\x83")
ENDINGS: dict[str, tuple[bytes, int | None]] = {
    "too large a frame": (frames.head(frames.DATA, 0, 1, 20_000) + bytes(20_000), frames.FRAME_SIZE_ERROR),
    "data for the connection": (frames.frame(frames.DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR),
    "data before a head": (frames.frame(frames.DATA, 0, 1, b"x"), frames.PROTOCOL_ERROR),
    "an even stream": (frames.frame(frames.HEADERS, 4, 2, b"\x83"), frames.PROTOCOL_ERROR),
    "a broken block": (frames.frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"), frames.COMPRESSION_ERROR),
    "another frame within a head": (HEADERS_5 + frames.frame(frames.PING, 0, 0, bytes(8)), frames.PROTOCOL_ERROR),
    "another stream within a head": (HEADERS_5 + frames.frame(frames.CONTINUATION, 4, 3), frames.PROTOCOL_ERROR),
    "a continuation of nothing": (frames.frame(frames.CONTINUATION, 4, 1, b"\x83"), frames.PROTOCOL_ERROR),
    "a push": (frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), frames.PROTOCOL_ERROR),
    "padding longer than the frame": (frames.frame(frames.HEADERS, 12, 1, b"\x09\x83"), frames.PROTOCOL_ERROR),
    "a short ping": (frames.frame(frames.PING, 0, 0, b"x"), frames.FRAME_SIZE_ERROR),
    "a ping of a stream": (frames.frame(frames.PING, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "settings with a rest": (frames.frame(frames.SETTINGS, 0, 0, bytes(5)), frames.FRAME_SIZE_ERROR),
    "a window too large": (frames.settings([(frames.INITIAL_WINDOW_SIZE, 1 << 31)]), frames.FLOW_CONTROL_ERROR),
    "a frame size too small": (frames.settings([(frames.MAX_FRAME_SIZE, 1)]), frames.PROTOCOL_ERROR),
    "no more room": (frames.window_update(0, 0), frames.PROTOCOL_ERROR),
    "more room than there is": (frames.window_update(0, (1 << 31) - 1) * 2, frames.FLOW_CONTROL_ERROR),
    "a reset of nothing": (frames.reset(9, 8), frames.PROTOCOL_ERROR),
    "a flood of pings": (frames.frame(frames.PING, 0, 0, bytes(8)) * 2000, frames.ENHANCE_YOUR_CALM),
    "a flood of settings": (frames.settings([]) * 2000, frames.ENHANCE_YOUR_CALM),
    "a flood of pieces of a head": (
        HEADERS_5 + frames.frame(frames.CONTINUATION, 0, 1, b"") * 2000,
        frames.ENHANCE_YOUR_CALM,
    ),
    "an endless head": (
        HEADERS_5 + frames.frame(frames.CONTINUATION, 0, 1, bytes(9000)) * 9,
        frames.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_peer_that_breaks_the_protocol_is_told_and_cut(start: Any, name: str) -> None:
    _, peer, _ = start()
    data, code = ENDINGS[name]
    peer.send(data)
    # What comes after the end may reset the connection before its code was read.
    assert peer.ended() in ((code,) if len(data) < MAX_AT_ONCE else (code, None))


def test_a_peer_that_speaks_something_else_is_cut(start: Any) -> None:
    _, peer, _ = start(greets=False)
    peer.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert peer.ended() is None


def test_small_heads_that_grow_large_are_refused(start: Any) -> None:
    _, peer, _ = start(max_header_bytes=4096)
    # One field of 2 kB in the table, pointed at many times.
    value = b"x" * 2000
    block = b"\x40\x01a" + b"\x7f" + bytes([2000 - 127 - 14 * 128 + 128, 14]) + value + b"\xbe" * 50
    peer.send(frames.frame(frames.HEADERS, 5, 1, block))
    assert peer.ended() == frames.COMPRESSION_ERROR


def test_calls_that_are_opened_and_reset_at_once_are_bounded(start: Any) -> None:
    door, peer, _ = start(grpc_streams=4)
    door.script.events = [anyio.sleep_forever]
    body = b"\0" + len(question()).to_bytes(4, "big") + question()
    for stream in range(1, 4001, 2):
        data = frames.frame(frames.DATA, 1, stream, body)
        try:
            peer.send(peer.head(SERVICE + "ModelInfer", stream) + data + frames.reset(stream, frames.CANCEL))
        except ConnectionError:
            break
    assert peer.ended() in (frames.ENHANCE_YOUR_CALM, None)
    wait_until(lambda: door.app.num_running == 0)
    assert len(door.script.asked) < 1500


def test_more_calls_than_allowed_are_refused_and_may_be_tried_again(start: Any) -> None:
    door, peer, _ = start(grpc_streams=2)
    found = peer.until(frames.SETTINGS)
    assert struct.pack(">HI", frames.MAX_CONCURRENT_STREAMS, 2) in found.payload
    door.script.events = [anyio.sleep_forever]
    for stream in range(1, 11, 2):
        peer.call(SERVICE + "ModelInfer", question(), stream)
    assert peer.answer(9)[1]["reset"] == str(frames.REFUSED_STREAM)


def test_too_many_connections_are_cut(start: Any, connect: Any) -> None:
    _, peer, _ = start(max_connections=1)
    peer.call(SERVICE + "ServerLive")
    assert peer.answer()[1]["grpc-status"] == "0"
    assert connect(peer.address).ended() == frames.ENHANCE_YOUR_CALM


def test_who_does_not_greet_and_who_is_idle_is_cut_in_time(start: Any, connect: Any) -> None:
    _, silent, _ = start(greets=False, header_timeout_s=0.2, keep_alive_s=0.2)
    idle = connect(silent.address)
    assert silent.ended() == frames.PROTOCOL_ERROR
    assert idle.ended() == frames.NO_ERROR


def test_a_peer_that_is_silent_during_a_call_is_asked_and_then_cut(start: Any) -> None:
    door, peer, _ = start(keep_alive_s=1.2)
    door.script.events = [anyio.sleep_forever]
    peer.call(SERVICE + "ModelInfer", question())
    assert peer.until(frames.PING).flags == 0
    assert peer.ended() is None
    wait_until(lambda: door.script.outcomes == ["cut CancelledError"])


def test_a_peer_that_gives_no_room_is_cut_in_time(start: Any) -> None:
    door, peer, _ = start(window=0, body_timeout_s=0.3)
    peer.call(SERVICE + "ModelInfer", question())
    assert peer.answer()[1]["reset"] == str(frames.CANCEL)
    wait_until(lambda: door.app.num_running == 0)


def test_a_gateway_that_stops_lets_calls_end_and_takes_no_new_ones(serve: Serve, connect: Any) -> None:
    door, running, portal = serve(grpc_port=0, drain_s=10)
    assert running.calls is not None
    peer, idle = connect(running.calls.address), connect(running.calls.address)
    release = portal.call(anyio.Event)
    door.script.events = [release.wait]
    peer.call(SERVICE + "ModelInfer", question())
    wait_until(lambda: bool(door.script.asked))
    draining = portal.start_task_soon(running.drain, 10.0)
    assert int.from_bytes(peer.until(frames.GOAWAY).payload[:4], "big") == 1
    assert idle.ended() == frames.NO_ERROR
    peer.call(SERVICE + "ServerLive", b"", 3)
    portal.call(release.set)
    assert peer.answer()[1]["grpc-status"] == "0"
    draining.result(10)
    assert peer.next() is None


def test_a_gateway_that_stops_at_last_cancels_what_still_runs(serve: Serve, connect: Any) -> None:
    door, running, portal = serve(grpc_port=0)
    assert running.calls is not None
    peer = connect(running.calls.address)
    door.script.events = [anyio.sleep_forever]
    peer.call(SERVICE + "ModelInfer", question())
    wait_until(lambda: bool(door.script.asked))
    portal.start_task_soon(running.drain, 0.1)
    fields = peer.answer()[1]
    assert (fields["grpc-status"], fields["grpc-retry-pushback-ms"]) == ("14", "5000")


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once `holds`, within 10 s."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)
