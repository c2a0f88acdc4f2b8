"""What the benches share: the machine in words, results on disk, a running gateway, and a lean streaming client."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

RESULTS = Path(__file__).parent / "results"
CATENA = [sys.executable, "-m", "catena"]


def machine() -> dict[str, Any]:
    """CPU model, cores, memory, load, system and Python: what a figure needs to be read rightly."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def save(name: str, result: dict[str, Any]) -> None:
    """Write `bench/results/NAME.json` with the machine and the date, and print it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **result}, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


class Gateway(NamedTuple):
    """A running `catena up` of a bench; `calls` is where it takes gRPC, if it does."""

    url: str
    process: subprocess.Popen[str]
    home: Path
    ready_s: float
    calls: str = ""


@contextmanager
def gateway(*flags: str, home: Path | None = None, environ: dict[str, str] | None = None) -> Iterator[Gateway]:
    """Start `catena up` on a free loopback port, in a state folder of its own unless `home` is given."""
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch:
        folder = home or Path(scratch)
        variables = {**os.environ, "CATENA_HOME": str(folder), **(environ or {})}
        start = time.perf_counter()
        process = subprocess.Popen(
            [*CATENA, "up", "--port", "0", *flags], env=variables, stdout=subprocess.PIPE, text=True
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("ready "):
                raise SystemExit(f"the gateway did not start: {line!r}")
            ready_s, calls = time.perf_counter() - start, line.partition(" grpc ")[2].strip()
            yield Gateway(line.split()[1], process, folder, ready_s, calls)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def pull_chat_model(home: Path) -> None:
    """See to it that the embedded chat model is in `home`."""
    subprocess.run(
        [*CATENA, "pull", "smollm2-135m-instruct"],
        env={**os.environ, "CATENA_HOME": str(home)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


class Streamed(NamedTuple):
    """One streamed answer as the client saw it, in seconds since its request was sent."""

    first_s: float
    last_s: float
    num_tokens: int
    num_prompt_tokens: int
    cached_tokens: int
    status: int


async def stream_chat(url: str, body: dict[str, Any], key: str | None = None) -> Streamed:
    """POST a streamed chat completion and time its first and last piece of text."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    content = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"{authorization}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    start = time.perf_counter()
    writer.write(head.encode() + content)
    first = last = 0.0
    usage: dict[str, Any] = {}
    status = int((await reader.readline()).split()[1])
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            now = time.perf_counter() - start
            if b'"usage":{' in line.replace(b" ", b"")[-700:]:
                usage = json.loads(line[6:]).get("usage") or usage
            elif b'"content":"' in line.replace(b" ", b""):
                first, last = first or now, now
    writer.close()
    details = usage.get("prompt_tokens_details") or {}
    return Streamed(
        first,
        last,
        usage.get("completion_tokens", 0),
        usage.get("prompt_tokens", 0),
        details.get("cached_tokens", 0),
        status,
    )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and of those it started, in bytes; pages that they share count for each."""
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
