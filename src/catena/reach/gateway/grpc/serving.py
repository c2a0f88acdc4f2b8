"""Serves calls over TCP beside the HTTP door: where it listens, its connections, and how it ends with the rest."""

from __future__ import annotations

import asyncio

import anyio

from catena.core.settings import ReachSettings
from catena.reach.gateway.application import Gateway
from catena.reach.gateway.grpc.connection import Connection

CHECK_S = 1.0


class Door:
    """A port that takes calls for `app`. `address` is as clients want it: host and port."""

    def __init__(self, app: Gateway, settings: ReachSettings) -> None:
        self.app = app
        self.settings = settings
        self.connections: set[Connection] = set()
        self.address = ""
        self._server: asyncio.Server | None = None

    async def open(self, port: int) -> None:
        """Listen on `port` of the host that HTTP listens on. Raises OSError."""
        loop = asyncio.get_running_loop()
        host = self.settings.host
        self._server = await loop.create_server(lambda: Connection(self, loop), host, port, backlog=1024)
        self.address = f"{f'[{host}]' if ':' in host else host}:{self._server.sockets[0].getsockname()[1]}"

    async def watch(self) -> None:
        """End connections that are late, idle or dead, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await anyio.sleep(CHECK_S)
            for connection in tuple(self.connections):
                connection.check(loop.time())

    def drain(self) -> None:
        """Take no more calls; those that run go on."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.drain()

    def close(self) -> None:
        """Close every connection, once what was written has left."""
        self.drain()
        for connection in tuple(self.connections):
            connection.close()
