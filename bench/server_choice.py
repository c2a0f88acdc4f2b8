"""Which ASGI server carries the gateway: requests/s, CPU per request, and whether a vanished client is noticed.

One raw ASGI application, one process, one worker, loopback; servers take turns in one run, so only ratios mean much.
Usage: python bench/server_choice.py [--seconds 2] [--rounds 3]. Needs granian and hypercorn beside the dev extra.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lab

BODY = b'{"model":"tiny","messages":[{"role":"user","content":"' + b"x" * 500 + b'"}]}'
ANSWER = b'{"choices":[{"message":{"content":"' + b"y" * 430 + b'"}}]}'
CHUNK = b'data: {"choices":[{"delta":{"content":"token"}}]}\n\n'
CONNECTIONS = 32
CHUNKS = 64
HERE = Path(__file__).stem

START_JSON = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
}
START_STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class Application:
    """Answers /whole at once and /stream in chunks; /left tells how many chunks went out after a client had gone."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/whole":
            await send(START_JSON)
            await send({"type": "http.response.body", "body": ANSWER})
        elif scope["path"] == "/left":
            body = str(self.sent).encode()
            await send({**START_JSON, "headers": [(b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})
        else:
            await self._stream(receive, send, pause_s=0.01 if scope["path"] == "/slow" else 0.0)

    async def _stream(self, receive: Any, send: Any, pause_s: float) -> None:
        self.sent = 0
        await send(START_STREAM)
        watcher = asyncio.ensure_future(receive())
        for _ in range(CHUNKS):
            if watcher.done():
                return
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            self.sent += 1
            await asyncio.sleep(pause_s)
        watcher.cancel()
        await send({"type": "http.response.body", "body": b""})


application = Application()


def serve_ours(port: int) -> None:
    """uvicorn's protocol with our limits, as `catena up` runs it."""
    import anyio

    from catena.core.settings import ReachSettings
    from catena.reach.gateway import server

    class Bare(Application):
        """The application with the two things that `listening` asks of a gateway."""

        def drain(self) -> None: ...
        def stop(self) -> None: ...
        async def idle(self) -> None: ...

    async def main() -> None:
        async with server.listening(Bare(), ReachSettings(port=port)):  # type: ignore[arg-type]
            await anyio.sleep_forever()

    anyio.run(main, backend_options={"use_uvloop": True})


def command(name: str, port: int) -> list[str]:
    """How to start `name` on `port`."""
    target = f"{HERE}:application"
    flags = {
        "uvicorn": f"{target} --http httptools --loop uvloop --no-access-log --log-level error --ws none --port {port}",
        "granian": f"{target} --interface asgi --workers 1 --loop uvloop --no-ws --log-level error --port {port}",
        "hypercorn": f"{target} -k uvloop --log-level ERROR --bind 127.0.0.1:{port}",
    }
    if name == "ours":
        return [sys.executable, __file__, "--serve", str(port)]
    return [sys.executable, "-m", name, *flags[name].split()]


@contextmanager
def running(name: str) -> Iterator[tuple[int, int, float]]:
    """Start a server; gives port, process id, seconds until it answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(command(name, port), cwd=Path(__file__).parent, start_new_session=True)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.perf_counter() - began > 15:
                    raise SystemExit(f"{name} did not start") from None
                time.sleep(0.02)
        yield port, process.pid, time.perf_counter() - began
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_s(pid: int) -> float:
    """CPU seconds of the process group led by `pid`."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def load(port: int, path: str, seconds: float) -> int:
    """Requests (or, for /stream, chunks) in `seconds` over CONNECTIONS kept connections."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    end = time.perf_counter() + seconds
    count = 0

    async def one() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            writer.write(head + BODY)
            if path == "/whole":
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(ANSWER))
                count += 1
            else:
                await reader.readuntil(b"0\r\n\r\n")
                count += CHUNKS
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return count


async def vanish(port: int) -> int:
    """Chunks sent in all when the client leaves after the first of a slow stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    await reader.readuntil(b"token")
    writer.close()
    await asyncio.sleep(CHUNKS * 0.01 + 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /left HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    text = await reader.read()
    writer.close()
    return int(text.rpartition(b"\r\n\r\n")[2])


def measure(name: str, seconds: float) -> dict[str, float]:
    """One round of one server."""
    with running(name) as (port, pid, start_s):
        asyncio.run(load(port, "/whole", 0.3))
        before, began = cpu_s(pid), time.perf_counter()
        requests = asyncio.run(load(port, "/whole", seconds))
        took, used = time.perf_counter() - began, cpu_s(pid) - before
        before, began = cpu_s(pid), time.perf_counter()
        chunks = asyncio.run(load(port, "/stream", seconds))
        stream_took, stream_used = time.perf_counter() - began, cpu_s(pid) - before
        return {
            "requests_s": requests / took,
            "cpu_us_request": used / requests * 1e6,
            "chunks_s": chunks / stream_took,
            "cpu_us_chunk": stream_used / chunks * 1e6,
            "chunks_after_client_left": asyncio.run(vanish(port)) - 1,
            "start_s": start_s,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int)
    chosen = parser.parse_args()
    if chosen.serve:
        serve_ours(chosen.serve)
        return
    names = ["ours", "uvicorn"] + [name for name in ("granian", "hypercorn") if importlib.util.find_spec(name)]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(chosen.rounds):
        for name in names:
            rounds[name].append(measure(name, chosen.seconds))
    table = {
        name: {key: round(statistics.median(one[key] for one in found), 2) for key in found[0]}
        for name, found in rounds.items()
    }
    ours = table["ours"]["cpu_us_request"]
    ratios = {name: round(row["cpu_us_request"] / ours, 2) for name, row in table.items()}
    lab.save(HERE, {"connections": CONNECTIONS, "servers": table, "cpu_per_request_to_ours": ratios})


if __name__ == "__main__":
    main()
