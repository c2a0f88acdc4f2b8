"""Streams, vectors and lists of OpenAI's shape as events and messages, with the habits of those who follow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from catena.core.errors import NetworkError
from catena.core.messages import Delta, Event, Finished, FinishReason, TokenLogprob, ToolCallDelta, TopLogprob, Usage
from catena.run.dialects.dialect import cut, malformed
from catena.run.dialects.openai.failing import inside
from catena.run.dialects.openai.quirks import NAME
from catena.run.dialects.shapes import decoded

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "recover_stop": "stop",
    "length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
}


class CallFunction(Struct, frozen=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class Call(Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: CallFunction | None = None


class Fragment(Struct, frozen=True):
    """`delta` of a streamed choice. Of the two words for reasoning each server uses one."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class TopWire(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenWire(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopWire] | None = None


class Logprobs(Struct, frozen=True):
    """Of a chat: `content`. Of a completion: three lists side by side."""

    content: list[TokenWire] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class CachedWire(Struct, frozen=True):
    cached_tokens: int | None = None


class ReasonedWire(Struct, frozen=True):
    reasoning_tokens: int | None = None


class UsageWire(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: CachedWire | None = None
    completion_tokens_details: ReasonedWire | None = None
    prompt_cache_hit_tokens: int | None = None


class ChoiceWire(Struct, frozen=True):
    index: int = 0
    delta: Fragment | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: UsageWire | None = None


class Wrapped(Struct, frozen=True):
    usage: UsageWire | None = None


class Chunk(Struct, frozen=True):
    choices: list[ChoiceWire] | None = None
    usage: UsageWire | None = None
    x_groq: Wrapped | None = None
    error: Any = None


class VectorWire(Struct, frozen=True):
    embedding: list[float]
    index: int = 0


class VectorsWire(Struct, frozen=True):
    data: list[VectorWire]
    usage: UsageWire | None = None


class ModelWire(Struct, frozen=True):
    id: str


class ModelsWire(Struct, frozen=True):
    data: list[ModelWire]


class Stream:
    """One streamed answer: complete when every choice has finished."""

    def __init__(self, num_choices: int) -> None:
        self._num_choices = num_choices
        self._finished: set[int] = set()
        self._opened: set[tuple[int, int]] = set()
        self._usage: UsageWire | None = None
        self._is_done = False

    def read(self, event: str, data: bytes, /) -> Iterator[Event]:
        if data.strip() == b"[DONE]":
            self._is_done = True
        if self._is_done or not data.strip():
            return
        chunk = decoded(NAME, data, Chunk)
        if chunk.error is not None or event == "error":
            raise inside(chunk.error)
        self._usage = chunk.usage or (chunk.x_groq and chunk.x_groq.usage) or self._usage
        for choice in chunk.choices or ():
            self._usage = choice.usage or self._usage
            yield from self._choice(choice)

    def end(self) -> Iterator[Event]:
        if len(self._finished) < self._num_choices:
            raise cut()
        if self._usage is not None:
            yield usage_of(self._usage)

    def _choice(self, choice: ChoiceWire) -> Iterator[Event]:
        fragment = choice.delta or Fragment()
        text, reasoning = _texts(fragment)
        text = text or choice.text or fragment.refusal or ""
        logprobs = tuple(_logprobs(choice.logprobs)) if choice.logprobs else ()
        if text or reasoning or logprobs:
            yield Delta(choice.index, text, reasoning, logprobs)
        for position, call in enumerate(fragment.tool_calls or ()):
            yield self._call(choice.index, position, call)
        if choice.finish_reason and choice.index not in self._finished:
            reason = _REASONS.get(choice.finish_reason)
            if reason is None:
                raise NetworkError("the provider stopped before the answer's end", hint="ask again")
            has_calls = any(index == choice.index for index, _ in self._opened)
            self._finished.add(choice.index)
            yield Finished(choice.index, "tool_calls" if has_calls and reason == "stop" else reason)

    def _call(self, choice: int, position: int, call: Call) -> ToolCallDelta:
        index = position if call.index is None else call.index
        function = call.function or CallFunction()
        given = function.arguments
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
        if (choice, index) in self._opened:
            return ToolCallDelta(choice, index, arguments)
        if not function.name:
            raise malformed(NAME, "a call without a name")
        self._opened.add((choice, index))
        return ToolCallDelta(choice, index, arguments, call.id or f"call_{choice}_{index}", function.name)


def _texts(fragment: Fragment) -> tuple[str, str]:
    """The text and the reasoning of a fragment; in lists of parts, those of type `thinking` are reasoning."""
    reasoning = fragment.reasoning_content or fragment.reasoning or ""
    if not isinstance(fragment.content, list):
        return fragment.content or "", reasoning
    text: list[str] = []
    for part in fragment.content:
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            pieces = inner if isinstance(inner, list) else [{"text": inner}]
            reasoning += "".join(str(piece.get("text") or "") for piece in pieces if isinstance(piece, dict))
        else:
            text.append(str(part.get("text") or ""))
    return "".join(text), reasoning


def _logprobs(wire: Logprobs) -> Iterable[TokenLogprob]:
    for one in wire.content or ():
        top = tuple(TopLogprob(each.token, _bytes(each), each.logprob) for each in one.top_logprobs or ())
        yield TokenLogprob(one.token, _bytes(one), one.logprob, top)
    rows = wire.top_logprobs or [None] * len(wire.tokens or ())
    for token, logprob, row in zip(wire.tokens or (), wire.token_logprobs or (), rows, strict=False):
        ranked = sorted((row or {}).items(), key=lambda pair: -pair[1])
        top = tuple(TopLogprob(text, text.encode(), value) for text, value in ranked)
        yield TokenLogprob(token, token.encode(), 0.0 if logprob is None else logprob, top)


def _bytes(wire: TokenWire | TopWire) -> bytes:
    try:
        return wire.token.encode() if wire.bytes is None else bytes(wire.bytes)
    except ValueError:
        raise malformed(NAME, "a byte beyond 255") from None


def usage_of(wire: UsageWire) -> Usage:
    cached = wire.prompt_tokens_details.cached_tokens if wire.prompt_tokens_details else None
    reasoned = wire.completion_tokens_details.reasoning_tokens if wire.completion_tokens_details else None
    cached = wire.prompt_cache_hit_tokens if cached is None else cached
    return Usage(wire.prompt_tokens, wire.completion_tokens or 0, cached or 0, reasoned or 0)
