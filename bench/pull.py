"""What a pull from a hub costs beside `curl -o`, and what a kill costs it: bytes fetched twice, as the server counts.

The server is `tests/store/hub_server.py` on loopback: the kernel sends files by itself (sendfile), ranges are honoured.
Rounds alternate, so that both see the same machine. `curl` checks nothing; the pull checks SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lab

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.store.hub_server import HubServer, Repo, Request  # noqa: E402

from catena.store.pull.ranged import CHUNK_BYTES  # noqa: E402

NAME = "bench/large-GGUF"
# A line of 2.5 Gbit/s, for a figure in which the machine has not to serve as fast as it can besides.
LINE_BYTES_S = 312.5e6
# A pull is killed within this time after it has begun.
KILL_S = 0.5
# Downloads and checks the files of one repository into a folder, as a pull does before it commits them.
FETCH = """
import sys, time
from pathlib import Path
from catena.core.settings import StoreSettings
from catena.store.pull import hub, repository
from catena.store.pull.ranged import Download
reference = hub.reference_of(sys.argv[1])
started = time.perf_counter()
with repository.opened(reference, StoreSettings()) as found:
    files = [file for _, file in found.pick.files]
    download = Download(found._web, files, Path(sys.argv[2]), "", lambda refused: refused)
    fetched = download.run(lambda _: None)
    print(time.perf_counter() - started, fetched[0].digest)
    download.close()
"""
PULL = """
import sys
from pathlib import Path
from catena.core.settings import StoreSettings
from catena.store import Store
from catena.watch.keys import Signer
home = Path(sys.argv[2])
store = Store.open(home, StoreSettings(), Signer.open(home))
print("ready", flush=True)
pulled = store.pull(sys.argv[1])
print(pulled.row.manifest.files[0].digest, flush=True)
"""


def write_model(path: Path, size: int) -> str:
    """A GGUF file of about `size` bytes: one tensor of random numbers. Returns its digest."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def entry(key: str, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    entries = [
        entry("general.architecture", 8, text("llama")),
        entry("llama.context_length", 4, struct.pack("<I", 128)),
        entry("llama.embedding_length", 4, struct.pack("<I", 64)),
    ]
    count = size // 4
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(entries)) + b"".join(entries)
    head += text("w") + struct.pack("<IQIQ", 1, count, 0, 0)
    total = hashlib.sha256()
    with path.open("wb") as file:
        for data in (head + bytes(-len(head) % 32), *(os.urandom(1 << 20) for _ in range(count * 4 >> 20))):
            file.write(data)
            total.update(data)
        rest = os.urandom(count * 4 & ((1 << 20) - 1))
        file.write(rest)
        total.update(rest)
    return f"sha256:{total.hexdigest()}"


def run(script: str, *arguments: str, url: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": "", "HF_HUB_OFFLINE": ""}
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def curl(url: str, target: Path) -> float:
    """Seconds that curl says it took."""
    command = ["curl", "-sS", "-o", str(target), "-w", "%{time_total}", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def speed(server: HubServer, path: str, digest: str, scratch: Path, rounds: int) -> dict[str, Any]:
    """Both ways of fetching the file, in turns; the order within a round changes."""
    size = server.repos[NAME].size(path)
    ours, theirs = list[float](), list[float]()

    def fetch() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            said, _ = run(FETCH, f"hf:{NAME}", folder, url=server.url).communicate(timeout=300)
            seconds, found = said.split()
            assert found == digest, found
            ours.append(float(seconds))

    def copy() -> None:
        target = scratch / "curl"
        theirs.append(curl(f"{server.content_url}/{NAME}/{path}", target))
        target.unlink()

    for number in range(rounds):
        for work in (fetch, copy) if number % 2 else (copy, fetch):
            os.sync()
            work()
    return {
        "rounds": rounds,
        "curl_mb_s": round(size / 1e6 / statistics.median(theirs)),
        "catena_checked_mb_s": round(size / 1e6 / statistics.median(ours)),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 3),
        "ratio_of_pairs": [round(other / our, 3) for other, our in zip(theirs, ours, strict=True)],
    }


def durable(server: HubServer, path: str, digest: str, scratch: Path, rounds: int) -> dict[str, Any]:
    """A whole pull, on disk and signed, beside `curl` and fsync; in turns."""
    ours, theirs = list[float](), list[float]()

    def pull() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            process = run(PULL, f"hf:{NAME}", folder, url=server.url)
            assert process.stdout is not None
            process.stdout.readline()
            started = time.perf_counter()
            said, _ = process.communicate(timeout=600)
            ours.append(time.perf_counter() - started)
            assert said.strip() == digest, said

    def copy() -> None:
        target = scratch / "curl"
        started = time.perf_counter()
        curl(f"{server.content_url}/{NAME}/{path}", target)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        theirs.append(time.perf_counter() - started)
        target.unlink()

    for number in range(rounds):
        for work in (pull, copy) if number % 2 else (copy, pull):
            os.sync()
            work()
    return {
        "rounds": rounds,
        "curl_and_fsync_s": lab.median(theirs),
        "catena_pull_s": lab.median(ours),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 3),
    }


def sent_again(requests: list[Request]) -> int:
    """Bytes of one file that were sent more than once."""
    union = end = 0
    for start, stop in sorted((request.start, request.start + request.sent) for request in requests):
        union += max(0, stop - max(start, end))
        end = max(end, stop)
    return sum(request.sent for request in requests) - union


def kills(server: HubServer, path: str, digest: str, scratch: Path, num_kills: int) -> dict[str, Any]:
    """Kill pulls at random moments, `num_kills` times while they were at work; count what the server sends again.

    What the next pull is sent that was sent before is the cost of the kill before it. A pull that ends is compared with
    the digest and begun anew in an empty store, until all kills are done; one that has all its bytes may end.
    """
    rng = random.Random(20261124)
    home = scratch / "home"
    home.mkdir()
    costs, num_whole, before, was_killed = list[int](), 0, 0, False
    server.seen.clear()
    while len(costs) < num_kills:
        process = run(PULL, f"hf:{NAME}", str(home), url=server.url)
        assert process.stdout is not None
        process.stdout.readline()
        is_whole = sum(each.sent for each in server.of(path)) >= server.repos[NAME].size(path)
        is_spared = is_whole or len(costs) + was_killed == num_kills
        if not is_spared:
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.random() * KILL_S)
        is_killed = not is_spared and process.poll() is None
        if is_killed:
            process.send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=600)
        time.sleep(0.05)  # until the server has seen its connections break
        requests = server.of(path)
        if was_killed:
            costs.append(sent_again(requests) - before)
        before, was_killed = sent_again(requests), is_killed
        if said.strip():
            assert said.strip() == digest, said
            num_whole, before = num_whole + 1, 0
            server.seen.clear()
            shutil.rmtree(home)
            home.mkdir()
    return {
        "kills": len(costs),
        "kills_that_cost_bytes": sum(cost > 0 for cost in costs),
        "whole_pulls_all_digests_right": num_whole,
        "chunk_mb": round(CHUNK_BYTES / 1e6, 1),
        "sent_again_for_a_kill_mb": {
            "median": round(statistics.median(costs) / 1e6, 2),
            "worst": round(max(costs) / 1e6, 2),
        },
        "at_most_one_chunk_for_each_kill": max(costs) <= CHUNK_BYTES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000_000, help="bytes of the file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=None, help="where to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catena-bench-", dir=options.folder) as name:
        scratch = Path(name)
        path = scratch / "served.gguf"
        digest = write_model(path, options.size)
        repo = Repo({path.name: path}, stated={path.name: digest.removeprefix("sha256:")})
        with HubServer(**{NAME: repo}) as server:
            at = (server, path.name, digest, scratch)
            results: dict[str, Any] = {"size_mb": round(path.stat().st_size / 1e6, 1)}
            results["as_fast_as_the_machine_can"] = speed(*at, options.rounds)
            results["until_durable"] = durable(*at, max(1, options.rounds // 2))
            server.line_bytes_s = LINE_BYTES_S
            results["over_a_line"] = {"line_mb_s": LINE_BYTES_S / 1e6, **speed(*at, max(1, options.rounds // 2))}
            server.line_bytes_s = 0.0
            results["kills"] = kills(*at, options.kills)
        lab.save("pull", results)


if __name__ == "__main__":
    main()
