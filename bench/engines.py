"""What the engines are set to, measured: batch sizes, cache layout, prompt cache, cancellation, overhead.

`python bench/engines.py [--rounds 5] [--only PART ...]`. Whatever is compared takes turns within one run, so that
ratios hold also on a busy machine. Models come from CATENA_TEST_HOME, else they are pulled into a folder of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import lab
import msgspec
import numpy
import onnxruntime
import tokenizers
import xllamacpp

from catena.core.manifest import StoredModel
from catena.core.messages import CompletionRequest, Delta, EmbedRequest, OutputFormat, Sampling
from catena.core.protocols import Placement, SessionFacts
from catena.core.settings import StoreSettings
from catena.run import devices
from catena.run.engines import llama_cpp, onnx
from catena.run.engines.llama_cpp import worker
from catena.run.engines.llama_cpp.header import read
from catena.run.engines.llama_cpp.parameters import Files, settings
from catena.run.engines.llama_cpp.process import Process
from catena.run.engines.llama_cpp.session import Session
from catena.store import Store
from catena.watch.keys import Signer

# One core is left to whoever else uses the machine: spinning threads that lose theirs would be all that is measured.
THREADS = max(1, devices.owned_cores() - 1)
BATCHES = (32, 64, 128, 256, 512)
STORY = " ".join(f"On day {day} the ship sailed {day * 7} miles and the crew was glad." for day in range(64))


def stored(home: Path, *names: str) -> list[StoredModel]:
    store = Store.open(home, StoreSettings(), Signer.open(home))
    try:
        return [store.resolve(store.pull(name).row.name) for name in names]
    finally:
        store.close()


def server(
    model: StoredModel,
    folder: Path,
    *,
    slots: int = 4,
    context_tokens: int = 1024,
    threads: int = THREADS,
    **changes: Any,
) -> Any:
    """The library's own server, in this process, with the engine's parameters but for `changes`."""
    facts = SessionFacts("", "cpu", slots, context_tokens, 0)
    place = Placement(threads=THREADS, slots=slots, prompt_cache_bytes=0)
    own = Path(tempfile.mkdtemp(dir=folder))
    wished = settings("bench", Files(str(model.path("weights"))), facts, place, own)
    wished["parameters"] |= changes
    return worker.open_server(xllamacpp, wished)


def ask(engine: Any, prompt: str, max_tokens: int, **fields: Any) -> dict[str, Any]:
    """One raw streamed request: `first_s` to its first text, `took_s`, and the last chunk."""
    body = {
        "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, **fields,
    }  # fmt: skip
    began = time.perf_counter()
    found: dict[str, Any] = {"first_s": 0.0, "error": None}

    def take(chunk: bytes) -> bool:
        found["first_s"] = found["first_s"] or time.perf_counter() - began
        found["last"] = chunk
        return False

    engine.handle_completions(msgspec.json.encode(body), take)
    last = msgspec.json.decode(found["last"])
    return {**found, "took_s": time.perf_counter() - began, "last": last, "error": last.get("error")}


def middle(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(row[key] for row in rows), 4) for key in rows[0]}


def against(base: Any, table: dict[Any, dict[str, float]], key: str) -> dict[Any, float]:
    return {name: round(row[key] / table[base][key], 3) for name, row in table.items()}


# --- llama.cpp: batch size ------------------------------------------------------------------------------------------


def batch_size(model: StoredModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Prefill speed by batch size, and how long a short request waits for its first token beside a long prompt."""
    servers = {size: server(model, folder, n_batch=size, n_ubatch=size) for size in BATCHES}
    rows: dict[int, list[dict[str, float]]] = {size: [] for size in BATCHES}
    for number in range(rounds):
        for size, engine in servers.items():
            prompt = f"{size} {number} {STORY[:1800]}"
            timings = ask(engine, prompt, 1)["last"]["timings"]
            with ThreadPoolExecutor(1) as threads:
                long = threads.submit(ask, engine, f"beside {prompt}", 1)
                time.sleep(timings["prompt_ms"] / 4000)
                delay_s = ask(engine, f"{number}: hello", 1)["first_s"]
                was_beside = not long.done()
                long.result()
            rows[size].append({
                "prefill_tokens_per_s": timings["prompt_n"] / timings["prompt_ms"] * 1000,
                "delay_ms": delay_s * 1000,
                "still_prefilling": float(was_beside),
            })  # fmt: skip
    table = {size: middle(found) for size, found in rows.items()}
    return {
        "by_batch": table,
        "prefill_to_128": against(128, table, "prefill_tokens_per_s"),
        "delay_to_128": against(128, table, "delay_ms"),
    }


# --- llama.cpp: one cache for all slots, or one each ----------------------------------------------------------------


def cache_layout(model: StoredModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Tokens per second at 1 and 4 streams, and what happens when four answers outgrow a shared cache."""
    servers = {name: server(model, folder, kv_unified=name == "unified") for name in ("split", "unified")}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, engine in servers.items():
            row: dict[str, float] = {}
            for streams in (1, 4):
                began = time.perf_counter()
                with ThreadPoolExecutor(streams) as threads:
                    prompts = [f"{number} {stream}: once" for stream in range(streams)]
                    list(threads.map(lambda text, one=engine: ask(one, text, 48, ignore_eos=True), prompts))
                row[f"tokens_per_s_{streams}"] = 48 * streams / (time.perf_counter() - began)
            rows[name].append(row)
    table = {name: middle(found) for name, found in rows.items()}
    cut: dict[str, int] = {}
    for name in servers:
        small = server(model, folder, context_tokens=256, n_ctx=1024 if name == "split" else 512,
                       kv_unified=name == "unified")  # fmt: skip
        with ThreadPoolExecutor(4) as threads:
            prompts = [f"{stream}: {STORY[:320]}" for stream in range(4)]
            ends = list(threads.map(lambda text, one=small: ask(one, text, 120, ignore_eos=True), prompts))
        cut[name] = sum(end["error"] is not None or end["last"]["usage"]["completion_tokens"] < 120 for end in ends)
    return {
        "tokens_per_s": table,
        "unified_to_split": {key: round(table["unified"][key] / table["split"][key], 3) for key in table["split"]},
        "answers_cut_of_4_when_their_sum_outgrows_the_shared_cache": cut,
    }


# --- llama.cpp: what the session adds -------------------------------------------------------------------------------


def completion(prompt: str, max_tokens: int, **fields: Any) -> CompletionRequest:
    return CompletionRequest("m", prompt, Sampling(max_tokens=max_tokens, temperature=0.0, ignore_eos=True), **fields)


async def consume(session: Session, request: CompletionRequest) -> list[Any]:
    return [event async for event in session.generate(request)]


async def overhead(model: StoredModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Tokens per second of a session against the raw library in this process, in turn, at 1, 4 and 8 streams.

    On a machine that others use too, the best of many short turns of each is what their work did not touch.
    """
    place = Placement(threads=THREADS, slots=8, context_tokens=512, folder=str(folder), prompt_cache_bytes=0)
    session = await llama_cpp.Engine().load(model, place)
    engine = server(model, folder, slots=8, context_tokens=512)
    num_tokens, found = 24, {}
    with ThreadPoolExecutor(8) as pool:
        for streams in (1, 4, 8):
            rows: list[dict[str, float]] = []
            for number in range(max(6, 48 // streams) * rounds):
                prompts = [f"{number} {stream}: once upon a time" for stream in range(streams)]
                row: dict[str, float] = {}
                for name in ("raw", "session") if number % 2 else ("session", "raw"):
                    began, began_cpu = time.perf_counter(), time.thread_time()
                    if name == "raw":
                        calls = [
                            asyncio.wrap_future(pool.submit(ask, engine, prompt, num_tokens, ignore_eos=True))
                            for prompt in prompts
                        ]
                    else:
                        calls = [consume(session, completion(prompt, num_tokens)) for prompt in prompts]
                    await asyncio.gather(*calls)
                    row[name] = num_tokens * streams / (time.perf_counter() - began)
                    if name == "session":
                        row["cpu_us_per_token"] = (time.thread_time() - began_cpu) / num_tokens / streams * 1e6
                rows.append({**row, "session_to_raw": row["session"] / row["raw"]})
            best = {name: max(row[name] for row in rows) for name in ("raw", "session")}
            found[streams] = {
                **middle(rows),
                "best_raw": round(best["raw"], 2),
                "best_session": round(best["session"], 2),
                "best_session_to_raw": round(best["session"] / best["raw"], 3),
            }
    await session.close()
    return {"tokens_per_s_by_streams": found}


async def cancelling(session: Session, rounds: int) -> dict[str, Any]:
    """From closing the generator to the slot being free: while answering, and while reading a prompt."""
    rows: list[dict[str, float]] = []
    for number in range(2 * rounds):
        row: dict[str, float] = {}
        for phase, request, stop_at in (
            ("decode", completion(f"{number}: once", 200), 12),
            ("prefill", completion(f"{number} {STORY[:1800]}", 1), 3),
        ):
            stream, seen = session.generate(request), 0
            marks: list[float] = []
            async for event in stream:
                seen += phase == "prefill" or isinstance(event, Delta)
                marks.append(time.perf_counter())
                if seen == stop_at:
                    break
            began = time.perf_counter()
            await stream.aclose()
            while session.slots.free < session.slots.total:  # noqa: ASYNC110
                await asyncio.sleep(0.0002)
            row[f"{phase}_ms"] = (time.perf_counter() - began) * 1e3
            row[f"{phase}_step_ms"] = (marks[-1] - marks[0]) / (len(marks) - 1) * 1e3
        rows.append(row)
    return middle(rows)


async def grammar_trial(session: Session, rounds: int) -> dict[str, Any]:
    """What the first use of a schema costs more than the second."""
    extra: list[float] = []
    for number in range(2 * rounds):
        schema = {"type": "object", "properties": {f"p{number}": {"type": "boolean"}}, "additionalProperties": False}
        took: list[float] = []
        for _ in range(2):
            began = time.perf_counter()
            await consume(session, completion("a", 1, output=OutputFormat("schema", schema)))
            took.append(time.perf_counter() - began)
        extra.append((took[0] - took[1]) * 1e3)
    return {"first_use_ms": round(statistics.median(extra), 1)}


async def prompt_cache(model: StoredModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Prefill time of one prompt: never seen; seen, but its slot was given away; still in its slot."""
    place = Placement(threads=THREADS, slots=1, context_tokens=1024, folder=str(folder))
    session = await llama_cpp.Engine().load(model, place)
    rows: list[dict[str, float]] = []
    for number in range(rounds):
        prompt = f"{number} {STORY[:1800]}"
        row: dict[str, float] = {}
        for name, text in (("new", prompt), ("", f"{number} white mice"), ("kept", prompt), ("in_slot", prompt)):
            usage, timings = (await consume(session, completion(text, 1)))[-2:]
            if name:
                row[f"{name}_ms"] = timings.prefill_s * 1e3
                row["prompt_tokens"] = usage.prompt_tokens
        rows.append(row)
    await session.close()
    return {**middle(rows), "bytes_per_token": read(model.path("weights")).cache_token_bytes}


async def loading(model: StoredModel, folder: Path, rounds: int) -> dict[str, Any]:
    """Time of a load, the longest that the event loop stood still meanwhile and without it, and a worker's memory."""
    rows: list[dict[str, float]] = []
    longest_s = 0.0

    async def watch() -> None:
        nonlocal longest_s
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now_s = time.perf_counter()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    watcher = asyncio.create_task(watch())
    for _ in range(2 * rounds):
        row: dict[str, float] = {}
        for context_tokens in (1024, 8192):
            place = Placement(threads=THREADS, slots=4, context_tokens=context_tokens, folder=str(folder))
            longest_s, began_s = 0.0, time.perf_counter()
            session = await llama_cpp.Engine().load(model, place)
            row[f"load_{context_tokens}_s"] = time.perf_counter() - began_s
            row[f"stands_still_{context_tokens}_ms"] = longest_s * 1e3
            row[f"resident_{context_tokens}_mb"] = lab.resident_bytes(session.process.pid) / 1e6
            longest_s = 0.0
            await asyncio.sleep(row[f"load_{context_tokens}_s"])
            row[f"stands_still_without_{context_tokens}_ms"] = longest_s * 1e3
            await session.close()
        empty = Process()
        await asyncio.sleep(0.3)
        row["resident_before_load_mb"] = lab.resident_bytes(empty.pid) / 1e6
        await empty.end()
        rows.append(row)
    watcher.cancel()
    return middle(rows)


# --- onnx: batches of a quantised encoder ---------------------------------------------------------------------------


async def encoder_batches(model: StoredModel, rounds: int) -> dict[str, Any]:
    """Cosine of a vector alone to the same in a batch, without and with the engine's row-by-row runs; and the price."""
    tokenizer = tokenizers.Tokenizer.from_file(str(model.path("tokenizer")))
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    runner: Any = onnxruntime.InferenceSession(str(model.path("weights")), options, providers=["CPUExecutionProvider"])
    texts = [STORY[start * 40 : start * 40 + 40 + start * 25] for start in range(16)]
    session = await onnx.Engine().load(model, Placement(threads=THREADS))

    def raw(rows: list[list[int]]) -> Any:
        ids = numpy.zeros((len(rows), max(map(len, rows))), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        states = runner.run(["last_hidden_state"], feeds)[0][:, 0]
        return states / numpy.linalg.norm(states, axis=1, keepdims=True)

    ids = [tokenizer.encode(text).ids for text in texts]
    alone = numpy.concatenate([raw([row]) for row in ids])
    ours = (await session.embed(EmbedRequest("m", tuple(texts)))).vectors
    engine = numpy.array([numpy.frombuffer(vector, "<f4") for vector in ours])
    times: dict[str, list[float]] = {"batched": [], "row_by_row": [], "engine": []}
    for _ in range(2 * rounds):
        for name, run in (("batched", lambda: raw(ids)), ("row_by_row", lambda: [raw([row]) for row in ids])):
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
        began = time.perf_counter()
        await session.embed(EmbedRequest("m", tuple(texts)))
        times["engine"].append(time.perf_counter() - began)
    await session.close()
    speed = {name: round(len(texts) / statistics.median(row), 1) for name, row in times.items()}
    return {
        "texts": len(texts),
        "tokens": sum(map(len, ids)),
        "lowest_cosine_batched_to_alone": round(float((raw(ids) * alone).sum(axis=1).min()), 4),
        "lowest_cosine_engine_to_alone": round(float((engine * alone).sum(axis=1).min()), 6),
        "texts_per_s": speed,
        "engine_to_batched": round(speed["engine"] / speed["batched"], 3),
    }


async def in_session(measured: Any, model: StoredModel, folder: Path, rounds: int) -> dict[str, Any]:
    session = await llama_cpp.Engine().load(
        model, Placement(threads=THREADS, slots=2, context_tokens=1024, folder=str(folder))
    )
    try:
        return await measured(session, rounds)
    finally:
        await session.close()


async def measure(
    chat: StoredModel, encoder: StoredModel, folder: Path, rounds: int, only: list[str]
) -> dict[str, Any]:
    parts: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "batch_size": lambda: asyncio.to_thread(batch_size, chat, folder, rounds),
        "cache_layout": lambda: asyncio.to_thread(cache_layout, chat, folder, rounds),
        "overhead": lambda: overhead(chat, folder, rounds),
        "cancelling": lambda: in_session(cancelling, chat, folder, rounds),
        "grammar_trial": lambda: in_session(grammar_trial, chat, folder, rounds),
        "prompt_cache": lambda: prompt_cache(chat, folder, rounds),
        "loading": lambda: loading(chat, folder, rounds),
        "encoder_batches": lambda: encoder_batches(encoder, rounds),
    }
    result: dict[str, Any] = {"threads": THREADS}
    for name, run in parts.items():
        if not only or name in only:
            load = round(os.getloadavg()[0], 2)
            result[name] = {"rounds": rounds, "load_1min": load, **await run()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", help="measure these, keep the others' figures")
    chosen = parser.parse_args()
    kept = lab.RESULTS / "engines.json"
    before: dict[str, Any] = msgspec.json.decode(kept.read_bytes()) if chosen.only else {}
    before.pop("machine", None)
    with tempfile.TemporaryDirectory(prefix="catena-engines-") as name:
        folder = Path(name)
        home = Path(os.environ.get("CATENA_TEST_HOME") or folder / "home")
        home.mkdir(parents=True, exist_ok=True)
        chat, encoder = stored(home, "smollm2-135m-instruct", "bge-small-en-v1.5")
        options = {"use_uvloop": True}  # as `catena up` does
        result = anyio.run(measure, chat, encoder, folder, chosen.rounds, chosen.only, backend_options=options)
        lab.save("engines", before | result)


if __name__ == "__main__":
    main()
