"""SIGKILL at random moments under load, during a pull and during a commit: what was promised must still be there.

After every kill: the audit log verifies, every receipt that a client saw has its record, every answer that a client saw
complete has a closed record that says so, the store verifies, and the next start works.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lab

from catena.core.errors import CatenaError
from catena.watch.keys import Signer
from catena.watch.log import AuditReader

MEMORY = Path("/dev/shm")


class Client(threading.Thread):
    """Asks without pause until the server dies; keeps every receipt seen and whether its answer ended cleanly."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.parts = urlsplit(url)
        self.random = random.Random(seed)
        self.seen: list[tuple[str, bool]] = []

    def run(self) -> None:
        try:
            while True:
                self.ask()
        except (OSError, http.client.HTTPException, ValueError):
            return

    def ask(self) -> None:
        is_stream = self.random.random() < 0.5
        text = " ".join(str(self.random.randrange(1000)) for _ in range(20))
        body = {"model": "echo", "messages": [{"role": "user", "content": text}], "stream": is_stream}
        connection = http.client.HTTPConnection(self.parts.hostname or "", self.parts.port, timeout=10)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            receipt = answer.headers["catena-receipt"]
            self.seen.append((receipt, False))
            content = answer.read()
            is_whole = content.rstrip().endswith(b"data: [DONE]") if is_stream else "choices" in json.loads(content)
            self.seen[-1] = (receipt, is_whole)
        finally:
            connection.close()


def kill_under_load(home: Path, chance: random.Random) -> dict[str, Any]:
    """One round: start, load with eight clients, kill, compare the log with what the clients saw."""
    with lab.gateway("--echo", home=home) as running:
        clients = [Client(running.url, chance.randrange(1 << 30)) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(chance.uniform(0.0, 0.5))
        running.process.kill()
        running.process.wait()
        for client in clients:
            client.join(20)
    reader = AuditReader.open(home / "audit")
    problems: list[str] = []
    seen = [pair for client in clients for pair in client.seen]
    for receipt, is_whole in seen:
        try:
            closed = reader.find(receipt)[2]
        except CatenaError as error:
            problems.append(f"{receipt}: {error.message}")
            continue
        if is_whole and (closed is None or closed.outcome != "complete"):
            problems.append(f"{receipt}: the client has the whole answer, the log says {closed and closed.outcome}")
    verdict = reader.verify(Signer.open(home).verifier_key)
    if not verdict.ok:
        problems.append(f"audit: {verdict}")
    return {"seen": len(seen), "whole": sum(is_whole for _, is_whole in seen), "problems": problems}


def kill_pull(home: Path, source: Path, chance: random.Random, longest_s: float) -> dict[str, Any]:
    """One round: start a pull, kill it, then every model that is listed must verify, and the pull must finish."""
    name = f"killed-{chance.randrange(1 << 30)}"
    environ = {**os.environ, "CATENA_HOME": str(home)}
    command = [*lab.CATENA, "pull", str(source), "--name", name]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(0.1, longest_s))
    process.kill()
    was_running = process.wait() == -9
    problems: list[str] = []
    for step in (["verify", "--all", "--json"], command[len(lab.CATENA) :], ["verify", name], ["rm", name], ["gc"]):
        done = subprocess.run([*lab.CATENA, *step], env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            problems.append(f"{step[0]}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return {"killed": was_running, "problems": problems}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="kills under load")
    parser.add_argument("--pulls", type=int, default=20, help="kills during a pull")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    count: Counter[str] = Counter()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="catena-kill-") as scratch:
        home = Path(scratch) / "home"
        home.mkdir(mode=0o700)
        for index in range(options.rounds):
            result = kill_under_load(home, chance)
            count.update(rounds=1, receipts_seen=result["seen"], whole_answers=result["whole"])
            problems += result["problems"]
            if index % 20 == 19:
                print(f"{index + 1} rounds, {len(problems)} problems", file=sys.stderr)
        # From another file system the file is copied, which takes longer than a link and can be killed half-way.
        with tempfile.TemporaryDirectory(prefix="catena-kill-", dir=MEMORY if MEMORY.is_dir() else None) as elsewhere:
            source = Path(elsewhere) / "weights.gguf"
            write_weights(source)
            for _ in range(options.pulls):
                result = kill_pull(home, source, chance, 0.6)
                count.update(pulls=1, pulls_killed_in_flight=result["killed"])
                problems += result["problems"]
    report = {"holds": not problems, **count, "problems": problems[:10]}
    if options.no_save:
        print(json.dumps(report))
    else:
        lab.save("kill", report)
    raise SystemExit(1 if problems else 0)


def write_weights(path: Path) -> None:
    """A valid GGUF of 64 MB with one tensor, so that a pull takes long enough to be killed in every phase.

    Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    num_values = 16 << 20

    def text(value: str) -> bytes:
        return len(value).to_bytes(8, "little") + value.encode()

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    pairs = text("general.architecture") + number(8, 4) + text("llama")
    pairs += text("llama.context_length") + number(4, 4) + number(128, 4)
    tensor = text("token_embd.weight") + number(1, 4) + number(num_values, 8) + number(0, 4) + number(0, 8)
    head = b"GGUF" + number(3, 4) + number(1, 8) + number(2, 8) + pairs + tensor
    with path.open("wb") as file:
        file.write(head.ljust(-(-len(head) // 32) * 32, b"\0"))
        for _ in range(64):
            file.write(os.urandom(num_values * 4 // 64))


if __name__ == "__main__":
    main()
