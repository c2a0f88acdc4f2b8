"""Predictions per second and their 99th percentile over V2, REST and gRPC, beside the MLServer and KServe servers.

All serve one small ONNX network on one thread of onnxruntime and are asked in turn, round by round, by one lean client
with the same JSON, or the same message with raw contents; ratios are taken round by round. The peers are installed by
pip into environments of their own under the temporary folder; one that cannot be installed is left out, and why is
printed. Catena also records every request: two group commits before its answer. Its binary data and onnxruntime alone
are measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import calls
import lab

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import graphs

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(tempfile.gettempdir()) / "catena-bench-peers"
PACKAGES = {"mlserver": ("mlserver", "onnxruntime"), "kserve": ("kserve", "onnxruntime")}
FEATURES, CLIENTS = 16, (1, 16, 64)
START_TIME_S, INSTALL_TIME_S = 120, 900


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def environment(peer: str) -> Path | None:
    """The Python of the peer's own environment, made if it is not there; None, with the reason printed, if it fails."""
    folder = ENVIRONMENTS / peer
    python = folder / "bin" / "python"
    if (folder / ".ready").exists():
        return python
    print(f"installing {peer} into {folder}", file=sys.stderr)
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        command = [python, "-m", "pip", "install", "--quiet", *PACKAGES[peer]]
        subprocess.run(command, check=True, timeout=INSTALL_TIME_S, capture_output=True, text=True)
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        print(f"{peer} is left out: {said[-1] if said else error}", file=sys.stderr)
        return None
    (folder / ".ready").touch()
    return python


class Server(NamedTuple):
    """Where a server is asked: by REST, and by gRPC."""

    url: str
    calls: str


@contextmanager
def started(command: list[Any], port: int, calls_port: int, **variables: str) -> Iterator[Server]:
    """A server, until the block ends; its addresses once it says that it is ready."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + START_TIME_S
        while True:
            try:
                urllib.request.urlopen(f"{url}/v2/models/net/ready", timeout=1).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command[1]} did not start") from error
                time.sleep(0.1)
        yield Server(url, f"127.0.0.1:{calls_port}")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def mlserver(model: Path, folder: Path, python: Path) -> Any:
    port, calls_port = free_port(), free_port()
    ports = {"http_port": port, "grpc_port": calls_port, "metrics_port": free_port()}
    place = folder / "mlserver"
    place.mkdir()
    (place / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    settings = {"name": "net", "implementation": "mlserver_model.OnnxModel", "parameters": {"uri": str(model)}}
    (place / "model-settings.json").write_text(json.dumps(settings))
    command = [python, "-c", "from mlserver.cli import main; main()", "start", str(place)]
    return started(command, port, calls_port, PYTHONPATH=str(PEERS))


def kserve(model: Path, folder: Path, python: Path) -> Any:
    ports = free_port(), free_port()
    return started([python, str(PEERS / "kserve_server.py"), str(model), *map(str, ports)], *ports)


def question(values: list[float], *, is_binary: bool) -> tuple[bytes, str]:
    """The body of a request for one row, and the header for binary data if it has any."""
    one: dict[str, Any] = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32"}
    if not is_binary:
        return json.dumps({"inputs": [{**one, "data": values}]}).encode(), ""
    one["parameters"] = {"binary_data_size": 4 * FEATURES}
    text = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    return text + struct.pack(f"<{FEATURES}f", *values), f"Inference-Header-Content-Length: {len(text)}\r\n"


async def caller(url: str, seed: int, *, is_binary: bool, until_s: float, took_s: list[float]) -> None:
    """One client on one connection, asking again as soon as it has its answer."""
    address = url.removeprefix("http://")
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    rng = random.Random(seed)
    body, extra = question([rng.gauss(0, 1) for _ in range(FEATURES)], is_binary=is_binary)
    media_type = "application/octet-stream" if is_binary else "application/json"
    head = (
        f"POST /v2/models/net/infer HTTP/1.1\r\nHost: {address}\r\nContent-Type: {media_type}\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    while time.perf_counter() < until_s:
        began_s = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer[:16]:
            raise SystemExit(f"{url} answered {answer[:60]!r}")
        lines = answer.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        took_s.append(time.perf_counter() - began_s)
    writer.close()


async def remote_caller(address: str, seed: int, *, until_s: float, took_s: list[float]) -> None:
    """The same over gRPC."""
    client = await calls.Client.open(address)
    rng = random.Random(seed)
    message = calls.question("net", [rng.gauss(0, 1) for _ in range(FEATURES)])
    while time.perf_counter() < until_s:
        began_s = time.perf_counter()
        await client.ask(message)
        took_s.append(time.perf_counter() - began_s)
    client.close()


def measure(server: Server, form: str, num_clients: int, seconds: float) -> dict[str, float]:
    """Requests per second, median and 99th percentile in milliseconds. `form` is json, binary, or grpc."""
    took_s: list[float] = []

    def job(seed: int, until_s: float) -> Coroutine[Any, Any, None]:
        if form == "grpc":
            return remote_caller(server.calls, seed, until_s=until_s, took_s=took_s)
        return caller(server.url, seed, is_binary=form == "binary", until_s=until_s, took_s=took_s)

    async def run() -> None:
        until_s = time.perf_counter() + seconds
        await asyncio.gather(*[job(seed, until_s) for seed in range(num_clients)])

    began_s = time.perf_counter()
    asyncio.run(run())
    spent_s = time.perf_counter() - began_s
    took_s.sort()
    return {
        "per_s": len(took_s) / spent_s,
        "p50_ms": took_s[len(took_s) // 2] * 1e3,
        "p99_ms": took_s[int(0.99 * len(took_s))] * 1e3,
    }


def alone(model: Path, seconds: float) -> float:
    """Runs per second of onnxruntime by itself, one row at a time on one thread."""
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(model), options)
    row = numpy.ones((1, FEATURES), numpy.float32)
    count, began_s = 0, time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        session.run(None, {"x": row})
        count += 1
    return count / (time.perf_counter() - began_s)


def difference(model: Path) -> float:
    """The largest difference between a row computed alone and in a run of 64."""
    import numpy
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(model))
    rows = numpy.random.default_rng(0).standard_normal((64, FEATURES)).astype(numpy.float32)
    together = session.run(["p"], {"x": rows})[0]
    single = numpy.concatenate([session.run(["p"], {"x": rows[index : index + 1]})[0] for index in range(64)])
    return float(numpy.abs(together - single).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="catena-bench-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        model = graphs.write(folder, "net", graphs.mlp(FEATURES, 64, 8))
        home = folder / "home"
        pull = [*lab.CATENA, "pull", str(model)]
        subprocess.run(pull, env={**os.environ, "CATENA_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL)
        environ = {"CATENA__RUN__THREADS": "1"}
        ours = stack.enter_context(lab.gateway("--grpc-port", "0", home=home, environ=environ))
        servers = {"catena": Server(ours.url, ours.calls)}
        for peer, serve in (("mlserver", mlserver), ("kserve", kserve)):
            if (python := environment(peer)) is not None:
                servers[peer] = stack.enter_context(serve(model, folder, python))
        for server in servers.values():
            for form in ("json", "grpc"):
                measure(server, form, 4, 1.0)
        for _ in range(options.rounds):
            found: dict[str, Any] = {"onnxruntime_per_s": alone(model, options.seconds)}
            for num_clients in CLIENTS:
                for name, server in servers.items():
                    found[f"{name}_{num_clients}"] = measure(server, "json", num_clients, options.seconds)
                found[f"catena_binary_{num_clients}"] = measure(
                    servers["catena"], "binary", num_clients, options.seconds
                )
                for name, server in servers.items():
                    found[f"{name}_grpc_{num_clients}"] = measure(server, "grpc", num_clients, options.seconds)
            rounds.append(found)
        difference_max = difference(model)
    save(rounds, [name for name in servers if name != "catena"], options.seconds, difference_max)


def row(rounds: list[dict[str, Any]], peers: list[str], form: str, count: int) -> dict[str, Any]:
    """What is told of one form and number of clients. Ratios are medians of those of the rounds."""
    ours = f"catena{form}_{count}"
    names = {"catena": ours} | {peer: f"{peer}{form}_{count}" for peer in peers}
    if not form:
        names["catena_binary"] = f"catena_binary_{count}"
    found: dict[str, Any] = {
        name: {key: lab.median([one[place][key] for one in rounds]) for key in ("per_s", "p50_ms", "p99_ms")}
        for name, place in names.items()
    }
    if peers:
        theirs = [names[peer] for peer in peers]
        found["times_the_better_peer"] = lab.median(
            [one[ours]["per_s"] / max(one[name]["per_s"] for name in theirs) for one in rounds]
        )
        found["p99_of_the_better_peer"] = lab.median(
            [one[ours]["p99_ms"] / min(one[name]["p99_ms"] for name in theirs) for one in rounds]
        )
    found["of_onnxruntime_alone"] = lab.median([one[ours]["per_s"] / one["onnxruntime_per_s"] for one in rounds])
    return found


def save(rounds: list[dict[str, Any]], peers: list[str], seconds: float, difference_max: float) -> None:
    result: dict[str, Any] = {
        "model": f"mlp {FEATURES}-64-8",
        "rounds": len(rounds),
        "seconds": seconds,
        "peers": peers,
        "largest_difference_alone_to_64_rows": difference_max,
        "onnxruntime_per_s": lab.median([one["onnxruntime_per_s"] for one in rounds]),
    }
    for count in CLIENTS:
        for form in ("", "_grpc"):
            result[f"clients_{count}{form}"] = row(rounds, peers, form, count)
    lab.save("predict", result)


if __name__ == "__main__":
    main()
