"""Answers of the Messages API: the events of a stream, counts, lists and errors.

https://platform.claude.com/docs/en/build-with-claude/streaming, https://platform.claude.com/docs/en/api/errors.
What the API may add by its own policy, new events, blocks and deltas, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from catena.core.errors import CatenaError, ContextError
from catena.core.messages import (
    CompletionRequest,
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    ToolCallDelta,
    Usage,
)
from catena.run.dialects.anthropic import seals
from catena.run.dialects.dialect import cut, malformed, refusal
from catena.run.dialects.shapes import count, decoded, encode, tolerated

NAME = "anthropic"
MAX_BLOCKS = 4096
MAX_SIGNATURE = 1 << 20
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons; pause_turn comes from tools that a
# server runs, which are never asked for: what was said so far has no end of its own.
_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "pause_turn": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TOO_LONG = re.compile(r"(\d{1,12}) tokens > (\d{1,12}) maximum")


class DetailsWire(Struct, frozen=True):
    thinking_tokens: float | None = None


class UsageWire(Struct, frozen=True):
    """Counts so far; each replaces the one that was told before."""

    input_tokens: float | None = None
    cache_creation_input_tokens: float | None = None
    cache_read_input_tokens: float | None = None
    output_tokens: float | None = None
    output_tokens_details: DetailsWire | None = None


class MessageWire(Struct, frozen=True):
    usage: UsageWire | None = None


class BlockWire(Struct, frozen=True):
    """A block as it begins; which fields are there depends on `type`."""

    type: str
    text: str = ""
    thinking: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}


class DeltaWire(Struct, frozen=True):
    """More of a block, or the end of a message."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class ErrorWire(Struct, frozen=True):
    type: str = ""
    message: str = ""


class EventWire(Struct, frozen=True):
    """One event; which fields are there depends on `type`."""

    type: str
    index: int = 0
    message: MessageWire | None = None
    content_block: BlockWire | None = None
    delta: DeltaWire | None = None
    usage: UsageWire | None = None
    error: ErrorWire | None = None


class FailureWire(Struct, frozen=True):
    error: ErrorWire | None = None


class CountWire(Struct, frozen=True):
    input_tokens: int


class ModelWire(Struct, frozen=True):
    id: str


class ModelsWire(Struct, frozen=True):
    data: list[ModelWire]


class _Block(Struct):
    """A block that is open: for a call its number, for thoughts their length and signature."""

    kind: str
    call: int = -1
    num_letters: int = 0
    signature: str = ""
    has_arguments: bool = False


class Answer:
    """One stream while it is read."""

    def __init__(self, request: GenerateRequest) -> None:
        self._echo = request.prompt if isinstance(request, CompletionRequest) and request.echo else ""
        self._open: dict[int, _Block] = {}
        self._num_blocks = 0
        self._num_calls = 0
        self._counts: dict[str, int] = {}
        self._ending: DeltaWire | None = None
        self._is_complete = False

    def read(self, event: str, data: bytes) -> Iterable[Event]:
        wire = decoded(NAME, data, EventWire)
        if self._is_complete:
            return ()
        match wire.type:
            case "message_start":
                self._note(wire.message.usage if wire.message else None)
                return (Delta(text=self._echo),) if isinstance(self._echo, str) and self._echo else ()
            case "content_block_start":
                return self._start(wire)
            case "content_block_delta":
                return self._more(wire)
            case "content_block_stop":
                return self._stop(wire.index)
            case "message_delta":
                self._note(wire.usage)
                self._ending = wire.delta or self._ending
                return ()
            case "message_stop":
                return self._finish()
            case "error":
                raise failure(wire.error)
            case _:
                return ()

    def end(self) -> Iterable[Event]:
        if not self._is_complete:
            raise cut()
        return ()

    def _start(self, wire: EventWire) -> Iterator[Event]:
        begun = wire.content_block
        if begun is None or wire.index in self._open:
            raise malformed(NAME, "a block begins that is none, or is open")
        self._num_blocks += 1
        if self._num_blocks > MAX_BLOCKS:
            raise malformed(NAME, f"it has more than {MAX_BLOCKS} blocks")
        block = self._open[wire.index] = _Block(begun.type)
        match begun.type:
            case "tool_use":
                block.call, self._num_calls = self._num_calls, self._num_calls + 1
                block.has_arguments = bool(begun.input)
                text = encode(begun.input).decode() if begun.input else ""
                yield ToolCallDelta(0, block.call, text, begun.id or f"call_{block.call}", begun.name)
            case "redacted_thinking":
                yield Delta(seal=seals.redacted(begun.data))
            case "text" if begun.text:
                yield Delta(text=begun.text)
            case "thinking" if begun.thinking:
                block.num_letters = len(begun.thinking)
                yield Delta(reasoning=begun.thinking)
            case _:
                pass

    def _more(self, wire: EventWire) -> Iterator[Event]:
        block, delta = self._open.get(wire.index), wire.delta
        if block is None or delta is None:
            raise malformed(NAME, "more comes of a block that is not open")
        match delta.type:
            case "text_delta" if delta.text:
                yield Delta(text=delta.text)
            case "thinking_delta" if delta.thinking:
                block.num_letters += len(delta.thinking)
                yield Delta(reasoning=delta.thinking)
            case "signature_delta":
                block.signature += delta.signature
                if len(block.signature) > MAX_SIGNATURE:
                    raise malformed(NAME, "a signature has no end")
            case "input_json_delta" if block.call >= 0 and delta.partial_json:
                block.has_arguments = True
                yield ToolCallDelta(0, block.call, delta.partial_json)
            case _:
                pass

    def _stop(self, index: int) -> Iterator[Event]:
        block = self._open.pop(index, None)
        if block is None:
            raise malformed(NAME, "a block ends that is not open")
        if block.kind == "thinking" and (block.signature or block.num_letters):
            yield Delta(seal=seals.thinking(block.num_letters, block.signature))
        elif block.kind == "tool_use" and not block.has_arguments:
            yield ToolCallDelta(0, block.call, "{}")

    def _finish(self) -> Iterator[Event]:
        reason = self._ending.stop_reason if self._ending else None
        if reason is None or reason not in _REASONS:
            raise malformed(NAME, "it ends for no reason that is known")
        self._is_complete = True
        stop = self._ending.stop_sequence if self._ending and reason == "stop_sequence" else None
        yield Finished(0, _REASONS[reason], stop)
        yield self._usage()

    def _note(self, usage: UsageWire | None) -> None:
        if usage is None:
            return
        details = usage.output_tokens_details
        told = {
            "input": usage.input_tokens,
            "written": usage.cache_creation_input_tokens,
            "read": usage.cache_read_input_tokens,
            "output": usage.output_tokens,
            "thinking": details.thinking_tokens if details else None,
        }
        self._counts |= {name: count(number) for name, number in told.items() if number is not None}

    def _usage(self) -> Usage:
        """The prompt's tokens are the sum: what the cache gave and took is not among `input_tokens`."""
        told = self._counts
        cached = told.get("read", 0)
        prompt = told.get("input", 0) + told.get("written", 0) + cached
        return Usage(prompt, told.get("output", 0), cached, told.get("thinking", 0))


def counted(body: bytes) -> int:
    """The count of a prompt. Raises NetworkError."""
    return count(decoded(NAME, body, CountWire).input_tokens)


def listed(body: bytes) -> tuple[str, ...]:
    """The models. Raises NetworkError."""
    return tuple(model.id for model in decoded(NAME, body, ModelsWire).data)


def error(status: int, headers: Mapping[str, str], body: bytes) -> CatenaError:
    """What an answer with an error's status means."""
    wire = tolerated(body, FailureWire)
    told = wire.error if wire else None
    if status == 400 and told and (found := _TOO_LONG.search(told.message)):
        return ContextError(int(found[1]), int(found[2]))
    return refusal(status, headers, told.type if told else "")


def failure(told: ErrorWire | None) -> CatenaError:
    """What an error inside a stream means: it has a type instead of a status."""
    kind = told.type if told else ""
    return refusal(_STATUS.get(kind, 500), {}, kind)
