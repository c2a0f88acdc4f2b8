"""The form of chat answers: one object, or chunks whose unchanging parts are encoded once per stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from catena.core.messages import (
    Choice,
    Delta,
    Event,
    Finished,
    Reply,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from catena.reach.gateway.answering import Accepted
from catena.reach.gateway.protocols.openai.naming import Naming

encode = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"


def usage_form(usage: Usage | None) -> dict[str, Any] | None:
    """`usage` as the API writes it."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chat_completion(naming: Naming, reply: Reply, *, has_logprobs: bool) -> bytes:
    """The whole answer."""
    return encode(
        {
            **naming.head("chat.completion"),
            "choices": [_choice(index, choice, has_logprobs) for index, choice in enumerate(reply.choices)],
            "usage": usage_form(reply.usage),
        }
    )


def _choice(index: int, choice: Choice, has_logprobs: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    logprobs = {"content": logprobs_form(choice.logprobs), "refusal": None} if has_logprobs else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.reason}


def logprobs_form(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Token by token, with the alternatives."""
    return [
        {
            "token": one.token,
            "bytes": list(one.token_bytes),
            "logprob": one.logprob,
            "top_logprobs": [
                {"token": other.token, "bytes": list(other.token_bytes), "logprob": other.logprob} for other in one.top
            ],
        }
        for one in logprobs
    ]


class ChunkRenderer:
    """What chunks of chats and of completions have in common: they begin, end and show usage alike."""

    content_type = "text/event-stream; charset=utf-8"
    prefix: str
    kind: str

    def __init__(self, *, has_usage: bool, has_logprobs: bool) -> None:
        self._has_usage = has_usage
        self._has_logprobs = has_logprobs
        self._head = b""
        self._tail = b""

    def start(self, accepted: Accepted) -> bytes:
        common = encode(Naming.of(self.prefix, accepted).head(self.kind))
        self._head = b"data: " + common[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._has_usage else b"]}\n\n"
        return b""

    def end(self) -> bytes:
        return DONE

    def sign(self, phase: str, fraction: float | None) -> bytes:
        return comment(phase, fraction)

    def _usage(self, usage: Usage) -> bytes:
        return self._head + b'],"usage":' + encode(usage_form(usage)) + b"}\n\n"


class ChatRenderer(ChunkRenderer):
    """Writes chunks. Per choice the first delta carries the role; `finish_reason` comes alone at its end."""

    prefix = "chatcmpl"
    kind = "chat.completion.chunk"

    def __init__(self, *, has_usage: bool, has_logprobs: bool) -> None:
        super().__init__(has_usage=has_usage, has_logprobs=has_logprobs)
        self._opened: set[int] = set()

    def event(self, event: Event) -> bytes:
        match event:
            case Delta():
                return self._opening(event.choice) + self._delta(event)
            case ToolCallDelta():
                return self._opening(event.choice) + self._chunk(event.choice, self._call(event))
            case Finished():
                opening = self._opening(event.choice)
                return opening + self._chunk(event.choice, b"{}", reason=encode(event.reason))
            case Usage() if self._has_usage:
                return self._usage(event)
            case _:
                return b""

    def _opening(self, choice: int) -> bytes:
        if choice in self._opened:
            return b""
        self._opened.add(choice)
        return self._chunk(choice, b'{"role":"assistant","content":"","refusal":null}')

    def _delta(self, delta: Delta) -> bytes:
        parts: list[bytes] = []
        if delta.reasoning:
            parts.append(b'"reasoning_content":' + encode(delta.reasoning))
        if delta.text:
            parts.append(b'"content":' + encode(delta.text))
        logprobs = b"null"
        if self._has_logprobs and delta.logprobs:
            logprobs = encode({"content": logprobs_form(delta.logprobs), "refusal": None})
        elif not parts:
            return b""
        return self._chunk(delta.choice, b"{" + b",".join(parts) + b"}", logprobs=logprobs)

    def _call(self, call: ToolCallDelta) -> bytes:
        function: dict[str, Any] = {"arguments": call.arguments}
        form: dict[str, Any] = {"index": call.index, "function": function}
        if call.id is not None:
            function["name"] = call.name or ""
            form |= {"id": call.id, "type": "function"}
        return encode({"tool_calls": [form]})

    def _chunk(self, choice: int, delta: bytes, *, logprobs: bytes = b"null", reason: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            choice,
            delta,
            logprobs,
            reason,
            self._tail,
        )


def comment(phase: str, fraction: float | None) -> bytes:
    """A line that event-stream clients skip."""
    word = phase or "alive"
    return f": {word} {fraction:.0%}\n\n".encode() if fraction is not None else f": {word}\n\n".encode()
