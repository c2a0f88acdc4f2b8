"""One HTTP/2 connection: frames in and out, with limits on streams, heads, windows, and on what keeps us busy."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from catena.core.settings import ReachSettings
from catena.reach.gateway.grpc import frames
from catena.reach.gateway.grpc.call import WINDOW_BYTES, Call
from catena.reach.gateway.grpc.frames import Violation
from catena.reach.gateway.grpc.heads import Head, Reader, block

if TYPE_CHECKING:
    from catena.reach.gateway.grpc.serving import Door

log = logging.getLogger("catena.reach.gateway")

# What all calls of a connection together may send before the application reads it.
CONNECTION_WINDOW_BYTES = 4 << 20
# Frames that cost us work and bring nobody on (pings, resets, settings): so many at once, and so many per second.
SPARE_FRAMES, SPARE_FRAMES_PER_S = 1000.0, 100.0
_TYPES = (b"application/grpc", b"application/grpc+proto")
_FRAME = struct.Struct(">HBBBI")


class Connection(asyncio.Protocol):
    """Speaks to one peer. `window` is what may be sent to it, `first_window` what each of its streams begins with."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self.settings: ReachSettings = door.settings
        self.window = self.first_window = frames.FIRST_WINDOW_BYTES
        self.max_frame = frames.FRAME_BYTES
        self.is_full = False
        self.waiting: set[Call] = set()
        self.own: tuple[str, int] | None = None
        self.calls: dict[int, Call] = {}
        self._door = door
        self._loop = loop
        self._transport: asyncio.Transport
        self._reader = Reader(door.settings.max_header_bytes)
        self._rest = b""
        self._is_greeted = False
        self._is_leaving = False
        self._last_stream = 0  # that was looked at; after it come only those that a connection which leaves ignores
        self._highest = 0
        self._block: tuple[int, int, list[bytes]] | None = None  # stream, flags and pieces of a head that is not whole
        self._allowance = CONNECTION_WINDOW_BYTES
        self._num_taken = 0
        self._spare = SPARE_FRAMES
        self._spared_s = self._heard_s = self._began_s = self._idle_s = loop.time()
        self._is_asked = False
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("sockname")
        self.own = (str(name[0]), int(name[1])) if name else None
        self._door.connections.add(self)
        if len(self._door.connections) > self.settings.max_connections:
            self.leave(frames.ENHANCE_YOUR_CALM)
            return
        self.write(
            (
                frames.settings(
                    (
                        (frames.MAX_CONCURRENT_STREAMS, self.settings.grpc_streams),
                        (frames.INITIAL_WINDOW_SIZE, WINDOW_BYTES),
                        (frames.MAX_HEADER_LIST_SIZE, self.settings.max_header_bytes),
                    )
                ),
                frames.window_update(0, CONNECTION_WINDOW_BYTES - frames.FIRST_WINDOW_BYTES),
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        self._door.connections.discard(self)
        for call in self.calls.values():
            call.leave()

    def pause_writing(self) -> None:
        """A peer that does not read is not read from either, and cut unless it goes on in time."""
        self.is_full = True
        self._transport.pause_reading()
        if self._unread is None:
            self._unread = self._loop.call_later(self.settings.body_timeout_s, self._transport.abort)

    def resume_writing(self) -> None:
        self.is_full = False
        self._be_patient()
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._heard_s = self._loop.time()
        self._is_asked = False
        data = self._rest + data if self._rest else data
        try:
            self._rest = data[self._read(data) :]
        except Violation as violation:
            self.leave(violation.code)

    def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Send these bytes; nothing happens on a connection that is closed."""
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def take(self, num_bytes: int) -> None:
        """The application took so much of what came: the peer gets room again, half a window at a time."""
        self._num_taken += num_bytes
        if self._num_taken >= CONNECTION_WINDOW_BYTES // 2:
            self._allowance += self._num_taken
            self.write((frames.window_update(0, self._num_taken),))
            self._num_taken = 0

    def drain(self) -> None:
        """Take no new calls; those that run go on."""
        if not self._is_leaving:
            self._is_leaving = True
            self.write((frames.goaway(self._last_stream, frames.NO_ERROR),))
        if not self.calls:
            self._transport.close()

    def close(self) -> None:
        """Close once what was written has left."""
        self._transport.close()

    def leave(self, code: int) -> None:
        """Say why, and close at once: what runs is cancelled."""
        self._is_leaving = True
        self.write((frames.goaway(self._last_stream, code),))
        self._transport.close()

    def check(self, now_s: float) -> None:
        """Called every second: end what is late, idle or dead."""
        settings = self.settings
        if not self._is_greeted or self._block is not None:
            if now_s - self._began_s > settings.header_timeout_s:
                self.leave(frames.PROTOCOL_ERROR)
        elif not self.calls:
            if now_s - self._idle_s > settings.keep_alive_s:
                self.drain()
        elif now_s - self._heard_s > 2 * settings.keep_alive_s:
            self._transport.abort()
        elif now_s - self._heard_s > settings.keep_alive_s and not self._is_asked:
            self._is_asked = True
            self.write((frames.frame(frames.PING, 0, 0, bytes(8)),))

    def _read(self, data: bytes) -> int:
        """Act on every whole frame of `data`; how much of it that was. Raises Violation."""
        start = 0
        if not self._is_greeted:
            preface = frames.PREFACE
            if data[: len(preface)] != preface[: len(data)]:
                self._transport.close()  # not HTTP/2: there is nobody to tell why
                return len(data)
            if len(data) < len(preface):
                return 0
            self._is_greeted = True
            start = len(preface)
        while len(data) - start >= frames.HEAD_BYTES:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, start)
            length = high << 8 | low
            if length > frames.FRAME_BYTES:
                raise Violation(frames.FRAME_SIZE_ERROR)
            end = start + frames.HEAD_BYTES + length
            if end > len(data):
                break
            self._act(kind, flags, stream & frames.MAX_WINDOW_BYTES, data[start + frames.HEAD_BYTES : end])
            start = end
        return start

    def _act(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream != self._block[0]):
            raise Violation(frames.PROTOCOL_ERROR)
        match kind:
            case frames.DATA:
                self._data(flags, stream, payload)
            case frames.HEADERS:
                self._headers(flags, stream, payload)
            case frames.WINDOW_UPDATE:
                self._window_update(stream, payload)
            case frames.CONTINUATION:
                self._continuation(flags, payload)
            case frames.PUSH_PROMISE:
                raise Violation(frames.PROTOCOL_ERROR)
            case _:
                self._spend()
                self._control(kind, flags, stream, payload)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        length = len(payload)
        match kind:
            case frames.PING if stream == 0 and length == 8:
                if not flags & frames.ACK:
                    self.write((frames.frame(frames.PING, frames.ACK, 0, payload),))
            case frames.SETTINGS if stream == 0 and length % 6 == 0 and not (flags & frames.ACK and payload):
                if not flags & frames.ACK:
                    self._settings(payload)
            case frames.RST_STREAM if stream and length == 4:
                if stream > self._highest:
                    raise Violation(frames.PROTOCOL_ERROR)
                if call := self.calls.get(stream):
                    call.leave()
            case frames.PRIORITY if stream:
                if length != 5:
                    self.write((frames.reset(stream, frames.FRAME_SIZE_ERROR),))
            case frames.GOAWAY if stream == 0 and length >= 8:
                pass  # it opens no more streams; those that are open go on
            case frames.PING | frames.SETTINGS | frames.RST_STREAM | frames.GOAWAY | frames.PRIORITY:
                is_size = (stream != 0) == (kind == frames.RST_STREAM)
                raise Violation(frames.FRAME_SIZE_ERROR if is_size else frames.PROTOCOL_ERROR)
            case _:
                pass  # frames of extensions are passed over (RFC 9113, 5.5)

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        num_bytes = len(payload)
        self._allowance -= num_bytes
        if stream == 0 or stream > self._highest:
            raise Violation(frames.PROTOCOL_ERROR)
        if self._allowance < 0:
            raise Violation(frames.FLOW_CONTROL_ERROR)
        piece = frames.unpadded(flags, payload)
        is_last = bool(flags & frames.END_STREAM)
        if not piece and not is_last:
            self._spend()
        call = self.calls.get(stream)
        if call is None or call.is_over:
            self.take(num_bytes)
            return
        call.allowance -= num_bytes
        if call.has_all or call.allowance < 0:
            code = frames.STREAM_CLOSED if call.has_all else frames.FLOW_CONTROL_ERROR
            self.write((frames.reset(stream, code),))
            call.leave()
            self.take(num_bytes)
            return
        self.take(num_bytes - len(piece))
        call.feed(piece, is_last=is_last)

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        piece = frames.unpadded(flags, payload)
        if flags & frames.HAS_PRIORITY:
            if len(piece) < 5:
                raise Violation(frames.FRAME_SIZE_ERROR)
            piece = piece[5:]
        if stream % 2 == 0:
            raise Violation(frames.PROTOCOL_ERROR)
        if flags & frames.END_HEADERS:
            self._open(stream, flags, piece)
        else:
            self._block = (stream, flags, [piece])
            self._began_s = self._heard_s

    def _continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise Violation(frames.PROTOCOL_ERROR)
        self._spend()
        stream, first_flags, pieces = self._block
        pieces.append(payload)
        if sum(map(len, pieces)) > self.settings.max_header_bytes:
            raise Violation(frames.ENHANCE_YOUR_CALM)
        if flags & frames.END_HEADERS:
            self._block = None
            self._open(stream, first_flags, b"".join(pieces))

    def _open(self, stream: int, flags: int, packed: bytes) -> None:
        """A head is whole. It is read whatever comes of it: it may change the table for those after it."""
        request = self._reader.read(packed)
        if stream <= self._highest:
            call = self.calls.get(stream)
            if call is not None and not call.is_over:  # these are trailers, in which gRPC's clients say nothing
                if call.has_all or not flags & frames.END_STREAM:
                    raise Violation(frames.PROTOCOL_ERROR)
                call.feed(b"", is_last=True)
            return
        self._highest = stream
        if self._is_leaving:
            return
        self._last_stream = stream
        if request is None:
            self._spend()
            self.write((frames.reset(stream, frames.PROTOCOL_ERROR),))
        elif status := _unfit(request):
            refusal = block([(b":status", status)])
            whole = frames.END_HEADERS | frames.END_STREAM
            self.write((frames.frame(frames.HEADERS, whole, stream, refusal), frames.reset(stream, frames.NO_ERROR)))
        elif len(self.calls) >= 2 * self.settings.grpc_streams:
            # Twice, because a call counts here until its task has ended, which is later than its answer has.
            self._spend()
            self.write((frames.reset(stream, frames.REFUSED_STREAM),))
        else:
            call = self.calls[stream] = Call(self, stream, request)
            if flags & frames.END_STREAM:
                call.feed(b"", is_last=True)
            call.task = self._loop.create_task(self._door.app(call.scope, call.receive, call.send))
            call.task.add_done_callback(lambda task: self._done(call, task))

    def _done(self, call: Call, task: asyncio.Task[None]) -> None:
        del self.calls[call.stream]
        if not task.cancelled() and (error := task.exception()):
            log.error("a call failed outside its handler: %s", type(error).__qualname__)
        if not call.is_over:
            self.write((frames.reset(call.stream, frames.INTERNAL_ERROR),))
            call.leave()
        self.take(call.unread())
        self._idle_s = self._loop.time()
        if self._is_leaving and not self.calls:
            self._transport.close()

    def _settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW_BYTES:
                    raise Violation(frames.FLOW_CONTROL_ERROR)
                for call in self.calls.values():
                    call.window += value - self.first_window
                self.first_window = value
            elif key == frames.MAX_FRAME_SIZE:
                if not frames.FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                    raise Violation(frames.PROTOCOL_ERROR)
                self.max_frame = min(value, WINDOW_BYTES)
        self.write((frames.frame(frames.SETTINGS, frames.ACK, 0),))
        self._wake()

    def _window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Violation(frames.FRAME_SIZE_ERROR)
        num_bytes = int.from_bytes(payload, "big") & frames.MAX_WINDOW_BYTES
        if stream > self._highest or (stream == 0 and num_bytes == 0):
            raise Violation(frames.PROTOCOL_ERROR)
        if stream == 0:
            self.window += num_bytes
            if self.window > frames.MAX_WINDOW_BYTES:
                raise Violation(frames.FLOW_CONTROL_ERROR)
            self._wake()
        elif call := self.calls.get(stream):
            call.window += num_bytes
            if num_bytes == 0 or call.window > frames.MAX_WINDOW_BYTES:
                code = frames.FLOW_CONTROL_ERROR if num_bytes else frames.PROTOCOL_ERROR
                self.write((frames.reset(stream, code),))
                call.leave()
            elif call in self.waiting:
                call.wake()

    def _wake(self) -> None:
        for call in tuple(self.waiting):
            call.wake()

    def _spend(self) -> None:
        """Count a frame that only costs. Raises Violation when there were too many."""
        now_s = self._heard_s
        self._spare = min(SPARE_FRAMES, self._spare + (now_s - self._spared_s) * SPARE_FRAMES_PER_S) - 1
        self._spared_s = now_s
        if self._spare < 0:
            raise Violation(frames.ENHANCE_YOUR_CALM)

    def _be_patient(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _unfit(request: Head) -> bytes | None:
    """The HTTP status for a request that is no call, None for one that is."""
    if request.method != b"POST":
        return b"405"
    kind = next((value for name, value in request.fields if name == b"content-type"), b"")
    return None if kind.partition(b";")[0].strip() in _TYPES else b"415"
