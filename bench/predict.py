"""Predictions per second and their 99th percentile over V2 REST, beside the MLServer and KServe Python servers.

All serve one small ONNX network on one thread of onnxruntime and are asked in turn, round by round, by one lean client
with the same JSON; ratios are taken round by round. The peers are installed by pip into environments of their own under
the temporary folder; one that cannot be installed is left out, and why is printed. Catena also records every request:
two group commits before its answer. Its binary data and onnxruntime alone are measured beside it.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def started(command: list[Any], url: str, **variables: str) -> Iterator[str]:
    """A server, until the block ends; its address once it says that it is ready."""
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
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def mlserver(model: Path, folder: Path, python: Path) -> Any:
    port = free_port()
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    place = folder / "mlserver"
    place.mkdir()
    (place / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    settings = {"name": "net", "implementation": "mlserver_model.OnnxModel", "parameters": {"uri": str(model)}}
    (place / "model-settings.json").write_text(json.dumps(settings))
    command = [python, "-c", "from mlserver.cli import main; main()", "start", str(place)]
    return started(command, f"http://127.0.0.1:{port}", PYTHONPATH=str(PEERS))


def kserve(model: Path, folder: Path, python: Path) -> Any:
    port = free_port()
    return started([python, str(PEERS / "kserve_server.py"), str(model), str(port)], f"http://127.0.0.1:{port}")


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


def measure(url: str, num_clients: int, seconds: float, *, is_binary: bool = False) -> dict[str, float]:
    """Requests per second, median and 99th percentile in milliseconds."""
    took_s: list[float] = []

    async def run() -> None:
        until_s = time.perf_counter() + seconds
        jobs = [caller(url, seed, is_binary=is_binary, until_s=until_s, took_s=took_s) for seed in range(num_clients)]
        await asyncio.gather(*jobs)

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
        urls = {"catena": stack.enter_context(lab.gateway(home=home, environ=environ)).url}
        for peer, serve in (("mlserver", mlserver), ("kserve", kserve)):
            if (python := environment(peer)) is not None:
                urls[peer] = stack.enter_context(serve(model, folder, python))
        for url in urls.values():
            measure(url, 4, 1.0)
        for _ in range(options.rounds):
            found: dict[str, Any] = {"onnxruntime_per_s": alone(model, options.seconds)}
            for num_clients in CLIENTS:
                for name, url in urls.items():
                    found[f"{name}_{num_clients}"] = measure(url, num_clients, options.seconds)
                found[f"catena_binary_{num_clients}"] = measure(
                    urls["catena"], num_clients, options.seconds, is_binary=True
                )
            rounds.append(found)
        difference_max = difference(model)
    save(rounds, [name for name in urls if name != "catena"], options.seconds, difference_max)


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
        names = ["catena", "catena_binary", *peers]
        row = {
            name: {
                key: lab.median([one[f"{name}_{count}"][key] for one in rounds])
                for key in ("per_s", "p50_ms", "p99_ms")
            }
            for name in names
        }
        if peers:
            row["times_the_better_peer"] = lab.median(
                [
                    one[f"catena_{count}"]["per_s"] / max(one[f"{peer}_{count}"]["per_s"] for peer in peers)
                    for one in rounds
                ]
            )
            row["p99_of_the_better_peer"] = lab.median(
                [
                    one[f"catena_{count}"]["p99_ms"] / min(one[f"{peer}_{count}"]["p99_ms"] for peer in peers)
                    for one in rounds
                ]
            )
        row["of_onnxruntime_alone"] = lab.median(
            [one[f"catena_{count}"]["per_s"] / one["onnxruntime_per_s"] for one in rounds]
        )
        result[f"clients_{count}"] = row
    lab.save("predict", result)


if __name__ == "__main__":
    main()
