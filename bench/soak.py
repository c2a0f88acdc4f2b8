"""Ten thousand requests at 64 connections with the echo engine, clients vanishing at random: nothing leaks or is lost.

Shows: no error but the injected ones; resident memory of the last quarter within 2 % of the second; exactly one closed
record for each request; the audit log verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lab


class Soak:
    """The counters of one run."""

    def __init__(self, url: str, num_requests: int, seed: int) -> None:
        self.parts = urlsplit(url)
        self.left = num_requests
        self.random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.receipts: list[tuple[str, str]] = []
        self.errors: list[str] = []

    async def worker(self) -> None:
        """Ask until nothing is left; a connection is kept while its answers are read to the end."""
        connection = None
        while self.left > 0:
            self.left -= 1
            if connection is None:
                connection = await asyncio.open_connection(self.parts.hostname, self.parts.port)
            stays = await self.ask(*connection)
            if not stays:
                connection[1].close()
                connection = None
        if connection:
            connection[1].close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection can be used again."""
        is_stream = self.random.random() < 0.5
        vanish_after = self.random.randrange(1, 40) if is_stream and self.random.random() < 0.1 else None
        words = " ".join(str(self.random.randrange(1000)) for _ in range(self.random.randrange(5, 60)))
        body = {"model": "echo", "messages": [{"role": "user", "content": words}], "stream": is_stream}
        content = json.dumps(body).encode()
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.parts.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        headers = {k.lower(): v for k, v in (row.split(": ", 1) for row in head.split("\r\n")[1:] if row)}
        receipt = headers.get("catena-receipt", "")
        if status != 200:
            self.outcomes["error"] += 1
            self.errors.append(f"{status}: {(await reader.readexactly(int(headers['content-length'])))[:200]!r}")
            return True
        if not is_stream:
            answer = json.loads(await reader.readexactly(int(headers["content-length"])))
            is_right = answer["choices"][0]["message"]["content"].strip() == words
            self.count("answered" if is_right else "wrong", receipt)
            return True
        return await self.read_stream(reader, receipt, words, vanish_after)

    async def read_stream(
        self, reader: asyncio.StreamReader, receipt: str, words: str, vanish_after: int | None
    ) -> bool:
        text, num_events, is_done = "", 0, False
        while size := int(await reader.readline(), 16):
            chunk = (await reader.readexactly(size + 2))[:-2]
            for line in chunk.split(b"\n"):
                if line == b"data: [DONE]":
                    is_done = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    text += "".join(c["delta"].get("content") or "" for c in event.get("choices", ()))
                    num_events += 1
            if vanish_after and num_events >= vanish_after:
                self.count("vanished", receipt)
                return False
        await reader.readline()
        self.count("answered" if is_done and text.strip() == words else "wrong", receipt)
        return True

    def count(self, outcome: str, receipt: str) -> None:
        self.outcomes[outcome] += 1
        self.receipts.append((receipt, outcome))


async def run(url: str, pid: int, num_requests: int, connections: int, seed: int) -> tuple[Soak, list[int], float]:
    """All workers, with the server's resident memory sampled evenly over the requests."""
    soak = Soak(url, num_requests, seed)
    samples: list[int] = []
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(soak.worker())
        while soak.left > 0:
            samples.append(lab.resident_bytes(pid))
            await asyncio.sleep(0.05)
    return soak, samples, time.perf_counter() - start


def judge(home: Path, soak: Soak) -> dict[str, Any]:
    """What the audit log says of the same requests, after the gateway has ended."""
    verdict = json.loads(
        subprocess.run(
            [*lab.CATENA, "audit", "verify", "--json"],
            capture_output=True,
            env={**os.environ, "CATENA_HOME": str(home)},
            check=False,
        ).stdout
    )
    from catena.watch.log import AuditReader

    reader = AuditReader.open(home / "audit")
    mismatches = 0
    for receipt, outcome in soak.receipts:
        closed = reader.find(receipt)[2]
        allowed = {"answered": {"complete"}, "vanished": {"complete", "cancelled"}}.get(outcome, set())
        mismatches += closed is None or closed.outcome not in allowed
    return {
        "verify_ok": verdict["ok"],
        "entries": verdict["records"],
        "open": verdict["open"],
        "receipts": len(soak.receipts),
        "distinct_receipts": len({receipt for receipt, _ in soak.receipts}),
        "records_that_disagree_with_the_client": mismatches,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    with lab.gateway("--echo") as running:
        soak, samples, seconds = asyncio.run(
            run(running.url, running.process.pid, options.requests, options.connections, options.seed)
        )
        running.process.terminate()
        running.process.wait(60)
        audit = judge(running.home, soak)
    quarter = len(samples) // 4
    second, last = statistics.mean(samples[quarter : 2 * quarter]), statistics.mean(samples[3 * quarter :])
    result = {
        "requests": options.requests,
        "connections": options.connections,
        "seconds": round(seconds, 1),
        "requests_per_s": round(options.requests / seconds),
        "outcomes": dict(soak.outcomes),
        "first_errors": soak.errors[:3],
        "resident_mb": {"second_quarter": round(second / 1e6, 1), "last_quarter": round(last / 1e6, 1)},
        "memory_growth": round(last / second - 1, 4),
        "audit": audit,
    }
    is_good = (
        set(soak.outcomes) <= {"answered", "vanished"}
        and abs(result["memory_growth"]) <= 0.02
        and audit["verify_ok"]
        and audit["open"] == 0
        and audit["entries"] == 2 * options.requests
        and audit["distinct_receipts"] == options.requests
        and audit["records_that_disagree_with_the_client"] == 0
    )
    lab.save("soak", {"holds": is_good, **result})
    raise SystemExit(0 if is_good else 1)


if __name__ == "__main__":
    main()
