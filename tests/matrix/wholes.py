"""Answers at once, as clients of each protocol have them: a body becomes what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from tests.matrix.wish import Called, Seen


def chat(body: Any, seen: Seen) -> None:
    (choice,) = body["choices"]
    message = choice["message"]
    seen.texts.append(message["content"] or "")
    seen.reasoning = message.get("reasoning_content") or ""
    for call in message.get("tool_calls") or ():
        function = call["function"]
        seen.calls.append(Called(call["id"], function["name"], msgspec.json.decode(function["arguments"])))
    seen.finish = choice["finish_reason"]
    usage = body["usage"]
    seen.counts = (usage["prompt_tokens"], usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"])


def responses(body: Any, seen: Seen) -> None:
    for item in body["output"]:
        match item["type"]:
            case "message":
                seen.texts += [part["text"] for part in item["content"]]
            case "reasoning":
                seen.reasoning += "".join(part["text"] for part in item["content"])
            case "function_call":
                seen.calls.append(Called(item["call_id"], item["name"], msgspec.json.decode(item["arguments"])))
    details, usage = body["incomplete_details"], body["usage"]
    seen.finish = details["reason"] if details else body["status"]
    seen.counts = (usage["input_tokens"], usage["output_tokens"], usage["input_tokens_details"]["cached_tokens"])


def messages(body: Any, seen: Seen) -> None:
    for block in body["content"]:
        match block["type"]:
            case "text":
                seen.texts.append(block["text"])
            case "thinking":
                seen.reasoning += block["thinking"]
            case "tool_use":
                seen.calls.append(Called(block["id"], block["name"], block["input"]))
    cached = body["usage"]["cache_read_input_tokens"]
    seen.finish = body["stop_reason"]
    seen.counts = (body["usage"]["input_tokens"] + cached, body["usage"]["output_tokens"], cached)


def ollama(body: Any, seen: Seen) -> None:
    message = body["message"]
    seen.texts.append(message["content"])
    seen.reasoning = message.get("thinking", "")
    for call in message.get("tool_calls", ()):
        seen.calls.append(Called(call["id"], call["function"]["name"], call["function"]["arguments"]))
    seen.finish = body["done_reason"]
    seen.counts = (body["prompt_eval_count"], body["eval_count"], None)


def generate(body: Any, seen: Seen) -> None:
    seen.texts.append(body["text_output"])


WHOLE: dict[str, Callable[[Any, Seen], None]] = {
    "openai": chat,
    "responses": responses,
    "anthropic": messages,
    "ollama": ollama,
    "open_inference": generate,
}
