"""Answers of the Gemini API: the parts of a stream, vectors, counts and lists.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from catena.core.errors import NetworkError
from catena.core.ids import new_id
from catena.core.messages import (
    CompletionRequest,
    Delta,
    Embedded,
    EmbedRequest,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from catena.run.dialects.dialect import cut, malformed, refusal, vectors
from catena.run.dialects.gemini import seals
from catena.run.dialects.gemini.failing import ErrorWire, failure
from catena.run.dialects.shapes import count, decoded, encode

NAME = "gemini"
MAX_CALLS = 4096
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# https://ai.google.dev/api/generate-content#FinishReason. The others mean that the model, or the API, failed.
_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(
        ("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION", "MODEL_ARMOR"),
        "content_filter",
    ),
    **dict.fromkeys(("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"), "content_filter"),
}
_FAILURES = frozenset(
    ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "OTHER")
)


class CallWire(Struct, frozen=True):
    name: str
    args: dict[str, Any] | None = None
    id: str = ""


class PartWire(Struct, frozen=True, rename="camel"):
    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: CallWire | None = None


class ContentWire(Struct, frozen=True):
    parts: list[PartWire] = []


class TokenWire(Struct, frozen=True, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class TopWire(Struct, frozen=True):
    candidates: list[TokenWire] = []


class LogprobsWire(Struct, frozen=True, rename="camel"):
    chosen_candidates: list[TokenWire] = []
    top_candidates: list[TopWire] = []


class CandidateWire(Struct, frozen=True, rename="camel"):
    index: int = 0
    content: ContentWire | None = None
    finish_reason: str = ""
    logprobs_result: LogprobsWire | None = None


class FeedbackWire(Struct, frozen=True, rename="camel"):
    block_reason: str = ""


class UsageWire(Struct, frozen=True, rename="camel"):
    prompt_token_count: float = 0
    tool_use_prompt_token_count: float = 0
    cached_content_token_count: float = 0
    candidates_token_count: float = 0
    thoughts_token_count: float = 0


class ChunkWire(Struct, frozen=True, rename="camel"):
    """One event of a stream."""

    candidates: list[CandidateWire] = []
    prompt_feedback: FeedbackWire | None = None
    usage_metadata: UsageWire | None = None
    response_id: str = ""
    error: ErrorWire | None = None


class VectorWire(Struct, frozen=True):
    values: list[float]


class VectorsWire(Struct, frozen=True, rename="camel"):
    embeddings: list[VectorWire]
    usage_metadata: UsageWire | None = None


class CountWire(Struct, frozen=True, rename="camel"):
    total_tokens: float


class ModelWire(Struct, frozen=True):
    name: str


class ModelsWire(Struct, frozen=True):
    models: list[ModelWire] = []


class _Choice(Struct):
    """A candidate so far: how many calls it made, how much text came since the last seal, how it ended."""

    num_calls: int = 0
    num_letters: int = 0
    reason: FinishReason | None = None


class Answer:
    """One stream while it is read. Usage comes with every event, and the last counts; so does the end wait."""

    def __init__(self, request: GenerateRequest) -> None:
        self._echo = request.prompt if isinstance(request, CompletionRequest) and request.echo else ""
        self._choices = [_Choice() for _ in range(request.sampling.num_choices)]
        self._usage: UsageWire | None = None
        self._made = ""

    def read(self, event: str, data: bytes) -> Iterator[Event]:
        chunk = decoded(NAME, data, ChunkWire)
        if chunk.error is not None:
            raise failure(chunk.error, {}, chunk.error.code)
        self._made = self._made or _made(chunk.response_id)
        self._usage = chunk.usage_metadata or self._usage
        if isinstance(self._echo, str) and self._echo:
            yield from (Delta(index, self._echo) for index in range(len(self._choices)))
            self._echo = ""
        for candidate in chunk.candidates:
            if not 0 <= candidate.index < len(self._choices):
                raise malformed(NAME, "a choice was not asked for")
            yield from self._candidate(candidate, self._choices[candidate.index])
        if chunk.prompt_feedback and chunk.prompt_feedback.block_reason:
            for choice in self._choices:
                choice.reason = choice.reason or "content_filter"

    def end(self) -> Iterable[Event]:
        if any(choice.reason is None for choice in self._choices):
            raise cut()
        for index, choice in enumerate(self._choices):
            assert choice.reason is not None
            has_called = choice.num_calls and choice.reason == "stop"
            yield Finished(index, "tool_calls" if has_called else choice.reason)
        if self._usage is not None:
            yield _usage(self._usage)

    def _candidate(self, wire: CandidateWire, choice: _Choice) -> Iterator[Event]:
        logprobs = tuple(_logprobs(wire.logprobs_result)) if wire.logprobs_result else ()
        for part in wire.content.parts if wire.content else ():
            for event in self._part(wire.index, part, choice):
                if logprobs and isinstance(event, Delta) and event.text:
                    yield Delta(event.choice, event.text, logprobs=logprobs)
                    logprobs = ()
                else:
                    yield event
        if logprobs:
            yield Delta(wire.index, logprobs=logprobs)
        if wire.finish_reason:
            choice.reason = _reason(wire.finish_reason)

    def _part(self, index: int, part: PartWire, choice: _Choice) -> Iterator[Event]:
        call = part.function_call
        if call is not None:
            if choice.num_calls >= MAX_CALLS:
                raise malformed(NAME, f"it has more than {MAX_CALLS} calls")
            number, choice.num_calls = choice.num_calls, choice.num_calls + 1
            made = call.id if _ID.fullmatch(call.id) else f"call_{self._made}_{index}_{number}"
            yield ToolCallDelta(index, number, encode(call.args or {}).decode(), made, call.name)
            if part.thought_signature:
                yield Delta(index, seal=seals.of_call(number, part.thought_signature))
            return
        if part.text and part.thought:
            yield Delta(index, reasoning=part.text)
        elif part.text:
            choice.num_letters += len(part.text)
            yield Delta(index, part.text)
        if part.thought_signature:
            yield Delta(index, seal=seals.of_text(choice.num_letters, part.thought_signature))
            choice.num_letters = 0


def embedded(body: bytes, request: EmbedRequest) -> Embedded:
    """The vectors of a batch. Raises NetworkError."""
    wire = decoded(NAME, body, VectorsWire)
    packed, width = vectors(NAME, [row.values for row in wire.embeddings], len(request.inputs))
    told = wire.usage_metadata
    usage = Usage(count(told.prompt_token_count), 0) if told else Usage(0, 0, source="estimated")
    return Embedded(packed, width, usage)


def counted(body: bytes) -> int:
    """The count of a prompt. Raises NetworkError."""
    return count(decoded(NAME, body, CountWire).total_tokens)


def listed(body: bytes) -> tuple[str, ...]:
    """The models, without the name of their collection. Raises NetworkError."""
    return tuple(model.name.removeprefix("models/") for model in decoded(NAME, body, ModelsWire).models)


def _made(response: str) -> str:
    """What the ids of calls that came without one are made of: the same for one answer, another for each."""
    return hashlib.sha256(response.encode()).hexdigest()[:16] if response else new_id("call").partition("_")[2]


def _reason(word: str) -> FinishReason:
    if word in _REASONS:
        return _REASONS[word]
    if word == "PUP_LIMITED_DISABLED":
        raise refusal(403, {}, word)
    shown = f": {word}" if word in _FAILURES else ""
    raise NetworkError(f"the provider's model failed in the middle of its answer{shown}", hint="ask again")


def _logprobs(wire: LogprobsWire) -> Iterator[TokenLogprob]:
    for index, one in enumerate(wire.chosen_candidates):
        others = wire.top_candidates[index].candidates if index < len(wire.top_candidates) else ()
        top = tuple(TopLogprob(each.token, each.token.encode(), each.log_probability) for each in others)
        yield TokenLogprob(one.token, one.token.encode(), one.log_probability, top)


def _usage(wire: UsageWire) -> Usage:
    """Thoughts are counted beside the candidates, cached tokens within the prompt."""
    thoughts = count(wire.thoughts_token_count)
    return Usage(
        count(wire.prompt_token_count) + count(wire.tool_use_prompt_token_count),
        count(wire.candidates_token_count) + thoughts,
        count(wire.cached_content_token_count),
        thoughts,
    )
