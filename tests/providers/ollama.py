"""Ollama's shapes, as its API reference has them: lines of JSON, whole tool calls, counts and times in the last line.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from tests.providers.answers import Answer, Asked, Reply, encode, whole
from tests.providers.server import nothing_here

CHAT_FIELDS = {"model", "messages", "tools", "format", "options", "stream", "keep_alive", "think"}
GENERATE_FIELDS = {
    *("model", "prompt", "suffix", "images", "format", "options", "system", "template", "stream", "raw", "keep_alive"),
    "think",
}
OPTIONS = {
    *("num_predict", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "repeat_penalty", "presence_penalty"),
    *("frequency_penalty", "num_ctx"),
}
HEAD = {"created_at": "2026-11-24T08:52:19.385406455Z"}


class Ollama:
    base = ""

    def reply(self, asked: Asked, answer: Answer, /) -> Reply:
        match asked.method, asked.path.removeprefix(self.base):
            case "GET", "/api/tags":
                return whole(200, {"models": [_listed(name) for name in answer.models]})
            case "POST", "/api/chat":
                return _checked(asked, CHAT_FIELDS) or _stream(chat_pieces(asked.json, answer))
            case "POST", "/api/generate":
                return _checked(asked, GENERATE_FIELDS) or _stream(generate_pieces(asked.json, answer))
            case "POST", "/api/embed":
                rows = [list(row) for row in answer.vectors]
                times = {
                    "total_duration": 14143917,
                    "load_duration": 1019500,
                    "prompt_eval_count": answer.prompt_tokens,
                }
                return whole(200, {"model": asked.json["model"], "embeddings": rows, **times})
            case _:
                return nothing_here(asked)

    def refuse(self, answer: Answer, /) -> Reply:
        return whole(answer.status, {"error": answer.message})

    def trouble(self, answer: Answer, /) -> bytes:
        return encode({"error": answer.message}) + b"\n"


speaker = Ollama()


def _stream(pieces: Iterator[bytes]) -> Reply:
    return Reply(200, "application/x-ndjson", tuple(pieces), is_stream=True)


def _checked(asked: Asked, fields: set[str]) -> Reply | None:
    unknown = (set(asked.json) - fields) | (set(asked.json.get("options") or {}) - OPTIONS)
    return whole(400, {"error": f"unknown fields: {sorted(unknown)}"}) if unknown else None


def _listed(name: str) -> dict[str, Any]:
    details = {"format": "gguf", "family": "llama", "parameter_size": "7B", "quantization_level": "Q4_0"}
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-11-04T14:56:49Z",
        "size": 1,
        "digest": "00",
        "details": details,
    }


def _last(answer: Answer) -> dict[str, Any]:
    counts = {"prompt_eval_count": answer.prompt_tokens, "eval_count": answer.completion_tokens}
    times = {
        "total_duration": 4883583458,
        "load_duration": 1334875,
        "prompt_eval_duration": 342546000,
        "eval_duration": 4535599000,
    }
    reason = "length" if answer.finish == "length" else "stop"
    return {"done": True, "done_reason": reason, **times, **(counts if answer.has_usage else {})}


def chat_pieces(body: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    """The lines of a streamed chat, one a piece; arguments of calls are objects and come whole."""
    head = {"model": body["model"], **HEAD}
    messages: list[dict[str, Any]] = [{"content": "", "thinking": piece} for piece in answer.reasoning]
    messages += [{"content": piece} for piece in answer.text]
    for call in answer.calls:
        arguments = msgspec.json.decode("".join(call.arguments) or "{}")
        messages.append({"content": "", "tool_calls": [{"function": {"name": call.name, "arguments": arguments}}]})
    for message in messages:
        yield encode({**head, "message": {"role": "assistant", **message}, "done": False}) + b"\n"
    yield encode({**head, "message": {"role": "assistant", "content": ""}, **_last(answer)}) + b"\n"


def generate_pieces(body: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    """The lines of a streamed completion, one a piece."""
    head = {"model": body["model"], **HEAD}
    for piece in answer.reasoning:
        yield encode({**head, "response": "", "thinking": piece, "done": False}) + b"\n"
    for piece in answer.text:
        yield encode({**head, "response": piece, "done": False}) + b"\n"
    yield encode({**head, "response": "", **_last(answer)}) + b"\n"
