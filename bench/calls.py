"""A lean gRPC client for benchmarks: one call at a time on one connection, with as little of its own as may be.

It sends what grpc's own client sends: a head whose fields later calls only point at, one message, the end.
"""

from __future__ import annotations

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
METHOD = b"/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def field(number: int, value: bytes) -> bytes:
    """A field of Protocol Buffers that is shorter than 128 bytes."""
    assert len(value) < 128
    return bytes((number << 3 | 2, len(value))) + value


def question(model: str, values: list[float]) -> bytes:
    """A ModelInferRequest for one row of FP32, as raw bytes, with its length before it."""
    tensor = field(1, b"x") + field(2, b"FP32") + field(3, bytes((1, len(values))))
    raw = struct.pack(f"<{len(values)}f", *values)
    message = field(1, model.encode()) + field(5, tensor) + field(7, raw)
    return b"\0" + len(message).to_bytes(4, "big") + message


class Client:
    """One connection. `ask` sends a message and waits for its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        self._reader, self._writer = reader, writer
        fields = {
            b":path": METHOD,
            b":authority": address.encode(),
            b"te": b"trailers",
            b"content-type": b"application/grpc",
            b"user-agent": b"bench",
        }
        named = {b":path": b"\x44", b":authority": b"\x41"}
        first = [
            named.get(name, b"\x40" + bytes((len(name),)) + name) + bytes((len(value),)) + value
            for name, value in fields.items()
        ]
        # POST and http are in the static table; of the five that were added, the last has the lowest index.
        self._first = b"\x83\x86" + b"".join(first)
        self._later = b"\x83\x86" + bytes(0x80 | index for index in range(66, 61, -1))
        self._stream = 1

    @classmethod
    async def open(cls, address: str) -> Client:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        room = frame(WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big"))
        writer.write(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 20)) + room)
        return cls(reader, writer, address)

    async def ask(self, message: bytes) -> None:
        """Raises SystemExit if the answer holds no message."""
        stream, self._stream = self._stream, self._stream + 2
        block = self._first if stream == 1 else self._later
        self._writer.write(frame(HEADERS, 4, stream, block) + frame(DATA, 1, stream, message))
        has_message = False
        while True:
            head = await self._reader.readexactly(9)
            length = int.from_bytes(head[:3], "big")
            payload = await self._reader.readexactly(length) if length else b""
            kind, flags = head[3], head[4]
            if kind == DATA:
                has_message = has_message or length > 5
            elif kind in (SETTINGS, PING) and not flags & 1:
                self._writer.write(frame(kind, 1, 0, payload if kind == PING else b""))
            elif kind in (RST_STREAM, GOAWAY):
                raise SystemExit(f"the server ended the call with frame {kind}: {payload!r}")
            if kind in (DATA, HEADERS) and flags & 1:
                break
        if not has_message:
            raise SystemExit(f"the server answered without a message: {payload!r}")

    def close(self) -> None:
        self._writer.close()
