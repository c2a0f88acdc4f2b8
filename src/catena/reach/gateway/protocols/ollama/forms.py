"""The form of answers: one object, or lines of JSON of which the last says `done`, with counts and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from catena.core.clock import iso, monotonic_s, now_ns
from catena.core.errors import EngineError
from catena.core.messages import (
    Choice,
    Delta,
    Event,
    Finished,
    FinishReason,
    Reply,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from catena.core.messages.reply import Collector
from catena.reach.gateway.answering import Accepted

encode = msgspec.json.Encoder().encode
NDJSON = "application/x-ndjson"
# White space before a line is no line: clients that read line by line see it only with the next one.
SIGN = b" "
_REASONS = {"tool_calls": "stop"}

# How a piece of an answer is written: text, reasoning, calls.
Wording = Callable[[str, str, Sequence[dict[str, Any]]], dict[str, Any]]


def chat_wording(text: str, reasoning: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A message, as /api/chat writes it."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        message["thinking"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def generate_wording(text: str, reasoning: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A response, as /api/generate writes it, which knows no calls."""
    return {"response": text, "thinking": reasoning} if reasoning else {"response": text}


def head(model: str) -> dict[str, Any]:
    """What every object and every line begins with."""
    return {"model": model, "created_at": iso(now_ns())}


def whole(model: str, reply: Reply, wording: Wording, began_s: float) -> bytes:
    """The whole answer. Raises EngineError for a call whose arguments are no object."""
    choice = reply.choices[0] if reply.choices else Choice()
    body = head(model) | wording(choice.text, choice.reasoning, called(choice.tool_calls, choice.reason))
    if choice.logprobs:
        body["logprobs"] = logprobs_form(choice.logprobs)
    return encode(body | ending(choice.reason, reply.usage, reply.timings, began_s))


def ending(reason: FinishReason | None, usage: Usage | None, timings: Timings, began_s: float) -> dict[str, Any]:
    """What closes an answer; times in nanoseconds."""
    return {
        "done": True,
        "done_reason": _REASONS.get(reason or "stop", reason or "stop"),
        "total_duration": _ns(monotonic_s() - began_s),
        "load_duration": _ns(timings.loading_s),
        "prompt_eval_count": usage.prompt_tokens if usage else 0,
        "prompt_eval_duration": _ns(timings.prefill_s),
        "eval_count": usage.completion_tokens if usage else 0,
        "eval_duration": _ns(timings.decode_s),
    }


def called(calls: Sequence[ToolCall], reason: FinishReason | None) -> list[dict[str, Any]]:
    """Tool calls with their arguments as objects.

    An answer that was cut for its length may end within a call, which is then left out; `done_reason` says so. Raises
    EngineError for arguments that are no object otherwise.
    """
    found: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        try:
            arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            if reason == "length":
                continue
            raise EngineError(f"the model called {call.name} with arguments that are no JSON object") from None
        found.append({"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}})
    return found


def logprobs_form(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Token by token, with the alternatives."""
    return [
        {
            "token": one.token,
            "logprob": one.logprob,
            "bytes": list(one.token_bytes),
            "top_logprobs": [
                {"token": other.token, "logprob": other.logprob, "bytes": list(other.token_bytes)} for other in one.top
            ],
        }
        for one in logprobs
    ]


class Lines:
    """Writes lines. Calls are shown whole, so they wait for the end of the choice; `accepted` is set once one began."""

    content_type = NDJSON

    def __init__(self, model: str, wording: Wording, began_s: float) -> None:
        self.accepted: Accepted | None = None
        self._model = model
        self._wording = wording
        self._began_s = began_s
        self._calls = Collector()
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._timings = Timings()

    def start(self, accepted: Accepted) -> bytes:
        self.accepted = accepted
        return b""

    def event(self, event: Event) -> bytes:
        match event:
            case Delta():
                return self._delta(event)
            case ToolCallDelta():
                self._calls.add(event)
            case Finished():
                self._reason = event.reason
                choices = self._calls.reply().choices
                if choices:
                    return self._line(self._wording("", "", called(choices[0].tool_calls, event.reason)))
            case Usage():
                self._usage = event
            case Timings():
                self._timings = event
            case _:
                pass
        return b""

    def end(self) -> bytes:
        last = head(self._model) | self._wording("", "", ())
        return encode(last | ending(self._reason, self._usage, self._timings, self._began_s)) + b"\n"

    def sign(self, phase: str, fraction: float | None) -> bytes:
        return SIGN

    def _delta(self, delta: Delta) -> bytes:
        if not delta.text and not delta.reasoning and not delta.logprobs:
            return b""
        logprobs = {"logprobs": logprobs_form(delta.logprobs)} if delta.logprobs else {}
        return self._line(self._wording(delta.text, delta.reasoning, ()) | logprobs)

    def _line(self, piece: dict[str, Any]) -> bytes:
        return encode({**head(self._model), **piece, "done": False}) + b"\n"


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
