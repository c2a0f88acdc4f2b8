"""A model server of our own on loopback: speaks one dialect exactly, does what it is told, and tells what it saw."""

from __future__ import annotations

import asyncio
import importlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio.from_thread
from tests.providers.answers import Answer, Asked, Reply, Speaker, whole

WAIT_S = 10.0
# With zero seconds to linger, closing sends a reset.
LINGER_NOT = struct.pack("ii", 1, 0)


class Provider:
    """One running test provider. `answers` are used up in order; the last one stays.

    `asked` are the requests; `num_connections` how many were opened, `num_sent` how many pieces of the latest answer
    went out, and `gone` is set when a client left before its answer's end.
    """

    def __init__(self, speaker: Speaker, tls: ssl.SSLContext | None = None) -> None:
        self.speaker = speaker
        self.tls = tls
        self.answers: list[Answer] = [Answer()]
        self.asked: list[Asked] = []
        self.num_connections = 0
        self.num_sent = 0
        self.gone = threading.Event()
        self.port = 0

    @property
    def root(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL that a configuration names."""
        return self.root + self.speaker.base

    def say(self, *answers: Answer) -> None:
        """Answer the next requests so."""
        self.answers = list(answers)

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            with suppress(ConnectionError):
                await _Connection(self, reader, writer).run()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


class _Connection:
    def __init__(self, provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._provider = provider
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._is_gone = asyncio.Event()

    async def run(self) -> None:
        watch = asyncio.create_task(self._watch())
        try:
            while (asked := await self._request()) is not None:
                self._provider.asked.append(asked)
                if not await self._answer(asked, self._provider.next_answer()):
                    return
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _watch(self) -> None:
        """Keep reading, so that a client that goes is seen while an answer is sent."""
        self._arrived = asyncio.Event()
        with suppress(ConnectionError):
            while piece := await self._reader.read(65536):
                self._buffer += piece
                self._arrived.set()
        self._is_gone.set()
        self._arrived.set()

    async def _until(self, num_bytes: int) -> bool:
        while len(self._buffer) < num_bytes:
            if self._is_gone.is_set():
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    async def _request(self) -> Asked | None:
        await asyncio.sleep(0)  # lets the watch begin
        while b"\r\n\r\n" not in self._buffer:
            if not await self._until(len(self._buffer) + 1):
                return None
        head, _, _ = bytes(self._buffer).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start = len(head) + 4
        length = int(headers.get("content-length", "0"))
        if not await self._until(start + length):
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return Asked(method, path, headers, body)

    async def _answer(self, asked: Asked, answer: Answer) -> bool:
        """Send one answer; False when the connection is at its end."""
        provider = self._provider
        provider.num_sent = 0
        if answer.closes_unanswered:
            self._reset()
            return False
        if answer.first_s and not await self._stays(answer.first_s):
            return False
        if answer.raw is not None:
            reply = Reply(answer.status, answer.headers.get("content-type", "application/json"), (answer.raw,))
        elif answer.status >= 300:
            reply = provider.speaker.refuse(answer)
        else:
            reply = provider.speaker.reply(asked, answer)
        return await self._send(reply, answer)

    async def _send(self, reply: Reply, answer: Answer) -> bool:
        headers = {"content-type": reply.content_type, **answer.headers}
        size = "transfer-encoding: chunked" if reply.is_stream else f"content-length: {len(reply.pieces[0])}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}{size}\r\n\r\n".encode())
        if not reply.is_stream:
            self._writer.write(reply.pieces[0])
            await self._writer.drain()
            return True
        for position, piece in enumerate(reply.pieces):
            if answer.cut_after == position:
                return self._cut(piece, answer)
            if answer.trouble_after == position:
                self._chunk(self._provider.speaker.trouble(answer))
                break
            if position and answer.between_s and not await self._stays(answer.between_s):
                return False
            if self._is_gone.is_set():
                self._provider.gone.set()
                return False
            self._chunk(piece)
            self._provider.num_sent += 1
            await self._writer.drain()
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    def _chunk(self, piece: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _cut(self, piece: bytes, answer: Answer) -> bool:
        if answer.cut == "clean":
            self._writer.write(b"0\r\n\r\n")
            return True
        if answer.cut == "close":
            self._writer.write(b"%x\r\n%s" % (len(piece), piece[: len(piece) // 2]))
            return False
        self._reset()
        return False

    def _reset(self) -> None:
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._writer.transport.abort()

    async def _stays(self, seconds: float) -> bool:
        """Wait; False as soon as the client has gone."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_gone.wait(), seconds)
            self._provider.gone.set()
            return False
        return True


@contextmanager
def provider(dialect: str, tls: ssl.SSLContext | None = None) -> Iterator[Provider]:
    """A provider that speaks `dialect` (a module of this folder), on a thread of its own until the block ends."""
    speaker: Speaker = importlib.import_module(f"tests.providers.{dialect}").speaker
    made = Provider(speaker, tls)
    with anyio.from_thread.start_blocking_portal("asyncio") as portal:
        server: Any = portal.call(_listen, made)
        try:
            yield made
        finally:
            portal.call(_stop, server)


async def _listen(made: Provider) -> tuple[asyncio.Server, set[asyncio.Task[None]]]:
    tasks: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):  # the test is over
                await made.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=made.tls)
    made.port = server.sockets[0].getsockname()[1]
    return server, tasks


async def _stop(running: tuple[asyncio.Server, set[asyncio.Task[None]]]) -> None:
    server, tasks = running
    server.close()
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def nothing_here(asked: Asked) -> Reply:
    """What a server says to a route it does not have."""
    return whole(404, {"error": {"message": f"no route {asked.method} {asked.path}", "type": "not_found_error"}})
