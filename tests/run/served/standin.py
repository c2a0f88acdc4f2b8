"""Behaves like `vllm serve` and `sglang.launch_server` at their doors, without a model: an answer repeats the question.

A program by itself: `standin.py FOLDER vllm|sglang ARGUMENT…`. FOLDER holds `wishes.json`, what is to go wrong, and
gets `record.jsonl`, what was seen. Options other than those that the servers have are refused as they refuse them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r"\s*\S+|\s+")
WIDTH = 8
# Of the options of vLLM 0.33 and SGLang 0.5.23 those that Catena or a test may give; a value: one that takes none.
VLLM = {
    **dict.fromkeys(("served-model-name", "uds", "load-format", "runner", "max-num-seqs", "max-model-len"), str),
    **dict.fromkeys(("tool-call-parser", "gpu-memory-utilization", "tensor-parallel-size"), str),
    **dict.fromkeys(("enable-prompt-tokens-details", "disable-uvicorn-access-log", "disable-fastapi-docs"), None),
    **dict.fromkeys(("enable-auto-tool-choice", "enforce-eager"), None),
}
SGLANG = {
    **dict.fromkeys(("config", "model-path", "served-model-name", "host", "port", "load-format", "device"), str),
    **dict.fromkeys(("max-running-requests", "context-length", "log-level-http", "tool-call-parser"), str),
    **dict.fromkeys(("mem-fraction-static",), str),
    **dict.fromkeys(("is-embedding", "enable-cache-report"), None),
}


def main() -> None:
    folder, kind, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    wishes = json.loads((folder / "wishes.json").read_text())
    record = (folder / "record.jsonl").open("a", buffering=1)
    options, model, key = parse(kind, arguments)
    family = [os.getpid()]
    for _ in range(wishes.get("grandchildren", 0)):
        # In a session of its own, as no kill of a group would reach it.
        code = "import time; time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
        family.append(child.pid)
    names = sorted(path.name for path in Path(model).iterdir())
    seen = {"argv": sys.argv[3:], "environ": dict(os.environ), "family": family, "folder": names}
    record.write(json.dumps(seen) + "\n")
    if text := wishes.get("print"):
        print(text.replace("{key}", key), flush=True)
    if wishes.get("ignores_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(wishes.get("start_s", 0))
    if "exit" in wishes:
        sys.exit(wishes["exit"])
    if "kill" in wishes:
        os.kill(os.getpid(), wishes["kill"])
    context = int(options.get("max_model_len") or options.get("context_length") or 512)
    door = Door(kind, options, key, context, wishes, record)
    asyncio.run(door.serve())


def parse(kind: str, arguments: list[str]) -> tuple[dict[str, Any], str, str]:
    """Options, the model's folder, and the key, from where each server takes them."""
    begin = {
        "vllm": [["-m", "vllm.entrypoints.cli.main", "serve"], ["serve"]],
        "sglang": [["-m", "sglang.launch_server"], ["serve"]],
    }[kind]
    rest = next(arguments[len(words) :] for words in begin if arguments[: len(words)] == words)
    parser = argparse.ArgumentParser(allow_abbrev=True)
    for name, form in (VLLM if kind == "vllm" else SGLANG).items():
        if form is None:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", type=form)
    if kind == "vllm":
        parser.add_argument("model_tag")
        options = vars(parser.parse_args(rest))
        return options, options["model_tag"], os.environ["VLLM_API_KEY"]
    options = vars(parser.parse_args(rest))
    (line,) = Path(options["config"]).read_text().splitlines()
    assert Path(options["config"]).stat().st_mode & 0o77 == 0
    return options, options["model_path"], re.fullmatch(r'api-key: "([0-9a-f]+)"', line)[1]


class Refusal(Exception):
    """An answer with an error's status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Door:
    """The HTTP side."""

    def __init__(self, kind: str, options: dict[str, Any], key: str, context: int, wishes: Any, record: Any) -> None:
        self.kind, self.options, self.key, self.context, self.wishes = kind, options, key, context, wishes
        self.record = record
        self.stopping = asyncio.Event()
        self.name = options["served_model_name"]
        self.ready_s = time.monotonic() + wishes.get("unhealthy_s", 0)

    async def serve(self) -> None:
        if not self.wishes.get("ignores_term"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        if self.kind == "vllm":
            await asyncio.start_unix_server(self.connected, self.options["uds"])
        else:
            await asyncio.start_server(self.connected, self.options["host"], int(self.options["port"]))
        print("INFO: Application startup complete.", flush=True)
        await self.stopping.wait()
        print("INFO: Shutting down", flush=True)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.split("\r\n")
            method, path, _ = line.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest if one)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            await self.answer(method, path, headers, body, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        is_known = headers.get("authorization") == f"Bearer {self.key}"
        if path == "/health":
            assert "authorization" not in headers
            await self.whole(writer, 200 if time.monotonic() >= self.ready_s else 503, b"")
            return
        if not is_known and (path.startswith("/v1") or self.kind == "sglang"):
            await self.json(writer, 401, {"error": "Unauthorized"})
            return
        if path == "/v1/models":
            row = {"id": self.name, "object": "model", "max_model_len": self.context}
            await self.json(writer, 200, {"object": "list", "data": [row]})
            return
        asked = json.loads(body)
        self.record.write(json.dumps({"path": path, "asked": asked}) + "\n")
        assert asked["model"] == self.name
        try:
            if path == "/v1/embeddings":
                await self.json(writer, 200, self.embedded(asked))
            elif path == "/tokenize" and self.kind == "vllm":
                count = len(prompt_of(asked))
                found = {"count": count, "max_model_len": self.context, "tokens": list(range(count))}
                await self.json(writer, 200, found)
            elif path in ("/v1/chat/completions", "/v1/completions"):
                await self.generated(asked, path.startswith("/v1/chat"), reader, writer)
            else:
                raise Refusal(404, "Not Found")
        except Refusal as error:
            detail = {"message": str(error), "type": "BadRequestError", "param": None, "code": error.status}
            nested = {"error": detail} if self.kind == "vllm" else {"object": "error", **detail}
            await self.json(writer, error.status, nested)

    def check_length(self, prompt: int, wish: int) -> None:
        total = prompt + wish
        if total <= self.context:
            return
        if self.kind == "vllm":
            raise Refusal(
                400,
                f"This model's maximum context length is {self.context} tokens. However, you requested {wish} output "
                f"tokens and your prompt contains at least {prompt} input tokens, for a total of at least {total} "
                "tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
            )
        if prompt >= self.context:
            raise Refusal(
                400, f"The input ({prompt} tokens) is longer than the model's context length ({self.context} tokens)."
            )
        raise Refusal(
            400,
            f"Requested token count exceeds the model's maximum context length of {self.context} tokens. You requested "
            f"a total of {total} tokens: {prompt} tokens from the input messages and {wish} tokens for the completion.",
        )

    def embedded(self, asked: Any) -> Any:
        if "dimensions" in asked:
            raise Refusal(400, f'Model "{self.name}" does not support matryoshka representation')
        counts = [len(_TOKEN.findall(one)) if isinstance(one, str) else len(one) for one in asked["input"]]
        for count in counts:
            self.check_length(count, 0)
        rows = [{"index": index, "embedding": vector(repr(one))} for index, one in enumerate(asked["input"])]
        return {"object": "list", "data": rows[::-1], "usage": {"prompt_tokens": sum(counts)}}

    async def generated(
        self, asked: Any, is_chat: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        prompt = prompt_of(asked)
        limit = asked.get("max_tokens", None if is_chat else 16)
        self.check_length(len(prompt), limit or 1)
        pieces, stop, calls = answer_of(asked)
        room = min(limit or self.context, self.context - len(prompt))
        reason = "tool_calls" if calls else "length" if len(pieces) > room else "stop"
        pieces = pieces[:room]
        await self.head(writer, 200, "text/event-stream")
        left = asyncio.ensure_future(reader.read(1))
        choices = range(asked.get("n", 1))
        if is_chat:
            for choice in choices:
                await self.chunk(
                    writer, {"choices": [{"index": choice, "delta": {"role": "assistant", "content": ""}}]}
                )
        for number, piece in enumerate(pieces):
            await asyncio.sleep(self.wishes.get("token_s", 0.0))
            if number == self.wishes.get("crash_after"):
                os._exit(3)
            if number == self.wishes.get("error_after"):
                error = {"message": "internal", "type": "InternalServerError", "code": 500}
                await self.chunk(writer, {"error": error})
                return
            if left.done():
                self.record.write(json.dumps({"left_after": number}) + "\n")
                return
            for choice in choices:
                await self.chunk(writer, {"choices": [streamed(choice, piece, asked, is_chat)]})
        for choice in choices:
            if calls:
                await self.chunk(writer, {"choices": [{"index": choice, "delta": {"tool_calls": calls}}]})
            end: dict[str, Any] = {"index": choice, "finish_reason": reason, "stop_reason": stop}
            await self.chunk(writer, {"choices": [{**end, **({"delta": {}} if is_chat else {"text": ""})}]})
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(pieces) * len(choices),
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        await self.chunk(writer, {"choices": [], "usage": usage})
        await self.send(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        left.cancel()

    async def head(self, writer: asyncio.StreamWriter, status: int, kind: str) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        await writer.drain()

    async def chunk(self, writer: asyncio.StreamWriter, data: Any) -> None:
        await self.send(writer, b"data: " + json.dumps({"id": "x", **data}).encode() + b"\n\n")

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    async def json(self, writer: asyncio.StreamWriter, status: int, data: Any) -> None:
        await self.whole(writer, status, json.dumps(data).encode())

    async def whole(self, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


def prompt_of(asked: Any) -> list[Any]:
    """The tokens of a prompt: of a conversation its words, and those of its tools."""
    if isinstance(asked.get("prompt"), list):
        return asked["prompt"]
    text = asked.get("prompt")
    if text is None:
        parts = [json.dumps(one) for one in asked.get("tools") or ()]
        parts += [" " + one["role"] + " " + str(one["content"]) for one in asked["messages"]]
        text = "".join(parts)
    return _TOKEN.findall(text)


def answer_of(asked: Any) -> tuple[list[str], str | None, list[Any]]:
    """The pieces of the answer, the stop string that ended it, and the calls of tools in it."""
    if "messages" not in asked:
        prompt = asked["prompt"]
        text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
        text = text + text if asked.get("echo") else text
    else:
        choice = asked.get("tool_choice")
        if choice not in (None, "auto", "none"):
            name = choice["function"]["name"] if isinstance(choice, dict) else asked["tools"][0]["function"]["name"]
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
            return [], None, [call]
        text = [one["content"] for one in asked["messages"] if one["role"] == "user"][-1]
        if asked.get("response_format", {}).get("type") == "json_schema":
            text = "{}"
    found = [(text.find(stop), stop) for stop in asked.get("stop") or () if stop in text]
    end, stop = min(found, default=(None, None))
    return _TOKEN.findall(text[:end]), stop, []


def streamed(choice: int, piece: str, asked: Any, is_chat: bool) -> Any:
    """A piece as a choice of a chunk, with log probabilities in the form of its route."""
    number = asked.get("top_logprobs", 0) if is_chat else asked.get("logprobs")
    wanted = asked.get("logprobs") if is_chat else number is not None
    if is_chat:
        top = [{"token": piece, "logprob": 0.0, "bytes": list(piece.encode())}] if number else []
        one = {"token": piece, "logprob": 0.0, "bytes": list(piece.encode()), "top_logprobs": top}
        return {"index": choice, "delta": {"content": piece}, "logprobs": {"content": [one]} if wanted else None}
    lists = {"tokens": [piece], "token_logprobs": [0.0], "top_logprobs": [{piece: 0.0}] if number else None}
    return {"index": choice, "text": piece, "logprobs": lists if wanted else None}


def vector(text: str) -> list[float]:
    """A direction that depends on the text only."""
    digest = hashlib.sha256(text.encode()).digest()
    values = [digest[index] - 127.5 for index in range(WIDTH)]
    norm = math.sqrt(sum(value * value for value in values))
    return [value / norm for value in values]


if __name__ == "__main__":
    main()
