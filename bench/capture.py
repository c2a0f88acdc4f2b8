"""Captures TCP on loopback, puts each connection together, and tells content from the rest; needs root, Linux."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

# TLS 1.3: a tag of 16 bytes and the inner type (RFC 8446, 5.2); the client's Finished by length of its hash.
TAG_BYTES, APPLICATION = 17, 23
FINISHED = {4 + 32 + TAG_BYTES, 4 + 48 + TAG_BYTES}
GENTLE_S = 0.3


class Capture:
    """Every TCP segment on loopback that goes to or from `ports`, put together by direction and connection."""

    def __init__(self, ports: set[int]) -> None:
        self._ports = ports
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
        self._socket.bind(("lo", 0))
        self._socket.settimeout(0.2)
        self._segments: dict[tuple[int, int], dict[int, bytes]] = {}
        self._starts: dict[tuple[int, int], int] = {}
        self.num_packets = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                packet, about = self._socket.recvfrom(1 << 18)
            except TimeoutError:
                if self._is_over.is_set():
                    return
                continue
            if about[2] == socket.PACKET_OUTGOING:  # loopback shows each packet twice
                self._take(packet[14:])

    def _take(self, packet: bytes) -> None:
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return
        size = struct.unpack(">H", packet[2:4])[0]
        segment = packet[(packet[0] & 15) * 4 : size or None]
        source, target, number = struct.unpack(">HHI", segment[:8])
        if source not in self._ports and target not in self._ports:
            return
        self.num_packets += 1
        flow, data = (source, target), segment[(segment[12] >> 4) * 4 :]
        if segment[13] & 2:  # SYN takes one number
            self._starts[flow] = number + 1
        elif data:
            held = self._segments.setdefault(flow, {})
            if len(data) > len(held.get(number, b"")):
                held[number] = data

    def finish(self) -> dict[tuple[int, int], bytes]:
        """(from port, to port) → the bytes of that direction. Refuses a capture that lost packets or has holes."""
        time.sleep(GENTLE_S)
        self._is_over.set()
        self._thread.join()
        _, dropped = struct.unpack("II", self._socket.getsockopt(263, 6, 8))
        self._socket.close()
        if dropped:
            raise SystemExit(f"the capture lost {dropped} packets")
        flows: dict[tuple[int, int], bytes] = {}
        for flow, held in self._segments.items():
            whole, start = bytearray(), self._starts[flow]
            for number in sorted(held, key=lambda each: (each - start) % (1 << 32)):
                at = (number - start) % (1 << 32)
                if at > len(whole):
                    raise SystemExit("the capture has a hole")
                whole[at : at + len(held[number])] = held[number]
            flows[flow] = bytes(whole)
        return flows


def requests_in(stream: bytes) -> Iterator[bytes]:
    """The HTTP requests of one connection, each whole."""
    while stream:
        head, found, _ = stream.partition(b"\r\n\r\n")
        if not found:
            yield stream
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        yield stream[: len(head) + 4 + length]
        stream = stream[len(head) + 4 + length :]


def application_bytes(stream: bytes) -> tuple[int, int]:
    """Of one direction of a TLS 1.3 connection: bytes of content, and of everything else."""
    content, is_first = 0, True
    at = 0
    while at < len(stream):
        kind, length = stream[at], struct.unpack(">H", stream[at + 3 : at + 5])[0]
        if kind == APPLICATION:
            if not (is_first and length in FINISHED):
                content += length - TAG_BYTES
            is_first = False
        at += 5 + length
    return content, len(stream) - content
