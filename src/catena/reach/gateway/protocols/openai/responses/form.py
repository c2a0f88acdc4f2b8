"""The form of responses: the object, the numbered events of its stream, and how either tells of a failure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from catena.core.clock import now_ns
from catena.core.messages import Event, Sampling, Usage
from catena.reach.gateway.answering import Accepted
from catena.reach.gateway.failures import Failure
from catena.reach.gateway.protocols.openai.chat_form import comment
from catena.reach.gateway.protocols.openai.errors import OPENAI, detail
from catena.reach.gateway.protocols.openai.responses.growing import Growth
from catena.reach.gateway.routing import Dialect
from catena.reach.presets import Preset

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
encode = msgspec.json.Encoder().encode
CONTENT_TYPE = "text/event-stream; charset=utf-8"
LEFT_OPEN = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
# The statuses that a response does not leave any more.
ENDS = ("completed", "incomplete", "failed", "cancelled")
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
CUT = Failure(503, "cut", "the gateway ended this request before its answer was complete", "ask again", None, ())
LOST = Failure(503, "lost", "the gateway ended before the answer was complete", "ask again", None, ())
CANCELLED = Failure(499, "cancelled", "the response was cancelled", "", None, ())
# What our words are called in this protocol.
_PARAMS = {"messages": "input", "think": "reasoning.effort", "response_format": "text.format"}


def frame(kind: str, number: int, fields: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        encode({"type": kind, "sequence_number": number, **fields}),
    )


def error_frame(failure: Failure, number: int) -> bytes:
    """The last event of a stream that broke off: the fields of its type, and `error`, which makes clients raise."""
    told = detail(_renamed(failure))
    flat = {name: told[name] for name in ("code", "message", "param")}
    return frame("error", number, {**flat, "error": {**told, "status": failure.status}})


def _renamed(failure: Failure) -> Failure:
    if failure.code == "unknown_parameter":  # named as it was sent
        return failure
    return msgspec.structs.replace(failure, param=_PARAMS.get(failure.param or "", failure.param))


RESPONSES = Dialect(lambda failure: OPENAI.body(_renamed(failure)), lambda failure: error_frame(failure, 0))


def usage_form(usage: Usage | None) -> dict[str, Any] | None:
    """`usage` as this API writes it."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def error_form(failure: Failure) -> dict[str, Any]:
    """`error` of a response that failed; its codes are those of this API."""
    code = {429: "rate_limit_exceeded"}.get(failure.status, "server_error" if failure.status >= 500 else "")
    return {"code": code or "invalid_prompt", "message": failure.message}


def _decided(asked: float | None, preset: Sampling, name: str) -> float | None:
    """What was asked, or what the model's preset sets; null where only the engine knows."""
    decided = getattr(preset, name) if asked is None else asked
    return 0.0 if decided is None and name.endswith("penalty") else decided


def _namespaces(tools: list[dict[str, Any]]) -> dict[str, str]:
    """By the name of each function that stands in a namespace, the name of that."""
    return {inner["name"]: tool["name"] for tool in tools for inner in tool.get("tools", ())}


class Answering:
    """One response from its acceptance to its end: the object at any moment, and each of its events once."""

    def __init__(self, accepted: Accepted, echo: dict[str, Any], *, summarises: bool) -> None:
        self.tail = accepted.receipt.partition("_")[2]
        self.id = f"resp_{self.tail}"
        self.growth = Growth(self.tail, summarises=summarises, namespaces=_namespaces(echo["tools"]))
        self.status: Status = "queued" if echo["background"] else "in_progress"
        self.number = 0  # of the next event
        preset = Preset.of(accepted.model.manifest).sampling
        self._echo = {**echo, **{name: _decided(echo[name], preset, name) for name in LEFT_OPEN}}
        self._model = accepted.model.name
        self._receipt = accepted.receipt
        self._created_s = now_ns() // 1_000_000_000
        self._ended_s: int | None = None
        self._error: dict[str, Any] | None = None

    def form(self) -> dict[str, Any]:
        """The response as it stands."""
        reason = _INCOMPLETE.get(self.growth.reason or "") if self.status == "incomplete" else None
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created_s,
            "completed_at": self._ended_s if self.status == "completed" else None,
            "status": self.status,
            "error": self._error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self._model,
            "output": self.growth.output,
            "usage": usage_form(self.growth.usage) if self.status in ENDS else None,
            **self._echo,
            "catena": {"receipt": self._receipt},
        }

    def begin(self) -> list[bytes]:
        """The events before anything was made."""
        words = ["response.created", "response.queued" if self.status == "queued" else "response.in_progress"]
        return [self._told(word) for word in words]

    def go_on(self) -> list[bytes]:
        """What is told when a queued response begins to be made."""
        if self.status != "queued":
            return []
        self.status = "in_progress"
        return [self._told("response.in_progress")]

    def add(self, event: Event) -> list[bytes]:
        """The events that one event of ours makes."""
        return [self._numbered(kind, fields) for kind, fields in self.growth.add(event)]

    def complete(self) -> None:
        """The answer has come to its own end."""
        self.status = "incomplete" if self.growth.reason in _INCOMPLETE else "completed"
        self._ended_s = now_ns() // 1_000_000_000

    def fail(self, failure: Failure) -> None:
        """The answer has been cut by this failure."""
        self.growth.cut()
        self.status, self._error = "failed", error_form(failure)

    def cancel(self) -> None:
        """The answer has been cut because its caller wanted that."""
        self.growth.cut()
        self.status = "cancelled"

    def last(self, failure: Failure | None = None) -> list[bytes]:
        """The events that say how it ended. A failure is told twice: by the response, and so that clients raise.

        There is no event for a response that was cancelled, so it is told as an error only.
        """
        frames = [] if self.status == "cancelled" else [self._told(f"response.{self.status}")]
        if failure is not None:
            frames.append(error_frame(failure, self.number))
            self.number += 1
        return frames

    def _told(self, kind: str) -> bytes:
        return self._numbered(kind, {"response": self.form()})

    def _numbered(self, kind: str, fields: dict[str, Any]) -> bytes:
        self.number += 1
        return frame(kind, self.number - 1, fields)


class ResponseRenderer:
    """Writes a stream in the foreground."""

    content_type = CONTENT_TYPE

    def __init__(self, echo: dict[str, Any], *, summarises: bool) -> None:
        self.answering: Answering | None = None
        self._echo = echo
        self._summarises = summarises

    def start(self, accepted: Accepted) -> bytes:
        self.answering = Answering(accepted, self._echo, summarises=self._summarises)
        return b"".join(self.answering.begin())

    def event(self, event: Event) -> bytes:
        return b"".join(self.answering.add(event)) if self.answering else b""

    def end(self) -> bytes:
        assert self.answering is not None
        return b"".join(self.answering.last())

    def sign(self, phase: str, fraction: float | None) -> bytes:
        return comment(phase, fraction)

    def last_words(self, failure: Failure) -> bytes:
        """What ends a stream that broke off."""
        if self.answering is None:
            return error_frame(failure, 0)
        self.answering.fail(failure)
        return b"".join(self.answering.last(failure))
