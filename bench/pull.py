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
from pathlib import Path
from typing import Any

import lab

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.store.hub_server import HubServer, Repo  # noqa: E402

NAME = "bench/large-GGUF"
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
    download = Download(found._web, [file for _, file in found.pick.files], Path(sys.argv[2]), "", lambda refused: refused)
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
    ours, theirs, durable, synced = list[float](), list[float](), list[float](), list[float]()

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

    def pull() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            process = run(PULL, f"hf:{NAME}", folder, url=server.url)
            assert process.stdout is not None
            process.stdout.readline()
            started = time.perf_counter()
            said, _ = process.communicate(timeout=600)
            durable.append(time.perf_counter() - started)
            assert said.strip() == digest, said

    def copy_durably() -> None:
        target = scratch / "curl"
        started = time.perf_counter()
        curl(f"{server.content_url}/{NAME}/{path}", target)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        synced.append(time.perf_counter() - started)
        target.unlink()

    for number in range(rounds):
        for work in ((fetch, copy) if number % 2 else (copy, fetch)):
            os.sync()
            work()
    for number in range(max(1, rounds // 2)):
        for work in ((pull, copy_durably) if number % 2 else (copy_durably, pull)):
            os.sync()
            work()
    return {
        "size_mb": round(size / 1e6, 1),
        "rounds": rounds,
        "curl_mb_s": round(size / 1e6 / statistics.median(theirs)),
        "catena_checked_mb_s": round(size / 1e6 / statistics.median(ours)),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 3),
        "ratio_of_pairs": [round(other / our, 3) for other, our in zip(theirs, ours, strict=True)],
        "curl_then_fsync_s": lab.median(synced),
        "catena_pull_durable_s": lab.median(durable),
    }


def kills(server: HubServer, path: str, digest: str, scratch: Path, num_kills: int, rate_mb_s: float) -> dict[str, Any]:
    """Kill a pull at random moments until it was killed `num_kills` times, then let it end; count what came twice."""
    from catena.store.pull.ranged import CHUNK_BYTES
    from tests.store.hub_server import Fault

    rng = random.Random(20261124)
    size = server.repos[NAME].size(path)
    server.fault = lambda request: Fault(rate_bytes_s=rate_mb_s * 1e6 / 4) if request.path else None
    server.seen.clear()
    home = scratch / "home"
    home.mkdir()
    killed, twice, worst, passes, in_time = 0, 0, 0, 0, 0
    while killed < num_kills:
        # A pull that would have ended is begun again in a new home.
        process = run(PULL, f"hf:{NAME}", str(home), url=server.url)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * size / (rate_mb_s * 1e6) / 8)
        in_time += process.poll() is None
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        killed += 1
        if said.strip():
            assert said.strip() == digest, said
            passes += 1
            worst = max(worst, server.sent_twice(path))
            twice += server.sent_twice(path)
            server.seen.clear()
            shutil.rmtree(home)
            home.mkdir()
    said, _ = run(PULL, f"hf:{NAME}", str(home), url=server.url).communicate(timeout=600)
    assert said.split()[-1] == digest, said
    time.sleep(0.2)
    twice += server.sent_twice(path)
    return {
        "size_mb": round(size / 1e6, 1),
        "rate_mb_s": rate_mb_s,
        "kills": killed,
        "kills_before_the_end": in_time,
        "whole_pulls": passes + 1,
        "digest_right": True,
        "chunk_mb": round(CHUNK_BYTES / 1e6, 1),
        "fetched_twice_mb": round(twice / 1e6, 1),
        "fetched_twice_per_kill_mb": round(twice / 1e6 / max(1, in_time), 2),
        "bound_per_kill_holds": twice <= in_time * CHUNK_BYTES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000_000, help="bytes of the file whose download is timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kill-size", type=int, default=256_000_000, help="bytes of the file that pulls are killed at")
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: the system's for such files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catena-bench-", dir=options.folder) as name:
        scratch = Path(name)
        results: dict[str, Any] = {}
        for what, size in (("speed", options.size), ("kills", options.kill_size)):
            path = scratch / "served.gguf"
            digest = write_model(path, size)
            repo = Repo({"served.gguf": path}, stated={"served.gguf": digest.removeprefix("sha256:")})
            with HubServer(**{NAME: repo}) as server:
                if what == "speed":
                    results[what] = speed(server, "served.gguf", digest, scratch, options.rounds)
                else:
                    results[what] = kills(server, "served.gguf", digest, scratch, options.kills, 200.0)
        lab.save("pull", results)


if __name__ == "__main__":
    main()
