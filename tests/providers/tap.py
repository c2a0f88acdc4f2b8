"""A wire tap on loopback: passes every byte on between a client and a server, and remembers it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio.from_thread


class Tap:
    """What went out to `target` and what came back, of all connections together."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.out = bytearray()
        self.back = bytearray()
        self.arrived = threading.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        self._writers.append(writer)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.append(far_writer)
        ways = ((reader, far_writer, self.out), (far_reader, writer, self.back))
        await asyncio.wait([asyncio.ensure_future(self._pass(*way)) for way in ways])

    async def finish(self) -> None:
        """Close whatever is open."""
        for writer in self._writers:
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
        with suppress(ConnectionError):
            while piece := await source.read(65536):
                kept += piece
                self.arrived.set()
                sink.write(piece)
                await sink.drain()
        with suppress(ConnectionError):
            sink.close()


@contextmanager
def tap(target: int) -> Iterator[Tap]:
    """A tap before the server on port `target` of this machine."""
    made = Tap(target)
    with anyio.from_thread.start_blocking_portal() as portal:

        async def start() -> asyncio.Server:
            return await asyncio.start_server(made.serve, "127.0.0.1", 0)

        server = portal.call(start)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            portal.call(server.close)
            portal.call(made.finish)
