"""The form of a message: one object, or a stream of named events that says the same."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import EngineError
from catena.core.messages import Event, Usage
from catena.reach.gateway.answering import Accepted
from catena.reach.gateway.protocols.anthropic import signing
from catena.reach.gateway.protocols.anthropic.growing import Answer, Growing, Step

encode = msgspec.json.Encoder().encode
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


class Manner(Struct, frozen=True):
    """How this answer is written: whether reasoning is shown, how many tokens were allowed, what signs."""

    max_tokens: int
    hides_thinking: bool
    salt: signing.Salt


def message(accepted: Accepted, answer: Answer, manner: Manner) -> bytes:
    """The whole answer. Raises EngineError if a call of a tool has no readable arguments."""
    content = [_whole_block(block, answer, accepted.receipt, manner) for block in answer.blocks]
    return encode({**_head(accepted), "content": content, **_end(answer, manner), "usage": usage_form(answer.usage)})


def usage_form(usage: Usage | None) -> dict[str, Any]:
    """`usage` as the API writes it: what was read from the cache is not among the input tokens."""
    found = usage or Usage(0, 0)
    return {
        "input_tokens": found.prompt_tokens - found.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": found.cached_tokens,
        "output_tokens": found.completion_tokens,
        "output_tokens_details": {"thinking_tokens": found.reasoning_tokens},
    }


class MessageRenderer:
    """Writes the events of a stream; each bears its name, as clients skip those that do not."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._answer = Answer()
        self._receipt = ""

    def start(self, accepted: Accepted) -> bytes:
        """How many tokens the prompt has is not told before the end, so the counts here are 0."""
        self._receipt = accepted.receipt
        head = {**_head(accepted), "content": [], "stop_reason": None, "stop_sequence": None}
        return _event("message_start", message={**head, "usage": usage_form(None)})

    def event(self, event: Event) -> bytes:
        return b"".join(self._step(step) for step in self._answer.add(event))

    def end(self) -> bytes:
        ending = _end(self._answer, self._manner)
        return _event("message_delta", delta=ending, usage=usage_form(self._answer.usage)) + _event("message_stop")

    def sign(self, phase: str, fraction: float | None) -> bytes:
        """A ping, with a comment that says what is being waited for."""
        if not phase:
            return PING
        return f": {phase}{'' if fraction is None else f' {fraction:.0%}'}\n".encode() + PING

    def _step(self, step: Step) -> bytes:
        is_hidden = step.block.kind == "thinking" and self._manner.hides_thinking
        match step.what:
            case "start":
                return _event("content_block_start", index=step.index, content_block=_empty_block(step.block))
            case "delta" if is_hidden:
                return b""
            case "delta":
                return _delta(step.index, step.block.kind, step.text)
            case "stop":
                return self._last_words(step) + _event("content_block_stop", index=step.index)

    def _last_words(self, step: Step) -> bytes:
        if step.block.kind == "tool_use":
            self._answer.input(step.block)  # an unreadable call must not look complete
        if step.block.kind != "thinking":
            return b""
        return _delta(step.index, "signature", _signature(step.block, self._receipt, self._manner))


_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
    "signature": ("signature_delta", "signature"),
}


def _event(name: str, **data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode({"type": name, **data}))


def _delta(index: int, kind: str, text: str) -> bytes:
    name, field = _DELTAS[kind]
    return _event("content_block_delta", index=index, delta={"type": name, field: text})


def _head(accepted: Accepted) -> dict[str, Any]:
    """The id is the receipt's: one can be found from the other."""
    tail = accepted.receipt.partition("_")[2]
    return {"id": f"msg_{tail}", "type": "message", "role": "assistant", "model": accepted.model.name}


def _end(answer: Answer, manner: Manner) -> dict[str, Any]:
    """Why the answer ended. Raises EngineError if it did not: half an answer has no end."""
    spent = answer.usage.completion_tokens if answer.usage else manner.max_tokens
    match answer.reason:
        case "stop":
            reason = "end_turn" if answer.stop_sequence is None else "stop_sequence"
        case "length":
            reason = "max_tokens" if spent >= manner.max_tokens else "model_context_window_exceeded"
        case "tool_calls":
            reason = "tool_use"
        case "content_filter":
            reason = "refusal"
        case None:
            raise EngineError("the answer has no end")
    ending: dict[str, Any] = {"stop_reason": reason, "stop_sequence": answer.stop_sequence}
    if reason == "refusal":
        ending["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
    return ending


def _empty_block(block: Growing) -> dict[str, Any]:
    match block.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}


def _whole_block(block: Growing, answer: Answer, receipt: str, manner: Manner) -> dict[str, Any]:
    match block.kind:
        case "text":
            return {"type": "text", "text": block.text}
        case "thinking":
            shown = "" if manner.hides_thinking else block.text
            return {"type": "thinking", "thinking": shown, "signature": _signature(block, receipt, manner)}
        case "tool_use":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": answer.input(block)}


def _signature(block: Growing, receipt: str, manner: Manner) -> str:
    return signing.sign(manner.salt, receipt, "" if manner.hides_thinking else block.text, block.seals)
