"""Tokens per second and time to first token through the gateway, against the same library's own HTTP server.

Both servers hold the same weights with the same settings and are asked in turn, round by round, in one run; the ratio
is taken pair by pair. The embedded chat model is pulled into CATENA_HOME if it is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lab

KEY = "bench-key"
SLOTS = 8
CONTEXT = 8192
WORDS = "river stone light paper engine harbour signal winter copper garden window letter forest bridge market".split()  # noqa: SIM905


def serve_peer(weights: str, threads: int) -> None:
    """Be the peer: the library's own HTTP server on a loopback port; print its address, then wait to be ended."""
    import xllamacpp as xlc

    parameters = xlc.CommonParams()
    parameters.model.path = weights
    parameters.model_alias = {"smollm2-135m-instruct"}
    parameters.n_ctx, parameters.n_parallel, parameters.kv_unified = CONTEXT, SLOTS, True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames, parameters.api_keys, parameters.ui = ["127.0.0.1"], [KEY], False
    parameters.cache_ram_mib, parameters.verbosity = 256, 0
    server = xlc.Server(parameters)
    print(server.listening_address, flush=True)
    threading.Event().wait()


@contextmanager
def peer(weights: str, threads: int) -> Iterator[str]:
    """The peer in a process of its own."""
    command = [sys.executable, __file__, "--peer", weights, "--threads", str(threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(line.strip() for line in process.stdout if line.startswith("http"))
    finally:
        process.terminate()
        process.wait(30)


def body(prompt_words: int, max_tokens: int, seed: int) -> dict[str, Any]:
    """A chat whose prompt nobody has seen before; the end token is forbidden so that every answer has full length."""
    text = " ".join(random.Random(seed).choices(WORDS, k=prompt_words))
    return {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": f"{seed}: tell a story with these words: {text}"}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "logit_bias": {"0": -100, "2": -100},
    }


async def round_of(url: str, key: str | None, streams: int, seed: int) -> dict[str, float]:
    """`streams` at once: decode and prefill rates in tokens/s over all streams, time to first token in s."""
    start = time.perf_counter()
    asked = [lab.stream_chat(url, body(330, 64, seed + index), key) for index in range(streams)]
    answers = await asyncio.gather(*asked)
    wall = time.perf_counter() - start
    assert all(answer.status == 200 and answer.num_tokens == 64 for answer in answers), answers
    first, last = min(a.first_s for a in answers), max(a.last_s for a in answers)
    return {
        "tokens_per_s": sum(a.num_tokens for a in answers) / wall,
        "decode_per_s": sum(a.num_tokens - 1 for a in answers) / (last - first),
        "prefill_per_s": sum(a.num_prompt_tokens for a in answers) / max(a.first_s for a in answers),
        "first_token_s": lab.median([a.first_s for a in answers]),
    }


async def first_tokens(ours: str, theirs: str, rounds: int) -> dict[str, Any]:
    """Time to first token with the prompt in the cache, in turn: the difference is what the gateway adds."""
    sides: dict[str, list[float]] = {"ours": [], "theirs": []}
    prompt = body(20, 2, 7)
    for index in range(rounds + 4):
        order = [("ours", ours, None), ("theirs", theirs, KEY)]
        for side, url, key in order if index % 2 else reversed(order):
            answer = await lab.stream_chat(url, prompt, key)
            if index >= 4:
                sides[side].append(answer.first_s * 1000)
    added = [a - b for a, b in zip(sides["ours"], sides["theirs"], strict=True)]
    return {
        "ours_ms": lab.median(sides["ours"]),
        "theirs_ms": lab.median(sides["theirs"]),
        "added_ms_median_of_pairs": lab.median(added),
        "pairs": len(added),
    }


def read_bandwidth_gb_s(threads: int) -> float:
    """Bytes per second that `threads` threads read from memory together, best of five, in GB/s."""
    import numpy as np

    blocks = [np.ones(1 << 25, np.float64) for _ in range(threads)]  # 256 MiB each, far beyond the caches
    best = 0.0
    for _ in range(5):
        workers = [threading.Thread(target=block.max) for block in blocks]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, sum(block.nbytes for block in blocks) / (time.perf_counter() - start) / 1e9)
    return best


async def compare(ours: str, theirs: str, rounds: int) -> dict[str, Any]:
    """Every stream count, both sides in turn, pair by pair."""
    result: dict[str, Any] = {}
    seed = 1000
    for streams in (1, 4, 8):
        sides: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for index in range(rounds + 1):
            order = [("ours", ours, None), ("theirs", theirs, KEY)]
            for side, url, key in order if index % 2 else reversed(order):
                seed += 100
                measured = await round_of(url, key, streams, seed)
                if index:
                    sides[side].append(measured)
        result[f"{streams} streams"] = {
            name: {
                "ours": lab.median([row[name] for row in sides["ours"]]),
                "theirs": lab.median([row[name] for row in sides["theirs"]]),
                "ratio_median_of_pairs": lab.median(
                    [a[name] / b[name] for a, b in zip(sides["ours"], sides["theirs"], strict=True)]
                ),
            }
            for name in sides["ours"][0]
        }
        print(streams, json.dumps(result[f"{streams} streams"]), file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.peer:
        serve_peer(options.peer, options.threads)
        return
    from catena.core import config

    home = config.open_home()
    lab.pull_chat_model(home)
    shown = json.loads(
        subprocess.run([*lab.CATENA, "show", "smollm2-135m-instruct", "--json"], check=True, capture_output=True).stdout
    )
    digest = next(f for f in shown["manifest"]["files"] if f["role"] == "weights")["digest"].removeprefix("sha256:")
    weights = next((home / "blobs" / "sha256").rglob(digest + "*"), Path())
    settings = {"CATENA__RUN__SLOTS": str(SLOTS), "CATENA__RUN__CONTEXT_TOKENS": str(CONTEXT)}
    with lab.gateway(home=home, environ=settings) as running, peer(str(weights), options.threads) as theirs:
        asyncio.run(lab.stream_chat(running.url, body(5, 2, 1)))
        first = asyncio.run(first_tokens(running.url, theirs, options.pairs))
        rates = asyncio.run(compare(running.url, theirs, options.rounds))
    bandwidth = read_bandwidth_gb_s(options.threads)
    roof = bandwidth * 1e9 / weights.stat().st_size
    lab.save(
        "serving",
        {
            "peer": "the HTTP server inside xllamacpp, same weights, slots, context and threads",
            "time_to_first_token": first,
            "rates": rates,
            "roofline": {
                "read_bandwidth_gb_s": round(bandwidth, 1),
                "weights_bytes": weights.stat().st_size,
                "roof_tokens_per_s": round(roof),
                "decode_fraction_of_roof": round(rates["1 streams"]["decode_per_s"]["ours"] / roof, 3),
            },
        },
    )


if __name__ == "__main__":
    main()
