"""OpenAI's shapes, as its API reference has them: chunks, tool calls in fragments, usage last, `[DONE]`.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.providers.answers import Answer, Asked, Reply, encode, whole
from tests.providers.server import nothing_here

CHAT_FIELDS = {
    *("model", "messages", "stream", "stream_options", "temperature", "top_p", "presence_penalty", "n", "stop", "seed"),
    *("frequency_penalty", "logit_bias", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "tools"),
    *("tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
}
COMPLETION_FIELDS = {
    *("model", "prompt", "stream", "stream_options", "temperature", "top_p", "presence_penalty", "n", "stop", "seed"),
    *("frequency_penalty", "logit_bias", "max_tokens", "logprobs", "echo", "suffix"),
}
EMBED_FIELDS = {"model", "input", "encoding_format", "dimensions"}
HEAD = {"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "created": 1741569952, "system_fingerprint": "fp_44709d6fcb"}


class OpenAI:
    base = "/v1"

    def __init__(self, further: tuple[str, ...] = ()) -> None:
        self.further = frozenset(further)  # fields that a server takes beyond the reference

    def reply(self, asked: Asked, answer: Answer, /) -> Reply:
        match asked.method, asked.path.removeprefix(self.base):
            case "GET", "/models":
                rows = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in answer.models]
                return whole(200, {"object": "list", "data": rows})
            case "POST", "/chat/completions":
                return self._checked(asked, CHAT_FIELDS) or _stream(chat_pieces(asked.json, answer))
            case "POST", "/completions":
                return self._checked(asked, COMPLETION_FIELDS) or _stream(completion_pieces(asked.json, answer))
            case "POST", "/embeddings":
                return self._checked(asked, EMBED_FIELDS) or whole(200, embeddings(answer))
            case _:
                return nothing_here(asked)

    def refuse(self, answer: Answer, /) -> Reply:
        return whole(answer.status, _error(answer))

    def trouble(self, answer: Answer, /) -> bytes:
        return b"data: " + encode(_error(answer)) + b"\n\n"

    def _checked(self, asked: Asked, fields: set[str]) -> Reply | None:
        unknown = set(asked.json) - fields - self.further
        if not unknown and "model" in asked.json:
            return None
        message = f"Unrecognized request arguments supplied: {', '.join(sorted(unknown))}"
        return whole(400, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})


speaker = OpenAI()


def _stream(pieces: Iterator[bytes]) -> Reply:
    return Reply(200, "text/event-stream; charset=utf-8", tuple(pieces), is_stream=True)


def _error(answer: Answer) -> dict[str, Any]:
    return {"error": {"message": answer.message, "type": "server_error", "param": None, "code": answer.code or None}}


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens, "audio_tokens": 0},
    }


def chat_pieces(body: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    """The events of a streamed chat completion, one a piece."""
    head = {**HEAD, "object": "chat.completion.chunk", "model": body["model"]}
    for index in range(body.get("n", 1)):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"reasoning_content": piece} for piece in answer.reasoning]
        deltas += [{"content": piece} for piece in answer.text]
        deltas += _call_deltas(answer)
        choices = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
        finish = "tool_calls" if answer.calls else answer.finish
        choices.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": finish})
        for choice in choices:
            yield b"data: " + encode({**head, "choices": [choice]}) + b"\n\n"
    yield from _ending(body, {**head, "choices": []}, answer)


def _call_deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    """Parallel calls: each opens with its id and name; their arguments follow interleaved."""
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
    for position in range(max((len(call.arguments) for call in answer.calls), default=0)):
        for index, call in enumerate(answer.calls):
            if position < len(call.arguments):
                yield {"tool_calls": [{"index": index, "function": {"arguments": call.arguments[position]}}]}


def completion_pieces(body: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    """The events of a streamed completion, one a piece."""
    head = {**HEAD, "object": "text_completion", "model": body["model"]}
    for index in range(body.get("n", 1)):
        for text, finish in [*((text, None) for text in answer.text), ("", answer.finish)]:
            choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
            yield b"data: " + encode({**head, "choices": [choice]}) + b"\n\n"
    yield from _ending(body, {**head, "choices": []}, answer)


def _ending(body: dict[str, Any], head: dict[str, Any], answer: Answer) -> Iterator[bytes]:
    if answer.has_usage and (body.get("stream_options") or {}).get("include_usage"):
        yield b"data: " + encode({**head, "usage": _usage(answer)}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def embeddings(answer: Answer) -> dict[str, Any]:
    rows = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(answer.vectors)]
    usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
    return {"object": "list", "data": rows, "model": "test", "usage": usage}
